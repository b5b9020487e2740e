"""What grows in our own stores, and cutting it back.

Belongs here: files of the lake and the landing zone, rows that are over, space in the database's
file. Does not belong here: Dagster's runs and events (`dagster_records/`), how long things are
kept (`retention_settings.py`).

Everything here may be killed anywhere and done by two at once. A night's work has an end: what is
not done then is done the next night, which begins where this one ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import apsw

from communicator_pipeline.ingestion.connecting import clear_removed
from communicator_pipeline.language_model.keeping import KEPT_FOR, forget_answers
from communicator_pipeline.retention_settings import Retention, read_retention
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import account_keys
from communicator_pipeline.storage.d1 import forget_fences
from communicator_pipeline.storage.database import Database, SqliteDatabase, utc_text
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.landing import compact, crowded_months
from communicator_pipeline.storage.queue import IngestionQueue
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.vacuum import give_back

KEEP_FENCES = timedelta(days=1)
"""A write is sent again within a minute at most."""

ROWS_AT_ONCE = 500
"""Rows that one statement deletes: whoever writes waits for it, some milliseconds."""

POSITION_SETTING = "housekeeping"
"""The installation's setting that says where the last night ended: [account, asset]."""

MayGoOn = Callable[[], bool]

LAKE_ASSETS = (
    "raw_messages",
    "attachments",
    "conversations",
    "analyses",
    "drafted_replies",
    "deliveries",
    "feedback",
    "usage",
)


def until(minutes: float) -> MayGoOn:
    """Whether less than so many minutes have passed since this was called."""
    end = time.monotonic() + minutes * 60
    return lambda: time.monotonic() < end


def for_ever() -> bool:
    """Work without an end."""
    return True


@dataclass
class Tidied:
    """What was done to the lake."""

    collected: int = 0  # files that no manifest had named for an hour, and of removed accounts
    joined: int = 0  # files of single days that others take the place of
    is_through: bool = True  # all of it was looked at


def tidy_lake(stores: Stores, now: datetime, may_go_on: MayGoOn = for_ever) -> Tidied:
    """Join the files of days that are long over, and delete those that no manifest has named for
    an hour, and what has come into removed accounts. Goes on where it last ended."""
    done = Tidied(collected=clear_removed(stores, now))
    state = Settings(stores.database, None)
    parts = [
        (account, asset)
        for account in sorted(account_keys(stores.database))
        for asset in LAKE_ASSETS
    ]
    for account, asset in _in_turn(parts, state.get(POSITION_SETTING)):
        if not may_go_on():
            state.set(POSITION_SETTING, [account, asset])
            done.is_through = False
            return done
        for month in stores.lake.months(asset, account):
            partition = AccountMonth(account, month)
            done.joined += stores.lake.join(asset, partition, now)
            done.collected += stores.lake.collect_garbage(asset, partition, now)
    state.unset(POSITION_SETTING)
    return done


def _in_turn(
    parts: Sequence[tuple[str, str]], first: Sequence[str] | None
) -> Sequence[tuple[str, str]]:
    """All of them, beginning with the one at which the last night ended."""
    if first is None or tuple(first) not in parts:
        return parts
    place = parts.index((first[0], first[1]))
    return [*parts[place:], *parts[:place]]


@dataclass(frozen=True)
class _Over:
    """Rows that are over: of which table, by its key, and when (?1: the end of the period, UTC)."""

    table: str
    key: str
    condition: str
    period: str  # a name for `Retention.days`; "": the rows say themselves until when they hold


OVER = (
    _Over("login_links", "digest", "expires_at < ?1", ""),
    _Over("sessions", "digest", "expires_at < ?1", ""),
    _Over("platform_waits", "scope", "until < ?1", ""),
    _Over("audit_log", "id", "at < ?1", "audit"),
    _Over("api_keys", "key_id", "revoked_at < ?1", "keys"),
    _Over(
        "dead_letters", "dead_letter_id", "state = 'resolved' AND last_seen_at < ?1", "dead_letters"
    ),
    _Over("delivery_notices", "approval_id, cause", "read_at < ?1", "notices"),
    _Over(
        "model_usage", "user_id, day, account, purpose, model", "day < substr(?1, 1, 10)", "usage"
    ),
    _Over("platform_costs", "account, day", "day < substr(?1, 1, 10)", "usage"),
    _Over(
        "service_usage", "day, account, service, what, machine", "day < substr(?1, 1, 10)", "usage"
    ),
)


def forget_what_is_over(stores: Stores, now: datetime, may_go_on: MayGoOn = for_ever) -> int:
    """Delete pushes that landed long ago, answers of models that nobody asks for again, the fences
    of old writes, what has come into removed accounts, and rows that are over; returns how many
    went."""
    retention = read_retention(stores.database)
    gone = (
        IngestionQueue(stores.database).forget_old(now)
        + forget_answers(stores.database, now - KEPT_FOR)
        + forget_fences(stores.database, now - KEEP_FENCES)
        + clear_removed(stores, now)
    )
    for over in OVER:
        gone += _forget(stores.database, over, now, retention, may_go_on)
    return gone


def _forget(
    database: Database, over: _Over, now: datetime, retention: Retention, may_go_on: MayGoOn
) -> int:
    end = utc_text(now - retention.days(over.period) if over.period else now)
    gone = 0
    while may_go_on():
        rows = database.execute(
            f"DELETE FROM {over.table} WHERE ({over.key}) IN (SELECT {over.key} FROM {over.table} "
            f"WHERE {over.condition} LIMIT {ROWS_AT_ONCE}) RETURNING 1",
            (end,),
        )
        gone += len(rows)
        if len(rows) < ROWS_AT_ONCE:
            break
    return gone


def compact_landings(stores: Stores, now: datetime, may_go_on: MayGoOn = for_ever) -> int:
    """Join the small files that pulls and pushes leave; returns how many went."""
    joined = 0
    for account in account_keys(stores.database):
        for month in crowded_months(stores.lake, account):
            if may_go_on():
                joined += compact(stores.lake, account, month, now)
    return joined


def shrink_database(stores: Stores, may_go_on: MayGoOn = for_ever) -> int:
    """Give the space of deleted rows back to the disk, where the database is a file of ours;
    returns the bytes."""
    if not isinstance(stores.database, SqliteDatabase):
        return 0
    connection = apsw.Connection(str(stores.database.path))
    try:
        connection.set_busy_timeout(5_000)
        return give_back(connection, may_go_on)
    finally:
        connection.close()
