"""An approval is for what was seen: anything new takes it back, or is told if it is too late."""

from __future__ import annotations

from datetime import timedelta

import pytest

from communicator_pipeline.delivery.dispatch import due, take
from communicator_pipeline.delivery.voiding import raise_notices, sweep, void_reason
from communicator_pipeline.platforms.protocol import Sending
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.outbox import Outgoing, source_messages
from communicator_pipeline_tests.delivery.conftest import Box
from communicator_pipeline_tests.delivery.world import ACCOUNT, START, say

SHORT = Sending(repeats=False, looks_up=True, longest=12)


def newer(box: Box) -> None:
    say(box.stores, "Or at six?", at=START, number="2")


def newer_but_late(box: Box) -> None:
    say(box.stores, "PS: bring cake", at=START - timedelta(minutes=4), number="2")


def elsewhere(box: Box) -> None:
    say(box.stores, "Yes!", at=START, author="ana", number="2")


def edited(box: Box) -> None:
    say(box.stores, "Can you come at six?", version=2)


def deleted(box: Box) -> None:
    say(box.stores, "", version=2, deleted=True)


def moved(box: Box) -> None:
    box.database.execute("UPDATE messages SET conversation_id = 'c9'")


def renamed_owner(box: Box) -> None:
    Accounts(box.database, "ana").set_me(ACCOUNT, ["ana-2"])


CHANGES = [
    (newer, "a newer message from Kim arrived"),
    (newer_but_late, "a newer message from Kim arrived"),
    (elsewhere, "you answered elsewhere"),
    (edited, "a message of Kim was edited"),
    (deleted, "a message of Kim was deleted"),
    (moved, "in another conversation"),
    (renamed_owner, "belongs to somebody else"),
]


@pytest.mark.parametrize(("change", "says"), CHANGES)
def test_what_changed_since_the_approval_takes_it_back(box: Box, change, says: str) -> None:  # type: ignore[no-untyped-def]
    reply = box.approve_and_wait()
    change(box)
    swept = box.deliver().swept
    assert swept.superseded == [reply.delivery.delivery_id]
    assert says in box.reason(reply)
    assert "approve it again" in box.reason(reply)
    assert box.arrived() == []


@pytest.mark.parametrize("change", [change for change, _ in CHANGES])
def test_the_claim_itself_sees_what_came_after_the_look(box: Box, change) -> None:  # type: ignore[no-untyped-def]
    box.approve_and_wait()
    (row,) = due(box.database, box.clock().wall, environment_opens=True)
    change(box)
    assert take(box.database, row, box.platform.promise, box.clock(), True) is None
    assert box.platform.requests == []


def reaction(box: Box) -> None:
    say(box.stores, "Can you come at five?", version=2, reactions=[{"name": "+1", "count": 1}])


def other_conversation(box: Box) -> None:
    say(box.stores, "Lunch?", at=START, number="7", conversation="c7")


def came_and_went(box: Box) -> None:
    say(box.stores, "", at=START, number="2", version=2, deleted=True)


def joined(box: Box) -> None:
    say(box.stores, "Lu joined", at=START, number="2")
    box.database.execute("UPDATE messages SET kind = 'system' WHERE message_id = 'general:2'")


@pytest.mark.parametrize("change", [reaction, other_conversation, came_and_went, joined])
def test_what_does_not_matter_does_not(box: Box, change) -> None:  # type: ignore[no-untyped-def]
    reply = box.approve_and_wait()
    change(box)
    box.deliver()
    assert box.state(reply) == "sent"


def test_what_the_approver_had_seen_is_no_news(box: Box) -> None:
    newer(box)
    reply = box.approve_and_wait()
    box.deliver()
    assert box.state(reply) == "sent"


def test_our_own_earlier_replies_are_no_answer_given_elsewhere(box: Box) -> None:
    box.approve_and_wait()
    box.deliver()
    second = box.approve_and_wait(text="And bring cake.")
    say(box.stores, "Yes, I can.", at=START, author="ana", number="sent-1")
    box.deliver()
    assert box.state(second) == "sent"


def test_a_reply_whose_first_part_is_out_is_finished_and_what_came_is_told(box: Box) -> None:
    first = box.approve_and_wait(text="One two three. Four five.", promise=SHORT)
    box.deliver(most=1)
    newer(box)
    box.deliver()
    assert box.arrived() == ["One two", "three.", "Four five."]
    assert raise_notices(box.database, box.clock()) == 1
    (notice,) = box.outbox.notices()
    assert notice["approval_id"] == first.delivery.approval_id
    assert notice["text"] == (
        "your reply went out, but a newer message from Kim arrived: Or at six?"
    )


@pytest.mark.parametrize(
    ("change", "told"), [(newer, 1), (edited, 1), (deleted, 1), (elsewhere, 1), (reaction, 0)]
)
def test_what_comes_to_light_after_it_was_sent_is_told_once(box: Box, change, told: int) -> None:  # type: ignore[no-untyped-def]
    reply = box.approve_and_wait()
    box.deliver()
    change(box)
    assert raise_notices(box.database, box.clock()) == told
    assert raise_notices(box.database, box.clock()) == 0
    assert len(box.outbox.notices(ACCOUNT)) == told
    assert box.outbox.read_notices(reply.delivery.approval_id, START) == told
    assert box.outbox.notices() == []


def test_an_answer_to_the_reply_is_no_notice(box: Box) -> None:
    box.approve_and_wait()
    box.deliver()
    say(box.stores, "Great!", at=box.clock().wall + timedelta(seconds=5), number="2")
    assert raise_notices(box.database, box.clock()) == 0


def test_a_sweep_of_one_account_leaves_the_others_alone(box: Box) -> None:
    reply = box.approve_and_wait()
    newer(box)
    assert sweep(box.database, box.clock(), "another").superseded == []
    assert box.state(reply) == "approved"


def test_the_decision_is_a_question_about_rows_alone(box: Box) -> None:
    reply: Outgoing = box.approve_and_wait()
    now = source_messages(box.database, ACCOUNT, "c1", 200)
    assert void_reason(reply, now) is None
    newer(box)
    now = source_messages(box.database, ACCOUNT, "c1", 200)
    assert void_reason(reply, now) == "a newer message from Kim arrived after it was approved"
    elsewhere(box)
