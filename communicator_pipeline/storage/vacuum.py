"""Giving the space of deleted rows in an SQLite file back to the disk, a little at a time.

Belongs here: ours and Dagster's files alike. Does not belong here: what is deleted
(`retention.py`, `dagster_records/pruning.py`). Postgres vacuums by itself, and so does D1.

Whoever calls opens the connection, and with the library by which this process uses the file: two of
them in one process undo each other's locks (https://sqlite.org/howtocorrupt.html, 2.2.1).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import apsw

FREE_SHARE = 0.25
"""Of the file: what is free is used again, so less than this is not worth the writing."""

LEAST_FREE = 4 * 2**20  # bytes

KEPT_SHARE = 0.1
"""Of the file: stays free for what is written tomorrow."""

PAGES_AT_ONCE = 256
"""One transaction of a megabyte: a writer who waits for it waits some milliseconds."""

REST = 0.02
"""Seconds between two of them, for who waits."""

LARGEST_REWRITTEN = 128 * 2**20
"""Bytes. A file that was never set up for this is written anew once, which keeps writers waiting:
they bear 30 seconds. A larger one stays as it is, and uses what is free in it."""

_INCREMENTAL = 2  # of `PRAGMA auto_vacuum`


class Connection(Protocol):
    """Of either library; each statement is a transaction of its own."""

    def execute(self, sql: str, /) -> Any: ...


def give_back(connection: Connection, may_go_on: Callable[[], bool] = lambda: True) -> int:
    """Make a file smaller by what is free in it; returns the bytes that went. Killed anywhere the
    file is whole; who reads or writes meanwhile waits for a moment at most. A file that is too busy
    is left for the next time."""
    before = _number(connection, "page_count")
    with suppress(apsw.BusyError, sqlite3.OperationalError):  # what has gone until then is counted
        if _number(connection, "auto_vacuum") != _INCREMENTAL:
            _set_up(connection)
        elif _is_worth_it(connection):
            _shrink(connection, may_go_on)
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    gone = before - _number(connection, "page_count")
    return max(0, gone) * _number(connection, "page_size")


def _set_up(connection: Connection) -> None:
    if _number(connection, "page_count") * _number(connection, "page_size") <= LARGEST_REWRITTEN:
        connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
        connection.execute("VACUUM")


def _is_worth_it(connection: Connection) -> bool:
    free, pages = _number(connection, "freelist_count"), _number(connection, "page_count")
    return free > pages * FREE_SHARE and free * _number(connection, "page_size") > LEAST_FREE


def _shrink(connection: Connection, may_go_on: Callable[[], bool]) -> None:
    kept = int(_number(connection, "page_count") * KEPT_SHARE)
    while may_go_on():
        free = _number(connection, "freelist_count")
        if free <= kept:
            return
        pages = min(PAGES_AT_ONCE, free - kept)
        # Begun as a writer: one who reads first and finds that somebody wrote does not get to wait.
        connection.execute("BEGIN IMMEDIATE")
        try:
            for _ in range(pages):  # one at a time: `sqlite3` stops after the first one
                connection.execute("PRAGMA incremental_vacuum(1)").fetchall()
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")  # or nobody could write until the connection is closed
            raise
        time.sleep(REST)


def _number(connection: Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchall()[0][0])
