"""What Dagster costs: loading the definitions, many partitions, its storage over a year.

The year is simulated: two accounts, a few days in each of twelve months, one run per account and
day, superseded runs pruned after each day as if it were two days later (as `housekeeping` would
by then). Runs are counted on: `365 × 2 × bytes per run`.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import orjson

from benchmarks.measure import machine, measured, table
from benchmarks.workspace import prepare
from communicator_pipeline.ingestion.exports import import_export, open_export
from communicator_pipeline.runs import chain_job, materialise_touched, open_instance
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.lake import months_between

YEAR = ("2025-11", "2026-10")
RUNS_A_YEAR = 365 * 2
YEAR_ACCOUNTS = ("ana-chat", "ben-chat")


LOAD = "from communicator_pipeline.definitions import defs; defs.get_repository_def()"


def load() -> None:
    """A Python that starts, imports Dagster and has the definitions as a code server has them."""
    subprocess.run([sys.executable, "-c", LOAD], check=True)


def fill_partitions(count: int) -> int:
    """Register accounts until there are so many partitions, mark each as materialised: by copies
    of one real event, since reporting them one by one would take an hour."""
    from communicator_pipeline.partitions import account_months, accounts

    with open_instance() as instance:
        months = len(account_months.get_partitions_def_for_dimension("month").get_partition_keys())
        names = [f"account-{number:05d}" for number in range(-(-count // months))]
        instance.add_dynamic_partitions(str(accounts.name), names)
        keys = account_months.get_partition_keys(dynamic_partitions_store=instance)[:count]
        instance.report_runless_asset_event(
            dg.AssetMaterialization("raw_messages", partition=keys[0])
        )
    columns = "run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition"
    for path in Path(os.environ["COMMUNICATOR_HOME"], "dagster", "history").rglob("*.db"):
        with closing(sqlite3.connect(path)) as connection, connection:
            if not connection.execute(
                "SELECT 1 FROM sqlite_master WHERE name = 'event_logs'"
            ).fetchone():
                continue
            rows = connection.execute(
                f"SELECT {columns} FROM event_logs WHERE partition = ?", (keys[0],)
            ).fetchall()
            connection.executemany(
                f"INSERT INTO event_logs ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (row[0], row[1].replace(keys[0], key), *row[2:-1], key)
                    for row in rows
                    for key in keys[1:]
                ),
            )
    return len(keys)


def read_partitions() -> dict[str, float]:
    """List every partition's key; then ask which are materialised, as the web UI does."""
    from communicator_pipeline.partitions import account_months

    with open_instance() as instance:
        began = time.perf_counter()
        keys = account_months.get_partition_keys(dynamic_partitions_store=instance)
        listed = time.perf_counter()
        done = instance.get_materialized_partitions(dg.AssetKey("raw_messages"))
        return {
            "keys": len(keys),
            "keys seconds": listed - began,
            "materialised": len(done),
            "materialised seconds": time.perf_counter() - listed,
        }


def simulate_year(home: str, days_a_month: int) -> dict[str, Any]:
    """Storage after each run without pruning, then a year with pruning."""
    from communicator_pipeline.asset_checks import CHECKS
    from communicator_pipeline.dagster_records.pruning import prune
    from communicator_pipeline.definitions import defs
    from communicator_pipeline.retention_settings import Retention

    folder = Path(home)
    for account in YEAR_ACCOUNTS:
        stores = prepare(folder, account, "generic")
    checks = [key for check in CHECKS for key in check.check_keys]
    job = chain_job(defs)
    sizes: list[int] = []
    seconds: list[float] = []
    runs = pruned = 0
    with open_instance() as instance:
        for day in _days(days_a_month):
            for account in YEAR_ACCOUNTS:
                _fill(stores, folder, account, day)
            finished = materialise_touched(stores, instance, job, lambda run: None)
            runs += len(finished)
            seconds += [run.seconds for run in finished]
            in_two_days = datetime.now(UTC) + timedelta(days=2)
            pruned += prune(instance, checks, in_two_days, Retention()).runs
            sizes.append(_used(folder / "dagster"))
        kept_size, kept = sizes[-1], runs - pruned
        # Bytes per run: a month's runs over a day that is there, without pruning.
        start, more = _used(folder / "dagster"), 0
        for number in range(5):
            for account in YEAR_ACCOUNTS:
                _fill(stores, folder, account, _days(days_a_month)[-1], extra=number + 1)
            more += len(materialise_touched(stores, instance, job, lambda run: None))
        per_run = (_used(folder / "dagster") - start) / more
    return {
        "runs": runs,
        "kept": kept,
        "kept bytes": kept_size,
        "most bytes": max(sizes),
        "file bytes": sum(p.stat().st_size for p in (folder / "dagster").rglob("*.db")),
        "bytes per run": per_run,
        "seconds per run": sorted(seconds)[len(seconds) // 2],
    }


def _days(days_a_month: int) -> list[date]:
    months = [date.fromisoformat(f"{name}-01") for name in months_between(*YEAR)]
    return [month + timedelta(days=n) for month in months for n in range(days_a_month)]


def _fill(stores: Stores, folder: Path, account: str, day: date, extra: int = 0) -> None:
    """Twenty messages of a day, or a few more of it."""
    lines = [
        {
            "id": f"{day}-{extra}-{number}",
            "channel": "c1",
            "sent_at": f"{day}T{9 + number // 3:02d}:{extra:02d}:{number:02d}Z",
            "author": "ana" if number % 3 else "maya",
            "text": f"could you look at number {number}?",
        }
        for number in range(20 if not extra else 2)
    ]
    path = folder / f"{account}-{day}-{extra}.jsonl"
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    import_export(open_export(path), account, stores.database, stores.lake)


def _used(folder: Path) -> int:
    """Bytes of the pages that are in use: files do not shrink by themselves."""
    used = 0
    for path in folder.rglob("*.db"):
        with closing(sqlite3.connect(path)) as connection:
            pages, free, size = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
            used += (pages - free) * size
    return used


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.definitions", description=__doc__)
    parser.add_argument("--partitions", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=3, help="simulated days in each month")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        many, year = Path(temporary, "many"), Path(temporary, "year")
        in_many = {"COMMUNICATOR_HOME": str(many), "DAGSTER_HOME": ""}
        rows = [["without any", *_best_load(in_many)]]
        filled = measured(fill_partitions, options.partitions, **in_many).value
        rows.append([f"{filled:,}, materialised", *_best_load(in_many)])
        print("definitions loaded in a fresh process, best of three")
        table(["partitions", "wall s", "CPU s"], rows)
        read = measured(read_partitions, **in_many).value
        print(
            f"listing the keys of {read['keys']:,} partitions: {read['keys seconds']:.2f} s; "
            f"which of them are materialised ({read['materialised']:,}): "
            f"{read['materialised seconds']:.2f} s"
        )
        took = measured(
            simulate_year, year, options.days, COMMUNICATOR_HOME=str(year), DAGSTER_HOME=""
        )
    value = took.value
    print(
        f"Dagster's storage: {value['bytes per run'] / 1024:,.0f} KiB per run of six assets and "
        f"six checks, {value['seconds per run']:.2f} s per run\n"
        f"a year of two accounts ({value['runs']} of {RUNS_A_YEAR} runs simulated): "
        f"{value['kept bytes'] / 1e6:.1f} MB in {value['kept']} runs after pruning each day "
        f"(at most {value['most bytes'] / 1e6:.1f} MB, files {value['file bytes'] / 1e6:.1f} MB); "
        f"without pruning some {RUNS_A_YEAR * value['bytes per run'] / 1e6:.0f} MB"
    )


def _best_load(environment: dict[str, str]) -> list[str]:
    took = min((measured(load, **environment) for _ in range(3)), key=lambda one: one.seconds)
    return [f"{took.seconds:.2f}", f"{took.cpu_seconds:.2f}"]


if __name__ == "__main__":
    main()
