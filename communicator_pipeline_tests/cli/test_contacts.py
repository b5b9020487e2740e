"""`communicator contacts`, with the command alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from communicator_pipeline.storage import Stores, home, open_local
from communicator_pipeline.storage.accounts import Accounts, Person, know_people
from communicator_pipeline.storage.audit import audit_log
from communicator_pipeline_tests.cli.test_people import ANA, BO
from communicator_pipeline_tests.delivery.world import ACCOUNT, add_box, say

NOW = datetime(2026, 11, 3, 9, tzinfo=UTC)
MAIL = "ana-mail"


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Stores:
    """kim writes to ana's box, which bo reviews, and to ana's mailbox, which bo does not know."""
    stores = open_local(home())
    add_box(stores)
    say(stores, "Can you come at five?", draft="Yes, I can.")
    Accounts(stores.database, "ana").add(MAIL, "generic", "Mail")
    know_people(stores.database, ACCOUNT, [Person("kim", "Kim Lee", NOW)])
    know_people(stores.database, MAIL, [Person("kim@x.org", "Kim Lee", NOW)])
    return stores


def test_a_contact_is_suggested_made_linked_shown_and_taken_apart(box: Stores) -> None:
    assert "contacts suggest" in ANA("contacts", "list").stdout
    (suggestion,) = ANA.json("contacts", "suggest")
    assert suggestion["why"] == "the same full name: kim lee"
    assert "kim@x.org" in ANA("contacts", "suggest").stdout
    made = ANA.json("contacts", "add", "Kim", ACCOUNT, "kim")["contact_id"]
    linked = ANA.json("contacts", "link", made, MAIL, "kim@x.org")
    assert [one["account"] for one in linked["people"]] == [ACCOUNT, MAIL]
    assert ANA("contacts", "suggest").stdout.startswith("Nobody looks like")
    shown = ANA.json("contacts", "show", made)
    assert [row["conversation_id"] for row in shown["conversations"]] == ["c1"]
    assert "c1" in ANA("contacts", "show", made).stdout
    left = ANA.json("contacts", "unlink", made, ACCOUNT, "kim")
    assert [one["account"] for one in left["people"]] == [MAIL]
    assert ANA.json("contacts", "show", made)["conversations"] == []
    noted = [(r["action"], r["target"], r["via"]) for r in audit_log(box.database, "ana", None, 3)]
    assert noted == [
        ("removed from a contact", made, "command"),
        ("added to a contact", made, "command"),
        ("made a contact", made, "command"),
    ]


def test_contacts_are_merged_renamed_and_deleted(box: Stores) -> None:
    one = ANA.json("contacts", "add", "Kim", ACCOUNT, "kim")["contact_id"]
    other = ANA.json("contacts", "add", "K.", MAIL, "kim@x.org")["contact_id"]
    assert len(ANA.json("contacts", "merge", one, other)["people"]) == 2
    assert ANA.json("contacts", "rename", one, "Kim Lee")["name"] == "Kim Lee"
    assert [row["name"] for row in ANA.json("contacts", "list")] == ["Kim Lee"]
    assert "is deleted" in ANA("contacts", "delete", one).stdout
    assert ANA.json("contacts", "list") == []


def test_what_is_anothers_or_cannot_be_is_refused_in_words(box: Stores) -> None:
    made = ANA.json("contacts", "add", "Kim", ACCOUNT, "kim")["contact_id"]
    assert BO.json("contacts", "list") == []
    for words in (
        ("show", made),
        ("rename", made, "x"),
        ("delete", made),
        ("link", made, ACCOUNT, "kim"),
        ("unlink", made, ACCOUNT, "kim"),
        ("merge", made, made),
    ):
        assert "there is no contact" in BO.refused("contacts", *words)
    assert "there is no person" in BO.refused("contacts", "add", "Kim", MAIL, "kim@x.org")
    assert "is in the contact 'Kim'" in ANA.refused("contacts", "add", "K.", ACCOUNT, "kim")
    assert "a name of 1 to" in ANA.refused("contacts", "rename", made, " ")
    assert ANA.json("contacts", "show", made)["name"] == "Kim"
