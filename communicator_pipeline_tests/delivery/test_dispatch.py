"""A reply leaves once, when everything is open, and exactly as it was approved."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from communicator_pipeline.delivery.approving import approve
from communicator_pipeline.delivery.dispatch import (
    LEASE,
    SEND_WITHIN,
    deliver_due,
    due,
    due_deliveries,
    record,
    take,
    transmit,
    what_would_go,
)
from communicator_pipeline.delivery.recovery import expire_leases
from communicator_pipeline.delivery.senders import LiveSenders, Sender, promise_of
from communicator_pipeline.platforms.protocol import Refused, Sending, Sent
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.outbox import Outbox
from communicator_pipeline_tests.delivery.conftest import Box
from communicator_pipeline_tests.delivery.world import ACCOUNT, START, Platform, say

SHORT = Sending(repeats=False, looks_up=True, longest=12)


def test_what_is_due_is_claimed_sent_and_recorded(box: Box) -> None:
    reply = box.approve_and_wait()
    done = box.deliver()
    assert done.sent == [reply.delivery.delivery_id]
    after = box.outbox.get(reply.delivery.delivery_id).delivery
    assert (after.state, after.message_id, after.attempts) == ("sent", "general:sent-1", 1)
    (attempt,) = box.outbox.attempts(after.delivery_id)
    assert (attempt["outcome"], attempt["message_id"]) == ("sent", "general:sent-1")
    assert attempt["started_at"] <= attempt["ended_at"]
    assert box.platform.arrivals[0].target.reply_to == box.question


def test_nothing_leaves_within_the_undo_window(box: Box) -> None:
    box.approve()
    box.clock.pass_by(9)
    assert box.deliver().total == 0
    box.clock.pass_by(1)
    assert len(box.deliver().sent) == 1


def test_parts_go_in_order_and_each_only_after_the_one_before(box: Box) -> None:
    first = box.approve_and_wait(text="One two three. Four five.", promise=SHORT)
    assert len(due(box.database, box.clock().wall, environment_opens=True)) == 1
    box.deliver("wait", most=1)
    assert box.arrived() == []
    box.clock.pass_by(31)
    box.deliver()
    assert box.arrived() == ["One two", "three.", "Four five."]
    assert box.outbox.parts(first.delivery.approval_id)[2].delivery.state == "sent"


def test_a_part_that_is_refused_takes_those_behind_it_along(box: Box) -> None:
    first = box.approve_and_wait(text="One two three. Four five.", promise=SHORT)
    box.deliver("no")
    states = [row.delivery.state for row in box.outbox.parts(first.delivery.approval_id)]
    assert states == ["failed", "canceled", "canceled"]
    assert box.arrived() == []


def test_a_part_behind_one_that_waits_for_a_person_waits_too(box: Box) -> None:
    box.promise("neither")
    first = box.approve_and_wait(text="One two three.", promise=SHORT)
    box.deliver("lost answer")
    box.clock.pass_by(120)
    box.recover()
    box.deliver()
    states = [row.delivery.state for row in box.outbox.parts(first.delivery.approval_id)]
    assert states == ["needs_human", "approved"]
    assert box.arrived() == ["One two"]


# --- what an answer means --------------------------------------------------------------------


def test_a_refusal_for_good_fails_it(box: Box) -> None:
    reply = box.approve_and_wait()
    assert box.deliver("no").failed == [reply.delivery.delivery_id]
    assert box.reason(reply) == "you may not write here"


def test_a_limit_puts_it_off_until_then_and_holds_up_the_accounts_others(box: Box) -> None:
    reply = box.approve_and_wait()
    say(box.stores, "Me too?", number="2", conversation="c2", draft="Yes.")
    box.approve(conversation="c2")
    box.deliver("wait")
    box.clock.pass_by(10)
    assert box.deliver().total == 0
    would_go = what_would_go(box.database, box.clock().wall, environment_opens=True)
    why = {row.conversation_id: words for row, words in would_go}["c2"]
    assert why.startswith("not before 2026-11-02 09:00:40 UTC")
    box.clock.pass_by(20)
    assert len(box.deliver().sent) == 2
    assert box.state(reply) == "sent"
    attempts = box.outbox.attempts(reply.delivery.delivery_id)
    assert [a["outcome"] for a in attempts] == ["later", "sent"]


@pytest.mark.parametrize("behaviour", ["lost answer", "lost", "raises"])
def test_without_an_answer_it_is_unknown_and_not_tried_again(box: Box, behaviour: str) -> None:
    reply = box.approve_and_wait()
    assert box.deliver(behaviour).unknown == [reply.delivery.delivery_id]
    box.clock.pass_by(3_600)
    assert box.deliver().total == 0
    assert len(box.platform.requests) == 1


def test_secrets_stay_out_of_what_is_kept(box: Box) -> None:
    reply = box.approve_and_wait()

    class Leaky(Platform):
        def send(self, *_: object) -> Sent:  # type: ignore[override]
            raise RuntimeError("POST https://api/hush failed")

    box.network.platforms[ACCOUNT] = Leaky(box.platform.promise, box.clock)
    box.deliver()
    assert box.reason(reply) == "RuntimeError: POST https://api/••• failed"
    (attempt,) = box.outbox.attempts(reply.delivery.delivery_id)
    assert "hush" not in attempt["error"]


def test_a_process_that_is_told_to_end_leaves_word(box: Box) -> None:
    reply = box.approve_and_wait()

    class Ending(Platform):
        def send(self, *_: object) -> Sent:  # type: ignore[override]
            raise KeyboardInterrupt

    box.network.platforms[ACCOUNT] = Ending(box.platform.promise, box.clock)
    with pytest.raises(KeyboardInterrupt):
        box.deliver()
    assert box.state(reply) == "unknown"
    assert box.reason(reply) == "cut off: KeyboardInterrupt"


# --- only what was approved ------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE deliveries SET text = 'other', fence = fence + 1",
        "UPDATE approvals SET text = 'other'",
        "UPDATE approvals SET channel_id = 'elsewhere'",
        "UPDATE approvals SET thread_id = 'elsewhere'",
        "UPDATE approvals SET reply_to = NULL",
        "UPDATE approvals SET content_hash = 'x'",
        "UPDATE approvals SET source_version = 'x'",
        "UPDATE approvals SET attachments = '[\"a\"]'",
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_what_was_changed_after_its_approval_never_leaves(box: Box, sql: str, late: bool) -> None:
    reply = box.approve_and_wait()
    for trigger in ("deliveries_do_not_change", "approvals_do_not_change"):
        box.database.execute(f"DROP TRIGGER {trigger}")
    (row,) = due(box.database, box.clock().wall, environment_opens=True)
    box.database.execute(sql)
    if late:  # between the look and the claim
        taken = take(box.database, row, box.platform.promise, box.clock(), True)
        assert taken is None
    box.deliver()
    assert box.arrived() == []
    assert box.state(reply) == "superseded"


def test_what_may_have_arrived_and_was_changed_since_is_for_a_person(box: Box) -> None:
    box.promise("key")
    reply = box.approve_and_wait()
    box.deliver("lost answer")
    box.clock.pass_by(120)
    box.recover()
    box.database.execute("DROP TRIGGER deliveries_do_not_change")
    box.database.execute("UPDATE deliveries SET text = 'other', fence = fence + 1")
    box.deliver()
    assert box.state(reply) == "needs_human"
    assert box.arrived() == ["Yes, I can."]


# --- gates -----------------------------------------------------------------------------------


def test_the_sandbox_is_open_by_itself_and_can_be_closed(box: Box) -> None:
    box.approve_and_wait()
    box.database.execute(
        "INSERT INTO connections (account, settings, secrets, covered_since, every_seconds, "
        "next_pull_at) VALUES (?, '{\"sending\": \"closed\"}', '', '', 60, '')",
        (ACCOUNT,),
    )
    assert box.deliver(environment_opens=False).total == 0
    box.database.execute("UPDATE connections SET settings = '{}'")
    assert len(box.deliver(environment_opens=False).sent) == 1


@pytest.mark.parametrize(
    ("environment", "account", "missing"),
    [
        (False, "", ["COMMUNICATOR_SENDING=open", "accounts set ana-x sending open"]),
        (True, "", ["accounts set ana-x sending open"]),
        (False, "open", ["COMMUNICATOR_SENDING=open"]),
        (True, "closed", ["accounts set ana-x sending open"]),
    ],
)
def test_outward_sending_needs_both_the_environment_and_the_account(
    box: Box, environment: bool, account: str, missing: list[str]
) -> None:
    Accounts(box.database, "ana").add("ana-x", "generic", "Other")
    Connections(box.stores).save("ana-x", {"sending": account}, {}, timedelta(minutes=1), START)
    outward = Platform(box.platform.promise, box.clock)
    box.network.platforms["ana-x"] = outward
    say(box.stores, "Hello?", account="ana-x", conversation="d1", draft="Hello!")
    approve(box.database, "ana", "ana-x", "d1", outward.promise, clock=box.clock)
    box.clock.pass_by(10)
    assert box.deliver(environment_opens=environment).total == 0
    ((row, why),) = what_would_go(
        box.database, box.clock().wall, "ana-x", environment_opens=environment
    )
    assert row.whole_text == "Hello!"
    assert why.startswith("dry run")
    assert all(words in why for words in missing)
    assert ("COMMUNICATOR_SENDING" in why) == (not environment)
    Connections(box.stores).set_settings("ana-x", {"sending": "open"})
    assert len(box.deliver(environment_opens=True).sent) == 1
    assert [a.text for a in outward.arrivals] == ["Hello!"]


@pytest.mark.parametrize("account", [None, ACCOUNT])
def test_the_kill_switch_stops_everything_that_has_not_been_claimed(
    box: Box, account: str | None
) -> None:
    reply = box.approve_and_wait()
    (row,) = due(box.database, box.clock().wall, environment_opens=True)
    box.outbox.stop_sending(account, "something is wrong", START)
    assert take(box.database, row, box.platform.promise, box.clock(), True) is None
    assert box.deliver().total == 0
    ((_, why),) = what_would_go(box.database, box.clock().wall, environment_opens=True)
    assert "stopped" in why
    assert [switch["why"] for switch in box.outbox.switches()] == ["something is wrong"]
    box.outbox.resume_sending(account)
    box.deliver()
    assert box.state(reply) == "sent"


def test_only_an_administrator_stops_everything(box: Box) -> None:
    with pytest.raises(PermissionError, match="administrator"):
        Outbox(box.database, "bo").stop_sending(None, "", START)
    with pytest.raises(PermissionError, match="viewer"):
        Outbox(box.database, "vi").stop_sending(ACCOUNT, "", START)


def test_it_expires(box: Box) -> None:
    reply = box.approve_and_wait()
    box.clock.pass_by(timedelta(hours=48).total_seconds())
    assert box.deliver().swept.expired == [reply.delivery.delivery_id]
    assert "approve it again" in box.reason(reply)


def test_an_approver_who_has_left_takes_their_approvals_along(box: Box) -> None:
    reply = box.approve_and_wait(user="bo")
    box.database.execute("DELETE FROM account_members WHERE user_id = 'bo'")
    box.deliver()
    assert box.state(reply) == "superseded"
    assert "bo may no longer approve" in box.reason(reply)


def test_an_account_that_cannot_connect_puts_its_replies_off(box: Box) -> None:
    reply = box.approve_and_wait()
    done = deliver_due(box.stores, senders=LiveSenders(box.stores), clock=box.clock)
    assert done.put_off == [reply.delivery.delivery_id]
    assert "is not connected to its platform" in box.reason(reply)
    assert promise_of(box.stores, ACCOUNT) is None
    box.clock.pass_by(60)
    box.deliver()
    assert box.state(reply) == "sent"


# --- the claim -------------------------------------------------------------------------------


def test_a_claim_is_for_one(box: Box) -> None:
    box.approve_and_wait()
    (row,) = due(box.database, box.clock().wall, environment_opens=True)
    promise = box.platform.promise
    assert take(box.database, row, promise, box.clock(), True) is not None
    assert take(box.database, row, promise, box.clock(), True) is None


def test_a_late_result_writes_nothing(box: Box) -> None:
    reply = box.approve_and_wait()
    (row,) = due(box.database, box.clock().wall, environment_opens=True)
    sender = Sender(box.platform, box.platform.promise)
    taken = take(box.database, row, box.platform.promise, box.clock(), True)
    assert taken is not None
    result = transmit(taken, sender, box.clock)
    box.clock.pass_by(LEASE.total_seconds())
    assert expire_leases(box.database, box.clock()) == [reply.delivery.delivery_id]
    before = box.outbox.log(reply.delivery.delivery_id)
    assert record(box.database, taken, result, sender, box.clock()) is None
    assert box.outbox.log(reply.delivery.delivery_id) == before
    (attempt,) = box.outbox.attempts(reply.delivery.delivery_id)
    assert (attempt["outcome"], attempt["message_id"]) == ("lost", None)


@pytest.mark.parametrize("sleep", ["asleep", "set ahead", "set back"])
def test_who_wakes_up_late_does_not_send(box: Box, sleep: str) -> None:
    reply = box.approve_and_wait()
    (row,) = due(box.database, box.clock().wall, environment_opens=True)
    sender = Sender(box.platform, box.platform.promise)
    taken = take(box.database, row, box.platform.promise, box.clock(), True)
    assert taken is not None
    match sleep:
        case "asleep":
            box.clock.pass_by(LEASE.total_seconds() * SEND_WITHIN)
        case "set ahead":
            box.clock.jump(3_600)
        case "set back":
            box.clock.jump(-3_600)
    result = transmit(taken, sender, box.clock)
    assert isinstance(result, Refused)
    assert box.platform.requests == []
    record(box.database, taken, result, sender, box.clock())
    assert box.state(reply) == "approved"


def test_what_is_due_is_a_question_about_rows_alone(box: Box) -> None:
    box.approve_and_wait()
    now = box.clock().wall
    (row,) = due(box.database, now, environment_opens=True)
    assert due_deliveries([row], now, True) == [row]
    second = replace(row, delivery=replace(row.delivery, number=2))
    assert due_deliveries([second, row], now, True) == [row]
    for held in (
        replace(row, send_at=now + timedelta(seconds=1)),
        replace(row, expires_at=now),
        replace(row, all_stopped=True),
        replace(row, account_stopped=True),
        replace(row, account_opens=False),
        replace(row, waits_for_part=True),
        replace(row, unseen=True),
        replace(row, source_moved=True),
        replace(row, approver_gone=True),
        replace(row, sender_changed=True),
        replace(row, waits_until=now + timedelta(seconds=1)),
        replace(row, delivery=replace(row.delivery, not_before=now + timedelta(seconds=1))),
        replace(row, delivery=replace(row.delivery, state="sending")),
    ):
        assert due_deliveries([held], now, True) == []
    assert due_deliveries([replace(row, is_sandbox=False)], now, False) == []
    assert due_deliveries([replace(row, unseen=True, begun=True)], now, True) != []
