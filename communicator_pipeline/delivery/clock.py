"""What time it is, twice: for people, and for waiting.

Belongs here: reading both clocks, and how much time went by between two readings. Does not belong
here: how long anything is to wait.

A wall clock can be set: by an hour, while a request is under way. Whoever then believes that a
lease is over, or that a quiet period has passed, sends twice. So what must really have passed is
measured by a clock that nobody sets, and the wall clock only stands in for it across restarts of
the machine and between machines.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment: `wall` in UTC; `steady` in seconds since `boot`, a name for the machine's start.
    An empty `boot`: only the wall clock is known."""

    wall: datetime
    boot: str = ""
    steady: float = 0.0

    def steady_text(self) -> str:
        """The steady half, as the database keeps it."""
        return f"{self.boot}/{self.steady:.6f}" if self.boot else ""


Clock = Callable[[], Instant]


def instant_of(wall: datetime, steady_text: str) -> Instant:
    """The moment whose halves were kept."""
    boot, _, seconds = steady_text.rpartition("/")
    return Instant(wall, boot, float(seconds)) if boot else Instant(wall)


def passed(since: Instant, now: Instant) -> timedelta:
    """How much time went by. Negative where only wall clocks tell, and one was set back."""
    if since.boot and since.boot == now.boot:
        return timedelta(seconds=now.steady - since.steady)
    return now.wall - since.wall


def read_clock() -> Instant:
    """This moment."""
    return Instant(datetime.now(UTC), _boot(), _steady())


def _steady() -> float:
    # The one that goes on while the machine sleeps, where there is one.
    boottime: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


@cache
def _boot() -> str:
    """A name for the machine's start. Where it has none, readings of two processes do not compare:
    the wall clock has to do."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
