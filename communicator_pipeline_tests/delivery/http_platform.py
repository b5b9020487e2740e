"""A small chat service on a real socket, whose answers can be cut anywhere.

Belongs here: the server and its client. Every request is committed before its answer is touched:
what is tested is what becomes of a send whose answer is lost.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

import httpx
import orjson

from communicator_pipeline.delivery.senders import Sender
from communicator_pipeline.platforms.protocol import (
    Absent,
    CannotTell,
    Client,
    FindResult,
    Identity,
    Page,
    Part,
    PullRequest,
    Sending,
    SendResult,
    Sent,
    Target,
    Unknown,
)

PROMISES = {
    "key": Sending(repeats=True, looks_up=False, longest=4_000),
    "look-up": Sending(repeats=False, looks_up=True, longest=4_000),
    "neither": Sending(repeats=False, looks_up=False, longest=4_000),
}


class Fault(NamedTuple):
    """What happens to an answer: after `cut` of its bytes the connection is reset, closed, or just
    says nothing more; or it is a 500."""

    kind: Literal["reset", "close", "stall", "500"]
    cut: int = 0


def answer_of(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\nconnection: close\r\n\r\n" + body


def cut_points(answer: bytes) -> list[int]:
    """Eight places in an answer: nothing of it, a byte, within and after the first line, within and
    after the head, within the body, all but one byte."""
    line, head = answer.index(b"\r\n"), answer.index(b"\r\n\r\n")
    return [0, 1, 9, line + 2, line + 20, head + 4, (head + 4 + len(answer)) // 2, len(answer) - 1]


@dataclass
class HttpPlatform:
    """The server. `plan` says what happens to the answer of a request, by its text and how often
    its token has come; `hold` keeps answers back until it is set."""

    promise: Sending
    plan: Callable[[str, int], Fault | None] = lambda text, nth: None
    arrivals: list[tuple[str, str]] = field(default_factory=list)  # token, text
    requests: list[str] = field(default_factory=list)  # tokens, repeats too
    hold: threading.Event = field(default_factory=threading.Event)
    committed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self.hold.set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def counts(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for token, _ in self.arrivals:
            found[token] = found.get(token, 0) + 1
        return found

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            head, _, rest = self._read(connection).partition(b"\r\n\r\n")
            if head.startswith(b"GET"):
                token = head.split(b" ")[1].rpartition(b"=")[2].decode()
                connection.sendall(answer_of(orjson.dumps({"id": self._find(token)})))
                return
            request = orjson.loads(rest)
            number, nth = self._commit(request["token"], request["text"])
            self.committed.release()
            self.hold.wait()
            self._answer(connection, number, self.plan(request["text"], nth))

    def _read(self, connection: socket.socket) -> bytes:
        data = b""
        while True:
            data += connection.recv(65_536)
            head, end, rest = data.partition(b"\r\n\r\n")
            if not end:
                continue
            lengths = [
                int(line.partition(b":")[2])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            ]
            if not lengths or len(rest) >= lengths[0]:
                return data

    def _commit(self, token: str, text: str) -> tuple[int, int]:
        with self._lock:
            self.requests.append(token)
            known = [n for n, (old, _) in enumerate(self.arrivals) if old == token]
            if known and self.promise.repeats:
                return known[0], self.requests.count(token)
            self.arrivals.append((token, text))
            return len(self.arrivals) - 1, self.requests.count(token)

    def _find(self, token: str) -> str | None:
        with self._lock:
            known = [n for n, (old, _) in enumerate(self.arrivals) if old == token]
        return f"m{known[0]:06}" if known else None

    def _answer(self, connection: socket.socket, number: int, fault: Fault | None) -> None:
        answer = answer_of(orjson.dumps({"id": f"m{number:06}"}))
        try:
            if fault is None:
                connection.sendall(answer)
            elif fault.kind == "500":
                connection.sendall(answer_of(b"{}", "500 Internal Server Error"))
            else:
                connection.sendall(answer[: fault.cut])
                if fault.kind == "stall":
                    connection.settimeout(10)
                    connection.recv(1)  # until the client has given up
                if fault.kind == "reset":
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        except OSError:
            return


class HttpClient:
    """What a platform's client does: one request, and what its answer means."""

    def __init__(self, http: httpx.Client, promise: Sending) -> None:
        self._http = http
        self._promise = promise

    def send(self, target: Target, part: Part, token: str) -> SendResult:
        body = {"channel": target.channel_id, "text": part.text, "token": token}
        try:
            answer = self._http.post("/send", json=body)
            answer.raise_for_status()
            return Sent(f"{target.channel_id}:{answer.json()['id']}")
        except (httpx.HTTPError, ValueError, KeyError) as error:
            return Unknown(type(error).__name__)

    def find_sent(self, target: Target, part: Part, token: str, since: datetime) -> FindResult:
        if not self._promise.looks_up:
            return CannotTell("there is no way to look")
        found = self._http.get("/find", params={"token": token}).json()["id"]
        return Sent(f"{target.channel_id}:{found}") if found else Absent()

    def identity(self) -> Identity:
        return Identity(("ana",), "Ana", "here")

    def pull(self, request: PullRequest) -> Iterator[Page]:
        return iter(())

    def download(self, url: str, most: int) -> bytes:
        raise FileNotFoundError(url)


class HttpSenders:
    """`Senders` for any account, in any process."""

    def __init__(self, port: int, promise: Sending, timeout: float = 30.0) -> None:
        self._address = f"http://127.0.0.1:{port}"
        self._promise = promise
        self._timeout = timeout

    @contextmanager
    def open(self, account: str) -> Iterator[Sender]:
        with httpx.Client(base_url=self._address, timeout=self._timeout, trust_env=False) as http:
            client: Client = HttpClient(http, self._promise)
            yield Sender(client, self._promise)
