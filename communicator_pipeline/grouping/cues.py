"""Function words that shape a turn in any chat: greetings, thanks, assent, questions.

Belongs here: small closed lists in the languages the product speaks (en, de, es, fr, ru, uk,
zh). Does not belong here: topic words of any community; a linker must not know a channel's
subject. Lists are matched against whole lower-case tokens as `flow.py` cuts them, so Chinese
cues are single characters. Changing a list means training anew.
"""

from __future__ import annotations

from typing import Final


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


GREETING: Final = _words(
    "hi hello hey hiya heya yo greetings morning evening hallo moin servus guten",
    "hola buenas buenos bonjour salut bonsoir coucou",
    "привет здравствуйте здорово добрый доброе вітаю привіт добрий доброго 嗨",
)

THANKS: Final = _words(
    "thanks thank thx ty tnx cheers tysm danke dank merci gracias",
    "спасибо спс благодарю дякую дяки 谢",
)

ASSENT: Final = _words(
    "yes yep yeah yup ya yea no nope nah ok okay k kk sure right exactly true correct agreed",
    "indeed ah aha oh hmm hm lol haha ahah xd",
    "ja nein jo doch genau klar stimmt nö si sí vale claro dale oui non ouais voilà",
    "да нет ага угу ок неа точно ясно понял так ні добре гаразд зрозуміло 好 是 嗯 对 不 行",
)

QUESTION: Final = _words(
    "who what where when why how which whose can could does did is are anyone anybody someone",
    "somebody wer was wo wann warum wieso wie welche welcher kann jemand",
    "quien quién que qué donde dónde cuando cuándo como cómo cual cuál alguien",
    "qui quoi où quand pourquoi comment quel quelle est",
    "кто что где когда почему зачем как какой хто що де коли чому навіщо як який хтось",
    "吗 谁 什 哪 怎 几 呢",
)

CONNECTIVE: Final = _words(
    "and but or so because then also well anyway though too that it this them",
    "und aber oder dann weil das es y pero o entonces porque eso et mais ou donc alors parce ça",
    "и а но или потому тогда это та але або бо тоді це 但 还 那",
)

QUESTION_MARK: Final = r"[?？؟]"
"""Latin, full-width and Arabic."""
