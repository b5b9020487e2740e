"""The demo's home moves to D1 and R2 in the real workerd and back, killed on the way."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from communicator_pipeline.storage.backup import back_up, restore
from communicator_pipeline.storage.moving import back_up_cloudflare, restore_to_cloudflare
from communicator_pipeline.storage.on_cloudflare import open_cloudflare
from communicator_pipeline_tests.conftest import FaultSizes
from communicator_pipeline_tests.peers.node import needs_peers
from communicator_pipeline_tests.peers.stores import empty, running
from communicator_pipeline_tests.peers.test_demo_workerd import demo
from communicator_pipeline_tests.storage.test_moving import (
    at_home,
    in_the_file,
    kill_restores,
    must_be_same,
    usual_seconds,
)


@pytest.fixture(scope="module")
def demo_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs_peers()
    home = tmp_path_factory.mktemp("demo") / "home"
    demo(home, {})
    return home


def found(given: dict[str, str], folder: Path, words: str) -> list[dict[str, Any]]:
    """Messages with all the words, as D1's full-text search gives them."""
    return open_cloudflare(folder, given).database.execute(
        "SELECT rowid FROM messages_fts WHERE messages_fts MATCH ? ORDER BY rowid", (words,)
    )


@pytest.mark.peers
def test_the_demo_moves_there_and_back(demo_home: Path, tmp_path: Path) -> None:
    # A restore does something to what was on its way: this home has had it done already.
    settled = tmp_path / "settled"
    restore(back_up(demo_home, tmp_path / "zero.tar", with_key=True).file, settled)
    first = back_up(settled, tmp_path / "first.tar", with_key=True).file
    machine = tmp_path / "machine"
    with running(tmp_path / "workerd") as given:
        restored, moved = restore_to_cloudflare(first, machine, environment=given)
        assert moved.tables["messages"].count > 500
        assert moved.objects["lake"].count > 100
        assert restored.log_in == []
        # Another machine, which has nothing of the first but the addresses.
        second = tmp_path / "second.tar"
        back_up_cloudflare(tmp_path / "other machine", second, environment=given)
        assert len(found(given, machine, "the")) > 50
    before = at_home(settled)
    must_be_same(in_the_file(second, tmp_path / "unpacked"), before)
    restore(second, tmp_path / "back")
    must_be_same(at_home(tmp_path / "back"), before)


@pytest.mark.faults
def test_restores_that_are_killed_come_to_the_same(
    demo_home: Path, tmp_path: Path, sizes: FaultSizes
) -> None:
    settled = tmp_path / "settled"
    restore(back_up(demo_home, tmp_path / "zero.tar").file, settled)
    first = back_up(settled, tmp_path / "first.tar").file
    before = at_home(settled)
    chance = random.Random(sizes.seed)
    wanted, killed, number = sizes.count(12), 0, 0
    with running(tmp_path / "workerd") as given:
        usual = usual_seconds(first, tmp_path / "measured", given)
        while killed < wanted:
            number += 1
            empty(given, tmp_path / "measured")
            machine = tmp_path / f"machine {number}"
            killed += kill_restores(4, chance, first, (machine, given), usual)
            file = tmp_path / f"{number}.tar"
            back_up_cloudflare(machine, file, environment=given)
            must_be_same(in_the_file(file, tmp_path / f"unpacked {number}"), before)
    print(f"{killed} kills in {number} restores, each of which usually takes {usual:.1f} s")
