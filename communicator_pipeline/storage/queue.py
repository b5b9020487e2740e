"""The ingestion queue: what was pushed and has not landed yet.

Belongs here: putting, leasing, acknowledging, putting off, burying; how deep it is. Does not belong
here: verifying a push (`platforms/`), landing it (`ingestion/push.py`).

At least once, in no order that anybody may rely on; a late acknowledgement does no harm, because
landing the same again changes nothing. These are the terms of Cloudflare Queues too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from communicator_pipeline.storage.database import (
    Database,
    MayGoOn,
    Statement,
    carry_rows,
    delete_in_parts,
    for_ever,
    utc_text,
)

LARGEST_BODY = 2**20  # bytes
LEASE = timedelta(seconds=30)
MOST_FAILURES = 5
MOST_LEASES = 25
"""A push that was taken so often and neither landed nor failed kills whoever takes it."""

MOST_WAITING = 100_000
"""Pushes of an account that may wait: above it platforms are told to come again later, which they
do, and the disk is not filled by one of them."""

REMEMBERED = timedelta(days=8)
"""How long a landed push is known by its key. Slack tries again for an hour, X and Telegram for a
day; seven days are asked for."""

EDGE_FIGURES = "edge_queue"
"""The installation's setting that says what waits at the edge, as of the last minute: `waiting`,
`oldest` (UTC, None if nothing does) and `dead`."""

_MOST_BYTES = 16 * 2**20  # of bodies in one lease: a burst of large ones must fit into memory

_MOST_SEEN = 20_000  # rows that one lease looks at, of all accounts together

_WAITING = (  # account after account by the index: one costs a look, however much of it waits
    "WITH RECURSIVE waiting (account) AS ("
    "SELECT min(account) FROM pushes WHERE state = 'waiting' UNION ALL "
    "SELECT (SELECT min(account) FROM pushes WHERE state = 'waiting' "
    "AND account > waiting.account) FROM waiting WHERE waiting.account IS NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class QueuedPush:
    """A verified push."""

    account: str
    key: str  # the same when the platform pushes the same again
    body: str


@dataclass(frozen=True, slots=True)
class LeasedPush:
    push_id: int
    account: str
    key: str
    body: str
    failures: int
    leases: int


@dataclass(frozen=True, slots=True)
class QueueDepth:
    waiting: int
    oldest: str | None  # when the oldest that waits was received: UTC, as the database spells it
    dead: int


class IngestionQueue:
    """The queue, as a table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, pushes: Sequence[QueuedPush]) -> None:
        """Keep the pushes; durable when it returns. One that is known already is not kept twice."""
        now = utc_text(datetime.now(UTC))
        statements: list[Statement] = [
            (
                # An account that was removed a moment ago must not fail the others' pushes.
                "INSERT OR IGNORE INTO pushes (account, push_key, body, received_at, visible_at) "
                "SELECT ?1, ?2, ?3, ?4, ?4 "
                "WHERE EXISTS (SELECT 1 FROM accounts WHERE account = ?1)",
                (push.account, push.key, push.body, now),
            )
            for push in pushes
        ]
        self._database.batch(statements)

    def lease(self, most: int = 1_000, now: datetime | None = None) -> list[LeasedPush]:
        """Take some that wait, of each account the oldest first; nobody else gets them for the
        length of a lease. Accounts share `most`: a flood of one keeps no other waiting."""
        moment = now or datetime.now(UTC)
        if not self._database.execute(
            "SELECT 1 FROM pushes WHERE state = 'waiting' AND visible_at <= ? LIMIT 1",
            (utc_text(moment),),
        ):
            return []  # a look takes no lock: an idle worker looks ten times a second
        accounts = self._database.execute(f"{_WAITING} SELECT count(account) AS n FROM waiting")
        rows = self._database.execute(
            f"{_WAITING}, taken AS (SELECT p.push_id, octet_length(p.body) AS size, "
            "row_number() OVER (PARTITION BY p.account ORDER BY p.push_id) AS turn "
            "FROM waiting JOIN pushes AS p ON p.push_id IN (SELECT push_id FROM pushes AS q "
            "WHERE q.state = 'waiting' AND q.account = waiting.account AND q.visible_at <= ?2 "
            "ORDER BY q.push_id LIMIT ?5) ORDER BY turn, p.push_id LIMIT ?3) "
            "UPDATE pushes SET visible_at = ?1, leases = leases + 1 WHERE push_id IN ("
            "SELECT push_id FROM ("
            "SELECT push_id, size, sum(size) OVER (ORDER BY turn, push_id) AS total FROM taken) "
            "WHERE total - size < ?4) "
            "RETURNING push_id, account, push_key AS key, body, failures, leases",
            (
                utc_text(moment + LEASE),
                utc_text(moment),
                most,
                _MOST_BYTES,
                max(1, min(most, _MOST_SEEN // max(1, accounts[0]["n"]))),
            ),
        )
        return sorted((LeasedPush(**row) for row in rows), key=lambda push: push.push_id)

    def acknowledge(self, push_ids: Iterable[int]) -> None:
        """These have landed."""
        self._database.batch(
            list(
                carry_rows(
                    "UPDATE pushes SET state = 'landed', body = NULL WHERE push_id IN "
                    "(SELECT value ->> 'id' FROM json_each(?))",
                    ({"id": push_id} for push_id in push_ids),
                )
            )
        )

    def put_off(self, pushes: Iterable[LeasedPush], delay: timedelta, failed: bool) -> None:
        """These are to be tried again after a delay, because they `failed`, or for a fault that
        is not their own: then nothing is counted. What somebody else has taken since stays."""
        until = utc_text(datetime.now(UTC) + delay)
        self._database.batch(
            list(
                carry_rows(
                    "UPDATE pushes SET failures = failures + ?3, leases = leases - 1 + ?3, "
                    "visible_at = ?2 FROM json_each(?1) AS j WHERE push_id = j.value ->> 'id' "
                    "AND leases = j.value ->> 'leases' AND state = 'waiting'",
                    ({"id": push.push_id, "leases": push.leases} for push in pushes),
                    until,
                    int(failed),
                )
            )
        )

    def bury(self, push: LeasedPush) -> bool:
        """This one is not tried again; its body stays for whoever retries the dead letter. False
        if somebody else has taken it since, or it has landed."""
        rows = self._database.execute(
            "UPDATE pushes SET state = 'dead' WHERE push_id = ? AND leases = ? "
            "AND state = 'waiting' RETURNING push_id",
            (push.push_id, push.leases),
        )
        return bool(rows)

    def revive(self, account: str, key: str) -> bool:
        """Try a dead one again, from the beginning; False if there is none."""
        rows = self._database.execute(
            "UPDATE pushes SET state = 'waiting', failures = 0, leases = 0, visible_at = ?3 "
            "WHERE account = ?1 AND push_key = ?2 AND state = 'dead' AND body IS NOT NULL "
            "RETURNING push_id",
            (account, key, utc_text(datetime.now(UTC))),
        )
        return bool(rows)

    def depth(self, account: str | None = None) -> QueueDepth:
        row = self._database.execute(
            "SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting, "
            "min(received_at) FILTER (WHERE state = 'waiting') AS oldest, "
            "count(*) FILTER (WHERE state = 'dead') AS dead FROM pushes "
            "WHERE state <> 'landed' AND (?1 IS NULL OR account = ?1)",
            (account,),
        )[0]
        return QueueDepth(row["waiting"], row["oldest"], row["dead"])

    def full(self) -> set[str]:
        """The accounts of which no more is taken until some has landed."""
        rows = self._database.execute(
            "SELECT account FROM pushes WHERE state = 'waiting' GROUP BY account "
            "HAVING count(*) >= ?",
            (MOST_WAITING,),
        )
        return {row["account"] for row in rows}

    def forget_old(self, now: datetime, may_go_on: MayGoOn = for_ever) -> int:
        """Delete what landed, or whose dead letter was closed, and came so long ago that it is not
        pushed again; returns how many."""
        return sum(
            delete_in_parts(
                self._database,
                "pushes",
                "push_id",
                f"{condition} AND received_at < ?",
                (utc_text(now - REMEMBERED),),
                may_go_on,
            )
            for condition in (
                "state = 'landed'",
                "state = 'dead' AND NOT EXISTS (SELECT 1 FROM dead_letters AS d "
                "WHERE d.account = pushes.account AND d.source = pushes.push_key "
                "AND d.state = 'open')",
            )
        )
