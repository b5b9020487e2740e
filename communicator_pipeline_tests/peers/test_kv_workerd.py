"""KV as workerd has it, through the REST endpoints of its explorer.

What they do differently from Cloudflare (wrangler 4.164, seen 2026-11): they know no accounts and
no token, everything is consistent at once, nothing is put off, a namespace that is not there
is one without keys. The path's `/client/v4/accounts/…` is taken off on the way.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from communicator_pipeline.storage.cloudflare import CloudflareAccount
from communicator_pipeline.storage.kv import KvStore
from communicator_pipeline_tests.peers.node import needs_peers
from communicator_pipeline_tests.peers.workerd import without_accounts, workerd

pytestmark = pytest.mark.peers

KEYS = [
    "taxonomy/ana",
    "answer:v1:abc",
    "a b+c%20d?e=f&g#h",
    "ünï/日本/🙂",
    'it\'s "quoted" \\ <x>',
    "x" * 512,
]


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URL without accounts in it, and the namespace's id."""
    needs_peers()
    folder = tmp_path_factory.mktemp("workerd")
    with workerd(folder) as peer, without_accounts(peer.explorer_url) as url:
        yield url, peer.kv_id


@pytest.fixture
def store(namespace: tuple[str, str]) -> KvStore:
    url, namespace_id = namespace
    opened = KvStore(CloudflareAccount("acc", "token", None, url, 60.0), namespace_id)
    opened.delete_many(list(opened.list()))
    return opened


@pytest.mark.parametrize("key", KEYS)
def test_any_key(store: KvStore, key: str) -> None:
    assert store.get(key) is None
    store.put(key, b"one")
    assert store.get(key) == b"one"
    assert list(store.list()) == [key]
    store.put_many({key: b"two", "other": b"x"})
    assert store.get_many([key, "other", "none"]) == {key: b"two", "other": b"x"}
    store.delete(key)
    assert store.get(key) is None
    assert list(store.list()) == ["other"]


VALUES = [
    b"",
    b"{}",
    "ünï 日本 🙂".encode(),
    b"\x00\x01\xff\xfe",
    "a sign of its own: �".encode(),
    b"x" * 1_000_000,
]


@pytest.mark.parametrize("together", [True, False])
def test_any_value(store: KvStore, together: bool) -> None:
    values = {f"v{number}": value for number, value in enumerate(VALUES)}
    if together:
        store.put_many(values, ttl_seconds=600)
    else:
        for key, value in values.items():
            store.put(key, value, ttl_seconds=600)
    for key, value in values.items():
        assert store.get(key) == value
    assert store.get_many(list(values)) == values


def test_many(store: KvStore) -> None:
    values = {f"many/{number:04d}": str(number).encode() for number in range(1_203)}
    store.put_many({**values, "other": b""})
    assert list(store.list("many/")) == list(values)
    assert store.get_many([*values, "none"]) == values
    store.delete_many([*values, "none"])
    assert list(store.list()) == ["other"]
