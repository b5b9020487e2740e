"""Cloudflare Queues over HTTP pull: a double, for nothing that others wrote has pull consumers.

Belongs here: the double. Does not belong here: what is moved out of it (`test_edge_queue.py`).
"""

from __future__ import annotations

import base64
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from communicator_pipeline.storage.cloudflare import CallBudget, CloudflareAccount

TOKEN = "made-up-token-of-the-tests"
QUEUE, DEAD = "queue-1", "queue-dead"


@dataclass
class Held:
    """A message in the double."""

    body: str  # as it is pulled
    sent_at: float
    content_type: str = "json"
    attempts: int = 0
    visible_at: float = 0.0
    lease: str = ""


@dataclass
class QueueServer:
    """Cloudflare Queues' pull consumer: leases, visibility, retries, a dead-letter queue.

    Shaped by the documented bodies and the types of the official SDK. A late acknowledgement is
    taken. What is acknowledged under a lease that is not known is a warning.
    """

    url: str = ""
    most_retries: int = 3
    now: float = 0.0  # seconds that the clock was put forward
    queues: dict[str, list[Held]] = field(default_factory=lambda: {QUEUE: [], DEAD: []})
    leases: dict[str, Held] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, message: Any, content_type: str = "json") -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        body = text if content_type == "text" else base64.b64encode(text.encode()).decode()
        self.queues[QUEUE].append(Held(body, time.time(), content_type))

    def pull(self, queue: str, asked: dict[str, Any]) -> dict[str, Any]:
        now = time.time() + self.now
        given = []
        for held in list(self.queues[queue]):
            if held.visible_at > now or len(given) == int(asked["batch_size"]):
                continue
            if queue == QUEUE and held.attempts > self.most_retries:
                self.queues[QUEUE].remove(held)
                self.queues[DEAD].append(Held(held.body, held.sent_at, held.content_type))
                continue
            held.attempts += 1
            held.visible_at = now + asked["visibility_timeout_ms"] / 1_000
            held.lease = f"lease-{random.getrandbits(64):x}"
            self.leases[held.lease] = held
            given.append(held)
        oldest = min((held.sent_at for held in self.queues[queue]), default=0)
        return {
            "message_backlog_count": len(self.queues[queue]),
            "messages": [
                {
                    "id": f"{id(held):x}",
                    "attempts": held.attempts,
                    "body": held.body,
                    "lease_id": held.lease,
                    "metadata": {"CF-Content-Type": held.content_type},
                    "timestamp_ms": int(held.sent_at * 1_000),
                }
                for held in given
            ],
            "metadata": {
                "metrics": {
                    "backlog_count": len(self.queues[queue]),
                    "backlog_bytes": sum(len(held.body) for held in self.queues[queue]),
                    "oldest_message_timestamp_ms": int(oldest * 1_000),
                }
            },
        }

    def ack(self, queue: str, asked: dict[str, Any]) -> dict[str, Any]:
        warnings = {}
        for one in asked.get("acks") or ():
            held = self.leases.get(one["lease_id"])
            if held is None:
                warnings[one["lease_id"]] = "no such lease"
            elif held in self.queues[queue]:
                self.queues[queue].remove(held)
        for one in asked.get("retries") or ():
            held = self.leases.pop(one["lease_id"])
            held.visible_at = time.time() + self.now + one.get("delay_seconds", 0)
        return {
            "ackCount": len(asked.get("acks") or ()) - len(warnings),
            "retryCount": len(asked.get("retries") or ()),
            "warnings": warnings,
        }

    def answer(self, path: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        found = re.fullmatch(r"/client/v4/accounts/acc/queues/([^/]+)/messages/(pull|ack)", path)
        if not found or found[1] not in self.queues:
            return 404, _errors(11000, "no such queue")
        with self.lock:
            self.calls.append((found[2], asked))
            fault = self.faults.pop(0) if self.faults else ""
            if fault == "429":
                return 429, _errors(10429, "too many requests")
            if fault == "503":
                return 503, _errors(15000, "try again")
            result = (self.pull if found[2] == "pull" else self.ack)(found[1], asked)
            if fault == "lost":
                return 0, {}
        return 200, {"success": True, "errors": [], "messages": [], "result": result}


def _errors(code: int, message: str) -> dict[str, Any]:
    return {"success": False, "errors": [{"code": code, "message": message}], "messages": []}


@contextmanager
def queue_server() -> Iterator[QueueServer]:
    """Run one on a free port of 127.0.0.1."""
    state = QueueServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.headers["authorization"] != f"Bearer {TOKEN}":
                status, answer = 403, _errors(10000, "Authentication error")
            else:
                status, answer = state.answer(self.path, asked)
            if not status:
                self.close_connection = True
                return
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            if status == 429:
                self.send_header("retry-after", "0" if state.faults != ["for ever"] else "3000")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    state.url = f"http://127.0.0.1:{listening.server_port}/client/v4"
    threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
    yield state
    listening.shutdown()
    listening.server_close()


def account_at(url: str, folder: Path) -> CloudflareAccount:
    return CloudflareAccount("acc", TOKEN, CallBudget(folder / "calls.db"), url, 10.0)
