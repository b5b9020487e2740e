"""Making the wanted runs in this process, one at a time, tenant after tenant.

Belongs here: leasing a run's days, making it, leaving an account alone whose run failed; and the
process that works off a backlog. Does not belong here: which runs are wanted (`wanted_runs.py`),
how one is executed (`runs.py`), when (`worker.py`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Literal, cast, get_args

import dagster as dg
from dagster import DagsterInstance

from communicator_pipeline import runs
from communicator_pipeline.delivery.clock import read_clock
from communicator_pipeline.delivery.policies import approve_by_policy
from communicator_pipeline.delivery.recovery import confirm_echoes
from communicator_pipeline.delivery.voiding import raise_notices, sweep
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.metering import on_behalf_of
from communicator_pipeline.storage.outbox import has_any
from communicator_pipeline.storage.work import DirtyDay, WorkQueue
from communicator_pipeline.wanted_runs import (
    SLICE_DAYS,
    Lane,
    WantedRun,
    first_live_day,
    in_turn,
    rows_for_slice,
    wanted_runs,
)

Backlog = Literal["beside", "here", "dagster"]
"""Who works off history: a process beside the worker, the worker itself when nothing is live, or
runs that Dagster launches (the sensor asks for them; its daemon must run)."""

BACKLOG_ONLY: tuple[Lane, ...] = ("backlog",)

BACKLOG_VARIABLE = "COMMUNICATOR_BACKLOG"

FIRST_LEASE = timedelta(minutes=1)
"""Until the run itself has leased its days, which it does when it begins."""

FAILED_RUN_AGAIN = (5, 30, 120, 600)
"""Seconds after which an account whose run failed is tried again, each time longer."""

NICENESS = 10
"""Of the process that works off a backlog: what is live has the processor first."""

LOOK_AGAIN = 1.0
"""Seconds after which that process looks again, while an account rests."""

MAY_FINISH = 20.0
"""Seconds that it has for its slice when it is told to end; killed then, the slice is repeated."""


def chosen_backlog() -> Backlog:
    """What `$COMMUNICATOR_BACKLOG` names, `beside` if it is not set; raises ValueError for anything
    else."""
    chosen = os.environ.get(BACKLOG_VARIABLE) or "beside"
    if chosen not in get_args(Backlog):
        raise ValueError(
            f"{BACKLOG_VARIABLE} is one of {', '.join(get_args(Backlog))}, not {chosen!r}"
        )
    return cast(Backlog, chosen)


@dataclass
class _Resting:
    """An account whose run failed is left alone for a while; the others go on."""

    failures: dict[str, int] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)  # of the monotonic clock

    def failed(self, account: str) -> None:
        count = self.failures.get(account, 0)
        self.failures[account] = count + 1
        self.until[account] = time.monotonic() + FAILED_RUN_AGAIN[min(count, 3)]

    def worked(self, account: str) -> None:
        self.failures.pop(account, None)
        self.until.pop(account, None)

    def rests(self, account: str) -> bool:
        return self.until.get(account, 0.0) > time.monotonic()


class Materialiser:
    """Makes runs in this process, whoever's turn it is. For one thread."""

    def __init__(
        self,
        stores: Stores,
        instance: DagsterInstance,
        job: dg.JobDefinition,
        say: Callable[[str], None],
    ) -> None:
        self.made = 0
        self.failed = 0
        self._stores = stores
        self._instance = instance
        self._job = job
        self._say = say
        self._work = WorkQueue(stores.database)
        self._registered: set[str] = set()  # accounts that are partitions
        self._resting = _Resting()
        self._served: dict[str, float] = {}  # tenant → of the monotonic clock

    def live(self, now: datetime) -> list[WantedRun]:
        """The wanted runs of today and yesterday that nobody is at, resting accounts' too, in the
        order of their turns: a cheap look. `now` is UTC."""
        today = now.date()
        most = rows_for_slice(SLICE_DAYS)
        return self._in_turn(self._work.unleased(now, most, first_live_day(today)), today)

    def waiting(self, now: datetime) -> list[WantedRun]:
        """All of the wanted runs that nobody is at, in the order of their turns."""
        return self._in_turn(self._work.unleased(now, rows_for_slice(SLICE_DAYS)), now.date())

    def _in_turn(self, days: Sequence[DirtyDay], today: date) -> list[WantedRun]:
        return in_turn(wanted_runs(days, today), self._served)

    def make_first(self, waiting: Collection[WantedRun], lanes: Collection[Lane]) -> bool:
        """Make the first of them that is of these lanes and whose account does not rest; False if
        there is none."""
        for run in waiting:
            if run.lane in lanes and not self._resting.rests(run.account):
                self._served[run.tenant] = time.monotonic()
                self._make(run)
                return True
        return False

    def _make(self, run: WantedRun) -> None:
        # Leased, so that a sensor beside us does not ask for the same; the run renews it.
        self._work.lease(run.days, datetime.now(UTC), FIRST_LEASE)
        try:
            if run.account not in self._registered:
                runs.register_accounts(self._stores, self._instance)
                self._registered.add(run.account)
            with on_behalf_of(run.account):
                finished = runs.run_range(self._instance, self._job, run)
        except Exception as fault:
            self.failed += 1
            self._resting.failed(run.account)
            self._work.release(run.days)
            if not isinstance(fault, runs.RunFailed):
                raise
            self._work.give_back(fault.run_id)
            self._say(str(fault))
            return
        self.made += 1
        self._resting.worked(run.account)
        _messages_came(self._stores, run.account)
        days = ", ".join(day.day for day in run.days[:4]) + (" …" if len(run.days) > 4 else "")
        self._say(f"{run.account}: {days} in {finished.seconds:.2f} s")


def _messages_came(stores: Stores, account: str) -> None:
    """What new messages mean for replies that are on their way, or could be."""
    if has_any(stores.database, ("approved", "unknown", "sent")):
        confirm_echoes(stores.database, account)
        sweep(stores.database, read_clock(), account)
        raise_notices(stores.database, read_clock(), account)
    approve_by_policy(stores, account)


def work_off_backlog(materialiser: Materialiser, stop: threading.Event) -> None:
    """Make slices of backlog until there are none, or `stop`; a fault is said by the process's
    end, and nothing is lost by it."""
    while not stop.is_set():
        waiting = [r for r in materialiser.waiting(datetime.now(UTC)) if r.lane == "backlog"]
        if not waiting:
            return
        if not materialiser.make_first(waiting, BACKLOG_ONLY):
            stop.wait(LOOK_AGAIN)


class BacklogProcess:
    """The process beside a worker that works off backlog: started when there is some, gone when
    there is none. A kill of either loses nothing."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ensure(self) -> None:
        """Start it, unless it lives."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "communicator_pipeline.cli", "backlog"],
                stdin=subprocess.DEVNULL,
            )

    def end(self) -> None:
        """Have it end after its slice, or without it if that takes long."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(MAY_FINISH)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def stop_with_parent(stop: threading.Event) -> None:
    """Have `stop` set when the process that started this one is gone, or on a signal to end."""
    parent = os.getppid()

    def watch() -> None:
        while not stop.wait(LOOK_AGAIN):
            if os.getppid() != parent:
                stop.set()

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    threading.Thread(target=watch, name="parent", daemon=True).start()
