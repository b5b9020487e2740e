"""A run whose steps Celery's workers execute: its own process, which hands them out and waits.

Belongs here: what dagster-celery's executor lacks. Does not belong here: executing a step
(`celery_app.py`), choosing an executor (`executor.py`). Imported only if Celery is chosen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import redis
from celery import Celery
from celery.result import AsyncResult
from dagster import multiple_process_executor_requirements
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster_celery.core_execution_loop import core_celery_execution_loop
from dagster_celery.executor import CELERY_CONFIG, CeleryExecutor, _submit_task

from communicator_pipeline.abandoned_runs import claim_run

FORGOTTEN_AFTER = 86_400
"""Seconds that Redis keeps the mark of a run: no run lasts so long (dagster.yaml's
`max_runtime_seconds`)."""


MAY_BE_AWAY = 120.0
"""Seconds without an answer of Redis after which the run fails: it has been started again by then,
or does not come back by itself."""


class BrokerForgot(RuntimeError):
    """Redis has lost what it held, so that a step is in no queue any more."""


class CeleryRun(CeleryExecutor):
    """dagster-celery's executor, and what it lacks: the run's own process notes that it executes
    the run, so that it is missed when it dies; Redis may be away for a while; and a step that
    Redis has lost ends the run, which would wait for it for ever."""

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        claim_run(plan_context.instance, plan_context.dagster_run)
        marks: list[_Mark] = []

        def submit(app: Celery, context: PlanOrchestrationContext, *of_step: Any) -> _Awaited:
            if not marks:  # before the first is sent: what is lost at once is noticed as well
                marks.append(_Mark(app, context.dagster_run.run_id))
            return _Awaited(_submit_task(app, context, *of_step), marks[0])

        yield from core_celery_execution_loop(
            plan_context, execution_plan, step_execution_fn=submit
        )


class _Mark:
    """A note in Redis beside what waits there: gone if that is."""

    def __init__(self, app: Celery, run_id: str) -> None:
        self._key = f"communicator:run:{run_id}"
        self._redis = getattr(app.backend, "client", None)  # no other backend has one
        if self._redis is not None:
            self._redis.set(self._key, 1, ex=FORGOTTEN_AFTER)

    def is_gone(self) -> bool:
        return self._redis is not None and not self._redis.exists(self._key)


class _Awaited:
    """A step's result, as dagster-celery's loop asks for it: every second."""

    def __init__(self, result: AsyncResult, mark: _Mark) -> None:
        self._result = result
        self._mark = mark
        self._answered = time.monotonic()

    def ready(self) -> bool:
        try:
            is_ready = bool(self._result.ready())
            is_lost = not is_ready and self._mark.is_gone()
        except (redis.ConnectionError, redis.TimeoutError):  # its data may still be there
            if time.monotonic() - self._answered > MAY_BE_AWAY:
                raise
            return False
        self._answered = time.monotonic()
        if is_lost:
            raise BrokerForgot(
                "Redis has lost its data, and this run's step with it: the days of the run are "
                "asked for again. Let Redis keep an append-only file"
            )
        return is_ready

    def get(self) -> Any:
        return self._result.get()

    def revoke(self) -> None:
        self._result.revoke()


@dg.executor(
    name="celery",
    config_schema=CELERY_CONFIG,
    requirements=multiple_process_executor_requirements(),
)
def celery_runs(init_context: dg.InitExecutorContext) -> CeleryRun:
    """dagster-celery's executor with its own settings; see `CeleryRun`."""
    settings: Mapping[str, Any] = init_context.executor_config
    return CeleryRun(  # type: ignore[no-untyped-call]  # its base has no types
        broker=settings.get("broker"),
        backend=settings.get("backend"),
        config_source=settings.get("config_source"),
        include=settings.get("include"),
        retries=RetryMode.from_config(settings["retries"]),
    )
