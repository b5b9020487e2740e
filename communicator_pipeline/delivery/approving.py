"""A person's yes, and what they may still take back.

Belongs here: what an approval needs, what it binds, when it goes out; undo, reject, edit, approve
again. Does not belong here: approval without a person (`policies.py`), sending (`dispatch.py`),
how a question is put (the command line).

An approval is written in one transaction with its deliveries, or not at all. The same content
approved twice is one approval; a conversation has one reply on its way at a time.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from communicator_pipeline.delivery.clock import Clock, read_clock
from communicator_pipeline.delivery.content import (
    MOST_SEEN,
    content_hash,
    digest_of,
    source_version,
)
from communicator_pipeline.delivery.gates import gates_of
from communicator_pipeline.delivery.hours import SendingHours, read_hours
from communicator_pipeline.delivery.splitting import split_for
from communicator_pipeline.delivery.states import By, canceled
from communicator_pipeline.drafting.facts import GAP
from communicator_pipeline.drafting.learning import borrowed
from communicator_pipeline.drafting.memory import content_words
from communicator_pipeline.platforms.protocol import Sending, Target
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.draft_versions import REDRAFTED
from communicator_pipeline.storage.feedback import Feedback, FeedbackKind, feedback_id
from communicator_pipeline.storage.inbox import LONGEST_TEXT
from communicator_pipeline.storage.outbox import (
    MAY_APPROVE,
    NewApproval,
    Outbox,
    Outgoing,
    SourceMessage,
    alive,
    insert_approval,
    proposable,
    write,
)
from communicator_pipeline.storage.settings import Settings

UNDO_WINDOW = timedelta(seconds=10)
EXPIRES_AFTER = timedelta(hours=48)
"""After the moment at which it was to go out: what could not leave by then is out of date."""

MOST_ABOUT_KEPT = 60
"""Words kept of the message that was answered, to know again what it was about."""


class NotApproved(ValueError):
    """There is no approval; the message says why, and what to do."""


class AlreadyApproved(NotApproved):
    """Another reply to the conversation is on its way; the message says whose."""

    def __init__(self, message: str, approval_id: str, approved_by: str) -> None:
        super().__init__(message)
        self.approval_id = approval_id
        self.approved_by = approved_by


class SourceChanged(NotApproved):
    """The conversation is not as it was when the approver looked."""


class TooLate(ValueError):
    """It cannot be taken back any more; the message says what has become of it."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What there is to approve: show this, and give `source_version` back with the approval."""

    account: str
    conversation_id: str
    target: Target
    text: str  # what a person made of the draft, else the draft; "" if there is none
    source_version: str
    messages: Sequence[SourceMessage]  # what counts as seen
    category: str | None
    draft_day: str | None
    draft_version: int | None
    draft_text: str | None
    draft_outcome: str | None
    draft_flags: tuple[str, ...]
    edited_by: str | None
    rejected_by: str | None
    language: str = ""
    draft_model: str = ""
    draft_rests_on: tuple[str, ...] = ()
    draft_gaps: tuple[str, ...] = ()
    draft_reason: str = ""
    redraft: int | None = None  # the number of the version that somebody asked for
    base_version: str = ""  # the `source_version` without redrafts


@dataclass(frozen=True, slots=True)
class Approved:
    """An approval that stands: a new one, or the one that was there already."""

    approval_id: str
    is_new: bool
    approved_by: str
    approved_at: datetime
    send_at: datetime  # from then on it may leave; until then `undo` takes it back
    parts: tuple[str, ...]
    warnings: tuple[str, ...]  # why it will not leave as things are, and what to do


@dataclass(frozen=True, slots=True)
class Timing:
    """When the replies of a user go out."""

    undo_window: timedelta = UNDO_WINDOW
    expires_after: timedelta = EXPIRES_AFTER
    hours: SendingHours | None = None

    def send_at(self, now: datetime, at: datetime | None, any_time: bool) -> datetime:
        """`at` if it is given, else as soon as the undo window and the hours allow."""
        earliest = now + self.undo_window
        if at is not None:
            return max(at, earliest)
        return earliest if any_time or self.hours is None else self.hours.next_within(earliest)


def timing_of(database: Database, user_id: str) -> Timing:
    """The user's settings `undo_seconds`, `approval_hours` and `sending_hours`."""
    return timing_in(Settings(database, user_id).at_once())


def timing_in(settings: Settings) -> Timing:
    """The same, of settings that were read already."""
    undo, hours = settings.get("undo_seconds"), settings.get("approval_hours")
    return Timing(
        UNDO_WINDOW if undo is None else timedelta(seconds=float(undo)),
        EXPIRES_AFTER if hours is None else timedelta(hours=float(hours)),
        read_hours(settings.get("sending_hours")),
    )


def propose(database: Database, user_id: str, account: str, conversation_id: str) -> Proposal:
    """What a user has to decide about; raises `NotFound`."""
    read = proposable(database, user_id, account, conversation_id, MOST_SEEN, REDRAFTED)
    found, messages = read.draft, read.messages
    if not messages:
        raise NotFound(
            f"there is no conversation {conversation_id!r} in {account}: "
            "`communicator inbox` shows their ids"
        )
    made = found if found is not None and found["version"] is not None else None
    pipeline = (made["day"], int(made["version"])) if made else None
    base = source_version(messages, pipeline)
    newest = read.redraft
    redraft = newest if newest is not None and newest["base_version"] == base else None
    draft, version = made, base
    if redraft is not None:
        draft = redraft
        version = source_version(messages, (f"redraft of {base}", redraft["number"]))
    edit = read.edit if read.edit is not None and read.edit["source_version"] == version else None
    return Proposal(
        account,
        conversation_id,
        target_for(messages, found["channel_kind"] if found else None),
        edit["text"] if edit else draft["text"] if draft else "",
        version,
        messages,
        found["category"] if found else None,
        pipeline[0] if pipeline else None,
        pipeline[1] if pipeline else None,
        draft["text"] if draft else None,
        draft["outcome"] if draft else None,
        tuple(orjson.loads(draft["flags"])) if draft else (),
        edit["edited_by"] if edit else None,
        read.rejected_by.get(version),
        draft["language"] if draft else found["language"] if found else "",
        draft["model"] if draft else "",
        tuple(orjson.loads(draft["rests_on"])) if draft else (),
        tuple(orjson.loads(draft["gaps"])) if draft else (),
        draft["reason"] if draft else "",
        redraft["number"] if redraft else None,
        base,
    )


def proposed(
    database: Database, user_id: str, account: str, conversation_id: str
) -> Proposal | None:
    """The same; None if the conversation holds nothing that somebody said: joins, renames."""
    try:
        return propose(database, user_id, account, conversation_id)
    except NotFound:
        return None


def target_for(messages: Sequence[SourceMessage], channel_kind: str | None) -> Target:
    """Where an answer goes: to the newest message that somebody else wrote, in its thread. Between
    two people it is no quotation; elsewhere it names what it answers."""
    present = [m for m in messages if not m.deleted] or list(messages)
    answered = next((m for m in reversed(present) if not m.from_me), present[-1])
    reply_to = None if channel_kind == "dm" else answered.message_id
    return Target(answered.channel_id, answered.thread_id, reply_to)


def approve(
    database: Database,
    user_id: str,
    account: str,
    conversation_id: str,
    promise: Sending | None,
    *,
    text: str | None = None,
    seen: str | None = None,
    at: datetime | None = None,
    any_time: bool = False,
    target: Target | None = None,
    environment_opens: bool | None = None,
    clock: Clock = read_clock,
) -> Approved:
    """Approve the reply to a conversation: the draft, or `text` in its place.

    `promise` is what the account's platform promises (`senders.promise_of`), None where it cannot
    send: the approval then waits, and its warnings say for what. `seen` is the `source_version`
    that the approver was shown; without it, what there is now counts as seen. `at` schedules it;
    `any_time` leaves the user's sending hours aside. `target` sends it elsewhere than it would go.

    Raises `NotApproved` (`AlreadyApproved`, `SourceChanged`), `NotFound`, and `PermissionError` for
    a viewer, in words.
    """
    proposal = propose(database, user_id, account, conversation_id)
    role = Outbox(database, user_id).role(account)
    if role not in MAY_APPROVE:
        raise PermissionError(
            f"you are a {role} of {account}, who reads and does not approve: ask an owner of it "
            "to make you a reviewer"
        )
    if seen is not None and seen != proposal.source_version:
        raise SourceChanged(
            "the conversation went on, or a message or the draft changed, since you looked: look "
            "at it again, then approve"
        )
    words = (proposal.text if text is None else text).strip()
    check_text(words, proposal)
    timing = timing_of(database, user_id)
    new = new_approval(
        proposal,
        words,
        promise,
        user_id,
        clock().wall,
        timing,
        at=at,
        any_time=any_time,
        target=target,
    )
    told = feedback_on(
        proposal,
        "edited" if new.edited else "approved",
        user_id,
        new.approved_at,
        final=words,
        approval_id=new.approval_id,
    )
    warnings = gates_of(database, account, promise is not None, environment_opens)
    return approved(database, new, warnings, told)


def check_text(text: str, proposal: Proposal) -> None:
    """Raise `NotApproved` for what must not go out as it stands."""
    if not text:
        why = "its draft says that no reply is needed" if proposal.draft_text == "" else "no draft"
        raise NotApproved(f"there is nothing to send ({why}): give the text")
    if len(text) > LONGEST_TEXT:
        raise NotApproved(f"the text has {len(text)} characters, {LONGEST_TEXT} can be kept")
    gaps = GAP.findall(text)
    if gaps:
        listed = ", ".join(dict.fromkeys(gaps))
        raise NotApproved(f"the text still has gaps that only you can fill ({listed}): edit it")


def new_approval(
    proposal: Proposal,
    text: str,
    promise: Sending | None,
    user_id: str,
    now: datetime,
    timing: Timing,
    *,
    at: datetime | None = None,
    any_time: bool = False,
    target: Target | None = None,
    automatic: bool = False,
) -> NewApproval:
    """The approval as it is to be written; pure but for the ids."""
    goes_to = target or proposal.target
    parts = tuple(split_for(text, promise))
    send_at = timing.send_at(now, at, any_time)
    of_draft = proposal.draft_text is not None and proposal.draft_text != ""
    return NewApproval(
        approval_id=secrets.token_hex(8),
        account=proposal.account,
        conversation_id=proposal.conversation_id,
        channel_id=goes_to.channel_id,
        thread_id=goes_to.thread_id,
        reply_to=goes_to.reply_to,
        text=text,
        parts=parts,
        tokens=tuple(secrets.token_hex(16) for _ in parts),
        content_hash=content_hash(
            proposal.account, goes_to, text, parts, (), proposal.source_version
        ),
        source_version=proposal.source_version,
        seen={m.message_id: (m.version, digest_of(m)) for m in proposal.messages},
        seen_since=proposal.messages[0].sent_at,
        seen_newest=proposal.messages[-1].message_id,
        seen_newest_at=proposal.messages[-1].sent_at,
        category=proposal.category,
        draft_day=proposal.draft_day if of_draft else None,
        draft_version=proposal.draft_version if of_draft else None,
        edited=of_draft and text != (proposal.draft_text or "").strip(),
        automatic=automatic,
        approved_by=user_id,
        approved_at=now,
        send_at=send_at,
        expires_at=send_at + timing.expires_after,
    )


def feedback_on(
    proposal: Proposal,
    kind: FeedbackKind,
    user_id: str,
    at: datetime,
    *,
    final: str = "",
    note: str = "",
    approval_id: str | None = None,
) -> Feedback | None:
    """What a person's deed says of a draft; None where there was no draft to say something of."""
    if not proposal.draft_text:
        return None
    theirs = [m for m in proposal.messages if not m.from_me and not m.deleted]
    named = [m for m in theirs if m.message_id in proposal.draft_rests_on]
    answered = next(iter(named or theirs[-1:]), None)
    about = content_words(answered.text, proposal.language) if answered else ()
    return Feedback(
        account=proposal.account,
        feedback_id=feedback_id(
            proposal.account,
            proposal.conversation_id,
            kind,
            user_id,
            proposal.source_version,
            final,
            note,
            approval_id,
        ),
        conversation_id=proposal.conversation_id,
        kind=kind,
        user_id=user_id,
        at=at,
        source_version=proposal.source_version,
        approval_id=approval_id,
        draft_text=proposal.draft_text,
        final_text=final,
        note=note,
        model=proposal.draft_model,
        draft_day=proposal.draft_day,
        draft_version=proposal.draft_version,
        category=proposal.category or "",
        language=proposal.language,
        rests_on=proposal.draft_rests_on,
        person_id=answered.author_id if answered else "",
        person_name=answered.author if answered else "",
        about=tuple(sorted(about)[:MOST_ABOUT_KEPT]),
        borrowed=borrowed(final, [m.text for m in theirs]),
    )


def approved(
    database: Database,
    new: NewApproval,
    warnings: Sequence[str],
    feedback: Feedback | None = None,
) -> Approved:
    """Write an approval with what it says of the draft; raises `AlreadyApproved` if another one
    stands."""
    standing = insert_approval(database, new, feedback)
    if standing is None:
        raise NotApproved(
            f"{new.approved_by} may not approve for {new.account} (any more), or its policy allows "
            "no more today"
        )
    if standing.content_hash != new.content_hash:
        raise AlreadyApproved(
            f"{standing.approved_by} approved another reply to this conversation at "
            f"{standing.approved_at:%Y-%m-%d %H:%M:%S} UTC, and it is on its way: undo that one "
            "first, or wait until it is out",
            standing.approval_id,
            standing.approved_by,
        )
    return Approved(
        standing.approval_id,
        standing.approval_id == new.approval_id,
        standing.approved_by,
        standing.approved_at,
        standing.send_at,
        new.parts,
        tuple(warnings),
    )


def undo(
    database: Database,
    user_id: str,
    approval_id: str,
    *,
    rest: bool = False,
    clock: Clock = read_clock,
) -> list[Outgoing]:
    """Take an approval back before it has left; `approval_id` may be a delivery's id too.

    With `rest`, what has not left of one that has begun is canceled. Returns what was canceled.
    Raises `TooLate`, `NotFound`, `PermissionError`.
    """
    outbox = Outbox(database, user_id)
    parts = outbox.parts(approval_id)
    _must_approve(outbox, parts[0].delivery.account)
    waiting = [p for p in parts if p.delivery.state == "approved" and not p.delivery.ambiguous]
    by = By(clock(), f"user:{user_id}")
    if not rest and len(waiting) < len(parts):
        raise TooLate(_too_late(parts))
    changes = [canceled(part.delivery, f"{user_id} took it back", by) for part in waiting]
    done = write(database, changes, whole=not rest)
    if not any(done):
        raise TooLate(_too_late(outbox.parts(approval_id)))
    return [outbox.get(p.delivery.delivery_id) for p, was in zip(waiting, done, strict=True) if was]


def reject(
    database: Database,
    user_id: str,
    account: str,
    conversation_id: str,
    why: str = "",
    *,
    clock: Clock = read_clock,
) -> None:
    """Note that the draft of a conversation is not wanted; a newer draft is a new question.

    Raises `AlreadyApproved` if a reply is on its way: undo that one.
    """
    proposal = propose(database, user_id, account, conversation_id)
    _nothing_on_its_way(database, account, conversation_id)
    now = clock().wall
    Outbox(database, user_id).keep_rejection(
        account,
        conversation_id,
        proposal.source_version,
        why,
        now,
        feedback_on(proposal, "rejected", user_id, now, note=why),
    )


def edit(
    database: Database,
    user_id: str,
    account: str,
    conversation_id: str,
    text: str,
    *,
    seen: str | None = None,
    clock: Clock = read_clock,
) -> Proposal:
    """Put a text in the draft's place, for later approval; it holds until the conversation goes
    on. Raises `AlreadyApproved` if a reply is on its way, `NotApproved` for an empty text, and
    `SourceChanged` if `seen` is given and is not the `source_version` any more."""
    if not text.strip():
        raise NotApproved("the text is empty: to send nothing, reject the draft")
    proposal = propose(database, user_id, account, conversation_id)
    if seen not in (None, proposal.source_version):
        raise SourceChanged(
            "the conversation or its draft changed since you looked: look at it again, then edit"
        )
    _nothing_on_its_way(database, account, conversation_id)
    now, words = clock().wall, text.strip()
    Outbox(database, user_id).keep_edit(
        account,
        conversation_id,
        proposal.source_version,
        words,
        now,
        None
        if words == (proposal.draft_text or "").strip()
        else feedback_on(proposal, "edited", user_id, now, final=words),
    )
    return propose(database, user_id, account, conversation_id)


def reapprove(
    database: Database,
    user_id: str,
    approval_id: str,
    promise: Sending | None,
    *,
    seen: str | None = None,
    at: datetime | None = None,
    any_time: bool = False,
    environment_opens: bool | None = None,
    clock: Clock = read_clock,
) -> Approved:
    """Approve the same text for the same place once more, with the conversation as it is now.

    For what was voided, has expired, was taken back or failed. Raises `NotApproved` if any part of
    it may have been sent.
    """
    parts = Outbox(database, user_id).parts(approval_id)
    first = parts[0]
    if any(part.delivery.state in ("sent", "confirmed") for part in parts):
        raise NotApproved(
            "a part of it was sent already: approve what is missing as a text of its own"
        )
    if any(part.delivery.ambiguous for part in parts):
        raise NotApproved("it may have been sent: look there, then approve a text of its own")
    return approve(
        database,
        user_id,
        first.delivery.account,
        first.conversation_id,
        promise,
        text=first.whole_text,
        seen=seen,
        at=at,
        any_time=any_time,
        target=Target(first.channel_id, first.thread_id, first.reply_to),
        environment_opens=environment_opens,
        clock=clock,
    )


def _must_approve(outbox: Outbox, account: str) -> None:
    role = outbox.role(account)
    if role not in MAY_APPROVE:
        raise PermissionError(f"you are a {role} of {account}: an owner or a reviewer can do this")


def _nothing_on_its_way(database: Database, account: str, conversation_id: str) -> None:
    standing = alive(database, account, conversation_id)
    if standing is not None:
        raise AlreadyApproved(
            f"{standing.approved_by} approved a reply to this conversation, and it is on its "
            f"way: undo {standing.approval_id} first",
            standing.approval_id,
            standing.approved_by,
        )


def _too_late(parts: Sequence[Outgoing]) -> str:
    states = sorted({part.delivery.state for part in parts})
    if states == ["canceled"]:
        return "it was taken back already"
    if any(state in ("sent", "confirmed") for state in states):
        rest = any(part.delivery.state == "approved" for part in parts)
        return "it was sent already" + (": what is left of it can still be canceled" * rest)
    if "needs_human" in states:
        return "it may have been sent: say what became of it with `communicator resolve`"
    if any(state in ("sending", "unknown", "approved") for state in states):
        return "it is being sent, or may have been: what became of it is known in a few minutes"
    return f"there is nothing to take back: it is {' and '.join(states)}"
