"""The tables `notification_targets` and `notifications`.

Belongs here: keeping targets (their addresses encrypted), what is to be told, who sends it, what
became of it. Does not belong here: what is worth telling and when (`notifying/`).

What a person asks for goes through `Targets` and `Told`, which cannot be built without a user. What
the pipeline does is a function.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.credentials import KeyMissing, Keyring
from communicator_pipeline.storage.database import Database, Row, carry_rows, utc_text

MOST_TARGETS = 10
"""Of one user. With half a minute each, a claim is over before `LOST_AFTER`."""

LOST_AFTER = timedelta(minutes=10)
"""Who has claimed a message and not come back after so long is dead."""

KEPT_FOR = timedelta(days=90)
"""What has been told is forgotten then. What notices looks back a day at most."""

LOST = "what sent it ended before it heard of the result: it may have arrived"

Kind = Literal["urgent", "digest", "failed_runs", "dead_letters", "dead_tokens"]
KINDS: tuple[Kind, ...] = ("urgent", "digest", "failed_runs", "dead_letters", "dead_tokens")
OPERATORS: tuple[Kind, ...] = ("failed_runs", "dead_letters", "dead_tokens")
"""What administrators are told of the installation."""

_TARGET = "target_id, user_id, name, shown, operators, created_at, told_at, trouble, trouble_since"


@dataclass(frozen=True, slots=True)
class Target:
    """A target with its address, decrypted. Never print it."""

    target_id: str
    user_id: str
    name: str
    operators: bool
    created_at: str
    url: str | None = field(repr=False)  # None: the key that opens it is not here


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a user is to be told of; `cause` makes it one thing."""

    kind: Kind
    cause: str
    account: str | None = None
    conversation_id: str | None = None
    line: str = ""


class Targets:
    """The targets of one user. Raises `NotFound` for what is not theirs."""

    def __init__(self, database: Database, user_id: str) -> None:
        self.database = database
        self.user_id = user_id

    def all(self) -> list[Row]:
        """All of them, without their addresses, by name."""
        rows = self.database.execute(
            f"SELECT {_TARGET} FROM notification_targets WHERE user_id = ? ORDER BY name",
            (self.user_id,),
        )
        return [row | {"operators": bool(row["operators"])} for row in rows]

    def get(self, target_id: str, keys: Keyring) -> Target:
        """One of them, with its address; raises `NotFound`."""
        rows = self.database.execute(
            "SELECT * FROM notification_targets WHERE user_id = ? AND target_id = ?",
            (self.user_id, target_id),
        )
        if not rows:
            raise _no_target(target_id)
        return _opened(rows[0], keys)

    def called(self, name: str) -> str:
        """The id of the one with a name; raises `NotFound`."""
        found = [row["target_id"] for row in self.all() if row["name"] == name]
        if not found:
            raise _no_target(name)
        return str(found[0])

    def add(
        self, keys: Keyring, name: str, url: str, shown: str, operators: bool, now: datetime
    ) -> str:
        """Keep one; returns its id. Raises `ValueError` for a name that is taken, and for one too
        many."""
        target_id = secrets.token_hex(8)
        with keys.held():
            added = self.database.execute(
                "INSERT INTO notification_targets (target_id, user_id, name, shown, sealed, "
                "operators, created_at) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE (SELECT count(*) "
                f"FROM notification_targets WHERE user_id = ?2) < {MOST_TARGETS} "
                "ON CONFLICT (user_id, name) DO NOTHING RETURNING target_id",
                (
                    target_id,
                    self.user_id,
                    name,
                    shown,
                    keys.seal({"url": url}),
                    int(operators),
                    utc_text(now),
                ),
            )
        if added:
            return target_id
        if any(row["name"] == name for row in self.all()):
            raise ValueError(f"you have a target {name!r} already: remove it, or choose a name")
        raise ValueError(f"{MOST_TARGETS} targets are the most: remove one first")

    def remove(self, target_id: str) -> str:
        """Forget one; returns its name. Raises `NotFound`."""
        rows = self.database.execute(
            "DELETE FROM notification_targets WHERE user_id = ? AND target_id = ? RETURNING name",
            (self.user_id, target_id),
        )
        if not rows:
            raise _no_target(target_id)
        return str(rows[0]["name"])


class Told:
    """What one user was told of, and what not."""

    def __init__(self, database: Database, user_id: str) -> None:
        self.database = database
        self.user_id = user_id

    def log(self, before: int | None, limit: int) -> list[Row]:
        """The newest first. `before`: an `id`."""
        return self.database.execute(
            "SELECT n.id, n.kind, n.account, n.conversation_id, n.line, n.state, n.noticed_at, "
            "n.ended_at, n.why FROM notifications AS n WHERE n.user_id = ?1 "
            "AND (?2 IS NULL OR n.id < ?2) AND (n.kind NOT IN ('urgent') OR EXISTS (SELECT 1 "
            "FROM account_members AS m WHERE m.account = n.account AND m.user_id = ?1)) "
            "ORDER BY n.id DESC LIMIT ?3",
            (self.user_id, before, limit),
        )

    def days_of_digests(self) -> list[str]:
        """The UTC days whose digests the user was sent, or is to be, the newest last."""
        rows = self.database.execute(
            "SELECT line FROM notifications WHERE user_id = ? AND kind = 'digest' "
            "AND state <> 'over'",
            (self.user_id,),
        )
        return sorted({day for row in rows for day in row["line"].split()})


# --- the pipeline ----------------------------------------------------------------------------


def users_to_tell(database: Database) -> list[Row]:
    """Who has a target: user_id, is_admin, and since when they are told of the installation."""
    return database.execute(
        "SELECT u.user_id, u.is_admin, min(iif(t.operators, t.created_at, NULL)) AS "
        "operator_since FROM notification_targets AS t JOIN users AS u USING (user_id) "
        "GROUP BY u.user_id, u.is_admin ORDER BY u.user_id"
    )


def targets_of(stores: Stores, user_id: str) -> list[Target]:
    """A user's targets with their addresses."""
    rows = stores.database.execute(
        "SELECT * FROM notification_targets WHERE user_id = ? ORDER BY name", (user_id,)
    )
    return [_opened(row, stores.keys) for row in rows]


def troubled_targets(database: Database) -> list[Row]:
    """Whose target did not take the last message: user_id, name, trouble, trouble_since."""
    return database.execute(
        "SELECT user_id, name, trouble, trouble_since FROM notification_targets "
        "WHERE trouble <> '' ORDER BY user_id, name"
    )


def note_result(database: Database, target_id: str, trouble: str, now: datetime) -> None:
    """What a target made of a message: `trouble` in words, empty if it took it."""
    database.execute(
        "UPDATE notification_targets SET trouble = ?2, "
        "told_at = CASE ?2 WHEN '' THEN ?3 ELSE told_at END, "
        "trouble_since = CASE ?2 WHEN '' THEN NULL ELSE coalesce(trouble_since, ?3) END "
        "WHERE target_id = ?1",
        (target_id, trouble, utc_text(now)),
    )


def notice(database: Database, user_id: str, notices: Iterable[Notice], now: datetime) -> None:
    """Note what the user is to be told; what was noted before stays as it is."""
    database.batch(
        list(
            carry_rows(
                "INSERT INTO notifications (user_id, kind, cause, account, conversation_id, line, "
                "noticed_at) SELECT ?2, value ->> 'kind', value ->> 'cause', value ->> 'account', "
                "value ->> 'conversation_id', value ->> 'line', ?3 FROM json_each(?1) "
                "WHERE EXISTS (SELECT 1 FROM users WHERE user_id = ?2) "
                "AND (value ->> 'account' IS NULL OR EXISTS (SELECT 1 FROM accounts "
                "WHERE account = value ->> 'account')) ON CONFLICT DO NOTHING",
                (
                    {
                        "kind": one.kind,
                        "cause": one.cause,
                        "account": one.account,
                        "conversation_id": one.conversation_id,
                        "line": one.line,
                    }
                    for one in notices
                ),
                user_id,
                utc_text(now),
            )
        )
    )


def last_noticed(database: Database, user_id: str, since: datetime) -> dict[tuple[str, str], str]:
    """(account, conversation) → when the user was last told that it is urgent, or is to be."""
    rows = database.execute(
        "SELECT account, conversation_id, max(noticed_at) AS at FROM notifications "
        "WHERE user_id = ? AND kind = 'urgent' AND state <> 'over' AND noticed_at > ? "
        "GROUP BY account, conversation_id",
        (user_id, utc_text(since)),
    )
    return {(row["account"], row["conversation_id"]): row["at"] for row in rows}


def waiting(database: Database, now: datetime) -> list[Row]:
    """What waits to be told and may be tried now: id, user_id, kind, account, conversation_id, and
    when the last message of the kind left."""
    return database.execute(
        "SELECT id, user_id, kind, account, conversation_id, (SELECT max(claimed_at) "
        "FROM notifications AS n WHERE n.user_id = w.user_id AND n.kind = w.kind) "
        "AS last_claimed_at FROM notifications AS w "
        "WHERE state = 'waiting' AND not_before <= ? ORDER BY user_id, kind, id",
        (utc_text(now),),
    )


def is_over(database: Database, ids: Sequence[int], why: str, now: datetime) -> None:
    """What waited need not be told any more."""
    database.batch(
        list(
            carry_rows(
                "UPDATE notifications SET state = 'over', why = ?2, ended_at = ?3 "
                "WHERE state = 'waiting' AND id IN (SELECT value ->> 'id' FROM json_each(?1))",
                ({"id": number} for number in ids),
                why,
                utc_text(now),
            )
        )
    )


def claim(
    database: Database, user_id: str, kind: Kind, gap: timedelta, now: datetime
) -> tuple[str, list[Row]]:
    """Take all of a kind that waits for a user: the claim, and the rows. None if another process
    is at it, or if the last message of the kind left less than `gap` ago."""
    mine = secrets.token_hex(8)
    rows = database.execute(
        "UPDATE notifications SET state = 'sending', claim = ?3, claimed_at = ?4, "
        "attempts = attempts + 1 WHERE user_id = ?1 AND kind = ?2 AND state = 'waiting' "
        "AND not_before <= ?4 AND NOT EXISTS (SELECT 1 FROM notifications AS n "
        "WHERE n.user_id = ?1 AND n.kind = ?2 AND n.claimed_at > ?5 AND n.claimed_at <= ?4) "
        "RETURNING id, kind, account, conversation_id, line, attempts",
        (user_id, kind, mine, utc_text(now), utc_text(now - gap)),
    )
    return mine, sorted(rows, key=lambda row: int(row["id"]))


def told(database: Database, mine: str, now: datetime) -> None:
    """What was claimed has been told."""
    database.execute(
        "UPDATE notifications SET state = 'told', ended_at = ?2, why = '' "
        "WHERE claim = ?1 AND state = 'sending'",
        (mine, utc_text(now)),
    )


def refused(
    database: Database, mine: str, why: str, again_in: timedelta, most: int, now: datetime
) -> None:
    """No target took what was claimed: it waits for another try, unless it has had `most`."""
    database.execute(
        "UPDATE notifications SET state = iif(attempts < ?4, 'waiting', 'not_told'), why = ?2, "
        "not_before = ?3, ended_at = iif(attempts < ?4, NULL, ?5) "
        "WHERE claim = ?1 AND state = 'sending'",
        (mine, why, utc_text(now + again_in), most, utc_text(now)),
    )


def settle(database: Database, now: datetime) -> None:
    """What was claimed by who has died is not told a second time; what is old is forgotten."""
    at = utc_text(now)
    database.batch(
        [
            (
                "UPDATE notifications SET state = 'not_told', why = ?1, ended_at = ?2 "
                "WHERE state = 'sending' AND (claimed_at < ?3 OR claimed_at > ?4)",
                (LOST, at, utc_text(now - LOST_AFTER), utc_text(now + LOST_AFTER)),
            ),
            (
                "DELETE FROM notifications WHERE noticed_at < ? "
                "AND state NOT IN ('waiting', 'sending')",
                (utc_text(now - KEPT_FOR),),
            ),
        ]
    )


def new_dead_letters(database: Database, since: str) -> list[Row]:
    """Open letters that were buried since (UTC, as `utc_text` spells it): dead_letter_id, account,
    stage, first_seen_at."""
    return database.execute(
        "SELECT dead_letter_id, account, stage, first_seen_at FROM dead_letters "
        "WHERE state = 'open' AND first_seen_at > ? ORDER BY first_seen_at, dead_letter_id "
        "LIMIT 1000",
        (since,),
    )


def _opened(row: Mapping[str, Any], keys: Keyring) -> Target:
    try:
        url = keys.open(row["sealed"])["url"]
    except KeyMissing:
        url = None
    return Target(
        row["target_id"],
        row["user_id"],
        row["name"],
        bool(row["operators"]),
        row["created_at"],
        url,
    )


def _no_target(which: str) -> NotFound:
    return NotFound(f"you have no notification target {which!r}: `communicator notify list`")
