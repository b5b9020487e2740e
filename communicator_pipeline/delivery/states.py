"""A delivery's states, and every change that there is: pure.

Belongs here: the table of transitions, one function per event, what always holds. Does not belong
here: the SQL (`storage/outbox.py`), when an event has come (`dispatch.py`, `recovery.py`).

    approved ── claim ──> sending ── the platform has it ──────────────> sent ── echo ──> confirmed
     ^  ^ |                  |────── it said no ───────────────────────> failed
     |  | |                  |────── not now, or nothing left us ──────> approved (not_before)
     |  | |                  '────── no answer, a crash, lease over ───> unknown
     |  | '── canceled, expired, superseded                                 |
     |  '──── absence is proved, or the same token may be sent again ───────|
     |                                                                      |── found ──> sent
     '─────── a person says: again ── needs_human <─── nobody can tell ─────'

*Ambiguous* is a delivery of which an attempt may have arrived while nothing says that it has not.
No clock and no newer message ends such a one: the platform's word or a person's does.

Every change makes the `fence` grow by one. Whoever writes says which fence they have seen, and a
write that comes late finds another one and does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from communicator_pipeline.delivery.clock import Instant, passed

State = Literal[
    "approved",
    "sending",
    "sent",
    "confirmed",
    "failed",
    "unknown",
    "needs_human",
    "canceled",
    "expired",
    "superseded",
]

Outcome = Literal["", "sent", "refused", "later", "unknown", "lost"]
"""What an attempt came to. `later`: it did not leave, and may be tried again; `lost`: whoever sent
it never came back."""

TRANSITIONS: Mapping[State, frozenset[State]] = {
    "approved": frozenset(
        ("approved", "sending", "unknown", "needs_human", "canceled", "expired", "superseded")
    ),
    "sending": frozenset(("approved", "sent", "failed", "unknown")),
    "unknown": frozenset(("unknown", "approved", "sent", "needs_human")),
    "needs_human": frozenset(("approved", "sent", "canceled")),
    "sent": frozenset(("confirmed",)),
    "confirmed": frozenset(),
    "failed": frozenset(),
    "canceled": frozenset(),
    "expired": frozenset(),
    "superseded": frozenset(),
}

STATES = frozenset(TRANSITIONS)
OPEN = frozenset(("approved", "sending", "unknown", "needs_human"))
"""It is not over: no other reply goes to the conversation."""

ARRIVED = frozenset(("sent", "confirmed"))
TERMINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)
_ENDS_UNSENT = frozenset(("canceled", "expired", "superseded", "failed"))


class IllegalTransition(ValueError):
    """There is no such change; the message says what was tried."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One part of a reply, on its way out. Times are UTC."""

    delivery_id: str
    approval_id: str
    account: str
    number: int  # 1…of
    of: int
    text: str
    token: str  # the same at every attempt
    state: State
    fence: int
    attempts: int
    ambiguous: bool
    may_repeat: bool  # False: the platform refused the same token again
    not_before: datetime | None
    lease_holder: str
    lease_until: datetime | None
    first_attempt: Instant | None  # of those that may have arrived
    attempt: Instant | None  # the last one's beginning
    unknown_since: Instant | None
    looks: int  # that failed in a row
    outcome: Outcome
    message_id: str | None
    sent_at: datetime | None
    confirmed_at: datetime | None
    reason: str
    changed_at: datetime
    changed_by: str


class Change(NamedTuple):
    """What storage may write: only the functions below make one."""

    before: Delivery
    after: Delivery


class By(NamedTuple):
    """When something happened, and who did it."""

    now: Instant
    actor: str  # 'user:<id>', 'worker:<lease>', 'recovery', …


# --- before it leaves ------------------------------------------------------------------------


def claimed(delivery: Delivery, lease_holder: str, lease: timedelta, by: By) -> Change:
    """Somebody is about to send it: the next byte may leave once this is on the disk."""
    if not lease_holder:
        raise IllegalTransition("a claim needs a holder")
    return _to(
        "sending",
        delivery,
        by,
        attempts=delivery.attempts + 1,
        lease_holder=lease_holder,
        lease_until=by.now.wall + lease,
        first_attempt=delivery.first_attempt or by.now,
        attempt=by.now,
        not_before=None,
        outcome="",
        reason="",
    )


def put_off(delivery: Delivery, until: datetime | None, reason: str, by: By) -> Change:
    """It stays approved, and is not tried before `until`: nobody had begun to send it."""
    _only("approved", delivery, "put off")
    return _to("approved", delivery, by, not_before=until, reason=reason)


def canceled(delivery: Delivery, reason: str, by: By) -> Change:
    """Somebody does not want it to go out (any more)."""
    return _to("canceled", delivery, by, reason=reason)


def expired(delivery: Delivery, reason: str, by: By) -> Change:
    """It was approved too long ago."""
    return _to("expired", delivery, by, reason=reason)


def superseded(delivery: Delivery, reason: str, by: By) -> Change:
    """What the approver had seen is not what there is."""
    return _to("superseded", delivery, by, reason=reason)


def distrusted(delivery: Delivery, since: Instant, reason: str, by: By) -> Change:
    """It may have been sent without our knowing, at or after `since`: by an attempt whose token the
    platform may have forgotten, or after the backup that this database is."""
    _only("approved", delivery, "distrusted")
    doubt = _doubt(delivery, by) | {"first_attempt": delivery.first_attempt or since}
    return _to("unknown", delivery, by, reason=reason, **doubt)


# --- what became of an attempt ---------------------------------------------------------------


def was_sent(
    delivery: Delivery, message_id: str | None, sent_at: datetime | None, by: By
) -> Change:
    """The platform has it: it said so at once, or a look has found it, or a person knows."""
    return _to(
        "sent",
        delivery,
        by,
        message_id=message_id,
        sent_at=sent_at or by.now.wall,
        ambiguous=False,
        outcome="sent",
        reason="",
        **_NO_LEASE,
        **_KNOWN,
    )


def was_refused(delivery: Delivery, reason: str, by: By) -> Change:
    """The platform said no for good. If an earlier attempt may have arrived, that no says nothing
    about it: then it is unknown, and the token is not tried again."""
    _only("sending", delivery, "refused")
    if delivery.ambiguous:
        why = f"it was refused when it was sent again, but may have arrived before: {reason}"
        return _to(
            "unknown",
            delivery,
            by,
            reason=why,
            outcome="refused",
            **_doubt(delivery, by) | {"may_repeat": False},
            **_NO_LEASE,
        )
    return _to("failed", delivery, by, reason=reason, outcome="refused", **_NO_LEASE)


def did_not_leave(delivery: Delivery, not_before: datetime | None, reason: str, by: By) -> Change:
    """The platform said "not now", or nothing reached it."""
    _only("sending", delivery, "sent back")
    return _to(
        "approved",
        delivery,
        by,
        not_before=not_before,
        reason=reason,
        outcome="later",
        # What never left does not age the token.
        first_attempt=delivery.first_attempt if delivery.ambiguous else None,
        **_NO_LEASE,
    )


def got_no_answer(delivery: Delivery, reason: str, by: By) -> Change:
    """It may have arrived or not."""
    _only("sending", delivery, "left without an answer")
    return _to(
        "unknown",
        delivery,
        by,
        reason=reason,
        outcome="unknown",
        **_doubt(delivery, by),
        **_NO_LEASE,
    )


def lease_was_over(delivery: Delivery, by: By) -> Change:
    """Whoever sent it did not come back in time: it may have arrived or not."""
    _only("sending", delivery, "taken from its holder")
    return _to(
        "unknown",
        delivery,
        by,
        reason="whoever was sending it did not come back: it may have arrived or not",
        outcome="lost",
        **_doubt(delivery, by),
        **_NO_LEASE,
    )


# --- finding out -----------------------------------------------------------------------------


def absence_proved(delivery: Delivery, by: By) -> Change:
    """A complete look has shown that it did not arrive."""
    _only("unknown", delivery, "proved absent")
    return _to(
        "approved",
        delivery,
        by,
        ambiguous=False,
        first_attempt=None,
        reason="it had not arrived: it is sent again",
        **_KNOWN,
    )


def may_be_repeated(delivery: Delivery, by: By) -> Change:
    """The platform knows the token: the same again sends nothing twice, and tells."""
    _only("unknown", delivery, "repeated")
    if not delivery.may_repeat:
        raise IllegalTransition(f"{delivery.delivery_id} was refused when it was repeated")
    return _to(
        "approved",
        delivery,
        by,
        reason="it is sent again under the same token, which cannot send it twice",
        **_KNOWN,
    )


def look_failed(delivery: Delivery, again_at: datetime, reason: str, by: By) -> Change:
    """The platform could not be asked just now."""
    _only("unknown", delivery, "looked for")
    return _to(
        "unknown", delivery, by, looks=delivery.looks + 1, not_before=again_at, reason=reason
    )


def left_to_a_person(delivery: Delivery, reason: str, by: By) -> Change:
    """Nobody but a person can tell, or decide."""
    if delivery.state == "approved" and not delivery.ambiguous:
        raise IllegalTransition(f"{delivery.delivery_id} has not left: there is nothing to ask")
    return _to("needs_human", delivery, by, reason=reason, **_KNOWN)


def sent_again_by_a_person(delivery: Delivery, by: By) -> Change:
    """A person takes it upon themselves that it goes out once more."""
    _only("needs_human", delivery, "sent again")
    return _to(
        "approved",
        delivery,
        by,
        ambiguous=False,
        may_repeat=True,
        first_attempt=None,
        reason="a person decided to send it again",
        **_KNOWN,
    )


def echoed(delivery: Delivery, by: By) -> Change:
    """It has come back among the messages."""
    if delivery.message_id is None:
        raise IllegalTransition(f"{delivery.delivery_id} has no message id: nothing can confirm it")
    return _to("confirmed", delivery, by, confirmed_at=by.now.wall, reason="")


# --- questions -------------------------------------------------------------------------------


def lease_is_over(delivery: Delivery, now: Instant) -> bool:
    """Whether its holder has had all the time that it was given."""
    if delivery.state != "sending" or delivery.attempt is None or delivery.lease_until is None:
        return False
    return passed(delivery.attempt, now) >= delivery.lease_until - delivery.attempt.wall


def is_quiet(delivery: Delivery, now: Instant, quiet: timedelta) -> bool:
    """Whether a request whose answer was lost can no longer be under way."""
    return delivery.unknown_since is not None and passed(delivery.unknown_since, now) >= quiet


def token_is_known(
    delivery: Delivery, now: Instant, repeats_for: timedelta | None, margin: timedelta
) -> bool:
    """Whether the platform still remembers the token of the first attempt that may have arrived,
    and does so for `margin` longer. A clock that was set back proves nothing."""
    if not delivery.may_repeat:
        return False
    if repeats_for is None:
        return True
    if delivery.first_attempt is None:
        return False
    age = passed(delivery.first_attempt, now)
    return timedelta() <= age < repeats_for - margin


def broken_invariants(delivery: Delivery) -> list[str]:
    """What should hold of every row and does not, in words; the tests ask after every step."""
    rules = {
        "only what is being sent has a holder": (delivery.state == "sending")
        == bool(delivery.lease_holder),
        "what is unknown is ambiguous": delivery.state != "unknown" or delivery.ambiguous,
        "what is unknown has a beginning": delivery.state != "unknown"
        or delivery.unknown_since is not None,
        "what was sent has a time": (delivery.state in ARRIVED) == (delivery.sent_at is not None),
        "what was sent is not ambiguous": delivery.state not in ARRIVED or not delivery.ambiguous,
        "what is confirmed has an id": delivery.state != "confirmed"
        or delivery.message_id is not None,
        "what may have arrived was attempted": not delivery.ambiguous
        or delivery.first_attempt is not None,
        "an attempt makes the fence grow": delivery.fence >= delivery.attempts,
    }
    return [rule for rule, holds in rules.items() if not holds]


_NO_LEASE: Mapping[str, Any] = {"lease_holder": "", "lease_until": None}
_KNOWN: Mapping[str, Any] = {"unknown_since": None, "looks": 0, "not_before": None}


def _doubt(delivery: Delivery, by: By) -> dict[str, Any]:
    return {
        "ambiguous": True,
        "first_attempt": delivery.first_attempt or by.now,
        "unknown_since": by.now,
        "not_before": None,
        "looks": 0,
    }


def _only(state: State, delivery: Delivery, what: str) -> None:
    if delivery.state != state:
        raise IllegalTransition(
            f"{delivery.delivery_id} is {delivery.state}: only what is {state} can be {what}"
        )


def _to(state: State, delivery: Delivery, by: By, **changes: Any) -> Change:
    if state not in TRANSITIONS[delivery.state]:
        raise IllegalTransition(
            f"{delivery.delivery_id} is {delivery.state}: it cannot become {state}"
        )
    if delivery.ambiguous and delivery.state != "needs_human" and state in _ENDS_UNSENT:
        raise IllegalTransition(
            f"{delivery.delivery_id} may have arrived: it cannot become {state} before the "
            "platform or a person has said what became of it"
        )
    after = replace(
        delivery,
        state=state,
        fence=delivery.fence + 1,
        changed_at=by.now.wall,
        changed_by=by.actor,
        **changes,
    )
    return Change(delivery, after)
