"""Contacts across platforms.

Belongs here: those routes. Does not belong here: who is the same (`storage/contacts.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from communicator_pipeline.gateway.api import answers
from communicator_pipeline.gateway.api.answers import Conversation
from communicator_pipeline.gateway.api.asking import (
    Asked,
    Cursor,
    Limit,
    Plain,
    note,
    pair_at,
    pair_cursor,
)
from communicator_pipeline.gateway.api.routing import api_routes
from communicator_pipeline.gateway.envelope import Answer, Page
from communicator_pipeline.gateway.identity import Opened, Reader, Writer
from communicator_pipeline.storage.contacts import LONGEST_NAME, Contact, Contacts
from communicator_pipeline.storage.inbox import Inbox

routes = api_routes()

MOST_CONVERSATIONS = 50
"""Of a contact; the list of conversations has all, with `contact_id`."""

ContactId = Annotated[str, Path(max_length=200, description="The contact's id."), Plain]
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, description="Theirs."), Plain]
AccountKey = Annotated[str, Field(max_length=63, description="The account's key."), Plain]
PersonId = Annotated[
    str, Field(min_length=1, max_length=1_000, description="The person's id there."), Plain
]


class ContactPerson(BaseModel):
    """A person of an account, as the platform names them."""

    model_config = ConfigDict(from_attributes=True)

    account: str
    person_id: str
    platform: str
    name: str
    handle: str


class ContactDetail(BaseModel):
    """One person, with who they are in each account."""

    model_config = ConfigDict(from_attributes=True)

    contact_id: str
    name: str
    people: list[ContactPerson]


class ContactWithConversations(ContactDetail):
    """The same with the conversations in which they wrote, the newest 50 in the inbox's order."""

    conversations: list[Conversation]


class Suggestion(BaseModel):
    """People who might be the same, and why: nobody is linked but by the user."""

    model_config = ConfigDict(from_attributes=True)

    why: str
    people: list[ContactPerson]


class PersonAsked(Asked):
    """A person of an account."""

    account: AccountKey
    person_id: PersonId


class ContactAsked(PersonAsked):
    """A new contact, of one person."""

    name: Name


class NameAsked(Asked):
    """Another name."""

    name: Name


class MergeAsked(Asked):
    """The contact that is the same."""

    other_contact_id: Annotated[str, Field(min_length=1, max_length=200), Plain]


class DeletedContact(BaseModel):
    """What was deleted."""

    contact_id: str


@routes.get("/contacts", tags=["contacts"])
def list_contacts(
    opened: Opened, identity: Reader, limit: Limit = 100, cursor: Cursor = None
) -> Answer[Page[ContactDetail]]:
    """The user's contacts, by name."""
    after = None if cursor is None else pair_at(cursor)
    rows = Contacts(opened.database, identity.user_id).page(limit + 1, after)
    items = [ContactDetail.model_validate(row) for row in rows[:limit]]
    more = cursor_of(rows[limit - 1]) if len(rows) > limit else None
    return Answer(data=Page(items=items, next=more))


@routes.post("/contacts", tags=["contacts"])
def create_contact(opened: Opened, identity: Writer, asked: ContactAsked) -> Answer[ContactDetail]:
    """Make a contact of a person; others are added."""
    found = Contacts(opened.database, identity.user_id).create(
        asked.name, asked.account, asked.person_id, datetime.now(UTC)
    )
    note(opened, identity, "made a contact", asked.account, found.contact_id)
    return Answer(data=ContactDetail.model_validate(found))


@routes.get("/contacts/suggestions", tags=["contacts"])
def list_suggestions(
    opened: Opened, identity: Reader, limit: Limit = 50
) -> Answer[list[Suggestion]]:
    """People of different accounts with the same e-mail address, handle or full name."""
    rows = Contacts(opened.database, identity.user_id).suggestions(limit)
    return Answer(data=[Suggestion.model_validate(row) for row in rows])


@routes.post("/contacts/{contact_id}/people", tags=["contacts"])
def add_person(
    opened: Opened, identity: Writer, contact_id: ContactId, asked: PersonAsked
) -> Answer[ContactDetail]:
    """Say that a person is this contact, too."""
    found = Contacts(opened.database, identity.user_id).add(
        contact_id, asked.account, asked.person_id
    )
    note(opened, identity, "added to a contact", asked.account, contact_id, asked.person_id)
    return Answer(data=ContactDetail.model_validate(found))


@routes.delete("/contacts/{contact_id}/people", tags=["contacts"])
def remove_person(
    opened: Opened,
    identity: Writer,
    contact_id: ContactId,
    account: Annotated[str, Query(max_length=63, description="The account's key."), Plain],
    person_id: Annotated[
        str, Query(min_length=1, max_length=1_000, description="The person's id there."), Plain
    ],
) -> Answer[ContactDetail]:
    """Say that a person is somebody else."""
    found = Contacts(opened.database, identity.user_id).remove(contact_id, account, person_id)
    note(opened, identity, "removed from a contact", account, contact_id, person_id)
    return Answer(data=ContactDetail.model_validate(found))


@routes.post("/contacts/{contact_id}/merge", tags=["contacts"])
def merge_contacts(
    opened: Opened, identity: Writer, contact_id: ContactId, asked: MergeAsked
) -> Answer[ContactDetail]:
    """Make two contacts one, which keeps this one's name."""
    found = Contacts(opened.database, identity.user_id).merge(contact_id, asked.other_contact_id)
    note(opened, identity, "merged contacts", None, contact_id, asked.other_contact_id)
    return Answer(data=ContactDetail.model_validate(found))


@routes.get("/contacts/{contact_id}", tags=["contacts"])
def read_contact(
    opened: Opened, identity: Reader, contact_id: ContactId
) -> Answer[ContactWithConversations]:
    """One contact, with their conversations in all accounts."""
    found = Contacts(opened.database, identity.user_id).get(contact_id)
    now = datetime.now(UTC)
    rows = Inbox(opened.database, identity.user_id).conversations(
        view="all", limit=MOST_CONVERSATIONS, contact_id=contact_id, now=now
    )
    return Answer(
        data=ContactWithConversations(
            contact_id=found.contact_id,
            name=found.name,
            people=[ContactPerson.model_validate(one) for one in found.people],
            conversations=[answers.conversation(row, now) for row in rows],
        )
    )


@routes.patch("/contacts/{contact_id}", tags=["contacts"])
def rename_contact(
    opened: Opened, identity: Writer, contact_id: ContactId, asked: NameAsked
) -> Answer[ContactDetail]:
    """Give a contact another name."""
    found = Contacts(opened.database, identity.user_id).rename(contact_id, asked.name)
    note(opened, identity, "renamed a contact", None, contact_id)
    return Answer(data=ContactDetail.model_validate(found))


@routes.delete("/contacts/{contact_id}", tags=["contacts"])
def delete_contact(
    opened: Opened, identity: Writer, contact_id: ContactId
) -> Answer[DeletedContact]:
    """Forget a contact; its people stay what they are."""
    Contacts(opened.database, identity.user_id).delete(contact_id)
    note(opened, identity, "deleted a contact", None, contact_id)
    return Answer(data=DeletedContact(contact_id=contact_id))


def cursor_of(last: Contact) -> str:
    """Where a page ended, for whoever asks for the next one (`pair_at` reads it)."""
    return pair_cursor(last.name, last.contact_id)
