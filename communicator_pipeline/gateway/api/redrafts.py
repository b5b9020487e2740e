"""Drafts made anew, over the API.

Belongs here: asking for one, and the versions that there are. Does not belong here: how a draft
is made (`chain/redrafting.py`), approving it (`conversations.py`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import BackgroundTasks
from pydantic import BaseModel, Field

from communicator_pipeline.chain.redrafting import LONGEST_INSTRUCTION, Redrafted, redraft
from communicator_pipeline.delivery import approving
from communicator_pipeline.gateway.api import answers
from communicator_pipeline.gateway.api.answers import Proposal, Utc
from communicator_pipeline.gateway.api.asking import AccountPath, Asked, ConversationId, Plain, note
from communicator_pipeline.gateway.api.routing import api_routes
from communicator_pipeline.gateway.envelope import Answer
from communicator_pipeline.gateway.identity import Opened, Reader, Writer
from communicator_pipeline.storage.draft_versions import versions

routes = api_routes()


class RedraftAsked(Asked):
    """What the new draft is to be like; empty: just another one."""

    instruction: Annotated[str, Field(max_length=LONGEST_INSTRUCTION), Plain] = ""


class Version(BaseModel):
    """One version of a conversation's draft."""

    number: int
    made_by: Literal["pipeline", "redraft", "user"]
    user_id: str | None
    made_at: Utc
    instruction: str
    text: str
    outcome: str
    language: str
    gaps: list[str]
    rests_on: list[str]
    reason: str
    flags: list[str]
    confidence: float
    model: str
    prompt: str
    stood_in: str


@routes.post("/conversations/{account}/redraft", tags=["replies"])
def redraft_reply(
    opened: Opened,
    identity: Writer,
    background: BackgroundTasks,
    account: AccountPath,
    conversation_id: ConversationId,
    asked: RedraftAsked | None = None,
) -> Answer[Proposal]:
    """Have the reply drafted anew, with an instruction or without. What was there before stays
    as an earlier version."""
    instruction = asked.instruction if asked else ""
    made = redraft(opened, identity.user_id, account, conversation_id, instruction)
    note(opened, identity, "asked for a new draft", account, conversation_id)
    background.add_task(tell_dagster, account, conversation_id, made)
    found = approving.propose(opened.database, identity.user_id, account, conversation_id)
    return Answer(data=answers.proposal(found))


@routes.get("/conversations/{account}/drafts", tags=["replies"])
def list_draft_versions(
    opened: Opened, identity: Reader, account: AccountPath, conversation_id: ConversationId
) -> Answer[list[Version]]:
    """The versions of a conversation's draft that somebody asked for, and what stood there before
    each, the newest first."""
    approving.propose(opened.database, identity.user_id, account, conversation_id)
    found = versions(opened.database, identity.user_id, account, conversation_id)
    return Answer(data=[Version.model_validate(row) for row in found])


def tell_dagster(account: str, conversation_id: str, made: Redrafted) -> None:
    """Note the redraft with the partition that it belongs to."""
    from communicator_pipeline import runs  # Dagster takes seconds to import

    with runs.open_instance() as instance:
        runs.note_redraft(instance, account, conversation_id, made)
