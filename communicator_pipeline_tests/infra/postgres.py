"""A Postgres of the tests' own: the distribution's programs, on a free port, in a folder.

Belongs here: starting it, databases in it, its address. Does not belong here: what Dagster does
with them.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import pytest

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
USER = "dagster"
PASSWORD = "pass:word/@ of the tests"  # what an address has to escape

needs_postgres = [
    pytest.mark.peers,
    pytest.mark.skipif(not PROGRAMS, reason="needs Postgres: apt-get install postgresql"),
]
"""The marks of a module whose tests ask for the fixture `postgres`."""


@dataclass(frozen=True)
class Postgres:
    """A server that lives, with an empty database `dagster` at first."""

    port: int
    folder: Path
    host: str = "127.0.0.1"

    def address(self, database: str = "dagster", password: str = PASSWORD) -> str:
        """As people write it."""
        return f"postgresql://{USER}:{quote(password, safe='')}@{self.host}:{self.port}/{database}"

    def variables(self, database: str = "dagster") -> Mapping[str, str]:
        """What the containers are told."""
        return {
            "DAGSTER_POSTGRES_HOST": self.host,
            "DAGSTER_POSTGRES_DATABASE": database,
            "DAGSTER_POSTGRES_USER": USER,
            "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
        }

    def create(self, database: str, template: str | None = None) -> str:
        """Make a database, empty or a copy of another one; returns its address."""
        like = f' TEMPLATE "{template}"' if template else ""
        self.sql(f'CREATE DATABASE "{database}"{like}')
        return self.address(database)

    def drop(self, database: str) -> None:
        """Delete a database, whoever is connected to it."""
        self.sql(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def sql(self, statement: str, database: str = "postgres") -> str:
        """What one statement answers, outside a transaction: a line per row, columns by `|`."""
        done = subprocess.run(
            [
                *(
                    str(PROGRAMS[-1].parent / "psql"),
                    "-X",
                    "-q",
                    "-A",
                    "-t",
                    "-v",
                    "ON_ERROR_STOP=1",
                ),
                *("-h", self.host, "-p", str(self.port), "-U", USER, "-d", database),
                *("-c", statement),
            ],
            env={"PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@contextmanager
def running_postgres(folder: Path | None = None) -> Iterator[Postgres]:
    """A server until the block ends, with its files in the folder or in one of its own. It does not
    wait for the disk."""
    # Not in pytest's: only its owner may enter that, and Postgres refuses to be root.
    with TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as own:
        yield from _running(folder or Path(own))


def _running(folder: Path) -> Iterator[Postgres]:
    tools = PROGRAMS[-1].parent
    folder.mkdir(parents=True, exist_ok=True)
    owner = None
    if os.geteuid() == 0:
        owner = "nobody"
        shutil.chown(folder, owner)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    if owner:
        shutil.chown(secret, owner)
    subprocess.run(
        [
            tools / "initdb",
            *("--pgdata", folder / "data", "--username", USER, "--encoding", "UTF8"),
            *("--pwfile", secret, "--auth", "scram-sha-256", "--no-sync"),
        ],
        user=owner,
        cwd=folder,
        check=True,
        capture_output=True,
    )
    server = Postgres(free_port(), folder)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [
                tools / "postgres",
                *("-D", folder / "data", "-p", str(server.port), "-k", folder),
                *("-c", f"listen_addresses={server.host}", "-c", "fsync=off"),
            ],
            user=owner,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        ready = [tools / "pg_isready", "-q", "-h", server.host, "-p", str(server.port)]
        until(lambda: subprocess.run(ready).returncode == 0)
        server.create("dagster")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:  # a client that does not let go
            process.kill()
            process.wait(20)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A server for the tests of a module, which imports this fixture by its name."""
    with running_postgres() as server:
        yield server


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def until(ask: Callable[[], bool], seconds: float = 60) -> None:
    """Ask until it is so."""
    deadline = time.monotonic() + seconds
    while not ask():
        assert time.monotonic() < deadline, "it has not come up"
        time.sleep(0.2)
