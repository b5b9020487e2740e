"""The sensor: accounts become partitions, touched days become runs.

Gather, decide, apply: `wanted_runs` decides and is pure, so that a test can hold every case.
A read that fails is not an empty read: the tick fails with words and nothing is requested.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from communicator_pipeline.jobs import refresh, run_config
from communicator_pipeline.partitions import accounts, stretches
from communicator_pipeline.resources import LocalStores
from communicator_pipeline.storage.accounts import account_keys
from communicator_pipeline.storage.work import DirtyDay, WorkQueue

RANGE_START = "dagster/asset_partition_range_start"
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
            "communicator/account": self.account,
        }


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


@dg.sensor(
    job=refresh,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Registers accounts as partitions; runs exactly the days that were touched.",
)
def touched_days(context: dg.SensorEvaluationContext, stores: LocalStores) -> dg.SensorResult:
    opened = stores.open()
    now = datetime.now(UTC)
    work = WorkQueue(opened.database)
    work.recover_landings(opened.lake.objects)
    known = set(context.instance.get_dynamic_partitions("accounts"))
    new = [key for key in account_keys(opened.database) if key not in known]
    runs = wanted_runs(work.unleased(now))
    # Leased before they are asked for: if this tick is lost, the lease runs out and the days
    # are asked for again.
    work.lease([day for run in runs for day in run.days], now)
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=run.run_key,
                run_config=run_config(day.day for day in run.days),
                tags=run.tags,
            )
            for run in runs
        ],
        dynamic_partitions_requests=[accounts.build_add_request(new)] if new else [],
        skip_reason=None if runs or new else dg.SkipReason("nothing was touched"),
    )


SENSORS = [touched_days]
