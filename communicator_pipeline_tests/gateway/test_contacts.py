"""Contacts over the API and on their page."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient

from communicator_pipeline.gateway.api.asking import pair_cursor
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, Person, know_people
from communicator_pipeline.storage.audit import audit_log
from communicator_pipeline.storage.contacts import Contacts
from communicator_pipeline_tests.delivery.world import ACCOUNT
from communicator_pipeline_tests.gateway.api_world import Api, api_of
from communicator_pipeline_tests.gateway.conftest import BOS_ACCOUNT, SignIn
from communicator_pipeline_tests.gateway.strangers import PAYLOADS
from communicator_pipeline_tests.gateway.test_rendering import harm_in

NOW = datetime(2026, 11, 3, 9, tzinfo=UTC)
MAIL = "ana-mail"
EVIL = "<script>alert(1)</script> Lee"


@pytest.fixture
def two(box: Stores) -> Stores:
    """kim writes to ana's box and mailbox; to bo's box somebody of the same name."""
    Accounts(box.database, "ana").add(MAIL, "generic", "Mail")
    know_people(box.database, ACCOUNT, [Person("kim", "Kim Lee", NOW)])
    know_people(box.database, MAIL, [Person("kim@x.org", "Kim Lee", NOW)])
    know_people(box.database, BOS_ACCOUNT, [Person("k", "Kim Lee", NOW)])
    return box


@pytest.fixture
def api(two: Stores) -> Api:
    return api_of(two, "ana")


def test_a_suggestion_becomes_a_contact_whose_conversations_are_listed(api: Api) -> None:
    (suggestion,) = api.data("GET", "/contacts/suggestions")
    people = [(one["account"], one["person_id"]) for one in suggestion["people"]]
    assert people == [(ACCOUNT, "kim"), (MAIL, "kim@x.org")]  # and nobody of bo's
    (first, second) = ({"account": a, "person_id": p} for a, p in people)
    made = api.data("POST", "/contacts", json={"name": "Kim", **first})["contact_id"]
    assert len(api.data("POST", f"/contacts/{made}/people", json=second)["people"]) == 2
    assert api.data("GET", "/contacts/suggestions") == []
    found = api.data("GET", f"/contacts/{made}")
    assert [row["conversation_id"] for row in found["conversations"]] == ["c1"]
    listed = api.data("GET", "/conversations", params={"contact_id": made})["items"]
    assert [row["conversation_id"] for row in listed] == ["c1"]
    api.refused(404, "GET", "/conversations", params={"contact_id": "nobody"})


def test_contacts_are_merged_and_who_is_in_one_already_is_a_conflict(api: Api) -> None:
    kim, lee = (
        api.data("POST", "/contacts", json={"name": name, "account": account, "person_id": person})
        for name, account, person in (("Kim", ACCOUNT, "kim"), ("Lee", MAIL, "kim@x.org"))
    )
    path = f"/contacts/{kim['contact_id']}"
    body = {"account": MAIL, "person_id": "kim@x.org"}
    assert "'Lee'" in api.refused(409, "POST", f"{path}/people", json=body)
    merged = api.data("POST", f"{path}/merge", json={"other_contact_id": lee["contact_id"]})
    assert (merged["name"], len(merged["people"])) == ("Kim", 2)
    api.refused(404, "POST", f"{path}/merge", json={"other_contact_id": lee["contact_id"]})
    api.refused(422, "POST", f"{path}/merge", json={"other_contact_id": kim["contact_id"]})
    assert api.data("PATCH", path, json={"name": "Kim Lee"})["name"] == "Kim Lee"
    api.refused(422, "PATCH", path, json={"name": " "})


def test_contacts_come_in_pages_without_gap_or_double(two: Stores, api: Api) -> None:
    for number in range(5):
        person = Person(f"p{number}", "One Name", NOW)
        know_people(two.database, ACCOUNT, [person])
        Contacts(two.database, "ana").create("One Name", ACCOUNT, person.person_id, NOW)
    seen: list[str] = []
    params: dict[str, object] = {"limit": 2}
    while True:
        page = api.data("GET", "/contacts", params=params)
        seen += [row["people"][0]["person_id"] for row in page["items"]]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert sorted(seen) == ["p0", "p1", "p2", "p3", "p4"]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "é",
        "bm9uc2Vuc2U",
        pair_cursor("a", "b") + "!",
        pair_cursor("a", 1),  # type: ignore[arg-type]
        pair_cursor("\0", "b"),
    ],
)
def test_a_cursor_that_is_none_of_ours_is_refused(api: Api, cursor: str) -> None:
    for path in ("/contacts", f"/conversations/{ACCOUNT}/messages"):
        params = {"cursor": cursor, "conversation_id": "c1"}
        assert "first page" in api.refused(422, "GET", path, params=params)


# --- the page --------------------------------------------------------------------------------


def form_of(html: str, path: str) -> str:
    """Where a form of the page is sent."""
    found = re.search(rf'hx-post="({re.escape(path)}[^"]*)"', html)
    assert found, path
    return found.group(1).replace("&amp;", "&")


def test_the_page_links_unlinks_renames_merges_and_deletes(two: Stores, sign_in: SignIn) -> None:
    ana = sign_in("ana")
    html = ana.get("/inbox/contacts").text
    assert "the same full name: kim lee" in html
    chosen = {"people": [f"{ACCOUNT}\r\nkim", f"{MAIL}\r\nkim@x.org"]}  # as browsers send it
    html = ana.post("/inbox/contacts/link", data=chosen).text
    assert "Kim Lee is one contact now." in html
    assert "Might be the same" not in html
    contact = Contacts(two.database, "ana").page()[0]
    assert len(contact.people) == 2
    thread = ana.get("/inbox/conversation", params={"of": ACCOUNT, "conversation": "c1"}).text
    assert "All conversations with" in thread
    assert "also on: " in thread
    listed = ana.get("/inbox/list", params={"view": "all", "contact": contact.contact_id}).text
    assert "c1" in listed
    assert "Kim Lee" in listed
    html = ana.post(form_of(html, "/inbox/contacts/rename"), data={"name": "Kim"}).text
    assert "Renamed." in html
    refused = ana.post(form_of(html, "/inbox/contacts/rename"), data={"name": " "})
    assert refused.status_code == 422
    assert "a name of 1 to" in refused.text
    html = ana.post(form_of(html, "/inbox/contacts/remove")).text
    other = Contacts(two.database, "ana").create("Lee", ACCOUNT, "kim", NOW)
    html = ana.get("/inbox/contacts").text
    html = ana.post(form_of(html, "/inbox/contacts/merge"), data={"other": other.contact_id}).text
    assert "Kim is one contact now." in html
    assert "Deleted." in ana.post(form_of(html, "/inbox/contacts/delete")).text
    assert Contacts(two.database, "ana").page() == []
    noted = [row["action"] for row in audit_log(two.database, "ana", None, 5)]
    assert noted == [
        "deleted a contact",
        "merged contacts",
        "removed from a contact",
        "renamed a contact",
        "made a contact",
    ]


def test_one_person_is_no_link_and_a_strangers_page_changes_nothing(
    two: Stores, sign_in: SignIn
) -> None:
    ana, bo = sign_in("ana"), sign_in("bo")
    alone = ana.post("/inbox/contacts/link", data={"people": [f"{ACCOUNT}\nkim"]})
    assert "choose two people or more" in alone.text
    kim = Contacts(two.database, "ana").create("Kim of ana", ACCOUNT, "kim", NOW)
    assert "Kim of ana" not in bo.get("/inbox/contacts").text
    where = {"contact": kim.contact_id, "of": ACCOUNT, "person": "kim"}
    for action in ("remove", "rename", "merge", "delete"):
        answer = bo.post(f"/inbox/contacts/{action}", params=where, data={"name": "x"})
        assert answer.status_code == 404, action
    people = {"people": [f"{ACCOUNT}\nkim", f"{BOS_ACCOUNT}\nk"]}
    assert bo.post("/inbox/contacts/link", data=people).status_code == 404
    assert bo.get("/inbox/list", params={"contact": kim.contact_id}).status_code == 404
    assert Contacts(two.database, "ana").page() == [kim]
    assert Contacts(two.database, "bo").page() == []


def test_the_page_goes_on_where_it_ended(
    two: Stores, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("communicator_pipeline.gateway.pages.contacts.PAGE", 1)
    mine = Contacts(two.database, "ana")
    mine.create("Aaa", ACCOUNT, "kim", NOW)
    mine.create("Bbb", MAIL, "kim@x.org", NOW)
    ana = sign_in("ana")
    first = ana.get("/inbox/contacts").text
    assert ("Aaa" in first, "Bbb" in first) == (True, False)
    more = re.search(r'href="(/inbox/contacts\?after=[^"]*)"', first)
    assert more
    second = ana.get(more.group(1)).text
    assert ("Aaa" in second, "Bbb" in second) == (False, True)
    assert ana.get("/inbox/contacts?after=x").status_code == 422


def test_a_strangers_name_is_text(two: Stores, sign_in: SignIn) -> None:
    ana: TestClient = sign_in("ana")
    for payload in (EVIL, *PAYLOADS[:40]):
        name = payload.replace("\0", "")
        for account, person in ((ACCOUNT, "kim"), (MAIL, "kim@x.org")):
            two.database.execute(
                "UPDATE people SET name = ?, handle = ? WHERE account = ? AND person_id = ?",
                (f"{name} Lee", f"{name}@x", account, person),
            )
        assert harm_in(ana.get("/inbox/contacts").text) == [], payload
        people = [(ACCOUNT, "kim"), (MAIL, "kim@x.org")]
        made = Contacts(two.database, "ana").link(people, NOW)
        assert harm_in(ana.get("/inbox/contacts").text) == [], payload
        Contacts(two.database, "ana").delete(made.contact_id)
