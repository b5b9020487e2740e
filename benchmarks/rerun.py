"""What it costs to do a day again: nothing changed, one message more, one message in the past.

Grouping and publishing look at the whole day; an analysis or a draft is made anew only for the
conversations whose input differs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson

from benchmarks.chain import STAGES
from benchmarks.generate import CHANNELS
from benchmarks.measure import machine, measured, table
from benchmarks.workspace import ACCOUNT, export_of, import_into
from communicator_pipeline.chain import raw_messages
from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline.wanted_runs import whole_runs

Numbers = dict[str, dict[str, float]]


def materialise_days(stores: Stores, days: Iterable[str]) -> Numbers:
    """Every asset for these days, in order: stage → its numbers, and the seconds."""
    chosen = frozenset(days)
    months = sorted({day[:7] for day in chosen})
    scope = Scope(tuple(AccountMonth(ACCOUNT, month) for month in months), chosen)
    numbers: Numbers = {}
    for stage, module in STAGES.items():
        began = time.perf_counter()
        numbers[stage] = {}
        for partition in scope.partitions:
            report = module.materialise(stores, partition, scope)
            for name, number in report.numbers.items():
                numbers[stage][name] = numbers[stage].get(name, 0) + number
            numbers[stage]["days changed"] = numbers[stage].get("days changed", 0) + len(
                report.changed
            )
        numbers[stage]["seconds"] = time.perf_counter() - began
    return numbers


def bring_up_to_date(home: str) -> list[Numbers]:
    """Do what is touched until nothing is, as `communicator materialize` does without Dagster."""
    stores = open_local(Path(home))
    work = WorkQueue(stores.database)
    rounds: list[Numbers] = []
    while runs := whole_runs(work.dirty(ACCOUNT)):
        for run in runs:
            months = sorted({day.day[:7] for day in run.days})
            for month in months:
                days = [day.day for day in run.days if day.day.startswith(month)]
                work.claim("bench", ACCOUNT, month, days)
            rounds.append(materialise_days(stores, [day.day for day in run.days]))
            for month in months:
                work.finish("bench", ACCOUNT, month)
    return rounds


def do_again(home: str, day: str) -> list[Numbers]:
    """One day again, nothing changed."""
    return [materialise_days(open_local(Path(home)), [day])]


def land_one_message(home: str, day: str, in_thread: bool) -> dict[str, Any]:
    """Import an export with one message: an answer in a thread of the day, or a message in the
    open, in the middle of the day."""
    stores = open_local(Path(home))
    partition = AccountMonth(ACCOUNT, day[:7])
    entry = stores.lake.manifest(raw_messages.ASSET, partition).days[day]
    channel, folder, listed = CHANNELS[0]
    said = [
        row
        for row in stores.lake.read_day(raw_messages.ASSET, partition, entry).to_pylist()
        if row["channel_id"] == channel and (row["thread_id"] is not None) == in_thread
    ]
    before = said[len(said) // 2]
    seconds = int(before["sent_at"].timestamp()) + 1
    item = {"type": "message", "user": "U0BENCH0001", "text": "one more", "ts": f"{seconds}.999999"}
    if in_thread:
        item["thread_ts"] = before["thread_id"].split(":")[1]
    path = Path(home) / f"one-{day}-{in_thread}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("users.json", b"[]")
        archive.writestr(listed, orjson.dumps([{"id": channel, "name": folder}]))
        archive.writestr(f"{folder}/{day}.json", orjson.dumps([item]))
    return import_into(home, str(path))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.rerun", description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary, "home")
        measured(import_into, home, export_of(Path(temporary), options.messages))
        rows = [_row(f"all {options.messages:,} messages", bring_up_to_date, home)]
        days = sorted(
            day
            for month in open_local(home).lake.months(raw_messages.ASSET, ACCOUNT)
            for day in open_local(home)
            .lake.manifest(raw_messages.ASSET, AccountMonth(ACCOUNT, month))
            .days
        )
        last, middle = days[-1], days[len(days) // 2]
        rows.append(_row(f"{last} again, nothing changed", do_again, home, last))
        measured(land_one_message, home, last, True)
        rows.append(_row(f"one answer in a thread of {last}", bring_up_to_date, home))
        measured(land_one_message, home, last, False)
        rows.append(_row(f"one message on {last}", bring_up_to_date, home))
        measured(land_one_message, home, middle, False)
        rows.append(_row(f"one message on {middle}, in the past", bring_up_to_date, home))
        headings = [
            "",
            "runs",
            "day files changed",
            "analysed",
            "kept",
            "drafted",
            "wall s",
            "CPU s",
        ]
        table(headings, rows)


def _row(name: str, function: Callable[..., list[Numbers]], home: Path, *args: str) -> list[str]:
    took = measured(function, home, *args)
    rounds: list[Numbers] = took.value

    def total(stage: str, number: str) -> str:
        return f"{sum(numbers[stage].get(number, 0) for numbers in rounds):,.0f}"

    changed = sum(of["days changed"] for numbers in rounds for of in numbers.values())
    return [
        name,
        str(len(rounds)),
        f"{changed:,.0f}",
        total("analyses", "analysed"),
        total("analyses", "kept"),
        total("drafted_replies", "drafted"),
        f"{took.seconds:.2f}",
        f"{took.cpu_seconds:.2f}",
    ]


if __name__ == "__main__":
    main()
