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
    "social": 1.1,
    "scheduling": 1.0,
    "sales": 1.0,
    "support": 1.0,
    "incident": 1.3,
    "spam": 1.0,
}

_OPENING = 1.0  # what a conversation is about is said at its start, whoever starts it
_LATER = 0.3
_FURTHER = (1.0, 0.6, 0.4, 0.2, 0.1)
_LONGEST_OPENING = 3  # messages
_TIME_ROLES = frozenset({"weekday", "day", "month", "end_of_week", "end_of_day"})
_NODS = frozenset("👍🙏👌✅")  # end a piece of work as often as small talk
_WISHES = ("question", "scheduling")
_WITHOUT_FORM = 0.5  # what their cues count where nobody asks
_PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".heic", ".mp4", ".mov", ".webm", ".ogg")
_SHORT = 12  # tokens of a remark
_ENDS = frozenset("?!.")  # folded punctuation that ends a sentence
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

    def sort(self, readings: Sequence[Reading], kind: str, asks_me: bool) -> Choice:
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
        shape = self._shape(readings, kind, asks_me)
        if not any(name in _WISHES for name, _, _ in shape):
            for name in _WISHES:
                if name in self._place:
                    scores[self._place[name]] *= _WITHOUT_FORM
        for name, points, reason in shape:
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

    def _shape(
        self, readings: Sequence[Reading], kind: str, asks_me: bool
    ) -> list[tuple[str, float, str]]:
        """What the form of the messages says: category, points, reason."""
        if not readings:
            return []
        found: list[tuple[str, float, str]] = []
        opening = readings[: _opening(readings)]
        if opening[0].turn.is_bot:  # it asks nobody here, but passes on what was said elsewhere
            found.append(("fyi", 0.9, "written by a bot"))
        else:
            found += _wish(opening, kind)
            if not found and not asks_me:
                found.append(_remark(opening, kind))
            if not found or found[0][0] in ("fyi", "social"):
                found += _later_wish(readings[len(opening) :])
        if kind != "channel" and not any(r.has("asks") for r in opening):
            if any(_is_warm(r) for r in opening):
                found.append(("social", 0.4, "is said in a warm tone"))
            if len(readings) > 2 and 2 * sum(map(_is_playful, readings)) >= len(readings):
                found.append(("social", 0.6, "is full of laughter and emoji"))
        theirs = [r for r in readings if not r.turn.from_me]
        if len(theirs) == len(readings) and self._advertises(theirs):
            found.append(("spam", 0.9, "advertises a link"))
        return found

    def _advertises(self, readings: Sequence[Reading]) -> bool:
        """Whether there is a link and a cue of the spam category, if the taxonomy has one."""
        spam = self._place.get("spam")
        return any(r.has_link for r in readings) and any(
            h.role == CATEGORY and h.phrase.value == spam for r in readings for h in r.hits
        )


def _wish(opening: Sequence[Reading], kind: str) -> list[tuple[str, float, str]]:
    """What the opening wants of others: something done, an answer, a time; else nothing."""
    asks = any(r.has("asks") for r in opening)
    questions = any(r.questions for r in opening)
    if asks and not questions and _is_broadcast(opening, kind):
        found = [
            ("request", 0.6, "asks for something"),
            ("fyi", 0.6, "speaks to everybody and asks nobody"),
        ]
    elif asks:
        found = [("request", 1.0, "asks for something")]
    elif questions:
        found = [("question", 1.0, "has a question mark")]
    elif any(r.has("question_words") for r in opening):
        found = [("question", 0.6, "is worded as a question")]
    else:
        return []
    if any(_asks_about_a_time(r) for r in opening):
        found.append(("scheduling", 0.7 if asks else 0.9, "asks about a day or a time"))
    elif any(names_a_time(r) for r in opening):
        found.append(("scheduling", 0.4, "asks something and names a day or a time"))
    return found


def _later_wish(answers: Sequence[Reading]) -> list[tuple[str, float, str]]:
    """News to which somebody answers with a question or a wish is about that too."""
    for reading in answers:
        if reading.has("asks"):
            return [("request", 0.5, "leads to a request")]
        if reading.questions:
            return [("question", 0.4, "leads to a question")]
    return []


def _remark(opening: Sequence[Reading], kind: str) -> tuple[str, float, str]:
    """What an opening that asks nothing is: news or small talk."""
    informs = any(_informs(r) for r in opening)
    if not informs and any(_is_warm(r) for r in opening):
        return "social", 0.8, "a warm remark that asks nothing"
    if not informs and kind != "channel" and sum(len(r.tokens) for r in opening) <= _SHORT:
        return "social", 0.6, "a remark that asks and tells nothing"
    return "fyi", 0.8 if kind in ("feed", "channel") else 0.5, "tells and asks nothing"


def _informs(reading: Reading) -> bool:
    """Whether there is a fact to take away: a link, a document, a number, a day or a time."""
    return (
        reading.has_link
        or any(not name.lower().endswith(_PICTURES) for name in reading.turn.attachments)
        or any(t[0].isdigit() for t in reading.tokens)
        or names_a_time(reading)
    )


def _is_broadcast(opening: Sequence[Reading], kind: str) -> bool:
    """Whether the opening speaks to all who read a public place and names none of them."""
    return kind in ("feed", "channel") and not any(r.turn.mentions for r in opening)


def _is_warm(reading: Reading) -> bool:
    # A colon is read as a smiley, for better and for worse: it says nothing here.
    return "!" in reading.tokens or any(
        h.role == "positive" and h.phrase.text[0] != ":" for h in reading.hits
    )


def _is_playful(reading: Reading) -> bool:
    """Whether somebody laughs, exclaims or shows a picture, which a thumb up is not."""
    return "!" in reading.tokens or any(
        (t >= "\U0001f300" or "\u2600" <= t <= "\u27bf") and t not in _NODS for t in reading.tokens
    )


def _asks_about_a_time(reading: Reading) -> bool:
    """Whether a day or an hour stands in a sentence that ends with a question mark."""
    if not reading.questions or not names_a_time(reading):
        return False
    tokens = reading.tokens
    places = [h.start for h in reading.hits if h.role in _TIME_ROLES]
    places += [i for i, t in enumerate(tokens) if t[0].isdigit() and not t.isdigit()]
    return any(next((t for t in tokens[i:] if t in _ENDS), "") == "?" for i in places)
