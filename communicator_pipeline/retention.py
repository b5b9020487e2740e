"""What may be deleted, and deleting it.

Dagster knows what is materialised from its runs' events alone: deleting a run deletes its
partitions' status. So a run goes only when everything that it materialised, and every check
that it evaluated, has a newer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import dagster as dg
from dagster import AssetRecordsFilter, DagsterInstance, RunsFilter

from communicator_pipeline.ingestion.connecting import clear_removed
from communicator_pipeline.language_model.keeping import KEPT_FOR, forget_answers
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import account_keys
from communicator_pipeline.storage.d1 import forget_fences
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.landing import compact, landed_months
from communicator_pipeline.storage.queue import IngestionQueue

KEEP_RUNS = timedelta(days=1)
"""A superseded run is kept for a day, for whoever wants to see what happened."""

KEEP_FAILED_RUNS = timedelta(days=14)

KEEP_FENCES = timedelta(days=1)
"""A write is sent again within a minute at most."""

_FINISHED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]

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


def superseded(
    finished: Mapping[str, datetime], failed: Iterable[str], needed: Iterable[str], now: datetime
) -> list[str]:
    """The runs that may go: (run → when it ended, UTC), those of them that failed, and those
    that hold some partition's newest materialisation or some check's newest result."""
    keep, bad = set(needed), set(failed)
    return sorted(
        run
        for run, ended in finished.items()
        if run not in keep and now - ended > (KEEP_FAILED_RUNS if run in bad else KEEP_RUNS)
    )


def prune_superseded_runs(
    instance: DagsterInstance, checks: Sequence[dg.AssetCheckKey], now: datetime
) -> list[str]:
    """Delete superseded runs; returns their ids. No partition's and no check's status changes."""
    records = instance.get_run_records(RunsFilter(statuses=_FINISHED))
    finished = {record.dagster_run.run_id: record.update_timestamp for record in records}
    failed = [r.dagster_run.run_id for r in records if not r.dagster_run.is_success]
    gone = superseded(finished, failed, _needed(instance, checks), now)
    for run_id in gone:
        instance.delete_run(run_id)
    return gone


def _needed(instance: DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> set[str]:
    needed: set[str] = set()
    for asset_key in instance.all_asset_keys():
        newest = instance.event_log_storage.get_latest_storage_id_by_partition(
            asset_key, dg.DagsterEventType.ASSET_MATERIALIZATION
        )
        ids = sorted(newest.values())
        for start in range(0, len(ids), 500):
            found = instance.fetch_materializations(
                AssetRecordsFilter(asset_key=asset_key, storage_ids=ids[start : start + 500]),
                limit=500,
            )
            needed |= {record.run_id for record in found.records}
        last = instance.get_latest_materialization_event(asset_key)
        if last is not None:
            needed.add(last.run_id)
    results = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
    return needed | {result.run_id for result in results.values()}


def collect_lake_garbage(stores: Stores, now: datetime) -> int:
    """Delete the lake's files that no manifest has named for an hour, and what has come into
    removed accounts; returns how many."""
    collected = clear_removed(stores, now)
    for account in account_keys(stores.database):
        for asset in LAKE_ASSETS:
            for month in stores.lake.months(asset, account):
                partition = AccountMonth(account, month)
                collected += stores.lake.collect_garbage(asset, partition, now)
    return collected


def forget_what_is_over(stores: Stores, now: datetime) -> int:
    """Delete pushes that landed long ago, answers of models that nobody asks for again, the
    fences of old writes, and what has come into removed accounts; returns how many went."""
    return (
        IngestionQueue(stores.database).forget_old(now)
        + forget_answers(stores.database, now - KEPT_FOR)
        + forget_fences(stores.database, now - KEEP_FENCES)
        + clear_removed(stores, now)
    )


def compact_landings(stores: Stores, now: datetime) -> int:
    """Join the small files that pulls and pushes leave; returns how many went."""
    return sum(
        compact(stores.lake, account, month, now)
        for account in account_keys(stores.database)
        for month in landed_months(stores.lake, account)
    )
