"""A new draft asked for on the thread's page.

Belongs here: the form's answer, the list of versions. Does not belong here: making a draft
(`chain/redrafting.py`), the rest of the page (`inbox.py`).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Form, Query, Request, Response

from communicator_pipeline.chain.redrafting import redraft
from communicator_pipeline.gateway.api.asking import note
from communicator_pipeline.gateway.api.redrafts import tell_dagster
from communicator_pipeline.gateway.identity import Opened, Reader, Writer
from communicator_pipeline.gateway.pages.inbox import said
from communicator_pipeline.gateway.pages.rendering import page
from communicator_pipeline.storage.draft_versions import versions

router = APIRouter(include_in_schema=False)

Key = Annotated[str, Query(max_length=500)]


@router.post("/inbox/redraft")
def redraft_reply(
    request: Request,
    opened: Opened,
    identity: Writer,
    background: BackgroundTasks,
    of: Key,
    conversation: Key,
    instruction: Annotated[str, Form(max_length=4_000)] = "",
) -> Response:
    """Draft anew, and show it in the editor."""
    made = redraft(opened, identity.user_id, of, conversation, instruction)
    note(opened, identity, "asked for a new draft", of, conversation)
    background.add_task(tell_dagster, of, conversation, made)
    words = "Here is a new draft. The one before is among its versions."
    if made.drafted.made.stood_in:
        words += f" The offline drafter wrote it: {made.drafted.made.stood_in}."
    response = said(request, identity, words, again=True)
    response.background = background
    return response


@router.get("/inbox/drafts")
def draft_versions(
    request: Request, opened: Opened, identity: Reader, of: Key, conversation: Key
) -> Response:
    """The versions of a conversation's draft, for the thread's page."""
    found = versions(opened.database, identity.user_id, of, conversation)
    return page(request, "versions.html", identity, versions=found)
