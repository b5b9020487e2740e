"""Dagster's monitoring and runs that nobody launched: the worker's.

Dagster's own round of monitoring, with its own launchers and ours, over a run that is under way in
a process; Kubernetes' API is on a socket.
"""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from communicator_pipeline.abandoned_runs import PROCESS_TAG
from communicator_pipeline.engines.run_launchers import LOST_AFTER, health_of_unlaunched
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.database import utc_text
from communicator_pipeline_tests.infra.cluster import Cluster, cluster

DAGSTERS_LOCAL = {"module": "dagster._core.launcher", "class": "DefaultRunLauncher"}
LOCAL = {"module": "communicator_pipeline.engines.run_launchers", "class": "LocalRunLauncher"}
DAGSTERS_KUBERNETES = {"module": "dagster_k8s", "class": "K8sRunLauncher"}
KUBERNETES = {
    "module": "communicator_pipeline.engines.kubernetes_runs",
    "class": "KubernetesRunLauncher",
}

LONG_RUN = """
import sys, time, pathlib, dagster as dg
from communicator_pipeline.abandoned_runs import PROCESS_TAG

@dg.op
def long() -> None:
    pathlib.Path(sys.argv[1]).touch()
    while not pathlib.Path(sys.argv[2]).exists():
        time.sleep(0.05)
    pathlib.Path(sys.argv[1]).with_name("through").touch()

@dg.job
def a_long_job() -> None:
    long()

with dg.DagsterInstance.get() as instance:
    done = a_long_job.execute_in_process(
        instance=instance, tags={PROCESS_TAG: sys.argv[3]}, raise_on_error=False
    )
    raise SystemExit(not done.success)
"""


class LongRun:
    """A run that is under way in a process of its own until it may end."""

    def __init__(self, folder: Path, machine: str = "") -> None:
        self._may_end = folder / "may end"
        begun = folder / "begun"
        code = folder / "long_run.py"
        code.write_text(LONG_RUN)
        tag = f"{machine or socket.gethostname()}:4711:1"
        self._process = subprocess.Popen(
            [sys.executable, code, begun, self._may_end, tag], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while not begun.exists():
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def end(self) -> int:
        self._may_end.touch()
        return self._process.wait(60)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(20)


@pytest.fixture
def api() -> Iterator[Cluster]:
    with cluster() as there:
        yield there


Opened = Callable[[dict[str, Any]], DagsterInstance]


@pytest.fixture
def opened(
    tmp_path: Path, api: Cluster, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opened]:
    """Opens an instance in a folder of its own, with this launcher; children find it too."""
    with ExitStack() as stack:

        def make(launcher: dict[str, Any]) -> DagsterInstance:
            if "ubernetes" in launcher["class"] or "K8s" in launcher["class"]:
                launcher = {
                    **launcher,
                    "config": {
                        "service_account_name": "dagster",
                        "instance_config_map": "dagster-instance",
                        "dagster_home": "/opt/dagster",
                        "load_incluster_config": False,
                        "kubeconfig_file": str(api.kubeconfig(tmp_path)),
                    },
                }
            folder = tmp_path / "dagster"
            folder.mkdir()
            (folder / "dagster.yaml").write_text(
                yaml.safe_dump(
                    {
                        "run_launcher": launcher,
                        "run_monitoring": {"enabled": True, "max_runtime_seconds": 7200},
                        "telemetry": {"enabled": False},
                        "compute_logs": {
                            "module": "dagster._core.storage.noop_compute_log_manager",
                            "class": "NoOpComputeLogManager",
                        },
                    }
                )
            )
            monkeypatch.setenv("DAGSTER_HOME", str(folder))
            return stack.enter_context(DagsterInstance.get())

        yield make


def monitored(instance: DagsterInstance) -> list[object]:
    """One round of what Dagster's daemon does; the errors that it met."""
    with create_test_daemon_workspace_context(EmptyWorkspaceTarget(), instance) as workspace:
        found = execute_run_monitoring_iteration(workspace, logging.getLogger("monitoring"))
        return [error for error in found if error]


def status(instance: DagsterInstance) -> DagsterRunStatus:
    (run,) = instance.get_runs()
    return run.status


def beats(stores: Stores, worker: str, ago: timedelta) -> None:
    stores.database.execute(
        "INSERT INTO workers (worker, started_at, beat_at) VALUES (?1, ?2, ?2) "
        "ON CONFLICT (worker) DO UPDATE SET beat_at = excluded.beat_at",
        (worker, utc_text(datetime.now(UTC) - ago)),
    )


@contextmanager
def under_way(folder: Path, machine: str = "") -> Iterator[LongRun]:
    run = LongRun(folder, machine)
    try:
        yield run
    finally:
        run.kill()


def test_dagsters_launcher_for_kubernetes_fails_a_run_that_is_well(
    opened: Opened, tmp_path: Path
) -> None:
    """Why there is one of our own. If this fails, Dagster has mended it."""
    instance = opened(DAGSTERS_KUBERNETES)
    with under_way(tmp_path):
        assert not monitored(instance)
        assert status(instance) is DagsterRunStatus.FAILURE


def test_dagsters_local_launcher_leaves_a_dead_run_for_hours(
    opened: Opened, tmp_path: Path, stores: Stores
) -> None:
    instance = opened(DAGSTERS_LOCAL)
    beats(stores, "far-away:4711", LOST_AFTER + timedelta(seconds=5))
    with under_way(tmp_path, "far-away") as run:
        run.kill()
        assert not monitored(instance)
        assert status(instance) is DagsterRunStatus.STARTED


@pytest.mark.parametrize("launcher", [LOCAL, KUBERNETES], ids=["local", "kubernetes"])
@pytest.mark.parametrize("has_worker", [True, False], ids=["worker's", "command's"])
def test_a_long_run_that_nobody_launched_is_left_alone(
    opened: Opened,
    tmp_path: Path,
    stores: Stores,
    api: Cluster,
    launcher: dict[str, Any],
    has_worker: bool,
) -> None:
    instance = opened(launcher)
    if has_worker:
        beats(stores, f"{socket.gethostname()}:4711", timedelta(seconds=2))
    with under_way(tmp_path) as run:
        for _ in range(3):
            assert not monitored(instance)
        assert status(instance) is DagsterRunStatus.STARTED
        assert not api.calls  # there is nothing to ask the cluster
        assert run.end() == 0
    assert status(instance) is DagsterRunStatus.SUCCESS


@pytest.mark.parametrize("launcher", [LOCAL, KUBERNETES], ids=["local", "kubernetes"])
def test_a_run_of_a_worker_that_died_elsewhere_is_failed(
    opened: Opened, tmp_path: Path, stores: Stores, launcher: dict[str, Any]
) -> None:
    instance = opened(launcher)
    with under_way(tmp_path, "far-away") as run:
        beats(stores, "far-away:4711", LOST_AFTER - timedelta(seconds=20))
        run.kill()
        assert not monitored(instance)
        assert status(instance) is DagsterRunStatus.STARTED  # it may come back
        beats(stores, "far-away:4711", LOST_AFTER + timedelta(seconds=5))
        assert not monitored(instance)
    assert status(instance) is DagsterRunStatus.FAILURE
    (run_id,) = instance.get_run_ids()
    said = [entry.message for entry in instance.all_logs(run_id)]
    assert any("no worker on far-away has been heard of" in text for text in said)


@pytest.mark.parametrize("launcher", [LOCAL, KUBERNETES], ids=["local", "kubernetes"])
def test_terminating_it_says_why_not_and_lets_it_go_on(
    opened: Opened, tmp_path: Path, launcher: dict[str, Any], api: Cluster
) -> None:
    instance = opened(launcher)
    with under_way(tmp_path) as run:
        (run_id,) = instance.get_run_ids()
        assert instance.run_launcher.terminate(run_id) is False
        assert status(instance) is DagsterRunStatus.STARTED
        said = [entry.message for entry in instance.all_logs(run_id)]
        assert any("cannot be stopped from here" in text for text in said)
        assert not api.calls
        assert run.end() == 0
    assert status(instance) is DagsterRunStatus.SUCCESS


def test_deleting_it_under_way_disturbs_nobody_else(opened: Opened, tmp_path: Path) -> None:
    """Its steps are executed to their end; then Dagster misses the run, which is a fault."""
    instance = opened(LOCAL)
    with under_way(tmp_path) as run:
        (run_id,) = instance.get_run_ids()
        instance.delete_run(run_id)
        assert not monitored(instance)
        run.end()
    assert (tmp_path / "through").exists()
    assert not instance.get_runs()


def test_a_launched_run_without_its_job_is_still_failed(
    opened: Opened, api: Cluster, tmp_path: Path
) -> None:
    """And one whose Job is at work is not."""
    instance = opened(KUBERNETES)
    run_id = _launched(instance)
    assert not monitored(instance)
    assert status(instance) is DagsterRunStatus.FAILURE
    instance.delete_run(run_id)

    run_id = _launched(instance)
    api.jobs[f"default/dagster-run-{run_id}"] = {"metadata": {"name": f"dagster-run-{run_id}"}}
    assert not monitored(instance)
    assert status(instance) is DagsterRunStatus.STARTED
    assert instance.run_launcher.terminate(run_id) is True
    assert not api.jobs


def test_a_launched_run_of_the_code_server_is_its_own(opened: Opened) -> None:
    instance = opened(LOCAL)
    _launched(instance)
    assert not monitored(instance)
    assert status(instance) is DagsterRunStatus.STARTED


@dg.job
def some_job() -> None: ...


def _launched(instance: DagsterInstance) -> str:
    """A run as the daemon makes it, which says that it has started."""
    origin = RemoteJobOrigin(
        RemoteRepositoryOrigin(
            InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="made_up")), "all"
        ),
        "some_job",
    )
    run = instance.create_run_for_job(
        some_job,
        status=DagsterRunStatus.STARTED,
        remote_job_origin=origin,
        # The run's own process notes itself too.
        tags={PROCESS_TAG: "a-pod:1:1"},
    )
    return cast(str, run.run_id)


def test_a_machine_with_one_worker_alive_has_lost_nothing() -> None:
    run = dg.DagsterRun(job_name="a", tags={PROCESS_TAG: "m:1:1"})
    assert health_of_unlaunched(run, {"m", "n"}, {"m"}).status.value == "RUNNING"
    assert health_of_unlaunched(run, {"m", "n"}, {"n"}).status.value == "NOT_FOUND"
    assert health_of_unlaunched(run, {"n"}, set()).status.value == "RUNNING"
