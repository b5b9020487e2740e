"""KV's limits, and what it answers when something is wrong. Its everyday side is tested against
workerd (`peers/test_kv_workerd.py`), which refuses, delays and forgets nothing."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from cloudflare import APIStatusError

from communicator_pipeline.storage import kv
from communicator_pipeline.storage.cloudflare import CallBudget, CallsUsedUp, CloudflareAccount
from communicator_pipeline.storage.kv import KvFailed, KvStore

TOKEN = "made-up-token-of-the-tests"
BASE = "/client/v4/accounts/acc/storage/kv/namespaces/"


@dataclass
class KvServer:
    """KV's REST endpoints, shaped by the documented bodies and the official SDK's types."""

    url: str = ""
    now: float = 0.0  # seconds that the clock was put forward
    values: dict[str, tuple[bytes, float]] = field(default_factory=dict)  # value, expires at
    calls: list[str] = field(default_factory=list)
    faults: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    unwritten: list[list[str]] = field(default_factory=list)  # of the next bulk calls

    def there(self) -> dict[str, bytes]:
        now = time.time() + self.now
        return {key: value for key, (value, until) in self.values.items() if until > now}

    def answer(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, Any]:
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        found = re.fullmatch(re.escape(BASE) + r"(\w+)/(.+)", parts.path)
        if not found or found[1] != "ns":
            return 404, _errors(10013, "namespace not found")
        what = found[2]
        self.calls.append(f"{method} {what.split('/')[0] if 'values' in what else what}")
        if what == "keys":
            names = sorted(k for k in self.there() if k.startswith(query.get("prefix", "")))
            start = int(query.get("cursor", "0"))
            page = names[start : start + int(query["limit"])]
            more = str(start + len(page)) if start + len(page) < len(names) else ""
            return 200, {
                **_done([{"name": name} for name in page]),
                "result_info": {"count": len(page), "cursor": more},
            }
        if what == "bulk/get":
            there = self.there()
            asked = json.loads(body)["keys"]
            assert len(asked) <= 100
            if sum(len(there.get(key, b"")) for key in asked) > 25_000_000:
                return 413, _errors(10034, "too much")
            texts = {k: there[k].decode(errors="replace") if k in there else None for k in asked}
            return 200, _done({"values": texts})
        if what in ("bulk", "bulk/delete"):
            assert len(body) <= 100_000_000
            pairs = json.loads(body)
            assert len(pairs) <= 10_000
            failed = self.unwritten.pop(0) if self.unwritten else []
            for pair in pairs:
                if what == "bulk/delete" and pair not in failed:
                    self.values.pop(pair, None)
                elif what == "bulk" and pair["key"] not in failed:
                    self.keep(
                        pair["key"],
                        base64.b64decode(pair["value"]) if pair.get("base64") else pair["value"],
                        pair.get("expiration_ttl"),
                    )
            done = len(pairs) - len(failed)
            return 200, _done({"successful_key_count": done, "unsuccessful_keys": failed})
        key = unquote(what.removeprefix("values/"))
        if method == "PUT":
            form = BytesParser().parsebytes(f"content-type: {kind}\n\n".encode() + body)
            [value] = [
                part.get_payload(decode=True)
                for part in form.get_payload()
                if part.get_param("name", header="content-disposition") == "value"
            ]
            self.keep(key, value, query.get("expiration_ttl"))
            return 200, _done({})
        if key not in self.there():
            return 404, _errors(10009, "get: 'key not found'")
        if method == "DELETE":
            del self.values[key]
            return 200, _done({})
        return 200, self.there()[key]

    def keep(self, key: str, value: bytes, ttl: Any) -> None:
        until = time.time() + self.now + float(ttl) if ttl else float("inf")
        self.values[key] = value, until


def _done(result: Any) -> dict[str, Any]:
    return {"success": True, "errors": [], "messages": [], "result": result}


def _errors(code: int, message: str) -> dict[str, Any]:
    return {"success": False, "errors": [{"code": code, "message": message}], "messages": []}


@pytest.fixture
def server() -> Iterator[KvServer]:
    state = KvServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers: dict[str, str] = {}
            if self.headers["authorization"] != f"Bearer {TOKEN}":
                status, answer = 403, _errors(10000, "Authentication error")
            elif state.faults:
                status, headers = state.faults.pop(0)
                answer = _errors(status, "no")
            else:
                kind = self.headers.get("content-type") or ""
                status, answer = state.answer(self.command, self.path, body, kind)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            kinds = {True: "application/octet-stream", False: "application/json"}
            self.send_header("content-type", kinds[isinstance(answer, bytes)])
            self.send_header("content-length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    state.url = f"http://127.0.0.1:{listening.server_port}/client/v4"
    threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
    yield state
    listening.shutdown()
    listening.server_close()


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
