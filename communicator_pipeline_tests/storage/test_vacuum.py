"""A file's free space goes back to the disk, and nobody waits for it or loses a row."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from communicator_pipeline.storage import vacuum
from communicator_pipeline.storage.database import SqliteDatabase
from communicator_pipeline.storage.vacuum import give_back

ROWS = 4_000

pytestmark = pytest.mark.embedded


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of some 16 MB, set up for giving space back."""
    place = tmp_path / "x.db"
    database = SqliteDatabase(place)
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
    database.execute(
        f"WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < {ROWS}) "
        "INSERT INTO t SELECT v, hex(randomblob(2000)) FROM n"
    )
    give_back(_open(place))
    return place


@pytest.fixture
def opened(path: Path) -> Iterator[apsw.Connection]:
    connection = _open(path)
    yield connection
    connection.close()


def _open(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5_000)
    return connection


def _rows(path: Path) -> int:
    [row] = SqliteDatabase(path).execute("SELECT count(*) AS n, sum(length(body)) AS b FROM t")
    assert row["b"] == row["n"] * 4_000
    return int(row["n"])


def test_what_is_free_goes_and_every_row_stays(path: Path, opened: apsw.Connection) -> None:
    SqliteDatabase(path).execute("DELETE FROM t WHERE id % 4 > 0")
    before = path.stat().st_size
    freed = give_back(opened)
    assert freed > before / 2
    assert path.stat().st_size == before - freed
    assert _rows(path) == ROWS / 4
    assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert give_back(opened) == 0


def test_dagsters_library_gives_as_much_back_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(vacuum.time, "sleep", rests.append)
    place = tmp_path / "dagster.db"
    connection = sqlite3.connect(place, isolation_level=None)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)")
    connection.execute(
        f"WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < {ROWS}) "
        "INSERT INTO t SELECT v, randomblob(4000) FROM n"
    )
    connection.execute("DELETE FROM t WHERE id % 4 > 0")
    freed = give_back(connection)
    assert freed > place.stat().st_size
    assert len(rests) == -(-freed // (vacuum.PAGES_AT_ONCE * 4096))
    connection.close()


def test_a_little_that_is_free_is_left_for_what_comes(path: Path, opened: apsw.Connection) -> None:
    SqliteDatabase(path).execute("DELETE FROM t WHERE id % 10 = 0")
    assert give_back(opened) == 0


def test_a_file_that_was_never_set_up_is_rewritten_once(tmp_path: Path) -> None:
    place = tmp_path / "old.db"
    with sqlite3.connect(place, isolation_level=None) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
        connection.execute("INSERT INTO t SELECT 1, hex(zeroblob(4000000))")
        connection.execute("DELETE FROM t")
        assert give_back(connection) > 4_000_000
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_large_file_is_not_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vacuum, "LARGEST_REWRITTEN", 1_000)
    connection = sqlite3.connect(tmp_path / "large.db", isolation_level=None)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
    assert give_back(connection) == 0
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    connection.close()


def test_a_night_that_is_over_ends_it(path: Path, opened: apsw.Connection) -> None:
    SqliteDatabase(path).execute("DELETE FROM t WHERE id % 4 > 0")
    left = iter([True, False])
    freed = give_back(opened, lambda: next(left))
    assert freed == vacuum.PAGES_AT_ONCE * 4096
    assert give_back(opened) > freed


def test_who_writes_meanwhile_waits_for_a_moment_at_most(
    path: Path, opened: apsw.Connection
) -> None:
    SqliteDatabase(path).execute("DELETE FROM t WHERE id % 4 > 0")
    done = threading.Event()
    waits: list[float] = []

    def write() -> None:
        database = SqliteDatabase(path)
        while not done.is_set():
            began = time.monotonic()
            database.execute("INSERT INTO t (body) VALUES (hex(zeroblob(2000)))")
            waits.append(time.monotonic() - began)
            done.wait(0.005)  # who never pauses fills what is free before it can be given back
        database.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert give_back(opened) > 0
    finally:
        done.set()
        writer.join()
    assert len(waits) > 10
    assert max(waits) < 2  # some milliseconds, on a machine that does nothing else
    assert _rows(path) == ROWS / 4 + len(waits)


def test_a_busy_file_is_left_for_the_next_time(path: Path) -> None:
    SqliteDatabase(path).execute("DELETE FROM t WHERE id % 4 > 0")
    writer, other = _open(path), _open(path)
    other.set_busy_timeout(10)
    writer.execute("BEGIN IMMEDIATE")
    try:
        assert give_back(other) == 0
    finally:
        writer.execute("ROLLBACK")
        writer.close()
        other.close()


def _give_back(path: str) -> None:
    give_back(_open(Path(path)))


def test_killed_anywhere_the_file_is_whole(path: Path) -> None:
    SqliteDatabase(path).execute("DELETE FROM t WHERE id % 4 > 0")
    context = multiprocessing.get_context("spawn")
    size = path.stat().st_size
    process = context.Process(target=_give_back, args=(str(path),))
    process.start()
    assert process.pid is not None
    connection = _open(path)
    while process.is_alive() and connection.pragma("page_count") * 4096 == size:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    assert _rows(path) == ROWS / 4
    again = _open(path)
    give_back(again)
    assert again.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    again.close()
