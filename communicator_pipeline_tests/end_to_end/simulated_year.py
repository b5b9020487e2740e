"""A year in which a team's accounts are used every day, in some minutes: the clock is set, all else
is real.

Belongs here: what happens on a day and in its night, and measuring what has grown. Does not belong
here: what may grow by how much (`test_year.py`, `benchmarks/year.py`).

Each day some messages of every account are pushed (some late, some edited), the worker's runs
follow, now and then a reply goes out in the sandbox and people's feedback is learnt from, a run
dies, people sign in; in the night come housekeeping, the ledger and the digests. The sandbox's chat
has a server of its own in this process, so that its clock is set, too. Half of the accounts have
their runs in a second process at the same time: a machine has more than one core.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import dagster as dg
import orjson
import time_machine
from dagster import DagsterInstance

from communicator_pipeline import runs
from communicator_pipeline.definitions import defs
from communicator_pipeline.delivery.approving import approve
from communicator_pipeline.delivery.senders import promise_of
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.ingestion.poll import poll_new
from communicator_pipeline.ingestion.push import drain
from communicator_pipeline.jobs import housekeeping, ledger
from communicator_pipeline.platforms.sandbox.server import SandboxServer
from communicator_pipeline.storage import Stores, audit, home, open_local
from communicator_pipeline.storage.accounts import add_user
from communicator_pipeline.storage.landing import Landing
from communicator_pipeline.storage.queue import IngestionQueue, QueuedPush
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.sign_in import make_link, open_session
from communicator_pipeline.storage.work import WorkQueue

FIRST = date(datetime.now(UTC).year + 1, 1, 1)
"""Later than the clock of the machine that this runs on: what is told by a file's own time (an
hour until it is deleted) is over by then."""

MESSAGES_A_DAY = 4

OF_MESSAGES = frozenset(
    "messages analyses conversations drafts draft_versions people channels published_days "
    "dirty_days approvals deliveries delivery_attempts delivery_log feedback stage_timings "
    "memories conversation_states".split()
)
"""Tables that grow with what was said and answered."""


TABLES = (
    "SELECT name FROM sqlite_master WHERE type = 'table' "
    "AND name NOT LIKE 'sqlite%' AND name NOT LIKE 'messages\\_fts%' ESCAPE '\\'"
)


@dataclass
class Size:
    """What there is at the end of a day."""

    day: str
    dagster_bytes: int = 0  # of pages in use
    dagster_file_bytes: int = 0
    runs: int = 0
    events: int = 0
    records: int = 0  # of the events: materialisations whose run is gone, one for each partition
    dagster_rows: dict[str, int] = field(default_factory=dict)  # by table
    lake_files: int = 0
    spare_lake_files: int = 0  # beyond one in each folder: what is not joined (yet)
    landing_files: int = 0
    spare_landing_files: int = 0
    database_bytes: int = 0  # of pages in use
    rows: dict[str, int] = field(default_factory=dict)  # by table
    seconds: float = 0.0  # of the last night's housekeeping

    @property
    def rows_of_messages(self) -> int:
        return sum(count for table, count in self.rows.items() if table in OF_MESSAGES)

    @property
    def other_rows(self) -> int:
        return sum(count for table, count in self.rows.items() if table not in OF_MESSAGES)


class Hands:
    """What materialises the assets of some accounts, in this process."""

    def __init__(self, stores: Stores, instance: DagsterInstance) -> None:
        self._stores, self._instance = stores, instance
        self._chain = runs.chain_job(defs)
        self._digest = runs.digest_job(defs)

    def work(self, accounts: Sequence[str]) -> None:
        runs.materialise_touched(
            self._stores, self._instance, self._chain, lambda run: None, accounts=accounts
        )

    def digest(self, accounts: Sequence[str], day: date) -> None:
        for account in accounts:
            runs.digest_days(
                self._stores,
                self._instance,
                self._digest,
                account,
                day.isoformat(),
                day.isoformat(),
            )


class Beside:
    """Another process of the installation, for the runs of some accounts."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work_beside, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    @contextmanager
    def does(self, task: Callable[..., None], *arguments: object) -> Iterator[None]:
        """Have it do a task of its `Hands`, as of now, and wait until it has done so.

        Raises EOFError if it died; it has said then what of.
        """
        self._pipe.send((datetime.now(UTC), task.__name__, arguments))
        yield
        self._pipe.recv()

    def close(self) -> None:
        self._pipe.close()
        self._process.join(60)


def _work_beside(pipe: Connection) -> None:
    with time_machine.travel(FIRST, tick=True) as clock, runs.open_instance() as instance:
        hands = Hands(open_local(home()), instance)
        while True:
            try:
                moment, task, arguments = pipe.recv()
            except EOFError:
                return
            clock.move_to(moment)
            getattr(hands, task)(*arguments)
            pipe.send("done")


class Year:
    """One installation, from day to day."""

    def __init__(
        self,
        folder: Path,
        server: SandboxServer,
        instance: DagsterInstance,
        accounts: int,
        beside: Beside,
    ) -> None:
        self.folder = folder
        self.instance = instance
        self.stores: Stores = open_local(folder)
        self.sent: dict[str, set[str]] = {}  # account → ids of the messages that were pushed
        self.accounts = [f"team-{number:02d}" for number in range(accounts)]
        self.days: list[date] = []
        self._chat = server.chat
        self._beside = beside
        self._landings: dict[str, Landing] = {}
        self._seconds = 0.0
        add_user(self.stores.database, "ana", "Ana")
        Settings(self.stores.database, "ana").set("undo_seconds", 0)
        for account in self.accounts:
            add_account(
                self.stores, "ana", account, "sandbox", server.values(mode="key"), lambda _: ""
            )
            self.sent[account] = set()
        self._chain = runs.chain_job(defs)
        self._delivery = runs.delivery_job(defs)
        self._learning = runs.learning_job(defs)
        self._hands = Hands(self.stores, instance)
        self._ledger = defs.resolve_job_def(ledger.name)
        self._housekeeping = defs.resolve_job_def(housekeeping.name)

    def live(self, day: date, clock: time_machine.Coordinates) -> None:
        """A day and the night after it."""
        clock.move_to(datetime(day.year, day.month, day.day, 18, tzinfo=UTC))
        number = len(self.days)
        self.days.append(day)
        self._push(day, number)
        ours, theirs = self.accounts[::2], self.accounts[1::2]
        with self._beside.does(Hands.work, theirs):
            self._hands.work(ours)
        if number % 7 == 3:
            self._answer(number)
        if number % 5 == 2:
            self._die()
        self._people(day)
        clock.move_to(datetime(day.year, day.month, day.day, 3, 30, tzinfo=UTC) + timedelta(days=1))
        began = time.monotonic()
        self._run(self._housekeeping)
        self._seconds = time.monotonic() - began
        clock.move_to(datetime(day.year, day.month, day.day, 5, tzinfo=UTC) + timedelta(days=1))
        if number % 7 == 3:
            month = day.isoformat()[:7]
            runs.execute(
                self.instance, self._ledger, self.accounts[0], month, month, dg.RunConfig()
            )
        with self._beside.does(Hands.digest, theirs, day):
            self._hands.digest(ours, day)

    def rebuild(self, month: str) -> None:
        """Make an old month again from the landing zone."""
        runs.materialise_range(
            self.stores,
            self.instance,
            self._chain,
            self.accounts,
            f"{month}-01",
            f"{month}-31",
            lambda run: None,
        )

    def size(self) -> Size:
        found = Size(self.days[-1].isoformat() if self.days else "", seconds=self._seconds)
        for path in sorted((self.folder / "dagster").rglob("*.db")):
            found.dagster_bytes += used_bytes(path)
            found.dagster_file_bytes += path.stat().st_size
            found.dagster_rows |= rows_by_table(path)
            found.records += records_without_run(path)
        found.runs = self.instance.get_runs_count()
        found.events = found.dagster_rows.get("event_logs", 0)
        found.lake_files, found.spare_lake_files = _files(self.folder / "lake")
        found.landing_files, found.spare_landing_files = _files(self.folder / "landing")
        # By the library that this process has the file open with: see `storage/vacuum.py`.
        [pages] = self.stores.database.execute(
            "SELECT (page_count - freelist_count) * page_size AS bytes "
            "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        found.database_bytes = int(pages["bytes"])
        for row in self.stores.database.execute(TABLES):
            [counted] = self.stores.database.execute(f'SELECT count(*) AS n FROM "{row["name"]}"')
            found.rows[row["name"]] = counted["n"]
        return found

    def inbox(self, month: str = "") -> list[dict[str, object]]:
        """What the inbox holds of a month, or of all: messages, analyses, drafts, in order."""
        rows: list[dict[str, object]] = []
        for table, key in (
            ("messages", "account, message_id"),
            ("analyses", "account, conversation_id, day"),
            ("drafts", "account, conversation_id, day, version"),
        ):
            found = self.stores.database.execute(
                f"SELECT * FROM {table} WHERE substr(day, 1, ?2) = ?1 ORDER BY {key}",
                (month, len(month)),
            )
            rows += [{**row, "id": None} for row in found]
        return rows

    def _push(self, day: date, number: int) -> None:
        """The day's messages; now and then one of the day before, late, and an edit."""
        pushes = []
        for account in self.accounts:
            events = [_event(account, day, place) for place in range(MESSAGES_A_DAY)]
            if number % 3 == 1:
                events.append(_event(account, self.days[-2], MESSAGES_A_DAY))  # late
            if number % 4 == 3:
                edited = _event(account, self.days[-3], 1)
                edited["text"] += " please!"
                edited["kind"] = "edit"
                edited["edited_at"] = f"{day}T17:00:00.000000Z"
                events.append(edited)
            for event in events:
                self.sent[account].add(f"{event['channel']}:{event['id']}")
                key = f"{day}:{event['id']}:{event['kind']}"
                pushes.append(QueuedPush(account, key, orjson.dumps(event).decode()))
        IngestionQueue(self.stores.database).put(pushes)
        while drain(self.stores, self._landing).taken:
            pass

    def _landing(self, account: str) -> Landing:
        if account not in self._landings:
            work = WorkQueue(self.stores.database)
            self._landings[account] = Landing(self.stores.lake, work, account)
        return self._landings[account]

    def _answer(self, number: int) -> None:
        """Somebody writes in the sandbox, is answered, and what was done is learnt from."""
        account = self.accounts[0]
        self._chat.say(f"Could you send me report {number}, please?", "Kim")
        report = poll_new(self.stores, account)
        assert report.state == "ok", report
        self._hands.work([account])
        [newest] = self.stores.database.execute(
            "SELECT conversation_id FROM messages WHERE account = ? AND text LIKE ?",
            (account, f"%report {number},%"),
        )
        for row in self.stores.database.execute(
            "SELECT channel_id || ':' || message_id AS id, message_id FROM messages "
            "WHERE account = ? AND text LIKE ?",
            (account, f"%report {number},%"),
        ):
            self.sent[account].add(row["message_id"])
        approve(
            self.stores.database,
            "ana",
            account,
            newest["conversation_id"],
            promise_of(self.stores, account),
            text=f"Here is report {number}.",
        )
        runs.deliver(self.stores, self.instance, self._delivery)
        poll_new(self.stores, account)  # the reply is in the chat: an echo
        self._hands.work([account])
        runs.learn_what_is_new(self.stores, self.instance, self._learning)

    def _die(self) -> None:
        """A run whose process was killed, as it is found by the next one."""
        run = self.instance.create_run_for_job(self._chain, tags={"communicator/test": "killed"})
        self.instance.report_run_failed(run)

    def _people(self, day: date) -> None:
        """They sign in, are given links, and what they do is noted."""
        now = datetime.now(UTC)
        open_session(self.stores.database, "ana", now)
        make_link(self.stores.database, "ana", now)
        audit.note(self.stores.database, "ana", "looked", now, via="inbox")
        self.stores.database.execute(
            "INSERT INTO service_usage (day, account, service, what, machine, count) "
            "SELECT ?1, value, 'd1', 'rows read', 'm', 1 FROM json_each(?2)",
            (day.isoformat(), orjson.dumps(self.accounts).decode()),
        )

    def _run(self, job: dg.JobDefinition) -> None:
        done = job.execute_in_process(
            instance=self.instance,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        assert done.success


@contextmanager
def simulated(accounts: int) -> Iterator[tuple[Year, time_machine.Coordinates]]:
    """An installation in Communicator's home whose clock is the simulation's."""
    folder = home()
    noon = datetime(FIRST.year, FIRST.month, FIRST.day, 12, tzinfo=UTC)
    with (
        time_machine.travel(noon, tick=True) as clock,
        SandboxServer(folder / "sandbox.db") as server,
        runs.open_instance() as instance,
        closing(Beside()) as beside,
    ):
        yield Year(folder, server, instance, accounts, beside), clock


def live_through(
    year: Year,
    clock: time_machine.Coordinates,
    every: int,
    days: int = 365,
    say: Callable[[Size], None] = lambda size: None,
) -> list[Size]:
    """Every so many days of the year; the sizes at the end of each month that was lived in."""
    sizes: list[Size] = []
    dates = [FIRST + timedelta(days=number) for number in range(0, days, every)]
    for place, day in enumerate(dates):
        year.live(day, clock)
        if place + 1 == len(dates) or dates[place + 1].month != day.month:
            sizes.append(year.size())
            say(sizes[-1])
    return sizes


def _files(folder: Path) -> tuple[int, int]:
    """How many files of rows there are, and how many beyond one of each kind in each folder."""
    files = list(folder.rglob("*.parquet"))
    return len(files), len(files) - len({(file.parent, ".carry" in file.name) for file in files})


def used_bytes(path: Path) -> int:
    """Of the pages in use: a file does not shrink by each deletion."""
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        pages, free, size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
    return (pages - free) * size


def records_without_run(path: Path) -> int:
    """Events of Dagster's that belong to no run; 0 in a file without events."""
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        if "event_logs" not in {row[0] for row in connection.execute(TABLES)}:
            return 0
        [count] = connection.execute("SELECT count(*) FROM event_logs WHERE run_id = ''")
        return int(count[0])


def rows_by_table(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        names = [row[0] for row in connection.execute(TABLES)]
        return {
            name: int(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])
            for name in names
        }


def _event(account: str, day: date, place: int) -> dict[str, str]:
    """A message as the sandbox pushes it: of two people, in two channels; half are questions."""
    number = int(f"{day:%Y%m%d}{place}")
    who = ("maya", "ben")[place % 2]
    return {
        "id": str(number),
        "kind": "message",
        "channel": f"room{place % 2}",
        "channel_name": f"room{place % 2}",
        "channel_kind": "channel",
        "author": who,
        "author_name": who.title(),
        "text": f"could you look at item {number} today?" if place % 2 else f"item {number} came",
        "sent_at": f"{day}T{9 + place:02d}:00:00.000000Z",
    }
