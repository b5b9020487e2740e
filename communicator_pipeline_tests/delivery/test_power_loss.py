"""The power goes while replies are approved and sent: what somebody was told is still true.

`make test` cuts at 30 places, `make test-faults` at 1,000.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from communicator_pipeline.delivery.dispatch import deliver_due
from communicator_pipeline.delivery.states import ARRIVED
from communicator_pipeline.storage import open_local
from communicator_pipeline.storage.database import DatabaseFailed, SqliteDatabase
from communicator_pipeline_tests.conftest import FaultSizes
from communicator_pipeline_tests.delivery.conftest import Box
from communicator_pipeline_tests.delivery.recorded_disk import (
    Entry,
    RecordedDisk,
    after_power_loss,
    recorded_disk,
)
from communicator_pipeline_tests.delivery.world import say

REPLIES = 60  # the write-ahead log is put into the database on the way, and at the end


def work(folder: Path, disk: RecordedDisk, synchronous: str) -> None:
    """Approve and send, one after the other, noting what is told to whom."""
    box = Box(open_local(folder))
    box.promise("key")
    assert isinstance(box.database, SqliteDatabase)
    box.database._connection().execute(f"PRAGMA synchronous={synchronous}")

    def take_request() -> str:
        disk.tell(f"claimed {box.platform.requests[-1][0]}")  # it left: its claim was told of
        return "ok"

    box.platform.behave = take_request
    for number in range(REPLIES):
        say(box.stores, "And you?", number=f"r{number}", conversation=f"r{number}")
        done = box.approve(conversation=f"r{number}", text=f"reply {number}")
        disk.tell(f"approved {done.approval_id}")
        box.clock.pass_by(10)
        sent = deliver_due(
            box.stores, senders=box.network, environment_opens=True, clock=box.clock
        ).sent
        assert len(sent) == 1
        disk.tell(f"sent {sent[0]}")
    box.database.close()


def recorded(folder: Path, synchronous: str) -> tuple[dict[str, bytes], list[Entry]]:
    """What was on the disk at first, and all that happened to it."""
    database = open_local(folder).database
    assert isinstance(database, SqliteDatabase)
    database.close()
    base = {file.name: file.read_bytes() for file in folder.glob("communicator.db*")}
    assert list(base) == ["communicator.db"]
    with recorded_disk() as disk:
        work(folder, disk, synchronous)
    return base, disk.log


def wrong_after(
    base: dict[str, bytes], log: list[Entry], cut: int, chance: random.Random, folder: Path
) -> list[str]:
    """What does not hold any more when the power has gone there."""
    folder.mkdir()
    for name, content in after_power_loss(base, log, cut, chance).items():
        (folder / name).write_bytes(content)
    database = SqliteDatabase(folder / "communicator.db")
    wrong = []
    try:
        sound = database.execute("SELECT * FROM pragma_integrity_check")
        if sound != [{"integrity_check": "ok"}]:
            return [f"the database is damaged: {sound[:3]}"]
        approvals = {r["approval_id"] for r in database.execute("SELECT * FROM approvals")}
        rows = database.execute("SELECT delivery_id, token, state, attempts FROM deliveries")
    except DatabaseFailed as error:
        return [f"the database cannot be read: {error}"]
    finally:
        database.close()
    attempts = {row["token"]: row["attempts"] for row in rows}
    states = {row["delivery_id"]: row["state"] for row in rows}
    for entry in log[:cut]:
        if entry.what != "told":
            continue
        what, _, name = entry.file.partition(" ")
        if what == "approved" and name not in approvals:
            wrong.append(f"the approval {name} is lost")
        if what == "claimed" and not attempts.get(name):
            wrong.append(f"the claim of {name} is lost: it would be sent again")
        if what == "sent" and states.get(name) not in ARRIVED:
            wrong.append(f"{name} was sent, and is {states.get(name)}")
    return wrong


def cut_power(folder: Path, cuts: int, seed: int) -> None:
    base, log = recorded(folder / "home", "FULL")
    chance = random.Random(seed)
    for number in range(cuts):
        cut = chance.randrange(len(log) + 1)
        wrong = wrong_after(base, log, cut, chance, folder / f"cut-{number}")
        assert not wrong, f"FAULTS_SEED={seed}, cut {number} behind entry {cut}: {wrong}"


def test_thirty_power_losses_lose_nothing_that_was_told(tmp_path: Path, sizes: FaultSizes) -> None:
    cut_power(tmp_path, 30, sizes.seed)


@pytest.mark.faults
def test_a_thousand_power_losses_lose_nothing_that_was_told(
    tmp_path: Path, sizes: FaultSizes
) -> None:
    cut_power(tmp_path, sizes.count(1_000), sizes.seed)


def test_without_syncing_something_is_lost(tmp_path: Path) -> None:
    """What the others prove, they prove: a database that does not sync is found out."""
    base, log = recorded(tmp_path / "home", "OFF")
    chance = random.Random(1)
    for number in range(30):
        cut = chance.randrange(len(log) // 2, len(log) + 1)
        if wrong_after(base, log, cut, chance, tmp_path / f"cut-{number}"):
            return
    pytest.fail("nothing was lost")
