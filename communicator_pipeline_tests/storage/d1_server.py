"""D1's REST interface on a SQLite file, with faults at will.

Belongs here: the shape of requests and answers, and what can go wrong on the way. Whether the
shape is the real one, and what D1's SQLite makes of our statements, the tests in `peers/` ask
workerd.

Other than the real one: no limits but SQLite's own, no meta but rows, one database.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import apsw

Fault = Literal[
    "", "429", "429 for ever", "5xx before", "5xx after", "cut before", "cut after", "slow"
]
PATH = re.compile(r"/client/v4/accounts/acc/d1/database/db/(raw|query)")
TOKEN = "the-token"


@dataclass
class D1Server:
    """A running server: what it was asked, and what goes wrong next."""

    file: Path
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    faults: Callable[[], Fault] = lambda: ""
    retry_after: str | None = "0"
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The statements as one transaction."""
        with self._lock:
            connection = apsw.Connection(str(self.file))
            connection.execute("PRAGMA foreign_keys=ON")
            try:
                with connection:
                    return [_result(connection, one) for one in batch]
            finally:
                connection.close()


def _result(connection: apsw.Connection, one: dict[str, Any]) -> dict[str, Any]:
    cursor = connection.execute(one["sql"], tuple(one.get("params") or ()))
    try:
        columns = [column[0] for column in cursor.get_description()]
    except apsw.ExecutionCompleteError:
        columns = []
    rows = [[list(value) if isinstance(value, bytes) else value for value in row] for row in cursor]
    # As JavaScript writes numbers: without a fraction where there is none.
    rows = [[int(v) if isinstance(v, float) and v.is_integer() else v for v in r] for r in rows]
    meta = {"rows_read": len(rows), "rows_written": connection.changes()}
    return {"success": True, "results": {"columns": columns, "rows": rows}, "meta": meta}


@contextmanager
def d1_server(file: Path) -> Iterator[D1Server]:
    """Run one on a free port of 127.0.0.1."""
    state = D1Server(file)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.requests.append(body)
            fault = state.faults()
            if fault == "cut before":
                return self._cut()
            if fault.startswith("429"):
                after = "300" if fault == "429 for ever" else state.retry_after
                return self._say(429, _errors(10429, "Rate limited"), after)
            if fault == "5xx before":
                return self._say(503, _errors(7500, "D1 DB is overloaded"))
            if not PATH.fullmatch(self.path):
                return self._say(404, _errors(7404, "The database could not be found"))
            if self.headers["authorization"] != f"Bearer {TOKEN}":
                return self._say(403, _errors(10000, "Authentication error"))
            batch = body.get("batch") or [body]
            try:
                result = state.run(batch)
            except apsw.ConstraintError as error:
                words = str(error).removeprefix("ConstraintError: ")
                return self._say(400, _errors(7500, f"{words}: SQLITE_CONSTRAINT"))
            except apsw.Error as error:
                return self._say(400, _errors(7500, f"{error}: SQLITE_ERROR"))
            if fault == "slow":
                time.sleep(2)
            if fault == "cut after":
                return self._cut()
            if fault == "5xx after":
                return self._say(500, _errors(7500, "Network connection lost."))
            self._say(200, {"success": True, "errors": [], "messages": [], "result": result})

        def _cut(self) -> None:
            linger = struct.pack("ii", 1, 0)  # a reset, not a polite end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.close()

        def _say(self, status: int, answer: object, retry_after: str | None = None) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            if retry_after is not None:
                self.send_header("retry-after", retry_after)
            self.end_headers()
            self.wfile.write(content)

        def finish(self) -> None:
            if not self.wfile.closed and self.connection.fileno() >= 0:
                super().finish()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}/client/v4"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def _errors(code: int, message: str) -> dict[str, Any]:
    return {
        "success": False,
        "errors": [{"code": code, "message": message}],
        "messages": [],
        "result": [],
    }
