"""How often a page asks the database: where it is elsewhere, each call is a journey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.database import Database, Row, Statement, Value
from communicator_pipeline_tests.delivery.world import ACCOUNT
from communicator_pipeline_tests.gateway.api_world import api_of
from communicator_pipeline_tests.gateway.conftest import SignIn


class Counting:
    """A database that counts its calls."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.calls = 0

    def execute(self, sql: str, params: Sequence[Value] = ()) -> list[Row]:
        self.calls += 1
        return self.database.execute(sql, params)

    def batch(self, statements: Sequence[Statement]) -> list[list[Row]]:
        self.calls += 1
        return self.database.batch(statements)


@pytest.mark.parametrize(
    "address",
    [
        f"/inbox/conversation?of={ACCOUNT}&conversation=c1",
        "/settings",
        "/inbox/list",
        "/inbox/contacts",
        "/figures",
    ],
)
def test_a_page_takes_no_more_than_three_calls(box: Stores, sign_in: SignIn, address: str) -> None:
    cookies = sign_in("ana").cookies
    counting = Counting(box.database)
    client = TestClient(create_app(replace(box, database=counting)), cookies=cookies)
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    assert 1 <= counting.calls <= 3


def test_a_contact_is_linked_across_accounts_and_filters_the_list(box: Stores) -> None:
    api = api_of(box, "ana")
    (message,) = api.data(
        "GET", f"/conversations/{ACCOUNT}/messages", params={"conversation_id": "c1"}
    )["items"]
    box.database.execute(
        "INSERT OR IGNORE INTO people (account, person_id, name, seen_at) VALUES (?, ?, 'Kim', '')",
        (ACCOUNT, message["author_id"]),
    )
    person = {"account": ACCOUNT, "person_id": message["author_id"]}
    made = api.data("POST", "/contacts", json={"name": "Kim", **person})
    path = f"/contacts/{made['contact_id']}"
    found = api.data("GET", path)
    assert [row["conversation_id"] for row in found["conversations"]] == ["c1"]
    api.refused(409, "POST", "/contacts", json={"name": "Another Kim", **person})
    api.data("DELETE", f"{path}/people", params=person)
    assert api.data("GET", path)["conversations"] == []
    assert len(api.data("GET", "/conversations")["items"]) == 1
    api.data("DELETE", path)
    api.refused(404, "GET", path)
