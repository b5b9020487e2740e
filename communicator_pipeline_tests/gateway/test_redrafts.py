"""A new draft over the API and on the thread's page."""

from __future__ import annotations

from datetime import UTC, datetime

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
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.sign_in import make_key, set_password
from communicator_pipeline_tests.conftest import Fill, line
from communicator_pipeline_tests.gateway.conftest import PASSWORD, csrf_of

STAGES = (raw_messages, attachments, conversations, analyses, drafted_replies, inbox)
WHERE = "/api/v1/conversations/ana-chat"
OF = {"conversation_id": "c1:m1"}


@pytest.fixture
def client(stores: Stores, fill: Fill) -> TestClient:
    """ana's chat with one question that waits, and her key."""
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "ana: can you send me the invoice for the rack?"))
    month = AccountMonth("ana-chat", "2026-11")
    for stage in STAGES:
        stage.materialise(stores, month, Scope((month,), frozenset()))
    key = make_key(stores.database, "ana", "test", "write", datetime.now(UTC))
    return TestClient(create_app(stores), headers={"Authorization": f"Bearer {key}"})


def test_a_redraft_is_the_proposal_and_the_one_before_is_a_version(client: TestClient) -> None:
    before = client.get(f"{WHERE}/detail", params=OF).json()["data"]["proposal"]
    answer = client.post(f"{WHERE}/redraft", params=OF, json={"instruction": "say: It is paid."})
    assert answer.status_code == 200, answer.text
    after = answer.json()["data"]
    assert after["text"] == before["text"] + " It is paid."
    assert after["redraft"] == 2
    found = client.get(f"{WHERE}/drafts", params=OF).json()["data"]
    assert [(v["made_by"], v["instruction"]) for v in found] == [
        ("redraft", "say: It is paid."),
        ("pipeline", ""),
    ]


def test_what_cannot_be_followed_is_said(client: TestClient) -> None:
    answer = client.post(f"{WHERE}/redraft", params=OF, json={"instruction": "with charm"})
    assert answer.status_code == 409
    assert "no language model is set" in answer.json()["error"]["message"]


def test_the_page_asks_for_a_new_draft_and_shows_the_versions(
    stores: Stores, client: TestClient
) -> None:
    set_password(stores.database, "ana", PASSWORD, datetime.now(UTC))
    browser = TestClient(create_app(stores), follow_redirects=False)
    browser.post("/login", data={"user": "ana", "password": PASSWORD})
    browser.headers["x-csrf-token"] = csrf_of(stores, "ana")
    where = {"of": "ana-chat", "conversation": "c1:m1"}
    answer = browser.post(
        "/inbox/redraft", params=where, data={"instruction": "say: It is paid <b>today</b>."}
    )
    assert answer.status_code == 200, answer.text
    assert "open-again" in answer.headers["hx-trigger"]
    thread = browser.get("/inbox/conversation", params=where).text
    assert "Draft, made anew" in thread
    assert "It is paid &lt;b&gt;today&lt;/b&gt;." in thread
    listed = browser.get("/inbox/drafts", params=where).text
    assert "as it was drafted" in listed
    assert "&lt;b&gt;" in listed
    assert "<b>" not in listed
    refused = browser.post("/inbox/redraft", params=where, data={"instruction": "with charm"})
    assert refused.status_code == 409
    assert "no language model is set" in refused.text
