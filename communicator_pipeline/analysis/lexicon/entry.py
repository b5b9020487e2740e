"""What one language's word lists hold. To add a language: copy `en.py`, translate, list it.

Belongs here: the shape of a lexicon. Does not belong here: how words are found in a message
(`phrases.py`) and what finding them means (`needs_reply.py`, `priority.py`, …).

Phrases are separated by `|`. They are compared without case and, for Latin letters, without
accents. `^` in front: only at the start of a clause. `*` after a word: any ending (`встреч*`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


def phrases(listing: str) -> tuple[str, ...]:
    """The phrases of a listing separated by `|`, in order."""
    return tuple(p.strip() for p in listing.split("|") if p.strip())


@dataclass(frozen=True, slots=True)
class Lexicon:
    """One language's words, grouped by what they tell about a message."""

    language: str  # ISO 639-1
    function_words: str  # separated by blanks: the commonest words, they identify the language
    greetings: str
    thanks: str
    solved: str  # the matter is closed
    fine: str  # says yes or good and asks for nothing
    question_words: str  # open a question even without a question mark
    asks: str  # polite requests and imperatives
    room: str  # speaks to whoever reads
    not_an_ask: str  # looks like a request and is none
    urgent: str
    due: str  # "by", "until": a deadline follows
    due_after: str  # as in 周五之前: the deadline stands in front
    weekdays: tuple[str, str, str, str, str, str, str]  # Monday first
    days: Mapping[int, str]  # days from today → phrases
    end_of_week: str
    end_of_day: str
    months: tuple[str, ...]  # January first
    at_time: str  # "at 5": a number after it is an hour
    positive: str
    negative: str
    angry: str  # counts twice
    negations: str
    injection: str
    commits: str  # the owner says what they did, will do or agree to: true once only
    topics: Mapping[str, str]  # category of the default taxonomy → cues
    # Drafting: what to say, and what to call a fact that only the owner knows.
    hello: str  # "{name}" is filled in
    acknowledge: Mapping[str, str]  # category → sentence; "" for all others
    answer: Mapping[str, str]  # what is asked → sentence with "{gap}"
    gaps: Mapping[str, str]  # kind of fact → its name
    asked: Mapping[str, str] = field(default_factory=dict)  # what is asked → question phrases
    summaries: Mapping[str, str] = field(default_factory=dict)  # fixed sentences of a summary

    def words(self) -> Iterator[str]:
        """Every whole word of the phrases that people write; stems are left out."""
        listings = (
            self.greetings, self.thanks, self.solved, self.fine, self.question_words, self.asks,
            self.urgent, self.positive, self.negative, self.angry, *self.weekdays,
            *self.days.values(), *self.topics.values(),
        )  # fmt: skip
        for listing in listings:
            for word in re.split(r"[\s|^'’-]+", listing):
                if word and not word.endswith("*"):
                    yield word
