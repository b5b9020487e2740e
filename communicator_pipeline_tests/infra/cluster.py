"""A stand-in for Kubernetes' API on a socket: it keeps the Jobs that are posted to it.

Belongs here: the few calls of that API that Dagster makes for Jobs. Does not belong here: pods that
run anything.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml


@dataclass
class Cluster:
    """What was asked of it, and the Jobs that it has."""

    port: int = 0
    calls: list[tuple[str, str]] = field(default_factory=list)  # method, path
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)  # namespace/name → Job

    def kubeconfig(self, folder: Path) -> Path:
        """A file that leads the client here."""
        file = folder / "kubeconfig"
        file.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "here",
                    "clusters": [
                        {"name": "here", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
                    ],
                    "users": [{"name": "me", "user": {}}],
                    "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
                }
            )
        )
        return file


@contextmanager
def cluster() -> Iterator[Cluster]:
    """The API, until the block ends."""
    there = Cluster()

    class Api(BaseHTTPRequestHandler):
        def _answer(self, status: int, body: object) -> None:
            sent = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def _namespace_and_name(self) -> str:
            parts = self.path.partition("?")[0].removesuffix("/status").split("/")
            return f"{parts[parts.index('namespaces') + 1]}/{parts[-1]}"

        def _missing(self) -> None:
            self._answer(404, {"kind": "Status", "status": "Failure", "code": 404})

        def do_POST(self) -> None:
            there.calls.append(("POST", self.path))
            job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = f"{self._namespace_and_name().split('/')[0]}/{job['metadata']['name']}"
            there.jobs[name] = job
            self._answer(201, job)

        def do_GET(self) -> None:
            there.calls.append(("GET", self.path))
            path = self.path.partition("?")[0]
            if path.endswith(("/pods", "/events")):
                self._answer(200, {"kind": "List", "items": []})
                return
            job = there.jobs.get(self._namespace_and_name())
            if job is None:
                self._missing()
            else:
                self._answer(200, {**job, "status": job.get("status", {"active": 1})})

        def do_DELETE(self) -> None:
            there.calls.append(("DELETE", self.path))
            if there.jobs.pop(self._namespace_and_name(), None) is None:
                self._missing()
            else:
                self._answer(200, {"kind": "Status", "status": "Success"})

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    there.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield there
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
