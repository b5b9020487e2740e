"""A web service that takes notifications over a real socket, as Apprise's `json://` sends them.

Belongs here: what was heard, and what is answered. Does not belong here: what must be heard.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson


class Ear:
    """What came: title and text of each message, in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.status = 200
        self.location = ""
        self.before: Callable[[], object] = lambda: None  # done while a message is being taken
        ear = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
                ear.before()
                ear.heard.append((body["title"], body["message"]))
                self.send_response(ear.status)
                if ear.location:
                    self.send_header("Location", ear.location)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"json://kim:sesame-open@127.0.0.1:{self.server.server_port}/hook-of-ana"


@contextmanager
def listening() -> Iterator[Ear]:
    ear = Ear()
    thread = threading.Thread(target=ear.server.serve_forever, daemon=True)
    thread.start()
    yield ear
    ear.server.shutdown()
    ear.server.server_close()
    thread.join()
