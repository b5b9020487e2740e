"""The database: D1's interface, and SQLite behind it.

Belongs here: running one statement, running several as one transaction, migrations, and the
limits that D1 sets. Does not belong here: what the tables mean (the other modules of this
package know that).

D1 is SQLite with a narrow door: single statements and one atomic `batch`, never a transaction
that is held open between calls. The local backend goes through the same door and refuses what
D1 refuses, so that nothing has to be rewritten when an installation moves.
Limits: https://developers.cloudflare.com/d1/platform/limits/ (read 2026-11).

SQLite 3.54 prefers the primary key of a table WITHOUT ROWID to an index that does not cover, even
by its first column alone where the index has two, whatever the statistics say: it reads all that an
account has instead of a day of it. So statements name such an index (`INDEXED BY`).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import apsw
import orjson

Value = str | int | float | bytes | None
Row = dict[str, Any]
Statement = tuple[str, Sequence[Value]]

MOST_PARAMETERS = 100
LONGEST_STATEMENT = 100_000  # bytes
LARGEST_VALUE = 2_000_000  # bytes, of a value and of a row
LONGEST_LIKE_PATTERN = 50  # bytes
MOST_COMPOUND_TERMS = 5
LARGEST_INTEGER = 2**53  # beyond it JavaScript, and so D1, rounds: such numbers travel as text
ROWS_PARAMETER = 1_500_000  # bytes of JSON per statement: a row's own overhead stays below 2 MB

DELETED_AT_ONCE = 500
"""Rows that one statement deletes: some milliseconds."""

UNFINISHED = "unfinished restore "
"""Begins the name of a note among the migrations: a restore into the database is not done."""

_TRANSACTION_WORDS = re.compile(
    r"\s*(BEGIN|COMMIT|END|ROLLBACK|SAVEPOINT|RELEASE|ATTACH|DETACH|VACUUM)\b", re.IGNORECASE
)


class DatabaseRefused(ValueError):
    """The statement is not one that D1 takes; the message says which limit and what to do."""


class DatabaseFailed(Exception):
    """The database could not do it, and did none of it; the message says why."""


class ConstraintFailed(DatabaseFailed):
    """What was to be written breaks a rule of the schema; the message says which."""


class DatabaseUnavailable(DatabaseFailed):
    """The database did none of it, and may do it later."""


class OutcomeUnknown(DatabaseFailed):
    """It was done, or it was not, or it was and the answer is lost: read again to know."""


class Database(Protocol):
    """What D1 can do, and all that the rest of the project may ask of a database."""

    def execute(self, sql: str, params: Sequence[Value] = ()) -> list[Row]:
        """Run one statement, committed when the call returns. Rows as dicts by column name."""

    def batch(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Run the statements as one transaction: all of them take effect, or none.

        Raises `DatabaseRefused`, `DatabaseFailed` or one of its kinds.
        """


def check_limits(sql: str, params: Sequence[Value]) -> None:
    """Raise `DatabaseRefused` for what D1 would not take."""
    if len(sql.encode()) > LONGEST_STATEMENT:
        raise DatabaseRefused(
            f"the statement has {len(sql.encode())} bytes, D1 takes {LONGEST_STATEMENT}: "
            "carry the rows in one JSON parameter and unpack them with json_each(?)"
        )
    if len(params) > MOST_PARAMETERS:
        raise DatabaseRefused(
            f"{len(params)} parameters, D1 takes {MOST_PARAMETERS}: "
            "carry the rows in one JSON parameter and unpack them with json_each(?)"
        )
    for place, value in enumerate(params, start=1):
        if isinstance(value, str | bytes):
            size = len(value.encode()) if isinstance(value, str) else len(value)
            if size > LARGEST_VALUE:
                raise DatabaseRefused(
                    f"parameter {place} has {size} bytes, D1 takes {LARGEST_VALUE}: "
                    "split the rows with carry_rows()"
                )
        elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise DatabaseRefused(
                f"parameter {place} is an integer beyond 2^53, which D1 rounds: pass it as text"
            )
    if _TRANSACTION_WORDS.match(sql):
        raise DatabaseRefused(
            f"{sql.split()[0].upper()} is not for callers: batch() is the only transaction"
        )


def carry_rows(
    sql: str, rows: Iterable[Mapping[str, Any] | Sequence[Any]], *others: Value
) -> Iterator[Statement]:
    """Statements that carry any number of rows, each in one JSON parameter below D1's limits.

    `sql` unpacks its first parameter with `json_each(?)`; `others` follow it in every statement.
    No rows, no statement.
    """
    parts: list[bytes] = []
    size = 0
    for row in rows:
        part = orjson.dumps(row)
        if parts and size + len(part) > ROWS_PARAMETER:
            yield sql, ((b"[%s]" % b",".join(parts)).decode(), *others)
            parts, size = [], 0
        parts.append(part)
        size += len(part) + 1
    if parts:
        yield sql, ((b"[%s]" % b",".join(parts)).decode(), *others)


MayGoOn = Callable[[], bool]
"""Whether there is time left for long work that can be left off anywhere."""


def for_ever() -> bool:
    """Work without an end."""
    return True


def delete_in_parts(
    database: Database,
    table: str,
    key: str,
    condition: str,
    params: Sequence[Value],
    may_go_on: MayGoOn = for_ever,
) -> int:
    """Delete a table's rows that meet a condition, some at a time, for whoever else writes waits
    for each statement; returns how many went. `key`: the columns that tell its rows apart."""
    gone = 0
    while may_go_on():
        rows = database.execute(
            f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} "
            f"WHERE {condition} LIMIT {DELETED_AT_ONCE}) RETURNING 1",
            params,
        )
        gone += len(rows)
        if len(rows) < DELETED_AT_ONCE:
            break
    return gone


def utc_text(moment: datetime) -> str:
    """The one spelling of a time in the database: ISO 8601, UTC, microseconds; it sorts."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_utc_text(text: str) -> datetime:
    """The time that `utc_text` spelled."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def now_text() -> str:
    """This moment, spelled for the database."""
    return utc_text(datetime.now(UTC))


class SqliteDatabase:
    """D1's interface on a local file (WAL, every commit synced to the disk).

    Safe for many threads and processes: a connection per thread, writers take the lock at the
    start of their transaction (`BEGIN IMMEDIATE`), and wait for it up to 30 seconds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()

    def execute(self, sql: str, params: Sequence[Value] = ()) -> list[Row]:
        return self.batch([(sql, params)])[0]

    def batch(self, statements: Sequence[Statement]) -> list[list[Row]]:
        for sql, params in statements:
            check_limits(sql, params)
        try:
            return self._run(statements)
        except apsw.ConstraintError as error:
            raise ConstraintFailed(str(error)) from error
        except apsw.Error as error:
            raise DatabaseFailed(f"{type(error).__name__}: {error}") from error

    def _run(self, statements: Sequence[Statement]) -> list[list[Row]]:
        connection = self._connection()
        if len(statements) == 1 and reads(statements[0][0]):
            return [_rows(connection, *statements[0])]
        # Whoever only reads need not wait for those who write, nor they for each other.
        only_reads = all(reads(sql) for sql, _ in statements)
        connection.execute("BEGIN" if only_reads else "BEGIN IMMEDIATE")
        try:
            answers = [_rows(connection, sql, params) for sql, params in statements]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return answers

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            del self._local.connection

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = apsw.Connection(str(self.path))
            connection.set_busy_timeout(30_000)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")
            for limit, most in (
                (apsw.SQLITE_LIMIT_LENGTH, LARGEST_VALUE),
                (apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LONGEST_LIKE_PATTERN),
                (apsw.SQLITE_LIMIT_COMPOUND_SELECT, MOST_COMPOUND_TERMS),
                (apsw.SQLITE_LIMIT_COLUMN, 100),
            ):
                connection.limit(limit, most)
            self._local.connection = connection
        return connection


def migrate(database: Database) -> list[str]:
    """Bring the schema up to date; returns the names of the migrations that were applied now.

    Migrations are the numbered files in `schema/`, plain SQL that D1 accepts, and are noted in
    `d1_migrations`, as wrangler does it. Two processes that migrate at once do no harm.
    """
    try:
        there = _applied(database)  # a call of D1 for each process that starts, and no more
    except DatabaseUnavailable:
        raise
    except DatabaseFailed:
        database.execute(
            "CREATE TABLE IF NOT EXISTS d1_migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, "
            "name TEXT UNIQUE, applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL)"
        )
        there = _applied(database)
    if any(name.startswith(UNFINISHED) for name in there):
        raise DatabaseUnavailable(
            "a restore into this database was broken off or is under way: wait for it, or run "
            "`communicator restore` again with the same file"
        )
    applied = []
    for name, sql in _migrations():
        if name in there:
            continue
        statements: list[Statement] = [(statement, ()) for statement in split_statements(sql)]
        statements.append(("INSERT INTO d1_migrations (name) VALUES (?)", (name,)))
        try:
            database.batch(statements)
        except DatabaseFailed:
            if name in _applied(database):  # another process was first, or the answer was lost
                continue
            raise
        applied.append(name)
    return applied


def split_statements(sql: str) -> Iterator[str]:
    """The statements of a script, triggers (with semicolons of their own) whole."""
    statement = ""
    for piece in sql.split(";"):
        statement += piece + ";"
        if apsw.complete(statement):
            if re.sub(r"--[^\n]*", "", statement).strip(" \n\t;"):
                yield statement.strip()
            statement = ""


def _applied(database: Database) -> set[str]:
    return {row["name"] for row in database.execute("SELECT name FROM d1_migrations")}


def _migrations() -> list[tuple[str, str]]:
    folder = files("communicator_pipeline.storage") / "schema"
    return sorted((f.name, f.read_text()) for f in folder.iterdir() if f.name.endswith(".sql"))


def reads(sql: str) -> bool:
    """Whether the statement only reads."""
    return sql.lstrip()[:6].upper() == "SELECT"


def _rows(connection: apsw.Connection, sql: str, params: Sequence[Value]) -> list[Row]:
    cursor = connection.execute(sql, tuple(params))
    try:
        names = [column[0] for column in cursor.get_description()]
    except apsw.ExecutionCompleteError:  # apsw's way to say that there are no rows
        return []
    return [dict(zip(names, row, strict=True)) for row in cursor]
