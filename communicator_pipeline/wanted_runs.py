"""Which runs are wanted for the days that were touched: pure, so that a test can hold every case.

Belongs here: the decision. Does not belong here: reading what was touched (`storage/work.py`),
asking for the runs (`sensors.py`) or making them (`runs.py`).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from communicator_pipeline.delivery.states import State
from communicator_pipeline.storage.lake import stretches
from communicator_pipeline.storage.outbox import Outgoing
from communicator_pipeline.storage.work import DirtyDay

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


def wanted_runs(dirty: Iterable[DirtyDay]) -> list[WantedRun]:
    """As few runs as do the work: one per account and stretch of months."""
    by_account: dict[str, list[DirtyDay]] = defaultdict(list)
    for day in dirty:
        by_account[day.account].append(day)
    return [
        WantedRun(account, first, last, tuple(d for d in days if first <= d.day[:7] <= last))
        for account, days in sorted(by_account.items())
        for first, last in stretches(day.day[:7] for day in days)
    ]
