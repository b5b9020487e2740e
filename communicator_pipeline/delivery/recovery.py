"""What became of a send whose answer was lost: from the database alone, at any time.

Belongs here: leases that are over, finding out about what is unknown, echoes that confirm, what a
person says about it, distrust after a restore. Does not belong here: sending (`dispatch.py`).

At start-up and every minute. Nothing here sends: it asks the platform, or a person, and at most
lets `dispatch` send again what is proved not to have arrived, or cannot arrive twice. Before any of
that a *quiet period* passes, in which a request of a process that is dead may still arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from communicator_pipeline.delivery.clock import Clock, Instant, passed, read_clock
from communicator_pipeline.delivery.content import target_of
from communicator_pipeline.delivery.dispatch import TOKEN_MARGIN
from communicator_pipeline.delivery.senders import CannotConnect, LiveSenders, Sender, Senders
from communicator_pipeline.delivery.states import (
    By,
    Change,
    Delivery,
    absence_proved,
    canceled,
    distrusted,
    echoed,
    is_quiet,
    lease_is_over,
    lease_was_over,
    left_to_a_person,
    look_failed,
    may_be_repeated,
    sent_again_by_a_person,
    token_is_known,
    was_sent,
)
from communicator_pipeline.delivery.voiding import (
    Swept,
    absent_after_all,
    raise_notices,
    sweep,
)
from communicator_pipeline.platforms.protocol import Absent, CannotTell, FindResult, Part, Sent
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.outbox import (
    MAY_APPROVE,
    Outbox,
    Outgoing,
    echo_of,
    echoes,
    in_state,
    load_delivery,
    owner_of_message,
    prolong,
    write,
)
from communicator_pipeline.storage.settings import Settings

QUIET = timedelta(seconds=120)
"""After an attempt without an answer: a dead client's request may still be under way. The setting
`quiet_seconds` of the installation changes it."""

CLOCKS_DIFFER = timedelta(minutes=65)
"""A look begins so long before the attempt: this machine's clock may have been set by an hour
since, or be wrong by one; never before the newest message that the approver had seen."""

MOST_LOOKS = 10
"""After so many looks that failed in a row, a person is asked."""

LONGEST_LOOK_WAIT = timedelta(minutes=30)

ACTOR = "recovery"

Choice = Literal["it was sent", "send it again", "drop it"]
"""What a person can say about a delivery that nobody else can tell about."""


@dataclass
class Recovered:
    """What a pass has found: delivery ids."""

    leases_over: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    to_send_again: list[str] = field(default_factory=list)
    left_to_a_person: list[str] = field(default_factory=list)
    looked_in_vain: list[str] = field(default_factory=list)
    confirmed: list[str] = field(default_factory=list)
    notices: int = 0
    swept: Swept = field(default_factory=Swept)


class NoQuestion(ValueError):
    """Nobody has to decide about the delivery (any more); the message says why."""


class Option(NamedTuple):
    """One of the choices, and what it risks."""

    choice: Choice
    risk: str


class Question(NamedTuple):
    """What a person is asked."""

    reply: Outgoing
    reason: str  # why nobody else can tell
    hint: str  # what speaks for its having been sent; may be empty
    options: list[Option]


def quiet_period(database: Database) -> timedelta:
    seconds = Settings(database, None).get("quiet_seconds")
    return QUIET if seconds is None else timedelta(seconds=float(seconds))


def recover(
    stores: Stores,
    *,
    senders: Senders | None = None,
    account: str | None = None,
    quiet: timedelta | None = None,
    clock: Clock = read_clock,
) -> Recovered:
    """One pass over everything that is open. Safe beside deliveries and other passes."""
    database = stores.database
    found = Recovered()
    found.leases_over = expire_leases(database, clock(), account)
    reconcile(stores, found, senders=senders, account=account, quiet=quiet, clock=clock)
    found.confirmed = confirm_echoes(database, account, clock=clock)
    found.swept = sweep(database, clock(), account)
    found.notices = raise_notices(database, clock(), account)
    return found


def expire_leases(database: Database, now: Instant, account: str | None = None) -> list[str]:
    """What was claimed and not recorded in time becomes unknown; its fence grows, so that whoever
    had claimed it can write nothing more."""
    over = [r for r in in_state(database, "sending", account) if lease_is_over(r.delivery, now)]
    changes = [lease_was_over(row.delivery, By(now, ACTOR)) for row in over]
    return _written(database, changes)


def reconcile(
    stores: Stores,
    found: Recovered,
    *,
    senders: Senders | None = None,
    account: str | None = None,
    quiet: timedelta | None = None,
    clock: Clock = read_clock,
) -> None:
    """Find out about what is unknown, once its quiet period is over."""
    database = stores.database
    now = clock()
    period = quiet_period(database) if quiet is None else quiet
    rows = [
        row
        for row in in_state(database, "unknown", account)
        if is_quiet(row.delivery, now, period) and _may_look(row.delivery, now.wall)
    ]
    channels = senders or LiveSenders(stores)
    for name in sorted({row.delivery.account for row in rows}):
        mine = [row for row in rows if row.delivery.account == name]
        try:
            with channels.open(name) as sender:
                for row in mine:
                    _note(database, found, reconciled(database, row, sender, clock))
        except CannotConnect as error:
            for row in mine:
                _note(database, found, _look_failed(row.delivery, str(error), By(clock(), ACTOR)))


def reconciled(database: Database, row: Outgoing, sender: Sender, clock: Clock) -> Change:
    """What is to become of a delivery that is unknown and quiet: the same token again where the
    platform knows it, else a look, else a person."""
    delivery, promise = row.delivery, sender.promise
    now = clock()
    if promise.repeats and token_is_known(delivery, now, promise.repeats_for, 2 * TOKEN_MARGIN):
        return may_be_repeated(delivery, By(now, ACTOR))
    if not promise.looks_up:
        why = (
            "the platform offers no way to find out, and has forgotten the token by now"
            if promise.repeats
            else "the platform offers no way to find out"
        )
        return left_to_a_person(delivery, f"it may have arrived or not: {why}", By(now, ACTOR))
    try:
        part = Part(delivery.text, delivery.number, delivery.of)
        since = look_since(row, now)
        answer = sender.client.find_sent(target_of(row), part, delivery.token, since)
    except Exception as error:
        why = sender.clean(f"{type(error).__name__}: {error}")
        return _look_failed(delivery, why, By(clock(), ACTOR))
    return _answered(database, row, answer, sender, By(clock(), ACTOR))


def look_since(row: Outgoing, now: Instant) -> datetime:
    """From when on a look has to look. Pure.

    The attempt's time is this machine's word, and its clock may have been set since: what really
    passed is subtracted from now, too, and an hour more. The newest message that the approver had
    seen is older than any answer to it, by the platform's own clock: nothing before it counts.
    """
    delivery = row.delivery
    began = delivery.first_attempt or Instant(row.approved_at)
    earliest = min(began.wall, now.wall - passed(began, now)) - CLOCKS_DIFFER
    return max(earliest, row.seen_newest_at)


def _answered(
    database: Database, row: Outgoing, answer: FindResult, sender: Sender, by: By
) -> Change:
    delivery = row.delivery
    match answer:
        case Sent(message_id, sent_at):
            other = owner_of_message(database, delivery.account, message_id)
            if other is not None and other != delivery.delivery_id:
                why = "what says the same there was sent before: whether this one arrived is open"
                return left_to_a_person(delivery, why, by)
            return was_sent(delivery, message_id, sent_at, by)
        case Absent():
            absent_after_all(database, row)
            return absence_proved(delivery, by)
        case CannotTell(reason):
            why = f"it may have arrived or not: {sender.clean(reason)}"
            return left_to_a_person(delivery, why, by)


def _look_failed(delivery: Delivery, why: str, by: By) -> Change:
    if delivery.looks + 1 >= MOST_LOOKS:
        why = f"it may have arrived or not, and the platform could not be asked: {why}"
        return left_to_a_person(delivery, why, by)
    wait = min(LONGEST_LOOK_WAIT, timedelta(minutes=2**delivery.looks))
    return look_failed(delivery, by.now.wall + wait, f"it could not be looked for: {why}", by)


def _may_look(delivery: Delivery, now: datetime) -> bool:
    # A clock that was set back must not put a look off for an hour.
    not_before = delivery.not_before
    return not_before is None or not (now < not_before <= now + LONGEST_LOOK_WAIT)


def _note(database: Database, found: Recovered, change: Change) -> None:
    places = {
        "sent": found.sent,
        "approved": found.to_send_again,
        "needs_human": found.left_to_a_person,
        "unknown": found.looked_in_vain,
    }
    places[change.after.state] += _written(database, [change])


def confirm_echoes(
    database: Database, account: str | None = None, *, clock: Clock = read_clock
) -> list[str]:
    """What was sent and has come back among the messages is confirmed; returns the deliveries.

    By the message's id alone: a text that looks the same proves nothing.
    """
    confirmed = []
    now = clock()
    for row in echoes(database, account):
        delivery, by = row.delivery, By(now, "echo")
        if delivery.state == "unknown":
            sent = was_sent(delivery, delivery.message_id, None, by)
            if not write(database, [sent])[0]:
                continue
            delivery = sent.after
        confirmed += _written(database, [echoed(delivery, by)])
    return confirmed


# --- a person --------------------------------------------------------------------------------


def options(platform: str) -> list[Option]:
    """What a person can say about a delivery that nobody else can tell about."""
    look = f"look on {platform} first"
    return [
        Option("it was sent", f"if it is not there ({look}), whoever waits for it never gets it"),
        Option("send it again", f"if it is there ({look}), whoever reads it gets it twice"),
        Option("drop it", "if it is not there, whoever waits for it gets no answer from you"),
    ]


def question(database: Database, user_id: str, delivery_id: str) -> Question:
    """What a person is asked about a delivery; raises `NotFound`, and `ValueError` if it is no
    question (any more)."""
    row = Outbox(database, user_id).get(delivery_id)
    if row.delivery.state != "needs_human":
        raise NoQuestion(f"{delivery_id} asks for nothing: it is {row.delivery.state}")
    echo = echo_of(database, row)
    hint = (
        f"a message of yours with the same words has stood there since {echo[1]:%Y-%m-%d %H:%M} UTC"
        if echo
        else ""
    )
    return Question(row, row.delivery.reason, hint, options(row.platform))


def resolve(
    database: Database,
    user_id: str,
    delivery_id: str,
    choice: Choice,
    *,
    clock: Clock = read_clock,
) -> Outgoing:
    """Do what a person says about a delivery that only they can tell about.

    "send it again" goes through everything that any delivery goes through: a newer message takes it
    back. Raises `NotFound`, `PermissionError`, `NoQuestion` if it is none (any
    more), and `ValueError` for a choice that there is not.
    """
    outbox = Outbox(database, user_id)
    row = outbox.get(delivery_id)
    role = outbox.role(row.delivery.account)
    if role not in MAY_APPROVE:
        raise PermissionError(f"you are a {role} of {row.delivery.account}: ask an owner of it")
    if row.delivery.state != "needs_human":
        raise NoQuestion(f"{delivery_id} asks for nothing: it is {row.delivery.state}")
    by = By(clock(), f"user:{user_id}")
    change: Change
    if choice == "it was sent":
        message_id, sent_at = echo_of(database, row) or (None, None)
        change = was_sent(row.delivery, message_id, sent_at, by)
    elif choice == "send it again":
        change = sent_again_by_a_person(row.delivery, by)
    elif choice == "drop it":
        change = canceled(row.delivery, f"{user_id} let it be, sent or not", by)
    else:
        known = ", ".join(repr(option.choice) for option in options(row.platform))
        raise ValueError(f"{choice!r} is none of the choices ({known})")
    if not write(database, [change])[0]:
        raise NoQuestion(f"somebody else has just decided about {delivery_id}: look again")
    if choice == "send it again":
        # What it waited for a person does not make it too old.
        prolong(database, row.delivery.approval_id, by.now.wall + (row.expires_at - row.send_at))
    return load_delivery(database, delivery_id)


# --- a restore -------------------------------------------------------------------------------


def distrust_everything(database: Database, *, clock: Clock = read_clock) -> list[str]:
    """After a restore: whatever was not over when the backup was made may have gone out since. It
    becomes unknown, and is looked for or asked about before anything leaves. Returns the
    deliveries. To be done before anything else runs."""
    now = clock()
    by = By(now, "restore")
    why = "this is a backup: it may have been sent after it was made"
    changes = [
        distrusted(row.delivery, Instant(row.approved_at), why, by)
        for row in in_state(database, "approved", most=1_000_000)
    ]
    changes += [
        lease_was_over(row.delivery, by) for row in in_state(database, "sending", most=1_000_000)
    ]
    return _written(database, changes)


def _written(database: Database, changes: Sequence[Change]) -> list[str]:
    done = write(database, changes)
    return [c.after.delivery_id for c, was in zip(changes, done, strict=True) if was]
