"""A reply taken apart: greeting, sentences, sign-off; and how one reply differs from another.

Belongs here: finding the parts of a text that is a reply, putting them together again, the
difference of two texts by token. Does not belong here: what a difference teaches (`learning.py`),
what is said in a reply (`offline.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cache

from communicator_pipeline.analysis.lexicon import LEXICONS, phrases
from communicator_pipeline.analysis.reading import first_name
from communicator_pipeline.analysis.tokens import HAN

CLOSINGS = {
    "en": "best | best regards | best wishes | all the best | kind regards | regards "
    "| warm regards | cheers | yours | sincerely "
    "| yours sincerely | many thanks | thanks | thank you | take care",
    "de": "viele grüße | viele liebe grüße | liebe grüße | beste grüße | schöne grüße "
    "| grüße | gruß | viele gruesse | mit freundlichen grüßen | mit besten grüßen "
    "| freundliche grüße | lg | vg | mfg | bg | danke | herzlich",
    "fr": "cordialement | bien cordialement | bien à vous | bien à toi | amicalement | à bientôt "
    "| bonne journée | salutations | merci | bises",
    "es": "saludos | un saludo | saludos cordiales | atentamente | cordialmente | un abrazo "
    "| gracias | muchas gracias",
    "ru": "с уважением | с наилучшими пожеланиями | всего доброго | спасибо | удачи",
    "uk": "з повагою | з найкращими побажаннями | всього найкращого | дякую | гарного дня",
    "zh": "此致 | 敬礼 | 祝好 | 谢谢 | 顺祝商祺 | 祝工作顺利",
}
"""How people end a letter, by language; written for this project."""

LONGEST_SIGN_OFF = 3  # lines
MOST_WORDS_IN_A_LAST_LINE = 4  # a name or two; more is a sentence

_SENTENCE_END = re.compile(
    r"(?<=[.!?…])(?<!\d\.)(?<!\b[A-Z]\.)(?<!\bMr\.)(?<!\bDr\.)(?<!\bMrs\.)\s+"
    r"|(?<=[。！？])\s*|\s*\n\s*"
)
_TOKEN = re.compile(rf"[{HAN}]|[^\W_{HAN}]+|[^\w\s]|\n")
_ENDS = ".!?…。！？:"
EMOJI = re.compile("[\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff\u2600-\u27bf]\ufe0f?\u200d?")


@dataclass(frozen=True, slots=True)
class Parts:
    """A reply's parts, in order."""

    greeting: str  # "Hi Tom,"; "" if it has none
    breaks: bool  # a new line follows the greeting
    sentences: tuple[str, ...]  # each with the blanks and line breaks after it
    sign_off: str  # with its line breaks; "" if there is none

    @property
    def body(self) -> str:
        return "".join(self.sentences).strip()


@dataclass(frozen=True, slots=True)
class Change:
    """A stretch of tokens that became another one; either may be empty."""

    was: str
    now: str


def parted(text: str, language: str, person_name: str, signature: str = "") -> Parts:
    """The parts of a reply to a person; `signature`: what the owner's drafts end with."""
    body, sign_off = _without_sign_off(text.strip(), language, signature)
    rest, _ = without_greeting(body, language, person_name)
    greeting = body[: len(body) - len(rest)]
    return Parts(greeting.strip(), "\n" in greeting, sentences_of(rest), sign_off)


def joined(parts: Parts, language: str) -> str:
    """The reply that has these parts."""
    space = "" if language == "zh" else " "
    body = ""
    for sentence in parts.sentences:
        body += (space if body and not body[-1].isspace() else "") + sentence
    body = body.strip()
    if not parts.greeting or parts.greeting[-1] in _ENDS:
        body = body[:1].upper() + body[1:]  # after a comma the sentence goes on; here it begins
    between = "\n\n" if parts.breaks else space
    text = parts.greeting + (between if parts.greeting and body else "") + body
    return f"{text}\n{parts.sign_off}" if parts.sign_off else text


def sentences_of(text: str) -> tuple[str, ...]:
    """The sentences of a text, in order, each with the blanks after it; a line is one at least."""
    found, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        if text[start : match.start()].strip():
            found.append(text[start : match.end()])
            start = match.end()
    return (*found, text[start:]) if text[start:].strip() else tuple(found)


def comparable_sentence(text: str) -> str:
    """A sentence as it is compared: no case, blanks or punctuation at its ends."""
    return " ".join(text.casefold().split()).strip(" .,;:!?…。，！？-–")


def changes(draft: str, final: str) -> tuple[Change, ...]:
    """What became of a draft, by token: the stretches that differ, in order."""
    was, now = _spans(draft), _spans(final)
    matcher = SequenceMatcher(
        None, [draft[a:b] for a, b in was], [final[a:b] for a, b in now], autojunk=False
    )
    return tuple(
        Change(_stretch(draft, was[i1:i2]), _stretch(final, now[j1:j2]))
        for tag, i1, i2, j1, j2 in matcher.get_opcodes()
        if tag != "equal"
    )


def distance(draft: str, final: str) -> float:
    """How much of a draft was changed: 0 (nothing) to 1 (everything), by token.

    Tokens to delete and to insert, over all tokens of both texts.
    """
    was = [draft[a:b] for a, b in _spans(draft)]
    now = [final[a:b] for a, b in _spans(final)]
    if not was and not now:
        return 0.0
    return 1.0 - SequenceMatcher(None, was, now, autojunk=False).ratio()


def _spans(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in _TOKEN.finditer(text)]


def _stretch(text: str, spans: list[tuple[int, int]]) -> str:
    return text[spans[0][0] : spans[-1][1]] if spans else ""


# --- greeting --------------------------------------------------------------------------------


@cache
def _greeting(language: str) -> re.Pattern[str]:
    lexicon = LEXICONS.get(language) or LEXICONS["en"]
    words = sorted((p.lstrip("^").rstrip("*") for p in phrases(lexicon.greetings)), key=len)
    either = "|".join(re.escape(w) + r"\w*" for w in reversed(words))
    name = r"(?:[ ,，]+[^\W\d_][\w'’.-]*){0,3}?"  # at most three words
    end = r"(?:[,!:.，！：。]+|\n|-|–|$)"
    return re.compile(rf"\s*(?:{either}){name}\s*{end}\s*", re.IGNORECASE)


def without_greeting(text: str, language: str, person_name: str) -> tuple[str, bool]:
    """The answer without "Hi Tom,", and whether there was such a thing."""
    match = _greeting(language).match(text)
    if match:
        return text[match.end() :], True
    name = first_name(person_name)
    if len(name) > 1:
        match = re.match(rf"\s*@?{re.escape(name)}\s*[,!:，！：]\s*", text, re.IGNORECASE)
        if match:
            return text[match.end() :], True
        if re.match(f"[{HAN}]", name) and text.startswith(name):
            opened = re.match(rf"{re.escape(name)}[，,]?(?:你好|您好)?[，,！!。]\s*", text)
            if opened:
                return text[opened.end() :], True
    return text, False


def called(author_name: str) -> str:
    """What to call somebody in a greeting; "" when the name is no name."""
    name = first_name(author_name)
    if not (len(name) > 1 and all(c.isalpha() or c in "'’-." for c in name)):
        return ""
    if name.islower() or (name.isupper() and len(name) > 3 and name.isascii()):
        name = name.capitalize()
    return name


# --- sign-off --------------------------------------------------------------------------------


@cache
def _closing(language: str) -> re.Pattern[str]:
    words = sorted(
        {*phrases(CLOSINGS.get(language, "")), *phrases(CLOSINGS["en"])}, key=len, reverse=True
    )
    either = "|".join(re.escape(word) for word in words)
    return re.compile(
        rf"(?:{either})\s*[,.!，！]?\s*(?:[^\W\d_][\w'’.-]*\s*){{0,3}}", re.IGNORECASE
    )


def _without_sign_off(text: str, language: str, signature: str) -> tuple[str, str]:
    """The text before its sign-off, and that."""
    if signature and text.endswith(signature) and text != signature:
        return text[: -len(signature)].rstrip(), signature
    lines = text.split("\n")
    for first in range(max(1, len(lines) - LONGEST_SIGN_OFF), len(lines)):
        ending = "\n".join(lines[first:]).strip()
        if ending and _closing(language).fullmatch(ending.replace("\n", " ")):
            return "\n".join(lines[:first]).rstrip(), ending
    last = lines[-1].strip()
    if len(lines) > 1 and last and last[-1] not in _ENDS and _is_a_name(last):
        return "\n".join(lines[:-1]).rstrip(), last
    return text, ""


def _is_a_name(line: str) -> bool:
    words = line.strip("-–— ").split()
    return 0 < len(words) <= MOST_WORDS_IN_A_LAST_LINE and all(
        word[0].isalpha() and not word.islower() for word in words
    )


# --- whom it speaks to -----------------------------------------------------------------------

_ADDRESS = {
    "de": (
        re.compile(r"\b(?:du|dir|dich|dein\w{0,2}|euch|euer|eure\w?)\b", re.IGNORECASE),
        re.compile(r"(?<=\w[ ,] )?\b(?:Sie|Ihnen|Ihr(?:e[mnrs]?)?)\b"),
    ),
    "fr": (
        re.compile(r"\b(?:tu|toi|te|ton|ta|tes)\b|\bt['’]", re.IGNORECASE),
        re.compile(r"\b(?:vous|votre|vos)\b", re.IGNORECASE),
    ),
    "es": (
        re.compile(r"\b(?:tú|ti|te|tu|tus|contigo)\b", re.IGNORECASE),
        re.compile(r"\b(?:usted|ustedes)\b", re.IGNORECASE),
    ),
    "ru": (
        re.compile(r"\b(?:ты|тебя|тебе|тобой|твой|твоя|твоё|твои)\b", re.IGNORECASE),
        re.compile(r"\b(?:вы|вас|вам|вами|ваш\w{0,2})\b", re.IGNORECASE),
    ),
    "uk": (
        re.compile(r"\b(?:ти|тебе|тобі|тобою|твій|твоя|твоє|твої)\b", re.IGNORECASE),
        re.compile(r"\b(?:ви|вас|вам|вами|ваш\w{0,2})\b", re.IGNORECASE),
    ),
}
"""Language → words of the familiar and of the polite address."""


def address_of(text: str, language: str) -> str:
    """How a text addresses its reader: "familiar", "polite", or "" for neither or both."""
    if language not in _ADDRESS:
        return ""
    familiar, polite = (bool(one.search(text)) for one in _ADDRESS[language])
    return "" if familiar == polite else "familiar" if familiar else "polite"


def without_emoji(parts: Parts) -> Parts:
    """The reply without its emoji."""

    def bare(text: str) -> str:
        return re.sub(r"[ \t]{2,}", " ", EMOJI.sub("", text)).strip()

    return replace(
        parts,
        greeting=bare(parts.greeting),
        sentences=tuple(found for one in parts.sentences if (found := bare(one))),
        sign_off=bare(parts.sign_off),
    )
