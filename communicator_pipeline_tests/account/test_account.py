"""The contract tests on a real Cloudflare account, for those who have one: `make test-account`.

It needs `CLOUDFLARE_ACCOUNT_ID` and `CLOUDFLARE_API_TOKEN` with the right to edit D1, KV, Queues
and R2, and for the bucket's tests `COMMUNICATOR_R2_KEY_ID` and `COMMUNICATOR_R2_SECRET` of a key
for all buckets. Everything that it makes is called `communicator-contract-…`, and goes at the end;
what a killed run has left goes at the beginning of the next. It costs less than a cent.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cloudflare import APIStatusError

from communicator_pipeline.ingestion.edge_queue import move
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.accounts import Accounts, add_user
from communicator_pipeline.storage.cloudflare import CallBudget, CloudflareAccount
from communicator_pipeline.storage.d1 import D1Database
from communicator_pipeline.storage.database import migrate
from communicator_pipeline.storage.kv import KvStore
from communicator_pipeline_tests.storage.d1_contract import TABLE, D1Contract
from communicator_pipeline_tests.storage.objects_contract import ObjectsContract, R2Opener

pytestmark = pytest.mark.account

PREFIX = "communicator-contract-"
SOON = 120.0  # seconds until what is eventual has happened


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudflareAccount]:
    """The account, without what an earlier run has left in it."""
    missing = [
        name
        for name in ("CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_TOKEN")
        if not os.environ.get(name)
    ]
    if missing:
        pytest.fail(f"set {' and '.join(missing)}: these tests ask a real account")
    budget = CallBudget(tmp_path_factory.mktemp("calls") / "calls.db")
    opened = CloudflareAccount(
        os.environ["CLOUDFLARE_ACCOUNT_ID"], os.environ["CLOUDFLARE_API_TOKEN"], budget
    )
    clean_up(opened)
    yield opened
    clean_up(opened)


def clean_up(account: CloudflareAccount) -> None:
    """Delete everything that bears the name of these tests."""
    client, where = account.client(), {"account_id": account.account_id}
    for database in list(client.d1.database.list(**where)):
        if (database.name or "").startswith(PREFIX):
            client.d1.database.delete(database.uuid or "", **where)
    for namespace in list(client.kv.namespaces.list(**where)):
        if namespace.title.startswith(PREFIX):
            client.kv.namespaces.delete(namespace.id, **where)
    for queue in list(client.queues.list(**where)):
        if (queue.queue_name or "").startswith(PREFIX):
            client.queues.delete(queue.queue_id or "", **where)
    for bucket in client.r2.buckets.list(**where).buckets or []:
        name = bucket.name or ""
        if name.startswith(PREFIX):
            opener = _opener(account, name, Path("unused"))
            if opener is not None:
                objects = opener()
                for info in list(objects.list("")):
                    objects.delete(info.key)
            with suppress(APIStatusError):  # not empty, and no key to empty it: the next run's
                client.r2.buckets.delete(name, **where)


def _opener(account: CloudflareAccount, bucket: str, cache: Path) -> R2Opener | None:
    key_id, secret = (
        os.environ.get(f"COMMUNICATOR_R2_{name}", "") for name in ("KEY_ID", "SECRET")
    )
    if not (key_id and secret):
        return None
    endpoint = f"https://{account.account_id}.r2.cloudflarestorage.com"
    return R2Opener(endpoint, bucket, key_id, secret, cache)


@pytest.fixture(scope="session")
def database_id(account: CloudflareAccount) -> str:
    made = account.client().d1.database.create(
        account_id=account.account_id, name=PREFIX + secrets.token_hex(6)
    )
    assert made.uuid
    migrate(D1Database(account, made.uuid))
    return made.uuid


class TestD1(D1Contract):
    @pytest.fixture
    def database(self, account: CloudflareAccount, database_id: str) -> Iterator[D1Database]:
        opened = D1Database(account, database_id)
        opened.execute("DROP TABLE IF EXISTS t")
        opened.execute("DELETE FROM write_fences WHERE fence = 'a fence'")
        opened.execute(TABLE)
        yield opened
        opened.execute("DROP TABLE t")


class TestR2(ObjectsContract):
    @pytest.fixture(scope="class")
    def bucket(self, account: CloudflareAccount) -> str:
        if _opener(account, "", Path("unused")) is None:
            pytest.skip("set COMMUNICATOR_R2_KEY_ID and COMMUNICATOR_R2_SECRET for the bucket")
        name = PREFIX + secrets.token_hex(6)
        account.client().r2.buckets.create(account_id=account.account_id, name=name)
        return name

    @pytest.fixture
    def opener(self, account: CloudflareAccount, bucket: str, tmp_path: Path) -> R2Opener:
        opened = _opener(account, bucket, tmp_path / "cache")
        assert opened is not None
        objects = opened()
        for info in list(objects.list("")):
            objects.delete(info.key)
        return opened


def test_kv_keeps_lists_and_forgets(account: CloudflareAccount) -> None:
    made = account.client().kv.namespaces.create(
        account_id=account.account_id, title=PREFIX + secrets.token_hex(6)
    )
    store = KvStore(account, made.id)
    values = {f"answers/ünï/{number}": bytes([number] * 10) for number in range(100)}
    store.put_many(values, 3_600)
    eventually(lambda: store.get_many(list(values)) == values)
    eventually(lambda: sorted(store.list("answers/")) == sorted(values))
    assert store.get("answers/nothing") is None
    store.delete_many(list(values))
    eventually(lambda: list(store.list("answers/")) == [])


def test_what_is_queued_is_moved_once_and_comes_again_if_it_is_not_acknowledged(
    account: CloudflareAccount, tmp_path: Path
) -> None:
    client, where = account.client(), {"account_id": account.account_id}
    queue = client.queues.create(queue_name=PREFIX + secrets.token_hex(6), **where)
    assert queue.queue_id
    client.queues.consumers.create(queue.queue_id, type="http_pull", **where)
    stores = open_local(tmp_path / "home")
    add_user(stores.database, "ana", "Ana")
    Accounts(stores.database, "ana").add("ana-chat", "generic", "Chat")
    for number in range(20):
        message = {"account": "ana-chat", "platform": "generic", "key": f"k{number}", "body": "é"}
        client.queues.messages.push(
            queue.queue_id, body=json.dumps(message), content_type="text", **where
        )
    broken = BrokenStores(stores)
    eventually(lambda: raises(lambda: move(account, queue.queue_id or "", broken.stores)))
    broken.mend()
    time.sleep(65)  # the lease of what was pulled and not acknowledged

    def all_there() -> bool:
        move(account, queue.queue_id or "", stores)
        return len(stores.database.execute("SELECT * FROM pushes")) == 20

    eventually(all_there)
    assert move(account, queue.queue_id, stores).pulled == 0


class BrokenStores:
    """Stores whose database refuses pushes until it is mended."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        stores.database.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON pushes BEGIN SELECT raise(ABORT, 'no'); END"
        )

    def mend(self) -> None:
        self.stores.database.execute("DROP TRIGGER broken")


def raises(what: Any) -> bool:
    try:
        what()
    except Exception:
        return True
    return False


def eventually(what: Any) -> None:
    until = time.monotonic() + SOON
    while not what():
        assert time.monotonic() < until, f"it was not so within {SOON:.0f} s"
        time.sleep(2)
