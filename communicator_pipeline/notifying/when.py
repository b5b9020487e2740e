"""When a user is told: quiet hours, and the moment of the day's digest. Pure.

Belongs here: reading both settings, and deciding by them. Does not belong here: what is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from communicator_pipeline.delivery.hours import WEEKDAYS, SendingHours

MOST_DAYS = 3
"""Of one digest: what is older is on the page of digests."""

_QUIET_LOOKS = 'quiet_hours must look like {"from": "22:00", "to": "07:00", "days": ["mon", "tue"]}'


def read_zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name; raises `ValueError`."""
    if name not in available_timezones():
        raise ValueError(f"{name!r} is no time zone: give one as Europe/Berlin, or UTC")
    return ZoneInfo(name)


def read_time(text: str) -> time:
    """A time of day as `08:00`; raises `ValueError`."""
    try:
        found = datetime.strptime(text, "%H:%M").time()
    except ValueError:
        raise ValueError(f"{text!r} is no time of day: give one as 08:00") from None
    return found


def read_quiet(value: Mapping[str, Any] | None, zone: ZoneInfo) -> SendingHours | None:
    """The setting `quiet_hours`: `{"from": "22:00", "to": "07:00", "days": ["mon", …]}` in the
    user's own time, `days` all if left out: those on which they begin. None: never quiet. Raises
    `ValueError` in words."""
    if not value:
        return None
    if not set(value) <= {"from", "to", "days"} or not {"from", "to"} <= set(value):
        raise ValueError(_QUIET_LOOKS)
    named = value.get("days", WEEKDAYS)
    if not isinstance(named, list | tuple) or not all(day in WEEKDAYS for day in named):
        raise ValueError(f"{_QUIET_LOOKS}: the days are {', '.join(WEEKDAYS)}")
    first, last = read_time(str(value["from"])), read_time(str(value["to"]))
    if first == last or not named:
        raise ValueError("quiet hours begin and end at different times, and on one day at least")
    return SendingHours(zone, first, last, frozenset(WEEKDAYS.index(day) for day in named))


def digest_day(now: datetime, zone: ZoneInfo, at: time) -> date | None:
    """The user's own day whose digest is due at a moment: today once it is `at`, else none.

    A time that the clock skips in spring counts as soon as it is past; one that it shows twice in
    autumn has come the first time. A moment that was missed is made up for until midnight.
    """
    here = now.astimezone(zone)
    return here.date() if here.time().replace(tzinfo=None) >= at else None


def days_to_digest(now: datetime, sent: Sequence[str]) -> list[str]:
    """The UTC days that a digest is of: those that have ended since the last one that was sent, the
    newest `MOST_DAYS` at most; of the first digest, the last day that has ended. Each day is in one
    digest, whatever the clocks do."""
    last = now.astimezone(UTC).date() - timedelta(days=1)
    if not sent:
        return [last.isoformat()]
    days: list[str] = []
    while last.isoformat() > max(sent) and len(days) < MOST_DAYS:
        days.append(last.isoformat())
        last -= timedelta(days=1)
    return days[::-1]
