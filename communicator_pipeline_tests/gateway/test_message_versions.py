"""What a message said before is there to be read, of a deleted one by those who answer for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from communicator_pipeline.chain import (
    analyses,
    attachments,
    conversations,
    drafted_replies,
    inbox,
    raw_messages,
)
from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import add_user
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.sign_in import set_password
from communicator_pipeline_tests.conftest import Fill, line
from communicator_pipeline_tests.gateway.api_world import Api, api_of
from communicator_pipeline_tests.gateway.conftest import PASSWORD
from communicator_pipeline_tests.gateway.test_rendering import harm_in

STAGES = (raw_messages, attachments, conversations, analyses, drafted_replies, inbox)
MONTH = AccountMonth("ana-chat", "2026-11")
WHERE = "/conversations/ana-chat/messages"
EVIL = "<script>alert(1)</script>"
ASKED_AT, EDITED_AT = "2026-11-03T09:00:00Z", "2026-11-03T09:05:00Z"
EDITED, DELETED, PLAIN = "c1:m1", "c1:m2", "c1:m3"


@pytest.fixture
def chat(stores: Stores, fill: Fill) -> Stores:
    """A question that was edited, one that was deleted, one that was neither; rae reviews, vi
    reads, and bo is nobody there."""
    fill(
        line(1, ASKED_AT, "ben", f"ana: can you send me the invoice? {EVIL}"),
        line(2, "2026-11-03T09:01:00Z", "ben", "the secret word is quokka"),
        line(3, "2026-11-03T09:02:00Z", "ben", "thanks"),
    )
    fill(
        line(1, ASKED_AT, "ben", "ana: can you send me the bill?", edited_at=EDITED_AT),
        line(2, "2026-11-03T09:01:00Z", "ben", "", deleted=True),
        name="later.jsonl",
    )
    for stage in STAGES:
        stage.materialise(stores, MONTH, Scope((MONTH,), frozenset()))
    for user, role in (("rae", "reviewer"), ("vi", "viewer"), ("bo", None)):
        add_user(stores.database, user, user.title())
        if role:
            stores.database.execute(
                "INSERT INTO account_members (account, user_id, role) VALUES (?, ?, ?)",
                ("ana-chat", user, role),
            )
    return stores


def versions(api: Api, message: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.data(
        "GET", f"{WHERE}/versions", params={"message_id": message}
    )
    return found


def test_an_edited_message_has_its_earlier_text_for_every_member(chat: Stores) -> None:
    for user in ("ana", "rae", "vi"):
        first, second = versions(api_of(chat, user), EDITED)
        assert first["text"].endswith(EVIL)
        assert (first["version"], first["latest"], first["since"]) == (1, False, ASKED_AT)
        assert second["text"] == "ana: can you send me the bill?"
        assert (second["version"], second["latest"], second["since"]) == (2, True, EDITED_AT)
    (only,) = versions(api_of(chat, "ana"), PLAIN)
    assert (only["text"], only["latest"]) == ("thanks", True)


def test_what_a_deleted_message_said_is_for_owners_and_reviewers(chat: Stores) -> None:
    for user in ("ana", "rae"):
        first, second = versions(api_of(chat, user), DELETED)
        assert first["text"] == "the secret word is quokka"
        assert (second["text"], second["deleted"], second["since"]) == ("", True, None)
    refused = api_of(chat, "vi").refused(
        403, "GET", f"{WHERE}/versions", params={"message_id": DELETED}
    )
    assert "quokka" not in refused
    assert "owners and reviewers" in refused


def test_a_viewer_is_refused_as_soon_as_the_lake_knows_of_the_deletion(chat: Stores) -> None:
    chat.database.execute("UPDATE messages SET deleted = 0 WHERE message_id = ?", (DELETED,))
    api_of(chat, "vi").refused(403, "GET", f"{WHERE}/versions", params={"message_id": DELETED})


def test_a_viewer_is_refused_though_the_lake_does_not_know_of_it_yet(chat: Stores) -> None:
    chat.database.execute("UPDATE messages SET deleted = 1 WHERE message_id = ?", (EDITED,))
    api_of(chat, "vi").refused(403, "GET", f"{WHERE}/versions", params={"message_id": EDITED})


def test_what_is_not_ones_own_is_not_there(chat: Stores) -> None:
    bo, ana = api_of(chat, "bo"), api_of(chat, "ana")
    refused = bo.refused(404, "GET", f"{WHERE}/versions", params={"message_id": EDITED})
    made_up = bo.refused(404, "GET", f"{WHERE}/versions", params={"message_id": "c1:no"})
    assert refused.replace(EDITED, "c1:no") == made_up
    ana.refused(404, "GET", f"{WHERE}/versions", params={"message_id": "c1:no"})
    ana.refused(422, "GET", f"{WHERE}/versions", params={"message_id": "c1:\0"})
    ana.refused(422, "GET", f"{WHERE}/versions")


def test_a_message_whose_day_the_lake_has_lost_has_no_versions(chat: Stores) -> None:
    chat.lake.update(raw_messages.ASSET, MONTH, lambda before: dict.fromkeys(before.days))
    assert versions(api_of(chat, "ana"), EDITED) == []


def test_messages_come_in_pages_without_gap_or_double(chat: Stores) -> None:
    api = api_of(chat, "ana")
    # At one moment, the id decides.
    chat.database.execute(
        "UPDATE messages SET conversation_id = ?, sent_at = ? WHERE message_id <> ?",
        (EDITED, "2026-11-03T09:01:00.000000Z", EDITED),
    )
    seen: list[str] = []
    params: dict[str, Any] = {"conversation_id": EDITED, "limit": 1}
    while True:
        page = api.data("GET", WHERE, params=params)
        seen += [row["message_id"] for row in page["items"]]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert seen == [EDITED, DELETED, PLAIN]
    whole = api.data("GET", WHERE, params={"conversation_id": EDITED, "limit": 3})
    assert ([row["message_id"] for row in whole["items"]], whole["next"]) == (seen, None)
    for limit in (0, 201):
        api.refused(422, "GET", WHERE, params={"conversation_id": EDITED, "limit": limit})


# --- the page --------------------------------------------------------------------------------


def signed_in(stores: Stores, user: str) -> TestClient:
    set_password(stores.database, user, PASSWORD, datetime.now(UTC))
    browser = TestClient(create_app(stores), follow_redirects=False)
    assert browser.post("/login", data={"user": user, "password": PASSWORD}).status_code == 303
    return browser


@pytest.mark.parametrize(("user", "deleted_opens"), [("ana", True), ("rae", True), ("vi", False)])
def test_edited_opens_the_earlier_texts(chat: Stores, user: str, deleted_opens: bool) -> None:
    chat.database.execute("UPDATE messages SET conversation_id = ?", (EDITED,))
    browser = signed_in(chat, user)
    thread = browser.get(
        "/inbox/conversation", params={"of": "ana-chat", "conversation": EDITED}
    ).text
    assert "quokka" not in thread
    assert thread.count("/inbox/message-versions") == 1 + deleted_opens
    where = {"of": "ana-chat", "message": EDITED}
    part = browser.get("/inbox/message-versions", params=where)
    assert "can you send me the invoice?" in part.text
    assert "can you send me the bill?" not in part.text  # that is what the page shows
    assert "2026-11-03 09:00 UTC" in part.text
    assert harm_in(part.text) == []
    gone = browser.get("/inbox/message-versions", params=where | {"message": DELETED})
    assert (gone.status_code, "quokka" in gone.text) == (
        (200, True) if deleted_opens else (403, False)
    )


def test_the_part_of_another_is_not_there_and_nothing_kept_is_said(chat: Stores) -> None:
    where = {"of": "ana-chat", "message": EDITED}
    bo = signed_in(chat, "bo")
    assert bo.get("/inbox/message-versions", params=where).status_code == 404
    chat.lake.update(raw_messages.ASSET, MONTH, lambda before: dict.fromkeys(before.days))
    assert (
        "was not kept" in signed_in(chat, "ana").get("/inbox/message-versions", params=where).text
    )
