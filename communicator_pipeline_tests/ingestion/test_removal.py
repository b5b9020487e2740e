"""Removing an account: whatever is killed, under way, or shared with others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from communicator_pipeline.chain import attachments, raw_messages
from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.ingestion import connecting
from communicator_pipeline.ingestion.connecting import (
    CLEAN_FOR,
    add_account,
    clear_removed,
    remove_account,
)
from communicator_pipeline.ingestion.poll import poll_one
from communicator_pipeline.ingestion.pull import pull_new
from communicator_pipeline.ingestion.push import drain, receive
from communicator_pipeline.platforms.example.live import ExampleClient
from communicator_pipeline.platforms.example.server import ExampleServer
from communicator_pipeline.platforms.protocol import Page, PullRequest
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, NotFound, add_user, removed_accounts
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.lake import AccountGone, AccountMonth, attachment_key
from communicator_pipeline_tests.conftest import EXAMPLE
from communicator_pipeline_tests.ingestion.test_push import ACCOUNT, KEY, message, push

OTHER = "ana-other"
MONTH = datetime.now(UTC).strftime("%Y-%m")


@pytest.fixture
def peer(example: None) -> Iterator[ExampleServer]:
    with ExampleServer() as server:
        yield server


@pytest.fixture
def connected(stores: Stores, peer: ExampleServer) -> Stores:
    for account in (EXAMPLE, OTHER):
        add_account(stores, "ana", account, "example", peer.values, lambda field: "")
    return stores


def materialised(stores: Stores, account: str) -> None:
    partition = AccountMonth(account, MONTH)
    for asset in (raw_messages, attachments):
        asset.materialise(stores, partition, Scope((partition,)))


def left(stores: Stores, account: str) -> list[str]:
    return [info.key for info in stores.lake.objects.list("") if f"/{account}/" in info.key]


def test_a_removal_that_was_killed_half_way_is_finished_by_the_same_call(
    connected: Stores, peer: ExampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.say("hello")
    pull_new(connected, EXAMPLE)
    materialised(connected, EXAMPLE)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(connecting, "_delete_objects", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_account(connected, "ana", EXAMPLE)
    assert left(connected, EXAMPLE)
    add_user(connected.database, "eve", "Eve")
    with pytest.raises(NotFound):
        remove_account(connected, "eve", EXAMPLE)
    assert remove_account(connected, "ana", EXAMPLE) > 0
    assert left(connected, EXAMPLE) == []


def test_the_key_of_a_removed_account_is_given_to_nobody_until_nothing_comes_any_more(
    connected: Stores, peer: ExampleServer
) -> None:
    add_user(connected.database, "ben", "Ben")
    remove_account(connected, "ana", EXAMPLE)
    with pytest.raises(ValueError, match="was removed a short while ago"):
        add_account(connected, "ben", EXAMPLE, "example", peer.values, lambda field: "")
    with pytest.raises(ValueError, match="was removed a short while ago"):
        Accounts(connected.database, "ben").add(EXAMPLE, "generic", "an import")
    late = f"landing/{EXAMPLE}/{MONTH}/1-01-a.parquet"
    connected.lake.objects.put(late, b"a pull that was under way")
    now = datetime.now(UTC)
    assert clear_removed(connected, now + CLEAN_FOR) == 1
    assert clear_removed(connected, now + 2 * CLEAN_FOR - timedelta(minutes=1)) == 0
    assert removed_accounts(connected.database)
    clear_removed(connected, now + 2 * CLEAN_FOR + timedelta(minutes=1))
    assert removed_accounts(connected.database) == []
    add_account(connected, "ben", EXAMPLE, "example", peer.values, lambda field: "")


def test_a_pull_and_a_run_under_way_end_quietly_and_leave_nothing(
    connected: Stores, peer: ExampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.say("hello")
    pull_new(connected, OTHER)
    whole = ExampleClient.pull

    def removed_meanwhile(self: ExampleClient, request: PullRequest) -> Iterator[Page]:
        for page in whole(self, request):
            remove_account(connected, "ana", EXAMPLE)
            yield page

    with monkeypatch.context() as patched:
        patched.setattr(ExampleClient, "pull", removed_meanwhile)
        assert poll_one(connected, EXAMPLE).state == "removed"
    assert poll_one(connected, EXAMPLE).state == "removed"
    merging = raw_messages.message_versions

    def removed_while_merging(*arguments: Any) -> Any:
        remove_account(connected, "ana", OTHER)
        return merging(*arguments)

    monkeypatch.setattr(raw_messages, "message_versions", removed_while_merging)
    with pytest.raises(AccountGone):
        materialised(connected, OTHER)
    clear_removed(connected, datetime.now(UTC))
    assert left(connected, EXAMPLE) == left(connected, OTHER) == []


def test_contents_go_with_the_last_account_that_has_them(
    connected: Stores, peer: ExampleServer
) -> None:
    peer.send_file("for both", "plan.pdf", b"%PDF")
    pull_new(connected, EXAMPLE)
    materialised(connected, EXAMPLE)
    pull_new(connected, OTHER)
    materialised(connected, OTHER)
    (content,) = [i.key for i in connected.lake.objects.list("attachments/")]
    remove_account(connected, "ana", EXAMPLE)
    assert connected.lake.objects.exists(content)
    remove_account(connected, "ana", OTHER)
    assert not connected.lake.objects.exists(content)


def test_contents_of_an_import_that_was_never_materialised_go_too(
    stores: Stores, connected: Stores
) -> None:
    from communicator_pipeline.storage.landing import Landing
    from communicator_pipeline.storage.work import WorkQueue
    from communicator_pipeline_tests.storage.test_landing import envelope

    sha256 = stores.lake.put_content(b"private photo")
    named = envelope(1)._replace(files=f'{{"photo.jpg": "{sha256}"}}')
    Landing(stores.lake, WorkQueue(stores.database), "ana-chat").land([named])
    remove_account(stores, "ana", "ana-chat")
    assert not stores.lake.objects.exists(attachment_key(sha256))


def test_a_limit_that_accounts_share_outlives_the_one_that_met_it(
    connected: Stores, peer: ExampleServer
) -> None:
    connections = Connections(connected)
    later = datetime.now(UTC) + timedelta(hours=1)
    connections.wait(EXAMPLE, "example:shared", later, "a limit")
    connections.wait(EXAMPLE, "", later, "its own")
    remove_account(connected, "ana", EXAMPLE)
    assert list(connections.waits(datetime.now(UTC))) == ["example:shared"]


def test_pushes_of_an_account_that_is_gone_disturb_nobody(stores: Stores) -> None:
    values = {"me": "ana", "push_key": KEY}
    for account in (ACCOUNT, "ana-gone"):
        add_account(stores, "ana", account, "generic", values, lambda field: "")
    for account in (ACCOUNT, "ana-gone"):
        assert receive(stores, "generic", account, push(message(1))).status == 200
    remove_account(stores, "ana", "ana-gone")
    assert drain(stores).landed == 1


# --- two logins on one place


def test_a_second_account_on_the_same_place_is_an_account_of_its_own(stores: Stores) -> None:
    def added(me: str, account: str | None = None) -> str:
        values = {"me": me, "name": "the shop", "push_key": KEY}
        return add_account(
            stores, "ana", account, "generic", values, lambda field: ""
        ).account.account

    assert added("shop") == "ana-generic-the-shop"
    assert added("crm") == "ana-generic-the-shop-crm"
    assert added("crm") == "ana-generic-the-shop-crm"  # the same one, logged in again
    assert added("shop") == "ana-generic-the-shop"
    with pytest.raises(ValueError, match="belongs to somebody else on the shop than crm"):
        added("crm", "ana-generic-the-shop")
    assert Accounts(stores.database, "ana").get("ana-generic-the-shop").me == {"shop"}


def test_a_key_that_is_anothers_or_was_removed_is_gone_round(stores: Stores) -> None:
    def added(user: str) -> str:
        values = {"me": "me", "name": "place", "push_key": KEY}
        return add_account(stores, user, None, "generic", values, lambda field: "").account.account

    add_user(stores.database, "ana-generic", "Another")
    Accounts(stores.database, "ana-generic").add("ana-generic-place", "generic", "x")
    assert added("ana") == "ana-generic-place-me"
    remove_account(stores, "ana", "ana-generic-place-me")
    assert added("ana") == "ana-generic-place-2"
