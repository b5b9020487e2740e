"""What the gateway's tests share: two people with a box each, and browsers that are signed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient

from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage import sign_in as sign_in_secrets
from communicator_pipeline.storage.accounts import Accounts, add_user
from communicator_pipeline.storage.sign_in import set_password
from communicator_pipeline_tests.delivery.world import ACCOUNT, add_box, say

PASSWORD = "five plain words and more"
BOS_ACCOUNT = "bo-box"

SignIn = Callable[[str], TestClient]


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 that takes no time: what it costs to guess is not what is tested here."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(sign_in_secrets, "_HASHER", quick)


@pytest.fixture
def box(stores: Stores) -> Stores:
    """ana's box with one conversation that waits for a reply, and bo, who has a box too."""
    add_box(stores)
    say(stores, "Can you come at five?", draft="Yes, I can.")
    add_user(stores.database, "bo", "Bo")
    bos = Accounts(stores.database, "bo")
    bos.add(BOS_ACCOUNT, "sandbox", "Bo's box")
    for user in ("ana", "bo"):
        set_password(stores.database, user, PASSWORD, datetime.now(UTC))
    # Set for the delivery's tests, where bo shares ana's box.
    stores.database.execute(
        "DELETE FROM account_members WHERE account = ? AND user_id = 'bo'", (ACCOUNT,)
    )
    return stores


@pytest.fixture
def browser(box: Stores) -> Iterator[TestClient]:
    """A browser that is not signed in."""
    with TestClient(create_app(box), follow_redirects=False) as client:
        yield client


@pytest.fixture
def sign_in(box: Stores) -> Iterator[SignIn]:
    """Opens a browser that is signed in, with its CSRF token in every request."""
    opened: list[TestClient] = []

    def open_for(user: str) -> TestClient:
        client = TestClient(create_app(box), follow_redirects=False)
        client.__enter__()
        opened.append(client)
        answer = client.post("/login", data={"user": user, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        client.headers["x-csrf-token"] = csrf_of(box, user)
        return client

    yield open_for
    for client in opened:
        client.__exit__(None, None, None)


def csrf_of(stores: Stores, user: str) -> str:
    rows = stores.database.execute(
        "SELECT csrf FROM sessions WHERE user_id = ? ORDER BY created_at DESC LIMIT 1", (user,)
    )
    return str(rows[0]["csrf"])
