"""Words of any language beside which the slower looks of `suspicion.py` are worth their time.

Belongs here: those words. Does not belong here: phrases that are an injection by themselves,
which stand in each language's lexicon.
"""

from collections.abc import Mapping

WARNING_WORDS: Mapping[str, str] = {  # role → phrases; a regex runs only beside one of them
    "assistant_word": (
        "system | assistant | developer | instruct* | ai | llm | chatbot | language model | "
        "prompt* | rules | guidelines | directions | 指令 | 提示 | 规则 | 要求 | инструкц* | "
        "указан* | інструкц* | вказів* | anweis* | regeln | consigne* | reglas"
    ),
    "secret_word": (
        "pass* | pwd | kennwort | contrase* | mot de passe | парол* | 密码 | secret* | "
        "token | key | apikey | xox*"
    ),
}
