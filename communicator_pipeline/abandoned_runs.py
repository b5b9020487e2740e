"""Runs whose process has died: which process executes a run, and what is left behind by a dead one.

Belongs here: the tag, and taking such runs out of Dagster's way. Does not belong here: making runs
(`runs.py`).
"""

from __future__ import annotations

import os
from pathlib import Path
from socket import gethostname

import dagster as dg
from dagster import DagsterInstance, RunsFilter

from communicator_pipeline.storage.work import WorkQueue

PROCESS_TAG = "communicator/process"
"""Which process executes a run: nobody else can tell that it has died."""


def this_process() -> str:
    """Host, process id, and when it started: in a container that was started again the ids are
    the same."""
    return f"{gethostname()}:{os.getpid()}:{_started(str(os.getpid()))}"


def claim_run(instance: DagsterInstance, run: dg.DagsterRun) -> None:
    """Note that this process executes the run. One that is executed again comes with the tags of
    the run before, whose process may be dead."""
    if run.tags.get(PROCESS_TAG) != this_process():
        instance.add_run_tags(run.run_id, {PROCESS_TAG: this_process()})


def fail_abandoned_runs(instance: DagsterInstance, work: WorkQueue | None = None) -> list[str]:
    """Report as failed the runs whose process on this machine is dead, and give back their days;
    returns their ids.

    A run that is executed in process stays STARTED when it is killed, and so does one that is
    killed together with its code server. It takes one of the few places that the run queue has.
    """
    unfinished = instance.get_runs(
        RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    )
    abandoned = []
    for run in unfinished:
        if _is_inherited(instance, run):
            continue
        host, pid, started = [*run.tags.get(PROCESS_TAG, "").split(":"), "", ""][:3]
        if host == gethostname() and _has_proc() and not _lives(pid, started):
            instance.report_run_failed(run, "the process that executed the run has died")
            if work is not None:
                work.give_back(run.run_id)
            abandoned.append(run.run_id)
    return abandoned


def _is_inherited(instance: DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the tag is the one of the run that this one repeats: nobody has claimed it yet."""
    before = instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
    return before is not None and before.tags.get(PROCESS_TAG) == run.tags.get(PROCESS_TAG)


def _lives(pid: str, started: str) -> bool:
    return Path(f"/proc/{pid}").exists() and started in ("", _started(pid))


def _started(pid: str) -> str:
    """When the process started, in the machine's own ticks; "" where nobody can tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]  # field 22; the name before it may hold anything


def _has_proc() -> bool:
    return Path("/proc/self").exists()  # elsewhere a dead process cannot be told from a live one
