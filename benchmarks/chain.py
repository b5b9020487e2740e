"""The whole chain on a generated export, landing zone → inbox, asset by asset.

Prints per asset messages per second, processor time and peak memory (each asset runs in a fresh
process), what the result takes on disk, and the ratio to a bare DuckDB scan and window over the
same Parquet files, which is what no processing of these messages can undercut.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.generate import DAYS
from benchmarks.measure import Measured, folder_bytes, machine, measured, table
from benchmarks.workspace import ACCOUNT, export_of, import_into
from communicator_pipeline.chain import (
    analyses,
    attachments,
    conversations,
    drafted_replies,
    inbox,
    raw_messages,
)
from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.storage import open_local
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.landing import landed_months

STAGES = {
    module.ASSET: module
    for module in (raw_messages, attachments, conversations, analyses, drafted_replies, inbox)
}
SIZES = (100_000, 300_000, 1_000_000)

_SCAN_AND_WINDOW = """
SELECT count(*) AS rows, sum(length(text)) AS characters, sum(gap) AS gaps FROM (
    SELECT text, epoch_us(sent_at - lag(sent_at) OVER (
        PARTITION BY channel_id ORDER BY sent_at, message_id)) AS gap
    FROM raw)
"""


def materialise(home: str, stage: str) -> dict[str, float]:
    """One asset over all the account's months; returns its numbers."""
    stores = open_local(Path(home))
    scope = Scope(tuple(AccountMonth(ACCOUNT, m) for m in landed_months(stores.lake, ACCOUNT)))
    numbers: dict[str, float] = {}
    for partition in scope.partitions:
        report = STAGES[stage].materialise(stores, partition, scope)
        for name, number in report.numbers.items():
            numbers[name] = numbers.get(name, 0) + number
    return numbers


def materialise_all(home: str) -> dict[str, float]:
    """Every asset in one process, as a run does it."""
    for stage in STAGES:
        materialise(home, stage)
    return {}


def scan(home: str) -> int:
    """The bare minimum: read each message, look at the one before it."""
    lake = open_local(Path(home)).lake
    files = [address for address, _ in lake.day_files(raw_messages.ASSET, ACCOUNT)]
    return int(lake.query(_SCAN_AND_WINDOW, {"raw": files})["rows"][0].as_py())


def run(
    folder: Path, messages: int, together: bool, days: int = DAYS
) -> tuple[Measured, dict[str, Measured]]:
    """Import, then every asset in order; prints a table, returns scan and stages."""
    home = folder / f"home-{messages}"
    shutil.rmtree(home, ignore_errors=True)
    taken: dict[str, Measured] = {}

    def take(name: str, function: Callable[..., Any], *given: Any) -> None:
        taken[name] = measured(function, *given)
        cpu, peak = taken[name].cpu_seconds, taken[name].peak_mb
        print(f"{name}: {cpu:,.1f} s CPU, peak {peak:,.0f} MB", flush=True)  # may take long

    take("import", import_into, home, export_of(folder, messages, days))
    if together:
        take("all assets", materialise_all, home)
    else:
        for stage in STAGES:
            take(stage, materialise, home, stage)
    bare = measured(scan, home)
    print(f"\n{messages:,} messages on {days:,} days")
    rows = []
    for name, took in [*taken.items(), ("scan and window", bare)]:
        ratio = took.seconds / bare.seconds
        rows.append(_row(name, took, messages, f"{ratio:,.0f}×"))
    table(["", "wall s", "CPU s", "messages/s", "peak MB", "of the scan"], rows)
    chain = [took for name, took in taken.items() if name != "import"]
    seconds, cpu = sum(t.seconds for t in chain), sum(t.cpu_seconds for t in chain)
    print(
        f"chain: {seconds:.1f} s wall, {cpu:.1f} s CPU, {messages / seconds:,.0f} messages/s, "
        f"peak {max(t.peak_mb for t in chain):,.0f} MB, {seconds / bare.seconds:,.0f}× the scan"
    )
    grouped = taken.get(conversations.ASSET)
    if grouped is not None:
        made = taken[analyses.ASSET].value
        print(
            f"{grouped.value['conversations begun']:,.0f} conversations, "
            f"{made['analysed']:,.0f} analyses, "
            f"{taken[drafted_replies.ASSET].value.get('drafts', 0):,.0f} drafts"
        )
    parts = {"landing": home / "landing", "lake": home / "lake"}
    sizes = {name: folder_bytes(part) for name, part in parts.items()}
    sizes["database"] = (home / "communicator.db").stat().st_size
    print("bytes per message: " + ", ".join(f"{n} {s / messages:,.0f}" for n, s in sizes.items()))
    return bare, taken


def _row(name: str, took: Measured, messages: int, ratio: str) -> list[str]:
    return [
        name,
        f"{took.seconds:.1f}",
        f"{took.cpu_seconds:.1f}",
        f"{messages / took.seconds:,.0f}",
        f"{took.peak_mb:,.0f}",
        ratio,
    ]


def growth(all_taken: dict[int, dict[str, Measured]]) -> None:
    """Processor time per message and peak memory by size: equal times in a row mean linear
    growth, equal peaks that memory does not grow with the history."""
    sizes = sorted(all_taken)
    names: list[Any] = list(all_taken[sizes[0]])
    figures: dict[str, Callable[[Measured, int], float]] = {
        "CPU µs per message": lambda took, n: took.cpu_seconds / n * 1e6,
        "peak MB": lambda took, n: took.peak_mb,
    }
    for what, number in figures.items():
        print(f"\n{what}")
        rows = [
            [
                name,
                *(f"{of[n]:.1f}" for n in sizes),
                f"{of[sizes[-1]] / of[sizes[0]]:.2f}",
            ]
            for name in names
            for of in [{n: number(all_taken[n][name], n) for n in sizes}]
        ]
        table(["", *(f"{n:,}" for n in sizes), "last : first"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.chain", description=__doc__)
    parser.add_argument("--messages", type=int, default=SIZES[0])
    parser.add_argument("--all", action="store_true", help="100,000, 300,000 and 1,000,000")
    parser.add_argument(
        "--history",
        type=int,
        metavar="TIMES",
        help="beside it, a history so many times as long, of as many messages a day",
    )
    parser.add_argument("--together", action="store_true", help="all assets in one process")
    parser.add_argument("--folder", type=Path, help="keep the files here")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        sizes = dict.fromkeys(SIZES if options.all else (options.messages,), DAYS)
        if options.history:
            sizes[options.messages * options.history] = DAYS * options.history
        taken = {n: run(folder, n, options.together, days)[1] for n, days in sizes.items()}
    if len(taken) > 1:
        growth(taken)


if __name__ == "__main__":
    main()
