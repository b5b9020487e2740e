"""A server that speaks Example's API, for the tests: real requests over a real socket."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from communicator_pipeline.platforms.protocol import Push

TOKEN, SECRET = "example-token-5b1f", "example-secret-77aa"
PAGE = 3


class ExampleServer:
    """The peer of the contract tests: `with ExampleServer() as peer`."""

    channel_id = "c1"

    def __init__(self) -> None:
        self._messages: dict[str, dict[str, Any]] = {}
        self._events: list[dict[str, Any]] = []
        self._keys: dict[str, dict[str, Any]] = {}
        self._files: dict[str, bytes] = {}
        self._pushed = 0
        self._limited_until = 0.0
        self._revoked = False
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.values = {
            "token": TOKEN,
            "signing_secret": SECRET,
            "base_url": f"http://127.0.0.1:{self._http.server_port}",
        }

    def __enter__(self) -> ExampleServer:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def say(self, text: str, thread: str | None = None) -> str:
        message = self._post("ben", "Ben", self.channel_id, text, thread and thread.split(":")[1])
        return f"{self.channel_id}:{message['id']}"

    def send_file(self, text: str, name: str, content: bytes) -> str:
        """The other one sends a file along."""
        number = f"f{len(self._events) + 1}"
        self._files[number] = content
        files = [{"name": name, "id": number}]
        message = self._post("ben", "Ben", self.channel_id, text, None, files)
        return f"{self.channel_id}:{message['id']}"

    def lose_files(self) -> None:
        self._files.clear()

    def edit(self, message_id: str, text: str) -> None:
        message = self._messages[message_id.split(":")[1]]
        message |= {"text": text, "edited_at": _now()}
        self._happened(message)

    def delete(self, message_id: str) -> None:
        message = self._messages.pop(message_id.split(":")[1])
        self._happened({**message, "kind": "deletion", "text": None, "edited_at": _now()})

    def limit(self, seconds: float) -> None:
        self._limited_until = time.time() + seconds

    def revoke(self) -> None:
        self._revoked = True

    def spoil(self, message_id: str) -> None:
        native = message_id.split(":")[1]
        for event in [*self._events, *self._messages.values()]:
            if event["id"] == native:
                event["text"] = ["not", "a", "text"]

    def pushes(self) -> Sequence[Push]:
        news, self._pushed = self._events[self._pushed :], len(self._events)
        return [self._signed(json.dumps(event).encode()) for event in news]

    def _signed(self, body: bytes) -> Push:
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        return Push("POST", {"x-example-signature": signature}, {}, body)

    def _post(
        self,
        author: str,
        name: str,
        channel: str,
        text: str,
        thread: str | None,
        files: Sequence[dict[str, str]] = (),
    ) -> dict[str, Any]:
        native = f"m{len(self._events) + 1}"
        message = {
            "kind": "message",
            "id": native,
            "channel": channel,
            "channel_name": "general",
            "author": author,
            "author_name": name,
            "text": text,
            "thread": thread,
            "files": list(files),
            "sent_at": _now(),
            "edited_at": None,
        }
        self._messages[native] = message
        self._happened(message)
        return message

    def _happened(self, message: dict[str, Any]) -> None:
        self._events.append({**message, "number": len(self._events) + 1})

    def _answer(self, method: str, address: str, token: str, body: Any) -> tuple[int, Any]:
        parts = urlsplit(address)
        query = dict(parse_qsl(parts.query))
        if token != f"Bearer {TOKEN}" or self._revoked:
            return 401, {}
        if time.time() < self._limited_until:
            return 429, {}
        if method == "POST":
            if body["key"] not in self._keys:
                said = (body["channel"], body["text"], body["thread"])
                self._keys[body["key"]] = self._post("ana", "Ana", *said)
            return 200, self._keys[body["key"]]
        if parts.path == "/me":
            return 200, {"id": "ana", "name": "Ana", "server": "The example"}
        if parts.path == "/events":
            after = query["after"]
            first = 0 if after.startswith("t") else int(after)
            return 200, {"events": self._events[first : first + int(query["limit"])]}
        if parts.path.startswith("/files/"):
            content = self._files.get(parts.path.rsplit("/", 1)[1])
            return (404, {}) if content is None else (200, content)
        page = int(query["page"])
        within = [
            m for m in self._messages.values() if query["first"] <= m["sent_at"] < query["last"]
        ]
        pages = max(1, -(-len(within) // PAGE))
        return 200, {"messages": within[page * PAGE : (page + 1) * PAGE], "pages": pages}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply("GET", None)

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                self._reply("POST", json.loads(self.rfile.read(length)))

            def _reply(self, method: str, body: Any) -> None:
                token = self.headers.get("authorization", "")
                status, answer = server._answer(method, self.path, token, body)
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                if status == 429:
                    left = max(0.0, server._limited_until - time.time())
                    self.send_header("retry-after", f"{left:.3f}")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _now() -> str:
    return datetime.now(UTC).isoformat()
