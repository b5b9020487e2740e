"""Merging, splitting and relabelling, over the API and in the inbox."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.audit import audit_log
from communicator_pipeline.storage.corrections import BY_HAND, labels, placements
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline_tests.delivery.world import ACCOUNT, START, say
from communicator_pipeline_tests.gateway.api_world import Api, api_of
from communicator_pipeline_tests.gateway.conftest import SignIn
from communicator_pipeline_tests.gateway.strangers import PAYLOADS
from communicator_pipeline_tests.gateway.test_rendering import harm_in

HERE = f"/conversations/{ACCOUNT}"
WHERE = f"?of={ACCOUNT}&conversation=c1"


@pytest.fixture
def two(box: Stores) -> Stores:
    """ana's box with another conversation in the channel of the first, a day later."""
    say(
        box, "And at six?", at=START + timedelta(days=1), number="7", conversation="c7",
        draft="Yes.",
    )  # fmt: skip
    return box


@pytest.fixture
def api(two: Stores) -> Api:
    return api_of(two, "ana")


def of(conversation: str = "c1") -> dict[str, Any]:
    return {"conversation_id": conversation}


def noted(stores: Stores) -> tuple[str, str, str]:
    row = audit_log(stores.database, "ana", None, 1)[0]
    return row["action"], row["target"], row["detail"]


def dirty(stores: Stores) -> list[str]:
    return [day.day for day in WorkQueue(stores.database).dirty(ACCOUNT)]


# --- the API ---------------------------------------------------------------------------------


def test_two_conversations_are_merged_noted_and_taken_apart_again(two: Stores, api: Api) -> None:
    done = api.data("POST", f"{HERE}/merge", params=of(), json={"other": "c7"})
    assert (done["kind"], done["is_new"]) == ("merge", True)
    assert done["conversation_id"] == "c1"
    assert list(placements(two.database, ACCOUNT)) == ["c7"]
    assert dirty(two) == ["2026-11-02", "2026-11-03"]
    assert noted(two) == ("merged", "c1", "c7")
    again = api.data("POST", f"{HERE}/merge", params=of("c7"), json={"other": "c1"})
    assert (again["regrouping_id"], again["is_new"]) == (done["regrouping_id"], False)
    listed = api.data("GET", f"{HERE}/corrections", params=of("c7"))
    assert [row["regrouping_id"] for row in listed["regroupings"]] == [done["regrouping_id"]]
    assert listed["regroupings"][0]["undone_at"] is None
    back = api.data("POST", f"/regroupings/{done['regrouping_id']}/undo")
    assert (back["kind"], back["conversation_id"]) == ("merge", "c7")
    assert placements(two.database, ACCOUNT) == {}
    assert noted(two) == ("took a merge back", "c7", done["regrouping_id"])


def test_a_conversation_is_split_at_a_message(two: Stores, api: Api) -> None:
    message = say(two, "By the way", at=START + timedelta(days=1), number="8", conversation="c7")
    done = api.data("POST", f"{HERE}/split", params=of("c7"), json={"message_id": message})
    assert (done["kind"], done["conversation_id"]) == ("split", message)
    assert placements(two.database, ACCOUNT) == {message: None}
    assert noted(two) == ("split", "c7", message)


def test_a_label_is_set_shown_at_once_and_given_back(two: Stores, api: Api) -> None:
    before = api.data("GET", f"{HERE}/detail", params=of())["conversation"]
    now = api.data(
        "POST", f"{HERE}/relabel", params=of(), json={"category": "sales", "why": "an offer"}
    )
    assert (now["category"], now["category_reason"]) == ("sales", BY_HAND)
    assert now["priority"] == before["priority"]
    assert noted(two) == ("relabelled", "c1", "category sales")
    now = api.data("POST", f"{HERE}/relabel", params=of(), json={"priority": 0})
    assert (now["category"], now["priority"]) == ("sales", 0)
    listed = api.data("GET", f"{HERE}/corrections", params=of())["relabels"]
    assert [(row["category"], row["priority"], row["why"]) for row in listed] == [
        ("sales", 0, ""),
        ("sales", None, "an offer"),
    ]
    given_back = {"category": None, "priority": None}
    assert api.data("POST", f"{HERE}/relabel", params=of(), json=given_back) == before
    assert noted(two) == ("relabelled", "c1", "category as analysed, priority as analysed")
    assert labels(two.database, ACCOUNT) == {}


@pytest.mark.parametrize(
    ("what", "body", "words"),
    [
        ("merge", {"other": "c1"}, "one conversation already"),
        ("merge", {"other": ""}, "at least 1 character"),
        ("split", {"message_id": "x\0"}, "NUL"),
        ("relabel", {"category": "nothing"}, "no category 'nothing'"),
        ("relabel", {"category": ""}, "at least 1 character"),
        ("relabel", {"priority": 101}, "less than or equal to 100"),
        ("relabel", {"priority": "9"}, "valid integer"),
        ("relabel", {"priority": True}, "valid integer"),
        ("relabel", {}, "say what it should be"),
        ("relabel", {"categroy": "sales"}, "not permitted"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    two: Stores, api: Api, what: str, body: dict[str, Any], words: str
) -> None:
    assert words in api.refused(422, "POST", f"{HERE}/{what}", params=of(), json=body)
    assert dirty(two) == []


def test_what_is_not_there_is_not_found(api: Api) -> None:
    api.refused(404, "POST", f"{HERE}/merge", params=of(), json={"other": "nothing"})
    api.refused(404, "POST", f"{HERE}/split", params=of(), json={"message_id": "nothing"})
    api.refused(404, "POST", f"{HERE}/relabel", params=of("nothing"), json={"priority": 1})
    api.refused(404, "GET", f"{HERE}/corrections", params=of("nothing"))
    api.refused(404, "POST", "/regroupings/nothing/undo")


def test_the_categories_are_those_of_the_accounts_owner(two: Stores, api: Api) -> None:
    mine = {"categories": [{"name": "boats"}, {"name": "rest"}], "fallback": "rest"}
    api.data("PUT", "/settings/taxonomy", json={"value": mine})
    Accounts(two.database, "ana").set_member(ACCOUNT, "bo", "reviewer")
    bo = api_of(two, "bo", client=api.client)
    assert bo.data("POST", f"{HERE}/relabel", params=of(), json={"category": "boats"})
    bo.refused(422, "POST", f"{HERE}/relabel", params=of(), json={"category": "sales"})


# --- the inbox -------------------------------------------------------------------------------


def undo_in(html: str) -> str:
    found = re.search(r'class="undo" hx-post="([^"]*)"', html)
    assert found
    return unescape(found.group(1))


def test_a_label_is_set_on_the_page_and_undone(two: Stores, sign_in: SignIn) -> None:
    ana = sign_in("ana")
    part = ana.get(f"/inbox/corrections{WHERE}").text
    assert "<option>sales</option>" in part
    first = ana.post(f"/inbox/relabel{WHERE}", data={"category": "sales", "priority": ""})
    assert "inbox-changed" in first.headers["hx-trigger"]
    assert "open-again" in first.headers["hx-trigger"]
    assert "<bdi>sales</bdi>" in ana.get(f"/inbox/conversation{WHERE}").text
    second = ana.post(f"/inbox/relabel{WHERE}", data={"category": "sales", "priority": "7"})
    part = ana.get(f"/inbox/corrections{WHERE}").text
    assert "<option selected>sales</option>" in part
    assert 'value="7"' in part
    ana.post(undo_in(second.text))
    assert labels(two.database, ACCOUNT)["c1"].priority is None
    assert labels(two.database, ACCOUNT)["c1"].category == "sales"
    ana.post(undo_in(first.text))
    assert labels(two.database, ACCOUNT) == {}
    assert "<bdi>question</bdi>" in ana.get(f"/inbox/conversation{WHERE}").text


@pytest.mark.parametrize("data", [{"priority": "-1"}, {"priority": "x"}, {"category": "nothing"}])
def test_a_label_that_makes_no_sense_is_a_toast(
    two: Stores, sign_in: SignIn, data: dict[str, str]
) -> None:
    answer = sign_in("ana").post(
        f"/inbox/relabel{WHERE}", data=data, headers={"hx-request": "true"}
    )
    assert answer.status_code == 422
    assert 'class="toast error"' in answer.text
    assert labels(two.database, ACCOUNT) == {}


def test_one_merges_on_the_page_with_what_is_found_there(two: Stores, sign_in: SignIn) -> None:
    ana = sign_in("ana")
    assert "other=c7" in ana.get(f"/inbox/corrections{WHERE}").text
    assert "other=c7" in ana.get(f"/inbox/mergeable{WHERE}&words=six").text
    assert "no other conversation" in ana.get(f"/inbox/mergeable{WHERE}&words=seven").text
    done = ana.post(f"/inbox/merge{WHERE}&other=c7")
    assert "when the days have been made again" in done.text
    assert list(placements(two.database, ACCOUNT)) == ["c7"]
    part = ana.get(f"/inbox/corrections{WHERE}").text
    assert "Take the merge back" in part
    assert "Taken back" in ana.post(undo_in(done.text)).text
    assert placements(two.database, ACCOUNT) == {}
    assert "Take the merge back" not in ana.get(f"/inbox/corrections{WHERE}").text


def test_a_conversation_is_begun_at_any_message_but_its_first(two: Stores, sign_in: SignIn) -> None:
    root = Inbox(two.database, "ana").messages(ACCOUNT, "c7")[0]["message_id"]
    two.database.execute("UPDATE messages SET conversation_id = ?1 WHERE message_id = ?1", (root,))
    say(
        two, "x", at=START + timedelta(days=1), number="7", conversation=root, draft="Yes."
    )  # fmt: skip
    message = say(two, "By the way", at=START + timedelta(days=1), number="8", conversation=root)
    ana = sign_in("ana")
    html = ana.get("/inbox/conversation", params={"of": ACCOUNT, "conversation": root}).text
    (button,) = re.findall(r'hx-post="(/inbox/split[^"]*)"', html)
    done = ana.post(unescape(button))
    assert "Split." in done.text
    assert placements(two.database, ACCOUNT) == {message: None}
    ana.post(undo_in(done.text))
    assert placements(two.database, ACCOUNT) == {}


def test_a_viewer_is_offered_nothing_and_another_user_finds_nothing(
    two: Stores, sign_in: SignIn
) -> None:
    bo = sign_in("bo")
    for path in ("corrections", "mergeable"):
        assert bo.get(f"/inbox/{path}{WHERE}").status_code == 404
    assert bo.post(f"/inbox/merge{WHERE}&other=c7").status_code == 404
    Accounts(two.database, "ana").set_member(ACCOUNT, "bo", "viewer")
    html = bo.get(f"/inbox/conversation{WHERE}").text
    assert "/inbox/corrections" not in html
    assert "/inbox/split" not in html
    for path in ("merge{}&other=c7", "split{}&message=x", "relabel{}"):
        assert bo.post("/inbox/" + path.format(WHERE)).status_code == 403
    assert dirty(two) == []


def test_a_label_is_news_for_who_else_has_the_inbox_open(two: Stores, sign_in: SignIn) -> None:
    def since(html: str) -> str:
        found = re.search(r"/inbox/news\?since=([^\"]*)", html)
        assert found
        return found.group(1)

    ana = sign_in("ana")
    before = since(ana.get("/inbox").text)
    assert since(ana.get("/inbox").text) == before
    ana.post(f"/inbox/relabel{WHERE}", data={"category": "sales"})
    assert since(ana.get("/inbox").text) != before


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_strangers_text_is_text_in_the_corrections_too(
    two: Stores, sign_in: SignIn, payload: str
) -> None:
    two.database.execute("UPDATE analyses SET summary = ?1, category = ?1", (payload,))
    ana = sign_in("ana")
    ana.post(f"/inbox/relabel{WHERE}", data={"priority": "7", "why": payload.replace("\0", "")})
    part = ana.get(f"/inbox/corrections{WHERE}")
    assert part.status_code == 200
    assert "Corrected by hand" in part.text
    assert set(harm_in(part.text)) <= {"<h3>"}  # a heading of ours
