"""Claim, send, record: how a reply leaves.

Belongs here: what is due, the claim before the first byte, the one request, what its answer means.
Does not belong here: finding out what became of one without an answer (`recovery.py`).

The order is what keeps a reply from going out twice. The claim is on the disk before a byte leaves,
so whoever dies in between is found by the lease. The answer is written under the claim's fence, so
whoever comes back too late writes nothing. And whoever has slept so long that its lease may be
over does not send at all.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from communicator_pipeline.delivery.clock import Clock, Instant, passed, read_clock
from communicator_pipeline.delivery.content import is_as_approved, target_of
from communicator_pipeline.delivery.gates import environment_is_open, held_by
from communicator_pipeline.delivery.senders import CannotConnect, LiveSenders, Sender, Senders
from communicator_pipeline.delivery.states import (
    By,
    Change,
    Delivery,
    claimed,
    did_not_leave,
    distrusted,
    got_no_answer,
    left_to_a_person,
    put_off,
    superseded,
    token_is_known,
    was_refused,
    was_sent,
)
from communicator_pipeline.delivery.voiding import Swept, sweep
from communicator_pipeline.ingestion.intake import Counts, Intake
from communicator_pipeline.platforms.protocol import (
    Part,
    Record,
    Refused,
    Sending,
    SendResult,
    Sent,
    Unknown,
)
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.landing import Landing
from communicator_pipeline.storage.outbox import (
    Outgoing,
    claim,
    has_any,
    in_state,
    is_still_there,
    wait_to_send,
    waiting_to_leave,
    write,
)
from communicator_pipeline.storage.work import WorkQueue

LEASE = timedelta(seconds=120)
"""How long a claim is left to its holder. Every platform's own time-outs are far below."""

SEND_WITHIN = 0.25
"""Of the lease, after the claim: the rest is for the request. Whoever comes later (a machine that
slept) might still be sending when the lease is over, and leaves it."""

TOKEN_MARGIN = LEASE
"""A platform must remember a token for so much longer than now, for a repeat to be safe."""

CONNECT_AGAIN_IN = timedelta(minutes=1)
LONGEST_ACCOUNT_WAIT = timedelta(minutes=1)
"""A limit that one reply met holds up its account's others for no longer: it may be one chat's."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to send one delivery once, for as long as nobody else has taken it."""

    delivery: Delivery  # as the claim left it
    reply: Outgoing  # as it was checked
    at: Instant


@dataclass
class Delivered:
    """What a round has done: delivery ids."""

    sent: list[str] = field(default_factory=list)
    put_off: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # somebody else took it: nothing was written
    swept: Swept = field(default_factory=Swept)

    @property
    def total(self) -> int:
        return sum(map(len, (self.sent, self.put_off, self.failed, self.unknown, self.lost)))


# --- what is due -----------------------------------------------------------------------------


def due_deliveries(
    rows: Sequence[Outgoing], now: datetime, environment_opens: bool
) -> list[Outgoing]:
    """Those that may leave now, in order; of each conversation only the next part. Pure."""
    chosen: dict[tuple[str, str], Outgoing] = {}
    for row in sorted(rows, key=_order):
        if _may_leave(row, now) and held_by(row, environment_opens) is None:
            chosen.setdefault((row.delivery.account, row.conversation_id), row)
    return list(chosen.values())


def due(
    database: Database,
    now: datetime,
    account: str | None = None,
    environment_opens: bool | None = None,
    most: int = 1_000,
) -> list[Outgoing]:
    """What may leave now. Takes no lock when nothing is approved."""
    if not has_any(database, ("approved",)):
        return []
    opens = environment_is_open() if environment_opens is None else environment_opens
    return due_deliveries(waiting_to_leave(database, now, account, opens, most), now, opens)


def what_would_go(
    database: Database,
    now: datetime,
    account: str | None = None,
    environment_opens: bool | None = None,
) -> list[tuple[Outgoing, str]]:
    """All that is approved, with what it waits for in words ("" if it leaves now): the dry run."""
    opens = environment_is_open() if environment_opens is None else environment_opens
    rows = sorted(in_state(database, "approved", account), key=_order)
    return [(row, _waits_for(row, now, opens)) for row in rows]


def _order(row: Outgoing) -> tuple[datetime, str, int]:
    return row.send_at, row.delivery.approval_id, row.delivery.number


def _may_leave(row: Outgoing, now: datetime) -> bool:
    delivery = row.delivery
    return (
        delivery.state == "approved"
        and row.send_at <= now < row.expires_at
        and (delivery.not_before is None or delivery.not_before <= now)
        and (row.waits_until is None or row.waits_until <= now)
        and not row.waits_for_part
        and not row.sender_changed
        and (row.begun or not row.overtaken)
    )


def _waits_for(row: Outgoing, now: datetime, environment_opens: bool) -> str:
    held = held_by(row, environment_opens)
    if held is not None:
        return held
    if row.send_at > now:
        return f"it goes at {row.send_at:%Y-%m-%d %H:%M:%S} UTC; until then it can be undone"
    if row.waits_for_part:
        return "the part before it has not been sent yet"
    later = max((m for m in (row.delivery.not_before, row.waits_until) if m), default=now)
    if later > now:
        why = row.delivery.reason or "the platform's limit"
        return f"not before {later:%Y-%m-%d %H:%M:%S} UTC: {why}"
    if row.overtaken or row.expires_at <= now:
        return "something changed since it was approved: it is about to be taken back"
    return ""


# --- one delivery ----------------------------------------------------------------------------


def take(
    database: Database,
    reply: Outgoing,
    promise: Sending,
    now: Instant,
    environment_opens: bool,
    lease: timedelta = LEASE,
) -> Claim | None:
    """Claim a reply that is due; None if it is somebody else's, or may not leave any more.

    What is not, to the last byte, what was approved is taken back instead; so is one that may have
    arrived under a token that the platform may have forgotten: that is looked for first.
    """
    delivery = reply.delivery
    holder = secrets.token_hex(8)
    by = By(now, f"worker:{holder}")
    if not is_as_approved(reply):
        why = "its text or its target is not the one that was approved"
        change = (
            left_to_a_person(delivery, f"it may have been sent, and now {why}", by)
            if delivery.ambiguous
            else superseded(delivery, f"{why}: approve it again", by)
        )
        write(database, [change])
        return None
    if delivery.ambiguous and not (
        promise.repeats and token_is_known(delivery, now, promise.repeats_for, TOKEN_MARGIN)
    ):
        why = "the platform may have forgotten the token of an attempt that may have arrived"
        write(database, [distrusted(delivery, delivery.first_attempt or now, why, by)])
        return None
    change = claimed(delivery, holder, lease, by)
    if not claim(database, change, reply, environment_opens, now.wall):
        return None
    return Claim(change.after, reply, now)


def transmit(claim: Claim, sender: Sender, clock: Clock) -> SendResult:
    """The one request. Any exception means that it may have arrived.

    A claim whose time is running out, by either clock, is not sent: nothing leaves.
    """
    delivery = claim.delivery
    lease = delivery.lease_until - claim.at.wall if delivery.lease_until else LEASE
    now = clock()
    late = passed(claim.at, now) >= lease * SEND_WITHIN
    if late or not timedelta() <= now.wall - claim.at.wall < lease * SEND_WITHIN:
        why = "the machine was asleep, or its clock was set: it did not leave"
        return Refused(why, claim.at.wall)
    part = Part(delivery.text, delivery.number, delivery.of)
    try:
        return sender.client.send(target_of(claim.reply), part, delivery.token)
    except Exception as error:
        return Unknown(f"{type(error).__name__}: {error}")


def record(
    database: Database, claim: Claim, result: SendResult, sender: Sender, now: Instant
) -> Delivery | None:
    """Write what an attempt came to, if the claim still holds; None if it does not: then nothing
    is written, whatever the answer was."""
    change = _meaning(
        claim.delivery, result, sender, By(now, f"worker:{claim.delivery.lease_holder}")
    )
    return change.after if write(database, [change])[0] else None


def _meaning(delivery: Delivery, result: SendResult, sender: Sender, by: By) -> Change:
    match result:
        case Sent(message_id, sent_at):
            return was_sent(delivery, message_id, sent_at, by)
        case Refused(reason, None):
            return was_refused(delivery, sender.clean(reason), by)
        case Refused(reason, not_before):
            return did_not_leave(delivery, not_before, sender.clean(reason), by)
        case Unknown(reason):
            return got_no_answer(delivery, sender.clean(reason), by)


# --- a round ---------------------------------------------------------------------------------


def deliver_due(
    stores: Stores,
    *,
    senders: Senders | None = None,
    account: str | None = None,
    most: int = 1_000,
    environment_opens: bool | None = None,
    lease: timedelta = LEASE,
    clock: Clock = read_clock,
) -> Delivered:
    """Send what is due, conversation by conversation, the parts of each in their order, until
    nothing is due any more or `most` were tried. Safe beside any number of others."""
    opens = environment_is_open() if environment_opens is None else environment_opens
    channels = senders or LiveSenders(stores)
    done = Delivered()
    tried: set[tuple[str, int]] = set()  # delivery, fence: a claim that fails is not tried again
    while done.total < most:
        if has_any(stores.database, ("approved",)):
            done.swept.add(sweep(stores.database, clock(), account))
        rows = [
            row
            for row in due(stores.database, clock().wall, account, opens)
            if (row.delivery.delivery_id, row.delivery.fence) not in tried
        ][: most - done.total]
        if not rows:
            break
        for name in sorted({row.delivery.account for row in rows}):
            mine = [row for row in rows if row.delivery.account == name]
            tried.update((row.delivery.delivery_id, row.delivery.fence) for row in mine)
            _deliver_account(stores, channels, name, mine, opens, lease, clock, done)
    return done


def _deliver_account(
    stores: Stores,
    senders: Senders,
    account: str,
    rows: Sequence[Outgoing],
    environment_opens: bool,
    lease: timedelta,
    clock: Clock,
    done: Delivered,
) -> None:
    database = stores.database
    try:
        with senders.open(account) as sender:
            for row in rows:
                if not is_still_there(database, row):  # another worker is at it
                    continue
                said = deliver(database, row, sender, environment_opens, clock, done, lease)
                _land(stores, account, said)
    except CannotConnect as error:
        now = clock()
        by = By(now, "worker")
        until = now.wall + CONNECT_AGAIN_IN
        write(database, [put_off(row.delivery, until, str(error), by) for row in rows])
        done.put_off += [row.delivery.delivery_id for row in rows]


def deliver(
    database: Database,
    reply: Outgoing,
    sender: Sender,
    environment_opens: bool,
    clock: Clock,
    done: Delivered,
    lease: timedelta = LEASE,
) -> tuple[Record, ...]:
    """One delivery that is due: claim, send, record. Returns what the platform said of the message
    where it shows no echo of it."""
    taken = take(database, reply, sender.promise, clock(), environment_opens, lease)
    if taken is None:
        return ()
    try:
        result = transmit(taken, sender, clock)
    except BaseException as end:  # the process is told to end: it may have arrived
        record(database, taken, Unknown(f"cut off: {type(end).__name__}"), sender, clock())
        raise
    after = record(database, taken, result, sender, clock())
    name = taken.delivery.delivery_id
    if after is None:
        done.lost.append(name)
        return ()
    places = {
        "sent": done.sent,
        "approved": done.put_off,
        "failed": done.failed,
        "unknown": done.unknown,
    }
    places[after.state].append(name)
    if after.state == "approved" and after.not_before is not None:
        now = clock().wall
        until = min(after.not_before, now + LONGEST_ACCOUNT_WAIT)
        if until > now:
            wait_to_send(database, after.account, until, after.reason)
    return result.records if isinstance(result, Sent) else ()


def _land(stores: Stores, account: str, records: Sequence[Record]) -> None:
    """Bring in what was sent, where no echo will. It is recorded as sent already: if this is
    killed, the inbox does not show it, and nothing goes out again."""
    if not records:
        return
    landing = Landing(stores.lake, WorkQueue(stores.database), account)
    intake = Intake(stores.database, landing, Counts(), "deliveries")
    for record in records:
        intake.take(record)
    intake.flush()
