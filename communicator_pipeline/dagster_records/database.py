"""Which database Dagster's records are in: SQLite in Communicator's home, or Postgres.

Belongs here: the address in the environment, what is wrong with it, opening Dagster's storages
there, making their tables once. Does not belong here: moving records from one to the other
(`moving.py`), how the SQLite storages work (`sqlite.py`).

`dagster.yaml` names the classes of this module and no place: every process finds it in its own
environment, so that neither a file nor a command line ever bears the password.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy
from dagster._core.storage.event_log import EventLogStorage
from dagster._core.storage.runs import RunStorage
from dagster._core.storage.schedules import ScheduleStorage, SqliteScheduleStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.pool import NullPool

from communicator_pipeline.dagster_records.sqlite import EventLog, Runs
from communicator_pipeline.storage import home

VARIABLE = "COMMUNICATOR_DAGSTER_DATABASE"
"""`postgresql://USER:PASSWORD@HOST:PORT/NAME`; not set: SQLite in Communicator's home."""

STORAGES: Mapping[str, object] = {
    "run_storage": {"module": __name__, "class": "RunRecords"},
    "event_log_storage": {"module": __name__, "class": "EventRecords"},
    "schedule_storage": {"module": __name__, "class": "ScheduleRecords"},
}
"""What stands in `dagster.yaml`, for an installation that has no clone."""

CONNECT_SECONDS = 10
"""A host that says nothing is given up then."""

LOCK = 7_310_402_026
"""Of Postgres' advisory locks: who holds it makes tables in this database or fills them."""

FIRST_TABLES = ("runs", "event_logs", "jobs")
"""One of each storage. Dagster makes each storage's tables in one transaction."""


class DagsterDatabaseError(ValueError):
    """Dagster's database cannot be used; the message says why and what to do, and never quotes the
    password."""


def postgres_address(environment: Mapping[str, str] = os.environ) -> URL | None:
    """Where Postgres is, as SQLAlchemy wants it; None if nothing is set. Raises
    `DagsterDatabaseError` if it is no such address."""
    given = environment.get(VARIABLE, "").strip()
    if not given:
        return None
    wanted = (
        f"{VARIABLE} must be postgresql://USER:PASSWORD@HOST:PORT/NAME, and in the password "
        "%40 for @, %2F for /, %3A for :, %25 for %"
    )
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):  # it may quote a part of the password
        raise DagsterDatabaseError(wanted) from None
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise DagsterDatabaseError(f"{wanted}: Dagster's records can be in Postgres only")
    if given.count("@") != 1 or not (url.host and url.database and url.username):
        raise DagsterDatabaseError(wanted)
    # Plain postgresql:// is another driver from SQLAlchemy 2.1 on.
    return url.set(drivername="postgresql+psycopg2").update_query_dict(
        {"connect_timeout": url.query.get("connect_timeout", str(CONNECT_SECONDS))}
    )


def sqlite_folder() -> Path:
    """Where Dagster's records are unless they are in Postgres."""
    return home() / "dagster"


def engine(url: URL) -> Engine:
    """For few statements: a connection is closed when it is given back. Raises
    `DagsterDatabaseError` if a package is missing."""
    try:
        return sqlalchemy.create_engine(url, poolclass=NullPool)
    except ImportError as error:
        raise _missing(error) from error


@contextmanager
def connected(url: URL) -> Iterator[Connection]:
    """A connection to the database. Raises `DagsterDatabaseError` if there is none to be had."""
    try:
        connection = engine(url).connect()
    except OperationalError as error:
        raise DagsterDatabaseError(_in_words(str(error.orig), url)) from None
    with connection:
        yield connection


@contextmanager
def locked(connection: Connection) -> Iterator[None]:
    """Alone with the database's tables; whoever else wants to be waits. The lock ends with the
    connection, however that ends."""
    connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})
        connection.commit()


def make_storage_once() -> None:
    """Have Dagster make its tables before anybody else can. Raises `DagsterDatabaseError`."""
    url = postgres_address()
    if url is None:
        _make_in_sqlite(sqlite_folder())
    else:
        _make_in_postgres(url, sqlite_folder())


def _make_in_sqlite(folder: Path) -> None:
    """Several processes that create a fresh SQLite home together break it for good."""
    made = folder / ".made"
    if made.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            # Elsewhere and moved here whole: Dagster takes a file that is there for a complete one,
            # though whoever made it was killed half-way.
            making = folder / ".making"
            shutil.rmtree(making, ignore_errors=True)
            for storage in (
                Runs.from_local(str(making / "history")),
                EventLog(str(making / "history")),
                SqliteScheduleStorage.from_local(str(making / "schedules")),
            ):
                storage.dispose()
            for part in making.iterdir():
                if not (folder / part.name).exists():
                    part.rename(folder / part.name)
            shutil.rmtree(making)
            made.touch()


@lru_cache  # once per process and database
def _make_in_postgres(url: URL, folder: Path) -> None:
    with connected(url) as connection:
        if has_tables(connection):
            return
        if (folder / ".made").exists():
            raise DagsterDatabaseError(
                f"{VARIABLE} names a database without Dagster's records, and there are some in "
                f"{folder}: `communicator move-dagster` moves them. To begin without them, move "
                "that folder away"
            )
        connection.rollback()
        with locked(connection):
            make_tables(url)


def make_tables(url: URL) -> None:
    """Have Dagster make its tables in Postgres, as far as they are not there; nobody else may do
    it at the same time (`locked`)."""
    from dagster_postgres import (
        PostgresEventLogStorage,
        PostgresRunStorage,
        PostgresScheduleStorage,
    )

    address = url.render_as_string(hide_password=False)
    for storage in (PostgresRunStorage, PostgresEventLogStorage, PostgresScheduleStorage):
        storage(address).dispose()


def has_tables(connection: Connection) -> bool:
    """Whether Dagster's tables are there."""
    return set(FIRST_TABLES) <= set(sqlalchemy.inspect(connection).get_table_names())


class RunRecords(RunStorage):
    """Opens the storage of runs where it is."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> RunStorage:
        address = _postgres()
        if address is None:
            return Runs.from_local(str(sqlite_folder() / "history"), inst_data)
        from communicator_pipeline.dagster_records.postgres import PostgresRuns

        return PostgresRuns(address, inst_data=inst_data)


class EventRecords(EventLogStorage):
    """Opens the storage of events where it is."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> EventLogStorage:
        address = _postgres()
        if address is None:
            return EventLog(str(sqlite_folder() / "history"), inst_data)
        from communicator_pipeline.dagster_records.postgres import PostgresEvents

        return PostgresEvents(address, inst_data=inst_data)


class ScheduleRecords(ScheduleStorage):
    """Opens the storage of schedules and sensors where it is."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> ScheduleStorage:
        address = _postgres()
        if address is None:
            return SqliteScheduleStorage.from_local(str(sqlite_folder() / "schedules"), inst_data)
        from communicator_pipeline.dagster_records.postgres import PostgresSchedules

        return PostgresSchedules(address, inst_data=inst_data)


def _postgres() -> str | None:
    url = postgres_address()
    if url is None:
        return None
    try:
        import dagster_postgres  # noqa: F401
    except ImportError as error:
        raise _missing(error) from error
    return url.render_as_string(hide_password=False)


def _missing(error: ImportError) -> DagsterDatabaseError:
    return DagsterDatabaseError(
        f"{VARIABLE} is set, but a package for Postgres is missing ({error.name}): "
        "pip install 'communicator-pipeline[scaling]'"
    )


_REASONS = (
    (r"password authentication failed|no password supplied", "it refuses this user or password"),
    (r'database ".*" does not exist', "it has no such database: create it first (createdb)"),
    (r'role ".*" does not exist', "it has no such user"),
    (r"could not translate host name", "there is no host of this name"),
    (r"Connection refused", "nothing listens there: is Postgres running, and is it this port?"),
    (r"timeout expired|timed out", f"it did not answer within {CONNECT_SECONDS} s"),
    (r"no pg_hba.conf entry", "it does not let this user in from this machine (pg_hba.conf)"),
    (r"too many clients|remaining connection slots", "it has no connection left"),
)


def _in_words(said: str, url: URL) -> str:
    where = f"{url.host}:{url.port or 5432}, database {url.database}, user {url.username}"
    for pattern, reason in _REASONS:
        if re.search(pattern, said):
            return f"Postgres at {where}: {reason}"
    if url.password:
        said = said.replace(url.password, "***")
    return f"Postgres at {where}: {said.strip().splitlines()[0] if said.strip() else 'no answer'}"
