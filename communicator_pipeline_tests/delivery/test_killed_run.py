"""A run of `deliver_replies` that is killed together with whoever launched it.

Nobody reports its end: without more it stays STARTED and takes one of the run queue's two places
until Dagster's longest runtime is over. The sensor takes it out of the way.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import dagster as dg
import pytest

from communicator_pipeline import runs
from communicator_pipeline.abandoned_runs import PROCESS_TAG
from communicator_pipeline.definitions import build_definitions
from communicator_pipeline.jobs import deliver_replies
from communicator_pipeline.platforms.sandbox.chat import FILE
from communicator_pipeline.platforms.sandbox.faults import Fault
from communicator_pipeline.platforms.sandbox.server import SandboxServer
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.storage import home
from communicator_pipeline_tests.delivery.sandbox_box import SandboxBox


def run_as_a_code_server_would(folder: str) -> None:
    """Executes the job and says nothing to Dagster beyond what a launched run does."""
    os.environ["COMMUNICATOR_HOME"] = folder
    job = build_definitions().resolve_job_def(deliver_replies.name)
    with runs.open_instance() as instance:
        job.execute_in_process(instance=instance, raise_on_error=False)


def tick(instance: dg.DagsterInstance) -> dg.SensorExecutionData:
    stores = StoresResource(folder=str(home()))
    repository = build_definitions({"stores": stores}).get_repository_def()
    context = dg.build_sensor_context(
        instance=instance, repository_def=repository, resources={"stores": stores}
    )
    return repository.get_sensor_def("due_replies").evaluate_tick(context)


@pytest.mark.parametrize("state", ["alive", "killed"])
def test_a_killed_run_is_reported_as_failed_and_a_live_one_is_not(state: str) -> None:
    folder = Path(home())
    with (
        SandboxServer(folder / FILE, process=True) as server,
        runs.open_instance() as instance,
    ):
        server.chat.faults.add(Fault("slow", times=None, seconds=60))
        box = SandboxBox(folder, server, "key")
        box.approve(1)
        process = multiprocessing.get_context("spawn").Process(
            target=run_as_a_code_server_would, args=(str(folder),)
        )
        process.start()
        try:
            deadline = time.monotonic() + 60
            while box.rows()[0]["state"] != "sending":
                assert process.is_alive(), "the run ended before it sent"
                assert time.monotonic() < deadline, "nothing was claimed"
                time.sleep(0.05)
            run = instance.get_runs()[0]
            assert run.tags[PROCESS_TAG].split(":")[1] == str(process.pid)
            if state == "killed":
                os.kill(process.pid or 0, signal.SIGKILL)
                process.join()
            tick(instance)
            expected = {"alive": dg.DagsterRunStatus.STARTED, "killed": dg.DagsterRunStatus.FAILURE}
            found = instance.get_run_by_id(run.run_id)
            assert found is not None
            assert found.status == expected[state]
        finally:
            process.kill()
            process.join()
