"""The disk is full, or can only be read: no reply leaves without its claim on the disk, and when
there is room again the rest goes out by itself, once."""

from __future__ import annotations

import multiprocessing
import resource
import signal
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import apsw
import pytest

from communicator_pipeline.delivery.dispatch import LEASE, Delivered, deliver_due
from communicator_pipeline.storage import open_local
from communicator_pipeline.storage.database import DatabaseFailed
from communicator_pipeline_tests.delivery.conftest import Box
from communicator_pipeline_tests.delivery.recorded_disk import recorded_disk
from communicator_pipeline_tests.delivery.world import QUIET, say

REPLIES = 3
FAULTS = [apsw.FullError, apsw.ReadOnlyError, apsw.IOError]


def waiting(folder: Path, promise: str) -> Box:
    """Approved replies whose time has come."""
    box = Box(open_local(folder))
    box.promise(promise)
    for number in range(REPLIES):
        say(box.stores, "And you?", number=f"r{number}", conversation=f"r{number}")
        box.approve(conversation=f"r{number}", text=f"reply {number}")
    box.clock.pass_by(10)
    return box


def deliver(box: Box) -> Delivered:
    return deliver_due(box.stores, senders=box.network, environment_opens=True, clock=box.clock)


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_leaves_without_its_claim_on_the_disk(
    fault: type[Exception], tmp_path: Path
) -> None:
    with recorded_disk() as disk:
        box = waiting(tmp_path / "full", "neither")
        disk.broken = fault
        for _ in range(3):
            with pytest.raises(DatabaseFailed):
                deliver(box)
        assert box.platform.requests == []
        disk.broken = None
        assert len(deliver(box).sent) == REPLIES
        assert sorted(box.platform.counts().values()) == [1] * REPLIES
        box.database.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("promise", ["key", "look-up", "neither"])
def test_a_result_that_cannot_be_written_is_found_out_about(promise: str, tmp_path: Path) -> None:
    with recorded_disk() as disk:
        box = waiting(tmp_path / "full", promise)

        def fill_the_disk() -> str:
            disk.broken = apsw.FullError  # before the answer comes
            return "ok"

        box.platform.behave = fill_the_disk
        with pytest.raises(DatabaseFailed):
            deliver(box)
        assert len(box.platform.requests) == 1
        disk.broken = None
        box.platform.behave = lambda: "ok"
        for _ in range(4):
            box.clock.pass_by((LEASE + QUIET + timedelta(seconds=1)).total_seconds())
            box.recover()
            deliver(box)
        rows = box.database.execute("SELECT state, count(*) AS n FROM deliveries GROUP BY state")
        states = {row["state"]: row["n"] for row in rows}
        with_a_person = {"needs_human": 1} if promise == "neither" else {}
        assert states == {"sent": REPLIES - len(with_a_person)} | with_a_person
        assert sorted(box.platform.counts().values()) == [1] * REPLIES
        passed = box.database.execute("SELECT 1 FROM delivery_log WHERE after = 'unknown'")
        assert len(passed) == 1
        box.database.close()  # type: ignore[attr-defined]


def deliver_where_files_cannot_grow(folder: str, pipe: Connection) -> None:
    """A limit of the system itself in the place of a full disk: what SQLite makes of it is real."""
    box = waiting(Path(folder), "neither")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # The claim has to go to the end of the write-ahead log, which can grow no further.
    log = (Path(folder) / "communicator.db-wal").stat().st_size
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log, most))
    fault = ""
    try:
        deliver(box)
    except DatabaseFailed as error:
        fault = type(error.__cause__).__name__
    left = len(box.platform.requests)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    again = deliver(box)
    pipe.send((fault, left, len(again.sent), sorted(box.platform.counts().values())))


def test_nothing_leaves_where_files_cannot_grow(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=deliver_where_files_cannot_grow, args=(str(tmp_path / "full"), theirs)
    )
    process.start()
    assert ours.poll(60), "no answer"
    fault, left, sent, counts = ours.recv()
    process.join()
    assert fault, "the limit was not met"
    assert left == 0
    assert (sent, counts) == (REPLIES, [1] * REPLIES)
