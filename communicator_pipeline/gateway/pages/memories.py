"""The page of what was learnt: read it, change it, delete it, write something of one's own.

Belongs here: what the page shows, and its forms. Does not belong here: what can be kept
(`storage/memories.py`), how it is learnt (`drafting/learning.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request, Response

from communicator_pipeline.drafting.learnt import CONTACT, EVERYONE
from communicator_pipeline.gateway.identity import Identity, Opened, Reader, Writer
from communicator_pipeline.gateway.pages.rendering import page
from communicator_pipeline.storage import Stores, audit
from communicator_pipeline.storage.accounts import Accounts, directory
from communicator_pipeline.storage.memories import (
    LONGEST_SCOPE,
    LONGEST_WORDS,
    KeptMemory,
    Memories,
    NotAMemory,
)

router = APIRouter(include_in_schema=False)

Key = Annotated[str, Query(max_length=1_000)]
Words = Annotated[str, Form(max_length=4 * LONGEST_WORDS)]

WITHOUT_WORDS = ("no emoji", "shorten")
"""What has no words that one could change."""


@router.get("/inbox/memories")
def memories_page(request: Request, opened: Opened, identity: Reader) -> Response:
    """Everything that counts for the drafts of the user's accounts."""
    return _page(request, opened, identity)


@router.post("/inbox/memories/edit")
def edit_memory(
    request: Request,
    opened: Opened,
    identity: Writer,
    of: Key,
    memory: Key,
    words: Words = "",
) -> Response:
    """Change what a memory says."""
    try:
        Memories(opened.database, identity.user_id).edit(
            of, memory, datetime.now(UTC), words=_plain(words)
        )
    except NotAMemory as refused:
        return _page(request, opened, identity, wrong=memory, error=str(refused))
    _note(opened, identity, "changed a memory", of, memory)
    return _page(request, opened, identity, said="Changed. It stays so, whatever is learnt later.")


@router.post("/inbox/memories/delete")
def delete_memory(
    request: Request, opened: Opened, identity: Writer, of: Key, memory: Key
) -> Response:
    """Forget one."""
    Memories(opened.database, identity.user_id).delete(of, memory, datetime.now(UTC))
    _note(opened, identity, "deleted a memory", of, memory)
    return _page(
        request, opened, identity, said="Deleted. It is not learnt again from the same replies."
    )


@router.post("/inbox/memories/add")
def add_memory(
    request: Request,
    opened: Opened,
    identity: Writer,
    of: Annotated[str, Form(max_length=63)],
    do: Annotated[Literal["say", "ask", "greet", "sign", "leave out", "note"], Form()],
    words: Words = "",
    scope: Annotated[str, Form(max_length=LONGEST_SCOPE)] = EVERYONE,
) -> Response:
    """Write one."""
    try:
        kept = Memories(opened.database, identity.user_id).add(
            of, do, _plain(words), scope.strip() or EVERYONE, "", datetime.now(UTC)
        )
    except NotAMemory as refused:
        return _page(request, opened, identity, wrong="new", error=str(refused))
    _note(opened, identity, "wrote a memory", of, kept.memory.memory_id)
    return _page(request, opened, identity, said="Kept.")


def _plain(words: str) -> str:
    return words.replace("\r\n", "\n").replace("\0", "")


def _note(opened: Stores, identity: Identity, action: str, account: str, target: str) -> None:
    audit.note(
        opened.database,
        identity.user_id,
        action,
        datetime.now(UTC),
        account=account,
        target=target,
        via=identity.via,
    )


def _page(
    request: Request,
    opened: Stores,
    identity: Identity,
    *,
    wrong: str = "",
    error: str = "",
    said: str = "",
) -> Response:
    """The page. `wrong` and `error`: whose form was refused (`new`: the last one), and why."""
    accounts = Accounts(opened.database, identity.user_id).all()
    kept = Memories(opened.database, identity.user_id).list()
    names = {one.account: directory(opened.database, one.account) for one in accounts}
    return page(
        request,
        "memories.html",
        identity,
        # The pages show what has an error's status as a toast; this stands beside its field.
        200 if not error or request.headers.get("hx-request") else 422,
        accounts=[(one.account, one.name) for one in accounts],
        memories=[(one, _whom(one, names.get(one.account, {}))) for one in kept],
        without_words=WITHOUT_WORDS,
        wrong=wrong,
        error=error,
        said=said,
    )


def _whom(kept: KeptMemory, names: dict[str, str]) -> str:
    """For whom a memory holds, in words."""
    scope = kept.memory.scope
    if scope == EVERYONE:
        return scope
    kind, _, which = scope.partition(":")
    return names.get(which, which) if kind + ":" == CONTACT else f"what is {which}"
