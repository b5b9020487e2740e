"""Signs that a message is not what it seems: instructions to an assistant, spam, secrets.

Belongs here: the signs, as flags. Does not belong here: what is done about them.
Flags never obey: a flagged message gains no priority, is not quoted and gets no draft.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from communicator_pipeline.analysis.lexicon import phrases
from communicator_pipeline.analysis.lexicon.warnings import WARNING_WORDS
from communicator_pipeline.analysis.reading import Reading
from communicator_pipeline.analysis.tokens import CODE

HIDDEN = re.compile("[\u200b\u2060-\u2064\u202d\u202e\U000e0000-\U000e01ef\ufeff]")
"""Characters that show nothing; joiners (emoji, Persian) and isolates (Arabic) are not among."""

_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007f]+")  # England, Scotland and Wales are tags

MANY_HIDDEN = 4
"""One zero-width space comes with copying from a web page; several hide something."""

_INSTRUCTION = re.compile(
    r"^\s*[#*\[(]*\s*(?:system|assistant|developer)\s+(?:note|message|prompt|override|instruction)s?\b"
    r"[^\n]{0,3}[:\])]"
    r"|^\s*[#*\[(]*(?:system|assistant|developer)[\])*]*\s*:.{0,200}?"
    r"\b(?:you|your|assistant|ignore|approve|must|reply|respond|mark|forward)\b"
    r"|<\|?/?(?:system|im_start|im_end|assistant|instructions?)\|?>|\[/?INST\]"
    r"|<!--.{0,400}?(?:assistant|instruction|\bAI\b|prompt)"
    r"|!\[[^\]]*\]\(\s*https?://[^)\s]+\?[^)\s]*\)"
    r"|\b(?:ignore|disregard|forget|override|bypass)\s+(?:[\w']+\s+){0,3}?"
    r"(?:previous|prior|above|earlier|all|your|any)\s+(?:[\w']+\s+){0,3}?"
    r"(?:instructions?|prompts?|rules|guidelines|directions|programming)\b"
    r"|\b(?:note|message|instructions?|attention|memo)\s*(?:to|for|,|:)\s*(?:the|any|all|every)?\s*"
    r"(?:ai|a\.i\.|llm|chatbot|assistant|language model)s?\b"
    r"|\b(?:ai|llm|language model|assistant)s?\b[^.\n]{0,40}\b(?:reading|processing|summari[sz]ing)"
    r"\s+(?:this|these)\b"
    r"|\bassistants?\b[,:]?\s+(?:please\s+|must\s+|should\s+)?(?:auto-?)?(?:approve|send)\s+this\b"
    r"|(?:忽略|无视|忘记|忘掉|不要理会).{0,8}(?:之前|以上|所有|先前|前面|你的|上述).{0,8}"
    r"(?:指令|提示|规则|指示|要求)"
    r"|(?:игнорируй|проигнорируй|забудь)(?:те)?\b.{0,25}(?:предыдущ|все|свои|прежн|прошл)\w*"
    r".{0,20}(?:инструкц|указан|правил)"
    r"|(?:ігноруй|проігноруй|забудь)(?:те)?\b.{0,25}(?:попередн|усі|всі|свої|минул)\w*"
    r".{0,20}(?:інструкц|вказів|правил)"
    r"|\b(?:ignoriere?|ignoriert|vergiss|vergesst|missachte)\b.{0,25}"
    r"(?:vorherig|bisherig|alle|deine|eure|obige|frühere)\w*.{0,20}(?:anweisung|instruktion|regel)"
    r"|\b(?:ignor[ae]n?|olvid[ae]n?)\b.{0,25}(?:tod[ao]s|tus|sus|previas|anteriores).{0,25}"
    r"(?:instruccion|reglas)"
    r"|\b(?:ignor[ae]n?|olvid[ae]n?)\b.{0,20}instrucciones (?:previas|anteriores)"
    r"|\b(?:ignorez?|oubliez?)\b.{0,20}(?:toutes|tes|vos).{0,20}(?:instruction|consigne|règle)"
    r"|\b(?:ignorez?|oubliez?)\b.{0,15}(?:instructions|consignes) (?:précédentes|ci-dessus)",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)

SECRET = re.compile(
    r"\b(?:sk|pk|rk)[-_](?:live|test|proj|ant)?[-_]?[A-Za-z0-9_-]{16,}"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_-]{30,}|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|\b\d{8,10}:AA[\w-]{30,}"
    r"|(?:password|passwd|pwd|passwort|kennwort|contraseña|mot de passe|пароль|密码|secret|token"
    # Bounded, because a stranger may send a long run of anything.
    r"|api[_ -]?key)\s{0,20}(?:is|ist|es|est|это|是|=|:|：){1,3}\s{0,20}[\"'`]?"
    r"(?=\S{0,200}[\d!@#$%^&*_-])\S{6,}",
    re.IGNORECASE,
)
"""Strings that look like keys, tokens and passwords; spelled as their issuers do."""

_MARKUP = ("<!--", "![", "<|", "[INST", "[/INST", "<system", "<instructions")
_AI = re.compile(r"\b(?:ai|llm)s?\b", re.IGNORECASE)
_STEMS = {  # "ai" is part of too many words
    role: tuple(p.rstrip("*") for p in phrases(listing) if p not in ("ai", "llm"))
    for role, listing in WARNING_WORDS.items()
}
_LONG_RUN = re.compile(r"[A-Za-z0-9_-]{12}")
_LONG_WORD = 12  # letters and digits in a row from which a word may be a key


def may_hold_a_secret(reading: Reading) -> bool:
    """Whether it is worth the slower look: a long word, a word such as "token", code, a link."""
    return (
        reading.longest_word >= _LONG_WORD
        or CODE in reading.tokens
        or reading.has_link
        or reading.has("secret_word")
    )


def is_injection(reading: Reading) -> bool:
    """Whether a message speaks to software that reads it rather than to a person."""
    text = reading.turn.text
    if "injection" in reading.roles:
        return True
    if not text.isascii() and HIDDEN.search(text):
        return addresses_an_assistant(text)
    worth_a_look = "assistant_word" in reading.roles or any(mark in text for mark in _MARKUP)
    return worth_a_look and bool(_INSTRUCTION.search(text))


def addresses_an_assistant(text: str) -> bool:
    """The same of a bare text, by its wording and its hidden characters alone."""
    if not text.isascii():
        unflagged = _FLAG.sub("", text)
        text = HIDDEN.sub("", unflagged)
        if len(unflagged) - len(text) >= MANY_HIDDEN:
            return True
    return _might(text, "assistant_word", _MARKUP) and bool(_INSTRUCTION.search(text))


def holds_a_secret(text: str) -> bool:
    might = _LONG_RUN.search(text) or _might(text, "secret_word", ("-----",))
    return bool(might and SECRET.search(text))


def _might(text: str, role: str, marks: Sequence[str]) -> bool:
    """Whether a bare text holds a warning word, so that a slow regex is worth its time."""
    lower = text.lower()
    return (
        any(stem in lower for stem in _STEMS[role])
        or any(mark in text for mark in marks)
        or (role == "assistant_word" and bool(_AI.search(text)))
    )


def without_secrets(text: str, gap: str = "[…]") -> str:
    """The text with every secret-like string replaced."""
    return SECRET.sub(gap, text)


def flags(readings: Sequence[Reading], injected: Sequence[Reading], spam: bool) -> tuple[str, ...]:
    """The flags of a conversation, in a fixed order."""
    found = []
    if injected:
        found.append("injection")
    if spam:
        found.append("spam")
    if any(may_hold_a_secret(r) and holds_a_secret(r.turn.text) for r in readings):
        found.append("secrets")
    if any(r.has_link and not r.turn.from_me for r in readings):
        found.append("links")
    return tuple(found)
