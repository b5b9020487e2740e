"""Runs the edge Worker in the real workerd, with D1, R2, KV and a queue, in a folder of one's own.

Belongs here: the process, its configuration, and where everything answers. Does not belong here:
what is asked of it (the tests).

What workerd on one machine does otherwise than Cloudflare: a queue has no pull consumers; D1 takes
values above 2 MB; R2's S3 API knows no lifecycle rules; KV is consistent at once. Nothing leaves
127.0.0.1.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import httpx

from communicator_pipeline_tests.peers.node import FOLDER, NODE, PATIENCE, free_port

EDGE = FOLDER.parents[1] / "infra" / "edge"
MODULES = FOLDER / "node_modules"
WRANGLER = MODULES / "wrangler" / "bin" / "wrangler.js"

ACCOUNT_ID = "0123456789abcdef0123456789abcdef"
DATABASE_ID = "11111111-2222-4333-8444-555555555555"
KV_ID = "fedcba9876543210fedcba9876543210"
TOKEN = "a-made-up-token-for-the-d1-shape-0001"
# Two Fernet keys, the newest first; made up, and the same at every start on one folder.
KEYS = (
    "bmV3ZXN0LW1hZGUtdXAta2V5LW9mLXRoZS10ZXN0cyE=",
    "b2xkZXItLW1hZGUtdXAta2V5LW9mLXRoZS10ZXN0cyE=",
)
ACCESS_KEY = "made-up-access-key-id-of-32-char"
SECRET_KEY = "made-up-secret-access-key-of-the-tests-that-has-64-characters-00"
LAKE, SPARE = "communicator-lake", "communicator-spare"
QUIET = {
    "CI": "true",
    "CLOUDFLARE_CF_FETCH_ENABLED": "false",  # else it asks Cloudflare where it is
    "DO_NOT_TRACK": "1",
    "NODE_ENV": "test",
    "NO_COLOR": "1",
    "WRANGLER_HIDE_BANNER": "true",  # with it goes the look for a newer version
    "WRANGLER_SEND_ERROR_REPORTS": "false",
    "WRANGLER_SEND_METRICS": "false",
    "WRANGLER_WRITE_LOGS": "false",
}


@dataclass(frozen=True, slots=True)
class Workerd:
    """A running Worker, and all that its bindings are reached by from outside."""

    url: str  # without a slash at the end
    pid: int = field(repr=False)  # of the process group's leader
    output: Path = field(repr=False)  # what it said
    token: str = TOKEN  # Bearer, for `api_url`
    account_id: str = ACCOUNT_ID
    database_id: str = DATABASE_ID
    kv_id: str = KV_ID
    keys: tuple[str, ...] = KEYS  # Fernet, newest first: the Worker's COMMUNICATOR_KEYS
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    buckets: tuple[str, ...] = (LAKE, SPARE)  # the first is the Worker's

    @property
    def api_url(self) -> str:
        """The base under which the Worker answers as Cloudflare's REST API does for D1."""
        return f"{self.url}/client/v4"

    @property
    def d1_url(self) -> str:
        """The database in it: `/query` and `/raw` are POSTed to below."""
        return f"{self.api_url}/accounts/{self.account_id}/d1/database/{self.database_id}"

    @property
    def s3_url(self) -> str:
        """R2's S3 API, path style."""
        return f"{self.url}/cdn-cgi/local/r2/s3"

    @property
    def explorer_url(self) -> str:
        """Miniflare's own subset of the REST API (D1 `/raw`, KV), without a token: a second way to
        the same bindings."""
        return f"{self.url}/cdn-cgi/local/explorer/api"


@contextmanager
def workerd(
    folder: Path,
    entry: Path = EDGE / "src" / "index.ts",
    changed: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> Iterator[Workerd]:
    """Run the Worker until the `with` ends. Everything it keeps lies in the folder: started again
    on the same one, it has what it had.

    `entry` may be another file that imports the Worker's own; `changed` replaces top-level keys of
    its configuration; `secrets` are further, or other, secret bindings ("" takes one away). Raises
    RuntimeError with the end of its output if it ends or stays silent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _configure(folder, entry, changed or {}, secrets or {})
    port, inspector = free_port(), free_port()
    command = [
        str(NODE), str(WRANGLER), "dev", "--config", "wrangler.json", "--local",
        "--ip", "127.0.0.1", "--port", str(port), "--inspector-ip", "127.0.0.1",
        "--inspector-port", str(inspector),
        "--persist-to", "state", "--show-interactive-dev-session=false",
    ]  # fmt: skip
    url, output = f"http://127.0.0.1:{port}", folder / "output.txt"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, **QUIET, "XDG_CONFIG_HOME": str(folder / "config")},
            start_new_session=True,  # workerd is its grandchild: they end together
        )
    try:
        _await(f"{url}/healthz", process, output)
        yield Workerd(url, process.pid, output)
    finally:
        end(process)


def configuration(entry: Path) -> dict[str, Any]:
    """The Worker's own configuration, with bindings as the tests need them."""
    lines = (EDGE / "wrangler.jsonc").read_text().splitlines()
    told: dict[str, Any] = json.loads(
        "\n".join(line for line in lines if not line.lstrip().startswith("//"))
    )
    credentials = {"accessKeyId": ACCESS_KEY, "secretAccessKey": SECRET_KEY}
    local = {"local_dev": {"experimental_s3_credentials": credentials}}
    return {
        **told,
        "main": str(entry),
        # The peers' own copy: the Worker's packages need not be installed for the tests.
        "alias": {"hono": str(MODULES / "hono")},
        "vars": {"ACCOUNT_ID": ACCOUNT_ID, "DATABASE_ID": DATABASE_ID},
        "d1_databases": [{**told["d1_databases"][0], "database_id": DATABASE_ID}],
        "kv_namespaces": [{"binding": "KV", "id": KV_ID}],
        "r2_buckets": [
            {"binding": "LAKE", "bucket_name": LAKE, **local},
            {"binding": "SPARE", "bucket_name": SPARE, **local},
        ],
    }


def _configure(
    folder: Path, entry: Path, changed: Mapping[str, Any], secrets: Mapping[str, str]
) -> None:
    (folder / "wrangler.json").write_text(json.dumps({**configuration(entry), **changed}))
    known = {"COMMUNICATOR_KEYS": ",".join(KEYS), "D1_TOKEN": TOKEN, **secrets}
    lines = [f'{name}="{value}"' for name, value in known.items() if value]
    (folder / ".dev.vars").write_text("\n".join(lines) + "\n")


def _await(url: str, process: subprocess.Popen[bytes], output: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            urlopen(url, timeout=5).close()
        except HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"workerd did not answer: {output.read_text(errors='replace')[-2_000:]}")


def end(process: subprocess.Popen[bytes]) -> None:
    """End wrangler and what it started."""
    for how, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, how)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def without_accounts(target: str) -> Iterator[str]:
    """The URL of something that passes on to the explorer what is asked as of Cloudflare's REST
    API: without the accounts in the path, which the explorer does not know."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def passed(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            answer = httpx.request(
                self.command,
                target + self.path.removeprefix("/client/v4/accounts/acc"),
                content=self.rfile.read(length),
                headers={"content-type": self.headers.get("content-type") or ""},
                timeout=60.0,
            )
            self.send_response(answer.status_code)
            self.send_header("content-type", answer.headers.get("content-type", ""))
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_PUT = do_POST = do_DELETE = passed  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/client/v4"
    server.shutdown()
    server.server_close()
