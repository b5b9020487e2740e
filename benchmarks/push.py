"""The push endpoint: requests per second and latency, beside a bare route that syncs one row.

Both servers are uvicorn in a process of their own, on SQLite with every commit synced to the disk.
The bare one is a Starlette route that verifies nothing and inserts the body in a thread. The load
comes from a third process: first 200 requests a second, sent on time whether or not the ones before
have been answered; then as many as 32 connections get through. At last 10,000 shuffled deliveries
of 4,000 events, which must be 4,000 rows.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import apsw
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.measure import machine, table
from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.storage import open_local
from communicator_pipeline.storage.accounts import add_user

ACCOUNT, KEY = "bench-crm", "a-key-of-more-than-20-characters"
PATH = f"/push/generic/{ACCOUNT}"
CONNECTIONS = 32


def event(number: int) -> bytes:
    return orjson.dumps(
        {
            "id": f"m{number}",
            "channel": "c",
            "sent_at": f"2026-11-{1 + number % 20:02d}T09:{number // 60 % 60:02d}:00Z",
            "author": f"p{number % 50}",
            "text": "Could you send me the signed contract before the meeting? " * 4,
        }
    )


def serve_ours(folder: str, port: int) -> None:
    stores = open_local(Path(folder))
    add_user(stores.database, "bench", "Bench")
    add_account(stores, "bench", ACCOUNT, "generic", {"me": "b", "push_key": KEY}, lambda f: "")
    uvicorn.run(create_app(stores), port=port, log_level="critical", access_log=False)


def serve_bare(folder: str, port: int) -> None:
    path = str(Path(folder) / "bare.db")
    connection = apsw.Connection(path)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, body BLOB)")
    # One writer: SQLite has one anyway, and a connection each would only wait for the other's.
    turn = asyncio.Lock()

    async def route(request: Request) -> Response:
        body = await request.body()
        async with turn:
            await asyncio.to_thread(
                connection.execute, "INSERT INTO rows (body) VALUES (?)", (body,)
            )
        return Response(b"{}", media_type="application/json")

    app = Starlette(routes=[Route(PATH, route, methods=["POST"])])
    uvicorn.run(app, port=port, log_level="critical", access_log=False)


class Connection:
    """One connection that is kept: a request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def post(self, body: bytes) -> int:
        if not hasattr(self, "_writer"):
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in answer.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        )
        await self._reader.readexactly(length)
        return int(answer.split(b" ", 2)[1])


async def paced(port: int, bodies: Sequence[bytes], per_second: int) -> list[float]:
    """Latencies, each from the moment at which the request was to be sent."""
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(64):
        free.put_nowait(Connection(port))
    took: list[float] = []
    began = time.perf_counter() + 0.2

    async def one(number: int, body: bytes) -> None:
        due = began + number / per_second
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        connection = await free.get()
        assert await connection.post(body) == 200
        took.append(time.perf_counter() - due)
        free.put_nowait(connection)

    await asyncio.gather(*(one(number, body) for number, body in enumerate(bodies)))
    return took


async def flat_out(port: int, bodies: Sequence[bytes]) -> tuple[float, list[float], int]:
    """Requests per second, latencies, and how many answers were no 200."""
    waiting = iter(bodies)
    took: list[float] = []
    others = 0

    async def client() -> None:
        nonlocal others
        connection = Connection(port)
        for body in waiting:
            began = time.perf_counter()
            others += await connection.post(body) != 200
            took.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return len(took) / (time.perf_counter() - began), took, others


def started(what: str, folder: str) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.push", "--serve", what, "--folder", folder,
         "--port", str(port)],
    )  # fmt: skip
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except OSError:
            time.sleep(0.05)


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=10_000, help="flat out")
    options.add_argument("--seconds", type=int, default=10, help="at 200 a second")
    options.add_argument("--serve", choices=["ours", "bare"], help=argparse.SUPPRESS)
    options.add_argument("--folder", help=argparse.SUPPRESS)
    options.add_argument("--port", type=int, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.serve:
        {"ours": serve_ours, "bare": serve_bare}[asked.serve](asked.folder, asked.port)
        return
    print(machine())
    rates: dict[str, float] = {}
    rows = []
    for what in ("bare", "ours"):
        with tempfile.TemporaryDirectory() as folder:
            process, port = started(what, folder)
            try:
                asyncio.run(flat_out(port, [event(-n) for n in range(1, 200)]))  # warm
                bodies = [event(n) for n in range(200 * asked.seconds)]
                at_200 = asyncio.run(paced(port, bodies, 200))
                bodies = [event(10**6 + n) for n in range(asked.requests)]
                rates[what], took, others = asyncio.run(flat_out(port, bodies))
                rows.append(
                    [
                        what,
                        f"{statistics.median(at_200) * 1e3:.1f}",
                        f"{percentile(at_200, 0.99) * 1e3:.1f}",
                        f"{rates[what]:,.0f}",
                        f"{percentile(took, 0.99) * 1e3:.1f}",
                        str(others),
                    ]
                )
                if what == "ours":
                    repeats = _repeats(port, folder)
            finally:
                process.kill()
                process.wait()
    table(
        ["route", "median ms at 200/s", "p99 ms at 200/s", "flat out/s", "p99 ms", "not 200"], rows
    )
    print(f"ours / bare, flat out: {rates['ours'] / rates['bare']:.2f}")
    print(repeats)


def _repeats(port: int, folder: str) -> str:
    deliveries = [event(5 * 10**6 + n) for n in range(4_000)]
    deliveries += random.Random(1).choices(deliveries, k=6_000)
    random.Random(2).shuffle(deliveries)
    database = open_local(Path(folder)).database
    before = database.execute("SELECT count(*) AS n FROM pushes")[0]["n"]
    rate, _, others = asyncio.run(flat_out(port, deliveries))
    after = database.execute("SELECT count(*) AS n FROM pushes")[0]["n"]
    return (
        f"10,000 shuffled deliveries of 4,000 events: {after - before:,} rows, "
        f"{others} answers that were no 200, {rate:,.0f}/s"
    )


if __name__ == "__main__":
    main()
