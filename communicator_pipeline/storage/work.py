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
    tenant: str = ""  # the account's owner (the first, if it has several): whose turn it takes


_COLUMNS = (
    "account, day, mark, since, why, leased_until, coalesce((SELECT min(user_id) "
    "FROM account_members AS m WHERE m.account = dirty_days.account AND m.role = 'owner'), '') "
    "AS tenant"
)


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
        """All that is to be done, leased or not, in order of account and day. A message that a
        clock ahead of ours has dated tomorrow waits until then: its partition may not exist."""
        rows = self.database.execute(
            f"SELECT {_COLUMNS} FROM dirty_days "
            "WHERE mark > done_mark AND day <= ?2 AND (?1 IS NULL OR account = ?1) "
            "ORDER BY account, day",
            (account, _today()),
        )
        return [DirtyDay(**row) for row in rows]

    def depth(self, account: str) -> int:
        """How many of the account's days are to be done."""
        rows = self.database.execute(
            "SELECT count(*) AS n FROM dirty_days WHERE mark > done_mark AND account = ?",
            (account,),
        )
        return int(rows[0]["n"])

    def unleased(
        self,
        now: datetime,
        most: int,
        first_day: str = "",
        accounts: Iterable[str] | None = None,
    ) -> list[DirtyDay]:
        """What nobody is at work on, or has been touched since somebody began: of each account (of
        these, if any are given) the newest `most` days from `first_day` on. A history of years that
        is to be understood anew is not read whole each time that somebody asks what is next."""
        rows = self.database.execute(
            f"SELECT {_COLUMNS} FROM (SELECT *, row_number() OVER "
            "(PARTITION BY account ORDER BY day DESC) AS place FROM dirty_days "
            "WHERE mark > done_mark AND day BETWEEN ?3 AND ?2 "
            "AND (leased_until < ?1 OR mark > leased_mark) "
            "AND (?5 IS NULL OR account IN (SELECT value FROM json_each(?5)))) AS dirty_days "
            "WHERE place <= ?4 ORDER BY account, day",
            (
                utc_text(now),
                _today(),
                first_day,
                most,
                None if accounts is None else orjson.dumps(sorted(set(accounts))).decode(),
            ),
        )
        return [DirtyDay(**row) for row in rows]

    def lease(self, days: Sequence[DirtyDay], now: datetime, length: timedelta = LEASE) -> None:
        """Leave these days, at these marks, to a run for the length of a lease."""
        self.database.batch(
            list(
                carry_rows(
                    "UPDATE dirty_days SET leased_mark = j.value ->> 'mark', leased_until = ?2 "
                    "FROM json_each(?1) AS j WHERE account = j.value ->> 'account' "
                    "AND day = j.value ->> 'day'",
                    ({"account": d.account, "day": d.day, "mark": d.mark} for d in days),
                    utc_text(now + length),
                )
            )
        )

    def release(self, days: Sequence[DirtyDay]) -> None:
        """The run that they were leased to did not come about: who leased them since keeps them."""
        self.database.batch(
            list(
                carry_rows(
                    "UPDATE dirty_days SET leased_until = '' FROM json_each(?1) AS j "
                    "WHERE account = j.value ->> 'account' AND day = j.value ->> 'day' "
                    "AND leased_mark = j.value ->> 'mark'",
                    ({"account": d.account, "day": d.day, "mark": d.mark} for d in days),
                )
            )
        )

    def give_back(self, run_id: str) -> None:
        """The run has failed or died: what it was at work on may be asked for again at once."""
        self.database.batch(
            [
                (
                    "UPDATE dirty_days SET leased_until = '' FROM day_claims AS c "
                    "WHERE c.run_id = ?1 AND c.account = dirty_days.account "
                    "AND c.day = dirty_days.day AND c.mark = leased_mark",
                    (run_id,),
                ),
                ("DELETE FROM day_claims WHERE run_id = ?1", (run_id,)),
            ]
        )

    def claim(self, run_id: str, account: str, month: str, days: Sequence[str]) -> None:
        """Note which marks of these days this run has found, and lease them to it.

        Every day that it works on is marked first, touched or not: a run that dies half-way
        leaves all of them to be done, for it has told nobody else of what it was coming to. A step
        that is delivered twice claims once: what was touched in between, the first may have missed.
        """
        within = "substr(day, 1, 7) = ?4 AND day IN (SELECT value FROM json_each(?5))"
        named = orjson.dumps(sorted(set(days))).decode()
        now = datetime.now(UTC)
        self.database.batch(
            [
                *self._marks(account, days, "a run is at work on it", unclaimed_by=run_id),
                (
                    "INSERT OR IGNORE INTO day_claims (run_id, account, day, mark, claimed_at) "
                    "SELECT ?1, account, day, mark, ?2 FROM dirty_days "
                    f"WHERE account = ?3 AND {within}",
                    (run_id, utc_text(now), account, month, named),
                ),
                _renewal(run_id, now),
            ]
        )

    def renew(self, run_id: str) -> None:
        """The run is alive: its days stay leased to it for another lease."""
        sql, params = _renewal(run_id, datetime.now(UTC))
        self.database.execute(sql, params)

    def finish(self, run_id: str, account: str, month: str) -> None:
        """The run is through with the month: what it found is done, what came since is not."""
        mine = "run_id = ?1 AND account = ?2 AND substr(day, 1, 7) = ?3"
        self.database.batch(
            [
                (
                    "UPDATE dirty_days SET done_mark = max(done_mark, c.mark) "
                    f"FROM (SELECT day, mark FROM day_claims WHERE {mine}) AS c "
                    "WHERE account = ?2 AND dirty_days.day = c.day",
                    (run_id, account, month),
                ),
                (f"DELETE FROM day_claims WHERE {mine}", (run_id, account, month)),
                (
                    "DELETE FROM day_claims WHERE claimed_at < ?",  # left by runs that died
                    (utc_text(datetime.now(UTC) - timedelta(days=7)),),
                ),
            ]
        )

    def _marks(
        self, account: str, days: Iterable[str], why: str, unclaimed_by: str = ""
    ) -> list[Statement]:
        return list(
            carry_rows(
                "INSERT INTO dirty_days (account, day, since, why) "
                "SELECT ?2, value ->> 'day', ?3, ?4 FROM json_each(?1) WHERE NOT EXISTS ("
                "SELECT 1 FROM day_claims AS c WHERE c.run_id = ?5 AND c.account = ?2 "
                "AND c.day = value ->> 'day') "
                "ON CONFLICT (account, day) DO UPDATE SET mark = mark + 1, why = excluded.why, "
                "since = CASE WHEN mark > done_mark THEN since ELSE excluded.since END",
                ({"day": day} for day in sorted(set(days))),
                account,
                now_text(),
                why,
                unclaimed_by,
            )
        )


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _renewal(run_id: str, now: datetime) -> Statement:
    return (
        "UPDATE dirty_days SET leased_mark = c.mark, leased_until = ?2 FROM day_claims AS c "
        "WHERE c.run_id = ?1 AND c.account = dirty_days.account AND c.day = dirty_days.day",
        (run_id, utc_text(now + LEASE)),
    )
