"""What Celery's workers start: `celery -A communicator_pipeline.engines.celery_app`.

Belongs here: executing one step of a run that was handed out, so that a worker may die at any
moment and a step may be delivered again. Does not belong here: what a step does (`assets/`,
`jobs.py`), handing steps out (`celery_runs.py`).

Celery delivers a step at least once: again when its worker is lost, and whenever it was not
acknowledged in time. So a step that is through in its run is not done again, one whose run has
ended is not begun, one that is under way is kept from being delivered elsewhere, and one that has
lost its process again and again is given up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
from celery import Celery, Task
from celery.utils.log import get_task_logger
from dagster import DagsterInstance
from dagster._config import post_process_config
from dagster._core.execution.retries import RetryState
from dagster._grpc.types import ExecuteStepArgs
from dagster._serdes import serialize_value, unpack_value
from dagster_celery.executor import CeleryExecutor
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_task
from kombu.entity import Queue

# Loaded before the pool forks: its processes share it, and none of them loads it for a step.
from communicator_pipeline import definitions  # noqa: F401
from communicator_pipeline.engines.celery_runs import celery_runs
from communicator_pipeline.engines.executor import (
    CONFIG_VARIABLE,
    QUEUES,
    ExecutorMisconfigured,
    executor_settings,
)

MOST_STARTS = 6
"""A step that has begun so often without an end takes its process along each time: memory, most
likely. It would be delivered again for ever."""

DEFAULT_VISIBILITY = 3600.0
"""Seconds, if no setting says otherwise (`kombu.transport.redis`)."""

ENDS = (
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_SKIPPED,
    dg.DagsterEventType.STEP_UP_FOR_RETRY,
)
STARTS = (dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED)

log = get_task_logger(__name__)


class StepGivenUp(RuntimeError):
    """The step's process died too often; the message says so."""


class Step(Task):  # type: ignore[misc]  # celery has no types
    """dagster-celery's task, made fit for being delivered more than once."""

    resultrepr_maxsize = 0  # of the worker's log: a step's events may quote messages

    def __call__(self, execute_step_args_packed: Any, executable_dict: Any) -> Sequence[str]:
        asked = unpack_value(execute_step_args_packed, as_type=ExecuteStepArgs)
        with self._kept_from_others():
            assert asked.instance_ref is not None, "dagster-celery always says which instance"
            with DagsterInstance.from_ref(asked.instance_ref) as instance:
                done = already_done(instance, asked)
            if done is not None:
                log.info("%s of run %s is not done again", _step(asked), asked.run_id)
                return [serialize_value(event) for event in done]
            events: Sequence[str] = self.run(execute_step_args_packed, executable_dict)
            return events

    @contextmanager
    def _kept_from_others(self) -> Iterator[None]:
        """While the step is under way in this process, its message counts as just delivered: Redis
        has no connection to tell a slow worker from a dead one, only the time since then. Ends
        with the process."""
        tag = (self.request.properties or {}).get("delivery_tag")
        timeout = visibility_timeout(self.app)
        if tag is None or timeout is None:
            yield
            return
        over = threading.Event()
        keeper = threading.Thread(
            target=_keep, args=(self.app, tag, timeout / 4, over), name="keep", daemon=True
        )
        keeper.start()
        try:
            yield
        finally:
            over.set()  # not waited for: Redis may be away


def already_done(instance: DagsterInstance, asked: ExecuteStepArgs) -> list[dg.DagsterEvent] | None:
    """The events of the step if it must not be executed now: none if its run has ended, else
    those of the execution that came to its end but whose result was lost. None: execute it.
    Raises `StepGivenUp`."""
    run = instance.get_run_by_id(asked.run_id)
    if run is None or run.is_finished:
        return []
    step = _step(asked)
    events = [
        record.event_log_entry.dagster_event
        for record in instance.get_records_for_run(asked.run_id).records
        if record.event_log_entry.step_key == step
        and record.event_log_entry.dagster_event is not None
    ]
    tries = asked.known_state.get_retry_state() if asked.known_state else RetryState()
    return through(events, tries.get_attempt_count(step), step)


def through(
    events: Sequence[dg.DagsterEvent], attempts_before: int, step: str
) -> list[dg.DagsterEvent] | None:
    """Of a step's events in its run, those of this attempt if it has ended; None if it has not.

    `attempts_before`: tries of Dagster's own (retry policies) that ended before this one. Raises
    `StepGivenUp` if it has begun too often.
    """
    ended = [place for place, event in enumerate(events) if event.event_type in ENDS]
    if len(ended) > attempts_before:
        first = ended[attempts_before - 1] + 1 if attempts_before else 0
        attempt = events[first : ended[attempts_before] + 1]
        begun = [place for place, event in enumerate(attempt) if event.event_type in STARTS]
        return list(attempt[begun[-1] if begun else 0 :])
    since = events[ended[-1] + 1 :] if ended else events
    starts = sum(event.event_type in STARTS for event in since)
    if starts >= MOST_STARTS:
        raise StepGivenUp(
            f"{step} has begun {starts} times and never ended: its process was killed each time, "
            "most likely for want of memory. Give the worker more, or run fewer days at a time"
        )
    return None


def visibility_timeout(app: Celery) -> float | None:
    """Seconds after which Redis gives an unacknowledged message to another worker; None: the
    broker is no Redis, and notices itself that a worker is gone."""
    if app.connection_for_write().transport.driver_type != "redis":
        return None
    return float(app.conf.broker_transport_options.get("visibility_timeout", DEFAULT_VISIBILITY))


def _keep(app: Celery, tag: str, every: float, over: threading.Event) -> None:
    with app.connection_for_write() as connection:
        while not over.wait(every):
            try:
                channel = connection.default_channel
                with channel.conn_or_acquire() as client:
                    client.zadd(channel.unacked_index_key, {tag: time.time()}, xx=True)
            except connection.connection_errors + connection.channel_errors as error:
                log.warning("Redis does not answer (%s): asked again", type(error).__name__)


def _step(asked: ExecuteStepArgs) -> str:
    (step,) = asked.step_keys_to_execute or ()
    return step


def settings_of_worker(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The executor's settings with what they take from the environment. Raises
    `ExecutorMisconfigured`."""
    config_type = celery_runs.config_schema.config_type
    assert config_type is not None
    read = post_process_config(config_type, settings)
    if not read.success or read.value is None:
        wrong = "; ".join(error.message.splitlines()[0] for error in read.errors or ())
        raise ExecutorMisconfigured(f"{CONFIG_VARIABLE}: {wrong}")
    return dict(read.value)


def make_worker_app(settings: Mapping[str, Any]) -> Celery:
    """The application with these settings (`execution: config:` of the YAML)."""
    read = settings_of_worker(settings)
    made = make_app(
        CeleryExecutor.for_cli(
            **{key: read.get(key) for key in ("broker", "backend", "include", "config_source")}
        ).app_args()
    )
    made.conf.task_queues = [Queue(name) for name in QUEUES]
    create_task(made, base=Step)
    return made


app = make_worker_app(executor_settings())
