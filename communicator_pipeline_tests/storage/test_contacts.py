"""Who is the same on several platforms is what each user says, for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, NotFound, Person, add_user, know_people
from communicator_pipeline.storage.contacts import (
    LONGEST_NAME,
    Contact,
    ContactPerson,
    Contacts,
    Taken,
    suggested,
)

NOW = datetime(2026, 11, 3, 9, tzinfo=UTC)
CHAT, MAIL = ("ana-chat", "U1"), ("ana-mail", "kim@example.org")


def somebody(account: str, person: str, name: str = "", handle: str = "") -> ContactPerson:
    return ContactPerson(account, person, "generic", name or person, handle)


def pairs(people: Sequence[ContactPerson]) -> list[tuple[str, str]]:
    return [(one.account, one.person_id) for one in people]


# --- suggestions -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (("Kim", "kim@x.org"), ("K.", "KIM@x.org "), "the same e-mail address: kim@x.org"),
        (("Kim", "@kimlee"), ("K.", "KimLee"), "the same handle: kimlee"),
        (("Kim  Lee", "a"), ("kim lee", "b"), "the same full name: kim lee"),
        (("Kim Lee", "kim@x.org"), ("Kim Lee", "kim@x.org"), "the same e-mail address: kim@x.org"),
        (("Kim", ""), ("Kim", ""), None),  # one word is no full name
        (("Kim", "kim"), ("K.", "kim"), None),  # shared by strangers
        (("", ""), ("", ""), None),
    ],
)
def test_who_shares_an_address_a_handle_or_a_full_name_is_suggested_once(
    one: tuple[str, str], other: tuple[str, str], why: str | None
) -> None:
    found = suggested([somebody("b", "2", *other), somebody("a", "1", *one)])
    assert [(s.why, pairs(s.people)) for s in found] == (
        [(why, [("a", "1"), ("b", "2")])] if why else []
    )


def test_namesakes_of_one_account_are_not_suggested() -> None:
    assert suggested([somebody("a", "1", "Kim Lee"), somebody("a", "2", "Kim Lee")]) == []


def test_the_surest_reason_comes_first() -> None:
    found = suggested(
        [
            somebody("a", "1", "Ann Ash"), somebody("b", "1", "Ann Ash"),
            somebody("a", "2", "Z", "zack"), somebody("b", "2", "Y", "zack"),
            somebody("a", "3", "X", "z@x.org"), somebody("b", "3", "W", "z@x.org"),
        ]
    )  # fmt: skip
    assert [s.why.partition(":")[0] for s in found] == [
        "the same e-mail address",
        "the same handle",
        "the same full name",
    ]


def test_who_is_one_contact_already_is_not_suggested_but_half_of_them_are() -> None:
    one, other = somebody("a", "1", "Kim Lee"), somebody("b", "2", "Kim Lee")
    assert suggested([one, other], [Contact("k", "Kim", (one, other))]) == []
    assert len(suggested([one, other], [Contact("k", "Kim", (one,))])) == 1
    two = [Contact("k", "Kim", (one,)), Contact("l", "Lee", (other,))]
    assert len(suggested([one, other], two)) == 1


# --- one user's ------------------------------------------------------------------------------


@pytest.fixture
def mine(stores: Stores) -> Contacts:
    """ana with a chat and a mailbox, in both of which kim writes."""
    Accounts(stores.database, "ana").add("ana-mail", "generic", "Mail")
    know_people(
        stores.database,
        "ana-chat",
        [
            Person("U1", "Kim Lee", NOW),
            Person("U2", "Lou", NOW),
            Person("ana", "Ana Lima", NOW),
            Person("B1", "Ash Bot", NOW, is_bot=True),
        ],
    )
    know_people(
        stores.database,
        "ana-mail",
        [
            Person("kim@example.org", "Kim Lee", NOW),
            Person("lima", "Ana Lima", NOW),
            Person("bot", "Ash Bot", NOW),
        ],
    )
    return Contacts(stores.database, "ana")


def test_neither_bots_nor_the_owner_are_suggested(mine: Contacts) -> None:
    (found,) = mine.suggestions()
    assert pairs(found.people) == [CHAT, MAIL]
    mine.link([CHAT, MAIL], NOW)
    assert mine.suggestions() == []


def test_linking_twice_is_linking_once(mine: Contacts) -> None:
    first = mine.link([CHAT, MAIL], NOW)
    assert mine.link([MAIL, CHAT], NOW) == first
    assert mine.add(first.contact_id, *MAIL) == first
    assert [(c.name, pairs(c.people)) for c in mine.page()] == [("Kim Lee", [CHAT, MAIL])]


def test_linking_people_of_two_contacts_makes_them_one_and_keeps_the_firsts_name(
    mine: Contacts,
) -> None:
    kim = mine.create("Kim of the chat", *CHAT, NOW)
    mine.create("Kim of the mail", *MAIL, NOW)
    found = mine.link([CHAT, MAIL], NOW)
    assert (found.contact_id, found.name) == (kim.contact_id, "Kim of the chat")
    assert [c.contact_id for c in mine.page()] == [kim.contact_id]


def test_one_person_alone_or_a_stranger_is_no_link(mine: Contacts) -> None:
    with pytest.raises(ValueError, match="two people or more"):
        mine.link([CHAT, CHAT], NOW)
    with pytest.raises(NotFound):
        mine.link([CHAT, ("ana-mail", "nobody")], NOW)
    assert mine.page() == []


def test_who_is_in_another_contact_is_taken_and_nothing_is_made(mine: Contacts) -> None:
    mine.create("Kim", *CHAT, NOW)
    with pytest.raises(Taken, match="'Kim'"):
        mine.create("Another", *CHAT, NOW)
    lou = mine.create("Lou", "ana-chat", "U2", NOW)
    with pytest.raises(Taken, match="merge the two"):
        mine.add(lou.contact_id, *CHAT)
    assert [c.name for c in mine.page()] == ["Kim", "Lou"]
    assert pairs(mine.get(lou.contact_id).people) == [("ana-chat", "U2")]


def test_contacts_are_merged_unlinked_renamed_and_forgotten(mine: Contacts) -> None:
    kim = mine.create("Kim", *CHAT, NOW)
    other = mine.create("K.", *MAIL, NOW)
    assert pairs(mine.merge(kim.contact_id, other.contact_id).people) == [CHAT, MAIL]
    with pytest.raises(NotFound):
        mine.merge(kim.contact_id, other.contact_id)
    with pytest.raises(ValueError, match="another contact"):
        mine.merge(kim.contact_id, kim.contact_id)
    assert pairs(mine.remove(kim.contact_id, *MAIL).people) == [CHAT]
    with pytest.raises(NotFound, match="not in this contact"):
        mine.remove(kim.contact_id, *MAIL)
    assert mine.rename(kim.contact_id, "  Kim   Lee ").name == "Kim Lee"
    for name in ("", " \n", "x" * (LONGEST_NAME + 1)):
        with pytest.raises(ValueError, match="a name of 1 to"):
            mine.rename(kim.contact_id, name)
    mine.delete(kim.contact_id)
    assert mine.page() == []
    assert mine.create("Kim again", *CHAT, NOW).name == "Kim again"


def test_pages_leave_nothing_out(mine: Contacts) -> None:
    people = [("ana-chat", "U1"), ("ana-chat", "U2"), ("ana-mail", "lima"), ("ana-mail", "bot")]
    for name, person in zip(("B", "A", "A", "C"), people, strict=True):
        mine.create(name, *person, NOW)
    seen: list[Contact] = []
    while rows := mine.page(1, (seen[-1].name, seen[-1].contact_id) if seen else None):
        seen += rows
    assert [c.name for c in seen] == ["A", "A", "B", "C"]
    assert len({c.contact_id for c in seen}) == 4


def test_two_users_of_one_account_have_contacts_of_their_own(
    stores: Stores, mine: Contacts
) -> None:
    add_user(stores.database, "bo", "Bo")
    stores.database.execute("INSERT INTO account_members VALUES ('ana-chat', 'bo', 'viewer')")
    kim = mine.link([CHAT, MAIL], NOW)
    theirs = Contacts(stores.database, "bo")
    assert theirs.page() == []
    for refused in (
        lambda: theirs.get(kim.contact_id),
        lambda: theirs.rename(kim.contact_id, "x"),
        lambda: theirs.delete(kim.contact_id),
        lambda: theirs.add(kim.contact_id, *CHAT),
        lambda: theirs.remove(kim.contact_id, *CHAT),
        lambda: theirs.create("Kim", *MAIL, NOW),  # not an account of theirs
        lambda: theirs.link([CHAT, MAIL], NOW),
    ):
        with pytest.raises(NotFound):
            refused()
    assert theirs.create("Bo's Kim", *CHAT, NOW).people == (kim.people[0],)
    assert mine.get(kim.contact_id) == kim


def test_what_one_may_see_no_more_is_not_shown_and_is_back_with_the_account(
    stores: Stores, mine: Contacts
) -> None:
    kim = mine.link([CHAT, MAIL], NOW)
    (gone,) = stores.database.execute(
        "DELETE FROM account_members WHERE account = 'ana-mail' RETURNING role"
    )
    assert pairs(mine.get(kim.contact_id).people) == [CHAT]
    with pytest.raises(NotFound):
        mine.remove(kim.contact_id, *MAIL)
    stores.database.execute(
        "INSERT INTO account_members VALUES ('ana-mail', 'ana', ?)", (gone["role"],)
    )
    assert mine.get(kim.contact_id) == kim
