"""Which category of the taxonomy a conversation falls into, and the cue that says so.

Belongs here: weighing cues and the shape of messages. Does not belong here: the cues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from communicator_pipeline.analysis.deadlines import has_date_words
from communicator_pipeline.analysis.reading import CATEGORY, Reading
from communicator_pipeline.analysis.taxonomy import DEFAULT_TAXONOMY, Taxonomy

_GENERIC = {"question": 0.6, "request": 0.7, "fyi": 0.9, "social": 0.9}
"""Default categories that say how something is said; those that say what it is about win."""

_MINE = 0.4  # the owner's words tell less about what the conversation wants
_CUSTOM = 1.25  # a cue somebody wrote themselves is meant


@dataclass(frozen=True, slots=True)
class Choice:
    """A category with its reason; `confidence` is 0..1; `scores` in the taxonomy's order."""

    name: str
    reason: str
    confidence: float
    scores: tuple[float, ...]


def _cue_points(reading: Reading, start: int, end: int) -> float:
    length: float = end - start
    if "\u3400" <= reading.raw[start][0] <= "\u9fff":
        length = max(1.0, length / 2)
    return 1.0 + 0.5 * (min(length, 4) - 1)


class Sorter:
    """Sorts conversations by one taxonomy."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._names = taxonomy.names
        self._fallback = taxonomy.fallback
        self._place = {name: i for i, name in enumerate(self._names)}
        self._factor = [
            _GENERIC.get(c.name, 1.0)
            if c.name in DEFAULT_TAXONOMY.names and c == DEFAULT_TAXONOMY[c.name]
            else _CUSTOM
            for c in taxonomy.categories
        ]

    def sort(self, readings: Sequence[Reading], asks_me: bool) -> Choice:
        """The best category; ties go to the one that stands first in the taxonomy."""
        scores = [0.0] * len(self._names)
        best_cue: dict[int, tuple[float, str]] = {}
        seen: set[str] = set()
        for reading in readings:
            weight = _MINE if reading.turn.from_me else 1.0
            for hit in reading.hits:
                phrase = hit.phrase
                if phrase.role != CATEGORY or phrase.text in seen:
                    continue
                seen.add(phrase.text)
                points = (
                    weight * _cue_points(reading, hit.start, hit.end) * self._factor[phrase.value]
                )
                scores[phrase.value] += points
                if points > best_cue.get(phrase.value, (0.0, ""))[0]:
                    best_cue[phrase.value] = (points, f"says “{reading.quote(hit)}”")
        for name, points, reason in self._shape(readings, asks_me):
            place = self._place.get(name)
            if place is not None:
                scores[place] += points
                if points > best_cue.get(place, (0.0, ""))[0]:
                    best_cue[place] = (points, reason)
        top = max(scores, default=0.0)
        if top <= 0.0:
            return Choice(self._fallback, "no cue of any category", 0.2, tuple(scores))
        place = scores.index(top)
        rest = sorted(scores, reverse=True)[1] if len(scores) > 1 else 0.0
        confidence = min(0.98, 0.35 + 0.5 * (top - rest) / (top + 0.5) + 0.05 * min(top, 4))
        return Choice(self._names[place], best_cue[place][1], confidence, tuple(scores))

    def _shape(self, readings: Sequence[Reading], asks_me: bool) -> list[tuple[str, float, str]]:
        """What the form of the messages says: category, points, reason."""
        theirs = [r for r in readings if not r.turn.from_me]
        if not theirs:
            return []
        found: list[tuple[str, float, str]] = []
        questions = sum(r.questions for r in theirs)
        asks = sum(1 for r in theirs if r.has("asks"))
        if questions:
            found.append(("question", 0.7, "has a question mark"))
        elif any(r.has("question_words") for r in theirs):
            found.append(("question", 0.6, "is worded as a question"))
        if asks:
            found.append(("request", 0.6, "asks for something"))
        if any(has_date_words(r) and (r.questions or r.has("asks")) for r in theirs):
            found.append(("scheduling", 0.4, "names a day"))
        if not questions and not asks and not asks_me:
            length = sum(len(r.tokens) for r in theirs)
            if any(r.turn.is_bot for r in theirs):
                found.append(("fyi", 0.8, "written by a bot"))
            elif length > 4 or any(r.has_link or r.turn.attachments for r in theirs):
                found.append(("fyi", 0.5, "tells and asks nothing"))
            else:
                found.append(("social", 0.45, "a short remark"))
        if len(theirs) == len(readings) and self._advertises(theirs):
            found.append(("spam", 0.9, "advertises a link"))
        return found

    def _advertises(self, readings: Sequence[Reading]) -> bool:
        """Whether there is a link and a cue of the spam category, if the taxonomy has one."""
        spam = self._place.get("spam")
        return any(r.has_link for r in readings) and any(
            h.role == CATEGORY and h.phrase.value == spam for r in readings for h in r.hits
        )
