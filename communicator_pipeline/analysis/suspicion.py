"""Signs that a message is not what it seems: instructions to an assistant, spam, secrets.

Belongs here: the signs, as flags. Does not belong here: what is done about them.
Flags never obey: a flagged message gains no priority, is not quoted and gets no draft.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from communicator_pipeline.analysis.reading import Reading
from communicator_pipeline.analysis.tokens import CODE

HIDDEN = re.compile("[\u200b\u2060-\u2064\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f\ufeff]")
"""Characters that show nothing. Joiners U+200C and U+200D are left out: emoji and Persian."""

MANY_HIDDEN = 3
"""One zero-width space comes with copying from a web page; several hide something."""

_INSTRUCTION = re.compile(
    r"^\s*(?:#+\s*)?(?:\[?(?:system|assistant|developer)\]?\s*(?:note|message|prompt|override)?\s*:"
    r"|<\|?/?(?:system|im_start|im_end|assistant|instructions?)\|?>|\[/?INST\])"
    r"|<!--.{0,400}(?:assistant|instruction|\bAI\b|prompt)"
    r"|!\[[^\]]*\]\(\s*https?://[^)\s]+\?[^)\s]*\)"
    r"|\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:previous|prior|above|earlier|all|your)\b"
    r".{0,30}\b(?:instructions?|prompts?|rules|guidelines|directions)\b"
    r"|\b(?:ai|llm|chatbot|language model)\b.{0,40}\b(?:must|should|shall|please|now)\b.{0,40}"
    r"\b(?:approve|reply|send|forward|reveal|output|ignore|mark|delete|include)\b"
    r"|(?:忽略|无视|忘记|忘掉).{0,12}(?:指令|提示|规则|要求)"
    r"|(?:игнорируй|проигнорируй|забудь|ігноруй|проігноруй)\w*.{0,30}(?:инструкц|указан|інструкц|вказів)"
    r"|(?:ignorier|vergiss|vergesst|missacht)\w*.{0,40}(?:anweisung|instruktion|regeln)"
    r"|(?:ignor|olvid|oubli)\w*.{0,40}(?:instruccion|instruction|consigne|reglas)",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)

SECRET = re.compile(
    r"\b(?:sk|pk|rk)[-_](?:live|test|proj|ant)?[-_]?[A-Za-z0-9_-]{16,}"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_-]{30,}|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|\b\d{8,10}:AA[\w-]{30,}"
    r"|(?:password|passwd|pwd|passwort|kennwort|contraseña|mot de passe|пароль|密码|secret|token"
    r"|api[_ -]?key)\s*(?:is|ist|es|est|это|是|=|:|：)+\s*[\"'`]?(?=\S*[\d!@#$%^&*_-])\S{6,}",
    re.IGNORECASE,
)
"""Strings that look like keys, tokens and passwords; spelled as their issuers do."""

_MARKUP = ("<!--", "![", "<|", "[INST", "[/INST", "<system", "<instructions")
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
    if not text.isascii() and len(HIDDEN.findall(text)) >= MANY_HIDDEN:
        return True
    if "injection" in reading.roles:
        return True
    worth_a_look = "assistant_word" in reading.roles or any(mark in text for mark in _MARKUP)
    return worth_a_look and bool(_INSTRUCTION.search(text))


def addresses_an_assistant(text: str) -> bool:
    """The same of a bare text, by its wording alone."""
    return len(HIDDEN.findall(text)) >= MANY_HIDDEN or bool(_INSTRUCTION.search(text))


def holds_a_secret(text: str) -> bool:
    return bool(SECRET.search(text))


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
