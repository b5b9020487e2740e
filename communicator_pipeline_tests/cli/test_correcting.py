"""Merging, splitting and relabelling with the command alone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from communicator_pipeline.storage import Stores, home, open_local
from communicator_pipeline.storage.audit import audit_log
from communicator_pipeline.storage.corrections import Label, labels, placements
from communicator_pipeline_tests.cli.test_people import ANA, ASKED, BO, VI, Command
from communicator_pipeline_tests.delivery.world import ACCOUNT, add_box, say


@pytest.fixture
def box() -> Stores:
    """Ana owns a box with two conversations of a channel; bo reviews and vi reads there."""
    stores = open_local(home())
    add_box(stores)
    for number, conversation in (("1", "c1"), ("2", "c2")):
        say(
            stores, "Can you come at five?", draft="Yes, I can.", number=number,
            conversation=conversation, at=ASKED - timedelta(days=2 - int(number)),
        )  # fmt: skip
    return stores


def test_conversations_are_merged_and_taken_apart_again(box: Stores) -> None:
    done = ANA.json("merge", "c2", "c1")
    assert (done["conversation_id"], done["kind"], done["is_new"]) == ("c1", "merge", True)
    assert list(placements(box.database, ACCOUNT)) == ["c2"]
    assert "communicator materialize" in BO("merge", "c1", "c2").stdout
    assert ANA.json("merge", "--undo", done["regrouping_id"])["conversation_id"] == "c2"
    assert placements(box.database, ACCOUNT) == {}
    noted = [(r["action"], r["user_id"]) for r in audit_log(box.database, "ana", None, 3)]
    assert noted == [("took a merge back", "ana"), ("merged", "bo"), ("merged", "ana")]


def test_a_conversation_is_split_at_a_message(box: Stores) -> None:
    message = ANA.json("show", "c2")["messages"][0]["message_id"]
    done = ANA.json("split", "c2", message)
    assert placements(box.database, ACCOUNT) == {message: None}
    told = ANA("split", "--undo", done["regrouping_id"])
    assert told.stdout.startswith("The split is taken back.")
    assert placements(box.database, ACCOUNT) == {}


def test_a_label_is_set_and_given_back(box: Stores) -> None:
    done = ANA.json("relabel", "c1", "--category", "sales", "--priority", "80", "--why", "offer")
    assert (done["category"], done["priority"]) == ("sales", 80)
    assert BO.json("relabel", "c1", "--category", "")["category"] == "question"
    assert labels(box.database, ACCOUNT) == {"c1": Label(None, 80)}
    assert "It is question with priority 50." in ANA("relabel", "c1", "--priority", "").stdout
    assert labels(box.database, ACCOUNT) == {}


@pytest.mark.parametrize(
    ("who", "words", "said"),
    [
        (ANA, ("merge", "c1"), "name the two conversations"),
        (ANA, ("merge", "c1", "c1"), "one conversation already"),
        (ANA, ("merge", "c1", "--undo", "x"), "nothing else"),
        (ANA, ("merge", "--undo", "x"), "no merge or split 'x'"),
        (ANA, ("split", "c1"), "name the conversation and a message"),
        (ANA, ("split", "c1", "x"), "no message 'x'"),
        (ANA, ("relabel", "c1"), "say what it should be"),
        (ANA, ("relabel", "c1", "--category", "x"), "no category 'x'"),
        (ANA, ("relabel", "c1", "--priority", "101"), "between 0 and 100"),
        (ANA, ("relabel", "c1", "--priority", "high"), "between 0 and 100"),
        (ANA, ("relabel", "nothing", "--priority", "1"), "no conversation 'nothing'"),
        (VI, ("merge", "c1", "c2"), "you are a viewer"),
        (VI, ("relabel", "c1", "--priority", "1"), "you are a viewer"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    box: Stores, who: Command, words: tuple[str, ...], said: str
) -> None:
    assert said in who.refused(*words)
    assert placements(box.database, ACCOUNT) == {}
    assert labels(box.database, ACCOUNT) == {}
