"""Conversations: lists, search, one of them, and what one does with it.

Belongs here: those routes. Does not belong here: approving (`delivery/approving.py`), hiding and
assigning (`storage/triage.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from communicator_pipeline.delivery import approving
from communicator_pipeline.delivery.senders import promise_of
from communicator_pipeline.gateway.api import answers
from communicator_pipeline.gateway.api.answers import (
    Approved,
    Conversation,
    ConversationDetail,
    Found,
    Message,
    MessageVersion,
    Notice,
    Proposal,
)
from communicator_pipeline.gateway.api.asking import (
    AccountPath,
    Asked,
    ConversationId,
    Cursor,
    Limit,
    MessageId,
    Moment,
    OnlyAccount,
    OnlyCategory,
    OnlyContact,
    OnlyPlatform,
    Plain,
    Seen,
    Short,
    Text,
    Words,
    cursor_of,
    must_see,
    note,
    pair_at,
    pair_cursor,
    place_at,
)
from communicator_pipeline.gateway.api.deliveries import waits_of
from communicator_pipeline.gateway.api.routing import api_routes
from communicator_pipeline.gateway.envelope import Answer, Page
from communicator_pipeline.gateway.identity import Identity, Opened, Reader, Writer
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.contacts import Contacts
from communicator_pipeline.storage.database import utc_text
from communicator_pipeline.storage.inbox import Inbox, View, place_of
from communicator_pipeline.storage.message_versions import message_versions
from communicator_pipeline.storage.outbox import Outbox
from communicator_pipeline.storage.triage import Triage

routes = api_routes()


@routes.get("/conversations", tags=["conversations"])
def list_conversations(
    opened: Opened,
    identity: Reader,
    view: View = "open",
    account: OnlyAccount = None,
    category: OnlyCategory = None,
    platform: OnlyPlatform = None,
    contact_id: OnlyContact = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Answer[Page[Conversation]]:
    """A view's conversations: those that need a reply first, then by priority, newest first."""
    must_see(opened, identity, account)
    if contact_id is not None:
        Contacts(opened.database, identity.user_id).get(contact_id)
    now = datetime.now(UTC)
    rows = Inbox(opened.database, identity.user_id).conversations(
        account,
        category,
        view,
        limit + 1,
        platform=platform,
        contact_id=contact_id,
        after=None if cursor is None else place_at(cursor),
        now=now,
    )
    items = [answers.conversation(row, now) for row in rows[:limit]]
    more = cursor_of(place_of(rows[limit - 1])) if len(rows) > limit else None
    return Answer(data=Page(items=items, next=more))


@routes.get("/search", tags=["conversations"])
def search_messages(
    opened: Opened, identity: Reader, q: Words, account: OnlyAccount = None, limit: Limit = 20
) -> Answer[list[Found]]:
    """Messages that contain all the words, the best match first, in any language."""
    must_see(opened, identity, account)
    rows = Inbox(opened.database, identity.user_id).search(q, account, limit)
    return Answer(data=[Found.model_validate(row) for row in rows])


@routes.get("/conversations/{account}/detail", tags=["conversations"])
def read_conversation(
    opened: Opened, identity: Reader, account: AccountPath, conversation_id: ConversationId
) -> Answer[ConversationDetail]:
    """One conversation: its analysis with the reasons, what there is to approve, what is on its
    way, and what came too late."""
    row = Inbox(opened.database, identity.user_id).conversation(conversation_id, account)
    outbox = Outbox(opened.database, identity.user_id)
    deliveries = outbox.deliveries(account, answers.NOT_OVER, conversation_id=conversation_id)
    waits = waits_of(opened, deliveries)
    proposal = approving.proposed(opened.database, identity.user_id, account, conversation_id)
    return Answer(
        data=ConversationDetail(
            conversation=answers.conversation(row, datetime.now(UTC)),
            proposal=None if proposal is None else answers.proposal(proposal),
            deliveries=[answers.reply(delivery, waits) for delivery in deliveries],
            notices=[
                Notice.model_validate(notice)
                for notice in outbox.notices(account)
                if notice["conversation_id"] == conversation_id
            ],
        )
    )


@routes.get("/conversations/{account}/messages", tags=["conversations"])
def list_messages(
    opened: Opened,
    identity: Reader,
    account: AccountPath,
    conversation_id: ConversationId,
    limit: Limit = 200,
    cursor: Cursor = None,
) -> Answer[Page[Message]]:
    """A conversation's messages in order of time, each with the reason why it belongs there."""
    after = None if cursor is None else pair_at(cursor)
    inbox = Inbox(opened.database, identity.user_id)
    inbox.conversation(conversation_id, account)
    rows = inbox.messages(account, conversation_id, limit + 1, after)
    items = [Message.model_validate(row) for row in rows[:limit]]
    last = rows[limit - 1] if len(rows) > limit else None
    more = pair_cursor(last["sent_at"], last["message_id"]) if last else None
    return Answer(data=Page(items=items, next=more))


@routes.get("/conversations/{account}/messages/versions", tags=["conversations"])
def list_message_versions(
    opened: Opened, identity: Reader, account: AccountPath, message_id: MessageId
) -> Answer[list[MessageVersion]]:
    """What a message said at first and after each change, the first version first; empty if that
    was not kept. Of a deleted message it is shown to owners and reviewers only."""
    found = message_versions(opened, identity.user_id, account, message_id)
    return Answer(data=[MessageVersion.model_validate(one) for one in found])


# --- replies ---------------------------------------------------------------------------------


class Timed(Asked):
    """When a reply goes out, and what the approver had seen."""

    seen: Seen = None
    at: Annotated[Moment | None, Field(description="Not before this time.")] = None
    any_time: Annotated[bool, Field(description="Also outside the user's sending hours.")] = False


class ApproveAsked(Timed):
    """An approval. Without `text` the draft goes out."""

    text: Text | None = None


class ReapproveAsked(Timed):
    """Once more what a delivery was."""

    delivery_id: Annotated[str, Field(min_length=1, max_length=200), Plain]


class EditAsked(Asked):
    """Another text in the draft's place."""

    text: Text
    seen: Seen = None


class RejectAsked(Asked):
    """What is wrong with a draft."""

    why: Short = ""


@routes.post("/conversations/{account}/approve", tags=["replies"])
def approve(
    opened: Opened,
    identity: Writer,
    account: AccountPath,
    conversation_id: ConversationId,
    asked: ApproveAsked | None = None,
) -> Answer[Approved]:
    """Approve the reply to a conversation. It leaves when the undo window is over."""
    must_see(opened, identity, account)
    asked = asked or ApproveAsked()
    found = approving.approve(
        opened.database,
        identity.user_id,
        account,
        conversation_id,
        promise_of(opened, account),
        text=asked.text,
        seen=asked.seen,
        at=asked.at,
        any_time=asked.any_time,
    )
    note(opened, identity, "approved", account, conversation_id, found.approval_id)
    return Answer(data=answers.approved(found))


@routes.post("/conversations/{account}/reapprove", tags=["replies"])
def reapprove(
    opened: Opened,
    identity: Writer,
    account: AccountPath,
    conversation_id: ConversationId,
    asked: ReapproveAsked,
) -> Answer[Approved]:
    """Approve once more what was voided, expired, taken back or failed."""
    first = Outbox(opened.database, identity.user_id).parts(asked.delivery_id)[0]
    if (first.delivery.account, first.conversation_id) != (account, conversation_id):
        raise NotFound(f"there is no delivery {asked.delivery_id!r} in that conversation")
    found = approving.reapprove(
        opened.database,
        identity.user_id,
        asked.delivery_id,
        promise_of(opened, account),
        seen=asked.seen,
        at=asked.at,
        any_time=asked.any_time,
    )
    note(opened, identity, "approved", account, conversation_id, found.approval_id)
    return Answer(data=answers.approved(found))


@routes.post("/conversations/{account}/edit", tags=["replies"])
def edit(
    opened: Opened,
    identity: Writer,
    account: AccountPath,
    conversation_id: ConversationId,
    asked: EditAsked,
) -> Answer[Proposal]:
    """Put another text in the draft's place; `approve` sends it."""
    found = approving.edit(
        opened.database,
        identity.user_id,
        account,
        conversation_id,
        asked.text,
        seen=asked.seen,
    )
    note(opened, identity, "edited", account, conversation_id)
    return Answer(data=answers.proposal(found))


@routes.post("/conversations/{account}/reject", tags=["replies"])
def reject(
    opened: Opened,
    identity: Writer,
    account: AccountPath,
    conversation_id: ConversationId,
    asked: RejectAsked | None = None,
) -> Answer[Proposal]:
    """Say that the draft is not wanted. A newer draft is a new question."""
    why = asked.why if asked else ""
    approving.reject(opened.database, identity.user_id, account, conversation_id, why)
    note(opened, identity, "rejected", account, conversation_id)
    found = approving.propose(opened.database, identity.user_id, account, conversation_id)
    return Answer(data=answers.proposal(found))


# --- triage ----------------------------------------------------------------------------------

LastSeen = Annotated[
    Moment | None,
    Field(description="`last_message_at` of the conversation that was looked at; now, if null."),
]


class DoneAsked(Asked):
    """Nothing is left to do."""

    seen: LastSeen = None


class SnoozeAsked(Asked):
    """Out of sight until a time."""

    until: Moment
    seen: LastSeen = None


class AssignAsked(Asked):
    """Who looks after it; null: nobody."""

    to: Annotated[str | None, Field(min_length=1, max_length=63), Plain]


@routes.post("/conversations/{account}/done", tags=["triage"])
def done(
    opened: Opened,
    identity: Writer,
    account: AccountPath,
    conversation_id: ConversationId,
    asked: DoneAsked | None = None,
) -> Answer[Conversation]:
    """Nothing is left to do, until somebody writes again."""
    seen = asked.seen if asked else None
    Triage(opened.database, identity.user_id).done(
        account, conversation_id, utc_text(seen) if seen else None, datetime.now(UTC)
    )
    note(opened, identity, "done", account, conversation_id)
    return _as_it_is(opened, identity, account, conversation_id)


@routes.post("/conversations/{account}/snooze", tags=["triage"])
def snooze(
    opened: Opened,
    identity: Writer,
    account: AccountPath,
    conversation_id: ConversationId,
    asked: SnoozeAsked,
) -> Answer[Conversation]:
    """Out of sight until a time, or until somebody writes again."""
    seen = utc_text(asked.seen) if asked.seen else None
    Triage(opened.database, identity.user_id).snooze(
        account, conversation_id, asked.until, seen, datetime.now(UTC)
    )
    note(opened, identity, "snoozed", account, conversation_id, utc_text(asked.until))
    return _as_it_is(opened, identity, account, conversation_id)


@routes.post("/conversations/{account}/reopen", tags=["triage"])
def reopen(
    opened: Opened, identity: Writer, account: AccountPath, conversation_id: ConversationId
) -> Answer[Conversation]:
    """Take `done` or `snooze` back."""
    Triage(opened.database, identity.user_id).reopen(account, conversation_id, datetime.now(UTC))
    note(opened, identity, "reopened", account, conversation_id)
    return _as_it_is(opened, identity, account, conversation_id)


@routes.post("/conversations/{account}/assign", tags=["triage"])
def assign(
    opened: Opened,
    identity: Writer,
    account: AccountPath,
    conversation_id: ConversationId,
    asked: AssignAsked,
) -> Answer[Conversation]:
    """Say who looks after it: a member of the account, or nobody."""
    Triage(opened.database, identity.user_id).assign(
        account, conversation_id, asked.to, datetime.now(UTC)
    )
    note(opened, identity, "assigned", account, conversation_id, asked.to or "")
    return _as_it_is(opened, identity, account, conversation_id)


def _as_it_is(
    opened: Stores, identity: Identity, account: str, conversation_id: str
) -> Answer[Conversation]:
    row = Inbox(opened.database, identity.user_id).conversation(conversation_id, account)
    return Answer(data=answers.conversation(row, datetime.now(UTC)))
