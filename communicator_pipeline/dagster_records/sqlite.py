"""Dagster's own SQLite storages, which keep their connections.

Dagster makes an engine and a connection for every transaction, looks up whether a table is there
each time that it asks for a partition, and waits for the disk after every event: a fifth of the
processor time of a short run (67 events, 390 transactions). The files and their content are
the same; `dagster.yaml` may name Dagster's classes instead at any time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import sqlalchemy
from dagster import DagsterInstance
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.runs.schema import RunsTable, RunTagsTable
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine
from sqlalchemy.pool import QueuePool

from communicator_pipeline.storage.vacuum import give_back

BUSY_TIMEOUT = 60
"""Seconds that a writer waits for another one."""

KEPT_CONNECTIONS = 4
"""Of a process to a file. More are opened when more threads ask at once, and closed again."""


class _Engines:
    """One engine per process: SQLite's connections do not survive a fork."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._engines: dict[int, Engine] = {}

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self._engine().connect() as connection, connection.begin():
            yield connection

    def _engine(self) -> Engine:
        process = os.getpid()
        engine = self._engines.get(process)
        if engine is None:
            engine = self._engines.setdefault(process, _engine_of(self._address))
        return engine

    def dispose(self) -> None:
        engine = self._engines.pop(os.getpid(), None)
        if engine is not None:
            engine.dispose()


class EventLog(ConsolidatedSqliteEventLogStorage):
    """All runs' events in one file."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._tables: set[str] = set()
        self._engines: _Engines | None = None
        super().__init__(base_dir, inst_data)

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        if self._engines is None:
            self._engines = _Engines(self._conn_string)
        with self._engines.transaction() as connection:
            yield connection

    def has_table(self, table_name: str) -> bool:
        """Whether the table is there; once it is, it stays."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def dispose(self) -> None:
        super().dispose()  # type: ignore[no-untyped-call]
        if self._engines is not None:
            self._engines.dispose()


class Runs(SqliteRunStorage):
    """Runs and their tags."""

    def __init__(self, conn_string: str, inst_data: Any = None) -> None:
        self._engines = _Engines(conn_string)
        super().__init__(conn_string, inst_data)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Runs:
        # Dagster's makes one of its own class, whatever the class it is called on.
        return cls.from_local(inst_data=inst_data, **config_value)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._engines.transaction() as connection:
            yield connection

    def delete_run(self, run_id: str) -> None:
        """With its tags, which Dagster leaves to a foreign key that SQLite does not look at."""
        with self.connect() as connection:
            connection.execute(RunTagsTable.delete().where(RunTagsTable.c.run_id == run_id))
            connection.execute(RunsTable.delete().where(RunsTable.c.run_id == run_id))

    def dispose(self) -> None:
        super().dispose()
        self._engines.dispose()


def shrink(instance: DagsterInstance, may_go_on: Callable[[], bool] = lambda: True) -> int:
    """Give the space of what was deleted back to the disk, where the instance's storages are SQLite
    files; returns the bytes."""
    storages = (instance.run_storage, instance.event_log_storage, instance.schedule_storage)
    addresses = {str(getattr(storage, "_conn_string", "")) for storage in storages}
    freed = 0
    for address in sorted(addresses):
        if address.startswith("sqlite:"):
            path = sqlalchemy.make_url(address).database or ""
            with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as connection:
                freed += give_back(connection, may_go_on)
    return freed


def _engine_of(address: str) -> Engine:
    engine = sqlalchemy.create_engine(
        address,
        poolclass=QueuePool,
        pool_size=KEPT_CONNECTIONS,
        max_overflow=-1,  # no limit: a thread must not wait for another one's connection
        connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
    )

    @sqlalchemy.event.listens_for(engine, "connect")
    def relax(connection: Any, _: Any) -> None:
        # The files are in WAL mode: whole after a crash, whatever crashed. When the machine itself
        # loses power, the last moments may be missing here; what is to be done is in our database.
        connection.execute("PRAGMA synchronous = NORMAL")

    return engine
