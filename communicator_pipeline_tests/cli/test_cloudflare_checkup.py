"""What `communicator doctor` finds at Cloudflare.

The REST API is a small server that answers in the documented shapes, and knows which token may do
what; the edge Worker, D1 and R2 are the real workerd.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from communicator_pipeline.cli.cloudflare_checkup import cloudflare_findings
from communicator_pipeline.cli.finding import Finding
from communicator_pipeline.storage.cloudflare import CallBudget
from communicator_pipeline.storage.database import migrate
from communicator_pipeline.storage.on_cloudflare import Cloudflare
from communicator_pipeline_tests.peers.node import needs_peers
from communicator_pipeline_tests.peers.stores import environment
from communicator_pipeline_tests.peers.workerd import ACCOUNT_ID, DATABASE_ID, Workerd, workerd

PIPELINE, ANALYTICS = "made-up-pipeline-token", "made-up-analytics-token"
TOKENS, D1, KV, QUEUE, AI = "tokens/verify", "d1", "storage/kv", "queues", "ai"


@dataclass
class Api:
    """What the API answers, and what it was asked."""

    rights: dict[str, set[str]] = field(
        default_factory=lambda: {PIPELINE: {TOKENS, D1, KV, QUEUE, AI}, ANALYTICS: {TOKENS, QUEUE}}
    )
    token: dict[str, Any] = field(default_factory=lambda: {"id": "t", "status": "active"})
    of_user: bool = False
    ahead: timedelta = timedelta()
    size: int = 12_000_000
    consumers: list[dict[str, str]] = field(default_factory=lambda: [{"type": "http_pull"}])
    migrations: list[str] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # token, method, path
    url: str = ""

    def answer(self, token: str, method: str, path: str, body: bytes) -> tuple[int, Any]:
        self.asked.append((token, method, path))
        if path == "/ips":
            return 200, {}
        of_account = path.removeprefix(f"/accounts/{ACCOUNT_ID}/")
        what = next((one for one in (D1, KV, QUEUE, AI) if of_account.startswith(one)), TOKENS)
        is_users = path.startswith("/user/")
        if what == TOKENS and is_users != self.of_user:
            return 401, [{"code": 1000, "message": f"Invalid API Token {token}"}]
        if what not in self.rights.get(token, set()):
            return 403, [{"code": 10000, "message": f"Authentication error of {token}"}]
        if what == TOKENS:
            return 200, self.token
        if what == KV:
            return 404, [{"code": 10009, "message": "get: 'key not found'"}]
        if what == QUEUE:
            return 200, {"queue_id": "q", "consumers": self.consumers}
        if what == AI:
            return 200, []
        sql = json.loads(body)["batch"][0]["sql"]
        rows = [[1]] if "sqlite_schema" in sql else [[name] for name in self.migrations]
        meta = {"size_after": self.size}
        return 200, [{"results": {"columns": ["n"], "rows": rows}, "meta": meta, "success": True}]


@pytest.fixture
def api() -> Iterator[Api]:
    known = Api()

    class Handler(BaseHTTPRequestHandler):
        def answered(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            token = (self.headers.get("authorization") or "").removeprefix("Bearer ")
            status, result = known.answer(token, self.command, self.path.split("?")[0], body)
            good = status < 400
            content = json.dumps(
                {
                    "success": good,
                    "errors": [] if good else result,
                    "messages": [],
                    "result": result if good else None,
                }
            ).encode()
            self.send_response_only(status)
            self.send_header("date", format_datetime(datetime.now(UTC) + known.ahead, usegmt=True))
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = answered  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    known.url = f"http://127.0.0.1:{server.server_port}"
    schema = Path(__file__).parents[2] / "communicator_pipeline" / "storage" / "schema"
    known.migrations = sorted(file.name for file in schema.glob("*.sql"))
    yield known
    server.shutdown()
    server.server_close()


@pytest.fixture
def given(api: Api) -> dict[str, str]:
    """An installation whose bucket cannot be reached, and that has no edge."""
    return {
        "CLOUDFLARE_ACCOUNT_ID": ACCOUNT_ID,
        "CLOUDFLARE_API_TOKEN": PIPELINE,
        "CLOUDFLARE_ANALYTICS_TOKEN": ANALYTICS,
        "CLOUDFLARE_BASE_URL": api.url,
        "COMMUNICATOR_D1_DATABASE": DATABASE_ID,
        "COMMUNICATOR_KV_NAMESPACE": "n" * 32,
        "COMMUNICATOR_QUEUE": "q",
        "COMMUNICATOR_KEYS": "made-up",
        "COMMUNICATOR_R2_BUCKET": "bucket",
        "COMMUNICATOR_R2_ENDPOINT": "http://127.0.0.1:9",
        "COMMUNICATOR_R2_KEY_ID": "key-id",
        "COMMUNICATOR_R2_SECRET": "made-up-r2-secret",
    }


@pytest.fixture(autouse=True)
def _no_bucket(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Without a bucket four tries of boto's take seconds: only workerd's is asked."""
    if "peer" not in request.fixturenames:
        monkeypatch.setattr(
            "communicator_pipeline.cli.cloudflare_checkup._bucket",
            lambda *_: Finding("r2", "ok", ""),
        )


def by_name(folder: Path, given: dict[str, str]) -> dict[str, Finding]:
    found = cloudflare_findings(folder, given)
    said = repr(found)
    for secret in (PIPELINE, ANALYTICS, "made-up-r2-secret", given.get("COMMUNICATOR_D1_TOKEN")):
        assert not secret or secret not in said
    names = [one.what for one in found]
    assert len(set(names)) == len(names)
    assert all(one.advice for one in found if one.state != "ok")
    return {one.what: one for one in found}


def test_all_is_well_but_for_the_edge(api: Api, given: dict[str, str], tmp_path: Path) -> None:
    found = by_name(tmp_path, given)
    assert {name for name, one in found.items() if one.state != "ok"} == {"edge"}
    assert "1,200 calls" in found["edge"].found
    assert found["d1 by the api: size"].found.startswith("12.0 MB, 0.1%")
    # It only reads: what is POSTed is one SELECT or another.
    assert {(method, path.split("/")[-1]) for _, method, path in api.asked} == {
        ("GET", "verify"), ("GET", "ips"), ("POST", "raw"), ("GET", "doctor"), ("GET", "q"),
        ("GET", "search"),
    }  # fmt: skip
    # The token for analytics is asked with for nothing but what it is for.
    used = {path.split("/")[-1] for token, _, path in api.asked if token == ANALYTICS}
    assert used == {"verify", "q"}
    counted = [one for one in api.asked if one[2] != "/ips"]
    assert f"{len(counted)} of 1200" in found["api calls"].found


@pytest.mark.parametrize(
    ("right", "name"),
    [(D1, "d1 by the api"), (KV, "kv"), (QUEUE, "queue"), (AI, "workers ai")],
)
def test_a_right_that_is_missing_is_named(
    api: Api, given: dict[str, str], tmp_path: Path, right: str, name: str
) -> None:
    api.rights[PIPELINE].discard(right)
    found = by_name(tmp_path, given)
    assert {one.what for one in found.values() if one.state == "failed"} == {name}
    assert "may not" in found[name].found
    assert "10000" in found[name].found
    assert "tokens.py" in found[name].advice


def test_tokens_that_are_none_or_not_for_long(
    api: Api, given: dict[str, str], tmp_path: Path
) -> None:
    api.of_user = True
    assert by_name(tmp_path, given)["api token"].state == "ok"
    api.token = {"id": "t", "status": "expired"}
    assert by_name(tmp_path, given)["api token"].state == "failed"
    soon = datetime.now(UTC) + timedelta(days=3)
    api.token = {"id": "t", "status": "active", "expires_on": soon.isoformat()}
    assert by_name(tmp_path, given)["api token"].state == "warning"
    api.rights = {PIPELINE: api.rights[PIPELINE]}
    found = by_name(tmp_path, given)
    assert found["analytics token"].state == "failed"
    assert "CLOUDFLARE_ANALYTICS_TOKEN" in found["analytics token"].advice
    assert "analytics token" not in by_name(tmp_path, {**given, "CLOUDFLARE_ANALYTICS_TOKEN": ""})


@pytest.mark.parametrize(
    ("ahead", "state", "words"),
    [(5, "ok", ""), (60, "warning", "behind"), (-60, "warning", "ahead of"), (400, "failed", "40")],
)
def test_a_clock_that_goes_wrong(
    api: Api, given: dict[str, str], tmp_path: Path, ahead: int, state: str, words: str
) -> None:
    api.ahead = timedelta(seconds=ahead)
    clock = by_name(tmp_path, given)["clock"]
    assert clock.state == state
    assert words in clock.found


def test_the_database_its_schema_and_its_size(
    api: Api, given: dict[str, str], tmp_path: Path
) -> None:
    last = api.migrations.pop()
    api.size = 8_100_000_000
    found = by_name(tmp_path, given)
    assert found["d1 by the api: schema"].state == "warning"
    assert last in found["d1 by the api: schema"].found
    assert found["d1 by the api: size"].state == "warning"
    api.migrations += [last, "9999_of_the_future.sql"]
    api.size = 10_000_000_001
    found = by_name(tmp_path, given)
    assert found["d1 by the api: schema"].state == "failed"
    assert "9999_of_the_future" in found["d1 by the api: schema"].found
    assert found["d1 by the api: size"].state == "failed"


def test_a_queue_that_cannot_be_pulled_from(
    api: Api, given: dict[str, str], tmp_path: Path
) -> None:
    api.consumers = [{"type": "worker"}]
    assert by_name(tmp_path, given)["queue"].state == "failed"


def test_keys_and_calls(api: Api, given: dict[str, str], tmp_path: Path) -> None:
    del given["COMMUNICATOR_KEYS"]
    given["COMMUNICATOR_CLOUDFLARE_CALLS"] = "100"
    budget = CallBudget(tmp_path / "cloudflare-calls.db", 100)
    for _ in range(80):
        budget.take()
    found = by_name(tmp_path, given)
    assert found["keys"].state == "warning"
    assert found["api calls"].state == "warning"
    budget.block(300)
    before = time.monotonic()
    found = by_name(tmp_path, given)
    assert time.monotonic() - before < 30
    assert found["api calls"].state == "failed"


def test_what_is_not_set_is_said(tmp_path: Path) -> None:
    (found,) = cloudflare_findings(tmp_path, {})
    assert found.state == "failed"
    assert "COMMUNICATOR_D1_DATABASE" in found.found


# --- at the edge -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workerd]:
    needs_peers()
    with workerd(tmp_path_factory.mktemp("workerd")) as running:
        yield running


@pytest.mark.peers
def test_the_edge_and_the_bucket(
    api: Api, given: dict[str, str], peer: Workerd, tmp_path: Path
) -> None:
    here = {**given, **environment(peer), "CLOUDFLARE_API_TOKEN": PIPELINE}
    found = by_name(tmp_path, here)
    assert found["database at the edge: schema"].state == "warning"  # nothing is there yet
    configured = Cloudflare.of_environment(here)
    migrate(configured.database(tmp_path))
    found = by_name(tmp_path, here)
    assert found["edge"].found == "answers"
    assert found["database at the edge: schema"].state == "ok"
    assert not found["database at the edge: size"].found.startswith("0.0 MB")
    assert found["r2"].state == "ok"
    assert found["r2 key"].state in ("ok", "warning")
    assert list(configured.objects(tmp_path).list("")) == []

    found = by_name(tmp_path, {**here, "COMMUNICATOR_D1_TOKEN": "another"})
    assert found["database at the edge"].state == "failed"
    assert "COMMUNICATOR_D1_TOKEN" in found["database at the edge"].advice
    found = by_name(tmp_path, {**here, "COMMUNICATOR_R2_SECRET": "made-up-r2-secret"})
    assert found["r2"].state == "failed"
    found = by_name(tmp_path, {**here, "COMMUNICATOR_D1_URL": "http://127.0.0.1:9"})
    assert found["edge"].state == "failed"
