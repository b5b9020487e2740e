"""How fast and how many at once a model may be asked, counted across all processes.

Belongs here: when the next call may begin, who may have how many under way, how long nobody asks.
Does not belong here: why a call failed (`endpoints/`), what is done then (`model.py`).

The counters stand in the database, so they hold for every process and machine of an
installation, whose clocks must agree to within a second. A look at the database costs a REST
call on D1: moments are reserved several at a time.
"""

from __future__ import annotations

import secrets
import threading
import time
from datetime import UTC, datetime, timedelta

from communicator_pipeline.storage.database import Database, now_text

RESERVED_AT_ONCE = 10
"""Moments per look at the database. A process that dies wastes no more than these."""

BELATED = 1_000
"""Milliseconds by which a reserved moment may be used late."""

HOLDS = 30.0
"""Seconds after which the share of a holder that no longer renews it is free."""

RENEWED_AFTER = 5.0  # seconds


def _now() -> int:
    return int(time.time() * 1000)


class Pace:
    """The moments at which calls to one endpoint may begin, evenly spaced over the minute."""

    def __init__(self, database: Database, endpoint: str, per_minute: int) -> None:
        self._database = database
        self._endpoint = endpoint
        self._interval = 60_000 / per_minute  # milliseconds
        self._lock = threading.Lock()
        self._reserved: list[float] = []

    def next_moment(self, expected: int = 1) -> float:
        """When the next call may begin, as `time.time()` counts; `expected` more will follow."""
        with self._lock:
            # Moments that went by unused are lost: made up for together, they would be a burst.
            self._reserved = [m for m in self._reserved if m >= _now() - BELATED]
            if not self._reserved:
                self._reserved = self._reserve(max(1, min(expected, RESERVED_AT_ONCE)))
            return self._reserved.pop(0) / 1000

    def _reserve(self, count: int) -> list[float]:
        length = round(self._interval * count)
        after = self._database.execute(
            "INSERT INTO model_endpoints (endpoint, next_call) VALUES (?1, ?2 + ?3) "
            "ON CONFLICT (endpoint) DO UPDATE SET next_call = max(next_call, ?2) + ?3 "
            "RETURNING next_call",
            (self._endpoint, _now(), length),
        )[0]["next_call"]
        return [after - length + self._interval * number for number in range(count)]


class Share:
    """How many calls to one endpoint this holder may have under way.

    Holders divide what is allowed among themselves, and together never have more. Whoever comes
    waits until another one's next renewal makes room. Batches leave one free: a person who waits
    for a draft must not wait for a backfill.
    """

    def __init__(self, database: Database, endpoint: str, allowed: int, wanted: int) -> None:
        self._database = database
        self._endpoint = endpoint
        self._allowed = allowed if wanted == 1 else max(1, allowed - 1)
        self._wanted = wanted
        self._holder = secrets.token_hex(8)
        self._renewed = 0.0
        self.size = 0

    def renew(self, under_way: int) -> int:
        """The share from now on; never below what is under way already."""
        if self.size and time.monotonic() - self._renewed < RENEWED_AFTER:
            return self.size
        now = _now()
        answers = self._database.batch(
            [
                ("DELETE FROM model_shares WHERE until < ?", (now,)),
                (
                    "INSERT INTO model_shares (endpoint, holder, share, until) "
                    "VALUES (?1, ?2, 0, ?3) "
                    "ON CONFLICT (endpoint, holder) DO UPDATE SET until = excluded.until",
                    (self._endpoint, self._holder, now + int(HOLDS * 1000)),
                ),
                (
                    "UPDATE model_shares SET share = max(?3, min(?4, "
                    "max(1, ?5 / (SELECT count(*) FROM model_shares WHERE endpoint = ?1)), "
                    "?5 - (SELECT coalesce(sum(share), 0) FROM model_shares "
                    "WHERE endpoint = ?1 AND holder <> ?2))) "
                    "WHERE endpoint = ?1 AND holder = ?2 RETURNING share",
                    (self._endpoint, self._holder, under_way, self._wanted, self._allowed),
                ),
            ]
        )
        self.size = int(answers[-1][0]["share"])
        self._renewed = time.monotonic()
        return self.size

    def give_back(self) -> None:
        self._database.execute(
            "DELETE FROM model_shares WHERE endpoint = ? AND holder = ?",
            (self._endpoint, self._holder),
        )


def block(database: Database, endpoint: str, until: datetime, words: str) -> None:
    """Nobody asks the endpoint before then; the words are for the operator."""
    moment = int(until.timestamp() * 1000)
    database.execute(
        "INSERT INTO model_endpoints (endpoint, blocked_until, trouble, trouble_at) "
        "VALUES (?1, ?2, ?3, ?4) ON CONFLICT (endpoint) DO UPDATE SET "
        "blocked_until = max(blocked_until, ?2), trouble = ?3, trouble_at = ?4",
        (endpoint, moment, words, now_text()),
    )


def unblock(database: Database, endpoint: str) -> None:
    """It answered: whatever the trouble was, it is over."""
    database.execute(
        "UPDATE model_endpoints SET blocked_until = 0, trouble = '', trouble_at = NULL "
        "WHERE endpoint = ? AND trouble <> ''",
        (endpoint,),
    )


def trouble_with(database: Database, endpoint: str) -> tuple[datetime, str] | None:
    """Until when nobody asks the endpoint, and why; None if it may be asked."""
    rows = database.execute(
        "SELECT blocked_until, trouble FROM model_endpoints "
        "WHERE endpoint = ? AND blocked_until > ?",
        (endpoint, _now()),
    )
    if not rows:
        return None
    return datetime.fromtimestamp(rows[0]["blocked_until"] / 1000, UTC), rows[0]["trouble"]


def next_midnight(now: datetime) -> datetime:
    """Cloudflare's allowance begins anew at 00:00 UTC."""
    return (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
