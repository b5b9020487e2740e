"""Old runs go, and Dagster says of every partition, check and asset what it said before."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
from dagster import AssetRecordsFilter, DagsterInstance
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.events import DagsterEventType
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster._core.storage.runs.schema import RunTagsTable
from dagster._core.test_utils import freeze_time

from communicator_pipeline import runs
from communicator_pipeline.dagster_records import pruning
from communicator_pipeline.dagster_records.pruning import Pruned, prune
from communicator_pipeline.retention_settings import Retention
from communicator_pipeline_tests.infra.postgres import Postgres, needs_postgres, postgres

__all__ = ["postgres"]  # a fixture

DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-02-01")
DRAWN = ("plot", "by day", "run")
LONG_AFTER = timedelta(days=40)


@dg.asset(partitions_def=DAYS, code_version="1")
def first(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(
        data_version=dg.DataVersion(context.run_id),
        metadata={
            "rows": 7,
            "day": context.partition_key,
            "plot": dg.MetadataValue.md("![rows](data:image/svg+xml;base64,AAAA)"),
            "by day": dg.MetadataValue.table([dg.TableRecord({"day": 1, "rows": 7})]),
        },
    )


@dg.asset(partitions_def=DAYS, deps=[first], code_version="1")
def second() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(data_version=dg.DataVersion("v"), metadata={"words": "two"})


@dg.asset_check(asset=first)
def holds() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


CHECK = next(iter(holds.check_keys))
DEFINITIONS = dg.Definitions(
    assets=[first, second],
    asset_checks=[holds],
    jobs=[
        dg.define_asset_job(
            "make", selection="*", executor_def=dg.in_process_executor, partitions_def=DAYS
        )
    ],
)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=needs_postgres)])
def instance(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterInstance]:
    """An instance without any record, on either database."""
    if request.param == "sqlite":
        with runs.open_instance() as opened:
            yield opened
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = f"records_{secrets.token_hex(4)}"
    monkeypatch.setenv("COMMUNICATOR_DAGSTER_DATABASE", server.create(name))
    with runs.open_instance() as opened:
        yield opened


def _make(instance: DagsterInstance, day: str, **more: Any) -> str:
    job = DEFINITIONS.resolve_job_def("make")
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    done = job.execute_in_process(instance=instance, partition_key=day, run_config=quiet, **more)
    assert done.success
    return done.run_id


def _prune(instance: DagsterInstance, after: timedelta = LONG_AFTER, **more: Any) -> Pruned:
    return prune(instance, [CHECK], datetime.now(UTC) + after, Retention(**more))


def _told(instance: DagsterInstance) -> dict[str, Any]:
    """All that the web UI derives from the events of both assets and of the check."""
    told: dict[str, Any] = {}
    graph = DEFINITIONS.resolve_asset_graph()
    stale = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    for asset in (first, second):
        key = asset.key
        name = key.to_user_string()
        told[f"{name} partitions"] = instance.get_materialized_partitions(key)
        told[f"{name} newest"] = instance.event_log_storage.get_latest_storage_id_by_partition(
            key, DagsterEventType.ASSET_MATERIALIZATION
        )
        told[f"{name} tags"] = instance.event_log_storage.get_latest_tags_by_partition(
            key, DagsterEventType.ASSET_MATERIALIZATION, ["dagster/data_version"]
        )
        cached = get_and_update_asset_status_cache_value(instance, key, DAYS)
        assert cached is not None
        told[f"{name} cached"] = cached.deserialize_materialized_partition_subsets(DAYS)
        [record] = instance.get_asset_records([key])
        last = record.asset_entry.last_materialization
        told[f"{name} last"] = last and (last.run_id, last.timestamp)
        for day in sorted(told[f"{name} partitions"]):
            told[f"{name} {day} stale"] = (
                stale.get_status(key, day),
                stale.get_current_data_version(key, day),
                [cause.reason for cause in stale.get_stale_causes(key, day)],
            )
            told[f"{name} {day}"] = _event(instance, key, day)
    [result] = instance.event_log_storage.get_latest_asset_check_execution_by_key([CHECK]).values()
    told["check"] = (result.status, result.run_id)
    return told


def _event(instance: DagsterInstance, key: dg.AssetKey, day: str) -> tuple[Any, ...]:
    [record] = instance.fetch_materializations(
        AssetRecordsFilter(key, asset_partitions=[day]), limit=1
    ).records
    made = record.asset_materialization
    assert made is not None
    metadata = {name: made.metadata[name].value for name in made.metadata if name not in DRAWN}
    return record.storage_id, record.timestamp, made.partition, dict(made.tags or {}), metadata


def _run_of(instance: DagsterInstance, key: dg.AssetKey, day: str) -> tuple[str, Any]:
    [record] = instance.fetch_materializations(
        AssetRecordsFilter(key, asset_partitions=[day]), limit=1
    ).records
    assert record.asset_materialization is not None
    noted = record.asset_materialization.metadata.get("run")
    return record.run_id, noted and noted.value


def _metadata(instance: DagsterInstance, day: str) -> set[str]:
    [record] = instance.fetch_materializations(
        AssetRecordsFilter(first.key, asset_partitions=[day]), limit=1
    ).records
    assert record.asset_materialization is not None
    return set(record.asset_materialization.metadata)


def test_old_runs_are_condensed_and_nothing_looks_different(instance: DagsterInstance) -> None:
    made = {day: _make(instance, day) for day in ("2026-01-01", "2026-01-02", "2026-01-03")}
    before = _told(instance)
    gone = _prune(instance)
    assert (gone.runs, gone.condensed) == (2, 2)  # the last one holds the check's newest result
    assert {run.run_id for run in instance.get_runs()} == {made["2026-01-03"]}
    assert _told(instance) == before
    assert _run_of(instance, first.key, "2026-01-01") == ("", made["2026-01-01"])
    [small, whole] = (_metadata(instance, f"2026-01-0{day}") for day in (1, 3))
    assert small == {"rows", "day", "run"}  # what is drawn is large, and is drawn from the lake
    assert whole == {"rows", "day", "plot", "by day"}
    assert _run_of(instance, first.key, "2026-01-03") == (made["2026-01-03"], None)
    assert _prune(instance).runs == 0
    assert _told(instance) == before


def test_what_is_stale_is_so_after_as_before(instance: DagsterInstance) -> None:
    """The inputs of a materialisation are known by the numbers of their events."""
    _make(instance, "2026-01-01")
    with freeze_time(datetime.now(UTC) + timedelta(minutes=1)):
        _make(instance, "2026-01-01", asset_selection=[first.key])
    _make(instance, "2026-01-02")
    before = _told(instance)
    assert before["second 2026-01-01 stale"] != before["second 2026-01-02 stale"]
    assert _prune(instance).condensed == 2
    assert _told(instance) == before


def test_a_young_run_that_is_needed_stays(instance: DagsterInstance) -> None:
    for day in ("2026-01-01", "2026-01-02"):
        _make(instance, day)
    assert _prune(instance, timedelta(days=29)).runs == 0
    assert _prune(instance, timedelta(days=29), runs_days=28).runs == 1


def test_a_superseded_run_goes_whole_after_a_day(instance: DagsterInstance) -> None:
    old = _make(instance, "2026-01-01")
    _make(instance, "2026-01-01")
    before = _told(instance)
    assert _prune(instance, timedelta(hours=23)).runs == 0
    gone = _prune(instance, timedelta(hours=25))
    assert (gone.runs, gone.condensed) == (1, 0)
    assert not instance.has_run(old)
    assert _told(instance) == before


def test_a_condensed_event_goes_when_its_partition_is_made_again(
    instance: DagsterInstance,
) -> None:
    _make(instance, "2026-01-01")
    _make(instance, "2026-01-02")
    _prune(instance)
    _make(instance, "2026-01-01")
    before = _told(instance)
    events = AssetRecordsFilter(first.key, asset_partitions=["2026-01-01"])
    assert len(instance.fetch_materializations(events, limit=9).records) == 2
    gone = _prune(instance, timedelta(days=2))
    assert gone.rows >= 2
    assert len(instance.fetch_materializations(events, limit=9).records) == 1
    assert _told(instance) == before


def test_days_that_are_no_partition_any_more_go_with_their_runs(
    instance: DagsterInstance,
) -> None:
    _make(instance, "2026-01-01")
    assert _prune(instance).condensed == 0  # it holds the check's newest result
    made = {day: _make(instance, day) for day in ("2026-01-02", "2026-01-03", "2026-01-04")}
    assert _prune(instance).condensed == 3
    _make(instance, "2026-01-05")
    past = {"2026-01-01", "2026-01-02"}

    def prune_past(after: timedelta) -> Pruned:
        later = datetime.now(UTC) + after
        return prune(instance, [CHECK], later, Retention(), is_past=past.__contains__)

    assert prune_past(timedelta(hours=23)).rows == 0  # as long as what is superseded
    prune_past(LONG_AFTER)
    for asset in (first, second):
        left = instance.get_materialized_partitions(asset.key)
        assert left == {"2026-01-03", "2026-01-04", "2026-01-05"}
    with pruning._events(instance) as connection:
        tags = set(connection.execute(sqlalchemy.select(AssetEventTagsTable.c.event_id)).scalars())
        events = set(connection.execute(sqlalchemy.select(SqlEventLogStorageTable.c.id)).scalars())
    assert tags <= events
    assert _event(instance, first.key, "2026-01-03")[2] == "2026-01-03"
    assert _run_of(instance, first.key, "2026-01-03") == ("", made["2026-01-03"])


def test_a_run_of_a_past_day_goes_whole(instance: DagsterInstance) -> None:
    old = _make(instance, "2026-01-01")
    _make(instance, "2026-01-02")
    later = datetime.now(UTC) + timedelta(days=2)
    gone = prune(instance, [CHECK], later, Retention(), is_past="2026-01-01".__eq__)
    assert (gone.runs, gone.condensed) == (1, 0)
    assert not instance.has_run(old)
    assert instance.get_materialized_partitions(first.key) == {"2026-01-02"}


def test_nothing_hangs_on_runs_that_are_gone(instance: DagsterInstance) -> None:
    for number in range(3):
        _make(instance, "2026-01-01", tags={"number": str(number)})
    _prune(instance)
    with pruning._runs(instance) as connection:
        tagged = set(connection.execute(sqlalchemy.select(RunTagsTable.c.run_id)).scalars())
    with pruning._events(instance) as connection:
        query = sqlalchemy.select(AssetCheckExecutionsTable.c.run_id)
        checked = list(connection.execute(query).scalars())
    [left] = instance.get_runs()
    assert tagged == {left.run_id}
    assert set(checked) == {left.run_id}


@pytest.mark.parametrize("killed_at", ["before the events", "before the run"])
def test_a_kill_in_between_is_made_good_the_next_night(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    for day in ("2026-01-01", "2026-01-02"):
        _make(instance, day)
    before = _told(instance)
    storage = instance.event_log_storage if killed_at == "before the events" else instance
    name = "delete_events" if killed_at == "before the events" else "delete_run"

    def killed(run_id: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(storage, name, killed)
        with pytest.raises(KeyboardInterrupt):
            _prune(instance)
    assert _told(instance) == before
    assert _prune(instance).runs == 1
    assert _told(instance) == before
    assert instance.get_runs_count() == 1


def test_a_night_ends_in_time_and_the_next_goes_on(instance: DagsterInstance) -> None:
    for number in range(1, 6):
        _make(instance, f"2026-01-{number:02d}")
    before = _told(instance)
    later = datetime.now(UTC) + LONG_AFTER
    left = iter([True, True, False])
    gone = prune(instance, [CHECK], later, Retention(), lambda: next(left, False))
    assert gone.runs == 2
    assert prune(instance, [CHECK], later, Retention()).runs == 2
    assert _told(instance) == before


def test_drafts_that_people_asked_for_are_forgotten_like_old_runs(
    instance: DagsterInstance,
) -> None:
    _make(instance, "2026-01-01")
    for number in range(3):
        instance.report_runless_asset_event(
            dg.AssetObservation("first", partition="2026-01-01", metadata={"version": number})
        )
    before = _told(instance)
    assert len(instance.fetch_observations(first.key, limit=9).records) == 3
    assert _prune(instance, timedelta(days=29)).rows == 0
    assert _prune(instance, timedelta(days=31)).rows >= 3
    assert instance.fetch_observations(first.key, limit=9).records == []
    assert _told(instance) == before


def test_backfills_that_ended_long_ago_go(instance: DagsterInstance) -> None:
    made_at = datetime.now(UTC).timestamp()
    for name, status in (
        ("done", BulkActionStatus.COMPLETED_SUCCESS),
        ("underway", BulkActionStatus.REQUESTED),
    ):
        instance.add_backfill(
            PartitionBackfill(
                backfill_id=name,
                status=status,
                from_failure=False,
                tags={"of": name},
                backfill_timestamp=made_at,
                asset_selection=[first.key],
                serialized_asset_backfill_data="{}",
            )
        )
    assert _prune(instance, timedelta(days=89)).rows == 0
    assert _prune(instance, timedelta(days=91)).rows == 1
    assert [backfill.backfill_id for backfill in instance.get_backfills()] == ["underway"]
