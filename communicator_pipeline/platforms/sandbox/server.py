"""The sandbox's server: its chat over HTTP, and faults as real as a socket makes them.

All JSON, `authorization: Bearer <token>`; `x-sandbox-name` says who you are (percent-encoded):

    GET  /me                                  who that is
    GET  /events?after=N&since=T              what happened behind event N, or since a time
    GET  /messages?first=T&last=T&after=N     history by time, as it is now
    GET  /messages?metadata=M&after=N         the messages that carry this metadata
    POST /messages                            send; a `key` makes repeats harmless, for good
    GET  /under_way                           how many other requests are not finished

A list has at most 100 entries, and `next`, the `after` of the next one. 401 is a wrong token, 429
has `retry-after` in seconds (a fraction, where real services round). Sends are counted by their
`x-sandbox-delivery`; nothing else comes of it, or a service without key would be one with it.

It speaks HTTP/1.1 itself, one request per connection: a server that others wrote can be taught
neither to end an answer too early nor to reset a connection at a given byte. It listens on
127.0.0.1 and nowhere else.
"""

from __future__ import annotations

import asyncio
import hmac
import multiprocessing
import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import orjson

from communicator_pipeline.platforms.sandbox.chat import Chat, Send, person_id
from communicator_pipeline.platforms.sandbox.faults import NOT_STORED, Fault
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.database import Row

HOST = "127.0.0.1"
PORT = 8701
PAGE = 100
LARGEST = 2**20  # bytes of a request's head, and of its body
PATIENCE = 30.0  # seconds for a request to come in
WAITING = 512  # connections


class Request(NamedTuple):
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytes = b""

    @property
    def sends(self) -> bool:
        return self.method == "POST"


class Answer(NamedTuple):
    status: int
    content: Any
    headers: Mapping[str, str] = {}

    def spelled(self) -> bytes:
        content = orjson.dumps(self.content)
        headers = {
            **self.headers,
            "content-type": "application/json",
            "content-length": str(len(content)),
            "connection": "close",
        }
        head = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return head.encode() + b"\r\n" + content


class Service:
    """Requests of a chat, one at a time each, as a socket brings them."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._under_way = 0

    async def listen(self, listening: socket.socket) -> None:
        """Serve until it is cancelled."""
        server = await asyncio.start_server(self.converse, sock=listening, limit=LARGEST)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer, or what a fault makes of them."""
        self._under_way += 1
        try:
            await self._converse(reader, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # the other side is gone, or speaks no HTTP
        finally:
            self._under_way -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
        try:
            request, length = read_head(head)
        except ValueError as error:
            writer.write(_invalid(error).spelled())
            return
        if request.path == "/under_way":
            writer.write(self._answer(request, None).spelled())
            return
        fault = self._chat.faults.take(request.sends)
        whole = len(head) + length
        wanted = whole
        if fault and fault.kind == "refuse" and fault.at is not None:
            wanted = min(whole, max(fault.at, len(head)))
        async with asyncio.timeout(PATIENCE):
            request = request._replace(body=await reader.readexactly(wanted - len(head)))
        if fault is None:
            writer.write(self._answer(request, None).spelled())
        else:
            await self._go_wrong(fault, request, reader, writer)

    async def _go_wrong(
        self,
        fault: Fault,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        seconds = fault.seconds or 0.0
        if fault.kind == "late":
            await asyncio.sleep(seconds)
        answer = self._answer(request, fault).spelled()
        if fault.kind == "refuse":
            _reset(writer)
        elif fault.kind == "reset":
            writer.write(answer[: fault.at or 0])
            await writer.drain()
            _reset(writer)
        elif fault.kind == "timeout":
            writer.write(answer[: fault.at or 0])
            await reader.read()  # until the other side has had enough
        elif fault.kind == "truncate":
            writer.write(answer[: len(answer) // 2 if fault.at is None else fault.at])
        else:
            if fault.kind == "slow":
                await asyncio.sleep(seconds)
            writer.write(answer)

    def _answer(self, request: Request, fault: Fault | None) -> Answer:
        kind = fault.kind if fault else ""
        try:
            if kind in NOT_STORED or not self._may(request):
                if request.sends:
                    self._chat.not_stored(_read_send(request, whole=False), kind)
                return _refusal(fault)
            answer = self._do(request, kind)
        except NotFound as error:
            return Answer(404, {"error": str(error)})
        except (KeyError, ValueError, TypeError) as error:
            return _invalid(error)
        return Answer(500, {"error": "on demand"}) if kind == "error" else answer

    def _may(self, request: Request) -> bool:
        borne = request.headers.get("authorization", "").encode(errors="replace")
        return hmac.compare_digest(borne, f"Bearer {self._chat.token()}".encode())

    def _do(self, request: Request, fault: str) -> Answer:
        query = request.query
        match request.method, request.path:
            case "POST", "/messages":
                message_id, sent_at = self._chat.post(_read_send(request), fault)
                native = message_id.rpartition(":")[2]
                return Answer(200, {"id": native, "sent_at": sent_at.isoformat()})
            case "GET", "/me":
                name = _name(request)
                return Answer(200, {"id": person_id(name), "name": name, "server": "the sandbox"})
            case "GET", "/events":
                since = datetime.fromisoformat(query["since"]) if "since" in query else None
                rows = self._chat.events(int(query.get("after", 0)), since, PAGE)
                return _list("events", rows, "event", query)
            case "GET", "/messages":
                after = int(query.get("after", 0))
                if "metadata" in query:
                    rows = self._chat.marked(query["metadata"], after, PAGE)
                else:
                    first = datetime.fromisoformat(query["first"])
                    last = datetime.fromisoformat(query["last"])
                    rows = self._chat.window(first, last, after, PAGE)
                return _list("messages", rows, "number", query)
            case "GET", "/under_way":
                return Answer(200, {"requests": self._under_way - 1})
        raise NotFound(f"there is nothing at {request.method} {request.path}")


def read_head(head: bytes) -> tuple[Request, int]:
    """A request without its body, and the body's length; raises `ValueError`."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    parts = urlsplit(target)
    length = int(headers.get("content-length", 0))
    if not 0 <= length <= LARGEST or "transfer-encoding" in headers:
        raise ValueError(f"a body should have a content-length of at most {LARGEST}")
    return Request(method, parts.path, dict(parse_qsl(parts.query)), headers), length


def _read_send(request: Request, whole: bool = True) -> Send:
    """What is to be sent; of half a request, as much as can be known."""
    try:
        body = orjson.loads(request.body)
        texts = {
            name: body.get(name)
            for name in ("channel", "text", "thread", "reply_to", "key", "metadata")
        }
        if not all(isinstance(text, str | None) for text in texts.values()):
            raise ValueError("everything in a message to send should be a text")
    except (ValueError, AttributeError):
        if whole:
            raise ValueError("a message to send should be a JSON object of texts") from None
        texts = {}
    texts = {"channel": "", "text": "", **{k: v for k, v in texts.items() if v is not None}}
    delivery = unquote(request.headers.get("x-sandbox-delivery", ""))
    return Send(author=_name(request), delivery=delivery, **texts)


def _name(request: Request) -> str:
    return unquote(request.headers.get("x-sandbox-name", "")) or "you"


def _list(name: str, rows: list[Row], counted_by: str, query: Mapping[str, str]) -> Answer:
    after = rows[-1][counted_by] if rows else query.get("after", "0")
    return Answer(200, {name: [_entry(row) for row in rows], "next": str(after)})


def _entry(row: Row) -> dict[str, Any]:
    entry = {key: value for key, value in row.items() if key not in ("number", "event", "deleted")}
    deleted = row["deleted"] if "deleted" in row else row["kind"] == "deletion"
    return {
        **entry,
        "id": str(row["number"]),
        "kind": "deletion" if deleted else "message",
        "text": None if deleted else row["text"],
        "thread": str(row["thread"]) if row["thread"] else None,
        "reply_to": str(row["reply_to"]) if row["reply_to"] else None,
    }


def _refusal(fault: Fault | None) -> Answer:
    if fault and fault.kind == "fail":
        return Answer(500, {"error": "on demand"})
    if fault and fault.kind == "limit":
        return Answer(429, {"error": "on demand"}, {"retry-after": f"{fault.seconds or 0:g}"})
    return Answer(401, {"error": "the token is not this sandbox's"})


def _invalid(error: Exception) -> Answer:
    return Answer(400, {"error": str(error)})


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with a RST instead of a FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def serve(path: Path, port: int, ready: Callable[[], None] = lambda: None) -> None:
    """Serve the chat in a file until the process ends, and say when it listens; raises `OSError`
    if the port is taken."""
    try:
        listening = socket.create_server((HOST, port), backlog=WAITING)
    except OSError as error:
        raise OSError(f"port {port} cannot be had, choose another: {error.strerror}") from None
    with listening:
        ready()
        asyncio.run(Service(Chat(path)).listen(listening))


class SandboxServer:
    """The server for tests: `with SandboxServer(path) as server`.

    It runs in a thread; with `process=True` in a process of its own, which can be killed and
    started again on the same port and file. Whatever it does can be read in `chat`.
    """

    def __init__(self, path: Path, process: bool = False) -> None:
        self.chat = Chat(path)
        self.port = free_port()
        self.address = f"http://{HOST}:{self.port}"
        self._in_process = process
        self._process: Any = None
        self._stop: Any = None

    def values(self, mode: str = "key", name: str = "you") -> dict[str, str]:
        """What `accounts add` is given."""
        token = self.chat.token()
        return {"base_url": self.address, "name": name, "mode": mode, "token": token}

    def __enter__(self) -> SandboxServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it listens."""
        if self._in_process:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([__name__])
            words = (self.chat.path, self.port)
            self._process = context.Process(target=_serve_child, args=words, daemon=True)
            self._process.start()
            self._wait_until_it_listens()
        else:
            listening = socket.create_server((HOST, self.port), backlog=WAITING)
            self._stop = _in_thread(Service(self.chat), listening)

    def stop(self) -> None:
        """End it: requests that are under way are cut off."""
        if self._in_process:
            self.kill()
        elif self._stop is not None:
            self._stop()
            self._stop = None

    def kill(self) -> None:
        """Kill the process, wherever it is. `start` goes on from what is in the file."""
        if self._process is not None:
            os.kill(self.pid, signal.SIGKILL)
            self._process.join()
            self._process = None

    @property
    def pid(self) -> int:
        """Of its own process, for other signals."""
        return int(self._process.pid)

    def wait_until_idle(self, seconds: float = 10.0) -> None:
        """Wait until no request is under way any more, not even one whose sender is dead; raises
        `TimeoutError`."""
        deadline = time.monotonic() + seconds
        headers = {"authorization": f"Bearer {self.chat.token()}"}
        with httpx.Client(headers=headers, timeout=5.0, trust_env=False) as http:
            quiet = 0
            while quiet < 2:  # twice: what was in the backlog at the first look is under way then
                if time.monotonic() > deadline:
                    raise TimeoutError(f"requests are under way after {seconds:g} seconds")
                under_way = http.get(f"{self.address}/under_way").json()["requests"]
                quiet = 0 if under_way else quiet + 1
                time.sleep(0.005)

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection((HOST, self.port), 1):
                return
            time.sleep(0.005)
        raise TimeoutError("the sandbox's server did not start")


def free_port() -> int:
    """A port below those that the system gives to clients: while nobody listens on it, a client
    that tries it could be given the very same one, and would be connected to itself."""
    while True:
        port = random.randrange(20_000, 30_000)
        with suppress(OSError), socket.create_server((HOST, port)):
            return port


def _serve_child(path: Path, port: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    serve(path, port)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def _in_thread(service: Service, listening: socket.socket) -> Any:
    """Serve in a thread; returns what stops it."""
    loop = asyncio.new_event_loop()

    def run() -> None:
        with suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(listen())

    tasks: list[asyncio.Task[Any]] = []
    running = threading.Event()

    async def listen() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        running.set()
        await service.listen(listening)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    running.wait()

    def stop() -> None:
        loop.call_soon_threadsafe(tasks[0].cancel)
        thread.join()

    return stop
