"""Users, their accounts, and the names of people and channels on the platforms.

Belongs here: who may see which account, who "me" is on a platform, what an id is called.
Does not belong here: credentials, what an account received.

What a person asks for goes through `Accounts`, which cannot be built without a user and sees
that user's accounts only. What the pipeline does for an account takes the account's key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import orjson

from communicator_pipeline.storage.database import Database, Row, carry_rows, now_text, utc_text
from communicator_pipeline.storage.lake import ACCOUNT_PATTERN

LONGEST_NAME = 1_000  # characters


class NotFound(LookupError):
    """There is no such thing, or none that this user may see; the message says what to do."""


@dataclass(frozen=True, slots=True)
class User:
    user_id: str
    name: str
    is_admin: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    account: str
    platform: str
    name: str
    me: frozenset[str]  # the owner's person ids on the platform


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody on a platform, as it named them at `seen_at` (UTC)."""

    person_id: str
    name: str
    seen_at: datetime
    handle: str = ""
    is_bot: bool = False


@dataclass(frozen=True, slots=True)
class Channel:
    """A place where messages stand, as the platform named it at `seen_at` (UTC)."""

    channel_id: str
    name: str
    kind: str
    seen_at: datetime


def users(database: Database) -> list[User]:
    rows = database.execute("SELECT user_id, name, is_admin FROM users ORDER BY user_id")
    return [User(row["user_id"], row["name"], bool(row["is_admin"])) for row in rows]


def add_user(database: Database, user_id: str, name: str) -> User:
    """Make sure that the user exists; the first one administers the installation."""
    if not ACCOUNT_PATTERN.fullmatch(user_id):
        raise ValueError(f"{user_id!r} is not a user name: use a-z, 0-9 and '-', 63 at most")
    database.execute(
        "INSERT OR IGNORE INTO users (user_id, name, is_admin, created_at) "
        "SELECT ?1, ?2, NOT EXISTS (SELECT 1 FROM users), ?3",
        (user_id, name, now_text()),
    )
    return next(user for user in users(database) if user.user_id == user_id)


class Accounts:
    """The accounts that one user may see."""

    def __init__(self, database: Database, user_id: str) -> None:
        self.database = database
        self.user_id = user_id

    def all(self) -> list[Account]:
        rows = self.database.execute(
            "SELECT a.* FROM accounts AS a JOIN account_members AS m USING (account) "
            "WHERE m.user_id = ? ORDER BY account",
            (self.user_id,),
        )
        return [_account(row) for row in rows]

    def get(self, account: str) -> Account:
        """One account; raises `NotFound` also for another user's."""
        for found in self.all():
            if found.account == account:
                return found
        known = ", ".join(a.account for a in self.all()) or "none yet"
        raise NotFound(f"there is no account {account!r} (yours: {known})")

    def add(self, account: str, platform: str, name: str) -> Account:
        """Make sure that the account exists and is this user's own."""
        if not ACCOUNT_PATTERN.fullmatch(account):
            raise ValueError(
                f"{account!r} is not an account key: use a-z, 0-9 and '-', 63 characters at most"
            )
        self.database.batch(
            [
                (
                    "INSERT OR IGNORE INTO accounts (account, platform, name, created_at) "
                    "SELECT ?1, ?2, ?3, ?4 "
                    "WHERE NOT EXISTS (SELECT 1 FROM removed_accounts WHERE account = ?1)",
                    (account, platform, name, now_text()),
                ),
                (
                    "INSERT INTO account_members (account, user_id, role) "
                    "SELECT ?1, ?2, 'owner' WHERE EXISTS "
                    "(SELECT 1 FROM accounts WHERE account = ?1) AND NOT EXISTS "
                    "(SELECT 1 FROM account_members WHERE account = ?1)",
                    (account, self.user_id),
                ),
            ]
        )
        try:
            found = self.get(account)
        except NotFound:
            if removed_accounts(self.database, account):
                raise ValueError(
                    f"the account {account!r} was removed a short while ago, and what it left is "
                    "still being deleted: choose another key with --account, or try again in two "
                    "hours"
                ) from None
            raise ValueError(f"the account key {account!r} is taken: choose another one") from None
        if found.platform != platform:
            raise ValueError(
                f"{account!r} is a {found.platform} account, this is one of {platform}: "
                "give it a key of its own with --account"
            )
        return found

    def set_me(self, account: str, me: Iterable[str]) -> Account:
        """Say who the owner is on the platform (person ids)."""
        self.get(account)
        self.database.execute(
            "UPDATE accounts SET me = ? WHERE account = ?",
            (orjson.dumps(sorted(set(me))).decode(), account),
        )
        return self.get(account)

    def people(self, account: str) -> list[Person]:
        """Everybody whom the account has met, by name."""
        self.get(account)
        rows = self.database.execute(
            "SELECT person_id, name, handle, is_bot, seen_at FROM people "
            "WHERE account = ? ORDER BY name, person_id",
            (account,),
        )
        return [
            Person(
                row["person_id"],
                row["name"],
                datetime.fromisoformat(row["seen_at"]),
                row["handle"],
                bool(row["is_bot"]),
            )
            for row in rows
        ]


def load_account(database: Database, account: str) -> Account:
    """The account that a partition names, for the pipeline; raises `NotFound`."""
    rows = database.execute("SELECT * FROM accounts WHERE account = ?", (account,))
    if not rows:
        raise NotFound(f"the partition's account {account!r} does not exist in the database")
    return _account(rows[0])


def created_at(database: Database, account: str) -> str:
    """When the account was made; raises `NotFound`. The same key may be given twice."""
    rows = database.execute("SELECT created_at FROM accounts WHERE account = ?", (account,))
    if not rows:
        raise NotFound(f"there is no account {account!r} (any more)")
    return str(rows[0]["created_at"])


def account_keys(database: Database) -> list[str]:
    """Every account of the installation: the partitions that there should be."""
    return [r["account"] for r in database.execute("SELECT account FROM accounts ORDER BY account")]


def removed_accounts(database: Database, account: str | None = None) -> list[Row]:
    """The accounts that were removed and may have left something; or this one, if it is one."""
    return database.execute(
        "SELECT * FROM removed_accounts WHERE ?1 IS NULL OR account = ?1 ORDER BY account",
        (account,),
    )


def account_owner(database: Database, account: str) -> str | None:
    """The user whose settings hold for the account; None if nobody owns it."""
    rows = database.execute(
        "SELECT user_id FROM account_members WHERE account = ? AND role = 'owner' ORDER BY user_id",
        (account,),
    )
    return rows[0]["user_id"] if rows else None


def know_people(database: Database, account: str, people: Iterable[Person]) -> None:
    """Keep names; what a platform said later wins, in whatever order it is told."""
    rows = (
        {
            "id": _plain(p.person_id),
            "name": _plain(p.name)[:LONGEST_NAME],
            "handle": _plain(p.handle)[:LONGEST_NAME],
            "bot": p.is_bot,
            "seen": utc_text(p.seen_at),
        }
        for p in people
    )
    database.batch(
        list(
            carry_rows(
                "INSERT INTO people (account, person_id, name, handle, is_bot, seen_at) "
                "SELECT ?2, value ->> 'id', value ->> 'name', value ->> 'handle', "
                "value ->> 'bot', value ->> 'seen' FROM json_each(?1) WHERE true "
                "ON CONFLICT (account, person_id) DO UPDATE SET name = excluded.name, "
                "handle = excluded.handle, is_bot = excluded.is_bot, seen_at = excluded.seen_at "
                "WHERE excluded.seen_at >= people.seen_at",
                rows,
                account,
            )
        )
    )


def know_channels(database: Database, account: str, channels: Iterable[Channel]) -> None:
    """Keep names of channels; what a platform said later wins."""
    rows = (
        {
            "id": _plain(c.channel_id),
            "name": _plain(c.name)[:LONGEST_NAME],
            "kind": c.kind,
            "seen": utc_text(c.seen_at),
        }
        for c in channels
    )
    database.batch(
        list(
            carry_rows(
                "INSERT INTO channels (account, channel_id, name, kind, seen_at) "
                "SELECT ?2, value ->> 'id', value ->> 'name', value ->> 'kind', "
                "value ->> 'seen' FROM json_each(?1) WHERE true "
                "ON CONFLICT (account, channel_id) DO UPDATE SET name = excluded.name, "
                "kind = excluded.kind, seen_at = excluded.seen_at "
                "WHERE excluded.seen_at >= channels.seen_at",
                rows,
                account,
            )
        )
    )


def directory(database: Database, account: str) -> dict[str, str]:
    """person id or channel id → name."""
    rows = database.execute(
        "SELECT person_id AS id, name FROM people WHERE account = ?1 "
        "UNION ALL SELECT channel_id, name FROM channels WHERE account = ?1",
        (account,),
    )
    return {row["id"]: row["name"] for row in rows}


def channels(database: Database, account: str) -> list[Channel]:
    """Every chat that the account has met, by name."""
    rows = database.execute(
        "SELECT channel_id, name, kind, seen_at FROM channels WHERE account = ? "
        "ORDER BY name, channel_id",
        (account,),
    )
    return [
        Channel(row["channel_id"], row["name"], row["kind"], datetime.fromisoformat(row["seen_at"]))
        for row in rows
    ]


def handles(database: Database, account: str) -> dict[str, str]:
    """person id → handle, where the platform has one."""
    rows = database.execute(
        "SELECT person_id, handle FROM people WHERE account = ? AND handle <> ''", (account,)
    )
    return {row["person_id"]: row["handle"] for row in rows}


def _plain(text: str) -> str:
    # Lone surrogates come out of broken JSON escapes and cannot be stored as UTF-8.
    return text.encode(errors="replace").decode()


def _account(row: dict[str, str]) -> Account:
    return Account(row["account"], row["platform"], row["name"], frozenset(orjson.loads(row["me"])))
