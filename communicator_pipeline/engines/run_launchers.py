"""Dagster's run launchers, which know the runs that nobody launched.

Belongs here: what the launchers answer about runs that the resident worker or a command executes in
its own process. Does not belong here: executing them (`runs.py`), failing those that died on this
machine (`abandoned_runs.py`).

Dagster's daemon asks the launcher about every run that is under way, and fails it if the launcher
knows no process of it (`dagster/_daemon/monitoring/run_monitoring.py`). For Kubernetes that is
every run without a Job: the worker's, after two minutes at the latest.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cached_property

from dagster import DagsterInstance, DagsterRun
from dagster._core.launcher import (
    CheckRunHealthResult,
    DefaultRunLauncher,
    RunLauncher,
    WorkerStatus,
)

from communicator_pipeline.abandoned_runs import PROCESS_TAG
from communicator_pipeline.storage import home, open_stores
from communicator_pipeline.storage.workers import DEAD_AFTER, Workers

LOST_AFTER = 10 * DEAD_AFTER
"""A machine of which no worker has been heard of for so long has lost its runs. Longer than a
database that does not answer for a while."""

KNOWN_FOR = timedelta(days=1)
"""Longer than the table of workers keeps one that is silent."""


def is_launched(run: DagsterRun) -> bool:
    """Whether a launcher has started the run: only then Dagster notes where its code is."""
    return run.remote_job_origin is not None


def health_of_unlaunched(
    run: DagsterRun, known: set[str], heard_of: set[str]
) -> CheckRunHealthResult:
    """What is to be said of a run that nobody launched, given the machines that had a worker and
    those of which one was heard of lately.

    By machine, for a worker's backlog has a process of its own there. A run of a machine without a
    worker is somebody's command, which nobody can tell from a dead one; the longest time that a run
    may take ends it.
    """
    machine = run.tags.get(PROCESS_TAG, "").partition(":")[0]
    if machine in known - heard_of:
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND,
            f"no worker on {machine} has been heard of for {LOST_AFTER.seconds} s",
        )
    return CheckRunHealthResult(WorkerStatus.RUNNING)


class KnowsUnlaunched(RunLauncher[DagsterInstance]):
    """Answers for runs that nobody launched; all others are its base's."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        if is_launched(run):
            return self._health_of_launched(run)
        now = datetime.now(UTC)
        return health_of_unlaunched(
            run,
            self._machines(now - KNOWN_FOR),
            self._machines(now - LOST_AFTER),
        )

    def _health_of_launched(self, run: DagsterRun) -> CheckRunHealthResult:
        return super().check_run_worker_health(run)

    def terminate(self, run_id: str) -> bool:
        """False for a run that nobody launched, which goes on: there is nobody to tell."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or is_launched(run):
            return super().terminate(run_id)  # type: ignore[safe-super]
        if not run.is_finished:
            self._instance.report_engine_event(
                f"This run is executed by {run.tags.get(PROCESS_TAG, 'a command')} itself, and "
                "cannot be stopped from here: stop that process. What the run was at work on is "
                "done again by the next one.",
                run,
                cls=self.__class__,
            )
        return False

    def get_run_worker_debug_info(
        self, run: DagsterRun, include_container_logs: bool | None = True
    ) -> str | None:
        if not is_launched(run):
            return None
        return super().get_run_worker_debug_info(run, include_container_logs)

    def _machines(self, since: datetime) -> set[str]:
        """Those with a worker that was heard of since then (UTC)."""
        return {worker.partition(":")[0] for worker in self._workers.living(since + DEAD_AFTER)}

    @cached_property
    def _workers(self) -> Workers:
        return Workers(open_stores(home()).database)


class LocalRunLauncher(KnowsUnlaunched, DefaultRunLauncher):
    """Runs are processes of the code server, which watches over them itself."""

    def _health_of_launched(self, run: DagsterRun) -> CheckRunHealthResult:
        return CheckRunHealthResult(WorkerStatus.RUNNING)
