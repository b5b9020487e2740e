"""Kill -9 of gateway and worker at random moments: nothing that was acknowledged is missing.

A real gateway takes pushes over a socket, a real worker lands them; both are killed again and again
while events keep coming, until enough kills have met a push under way. Then every event that was
acknowledged must be in `raw_messages`, once. `make test` kills 6 times, `make test-faults` 200.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import pytest
import uvicorn

from communicator_pipeline.chain import raw_messages
from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.ingestion.push import drain
from communicator_pipeline.storage import Stores, home, open_local
from communicator_pipeline.storage.accounts import add_user
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.landing import landed_months
from communicator_pipeline.storage.queue import MOST_LEASES, IngestionQueue
from communicator_pipeline_tests.conftest import FaultSizes
from communicator_pipeline_tests.ingestion.test_push import ACCOUNT, KEY, later, message

SENDERS = 4

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def gateway(folder: str, port: int) -> None:
    """What `communicator serve` runs."""
    config = uvicorn.Config(create_app(open_local(Path(folder))), port=port, log_level="critical")
    uvicorn.Server(config).run()


def worker(folder: str) -> None:
    """The worker's share of the way; what comes behind it is killed in test_kills.py."""
    stores = open_local(Path(folder))
    while True:
        if not drain(stores, most=50).taken:
            time.sleep(0.01)


class Process:
    """A process that is started again whenever it was killed."""

    def __init__(self, target: Callable[..., None], *words: object) -> None:
        self.target, self.words = target, words
        self.start()

    def start(self) -> None:
        self.process = _CONTEXT.Process(target=self.target, args=self.words)
        self.process.start()

    def kill(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()


class Senders:
    """Clients that push events as platforms do: again, until they are acknowledged."""

    def __init__(self, port: int) -> None:
        self.acknowledged: list[str] = []
        self.under_way = 0
        self._port = port
        self._numbers = iter(range(10**9))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        url = f"http://127.0.0.1:{self._port}/push/generic/{ACCOUNT}"
        with httpx.Client(headers={"authorization": f"Bearer {KEY}"}, timeout=5) as client:
            while not self._stop.is_set():
                with self._lock:
                    number = next(self._numbers)
                    self.under_way += 1
                event = message(number)
                try:
                    answer = client.post(url, content=orjson.dumps(event))
                    if answer.status_code == 200:
                        self.acknowledged.append(f"c:{event['id']}")
                except httpx.HTTPError:
                    time.sleep(0.02)
                with self._lock:
                    self.under_way -= 1


def kill_until(kills: int, seed: int, stores: Stores) -> tuple[int, int]:
    """Kill so often; returns how many events were acknowledged, and how many kills of the gateway
    met a push that was under way."""
    add_account(stores, "ana", ACCOUNT, "generic", {"me": "ana", "push_key": KEY}, lambda f: "")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    chance = random.Random(seed)
    serving, working = Process(gateway, str(home()), port), Process(worker, str(home()))
    senders = Senders(port)
    met = done = 0
    try:
        while done < kills or met < kills // 4:
            before = len(senders.acknowledged)
            deadline = time.monotonic() + 30
            while len(senders.acknowledged) == before and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.3))
            victim = chance.choice((serving, working))
            met += victim is serving and senders.under_way > 0
            victim.kill()
            done += 1
            # Nobody waits half a minute for the leases of the dead in a test.
            later(stores)
            victim.start()
    finally:
        senders.stop()
        serving.kill()
        working.kill()
    later(stores)
    while drain(stores).taken:
        pass
    print(f"seed {seed}: {done} kills, {met} met a push, {len(senders.acknowledged)} acknowledged")
    _nothing_is_missing(stores, senders.acknowledged, seed)
    return len(senders.acknowledged), met


def _nothing_is_missing(stores: Stores, acknowledged: list[str], seed: int) -> None:
    rows: list[str] = []
    for month in landed_months(stores.lake, ACCOUNT):
        partition = AccountMonth(ACCOUNT, month)
        report = raw_messages.materialise(stores, partition, Scope((partition,)))
        for entry in report.manifest.days.values():
            table = stores.lake.read_day(raw_messages.ASSET, partition, entry)
            rows += [row["message_id"] for row in table.to_pylist()]
    missing = set(acknowledged) - set(rows)
    assert not missing, f"seed {seed}: {len(missing)} acknowledged events are missing: {missing}"
    assert len(rows) == len(set(rows)), f"seed {seed}: an event is there twice"
    depth = IngestionQueue(stores.database).depth()
    assert (depth.waiting, depth.dead) == (0, 0), f"seed {seed}: {depth}, {MOST_LEASES}"


def test_six_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    acknowledged, met = kill_until(6, seed, _stores())
    assert acknowledged > 6
    assert met >= 1


@pytest.mark.faults
def test_two_hundred_kills_lose_nothing_that_was_acknowledged(sizes: FaultSizes) -> None:
    kills = sizes.count(200, at_least=20)
    acknowledged, met = kill_until(kills, sizes.seed, _stores())
    assert acknowledged > 2.5 * kills
    assert met >= kills // 4


def _stores() -> Stores:
    stores = open_local(home())
    add_user(stores.database, "ana", "Ana")
    return stores
