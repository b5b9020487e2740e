"""What is to be done: landings that are under way, and days that want to be materialised.

Belongs here: marking days dirty, leasing and claiming them, taking them off. Does not belong
here: doing the work (`assets/`), deciding which run does it (`sensors.py`).

A day's `mark` grows with every touch. A run notes at its start which marks it found, and at
its end takes off only those that have not grown since: what came meanwhile stays to be done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from communicator_pipeline.storage.database import (
    Database,
    Statement,
    carry_rows,
    now_text,
    utc_text,
)
from communicator_pipeline.storage.objects import ObjectStore

LEASE = timedelta(minutes=10)
"""How long a requested day is left to its run before it is asked for again."""

ABANDONED_LANDING = timedelta(hours=1)
"""An intent whose file has not come by then: its writer is dead, or about to write again."""


@dataclass(frozen=True, slots=True)
class DirtyDay:
    account: str
    day: str
    mark: int
    since: str  # UTC, as `utc_text` spells it
    why: str
    leased_until: str = ""  # UTC; empty if nobody has been at work on it


class WorkQueue:
    """The table `dirty_days` and what leads to it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def intend_landing(self, account: str, days: Mapping[str, Sequence[str]]) -> None:
        """Say, before any of them is written, which objects will hold which days."""
        self.database.batch(
            list(
                carry_rows(
                    "INSERT OR IGNORE INTO landing_intents (object_key, account, days, created_at) "
                    "SELECT value ->> 'key', ?2, value ->> 'days', ?3 FROM json_each(?1)",
                    ({"key": key, "days": list(of)} for key, of in days.items()),
                    account,
                    now_text(),
                )
            )
        )

    def landed(self, account: str, days: Mapping[str, Sequence[str]]) -> None:
        """The objects are there: mark their days, and forget the intents, in one batch."""
        touched = sorted({day for of in days.values() for day in of})
        keys = ({"key": key} for key in days)
        self.database.batch(
            [
                *self._marks(account, touched, "messages landed"),
                *carry_rows(
                    "DELETE FROM landing_intents WHERE object_key IN "
                    "(SELECT value ->> 'key' FROM json_each(?))",
                    keys,
                ),
            ]
        )

    def recover_landings(self, objects: ObjectStore) -> int:
        """Mark the days of files whose writer died before it could; returns how many files.

        Harmless beside a living writer: a day that is marked too early is marked again.
        """
        abandoned = utc_text(datetime.now(UTC) - ABANDONED_LANDING)
        recovered = 0
        for row in self.database.execute("SELECT * FROM landing_intents"):
            if objects.exists(row["object_key"]):
                self.landed(row["account"], {row["object_key"]: orjson.loads(row["days"])})
                recovered += 1
            elif row["created_at"] < abandoned:
                self.database.execute(
                    "DELETE FROM landing_intents WHERE object_key = ?", (row["object_key"],)
                )
        return recovered

    def mark(self, account: str, days: Iterable[str], why: str) -> None:
        """These days want to be materialised (again), for this reason."""
        self.database.batch(self._marks(account, days, why))

    def dirty(self, account: str | None = None) -> list[DirtyDay]:
        """All that is to be done, leased or not, in order of account and day."""
        rows = self.database.execute(
            "SELECT account, day, mark, since, why, leased_until FROM dirty_days "
            "WHERE ?1 IS NULL OR account = ?1 ORDER BY account, day",
            (account,),
        )
        return [DirtyDay(**row) for row in rows]

    def unleased(self, now: datetime) -> list[DirtyDay]:
        """What nobody is at work on, or has been touched since somebody began."""
        rows = self.database.execute(
            "SELECT account, day, mark, since, why, leased_until FROM dirty_days "
            "WHERE leased_until < ? OR mark > leased_mark ORDER BY account, day",
            (utc_text(now),),
        )
        return [DirtyDay(**row) for row in rows]

    def lease(self, days: Sequence[DirtyDay], now: datetime) -> None:
        """Leave these days, at these marks, to a run for the length of a lease."""
        self.database.batch(
            list(
                carry_rows(
                    "UPDATE dirty_days SET leased_mark = j.value ->> 'mark', leased_until = ?2 "
                    "FROM json_each(?1) AS j WHERE account = j.value ->> 'account' "
                    "AND day = j.value ->> 'day'",
                    ({"account": d.account, "day": d.day, "mark": d.mark} for d in days),
                    utc_text(now + LEASE),
                )
            )
        )

    def claim(self, run_id: str, account: str, month: str, days: Sequence[str]) -> None:
        """Note which marks of a month (or of some of its days) this run has found."""
        self.database.execute(
            "INSERT OR IGNORE INTO day_claims (run_id, account, day, mark, claimed_at) "
            "SELECT ?1, account, day, mark, ?2 FROM dirty_days WHERE account = ?3 "
            "AND substr(day, 1, 7) = ?4 "
            "AND (?5 = '[]' OR day IN (SELECT value FROM json_each(?5)))",
            (run_id, now_text(), account, month, orjson.dumps(list(days)).decode()),
        )

    def finish(self, run_id: str, account: str, month: str) -> None:
        """The run is through with the month: take off the marks that have not grown since."""
        mine = "run_id = ? AND account = ? AND substr(day, 1, 7) = ?"
        self.database.batch(
            [
                (
                    "DELETE FROM dirty_days WHERE EXISTS (SELECT 1 FROM day_claims AS c "
                    "WHERE c.account = dirty_days.account AND c.day = dirty_days.day "
                    "AND c.mark = dirty_days.mark AND c.run_id = ? AND c.account = ? "
                    "AND substr(c.day, 1, 7) = ?)",
                    (run_id, account, month),
                ),
                (f"DELETE FROM day_claims WHERE {mine}", (run_id, account, month)),
                (
                    "DELETE FROM day_claims WHERE claimed_at < ?",  # left by runs that died
                    (utc_text(datetime.now(UTC) - timedelta(days=7)),),
                ),
            ]
        )

    def _marks(self, account: str, days: Iterable[str], why: str) -> list[Statement]:
        return list(
            carry_rows(
                "INSERT INTO dirty_days (account, day, since, why) "
                "SELECT ?2, value ->> 'day', ?3, ?4 FROM json_each(?1) WHERE true "
                "ON CONFLICT (account, day) DO UPDATE SET mark = mark + 1, why = excluded.why",
                ({"day": day} for day in sorted(set(days))),
                account,
                now_text(),
                why,
            )
        )
