"""An approval is for what the approver had seen: what takes it back.

Belongs here: the decision, the sweep over what is approved, notices for what came too late. Does
not belong here: the claim's own look (SQL, in `storage/outbox.py`), which stops whatever the sweep
has not met yet.

A reply of which one part is out is finished: half an answer helps nobody. What came in between is a
notice in the inbox then, as it is for a reply that was sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from communicator_pipeline.delivery.clock import Instant
from communicator_pipeline.delivery.content import MOST_SEEN, digest_of
from communicator_pipeline.delivery.states import (
    By,
    Change,
    canceled,
    expired,
    left_to_a_person,
    superseded,
)
from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.outbox import (
    Outgoing,
    SourceMessage,
    crossed_on_the_way,
    overtaken,
    raise_notice,
    see_more,
    source_messages,
    write,
)

ACTOR = "voiding"

NOTICED_FOR = timedelta(days=1)
"""So long after a reply was sent, what it crossed on its way still is news."""

Seen = Mapping[str, tuple[int, str]]

MAY_BE_OURS = "may be ours"
"""In the place of a digest: an own message that says what a reply says of which nobody knows
whether it arrived. It is no news as long as that is open."""


class News(NamedTuple):
    """Something that the approver had not seen."""

    message: SourceMessage
    what: str  # in words

    @property
    def cause(self) -> str:
        return f"{self.message.message_id}:{self.message.version}"


@dataclass
class Swept:
    """What a sweep has done: delivery ids."""

    superseded: list[str] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)
    canceled: list[str] = field(default_factory=list)
    left_to_a_person: list[str] = field(default_factory=list)

    def add(self, more: Swept) -> None:
        self.superseded += more.superseded
        self.expired += more.expired
        self.canceled += more.canceled
        self.left_to_a_person += more.left_to_a_person


def news(seen: Seen, now: Sequence[SourceMessage], may_be_ours: Sequence[str] = ()) -> list[News]:
    """What of a conversation, as it is now, was not seen and matters. Pure.

    What we sent ourselves is no news; nor is one that differs by its reactions alone, or came and
    was deleted. `may_be_ours`: texts of parts that may have arrived; an own message that says the
    same is taken for one of them.
    """
    found = []
    ours = [_plain(text) for text in may_be_ours]
    for message in now:
        before = seen.get(message.message_id)
        if before is not None and before[1] == MAY_BE_OURS:
            before = None
        if message.ours or (before is not None and before[1] == digest_of(message)):
            continue
        if before is None:
            if message.deleted or _may_be_ours(message, ours):
                continue
            what = (
                "you answered elsewhere"
                if message.from_me
                else f"a newer message from {message.author or 'somebody'} arrived"
            )
        elif message.deleted:
            what = f"a message of {message.author or 'somebody'} was deleted"
        else:
            what = f"a message of {message.author or 'somebody'} was edited"
        found.append(News(message, what))
    return found


def void_reason(
    approval: Outgoing, now_seen: Sequence[SourceMessage], may_be_ours: Sequence[str] = ()
) -> str | None:
    """Why an approval no longer holds, in words; None if it does. Pure."""
    if approval.sender_changed:
        return "the account belongs to somebody else now than when it was approved"
    if approval.begun:
        return None
    if approval.approver_gone:
        return f"{approval.approved_by} may no longer approve for {approval.delivery.account}"
    if approval.source_moved:
        return "the message that it answers now stands in another conversation, or chat"
    first = next(iter(news(approval.seen, now_seen, may_be_ours)), None)
    return None if first is None else f"{first.what} after it was approved"


def absent_after_all(database: Database, reply: Outgoing) -> None:
    """Take back what was let pass as a message that this reply may have made: it made none, so that
    was an answer given elsewhere, and the next sweep judges it."""
    certain = {key: value for key, value in reply.seen.items() if value[1] != MAY_BE_OURS}
    if certain != reply.seen:
        see_more(database, reply.delivery.approval_id, reply.seen, certain)


def sweep(database: Database, now: Instant, account: str | None = None) -> Swept:
    """Take back what does not hold any more. Done before every delivery, and to be done whenever
    messages came in."""
    swept = Swept()
    for reply in overtaken(database, now.wall, account):
        change = _judged(database, reply, By(now, ACTOR))
        if change is not None and write(database, [change])[0]:
            place = {
                "superseded": swept.superseded,
                "expired": swept.expired,
                "canceled": swept.canceled,
                "needs_human": swept.left_to_a_person,
            }[change.after.state]
            place.append(reply.delivery.delivery_id)
    return swept


def raise_notices(database: Database, now: Instant, account: str | None = None) -> int:
    """Tell the inbox what crossed a reply on its way; returns how many notices are new. Done every
    minute, and to be done whenever messages came in."""
    return sum(
        _tell(database, reply, now)
        for reply in crossed_on_the_way(database, now.wall - NOTICED_FOR, account)
    )


def _judged(database: Database, reply: Outgoing, by: By) -> Change | None:
    """What becomes of a reply that something happened to; None: nothing."""
    delivery = reply.delivery
    is_too_old = reply.expires_at <= by.now.wall
    reason = "an earlier part of it did not go out" if reply.earlier_ended else None
    if reason is None and reply.overtaken:
        messages = source_messages(
            database, delivery.account, reply.conversation_id, MOST_SEEN + len(reply.seen)
        )
        maybe = reply.parts if delivery.ambiguous else ()
        reason = void_reason(reply, messages, maybe)
        if reason is None and reply.unseen and not reply.begun:
            see_more(
                database,
                delivery.approval_id,
                reply.seen,
                {**reply.seen, **{m.message_id: _glance(m, reply.seen, maybe) for m in messages}},
            )
    if reason is None and not is_too_old:
        return None
    if delivery.ambiguous:
        why = f"it may have been sent, and is not tried again: {reason or 'it is too old'}"
        return left_to_a_person(delivery, why, by)
    if reply.earlier_ended:
        return canceled(delivery, "an earlier part of it did not go out", by)
    if reason is not None:
        return superseded(delivery, f"{reason}: look at it and approve it again", by)
    until = f"{reply.expires_at:%Y-%m-%d %H:%M} UTC"
    return expired(delivery, f"it could not leave until {until}: approve it again", by)


def _tell(database: Database, reply: Outgoing, now: Instant) -> int:
    """Notices for what a reply has crossed; returns how many are new."""
    told = 0
    for item in _crossed(database, reply):
        text = f"your reply went out, but {item.what}: {_short(item.message.text)}"
        told += raise_notice(database, reply, item.cause, text.rstrip(" :"), now.wall)
    return told


def _crossed(database: Database, reply: Outgoing) -> Iterator[News]:
    messages = source_messages(
        database, reply.delivery.account, reply.conversation_id, MOST_SEEN + len(reply.seen)
    )
    sent_at = reply.delivery.sent_at
    for item in news(reply.seen, messages, reply.parts):
        # A new message that is younger than the reply answers it; an edit never does.
        is_new = item.message.message_id not in reply.seen
        if not is_new or (sent_at is not None and item.message.sent_at <= sent_at):
            yield item


def _glance(message: SourceMessage, seen: Seen, may_be_ours: Sequence[str]) -> tuple[int, str]:
    """What is remembered of a message that is no reason to take a reply back."""
    before = seen.get(message.message_id)
    is_open = before is None or before[1] == MAY_BE_OURS
    ours = [_plain(text) for text in may_be_ours]
    if is_open and not message.ours and _may_be_ours(message, ours):
        return message.version, MAY_BE_OURS
    return message.version, digest_of(message)


def _may_be_ours(message: SourceMessage, ours: Sequence[str]) -> bool:
    return message.from_me and _plain(message.text) in ours


def _plain(text: str) -> str:
    return " ".join(text.split())


def _short(text: str) -> str:
    line = _plain(text)
    return line if len(line) <= 80 else line[:79] + "…"
