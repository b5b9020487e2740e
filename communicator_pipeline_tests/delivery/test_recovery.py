"""What became of a send whose answer was lost is found out, or asked; never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest

from communicator_pipeline.delivery.content import target_of
from communicator_pipeline.delivery.dispatch import LEASE, due, record, take, transmit
from communicator_pipeline.delivery.recovery import (
    CLOCKS_DIFFER,
    MOST_LOOKS,
    confirm_echoes,
    distrust_everything,
    question,
    quiet_period,
    resolve,
)
from communicator_pipeline.delivery.senders import Sender
from communicator_pipeline.platforms.protocol import (
    Absent,
    CannotTell,
    FindResult,
    Part,
    Sending,
    Sent,
)
from communicator_pipeline.storage.outbox import Outgoing
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline_tests.delivery.conftest import Box
from communicator_pipeline_tests.delivery.world import (
    ACCOUNT,
    PROMISES,
    QUIET,
    START,
    Platform,
    say,
)

SHORT = Sending(repeats=False, looks_up=True, longest=12)


def unknown(box: Box, behaviour: str = "lost answer") -> Outgoing:
    """A delivery whose answer was lost."""
    reply = box.approve_and_wait()
    box.deliver(behaviour)
    assert box.state(reply) == "unknown"
    return reply


def later(box: Box, seconds: float = QUIET.total_seconds()) -> None:
    box.clock.pass_by(seconds)
    box.recover()
    box.deliver()


OUTCOMES: Mapping[str, tuple[str, int]] = {
    "key": ("sent", 1),
    "short key": ("sent", 1),
    "key and look-up": ("sent", 1),
    "look-up": ("sent", 1),
    "neither": ("needs_human", 1),
}


@pytest.mark.parametrize("promise", sorted(PROMISES))
@pytest.mark.parametrize("behaviour", ["lost answer", "lost", "late", "raises"])
def test_whatever_the_network_did_it_arrives_once_or_a_person_is_asked(
    box: Box, promise: str, behaviour: str
) -> None:
    box.promise(promise)
    reply = unknown(box, behaviour)
    later(box)
    state, arrivals = OUTCOMES[promise]
    assert box.state(reply) == state
    box.platform.settle()
    assert len(box.arrived()) == (0 if (promise, behaviour) == ("neither", "lost") else arrivals)


def test_nothing_is_decided_within_the_quiet_period(box: Box) -> None:
    reply = unknown(box, "late")
    later(box, QUIET.total_seconds() - 1)
    assert box.state(reply) == "unknown"
    assert box.platform.looks == 0
    later(box, 1)
    assert box.state(reply) == "sent"


@pytest.mark.parametrize("jump", [3_600, -3_600])
def test_setting_the_clock_neither_ends_nor_prolongs_the_quiet_period(box: Box, jump: int) -> None:
    reply = unknown(box, "late")
    box.clock.jump(jump)
    later(box, 60)
    assert box.state(reply) == "unknown"
    later(box, 60)
    assert box.recover().leases_over == []
    assert box.arrived() == ["Yes, I can."]
    assert box.state(reply) == "sent"


def test_the_quiet_period_is_a_setting(box: Box) -> None:
    assert quiet_period(box.database) == timedelta(seconds=120)
    Settings(box.database, None).set("quiet_seconds", 0.5)
    reply = unknown(box)
    later(box, 0.5)
    assert box.state(reply) == "sent"


def test_who_never_came_back_is_found_by_the_lease(box: Box) -> None:
    reply = box.approve_and_wait()
    (row,) = due(box.database, box.clock().wall, environment_opens=True)
    assert take(box.database, row, box.platform.promise, box.clock(), True)
    box.clock.pass_by(LEASE.total_seconds() - 1)
    assert box.recover().leases_over == []
    box.clock.pass_by(1)
    assert box.recover().leases_over == [reply.delivery.delivery_id]
    assert box.state(reply) == "unknown"
    later(box)
    assert box.state(reply) == "sent"
    assert box.arrived() == ["Yes, I can."]


@pytest.mark.parametrize("promise", ["key", "look-up", "neither"])
def test_a_zombie_that_sent_and_comes_back_late_changes_nothing(box: Box, promise: str) -> None:
    box.promise(promise)
    reply = box.approve_and_wait()
    (row,) = due(box.database, box.clock().wall, environment_opens=True)
    sender = Sender(box.platform, box.platform.promise)
    taken = take(box.database, row, box.platform.promise, box.clock(), True)
    assert taken is not None
    result = transmit(taken, sender, box.clock)  # it arrives; then the zombie sleeps
    later(box, LEASE.total_seconds())
    later(box)
    state = box.state(reply)
    assert state == OUTCOMES[promise][0]
    assert record(box.database, taken, result, sender, box.clock()) is None
    assert box.state(reply) == state
    assert box.arrived() == ["Yes, I can."]


def test_an_answer_taken_for_the_lost_one_counts_when_the_lost_one_never_arrived(box: Box) -> None:
    box.promise("key and look-up")
    reply = unknown(box, "lost")
    box.clock.pass_by(QUIET.total_seconds())
    box.recover()  # to be sent again under its token, as long as the platform knows that
    say(box.stores, "Yes, I can.", at=START, author="ana", number="2")  # from the owner's phone
    box.deliver("lost")
    assert box.state(reply) == "unknown"  # it was no reason to stop: it may have been this reply
    box.clock.pass_by(3_600)
    box.recover()  # the token is forgotten, and a look shows that nothing arrived
    box.deliver()
    assert box.state(reply) == "superseded"
    assert "you answered elsewhere" in box.reason(reply)
    assert box.arrived() == []


def test_a_token_that_may_be_forgotten_is_not_repeated(box: Box) -> None:
    box.promise("key and look-up")
    reply = unknown(box, "lost")
    box.clock.pass_by(29 * 60)
    assert box.recover().to_send_again == [reply.delivery.delivery_id]
    assert box.platform.looks == 1  # the platform was asked: absence is proved
    box.deliver()
    assert box.state(reply) == "sent"


def test_a_token_that_grows_old_while_it_waits_is_not_repeated_either(box: Box) -> None:
    box.promise("short key")
    reply = unknown(box)
    box.clock.pass_by(120)
    assert box.recover().to_send_again == [reply.delivery.delivery_id]
    box.clock.pass_by(30 * 60)  # nobody sent: the worker was off
    box.deliver()
    assert box.state(reply) == "unknown"
    later(box)
    assert box.state(reply) == "needs_human"
    assert "has forgotten the token" in box.reason(reply)
    assert box.arrived() == ["Yes, I can."]


def test_a_repeat_that_is_refused_is_looked_for_or_asked_about(box: Box) -> None:
    box.promise("key")
    reply = unknown(box)
    box.clock.pass_by(120)
    box.recover()
    box.deliver("no")
    assert box.state(reply) == "unknown"
    later(box)
    assert box.state(reply) == "needs_human"


def test_a_look_that_cannot_tell_goes_to_a_person_with_its_reason(box: Box) -> None:
    class Blind(Platform):
        def find_sent(self, *_: object) -> FindResult:  # type: ignore[override]
            return CannotTell("hush: too much to look through")

    box.network.platforms[ACCOUNT] = box.platform = Blind(PROMISES["look-up"], box.clock)
    reply = unknown(box)
    later(box)
    assert box.state(reply) == "needs_human"
    assert box.reason(reply) == "it may have arrived or not: •••: too much to look through"


def test_a_look_that_fails_is_tried_again_and_then_left_to_a_person(box: Box) -> None:
    reply = unknown(box)
    box.platform.can_look = False
    later(box)
    assert box.state(reply) == "unknown"
    later(box, 30)
    assert box.platform.looks == 1  # not before its time
    for _ in range(MOST_LOOKS):
        later(box, 1_801)
    assert box.state(reply) == "needs_human"
    assert "could not be asked" in box.reason(reply)
    assert box.platform.looks == MOST_LOOKS


def test_a_look_goes_back_far_enough_for_clocks_that_were_set(box: Box) -> None:
    box.clock.jump(3_600)
    reply = unknown(box)
    box.clock.jump(-3_600)
    later(box)
    (since,) = box.platform.sinces
    assert since <= START + timedelta(seconds=10)
    assert box.state(reply) == "sent"


def test_a_look_never_goes_back_behind_what_the_approver_had_seen(box: Box) -> None:
    unknown(box)
    later(box)
    assert box.platform.sinces == [START - timedelta(minutes=5)]
    assert timedelta(minutes=5) < CLOCKS_DIFFER


def test_a_message_that_another_delivery_made_is_no_proof(box: Box) -> None:
    class ByText(Platform):
        def find_sent(self, target, part, token, since) -> FindResult:  # type: ignore[no-untyped-def]
            same = [a for a in self.arrivals if a.text == part.text]
            return Sent(same[0].message_id) if same else Absent()

    box.network.platforms[ACCOUNT] = box.platform = ByText(SHORT, box.clock)
    first = box.approve_and_wait(text="yes yes yes\n\nyes yes yes")
    box.deliver(most=1)
    box.deliver("lost")
    box.clock.pass_by(120)
    box.recover()
    second = box.outbox.parts(first.delivery.approval_id)[1]
    assert second.delivery.state == "needs_human"
    assert "was sent before" in second.delivery.reason


# --- echoes ----------------------------------------------------------------------------------


def echo(box: Box, number: int = 1, text: str = "Yes, I can.") -> None:
    say(
        box.stores,
        text,
        at=box.clock().wall,
        author="ana",
        number=f"sent-{number}",
        conversation="c1",
    )


def test_what_comes_back_among_the_messages_is_confirmed(box: Box) -> None:
    reply = box.approve_and_wait()
    box.deliver()
    assert confirm_echoes(box.database, ACCOUNT, clock=box.clock) == []
    echo(box)
    assert confirm_echoes(box.database, ACCOUNT, clock=box.clock) == [reply.delivery.delivery_id]
    after = box.outbox.get(reply.delivery.delivery_id).delivery
    assert (after.state, after.confirmed_at) == ("confirmed", box.clock().wall)


def test_words_that_are_the_same_confirm_nothing(box: Box) -> None:
    reply = unknown(box, "lost")
    say(box.stores, "Yes, I can.", at=START, author="ana", number="9")
    assert confirm_echoes(box.database, clock=box.clock) == []
    assert box.state(reply) == "unknown"


def test_the_own_echo_of_a_lost_answer_does_not_take_the_reply_back(box: Box) -> None:
    box.promise("key")
    reply = unknown(box)
    echo(box)
    later(box)
    assert box.state(reply) == "sent"
    assert confirm_echoes(box.database, clock=box.clock) == [reply.delivery.delivery_id]
    assert box.arrived() == ["Yes, I can."]


def test_what_may_have_been_sent_and_was_overtaken_since_is_for_a_person(box: Box) -> None:
    box.promise("key")
    reply = unknown(box)
    say(box.stores, "Thanks!", at=box.clock().wall, number="2")
    later(box)
    later(box)
    assert box.state(reply) == "needs_human"
    assert "a newer message from Kim arrived" in box.reason(reply)
    assert box.arrived() == ["Yes, I can."]


# --- a person --------------------------------------------------------------------------------


@pytest.fixture
def asked(box: Box) -> Outgoing:
    box.promise("neither")
    reply = unknown(box)
    later(box)
    return reply


def test_a_person_sees_every_choice_and_its_risk(box: Box, asked: Outgoing) -> None:
    put = question(box.database, "ana", asked.delivery.delivery_id)
    assert put.reason.startswith("it may have arrived or not")
    assert put.hint == ""
    assert [option.choice for option in put.options] == ["it was sent", "send it again", "drop it"]
    assert "never gets it" in put.options[0].risk
    assert "gets it twice" in put.options[1].risk
    echo(box)
    hint = question(box.database, "ana", asked.delivery.delivery_id).hint
    assert "a message of yours with the same words" in hint


def test_a_person_says_that_it_was_sent_and_its_echo_is_found(box: Box, asked: Outgoing) -> None:
    echo(box)
    after = resolve(box.database, "bo", asked.delivery.delivery_id, "it was sent", clock=box.clock)
    assert (after.delivery.state, after.delivery.message_id) == ("sent", "general:sent-1")
    assert after.delivery.changed_by == "user:bo"
    assert confirm_echoes(box.database, clock=box.clock) == [asked.delivery.delivery_id]


def test_a_person_has_it_sent_again(box: Box, asked: Outgoing) -> None:
    resolve(box.database, "ana", asked.delivery.delivery_id, "send it again", clock=box.clock)
    box.deliver()
    assert box.arrived() == ["Yes, I can."] * 2
    assert box.state(asked) == "sent"


def test_what_waited_for_a_person_does_not_expire_for_that(box: Box, asked: Outgoing) -> None:
    box.clock.pass_by(timedelta(days=5).total_seconds())
    assert box.recover().swept.expired == []
    resolve(box.database, "ana", asked.delivery.delivery_id, "send it again", clock=box.clock)
    box.deliver()
    assert box.state(asked) == "sent"


def test_a_person_lets_it_be_and_the_conversation_is_free_again(box: Box, asked: Outgoing) -> None:
    resolve(box.database, "ana", asked.delivery.delivery_id, "drop it", clock=box.clock)
    assert box.state(asked) == "canceled"
    assert box.approve(text="As I said: yes.").is_new


def test_only_an_open_question_is_answered_and_only_by_who_may(box: Box, asked: Outgoing) -> None:
    name = asked.delivery.delivery_id
    with pytest.raises(PermissionError, match="viewer"):
        resolve(box.database, "vi", name, "drop it", clock=box.clock)
    with pytest.raises(ValueError, match="none of the choices"):
        resolve(box.database, "ana", name, "maybe", clock=box.clock)  # type: ignore[arg-type]
    resolve(box.database, "ana", name, "drop it", clock=box.clock)
    with pytest.raises(ValueError, match="it is canceled"):
        resolve(box.database, "bo", name, "send it again", clock=box.clock)


# --- a restore -------------------------------------------------------------------------------


@pytest.mark.parametrize("promise", ["key", "look-up", "neither"])
def test_after_a_restore_nothing_goes_out_twice(box: Box, promise: str) -> None:
    box.promise(promise)
    reply = box.approve_and_wait()
    # The backup was made here. Then it was sent, and the backup came back:
    box.platform.behave = lambda: "ok"
    box.platform.send(target_of(reply), Part(reply.delivery.text), reply.delivery.token)
    assert distrust_everything(box.database, clock=box.clock) == [reply.delivery.delivery_id]
    box.deliver()
    assert box.state(reply) == "unknown"
    later(box)
    assert box.state(reply) == OUTCOMES[promise][0]
    assert box.arrived() == ["Yes, I can."]
