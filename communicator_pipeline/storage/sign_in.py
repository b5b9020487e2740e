"""Who signs in, and with what: passwords, one-time links, sessions, API keys.

Belongs here: keeping and checking secrets that people bring. Does not belong here: cookies and
headers (`gateway/identity.py`), what a user may see (`accounts.py`), platform credentials.

A password is kept as an argon2id hash, every other secret as its SHA-256 digest: those are 256
random bits, which nobody guesses. What is revoked is revoked at the next request, so nothing of
this is ever cached.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.database import Database, Row, utc_text
from communicator_pipeline.storage.lake import ACCOUNT_PATTERN

SESSION_LASTS = timedelta(days=30)
IDLE_AFTER = timedelta(days=7)
"""A session that nobody used for so long is over."""

LINK_LASTS = timedelta(hours=24)

SHORTEST_PASSWORD = 12
"""Characters. NIST SP 800-63B asks for 15 where a password stands alone and 8 where it does not;
guesses are limited here besides."""

LONGEST_PASSWORD = 256  # characters: argon2 takes time by length

MOST_FAILURES = 5
MOST_FAILURES_OF_ADDRESS = 30
FAILURES_COUNT_FOR = timedelta(minutes=15)

_NOTED_EVERY = timedelta(minutes=1)  # `seen_at` and `used_at` are written no more often
_HASHER = PasswordHasher()
_KEY = re.compile(r"ck_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class NotSignedIn(ValueError):
    """The secret is not good (any more); the message says what to do, not what was wrong."""


class TooManyFailures(NotSignedIn):
    """Somebody guesses."""


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is signed in."""

    user_id: str
    name: str
    is_admin: bool
    csrf: str


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that a program brought."""

    key_id: str
    user_id: str
    is_admin: bool
    scope: str  # 'read' or 'write'


def digest_of(secret: str) -> str:
    return hashlib.sha256(_bytes_of(secret)).hexdigest()


def _bytes_of(text: str) -> bytes:
    # What a stranger sends may hold lone surrogates, which UTF-8 refuses.
    return text.encode(errors="surrogatepass")


# --- passwords and links ---------------------------------------------------------------------


def has_password(database: Database, user_id: str | None = None) -> bool:
    """Whether the user, or anybody, has set a password."""
    rows = database.execute(
        "SELECT 1 FROM passwords WHERE ?1 IS NULL OR user_id = ?1 LIMIT 1", (user_id,)
    )
    return bool(rows)


def check_new(password: str) -> None:
    """Raise `ValueError` for a password that is easy to guess."""
    password = _as_typed(password)
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ValueError(
            f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters: several words "
            "that you can remember are a good one"
        )
    if len(set(password)) < 5:
        raise ValueError("that password is easy to guess: take several words")


def _as_typed(password: str) -> str:
    """The same for the same keys: one keyboard sends an é as one sign, another one as two."""
    return unicodedata.normalize("NFKC", password[: LONGEST_PASSWORD + 1])


def set_password(database: Database, user_id: str, password: str, now: datetime) -> None:
    """Set a password, and end every session of the user. Raises `ValueError` for a weak one."""
    check_new(password)
    database.batch(
        [
            (
                "INSERT OR REPLACE INTO passwords (user_id, hash, set_at) VALUES (?, ?, ?)",
                (user_id, _HASHER.hash(_bytes_of(_as_typed(password))), utc_text(now)),
            ),
            ("DELETE FROM sessions WHERE user_id = ?", (user_id,)),
            ("DELETE FROM login_links WHERE user_id = ?", (user_id,)),
        ]
    )


def make_link(database: Database, user_id: str, now: datetime) -> str:
    """The secret of a link that signs the user in once. Earlier ones are void."""
    secret = secrets.token_urlsafe(32)
    database.batch(
        [
            ("DELETE FROM login_links WHERE user_id = ?", (user_id,)),
            (
                "INSERT INTO login_links (digest, user_id, created_at, expires_at) "
                "VALUES (?, ?, ?, ?)",
                (digest_of(secret), user_id, utc_text(now), utc_text(now + LINK_LASTS)),
            ),
        ]
    )
    return secret


def use_link(database: Database, secret: str, now: datetime) -> str:
    """Whose link it is; it is used up by that. Raises `NotSignedIn`."""
    rows = database.execute(
        "DELETE FROM login_links WHERE digest = ?1 AND expires_at > ?2 RETURNING user_id",
        (digest_of(secret), utc_text(now)),
    )
    if not rows:
        raise NotSignedIn(
            "this link was used before or is too old: ask for a new one, or make one with "
            "`communicator users link NAME`"
        )
    return str(rows[0]["user_id"])


def check_password(
    database: Database, user_id: str, password: str, address: str, now: datetime
) -> str:
    """The user who signs in so; raises `NotSignedIn`, which never says whether the name exists."""
    noted = _note_try(database, user_id, address, now)
    known = ACCOUNT_PATTERN.fullmatch(user_id)
    rows = database.execute(
        "SELECT hash FROM passwords WHERE user_id = ?", (user_id if known else "",)
    )
    # Somebody who does not exist takes as long as somebody who does.
    kept = rows[0]["hash"] if rows else _nobodys()
    given = _bytes_of(_as_typed(password))
    try:
        _HASHER.verify(kept, given)
        is_good = bool(rows)
    except (VerificationError, InvalidHashError):
        is_good = False
    if not is_good:
        raise NotSignedIn("the name or the password is not right")
    if _HASHER.check_needs_rehash(kept):
        database.execute(
            "UPDATE passwords SET hash = ?2 WHERE user_id = ?1 AND hash = ?3",
            (user_id, _HASHER.hash(given), kept),
        )
    database.execute(
        "DELETE FROM login_failures WHERE who = ?1 OR id IN (SELECT value FROM json_each(?2))",
        (_who(user_id), f"[{', '.join(map(str, noted))}]"),
    )
    return user_id


def _note_try(database: Database, user_id: str, address: str, now: datetime) -> list[int]:
    """Count a try as failed before it is made, so that many at once are no more than allowed.
    The ids of the rows; raises `TooManyFailures`."""
    since = utc_text(now - FAILURES_COUNT_FOR)
    _, noted = database.batch(
        [
            ("DELETE FROM login_failures WHERE at <= ?", (since,)),
            (
                "INSERT INTO login_failures (who, at) SELECT value, ?3 "
                "FROM json_each(json_array(?1, ?2)) "
                "WHERE (SELECT count(*) FROM login_failures WHERE who = ?1) < ?4 "
                "AND (SELECT count(*) FROM login_failures WHERE who = ?2) < ?5 RETURNING id",
                (
                    _who(user_id),
                    f"address:{address}",
                    utc_text(now),
                    MOST_FAILURES,
                    MOST_FAILURES_OF_ADDRESS,
                ),
            ),
        ]
    )
    if not noted:
        minutes = int(FAILURES_COUNT_FOR.total_seconds() // 60)
        raise TooManyFailures(f"too many tries: wait {minutes} minutes, or use a one-time link")
    return [row["id"] for row in noted]


def _who(user_id: str) -> str:
    return "user:" + user_id[:100].encode(errors="replace").decode()


@cache
def _nobodys() -> str:
    return _HASHER.hash(secrets.token_urlsafe(16))


# --- sessions --------------------------------------------------------------------------------


def open_session(database: Database, user_id: str, now: datetime) -> str:
    """A new session's secret, for the cookie."""
    secret = secrets.token_urlsafe(32)
    at = utc_text(now)
    database.batch(
        [
            ("DELETE FROM sessions WHERE expires_at <= ?", (at,)),
            (
                "INSERT INTO sessions (digest, user_id, csrf, created_at, seen_at, expires_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    digest_of(secret),
                    user_id,
                    secrets.token_urlsafe(32),
                    at,
                    at,
                    utc_text(now + SESSION_LASTS),
                ),
            ),
        ]
    )
    return secret


def session_of(
    database: Database, secret: str, now: datetime, is_use: bool = True
) -> Session | None:
    """The session of a cookie; None if it is over. `is_use`: it does not end for want of use."""
    rows = database.execute(
        "SELECT s.user_id, s.csrf, s.seen_at, u.name, u.is_admin FROM sessions AS s "
        "JOIN users AS u USING (user_id) WHERE s.digest = ?1 AND s.expires_at > ?2 "
        "AND s.seen_at > ?3",
        (digest_of(secret), utc_text(now), utc_text(now - IDLE_AFTER)),
    )
    if not rows:
        return None
    row = rows[0]
    if is_use and row["seen_at"] < utc_text(now - _NOTED_EVERY):
        database.execute(
            "UPDATE sessions SET seen_at = ?2 WHERE digest = ?1", (digest_of(secret), utc_text(now))
        )
    return Session(row["user_id"], row["name"], bool(row["is_admin"]), row["csrf"])


def close_session(database: Database, secret: str) -> None:
    database.execute("DELETE FROM sessions WHERE digest = ?", (digest_of(secret),))


# --- API keys --------------------------------------------------------------------------------


def make_key(database: Database, user_id: str, name: str, scope: str, now: datetime) -> str:
    """A new key, which is shown this once. `scope`: 'read' or 'write'."""
    if scope not in ("read", "write"):
        raise ValueError(f"a key's scope is 'read' or 'write', not {scope!r}")
    if not name.strip() or len(name) > 100:
        raise ValueError("give the key a name of 1 to 100 characters, to know it by")
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    database.execute(
        "INSERT INTO api_keys (key_id, user_id, name, scope, digest, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (key_id, user_id, name.strip(), scope, digest_of(secret), utc_text(now)),
    )
    return f"ck_{key_id}_{secret}"


def key_of(database: Database, text: str, now: datetime) -> ApiKey | None:
    """The key that a program brought; None if it is none, or revoked."""
    shape = _KEY.fullmatch(text)
    if shape is None:
        return None
    key_id, secret = shape.groups()
    rows = database.execute(
        "SELECT k.key_id, k.user_id, k.scope, k.digest, k.used_at, u.is_admin FROM api_keys AS k "
        "JOIN users AS u USING (user_id) WHERE k.key_id = ? AND k.revoked_at IS NULL",
        (key_id,),
    )
    if not rows or not hmac.compare_digest(rows[0]["digest"], digest_of(secret)):
        return None
    row = rows[0]
    if (row["used_at"] or "") < utc_text(now - _NOTED_EVERY):
        database.execute(
            "UPDATE api_keys SET used_at = ?2 WHERE key_id = ?1", (key_id, utc_text(now))
        )
    return ApiKey(row["key_id"], row["user_id"], bool(row["is_admin"]), row["scope"])


def keys_of(database: Database, user_id: str) -> list[Row]:
    """The user's keys without their secrets, the newest first."""
    return database.execute(
        "SELECT key_id, name, scope, created_at, used_at, revoked_at FROM api_keys "
        "WHERE user_id = ? ORDER BY created_at DESC, key_id",
        (user_id,),
    )


def revoke_key(database: Database, user_id: str, key_id: str, now: datetime) -> None:
    """Revoke a key, from the next request on; raises `NotFound`, also for another user's."""
    rows = database.execute(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?3) WHERE user_id = ?1 "
        "AND key_id = ?2 RETURNING key_id",
        (user_id, key_id, utc_text(now)),
    )
    if not rows:
        raise NotFound(f"there is no API key {key_id!r} among yours: `communicator keys list`")
