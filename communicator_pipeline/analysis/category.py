"""Which category of the taxonomy a conversation falls into, and the cue that says so.

Belongs here: weighing cues and the shape of messages. Does not belong here: the cues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from communicator_pipeline.analysis.deadlines import names_a_time
from communicator_pipeline.analysis.reading import CATEGORY, Reading
from communicator_pipeline.analysis.taxonomy import DEFAULT_TAXONOMY, Taxonomy

_SPECIFIC = {  # default category → factor of its cues; those that say how, not what, count less
    "question": 0.6,
    "request": 0.7,
    "fyi": 0.9,
    "social": 0.9,
    "scheduling": 1.0,
    "sales": 1.0,
    "support": 1.0,
    "incident": 1.0,
    "spam": 1.0,
}

_OPENING = 1.0  # what a conversation is about is said at its start, whoever starts it
_LATER = 0.3
_FURTHER = (1.0, 0.6, 0.4, 0.2, 0.1)
_LONGEST_OPENING = 3  # messages
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


def _opening(readings: Sequence[Reading]) -> int:
    """How many messages open the conversation: those of its first author in a row."""
    count = 1
    while (
        count < len(readings)
        and readings[count].turn.author_id == readings[0].turn.author_id
        and count < _LONGEST_OPENING
    ):
        count += 1
    return min(count, len(readings))


def _sum(points: list[float]) -> float:
    """The best cue counts in full, each further one less: many weak cues are no strong one."""
    return sum(p * f for p, f in zip(sorted(points, reverse=True), _FURTHER, strict=False))


class Sorter:
    """Sorts conversations by one taxonomy."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._names = taxonomy.names
        self._fallback = taxonomy.fallback
        self._place = {name: i for i, name in enumerate(self._names)}
        self._factor = [
            _SPECIFIC[c.name]
            if c.name in DEFAULT_TAXONOMY.names and c == DEFAULT_TAXONOMY[c.name]
            else _CUSTOM
            for c in taxonomy.categories
        ]

    def sort(self, readings: Sequence[Reading], asks_me: bool) -> Choice:
        """The best category; ties go to the one that stands first in the taxonomy."""
        found: list[list[float]] = [[] for _ in self._names]
        best_cue: dict[int, tuple[float, str]] = {}
        seen: set[str] = set()
        opened = readings[_opening(readings) - 1].place if readings else 0
        for reading in readings:
            weight = _OPENING if reading.place <= opened else _LATER
            for hit in reading.hits:
                phrase = hit.phrase
                if phrase.role != CATEGORY or phrase.text in seen:
                    continue
                seen.add(phrase.text)
                points = (
                    weight * _cue_points(reading, hit.start, hit.end) * self._factor[phrase.value]
                )
                found[phrase.value].append(points)
                if points > best_cue.get(phrase.value, (0.0, ""))[0]:
                    best_cue[phrase.value] = (points, f"says “{reading.quote(hit)}”")
        scores = [_sum(points) for points in found]
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
        if not readings:
            return []
        found: list[tuple[str, float, str]] = []
        opening = readings[: _opening(readings)]
        asks = any(r.has("asks") for r in opening)
        questions = any(r.questions for r in opening)
        if asks:
            found.append(("request", 1.0, "asks for something"))
        elif questions:
            found.append(("question", 1.0, "has a question mark"))
        elif any(r.has("question_words") for r in opening):
            found.append(("question", 0.6, "is worded as a question"))
        timed = [r for r in readings if names_a_time(r)] if questions or asks else []
        if timed:
            found.append(("scheduling", 0.5, "asks about a day or a time"))
        if len(timed) > 1 and len({r.turn.author_id for r in timed}) > 1:
            found.append(("scheduling", 1.0, "several people name days or times"))
        if not questions and not asks and not asks_me and theirs:
            found.append(self._remark(theirs, len(readings)))
        if len(theirs) == len(readings) and self._advertises(theirs):
            found.append(("spam", 0.9, "advertises a link"))
        return found

    def _remark(self, theirs: Sequence[Reading], turns: int) -> tuple[str, float, str]:
        """What a conversation that asks nothing is: news or small talk."""
        if any(r.turn.is_bot for r in theirs):
            return "fyi", 0.9, "written by a bot"
        cheerful = any(r.has("positive") or "!" in r.tokens for r in theirs)
        informs = any(r.has_link or r.turn.attachments for r in theirs)
        if not informs and (cheerful or sum(len(r.tokens) for r in theirs) <= 4):
            return "social", 0.6, "a remark that asks nothing"
        return "fyi", 0.5, "tells and asks nothing"

    def _advertises(self, readings: Sequence[Reading]) -> bool:
        """Whether there is a link and a cue of the spam category, if the taxonomy has one."""
        spam = self._place.get("spam")
        return any(r.has_link for r in readings) and any(
            h.role == CATEGORY and h.phrase.value == spam for r in readings for h in r.hits
        )
