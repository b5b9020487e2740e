"""What Dagster keeps of runs, and what of it may go.

Belongs here: pruning runs without changing what Dagster says of any partition or check, and the
rows that nothing else deletes. Does not belong here: our own stores (`retention.py`), how Dagster's
are opened (`sqlite.py`).

Dagster knows what is materialised from its runs' events alone: deleting a run deletes its
partitions' status. So a run goes when everything that it materialised, and every check that it
evaluated, has a newer one. A run that is old and still needed is *condensed*: the newest
materialisations of its partitions stay as events without a run, which is how Dagster keeps those
that are reported from outside; their times, tags, numbers and texts stay as they are, so that every
status that is reckoned from them (materialised, stale, healthy) does, too. Then the run goes.

What is known of partitions that are none any more (days long past) goes like what is superseded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import sqlalchemy as db
from dagster import DagsterInstance
from dagster._core.events import DagsterEvent, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.instance import RUNLESS_JOB_NAME, RUNLESS_RUN_ID
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.legacy_storage import LegacyRunStorage
from dagster._core.storage.runs.schema import BackfillTagsTable, BulkActionsTable, RunsTable
from dagster._serdes import deserialize_value, serialize_value

from communicator_pipeline.retention_settings import Retention

RUN_METADATA = "run"
"""Under it a condensed materialisation names the run that made it, which is gone."""

AT_ONCE = 500
"""Rows in one statement: below every database's limit of parameters."""

_FINISHED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]
_LARGE = (dg.MarkdownMetadataValue, dg.TableMetadataValue)
_MATERIALISED = dg.DagsterEventType.ASSET_MATERIALIZATION.value
_EVENTS = SqlEventLogStorageTable.c


@dataclass
class Pruned:
    """What a round has deleted."""

    runs: int = 0
    condensed: int = 0  # of these, the runs of which events stay
    rows: int = 0  # that hung on runs that are gone, and old backfills


def superseded(
    finished: Mapping[str, datetime],
    failed: Iterable[str],
    needed: Iterable[str],
    now: datetime,
    retention: Retention,
) -> list[str]:
    """The runs that may go whole: (run → when it ended, UTC), those of them that failed, and those
    that hold some partition's newest materialisation or some check's newest result."""
    keep, bad = set(needed), set(failed)
    return sorted(
        run
        for run, ended in finished.items()
        if run not in keep
        and now - ended > retention.days("failed_runs" if run in bad else "superseded_runs")
    )


def prune(
    instance: DagsterInstance,
    checks: Sequence[dg.AssetCheckKey],
    now: datetime,
    retention: Retention,
    may_go_on: Callable[[], bool] = lambda: True,
    is_past: Callable[[str], bool] = lambda partition: False,
) -> Pruned:
    """Delete and condense runs, oldest first, and rows that are left of those that are gone.

    `is_past`: whether a partition's key is of one that Dagster need not know of any more.

    Killed anywhere, or done by two at once, nothing is lost: events are made independent of their
    run before it is deleted, and what was done is not done again.
    """
    pruned = Pruned()
    finished, failed = _finished_runs(instance)
    needed, kept = _needed_by_run(instance, is_past), _kept_whole(instance, checks)
    whole = set(superseded(finished, failed, {*needed, *kept}, now, retention))
    old = {
        run
        for run, ended in finished.items()
        if run in needed and run not in kept and now - ended > retention.days("runs")
    }
    for run_id in sorted(whole | old, key=lambda run: finished[run]):
        if not may_go_on():
            return pruned
        if run_id in old:
            _condense(instance, needed[run_id])
            pruned.condensed += 1
        _delete(instance, run_id)
        pruned.runs += 1
    if may_go_on():
        pruned.rows += _forget_condensed(instance, now, retention, is_past)
    for part in (_forget_observations, _forget_check_results):
        if may_go_on():
            pruned.rows += part(instance, now, retention)
    pruned.rows += _forget_backfills(instance, now, retention)
    return pruned


def _finished_runs(instance: DagsterInstance) -> tuple[dict[str, datetime], list[str]]:
    """(run → when it ended, UTC) of those that have, and those that did not succeed."""
    # Not `get_run_records`, which holds each run whole: some 4 KB, of hundreds of thousands.
    column = RunsTable.c
    query = db.select(column.run_id, column.status, column.update_timestamp).where(
        column.status.in_([status.value for status in _FINISHED])
    )
    with _runs(instance) as connection:
        rows = connection.execute(query).fetchall()
    succeeded = dg.DagsterRunStatus.SUCCESS.value
    return (
        {run_id: ended.replace(tzinfo=UTC) for run_id, _, ended in rows},
        [run_id for run_id, status, _ in rows if status != succeeded],
    )


def _needed_by_run(
    instance: DagsterInstance, is_past: Callable[[str], bool]
) -> dict[str, list[int]]:
    """Run → numbers of the events in it that are some partition's newest materialisation."""
    found: dict[str, list[int]] = defaultdict(list)
    for asset_key in instance.all_asset_keys():
        newest = {
            event_id
            for partition, event_id in _newest_of_partitions(instance, asset_key).items()
            if not is_past(partition)
        }
        for event_id, run_id in _materialisations(instance, asset_key, _EVENTS.run_id, True):
            if event_id in newest:
                found[run_id].append(event_id)
    return found


def _newest_of_partitions(instance: DagsterInstance, asset_key: dg.AssetKey) -> Mapping[str, int]:
    return instance.event_log_storage.get_latest_storage_id_by_partition(
        asset_key, dg.DagsterEventType.ASSET_MATERIALIZATION
    )


def _materialisations(
    instance: DagsterInstance, asset_key: dg.AssetKey, column: db.Column[Any], of_runs: bool
) -> list[tuple[int, Any]]:
    """(number, column) of an asset's materialisations by runs, or of those without one."""
    by_runs = _EVENTS.run_id != RUNLESS_RUN_ID
    query = db.select(_EVENTS.id, column).where(
        _EVENTS.dagster_event_type == _MATERIALISED,
        _EVENTS.asset_key == asset_key.to_string(),
        by_runs if of_runs else ~by_runs,
    )
    with _events(instance) as connection:
        return [(row[0], row[1]) for row in connection.execute(query)]


def _kept_whole(instance: DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> set[str]:
    """The runs of each check's newest result, and the last of each asset: not more than there are
    checks and assets."""
    kept: set[str] = set()
    for record in instance.get_asset_records():
        entry = record.asset_entry
        last = entry.last_materialization
        kept |= {run for run in (entry.last_run_id, last and last.run_id) if run}
    results = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
    return kept | {result.run_id for result in results.values()}


def _condense(instance: DagsterInstance, event_ids: Sequence[int]) -> None:
    """Make materialisations independent of their run, in one transaction."""
    with _events(instance) as connection:
        for some in _parts(event_ids):
            query = db.select(_EVENTS.id, _EVENTS.event).where(_EVENTS.id.in_(some))
            for event_id, text in connection.execute(query).fetchall():
                entry = deserialize_value(text, EventLogEntry)
                if entry.run_id == RUNLESS_RUN_ID:  # another process was first
                    continue
                connection.execute(
                    SqlEventLogStorageTable.update()
                    .where(_EVENTS.id == event_id)
                    .values(
                        run_id=RUNLESS_RUN_ID,
                        step_key=None,
                        event=serialize_value(_without_run(entry)),
                    )
                )


def _without_run(entry: EventLogEntry) -> EventLogEntry:
    """The same materialisation at the same time, as if it were reported from outside. Its plots
    and tables go: of a month's asset they are five sixths of it, of a digest a third, and they are
    drawn from what the lake holds still."""
    assert entry.dagster_event is not None
    made = entry.dagster_event.step_materialization_data.materialization
    small = {name: v for name, v in made.metadata.items() if not isinstance(v, _LARGE)}
    kept = made.with_metadata({**small, RUN_METADATA: entry.run_id})
    return EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=entry.level,
        user_message="",
        run_id=RUNLESS_RUN_ID,
        timestamp=entry.timestamp,
        job_name=RUNLESS_JOB_NAME,
        dagster_event=DagsterEvent(
            event_type_value=_MATERIALISED,
            event_specific_data=StepMaterializationData(kept),
            job_name=RUNLESS_JOB_NAME,
        ),
    )


def _delete(instance: DagsterInstance, run_id: str) -> None:
    # Its events first: killed in between, it is found and deleted the next time. Dagster does it
    # the other way round, and events without their run would stay for ever.
    instance.event_log_storage.delete_events(run_id)
    instance.delete_run(run_id)


def _forget_condensed(
    instance: DagsterInstance, now: datetime, retention: Retention, is_past: Callable[[str], bool]
) -> int:
    """Delete materialisations without a run whose partition has a newer one, or is none any more:
    no run's end takes them away."""
    gone = 0
    before = now - retention.days("superseded_runs")
    for asset_key in instance.all_asset_keys():
        without = _materialisations(instance, asset_key, _EVENTS.timestamp, False)
        by_partition = _newest_of_partitions(instance, asset_key) if without else {}
        if not by_partition:  # of an asset without partitions they are its history, and few
            continue
        newest = {number for partition, number in by_partition.items() if not is_past(partition)}
        over = [
            event_id
            for event_id, made_at in without
            if event_id not in newest and made_at.replace(tzinfo=UTC) < before
        ]
        _delete_events(instance, over)
        gone += len(over)
    return gone


def _forget_observations(instance: DagsterInstance, now: datetime, retention: Retention) -> int:
    """Delete observations without a run (drafts that people asked for), as old as runs that go."""
    before = (now - retention.days("runs")).astimezone(UTC).replace(tzinfo=None)
    over = db.select(_EVENTS.id).where(
        _EVENTS.dagster_event_type == dg.DagsterEventType.ASSET_OBSERVATION.value,
        _EVENTS.run_id == RUNLESS_RUN_ID,
        _EVENTS.timestamp < before,
    )
    with _events(instance) as connection:
        event_ids = [row[0] for row in connection.execute(over)]
    _delete_events(instance, event_ids)
    return len(event_ids)


def _delete_events(instance: DagsterInstance, event_ids: Sequence[int]) -> None:
    for some in _parts(event_ids):
        with _events(instance) as connection:
            connection.execute(
                AssetEventTagsTable.delete().where(AssetEventTagsTable.c.event_id.in_(some))
            )
            connection.execute(SqlEventLogStorageTable.delete().where(_EVENTS.id.in_(some)))


def _forget_check_results(instance: DagsterInstance, now: datetime, retention: Retention) -> int:
    """Delete the results of checks in runs that are gone, which Dagster leaves; each check's newest
    one stays."""
    results = AssetCheckExecutionsTable.c
    # What was only planned has no result for a partition, but may be the newest of its check.
    partition = db.case(
        (results.execution_status == AssetCheckExecutionRecordStatus.PLANNED.value, None),
        else_=results.partition,
    )
    with _events(instance) as connection:
        rows = connection.execute(
            db.select(results.id, results.run_id, results.asset_key, results.check_name, partition)
        ).fetchall()
    there = _run_ids(instance)  # after the results: a run is there before its first one
    newest: dict[tuple[Any, ...], int] = {}
    for result_id, _, *check in rows:
        newest[tuple(check)] = max(result_id, newest.get(tuple(check), 0))
    kept = set(newest.values())
    over = [
        result_id
        for result_id, run_id, *_ in rows
        if run_id and run_id not in there and result_id not in kept
    ]
    for some in _parts(over):
        with _events(instance) as connection:
            connection.execute(AssetCheckExecutionsTable.delete().where(results.id.in_(some)))
    return len(over)


def _run_ids(instance: DagsterInstance) -> set[str]:
    with _runs(instance) as connection:
        return {row[0] for row in connection.execute(db.select(RunsTable.c.run_id))}


def _forget_backfills(instance: DagsterInstance, now: datetime, retention: Retention) -> int:
    """Delete what is known of backfills that ended long ago."""
    ended = [
        status.value
        for status in BulkActionStatus
        if status.name
        in ("COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED")
    ]
    before = (now - retention.days("backfills")).astimezone(UTC).replace(tzinfo=None)
    with _runs(instance) as connection:
        over = db.select(BulkActionsTable.c.key).where(
            BulkActionsTable.c.status.in_(ended), BulkActionsTable.c.timestamp < before
        )
        keys = [row[0] for row in connection.execute(over)]
        for some in _parts(keys):
            connection.execute(
                BackfillTagsTable.delete().where(BackfillTagsTable.c.backfill_id.in_(some))
            )
            connection.execute(BulkActionsTable.delete().where(BulkActionsTable.c.key.in_(some)))
    return len(keys)


def _parts(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[start : start + AT_ONCE] for start in range(0, len(values), AT_ONCE))


def _events(instance: DagsterInstance) -> Any:
    """A transaction on the events of all runs, whatever database they are in."""
    return instance.event_log_storage.index_connection()  # type: ignore[attr-defined]


def _runs(instance: DagsterInstance) -> Any:
    """A transaction on the runs."""
    storage: Any = instance.run_storage
    if isinstance(storage, LegacyRunStorage):  # what `storage:` in dagster.yaml is wrapped in
        storage = storage._storage.run_storage
    return storage.connect()
