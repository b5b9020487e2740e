"""One message, read once: its tokens, the phrases in it and whom it speaks to.

Belongs here: what every rule needs to know of a single turn. Does not belong here: what follows
from several turns (`needs_reply.py`, `summary.py`, …).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from communicator_pipeline.analysis.lexicon import LEXICONS, Lexicon, phrases
from communicator_pipeline.analysis.lexicon.warnings import WARNING_WORDS
from communicator_pipeline.analysis.phrases import Hit, Phrase, PhraseTable
from communicator_pipeline.analysis.taxonomy import Taxonomy
from communicator_pipeline.analysis.tokens import HAN, LARGEST_MEMO, LINK, fold, prose, raw_tokens
from communicator_pipeline.messages import Turn

CATEGORY = "category"

_LISTINGS = (
    "greetings", "thanks", "solved", "fine", "question_words", "asks", "room", "not_an_ask",
    "urgent", "due", "due_after", "end_of_week", "end_of_day", "at_time", "positive", "negative",
    "angry", "negations", "injection",
)  # fmt: skip

_EMOJI = {
    "positive": "😀😃😄😁😊🙂👍🎉🥳😍❤🙏👏💪🔥",
    "angry": "😡🤬👎",
    "negative": "😢😭😞🙁😟😤",
}


def lexicon_phrases() -> list[Phrase]:
    """Every phrase of every lexicon, with the role its listing gives it."""
    found = [Phrase(role, emoji) for role, all_of_them in _EMOJI.items() for emoji in all_of_them]
    found += [Phrase("positive", ":)"), Phrase("positive", ":D"), Phrase("negative", ":(")]
    found += [Phrase(role, text) for role, said in WARNING_WORDS.items() for text in phrases(said)]
    for lexicon in LEXICONS.values():
        found += _phrases_of(lexicon)
    return found


def _phrases_of(lexicon: Lexicon) -> list[Phrase]:
    language = lexicon.language
    found = [
        Phrase(role, text, language)
        for role in _LISTINGS
        for text in phrases(getattr(lexicon, role))
    ]
    found += [
        Phrase("trouble", text, language)
        for topic in ("support", "incident")
        for text in phrases(lexicon.topics.get(topic, ""))
    ]
    for role, listings in (
        ("weekday", enumerate(lexicon.weekdays)),
        ("day", lexicon.days.items()),
        ("month", enumerate(lexicon.months, 1)),
    ):
        found += [
            Phrase(role, text, language, value)
            for value, listing in listings
            for text in phrases(listing)
        ]
    return found


def taxonomy_phrases(taxonomy: Taxonomy) -> list[Phrase]:
    """The cues of every category; `value` is its place in the taxonomy."""
    return [
        Phrase(CATEGORY, cue, "", place)
        for place, category in enumerate(taxonomy.categories)
        for cue in category.cues
    ]


@dataclass(slots=True)
class Reading:
    """What one turn says, as the rules see it."""

    turn: Turn
    place: int  # index in the transcript's turns
    clean: str  # prose with placeholders
    raw: list[str]  # tokens as written
    tokens: list[str]  # folded, same length as `raw`
    hits: list[Hit]
    questions: int  # question marks after at least one word
    has_link: bool
    roles: set[str]  # of the hits
    longest_word: int  # letters

    def has(self, role: str) -> bool:
        return role in self.roles

    def quote(self, hit: Hit) -> str:
        """The words of a hit as the author wrote them."""
        words = self.raw[hit.start : hit.end]
        return ("" if len(words[0]) == 1 and "\u3400" <= words[0] <= "\u9fff" else " ").join(words)


class Reader:
    """Reads turns with the phrases of the lexicons and of one taxonomy."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._table = PhraseTable([*lexicon_phrases(), *taxonomy_phrases(taxonomy)])
        self._folded: dict[str, str] = {}

    def read(self, turn: Turn, place: int) -> Reading:
        clean = prose(turn.text)
        raw = raw_tokens(clean)
        folded = self._folded
        try:
            tokens = [folded[t] for t in raw]
        except KeyError:
            if len(folded) > LARGEST_MEMO:
                folded.clear()
            for t in raw:
                if t not in folded:
                    folded[t] = fold(t)
            tokens = [folded[t] for t in raw]
        questions = 0
        if "?" in tokens:
            questions = sum(1 for i, t in enumerate(tokens) if i and t == "?")
        hits = self._table.find(tokens)
        return Reading(
            turn,
            place,
            clean,
            raw,
            tokens,
            hits,
            questions,
            LINK in tokens,
            {h.role for h in hits},
            max(map(len, raw), default=0),
        )


@lru_cache(maxsize=4096)
def name_pattern(names: tuple[str, ...]) -> re.Pattern[str] | None:
    """Finds any of the names as a whole word; short Latin names only with their capital.

    A Cyrillic name may have another ending (Ольга, Ольгу): its last vowel may change.
    """
    parts = [p for name in names if (p := _name_part(name.strip().lstrip("@")))]
    return re.compile("|".join(parts)) if parts else None


def _name_part(name: str) -> str:
    if len(name) < 2:
        return ""
    if re.match(f"[{HAN}]", name):
        return re.escape(name)
    body = re.escape(name)
    if re.fullmatch("[а-яіїєґё]{4,}[аяоій]", name, re.IGNORECASE):
        body = re.escape(name[:-1]) + r"\w{1,2}"
    if len(name) >= 4 or not name.isalpha():
        body = f"(?i:{body})"
    # After "@" any spelling of it is meant; elsewhere "will" is not Will.
    return rf"(?<![\w@]){body}(?!\w)|(?<!\w)@(?i:{re.escape(name)})(?!\w)"


def first_name(name: str) -> str:
    """What people call somebody: the first word of a name, all of it in Chinese."""
    words = name.strip().lstrip("@").split()
    return words[0] if words else ""
