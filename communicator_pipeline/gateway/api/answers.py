"""What the API says of each thing.

Belongs here: the models of the answers, and making them of what the storage has. Does not belong
here: the envelope (`gateway/envelope.py`), what is asked (`asking.py`).

Nothing secret has a place here. Times are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict

from communicator_pipeline.delivery import approving, recovery
from communicator_pipeline.delivery.states import State
from communicator_pipeline.storage.connections import Health, TroubleKind
from communicator_pipeline.storage.database import Row, utc_text
from communicator_pipeline.storage.outbox import Outgoing, Policy


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


Utc = AwareDatetime
MaybeUtc = Annotated[AwareDatetime | None, BeforeValidator(_none_if_empty)]
"""The database spells a time that there is not as an empty text, or as none."""

Role = Literal["owner", "reviewer", "viewer"]
Scope = Literal["read", "write"]
Outcome = Literal["ready", "needs_fill", "no_reply"]


NOT_OVER: tuple[State, ...] = ("approved", "needs_human", "sending", "unknown")
"""The states of a delivery that is on its way, or asks for a person."""


# --- who asks --------------------------------------------------------------------------------


class OwnAccount(BaseModel):
    """An account, and what the user may do in it."""

    account: str
    platform: str
    name: str
    role: Role


class Me(BaseModel):
    """Who asks."""

    user_id: str
    name: str
    is_admin: bool
    may_write: bool
    csrf: str | None  # for a session: what a change sends back as X-CSRF-Token
    accounts: list[OwnAccount]


class Key(BaseModel):
    """An API key, without what makes it one."""

    key_id: str
    name: str
    scope: Scope
    created_at: Utc
    used_at: MaybeUtc
    revoked_at: MaybeUtc


class NewKey(BaseModel):
    """A key that was just made: it is shown this once."""

    key_id: str
    key: str


class Entry(BaseModel):
    """Something that somebody did."""

    id: int
    at: Utc
    user_id: str
    account: str | None
    action: str
    target: str
    detail: str
    via: str


class SettingValues(BaseModel):
    """The user's settings, defaults included."""

    taxonomy: dict[str, Any]
    priority_people: list[str]
    signature: str
    undo_seconds: float
    approval_hours: float
    sending_hours: dict[str, Any] | None
    zone: str
    languages: list[str]
    tone: str
    never_draft: list[dict[str, str]]
    digest_at: str  # in the user's zone; empty: no digest is sent
    notify: list[str] | None  # names of notification targets; none: all of them
    quiet_hours: dict[str, Any] | None
    urgent_priority: float
    withhold: dict[str, Any]  # what no language model is shown
    model_budget_usd: float | None  # what models may cost in a day (UTC); none: no limit


class SettingChanged(BaseModel):
    """The settings after a change."""

    settings: SettingValues
    days_to_materialize: int


# --- accounts --------------------------------------------------------------------------------


class ConnectionHealth(BaseModel):
    """How an account's connection to its platform is."""

    state: Literal["active", "paused"]
    trouble_kind: TroubleKind
    trouble: str
    trouble_since: MaybeUtc
    repair: str  # the command that mends it
    pulled_at: MaybeUtc
    news_at: MaybeUtc
    next_pull_at: MaybeUtc
    waits_until: MaybeUtc  # the platform's limit
    why_waits: str
    notices: list[str]
    cost_usd: float  # this month


class AccountDetail(OwnAccount):
    """An account, who the owner is there, and how its connection is (none: it was imported)."""

    me: list[str]
    connection: ConnectionHealth | None


class MemberDetail(BaseModel):
    """Somebody who may see an account."""

    model_config = ConfigDict(from_attributes=True)

    user_id: str
    name: str
    role: Role


class PolicyDetail(BaseModel):
    """Under what drafts of a category go out without a person."""

    account: str
    category: str
    threshold: float
    daily_cap: int
    is_open: bool
    opened_by: str
    opened_at: Utc
    revoked_at: Utc | None
    revoked_why: str
    used_today: int


class Switch(BaseModel):
    """A kill switch that is thrown: of an account, or (null) of the installation."""

    account: str | None
    closed_by: str
    closed_at: Utc
    why: str


class Queue(BaseModel):
    """What waits in an account."""

    account: str
    pushes_waiting: int
    oldest_push: MaybeUtc
    pushes_dead: int
    deliveries: dict[State, int]  # those that are not over


class Letter(BaseModel):
    """Something that could not be read."""

    dead_letter_id: str
    account: str
    stage: str
    source: str
    reason: str
    day: str | None
    attempts: int
    first_seen_at: Utc
    last_seen_at: Utc


class LetterDetail(Letter):
    """The same with what arrived."""

    state: Literal["trying", "open", "resolved"]
    payload: str | None


class Retried(BaseModel):
    """What became of a dead letter that was to be tried again."""

    outcome: Literal["day marked", "push waits", "closed"]
    message: str  # what happens next, or what to do


# --- conversations ---------------------------------------------------------------------------


class Conversation(BaseModel):
    """A conversation as lists show it: analysis with its reasons, and draft."""

    account: str
    conversation_id: str
    platform: str
    channel_id: str
    channel: str | None
    channel_kind: str | None
    day: str
    as_of: MaybeUtc
    started_at: MaybeUtc
    last_message_at: Utc
    last_author: str
    from_me: bool
    message_count: int
    people: list[str]
    language: str
    category: str
    category_reason: str
    priority: int
    priority_reasons: list[str]
    needs_reply: bool
    needs_reply_score: float
    needs_reply_reason: str
    waiting_since: MaybeUtc
    summary: str
    summary_message_ids: list[str]
    sentiment: float
    confidence: float
    flags: list[str]
    model: str
    prompt: str  # its name and version; empty if no model was asked
    stood_in: str  # why the offline analyser did it in a model's place; empty if it did not
    withheld: list[str]  # "3 × card number": what the model was not shown
    assigned_to: str | None
    hidden: Literal["done", "snoozed"] | None
    snoozed_until: Utc | None
    draft: str | None
    draft_outcome: Outcome | None
    draft_version: int | None
    draft_reason: str | None
    draft_gaps: list[str] | None
    draft_rests_on: list[str] | None
    draft_model: str | None
    draft_prompt: str | None
    draft_stood_in: str | None
    draft_withheld: list[str] | None


class File(BaseModel):
    """An attachment. Its address on the platform is left out: some hold an access token."""

    name: str | None = None
    mime: str | None = None
    bytes: int | None = None
    sha256: str | None = None


class Reaction(BaseModel):
    name: str | None = None
    count: int | None = None


class Message(BaseModel):
    """A message of a conversation, and why it belongs there."""

    message_id: str
    sent_at: Utc
    author_id: str
    author: str
    kind: str
    text: str
    edited_at: MaybeUtc
    deleted: bool
    version: int
    attachments: list[File]
    reactions: list[Reaction]
    parent_message_id: str | None
    link_reason: str
    link_score: float
    link_why: str


class MessageVersion(BaseModel):
    """What a message was from one moment on."""

    model_config = ConfigDict(from_attributes=True)

    version: int  # 1, 2, …
    latest: bool
    since: Utc | None  # version 1: when it was sent; null: the platform does not say
    deleted: bool
    text: str  # empty from its deletion on
    attachments: list[File]


class Found(BaseModel):
    """A message that a search found."""

    account: str
    message_id: str
    conversation_id: str
    sent_at: Utc
    author: str
    channel: str | None
    text: str


class Proposal(BaseModel):
    """What there is to approve; `source_version` goes back with the approval as `seen`."""

    text: str
    source_version: str
    channel_id: str
    thread_id: str | None
    reply_to: str | None
    draft_outcome: Outcome | None
    draft_flags: list[str]
    draft_gaps: list[str]
    draft_reason: str
    draft_model: str
    redraft: int | None  # the number of the version, if somebody asked for it
    edited_by: str | None
    rejected_by: str | None


class Choice(BaseModel):
    """What a person can say about a delivery of which nobody knows whether it arrived."""

    choice: recovery.Choice
    risk: str


class Reply(BaseModel):
    """A reply, or one part of it, on its way out or at its end."""

    delivery_id: str
    approval_id: str
    account: str
    conversation_id: str
    platform: str
    state: State
    text: str
    part: int
    parts: int
    attempts: int
    message_id: str | None
    waits_for: str
    reason: str
    approved_by: str
    approved_at: Utc
    send_at: Utc
    expires_at: Utc
    sent_at: Utc | None
    confirmed_at: Utc | None
    changed_at: Utc
    options: list[Choice]  # empty unless it asks for a person


class Notice(BaseModel):
    """Something that came too late to void a reply."""

    approval_id: str
    cause: str
    account: str
    conversation_id: str
    text: str
    raised_at: Utc


class ConversationDetail(BaseModel):
    """All that one needs to decide about a conversation, but for its messages."""

    conversation: Conversation
    proposal: Proposal | None  # none if nothing in it can be answered
    deliveries: list[Reply]  # those that are not over
    notices: list[Notice]


class Approved(BaseModel):
    """An approval that stands."""

    approval_id: str
    is_new: bool
    approved_by: str
    approved_at: Utc
    send_at: Utc
    parts: list[str]
    warnings: list[str]  # why it will not leave as things are, and what to do


# --- why -------------------------------------------------------------------------------------


class ApprovalDetail(BaseModel):
    approval_id: str
    approved_by: str
    approved_at: Utc
    automatic: bool
    edited: bool
    category: str | None
    content_hash: str
    source_version: str
    draft_day: str | None
    draft_version: int | None
    send_at: Utc
    expires_at: Utc


class DraftDetail(BaseModel):
    day: str
    version: int
    text: str
    model: str
    reason: str
    rests_on: list[str]
    confidence: float | None = None


class SeenMessage(BaseModel):
    message_id: str
    version: int
    author: str
    text: str
    changed_since: bool


class Attempt(BaseModel):
    attempt: int
    fence: int
    holder: str
    started_at: Utc
    ended_at: MaybeUtc
    outcome: str | None
    error: str
    message_id: str | None


class LogEntry(BaseModel):
    fence: int
    at: Utc
    actor: str
    before: str
    after: str
    reason: str


class Why(BaseModel):
    """Why a reply went out as it did, back to the messages that it rests on."""

    delivery_id: str
    account: str
    conversation_id: str
    state: State
    reason: str
    text: str
    part: int
    parts: int
    message_id: str | None
    sent_at: Utc | None
    confirmed_at: Utc | None
    approval: ApprovalDetail
    draft: DraftDetail | None  # none: a text of the approver's own
    run_id: str | None  # the Dagster run that made the draft, if it was asked for
    messages: list[SeenMessage]
    attempts: list[Attempt]
    log: list[LogEntry]


# --- made of ---------------------------------------------------------------------------------


def conversation(row: Row, now: datetime) -> Conversation:
    """A row of `Inbox`."""
    hidden = row["hidden_why"] if row["hidden_until"] > utc_text(now) else None
    return Conversation.model_validate(
        {
            **row,
            "assigned_to": row["assigned_to"] or None,
            "hidden": hidden or None,
            "snoozed_until": row["hidden_until"] if hidden == "snoozed" else None,
        }
    )


def proposal(found: approving.Proposal) -> Proposal:
    return Proposal(
        text=found.text,
        source_version=found.source_version,
        channel_id=found.target.channel_id,
        thread_id=found.target.thread_id,
        reply_to=found.target.reply_to,
        draft_outcome=found.draft_outcome,  # type: ignore[arg-type]  # the table checks it
        draft_flags=list(found.draft_flags),
        draft_gaps=list(found.draft_gaps),
        draft_reason=found.draft_reason,
        draft_model=found.draft_model,
        redraft=found.redraft,
        edited_by=found.edited_by,
        rejected_by=found.rejected_by,
    )


def approved(found: approving.Approved) -> Approved:
    return Approved(
        approval_id=found.approval_id,
        is_new=found.is_new,
        approved_by=found.approved_by,
        approved_at=found.approved_at,
        send_at=found.send_at,
        parts=list(found.parts),
        warnings=list(found.warnings),
    )


def reply(row: Outgoing, waits: Mapping[str, str]) -> Reply:
    """A delivery. `waits`: what each that is approved waits for."""
    one = row.delivery
    asks = one.state == "needs_human"
    return Reply(
        delivery_id=one.delivery_id,
        approval_id=one.approval_id,
        account=one.account,
        conversation_id=row.conversation_id,
        platform=row.platform,
        state=one.state,
        text=one.text,
        part=one.number,
        parts=one.of,
        attempts=one.attempts,
        message_id=one.message_id,
        waits_for=waits.get(one.delivery_id, ""),
        reason=one.reason,
        approved_by=row.approved_by,
        approved_at=row.approved_at,
        send_at=row.send_at,
        expires_at=row.expires_at,
        sent_at=one.sent_at,
        confirmed_at=one.confirmed_at,
        changed_at=one.changed_at,
        options=[
            Choice.model_validate(option._asdict()) for option in recovery.options(row.platform)
        ]
        if asks
        else [],
    )


def policy(found: Policy) -> PolicyDetail:
    return PolicyDetail(**asdict(found), is_open=found.is_open)


def health(found: Health) -> ConnectionHealth:
    return ConnectionHealth.model_validate(asdict(found))
