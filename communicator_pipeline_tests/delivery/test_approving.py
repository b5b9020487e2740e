"""An approval binds all that goes out and all that was seen; twice the same is once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from communicator_pipeline.delivery.approving import (
    AlreadyApproved,
    Approved,
    NotApproved,
    SourceChanged,
    TooLate,
    approve,
    edit,
    propose,
    reapprove,
    reject,
    undo,
)
from communicator_pipeline.delivery.content import content_hash, is_as_approved
from communicator_pipeline.platforms.protocol import Sending, Target
from communicator_pipeline.storage.accounts import Accounts, NotFound
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline_tests.delivery.conftest import Box
from communicator_pipeline_tests.delivery.world import ACCOUNT, PROMISES, START, say

SHORT = Sending(repeats=False, looks_up=True, longest=12)


def test_an_approval_says_who_when_and_what_and_leaves_after_the_undo_window(box: Box) -> None:
    approved = box.approve()
    assert approved.is_new
    assert approved.approved_by == "ana"
    assert approved.approved_at == START
    assert approved.send_at == START + timedelta(seconds=10)
    assert approved.parts == ("Yes, I can.",)
    assert approved.warnings == ()
    row = box.outbox.parts(approved.approval_id)[0]
    assert row.expires_at == approved.send_at + timedelta(hours=48)
    assert is_as_approved(row)
    assert (row.channel_id, row.thread_id, row.reply_to) == ("general", None, box.question)


def test_a_long_reply_has_a_row_and_a_token_for_each_part(box: Box) -> None:
    approved = box.approve(text="One two three. Four five.", promise=SHORT)
    rows = box.outbox.parts(approved.approval_id)
    assert [row.delivery.text for row in rows] == ["One two", "three.", "Four five."]
    assert [row.delivery.number for row in rows] == [1, 2, 3]
    assert len({row.delivery.token for row in rows}) == 3


def test_the_hash_changes_with_everything_that_it_binds() -> None:
    target = Target("c", "t", "r")
    base = ("acc", target, "text", ("text",), (), "v1")
    others = [
        ("acc2", target, "text", ("text",), (), "v1"),
        ("acc", Target("d", "t", "r"), "text", ("text",), (), "v1"),
        ("acc", Target("c", None, "r"), "text", ("text",), (), "v1"),
        ("acc", Target("c", "t", None), "text", ("text",), (), "v1"),
        ("acc", target, "Text", ("Text",), (), "v1"),
        ("acc", target, "text", ("te", "xt"), (), "v1"),
        ("acc", target, "text", ("text",), ("file",), "v1"),
        ("acc", target, "text", ("text",), (), "v2"),
    ]
    hashes = {content_hash(*arguments) for arguments in [base, *others]}  # type: ignore[arg-type]
    assert len(hashes) == 9


# --- twice, and two ---------------------------------------------------------------------------


def together(jobs: list[Callable[[], object]]) -> list[object]:
    """All at once; what each returned or raised."""
    answers: list[object] = [None] * len(jobs)
    gate = threading.Barrier(len(jobs))

    def run(place: int) -> None:
        gate.wait()
        try:
            answers[place] = jobs[place]()
        except Exception as error:
            answers[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_a_hundred_clicks_on_approve_are_one_approval(box: Box) -> None:
    answers = together([box.approve] * 100)
    approvals = [answer for answer in answers if isinstance(answer, Approved)]
    assert len(approvals) == 100
    assert len({approved.approval_id for approved in approvals}) == 1
    assert sum(approved.is_new for approved in approvals) == 1
    box.clock.pass_by(10)
    box.deliver()
    assert box.arrived() == ["Yes, I can."]


def test_a_click_that_comes_after_it_was_sent_sends_nothing(box: Box) -> None:
    first = box.approve()
    box.clock.pass_by(10)
    box.deliver()
    again = box.approve()
    assert not again.is_new
    assert again.approval_id == first.approval_id
    box.clock.pass_by(10)
    box.deliver()
    assert box.arrived() == ["Yes, I can."]


def test_of_two_approvers_at_once_one_wins_and_the_other_is_told_who(box: Box) -> None:
    for turn in range(10):
        conversation = f"r{turn}"
        say(box.stores, "And you?", number=f"r{turn}", conversation=conversation)
        answers = together(
            [
                lambda c=conversation: box.approve("ana", c, text="ana says yes"),  # type: ignore[misc]
                lambda c=conversation: box.approve("bo", c, text="bo says no"),  # type: ignore[misc]
            ]
        )
        (won,) = [a for a in answers if isinstance(a, Approved)]
        (told,) = [a for a in answers if isinstance(a, AlreadyApproved)]
        assert told.approved_by == won.approved_by
        assert won.approved_by in str(told)


def test_two_who_approve_the_same_words_have_one_approval_and_know_whose(box: Box) -> None:
    box.approve("bo")
    second = box.approve("ana")
    assert not second.is_new
    assert second.approved_by == "bo"


# --- refused ---------------------------------------------------------------------------------


def test_a_viewer_does_not_approve(box: Box) -> None:
    with pytest.raises(PermissionError, match="you are a viewer"):
        box.approve("vi")


def test_nobody_approves_in_anothers_account(box: Box) -> None:
    Accounts(box.database, "eve").database.execute(
        "INSERT INTO users (user_id, name, created_at) VALUES ('eve', 'Eve', '')"
    )
    with pytest.raises(NotFound):
        box.approve("eve")


def test_a_draft_with_gaps_is_not_approved_until_they_are_filled(box: Box) -> None:
    say(box.stores, "When?", number="2", conversation="c2", draft="On […: date] at […: time].")
    with pytest.raises(NotApproved, match=r"\[…: date\], \[…: time\]"):
        box.approve(conversation="c2")
    assert box.approve(conversation="c2", text="On Monday at nine.").is_new


@pytest.mark.parametrize("text", ["", "  \n "])
def test_an_empty_text_is_not_approved(box: Box, text: str) -> None:
    with pytest.raises(NotApproved, match="nothing to send"):
        box.approve(text=text)


def test_a_conversation_without_a_draft_needs_a_text(box: Box) -> None:
    say(box.stores, "Hm?", number="3", conversation="c3")
    with pytest.raises(NotApproved, match="no draft"):
        box.approve(conversation="c3")
    assert box.approve(conversation="c3", text="Yes?").is_new


def test_there_must_be_such_a_conversation(box: Box) -> None:
    with pytest.raises(NotFound, match="no conversation"):
        box.approve(conversation="nowhere", text="hello")


def test_who_looked_before_something_new_came_looks_again(box: Box) -> None:
    seen = propose(box.database, "ana", ACCOUNT, "c1").source_version
    say(box.stores, "Or at six?", at=START, number="2")
    with pytest.raises(SourceChanged, match="look at it again"):
        box.approve(seen=seen)
    seen = propose(box.database, "ana", ACCOUNT, "c1").source_version
    assert box.approve(seen=seen).is_new


def test_an_account_that_cannot_send_says_so_and_may_be_approved_all_the_same(box: Box) -> None:
    Accounts(box.database, "ana").add("ana-x", "generic", "Other")
    say(box.stores, "Hello?", account="ana-x", conversation="d1", draft="Hello!")
    approved = approve(
        box.database, "ana", "ana-x", "d1", None, environment_opens=False, clock=box.clock
    )
    assert approved.is_new
    no_way, dry_run = approved.warnings
    assert "communicator accounts add" in no_way
    assert "COMMUNICATOR_SENDING=open" in dry_run
    assert "communicator accounts set ana-x sending open" in dry_run


# --- when ------------------------------------------------------------------------------------


def test_the_undo_window_and_the_expiry_are_the_users_settings(box: Box) -> None:
    Settings(box.database, "ana").set("undo_seconds", 30)
    Settings(box.database, "ana").set("approval_hours", 2)
    row = box.outbox.parts(box.approve().approval_id)[0]
    assert row.send_at == START + timedelta(seconds=30)
    assert row.expires_at == row.send_at + timedelta(hours=2)


def test_it_waits_for_the_approvers_sending_hours_unless_they_say_otherwise(box: Box) -> None:
    hours = {"zone": "America/New_York", "from": "09:00", "to": "17:00"}
    Settings(box.database, "ana").set("sending_hours", hours)
    approved = box.approve()
    assert approved.send_at == datetime(2026, 11, 2, 14, tzinfo=UTC)
    undo(box.database, "ana", approved.approval_id, clock=box.clock)
    assert box.approve(any_time=True).send_at == START + timedelta(seconds=10)


def test_it_can_be_scheduled_and_expires_after_its_own_time(box: Box) -> None:
    Settings(box.database, "ana").set("approval_hours", 1)
    monday = START + timedelta(days=7)
    reply = box.outbox.parts(box.approve(at=monday).approval_id)[0]
    assert (reply.send_at, reply.expires_at) == (monday, monday + timedelta(hours=1))
    box.clock.pass_by(timedelta(days=7).total_seconds())
    box.deliver()
    assert box.state(reply) == "sent"


# --- taking it back --------------------------------------------------------------------------


def test_undo_takes_it_back_before_it_leaves(box: Box) -> None:
    reply = box.approve_and_wait()
    (canceled,) = undo(box.database, "bo", reply.delivery.approval_id, clock=box.clock)
    assert canceled.delivery.state == "canceled"
    assert canceled.delivery.reason == "bo took it back"
    box.deliver()
    assert box.arrived() == []
    assert box.approve().is_new


def test_undo_comes_too_late_for_what_was_sent_or_may_have_been(box: Box) -> None:
    reply = box.approve_and_wait()
    box.deliver("lost answer")
    with pytest.raises(TooLate, match="may have been"):
        undo(box.database, "ana", reply.delivery.approval_id, clock=box.clock)
    box.clock.pass_by(120)
    box.recover()
    with pytest.raises(TooLate, match="it was sent already"):
        undo(box.database, "ana", reply.delivery.delivery_id, clock=box.clock)


def test_undo_is_for_the_whole_reply_or_for_its_rest(box: Box) -> None:
    first = box.approve_and_wait(text="One two three. Four five.", promise=SHORT)
    box.deliver(most=1)
    with pytest.raises(TooLate, match="can still be canceled"):
        undo(box.database, "ana", first.delivery.approval_id, clock=box.clock)
    rest = undo(box.database, "ana", first.delivery.approval_id, rest=True, clock=box.clock)
    assert [row.delivery.number for row in rest] == [2, 3]
    box.deliver()
    assert box.arrived() == ["One two"]


def test_undo_and_claim_at_once_are_never_both(box: Box) -> None:
    for turn in range(10):
        conversation = f"u{turn}"
        say(box.stores, "And you?", number=f"u{turn}", conversation=conversation)
        approved = box.approve(conversation=conversation, text="yes")
        box.clock.pass_by(10)
        before = len(box.platform.arrivals)
        undone, _ = together(
            [
                lambda a=approved: undo(  # type: ignore[misc]
                    box.database, "ana", a.approval_id, clock=box.clock
                ),
                box.deliver,
            ]
        )
        arrived = len(box.platform.arrivals) - before
        assert arrived == (0 if isinstance(undone, list) else 1)


def test_a_viewer_takes_nothing_back(box: Box) -> None:
    with pytest.raises(PermissionError, match="you are a viewer"):
        undo(box.database, "vi", box.approve().approval_id, clock=box.clock)


def test_a_rejected_draft_is_known_as_such_until_there_is_a_newer_one(box: Box) -> None:
    reject(box.database, "bo", ACCOUNT, "c1", "too short", clock=box.clock)
    assert propose(box.database, "ana", ACCOUNT, "c1").rejected_by == "bo"
    say(box.stores, "Please?", at=START, number="2", draft="Yes, gladly.")
    assert propose(box.database, "ana", ACCOUNT, "c1").rejected_by is None


def test_what_is_on_its_way_is_neither_rejected_nor_edited(box: Box) -> None:
    box.approve("bo")
    with pytest.raises(AlreadyApproved, match="bo approved"):
        reject(box.database, "ana", ACCOUNT, "c1", clock=box.clock)
    with pytest.raises(AlreadyApproved, match="undo"):
        edit(box.database, "ana", ACCOUNT, "c1", "No.", clock=box.clock)


def test_an_edited_text_is_what_is_approved_until_the_conversation_goes_on(box: Box) -> None:
    assert edit(box.database, "bo", ACCOUNT, "c1", "Yes, at six.").text == "Yes, at six."
    assert propose(box.database, "ana", ACCOUNT, "c1").edited_by == "bo"
    say(box.stores, "Or at seven?", at=START, number="2")
    assert propose(box.database, "ana", ACCOUNT, "c1").text == "Yes, I can."
    edit(box.database, "ana", ACCOUNT, "c1", "Seven it is.")
    reply = box.outbox.parts(box.approve().approval_id)[0]
    assert reply.whole_text == "Seven it is."
    with pytest.raises(NotApproved, match="empty"):
        edit(box.database, "ana", ACCOUNT, "c1", " ")


def test_a_voided_reply_is_approved_again_with_what_is_there_now(box: Box) -> None:
    reply = box.approve_and_wait()
    say(box.stores, "Or at six?", at=START, number="2")
    box.deliver()
    assert box.state(reply) == "superseded"
    again = reapprove(
        box.database,
        "bo",
        reply.delivery.approval_id,
        PROMISES["look-up"],
        environment_opens=True,
        clock=box.clock,
    )
    assert again.is_new
    box.clock.pass_by(10)
    box.deliver()
    assert box.arrived() == ["Yes, I can."]


def test_what_was_sent_or_may_have_been_is_not_approved_again_by_one_key(box: Box) -> None:
    first = box.approve_and_wait(text="One two three.", promise=SHORT)
    box.deliver(most=1)
    undo(box.database, "ana", first.delivery.approval_id, rest=True, clock=box.clock)
    with pytest.raises(NotApproved, match="a part of it was sent"):
        reapprove(box.database, "ana", first.delivery.approval_id, SHORT, clock=box.clock)
