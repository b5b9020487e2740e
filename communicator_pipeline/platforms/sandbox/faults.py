"""What goes wrong on demand: a queue of faults, each for some of the next requests.

Belongs here: which faults there are, setting and taking them. Does not belong here: carrying them
out (`server.py`).

A request takes the first fault in the queue that is meant for it. So a list of faults with
`times=1` is a plan, request by request; `pass` lets one through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from communicator_pipeline.storage.database import Database, Row

KINDS: Mapping[str, str] = {
    "refuse": "reset the connection, nothing is stored; --at N: after N bytes of the request",
    "fail": "answer 500, nothing is stored",
    "limit": "answer 429 with Retry-After (--seconds, default 1), nothing is stored",
    "unauthorised": "answer 401, nothing is stored",
    "reset": "store, then reset the connection; --at N: after N bytes of the answer",
    "timeout": "store, then never answer; --at N: fall silent after N bytes of the answer",
    "truncate": "store, then end the answer too early: in its middle, or --at N bytes",
    "error": "store, then answer 500",
    "slow": "store, then answer after --seconds (default 2)",
    "late": "store and answer after --seconds (default 2), even if nobody waits any more",
    "pass": "nothing goes wrong: a place in the queue",
}
SECONDS = {"limit": 1.0, "slow": 2.0, "late": 2.0}
NOT_STORED = frozenset({"refuse", "fail", "limit", "unauthorised"})

SCHEMA = """
CREATE TABLE IF NOT EXISTS faults (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    times INTEGER,
    at INTEGER,
    seconds REAL,
    everywhere INTEGER NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong. `times`: for how many requests, None: until it is cleared.
    `at`: bytes, where the connection is cut. `everywhere`: reads too, not only sends."""

    kind: str
    times: int | None = 1
    at: int | None = None
    seconds: float | None = None
    everywhere: bool = False


class Faults:
    """The queue. It lies in the sandbox's file, so that any process can fill it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, *faults: Fault) -> None:
        """Put faults at the queue's end; raises `ValueError`."""
        for fault in faults:
            _check(fault)
        self._database.batch(
            [
                (
                    "INSERT INTO faults (kind, times, at, seconds, everywhere) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (
                        fault.kind,
                        fault.times,
                        fault.at,
                        SECONDS.get(fault.kind) if fault.seconds is None else fault.seconds,
                        int(fault.everywhere),
                    ),
                )
                for fault in faults
            ]
        )

    def all(self) -> list[Fault]:
        return _read(self._database.execute("SELECT * FROM faults ORDER BY number"))

    def clear(self, kind: str | None = None) -> None:
        """Take all faults back, or those of a kind."""
        self._database.execute("DELETE FROM faults WHERE ?1 IS NULL OR kind = ?1", (kind,))

    def take(self, sends: bool) -> Fault | None:
        """The fault for a request, which counts one of its times."""
        rows = self._database.execute(
            "SELECT * FROM faults WHERE everywhere OR ? ORDER BY number LIMIT 1", (int(sends),)
        )
        if rows and rows[0]["times"] is not None:
            number = rows[0]["number"]
            self._database.batch(
                [
                    ("UPDATE faults SET times = times - 1 WHERE number = ?", (number,)),
                    ("DELETE FROM faults WHERE times <= 0", ()),
                ]
            )
        return next(iter(_read(rows)), None)


def _check(fault: Fault) -> None:
    if fault.kind not in KINDS:
        raise ValueError(f"there is no fault {fault.kind!r} (there are: {', '.join(KINDS)})")
    if fault.times is not None and fault.times < 1:
        raise ValueError("a fault should hold for 1 request or more")
    if min(fault.at or 0, fault.seconds or 0) < 0:
        raise ValueError("bytes and seconds should be 0 or more")


def _read(rows: Iterable[Row]) -> list[Fault]:
    return [
        Fault(
            row["kind"],
            row["times"],
            row["at"],
            row["seconds"],
            bool(row["everywhere"]),
        )
        for row in rows
    ]
