"""Kill -9 of each of Dagster's processes while its sensor delivers replies, without a worker.

A real daemon, the code server that it starts, and the run workers that this one starts; the
sandbox's server in a process of its own. Whoever supervises starts the daemon again; the daemon
sees to its code server. Five minutes after its approval every reply is there, once, and known to
be.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
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
        servers = [p for p in _children(self.daemon.pid) if "grpc" in _command(p)]
        workers = [p for server in servers for p in _children(server) if _is_run(p)]
        return {"run worker": workers, "code server": servers, "daemon": [self.daemon.pid]}

    def kill(self, kind: str) -> bool:
        """Whether there was one of each that is meant. What is left without its parent goes on by
        itself."""
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
        os.killpg(self.daemon.pid, signal.SIGKILL)
        self.daemon.wait()


def _children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _is_run(pid: int) -> bool:
    command = _command(pid)
    return "multiprocessing" in command and "resource_tracker" not in command


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
                new = box.approve(2)
                approved |= dict.fromkeys(new, time.monotonic())
                deadline = time.monotonic() + PATIENCE
                while not sending(box, new):
                    assert time.monotonic() < deadline, "nothing was sent: does the sensor work?"
                    time.sleep(0.02)
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
        assert min(killed.values()) >= len(rounds) // len(KINDS) // 2, where
        assert met >= len(rounds) // 2, where
