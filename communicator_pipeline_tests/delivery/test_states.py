"""A delivery goes only where the table says, in the code and in the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from communicator_pipeline.delivery import states
from communicator_pipeline.delivery.clock import Instant, instant_of, passed
from communicator_pipeline.delivery.states import (
    OPEN,
    TERMINAL,
    TRANSITIONS,
    By,
    Change,
    Delivery,
    IllegalTransition,
    broken_invariants,
)
from communicator_pipeline.storage.database import ConstraintFailed
from communicator_pipeline.storage.outbox import write
from communicator_pipeline_tests.delivery.conftest import Box
from communicator_pipeline_tests.delivery.world import START, say

NOW = Instant(START, "boot", 100.0)
BY = By(NOW, "test")

NEW = Delivery(
    delivery_id="d-1",
    approval_id="d",
    account="ana-box",
    number=1,
    of=1,
    text="yes",
    token="t",
    state="approved",
    fence=0,
    attempts=0,
    ambiguous=False,
    may_repeat=True,
    not_before=None,
    lease_holder="",
    lease_until=None,
    first_attempt=None,
    attempt=None,
    unknown_since=None,
    looks=0,
    outcome="",
    message_id=None,
    sent_at=None,
    confirmed_at=None,
    reason="",
    changed_at=START,
    changed_by="user:ana",
)

Event = Callable[[Delivery], Change]

EVENTS: Sequence[Event] = (
    lambda d: states.claimed(d, "h", timedelta(seconds=120), BY),
    lambda d: states.put_off(d, START, "later", BY),
    lambda d: states.canceled(d, "no", BY),
    lambda d: states.expired(d, "old", BY),
    lambda d: states.superseded(d, "news", BY),
    lambda d: states.distrusted(d, NOW, "backup", BY),
    lambda d: states.was_sent(d, "c:1", None, BY),
    lambda d: states.was_refused(d, "no", BY),
    lambda d: states.did_not_leave(d, START, "429", BY),
    lambda d: states.got_no_answer(d, "reset", BY),
    lambda d: states.lease_was_over(d, BY),
    lambda d: states.absence_proved(d, BY),
    lambda d: states.may_be_repeated(d, BY),
    lambda d: states.look_failed(d, START, "no", BY),
    lambda d: states.left_to_a_person(d, "ask", BY),
    lambda d: states.sent_again_by_a_person(d, BY),
    lambda d: states.echoed(d, BY),
)


@given(st.lists(st.sampled_from(EVENTS), max_size=40))
def test_whatever_happens_every_change_is_in_the_table_and_leaves_a_sound_delivery(
    events: list[Event],
) -> None:
    delivery = NEW
    for event in events:
        try:
            before, after = event(delivery)
        except IllegalTransition:
            continue
        assert before is delivery
        assert after.state in TRANSITIONS[before.state]
        assert after.fence == before.fence + 1
        assert after.token == before.token
        assert not broken_invariants(after)
        delivery = after


def test_what_is_over_stays_over() -> None:
    for state in TERMINAL:
        for event in EVENTS:
            over = replace(NEW, state=state)
            with pytest.raises(IllegalTransition):
                event(over)
    assert not TERMINAL & OPEN


def test_what_may_have_arrived_ends_by_the_platforms_word_or_a_persons_only() -> None:
    unknown = states.got_no_answer(EVENTS[0](NEW).after, "reset", BY).after
    again = states.may_be_repeated(unknown, BY).after
    assert again.ambiguous
    for end in (states.canceled, states.expired, states.superseded):
        with pytest.raises(IllegalTransition, match="may have arrived"):
            end(again, "…", BY)
    asked = states.left_to_a_person(again, "…", BY).after
    assert states.canceled(asked, "drop it", BY).after.state == "canceled"


def test_a_refusal_of_the_same_again_says_nothing_about_the_first_attempt() -> None:
    unknown = states.got_no_answer(EVENTS[0](NEW).after, "reset", BY).after
    repeated = EVENTS[0](states.may_be_repeated(unknown, BY).after).after
    refused = states.was_refused(repeated, "blocked", BY).after
    assert (refused.state, refused.may_repeat) == ("unknown", False)
    with pytest.raises(IllegalTransition):
        states.may_be_repeated(refused, BY)


def test_what_never_left_does_not_age_its_token() -> None:
    put_off = states.did_not_leave(EVENTS[0](NEW).after, START, "429", BY).after
    assert put_off.first_attempt is None
    assert put_off.attempts == 1


def test_a_lease_and_a_quiet_period_are_measured_by_the_clock_that_nobody_sets() -> None:
    sending = EVENTS[0](NEW).after
    set_ahead = Instant(START + timedelta(hours=1), "boot", 101.0)
    set_back = Instant(START - timedelta(hours=1), "boot", 100.0 + 121)
    assert not states.lease_is_over(sending, set_ahead)
    assert states.lease_is_over(sending, set_back)
    unknown = states.lease_was_over(sending, BY).after
    quiet = timedelta(seconds=120)
    assert not states.is_quiet(unknown, set_ahead, quiet)
    assert states.is_quiet(unknown, set_back, quiet)


def test_after_a_restart_of_the_machine_the_wall_clock_has_to_do() -> None:
    sending = EVENTS[0](NEW).after
    assert not states.lease_is_over(sending, Instant(START + timedelta(seconds=119), "other", 1.0))
    assert states.lease_is_over(sending, Instant(START + timedelta(seconds=120), "other", 1.0))


def test_a_clock_that_was_set_back_does_not_make_a_token_younger() -> None:
    unknown = states.got_no_answer(EVENTS[0](NEW).after, "reset", BY).after
    hour, margin = timedelta(hours=1), timedelta(minutes=2)
    earlier = Instant(START - timedelta(minutes=5), "other boot", 5.0)
    assert states.token_is_known(unknown, Instant(START, "boot", 101.0), hour, margin)
    assert not states.token_is_known(unknown, earlier, hour, margin)
    assert not states.token_is_known(unknown, Instant(START, "boot", 100 + 3_500), hour, margin)
    assert states.token_is_known(unknown, earlier, None, margin)


def test_an_instant_comes_back_from_the_database_as_it_went_in() -> None:
    assert instant_of(NOW.wall, NOW.steady_text()) == NOW
    assert instant_of(START, "") == Instant(START)
    assert passed(Instant(START), Instant(START + timedelta(seconds=3))) == timedelta(seconds=3)


# --- the database ----------------------------------------------------------------------------


@pytest.mark.parametrize("before", sorted(TRANSITIONS))
def test_the_database_knows_the_same_table(box: Box, before: states.State) -> None:
    triggers = ("deliveries_keep_to_the_states", "deliveries_fence_grows")
    kept = box.database.execute("SELECT sql FROM sqlite_master WHERE name IN (?, ?)", triggers)
    names = {}
    for trigger in triggers:
        box.database.execute(f"DROP TRIGGER {trigger}")
    for after in sorted(TRANSITIONS):
        say(box.stores, "And you?", number=after, conversation=after)
        names[after] = f"{box.approve(conversation=after, text='yes').approval_id}-1"
        _force(box, names[after], before)
    for row in kept:
        box.database.execute(row["sql"])
    for after, name in names.items():
        claims = int((before, after) == ("approved", "sending"))
        if after in TRANSITIONS[before]:
            _force(box, name, after, claims)
        else:
            with pytest.raises(ConstraintFailed, match="no delivery goes"):
                _force(box, name, after, claims)


def _force(box: Box, name: str, state: str, attempts: int = 0) -> None:
    sent = START.isoformat() if state in ("sent", "confirmed") else None
    box.database.execute(
        "UPDATE deliveries SET state = ?2, fence = fence + 1, attempts = attempts + ?3, "
        "lease_holder = ?4, ambiguous = ?5, sent_at = ?6, confirmed_at = ?6, message_id = 'c:1' "
        "WHERE delivery_id = ?1",
        (
            name,
            state,
            attempts,
            "h" if state == "sending" else "",
            int(state == "unknown"),
            sent,
        ),
    )


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE deliveries SET text = 'other', fence = fence + 1",
        "UPDATE deliveries SET token = 'other', fence = fence + 1",
        "UPDATE approvals SET text = 'other'",
        "UPDATE approvals SET channel_id = 'other'",
        "UPDATE approvals SET content_hash = 'other'",
    ],
)
def test_what_was_approved_does_not_change_in_the_database(box: Box, sql: str) -> None:
    box.approve()
    with pytest.raises(ConstraintFailed, match="what was approved does not change"):
        box.database.execute(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE deliveries SET reason = 'x'",
        "UPDATE deliveries SET fence = fence + 2",
        "UPDATE deliveries SET fence = fence + 1, attempts = attempts + 1",
    ],
)
def test_no_change_without_a_fence_that_grows_by_one(box: Box, sql: str) -> None:
    box.approve()
    with pytest.raises(ConstraintFailed, match="grows its fence"):
        box.database.execute(sql)


def test_of_two_writers_that_saw_the_same_one_writes(box: Box) -> None:
    reply = box.approve_and_wait()
    first = states.canceled(reply.delivery, "one", BY)
    second = states.superseded(reply.delivery, "two", BY)
    assert write(box.database, [first]) == [True]
    assert write(box.database, [second]) == [False]
    assert box.reason(reply) == "one"


def test_every_change_is_in_the_log_with_its_time_and_who_did_it(box: Box) -> None:
    reply = box.approve_and_wait()
    box.deliver()
    log = box.outbox.log(reply.delivery.delivery_id)
    assert [(row["before"], row["after"], row["actor"].split(":")[0]) for row in log] == [
        ("", "approved", "user"),
        ("approved", "sending", "worker"),
        ("sending", "sent", "worker"),
    ]
    assert [row["fence"] for row in log] == [0, 1, 2]
    assert all(row["at"].startswith("2026-11-02T09:00") for row in log)
