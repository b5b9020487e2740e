"""What people correct: merge and split conversations, set their category and priority.

Belongs here: those routes. Does not belong here: what a correction sets in motion
(`storage/corrections.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, Field

from communicator_pipeline.chain.analyses import categories_of
from communicator_pipeline.gateway.api import answers
from communicator_pipeline.gateway.api.answers import Conversation, MaybeUtc, Utc
from communicator_pipeline.gateway.api.asking import (
    AccountPath,
    Asked,
    ConversationId,
    Plain,
    Short,
    note,
)
from communicator_pipeline.gateway.api.routing import api_routes
from communicator_pipeline.gateway.envelope import Answer
from communicator_pipeline.gateway.identity import Opened, Reader, Writer
from communicator_pipeline.storage import corrections
from communicator_pipeline.storage.corrections import KEEP, Corrections
from communicator_pipeline.storage.inbox import Inbox

routes = api_routes()

RegroupingId = Annotated[str, Path(max_length=200, description="The merge's or split's id."), Plain]
Named = Annotated[str, Field(min_length=1, max_length=1_000), Plain]
CategorySet = Annotated[str, Field(min_length=1, max_length=60), Plain]


class MergeAsked(Asked):
    """Which conversation it is one with."""

    other: Annotated[Named, Field(description="Another conversation's id, of the same channel.")]


class SplitAsked(Asked):
    """Where a conversation of its own begins."""

    message_id: Annotated[Named, Field(description="A message of it, other than its first.")]


class RelabelAsked(Asked):
    """What a conversation's category and priority are. A field that is left out stays as it is,
    null gives it back to the analysis."""

    category: Annotated[
        CategorySet | None, Field(description="One of the categories of the account's owner.")
    ] = None
    priority: Annotated[int | None, Field(ge=0, le=100, strict=True)] = None
    why: Short = ""


class Regrouped(BaseModel):
    """A merge or a split, said or taken back. It shows once the days have been made again: seconds
    where a worker runs."""

    regrouping_id: str
    kind: Literal["merge", "split"]
    account: str
    conversation_id: str  # that its messages belong to then
    is_new: bool  # false: it was so already


class Regrouping(BaseModel):
    """What a person said of a message; `undone_at` is null while it is in force."""

    regrouping_id: str
    kind: Literal["merge", "split"]
    message_id: str
    parent_message_id: str | None  # what it continues; null: a conversation begins with it
    conversation_id: str  # that it was in before
    other_conversation_id: str  # that it is in because of that
    made_by: str
    made_at: Utc
    undone_by: str | None
    undone_at: MaybeUtc


class Relabelled(BaseModel):
    """What a person set; null: the analysis decides from then on."""

    category: str | None
    priority: int | None
    before_category: str
    before_priority: int
    why: str
    made_by: str
    made_at: Utc


class ConversationCorrections(BaseModel):
    """What people corrected in a conversation, the newest first."""

    account: str
    conversation_id: str
    regroupings: list[Regrouping]
    relabels: list[Relabelled]


@routes.get("/conversations/{account}/corrections", tags=["corrections"])
def list_corrections(
    opened: Opened, identity: Reader, account: AccountPath, conversation_id: ConversationId
) -> Answer[ConversationCorrections]:
    """What people corrected in a conversation, also what was taken back."""
    regrouped, relabelled = Corrections(opened.database, identity.user_id).of_conversation(
        account, conversation_id
    )
    return Answer(
        data=ConversationCorrections(
            account=account,
            conversation_id=conversation_id,
            regroupings=[Regrouping.model_validate(row) for row in regrouped],
            relabels=[Relabelled.model_validate(row) for row in relabelled],
        )
    )


@routes.post("/conversations/{account}/merge", tags=["corrections"])
def merge(
    opened: Opened,
    identity: Writer,
    account: AccountPath,
    conversation_id: ConversationId,
    asked: MergeAsked,
) -> Answer[Regrouped]:
    """Two conversations of a channel are one: the later one goes on from what was said last in the
    earlier one before it."""
    found = Corrections(opened.database, identity.user_id).merge(
        account, conversation_id, asked.other, datetime.now(UTC)
    )
    note(opened, identity, "merged", account, conversation_id, asked.other)
    return Answer(data=_regrouped(found))


@routes.post("/conversations/{account}/split", tags=["corrections"])
def split(
    opened: Opened,
    identity: Writer,
    account: AccountPath,
    conversation_id: ConversationId,
    asked: SplitAsked,
) -> Answer[Regrouped]:
    """A conversation of its own begins with a message; what hangs on that message follows."""
    found = Corrections(opened.database, identity.user_id).split(
        account, conversation_id, asked.message_id, datetime.now(UTC)
    )
    note(opened, identity, "split", account, conversation_id, asked.message_id)
    return Answer(data=_regrouped(found))


@routes.post("/regroupings/{regrouping_id}/undo", tags=["corrections"])
def undo_regrouping(
    opened: Opened, identity: Writer, regrouping_id: RegroupingId
) -> Answer[Regrouped]:
    """Take a merge or a split back."""
    found = Corrections(opened.database, identity.user_id).undo(regrouping_id, datetime.now(UTC))
    note(
        opened, identity, f"took a {found.kind} back", found.account, found.conversation_id,
        regrouping_id,
    )  # fmt: skip
    return Answer(data=_regrouped(found))


@routes.post("/conversations/{account}/relabel", tags=["corrections"])
def relabel(
    opened: Opened,
    identity: Writer,
    account: AccountPath,
    conversation_id: ConversationId,
    asked: RelabelAsked,
) -> Answer[Conversation]:
    """Set a conversation's category and priority, or give them back to the analysis. It shows at
    once, and holds until it is given back."""
    given = asked.model_fields_set & {"category", "priority"}
    Corrections(opened.database, identity.user_id).relabel(
        account,
        conversation_id,
        categories_of(opened.database, account),
        datetime.now(UTC),
        category=asked.category if "category" in given else KEEP,
        priority=asked.priority if "priority" in given else KEEP,
        why=asked.why,
    )
    set_to = ", ".join(
        f"{name} {getattr(asked, name) if getattr(asked, name) is not None else 'as analysed'}"
        for name in sorted(given)
    )
    note(opened, identity, "relabelled", account, conversation_id, set_to)
    row = Inbox(opened.database, identity.user_id).conversation(conversation_id, account)
    return Answer(data=answers.conversation(row, datetime.now(UTC)))


def _regrouped(found: corrections.Regrouped) -> Regrouped:
    return Regrouped(
        regrouping_id=found.regrouping_id,
        kind=found.kind,
        account=found.account,
        conversation_id=found.conversation_id,
        is_new=found.is_new,
    )
