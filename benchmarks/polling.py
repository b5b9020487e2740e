"""A poll of 100 accounts with nothing new: what it costs in processor time and in Dagster runs.

The accounts are on the example platform, whose server runs in a thread of this process and is asked
over a socket; the same requests with a bare httpx client stand beside it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from benchmarks.measure import machine, table
from communicator_pipeline import platforms as found
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.ingestion.poll import poll
from communicator_pipeline.platforms.certificates import trusted
from communicator_pipeline.platforms.example import PLATFORM
from communicator_pipeline.platforms.example.server import ExampleServer
from communicator_pipeline.storage import open_local
from communicator_pipeline.storage.accounts import add_user


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--accounts", type=int, default=100)
    options.add_argument("--polls", type=int, default=10)
    asked = options.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder, ExampleServer() as server:
        os.environ["COMMUNICATOR_HOME"] = folder
        os.environ.pop("DAGSTER_HOME", None)
        there = {"example": PLATFORM}
        found.platforms = lambda: there  # type: ignore[assignment]
        stores = open_local(Path(folder))
        add_user(stores.database, "bench", "Bench")
        server.say("hello")
        for number in range(asked.accounts):
            key = f"bench-{number:03d}"
            add_account(stores, "bench", key, "example", server.values, lambda field: "")
        now = datetime.now(UTC)
        kept = sum(report.kept for report in poll(stores, now))
        assert kept == asked.accounts, kept
        rows = [_bare(server, asked.accounts, asked.polls)]
        began, cpu = time.perf_counter(), time.process_time()
        for number in range(1, asked.polls + 1):
            reports = list(poll(stores, now + timedelta(minutes=number)))
            assert [r.state for r in reports] == ["ok"] * asked.accounts
            assert not any(r.kept for r in reports)
        rows.append(_row("poll", began, cpu, asked.polls))
        runs = _runs()
    table(["", "wall s per poll", "CPU s per poll"], rows)
    print(f"{asked.polls} polls of {asked.accounts} accounts with nothing new: {runs} Dagster runs")
    print("CPU counts the server's share too: it is the same in both rows.")


def _bare(server: ExampleServer, accounts: int, polls: int) -> list[str]:
    headers = {"authorization": f"Bearer {server.values['token']}"}
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(polls * accounts):
        with httpx.Client(
            base_url=server.values["base_url"], headers=headers, verify=trusted()
        ) as client:
            client.get("/events?after=1&limit=100").raise_for_status()
    return _row("bare httpx", began, cpu, polls)


def _row(what: str, began: float, cpu: float, polls: int) -> list[str]:
    wall, used = time.perf_counter() - began, time.process_time() - cpu
    return [what, f"{wall / polls:.2f}", f"{used / polls:.2f}"]


def _runs() -> int:
    from communicator_pipeline.runs import open_instance

    with open_instance() as instance:
        return instance.get_runs_count()


if __name__ == "__main__":
    main()
