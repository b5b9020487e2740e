"""The page of contacts: who is the same on several platforms, and who might be.

Belongs here: what the page shows, and its forms. Does not belong here: who is the same
(`storage/contacts.py`), a contact's conversations (the inbox's list, filtered).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response

from communicator_pipeline.gateway.api.asking import note, pair_at
from communicator_pipeline.gateway.api.contacts import cursor_of
from communicator_pipeline.gateway.identity import Identity, Opened, Reader, Writer
from communicator_pipeline.gateway.pages.rendering import page, query
from communicator_pipeline.gateway.pages.together import Together
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.contacts import Contacts

PAGE = 50  # contacts

router = APIRouter(include_in_schema=False)

Key = Annotated[str, Query(max_length=1_000)]


@router.get("/inbox/contacts")
def contacts_page(
    request: Request,
    opened: Opened,
    identity: Reader,
    after: Annotated[str | None, Query(max_length=4_000)] = None,
) -> Response:
    """The user's contacts, and suggestions."""
    return _page(request, opened, identity, after=after)


@router.post("/inbox/contacts/link")
def link(
    request: Request,
    opened: Opened,
    identity: Writer,
    people: Annotated[list[str], Form()] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Make one contact of people: of those who are in none, and of the contacts of the others."""
    mine = Contacts(opened.database, identity.user_id)
    parts = [one.replace("\r\n", "\n").partition("\n") for one in people[:PAGE]]
    try:
        found = mine.link([(account, person) for account, _, person in parts], datetime.now(UTC))
    except ValueError as refused:
        return _page(request, opened, identity, error=str(refused))
    note(opened, identity, "made a contact", None, found.contact_id)
    return _page(request, opened, identity, done=f"{found.name} is one contact now.")


@router.post("/inbox/contacts/remove")
def remove(
    request: Request, opened: Opened, identity: Writer, contact: Key, of: Key, person: Key
) -> Response:
    Contacts(opened.database, identity.user_id).remove(contact, of, person)
    note(opened, identity, "removed from a contact", of, contact, person)
    return _page(request, opened, identity, done="Removed.")


@router.post("/inbox/contacts/rename")
def rename(
    request: Request,
    opened: Opened,
    identity: Writer,
    contact: Key,
    name: Annotated[str, Form(max_length=1_000)] = "",
) -> Response:
    try:
        Contacts(opened.database, identity.user_id).rename(contact, name.replace("\0", ""))
    except ValueError as refused:
        return _page(request, opened, identity, error=str(refused))
    note(opened, identity, "renamed a contact", None, contact)
    return _page(request, opened, identity, done="Renamed.")


@router.post("/inbox/contacts/merge")
def merge(
    request: Request,
    opened: Opened,
    identity: Writer,
    contact: Key,
    other: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    found = Contacts(opened.database, identity.user_id).merge(contact, other)
    note(opened, identity, "merged contacts", None, contact, other)
    return _page(request, opened, identity, done=f"{found.name} is one contact now.")


@router.post("/inbox/contacts/delete")
def delete(request: Request, opened: Opened, identity: Writer, contact: Key) -> Response:
    Contacts(opened.database, identity.user_id).delete(contact)
    note(opened, identity, "deleted a contact", None, contact)
    return _page(request, opened, identity, done="Deleted. Nothing that they wrote is.")


def _page(
    request: Request,
    opened: Stores,
    identity: Identity,
    *,
    after: str | None = None,
    error: str = "",
    done: str = "",
) -> Response:
    user, together = identity.user_id, Together(opened.database)
    place = pair_at(after) if after else None
    listed = together.add(lambda database: Contacts(database, user).page(PAGE + 1, place))
    suggestions = together.add(lambda database: Contacts(database, user).suggestions())
    together.ask()
    rows = listed.value
    more = query(after=cursor_of(rows[PAGE - 1])) if len(rows) > PAGE else None
    return page(
        request,
        "contacts.html",
        identity,
        200 if not error or request.headers.get("hx-request") else 422,
        contacts=rows[:PAGE],
        suggestions=suggestions.value,
        next_page=more and f"/inbox/contacts{more}",
        error=error,
        done=done,
    )
