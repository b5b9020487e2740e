"""Dagster's records in Postgres by one variable, and the move there by one command."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterInstance
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from sqlalchemy import URL

from communicator_pipeline import runs
from communicator_pipeline.dagster_records import moving
from communicator_pipeline.dagster_records.database import (
    VARIABLE,
    DagsterDatabaseError,
    connected,
    postgres_address,
)
from communicator_pipeline.dagster_records.moving import CannotMove, move
from communicator_pipeline_tests.infra.postgres import (
    PASSWORD,
    Postgres,
    free_port,
    needs_postgres,
    postgres,
)

__all__ = ["postgres"]

pytestmark = needs_postgres

ACCOUNTS = dg.DynamicPartitionsDefinition(name="accounts")


@dg.asset(partitions_def=ACCOUNTS, check_specs=[dg.AssetCheckSpec("fine", asset="mail")])
def mail(context: dg.AssetExecutionContext) -> Iterator[Any]:
    yield dg.MaterializeResult(
        metadata={"rows": 3}, tags={"kind": "made-up"}, data_version=dg.DataVersion("7")
    )
    yield dg.AssetCheckResult(check_name="fine", passed=context.partition_key != "ben")


@dg.sensor(target=[mail])
def looks() -> None: ...


JOB = dg.Definitions(assets=[mail], sensors=[looks]).resolve_implicit_global_asset_job_def()


@pytest.fixture
def database(postgres: Postgres, request: pytest.FixtureRequest) -> str:
    """The address of an empty database of the test's own."""
    return postgres.create(f"t{abs(hash(request.node.nodeid)) % 10**12}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path / "home" / "dagster"


def url(address: str) -> URL:
    found = postgres_address({VARIABLE: address})
    assert found is not None
    return found


def record(materialisations: int = 4) -> None:
    """What an installation has after some use, in the storage that the environment names."""
    with runs.open_instance() as instance:
        instance.add_dynamic_partitions("accounts", ["ana", "ben", "eve"])
        for number in range(materialisations):
            JOB.execute_in_process(
                instance=instance,
                partition_key=("ana", "ben")[number % 2],
                tags={"communicator/account": "ana"},
                raise_on_error=False,
            )
        failed = instance.create_run_for_job(JOB, tags={"dagster/partition": "eve"})
        instance.report_run_failed(failed)
        instance.report_runless_asset_event(dg.AssetObservation("mail", partition="ana"))
        instance.run_storage.set_cursor_values({"a cursor": "41"})
        state = _sensor_state()
        instance.add_instigator_state(state)
        instance.create_tick(
            TickData(
                instigator_origin_id=state.instigator_origin_id,
                instigator_name="looks",
                instigator_type=InstigatorType.SENSOR,
                status=TickStatus.SKIPPED,
                timestamp=datetime(2026, 11, 3, tzinfo=UTC).timestamp(),
                selector_id=state.selector_id,
            )
        )


def _sensor_state() -> InstigatorState:
    origin = RemoteRepositoryOrigin(
        InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="made_up")), "all"
    ).get_instigator_origin("looks")
    return InstigatorState(
        origin,
        InstigatorType.SENSOR,
        InstigatorStatus.RUNNING,
        SensorInstigatorData(cursor="its cursor"),
    )


def all_that_reads(instance: DagsterInstance) -> dict[str, Any]:
    """What Dagster says of everything that `record` has made."""
    key = mail.key
    events = instance.event_log_storage
    state = _sensor_state()
    found = instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
    assert found is not None
    (check,) = events.get_latest_asset_check_execution_by_key(
        [dg.AssetCheckKey(key, "fine")]
    ).values()
    entry = instance.get_asset_records([key])[0].asset_entry
    return {
        "runs": [
            (r.storage_id, r.dagster_run, r.create_timestamp, r.start_time, r.end_time)
            for r in instance.get_run_records()
        ],
        "events": [
            [(e.storage_id, e.event_log_entry) for e in instance.get_records_for_run(run).records]
            for run in sorted(instance.get_run_ids())
        ],
        "materialised": instance.get_materialized_partitions(key),
        "newest": events.get_latest_storage_id_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION
        ),
        "tags": events.get_event_tags_for_asset(key),
        "asset": (entry.asset_key, entry.last_run_id, entry.last_materialization),
        "check": (check.status, check.run_id, check.id),
        "observed": instance.fetch_observations(key, limit=9).records[0].storage_id,
        "partitions": instance.get_dynamic_partitions("accounts"),
        "cursor": instance.run_storage.get_cursor_values({"a cursor"}),
        "sensor": found,
        "ticks": [
            (tick.tick_id, tick.status, tick.timestamp)
            for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id)
        ],
        "snapshots": [
            run.job_snapshot_id and instance.get_job_snapshot(run.job_snapshot_id).name
            for run in instance.get_runs()
        ],
        "id": instance.run_storage.get_run_storage_id(),
    }


def read() -> dict[str, Any]:
    with runs.open_instance() as instance:
        return all_that_reads(instance)


def test_everything_reads_the_same_after_the_move_and_goes_on(
    folder: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record()
    before = read()
    assert before["materialised"] == {"ana", "ben"}
    moved = move(folder, url(database))
    assert moved.now
    assert moved.rows["runs"] == 5
    assert moved.left == 0

    monkeypatch.setenv(VARIABLE, database)
    assert read() == before
    with runs.open_instance() as instance:
        assert type(instance.event_log_storage).__name__ == "PostgresEvents"
        assert type(instance.run_storage).__name__ == "PostgresRuns"
        assert type(instance.schedule_storage).__name__ == "PostgresSchedules"
        highest = max(before["newest"].values())
        assert JOB.execute_in_process(instance=instance, partition_key="eve").success
        newest = instance.event_log_storage.get_latest_storage_id_by_partition(
            mail.key, dg.DagsterEventType.ASSET_MATERIALIZATION
        )
        assert newest["eve"] > highest  # cursors are numbers of events
        instance.add_dynamic_partitions("accounts", ["zoe"])
        instance.run_storage.set_cursor_values({"another": "1"})
        instance.delete_run(instance.get_runs()[0].run_id)


def test_a_second_move_changes_nothing(folder: Path, database: str) -> None:
    record(2)
    first = move(folder, url(database))
    again = move(folder, url(database))
    assert not again.now
    assert again.rows == first.rows
    assert again.at == first.at


def test_two_at_once_move_once(folder: Path, database: str) -> None:
    record(2)
    command = [sys.executable, "-m", "communicator_pipeline.cli", "move-dagster", "--json"]
    both = [
        subprocess.Popen(
            command,
            env={**os.environ, VARIABLE: database},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(json.loads(out)["moved_now"] for out, _ in said) == [False, True]


@pytest.mark.parametrize(
    "before", ["make_tables", "_copy_all", "_number_on", "_compare", "_note", "Moved"]
)
def test_killed_anywhere_nothing_is_moved_and_the_next_one_moves_all(
    folder: Path, database: str, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(2)
    there = read()
    killed_at = (
        "import os, sys, pathlib\n"
        "from communicator_pipeline.dagster_records import moving as m\n"
        "from communicator_pipeline.dagster_records.database import postgres_address\n"
        "def die(*args): os.kill(os.getpid(), 9)\n"
        "setattr(m, sys.argv[2], die)\n"
        "m.move(pathlib.Path(sys.argv[1]), postgres_address())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", killed_at, folder, before],
        env={**os.environ, VARIABLE: database},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert move(folder, url(database)).now
    monkeypatch.setenv(VARIABLE, database)
    assert read() == there


def test_rows_of_deleted_runs_are_left_and_counted(folder: Path, database: str) -> None:
    record(1)
    import sqlite3

    with sqlite3.connect(folder / "history/runs.db") as file:
        file.execute("INSERT INTO run_tags (run_id, key, value) VALUES ('gone', 'k', 'v')")
    moved = move(folder, url(database))
    assert moved.left == 1


@pytest.mark.parametrize(
    "held", ["history/runs.db", "history/event_log.db", "schedules/schedules.db"]
)
def test_nobody_may_write_meanwhile(
    folder: Path, database: str, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    record(1)
    monkeypatch.setattr(moving, "WAIT_FOR_SQLITE", 0.2)
    writer = sqlite3.connect(folder / held, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(CannotMove, match="somebody writes to"):
        move(folder, url(database))
    writer.close()
    assert move(folder, url(database)).now


def test_a_living_daemon_is_refused(folder: Path, database: str) -> None:
    from dagster._daemon.types import DaemonHeartbeat

    record(1)
    now = time.time()
    with runs.open_instance() as instance:
        instance.add_daemon_heartbeat(DaemonHeartbeat(now, "SENSOR", "id", []))
    with pytest.raises(CannotMove, match="daemon was alive"):
        move(folder, url(database))
    with runs.open_instance() as instance:
        instance.add_daemon_heartbeat(DaemonHeartbeat(now - 120, "SENSOR", "id", []))
    assert move(folder, url(database)).now


def test_a_database_that_is_in_use_is_refused(
    folder: Path, postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(1)
    name = database.rpartition("/")[2]
    postgres.sql("CREATE TABLE invoices (id int)", name)
    with pytest.raises(CannotMove, match="invoices"):
        move(folder, url(database))
    postgres.sql("DROP TABLE invoices", name)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("COMMUNICATOR_HOME", str(folder.parent / "other"))
        elsewhere.setenv(VARIABLE, database)
        record(1)
    with pytest.raises(CannotMove, match="not empty"):
        move(folder, url(database))


def test_the_records_of_another_installation_are_refused(
    folder: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(1)
    move(folder, url(database))
    monkeypatch.setenv("COMMUNICATOR_HOME", str(folder.parent / "other"))
    record(1)
    with pytest.raises(CannotMove, match="another installation"):
        move(folder.parent / "other" / "dagster", url(database))


def test_setting_the_variable_without_the_move_is_refused(
    folder: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every partition would read as missing."""
    record(1)
    monkeypatch.setenv(VARIABLE, database)
    with pytest.raises(DagsterDatabaseError, match="move-dagster"), runs.open_instance():
        pass


def test_many_that_start_at_once_make_the_tables_once(
    database: str, tmp_path: Path, postgres: Postgres
) -> None:
    code = (
        "from communicator_pipeline.runs import open_instance\n"
        "with open_instance() as i: i.get_runs_count()\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, VARIABLE: database, "COMMUNICATOR_HOME": str(tmp_path / "h")},
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for process in processes:
        said = process.communicate(timeout=120)[1]
        assert process.returncode == 0, said
        assert b"Retrying" not in said
    assert postgres.sql("SELECT count(*) FROM alembic_version", database.rpartition("/")[2]) == "1"


def test_transactions_open_no_connections_of_their_own(
    database: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, database)
    name = database.rpartition("/")[2]

    def sessions() -> int:
        """What Postgres has counted; it counts one when that ends."""
        time.sleep(1.2)
        return int(postgres.sql(f"SELECT sessions FROM pg_stat_database WHERE datname='{name}'"))

    with runs.open_instance() as instance:
        instance.add_dynamic_partitions("accounts", ["ana"])
        before = sessions()
        for _ in range(20):
            assert instance.has_dynamic_partition("accounts", "ana")
            instance.get_runs()
            instance.all_instigator_state()
        assert sessions() - before <= 2
        # A Postgres that was started again, or has lost patience, is not noticed.
        postgres.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        )
        assert instance.has_dynamic_partition("accounts", "ana")
        assert not instance.get_runs()


# --- what is wrong with an address -----------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        "mysql://u:s3cret@h/d",
        "sqlite:///s3cret.db",
        "postgresql://u:s3@cret@h/d",
        "postgresql://u:s3cret",
        "postgresql://u:s3cret@h",
        "postgresql://u:p@s3cret:x/d",
        "s3cret",
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(DagsterDatabaseError, match="must be postgresql://") as refused:
        postgres_address({VARIABLE: given})
    assert "s3" not in str(refused.value)


def test_people_write_plain_addresses() -> None:
    found = url("postgresql://u:p%40%2F%3A@db.example/records")
    assert found.drivername == "postgresql+psycopg2"
    assert found.password == "p@/:"
    assert url("postgres://u@h/d").drivername == "postgresql+psycopg2"
    assert postgres_address({}) is None
    assert postgres_address({VARIABLE: " "}) is None


def test_what_is_wrong_is_said_in_words(postgres: Postgres) -> None:
    cases = {
        postgres.address("dagster", "wrong s3cret"): "refuses this user or password",
        postgres.address("nowhere"): "no such database",
        f"postgresql://u:s3cret@127.0.0.1:{free_port()}/d": "nothing listens there",
        "postgresql://u:s3cret@no.such.host.invalid/d": "no host of this name",
    }
    for address, reason in cases.items():
        with pytest.raises(DagsterDatabaseError, match=reason) as said, connected(url(address)):
            pass
        for secret in ("s3cret", PASSWORD):
            assert secret not in str(said.value)


def test_a_host_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silences = f"postgresql://u:s3cret@127.0.0.1:{silent.getsockname()[1]}/d?connect_timeout=2"
        began = time.monotonic()
        with pytest.raises(DagsterDatabaseError, match="did not answer"), connected(url(silences)):
            pass
        assert time.monotonic() - began < 8


def test_the_command_says_what_to_do_and_no_secret(folder: Path, postgres: Postgres) -> None:
    record(1)

    def call(**variables: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "communicator_pipeline.cli", "move-dagster"],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    code, said = call()
    assert code == 2
    assert VARIABLE in said
    for address in (postgres.address("dagster", "wrong s3cret"), postgres.address("nowhere")):
        code, said = call(**{VARIABLE: address})
        assert code == 1
        assert "Traceback" not in said
        assert "s3cret" not in said
        assert PASSWORD not in said
    code, said = call(**{VARIABLE: postgres.create("moved")})
    assert code == 0, said
    assert "2 runs" in said
    assert PASSWORD not in said
    written = b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
    assert PASSWORD.encode() not in written
    assert b"%2F%40" not in written
