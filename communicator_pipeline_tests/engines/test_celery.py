"""Steps on Celery's workers, with a real Redis and Postgres: nothing is lost whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import dagster as dg
import pytest
from celery import Celery
from sqlalchemy import text

from communicator_pipeline.dagster_records.database import VARIABLE, connected, postgres_address
from communicator_pipeline.engines.celery_app import MOST_STARTS, StepGivenUp, _keep, through
from communicator_pipeline.storage import open_local
from communicator_pipeline.storage.database import utc_text
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline_tests.conftest import FaultSizes
from communicator_pipeline_tests.infra.celery_stack import (
    CLONE,
    VICTIMS,
    CeleryStack,
    celery_stack,
    until,
)
from communicator_pipeline_tests.infra.made_up_chats import OWNER, fill
from communicator_pipeline_tests.infra.postgres import (
    PASSWORD,
    Postgres,
    needs_postgres,
    postgres,
)
from communicator_pipeline_tests.infra.redis import PASSWORD as PASSWORD_OF_REDIS
from communicator_pipeline_tests.infra.redis import PROGRAM, RedisServer, running
from communicator_pipeline_tests.stored_rows import rows_of

__all__ = ["postgres"]
pytestmark = [
    *needs_postgres,
    pytest.mark.skipif(PROGRAM is None, reason="needs Redis: apt-get install redis-server"),
]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def stack(
    request: pytest.FixtureRequest,
    postgres: Postgres,
    redis: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[CeleryStack]:
    """Two workers, or as many as is asked for; Dagster as in the containers, with this Postgres."""
    workers = getattr(request, "param", 2)
    folder = tmp_path_factory.mktemp("celery")
    written = (CLONE / "infra" / "docker" / "dagster.yaml").read_text()
    assert "port: 5432" in written
    dagster_yaml = written.replace("port: 5432", f"port: {postgres.port}").replace(
        "/tmp/dagster", str(folder / "artifacts")
    )
    postgres.create(folder.name)
    redis.client.flushall()  # what another stack has left
    environment = {
        **postgres.variables(folder.name),
        "COMMUNICATOR_CELERY_BROKER": redis.url,
    }
    before = dict(os.environ)
    os.environ.update(environment)  # this process asks Dagster as well
    try:
        with celery_stack(folder, dagster_yaml, environment, workers) as started:
            yield started
    finally:
        os.environ.clear()
        os.environ.update(before)


def undisturbed(
    stack: CeleryStack, folder: Path, amount: Mapping[str, int]
) -> dict[str, list[str]]:
    """The rows of the same imports, materialised by the command line in one process."""
    accounts = fill(open_local(folder), folder / "chats", **amount)
    environment = {
        name: value
        for name, value in stack.environment.items()
        if name not in ("DAGSTER_HOME", "COMMUNICATOR_EXECUTOR", "COMMUNICATOR_EXECUTOR_CONFIG")
    }
    subprocess.run(
        [Path(sys.executable).parent / "communicator", "materialize", "--user", OWNER],
        env={**environment, "COMMUNICATOR_HOME": str(folder)},
        check=True,
        capture_output=True,
    )
    return rows_of(folder, accounts)


def assert_same(found: dict[str, list[str]], expected: dict[str, list[str]], words: str) -> None:
    assert expected["dirty days"] == []
    assert sum(map(len, expected.values())) > 100
    for name, rows in expected.items():
        assert found[name] == rows, f"{words}: {name} differs"


def backfill_under_kills(
    stack: CeleryStack, folder: Path, seed: int, kills: int, accounts: int, spans: int, days: int
) -> None:
    """Have imports of so many accounts, months and days of each materialised, kill so often, and
    compare with what comes of the same imports undisturbed."""
    chance = Random(seed)
    amount = {"accounts": accounts, "spans": spans, "days": days, "seed": seed}
    expected = undisturbed(stack, folder / "undisturbed", amount)
    keys = fill(stack.stores, folder / "chats", **amount)
    done: list[str] = []
    began = time.monotonic()
    next_kill = began + chance.uniform(1, 6)
    while not stack.is_idle():
        assert time.monotonic() - began < 1_800, f"seed {seed}: still at work, after {done}"
        if len(done) < kills and time.monotonic() > next_kill:
            victim = VICTIMS[len(done) % len(VICTIMS)]
            if stack.kill_one(victim, chance):
                done.append(victim)
                next_kill = time.monotonic() + chance.uniform(1, 8)
        time.sleep(0.5)
        stack.tend()
    with stack.instance as instance:
        runs = instance.get_runs(dg.RunsFilter(job_name="refresh"))
    states = Counter(run.status.value for run in runs)
    seconds = time.monotonic() - began
    print(f"seed {seed}: {len(done)} kills in {seconds:.0f} s, runs {dict(states)}: {done}")
    assert len(done) == kills, "it was done before all kills: give it more to do"
    assert_same(rows_of(stack.home, keys), expected, f"seed {seed}, {done}")
    assert all(run.is_finished for run in runs)
    sent = stack.stores.database.execute("SELECT state FROM deliveries")
    assert not sent, "nothing was approved, and nothing may have been sent"


def import_one(stack: CeleryStack, folder: Path, number: int) -> tuple[str, dict[str, list[str]]]:
    """Import an account of its own; returns it, and what is to become of it."""
    amount = {"accounts": 1, "spans": 2, "days": 2, "seed": 7, "first": number}
    expected = undisturbed(stack, folder / "undisturbed", amount)
    (account,) = fill(stack.stores, folder / "chats", **amount)
    return account, expected


def runs_of(stack: CeleryStack, account: str) -> list[dg.DagsterRun]:
    with stack.instance as instance:
        return list(instance.get_runs(dg.RunsFilter(tags={"communicator/account": account})))


def words_of(stack: CeleryStack, run: dg.DagsterRun) -> list[str]:
    with stack.instance as instance:
        return [entry.user_message or entry.message for entry in instance.all_logs(run.run_id)]


def starts_of(stack: CeleryStack, run: dg.DagsterRun) -> int:
    with stack.instance as instance:
        of_type = dg.DagsterEventType.STEP_START
        return len(instance.all_logs(run.run_id, of_type=of_type))


def assert_asked_for_again(stack: CeleryStack, account: str) -> None:
    """The days of a run that came to nothing: at the latest when their lease is over."""
    dirty = WorkQueue(stack.stores.database).dirty(account)
    assert dirty
    latest = utc_text(datetime.now(UTC) + timedelta(minutes=10))
    assert all(day.leased_until <= latest for day in dirty)
    stack.stores.database.execute(
        "UPDATE dirty_days SET leased_until = ? WHERE account = ?",
        (utc_text(datetime.now(UTC) - timedelta(seconds=1)), account),
    )  # ten minutes later
    until(stack.is_idle, 120, "the days are done after all")


def stop_workers(stack: CeleryStack) -> None:
    for worker in stack.workers:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(10)
    stack.workers.clear()


@contextmanager
def no_event_written(postgres: Postgres, database: str) -> Iterator[Callable[[], set[int]]]:
    """Until the block ends, whoever writes an event of a run into Dagster's records waits; reading
    goes on. Gives a function that returns the processes of Postgres for which somebody waits."""
    url = postgres_address({VARIABLE: postgres.address(database)})
    assert url is not None
    with connected(url) as connection:
        connection.execute(text("LOCK TABLE event_logs IN EXCLUSIVE MODE"))
        holder = connection.scalar(text("SELECT pg_backend_pid()"))

        def waiting() -> set[int]:
            answer = postgres.sql(
                f"SELECT pid FROM pg_stat_activity WHERE {holder} = ANY(pg_blocking_pids(pid))"
            )
            return set(map(int, answer.splitlines()))

        yield waiting


def queued(redis: RedisServer, queue: str) -> list[bytes | str]:
    """The keys of Redis in which messages of the queue wait: one for each priority."""
    return [key for key in redis.client.keys(f"{queue}*") if redis.client.type(key) == b"list"]


# --- with workers


def test_a_backfill_is_complete_and_the_same_whichever_workers_are_killed(
    stack: CeleryStack, tmp_path: Path, sizes: FaultSizes
) -> None:
    backfill_under_kills(
        stack, tmp_path, sizes.seed, kills=len(VICTIMS), accounts=2, spans=4, days=2
    )


def test_a_step_that_is_delivered_twice_is_executed_twice_at_once_and_does_no_harm(
    stack: CeleryStack, redis: RedisServer, postgres: Postgres, tmp_path: Path
) -> None:
    stop_workers(stack)
    account, expected = import_one(stack, tmp_path, 20)
    until(lambda: bool(queued(redis, "pull")), 60, "the first step waits")
    (key,) = queued(redis, "pull")
    (message,) = redis.client.lrange(key, 0, -1)
    other = json.loads(message)
    other["properties"]["delivery_tag"] = "another"
    redis.client.lpush(key, json.dumps(other))
    with no_event_written(postgres, stack.environment["DAGSTER_POSTGRES_DATABASE"]) as waiting:
        before = waiting()
        workers = [stack.start_worker() for _ in range(2)]
        # Each has found that the step is not through, and can say no further word.
        until(lambda: len(waiting() - before) >= len(workers), 120, "both workers begin the step")
    until(stack.is_idle, 120, "all is done")
    assert_same(rows_of(stack.home, [account]), expected, "delivered twice")
    (run,) = runs_of(stack, account)
    assert run.is_success
    with stack.instance as instance:
        starts = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
    assert sum(entry.step_key == "raw_messages" for entry in starts) == 2, "not twice at once"

    # And once more, long after the run.
    other["properties"]["delivery_tag"] = "late"
    redis.client.lpush(key, json.dumps(other))
    until(lambda: not queued(redis, "pull") and not redis.client.exists("unacked"), 30, "taken")
    assert starts_of(stack, run) == len(starts), "executed after the end of its run"


def test_no_log_and_no_record_holds_a_password_or_what_was_said(stack: CeleryStack) -> None:
    """Of all that the tests before did."""
    for log in stack.logs.glob("*.log"):
        written = log.read_text(errors="replace")
        assert written
        for secret in (PASSWORD_OF_REDIS, PASSWORD, "invoice of the order", "Porto"):
            assert secret not in written, f"{secret} is in {log.name}"
    with stack.instance as instance:
        for run in instance.get_runs():
            told = str(instance.all_logs(run.run_id))
            assert PASSWORD_OF_REDIS not in told
            assert "Porto" not in told


def test_what_is_live_is_taken_before_what_is_backlog(redis: RedisServer) -> None:
    """Redis takes the lowest number first, over all queues of a worker; dagster-celery adds the
    run's priority to 5."""
    with (
        Celery(broker=redis.url).connection_for_write() as connection,
        connection.SimpleQueue("of the test") as queue,
    ):
        for name, priority in (("other", 0), ("backlog", 4), ("live", -5)):
            queue.put(name, priority=5 + priority)
        taken = [queue.get(timeout=5) for _ in range(3)]
        for message in taken:
            message.ack()
    assert [message.payload for message in taken] == ["live", "other", "backlog"]


def test_the_message_of_a_step_that_is_under_way_counts_as_just_delivered(
    redis: RedisServer,
) -> None:
    """Until it is acknowledged: then it is not brought back."""
    app = Celery(broker=redis.url)
    over = threading.Event()
    with app.connection_for_write() as connection, connection.SimpleQueue("kept") as queue:
        queue.put("step")
        message = queue.get(timeout=5)
        tag = message.delivery_tag
        since = redis.client.zscore("unacked_index", tag)
        assert since is not None
        keeper = threading.Thread(target=_keep, args=(app, tag, 0.1, over))
        keeper.start()
        try:
            until(
                lambda: (redis.client.zscore("unacked_index", tag) or 0) > since + 0.5,
                10,
                "it is kept",
            )
            message.ack()
            time.sleep(0.5)
            assert redis.client.zscore("unacked_index", tag) is None, "delivered again for ever"
        finally:
            over.set()
            keeper.join(10)


# --- a step that comes to no end


@dg.op
def works() -> None: ...


@dg.op
def fails() -> None:
    raise ValueError("on purpose")


@pytest.mark.parametrize(("op", "end"), [(works, "STEP_SUCCESS"), (fails, "STEP_FAILURE")])
def test_the_events_of_a_step_that_is_through_are_told_again(op: dg.OpDefinition, end: str) -> None:
    events = events_of(op)
    told = through(events, 0, op.name)
    assert told is not None
    assert told[0].event_type_value == "STEP_START"
    assert told[-1].event_type_value == end
    assert through(events[:-1], 0, op.name) is None, "it has not come to its end"
    assert through(events, 1, op.name) is None, "that was the try before"


def test_of_a_step_that_was_killed_and_then_came_through_the_second_time_is_told() -> None:
    events = events_of(works)
    killed = [event for event in events if event.event_type_value == "STEP_START"]
    told = through([*killed, *events], 0, "works")
    assert told is not None
    assert [event.event_type_value for event in told].count("STEP_START") == 1


def test_a_step_that_takes_its_process_along_each_time_is_given_up() -> None:
    (start,) = [event for event in events_of(works) if event.event_type_value == "STEP_START"]
    assert through([start] * (MOST_STARTS - 1), 0, "works") is None
    with pytest.raises(StepGivenUp, match="memory"):
        through([start] * MOST_STARTS, 0, "works")


def events_of(op: dg.OpDefinition) -> list[dg.DagsterEvent]:
    job = dg.GraphDefinition(name="job", node_defs=[op]).to_job()
    result = job.execute_in_process(raise_on_error=False)
    return [event for event in result.all_events if event.step_key == op.name]
