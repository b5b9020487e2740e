"""Runs that failed, for whoever is told of them, and digests that were made to be sent.

Belongs here: what notifications need of Dagster's instance. Does not belong here: runs whose
process has died (`abandoned_runs.py` reports those as failed), telling (`notifying/`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import dagster as dg
from dagster import DagsterInstance, RunsFilter

from communicator_pipeline.notifying.telling import FailedRun
from communicator_pipeline.wanted_runs import ACCOUNT_TAG

MOST_FAILED = 200


def failed_runs(instance: DagsterInstance) -> Callable[[datetime], list[FailedRun]]:
    """Finds the runs that failed since a moment (UTC), the newest ones if there are very many. Of
    what went wrong nothing is said: a fault may quote a message."""

    def since(moment: datetime) -> list[FailedRun]:
        records = instance.get_run_records(
            RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=moment),
            limit=MOST_FAILED,
        )
        return [
            FailedRun(
                record.dagster_run.run_id, _words(record.dagster_run), record.update_timestamp
            )
            for record in records
        ]

    return since


def _words(run: dg.DagsterRun) -> str:
    account = run.tags.get(ACCOUNT_TAG) or run.tags.get("dagster/partition", "").split("|")[0]
    return f"{run.job_name}{f' of {account}' if account else ''}: run {run.run_id[:8]}"


def note_made_digest(instance: DagsterInstance) -> Callable[[str, str], None]:
    """Records a digest that was made outside of a run, so that Dagster knows of it, too."""

    def made(account: str, day: str) -> None:
        partition = dg.MultiPartitionKey({"account": account, "day": day})
        instance.report_runless_asset_event(
            dg.AssetMaterialization("daily_digest", partition=partition)
        )

    return made
