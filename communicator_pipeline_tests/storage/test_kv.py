"""KV's limits, and what it answers when something is wrong. Its everyday side is tested against
workerd (`peers/test_kv_workerd.py`), which refuses, delays and forgets nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloudflare import APIStatusError, RateLimitError

from communicator_pipeline.storage import kv
from communicator_pipeline.storage.cloudflare import CallBudget, CallsUsedUp, CloudflareAccount
from communicator_pipeline.storage.kv import KvFailed, KvStore
from communicator_pipeline_tests.storage.kv_server import TOKEN, KvServer, kv_server


@pytest.fixture
def server() -> Iterator[KvServer]:
    with kv_server() as running:
        yield running


@pytest.fixture
def account(server: KvServer, tmp_path: Path) -> CloudflareAccount:
    return CloudflareAccount("acc", TOKEN, CallBudget(tmp_path / "calls.db"), server.url, 10.0)


@pytest.fixture
def store(account: CloudflareAccount) -> KvStore:
    return KvStore(account, "ns")


@pytest.mark.parametrize("together", [True, False])
def test_a_value_goes_when_its_time_is_over(
    server: KvServer, store: KvStore, together: bool
) -> None:
    if together:
        store.put_many({"k": b"x"}, ttl_seconds=60)
    else:
        store.put("k", b"x", ttl_seconds=60)
    store.put("stays", b"y")
    server.now = 59
    assert store.get("k") == b"x"
    server.now = 61
    assert store.get("k") is None
    assert store.get_many(["k", "stays"]) == {"stays": b"y"}


def test_an_absent_value_is_none_and_deleting_it_no_error(store: KvStore) -> None:
    assert store.get("none") is None
    store.delete("none")
    store.delete_many(["none"])
    assert store.get_many([]) == {}
    store.put_many({})


def test_bytes_that_are_no_text_come_back_whole(server: KvServer, store: KvStore) -> None:
    values = {"a": b"\xff\x00", "b": "�".encode(), "c": b"plain"}
    store.put_many(values)
    assert store.get_many(["a", "b", "c", "d"]) == values
    assert server.calls.count("GET values") == 2  # only those that the bulk read cannot tell


def test_values_that_are_too_large_together_are_asked_for_in_halves(
    server: KvServer, store: KvStore
) -> None:
    values = {f"k{n}": bytes([97 + n]) * 7_000_000 for n in range(5)}
    store.put_many(values)
    assert store.get_many(list(values)) == values
    assert server.calls.count("PUT bulk") == 1


def test_calls_are_cut_as_the_limits_are(
    server: KvServer, store: KvStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {f"k{n:05d}": b"x" for n in range(10_001)}
    store.put_many(values)
    assert server.calls == ["PUT bulk"] * 2
    assert list(store.list("k")) == list(values)
    assert server.calls.count("GET keys") == 11
    assert store.get_many(list(values)[:201]) == dict.fromkeys(list(values)[:201], b"x")
    assert server.calls.count("POST bulk/get") == 2  # and one alone
    store.delete_many(list(values))
    assert server.calls.count("POST bulk/delete") == 2
    assert server.values == {}
    monkeypatch.setattr(kv, "LARGEST_PUT", 10)
    assert [list(part) for part in kv._calls({"a": b"12345", "b": b"12345", "c": b"1"})] == [
        ["a", "b"],
        ["c"],
    ]


def test_keys_that_were_not_written_are_written_again(server: KvServer, store: KvStore) -> None:
    server.unwritten = [["b", "c"], ["c"]]
    store.put_many({"a": b"1", "b": b"2", "c": b"3"})
    assert server.there() == {"a": b"1", "b": b"2", "c": b"3"}
    server.unwritten = [["a"], ["a"], ["a"]]
    with pytest.raises(KvFailed, match="'a' among them"):
        store.put_many({"a": b"4"})
    server.unwritten = [["a"]]
    store.delete_many(["a", "b"])
    assert server.there() == {"c": b"3"}
    server.unwritten = [["c"]] * 3
    with pytest.raises(KvFailed, match="not deleted"):
        store.delete_many(["c"])


@pytest.mark.parametrize(
    ("key", "value", "ttl", "why"),
    [
        ("", b"", None, "no key"),
        ("..", b"", None, "no key"),
        ("ü" * 257, b"", None, "514 bytes"),
        ("k", bytes(25 * 2**20 + 1), None, "26214401 bytes"),
        ("k", b"", 59, "60 s"),
        ("k", b"\xef\xbb\xbfx", None, "byte order mark"),
    ],
)
def test_what_kv_would_not_take_is_refused_before_it_is_sent(
    server: KvServer, store: KvStore, key: str, value: bytes, ttl: int | None, why: str
) -> None:
    for write in (
        lambda: store.put(key, value, ttl),
        lambda: store.put_many({"good": b"x", key: value}, ttl),
    ):
        with pytest.raises(ValueError, match=why):
            write()
    assert server.calls == []


def test_a_429_is_waited_out_and_counts_for_all(
    server: KvServer, store: KvStore, account: CloudflareAccount
) -> None:
    server.faults = [(429, {"retry-after": "0"})]
    store.put("k", b"x")
    assert server.there() == {"k": b"x"}
    server.faults = [(429, {"retry-after": "300"})]
    with pytest.raises(CallsUsedUp):
        store.get("k")
    assert account.budget
    assert account.budget.blocked_until() > time.time() + 200
    with pytest.raises(CallsUsedUp):
        KvStore(account, "ns").put("k", b"y")


def test_who_writes_a_key_too_often_waits_a_second_and_puts_nobody_off(
    server: KvServer, store: KvStore, account: CloudflareAccount
) -> None:
    for write in (
        lambda: store.put("k", b"x"),
        lambda: store.put_many({"k": b"y"}),
        lambda: store.delete("k"),
        lambda: store.delete_many(["k"]),
    ):
        server.faults = [(429, {})]
        began = time.monotonic()
        write()
        assert server.faults == []
        assert 1.0 <= time.monotonic() - began < 5.0
    assert server.there() == {}
    assert account.budget
    assert account.budget.blocked_until() == 0


def test_a_write_that_is_refused_for_ever_fails_and_puts_nobody_off(
    server: KvServer,
    store: KvStore,
    account: CloudflareAccount,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kv, "SAME_KEY_AGAIN", 0.01)
    server.faults = [(429, {})] * 100
    with pytest.raises(RateLimitError):
        store.put("k", b"x")
    assert len(server.faults) == 95
    server.faults = []
    store.put("k", b"x")
    assert server.there() == {"k": b"x"}


@pytest.mark.parametrize("write", [True, False])
def test_a_refusal_of_the_user_counts_for_all(
    server: KvServer, store: KvStore, account: CloudflareAccount, write: bool
) -> None:
    # Of a read there is no other limit, so it need not say how long.
    server.faults = [(429, {"retry-after": "300"} if write else {})]
    with pytest.raises(CallsUsedUp):
        store.put("k", b"x") if write else store.get("k")
    assert account.budget
    assert account.budget.blocked_until() > time.time() + 200


def test_every_call_counts(store: KvStore, account: CloudflareAccount) -> None:
    store.put_many({f"k{n}": b"x" for n in range(1_500)})
    assert len(list(store.list())) == 1_500
    assert account.budget
    assert account.budget.used() == 3


def test_what_may_pass_is_asked_again(server: KvServer, store: KvStore) -> None:
    server.faults = [(503, {}), (500, {})]
    store.put("k", b"x")
    assert store.get("k") == b"x"


def test_a_wrong_namespace_and_a_wrong_token_are_no_absence(
    server: KvServer, account: CloudflareAccount
) -> None:
    for ask in (lambda s: s.get("k"), lambda s: s.delete("k"), lambda s: s.get_many(["k"])):
        with pytest.raises(KvFailed, match="COMMUNICATOR_KV_NAMESPACE"):
            ask(KvStore(account, "other"))
    stranger = CloudflareAccount("acc", "wrong", account.budget, server.url)
    with pytest.raises(APIStatusError) as told:
        KvStore(stranger, "ns").get("k")
    assert "wrong" not in str(told.value)


def test_what_was_read_is_remembered_for_a_while(
    server: KvServer, account: CloudflareAccount
) -> None:
    store = KvStore(account, "ns", remember=0.3)
    server.values = {"a": (b"1", float("inf")), "b": (b"2", float("inf"))}
    assert store.get("a") == b"1"
    assert store.get("none") is None
    calls = len(server.calls)
    assert (store.get("a"), store.get("none")) == (b"1", None)
    assert store.get_many(["a", "none"]) == {"a": b"1"}
    assert len(server.calls) == calls
    assert store.get_many(["a", "b"]) == {"a": b"1", "b": b"2"}
    store.put("a", b"own")
    assert store.get("a") == b"own"
    store.delete("a")
    assert store.get("a") is None
    server.values["a"] = (b"others", float("inf"))
    time.sleep(0.35)
    assert store.get("a") == b"others"
    assert set(store._known) == {"a"}
