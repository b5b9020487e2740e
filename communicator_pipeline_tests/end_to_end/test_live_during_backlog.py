"""Ten years of one tenant do not delay the new message of another.

A real gateway and a real worker, as `communicator serve` and `communicator worker` start them. One
tenant has imported years of history; another is sent messages meanwhile, each in a chat of its own
that wants an answer. From the acknowledgement of the push to the draft in the inbox it may take
five seconds at the 95th percentile, which is what users were promised.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import orjson
import pytest

from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.storage import Stores, home
from communicator_pipeline.storage.accounts import Accounts, add_user
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline_tests.conftest import FaultSizes, Fill
from communicator_pipeline_tests.ingestion.test_push import KEY

ACCOUNTS = 10
MONTHS = 24
MESSAGES_A_MONTH = 60
PATIENCE = 120.0  # seconds

pytestmark = pytest.mark.faults


@contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of ours, with all that it has started, until the block ends."""
    started = subprocess.Popen(
        [sys.executable, "-m", "communicator_pipeline.cli", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def history(account: str, months: int, seed: int) -> Iterator[dict[str, object]]:
    """Made-up messages of the months before this one, some of them questions in threads."""
    chance = random.Random(f"{seed} {account}")
    first = datetime.now(UTC).replace(day=1) - timedelta(days=30 * months)
    for number in range(months * MESSAGES_A_MONTH):
        sent = first + timedelta(days=30 * number / MESSAGES_A_MONTH, minutes=chance.random() * 600)
        yield {
            "id": f"h{number}",
            "channel": f"c{chance.randrange(5)}",
            "sent_at": sent.isoformat(),
            "author": chance.choice(("ana", "joe", "kim", "lee")),
            "text": chance.choice(
                ("can you send me the invoice?", "done", "thanks a lot", "when do we meet?")
            ),
        }


def push(client: httpx.Client, number: int) -> float:
    """Push one question; returns when it was acknowledged."""
    event = {
        "id": f"m{number}",
        "channel": f"dm{number}",
        "channel_kind": "dm",
        "sent_at": datetime.now(UTC).isoformat(),
        "author": f"p{number}",
        "author_name": f"Person {number}",
        "text": "Hi Ben, can you send me the signed contract today?",
    }
    client.post("/push/generic/ben-crm", content=orjson.dumps(event)).raise_for_status()
    return time.monotonic()


def until_drafted(stores: Stores, count: int) -> float:
    """When so many of ben's messages have a draft."""
    deadline = time.monotonic() + PATIENCE
    drafted = "SELECT count(*) AS n FROM drafts WHERE account = 'ben-crm'"
    while stores.database.execute(drafted)[0]["n"] < count:
        assert time.monotonic() < deadline, f"message {count} has no draft after {PATIENCE} s"
        time.sleep(0.02)
    return time.monotonic()


def test_a_new_message_is_drafted_soon_beside_years_of_anothers_history(
    stores: Stores, fill: Fill, sizes: FaultSizes, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = Accounts(stores.database, "ana")
    for number in range(ACCOUNTS):
        account = f"ana-history-{number}"
        ana.add(account, "generic", "History")
        ana.set_me(account, ["ana"])
        fill(*history(account, MONTHS, sizes.seed), account=account, name=f"{account}.jsonl")
    add_user(stores.database, "ben", "Ben")
    add_account(stores, "ben", "ben-crm", "generic", {"me": "ben", "push_key": KEY}, lambda f: "")
    before = len(WorkQueue(stores.database).dirty())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("COMMUNICATOR_HOME", str(home()))
    took = []
    with (
        process("serve", "--port", str(port)),
        process("worker"),
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {KEY}"}
        ) as client,
    ):
        deadline = time.monotonic() + PATIENCE
        while len(WorkQueue(stores.database).dirty()) >= before:
            assert time.monotonic() < deadline, "the history is not worked off"
            time.sleep(0.1)
        begun = len(WorkQueue(stores.database).dirty())
        push(client, 0)
        until_drafted(stores, 1)  # the first run of a process imports lazily
        for number in range(1, sizes.count(200, at_least=20) + 1):
            acknowledged = push(client, number)
            took.append(until_drafted(stores, number + 1) - acknowledged)
            time.sleep(0.2)
        left = len(WorkQueue(stores.database).dirty())
    took.sort()
    p95 = took[int(0.95 * len(took))]
    print(
        f"{len(took)} messages: median {statistics.median(took):.2f} s, p95 {p95:.2f} s, most "
        f"{took[-1]:.2f} s; meanwhile {begun - left} of {before} days of history were done"
    )
    assert p95 < 5
    assert 0 < left < begun, "there was no history beside it"
