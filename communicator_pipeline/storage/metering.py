"""What is used of Cloudflare's services, by day and account.

Belongs here: counting, keeping the counts, bringing them into the database. Does not belong here:
what it costs (`cloudflare_prices.py`), the language model's usage (`model_usage` has it).

Counts are kept in memory for some seconds, then in a small file that the processes of a machine
share, and now and then their totals go to the database. Each machine has rows of its own there,
and a row is only ever raised to the total: a hand-over that is repeated, overtaken or killed
between its two halves neither loses nor doubles anything. What can get lost is what a process that
is killed had counted in the last seconds.

Where nothing measures (the local backend) a count is a look at a variable.
"""

from __future__ import annotations

import atexit
import os
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw

from communicator_pipeline.storage.database import Database, carry_rows

FLUSH_EVERY = 3.0
"""Seconds for which counts are in memory only."""

KEEP_LOCALLY = timedelta(days=40)
"""For how long the file remembers totals that the database has."""

FILE = "cloudflare-usage.db"

_ACCOUNT: ContextVar[str] = ContextVar("account that is worked for", default="")
_OF_AN_ACCOUNT = {"lake": 2, "landing": 1, "digests": 1}
"""First part of an object's key → which part of it is the account."""

Key = tuple[str, str, str, str]  # day, account, service, what


@contextmanager
def on_behalf_of(account: str) -> Iterator[None]:
    """What this thread uses until the `with` ends, it uses for the account."""
    token = _ACCOUNT.set(account)
    try:
        yield
    finally:
        _ACCOUNT.reset(token)


def account_of_object(key: str) -> str | None:
    """Whose an object is, if its key says so."""
    parts = key.split("/")
    place = _OF_AN_ACCOUNT.get(parts[0])
    return parts[place] if place is not None and len(parts) > place + 1 else None


class Meter:
    """The counts of a machine, in a file. Safe for threads and processes, also forked ones."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._pending: Counter[Key] = Counter()
        self._timer: threading.Timer | None = None

    def count(self, what: str, count: int, account: str | None = None) -> None:
        """Note that so much was used: `what` is the service and a unit of it, such as
        `d1 rows read`. For whom: as given, else as `on_behalf_of` says."""
        if count <= 0:
            return
        if self._process != os.getpid():  # what the parent has counted, the parent writes
            self._begin()
        service, _, unit = what.partition(" ")
        whose = _ACCOUNT.get() if account is None else account
        day = datetime.now(UTC).date().isoformat()
        with self._lock:
            self._pending[day, whose, service, unit] += count
            if self._timer is None:
                self._timer = threading.Timer(FLUSH_EVERY, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write to the file what is in memory."""
        if self._process != os.getpid():
            return
        with self._lock:
            taken, self._pending = self._pending, Counter()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        if not taken:
            return
        try:
            with _opened(self.path) as connection:
                connection.executemany(
                    "INSERT INTO totals (day, account, service, what, count) "
                    "VALUES (?, ?, ?, ?, ?) ON CONFLICT (day, account, service, what) "
                    "DO UPDATE SET count = count + excluded.count",
                    [(*key, count) for key, count in taken.items()],
                )
        except apsw.Error:
            with self._lock:  # a full disk: with the next ones, perhaps
                self._pending += taken
            raise

    def hand_over(self, database: Database, now: datetime) -> int:
        """Bring the totals that the database does not have into it, in one call; returns how many
        there were. Raises what the database raises: the next one brings them then."""
        self.flush()
        with _opened(self.path) as connection:
            machine = str(next(iter(connection.execute("SELECT machine FROM this")))[0])
            changed = list(
                connection.execute(
                    "SELECT day, account, service, what, count FROM totals WHERE count > sent"
                )
            )
        if not changed:
            return 0
        rows = [[*row, machine] for row in changed]
        database.batch(list(carry_rows(_RAISE, rows)))
        with _opened(self.path) as connection:
            # Raised, not set: another process may have handed over more meanwhile.
            connection.executemany(
                "UPDATE totals SET sent = max(sent, ?) "
                "WHERE (day, account, service, what) = (?, ?, ?, ?)",
                [(count, *key) for *key, count in changed],
            )
            connection.execute(
                "DELETE FROM totals WHERE count = sent AND day < ?",
                ((now - KEEP_LOCALLY).date().isoformat(),),
            )
        return len(changed)


_RAISE = (
    "INSERT INTO service_usage (day, account, service, what, count, machine) "
    "SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 "
    "FROM json_each(?) WHERE true "
    "ON CONFLICT (day, account, service, what, machine) "
    "DO UPDATE SET count = max(count, excluded.count)"
)


@contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection]:
    """The file, in a transaction."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(30_000)
        connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS this (one INTEGER PRIMARY KEY, machine TEXT NOT NULL)"
            )
            connection.execute("INSERT OR IGNORE INTO this VALUES (1, ?)", (secrets.token_hex(8),))
            connection.execute(
                "CREATE TABLE IF NOT EXISTS totals (day TEXT, account TEXT, service TEXT, "
                "what TEXT, count INTEGER NOT NULL, sent INTEGER NOT NULL DEFAULT 0, "
                "PRIMARY KEY (day, account, service, what)) WITHOUT ROWID"
            )
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    finally:
        connection.close()


_meter: Meter | None = None  # of this process


def measure(folder: Path) -> None:
    """From now on this process counts, into the folder's file."""
    global _meter
    if _meter is None or _meter.path != folder / FILE:
        if _meter is not None:
            _meter.flush()
        _meter = Meter(folder / FILE)


def count(what: str, count: int, account: str | None = None) -> None:
    """`Meter.count` of this process; nothing where nothing is measured."""
    if _meter is not None:
        _meter.count(what, count, account)


def hand_over(database: Database, now: datetime) -> int:
    """`Meter.hand_over` of this process; 0 where nothing is measured."""
    return _meter.hand_over(database, now) if _meter is not None else 0


@atexit.register
def _flush_at_the_end() -> None:
    if _meter is not None:
        _meter.flush()


@dataclass(frozen=True)
class Used:
    """What was used of a service on a day (UTC), by all machines together."""

    day: str
    account: str  # "": nobody's in particular
    service: str
    what: str
    count: int


def usage(database: Database, first: str, last: str, account: str | None = None) -> list[Used]:
    """What was used from one day to another, both included, in order; of one account or of all."""
    rows = database.execute(
        "SELECT day, account, service, what, sum(count) AS count FROM service_usage "
        "WHERE day BETWEEN ?1 AND ?2 AND (?3 IS NULL OR account = ?3) "
        "GROUP BY day, account, service, what ORDER BY day, account, service, what",
        (first, last, account),
    )
    return [Used(**{**row, "count": int(row["count"])}) for row in rows]
