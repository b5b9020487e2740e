"""KV's REST interface in memory, with faults at will.

Belongs here: the documented bodies and limits, a clock that can be put forward, and what can go
wrong. Whether the everyday shape is the real one, the tests in `peers/` ask workerd.

Other than the real one: everything is consistent at once; a namespace, `ns`, and no metadata.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

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


@contextmanager
def kv_server() -> Iterator[KvServer]:
    """Run one on a free port of 127.0.0.1."""
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
    try:
        yield state
    finally:
        listening.shutdown()
        listening.server_close()
