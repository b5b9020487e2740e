"""The database does what D1 does, and refuses what D1 refuses."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from pathlib import Path

import pytest

from communicator_pipeline.storage.database import (
    ConstraintFailed,
    DatabaseFailed,
    DatabaseRefused,
    SqliteDatabase,
    carry_rows,
    from_utc_text,
    migrate,
    split_statements,
    utc_text,
)


@pytest.fixture
def database(tmp_path: Path) -> SqliteDatabase:
    opened = SqliteDatabase(tmp_path / "test.db")
    opened.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    return opened


def test_a_batch_takes_effect_whole_or_not_at_all(database: SqliteDatabase) -> None:
    database.execute("INSERT INTO t (name) VALUES ('there')")
    with pytest.raises(ConstraintFailed):
        database.batch(
            [("INSERT INTO t (name) VALUES ('new')", ()), ("INSERT INTO t VALUES (9, 'there')", ())]
        )
    assert [row["name"] for row in database.execute("SELECT name FROM t")] == ["there"]


@pytest.mark.parametrize(
    ("sql", "params", "says"),
    [
        ("SELECT " + ", ".join("?" * 101), [1] * 101, "101 parameters"),
        ("SELECT 1 -- " + "x" * 100_000, [], "the statement has"),
        ("SELECT ?", ["x" * 2_000_001], "parameter 1 has 2000001 bytes"),
        ("SELECT ?", [b"x" * 2_000_001], "parameter 1 has 2000001 bytes"),
        ("SELECT ?", [2**53 + 1], "pass it as text"),
        ("BEGIN", [], "batch() is the only transaction"),
        ("  attach database 'x' as y", [], "batch() is the only transaction"),
    ],
)
def test_what_d1_refuses_is_refused_here_too(
    database: SqliteDatabase, sql: str, params: list[object], says: str
) -> None:
    with pytest.raises(DatabaseRefused, match=says.replace("(", r"\(").replace(")", r"\)")):
        database.execute(sql, params)  # type: ignore[arg-type]


def test_a_row_that_grows_beyond_two_megabytes_inside_sql_is_refused(
    database: SqliteDatabase,
) -> None:
    with pytest.raises(DatabaseFailed, match="too big"):
        database.execute("SELECT ? || ?", ["x" * 1_500_000, "y" * 1_500_000])


def test_a_compound_select_of_more_than_five_terms_is_refused(database: SqliteDatabase) -> None:
    with pytest.raises(DatabaseFailed, match="too many terms"):
        database.execute(" UNION ALL ".join(["SELECT 1"] * 6))


def test_many_rows_travel_in_few_parameters_and_all_arrive(database: SqliteDatabase) -> None:
    rows = [{"name": f"{number:05d}" + "é" * 2_000} for number in range(1_000)]
    statements = list(
        carry_rows("INSERT INTO t (name) SELECT value ->> 'name' FROM json_each(?1)", rows)
    )
    assert 1 < len(statements) < 10
    database.batch(statements)
    assert database.execute("SELECT count(*) AS n FROM t")[0]["n"] == 1_000


def test_no_rows_make_no_statement() -> None:
    assert list(carry_rows("INSERT INTO t SELECT 1 FROM json_each(?)", [])) == []


def test_writers_in_many_threads_wait_for_each_other(database: SqliteDatabase) -> None:
    """A deferred BEGIN failed 596 of 800 times in spite of a timeout; BEGIN IMMEDIATE never."""

    def write(worker: int) -> None:
        for number in range(25):
            database.execute("INSERT INTO t (name) VALUES (?)", (f"{worker}-{number}",))

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.execute("SELECT count(*) AS n FROM t")[0]["n"] == 200


def _migrate(path: str) -> int:
    return len(migrate(SqliteDatabase(Path(path))))


def test_processes_that_migrate_at_once_do_no_harm(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        applied = pool.map(_migrate, [str(tmp_path / "new.db")] * 4)
        # Not terminated: a process whose parent ignores SIGTERM, as Dagster makes one do that
        # ignores SIGINT, would not hear of it.
        pool.close()
        pool.join()
    assert sum(applied) == len(list(_migration_names()))
    assert migrate(SqliteDatabase(tmp_path / "new.db")) == []


def test_migrations_are_noted_as_wrangler_notes_them(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "new.db")
    migrate(database)
    noted = database.execute("SELECT id, name, applied_at FROM d1_migrations ORDER BY id")
    assert [row["name"] for row in noted] == list(_migration_names())


def test_no_migration_holds_what_d1_refuses(tmp_path: Path) -> None:
    for name in _migration_names():
        for statement in split_statements((_schema() / name).read_text()):
            SqliteDatabase(tmp_path / "d.db")
            assert len(statement) < 100_000
            assert not statement.upper().startswith(("PRAGMA", "BEGIN", "ATTACH"))


def test_a_trigger_with_semicolons_of_its_own_is_one_statement() -> None:
    script = (
        "-- why\nCREATE TABLE a (b);\nCREATE TRIGGER c AFTER INSERT ON a BEGIN DELETE FROM a; END;"
    )
    assert len(list(split_statements(script))) == 2


def test_every_commit_is_synced_and_the_file_is_a_sound_wal_database(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    database.execute("INSERT INTO t (name) VALUES ('x')")
    assert database._connection().pragma("synchronous") == 2  # FULL
    with sqlite3.connect(tmp_path / "test.db") as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_times_keep_their_microseconds_and_sort_as_text() -> None:
    early = from_utc_text("2026-11-03T09:12:44.000001Z")
    late = from_utc_text("2026-11-03T09:12:44.100000Z")
    assert utc_text(early) == "2026-11-03T09:12:44.000001Z"
    assert (early < late) == (utc_text(early) < utc_text(late))


def _schema() -> Path:
    import communicator_pipeline.storage as storage

    return Path(storage.__file__).parent / "schema"


def _migration_names() -> list[str]:
    return sorted(file.name for file in _schema().glob("*.sql"))
