"""Kill -9 of each of Dagster's processes while its sensor delivers replies, without a worker.

A real daemon, the code server that it starts, and the run workers that this one starts; the
sandbox's server in a process of its own. Whoever supervises starts the daemon again; the daemon
sees to its code server. Five minutes after its approval every reply is there, once, and known to
be.
"""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from communicator_pipeline import runs
from communicator_pipeline.platforms.sandbox.chat import FILE
from communicator_pipeline.platforms.sandbox.faults import Fault
from communicator_pipeline.platforms.sandbox.server import SandboxServer
from communicator_pipeline.storage import home
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline_tests.conftest import FaultSizes
from communicator_pipeline_tests.delivery.sandbox_box import SandboxBox, check_once

ROOT = Path(__file__).parents[2]
KINDS = ("run worker", "code server", "daemon", "all three")
WITHIN = 300.0
"""Seconds from an approval to its end, whatever was killed."""

ANSWERS_AFTER = 1.0  # seconds: most kills meet a reply between claim and record
PATIENCE = 120.0


@dataclass
class Dagster:
    """The daemon in a process group of its own, and what it has started."""

    folder: Path
    log: Path
    daemon: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DAGSTER")}
        environment |= {
            "COMMUNICATOR_HOME": str(self.folder),
            "DAGSTER_HOME": str(self.folder / "dagster"),
        }
        with self.log.open("ab") as said:
            self.daemon = subprocess.Popen(
                [
                    str(Path(sys.executable).parent / "dagster-daemon"),
                    "run",
                    "-w",
                    "workspace.yaml",
                ],
                cwd=ROOT,
                env=environment,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def processes(self) -> dict[str, list[int]]:
        """Those too that have outlived who started them."""
        commands = _commands(f"DAGSTER_HOME={self.folder / 'dagster'}")
        return {
            "run worker": [p for p, command in commands.items() if "spawn_main" in command],
            "code server": [p for p, command in commands.items() if " api grpc" in command],
            "daemon": [self.daemon.pid],
        }

    def kill(self, kind: str) -> bool:
        """Whether there was one of each that is meant."""
        there = self.processes()
        meant = [there[name] for name in (there if kind == "all three" else [kind])]
        for pid in (pid for pids in meant for pid in pids):
            with suppress(ProcessLookupError):  # a run that has just come to its end
                os.kill(pid, signal.SIGKILL)
        if kind in ("daemon", "all three"):
            self.daemon.wait()
            self.start()
        return all(meant)

    def end(self) -> None:
        for pid in (pid for pids in self.processes().values() for pid in pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.daemon.wait()


def _commands(variable: str) -> dict[int, str]:
    """process id → command line, of the processes that were started with this in their
    environment."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has come to its end, or is somebody else's
            if variable.encode() in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(process.name)] = command
    return found


@contextmanager
def dagster(folder: Path, log: Path) -> Iterator[Dagster]:
    there = folder / "dagster"
    there.mkdir(parents=True, exist_ok=True)
    config = (ROOT / "dagster.yaml").read_text().replace(".communicator/dagster", str(there))
    (there / "dagster.yaml").write_text(config)
    with runs.open_instance():
        pass
    running = Dagster(folder, log)
    try:
        yield running
    finally:
        running.end()


def wait_for(what: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, f"after {PATIENCE:.0f} s: {otherwise}"
        time.sleep(0.02)


def sending(box: SandboxBox, names: Sequence[str]) -> bool:
    """Whether one of these is between claim and record."""
    return any(r["state"] == "sending" and r["delivery_id"] in names for r in box.rows())


def see_ends(box: SandboxBox, approved: dict[str, float], ended: dict[str, float]) -> None:
    still = {row["delivery_id"] for row in box.open()}
    now = time.monotonic()
    for name in approved:
        if name not in still:
            ended.setdefault(name, now)


@pytest.mark.faults
@pytest.mark.parametrize("mode", ["key", "lookup"])
def test_whichever_process_is_killed_every_reply_arrives_once(
    mode: str, tmp_path: Path, sizes: FaultSizes
) -> None:
    folder = Path(home())
    chance = random.Random(sizes.seed)
    rounds = list(KINDS) * sizes.count(10)  # 20 of each, in the two modes together
    approved: dict[str, float] = {}
    ended: dict[str, float] = {}
    killed: dict[str, int] = {}
    met = 0
    with SandboxServer(folder / FILE, process=True) as server:
        server.chat.faults.add(Fault("slow", times=None, seconds=ANSWERS_AFTER))
        box = SandboxBox(folder, server, mode)
        Settings(box.stores.database, None).set("quiet_seconds", 0.5)
        # The questions stand in conversations that the test made: a pull would group them anew.
        box.stores.database.execute("UPDATE connections SET next_pull_at = '2999'")
        with dagster(folder, tmp_path / "dagster.log") as running:
            for kind in rounds:
                # Without its code server a reply could only be sent by a run that was left over.
                wait_for(lambda: bool(running.processes()["code server"]), "no code server")
                new = box.approve(2)
                approved |= dict.fromkeys(new, time.monotonic())
                wait_for(lambda new=new: sending(box, new), "nothing was sent")
                time.sleep(chance.uniform(0, ANSWERS_AFTER))
                killed[kind] = killed.get(kind, 0) + running.kill(kind)
                met += sending(box, new)
                see_ends(box, approved, ended)
            while len(ended) < len(approved):
                see_ends(box, approved, ended)
                time.sleep(0.2)
                late = {n for n, at in approved.items() if time.monotonic() > at + WITHIN} - set(
                    ended
                )
                assert not late, f"FAULTS_SEED={sizes.seed}: {late} are still open: {box.open()}"
        took = sorted(ended[name] - at for name, at in approved.items())
        where = f"FAULTS_SEED={sizes.seed}, mode {mode}, kills {killed}, {met} in mid-send"
        print(f"{where}: {check_once(box, where)}; the longest took {took[-1]:.0f} s")
        assert took[-1] <= WITHIN
        assert min(killed.values()) >= math.ceil(len(rounds) / len(KINDS) / 2), where
        assert met >= len(rounds) // 2, where
