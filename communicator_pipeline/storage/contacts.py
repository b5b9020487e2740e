"""Contacts: who is the same person in several accounts, as a user says for themselves.

Belongs here: the tables contacts and contact_people, and who might be the same. Does not belong
here: people as platforms name them (`accounts.py`), a contact's conversations (`inbox.py`).

Nobody is linked but by the user, and only people of accounts that the user may see; what they may
see no more is not shown, and is there again if they may.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.database import Database, Row, Statement, Value, utc_text

LONGEST_NAME = 200  # characters

MOST_COMPARED = 20_000
"""People among whom others are suggested: those who were seen last."""

SHORTEST_HANDLE = 4
"""Characters: shorter ones are shared by strangers."""


class Taken(ValueError):
    """The person is in another contact already; the message says in which."""


@dataclass(frozen=True, slots=True)
class ContactPerson:
    """A person of an account, as the platform names them."""

    account: str
    person_id: str
    platform: str
    name: str
    handle: str = ""


@dataclass(frozen=True, slots=True)
class Contact:
    contact_id: str
    name: str
    people: tuple[ContactPerson, ...]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """People of different accounts who might be the same, and why."""

    why: str
    people: tuple[ContactPerson, ...]


def suggested(people: Iterable[ContactPerson], linked: Sequence[Contact] = ()) -> list[Suggestion]:
    """Those of different accounts with the same e-mail address, handle or full name (two words or
    more), the surest reason first, each group once. Who is in one contact together already is
    not suggested."""
    contact_of = {
        (one.account, one.person_id): contact.contact_id
        for contact in linked
        for one in contact.people
    }
    groups: dict[tuple[int, str], list[ContactPerson]] = defaultdict(list)
    for one in people:
        for reason in _reasons(one):
            groups[reason].append(one)
    found, seen = [], set()
    for (rank, what), members in sorted(groups.items(), key=lambda group: group[0]):
        together = tuple(sorted(members, key=lambda one: (one.account, one.person_id)))
        keys = frozenset((one.account, one.person_id) for one in together)
        contacts = {contact_of.get(key) for key in keys}
        linked_already = len(contacts) == 1 and None not in contacts
        if len({one.account for one in together}) < 2 or linked_already or keys in seen:
            continue
        seen.add(keys)
        found.append(Suggestion(f"{_WORDS[rank]}: {what}", together))
    return found


_WORDS = ("the same e-mail address", "the same handle", "the same full name")


def _reasons(one: ContactPerson) -> Iterable[tuple[int, str]]:
    handle = one.handle.strip().removeprefix("@").casefold()
    if "@" in handle:
        yield 0, handle
    elif len(handle) >= SHORTEST_HANDLE:
        yield 1, handle
    name = " ".join(one.name.split()).casefold()
    if " " in name:
        yield 2, name


class Contacts:
    """The contacts of one user."""

    def __init__(self, database: Database, user_id: str) -> None:
        self.database = database
        self.user_id = user_id

    def page(self, limit: int = 100, after: tuple[str, str] | None = None) -> list[Contact]:
        """By name. `after`: name and id of the last one of the page before."""
        name, contact_id = after or (None, None)
        rows = self.database.execute(
            f"{_CONTACTS} AND (?2 IS NULL OR (c.name, c.contact_id) > (?2, ?3)) "
            "ORDER BY c.name, c.contact_id LIMIT ?4",
            (self.user_id, name, contact_id, limit),
        )
        return [_contact(row) for row in rows]

    def get(self, contact_id: str) -> Contact:
        """One of them; raises `NotFound`."""
        rows = self.database.execute(
            f"{_CONTACTS} AND c.contact_id = ?2", (self.user_id, contact_id)
        )
        if not rows:
            raise NotFound(
                f"there is no contact {contact_id!r}: `communicator contacts list` shows them"
            )
        return _contact(rows[0])

    def of_conversation(self, account: str, conversation_id: str) -> list[Contact]:
        """The contacts who wrote in a conversation."""
        rows = self.database.execute(
            f"{_CONTACTS} AND c.contact_id IN (SELECT k.contact_id FROM messages AS g "
            "JOIN contact_people AS k ON k.user_id = ?1 AND k.account = g.account "
            "AND k.person_id = g.author_id JOIN account_members AS m ON m.account = g.account "
            "AND m.user_id = ?1 WHERE g.account = ?2 AND g.conversation_id = ?3) "
            "ORDER BY c.name, c.contact_id",
            (self.user_id, account, conversation_id),
        )
        return [_contact(row) for row in rows]

    def create(self, name: str, account: str, person_id: str, now: datetime) -> Contact:
        """A contact of one person, to whom others are added. Raises as `add` does, and
        `ValueError` for a name that is none."""
        contact_id, name = secrets.token_hex(8), _name(name)
        self._must_know(account, person_id)
        self._write(
            [
                (
                    "INSERT INTO contacts (user_id, contact_id, name, created_at) "
                    "SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS (SELECT 1 FROM contact_people "
                    "WHERE user_id = ?1 AND account = ?5 AND person_id = ?6)",
                    (self.user_id, contact_id, name, utc_text(now), account, person_id),
                ),
                self._adding(contact_id, account, person_id),
            ],
            contact_id,
            account,
            person_id,
        )
        return self.get(contact_id)

    def add(self, contact_id: str, account: str, person_id: str) -> Contact:
        """Say that a person is this contact, too; said twice, it is said once. Raises `NotFound`,
        and `Taken` for who is in another contact."""
        self.get(contact_id)
        self._must_know(account, person_id)
        self._write([self._adding(contact_id, account, person_id)], contact_id, account, person_id)
        return self.get(contact_id)

    def link(self, people: Sequence[tuple[str, str]], now: datetime) -> Contact:
        """Make one contact of people (account, person id), who are two or more: the contacts that
        they are in become one with them. Raises `NotFound`, and `ValueError` for fewer."""
        if len(set(people)) < 2:
            raise ValueError("choose two people or more")
        for account, person_id in people:
            self._must_know(account, person_id)
        kept: Contact | None = None
        for account, person_id in people:
            there = self._contact_of(account, person_id)
            if kept is None:
                kept = there or self.create(
                    self._name_of(account, person_id), account, person_id, now
                )
            elif there is None:
                kept = self.add(kept.contact_id, account, person_id)
            elif there.contact_id != kept.contact_id:
                kept = self.merge(kept.contact_id, there.contact_id)
        assert kept is not None
        return self.get(kept.contact_id)

    def _contact_of(self, account: str, person_id: str) -> Contact | None:
        rows = self.database.execute(
            f"{_CONTACTS} AND c.contact_id = (SELECT contact_id FROM contact_people "
            "WHERE user_id = ?1 AND account = ?2 AND person_id = ?3)",
            (self.user_id, account, person_id),
        )
        return _contact(rows[0]) if rows else None

    def _name_of(self, account: str, person_id: str) -> str:
        rows = self.database.execute(
            "SELECT name FROM people WHERE account = ? AND person_id = ?", (account, person_id)
        )
        return (str(rows[0]["name"]).strip() if rows else "")[:LONGEST_NAME] or person_id[
            :LONGEST_NAME
        ]

    def remove(self, contact_id: str, account: str, person_id: str) -> Contact:
        """Say that a person is somebody else; raises `NotFound`."""
        self.get(contact_id)
        rows = self.database.execute(
            "DELETE FROM contact_people WHERE user_id = ?1 AND contact_id = ?2 AND account = ?3 "
            "AND person_id = ?4 AND account IN (SELECT account FROM account_members "
            "WHERE user_id = ?1) RETURNING person_id",
            (self.user_id, contact_id, account, person_id),
        )
        if not rows:
            raise NotFound(f"{person_id!r} of {account!r} is not in this contact")
        return self.get(contact_id)

    def rename(self, contact_id: str, name: str) -> Contact:
        """Raises `NotFound`, and `ValueError` for a name that is none."""
        self.get(contact_id)
        self.database.execute(
            "UPDATE contacts SET name = ? WHERE user_id = ? AND contact_id = ?",
            (_name(name), self.user_id, contact_id),
        )
        return self.get(contact_id)

    def merge(self, contact_id: str, other_contact_id: str) -> Contact:
        """Make two contacts one, which keeps the first one's name. Raises `NotFound`."""
        self.get(contact_id)
        self.get(other_contact_id)
        if contact_id == other_contact_id:
            raise ValueError("give another contact than this one")
        self.database.batch(
            [
                (
                    "UPDATE contact_people SET contact_id = ?2 WHERE user_id = ?1 "
                    "AND contact_id = ?3 AND EXISTS (SELECT 1 FROM contacts WHERE user_id = ?1 "
                    "AND contact_id = ?2)",
                    (self.user_id, contact_id, other_contact_id),
                ),
                (
                    "DELETE FROM contacts WHERE user_id = ?1 AND contact_id = ?2 AND NOT EXISTS "
                    "(SELECT 1 FROM contact_people WHERE user_id = ?1 AND contact_id = ?2)",
                    (self.user_id, other_contact_id),
                ),
            ]
        )
        return self.get(contact_id)

    def delete(self, contact_id: str) -> None:
        """Forget a contact; its people stay what they are. Raises `NotFound`."""
        self.get(contact_id)
        self.database.execute(
            "DELETE FROM contacts WHERE user_id = ? AND contact_id = ?",
            (self.user_id, contact_id),
        )

    def suggestions(self, limit: int = 50) -> list[Suggestion]:
        """Who might be the same, among the `MOST_COMPARED` who were seen last; neither bots nor
        the owners of the accounts themselves."""
        people, contacts = self.database.batch(
            [
                (
                    "SELECT p.account, p.person_id, a.platform, p.name, p.handle FROM people AS p "
                    "JOIN account_members AS m ON m.account = p.account AND m.user_id = ?1 "
                    "JOIN accounts AS a ON a.account = p.account WHERE NOT p.is_bot "
                    "AND p.person_id NOT IN (SELECT value FROM json_each(a.me)) "
                    "ORDER BY p.seen_at DESC, p.account, p.person_id LIMIT ?2",
                    (self.user_id, MOST_COMPARED),
                ),
                (f"{_CONTACTS} ORDER BY c.contact_id", (self.user_id,)),
            ]
        )
        found = suggested((ContactPerson(**row) for row in people), [_contact(r) for r in contacts])
        return found[:limit]

    def _must_know(self, account: str, person_id: str) -> None:
        rows = self.database.execute(
            "SELECT 1 FROM people AS p JOIN account_members AS m ON m.account = p.account "
            "AND m.user_id = ?1 WHERE p.account = ?2 AND p.person_id = ?3",
            (self.user_id, account, person_id),
        )
        if not rows:
            raise NotFound(f"there is no person {person_id!r} in an account {account!r} of yours")

    def _adding(self, contact_id: str, account: str, person_id: str) -> Statement:
        return (
            "INSERT OR IGNORE INTO contact_people (user_id, account, person_id, contact_id) "
            "SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM contacts WHERE user_id = ?1 "
            "AND contact_id = ?4)",
            (self.user_id, account, person_id, contact_id),
        )

    def _write(
        self, statements: Sequence[Statement], contact_id: str, account: str, person_id: str
    ) -> None:
        where: tuple[Value, ...] = (self.user_id, account, person_id)
        whose: Statement = (
            "SELECT c.contact_id, c.name FROM contact_people AS k JOIN contacts AS c "
            "USING (user_id, contact_id) WHERE k.user_id = ? AND k.account = ? "
            "AND k.person_id = ?",
            where,
        )
        rows = self.database.batch([*statements, whose])[-1]
        if rows and rows[0]["contact_id"] != contact_id:
            raise Taken(
                f"{person_id!r} of {account} is in the contact {rows[0]['name']!r} "
                f"({rows[0]['contact_id']}): remove them there, or merge the two"
            )


_CONTACTS = (
    "SELECT c.contact_id, c.name, (SELECT json_group_array(json_object('account', k.account, "
    "'person_id', k.person_id, 'platform', a.platform, 'name', coalesce(p.name, k.person_id), "
    "'handle', coalesce(p.handle, ''))) FROM contact_people AS k "
    "JOIN account_members AS m ON m.account = k.account AND m.user_id = k.user_id "
    "JOIN accounts AS a ON a.account = k.account LEFT JOIN people AS p ON p.account = k.account "
    "AND p.person_id = k.person_id WHERE k.user_id = c.user_id AND k.contact_id = c.contact_id) "
    "AS people FROM contacts AS c WHERE c.user_id = ?1"
)


def _contact(row: Row) -> Contact:
    people = sorted(orjson.loads(row["people"]), key=lambda p: (p["account"], p["person_id"]))
    return Contact(row["contact_id"], row["name"], tuple(ContactPerson(**one) for one in people))


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not name or len(name) > LONGEST_NAME:
        raise ValueError(f"give the contact a name of 1 to {LONGEST_NAME} characters")
    return name
