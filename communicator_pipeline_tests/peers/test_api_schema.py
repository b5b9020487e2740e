"""The API keeps to its own description, whatever is asked within it and beside it: schemathesis."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvicorn

from communicator_pipeline.gateway import identity
from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.sign_in import make_key
from communicator_pipeline_tests.gateway.conftest import box, quick_hashes

pytestmark = pytest.mark.peers

__all__ = ["box", "quick_hashes"]

PEERS = Path(__file__).parent

SECONDS = int(os.environ.get("SCHEMA_SECONDS", "60"))
"""For each of the two roles."""

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,negative_data_rejection,ignored_auth"
)
"""Not `unsupported_method`: Starlette's 405 names one route's methods, not all of the path's. Not
`positive_data_acceptance`: a cursor that is no cursor, a search without a word or a snooze into the
past are well formed, and refused with 422 all the same."""


@pytest.fixture
def address(box: Stores, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(identity, "REQUESTS", identity.parse("1000000/minute"))
    server = uvicorn.Server(uvicorn.Config(create_app(box), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize(("user", "scope"), [("ana", "write"), ("bo", "read")])
def test_nothing_is_found_with_either_role(
    box: Stores, address: str, user: str, scope: str, tmp_path: Path
) -> None:
    key = make_key(box.database, user, "schema", scope, datetime.now(UTC))
    done = subprocess.run(
        [
            PEERS / ".venv/bin/st", "run", f"{address}/openapi.json",
            "--include-path-regex", "^/api/v1/",
            "--header", f"Authorization: Bearer {key}",
            "--checks", CHECKS,
            "--max-time", str(SECONDS),
            "--generation-database", "none",
        ],
        capture_output=True, text=True, cwd=tmp_path, timeout=SECONDS * 3 + 120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
