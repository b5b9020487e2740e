"""Small installations that really live, for `benchmarks.capacity`: what is counted and timed there.

Belongs here: importing a history, working it off, a day's pulls, a digest, the night's pruning, all
with the product's own code, and what each left. Does not belong here: what follows from it for many
accounts (`capacity_arithmetic.py`).
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
from dagster import DagsterInstance
from dagster._core.instance import RUNLESS_RUN_ID

from benchmarks.generate import ME, write_export
from benchmarks.measure import ROOT, folder_bytes, machine, measured
from benchmarks.workspace import USER
from communicator_pipeline import partitions, runs
from communicator_pipeline.asset_checks import CHECKS
from communicator_pipeline.dagster_records.pruning import prune
from communicator_pipeline.ingestion.exports import import_export, open_export
from communicator_pipeline.materialising import Materialiser
from communicator_pipeline.retention import compact_landings, tidy_lake
from communicator_pipeline.retention_settings import Retention
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.accounts import Accounts, account_keys, add_user
from communicator_pipeline.storage.lake import months_between
from communicator_pipeline.storage.landing import landed_months
from communicator_pipeline.worker import EITHER
from communicator_pipeline_tests.end_to_end.simulated_year import TABLES, rows_by_table, used_bytes

LIVE_DAY = "2026-10-30"
"""The last working day of the generated export: that day comes in pulls, those before it at once.
Long over, so that the night can be had at once by telling housekeeping a later time."""

DAYS_AFTER = 1  # of the export, after the live day; left out


@dataclass(frozen=True)
class Home:
    """What an installation is to live through."""

    accounts: int
    days: int  # of history, weekends included
    messages_a_day: int  # on average; a working day has more
    pulls: int  # in which the live day comes


MEASURED = (
    Home(accounts=1, days=100, messages_a_day=10, pulls=4),
    Home(accounts=1, days=100, messages_a_day=80, pulls=8),
)
"""One account with few messages a day and one with many, over a hundred days: two points
make a curve. More than one slice of history, so that the days between two are done again."""

OVER = timedelta(days=45)
"""Later than every period of `Retention` that runs and files of a finished month are kept for."""


@dataclass
class Run:
    """One run of Dagster."""

    lane: str
    months: int
    days: int
    messages: int = 0  # on the live day, when it ended; of a live run
    cpu_seconds: float = 0.0
    landing_cpu_seconds: float = 0.0  # of the pull before it
    events: int = 0
    bytes: int = 0  # in Dagster's records


@dataclass
class Lived:
    """What it took and left. Rows, files and bytes are what came beyond the empty installation."""

    months: int = 0  # of an account, on average
    days: int = 0  # with messages, of all accounts
    messages: int = 0
    live_messages: int = 0
    import_cpu_seconds: float = 0.0
    made: list[Run] = field(default_factory=list)
    questions: int = 0  # conversations analysed, drafts made: in the history
    live_questions: int = 0  # and on the live day
    digest_cpu_seconds: float = 0.0
    digest_events: int = 0
    digest_bytes: int = 0
    rows: int = 0
    database_bytes: int = 0
    landing_bytes: int = 0
    landing_files: int = 0
    lake_bytes: int = 0  # days in files of their own
    lake_files: int = 0
    joined_bytes: int = 0
    joined_files: int = 0
    joined_landing_files: int = 0
    dagster_bytes: int = 0
    empty_dagster_bytes: int = 0
    empty_database_bytes: int = 0
    kept_runs: int = 0  # after the night in which all of it is old
    kept_events: int = 0
    kept_bytes: int = 0
    condensed_events: int = 0  # of these, materialisations without a run
    condensed_bytes: int = 0  # what they take, with their tags and indexes
    peak_mb: float = 0.0


def lived(folder: Path, home: Home) -> Lived:
    """Live through it in a process of its own."""
    took = measured(
        live_through, folder, asdict(home), COMMUNICATOR_HOME=str(folder), DAGSTER_HOME=""
    )
    made = [Run(**run) for run in took.value.pop("made")]
    return Lived(**took.value | {"made": made, "peak_mb": took.peak_mb})


def live_through(folder: str, home: dict[str, int]) -> dict[str, Any]:
    """The same in this process; returns `Lived` as a dict."""
    return asdict(_Installation(Path(folder), Home(**home)).live())


class _Installation:
    def __init__(self, folder: Path, home: Home) -> None:
        self._folder = folder
        self._home = home
        self._stores: Stores = open_local(folder)
        self._found = Lived()

    def live(self) -> Lived:
        found = self._found
        accounts = [f"bench-{number:02d}" for number in range(self._home.accounts)]
        add_user(self._stores.database, USER, "Bench")
        of_user = Accounts(self._stores.database, USER)
        for account in accounts:
            of_user.add(account, "slack", account)
            of_user.set_me(account, [ME])
        pulls = [parts_of_export(self._folder, self._home, seed) for seed in range(len(accounts))]
        from communicator_pipeline.definitions import defs

        with runs.open_instance() as instance:
            self._instance = instance
            runs.register_accounts(self._stores, instance)
            self._made_by = Materialiser(self._stores, instance, runs.chain_job(defs), _complain)
            self._note_emptiness()
            for account, (history, *_) in zip(accounts, pulls, strict=True):
                found.import_cpu_seconds += self._import(account, history)
            self._work_off("backlog", 0.0)
            found.questions = self._questions()
            for account, (_, *parts) in zip(accounts, pulls, strict=True):
                for part in parts:
                    self._work_off("live", self._import(account, part))
            found.live_questions = self._questions() - found.questions
            self._digest(runs.digest_job(defs), accounts)
            self._count()
            self._have_a_night()
        return found

    def _note_emptiness(self) -> None:
        self._found.empty_dagster_bytes = self._dagster_bytes()
        self._found.empty_database_bytes = self._database_bytes()
        self._empty_rows = self._rows()

    def _import(self, account: str, path: Path) -> float:
        began = time.process_time()
        import_export(open_export(path), account, self._stores.database, self._stores.lake)
        return time.process_time() - began

    def _work_off(self, lane: str, landing_cpu_seconds: float) -> None:
        """Make what is wanted, as a worker makes it, until nothing is. After a history has been
        worked off in slices some days are done again: conversations went on past midnight."""
        while waiting := self._made_by.waiting(datetime.now(UTC)):
            run = waiting[0]
            months = len({day.day[:7] for day in run.days})
            events, size = self._events(), self._dagster_bytes()
            began = time.process_time()
            if not self._made_by.make_first([run], EITHER):
                raise RuntimeError(f"a run of {run.account} failed: the figures would mean nothing")
            made = Run(run.lane if lane == "backlog" else lane, months, len(run.days))
            made.cpu_seconds = time.process_time() - began
            made.landing_cpu_seconds, landing_cpu_seconds = landing_cpu_seconds, 0.0
            made.events, made.bytes = self._events() - events, self._dagster_bytes() - size
            if lane == "live":
                made.messages = self._messages(run.account, LIVE_DAY)
            self._found.made.append(made)

    def _digest(self, job: dg.JobDefinition, accounts: list[str]) -> None:
        events, size, began = self._events(), self._dagster_bytes(), time.process_time()
        day = f"{datetime.now(UTC):%F}"  # the live day may be no partition any more
        for account in accounts:
            [_] = runs.digest_days(self._stores, self._instance, job, account, day, day)
        self._found.digest_cpu_seconds = time.process_time() - began
        self._found.digest_events = self._events() - events
        self._found.digest_bytes = self._dagster_bytes() - size

    def _count(self) -> None:
        found, stores = self._found, self._stores
        accounts = sorted(account_keys(stores.database))
        landed = [len(landed_months(stores.lake, account)) for account in accounts]
        found.months = round(sum(landed) / len(landed))
        [row] = stores.database.execute(
            "SELECT count(DISTINCT account || day) AS days, count(*) AS messages FROM messages"
        )
        found.days, found.messages = row["days"], row["messages"]
        found.live_messages = sum(self._messages(account, LIVE_DAY) for account in accounts)
        found.rows = self._rows() - self._empty_rows
        found.database_bytes = self._database_bytes() - found.empty_database_bytes
        found.dagster_bytes = self._dagster_bytes() - found.empty_dagster_bytes
        found.landing_files, found.landing_bytes = self._files("landing")
        # An hour later what no manifest names goes; nothing is joined yet.
        tidy_lake(stores, datetime.now(UTC) + timedelta(hours=2))
        found.lake_files, found.lake_bytes = self._files("lake")

    def _have_a_night(self) -> None:
        """The housekeeping, as if all were long over. Twice: what was joined goes later."""
        found, later = self._found, datetime.now(UTC) + OVER
        for now in (later, later + timedelta(hours=2)):
            tidy_lake(self._stores, now)
            compact_landings(self._stores, now)
        found.joined_files, found.joined_bytes = self._files("lake")
        found.joined_landing_files, _ = self._files("landing")
        checks = [key for check in CHECKS for key in check.check_keys]
        for now in (later, later + OVER):
            prune(self._instance, checks, now, Retention())
        found.kept_runs = self._instance.get_runs_count()
        found.kept_events = self._events()
        found.kept_bytes = self._packed_dagster_bytes() - found.empty_dagster_bytes
        with self._instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
            connection.exec_driver_sql(
                "DELETE FROM asset_event_tags WHERE event_id IN "
                "(SELECT id FROM event_logs WHERE run_id = ?)",
                (RUNLESS_RUN_ID,),
            )
            gone = connection.exec_driver_sql(
                "DELETE FROM event_logs WHERE run_id = ?", (RUNLESS_RUN_ID,)
            )
        found.condensed_events = gone.rowcount
        found.condensed_bytes = (
            found.kept_bytes + found.empty_dagster_bytes - self._packed_dagster_bytes()
        )

    def _packed_dagster_bytes(self) -> int:
        """Without the half-empty pages that a deletion leaves, which take the next rows: in a small
        installation they are as much as what stays."""
        for path in self._dagster_files():
            with closing(sqlite3.connect(path, timeout=30)) as connection:
                connection.execute("VACUUM")
        return self._dagster_bytes()

    def _questions(self) -> int:
        """What a language model would have been asked: conversations analysed, drafts written."""
        asked = 0
        for asset, name in (("analyses", "analysed"), ("drafted_replies", "drafted")):
            for made in _materialisations(self._instance, asset):
                number = made.metadata.get(name)
                if isinstance(number, dg.IntMetadataValue | dg.FloatMetadataValue):
                    asked += int(number.value or 0)
        return asked

    def _messages(self, account: str, day: str) -> int:
        [row] = self._stores.database.execute(
            "SELECT count(*) AS n FROM messages WHERE account = ? AND day = ?", (account, day)
        )
        return int(row["n"])

    def _rows(self) -> int:
        return sum(
            self._stores.database.execute(f'SELECT count(*) AS n FROM "{row["name"]}"')[0]["n"]
            for row in self._stores.database.execute(TABLES)
        )

    def _database_bytes(self) -> int:
        [pages] = self._stores.database.execute(
            "SELECT (page_count - freelist_count) * page_size AS bytes "
            "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        return int(pages["bytes"])

    def _dagster_files(self) -> list[Path]:
        return sorted((self._folder / "dagster").rglob("*.db"))

    def _dagster_bytes(self) -> int:
        return sum(map(used_bytes, self._dagster_files()))

    def _events(self) -> int:
        return sum(rows_by_table(path).get("event_logs", 0) for path in self._dagster_files())

    def _files(self, part: str) -> tuple[int, int]:
        """(files of rows, bytes of everything) in a part of the home."""
        folder = self._folder / part
        return len(list(folder.rglob("*.parquet"))), folder_bytes(folder)


def _materialisations(instance: DagsterInstance, asset: str) -> Iterator[dg.AssetMaterialization]:
    found = instance.fetch_materializations(dg.AssetKey(asset), limit=10_000)
    for record in found.records:
        if record.asset_materialization is not None:
            yield record.asset_materialization


def parts_of_export(folder: Path, home: Home, seed: int) -> list[Path]:
    """A generated Slack export in parts: the history, then the live day in as many pulls."""
    days = home.days + 1 + DAYS_AFTER
    whole = folder / f"export-{seed}.zip"
    folder.mkdir(parents=True, exist_ok=True)
    write_export(whole, home.messages_a_day * days, seed=seed, days=days)
    live: list[tuple[str, dict[str, Any]]] = []
    parts = [folder / f"export-{seed}-{number}.zip" for number in range(home.pulls + 1)]
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(parts[0], "w") as history:
        lists = [name for name in archive.namelist() if "/" not in name]
        for name in archive.namelist():
            day = name.rpartition("/")[2].removesuffix(".json")
            if name in lists or day < LIVE_DAY:
                history.writestr(name, archive.read(name))
            elif day == LIVE_DAY:
                live += [(name, item) for item in orjson.loads(archive.read(name))]
        live.sort(key=lambda entry: float(entry[1]["ts"]))
        for number, part in enumerate(parts[1:]):
            first, last = (len(live) * n // home.pulls for n in (number, number + 1))
            by_name: dict[str, list[dict[str, Any]]] = {}
            for name, item in live[first:last]:
                by_name.setdefault(name, []).append(item)
            with zipfile.ZipFile(part, "w") as pull:
                for name in lists:
                    pull.writestr(name, archive.read(name))
                for name, items in by_name.items():
                    pull.writestr(name, orjson.dumps(items))
    return parts


def poll_cpu_seconds(accounts: int = 100) -> float:
    """Of one account's poll with nothing new, with the server's share: by `benchmarks.polling`."""
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.polling", "--accounts", str(accounts), "--polls", "4"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    row = re.search(r"^poll +[\d.]+ +([\d.]+)$", ran.stdout, re.MULTILINE)
    if row is None:
        raise RuntimeError(f"benchmarks.polling printed something else: {ran.stdout}")
    return float(row[1]) / accounts


def partition_key_bytes(accounts: int = 20) -> float:
    """What a process that knows so many accounts keeps for each account × month."""
    names = tuple(f"account-{number:05d}" for number in range(accounts))
    months = tuple(months_between("2015-01", "2026-11"))
    tracemalloc.start()
    keys = partitions._keys(("account", "month"), (names, months))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / len(keys)


def measure(folder: Path) -> dict[str, Any]:
    """Everything that `capacity.json` holds; `folder` is empty. Some minutes."""
    head = machine()
    homes = [
        {"home": asdict(home), "lived": asdict(lived(folder / str(number), home))}
        for number, home in enumerate(MEASURED)
    ]
    return {
        "machine": head,
        "homes": homes,
        "poll_cpu_seconds": poll_cpu_seconds(),
        "partition_key_bytes": measured(partition_key_bytes).value,
    }


def _complain(words: str) -> None:
    if "failed" in words:
        print(words, file=sys.stderr)
