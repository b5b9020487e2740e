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

from communicator_pipeline.delivery.approving import approve
from communicator_pipeline.delivery.dispatch import LEASE, Delivered, deliver_due
from communicator_pipeline.delivery.recovery import recover
from communicator_pipeline.platforms.protocol import Part, SendResult, Target
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline_tests.delivery.recorded_disk import RecordedDisk, recorded_disk
from communicator_pipeline_tests.delivery.world import (
    ACCOUNT,
    PROMISES,
    QUIET,
    FakeClock,
    Network,
    Platform,
    add_box,
    say,
)

REPLIES = 3
FAULTS = [apsw.FullError, apsw.ReadOnlyError, apsw.IOError]


def waiting(folder: Path, clock: FakeClock, promise: str) -> tuple[Stores, Platform]:
    """Approved replies whose time has come."""
    stores = open_local(folder)
    add_box(stores)
    Settings(stores.database, "ana").set("undo_seconds", 0)
    platform = Platform(PROMISES[promise], clock)
    for number in range(REPLIES):
        say(stores, "And you?", number=str(number), conversation=f"c{number}")
        approve(
            stores.database,
            "ana",
            ACCOUNT,
            f"c{number}",
            platform.promise,
            text=f"reply {number}",
            environment_opens=True,
            clock=clock,
        )
    clock.pass_by(1)
    return stores, platform


def deliver(stores: Stores, platform: Platform, clock: FakeClock) -> Delivered:
    network = Network({ACCOUNT: platform})
    return deliver_due(stores, senders=network, environment_opens=True, clock=clock)


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_leaves_without_its_claim_on_the_disk(
    fault: type[Exception], tmp_path: Path
) -> None:
    clock = FakeClock()
    with recorded_disk() as disk:
        stores, platform = waiting(tmp_path / "full", clock, "neither")
        disk.broken = fault
        for _ in range(3):
            with pytest.raises(apsw.Error):
                deliver(stores, platform, clock)
        assert platform.requests == []
        disk.broken = None
        assert len(deliver(stores, platform, clock).sent) == REPLIES
        assert sorted(platform.counts().values()) == [1] * REPLIES
        stores.database.close()  # type: ignore[attr-defined]


class FillsTheDisk(Platform):
    """There is no room any more when the answer comes."""

    disk: RecordedDisk

    def send(self, target: Target, part: Part, token: str) -> SendResult:
        answer = super().send(target, part, token)
        self.disk.broken = apsw.FullError
        return answer


@pytest.mark.parametrize("promise", ["key", "look-up", "neither"])
def test_a_result_that_cannot_be_written_is_found_out_about(promise: str, tmp_path: Path) -> None:
    clock = FakeClock()
    with recorded_disk() as disk:
        stores, plain = waiting(tmp_path / "full", clock, promise)
        platform = FillsTheDisk(plain.promise, clock)
        platform.disk = disk
        with pytest.raises(apsw.Error):
            deliver(stores, platform, clock)
        assert len(platform.requests) == 1
        disk.broken = None
        plain.arrivals = platform.arrivals  # the same platform, and room on the disk again
        network = Network({ACCOUNT: plain})
        for _ in range(4):
            clock.pass_by((LEASE + QUIET + timedelta(seconds=1)).total_seconds())
            recover(stores, senders=network, clock=clock)
            deliver(stores, plain, clock)
        rows = stores.database.execute("SELECT state, count(*) AS n FROM deliveries GROUP BY state")
        states = {row["state"]: row["n"] for row in rows}
        with_a_person = {"needs_human": 1} if promise == "neither" else {}
        assert states == {"sent": REPLIES - len(with_a_person)} | with_a_person
        assert sorted(plain.counts().values()) == [1] * REPLIES
        stores.database.close()  # type: ignore[attr-defined]


def deliver_where_files_cannot_grow(folder: str, pipe: Connection) -> None:
    """A limit of the system itself in the place of a full disk: what SQLite makes of it is real."""
    clock = FakeClock()
    stores, platform = waiting(Path(folder), clock, "neither")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # The claim has to go to the end of the write-ahead log, which can grow no further.
    log = (Path(folder) / "communicator.db-wal").stat().st_size
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log, most))
    fault = ""
    try:
        deliver(stores, platform, clock)
    except apsw.Error as error:
        fault = type(error).__name__
    left = len(platform.requests)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    again = deliver(stores, platform, clock)
    pipe.send((fault, left, len(again.sent), sorted(platform.counts().values())))


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
