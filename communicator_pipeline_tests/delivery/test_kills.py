"""Kill -9 of whoever delivers, at random moments: each reply arrives once.

A worker sends approved replies to the sandbox's server, which is another process behind a socket
and takes 50 ms for an answer, so that many kills land between claim and record. In the end nothing
may be lost or be there twice; where the platform offers neither key nor look-up, what is ambiguous
is with a person, every one. `make test` kills 8 times in each mode, `make test-faults` 200 times.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from communicator_pipeline.delivery.dispatch import deliver_due
from communicator_pipeline.delivery.recovery import recover
from communicator_pipeline.platforms import platforms
from communicator_pipeline.platforms.sandbox.chat import FILE
from communicator_pipeline.platforms.sandbox.faults import Fault
from communicator_pipeline.platforms.sandbox.server import SandboxServer
from communicator_pipeline.storage import home, open_local
from communicator_pipeline_tests.conftest import FaultSizes
from communicator_pipeline_tests.delivery.sandbox_box import (
    ACCOUNT,
    MODES,
    SandboxBox,
    check_once,
)

LEASE = timedelta(seconds=2)
QUIET = timedelta(seconds=0.5)
ANSWERS_AFTER = 0.05  # seconds

_CONTEXT = multiprocessing.get_context("forkserver")


def work(folder: str) -> None:
    """The worker's share of the way; what comes before it is killed elsewhere."""
    stores = open_local(Path(folder))
    while True:
        recover(stores, account=ACCOUNT, quiet=QUIET)
        if not deliver_due(stores, account=ACCOUNT, lease=LEASE, most=20).total:
            time.sleep(0.01)


def nursery(folder: str, pipe: Connection) -> None:
    """Forks a worker whenever it is asked to, with everything imported: a worker of its own
    interpreter would take seconds, and so would 200 of them."""
    platforms()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    while pipe.recv() == "one more":
        pid = os.fork()
        if pid == 0:
            try:
                work(folder)
            finally:
                os._exit(1)
        pipe.send(pid)


@contextmanager
def workers(folder: Path) -> Iterator[Connection]:
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=nursery, args=(str(folder), theirs), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        ours.send("that is all")
        process.join()


def start(pipe: Connection) -> int:
    pipe.send("one more")
    return int(pipe.recv())


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.001)


def claimed(box: SandboxBox) -> set[tuple[str, int]]:
    """What is being sent: delivery, attempt."""
    return {(r["delivery_id"], r["attempts"]) for r in box.rows() if r["state"] == "sending"}


def kill_until(mode: str, kills: int, in_between: int, sends: int, seed: int) -> None:
    """Kill so often, and go on until so many kills have landed between claim and record."""
    chance = random.Random(f"{mode} {seed}")
    where = f"FAULTS_SEED={seed}, mode {mode}, {kills} kills, {sends} sends"
    done = 0
    with SandboxServer(home() / FILE, process=True) as server, workers(home()) as pipe:
        server.chat.faults.add(Fault("slow", times=None, seconds=ANSWERS_AFTER))
        box = SandboxBox(home(), server, mode)
        box.approve(sends)
        met: set[tuple[str, int]] = set()
        longest = 4 * ANSWERS_AFTER
        while done < kills or len(met) < in_between:
            if len(box.open()) < 5:
                box.approve(20)
            pid = start(pipe)
            time.sleep(chance.uniform(0.02, longest))
            kill(pid)
            done += 1
            hit = claimed(box) - met
            met |= hit
            # On a busy machine it may not even have begun.
            longest = 4 * ANSWERS_AFTER if hit else 1.2 * longest
            assert done < 20 * kills, f"{where}: only {len(met)} kills met a send"
        server.chat.faults.clear()
        last = start(pipe)
        deadline = time.monotonic() + 120
        while box.open() and time.monotonic() < deadline:
            time.sleep(0.1)
        kill(last)
        server.wait_until_idle()
        counts = check_once(box, where)
    asked = len(server.chat.arrivals())
    print(f"{where}: {done} kills, {len(met)} of them in mid-send; {counts}; {asked} requests")
    if mode == "neither":
        assert counts.get("needs_human", 0) >= in_between, f"{where}: {counts}"


@pytest.mark.parametrize("mode", MODES)
def test_eight_kills_send_nothing_twice_and_lose_nothing(mode: str) -> None:
    kill_until(mode, 8, 4, 25, random.SystemRandom().randrange(10**6))


@pytest.mark.faults
@pytest.mark.parametrize("mode", MODES)
def test_two_hundred_kills_send_nothing_twice_and_lose_nothing(
    mode: str, sizes: FaultSizes
) -> None:
    kill_until(mode, sizes.count(200), sizes.count(100), sizes.count(500), sizes.seed)
