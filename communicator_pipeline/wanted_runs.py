"""Which runs are wanted for the days that were touched, and whose turn it is: pure, so that a test
can hold every case.

Belongs here: the decision. Does not belong here: reading what was touched (`storage/work.py`),
asking for the runs (`sensors.py`) or making them (`runs.py`, `materialising.py`).

There are two lanes. *Live* is what somebody waits for: today and yesterday, and a few older days
(an edit, a correction). *Backlog* is history: an import, a history that is pulled, everything
understood anew. Live goes first, a backlog comes in slices, and tenants take turns: ten years of
one never delay the new message of another.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

import orjson

from communicator_pipeline.delivery.states import State
from communicator_pipeline.storage.lake import stretches
from communicator_pipeline.storage.outbox import Outgoing
from communicator_pipeline.storage.work import DirtyDay

Lane = Literal["live", "backlog"]

LIVE_DAYS = 2
"""Today and the day before: what is sent around midnight, or by a clock that is behind."""

FEW_DAYS = 3
"""So many older days of an account are no backlog."""

SLICE_DAYS = 62
"""Touched days in one slice of a backlog that a worker takes by itself: a few seconds for a
personal account; the next tenant waits no longer."""

LAUNCHED_SLICE_DAYS = 366
"""In a run that Dagster launches, which costs a process: others have places of their own."""

MOST_QUEUED = 32
"""Unfinished runs above which the sensor asks for no more: what is to be done waits in a table, not
in Dagster's queue. Its daemon starts about one a second (measured, Dagster 1.13)."""

LANE_TAG = "communicator/lane"
TENANT_TAG = "communicator/tenant"
PRIORITY_TAG = "dagster/priority"
PRIORITIES: Mapping[Lane, str] = {"live": "10", "backlog": "-10"}  # all other runs have 0

CELERY_PRIORITY_TAG = "dagster-celery/run_priority"
CELERY_PRIORITIES: Mapping[Lane, str] = {"live": "-5", "backlog": "4"}
"""Redis takes the lowest of 0 to 9 first (RabbitMQ the highest), and dagster-celery adds 5."""

RANGE_START = "dagster/asset_partition_range_start"
ACCOUNT_TAG = "communicator/account"
RANGE_END = "dagster/asset_partition_range_end"


@dataclass(frozen=True)
class WantedRun:
    """One run: an account's touched days within months without gaps."""

    account: str
    first_month: str
    last_month: str
    days: tuple[DirtyDay, ...]
    lane: Lane = "live"

    @property
    def tenant(self) -> str:
        """Whose account it is; "" if nobody's."""
        return self.days[0].tenant if self.days else ""

    @property
    def since(self) -> str:
        """When the first of its days was touched: UTC, as `utc_text` spells it."""
        return min((day.since for day in self.days), default="")

    @property
    def run_key(self) -> str:
        """Made of the marks: the same touch cannot be asked for twice, a new one can. The lease
        that has run out is part of it, so that a failed run does not block the next try."""
        what = "|".join(f"{d.day}:{d.mark}:{d.leased_until}" for d in self.days)
        return f"{self.account}:{hashlib.sha256(what.encode()).hexdigest()[:16]}"

    @property
    def tags(self) -> dict[str, str]:
        return {
            RANGE_START: f"{self.account}|{self.first_month}",
            RANGE_END: f"{self.account}|{self.last_month}",
            ACCOUNT_TAG: self.account,
            LANE_TAG: self.lane,
            PRIORITY_TAG: PRIORITIES[self.lane],
            CELERY_PRIORITY_TAG: CELERY_PRIORITIES[self.lane],
            **({TENANT_TAG: self.tenant} if self.tenant else {}),
        }


UNSETTLED: tuple[State, ...] = ("sending", "unknown", "sent")
"""Deliveries of which more is to be learnt: recovery looks at them every minute."""


def wanted_delivery(due: Sequence[Outgoing], unsettled: bool, now: datetime) -> str | None:
    """The key of the run that sends what is due and settles what is not settled; None if there is
    nothing to do. Made of the deliveries and their attempts: the same tick cannot ask twice, and a
    run that failed never blocks the next try, which is the next minute's at the latest."""
    minute = f"{now:%Y-%m-%dT%H:%M}"
    if due:
        what = "|".join(f"{d.delivery.delivery_id}:{d.delivery.attempts}" for d in due)
        return f"{minute}:{hashlib.sha256(what.encode()).hexdigest()[:16]}"
    return f"{minute}:settle" if unsettled else None


def wanted_learning(marked: Iterable[tuple[str, int]], now: datetime) -> dict[str, str]:
    """account → the key of the run that learns from it. Made of the mark: the same news asks once;
    and of ten minutes, after which a run that failed is tried again."""
    window = f"{now:%Y-%m-%dT%H}:{now.minute // 10}"
    return {account: f"{account}:{mark}:{window}" for account, mark in marked}


def whole_runs(dirty: Iterable[DirtyDay]) -> list[WantedRun]:
    """As few runs as do the work: one per account and stretch of months."""
    return [
        WantedRun(account, first, last, tuple(d for d in days if first <= d.day[:7] <= last))
        for account, days in sorted(_by_account(dirty).items())
        for first, last in stretches(day.day[:7] for day in days)
    ]


def first_live_day(today: date) -> str:
    """The day from which on what is touched is live; `today` is the UTC date."""
    return (today - timedelta(days=LIVE_DAYS - 1)).isoformat()


def wanted_runs(
    dirty: Iterable[DirtyDay], today: date, most_days: int = SLICE_DAYS
) -> list[WantedRun]:
    """The runs that may be made now: for each account what is live, and the newest slice of its
    backlog. `today` is the UTC date; `most_days` the touched days in a slice, which holds whole
    months and at least one."""
    live_from = first_live_day(today)
    runs = []
    for days in _by_account(dirty).values():
        old = [day for day in days if day.day < live_from]
        if len(old) <= FEW_DAYS:
            runs += whole_runs(days)
            continue
        runs += whole_runs(day for day in days if day.day >= live_from)
        runs.append(_newest_slice(old, most_days))
    return runs


def in_turn(runs: Iterable[WantedRun], served: Mapping[str, float]) -> list[WantedRun]:
    """The runs in the order in which they should be made: live before backlog, in each lane one of
    every tenant before the next of any, of a tenant what was touched first.

    `served`: tenant → when it last had its turn, in any unit that grows.
    """
    turns: dict[tuple[Lane, str], int] = defaultdict(int)
    ordered = []
    for run in sorted(runs, key=lambda run: (run.since, run.account, run.first_month)):
        turn = turns[run.lane, run.tenant]
        turns[run.lane, run.tenant] += 1
        waits = served.get(run.tenant, float("-inf"))
        ordered.append(((run.lane == "backlog", turn, waits, run.since, run.account), run))
    return [run for _, run in sorted(ordered, key=lambda entry: entry[0])]


def read_turns(cursor: str | None) -> dict[str, float]:
    """tenant → when the sensor last asked for a run of theirs (seconds since 1970, UTC), as
    `turns_text` wrote it; none if it is not that."""
    try:
        held = orjson.loads(cursor or "{}")
    except orjson.JSONDecodeError:
        return {}
    return held if isinstance(held, dict) else {}


def turns_text(served: Mapping[str, float]) -> str:
    """The turns as the sensor's cursor."""
    return orjson.dumps(dict(served)).decode()


def with_room(
    runs: Sequence[WantedRun], unfinished: Collection[str | None], most: int = MOST_QUEUED
) -> list[WantedRun]:
    """Those for which the run queue has room, given the lanes of the runs in it. Half of it is kept
    free of backlog. Runs of other jobs (None) take no room: a morning's digests of a thousand
    accounts wait in the queue for an hour, and what is live goes before them there."""
    room = most - sum(lane is not None for lane in unfinished)
    room_for_backlog = min(room, most // 2 - sum(lane == "backlog" for lane in unfinished))
    chosen: list[WantedRun] = []
    for run in runs:
        if run.lane == "backlog":
            if room_for_backlog <= 0:
                continue
            room_for_backlog -= 1
        if len(chosen) < room:
            chosen.append(run)
    return chosen


def rows_for_slice(most_days: int) -> int:
    """How many of an account's touched days, the newest, tell what `wanted_runs` wants of it now:
    the live ones, and a slice, whose last month may be the one with which it would be too much."""
    return LIVE_DAYS + most_days + 31


ROWS_FOR_LANES = LIVE_DAYS + FEW_DAYS + 1
"""How many tell whether an account has a backlog, and so whose turn it is."""


def _by_account(dirty: Iterable[DirtyDay]) -> dict[str, list[DirtyDay]]:
    by_account: dict[str, list[DirtyDay]] = defaultdict(list)
    for day in dirty:
        by_account[day.account].append(day)
    return by_account


def _newest_slice(days: Sequence[DirtyDay], most_days: int) -> WantedRun:
    """The newest months without a gap that hold no more touched days than that, or one month."""
    by_month: dict[str, list[DirtyDay]] = defaultdict(list)
    for day in days:
        by_month[day.day[:7]].append(day)
    first_of_stretch, last = stretches(by_month)[-1]
    chosen: list[DirtyDay] = []
    first = last
    for month in sorted(by_month, reverse=True):
        too_many = chosen and len(chosen) + len(by_month[month]) > most_days
        if month < first_of_stretch or too_many:
            break
        chosen = [*sorted(by_month[month], key=lambda day: day.day), *chosen]
        first = month
    return WantedRun(days[0].account, first, last, tuple(chosen), "backlog")
