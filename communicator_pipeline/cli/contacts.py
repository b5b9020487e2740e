"""`communicator contacts`: who is the same person on several platforms.

Belongs here: those commands. Does not belong here: who is the same (`storage/contacts.py`).
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from communicator_pipeline.cli.output import (
    AsJson,
    AsUser,
    acting_user,
    errors_in_words,
    out,
    print_json,
    stores,
)
from communicator_pipeline.storage import audit
from communicator_pipeline.storage.contacts import Contact, ContactPerson, Contacts
from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.inbox import Inbox

app = typer.Typer(help="Who is the same person on several platforms.", no_args_is_help=True)

OfContact = Annotated[
    str, typer.Argument(metavar="CONTACT", help="As `communicator contacts list` says.")
]
OfAccount = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's key.")]
OfPerson = Annotated[str, typer.Argument(metavar="PERSON", help="The person's id there.")]

MOST = 1_000


@app.command("list")
def list_contacts(user: AsUser = None, as_json: AsJson = False) -> None:
    """Your contacts, by name."""
    with errors_in_words():
        opened = stores()
        rows = Contacts(opened.database, acting_user(opened, user)).page(MOST)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    if not rows:
        out.print("No contacts yet: `communicator contacts suggest` says who might be the same.")
    for row in rows:
        _print(row)


@app.command("show")
def show(contact: OfContact, user: AsUser = None, as_json: AsJson = False) -> None:
    """One contact, and the conversations with them, on all platforms."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        found = Contacts(opened.database, whose).get(contact)
        rows = Inbox(opened.database, whose).conversations(view="all", contact_id=contact)
    if as_json:
        print_json({**asdict(found), "conversations": rows})
        return
    _print(found)
    for row in rows:
        out.print(
            f"{row['priority']:>3} {row['account']} {row['conversation_id']}: {row['summary']}",
            markup=False,
            soft_wrap=True,
        )


@app.command("suggest")
def suggest(user: AsUser = None, as_json: AsJson = False) -> None:
    """People of different accounts who might be the same, and why."""
    with errors_in_words():
        opened = stores()
        rows = Contacts(opened.database, acting_user(opened, user)).suggestions()
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    if not rows:
        out.print("Nobody looks like somebody else.")
    for row in rows:
        out.print(row.why, markup=False, soft_wrap=True)
        _print_people(row.people)


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="What you call them.")],
    account: OfAccount,
    person: OfPerson,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Make a contact of a person."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        found = Contacts(opened.database, whose).create(name, account, person, datetime.now(UTC))
        _note(opened.database, whose, "made a contact", found.contact_id, account)
    _told(found, as_json)


@app.command("link")
def link(
    contact: OfContact,
    account: OfAccount,
    person: OfPerson,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Say that a person is this contact, too."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        found = Contacts(opened.database, whose).add(contact, account, person)
        _note(opened.database, whose, "added to a contact", contact, account)
    _told(found, as_json)


@app.command("unlink")
def unlink(
    contact: OfContact,
    account: OfAccount,
    person: OfPerson,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Say that a person is somebody else."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        found = Contacts(opened.database, whose).remove(contact, account, person)
        _note(opened.database, whose, "removed from a contact", contact, account)
    _told(found, as_json)


@app.command("merge")
def merge(
    contact: OfContact,
    other: Annotated[str, typer.Argument(help="The contact that is the same.")],
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Make two contacts one."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        found = Contacts(opened.database, whose).merge(contact, other)
        _note(opened.database, whose, "merged contacts", contact)
    _told(found, as_json)


@app.command("rename")
def rename(
    contact: OfContact,
    name: Annotated[str, typer.Argument(help="What you call them.")],
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Give a contact another name."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        found = Contacts(opened.database, whose).rename(contact, name)
        _note(opened.database, whose, "renamed a contact", contact)
    _told(found, as_json)


@app.command("delete")
def delete(contact: OfContact, user: AsUser = None) -> None:
    """Forget a contact; its people stay what they are."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        Contacts(opened.database, whose).delete(contact)
        _note(opened.database, whose, "deleted a contact", contact)
    out.print(f"{contact} is deleted.", markup=False)


def _told(found: Contact, as_json: bool) -> None:
    if as_json:
        print_json(asdict(found))
        return
    _print(found)


def _print(found: Contact) -> None:
    out.print(f"{found.contact_id}  {found.name}", markup=False, soft_wrap=True)
    _print_people(found.people)


def _print_people(people: tuple[ContactPerson, ...]) -> None:
    for one in people:
        handle = f" {one.handle}" if one.handle else ""
        out.print(
            f"    {one.account} {one.person_id}: {one.name}{handle}", markup=False, soft_wrap=True
        )


def _note(
    database: Database, user_id: str, action: str, contact: str, account: str | None = None
) -> None:
    audit.note(
        database, user_id, action, datetime.now(UTC), account=account, target=contact, via="command"
    )
