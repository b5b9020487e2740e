"""Times as exports spell them → microseconds since 1970 UTC, and the UTC day of these.

Belongs here: what every platform's times must satisfy. Does not belong here: a spelling that only
one platform has.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400_000_000
_LAST = 84_006 * _DAY  # 2200-01-01: what lies behind it is a mistaken unit, not a time


@lru_cache(maxsize=4096)
def _day(number: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=number)).isoformat()


def day_of(micros: int) -> str:
    """The UTC day of a moment; raises ValueError for one that no message can have."""
    if not 0 <= micros < _LAST:
        raise ValueError("its time is not between the years 1970 and 2200")
    return _day(micros // _DAY)


def moment(micros: int) -> datetime:
    """The moment as a datetime in UTC."""
    return EPOCH + timedelta(microseconds=micros)


def micros_of(when: datetime) -> int:
    """Microseconds since 1970 UTC of a datetime that has a zone."""
    return (when - EPOCH) // timedelta(microseconds=1)


def iso_micros(text: str) -> int:
    """An ISO 8601 time that names its zone, in microseconds; raises ValueError."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is not a time: write it as 2026-11-03T09:12:44Z") from None
    if when.tzinfo is None:
        raise ValueError(
            f"{text!r} does not say its time zone: write 2026-11-03T09:12:44Z or …+01:00"
        )
    try:
        return micros_of(when)
    except OverflowError:
        raise ValueError(f"{text!r} is not a time that a message can have") from None
