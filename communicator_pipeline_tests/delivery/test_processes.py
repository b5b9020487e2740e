"""Real processes, a real socket, a real disk: each reply arrives once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from communicator_pipeline.delivery.approving import approve
from communicator_pipeline.delivery.clock import Instant, read_clock
from communicator_pipeline.delivery.dispatch import deliver_due
from communicator_pipeline.delivery.recovery import recover
from communicator_pipeline.platforms.protocol import Sending
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.outbox import Outbox
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline_tests.conftest import FaultSizes
from communicator_pipeline_tests.delivery.http_platform import (
    PROMISES,
    Fault,
    HttpPlatform,
    HttpSenders,
    answer_of,
    cut_points,
)
from communicator_pipeline_tests.delivery.world import ACCOUNT, add_box, say

NO_TIME = timedelta()
SHORT_LEASE = timedelta(seconds=1)

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    """On the disk, with every commit synced."""
    opened = open_local(tmp_path / "home")
    add_box(opened)
    Settings(opened.database, "ana").set("undo_seconds", 0)
    return opened


@pytest.fixture
def platform(request: pytest.FixtureRequest) -> Iterator[HttpPlatform]:
    server = HttpPlatform(PROMISES[getattr(request, "param", "key")])
    yield server
    server.close()


def approve_many(stores: Stores, count: int, promise: Sending) -> None:
    for number in range(count):
        conversation = f"c{number}"
        say(stores, "And you?", number=f"{number}", conversation=conversation, channel=f"r{number}")
        approve(stores.database, "ana", ACCOUNT, conversation, promise, text=f"reply {number}")


def states(stores: Stores) -> list[str]:
    rows = Outbox(stores.database, "ana").deliveries(limit=10_000)
    return [row.delivery.state for row in rows]


def everything(stores: Stores) -> list[list[dict[str, Any]]]:
    """All that a late writer could have touched."""
    tables = ("deliveries", "delivery_log", "delivery_attempts", "approvals", "platform_waits")
    return [stores.database.execute(f"SELECT * FROM {table}") for table in tables]


# --- two at once -----------------------------------------------------------------------------


def dispatcher(folder: str, port: int, promise: str, pipe: Connection) -> None:
    stores = open_local(Path(folder))
    senders = HttpSenders(port, PROMISES[promise])
    pipe.send("ready")
    pipe.recv()
    sent = 0
    while done := deliver_due(stores, senders=senders, most=20).total:
        sent += done
    pipe.send(sent)


@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.faults)])
def test_two_dispatchers_at_once_send_each_reply_once(
    stores: Stores, platform: HttpPlatform, sizes: FaultSizes, full: bool
) -> None:
    count = sizes.count(1_000) if full else 100
    platform.promise = PROMISES["neither"]
    approve_many(stores, count, platform.promise)
    folder = str(stores.database.path.parent)  # type: ignore[attr-defined]
    pipes, processes = [], []
    for _ in range(2):
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(
            target=dispatcher, args=(folder, platform.port, "neither", theirs)
        )
        process.start()
        pipes.append(ours)
        processes.append(process)
    assert [pipe.recv() for pipe in pipes] == ["ready", "ready"]
    for pipe in pipes:
        pipe.send("go")
    sent = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join()
    assert states(stores) == ["sent"] * count
    assert sorted(platform.counts().values()) == [1] * count
    assert sum(sent) == count
    assert min(sent) > 0  # both were at it


# --- a lost answer ---------------------------------------------------------------------------


def faults(repeats: int, stalls: int) -> list[Fault]:
    cuts = cut_points(answer_of(b'{"id":"m000001"}'))
    each = [Fault("reset", cut) for cut in cuts] + [Fault("close", cut) for cut in cuts]
    each += [Fault("500")] * len(cuts)
    return each * repeats + [Fault("stall", cut) for cut in cuts] * stalls


@pytest.mark.parametrize("platform", sorted(PROMISES), indirect=True)
@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.faults)])
def test_wherever_an_answer_is_cut_the_reply_arrives_once(
    stores: Stores, platform: HttpPlatform, sizes: FaultSizes, full: bool
) -> None:
    plan = faults(sizes.count(30), sizes.count(10)) if full else faults(1, 1)
    platform.plan = lambda text, nth: plan[int(text.split()[1])] if nth == 1 else None
    approve_many(stores, len(plan), platform.promise)
    impatient = HttpSenders(platform.port, platform.promise, timeout=0.15)
    first = deliver_due(stores, senders=impatient)
    senders = HttpSenders(platform.port, platform.promise)
    assert len(first.unknown) == len(plan)
    recover(stores, senders=senders, quiet=NO_TIME)  # the peer is drained: it commits first
    deliver_due(stores, senders=senders)
    tells = platform.promise.repeats or platform.promise.looks_up
    assert set(states(stores)) == {"sent" if tells else "needs_human"}
    assert sorted(platform.counts().values()) == [1] * len(plan)


# --- a zombie --------------------------------------------------------------------------------


def zombie(folder: str, port: int, promise: str, stop_before: bool, pipe: Connection) -> None:
    stores = open_local(Path(folder))
    senders = HttpSenders(port, PROMISES[promise])

    def clock() -> Instant:
        if stop_before and "sending" in states(stores):
            pipe.send("about to send")
            os.kill(os.getpid(), signal.SIGSTOP)
        return read_clock()

    done = deliver_due(stores, senders=senders, lease=SHORT_LEASE, clock=clock, most=1)
    pipe.send(done.lost)


@pytest.mark.parametrize("platform", sorted(PROMISES), indirect=True)
@pytest.mark.parametrize("stop_before", [False, True], ids=["in mid-send", "before the send"])
def test_who_was_stopped_past_its_lease_writes_nothing_and_sends_nothing_twice(
    stores: Stores, platform: HttpPlatform, stop_before: bool
) -> None:
    approve_many(stores, 1, platform.promise)
    promise = next(name for name, one in PROMISES.items() if one == platform.promise)
    folder = str(stores.database.path.parent)  # type: ignore[attr-defined]
    ours, theirs = _CONTEXT.Pipe()
    if not stop_before:
        platform.hold.clear()
    process = _CONTEXT.Process(
        target=zombie, args=(folder, platform.port, promise, stop_before, theirs)
    )
    process.start()
    assert process.pid is not None
    if stop_before:
        assert ours.recv() == "about to send"
    else:
        assert platform.committed.acquire(timeout=30)
        os.kill(process.pid, signal.SIGSTOP)
    time.sleep(SHORT_LEASE.total_seconds())
    platform.hold.set()

    senders = HttpSenders(platform.port, platform.promise)
    recover(stores, senders=senders, quiet=NO_TIME)
    deliver_due(stores, senders=senders)
    tells = platform.promise.repeats or platform.promise.looks_up
    assert states(stores) == ["sent" if tells else "needs_human"]
    before = everything(stores)

    os.kill(process.pid, signal.SIGCONT)
    if stop_before and ours.poll(30):
        lost = ours.recv()
        while lost == "about to send":  # each reading of the clock stops it once more
            os.kill(process.pid, signal.SIGCONT)
            lost = ours.recv()
    else:
        lost = ours.recv()
    process.join()
    assert len(lost) == 1
    assert everything(stores) == before
    arrived = 0 if stop_before and not tells else 1
    assert list(platform.counts().values()) == [1] * arrived
