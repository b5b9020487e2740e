"""What grows in our own stores, and cutting it back.

Belongs here: files of the lake and the landing zone, rows that are over, space in the database's
file. Does not belong here: Dagster's runs and events (`dagster_records/`), how long things are
kept (`retention_settings.py`).

Everything here may be killed anywhere and done by two at once. A night's work has an end: what is
not done then is done the next night, which begins where this one ended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

import apsw

from communicator_pipeline.ingestion.connecting import clear_removed
from communicator_pipeline.language_model.keeping import KEPT_FOR, forget_answers
from communicator_pipeline.retention_settings import read_retention
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import account_keys
from communicator_pipeline.storage.d1 import forget_fences
from communicator_pipeline.storage.database import (
    MayGoOn,
    SqliteDatabase,
    delete_in_parts,
    for_ever,
    from_utc_text,
    utc_text,
)
from communicator_pipeline.storage.lake import (
    COLLECT_AFTER,
    JOIN_AFTER,
    JOIN_UNCHANGED,
    AccountGone,
    AccountMonth,
    MonthFiles,
    end_of_day,
    last_day_of,
)
from communicator_pipeline.storage.landing import compact, crowded_months
from communicator_pipeline.storage.queue import IngestionQueue
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.vacuum import give_back

KEEP_FENCES = timedelta(days=1)
"""A write is sent again within a minute at most."""

POSITION_SETTING = "housekeeping"
"""The installation's setting that says where the last night ended: [account, asset]."""

ROUNDS_SETTING = "housekeeping_rounds"
"""The installation's setting that says when the lake began to be gone through (UTC): `through`, the
last time to its end without a fault, `began`, the time that is under way, and `fault`, its last
one."""

LANDINGS_SETTING = "housekeeping_landings"
"""The installation's setting that says with which account joining landing files goes on."""

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


log = logging.getLogger("communicator.retention")

Part = TypeVar("Part")


def until(minutes: float) -> MayGoOn:
    """Whether less than so many minutes have passed since this was called."""
    end = time.monotonic() + minutes * 60
    return lambda: time.monotonic() < end


@dataclass
class Tidied:
    """What was done to the lake, or to the landing zone."""

    collected: int = 0  # files that no manifest had named for an hour, and of removed accounts
    joined: int = 0  # files that others take the place of
    is_through: bool = True  # all of it was looked at
    faults: list[str] = field(default_factory=list)  # what could not be done, and why

    @contextmanager
    def going_on(self, what: str) -> Iterator[None]:
        """A file that cannot be read keeps none of the others from being tidied."""
        try:
            yield
        except AccountGone:
            pass
        except Exception as error:
            log.exception("%s could not be tidied", what)
            self.faults.append(f"{what}: {type(error).__name__}: {error}")


def tidy_lake(stores: Stores, now: datetime, may_go_on: MayGoOn = for_ever) -> Tidied:
    """Join the files of days that are long over, and delete those that no manifest has named for
    an hour, and what has come into removed accounts. Goes on where it last ended, and leaves alone
    the months that were tidy when it last went through all of it."""
    done = Tidied(collected=clear_removed(stores, now))
    state = Settings(stores.database, None)
    position = state.get(POSITION_SETTING)
    rounds: dict[str, str] = state.get(ROUNDS_SETTING) or {}
    if position is None or "began" not in rounds:
        rounds = {**_through(rounds), "began": utc_text(now)}
    parts = [
        (account, asset)
        for account in sorted(account_keys(stores.database))
        for asset in LAKE_ASSETS
    ]
    for account, asset in _in_turn(parts, tuple(position or ())):
        if not may_go_on():
            state.set(POSITION_SETTING, [account, asset])
            state.set(ROUNDS_SETTING, rounds)
            done.is_through = False
            return done
        before = len(done.faults)
        with done.going_on(f"{asset} of {account}"):
            for month, files in stores.lake.month_files(asset, account).items():
                if "through" in rounds and was_tidy(month, files, from_utc_text(rounds["through"])):
                    continue
                partition = AccountMonth(account, month)
                with done.going_on(f"{asset} of {partition.key}"):
                    done.joined += stores.lake.join(asset, partition, now)
                    done.collected += stores.lake.collect_garbage(asset, partition, now)
        if len(done.faults) > before:
            rounds["fault"] = done.faults[-1]
    state.unset(POSITION_SETTING)
    was_whole = "fault" not in rounds
    state.set(ROUNDS_SETTING, {"through": rounds["began"]} if was_whole else _through(rounds))
    return done


def _through(rounds: Mapping[str, str]) -> dict[str, str]:
    return {name: when for name, when in rounds.items() if name == "through"}


def was_tidy(month: str, files: MonthFiles, looked: datetime) -> bool:
    """Whether nothing was left to do in a month of the lake when it was looked at: it is one file,
    its days were over for long enough, and nothing has come since or had to wait then."""
    is_one = files.rows <= 1 and files.handed_over <= 1
    was_over = end_of_day(last_day_of(month)) + JOIN_AFTER <= looked
    return is_one and was_over and files.last_write < looked - max(JOIN_UNCHANGED, COLLECT_AFTER)


def _in_turn(parts: Sequence[Part], first: Part) -> Sequence[Part]:
    """All of them, beginning with the one at which the last time ended."""
    place = parts.index(first) if first in parts else 0
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
        IngestionQueue(stores.database).forget_old(now, may_go_on)
        + forget_answers(stores.database, now - KEPT_FOR, may_go_on)
        + forget_fences(stores.database, now - KEEP_FENCES, may_go_on)
        + clear_removed(stores, now)
    )
    for over in OVER:
        end = utc_text(now - retention.days(over.period) if over.period else now)
        gone += delete_in_parts(
            stores.database, over.table, over.key, over.condition, (end,), may_go_on
        )
    return gone


def compact_landings(stores: Stores, now: datetime, may_go_on: MayGoOn = for_ever) -> Tidied:
    """Join the small files that pulls and pushes leave. Goes on where it last ended; an account
    for whose last months the time was too short has its next turn after the others."""
    done = Tidied()
    state = Settings(stores.database, None)
    accounts = sorted(account_keys(stores.database))
    for account in _in_turn(accounts, state.get(LANDINGS_SETTING)):
        if not may_go_on():
            state.set(LANDINGS_SETTING, account)
            done.is_through = False
            return done
        with done.going_on(f"the landing zone of {account}"):
            for month in crowded_months(stores.lake, account):
                with done.going_on(f"the landing zone of {account}|{month}"):
                    if may_go_on():
                        done.joined += compact(stores.lake, account, month, now)
    state.unset(LANDINGS_SETTING)
    return done


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
