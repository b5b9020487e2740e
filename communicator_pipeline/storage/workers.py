"""Which workers live, and what they leave to others: whoever stands in for them must know.

Belongs here: the heartbeat. Does not belong here: what a worker does (`worker.py`).
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from socket import gethostname

from communicator_pipeline.storage.database import Database, utc_text

BEAT_EVERY = timedelta(seconds=3)
DEAD_AFTER = timedelta(seconds=12)
"""A worker that has not been heard of for so long is dead. Both at work do no harm."""


class Workers:
    """The table `workers`. `leaves_history`: what this process says of itself as a worker."""

    def __init__(self, database: Database, leaves_history: bool = False) -> None:
        self._database = database
        self._leaves_history = leaves_history
        self.me = f"{gethostname()}:{os.getpid()}"

    def beat(self, now: datetime) -> None:
        """Say that this process is a worker that lives."""
        self._database.batch(
            [
                (
                    "INSERT INTO workers (worker, started_at, beat_at, leaves_history) "
                    "VALUES (?1, ?2, ?2, ?3) ON CONFLICT (worker) DO UPDATE SET "
                    "beat_at = excluded.beat_at, leaves_history = excluded.leaves_history",
                    (self.me, utc_text(now), int(self._leaves_history)),
                ),
                (
                    "DELETE FROM workers WHERE beat_at < ?",
                    (utc_text(now - 100 * DEAD_AFTER),),
                ),
            ]
        )

    def leave(self) -> None:
        """This process is no worker any more."""
        self._database.execute("DELETE FROM workers WHERE worker = ?", (self.me,))

    def living(self, now: datetime) -> list[str]:
        rows = self._database.execute(
            "SELECT worker FROM workers WHERE beat_at > ? ORDER BY worker",
            (utc_text(now - DEAD_AFTER),),
        )
        return [row["worker"] for row in rows]

    def leaving_history(self, now: datetime) -> list[bool]:
        """Of each worker that lives, whether it leaves history to runs that Dagster launches."""
        rows = self._database.execute(
            "SELECT leaves_history FROM workers WHERE beat_at > ? ORDER BY worker",
            (utc_text(now - DEAD_AFTER),),
        )
        return [bool(row["leaves_history"]) for row in rows]
