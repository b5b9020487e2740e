"""What people merge and split by hand goes before everything that is read out of messages."""

from __future__ import annotations

import pandas as pd
import pytest

from communicator_pipeline.grouping import Placed, explicit_parents, group
from communicator_pipeline_tests.grouping.chats import Said, frame

DAY = 24 * 60.0

CHAT = [
    Said(0, "ana", "who has the key of the hall?", "c:1"),
    Said(1, "ben", "I do", "c:2", reply="c:1"),
    Said(9 * DAY, "cem", "when does the ferry leave?", "c:3", thread="c:3"),
    Said(9 * DAY + 1, "dan", "at nine", "c:4", thread="c:3"),
    Said(9 * DAY + 2, "eva", "and on Sunday?", "c:5", reply="c:2"),
]


def grouped(said: list[Said], placed: Placed, known: dict[str, str] | None = None) -> pd.DataFrame:
    membership, _ = group(frame(said), None, known or {}, placed=placed)
    return membership.set_index("message_id")


def conversations(found: pd.DataFrame) -> dict[str, str]:
    return {str(key): str(value) for key, value in found["conversation_id"].items()}


def test_without_a_word_nothing_is_different() -> None:
    pd.testing.assert_frame_equal(grouped(CHAT, {}), grouped(CHAT, {"c:99": "c:1", "c:98": None}))


def test_a_merged_root_takes_its_thread_along_and_says_why() -> None:
    found = grouped(CHAT, {"c:3": "c:2"})
    assert set(found["conversation_id"]) == {"c:1"}
    assert found.loc["c:3", ["parent_message_id", "link_reason", "link_why"]].tolist() == [
        "c:2", "merged", "continues what ben wrote 9 days before, set by hand",
    ]  # fmt: skip
    assert found.loc["c:4", ["parent_message_id", "link_reason"]].tolist() == ["c:3", "thread"]


def test_a_word_goes_before_the_platforms_own_thread_and_reply() -> None:
    found = grouped(CHAT, {"c:4": "c:1", "c:5": "c:3"})
    assert conversations(found) == {"c:1": "c:1", "c:2": "c:1", "c:3": "c:3", "c:4": "c:1",
                                    "c:5": "c:3"}  # fmt: skip
    assert found.loc["c:5", "parent_message_id"] == "c:3"
    assert set(found.loc[["c:4", "c:5"], "link_reason"]) == {"merged"}


def test_what_hangs_on_a_split_message_follows_it() -> None:
    found = grouped(CHAT, {"c:2": None})
    assert conversations(found) == {"c:1": "c:1", "c:2": "c:2", "c:3": "c:3", "c:4": "c:3",
                                    "c:5": "c:2"}  # fmt: skip
    assert pd.isna(found.loc["c:2", "parent_message_id"])
    assert found.loc["c:2", ["link_reason", "link_why"]].tolist() == [
        "split", "begins a conversation of its own, set by hand",
    ]  # fmt: skip


@pytest.mark.parametrize("parent", ["c:1", "c:5"])
def test_a_message_never_continues_itself_or_a_later_one(parent: str) -> None:
    pd.testing.assert_frame_equal(grouped(CHAT, {"c:1": parent}), grouped(CHAT, {}))


def test_a_system_message_is_merged_like_any_other() -> None:
    said = [*CHAT, Said(9 * DAY + 3, "fay", "fay joined", "c:6", system=True)]
    found = grouped(said, {"c:6": "c:5"})
    assert found.loc["c:6", ["conversation_id", "link_reason"]].tolist() == ["c:1", "merged"]


def test_an_older_parent_is_looked_up() -> None:
    late = [Said(9 * DAY, "fay", "the key again", "c:9")]
    assert explicit_parents(frame(late), {"c:9": "c:2"}) == {"c:2"}
    found = grouped(late, {"c:9": "c:2"}, {"c:2": "c:1"})
    assert found.loc["c:9", ["conversation_id", "parent_message_id", "link_why"]].tolist() == [
        "c:1", "c:2", "continues an older message, set by hand",
    ]  # fmt: skip


def test_a_root_that_is_not_at_hand_is_placed_for_what_hangs_on_it() -> None:
    said = [*CHAT, Said(9 * DAY + 3, "fay", "it was paid", "c:7", reply="c:0")]
    placed = {"c:0": "c:2"}
    assert explicit_parents(frame(said), placed) == {"c:0"}
    found = grouped(said, placed)
    assert found.loc["c:7", ["conversation_id", "parent_message_id", "link_why"]].tolist() == [
        "c:1", "c:0", "replies to an older message",
    ]  # fmt: skip
    alone = said[-1:]
    assert explicit_parents(frame(alone), placed) == {"c:0", "c:2"}
    assert conversations(grouped(alone, placed, {"c:2": "c:1"})) == {"c:7": "c:1"}
    # Once the root has come, its own day says where it is.
    assert conversations(grouped(alone, placed, {"c:2": "c:1", "c:0": "c:00"})) == {"c:7": "c:00"}


def test_day_by_day_gives_what_all_at_once_gives() -> None:
    said = [
        Said(0, "ana", "who has the key?", "d:1", kind="dm"),
        Said(1, "ben", "by the way, the ferry is late", "d:2", kind="dm"),
        Said(30, "ben", "it comes at nine", "d:3", kind="dm"),
        Said(31, "ana", "who has the key?", "d:4", kind="dm"),
    ]
    placed: Placed = {"d:2": None, "d:4": "d:1"}
    whole = conversations(grouped(said, placed))
    first, carry = group(frame(said[:2]), None, {}, placed=placed)
    second, _ = group(frame(said[2:]), carry, {"d:1": "d:1"}, placed=placed)
    parts = pd.concat([first, second]).set_index("message_id")
    assert conversations(parts) == whole == {"d:1": "d:1", "d:2": "d:2", "d:3": "d:2", "d:4": "d:1"}
