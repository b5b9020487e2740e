"""The resident worker: what arrives is in the inbox a moment later.

Belongs here: the loop that drains the ingestion queue, polls the accounts, materialises what was
touched, delivers what is due and tells people what cannot wait, in this process and recorded in
Dagster. Does not belong here: how any of that is done (`ingestion/`, `delivery/`, `notifying/`,
`runs.py`).

Dagster's daemon answers in 5 to 7 seconds at best, for its loop is fixed and every run starts a
process; this one in well under a second. It takes its work from the same tables as the sensor: each
can die at any moment, and both at once do no harm.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterInstance

from communicator_pipeline import runs
from communicator_pipeline.abandoned_runs import fail_abandoned_runs
from communicator_pipeline.delivery.dispatch import due
from communicator_pipeline.delivery.recovery import quiet_period
from communicator_pipeline.failed_runs import failed_runs, note_made_digest
from communicator_pipeline.ingestion.edge_queue import Moved, move
from communicator_pipeline.ingestion.poll import (
    AT_ONCE,
    HISTORIES_AT_ONCE,
    MAY_GO_ON,
    next_accounts,
    poll_history,
    poll_new,
)
from communicator_pipeline.ingestion.pull import PullReport, unfinished_history
from communicator_pipeline.ingestion.push import drain
from communicator_pipeline.materialising import Backlog, BacklogProcess, Materialiser
from communicator_pipeline.notifying.telling import note_news, tell
from communicator_pipeline.retention import compact_landings, forget_what_is_over, until
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import created_at
from communicator_pipeline.storage.connections import Connections, DueAccount
from communicator_pipeline.storage.database import utc_text
from communicator_pipeline.storage.landing import Landing
from communicator_pipeline.storage.metering import hand_over
from communicator_pipeline.storage.model_retries import mark_due
from communicator_pipeline.storage.outbox import has_any
from communicator_pipeline.storage.queue import EDGE_FIGURES
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline.storage.workers import BEAT_EVERY, Workers
from communicator_pipeline.wanted_runs import UNSETTLED, Lane, WantedRun

SETTLE_EVERY = timedelta(minutes=1)
DELIVER_AGAIN_IN = timedelta(seconds=5)
"""After a run of deliveries that failed: the outbox knows what has become of each."""

MOST_UNDONE = 400
"""Touched days of an account above which its history is not fetched on: more than a year waits
already, and what is landed faster than it is understood helps nobody."""

QUIET_FOR = timedelta(days=1)
"""What has landed of an account that pushed nothing for so long leaves memory, and is read again
when it pushes."""

POLL_LOOK_EVERY = timedelta(seconds=1)
CLEAR_UP_EVERY = timedelta(minutes=1)
COMPACT_EVERY = timedelta(hours=1)
MAY_TIDY = 0.1  # minutes: messages come before small files, and the night has more time

MOVE_EVERY = timedelta(seconds=1)
"""A pull of the edge's queue is a call of Cloudflare's API: a quarter of those that it takes."""

MOST_MOVED = 1_000  # pushes at a time

DEAD_MOVE_EVERY = timedelta(minutes=1)

TELL_EVERY = timedelta(seconds=5)

LEARN_EVERY = timedelta(seconds=30)
"""Somebody who goes through an inbox gives feedback every few seconds: it is taken together."""

FAULT_AGAIN = 5.0
"""Seconds after which a part of the work that met a fault is tried again."""

QUIET = ("ok", "busy", "not supported", "unfinished", "removed")
"""How a pull may end without anybody being told."""

LIVE: tuple[Lane, ...] = ("live",)
EITHER: tuple[Lane, ...] = ("live", "backlog")

LOOK_AT_ALL_RESTS = 20
"""After a look at all touched days with history among them, so many times as long as it took: they
are thousands."""

log = logging.getLogger("communicator.worker")


@dataclass
class Worked:
    """What a worker has done so far."""

    pushes: int = 0
    pulls: int = 0
    runs: int = 0
    failed_runs: int = 0
    deliveries: int = 0  # rounds
    told: int = 0  # messages that a notification target took


@dataclass
class _Remembered:
    """An account's landing zone, and when it was used last."""

    born: str  # when the account was made
    landing: Landing
    used: datetime


class Worker:
    """One worker. `step` does what there is to do now; `run` goes on until it is told to stop.

    Taking in (the queue, the polls) and acting on it (runs, deliveries) are two loops, each in a
    thread of its own: a long run keeps no push of another account waiting.
    """

    def __init__(
        self,
        stores: Stores,
        instance: DagsterInstance,
        definitions: dg.Definitions,
        say: Callable[[str], None] = log.info,
        backlog: Backlog = "here",
    ) -> None:
        self.worked = Worked()
        self._stores = stores
        self._instance = instance
        self._materialiser = Materialiser(stores, instance, runs.chain_job(definitions), say)
        self._backlog = backlog
        self._backlog_process = BacklogProcess()
        self._next_look_at_all = 0.0  # of the monotonic clock
        self._delivery_job = runs.delivery_job(definitions)
        self._learning_job = runs.learning_job(definitions)
        self._say = say
        self._workers = Workers(stores.database, leaves_history=backlog == "dagster")
        self._work = WorkQueue(stores.database)
        self._loops: list[threading.Thread] = []
        self._landings: dict[str, _Remembered] = {}
        self._stop = threading.Event()
        self._news = threading.Event()  # something has landed
        self._ailing: set[str] = set()  # parts of the work that met a fault the last time
        self._polls: dict[DueAccount, Future[PullReport]] = {}
        self._histories: dict[DueAccount, Future[PullReport]] = {}
        self._wanted_histories: dict[DueAccount, None] = {}  # in the order in which they came
        self._pool = ThreadPoolExecutor(AT_ONCE, "poll")
        self._history_pool = ThreadPoolExecutor(HISTORIES_AT_ONCE, "history")
        self._telling: Future[int] | None = None
        self._telling_pool = ThreadPoolExecutor(1, "notify")  # a mail server keeps nothing waiting
        self._rests_until: dict[str, float] = {}  # part of the work → of the monotonic clock
        self._next_poll = self._next_clear_up = datetime.min.replace(tzinfo=UTC)
        self._next_move = self._next_dead_move = datetime.min.replace(tzinfo=UTC)
        self._next_telling = datetime.min.replace(tzinfo=UTC)
        self._next_learning = datetime.min.replace(tzinfo=UTC)
        self._next_settling = self._next_delivery = datetime.min.replace(tzinfo=UTC)
        self._next_compact = datetime.now(UTC) + COMPACT_EVERY

    def stop(self, *_: object) -> None:
        """End after what is under way."""
        self._stop.set()
        self._news.set()

    def run(self) -> None:
        """Work until `stop`, or a signal to end. A fault is said, and the work goes on.

        The work is done in a thread: in the main thread Dagster takes a signal for itself, ends the
        run that is under way, and nobody else hears of it.
        """
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, self.stop)
        threads = [
            threading.Thread(target=self._beat, name="heartbeat"),
            threading.Thread(target=self._go_on, args=(self._take_in, self._stop), name="intake"),
            threading.Thread(target=self._go_on, args=(self._act, self._news), name="work"),
        ]
        self._loops = threads[1:]
        for thread in reversed(threads):
            thread.start()
        for thread in threads:
            thread.join()
        for pool in (self._history_pool, self._pool, self._telling_pool):
            pool.shutdown(wait=True, cancel_futures=True)
        self._backlog_process.end()
        try:
            # Its run, if it was killed: nobody knows of a machine any more whose worker has left.
            fail_abandoned_runs(self._instance, self._work)
        finally:
            self._workers.leave()

    def _go_on(self, work: Callable[[], bool], wake: threading.Event) -> None:
        while not self._stop.is_set():
            if not work() and wake.wait(self._stores.look_every) and not self._stop.is_set():
                wake.clear()

    def _no_oftener_than(self, every: timedelta) -> timedelta:
        """So often, or as often as the database bears."""
        return max(every, timedelta(seconds=self._stores.look_every))

    def step(self) -> bool:
        """Take in and act, once; returns whether there was anything to do."""
        taken = self._take_in()
        return self._act() or taken

    def _take_in(self) -> bool:
        """Drain the queue, see to the polls and to who is to be told."""
        self._try("polling", self._poll)
        self._try("telling", self._tell)
        self._try("moving from the edge", self._move)
        return self._try("draining", self._drain)

    def _act(self) -> bool:
        """Deliver, and materialise one account. Replies go first: they are few, and somebody has
        pressed a button for them."""
        self._try("clearing up", self._clear_up)
        self._try("delivering", self._deliver)
        self._try("learning", self._learn)
        return self._try("materialising", self._materialise_first)

    def _try(self, what: str, part: Callable[[datetime], bool | None]) -> bool:
        """Do one part of the work. A fault of it is said, and keeps none of the others from
        being done."""
        if self._rests_until.get(what, 0.0) > time.monotonic():
            return False
        try:
            busy = part(datetime.now(UTC))
        except Exception as error:
            log.exception("%s met a fault", what)
            self._ailing.add(what)
            self._rests_until[what] = time.monotonic() + FAULT_AGAIN
            self._say(f"{what}: a fault, tried again in 5 s: {type(error).__name__}: {error}")
            return False
        self._ailing.discard(what)
        return bool(busy)

    def _move(self, now: datetime) -> None:
        """Take what was pushed at the edge, and now and then what nobody could take from there."""
        edge = self._stores.edge
        if edge is None or now < self._next_move:
            return
        self._next_move = now + self._no_oftener_than(MOVE_EVERY)
        moved = move(edge.account, edge.queue_id, self._stores, MOST_MOVED)
        is_full = moved.pulled >= MOST_MOVED
        if now >= self._next_dead_move:
            self._next_dead_move = now + DEAD_MOVE_EVERY
            dead = (
                move(edge.account, edge.dead_queue_id, self._stores)
                if edge.dead_queue_id
                else Moved()
            )
            figures = {
                # Fewer than there was room for: all that it held came along.
                "waiting": moved.backlog if is_full else moved.put_off,
                "oldest": utc_text(moved.oldest) if is_full and moved.oldest else None,
                "dead": dead.backlog,
            }
            Settings(self._stores.database, None).set(EDGE_FIGURES, figures)
        if moved.buried or moved.put_off:
            self._say(
                f"from the edge: {moved.moved} moved, {moved.buried} to the dead letters, "
                f"{moved.put_off} put off"
            )

    def _drain(self, now: datetime) -> bool:
        drained = drain(self._stores, self._landing)
        self.worked.pushes += drained.taken
        if drained.accounts:
            self._news.set()
        return drained.taken > drained.put_off

    def _materialise_first(self, now: datetime) -> bool:
        """One run, of what is live before anything else; history is left to whoever works it off,
        and is not looked at every time."""
        try:
            if self._backlog == "here":
                return self._materialiser.make_first(self._materialiser.waiting(now), EITHER)
            is_due = time.monotonic() >= self._next_look_at_all
            look = self._look_at_all if is_due else self._materialiser.live
            return self._materialiser.make_first(look(now), LIVE)
        finally:
            self.worked.runs = self._materialiser.made
            self.worked.failed_runs = self._materialiser.failed

    def _look_at_all(self, now: datetime) -> list[WantedRun]:
        began = time.monotonic()
        waiting = self._materialiser.waiting(now)
        if any(run.lane == "backlog" for run in waiting):
            if self._backlog == "beside":
                self._backlog_process.ensure()
            took = time.monotonic() - began
            self._next_look_at_all = time.monotonic() + LOOK_AT_ALL_RESTS * took
        return waiting

    def _deliver(self, now: datetime) -> None:
        """Send what is due; once a minute, and at the start, settle what is not settled."""
        if now < self._next_delivery:
            return
        is_due = bool(due(self._stores.database, now))
        if now >= self._next_settling:
            self._next_settling = now + min(SETTLE_EVERY, quiet_period(self._stores.database))
            is_due = is_due or has_any(self._stores.database, UNSETTLED)
        if not is_due:
            return
        try:
            runs.deliver(self._stores, self._instance, self._delivery_job)
            self.worked.deliveries += 1
        except runs.RunFailed as failed:
            self._next_delivery = now + DELIVER_AGAIN_IN
            self._say(str(failed))

    def _learn(self, now: datetime) -> None:
        """Learn from what people did with drafts, every half minute at most."""
        if now < self._next_learning:
            return
        self._next_learning = now + LEARN_EVERY
        try:
            for run in runs.learn_what_is_new(self._stores, self._instance, self._learning_job):
                self._say(f"{run.account}: learnt in {run.seconds:.2f} s")
        except runs.RunFailed as failed:
            self._say(str(failed))

    def _poll(self, now: datetime) -> None:
        """Start pulls of due accounts in threads of their own; take up those that are done."""
        for asked, future in _taken_up(self._polls):
            self.worked.pulls += 1
            report = future.result()
            self._told(report)
            if report.state in MAY_GO_ON and self._may_go_on_with_history(asked.account):
                self._wanted_histories[asked] = None
        for _, future in _taken_up(self._histories):
            self._told(future.result())
        for asked in next_accounts([*self._wanted_histories], self._histories, HISTORIES_AT_ONCE):
            del self._wanted_histories[asked]
            self._histories[asked] = self._history_pool.submit(
                poll_history, self._stores, asked.account, self._stop.is_set
            )
        if now < self._next_poll:
            return
        self._next_poll = now + self._no_oftener_than(POLL_LOOK_EVERY)
        for asked in next_accounts(Connections(self._stores).due(now), self._polls, AT_ONCE):
            self._polls[asked] = self._pool.submit(
                poll_new, self._stores, asked.account, self._stop.is_set
            )

    def _tell(self, now: datetime) -> None:
        """Tell people what waits for them, in a thread of its own, one round at a time."""
        if self._telling is not None and not self._telling.done():
            return
        last, self._telling = self._telling, None
        if last is not None and (taken := last.result()):
            self.worked.told += taken
            self._say(f"told: {taken} message{'s' if taken > 1 else ''}")
        if now >= self._next_telling:
            self._next_telling = now + self._no_oftener_than(TELL_EVERY)
            self._telling = self._telling_pool.submit(self._tell_now)

    def _tell_now(self) -> int:
        now = datetime.now(UTC)
        note_news(self._stores, failed_runs(self._instance), now)
        return tell(self._stores, now, note_made_digest(self._instance))

    def _may_go_on_with_history(self, account: str) -> bool:
        return (
            unfinished_history(self._stores, account) is not None
            and self._work.depth(account) <= MOST_UNDONE
        )

    def _told(self, report: PullReport) -> None:
        if report.kept:
            self._news.set()
            self._say(f"{report.account}: {report.kept} new")
        elif report.state not in QUIET:
            self._say(f"{report.account}: {report.state}: {report.words}")

    def _clear_up(self, now: datetime) -> None:
        """What was left by processes that died, new accounts, and small files."""
        if now < self._next_clear_up:
            return
        self._next_clear_up = now + CLEAR_UP_EVERY
        self._work.recover_landings(self._stores.lake.objects)
        runs.register_accounts(self._stores, self._instance)
        mark_due(self._stores.database, now)
        if now >= self._next_compact:
            self._next_compact = now + COMPACT_EVERY
            may_go_on = until(MAY_TIDY)
            hand_over(self._stores.database, now)
            forget_what_is_over(self._stores, now, may_go_on)
            for fault in compact_landings(self._stores, now, may_go_on).faults:
                self._say(fault)

    def _landing(self, account: str) -> Landing:
        """The account's landing zone, with its index kept in memory: 20 bytes per message. An
        account that was removed and made anew has another one. For the intake's thread only."""
        now, born = datetime.now(UTC), created_at(self._stores.database, account)
        known = self._landings.pop(account, None)
        while self._landings:  # in the order of their use
            oldest = next(iter(self._landings))
            if now - self._landings[oldest].used < QUIET_FOR:
                break
            del self._landings[oldest]
        if known is None or known.born != born:
            known = _Remembered(born, Landing(self._stores.lake, self._work, account), now)
        known.used = now
        self._landings[account] = known
        return known.landing

    def _beat(self) -> None:
        """Say that this worker lives, while the work succeeds: whoever only fails must not keep
        the sensor from standing in."""
        while not self._stop.is_set():
            try:
                if not self._ailing and all(loop.is_alive() for loop in self._loops):
                    self._workers.beat(datetime.now(UTC))
            except Exception:
                log.exception("the heartbeat could not be written")
            self._stop.wait(BEAT_EVERY.total_seconds())


def _taken_up(
    futures: dict[DueAccount, Future[PullReport]],
) -> list[tuple[DueAccount, Future[PullReport]]]:
    """Those that are done, taken out."""
    done = [(asked, future) for asked, future in futures.items() if future.done()]
    for asked, _ in done:
        del futures[asked]
    return done
