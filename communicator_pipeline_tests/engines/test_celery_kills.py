"""Celery's workers, runs and Redis at full size: who may be killed, and what is left then.

Belongs here: what takes minutes. `test_celery.py` has the small version of the kills.
"""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import dagster as dg
import pytest

from communicator_pipeline_tests.conftest import FaultSizes
from communicator_pipeline_tests.engines.test_celery import (
    assert_asked_for_again,
    assert_same,
    backfill_under_kills,
    import_one,
    queued,
    redis,
    runs_of,
    stack,
    starts_of,
    stop_workers,
    words_of,
)
from communicator_pipeline_tests.infra.celery_stack import CeleryStack, until
from communicator_pipeline_tests.infra.postgres import PROGRAMS, postgres
from communicator_pipeline_tests.infra.redis import PASSWORD, PROGRAM, RedisServer
from communicator_pipeline_tests.stored_rows import rows_of

__all__ = ["postgres", "redis", "stack"]
pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(PROGRAM is None, reason="needs Redis: apt-get install redis-server"),
    pytest.mark.skipif(not PROGRAMS, reason="needs Postgres: apt-get install postgresql"),
]


@pytest.mark.parametrize("stack", [2, 4], indirect=True, ids=["2 workers", "4 workers"])
def test_a_backfill_of_two_years_is_the_same_whichever_workers_are_killed(
    stack: CeleryStack, tmp_path: Path, sizes: FaultSizes
) -> None:
    backfill_under_kills(
        stack,
        tmp_path,
        sizes.seed,
        kills=sizes.count(20, at_least=3),
        accounts=sizes.count(10, at_least=2),
        spans=sizes.count(24, at_least=4),
        days=2,
    )


def test_a_run_whose_own_process_dies_fails_and_its_days_are_asked_for_again(
    stack: CeleryStack, redis: RedisServer, tmp_path: Path
) -> None:
    stop_workers(stack)
    account, expected = import_one(stack, tmp_path, 21)
    until(lambda: bool(queued(redis, "pull")), 60, "the first step waits")
    (run,) = runs_of(stack, account)
    (pid,) = {
        int(found.group(1))
        for words in words_of(stack, run)
        if (found := re.search(r"Started process for run \(pid: (\d+)\)", words))
    }
    os.kill(pid, signal.SIGKILL)
    until(lambda: runs_of(stack, account)[0].is_finished, 60, "the run is over")
    (run,) = runs_of(stack, account)
    assert run.status == dg.DagsterRunStatus.FAILURE
    stack.start_worker()
    until(lambda: not queued(redis, "pull"), 60, "the step is taken")
    assert_asked_for_again(stack, account)
    assert starts_of(stack, run) == 0, "a step was executed although its run was over"
    assert_same(rows_of(stack.home, [account]), expected, "orchestrator killed")
    stack.start_worker()


def test_redis_is_killed_and_comes_back_with_what_waited(
    stack: CeleryStack, redis: RedisServer, tmp_path: Path
) -> None:
    account, expected = import_one(stack, tmp_path, 22)
    until(lambda: bool(runs_of(stack, account)), 60, "a run is there")
    until(lambda: starts_of(stack, runs_of(stack, account)[0]) > 1, 60, "it is under way")
    redis.kill()
    time.sleep(4)
    redis.start()
    until(stack.is_idle, 150, "all is done")
    assert_same(rows_of(stack.home, [account]), expected, "Redis killed")
    assert [run.status.value for run in runs_of(stack, account)] == ["SUCCESS"]


def test_redis_loses_its_data_and_the_run_that_waits_for_a_lost_step_fails(
    stack: CeleryStack, redis: RedisServer, tmp_path: Path
) -> None:
    stop_workers(stack)
    account, expected = import_one(stack, tmp_path, 23)
    until(lambda: bool(queued(redis, "pull")), 60, "the first step waits")
    redis.kill()
    redis.forget()
    redis.start()
    until(lambda: runs_of(stack, account)[0].is_finished, 60, "the run is over")
    (run,) = runs_of(stack, account)
    assert run.status == dg.DagsterRunStatus.FAILURE
    with stack.instance as instance:
        told = str(instance.all_logs(run.run_id))
    assert "Redis has lost its data" in told
    assert PASSWORD not in told
    for _ in range(2):
        stack.start_worker()
    assert_asked_for_again(stack, account)
    assert_same(rows_of(stack.home, [account]), expected, "Redis lost its data")
