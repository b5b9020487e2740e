"""Function words that shape a turn in any chat: greetings, thanks, assent, questions.

Belongs here: small closed lists in the languages the product speaks (en, de, es, fr, ru, uk,
zh). Does not belong here: topic words of any community; a linker must not know a channel's
subject. Lists are matched against whole lower-case tokens as `flow.py` cuts them, so Chinese
cues are single characters.
"""

from __future__ import annotations

from typing import Final

GREETING: Final = frozenset(
    "hi hello hey hiya heya yo greetings morning evening hallo moin servus guten hola buenas buenos"
    " bonjour salut bonsoir coucou привет здравствуйте здорово добрый добрый доброе вітаю привіт"
    " добрий доброго 嗨".split()
)

THANKS: Final = frozenset(
    "thanks thank thx ty tnx cheers tysm danke dank merci gracias спасибо спс благодарю дякую дяки"
    " 谢".split()
)

ASSENT: Final = frozenset(
    "yes yep yeah yup ya yea no nope nah ok okay k kk sure right exactly true correct agreed indeed"
    " ah aha oh hmm hm ja nein jo doch genau klar stimmt nö si sí vale claro dale oui non ouais"
    " d'accord voilà да нет ага угу ок неа точно ясно понял так ні добре гаразд ясно зрозуміло"
    " lol haha ahah xd 好 是 嗯 对 不 行".split()
)

QUESTION: Final = frozenset(
    "who what where when why how which whose can could does did is are anyone anybody someone"
    " somebody wer was wo wann warum wieso wie welche welcher kann jemand quien quién que qué donde"
    " dónde cuando cuándo como cómo cual cuál alguien qui quoi où quand pourquoi comment quel"
    " quelle est quelqu кто что где когда почему зачем как какой кто-нибудь хто що де коли чому"
    " навіщо як який хтось 吗 谁 什 哪 怎 几 呢".split()
)

CONNECTIVE: Final = frozenset(
    "and but or so because then also well anyway though too that it this them und aber oder also"
    " dann weil das es y pero o entonces porque eso et mais ou donc alors parce ça и а но или"
    " потому тогда это та але або бо тоді це 但 还 那".split()
)

QUESTION_MARK: Final = r"[?？؟]"
"""Latin, full-width and Arabic."""
