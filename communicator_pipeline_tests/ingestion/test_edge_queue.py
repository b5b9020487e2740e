"""What the edge has queued reaches the ingestion queue: once each, whoever is killed when."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from communicator_pipeline.ingestion import edge_queue
from communicator_pipeline.ingestion.edge_queue import AGAIN, LEASE, move
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.cloudflare import CallsUsedUp, CloudflareAccount
from communicator_pipeline.storage.database import DatabaseFailed, Row
from communicator_pipeline.storage.objects import LocalObjects
from communicator_pipeline.storage.queue import IngestionQueue, QueuedPush
from communicator_pipeline_tests.conftest import FaultSizes
from communicator_pipeline_tests.ingestion.queue_server import (
    DEAD,
    QUEUE,
    TOKEN,
    QueueServer,
    account_at,
    queue_server,
)


@pytest.fixture
def server() -> Iterator[QueueServer]:
    with queue_server() as running:
        yield running


@pytest.fixture
def account(server: QueueServer, tmp_path: Path) -> CloudflareAccount:
    return account_at(server.url, tmp_path)


def push(number: int, **change: Any) -> dict[str, Any]:
    """A message as the edge Worker sends it."""
    told = {
        "account": "ana-chat",
        "platform": "generic",
        "key": f"k{number}",
        "body": json.dumps({"n": number, "text": "Grüße 日本 🙂"}),
        "received_at": "2026-11-03T10:00:00.000000Z",
        **change,
    }
    return {name: value for name, value in told.items() if value is not None}


def rows(stores: Stores) -> list[Row]:
    return stores.database.execute(
        "SELECT account, push_key AS key, body, state FROM pushes ORDER BY push_id"
    )


def letters(stores: Stores) -> list[Row]:
    return stores.database.execute("SELECT account, reason, payload, state FROM dead_letters")


def test_what_waits_is_moved_as_it_was_pushed(
    server: QueueServer, account: CloudflareAccount, stores: Stores
) -> None:
    for number in range(3):
        server.send(push(number))
    began = datetime.now(UTC)
    done = move(account, QUEUE, stores)
    assert (done.pulled, done.moved, done.buried, done.put_off) == (3, 3, 0, 0)
    assert done.backlog == 3
    assert done.oldest is not None
    assert abs((began - done.oldest).total_seconds()) < 60
    assert rows(stores) == [
        {"account": "ana-chat", "key": f"k{n}", "body": push(n)["body"], "state": "waiting"}
        for n in range(3)
    ]
    assert server.queues[QUEUE] == []


def test_full_batches_are_followed_by_another_and_each_is_two_calls(
    server: QueueServer, account: CloudflareAccount, stores: Stores
) -> None:
    for number in range(250):
        server.send(push(number))
    done = move(account, QUEUE, stores)
    assert (done.pulled, done.moved) == (250, 250)
    assert len(rows(stores)) == 250
    assert [what for what, _ in server.calls] == ["pull", "ack"] * 3
    assert all(len(asked["acks"]) <= 100 for what, asked in server.calls if what == "ack")
    empty = move(account, QUEUE, stores)
    assert (empty.pulled, empty.backlog, empty.oldest) == (0, 0, None)
    assert len(server.calls) == 7


def test_no_more_is_pulled_than_asked_for(
    server: QueueServer, account: CloudflareAccount, stores: Stores
) -> None:
    for number in range(250):
        server.send(push(number))
    assert move(account, QUEUE, stores, most=120).moved == 120
    assert len(server.queues[QUEUE]) == 130
    assert all(held.attempts == 0 for held in server.queues[QUEUE])


def test_a_parked_body_is_fetched_and_deleted(
    server: QueueServer,
    account: CloudflareAccount,
    stores: Stores,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put, sizes = IngestionQueue.put, []

    def counted(queue: IngestionQueue, pushes: Sequence[QueuedPush]) -> None:
        sizes.append(sum(len(one.body.encode()) for one in pushes))
        put(queue, pushes)

    monkeypatch.setattr(IngestionQueue, "put", counted)
    body = json.dumps({"text": "é" * 400_000}, ensure_ascii=False)
    for number in range(20):  # 16 MB together: more than one transaction
        stores.lake.objects.put(f"parked/2026-11-03/{number}", body.encode())
        server.send(push(number, body=None, parked=f"parked/2026-11-03/{number}"))
    assert move(account, QUEUE, stores).moved == 20
    assert [row["body"] for row in rows(stores)] == [body] * 20
    assert len(sizes) > 1
    assert max(sizes) < 10_000_000
    assert list(stores.lake.objects.list("parked/")) == []


def test_a_message_that_comes_twice_is_there_once(
    server: QueueServer, account: CloudflareAccount, stores: Stores
) -> None:
    for _ in range(2):
        server.send(push(1))
        server.send(push(2, body=None, parked="parked/2026-11-03/x"))
        stores.lake.objects.put("parked/2026-11-03/x", b"{}")
        assert move(account, QUEUE, stores).moved == 2
    server.send(push(2, body=None, parked="parked/2026-11-03/x"))  # its body is gone by now
    assert move(account, QUEUE, stores).moved == 1
    assert [row["key"] for row in rows(stores)] == ["k1", "k2"]
    assert letters(stores) == []
    assert server.queues[QUEUE] == []


def test_a_parked_body_that_is_gone_is_a_dead_letter(
    server: QueueServer, account: CloudflareAccount, stores: Stores
) -> None:
    server.send(push(1, body=None, parked="parked/2026-11-03/x"))
    server.send(push(2))
    done = move(account, QUEUE, stores)
    assert (done.moved, done.buried) == (1, 1)
    [letter] = letters(stores)
    assert "push it again" in letter["reason"]
    assert server.queues[QUEUE] == []


UNREADABLE: list[tuple[Any, str]] = [
    ("no json", "no JSON"),
    ("[1]", "no JSON"),
    ("{", "no JSON"),
    ({}, "whose"),
    (push(1, account=None), "whose"),
    (push(1, key=None), "whose"),
    (push(1, key=7), "texts"),
    (push(1, body=None), "either"),
    (push(1, parked="parked/x"), "either"),
    (push(1, body=None, parked="lake/x"), "parked/"),
    ('{"account": "ana-chat", "key": "k", "body": "\\ud800"}', "no JSON"),
]


@pytest.mark.parametrize("content_type", ["json", "text"])
@pytest.mark.parametrize(("message", "why"), UNREADABLE)
def test_what_cannot_be_read_does_not_come_again(
    server: QueueServer,
    account: CloudflareAccount,
    stores: Stores,
    caplog: pytest.LogCaptureFixture,
    message: Any,
    why: str,
    content_type: str,
) -> None:
    server.send(message, content_type)
    server.send(push(2))
    done = move(account, QUEUE, stores)
    assert (done.moved, done.buried) == (1, 1)
    assert server.queues[QUEUE] == []
    names_account = isinstance(message, dict) and "account" in message
    reasons = [letter["reason"] for letter in letters(stores)]
    assert len(reasons) == int(names_account)
    assert why in (reasons[0] if reasons else caplog.text)


def test_a_body_that_is_no_text_or_too_large_is_a_dead_letter(
    server: QueueServer, account: CloudflareAccount, stores: Stores
) -> None:
    for number, content in enumerate((b"\xff", bytes(2**20 + 1))):
        stores.lake.objects.put(f"parked/{number}", content)
        server.send(push(number, body=None, parked=f"parked/{number}"))
    assert move(account, QUEUE, stores).buried == 2
    assert len(letters(stores)) == 2


def test_pushes_for_an_account_that_was_removed_are_dropped(
    server: QueueServer, account: CloudflareAccount, stores: Stores
) -> None:
    stores.lake.objects.put("parked/x", b"{}")
    server.send(push(1, account="gone"))
    server.send(push(2, account="gone", body=None, parked="parked/x"))
    server.send(push(3, account="gone", body=None, parked="parked/y"))
    server.send(push(4))
    move(account, QUEUE, stores)
    assert [row["key"] for row in rows(stores)] == ["k4"]
    assert server.queues[QUEUE] == []
    assert list(stores.lake.objects.list("parked/")) == []


def test_a_fault_of_the_database_acknowledges_nothing(
    server: QueueServer,
    account: CloudflareAccount,
    stores: Stores,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores.database.execute("ALTER TABLE pushes RENAME TO pushes_away")
    server.send(push(1))
    with pytest.raises(DatabaseFailed):
        move(account, QUEUE, stores)
    assert [what for what, _ in server.calls] == ["pull"]
    stores.database.execute("ALTER TABLE pushes_away RENAME TO pushes")
    assert move(account, QUEUE, stores).pulled == 0  # leased still
    server.now += LEASE.total_seconds() + 1
    assert move(account, QUEUE, stores).moved == 1


def test_a_fault_of_the_objects_puts_off_only_what_is_parked(
    server: QueueServer, account: CloudflareAccount, stores: Stores
) -> None:
    place = Path(stores.lake.objects.addresses(["parked/x"])[0])
    place.mkdir(parents=True)  # reading it is an OSError, and not that it is not there
    server.send(push(1, body=None, parked="parked/x"))
    server.send(push(2))
    done = move(account, QUEUE, stores)
    assert (done.moved, done.put_off, done.buried) == (1, 1, 0)
    [(_, asked)] = [call for call in server.calls if call[0] == "ack"]
    assert [one["delay_seconds"] for one in asked["retries"]] == [AGAIN.total_seconds()]
    place.rmdir()
    stores.lake.objects.put("parked/x", b"{}")
    assert move(account, QUEUE, stores).pulled == 0
    server.now += AGAIN.total_seconds() + 1
    assert move(account, QUEUE, stores).moved == 1
    assert len(rows(stores)) == 2


def test_what_could_not_be_moved_for_too_long_is_drained_from_the_dead_letter_queue(
    server: QueueServer, account: CloudflareAccount, stores: Stores
) -> None:
    server.send(push(1))
    stores.database.execute("ALTER TABLE pushes RENAME TO pushes_away")
    for _ in range(server.most_retries + 1):
        with pytest.raises(DatabaseFailed):
            move(account, QUEUE, stores)
        server.now += LEASE.total_seconds() + 1
    stores.database.execute("ALTER TABLE pushes_away RENAME TO pushes")
    assert move(account, QUEUE, stores).pulled == 0
    assert len(server.queues[DEAD]) == 1
    assert move(account, DEAD, stores).moved == 1
    assert [row["key"] for row in rows(stores)] == ["k1"]
    assert server.queues[DEAD] == []


@pytest.mark.parametrize(
    "faults", [["lost"], ["503"], ["429"], ["", "lost"], ["", "503", "lost"], ["", "429"]]
)
def test_nothing_is_lost_or_twice_over_a_bad_network(
    server: QueueServer, account: CloudflareAccount, stores: Stores, faults: list[str]
) -> None:
    for number in range(5):
        server.send(push(number))
    server.faults = list(faults)
    move(account, QUEUE, stores)
    server.now += LEASE.total_seconds() + 1
    move(account, QUEUE, stores)
    assert [row["key"] for row in rows(stores)] == [f"k{n}" for n in range(5)]
    assert server.queues[QUEUE] == []


def test_a_429_that_lasts_is_said_and_nothing_is_lost(
    server: QueueServer, account: CloudflareAccount, stores: Stores
) -> None:
    server.send(push(1))
    server.faults = ["429", "for ever"]
    with pytest.raises(CallsUsedUp, match="may not be asked again"):
        move(account, QUEUE, stores)
    assert len(server.queues[QUEUE]) == 1


def test_a_late_acknowledgement_does_no_harm(
    server: QueueServer, account: CloudflareAccount, stores: Stores
) -> None:
    server.send(push(1))
    real = edge_queue._acknowledge

    def late(*arguments: Any) -> None:
        server.now += LEASE.total_seconds() + 1
        move_again = CloudflareAccount("acc", TOKEN, None, server.url, 10.0)
        edge_queue._acknowledge = real
        assert move(move_again, QUEUE, stores).moved == 1
        real(*arguments)

    edge_queue._acknowledge = late
    try:
        assert move(account, QUEUE, stores).moved == 1
    finally:
        edge_queue._acknowledge = real
    assert len(rows(stores)) == 1
    assert server.queues[QUEUE] == []


# --- kills -----------------------------------------------------------------------------------


def _dies(before: bool, of: Callable[..., Any]) -> Callable[..., Any]:
    def killed(*arguments: Any) -> Any:
        if not before:
            of(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    return killed


def _move_and_die(url: str, folder: Path, step: str) -> None:
    when, what = step.split(" ", 1)
    place, name = {
        "the put": (IngestionQueue, "put"),
        "the acknowledgement": (edge_queue, "_acknowledge"),
        "the delete": (LocalObjects, "delete"),
        "the pull": (edge_queue, "_pull"),
    }[what]
    if step != "never dies":
        setattr(place, name, _dies(when == "before", getattr(place, name)))
    move(account_at(url, folder), QUEUE, open_local(folder / "home"))


@pytest.mark.parametrize(
    "step",
    [
        f"{when} {what}"
        for what in ("the pull", "the put", "the acknowledgement", "the delete")
        for when in ("before", "after")
    ],
)
def test_a_mover_that_is_killed_loses_nothing(
    server: QueueServer, account: CloudflareAccount, stores: Stores, tmp_path: Path, step: str
) -> None:
    for number in range(4):
        stores.lake.objects.put(f"parked/{number}", push(number)["body"].encode())
        parked = {"body": None, "parked": f"parked/{number}"} if number % 2 else {}
        server.send(push(number, **parked))
    mover = multiprocessing.get_context("spawn").Process(
        target=_move_and_die, args=(server.url, tmp_path, step)
    )
    mover.start()
    mover.join()
    assert mover.exitcode == -signal.SIGKILL
    server.now += LEASE.total_seconds() + 1
    move(account, QUEUE, stores)
    assert [(row["key"], row["body"]) for row in rows(stores)] == [
        (f"k{n}", push(n)["body"]) for n in range(4)
    ]
    assert letters(stores) == []
    assert server.queues[QUEUE] == []


def _move_for_ever(url: str, folder: Path) -> None:
    account, stores = account_at(url, folder), open_local(folder / "home")
    while True:
        move(account, QUEUE, stores)


def test_movers_that_are_killed_at_any_moment_lose_nothing(
    server: QueueServer,
    account: CloudflareAccount,
    stores: Stores,
    tmp_path: Path,
    sizes: FaultSizes,
) -> None:
    chance = random.Random(sizes.seed)
    sent = 0
    for _ in range(sizes.count(3, 2)):
        movers = [
            multiprocessing.get_context("spawn").Process(
                target=_move_for_ever, args=(server.url, tmp_path)
            )
            for _ in range(2)
        ]
        for mover in movers:
            mover.start()
        calls = len(server.calls)
        while len(server.calls) == calls:
            time.sleep(0.01)
        until = time.monotonic() + chance.uniform(0.05, 0.5)
        while time.monotonic() < until:
            parked: dict[str, Any] = {}
            if chance.random() < 0.3:
                parked = {"body": None, "parked": f"parked/{sent}"}
                stores.lake.objects.put(f"parked/{sent}", push(sent)["body"].encode())
            with server.lock:
                server.send(push(sent, **parked))
            sent += 1
        for mover in movers:
            assert mover.pid is not None
            os.kill(mover.pid, signal.SIGKILL)
            mover.join()
        server.now += LEASE.total_seconds() + 1
    server.most_retries = 100
    move(account, QUEUE, stores, most=100_000)
    move(account, DEAD, stores, most=100_000)
    got = {row["key"]: row["body"] for row in rows(stores)}
    assert sent > 20
    assert got == {f"k{n}": push(n)["body"] for n in range(sent)}
    assert letters(stores) == []


def test_accounts_stay_apart(
    server: QueueServer, account: CloudflareAccount, stores: Stores
) -> None:
    Accounts(stores.database, "ana").add("ana-two", "generic", "Two")
    server.send(push(1))
    server.send(push(1, account="ana-two", body="{}"))
    move(account, QUEUE, stores)
    assert {row["account"]: row["body"] for row in rows(stores)} == {
        "ana-chat": push(1)["body"],
        "ana-two": "{}",
    }
