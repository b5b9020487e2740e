"""Dagster's own Postgres storages, which keep their connections.

Belongs here: the engine that they share. Does not belong here: where Postgres is
(`database.py`), SQLite (`sqlite.py`).

Dagster opens a connection for every transaction and closes it again, with all that a password
costs: a run of four small assets took 1.7 s, and takes 0.2 s with kept connections. Tables and
their content are the same; `dagster.yaml` may name Dagster's classes instead at any time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from dagster._serdes import ConfigurableClassData
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)
from dagster_postgres.utils import create_pg_engine, pg_url_from_config
from sqlalchemy import Engine

KEPT_CONNECTIONS = 2
"""Of a process, for all three storages. More are opened when more threads ask at once, and closed
again. Postgres takes 100 from all processes together, if nobody has told it otherwise."""

RECYCLE_AFTER = 1_800
"""Seconds after which a connection is opened anew: what lies between may have forgotten it."""


@lru_cache(maxsize=4)
def _engine(address: str, process: int) -> Engine:
    """One per process: connections do not survive a fork."""
    return create_pg_engine(
        address,
        isolation_level="AUTOCOMMIT",  # as Dagster has it
        pool_size=KEPT_CONNECTIONS,
        max_overflow=-1,  # no limit: a thread must not wait for another one's connection
        pool_recycle=RECYCLE_AFTER,
        pool_pre_ping=True,  # Postgres may have been started again meanwhile
    )


class _KeepsConnections:
    """Before one of Dagster's storages."""

    postgres_url: str

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._engine = _engine(self.postgres_url, os.getpid())


class PostgresRuns(_KeepsConnections, PostgresRunStorage):
    """Runs and their tags."""


class PostgresEvents(_KeepsConnections, PostgresEventLogStorage):
    """All runs' events."""


class PostgresSchedules(_KeepsConnections, PostgresScheduleStorage):
    """Schedules and sensors."""


class PostgresRecords(DagsterPostgresStorage):
    """All three, for `storage:` in a `dagster.yaml`, with the settings of Dagster's `postgres`."""

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        self.postgres_url = postgres_url
        self.should_autocreate_tables = True
        self._inst_data = inst_data
        self._run_storage = PostgresRuns(postgres_url)
        self._event_log_storage = PostgresEvents(postgres_url)
        self._schedule_storage = PostgresSchedules(postgres_url)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> PostgresRecords:
        return cls(pg_url_from_config(config_value), inst_data)
