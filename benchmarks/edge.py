"""Pushes at the edge Worker: requests per second and latency, beside a Worker that does nothing.

Each runs in workerd on this machine (`make -C communicator_pipeline_tests/peers` installs it). Ours
has workerd's own D1, queue and rate limit, and nobody consumes; the bare one answers 200 without a
look at the request. So the ratio says what verifying and queueing cost; it is no figure of
Cloudflare's. The load comes from this process: first 50 requests a second, sent on time whether or
not the ones before have been answered; then as many as 32 connections get through.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.measure import machine, table
from benchmarks.push import ACCOUNT, KEY, event, flat_out, paced, percentile
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.storage import open_local
from communicator_pipeline.storage.accounts import add_user
from communicator_pipeline.storage.cloudflare import CloudflareAccount
from communicator_pipeline.storage.credentials import KEYS_VARIABLE
from communicator_pipeline.storage.d1 import D1Database
from communicator_pipeline.storage.database import migrate
from communicator_pipeline_tests.peers.workerd import EDGE, Workerd, workerd

ENTRIES = {"bare": Path(__file__).with_name("edge_bare.ts"), "ours": EDGE / "src" / "index.ts"}
NO_LIMIT = {
    "ratelimits": [
        {"name": "PUSH_LIMIT", "namespace_id": "1", "simple": {"limit": 10**9, "period": 60}}
    ]
}


def add_ours(peer: Workerd, folder: Path) -> None:
    """The account that is pushed to, in workerd's database."""
    os.environ[KEYS_VARIABLE] = ",".join(peer.keys)
    account = CloudflareAccount(peer.account_id, peer.token, budget=None, base_url=peer.api_url)
    stores = replace(open_local(folder), database=D1Database(account, peer.database_id))
    migrate(stores.database)
    add_user(stores.database, "bench", "Bench")
    add_account(stores, "bench", ACCOUNT, "generic", {"me": "b", "push_key": KEY}, lambda f: "")


PACE = 50  # a second: `wrangler dev`, through which all goes, bears some 200


def measure(port: int, requests: int, seconds: int) -> tuple[list[float], float, list[float], int]:
    """Latencies at `PACE`; then flat out: requests per second, latencies, how many were no 200."""
    asyncio.run(flat_out(port, [event(-n) for n in range(1, 1_000)]))  # warm
    paced_took = asyncio.run(paced(port, [event(n) for n in range(PACE * seconds)], PACE))
    rate, took, others = asyncio.run(flat_out(port, [event(10**6 + n) for n in range(requests)]))
    return paced_took, rate, took, others


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=5_000, help="flat out")
    options.add_argument("--seconds", type=int, default=10, help="at 50 a second")
    asked = options.parse_args()
    os.environ["WRANGLER_LOG"] = "warn"  # else a line for each request
    print(machine())
    rates: dict[str, float] = {}
    rows = []
    for what, entry in ENTRIES.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with workerd(folder / "workerd", entry, NO_LIMIT) as peer:
                if what == "ours":
                    add_ours(peer, folder / "home")
                port = urlsplit(peer.url).port or 0
                paced_took, rates[what], took, others = measure(port, asked.requests, asked.seconds)
        rows.append(
            [
                what,
                f"{statistics.median(paced_took) * 1e3:.1f}",
                f"{percentile(paced_took, 0.99) * 1e3:.1f}",
                f"{rates[what]:,.0f}",
                f"{percentile(took, 0.99) * 1e3:.1f}",
                str(others),
            ]
        )
    table(
        ["worker", "median ms at 50/s", "p99 ms at 50/s", "flat out/s", "p99 ms", "not 200"], rows
    )
    print(f"ours / bare, flat out: {rates['ours'] / rates['bare']:.2f}")


if __name__ == "__main__":
    main()
