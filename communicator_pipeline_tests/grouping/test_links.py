"""Explicit links, system messages, feeds, DMs: what must hold whichever linker is used."""

from __future__ import annotations

import pandas as pd
import pytest

from communicator_pipeline.grouping import Linker, RuleLinker, explicit_parents, group
from communicator_pipeline_tests.grouping.chats import Said, frame

DAY = 24 * 60.0


def grouped(said: list[Said], known: dict[str, str] | None = None) -> pd.DataFrame:
    membership, _ = group(frame(said), None, known or {})
    return membership.set_index("message_id")


def test_a_late_reply_joins_its_thread_root() -> None:
    found = grouped(
        [
            Said(0, "ana", "who can review this?", "c:1", thread="c:1"),
            *[Said(60 + i, "ben", f"something else {i}", f"c:2{i:02d}") for i in range(80)],
            Said(5 * DAY, "cem", "me", "c:9", thread="c:1"),
        ]
    )
    assert found.loc["c:9", "conversation_id"] == found.loc["c:1", "conversation_id"]
    assert found.loc["c:9", "parent_message_id"] == "c:1"
    assert found.loc["c:9", "link_reason"] == "thread"
    assert found.loc["c:9", "link_why"] == "replies in thread"


def test_a_reply_inside_a_thread_hangs_below_what_it_replies_to() -> None:
    found = grouped(
        [
            Said(0, "ana", "plan?", "c:1", thread="c:1"),
            Said(1, "ben", "ship on Friday", "c:2", thread="c:1"),
            Said(2, "ana", "why Friday?", "c:3", thread="c:1", reply="c:2"),
        ]
    )
    assert found.loc["c:3", "parent_message_id"] == "c:2"
    assert found["conversation_id"].unique().tolist() == ["c:1"]


def test_the_thread_wins_over_a_reply_to_another_conversation() -> None:
    found = grouped(
        [
            Said(0, "ana", "thread root", "c:1", thread="c:1"),
            Said(3 * DAY, "ben", "quite another matter", "c:2"),
            Said(3 * DAY + 1, "cem", "both", "c:3", thread="c:1", reply="c:2"),
        ]
    )
    assert found.loc["c:3", "conversation_id"] == "c:1"
    assert found.loc["c:3", "parent_message_id"] == "c:1"
    assert found.loc["c:3", "link_reason"] == "thread"


def test_a_reply_inherits_the_conversation_of_what_it_answers() -> None:
    found = grouped(
        [
            Said(0, "ana", "lunch?", "c:1"),
            Said(1, "ben", "at noon", "c:2", reply="c:1"),
            Said(2 * DAY, "cem", "was it good?", "c:3", reply="c:2"),
        ]
    )
    assert found["conversation_id"].tolist() == ["c:1"] * 3
    assert found.loc["c:2", "link_why"] == "replies to ana, who wrote 60 s before"
    assert found.loc["c:3", "link_why"] == "replies to ben, who wrote 2 days before"


def test_siblings_of_a_missing_parent_come_together() -> None:
    found = grouped(
        [
            Said(0, "ana", "I agree", "c:5", reply="c:gone"),
            Said(2 * DAY, "ben", "so do I", "c:6", reply="c:gone"),
            Said(1, "cem", "a", "c:7", thread="c:lost"),
            Said(3 * DAY, "dan", "b", "c:8", thread="c:lost", reply="c:7x"),
        ]
    )
    assert found.loc[["c:5", "c:6"], "conversation_id"].tolist() == ["c:gone"] * 2
    assert found.loc[["c:5", "c:6"], "parent_message_id"].tolist() == ["c:gone"] * 2
    assert found.loc[["c:7", "c:8"], "conversation_id"].tolist() == ["c:lost"] * 2
    assert found.loc["c:8", "parent_message_id"] == "c:lost"


def test_a_thread_of_an_older_day_is_found_by_what_the_caller_knows() -> None:
    said = [Said(0, "ana", "still on it", "c:50", thread="c:7", reply="c:9")]
    assert explicit_parents(frame(said)) == {"c:7", "c:9"}
    found = grouped(said, {"c:7": "c:1", "c:9": "c:1"})
    assert found.loc["c:50", "conversation_id"] == "c:1"
    assert found.loc["c:50", "parent_message_id"] == "c:9"


def test_parents_among_the_messages_are_not_asked_for() -> None:
    said = [Said(0, "ana", "a", "c:1"), Said(1, "ben", "b", "c:2", reply="c:1", thread="c:1")]
    assert explicit_parents(frame(said)) == set()


def test_a_system_message_stands_alone() -> None:
    found = grouped(
        [
            Said(0, "ana", "hello", "c:1"),
            Said(0.1, "ben", "ben joined", "c:2", system=True),
            Said(0.2, "ana", "hello ben", "c:3"),
        ]
    )
    assert found.loc["c:2", "link_reason"] == "system"
    assert found.loc["c:2", "conversation_id"] == "c:2"
    assert pd.isna(found.loc["c:2", "parent_message_id"])
    assert found.loc["c:3", "parent_message_id"] != "c:2"


def test_a_system_message_in_a_thread_stays_there() -> None:
    found = grouped(
        [
            Said(0, "ana", "root", "c:1", thread="c:1"),
            Said(1, "", "ana renamed the thread", "c:2", thread="c:1", system=True),
        ]
    )
    assert found.loc["c:2", "conversation_id"] == "c:1"


def test_a_feed_links_only_what_says_so_itself() -> None:
    found = grouped(
        [
            Said(0, "ana", "first post", "x:1", "x", "feed"),
            Said(0.1, "ana", "second post", "x:2", "x", "feed"),
            Said(0.2, "ben", "@ana nice", "x:3", "x", "feed", reply="x:1", mentions=("ana",)),
            Said(0.3, "cem", "@ana nice", "x:4", "x", "feed", mentions=("ana",)),
        ]
    )
    assert found["conversation_id"].tolist() == ["x:1", "x:2", "x:1", "x:4"]


def test_nothing_inferred_crosses_channels() -> None:
    found = grouped(
        [
            Said(0, "ana", "ben: are you there?", "a:1", "a"),
            Said(0.1, "ben", "ana: yes", "b:1", "b"),
        ]
    )
    assert found["conversation_id"].tolist() == ["a:1", "b:1"]


def test_a_reply_to_another_channel_is_no_link() -> None:
    found = grouped(
        [
            Said(0, "ana", "posted there", "a:1", "a"),
            Said(1, "ben", "quoting it here", "b:1", "b", reply="a:1"),
        ]
    )
    assert found.loc["b:1", "conversation_id"] == "b:1"


def test_a_parent_that_comes_later_counts_as_missing() -> None:
    found = grouped(
        [Said(0, "ana", "a", "c:1", reply="c:2"), Said(DAY * 2, "ben", "b", "c:2", reply="c:1")]
    )
    assert found.loc["c:1", "conversation_id"] == "c:2"
    assert found.loc["c:1", "parent_message_id"] == "c:2"


def test_a_dm_is_one_conversation_until_a_long_silence() -> None:
    found = grouped(
        [
            Said(0, "ana", "are you there?", "d:1", "d", "dm"),
            Said(40, "ben", "now I am", "d:2", "d", "dm"),
            Said(41, "ana", "the report is late", "d:3", "d", "dm"),
            Said(3 * DAY, "ben", "happy birthday!", "d:4", "d", "dm"),
        ]
    )
    assert found["conversation_id"].tolist() == ["d:1", "d:1", "d:1", "d:4"]
    assert found.loc["d:2", "link_reason"] == "answer"
    assert found.loc["d:3", "link_reason"] == "time"


@pytest.mark.parametrize("linker", [None, RuleLinker()], ids=["default", "rule"])
@pytest.mark.parametrize(
    ("author", "text", "mentions"),
    [
        ("maya", "maya: try it again", ()),
        ("maya", "@maya try it again", ()),
        ("Maya Lopez", "maya, try it again", ()),
        ("Maya Lopez", "thanks Maya", ()),
        ("Maya Lopez", "@Maya Lopez try it again", ("Maya Lopez",)),
        ("Мая", "мая, попробуй ещё раз", ()),
    ],
)
def test_a_person_called_by_name_is_answered(
    linker: Linker | None, author: str, text: str, mentions: tuple[str, ...]
) -> None:
    said = [
        Said(0.0, author, "the upload fails with error 12, what now?", "c:1"),
        Said(0.4, "omar", "does anyone have the new logo as a vector file?", "c:2"),
        Said(0.8, "lena", "omar: look into the brand folder", "c:3"),
        Said(1.2, "ben", text, "c:4", mentions=mentions),
    ]
    membership, _ = group(frame(said), None, {}, linker)
    found = membership.set_index("message_id")
    assert found.loc["c:4", "parent_message_id"] == "c:1"
    assert found.loc["c:4", "link_reason"] == "mention"
    assert found.loc["c:4", "link_why"] == f"addresses {author}, who wrote 72 s before"


def test_messages_without_an_author_are_not_taken_for_one_person() -> None:
    found = grouped([Said(0, "", "build 1 passed", "c:1"), Said(90, "", "build 2 passed", "c:2")])
    assert "continuation" not in found["link_reason"].tolist()


def test_deleted_messages_keep_their_place() -> None:
    found = grouped([Said(0, "ana", "", "c:1"), Said(0.2, "ben", "", "c:2", reply="c:1")])
    assert found["conversation_id"].tolist() == ["c:1", "c:1"]


def test_an_empty_stretch_is_fine() -> None:
    nothing = frame([Said(0, "a", "b")]).iloc[:0]
    membership, carry = group(nothing, None, {})
    assert len(membership) == 0
    assert len(carry) == 0
