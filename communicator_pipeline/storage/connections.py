"""Live accounts: how they log in, what they read, how far they have come, how they are.

Belongs here: the tables behind a connection. Does not belong here: what a platform does with it
(`platforms/`), pulling (`ingestion/pull.py`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import orjson

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import NotFound, load_account
from communicator_pipeline.storage.credentials import redact
from communicator_pipeline.storage.database import (
    Database,
    Row,
    carry_rows,
    from_utc_text,
    now_text,
    utc_text,
)

PULL_LEASE = timedelta(minutes=5)
"""How long an account is left to whoever pulls it; renewed with every page."""

FURTHEST_AHEAD = timedelta(hours=25)
"""An account is put off for a day at most, and leased for minutes. Whoever is to wait for longer
(but for its own cadence) was written down by a clock that was ahead."""

STALLED_AFTER = timedelta(hours=1)
"""An account that nobody has pulled for so long (or ten of its cadences) has stalled."""

PUSH_TROUBLE = "what is pushed cannot be landed: "
"""How words begin that a pull's success does not refute."""

TroubleKind = Literal["", "login needed", "over budget", "unreachable", "fault", "stalled"]
Rule = Literal["include", "exclude", "mute"]


@dataclass(frozen=True, slots=True)
class Connection:
    """An account's way to its platform: what `login` gave, decrypted. Never print it."""

    account: str
    me: frozenset[str]  # the owner's person ids, as `identity` gave them
    settings: Mapping[str, str]  # values of the fields that are no secret
    secrets: Mapping[str, str] = field(repr=False)  # values of those that are

    def setting(self, name: str, default: str = "") -> str:
        return self.settings.get(name) or default


@dataclass(frozen=True, slots=True)
class DueAccount:
    """An account that wants to be pulled, and whose turn it takes."""

    account: str
    platform: str
    tenant: str  # its owner (the first, if it has several); "" if nobody's


@dataclass(frozen=True, slots=True)
class Chats:
    """Which chats an account reads. Muted ones are read, and never ask for a reply."""

    rules: Mapping[str, Rule] = field(default_factory=dict)
    only_included: bool = False

    def wants(self, channel_id: str, default: bool = True) -> bool:
        """Whether to read the chat; `default` is what the platform does with its kind unasked
        (broadcast channels: False)."""
        rule = self.rules.get(channel_id)
        if rule is None:
            return default and not self.only_included
        return rule != "exclude"


class Window(NamedTuple):
    """A stretch of history: `first` <= sent_at < `last`, UTC."""

    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Health:
    """How a connection is: for the inbox, the digest, the checks and `accounts list`."""

    account: str
    platform: str
    state: str  # 'active' or 'paused'
    trouble_kind: TroubleKind
    trouble: str  # in words; empty if there is none
    trouble_since: str | None  # UTC, as the database spells it
    repair: str  # the command that mends it; empty if there is nothing to mend
    pulled_at: str | None
    news_at: str | None
    next_pull_at: str
    waits_until: str | None  # the platform's limit
    why_waits: str
    notices: tuple[str, ...]
    cost_usd: float  # this month


@dataclass(frozen=True, slots=True)
class HistoryWindow:
    """A stretch of history that was asked for."""

    account: str
    window: Window
    done: float  # 0…1
    finished: bool
    not_before: str = ""  # UTC, as the database spells it: it has failed, and rests
    trouble: str = ""  # in words


class Connections:
    """The connections of the installation."""

    def __init__(self, stores: Stores) -> None:
        self._database = stores.database
        self._keys = stores.keys

    # --- credentials

    def save(
        self,
        account: str,
        settings: Mapping[str, str],
        secret: Mapping[str, str],
        cadence: timedelta,
        covered_since: datetime,
    ) -> None:
        """Keep what a login gave. An account that was connected before keeps its cursors, and is
        well again."""
        with self._keys.held():
            self._database.execute(
                "INSERT INTO connections (account, settings, secrets, covered_since, "
                "every_seconds, next_pull_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6) "
                "ON CONFLICT (account) DO UPDATE SET settings = excluded.settings, "
                "secrets = excluded.secrets, failures = 0, trouble = '', trouble_kind = '', "
                "trouble_since = NULL, next_pull_at = excluded.next_pull_at",
                (
                    account,
                    orjson.dumps(dict(settings)).decode(),
                    self._keys.seal(secret),
                    utc_text(covered_since),
                    max(1, round(cadence.total_seconds())),
                    now_text(),
                ),
            )

    def load(self, account: str) -> Connection:
        """The connection, decrypted; raises `NotFound` or `KeyMissing`."""
        row = self._row(account)
        return Connection(
            account,
            load_account(self._database, account).me,
            orjson.loads(row["settings"]),
            self._keys.open(row["secrets"]),
        )

    def exists(self, account: str) -> bool:
        return bool(
            self._database.execute("SELECT 1 FROM connections WHERE account = ?", (account,))
        )

    def settings(self, account: str) -> dict[str, str]:
        """The settings that are no secret."""
        found: dict[str, str] = orjson.loads(self._row(account)["settings"])
        return found

    def set_settings(self, account: str, settings: Mapping[str, str]) -> None:
        """Replace the settings that are no secret; the account is tried again at once."""
        self._row(account)
        self._database.execute(
            "UPDATE connections SET settings = ?, next_pull_at = ?, failures = 0, trouble = '', "
            "trouble_kind = '', trouble_since = NULL WHERE account = ?",
            (orjson.dumps(dict(settings)).decode(), now_text(), account),
        )

    def set_cadence(self, account: str, cadence: timedelta) -> None:
        self._row(account)
        self._database.execute(
            "UPDATE connections SET every_seconds = ?, next_pull_at = ? WHERE account = ?",
            (max(1, round(cadence.total_seconds())), now_text(), account),
        )

    # --- what is read

    def chats(self, account: str) -> Chats:
        row = self._row(account)
        return Chats(self.rules(account), bool(row["only_included"]))

    def rules(self, account: str) -> dict[str, Rule]:
        rows = self._database.execute(
            "SELECT channel_id, rule FROM chat_rules WHERE account = ?", (account,)
        )
        return {row["channel_id"]: row["rule"] for row in rows}

    def set_rules(self, account: str, rules: Mapping[str, Rule | None]) -> None:
        """Set, or with None take back, the rules of some chats."""
        gone = [channel for channel, rule in rules.items() if rule is None]
        kept = {channel: rule for channel, rule in rules.items() if rule is not None}
        self._database.batch(
            [
                *carry_rows(
                    "DELETE FROM chat_rules WHERE account = ?2 "
                    "AND channel_id IN (SELECT value ->> 'id' FROM json_each(?1))",
                    ({"id": channel} for channel in gone),
                    account,
                ),
                *carry_rows(
                    "INSERT OR REPLACE INTO chat_rules (account, channel_id, rule) "
                    "SELECT ?2, value ->> 'id', value ->> 'rule' FROM json_each(?1)",
                    ({"id": channel, "rule": rule} for channel, rule in kept.items()),
                    account,
                ),
            ]
        )

    def read_only_included(self, account: str, only: bool) -> None:
        self._row(account)
        self._database.execute(
            "UPDATE connections SET only_included = ? WHERE account = ?", (int(only), account)
        )

    def pause(self, account: str, paused: bool = True) -> None:
        self._row(account)
        self._database.execute(
            "UPDATE connections SET state = ?, next_pull_at = ? WHERE account = ?",
            ("paused" if paused else "active", now_text(), account),
        )

    # --- pulling

    def due(self, now: datetime) -> list[DueAccount]:
        """The accounts that want to be pulled now, the longest due first."""
        rows = self._database.execute(
            "SELECT c.account, a.platform, coalesce((SELECT min(m.user_id) "
            "FROM account_members AS m WHERE m.account = c.account AND m.role = 'owner'), '') "
            "AS tenant FROM connections AS c JOIN accounts AS a ON a.account = c.account "
            "LEFT JOIN platform_waits AS w ON w.scope = 'account:' || c.account AND w.until > ?1 "
            "WHERE c.state = 'active' AND (c.next_pull_at <= ?1 OR c.next_pull_at > "
            "max(?2, strftime('%Y-%m-%dT%H:%M:%fZ', ?1, (2 * c.every_seconds) || ' seconds'))) "
            "AND (c.lease_until <= ?1 OR c.lease_until > ?2) "
            "AND w.scope IS NULL ORDER BY c.next_pull_at, c.account",
            (utc_text(now), utc_text(now + FURTHEST_AHEAD)),
        )
        return [DueAccount(**row) for row in rows]

    def lease(self, account: str, now: datetime) -> str | None:
        """Take an account for a pull; returns the lease, or None if somebody is at it."""
        holder = secrets.token_hex(8)
        rows = self._database.execute(
            "UPDATE connections SET lease_holder = ?2, lease_until = ?3 "
            "WHERE account = ?1 AND (lease_until <= ?4 OR lease_until > ?5) RETURNING account",
            (
                account,
                holder,
                utc_text(now + PULL_LEASE),
                utc_text(now),
                utc_text(now + FURTHEST_AHEAD),
            ),
        )
        return holder if rows else None

    def renew(self, account: str, lease: str, now: datetime) -> bool:
        """Keep the lease for longer; False if it was lost."""
        rows = self._database.execute(
            "UPDATE connections SET lease_until = ?3 "
            "WHERE account = ?1 AND lease_holder = ?2 RETURNING account",
            (account, lease, utc_text(now + PULL_LEASE)),
        )
        return bool(rows)

    def release(self, account: str, lease: str) -> None:
        self._database.execute(
            "UPDATE connections SET lease_holder = '', lease_until = '' "
            "WHERE account = ?1 AND lease_holder = ?2",
            (account, lease),
        )

    def covered_since(self, account: str) -> datetime:
        return from_utc_text(self._row(account)["covered_since"])

    def cursors(self, account: str, scope: str) -> dict[str, str]:
        rows = self._database.execute(
            "SELECT stream, position FROM cursors WHERE account = ? AND scope = ?",
            (account, scope),
        )
        return {row["stream"]: row["position"] for row in rows}

    def move_cursors(
        self, account: str, scope: str, cursors: Mapping[str, str], lease: str | None = None
    ) -> None:
        """Note how far a pull has come: only after what came before is durable. With a `lease`
        only while it is held."""
        if not cursors:
            return
        gone = [stream for stream, position in cursors.items() if position == ""]
        held = (
            "(?4 IS NULL OR EXISTS "
            "(SELECT 1 FROM connections WHERE account = ?2 AND lease_holder = ?4))"
        )
        self._database.batch(
            [
                *carry_rows(
                    "INSERT INTO cursors (account, scope, stream, position, moved_at) "
                    "SELECT ?2, ?3, value ->> 's', value ->> 'p', ?5 FROM json_each(?1) "
                    f"WHERE {held} "
                    "ON CONFLICT (account, scope, stream) DO UPDATE SET "
                    "position = excluded.position, moved_at = excluded.moved_at",
                    ({"s": s, "p": p} for s, p in cursors.items() if p != ""),
                    account,
                    scope,
                    lease,
                    now_text(),
                ),
                *carry_rows(
                    "DELETE FROM cursors WHERE account = ?2 AND scope = ?3 "
                    f"AND {held} AND stream IN (SELECT value ->> 's' FROM json_each(?1))",
                    ({"s": stream} for stream in gone),
                    account,
                    scope,
                    lease,
                ),
            ]
        )

    def forget_cursors(self, account: str, scope: str) -> None:
        self._database.execute(
            "DELETE FROM cursors WHERE account = ? AND scope = ?", (account, scope)
        )

    # --- limits

    def waits(self, now: datetime) -> dict[str, datetime]:
        """Scope → not before, of all limits that stand."""
        rows = self._database.execute(
            "SELECT scope, until FROM platform_waits WHERE until > ?", (utc_text(now),)
        )
        return {row["scope"]: from_utc_text(row["until"]) for row in rows}

    def wait(self, account: str, scope: str, until: datetime, why: str) -> None:
        """Keep a limit. A later deadline stays."""
        self._database.batch(
            [
                (
                    "INSERT INTO platform_waits (scope, account, until, why) "
                    "SELECT ?1, ?2, ?3, ?4 "
                    "WHERE EXISTS (SELECT 1 FROM accounts WHERE account = ?2) "
                    "ON CONFLICT (scope) DO UPDATE SET account = excluded.account, "
                    "until = max(until, excluded.until), why = excluded.why",
                    (scope or account_scope(account), account, utc_text(until), why),
                ),
                ("DELETE FROM platform_waits WHERE until < ?", (now_text(),)),
            ]
        )

    def forget_waits(self, account: str) -> None:
        """Ask again at once: for whoever knows that the limit is gone."""
        self._database.batch(
            [
                ("DELETE FROM platform_waits WHERE account = ?", (account,)),
                (
                    "UPDATE connections SET next_pull_at = ? WHERE account = ?",
                    (now_text(), account),
                ),
            ]
        )

    # --- how it went

    def note_success(
        self, account: str, now: datetime, had_news: bool, notices: Sequence[str]
    ) -> None:
        """A pull came to its end."""
        row = self._row(account)
        self._database.execute(
            "UPDATE connections SET pulled_at = ?2, news_at = CASE WHEN ?3 THEN ?2 ELSE news_at "
            "END, failures = 0, notices = ?4, next_pull_at = ?5 WHERE account = ?1",
            (
                account,
                utc_text(now),
                int(had_news),
                orjson.dumps(list(notices)[:100]).decode(),
                utc_text(now + timedelta(seconds=row["every_seconds"])),
            ),
        )
        if row["trouble_kind"] and not row["trouble"].startswith(PUSH_TROUBLE):
            self._well_again(account)

    def note_push_trouble(self, account: str, kind: TroubleKind, words: str) -> None:
        """What was pushed waits, for a fault that is not its own."""
        self._database.execute(
            "UPDATE connections SET trouble_kind = ?2, trouble = ?3, "
            "trouble_since = coalesce(trouble_since, ?4) WHERE account = ?1",
            (account, kind, PUSH_TROUBLE + words, now_text()),
        )

    def note_push_success(self, account: str) -> None:
        """What was pushed has landed: a look, and a write only if there was trouble."""
        if self._row(account)["trouble"].startswith(PUSH_TROUBLE):
            self._well_again(account)

    def _well_again(self, account: str) -> None:
        self._database.execute(
            "UPDATE connections SET trouble = '', trouble_kind = '', trouble_since = NULL "
            "WHERE account = ?",
            (account,),
        )

    def note_trouble(
        self, account: str, kind: TroubleKind, words: str, next_pull_at: datetime, failures: int
    ) -> None:
        """A pull failed; `trouble_since` stays that of the first in a row."""
        self._database.execute(
            "UPDATE connections SET trouble_kind = ?2, trouble = ?3, "
            "trouble_since = coalesce(trouble_since, ?4), failures = ?5, next_pull_at = ?6 "
            "WHERE account = ?1",
            (account, kind, words, now_text(), failures, utc_text(next_pull_at)),
        )

    def put_off(self, account: str, until: datetime) -> None:
        self._database.execute(
            "UPDATE connections SET next_pull_at = max(next_pull_at, ?2) WHERE account = ?1",
            (account, utc_text(until)),
        )

    def failures(self, account: str) -> int:
        return int(self._row(account)["failures"])

    def cadence(self, account: str) -> timedelta:
        return timedelta(seconds=self._row(account)["every_seconds"])

    def health(self, account: str) -> Health:
        """How one connection is; raises `NotFound`."""
        found = self.healths([account])
        if not found:
            raise NotFound(_not_connected(account))
        return found[0]

    def healths(self, accounts: Iterable[str] | None = None) -> list[Health]:
        """How the connections are; of these accounts only, if any are named."""
        now = datetime.now(UTC)
        named = None if accounts is None else orjson.dumps(sorted(accounts)).decode()
        rows = self._database.execute(
            "SELECT c.*, a.platform, w.until, w.why, (SELECT coalesce(sum(usd), 0) "
            "FROM platform_costs AS p WHERE p.account = c.account AND p.day >= ?3) AS usd "
            "FROM connections AS c JOIN accounts AS a USING (account) LEFT JOIN "
            "(SELECT account, max(until) AS until, why FROM platform_waits WHERE until > ?2 "
            "GROUP BY account) AS w USING (account) "
            "WHERE ?1 IS NULL OR account IN (SELECT value FROM json_each(?1)) ORDER BY account",
            (named, utc_text(now), f"{now:%Y-%m}-01"),
        )
        return [_health(row, now) for row in rows]

    # --- history

    def ask_for_history(self, account: str, window: Window) -> None:
        """Note that a stretch of history is wanted: whoever has time pulls it."""
        self._database.execute(
            "INSERT OR IGNORE INTO history_windows (account, first, last, asked_at) "
            "VALUES (?, ?, ?, ?)",
            (account, utc_text(window.first), utc_text(window.last), now_text()),
        )

    def history_progress(self, account: str, window: Window, done: float) -> None:
        """How much of a window is through; of one that is, the cursors are not needed any more."""
        self._database.execute(
            "UPDATE history_windows SET done = max(done, ?4), not_before = '', trouble = '', "
            "done_at = CASE WHEN ?4 >= 1 THEN ?5 ELSE done_at END "
            "WHERE account = ?1 AND first = ?2 AND last = ?3",
            (account, utc_text(window.first), utc_text(window.last), done, now_text()),
        )
        if done >= 1:
            self.forget_cursors(account, window_scope(window))

    def put_off_history(self, account: str, window: Window, until: datetime, words: str) -> None:
        """A window met trouble: it rests, and what is new goes on."""
        self._database.execute(
            "UPDATE history_windows SET not_before = ?4, trouble = ?5 "
            "WHERE account = ?1 AND first = ?2 AND last = ?3",
            (
                account,
                utc_text(window.first),
                utc_text(window.last),
                utc_text(until),
                words,
            ),
        )

    def forget_history(self, account: str, window: Window) -> None:
        """Forget that a window, and those within it, were asked for, and how far they came."""
        first, last = utc_text(window.first), utc_text(window.last)
        self._database.batch(
            [
                (
                    "DELETE FROM cursors WHERE account = ?1 AND scope IN (SELECT first || '/' || "
                    "last FROM history_windows WHERE account = ?1 AND first >= ?2 "
                    "AND last <= ?3)",
                    (account, first, last),
                ),
                (
                    "DELETE FROM history_windows WHERE account = ?1 AND first >= ?2 AND last <= ?3",
                    (account, first, last),
                ),
            ]
        )

    def fetch_again(self, account: str, window: Window) -> None:
        """Have a window fetched from the beginning, whatever is known of it."""
        self.forget_history(account, window)
        self.ask_for_history(account, window)

    def history(self, account: str) -> list[HistoryWindow]:
        rows = self._database.execute(
            "SELECT * FROM history_windows WHERE account = ? ORDER BY first, last", (account,)
        )
        return [
            HistoryWindow(
                row["account"],
                Window(from_utc_text(row["first"]), from_utc_text(row["last"])),
                row["done"],
                row["done_at"] is not None,
                row["not_before"],
                row["trouble"],
            )
            for row in rows
        ]

    # --- cost

    def note_cost(self, account: str, reads: int, usd: float) -> None:
        if reads or usd:
            self._database.execute(
                "INSERT INTO platform_costs (account, day, reads, usd) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (account, day) DO UPDATE SET reads = reads + excluded.reads, "
                "usd = usd + excluded.usd",
                (account, datetime.now(UTC).date().isoformat(), reads, usd),
            )

    def spent_this_month(self, account: str, now: datetime) -> float:
        rows = self._database.execute(
            "SELECT coalesce(sum(usd), 0) AS usd FROM platform_costs "
            "WHERE account = ? AND day >= ?",
            (account, f"{now:%Y-%m}-01"),
        )
        return float(rows[0]["usd"])

    def _row(self, account: str) -> Row:
        rows = self._database.execute("SELECT * FROM connections WHERE account = ?", (account,))
        if not rows:
            raise NotFound(_not_connected(account))
        return rows[0]


def muted_chats(database: Database, account: str) -> frozenset[str]:
    """The chats that never ask for a reply."""
    rows = database.execute(
        "SELECT channel_id FROM chat_rules WHERE account = ? AND rule = 'mute'", (account,)
    )
    return frozenset(row["channel_id"] for row in rows)


def account_scope(account: str) -> str:
    """What a limit on the whole account is kept under."""
    return f"account:{account}"


def window_scope(window: Window) -> str:
    """What the cursors of a stretch of history are kept under."""
    return f"{utc_text(window.first)}/{utc_text(window.last)}"


def redacted(text: str, connection: Connection) -> str:
    """The text without any of the connection's secrets."""
    return redact(text, connection.secrets.values())


def _not_connected(account: str) -> str:
    return (
        f"{account} is not connected to its platform: communicator accounts login {account} "
        "connects it"
    )


def _health(row: Mapping[str, Any], now: datetime) -> Health:
    kind, words, since = row["trouble_kind"], row["trouble"], row["trouble_since"]
    patience = max(STALLED_AFTER, timedelta(seconds=10 * row["every_seconds"]))
    last = row["pulled_at"] or row["next_pull_at"]
    stalled = (
        row["state"] == "active"
        and not kind
        and row["until"] is None
        and now - from_utc_text(last) > patience
    )
    if stalled:
        kind, since = "stalled", last
        words = (
            "nobody has pulled it since: neither `communicator worker` nor Dagster's daemon runs"
        )
    repairs = {
        "login needed": f"communicator accounts login {row['account']}",
        "over budget": f"communicator accounts set {row['account']} cap_usd AMOUNT",
        "unreachable": f"communicator accounts test {row['account']}",
        "fault": f"communicator accounts test {row['account']}",
        "stalled": "communicator worker",
    }
    return Health(
        row["account"],
        row["platform"],
        row["state"],
        kind,
        words,
        since,
        repairs.get(kind, ""),
        row["pulled_at"],
        row["news_at"],
        row["next_pull_at"],
        row["until"],
        row["why"] or "",
        tuple(orjson.loads(row["notices"])),
        row["usd"],
    )
