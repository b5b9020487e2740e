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
from typing import NoReturn

import orjson

from communicator_pipeline.storage.database import Database, Row, carry_rows, now_text, utc_text
from communicator_pipeline.storage.lake import ACCOUNT_PATTERN

LONGEST_NAME = 1_000  # characters

ROLES = ("owner", "reviewer", "viewer")
"""An owner decides who is a member, a reviewer approves and sorts, a viewer reads."""


class NotFound(LookupError):
    """There is no such thing, or none that this user may see; the message says what to do."""


@dataclass(frozen=True, slots=True)
class User:
    user_id: str
    name: str
    is_admin: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """A user of an account, with their role there."""

    user_id: str
    name: str
    role: str  # one of ROLES


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


def get_user(database: Database, user_id: str) -> User:
    """One user; raises `NotFound`."""
    for user in users(database):
        if user.user_id == user_id:
            return user
    raise NotFound(f"there is no user {user_id!r}: `communicator users list` shows them")


def make_admin(database: Database, user_id: str) -> User:
    """Let a user administer the installation too; raises `NotFound`."""
    database.execute("UPDATE users SET is_admin = 1 WHERE user_id = ?", (user_id,))
    return get_user(database, user_id)


_ALONE = (
    "SELECT m.account FROM account_members AS m WHERE m.user_id = ?1 AND m.role = 'owner' "
    "AND NOT EXISTS (SELECT 1 FROM account_members AS o WHERE o.account = m.account "
    "AND o.role = 'owner' AND o.user_id <> ?1)"
)
"""The accounts that a user owns and nobody else does."""


def remove_user(database: Database, asker: str, user_id: str) -> None:
    """Remove a user with all that they sign in with; what they did stays in the audit log.

    Raises `PermissionError` unless `asker` is an administrator, `NotFound`, and `ValueError` for
    the last administrator and for whoever is the only owner of an account.
    """
    gone = "NOT EXISTS (SELECT 1 FROM users WHERE user_id = ?1)"
    removed = database.batch(
        [
            (
                "DELETE FROM users WHERE user_id = ?1 "
                "AND EXISTS (SELECT 1 FROM users WHERE user_id = ?2 AND is_admin) "
                "AND (NOT is_admin OR (SELECT count(*) FROM users WHERE is_admin) > 1) "
                f"AND NOT EXISTS ({_ALONE}) RETURNING user_id",
                (user_id, asker),
            ),
            (
                f"UPDATE conversations SET assigned_to = '' WHERE assigned_to = ?1 AND {gone}",
                (user_id,),
            ),
            (
                "UPDATE conversation_states SET assigned_to = '' "
                f"WHERE assigned_to = ?1 AND {gone}",
                (user_id,),
            ),
            (f"DELETE FROM settings WHERE scope = 'user:' || ?1 AND {gone}", (user_id,)),
        ]
    )[0]
    if not removed:
        _refuse_to_remove(database, asker, user_id)


def _refuse_to_remove(database: Database, asker: str, user_id: str) -> NoReturn:
    if not any(user.user_id == asker and user.is_admin for user in users(database)):
        raise PermissionError("only an administrator can remove a user")
    user = get_user(database, user_id)
    alone = [row["account"] for row in database.execute(_ALONE + " ORDER BY 1", (user_id,))]
    if alone:
        raise ValueError(
            f"nobody else owns {', '.join(alone)}: give each another owner "
            f"(`communicator members set ACCOUNT USER owner --user {user_id}`) or remove it "
            f"(`communicator accounts remove ACCOUNT --user {user_id}`) first"
        )
    if user.is_admin:
        raise ValueError(
            f"{user_id} is the last administrator: make somebody else one first "
            "(`communicator users add NAME --admin`)"
        )
    raise ValueError(f"{user_id} could not be removed just now: try again")


_BY_AN_OWNER = (
    "EXISTS (SELECT 1 FROM account_members WHERE account = ?1 AND user_id = ?4 AND role = 'owner')"
)
_NOT_THE_LAST = (
    "EXISTS (SELECT 1 FROM account_members WHERE account = ?1 AND user_id <> ?2 AND role = 'owner')"
)
"""Both are asked by the statement that changes: two owners at once may not take out each other."""


def set_email(database: Database, user_id: str, email: str | None) -> None:
    """Say by which address somebody else's sign-in names the user. Raises `ValueError`."""
    plain = email.strip().casefold() if email else None
    if plain is not None and not (0 < plain.find("@") < len(plain) - 1 and len(plain) <= 254):
        raise ValueError(f"{email!r} is not an e-mail address")
    if plain is not None and user_of_email(database, plain) not in (None, user_id):
        raise ValueError(f"{plain} is somebody else's address here")
    database.execute("UPDATE users SET email = ? WHERE user_id = ?", (plain, user_id))


def user_of_email(database: Database, email: str) -> str | None:
    """The user with an address; None if there is none."""
    rows = database.execute("SELECT user_id FROM users WHERE email = ?", (email.casefold(),))
    return str(rows[0]["user_id"]) if rows else None


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

    def members(self, account: str) -> list[Member]:
        """Everybody who may see the account; raises `NotFound` for another user's."""
        self.get(account)
        rows = self.database.execute(
            "SELECT m.user_id, u.name, m.role FROM account_members AS m "
            "JOIN users AS u USING (user_id) WHERE m.account = ? ORDER BY m.user_id",
            (account,),
        )
        return [Member(row["user_id"], row["name"], row["role"]) for row in rows]

    def set_member(self, account: str, user_id: str, role: str) -> None:
        """Make a user a member, or give a member another role.

        Raises `NotFound`, `PermissionError` for who is no owner, and `ValueError` for a role that
        there is not, and for taking an account's last owner from it.
        """
        if role not in ROLES:
            raise ValueError(f"{role!r} is not a role: it is one of {', '.join(ROLES)}")
        self._must_own(account)
        get_user(self.database, user_id)
        changed = self.database.execute(
            "INSERT INTO account_members (account, user_id, role) SELECT ?1, ?2, ?3 "
            f"WHERE {_BY_AN_OWNER} AND (?3 = 'owner' OR {_NOT_THE_LAST}) "
            "ON CONFLICT (account, user_id) DO UPDATE SET role = excluded.role RETURNING role",
            (account, user_id, role, self.user_id),
        )
        if not changed:
            self._must_own(account)
            raise _last_owner(account, user_id)

    def remove_member(self, account: str, user_id: str) -> None:
        """Take an account from a user; what was assigned to them there is nobody's then.

        Raises `NotFound`, `PermissionError` for who is no owner, `ValueError` for the last owner.
        """
        self._must_own(account)
        gone = (
            "account = ?1 AND assigned_to = ?2 AND NOT EXISTS (SELECT 1 FROM account_members "
            "WHERE account = ?1 AND user_id = ?2)"
        )
        removed = self.database.batch(
            [
                (
                    "DELETE FROM account_members WHERE account = ?1 AND user_id = ?2 "
                    f"AND {_BY_AN_OWNER} AND {_NOT_THE_LAST} RETURNING user_id",
                    (account, user_id, None, self.user_id),
                ),
                (f"UPDATE conversations SET assigned_to = '' WHERE {gone}", (account, user_id)),
                (
                    f"UPDATE conversation_states SET assigned_to = '' WHERE {gone}",
                    (account, user_id),
                ),
            ]
        )[0]
        if removed:
            return
        self._must_own(account)
        if user_id not in [member.user_id for member in self.members(account)]:
            raise NotFound(
                f"{user_id!r} is no member of {account}: `communicator members list {account}`"
            )
        raise _last_owner(account, user_id)

    def _must_own(self, account: str) -> None:
        self.get(account)
        roles = {member.user_id: member.role for member in self.members(account)}
        role = roles.get(self.user_id)
        if role != "owner":
            raise PermissionError(f"you are a {role} of {account}: only an owner can do this")


def _last_owner(account: str, user_id: str) -> ValueError:
    return ValueError(
        f"{user_id} is the last owner of {account}: make somebody else one first "
        f"(`communicator members set {account} USER owner`)"
    )


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
