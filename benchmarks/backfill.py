"""History of several accounts, imported, made into inboxes: in one process as the resident worker
does it, and by Celery's workers on this machine.

Prints wall and processor time, what Dagster adds to each partition (asset × account × month) over
the bare chain, and what its storage keeps of each: on SQLite and on Postgres. Celery needs
redis-server and Postgres's programs, which it starts for itself. The full figure is `--messages
1000000 --days 90`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chain import STAGES
from benchmarks.generate import ME, write_export
from benchmarks.measure import folder_bytes, machine, measured, table
from benchmarks.workspace import USER
from communicator_pipeline import runs
from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.definitions import build_definitions
from communicator_pipeline.ingestion.exports import import_export, open_export
from communicator_pipeline.storage import open_local
from communicator_pipeline.storage.accounts import Accounts, account_keys, add_user
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.landing import landed_months
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline.wanted_runs import whole_runs
from communicator_pipeline_tests.infra.celery_stack import CLONE, celery_stack
from communicator_pipeline_tests.infra.postgres import Postgres, running_postgres
from communicator_pipeline_tests.infra.redis import running as running_redis

TICKS = os.sysconf("SC_CLK_TCK")
LONGEST = 4 * 3600  # seconds


@dataclass(frozen=True)
class Done:
    """One way to do it."""

    name: str
    seconds: float
    cpu_seconds: float
    runs: int = 0
    materialisations: int = 0
    events: int = 0
    stored_bytes: int = 0


def import_all(home: str, exports: str, messages: int, accounts: int, days: int) -> int:
    """Import a generated Slack export into each account; returns the account-months."""
    stores = open_local(Path(home))
    add_user(stores.database, USER, "Bench")
    of_user = Accounts(stores.database, USER)
    for number in range(accounts):
        key = f"{USER}-slack-{number}"
        path = Path(exports, f"backfill-{messages // accounts}-{days}-{number}.zip")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_export(path, messages // accounts, seed=number, days=days)
        of_user.add(key, "slack", key)
        of_user.set_me(key, [ME])
        import_export(open_export(path), key, stores.database, stores.lake)
    return sum(len(landed_months(stores.lake, key)) for key in account_keys(stores.database))


def without_dagster(home: str) -> int:
    """What is touched, until nothing is, by the chain alone; returns the partitions × assets."""
    stores = open_local(Path(home))
    work = WorkQueue(stores.database)
    made = 0
    while wanted := whole_runs(work.dirty()):
        for run in wanted:
            partitions = sorted({AccountMonth(run.account, day.day[:7]) for day in run.days})
            scope = Scope(tuple(partitions), frozenset(day.day for day in run.days))
            for month in partitions:
                days = [day for day in scope.days if day[:7] == month.month]
                work.claim("bench", run.account, month.month, days)
            for stage in STAGES.values():
                for month in partitions:
                    stage.materialise(stores, month, scope)
                    made += 1
            for month in partitions:
                work.finish("bench", run.account, month.month)
    return made


def in_one_process(home: str) -> dict[str, int]:
    """The same as runs of Dagster in this process, as the resident worker makes them."""
    stores = open_local(Path(home))
    job = runs.chain_job(build_definitions())
    with runs.open_instance() as instance:
        done = runs.materialise_touched(stores, instance, job, lambda run: None)
    return {"runs": len(done), "materialisations": sum(run.materialisations for run in done)}


def on_sqlite(home: Path) -> Done:
    took = measured(in_one_process, home, COMMUNICATOR_HOME=str(home))
    events = 0
    for file in (home / "dagster").rglob("*.db"):
        with sqlite3.connect(file) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if "event_logs" in tables:
                events += connection.execute("SELECT count(*) FROM event_logs").fetchone()[0]
    kept = _of(took.value, events, folder_bytes(home / "dagster"))
    return Done("one process, SQLite", took.seconds, took.cpu_seconds, **kept)


def on_postgres(home: Path, postgres: Postgres, dagster_home: Path) -> Done:
    postgres.create("alone")
    dagster_home.mkdir()
    (dagster_home / "dagster.yaml").write_text(_dagster_yaml(postgres, dagster_home))
    environment = {
        "COMMUNICATOR_HOME": str(home),
        "DAGSTER_HOME": str(dagster_home),
        **postgres.variables("alone"),
    }
    measured(make_storage, python=None, **environment)
    before = _stored(postgres, "alone")
    began = cpu_of_postgres(postgres)
    took = measured(in_one_process, home, python=None, **environment)
    cpu = took.cpu_seconds + cpu_of_postgres(postgres) - began
    events, stored = (a - b for a, b in zip(_stored(postgres, "alone"), before, strict=True))
    return Done("one process, Postgres", took.seconds, cpu, **_of(took.value, events, stored))


def make_storage() -> None:
    """Dagster's empty tables."""
    with runs.open_instance() as instance:
        instance.get_runs_count()


def on_celery(folder: Path, workers: int, postgres: Postgres) -> Done:
    """With the daemon's sensor; the folder's `home` has the imports. From the daemon's start until
    nothing is to be done and no run is under way."""
    name = f"celery{workers}"
    postgres.create(name)
    with (
        running_redis(folder / "redis") as redis,
        _environment(
            {**postgres.variables(name), "COMMUNICATOR_CELERY_BROKER": redis.url}
        ) as environment,
    ):
        yaml = _dagster_yaml(postgres, folder)
        with celery_stack(folder, yaml, environment, workers) as stack:
            began = time.monotonic()
            assert redis.process is not None
            processes = [p.pid for p in (*stack.workers, *stack.others, redis.process)]
            cpu = sum(map(cpu_of, processes)) + cpu_of_postgres(postgres)
            before = _stored(postgres, name)
            while not stack.is_idle():
                if time.monotonic() - began > LONGEST:
                    raise TimeoutError(f"not done after {LONGEST} s")
                time.sleep(1)
            seconds = time.monotonic() - began
            cpu = sum(map(cpu_of, processes)) + cpu_of_postgres(postgres) - cpu
            events, stored = (a - b for a, b in zip(_stored(postgres, name), before, strict=True))
            made = int(
                postgres.sql(
                    "SELECT count(*) FROM event_logs "
                    "WHERE dagster_event_type = 'ASSET_MATERIALIZATION'",
                    name,
                )
            )
            of_run = int(postgres.sql("SELECT count(*) FROM runs", name))
    return Done(f"{workers} Celery workers, Postgres", seconds, cpu, of_run, made, events, stored)


def cpu_of(pid: int) -> float:
    """Processor seconds of a process, of its children that live and of those that have ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return 0.0
    return sum(map(int, stat[11:15])) / TICKS + sum(cpu_of(int(child)) for child in children)


def cpu_of_postgres(postgres: Postgres) -> float:
    return cpu_of(int((postgres.folder / "data" / "postmaster.pid").read_text().split()[0]))


def _of(value: dict[str, int], events: int, stored: int) -> dict[str, int]:
    return {**value, "events": events, "stored_bytes": stored}


def _stored(postgres: Postgres, database: str) -> tuple[int, int]:
    """Events, and bytes of all of Dagster's tables."""
    postgres.sql("VACUUM", database)
    events = int(postgres.sql("SELECT count(*) FROM event_logs", database))
    return events, int(postgres.sql("SELECT pg_database_size(current_database())", database))


def _dagster_yaml(postgres: Postgres, folder: Path) -> str:
    written = (CLONE / "infra" / "docker" / "dagster.yaml").read_text()
    return written.replace("port: 5432", f"port: {postgres.port}").replace(
        "/tmp/dagster", str(folder / "artifacts")
    )


@contextmanager
def _environment(more: dict[str, str]) -> Iterator[dict[str, str]]:
    """Set in this process as well, which asks Dagster's storage."""
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield more
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.backfill", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--accounts", type=int, default=10)
    parser.add_argument("--days", type=int, default=730)
    parser.add_argument("--workers", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--sqlite-only", action="store_true", help="not in one process on Postgres")
    parser.add_argument("--folder", type=Path, help="keep the generated exports here")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)  # Postgres runs as somebody else
        imported = folder / "imported"
        took = measured(
            import_all,
            imported,
            options.folder or folder / "exports",
            *(options.messages, options.accounts, options.days),
        )
        print(f"{options.messages:,} messages, {took.value} account-months, imported")

        def fresh(name: str) -> Path:
            home = folder / name / "home"
            shutil.copytree(imported, home)
            return home

        ways: list[Done] = []

        def note(way: Done) -> None:
            ways.append(way)
            told = f"{way.name}: {way.seconds:,.1f} s, {way.cpu_seconds:,.1f} s CPU"
            print(told, flush=True)  # a large one takes long

        bare = measured(without_dagster, fresh("bare"))
        note(Done("the chain without Dagster", bare.seconds, bare.cpu_seconds, 0, bare.value))
        (folder / "postgres").mkdir()
        with running_postgres(folder / "postgres") as postgres:
            note(on_sqlite(fresh("sqlite")))
            if not options.sqlite_only:
                alone = fresh("postgres-alone")
                note(on_postgres(alone, postgres, folder / "dagster-alone"))
            for workers in options.workers:
                home = fresh(f"celery-{workers}")
                note(on_celery(home.parent, workers, postgres))
        _print(ways, options.messages)


def _print(ways: list[Done], messages: int) -> None:
    bare, one = ways[:2]
    headings = ["", "wall s", "CPU s", "messages/s", "× one process", "runs", "partitions"]
    headings += ["added CPU ms", "events", "KB"]
    rows = []
    for way in ways:
        made = max(way.materialisations, 1)
        rows.append(
            [
                way.name,
                f"{way.seconds:.1f}",
                f"{way.cpu_seconds:.1f}",
                f"{messages / way.seconds:,.0f}",
                f"{way.seconds / one.seconds:.2f}",
                str(way.runs),
                f"{way.materialisations:,}",
                f"{1000 * (way.cpu_seconds - bare.cpu_seconds) / made:.1f}",
                f"{way.events / made:.2f}",
                f"{way.stored_bytes / made / 1000:.2f}",
            ]
        )
    table(headings, rows)
    print(
        "partitions: assets × account-months, each time one was materialised; the last three "
        "columns are of each"
    )


if __name__ == "__main__":
    main()
