"""When a user's replies may go out: pure.

Belongs here: working hours, and the next moment within them. Does not belong here: where they are
kept (`storage/settings.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class SendingHours:
    """From `first` to `last` (not included), in a zone's own time, on some days of the week. With
    `last` before `first` they reach into the next day."""

    zone: ZoneInfo
    first: time
    last: time
    days: frozenset[int]  # 0: Monday

    def holds(self, moment: datetime) -> bool:
        """Whether a reply may go out at this moment (any zone)."""
        here = moment.astimezone(self.zone)
        now = here.time().replace(tzinfo=None)
        if self.first < self.last:
            return here.weekday() in self.days and self.first <= now < self.last
        yesterday = (here.weekday() - 1) % 7
        return (here.weekday() in self.days and now >= self.first) or (
            yesterday in self.days and now < self.last
        )

    def next_within(self, moment: datetime) -> datetime:
        """The moment itself if it is within the hours, else when they next begin; UTC."""
        if self.holds(moment):
            return moment.astimezone(UTC)
        here = moment.astimezone(self.zone)
        for later in range(8):
            day = (here + timedelta(days=later)).date()
            opening = datetime.combine(day, self.first, self.zone).astimezone(UTC)
            if day.weekday() in self.days and opening >= moment:
                return opening
        raise AssertionError("a week has one of the days")  # pragma: no cover


def read_hours(value: Mapping[str, Any] | None) -> SendingHours | None:
    """The setting `sending_hours`: `{"zone": "Europe/Berlin", "from": "08:00", "to": "18:00",
    "days": ["mon", …]}`, `days` all if left out. None: at any time. Raises `ValueError` in words.
    """
    if not value:
        return None
    try:
        zone = ZoneInfo(str(value["zone"]))
        first, last = (time.fromisoformat(str(value[key])) for key in ("from", "to"))
        days = frozenset(WEEKDAYS.index(str(d)[:3].lower()) for d in value.get("days", WEEKDAYS))
    except (KeyError, ValueError, TypeError, ZoneInfoNotFoundError) as error:
        raise ValueError(
            'sending_hours must look like {"zone": "Europe/Berlin", "from": "08:00", "to": '
            f'"18:00", "days": ["mon", "tue"]}}: {error}'
        ) from None
    if first == last or not days:
        raise ValueError("sending_hours leave no time in which anything could go out")
    return SendingHours(zone, first, last, days)
