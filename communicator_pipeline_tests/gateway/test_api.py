"""What each route of the API does, and what it refuses, on real stores."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from fastapi.testclient import TestClient

from communicator_pipeline.gateway.api.asking import cursor_of
from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import add_user
from communicator_pipeline.storage.audit import audit_log
from communicator_pipeline.storage.database import utc_text
from communicator_pipeline.storage.dead_letters import DeadLetter, DeadLetters, bury
from communicator_pipeline.storage.outbox import Outbox, raise_notice
from communicator_pipeline.storage.queue import IngestionQueue, QueuedPush
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline_tests.chain.test_chain import settle
from communicator_pipeline_tests.conftest import Fill, line
from communicator_pipeline_tests.delivery.world import ACCOUNT, START, say
from communicator_pipeline_tests.gateway.api_world import API, Api, api_of
from communicator_pipeline_tests.gateway.conftest import SignIn

C1 = f"/conversations/{ACCOUNT}"


@pytest.fixture
def api(box: Stores) -> Api:
    """ana's."""
    return api_of(box, "ana")


@pytest.fixture
def viewer(box: Stores, api: Api) -> Api:
    """vi, who may read ana's box."""
    return api_of(box, "vi", client=api.client)


def of(conversation: str = "c1") -> dict[str, Any]:
    return {"conversation_id": conversation}


def last_entry(stores: Stores, user: str = "ana") -> tuple[str, str | None, str, str, str]:
    row = audit_log(stores.database, user, None, 1)[0]
    return row["action"], row["account"], row["target"], row["detail"], row["via"]


def proposal(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = api.data("GET", f"{C1}/detail", params=of())["proposal"]
    return found


def approved(api: Api, **body: Any) -> dict[str, Any]:
    found: dict[str, Any] = api.data("POST", f"{C1}/approve", params=of(), json=body)
    return found


def delivery_of(stores: Stores, approval_id: str) -> str:
    return Outbox(stores.database, "ana").parts(approval_id)[0].delivery.delivery_id


def ask_a_person(stores: Stores, delivery_id: str) -> None:
    stores.database.execute(
        "UPDATE deliveries SET state = 'needs_human', ambiguous = 1, fence = fence + 1 "
        "WHERE delivery_id = ?",
        (delivery_id,),
    )


# --- who asks --------------------------------------------------------------------------------


def test_me_says_who_asks_and_what_they_may_do_where(api: Api, viewer: Api) -> None:
    mine = api.data("GET", "/me")
    assert (mine["user_id"], mine["name"], mine["is_admin"]) == ("ana", "Ana", True)
    assert mine["csrf"] is None
    assert {a["account"]: a["role"] for a in mine["accounts"]} == {
        "ana-chat": "owner",
        ACCOUNT: "owner",
    }
    vis = viewer.data("GET", "/me")
    assert [(a["account"], a["role"]) for a in vis["accounts"]] == [(ACCOUNT, "viewer")]
    assert not vis["is_admin"]


def test_a_session_changes_things_with_its_token_only(box: Stores, sign_in: SignIn) -> None:
    browser = sign_in("ana")
    csrf = browser.get(f"{API}/me").json()["data"]["csrf"]
    assert csrf == browser.headers["x-csrf-token"]
    address = f"{API}{C1}/done?conversation_id=c1"
    assert browser.post(address, headers={"x-csrf-token": "another"}).status_code == 403
    elsewhere = browser.post(address, headers={"origin": "https://evil.example"})
    assert elsewhere.status_code == 403
    assert browser.post(address).status_code == 200
    assert last_entry(box)[-1] == "inbox"


def test_nobody_is_let_in_without_a_key_and_told_what_to_do(api: Api) -> None:
    answer = api.client.get(f"{API}/me")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "communicator keys add" in answer.json()["error"]["message"]


def test_nothing_of_the_api_is_kept_by_caches(api: Api) -> None:
    assert api.ask("GET", "/conversations").headers["cache-control"] == "no-store"


def test_a_key_is_shown_once_works_and_is_revoked_at_once(box: Stores, api: Api) -> None:
    made = api.data("POST", "/keys", json={"name": "phone", "scope": "read"})
    assert last_entry(box)[:4] == ("made a key", None, made["key_id"], "read: phone")
    other = Api(api.client, made["key"])
    listed = next(k for k in other.data("GET", "/keys") if k["key_id"] == made["key_id"])
    assert (listed["name"], listed["scope"], listed["revoked_at"]) == ("phone", "read", None)
    assert made["key"].split("_", 2)[2] not in api.ask("GET", "/keys").text
    assert "may only read" in other.refused(403, "POST", "/keys", json={"name": "more"})
    api.data("DELETE", f"/keys/{made['key_id']}")
    assert last_entry(box)[:3] == ("revoked a key", None, made["key_id"])
    other.refused(401, "GET", "/keys")
    api.refused(404, "DELETE", "/keys/nothing")
    api.refused(422, "POST", "/keys", json={"name": " "})
    api.refused(422, "POST", "/keys", json={"name": "x", "scope": "all"})


def test_the_audit_log_is_read_in_pages_without_gap_or_double(box: Stores, api: Api) -> None:
    for _ in range(7):
        api.data("POST", f"{C1}/reopen", params=of())
    seen: list[int] = []
    cursor: str | None = None
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = api.data("GET", "/audit", params=params)
        seen += [entry["id"] for entry in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [row["id"] for row in audit_log(box.database, "ana", None, 1000)]
    assert len(seen) >= 7
    api.refused(422, "GET", "/audit", params={"cursor": "one"})


# --- lists -----------------------------------------------------------------------------------


def test_conversations_come_in_pages_without_gap_or_double(box: Stores, api: Api) -> None:
    for number in range(2, 8):
        # A day each: bringing in a day replaces what it had.
        at, key = START - timedelta(days=number), f"c{number}"
        say(box, "And you?", at=at, number=str(number), conversation=key, draft="Yes.")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = api.data("GET", "/conversations", params=params)
        assert len(page["items"]) <= 2
        seen += [row["conversation_id"] for row in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ["c1", "c2", "c3", "c4", "c5", "c6", "c7"]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "é",
        "bm9uc2Vuc2U",
        cursor_of((1, 2, "", "", "")) + "!",
        cursor_of((1, 2)),  # type: ignore[arg-type]
        cursor_of((1, 2, "", "", 3)),  # type: ignore[arg-type]
        cursor_of((True, 2, "", "", "")),
        cursor_of((2**60, 2, "", "", "")),
    ],
)
def test_a_cursor_that_is_none_of_ours_is_refused(api: Api, cursor: str) -> None:
    words = api.refused(422, "GET", "/conversations", params={"cursor": cursor})
    assert "first page" in words


def test_a_list_is_filtered_by_view_account_category_and_platform(box: Stores, api: Api) -> None:
    def ids(**params: Any) -> list[str]:
        page = api.data("GET", "/conversations", params=params)
        return [row["conversation_id"] for row in page["items"]]

    assert ids() == ids(account=ACCOUNT) == ids(platform="sandbox") == ["c1"]
    assert ids(category="question", view="needs_reply") == ["c1"]
    assert ids(account="ana-chat") == ids(platform="slack") == ids(category="sales") == []
    assert ids(view="snoozed") == ids(view="assigned") == ids(view="high_priority") == []
    api.refused(404, "GET", "/conversations", params={"account": "bo-box"})
    api.refused(422, "GET", "/conversations", params={"view": "nonsense"})
    for limit in (0, 201, "many"):
        api.refused(422, "GET", "/conversations", params={"limit": limit})


def test_a_search_finds_words_and_refuses_what_holds_none(api: Api) -> None:
    (found,) = api.data("GET", "/search", params={"q": "five come"})
    assert (found["conversation_id"], found["author"]) == ("c1", "Kim")
    assert api.data("GET", "/search", params={"q": "six"}) == []
    assert api.data("GET", "/search", params={"q": "five", "account": "ana-chat"}) == []
    assert "no word" in api.refused(422, "GET", "/search", params={"q": "?!"})
    api.refused(422, "GET", "/search")
    api.refused(422, "GET", "/search", params={"q": "five\0"})
    api.refused(404, "GET", "/search", params={"q": "five", "account": "bo-box"})


# --- one conversation ------------------------------------------------------------------------


def test_a_conversation_shows_its_analysis_proposal_and_messages(api: Api) -> None:
    found = api.data("GET", f"{C1}/detail", params=of())
    row = found["conversation"]
    assert (row["category"], row["priority"], row["needs_reply"]) == ("question", 50, True)
    assert row["last_message_at"] == "2026-11-02T08:55:00Z"
    assert (row["hidden"], row["snoozed_until"], row["assigned_to"]) == (None, None, None)
    assert found["proposal"]["text"] == "Yes, I can."
    assert found["proposal"]["reply_to"] == "general:1"
    assert (found["deliveries"], found["notices"]) == ([], [])
    (message,) = api.data("GET", f"{C1}/messages", params=of())["items"]
    assert (message["text"], message["author"]) == ("Can you come at five?", "Kim")
    assert (message["deleted"], message["edited_at"]) == (False, None)


def test_an_attachments_address_which_may_hold_a_token_is_not_told(box: Stores, api: Api) -> None:
    file = {
        "name": "a.png",
        "mime": "image/png",
        "bytes": 3,
        "url": "https://x/bot1:t",
        "sha256": None,
    }
    box.database.execute("UPDATE messages SET attachments = ?", (orjson.dumps([file]).decode(),))
    (message,) = api.data("GET", f"{C1}/messages", params=of())["items"]
    assert message["attachments"] == [
        {"name": "a.png", "mime": "image/png", "bytes": 3, "sha256": None}
    ]


@pytest.mark.parametrize("conversation", [".", "..", "a//b", "a/../b", "%2F", "ü ?&#=+", "\\", "'"])
def test_any_id_that_a_platform_makes_reaches_its_conversation(
    box: Stores, api: Api, conversation: str
) -> None:
    say(box, "Hm?", number="9", at=START, conversation=conversation, draft="Hm.", channel="other")
    for path in ("detail", "messages"):
        assert api.data("GET", f"{C1}/{path}", params=of(conversation))
    found = api.data("POST", f"{C1}/done", params=of(conversation))
    assert (found["conversation_id"], found["hidden"]) == (conversation, "done")


def test_a_conversation_of_which_nothing_was_said_has_no_proposal(box: Stores, api: Api) -> None:
    box.database.execute("UPDATE messages SET kind = 'system'")
    found = api.data("GET", f"{C1}/detail", params=of())
    assert found["proposal"] is None


def test_what_is_not_there_is_not_found(api: Api) -> None:
    for path in ("detail", "messages"):
        api.refused(404, "GET", f"{C1}/{path}", params=of("nothing"))
        api.refused(404, "GET", f"/conversations/nowhere/{path}", params=of())
        api.refused(422, "GET", f"{C1}/{path}")


# --- approving -------------------------------------------------------------------------------


def test_an_approval_stands_is_noted_and_taken_back(box: Stores, api: Api) -> None:
    found = approved(api, seen=proposal(api)["source_version"])
    assert found["is_new"]
    assert (found["approved_by"], found["parts"]) == ("ana", ["Yes, I can."])
    assert datetime.fromisoformat(found["send_at"]) > datetime.now(UTC)
    approval = found["approval_id"]
    action, account, target, detail, via = last_entry(box)
    assert (action, account, target, detail) == ("approved", ACCOUNT, "c1", approval)
    assert via.startswith("key:")
    (reply,) = api.data("GET", f"{C1}/detail", params=of())["deliveries"]
    assert (reply["state"], reply["approval_id"]) == ("approved", approval)
    assert reply["waits_for"]
    assert not approved(api)["is_new"]
    (canceled,) = api.data("POST", f"/approvals/{approval}/undo")
    assert (canceled["state"], canceled["reason"]) == ("canceled", "ana took it back")
    assert last_entry(box)[:4] == ("took back", ACCOUNT, "c1", approval)
    assert "already" in api.refused(409, "POST", f"/approvals/{approval}/undo")
    api.refused(404, "POST", "/approvals/nothing/undo")


def test_a_text_of_ones_own_and_a_time_are_kept_in_utc(box: Stores, api: Api) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    there = at.astimezone().isoformat()
    found = approved(api, text=" Yes, at six. ", at=there, any_time=True)
    assert found["parts"] == ["Yes, at six."]
    assert found["send_at"] == at.isoformat().replace("+00:00", "Z")
    api.refused(422, "POST", f"{C1}/approve", params=of(), json={"at": "2026-12-01T09:00:00"})
    for year in ("0001", "9999"):
        asked = {"at": f"{year}-01-01T00:00:00+14:00"}
        api.refused(422, "POST", f"{C1}/approve", params=of(), json=asked)


def test_who_looked_before_something_new_came_is_told_to_look_again(box: Stores, api: Api) -> None:
    seen = proposal(api)["source_version"]
    say(box, "Or at six?", at=START, number="2")
    for path, body in (("approve", {}), ("edit", {"text": "Yes."})):
        words = api.refused(409, "POST", f"{C1}/{path}", params=of(), json={**body, "seen": seen})
        assert "look at it again" in words


def test_a_viewer_and_a_second_reply_are_refused(box: Stores, api: Api, viewer: Api) -> None:
    assert "viewer" in viewer.refused(403, "POST", f"{C1}/approve", params=of())
    approval = approved(api)["approval_id"]
    words = api.refused(409, "POST", f"{C1}/approve", params=of(), json={"text": "No."})
    assert "ana approved another reply" in words
    assert "viewer" in viewer.refused(403, "POST", f"/approvals/{approval}/undo")


def test_many_at_once_who_approve_the_same_are_one_approval(box: Stores, api: Api) -> None:
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(approved(api))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20
    assert len({answer["approval_id"] for answer in answers}) == 1
    assert sum(answer["is_new"] for answer in answers) == 1


def test_what_was_taken_back_is_approved_again_in_its_own_conversation(
    box: Stores, api: Api
) -> None:
    say(box, "And then?", at=START, number="2", conversation="c2", channel="other", draft="Then.")
    first = approved(api, text="Gladly.")
    asked = {"delivery_id": delivery_of(box, first["approval_id"])}
    api.data("POST", f"/approvals/{first['approval_id']}/undo", json={"rest": True})
    api.refused(404, "POST", f"{C1}/reapprove", params=of("c2"), json=asked)
    again = api.data("POST", f"{C1}/reapprove", params=of(), json=asked)
    assert again["is_new"]
    assert again["approval_id"] != first["approval_id"]
    assert again["parts"] == ["Gladly."]
    assert last_entry(box)[:4] == ("approved", ACCOUNT, "c1", again["approval_id"])
    api.refused(404, "POST", f"{C1}/reapprove", params=of(), json={"delivery_id": "nothing"})
    api.refused(422, "POST", f"{C1}/reapprove", params=of(), json={})


def test_a_draft_is_edited_and_rejected(box: Stores, api: Api, viewer: Api) -> None:
    seen = proposal(api)["source_version"]
    edited = api.data("POST", f"{C1}/edit", params=of(), json={"text": "At six.", "seen": seen})
    assert (edited["text"], edited["edited_by"]) == ("At six.", "ana")
    assert last_entry(box)[:3] == ("edited", ACCOUNT, "c1")
    assert "empty" in api.refused(409, "POST", f"{C1}/edit", params=of(), json={"text": " "})
    rejected = api.data("POST", f"{C1}/reject", params=of(), json={"why": "too short"})
    assert (rejected["text"], rejected["rejected_by"]) == ("Yes, I can.", "ana")
    assert last_entry(box)[:3] == ("rejected", ACCOUNT, "c1")
    viewer.refused(403, "POST", f"{C1}/edit", params=of(), json={"text": "No."})
    viewer.refused(403, "POST", f"{C1}/reject", params=of())


# --- triage ----------------------------------------------------------------------------------


def views(api: Api) -> dict[str, int]:
    return {
        view: len(api.data("GET", "/conversations", params={"view": view})["items"])
        for view in ("open", "snoozed", "assigned", "all")
    }


def test_a_conversation_is_done_snoozed_and_opened_again(box: Stores, api: Api) -> None:
    assert api.data("POST", f"{C1}/done", params=of())["hidden"] == "done"
    assert last_entry(box)[:3] == ("done", ACCOUNT, "c1")
    assert views(api) == {"open": 0, "snoozed": 0, "assigned": 0, "all": 1}
    assert api.data("POST", f"{C1}/reopen", params=of())["hidden"] is None
    assert last_entry(box)[:3] == ("reopened", ACCOUNT, "c1")
    until = (datetime.now(UTC) + timedelta(hours=3)).replace(microsecond=0)
    found = api.data(
        "POST", f"{C1}/snooze", params=of(), json={"until": until.astimezone().isoformat()}
    )
    assert (found["hidden"], found["snoozed_until"]) == (
        "snoozed",
        until.isoformat().replace("+00:00", "Z"),
    )
    assert last_entry(box)[:4] == ("snoozed", ACCOUNT, "c1", utc_text(until))
    assert views(api) == {"open": 0, "snoozed": 1, "assigned": 0, "all": 1}


def test_done_does_not_hide_what_came_after_the_look(box: Stores, api: Api) -> None:
    seen = api.data("GET", f"{C1}/detail", params=of())["conversation"]["last_message_at"]
    say(box, "Or at six?", at=START, number="2", draft="Yes.")
    found = api.data("POST", f"{C1}/done", params=of(), json={"seen": seen})
    assert found["hidden"] is None
    assert views(api)["open"] == 1


def test_who_looks_after_a_conversation_is_a_member(box: Stores, api: Api) -> None:
    found = api.data("POST", f"{C1}/assign", params=of(), json={"to": "ana"})
    assert found["assigned_to"] == "ana"
    assert last_entry(box)[:4] == ("assigned", ACCOUNT, "c1", "ana")
    assert views(api)["assigned"] == 1
    assert "no member" in api.refused(422, "POST", f"{C1}/assign", params=of(), json={"to": "bo"})
    api.refused(422, "POST", f"{C1}/assign", params=of(), json={})
    assert api.data("POST", f"{C1}/assign", params=of(), json={"to": None})["assigned_to"] is None


def test_triage_refuses_the_past_times_without_a_zone_and_viewers(api: Api, viewer: Api) -> None:
    for until in (
        "2020-01-01T00:00Z",
        "2030-01-01T00:00",
        "tomorrow",
        "9999-12-31T23:00Z",
        4e9,
        "4000000000",
    ):
        api.refused(422, "POST", f"{C1}/snooze", params=of(), json={"until": until})
    for path, body in (
        ("done", None),
        ("reopen", None),
        ("assign", {"to": None}),
        ("snooze", {"until": "2090-01-01T00:00:00Z"}),
    ):
        viewer.refused(403, "POST", f"{C1}/{path}", params=of(), json=body)
        api.refused(404, "POST", f"{C1}/{path}", params=of("nothing"), json=body)


# --- deliveries ------------------------------------------------------------------------------


def test_deliveries_are_listed_by_account_and_state_and_explained(box: Stores, api: Api) -> None:
    found = approved(api, text="Gladly.")
    (reply,) = api.data("GET", "/deliveries", params={"account": ACCOUNT, "states": "approved"})
    assert (reply["text"], reply["part"], reply["parts"], reply["options"]) == ("Gladly.", 1, 1, [])
    assert api.data("GET", "/deliveries", params={"states": ["sent", "failed"]}) == []
    api.refused(422, "GET", "/deliveries", params={"states": "nonsense"})
    api.refused(404, "GET", "/deliveries", params={"account": "bo-box"})
    why = api.data("GET", f"/deliveries/{reply['delivery_id']}")
    assert why["approval"]["approval_id"] == found["approval_id"]
    assert (why["approval"]["edited"], why["approval"]["automatic"]) == (True, False)
    assert (why["draft"]["text"], why["run_id"]) == ("Yes, I can.", None)
    assert [m["text"] for m in why["messages"]] == ["Can you come at five?"]
    assert [(e["before"], e["after"]) for e in why["log"]] == [("", "approved")]
    api.refused(404, "GET", "/deliveries/nothing")


def test_the_run_that_made_a_draft_is_looked_up_when_it_is_asked_for(box: Stores, api: Api) -> None:
    delivery = delivery_of(box, approved(api)["approval_id"])
    why = api.data("GET", f"/deliveries/{delivery}", params={"run": True})
    assert why["run_id"] is None  # Dagster made nothing here


def test_a_person_says_what_became_of_a_reply(box: Stores, api: Api, viewer: Api) -> None:
    delivery = delivery_of(box, approved(api)["approval_id"])
    path = f"/deliveries/{delivery}/resolve"
    words = api.refused(409, "POST", path, json={"choice": "drop it"})
    assert "asks for nothing" in words
    ask_a_person(box, delivery)
    (asking,) = api.data("GET", "/deliveries", params={"states": "needs_human"})
    assert [o["choice"] for o in asking["options"]] == ["it was sent", "send it again", "drop it"]
    viewer.refused(403, "POST", path, json={"choice": "drop it"})
    api.refused(422, "POST", path, json={"choice": "whatever"})
    assert api.data("POST", path, json={"choice": "drop it"})["state"] == "canceled"
    assert last_entry(box)[:4] == ("resolved", ACCOUNT, "c1", "drop it")


def test_who_decides_after_somebody_else_is_told_so_here_and_on_the_page(
    box: Stores, api: Api, sign_in: SignIn
) -> None:
    delivery = delivery_of(box, approved(api)["approval_id"])
    ask_a_person(box, delivery)
    path = f"/deliveries/{delivery}/resolve"
    api.data("POST", path, json={"choice": "drop it"})
    before = box.database.execute("SELECT * FROM deliveries")
    answer = api.ask("POST", path, json={"choice": "send it again"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "too_late")
    page = sign_in("ana").post(
        "/outbox/resolve", params={"delivery": delivery}, data={"choice": "send it again"}
    )
    assert page.status_code == 409
    assert "asks for nothing" in page.text
    assert box.database.execute("SELECT * FROM deliveries") == before


def test_notices_are_shown_until_they_are_read(box: Stores, api: Api) -> None:
    approval = approved(api)["approval_id"]
    reply = Outbox(box.database, "ana").parts(approval)[0]
    raise_notice(box.database, reply, "m2", "Kim wrote meanwhile", datetime.now(UTC))
    (notice,) = api.data("GET", "/notices", params={"account": ACCOUNT})
    assert (notice["text"], notice["approval_id"]) == ("Kim wrote meanwhile", approval)
    assert api.data("GET", f"{C1}/detail", params=of())["notices"] == [notice]
    assert api.data("GET", "/notices", params={"account": "ana-chat"}) == []
    assert api.data("POST", f"/notices/{approval}/read") == []
    assert last_entry(box)[:4] == ("read notices", ACCOUNT, "c1", approval)
    api.refused(404, "POST", "/notices/nothing/read")


def test_the_kill_switch_of_an_account_and_of_everything(
    box: Stores, api: Api, viewer: Api
) -> None:
    (switch,) = api.data("POST", "/sending/stop", json={"account": ACCOUNT, "why": "a fire"})
    assert (switch["account"], switch["why"], switch["closed_by"]) == (ACCOUNT, "a fire", "ana")
    assert last_entry(box)[:4] == ("stopped sending", ACCOUNT, ACCOUNT, "a fire")
    assert viewer.data("GET", "/sending") == [switch]
    viewer.refused(403, "POST", "/sending/resume", json={"account": ACCOUNT})
    viewer.refused(403, "POST", "/sending/stop", json={})
    api.refused(404, "POST", "/sending/stop", json={"account": "bo-box"})
    assert api.data("POST", "/sending/resume", json={"account": ACCOUNT}) == []
    assert last_entry(box)[:3] == ("resumed sending", ACCOUNT, ACCOUNT)
    (everything,) = api.data("POST", "/sending/stop", json={})
    assert everything["account"] is None
    assert api.data("POST", "/sending/resume", json={}) == []
    # A slip of the pen in the account's name must not stop, or open, everything.
    api.refused(422, "POST", "/sending/resume", json={"acount": ACCOUNT})
    api.refused(422, "POST", "/sending/resume")


# --- accounts --------------------------------------------------------------------------------


def test_accounts_say_how_their_connections_are_and_nothing_secret(box: Stores, api: Api) -> None:
    secret = "a push key that is long enough"
    fields = {"me": "ana", "push_key": secret}
    add_account(box, "ana", "ana-live", "generic", fields, lambda f: "")
    answer = api.ask("GET", "/accounts")
    found = {row["account"]: row for row in answer.json()["data"]}
    assert set(found) == {"ana-chat", ACCOUNT, "ana-live"}
    assert (found[ACCOUNT]["connection"], found[ACCOUNT]["me"]) == (None, ["ana"])
    assert found["ana-live"]["connection"]["state"] == "active"
    assert secret not in answer.text


def test_policies_are_opened_by_owners_and_revoked(box: Stores, api: Api, viewer: Api) -> None:
    path, which = f"/accounts/{ACCOUNT}/policies", {"category": "a/b question"}
    (policy,) = api.data("PUT", path, params=which, json={"threshold": 0.8, "daily_cap": 2})
    assert (policy["category"], policy["threshold"], policy["daily_cap"]) == (
        "a/b question",
        0.8,
        2,
    )
    assert policy["is_open"]
    assert last_entry(box)[:4] == ("opened a policy", ACCOUNT, "a/b question", "from 0.8, 2 a day")
    assert viewer.data("GET", path) == [policy]
    viewer.refused(403, "PUT", path, params=which, json={})
    viewer.refused(403, "DELETE", path, params=which)
    (revoked,) = api.data("DELETE", path, params=which)
    assert (revoked["is_open"], revoked["revoked_why"]) == (False, "closed by hand")
    assert last_entry(box)[:3] == ("revoked a policy", ACCOUNT, "a/b question")
    api.refused(404, "DELETE", path, params=which)
    api.refused(404, "GET", "/accounts/bo-box/policies")
    for body in ({"threshold": 0.4}, {"threshold": 1.1}, {"daily_cap": 0}, {"daily_cap": 101}):
        api.refused(422, "PUT", path, params=which, json=body)
    nan = b'{"threshold": NaN}'
    headers = {"content-type": "application/json", **api.headers}
    answer = api.client.put(f"{API}{path}?{urlencode(which)}", content=nan, headers=headers)
    assert answer.status_code == 422


def test_queues_count_what_waits_in_the_users_accounts(box: Stores, api: Api) -> None:
    IngestionQueue(box.database).put([QueuedPush(ACCOUNT, "k1", "body")])
    IngestionQueue(box.database).put([QueuedPush("bo-box", "k1", "body")])
    approved(api)
    found = {row["account"]: row for row in api.data("GET", "/queues")}
    assert set(found) == {"ana-chat", ACCOUNT}
    assert (found[ACCOUNT]["pushes_waiting"], found["ana-chat"]["pushes_waiting"]) == (1, 0)
    assert found[ACCOUNT]["oldest_push"] is not None
    assert found[ACCOUNT]["deliveries"] == {
        "approved": 1,
        "needs_human": 0,
        "sending": 0,
        "unknown": 0,
    }


def letter_of(stores: Stores, letter: DeadLetter) -> str:
    bury(stores.database, ACCOUNT, [letter])
    rows = DeadLetters(stores.database, "ana").list()
    return str(next(r["dead_letter_id"] for r in rows if r["source"] == letter.source))


def test_dead_letters_are_shown_and_closed(box: Stores, api: Api, viewer: Api) -> None:
    name = letter_of(box, DeadLetter("import", "chat.jsonl:1", "no JSON", "{"))
    (listed,) = api.data("GET", "/dead-letters", params={"account": ACCOUNT})
    assert (listed["dead_letter_id"], listed["reason"]) == (name, "no JSON")
    assert api.data("GET", f"/dead-letters/{name}")["payload"] == "{"
    assert api.data("GET", "/dead-letters", params={"account": "ana-chat"}) == []
    viewer.refused(403, "POST", f"/dead-letters/{name}/resolve")
    viewer.refused(403, "POST", f"/dead-letters/{name}/retry")
    assert api.data("POST", f"/dead-letters/{name}/resolve")["state"] == "resolved"
    assert last_entry(box)[:3] == ("closed a dead letter", ACCOUNT, name)
    assert api.data("GET", "/dead-letters") == []
    for method, path in (("GET", ""), ("POST", "/resolve"), ("POST", "/retry")):
        api.refused(404, method, f"/dead-letters/nothing{path}")


def test_a_dead_letter_is_tried_again_as_its_stage_allows(box: Stores, api: Api) -> None:
    queue = IngestionQueue(box.database)
    queue.put([QueuedPush(ACCOUNT, "k1", "body")])
    (leased,) = queue.lease()
    assert queue.bury(leased)
    outcomes = {}
    for letter in (
        DeadLetter("analyses", "c1", "broken", day="2026-11-02"),
        DeadLetter("push", "k1", "broken"),
        DeadLetter("push", "gone", "broken"),
        DeadLetter("import", "chat.jsonl:1", "broken"),
    ):
        name = letter_of(box, letter)
        outcomes[letter.source] = api.data("POST", f"/dead-letters/{name}/retry")["outcome"]
        assert last_entry(box)[:4] == (
            "retried a dead letter",
            ACCOUNT,
            name,
            outcomes[letter.source],
        )
    assert outcomes == {
        "c1": "day marked",
        "k1": "push waits",
        "gone": "closed",
        "chat.jsonl:1": "closed",
    }
    assert queue.depth(ACCOUNT).waiting == 1
    assert [d.day for d in WorkQueue(box.database).dirty(ACCOUNT)] == ["2026-11-02"]


# --- settings --------------------------------------------------------------------------------


def test_settings_are_read_with_their_defaults_and_changed(box: Stores, api: Api) -> None:
    before = api.data("GET", "/settings")
    assert (before["signature"], before["undo_seconds"], before["approval_hours"]) == ("", 10, 48)
    assert "question" in [c["name"] for c in before["taxonomy"]["categories"]]
    after = api.data("PUT", "/settings/undo_seconds", json={"value": 30})
    assert (after["settings"]["undo_seconds"], after["days_to_materialize"]) == (30, 0)
    assert last_entry(box)[:3] == ("changed a setting", None, "undo_seconds")
    hours = {"zone": "Europe/Berlin", "from": "08:00", "to": "18:00"}
    api.data("PUT", "/settings/sending_hours", json={"value": hours})
    assert api.data("GET", "/settings")["sending_hours"] == hours
    taxonomy = before["taxonomy"]
    assert api.data("PUT", "/settings/taxonomy", json={"value": taxonomy})
    assert Settings(box.database, "bo").get("undo_seconds") is None
    assert "taxonomy" in api.refused(404, "PUT", "/settings/nonsense", json={"value": 1})


def test_a_change_has_only_those_accounts_understood_anew_that_it_holds_for(
    stores: Stores, fill: Fill
) -> None:
    fill(line(1, "2026-11-03T09:00:00Z", "kim", "Hello?"))
    settle(stores)
    add_user(stores.database, "bo", "Bo")
    stores.database.execute(
        "INSERT INTO account_members (account, user_id, role) VALUES ('ana-chat', 'bo', 'viewer')"
    )
    asked = {"json": {"value": "Regards"}}
    for user, days in (("bo", 0), ("ana", 1)):
        changed = api_of(stores, user).data("PUT", "/settings/signature", **asked)
        assert changed["days_to_materialize"] == days
        assert changed["settings"]["signature"] == "Regards"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("undo_seconds", -1),
        ("undo_seconds", 1e300),
        ("undo_seconds", "soon"),
        ("undo_seconds", None),
        ("approval_hours", 0),
        ("approval_hours", 1e9),
        ("signature", 7),
        ("signature", "x" * 10_001),
        ("priority_people", "kim"),
        ("taxonomy", {}),
        ("taxonomy", {"categories": [], "fallback": "fyi"}),
        ("sending_hours", {"zone": "Nowhere/There", "from": "08:00", "to": "18:00"}),
        ("sending_hours", {"zone": "../../etc/passwd", "from": "08:00", "to": "18:00"}),
        ("sending_hours", {"zone": "UTC", "from": "08:00", "to": "08:00"}),
        ("sending_hours", {"zone": "UTC", "from": "08:00", "to": "18:00", "x": "y" * 600_000}),
    ],
)
def test_a_setting_refuses_what_it_does_not_take(
    box: Stores, api: Api, key: str, value: Any
) -> None:
    before = api.data("GET", "/settings")
    words = api.refused(422, "PUT", f"/settings/{key}", json={"value": value})
    assert key in words
    assert api.data("GET", "/settings") == before


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1" * 400, b"1e999"])
def test_a_number_without_end_is_no_setting(api: Api, number: bytes) -> None:
    answer = api.client.put(
        f"{API}/settings/undo_seconds",
        content=b'{"value": ' + number + b"}",
        headers={"content-type": "application/json", **api.headers},
    )
    assert answer.status_code == 422, answer.text


# --- what is not well formed -----------------------------------------------------------------


@pytest.mark.parametrize("text", ["half \ud800 of one", "a \0 in it"])
@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", f"{C1}/approve?conversation_id=c1", "text"),
        ("POST", f"{C1}/approve?conversation_id=c1", "seen"),
        ("POST", f"{C1}/edit?conversation_id=c1", "text"),
        ("POST", f"{C1}/reject?conversation_id=c1", "why"),
        ("POST", f"{C1}/assign?conversation_id=c1", "to"),
        ("POST", f"{C1}/reapprove?conversation_id=c1", "delivery_id"),
        ("POST", "/sending/stop", "why"),
        ("POST", "/sending/stop", "account"),
        ("POST", "/keys", "name"),
        ("PUT", "/settings/signature", "value"),
        ("PUT", "/settings/priority_people", "value"),
    ],
)
def test_half_a_character_and_a_nul_are_refused_politely(
    api: Api, method: str, path: str, name: str, text: str
) -> None:
    value: Any = [text] if path.endswith("people") else text
    answer = api.client.request(
        method,
        API + path,
        content=json.dumps({name: value}),  # orjson refuses to send half a character
        headers={"content-type": "application/json", **api.headers},
    )
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["code"] == "not_valid"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"text": "x", "\\ud800": 1}', b"[" * 9000],
)
def test_a_body_that_is_none_is_refused_politely(api: Api, body: bytes) -> None:
    answer = api.client.post(
        f"{API}{C1}/edit?conversation_id=c1",
        content=body,
        headers={"content-type": "application/json", **api.headers},
    )
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["success"] is False


def test_texts_that_are_too_long_are_refused(api: Api) -> None:
    api.refused(422, "POST", f"{C1}/edit", params=of(), json={"text": "x" * 100_001})
    api.refused(422, "POST", f"{C1}/reject", params=of(), json={"why": "x" * 1_001})
    api.refused(422, "GET", f"{C1}/detail", params=of("x" * 1_001))
    api.refused(422, "GET", "/search", params={"q": "x" * 501})


# --- the description -------------------------------------------------------------------------


def test_every_route_is_described_under_a_name_of_its_own_with_its_refusals(box: Stores) -> None:
    described = create_app(box).openapi()
    names = []
    for path, methods in described["paths"].items():
        if not path.startswith(API):
            continue
        for about in methods.values():
            names.append(about["operationId"])
            assert about["description"], path
            assert about["tags"], path
            assert about["security"] == [{"HTTPBearer": []}], path
            assert {"200", "400", "401", "403", "404", "409", "422", "429"} == set(
                about["responses"]
            ), path
            for status, answer in about["responses"].items():
                if "application/x-ndjson" in answer["content"]:  # a stream has no envelope
                    assert (path, status) == (f"{API}/export", "200")
                    assert set(answer["content"]) == {"application/x-ndjson"}
                    continue
                schema = answer["content"]["application/json"]["schema"]["$ref"]
                expected = "Answer" if status == "200" else "Refusal"
                assert schema.rsplit("/", 1)[1].startswith(expected), (path, status)
    assert len(names) == len(set(names)) > 30


def test_the_description_is_served(api: Api) -> None:
    client: TestClient = api.client
    assert f"{API}/me" in client.get("/openapi.json").json()["paths"]


def test_members_are_changed_by_owners_and_the_last_one_stays(
    box: Stores, api: Api, viewer: Api
) -> None:
    path = f"/accounts/{ACCOUNT}/members"
    roles = {m["user_id"]: m["role"] for m in viewer.data("GET", path)}
    assert (roles["ana"], roles["vi"]) == ("owner", "viewer")
    viewer.refused(403, "PUT", path, params={"user_id": "vi"}, json={"role": "owner"})
    api.data("PUT", path, params={"user_id": "vi"}, json={"role": "reviewer"})
    assert last_entry(box)[:4] == ("set a member", ACCOUNT, "vi", "reviewer")
    assert "owner" in api.refused(422, "DELETE", path, params={"user_id": "ana"})
    api.refused(422, "PUT", path, params={"user_id": "vi"}, json={"role": "king"})
    api.refused(404, "PUT", path, params={"user_id": "nobody"}, json={"role": "viewer"})
    left = api.data("DELETE", path, params={"user_id": "vi"})
    assert "vi" not in [m["user_id"] for m in left]
    viewer.refused(404, "GET", path)
