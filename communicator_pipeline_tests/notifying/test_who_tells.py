"""The worker and the schedule tell from the same table; Dagster says which runs failed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster import DagsterInstance

from communicator_pipeline import runs
from communicator_pipeline.definitions import build_definitions
from communicator_pipeline.failed_runs import failed_runs, note_made_digest
from communicator_pipeline.notifying.targets import add_target
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.storage import Stores, home
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.workers import Workers
from communicator_pipeline.worker import Worker
from communicator_pipeline_tests.notifying.ear import Ear, listening


@pytest.fixture
def instance(stores: Stores) -> Iterator[DagsterInstance]:
    with runs.open_instance() as opened:
        yield opened


@pytest.fixture
def definitions(stores: Stores) -> dg.Definitions:
    return build_definitions({"stores": StoresResource(folder=str(home()))})


@pytest.fixture
def ear(stores: Stores) -> Iterator[Ear]:
    """ana's digest is due all day, and her phone takes it."""
    with listening() as heard:
        add_target(stores, "ana", "phone", heard.url, False, datetime.now(UTC))
        Settings(stores.database, "ana").set("digest_at", "00:00")
        yield heard


def tick(definitions: dg.Definitions, instance: DagsterInstance) -> dg.ScheduleExecutionData:
    repository = definitions.get_repository_def()
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=datetime.now(UTC),
        repository_def=repository,
        resources={"stores": StoresResource(folder=str(home()))},
    )
    return repository.get_schedule_def("notify_people").evaluate_tick(context)


def test_the_worker_tells(
    stores: Stores, instance: DagsterInstance, definitions: dg.Definitions, ear: Ear
) -> None:
    worker = Worker(stores, instance, definitions)
    end = time.monotonic() + 60
    while not worker.worked.told and time.monotonic() < end:
        worker.step()
        time.sleep(0.05)
    assert worker.worked.told == 1
    assert len(ear.heard) == 1
    partition = "ana-chat|" + (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    made = instance.get_latest_materialization_event(dg.AssetKey("daily_digest"))
    assert made is not None
    assert made.asset_materialization is not None
    assert str(made.asset_materialization.partition) == partition


def test_the_schedule_tells_while_no_worker_lives_and_asks_for_nothing_twice(
    stores: Stores, instance: DagsterInstance, definitions: dg.Definitions, ear: Ear
) -> None:
    workers = Workers(stores.database)
    workers.beat(datetime.now(UTC))
    assert "a worker does it" in (tick(definitions, instance).skip_message or "")
    workers.leave()
    (request,) = tick(definitions, instance).run_requests or []
    assert request.run_key
    runs.deliver(stores, instance, definitions.resolve_job_def("notify"))
    assert len(ear.heard) == 1
    assert "nobody is to be told" in (tick(definitions, instance).skip_message or "")


def test_runs_that_failed_since_a_moment_are_found_in_words(
    stores: Stores, instance: DagsterInstance, definitions: dg.Definitions
) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    job = definitions.resolve_job_def("notify")
    good = instance.create_run_for_job(job, status=dg.DagsterRunStatus.SUCCESS)
    bad = instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags={"communicator/account": "ana-chat"}
    )
    instance.report_run_failed(bad, "the message 'secret words' broke it")
    (found,) = failed_runs(instance)(before)
    assert found.run_id == bad.run_id != good.run_id
    assert found.words == f"notify of ana-chat: run {bad.run_id[:8]}"
    assert before < found.ended_at
    assert failed_runs(instance)(datetime.now(UTC) + timedelta(minutes=1)) == []


def test_a_digest_that_was_made_to_be_sent_is_known_to_dagster(
    stores: Stores, instance: DagsterInstance
) -> None:
    note_made_digest(instance)("ana-chat", "2026-11-02")
    asset = dg.AssetKey("daily_digest")
    assert instance.get_materialized_partitions(asset) == {"ana-chat|2026-11-02"}
