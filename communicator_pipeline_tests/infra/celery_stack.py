"""An installation whose steps Celery's workers execute, as processes on this machine.

Belongs here: Dagster's code server and daemon, Celery's workers, killing them and starting them
again as a supervisor would. Does not belong here: Redis (`redis.py`), Postgres, what is in the
inbox.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import IO, Literal

import dagster as dg
from dagster import DagsterInstance

from communicator_pipeline.engines.executor import QUEUES
from communicator_pipeline.jobs import UNFINISHED
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.work import WorkQueue

CLONE = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
EXECUTOR = CLONE / "infra" / "celery" / "executor.yaml"

WORKSPACE = """
load_from:
  - grpc_server: {{host: 127.0.0.1, port: {port}, location_name: communicator_pipeline}}
"""


Victim = Literal["process of the pool", "whole worker", "parent"]
VICTIMS: tuple[Victim, ...] = ("process of the pool", "whole worker", "parent")


@dataclass
class CeleryStack:
    """The processes of one installation, whose data are in `home`."""

    home: Path
    environment: Mapping[str, str]
    logs: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)
    grpc: int = 0

    @property
    def stores(self) -> Stores:
        return open_local(self.home)

    @property
    def instance(self) -> DagsterInstance:
        return DagsterInstance.from_config(self.environment["DAGSTER_HOME"])

    def start(self, *words: str | Path, name: str) -> subprocess.Popen[bytes]:
        with (self.logs / f"{name}.log").open("ab") as log:
            return _started(words, self.environment, self.logs, log)

    def start_dagster(self) -> None:
        """The code server, and the daemon as soon as that answers."""
        self.grpc = _free_port()
        workspace = self.logs / "workspace.yaml"
        workspace.write_text(WORKSPACE.format(port=self.grpc))
        self.start_code_server()
        check = (BIN / "dagster", "api", "grpc-health-check", "--port", str(self.grpc))
        until(
            lambda: (
                subprocess.run(
                    check, env=self.environment, cwd=self.logs, capture_output=True
                ).returncode
                == 0
            ),
            90,
            "the code server answers",
        )
        daemon = self.start(BIN / "dagster-daemon", "run", "--workspace", workspace, name="daemon")
        self.others.append(daemon)

    def start_code_server(self) -> subprocess.Popen[bytes]:
        server = self.start(
            *(BIN / "dagster", "code-server", "start", "--host", "127.0.0.1"),
            *("--port", str(self.grpc), "--module-name", "communicator_pipeline.definitions"),
            name="code-server",
        )
        self.others.append(server)
        return server

    def start_worker(self) -> subprocess.Popen[bytes]:
        """One worker with one process in its pool, for all queues."""
        worker = self.start(
            *(BIN / "celery", "-A", "communicator_pipeline.engines.celery_app", "worker"),
            *("-Q", ",".join(QUEUES), "--concurrency", "1", "--loglevel", "INFO"),
            *("-n", f"w{time.monotonic_ns()}@%h", "--without-mingle", "--without-gossip"),
            name="celery",
        )
        self.workers.append(worker)
        return worker

    def tend(self) -> int:
        """Start again what has died of the workers; returns how many."""
        dead = [worker for worker in self.workers if worker.poll() is not None]
        for worker in dead:
            self.workers.remove(worker)
            self.start_worker()
        return len(dead)

    def kill_one(self, what: Victim, chance: Random) -> bool:
        """SIGKILL one worker that is executing a step: its pool's process, its parent alone, or all
        of it. False: none is executing any."""
        busy = [worker for worker in self.workers if any(map(computes, children_of(worker.pid)))]
        if not busy:
            return False
        worker = chance.choice(busy)
        with suppress(ProcessLookupError):
            if what == "process of the pool":
                os.kill(chance.choice(children_of(worker.pid)), signal.SIGKILL)
            elif what == "parent":
                worker.kill()
                worker.wait(10)
            else:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait(10)
        return True

    def unfinished(self) -> list[dg.DagsterRun]:
        with self.instance as instance:
            return list(instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)))

    def is_idle(self) -> bool:
        """Whether nothing is to be done and no run is under way."""
        return not WorkQueue(self.stores.database).dirty() and not self.unfinished()

    def end(self) -> None:
        for process in (*self.workers, *self.others):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in _children(pid).read_text().split()]
    except FileNotFoundError:
        return []


def _children(pid: int) -> Path:
    return Path(f"/proc/{pid}/task/{pid}/children")


def computes(pid: int) -> bool:
    """Whether the process has used the processor within the last tenth of a second."""
    before = _ticks(pid)
    time.sleep(0.1)
    return before is not None and (_ticks(pid) or 0) > before


def _ticks(pid: int) -> int | None:
    with suppress(FileNotFoundError, ProcessLookupError):
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(stat[11]) + int(stat[12])
    return None


def until(ask: Callable[[], bool], seconds: float, what: str) -> float:
    """Ask until it is so; returns after how many seconds. Raises AssertionError if it is not."""
    began = time.monotonic()
    while not ask():
        assert time.monotonic() - began < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)
    return time.monotonic() - began


@contextmanager
def celery_stack(
    folder: Path, dagster_yaml: str, environment: Mapping[str, str], workers: int
) -> Iterator[CeleryStack]:
    """The processes, until the block ends; the installation is made first.

    `environment`: what the configuration needs (addresses, passwords).
    """
    dagster_home, home, logs = folder / "dagster", folder / "home", folder / "logs"
    for made in (dagster_home, home, logs):
        made.mkdir(parents=True, exist_ok=True)
    (dagster_home / "dagster.yaml").write_text(dagster_yaml)
    stack = CeleryStack(
        home,
        {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": str(logs),
            "DAGSTER_HOME": str(dagster_home),
            "COMMUNICATOR_HOME": str(home),
            "COMMUNICATOR_EXECUTOR": "celery",
            "COMMUNICATOR_EXECUTOR_CONFIG": str(EXECUTOR),
            "COMMUNICATOR_FIRST_MONTH": "2024-01",
            **{k: os.environ[k] for k in ("PYTHONPATH",) if k in os.environ},
            **environment,
        },
        logs,
    )
    prepare = CLONE / "infra" / "docker" / "prepare.py"
    subprocess.run(
        [sys.executable, prepare], env=stack.environment, cwd=logs, check=True, capture_output=True
    )
    try:
        for _ in range(workers):
            stack.start_worker()
        stack.start_dagster()
        yield stack
    finally:
        stack.end()


def _started(
    words: tuple[str | Path, ...], environment: Mapping[str, str], folder: Path, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        words, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
