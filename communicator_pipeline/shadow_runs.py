"""Comparisons from the command line: runs of the job `compare` in this process.

Belongs here: which partitions a comparison's runs are over. Does not belong here: executing a run
(`runs.py`), what it does (`assets/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg
from dagster import DagsterInstance

from communicator_pipeline.chain.shadows import Shadow, config_of
from communicator_pipeline.jobs import compare, compare_config
from communicator_pipeline.runs import FinishedRun, Say, execute, register_accounts
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.feedback import rows_by_month
from communicator_pipeline.storage.lake import stretches
from communicator_pipeline.storage.landing import landed_months


def compare_job(definitions: dg.Definitions) -> dg.JobDefinition:
    return definitions.resolve_job_def(compare.name)


def days_back(last: date, count: int) -> list[str]:
    """The last `count` UTC days, the given one included, in order."""
    return [(last - timedelta(days=back)).isoformat() for back in reversed(range(count))]


def run_comparison(
    stores: Stores,
    instance: DagsterInstance,
    job: dg.JobDefinition,
    accounts: Sequence[str],
    shadow: Shadow,
    days: Sequence[str],
    say: Say,
) -> list[FinishedRun]:
    """One run per account and stretch of months in which something landed or was answered. Begun
    again after a kill it goes on: what the model has answered is kept. Raises `RunFailed`."""
    register_accounts(stores, instance)
    finished: list[FinishedRun] = []
    wanted = {day[:7] for day in days}
    for account in accounts:
        months = {*landed_months(stores.lake, account), *rows_by_month(stores.database, account)}
        for first, last in stretches(months & wanted):
            chosen = [day for day in days if first <= day[:7] <= last]
            config = compare_config(config_of(shadow), chosen)
            finished.append(execute(instance, job, account, first, last, config))
            say(finished[-1])
    return finished
