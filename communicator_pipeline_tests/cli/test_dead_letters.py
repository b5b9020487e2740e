"""Who may close dead letters with the command."""

from __future__ import annotations

import pytest

from communicator_pipeline.storage import Stores, home, open_local
from communicator_pipeline.storage.dead_letters import DeadLetter, DeadLetters, bury
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline_tests.cli.test_people import ANA, BO, VI
from communicator_pipeline_tests.delivery.world import ACCOUNT, add_box

DAY = "2026-11-02"


@pytest.fixture
def box() -> Stores:
    """A letter of a day and one of an import, in a box that bo reviews and vi reads."""
    stores = open_local(home())
    add_box(stores)
    bury(
        stores.database,
        ACCOUNT,
        [
            DeadLetter("import", "chat.jsonl:1", "no JSON"),
            DeadLetter("analyses", "c1", "broken", day=DAY),
        ],
    )
    return stores


def ids(stores: Stores) -> dict[str, str]:
    rows = DeadLetters(stores.database, "ana").list()
    return {row["stage"]: row["dead_letter_id"] for row in rows}


def test_a_viewer_reads_dead_letters_and_closes_none(box: Stores) -> None:
    letters = ids(box)
    assert len(VI.json("dead-letters", "list")) == 2
    for letter in letters.values():
        assert VI.json("dead-letters", "show", letter)["dead_letter_id"] == letter
        assert "you are a viewer" in VI.refused("dead-letters", "retry", letter)
        with pytest.raises(PermissionError):
            DeadLetters(box.database, "vi").resolve(letter)
    assert ids(box) == letters
    assert WorkQueue(box.database).dirty(ACCOUNT) == []


def test_a_reviewer_and_an_owner_have_them_tried_again(box: Stores) -> None:
    letters = ids(box)
    assert DAY in BO("dead-letters", "retry", letters["analyses"]).stdout
    assert [row.day for row in WorkQueue(box.database).dirty(ACCOUNT)] == [DAY]
    assert "Closed" in ANA("dead-letters", "retry", letters["import"]).stdout
    assert ids(box) == {}
