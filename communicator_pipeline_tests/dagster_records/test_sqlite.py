"""Dagster's records in the storages that keep their connections."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from dagster import DagsterInstance

from communicator_pipeline.dagster_records.database import make_storage_once
from communicator_pipeline.dagster_records.sqlite import EventLog, Runs
from communicator_pipeline.runs import open_instance


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("COMMUNICATOR_HOME", str(tmp_path))
    with open_instance() as opened:
        yield opened


def test_the_instance_uses_them(instance: DagsterInstance) -> None:
    assert isinstance(instance.event_log_storage, EventLog)
    assert isinstance(instance.run_storage, Runs)


def test_a_transaction_opens_no_connection_of_its_own(instance: DagsterInstance) -> None:
    opened: list[object] = []

    def note(connection: object, _: object) -> None:
        opened.append(connection)

    instance.event_log_storage.dispose()
    instance.run_storage.dispose()
    sqlalchemy.event.listen(sqlalchemy.pool.Pool, "connect", note)
    try:
        instance.add_dynamic_partitions("accounts", ["ana"])
        instance.get_runs()
        before = len(opened)
        for _ in range(20):
            assert instance.has_dynamic_partition("accounts", "ana")
            instance.get_runs()
        assert before
        assert len(opened) == before
    finally:
        sqlalchemy.event.remove(sqlalchemy.pool.Pool, "connect", note)


def test_what_another_process_writes_is_seen(instance: DagsterInstance) -> None:
    instance.add_dynamic_partitions("accounts", ["ana"])
    assert not instance.has_dynamic_partition("accounts", "ben")
    subprocess.run(
        [
            sys.executable,
            "-c",
            "from communicator_pipeline.runs import open_instance\n"
            "with open_instance() as there: there.add_dynamic_partitions('accounts', ['ben'])",
        ],
        check=True,
    )
    assert instance.has_dynamic_partition("accounts", "ben")


def test_threads_do_not_wait_for_a_connection(instance: DagsterInstance) -> None:
    storage = instance.event_log_storage
    assert isinstance(storage, EventLog)
    all_inside = threading.Barrier(12)

    def hold() -> None:
        with storage.index_connection():
            all_inside.wait(20)

    threads = [threading.Thread(target=hold) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not all_inside.broken


def test_whoever_was_killed_while_making_the_tables_leaves_nothing_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster takes a file that is there for a complete one: nothing could be run then, ever."""
    monkeypatch.setenv("COMMUNICATOR_HOME", str(tmp_path))
    monkeypatch.delenv("COMMUNICATOR_DAGSTER_DATABASE", raising=False)
    left = tmp_path / "dagster" / ".making" / "history"
    left.mkdir(parents=True)
    (left / "event_log.db").touch()
    make_storage_once()
    made = tmp_path / "dagster"
    assert sorted(path.name for path in made.iterdir()) == [
        ".lock", ".made", "history", "schedules",
    ]  # fmt: skip
    with closing(sqlite3.connect(made / "history" / "event_log.db")) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert {"event_logs", "asset_check_executions", "alembic_version"} <= tables
