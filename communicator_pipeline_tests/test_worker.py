"""The resident worker: beside the sensor, through failures, and after a kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import orjson
import pytest
from dagster import DagsterInstance
from fastapi.testclient import TestClient

from communicator_pipeline import abandoned_runs, materialising, runs
from communicator_pipeline import worker as worker_module
from communicator_pipeline.definitions import build_definitions
from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.ingestion.connecting import add_account, remove_account
from communicator_pipeline.ingestion.push import receive
from communicator_pipeline.platforms.example.live import ExampleClient
from communicator_pipeline.platforms.example.server import ExampleServer
from communicator_pipeline.platforms.protocol import Page, PullRequest, Window
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.storage import Stores, home
from communicator_pipeline.storage.cloudflare import EdgeQueue
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.landing import landed_months, read_landing
from communicator_pipeline.storage.queue import EDGE_FIGURES
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline.storage.workers import DEAD_AFTER, Workers
from communicator_pipeline.worker import Worker
from communicator_pipeline_tests.conftest import EXAMPLE
from communicator_pipeline_tests.ingestion.queue_server import (
    DEAD,
    QUEUE,
    account_at,
    queue_server,
)
from communicator_pipeline_tests.ingestion.test_push import ACCOUNT, KEY, message, push


@pytest.fixture
def instance(stores: Stores) -> Iterator[DagsterInstance]:
    with runs.open_instance() as opened:
        yield opened


@pytest.fixture
def definitions(stores: Stores) -> dg.Definitions:
    return build_definitions({"stores": StoresResource(folder=str(home()))})


@pytest.fixture
def worker(
    stores: Stores,
    instance: DagsterInstance,
    definitions: dg.Definitions,
    monkeypatch: pytest.MonkeyPatch,
) -> Worker:
    # On a slow machine an account would have rested before the others are through.
    monkeypatch.setattr(materialising, "FAILED_RUN_AGAIN", (3_600,) * 4)
    return Worker(stores, instance, definitions)


def connect(stores: Stores, *accounts: str) -> None:
    for account in accounts or (ACCOUNT,):
        add_account(stores, "ana", account, "generic", {"me": "ana", "push_key": KEY}, lambda f: "")


def question(number: int) -> dict[str, object]:
    return {
        **message(number, "ana: can you send me the invoice today?"),
        "author": "ben",
        "channel_kind": "dm",
    }


def all_done(worker: Worker) -> None:
    while worker.step():
        pass


def test_a_push_is_a_draft_in_the_inbox_after_one_step(stores: Stores, worker: Worker) -> None:
    connect(stores)
    receive(stores, "generic", ACCOUNT, push(question(1)))
    assert worker.step()
    row = Inbox(stores.database, "ana").conversations(ACCOUNT)[0]
    assert row["needs_reply"]
    assert row["draft"]
    assert WorkQueue(stores.database).dirty() == []
    assert not worker.step()


def test_a_muted_chat_never_asks_for_a_reply(stores: Stores, worker: Worker) -> None:
    connect(stores)
    Connections(stores).set_rules(ACCOUNT, {"c": "mute"})
    receive(stores, "generic", ACCOUNT, push(question(1), {**question(2), "channel": "d"}))
    all_done(worker)
    rows = {row["channel_id"]: row for row in Inbox(stores.database, "ana").conversations(ACCOUNT)}
    assert (bool(rows["c"]["needs_reply"]), rows["c"]["draft"]) == (False, None)
    assert rows["d"]["draft"]


def test_what_is_excluded_is_not_read_when_it_is_pushed(stores: Stores, worker: Worker) -> None:
    connect(stores)
    Connections(stores).set_rules(ACCOUNT, {"c": "exclude"})
    receive(stores, "generic", ACCOUNT, push(question(1)))
    all_done(worker)
    assert Inbox(stores.database, "ana").conversations(ACCOUNT) == []


def test_a_burst_is_one_run(stores: Stores, worker: Worker, instance: DagsterInstance) -> None:
    connect(stores)
    for number in range(50):
        receive(stores, "generic", ACCOUNT, push(question(number)))
    all_done(worker)
    assert worker.worked.runs == 1
    assert instance.get_runs_count() == 1
    rows = stores.database.execute("SELECT count(*) AS n FROM messages")
    assert rows[0]["n"] == 50


def test_its_runs_are_found_in_the_web_ui(
    stores: Stores, worker: Worker, instance: DagsterInstance
) -> None:
    connect(stores)
    receive(stores, "generic", ACCOUNT, push(question(1)))
    all_done(worker)
    run = instance.get_runs()[0]
    assert run.job_name == "refresh"
    assert run.tags[".dagster/repository"] == "__repository__@communicator_pipeline"
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert instance.get_materialized_partitions(dg.AssetKey("inbox")) == {f"{ACCOUNT}|2026-11"}


def test_an_account_whose_run_fails_rests_and_the_others_go_on(
    stores: Stores, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(stores, "ana-bad", "ana-good")
    real = runs.run_range

    def failing(instance: DagsterInstance, job: dg.JobDefinition, run: runs.WantedRun) -> object:
        if run.account == "ana-bad":
            raise runs.RunFailed("run 1 of ana-bad: a check failed")
        return real(instance, job, run)

    monkeypatch.setattr(runs, "run_range", failing)
    for account in ("ana-bad", "ana-good"):
        receive(stores, "generic", account, push(question(1)))
    all_done(worker)
    assert (worker.worked.runs, worker.worked.failed_runs) == (1, 1)
    assert [d.account for d in WorkQueue(stores.database).dirty()] == ["ana-bad"]


def test_a_part_that_fails_keeps_no_other_from_being_done(
    stores: Stores, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(stores)
    receive(stores, "generic", ACCOUNT, push(question(1)))

    def broken(*_: object) -> None:
        raise OSError("a moment's trouble")

    for part in ("_deliver", "_poll", "_clear_up"):
        monkeypatch.setattr(worker, part, broken)
    assert worker.step()
    assert (worker.worked.pushes, worker.worked.runs) == (1, 1)


def test_a_worker_that_only_fails_does_not_count_as_living(
    stores: Stores, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("the database cannot be read")

    beats: list[datetime] = []
    monkeypatch.setattr(worker_module, "BEAT_EVERY", timedelta(seconds=0.01))
    monkeypatch.setattr(worker_module, "FAULT_AGAIN", 0.01)
    monkeypatch.setattr(worker._workers, "beat", beats.append)
    heart = threading.Thread(target=worker._beat)
    with monkeypatch.context() as patched:
        patched.setattr(worker_module, "drain", broken)
        worker.step()
        heart.start()
        time.sleep(0.1)
        assert beats == []
    time.sleep(0.02)
    worker.step()
    time.sleep(0.1)
    worker.stop()
    heart.join()
    assert beats


def test_a_long_run_keeps_no_push_of_another_account_waiting(
    stores: Stores, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(stores, ACCOUNT, "ana-other")
    began, over = threading.Event(), threading.Event()

    def long(*_: object) -> object:
        began.set()
        over.wait(30)
        raise runs.RunFailed("told to end")

    monkeypatch.setattr(runs, "run_range", long)
    monkeypatch.setattr(worker_module.signal, "signal", lambda *_: None)
    running = threading.Thread(target=worker.run)
    running.start()
    receive(stores, "generic", ACCOUNT, push(question(1)))
    assert began.wait(30)
    receive(stores, "generic", "ana-other", push(question(2)))
    deadline = time.monotonic() + 10
    waiting = "SELECT count(*) AS n FROM pushes WHERE state = 'waiting'"
    while stores.database.execute(waiting)[0]["n"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not over.is_set()
    worker.stop()
    over.set()
    running.join()


def test_a_run_that_failed_is_tried_again_when_its_account_has_rested(
    stores: Stores, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(stores)
    receive(stores, "generic", ACCOUNT, push(question(1)))
    with monkeypatch.context() as patched:

        def broken(*_: object) -> None:
            raise OSError("a moment's trouble")

        patched.setattr("communicator_pipeline.chain.raw_messages.message_versions", broken)
        all_done(worker)
    assert worker.worked.failed_runs == 1
    assert len(WorkQueue(stores.database).unleased(datetime.now(UTC), 9)) == 1
    worker._materialiser._resting.worked(ACCOUNT)
    all_done(worker)
    assert (worker.worked.runs, WorkQueue(stores.database).dirty()) == (1, [])


def test_the_days_of_a_run_that_was_killed_are_free_when_it_is_reported_as_failed(
    stores: Stores, instance: DagsterInstance, definitions: dg.Definitions
) -> None:
    work = WorkQueue(stores.database)
    now = datetime.now(UTC)
    dead = f"{socket.gethostname()}:{os.getpid()}:1"  # the same id, started at another time
    run = instance.create_run_for_job(
        runs.chain_job(definitions),
        status=dg.DagsterRunStatus.STARTED,
        tags={abandoned_runs.PROCESS_TAG: dead, "dagster/partition": "ana-chat|2026-11"},
    )
    work.mark("ana-chat", ["2026-11-03"], "a test")
    work.claim(run.run_id, "ana-chat", "2026-11", ["2026-11-03"])
    assert work.unleased(now, 9) == []
    runs.register_accounts(stores, instance)
    assert [day.day for day in work.unleased(now, 9)] == ["2026-11-03"]
    alive = instance.create_run_for_job(
        runs.chain_job(definitions),
        status=dg.DagsterRunStatus.STARTED,
        tags={
            abandoned_runs.PROCESS_TAG: abandoned_runs.this_process(),
            "dagster/partition": "ana-chat|2026-11",
        },
    )
    assert abandoned_runs.fail_abandoned_runs(instance) == []
    assert alive.run_id


def test_an_account_that_is_made_anew_has_a_landing_zone_of_its_own(
    stores: Stores, worker: Worker
) -> None:
    connect(stores)
    receive(stores, "generic", ACCOUNT, push(question(1)))
    all_done(worker)
    remove_account(stores, "ana", ACCOUNT)
    stores.database.execute("DELETE FROM removed_accounts")  # an hour or two later
    connect(stores)
    receive(stores, "generic", ACCOUNT, push(question(1)))
    all_done(worker)
    assert len(Inbox(stores.database, "ana").conversations(ACCOUNT)) == 1


def test_what_has_landed_of_quiet_accounts_leaves_memory_and_is_known_all_the_same(
    stores: Stores, worker: Worker
) -> None:
    accounts = [f"ana-{number}" for number in range(3)]
    connect(stores, *accounts)

    def receive_all(number: int) -> None:
        for account in accounts:
            receive(stores, "generic", account, push(question(number)))
            all_done(worker)
        stores.database.execute("DELETE FROM pushes")  # the queue does not know them any more

    receive_all(1)
    assert list(worker._landings) == accounts
    for account in accounts[:2]:
        worker._landings[account].used -= timedelta(days=1)
    receive(stores, "generic", "ana-2", push(question(2)))
    all_done(worker)
    assert list(worker._landings) == ["ana-2"]
    receive_all(1)
    receive_all(2)
    assert list(worker._landings) == accounts
    for account in accounts:
        [month] = landed_months(stores.lake, account)
        assert read_landing(stores.lake, AccountMonth(account, month), None).num_rows == 2


def test_history_of_many_accounts_keeps_none_waiting_for_what_is_new(
    stores: Stores, worker: Worker, example: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(self: ExampleClient, request: PullRequest) -> Iterator[Page]:
        while request.window is not None:
            time.sleep(0.05)
            yield Page(cursors={"page": "1"})

    monkeypatch.setattr(ExampleClient, "pull", slow)
    window = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
    connections = Connections(stores)
    names = [f"ana-history-{number}" for number in range(9)]
    with ExampleServer() as peer:
        for account in (*names, EXAMPLE):
            add_account(stores, "ana", account, "example", peer.values, lambda f: "")
            connections.set_cadence(account, timedelta(seconds=1))
        for account in names:
            connections.ask_for_history(account, window)
        deadline = time.monotonic() + 30
        seen: set[str | None] = set()
        while len(seen - {None}) < 3:
            assert time.monotonic() < deadline
            worker.step()
            seen.add(connections.health(EXAMPLE).pulled_at)
            time.sleep(0.02)
        assert len(worker._histories) + len(worker._wanted_histories) > 2
        began = time.monotonic()
        worker.stop()
        for pool in (worker._history_pool, worker._pool):
            pool.shutdown(wait=True, cancel_futures=True)
        assert time.monotonic() - began < 2


def test_due_accounts_are_polled_and_make_no_run_without_news(
    stores: Stores, worker: Worker, instance: DagsterInstance, example: None
) -> None:
    with ExampleServer() as peer:
        add_account(stores, "ana", EXAMPLE, "example", peer.values, lambda f: "")
        deadline = time.monotonic() + 20
        while worker.worked.pulls < 1 and time.monotonic() < deadline:
            worker.step()
        assert worker.worked.pulls == 1
        assert instance.get_runs_count() == 0
        peer.say("ana, can you send me the invoice?")
        stores.database.execute("UPDATE connections SET next_pull_at = '2026-01-01'")
        while min(worker.worked.runs, worker.worked.pulls - 1) < 1 and time.monotonic() < deadline:
            worker.step()
    assert worker.worked.pulls == 2
    assert instance.get_runs_count() == 1


def test_the_sensor_leaves_the_work_to_a_worker_that_lives(
    stores: Stores, definitions: dg.Definitions, instance: DagsterInstance
) -> None:
    connect(stores)
    receive(stores, "generic", ACCOUNT, push(question(1)))
    repository = definitions.get_repository_def()
    sensor = repository.get_sensor_def("touched_days")
    Workers(stores.database).beat(datetime.now(UTC))
    with dg.build_sensor_context(
        instance=instance, repository_def=repository, resources={"stores": _stores()}
    ) as context:
        ticked = sensor.evaluate_tick(context)
        assert not ticked.run_requests
        assert WorkQueue(stores.database).dirty() == []  # nothing drained: the worker does it
        Workers(stores.database).leave()
        assert len(sensor.evaluate_tick(context).run_requests or ()) == 1
        assert len(WorkQueue(stores.database).dirty()) == 1


def test_the_poll_schedule_asks_for_a_run_only_when_it_is_needed(
    stores: Stores, definitions: dg.Definitions, instance: DagsterInstance, example: None
) -> None:
    schedule = definitions.get_repository_def().get_schedule_def("poll_accounts")

    def wanted() -> int:
        with dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime.now(UTC),
            resources={"stores": _stores()},
        ) as context:
            return len(schedule.evaluate_tick(context).run_requests or ())

    assert wanted() == 0  # nobody is connected
    with ExampleServer() as peer:
        add_account(stores, "ana", EXAMPLE, "example", peer.values, lambda f: "")
        assert wanted() == 1
        Workers(stores.database).beat(datetime.now(UTC))
        assert wanted() == 0
        Workers(stores.database).leave()
        peer.say("hello")
        result = definitions.resolve_job_def("pull").execute_in_process(instance=instance)
        assert result.success
        assert wanted() == 0  # not due again yet
    assert len(WorkQueue(stores.database).dirty(EXAMPLE)) == 1


def test_the_connections_are_checked_when_one_falls_ill_or_is_well_again_and_daily(
    stores: Stores, definitions: dg.Definitions, instance: DagsterInstance
) -> None:
    connect(stores)
    schedule = definitions.get_repository_def().get_schedule_def("watch_connections")
    noon = datetime(2026, 11, 25, 12, tzinfo=UTC)

    def wanted(moment: datetime) -> int:
        with dg.build_schedule_context(
            instance=instance, scheduled_execution_time=moment, resources={"stores": _stores()}
        ) as context:
            requests = schedule.evaluate_tick(context).run_requests or ()
        for request in requests:  # as the daemon makes it
            tags = {"dagster/run_key": str(request.run_key)}
            instance.create_run_for_job(definitions.resolve_job_def("connection_checks"), tags=tags)
        return len(requests)

    ticks = [noon + timedelta(minutes=10 * number) for number in range(5)]
    assert [wanted(tick) for tick in ticks[:2]] == [1, 0]
    Connections(stores).note_trouble(ACCOUNT, "login needed", "x", noon, 1)
    assert [wanted(tick) for tick in ticks[2:4]] == [1, 0]
    Connections(stores).set_settings(ACCOUNT, Connections(stores).settings(ACCOUNT))
    assert wanted(ticks[4]) == 1
    assert wanted(noon + timedelta(days=1)) == 1


def test_a_worker_that_was_not_heard_of_is_dead(stores: Stores) -> None:
    workers = Workers(stores.database)
    now = datetime.now(UTC)
    workers.beat(now)
    assert workers.living(now) == [workers.me]
    assert workers.living(now + DEAD_AFTER + timedelta(seconds=1)) == []


def test_the_command_works_until_it_is_told_to_stop_and_a_kill_loses_nothing(
    stores: Stores, tmp_path: Path
) -> None:
    connect(stores)
    environment = os.environ | {"COMMUNICATOR_HOME": str(home())}
    command = [sys.executable, "-m", "communicator_pipeline.cli", "worker"]

    def started() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)

    def until(condition: str) -> None:
        deadline = time.monotonic() + 60
        while not stores.database.execute(condition)[0]["n"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    process = started()
    until("SELECT count(*) AS n FROM workers")
    receive(stores, "generic", ACCOUNT, push(question(1)))
    until("SELECT count(*) AS n FROM pushes WHERE leases > 0")
    process.send_signal(signal.SIGKILL)
    process.wait()
    # What it had leased is due again when the lease is over; its run is reported as failed.
    stores.database.execute("UPDATE pushes SET visible_at = '2026-01-01'")
    stores.database.execute("UPDATE dirty_days SET leased_until = ''")
    process = started()
    until("SELECT count(*) AS n FROM drafts")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert Workers(stores.database).living(datetime.now(UTC)) in ([], [_gone(stores)])
    assert orjson.dumps(stores.database.execute("SELECT count(*) AS n FROM messages")) == (
        b'[{"n":1}]'
    )
    with runs.open_instance() as instance:
        states = {run.status for run in instance.get_runs()}
    assert states <= {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}


def test_a_worker_that_leaves_reports_the_run_of_its_killed_backlog_process(
    stores: Stores, worker: Worker, instance: DagsterInstance, definitions: dg.Definitions
) -> None:
    """Nobody else could: where a machine's worker has left, its runs may be anybody's."""
    run = instance.create_run_for_job(
        runs.chain_job(definitions),
        status=dg.DagsterRunStatus.STARTED,
        tags={
            abandoned_runs.PROCESS_TAG: f"{socket.gethostname()}:{os.getpid()}:1",
            "dagster/partition": "ana-chat|2026-11",
        },
    )
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        worker.stop()
        worker.run()
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status == dg.DagsterRunStatus.FAILURE
    assert stores.database.execute("SELECT * FROM workers") == []


def _gone(stores: Stores) -> str:
    """The killed worker's last beat may be younger than its death takes to be believed."""
    rows = stores.database.execute("SELECT worker FROM workers ORDER BY started_at LIMIT 1")
    return str(rows[0]["worker"]) if rows else ""


def _stores() -> StoresResource:
    return StoresResource(folder=str(home()))


def test_what_was_pushed_at_the_edge_is_taken_and_its_queue_is_watched(
    stores: Stores,
    instance: DagsterInstance,
    definitions: dg.Definitions,
    tmp_path: Path,
) -> None:
    connect(stores)
    with queue_server() as server:
        edge = EdgeQueue(account_at(server.url, tmp_path), QUEUE, DEAD)
        worker = Worker(replace(stores, edge=edge), instance, definitions)
        for number in range(3):
            pushed = {"account": ACCOUNT, "platform": "generic", "key": f"k{number}"}
            server.send({**pushed, "body": orjson.dumps(question(number)).decode()})
        while worker.step():
            pass
        assert server.queues[QUEUE] == []
    rows = stores.database.execute("SELECT message_id FROM messages WHERE account = ?", (ACCOUNT,))
    assert len(rows) == 3
    assert Settings(stores.database, None).get(EDGE_FIGURES)["dead"] == 0
    with TestClient(create_app(stores), client=("127.0.0.1", 1)) as client:
        assert "communicator_edge_queue 0.0" in client.get("/metrics").text
