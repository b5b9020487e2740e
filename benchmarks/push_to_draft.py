"""From the acknowledgement of a push to the draft in the inbox, everything running as `make dev`
runs it; by the worker, and by Dagster's sensor alone.

`make dev` is started for an installation in a temporary folder. Each message asks its owner
something in a chat of its own; the clock runs from the answer 200 until the draft is in the
database. Where the time goes: until the message has landed, until the run has begun, until it has
ended. Then a burst: many messages on ten accounts at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import orjson

from benchmarks.measure import ROOT, machine, table
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.accounts import add_user
from communicator_pipeline.storage.workers import Workers

KEY = "a-key-of-more-than-20-characters"
PATIENCE = 300.0  # seconds


class Installation:
    """What `make dev` runs, in a folder."""

    def __init__(self, folder: Path, gateway: int) -> None:
        self.folder = folder
        self.stores: Stores = open_local(folder)
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{gateway}", headers={"authorization": f"Bearer {KEY}"}
        )

    def push(self, account: str, *numbers: int) -> float:
        """Push messages in one request; returns when it was acknowledged."""
        now = datetime.now(UTC).isoformat()
        lines = [
            orjson.dumps(
                {
                    "id": f"m{number}",
                    "channel": f"dm{number}",
                    "channel_kind": "dm",
                    "sent_at": now,
                    "author": f"p{number}",
                    "author_name": f"Person {number}",
                    "text": "Hi Ana, can you send me the signed contract today?",
                }
            )
            for number in numbers
        ]
        answer = self._client.post(f"/push/generic/{account}", content=b"\n".join(lines))
        answer.raise_for_status()
        return time.perf_counter()

    def count(self, sql: str) -> int:
        return int(self.stores.database.execute(sql)[0]["n"])

    def until(self, sql: str, enough: int) -> float:
        """When the statement's count was reached."""
        deadline = time.perf_counter() + PATIENCE
        while self.count(sql) < enough:
            if time.perf_counter() > deadline:
                raise TimeoutError(f"after {PATIENCE} s: {sql}: {self.count(sql)} of {enough}")
            time.sleep(0.005)
        return time.perf_counter()


@contextmanager
def make_dev(accounts: int, **ports: str) -> Iterator[Installation]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        stores = open_local(home)
        add_user(stores.database, "ana", "Ana")
        for number in range(accounts):
            values = {"me": "ana", "push_key": KEY}
            add_account(stores, "ana", f"ana-crm-{number}", "generic", values, lambda field: "")
        web, gateway = free_port(), free_port()
        ports.setdefault("SANDBOX_PORT", str(free_port()))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DAGSTER")}
        process = subprocess.Popen(
            [
                "make",
                "dev",
                f"PORT={web}",
                f"GATEWAY_PORT={gateway}",
                *(f"{name}={port}" for name, port in ports.items()),
            ],
            cwd=ROOT,
            env=environment | {"COMMUNICATOR_HOME": folder},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for port in (gateway, web):
                _wait_for(port)
            installation = Installation(home, gateway)
            installation.until("SELECT count(*) AS n FROM workers", 1)
            yield installation
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def one_by_one(there: Installation, messages: int, first: int, pause: float) -> list[list[float]]:
    """For each message: seconds to landed, to the run's start, to its draft."""
    drafted = there.count("SELECT count(*) AS n FROM drafts")
    took = []
    for number in range(first, first + messages):
        landed = there.count("SELECT count(*) AS n FROM pushes WHERE state = 'landed'")
        acknowledged = there.push("ana-crm-0", number)
        at_landed = there.until(
            "SELECT count(*) AS n FROM pushes WHERE state = 'landed'", landed + 1
        )
        drafted += 1
        at_draft = there.until("SELECT count(*) AS n FROM drafts", drafted)
        took.append([at_landed - acknowledged, at_draft - acknowledged])
        time.sleep(pause)
    return took


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--messages", type=int, default=40, help="one by one, by the worker")
    options.add_argument("--by-sensor", type=int, default=8, help="one by one, by the sensor")
    options.add_argument("--burst", type=int, default=1_000, help="messages, on 10 accounts")
    asked = options.parse_args()
    print(machine())
    rows = []
    with make_dev(accounts=10) as there:
        one_by_one(there, 2, 900_000, 0.1)  # the first run of a process imports lazily
        rows.append(_row("by the worker", one_by_one(there, asked.messages, 0, 0.3)))
        burst = _burst(there, asked.burst)
        _end_worker(there)
        rows.append(_row("by the sensor", one_by_one(there, asked.by_sensor, 500_000, 1.0)))
    table(["push to draft", "n", "median s", "p95 s", "max s", "of it until landed, median"], rows)
    print(burst)


def _row(what: str, took: list[list[float]]) -> list[str]:
    whole = sorted(draft for _, draft in took)
    landed = statistics.median(landed for landed, _ in took)
    p95 = whole[min(len(whole) - 1, int(0.95 * len(whole)))]
    numbers = (statistics.median(whole), p95, whole[-1], landed)
    return [what, str(len(whole)), *(f"{number:.2f}" for number in numbers)]


def _burst(there: Installation, messages: int) -> str:
    drafts = there.count("SELECT count(*) AS n FROM drafts")
    before = _runs(there)
    began = time.perf_counter()
    for number in range(messages):
        there.push(f"ana-crm-{number % 10}", 100_000 + number)
    pushed = time.perf_counter() - began
    done = there.until("SELECT count(*) AS n FROM drafts", drafts + messages) - began
    there.until("SELECT 1 - min(1, count(*)) AS n FROM dirty_days WHERE mark > done_mark", 1)
    runs = {account: count - before.get(account, 0) for account, count in _runs(there).items()}
    return (
        f"a burst of {messages:,} messages on 10 accounts: pushed in {pushed:.1f} s, all drafted "
        f"{done:.1f} s after the first, {max(runs.values())} runs of an account at most"
    )


def _runs(there: Installation) -> dict[str, int]:
    from dagster import DagsterInstance

    from communicator_pipeline.wanted_runs import ACCOUNT_TAG

    os.environ["DAGSTER_HOME"] = str(there.folder / "dagster")
    counts: dict[str, int] = {}
    with DagsterInstance.get() as instance:
        for run in instance.get_runs():
            account = run.tags.get(ACCOUNT_TAG, "")
            counts[account] = counts.get(account, 0) + 1
    return counts


def _end_worker(there: Installation) -> None:
    """Kill the worker, and wait until the sensor believes it."""
    workers = Workers(there.stores.database)
    for worker in workers.living(datetime.now(UTC)):
        os.kill(int(worker.split(":")[1]), signal.SIGKILL)
    while workers.living(datetime.now(UTC)):
        time.sleep(0.2)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port} after {PATIENCE} s")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    main()
