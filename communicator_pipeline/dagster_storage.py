"""Dagster's own SQLite storages, with one SQLAlchemy engine each.

Dagster makes an engine for every transaction, and with it loses every compiled statement: a fifth
of the processor time of a short run (67 events, 390 engines). The files and their content are the
same; `dagster.yaml` may name Dagster's classes instead at any time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import sqlalchemy
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage
from sqlalchemy import Connection, Engine
from sqlalchemy.pool import NullPool

BUSY_TIMEOUT = 60
"""Seconds that a writer waits for another one."""


class EventLog(ConsolidatedSqliteEventLogStorage):
    """All runs' events in one file."""

    @cached_property
    def _engine(self) -> Engine:
        return _engine_of(self._conn_string)

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection


class Runs(SqliteRunStorage):
    """Runs and their tags."""

    @cached_property
    def _engine(self) -> Engine:
        return _engine_of(self._conn_string)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection


def _engine_of(address: str) -> Engine:
    # A connection per transaction, as Dagster has it: they may come from any thread.
    return sqlalchemy.create_engine(
        address, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT}
    )
