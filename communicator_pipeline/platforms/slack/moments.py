"""Slack's `ts`: a time that is also an id.

Belongs here: ts texts and what they mean. Does not belong here: messages.

A ts is text and stays text: as a float it loses its last digits, and names another message.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

_TS = re.compile(r"(\d{9,11})\.(\d{6})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(ts: str) -> int:
    """A Slack ts (`1355517523.000005`) in microseconds since 1970 UTC; raises ValueError."""
    if len(ts) == 17 and ts[10] == "." and ts.isascii():
        whole, part = ts[:10], ts[11:]
        if whole.isdecimal() and part.isdecimal():
            return int(whole) * 1_000_000 + int(part)
    match = _TS.fullmatch(ts)
    if not match:
        raise ValueError(f"ts should look like 1355517523.000005, it is {ts!r}")
    return int(match[1]) * 1_000_000 + int(match[2])


def is_ts(value: object) -> bool:
    return isinstance(value, str) and _TS.fullmatch(value) is not None


def time_of(ts: str) -> datetime:
    """When that was, UTC; raises ValueError."""
    return _EPOCH + timedelta(microseconds=micros(ts))


def ts_of(moment: datetime) -> str:
    """The ts of a moment, to ask Slack for what was sent before or after it."""
    whole = (moment - _EPOCH) // timedelta(microseconds=1)
    return f"{whole // 1_000_000}.{whole % 1_000_000:06d}"


def day_of(ts: str) -> str:
    """The UTC day on which that was: `2026-11-03`."""
    return _day(micros(ts) // 86_400_000_000)


@lru_cache(maxsize=4096)
def _day(number: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=number)).isoformat()
