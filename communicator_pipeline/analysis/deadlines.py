"""By when something is wanted: "by Friday 14:00", "bis morgen", "до пятницы", "周五之前".

Belongs here: dates and times said relative to when a message was sent. Does not belong here:
how many points a deadline is worth (`priority.py`).

The sender's time zone is not known: a clock time is taken as UTC, a day ends at 18:00 UTC.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from communicator_pipeline.analysis.needs_reply import applies
from communicator_pipeline.analysis.phrases import Hit
from communicator_pipeline.analysis.reading import Reading

END_OF_DAY = 18  # hour, UTC
REACH = 6
"""Tokens between "by" and the day or time that it introduces."""

_CLOCK = re.compile(r"([01]?\d|2[0-3])[:.]([0-5]\d)")
_HOUR = re.compile(r"(\d{1,2})(am|pm|h|uhr|ч)(\d\d)?")
_ISO = re.compile(r"(20\d\d)[-./](\d{1,2})[-./](\d{1,2})")
_DAY_MONTH = re.compile(r"(\d{1,2})[./](\d{1,2})\.?(?:[./](20\d\d|\d\d))?")
_LIMITS = frozenset({"due", "due_after"})
_DATED = frozenset({"weekday", "day", "month", "end_of_week", "end_of_day"})


@dataclass(frozen=True, slots=True)
class Deadline:
    """When, UTC; the words that said it; whether they said that it is a limit ("by")."""

    at: datetime
    words: str
    strict: bool


def names_a_time(reading: Reading) -> bool:
    """Whether a message names a day, or an hour as people write it."""
    return not _DATED.isdisjoint(reading.roles) or any(
        t[0].isdigit() and (_CLOCK.fullmatch(t) or _HOUR.fullmatch(t)) for t in reading.tokens
    )


def deadline_of(reading: Reading, language: str) -> Deadline | None:
    """The first deadline a message names, else the first day or time it names, else None."""
    if _LIMITS.isdisjoint(reading.roles) and _DATED.isdisjoint(reading.roles):
        return None
    hits = [h for h in reading.hits if applies(h, language)]
    dated = [h for h in hits if h.role in _DATED]
    limits = [h for h in hits if h.role in ("due", "due_after")]
    if not dated and not limits:
        return None
    for limit in limits:
        if limit.phrase.role == "due":
            first, last = limit.end, limit.end + REACH
        else:
            first, last = max(0, limit.start - REACH), limit.start
        found = _within(reading, dated, first, last, limit)
        if found:
            return found
    for day in dated:
        if day.phrase.role != "month":
            found = _within(reading, dated, day.start, day.end + 4, None)
            if found:
                return found
    return None


def _within(
    reading: Reading, dated: Sequence[Hit], first: int, last: int, limit: Hit | None
) -> Deadline | None:
    last = min(last, len(reading.tokens))
    for position in range(first, last):
        if reading.tokens[position] in "?!.\n":
            last = position
            break
    inside = [h for h in dated if first <= h.start < last]
    sent = reading.turn.sent_at.astimezone(UTC)
    day, used = _day(reading, inside, first, last, sent)
    hour, minute, clock = _clock(reading, first, last)
    if day is None and clock is None:
        return None
    if day is None:
        day = sent.replace(hour=0, minute=0, second=0, microsecond=0)
    at = day.replace(hour=END_OF_DAY, minute=0, second=0, microsecond=0)
    if clock is not None:
        at = at.replace(hour=hour, minute=minute)
        used = [*used, clock]
        if at < sent and not inside:
            at += timedelta(days=1)
    return Deadline(at, _words(reading, used, limit), limit is not None)


def _words(reading: Reading, used: Sequence[int], limit: Hit | None) -> str:
    positions = [*used]
    if limit is not None:
        positions += range(limit.start, limit.end)
    first, last = min(positions), max(positions) + 1
    words = reading.raw[first:last]
    text = ""
    for word in words:
        glued = "\u3400" <= word[0] <= "\u9fff" or word[0] in ",.:，、" or not text
        text += word if glued or "\u3400" <= text[-1] <= "\u9fff" else " " + word
    return text


def _day(
    reading: Reading, inside: Sequence[Hit], first: int, last: int, sent: datetime
) -> tuple[datetime | None, list[int]]:
    for position in range(first, last):
        token = reading.tokens[position]
        if not token[0].isdigit():
            continue
        day = _numeric_day(token, sent)
        if day is not None:
            return day, [position]
    order = {"day": 0, "weekday": 0, "month": 0, "end_of_day": 1, "end_of_week": 1}
    # The longest reading wins at one place: "day after tomorrow" over "tomorrow".
    for hit in sorted(inside, key=lambda h: (order[h.role], h.start, h.start - h.end)):
        positions = list(range(hit.start, hit.end))
        role, value = hit.role, hit.phrase.value
        if role == "day":
            return sent + timedelta(days=value), positions
        if role == "weekday":
            return sent + timedelta(days=(value - sent.weekday()) % 7 or 7), positions
        if role == "end_of_day":
            return sent, positions
        if role == "end_of_week":
            return sent + timedelta(days=(4 - sent.weekday()) % 7), positions
        number = _day_of_month(reading, hit)
        if number is not None:
            moment = _date(sent.year, value, number, sent)
            if moment is not None:
                return moment, [number_place(reading, hit), *positions]
    return None, []


def number_place(reading: Reading, month: Hit) -> int:
    """Where the day of the month stands: before the month, or after it."""
    for position in (month.start - 1, month.end, month.start - 2):
        if 0 <= position < len(reading.tokens) and _ordinal(reading.tokens[position]):
            return position
    return month.start


def _day_of_month(reading: Reading, month: Hit) -> int | None:
    return _ordinal(reading.tokens[number_place(reading, month)])


def _ordinal(token: str) -> int | None:
    found = re.fullmatch(r"(\d{1,2})(?:st|nd|rd|th|er|е|го|\.)?", token)
    return int(found[1]) if found and 1 <= int(found[1]) <= 31 else None


def _numeric_day(token: str, sent: datetime) -> datetime | None:
    if found := _ISO.fullmatch(token):
        return _date(int(found[1]), int(found[2]), int(found[3]), sent)
    found = _DAY_MONTH.fullmatch(token)
    if not found or (_CLOCK.fullmatch(token) and "." in token and not found[3]):
        return None
    year = int(found[3]) if found[3] else sent.year
    return _date(year + 2000 if year < 100 else year, int(found[2]), int(found[1]), sent)


def _date(year: int, month: int, day: int, sent: datetime) -> datetime | None:
    try:
        moment = sent.replace(year=year, month=month, day=day)
        if moment < sent - timedelta(days=180):
            moment = moment.replace(year=year + 1)
    except ValueError:
        return None
    return moment


def _clock(reading: Reading, first: int, last: int) -> tuple[int, int, int | None]:
    for position in range(first, last):
        token = reading.tokens[position]
        if not token[0].isdigit():
            continue
        if found := _CLOCK.fullmatch(token):
            return int(found[1]), int(found[2]), position
        if found := _HOUR.fullmatch(token):
            hour = int(found[1]) % 12 + 12 if found[2] == "pm" else int(found[1])
            if hour < 24:
                return hour, int(found[3] or 0), position
        follows = reading.tokens[position + 1] if position + 1 < len(reading.tokens) else ""
        if token.isdigit() and int(token) < 24 and follows in ("点", "uhr", "am", "pm", "h"):
            hour = int(token) + (12 if follows == "pm" and int(token) < 12 else 0)
            return hour, 0, position
    return 0, 0, None
