"""What the tests share: stores in a temporary folder, an account that is filled from text, and how
much of a fault test is done."""

from __future__ import annotations

import itertools
import math
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage

from communicator_pipeline.ingestion.exports import import_export, open_export
from communicator_pipeline.platforms import platforms
from communicator_pipeline.platforms.example import PLATFORM
from communicator_pipeline.storage import Stores, open_stores
from communicator_pipeline.storage.accounts import Accounts, add_user
from communicator_pipeline_tests.infra.postgres import PROGRAMS, Postgres, running_postgres

EXAMPLE = "ana-example"
"""The account of tests that talk to the example platform."""

DAGSTER_DATABASE = "COMMUNICATOR_DAGSTER_DATABASE"

Line = dict[str, object]
Fill = Callable[..., None]

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may touch the installation of whoever runs it."""
    monkeypatch.setenv("COMMUNICATOR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.delenv("COMMUNICATOR_USER", raising=False)
    monkeypatch.delenv(DAGSTER_DATABASE, raising=False)


@pytest.fixture(scope="session")
def dagster_server() -> Iterator[Postgres | None]:
    """Where Dagster's records of the tests are if `TEST_DAGSTER` is `postgres`: in a server with a
    database `template` that has Dagster's tables."""
    if os.environ.get("TEST_DAGSTER") != "postgres":
        yield None
        return
    if not PROGRAMS:
        pytest.exit("TEST_DAGSTER=postgres needs Postgres: apt-get install postgresql", 1)
    from communicator_pipeline.dagster_records.database import make_tables, postgres_address

    with running_postgres() as server:
        url = postgres_address({DAGSTER_DATABASE: server.create("template")})
        assert url is not None
        make_tables(url)
        yield server


@pytest.fixture(autouse=True)
def _own_dagster_database(
    dagster_server: Postgres | None, _own_home: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Each test has a database of its own there, and so have the processes that it starts."""
    if dagster_server is None:
        yield
        return
    name = f"test{next(_numbers)}"
    monkeypatch.setenv(DAGSTER_DATABASE, dagster_server.create(name, template="template"))
    yield
    dagster_server.drop(name)


@pytest.fixture(scope="session")
def cloudflare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str] | None]:
    """Where the stores of the tests are if `TEST_BACKEND` is `cloudflare`: in a workerd."""
    if os.environ.get("TEST_BACKEND") != "cloudflare":
        yield None
        return
    from communicator_pipeline_tests.peers.stores import running

    with running(tmp_path_factory.mktemp("workerd")) as given:
        yield given


def use_cloudflare(given: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on `open_stores` opens the stores in this workerd, which are empty."""
    from communicator_pipeline_tests.peers.stores import empty

    empty(given, folder)
    for name, value in given.items():
        if name != "COMMUNICATOR_KEYS":  # tests of the keys look for them in the home
            monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def _no_leftover_instance() -> Iterator[None]:
    """Contexts that Dagster makes for tests end when they are collected, and put the instance of an
    earlier test back, which is gone: loading definitions would ask it."""
    with set_defs_state_storage(None):
        yield


@pytest.fixture
def stores(
    tmp_path: Path, cloudflare: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> Stores:
    """Fresh stores with the user ana and her empty account ana-chat; she is the author ana."""
    if cloudflare is not None:
        use_cloudflare(cloudflare, tmp_path / "home", monkeypatch)
    opened = open_stores(tmp_path / "home")
    add_user(opened.database, "ana", "Ana")
    accounts = Accounts(opened.database, "ana")
    accounts.add("ana-chat", "generic", "Chat")
    accounts.set_me("ana-chat", ["ana"])
    return opened


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform that `communicator new-platform` begins with, installed like any other."""
    there = {**platforms(), "example": PLATFORM}
    monkeypatch.setattr("communicator_pipeline.platforms.platforms", lambda: there)
    monkeypatch.setattr("communicator_pipeline.chain.raw_messages.platforms", lambda: there)


@pytest.fixture
def fill(stores: Stores, tmp_path: Path) -> Fill:
    """Import lines of generic JSONL into ana-chat (or another account)."""

    def filled(*lines: Line, account: str = "ana-chat", name: str = "chat.jsonl") -> None:
        file = tmp_path / name
        file.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        import_export(open_export(file), account, stores.database, stores.lake)

    return filled


def line(number: int, sent_at: str, author: str, text: str, **more: object) -> Line:
    """One message of generic JSONL in the channel `c1`."""
    return {
        "id": f"m{number}",
        "channel": "c1",
        "sent_at": sent_at,
        "author": author,
        "text": text,
        **more,
    }


# --- fault tests -----------------------------------------------------------------------------


@dataclass(frozen=True)
class FaultSizes:
    """How much of a fault test is done, and under which seed."""

    share: float
    seed: int

    def count(self, full: int, at_least: int = 1) -> int:
        """So many of the full size."""
        return max(at_least, math.ceil(full * self.share))


@pytest.fixture
def sizes(request: pytest.FixtureRequest) -> FaultSizes:
    """`FAULTS_SHARE` (of the full size, by default 1) and `FAULTS_SEED` (by default a fresh one),
    printed, so that what failed can be run again."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    found = FaultSizes(float(os.environ.get("FAULTS_SHARE") or 1.0), seed)
    print(f"{request.node.nodeid}: FAULTS_SEED={found.seed} FAULTS_SHARE={found.share:g}")
    return found
