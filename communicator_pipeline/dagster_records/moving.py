"""Moving Dagster's records from SQLite to Postgres.

Belongs here: copying every row as it is, once, and saying what stands in the way. Does not belong
here: which database is used (`database.py`), asking and telling (`cli/`).

All of it is one transaction in Postgres: killed at any moment, nothing has been moved, and the next
try begins anew. The SQLite files stay as they are. Numbers of rows stay the same, for cursors of
sensors and of the web UI are numbers of events.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as db
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.runs.schema import (
    DaemonHeartbeatsTable,
    InstanceInfo,
    KeyValueStoreTable,
    RunStorageSqlMetadata,
)
from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata
from sqlalchemy import URL, ColumnElement, Connection, Select, Table

from communicator_pipeline.dagster_records.database import VARIABLE, connected, locked, make_tables
from communicator_pipeline.dagster_records.sqlite import Runs

SOURCES: Mapping[str, db.MetaData] = {
    "history/runs.db": RunStorageSqlMetadata,
    "history/event_log.db": SqlEventLogStorageMetadata,
    "schedules/schedules.db": ScheduleStorageSqlMetadata,
}
"""SQLite file in Dagster's folder → the tables in it."""

FINISHED_MIGRATIONS = "secondary_indexes"

MADE_WITH_THE_TABLES = ("alembic_version", FINISHED_MIGRATIONS, "instance_info")
"""Tables that have rows as soon as they are there."""

MOVED_KEY = "communicator/moved_from_sqlite"
"""Among Dagster's own values: when this database was filled, and how many rows with."""

ROWS_AT_ONCE = 2_000

DAEMON_IS_DEAD_AFTER = timedelta(seconds=90)
"""Dagster's daemon says every 30 s that it lives."""

WAIT_FOR_SQLITE = 5.0
"""Seconds for whoever is just writing."""


class CannotMove(ValueError):
    """The records cannot be moved now; the message says why and what to do."""


@dataclass(frozen=True)
class Moved:
    """What is in Postgres of what was in SQLite."""

    rows: Mapping[str, int]  # table → rows
    left: int  # rows that hang on runs that were deleted: SQLite keeps them, Postgres must not
    at: datetime  # UTC
    seconds: float
    now: bool  # False: an earlier call has moved them


def move(folder: Path, url: URL) -> Moved:
    """Copy all that Dagster has recorded in the SQLite files in the folder into the database, which
    must be empty. Raises `CannotMove`, and `DagsterDatabaseError` if the database cannot be
    reached."""
    files = {folder / name: tables for name, tables in SOURCES.items()}
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise CannotMove(
            f"there are no records of Dagster in {folder} ({missing[0].name} is missing): set "
            f"{VARIABLE}, and everything that starts with it makes new ones there"
        )
    began = time.monotonic()
    with _nobody_writes(files):
        pass  # the next line writes, and would wait for long
    source_id = _id_of(folder)
    with connected(url) as guard, locked(guard):  # two at once: the second finds it done
        before = _moved_before(guard, source_id)
        if before is not None:
            return before
        _refuse_unless_empty(guard)
        guard.rollback()
        with _nobody_writes(files):
            _refuse_living_daemon(folder)
            _refuse_old_schema(files)
            make_tables(url)
            with connected(url) as target:
                rows, left = _copy_all(files, target)
                moved = Moved(rows, left, datetime.now(UTC), time.monotonic() - began, True)
                _note(target, moved)
                target.commit()
    return moved


def _copy_all(files: Mapping[Path, db.MetaData], target: Connection) -> tuple[dict[str, int], int]:
    """Rows by table, and rows left out; in the connection's transaction, which is not ended."""
    tables = {table.name: table for metadata in files.values() for table in metadata.sorted_tables}
    names = ", ".join(f'"{name}"' for name in tables)
    target.execute(db.text(f"TRUNCATE {names} RESTART IDENTITY"))
    counts: dict[str, int] = {}
    left = 0
    for file, metadata in files.items():
        with _reading(file) as source:
            for table in metadata.sorted_tables:
                wanted = _wanted(table, target)
                there = _count(db.select(table), source)
                counted = _count(db.select(table).where(*_belongs(table)), source)
                left += there - counted
                counts[table.name] = counts.get(table.name, 0) + _count(wanted, source)
                _copy(wanted, table, source, target)
    for name, table in tables.items():
        _compare(table, counts[name], target)
        _number_on(table, target)
    return {str(name): count for name, count in counts.items()}, left


def _wanted(table: Table, target: Connection) -> Select[Any]:
    """The rows that Postgres is to have."""
    if table.name != FINISHED_MIGRATIONS:
        return db.select(table).where(*_belongs(table))
    # Each file has such a list, and numbers it for itself; in Postgres there is one.
    there = target.execute(db.select(table.c.name)).scalars().all()
    return db.select(*(c for c in table.columns if c.name != "id")).where(
        table.c.name.not_in(there)
    )


def _copy(wanted: Select[Any], table: Table, source: Connection, target: Connection) -> None:
    read = source.execution_options(yield_per=ROWS_AT_ONCE).execute(wanted)
    for some in read.mappings().partitions():
        target.execute(db.insert(table), [dict(row) for row in some])


def _belongs(table: Table) -> list[ColumnElement[bool]]:
    """What SQLite does not look at and Postgres does: a row that hangs on another one needs it."""
    return [
        db.or_(key.parent.is_(None), key.parent.in_(db.select(key.column)))
        for key in table.foreign_keys
    ]


def _count(query: Select[Any], connection: Connection) -> int:
    return connection.execute(db.select(db.func.count()).select_from(query.subquery())).scalar_one()


def _compare(table: Table, wanted: int, target: Connection) -> None:
    """Raises `CannotMove` if Postgres has not as many rows as SQLite."""
    there = _count(db.select(table), target)
    if there != wanted:
        raise CannotMove(
            f"SQLite has {wanted} rows of {table.name}, and Postgres would have {there}: nothing "
            "was moved. Look whether somebody else writes to that database, and try again"
        )


def _number_on(table: Table, target: Connection) -> None:
    """The next row that Dagster makes gets the number after the highest one."""
    if "id" not in table.columns:
        return
    target.execute(
        db.text(
            "SELECT setval(pg_get_serial_sequence(:name, 'id'), "
            f'coalesce((SELECT max(id) FROM "{table.name}"), 0) + 1, false)'
        ),
        {"name": table.name},
    )


def _note(target: Connection, moved: Moved) -> None:
    value = {"at": moved.at.isoformat(), "rows": dict(moved.rows), "left": moved.left}
    target.execute(db.insert(KeyValueStoreTable), [{"key": MOVED_KEY, "value": json.dumps(value)}])


def _moved_before(target: Connection, source_id: str) -> Moved | None:
    """What an earlier call has moved. Raises `CannotMove` if that was another installation's."""
    there = set(db.inspect(target).get_table_names())
    if not {KeyValueStoreTable.name, InstanceInfo.name} <= there:
        return None
    query = db.select(KeyValueStoreTable.c.value).where(KeyValueStoreTable.c.key == MOVED_KEY)
    noted = target.execute(query).scalar()
    if noted is None:
        return None
    if source_id not in target.execute(db.select(InstanceInfo.c.run_storage_id)).scalars().all():
        raise CannotMove(
            "that database holds the records of another installation: give an empty one"
        )
    value = json.loads(noted)
    at = datetime.fromisoformat(value["at"])
    return Moved(value["rows"], value["left"], at, 0.0, False)


def _id_of(folder: Path) -> str:
    """What Dagster calls this storage; it is copied with everything else."""
    runs = Runs.from_local(str(folder / "history"))
    try:
        found: str = runs.get_run_storage_id()  # made the first time that somebody asks
    finally:
        runs.dispose()
    return found


def _refuse_unless_empty(target: Connection) -> None:
    dagsters = {t.name for metadata in SOURCES.values() for t in metadata.sorted_tables}
    there = set(db.inspect(target).get_table_names())
    others = sorted(there - dagsters - set(MADE_WITH_THE_TABLES))
    if others:
        raise CannotMove(
            f"that database is not empty: it has the table {others[0]}, which is not Dagster's. "
            "Give Dagster a database of its own (createdb)"
        )
    for name in sorted(there & dagsters - set(MADE_WITH_THE_TABLES)):
        if target.execute(db.text(f'SELECT EXISTS (SELECT 1 FROM "{name}")')).scalar():
            raise CannotMove(
                f"that database is not empty: Dagster's table {name} has rows already. Give it an "
                "empty database"
            )


@contextmanager
def _nobody_writes(files: Mapping[Path, db.MetaData]) -> Iterator[None]:
    """All files as of one moment. Raises `CannotMove` while somebody writes."""
    with ExitStack() as held:
        for file in files:
            connection = sqlite3.connect(file, timeout=WAIT_FOR_SQLITE, isolation_level=None)
            held.callback(connection.close)
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                raise CannotMove(
                    f"somebody writes to {file}: stop the worker, the gateway and Dagster first"
                ) from None
        yield


@contextmanager
def _reading(file: Path) -> Iterator[Connection]:
    engine = db.create_engine(f"sqlite:///{file}")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _refuse_living_daemon(folder: Path) -> None:
    with _reading(folder / "history/runs.db") as source:
        last = source.execute(db.select(db.func.max(DaemonHeartbeatsTable.c.timestamp))).scalar()
    if last is not None and datetime.now(UTC) - last.replace(tzinfo=UTC) < DAEMON_IS_DEAD_AFTER:
        raise CannotMove(
            "Dagster's daemon was alive a moment ago: stop it (`make dev`), wait "
            f"{DAEMON_IS_DEAD_AFTER.seconds} s, and try again"
        )


def _refuse_old_schema(files: Mapping[Path, db.MetaData]) -> None:
    for file, metadata in files.items():
        with _reading(file) as source:
            inspector = db.inspect(source)
            there = set(inspector.get_table_names())
            for table in metadata.sorted_tables:
                columns = (
                    {column["name"] for column in inspector.get_columns(table.name)}
                    if table.name in there
                    else set()
                )
                if not {column.name for column in table.columns} <= columns:
                    raise CannotMove(
                        f"{file} was made by an older Dagster: run `dagster instance migrate` first"
                    )
