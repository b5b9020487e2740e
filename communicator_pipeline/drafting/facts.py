"""What in an old answer may be wrong, or private, in a new one: dates, amounts, links, names.

Belongs here: finding such facts and putting marked gaps in their place. Does not belong here:
which old answer is reused (`memory.py`) and what is said when none is (`offline.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache

from communicator_pipeline.analysis.lexicon import LEXICONS, phrases
from communicator_pipeline.analysis.suspicion import SECRET
from communicator_pipeline.analysis.tokens import HAN, fold, raw_tokens

_CURRENCY = (
    r"(?:[$€£¥₽₴]|usd|eur|gbp|rub|uah|cny|rmb|chf|euros?|dollars?|dólares|руб\w*|грн|гривень|元|块)"
)
_STREET = (
    r"\b\d+[a-z]?,? (?:[^\W\d_]+ ){1,3}(?:street|st\b|road|rd\b|avenue|ave\b|lane|drive|square)"
    r"|\b[^\W\d_][\w-]*(?:straße|strasse|str\.|weg|platz|allee|gasse) ?\d+\w?"
    r"|\b(?:calle|avenida|plaza|rue|avenue|boulevard|place) [^,.;\n]{2,40}?,? ?\d+\b"
    r"|\b\d+,? (?:rue|avenue|boulevard|place) [^,.;\n]{2,40}"
    r"|(?:\bул\.|\bулиц\w+|\bвул\.|\bвулиц\w+|\bпроспект\w*|\bпр-т) [^,.;\n]{2,40}"
    r"(?:, ?(?:д\. ?|буд\. ?)?\d+\w?)?"
    rf"|[{HAN}]{{2,12}}(?:路|街|大道|巷)\d+[号弄]?"
)
_KINDS = (  # kind of fact, what it looks like; the first that matches at a place wins
    ("secret", SECRET.pattern),
    ("email", r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{0,190}\w"),
    ("link", r"<?(?:https?://|www\.)[^\s<>]*[^\s<>.,;:!?)]>?"),
    ("address", _STREET),
    (
        "amount",
        rf"{_CURRENCY}\s?\d[\d.,]*(?<=\d)(?:k|m)?\b|\d[\d.,\u00a0 ]*\s?(?:k )?{_CURRENCY}(?!\w)"
        r"|\d+(?:[.,]\d+)?\s?%",
    ),
    (
        "date",
        r"\b20\d\d[-./]\d{1,2}[-./]\d{1,2}\b|\b\d{1,2}\.\d{1,2}\.(?:\d{2,4}\b)?"
        r"|\b\d{1,2}/\d{1,2}(?:/\d{2,4})?\b|(?:\d{1,2}月)?\d{1,2}[日号]",
    ),
    (
        "time",
        r"\b(?:[01]?\d|2[0-3])[:.h][0-5]\d\b(?:\s?[ap]m)?|\b\d{1,2}\s?(?:am|pm|h|uhr|ч)\b"
        r"|\d{1,2}点",
    ),
    ("phone", r"(?<![\w-])\+?\d[\d ()\u00a0-]{7,}\d(?!\w)"),
    (
        "order",
        r"#\s?\w*\d[\w-]*|№\s?\d[\w-]*|\b[A-Z]{1,5}-?\d{2,}[A-Z\d-]*\b|\b\d{4,}\b",
    ),
    ("number", r"(?<![\w.])\d+(?:[.,]\d+)*(?!\w)"),
)
_FACT = re.compile("|".join(f"(?P<{kind}>{looks})" for kind, looks in _KINDS), re.IGNORECASE)
PRIVATE = frozenset({"secret", "email", "address", "amount", "phone", "order", "name", "link"})


@dataclass(frozen=True, slots=True)
class Fact:
    """A span of a text, in characters, that states something checkable."""

    kind: str  # a key of a lexicon's `gaps`
    start: int
    end: int
    text: str


@cache
def _day_words(language: str) -> re.Pattern[str] | None:
    lexicon = LEXICONS.get(language)
    if lexicon is None:
        return None
    listed = [*lexicon.weekdays, *lexicon.days.values(), lexicon.end_of_week, lexicon.end_of_day]
    words = [p for listing in listed for p in phrases(listing) if len(p) > 3 or language == "zh"]
    words += [p for listing in lexicon.months for p in phrases(listing) if len(p) > 3]
    return _either(words, language)


def _either(words: Collection[str], language: str) -> re.Pattern[str] | None:
    """Any of the phrases as whole words, the longest first; `*` stands for any ending."""
    parts = [
        re.escape(w.rstrip("*")).replace(r"\ ", r"\s+") + (r"\w*" if w.endswith("*") else "")
        for w in sorted(set(words), key=lambda w: (-len(w), w))
    ]
    if not parts:
        return None
    edges = ("", "") if language == "zh" else (r"(?<!\w)", r"(?!\w)")
    return re.compile(f"{edges[0]}(?:{'|'.join(parts)}){edges[1]}", re.IGNORECASE)


def facts_of(text: str, language: str) -> list[Fact]:
    """The facts in a text, in order, none overlapping."""
    found = [
        Fact(m.lastgroup or "number", m.start(), m.end(), m.group()) for m in _FACT.finditer(text)
    ]
    days = _day_words(language)
    if days is not None:
        found += [Fact("date", m.start(), m.end(), m.group()) for m in days.finditer(text)]
    return without_overlaps(found)


def without_overlaps(facts: Sequence[Fact]) -> list[Fact]:
    """The facts in order of place; where two overlap, the one that starts first, or is longer."""
    kept: list[Fact] = []
    for fact in sorted(facts, key=lambda f: (f.start, -f.end)):
        if not kept or fact.start >= kept[-1].end:
            kept.append(fact)
    return kept


_CAPITALISED = re.compile(
    r"(?<![.!?…:\n]\s)(?<!^)(?<![\w@#/.])[A-ZÀ-ÞА-ЯІЇЄҐ][a-zß-ÿа-яёіїєґ'’-]+", re.MULTILINE
)
_GERMAN_NOUN_AFTER = frozenset(
    phrases(
        "der | die | das | den | dem | des | ein | eine | einen | einem | einer | kein | keine | "
        "keinen | im | am | zum | zur | vom | beim | ins | mein | meine | meinen | dein | deine | "
        "ihr | ihre | unser | unsere | diese | dieser | dieses | diesen | alle | mit | für | ohne "
        "| per | und | oder | als | in | auf | unter | bei | nach | vor | viel | neue | neuen"
    )
)


def names_in(
    text: str, language: str, known: Collection[str], common: Collection[str] = ()
) -> list[Fact]:
    """Words that may name somebody or something: capitalised inside a sentence, or known.

    `common` holds folded words that are none because several people write them small. German
    writes every noun with a capital: there, one after an article is taken for a noun.
    """
    found = []
    for match in _CAPITALISED.finditer(text):
        if language == "de":
            before = text[: match.start()].split()
            if before and before[-1].casefold() in _GERMAN_NOUN_AFTER:
                continue
        word = fold(raw_tokens(match.group())[0])
        if word in common or word in _not_names(language):
            continue
        found.append(Fact("name", match.start(), match.end(), match.group()))
    for match in _WORD.finditer(text):
        if match.group() in known:
            found.append(Fact("name", match.start(), match.end(), match.group()))
    found += _chinese_names(text, known)
    return without_overlaps(found)


_WORD = re.compile(rf"[^\W{HAN}][^\s,;:!?(){HAN}]*(?<![.'’])")
_HAN_RUN = re.compile(f"[{HAN}]{{2,}}")


def _chinese_names(text: str, known: Collection[str]) -> list[Fact]:
    """Known names of two to four characters, which no blank sets apart."""
    found = []
    for run in _HAN_RUN.finditer(text):
        for start in range(run.start(), run.end() - 1):
            for end in range(min(start + 4, run.end()), start + 1, -1):
                if text[start:end] in known:
                    found.append(Fact("name", start, end, text[start:end]))
                    break
    return found


@cache
def _not_names(language: str) -> frozenset[str]:
    """Folded words of the language's lexicon: "I", "Sie", "Montag" are not names."""
    lexicon = LEXICONS.get(language)
    if lexicon is None:
        return frozenset()
    return frozenset(fold(w) for w in [*lexicon.function_words.split(), *lexicon.words()] if w)


def gap(kind: str, language: str) -> str:
    """The mark for a missing fact: "[…: date]"."""
    lexicon = LEXICONS.get(language) or LEXICONS["en"]
    return f"[…: {lexicon.gaps[kind]}]"


GAP = re.compile(r"\[…: [^\]\n]+\]")


def replaced(text: str, facts: Sequence[Fact], by: Callable[[Fact], str]) -> str:
    """The text with every fact replaced."""
    parts, last = [], 0
    for fact in facts:
        parts += [text[last : fact.start], by(fact)]
        last = fact.end
    return "".join([*parts, text[last:]])
