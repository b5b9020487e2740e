"""Replies on their way out: what the outbox can do, and how long an approval takes to arrive.

Throughput: replies that are approved already are claimed, "sent" to a client that answers at once,
and recorded, by one worker and by four processes; every claim and every record is a synced commit.
Beside it stands a bare loop of two synced commits per reply. Latency: from the return of `approve`
(undo window 0) until the sandbox has stored the message, everything running as `make dev` runs it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import apsw

from benchmarks.measure import machine, table
from benchmarks.push_to_draft import free_port, make_dev
from communicator_pipeline.delivery.approving import approve
from communicator_pipeline.delivery.dispatch import deliver_due
from communicator_pipeline.delivery.senders import Sender
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.ingestion.exports import import_export, open_export
from communicator_pipeline.platforms.protocol import (
    Absent,
    FindResult,
    Part,
    Sending,
    SendResult,
    Sent,
    Target,
)
from communicator_pipeline.platforms.sandbox.chat import FILE, Chat
from communicator_pipeline.runs import chain_job, materialise_touched, open_instance
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.accounts import Accounts, add_user
from communicator_pipeline.storage.database import from_utc_text
from communicator_pipeline.storage.settings import Settings

PROMISE = Sending(repeats=True, looks_up=True, longest=4_000)


class AtOnce:
    """A platform that has everything the moment it is sent."""

    def send(self, target: Target, part: Part, token: str) -> SendResult:
        return Sent(f"{target.channel_id}:{token}")

    def find_sent(self, target: Target, part: Part, token: str, since: datetime) -> FindResult:
        return Absent()


class AllAtOnce:
    @contextmanager
    def open(self, account: str) -> Iterator[Sender]:
        yield Sender(AtOnce(), PROMISE)  # type: ignore[arg-type]


def fill(folder: Path, replies: int) -> Stores:
    """So many conversations, each with an approved reply, in one account."""
    stores = open_local(folder)
    add_user(stores.database, "ana", "Ana")
    accounts = Accounts(stores.database, "ana")
    accounts.add("ana-chat", "generic", "Chat")
    accounts.set_me("ana-chat", ["ana"])
    Settings(stores.database, "ana").set("undo_seconds", 0)
    file = folder / "chat.jsonl"
    now = datetime.now(UTC).isoformat()
    file.write_text(
        "".join(
            f'{{"id": "m{n}", "channel": "c{n}", "channel_kind": "dm", "sent_at": "{now}", '
            f'"author": "p{n}", "text": "Can you send me the contract?"}}\n'
            for n in range(replies)
        )
    )
    import_export(open_export(file), "ana-chat", stores.database, stores.lake)
    from communicator_pipeline.definitions import build_definitions
    from communicator_pipeline.resources import StoresResource

    definitions = build_definitions({"stores": StoresResource(folder=str(folder))})
    with open_instance() as instance:
        materialise_touched(stores, instance, chain_job(definitions), lambda run: None)
    return stores


def approve_all(stores: Stores, replies: int) -> float:
    began = time.perf_counter()
    for number in range(replies):
        approve(
            stores.database, "ana", "ana-chat", f"c{number}:m{number}", PROMISE,
            text="It is on its way.", environment_opens=True,
        )  # fmt: skip
    return time.perf_counter() - began


def work(folder: str) -> None:
    deliver_due(open_local(Path(folder)), senders=AllAtOnce(), environment_opens=True)


def throughput(replies: int, workers: int) -> list[str]:
    import os

    with tempfile.TemporaryDirectory() as folder:
        os.environ["COMMUNICATOR_HOME"] = folder
        stores = fill(Path(folder), replies)
        stores.database.execute(
            "INSERT INTO connections (account, settings, secrets, covered_since, every_seconds, "
            "next_pull_at) VALUES ('ana-chat', '{\"sending\": \"open\"}', '', ?1, 60, ?1)",
            ("2026-01-01T00:00:00.000000Z",),
        )
        approving = approve_all(stores, replies)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["communicator_pipeline.delivery.dispatch"])
        processes = [context.Process(target=work, args=(folder,)) for _ in range(workers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        # From the first claim to the last record: a process that starts is not what is measured.
        (times,) = stores.database.execute(
            "SELECT min(started_at) AS first, max(ended_at) AS last FROM delivery_attempts"
        )
        seconds = (from_utc_text(times["last"]) - from_utc_text(times["first"])).total_seconds()
        sent = stores.database.execute("SELECT count(*) AS n FROM deliveries WHERE state = 'sent'")
        tried = stores.database.execute("SELECT count(*) AS n FROM delivery_attempts")
        assert (sent[0]["n"], tried[0]["n"]) == (replies, replies)
    name = f"{workers} worker{'s' if workers > 1 else ''}"
    return [name, f"{replies / approving:,.0f}", f"{replies / seconds:,.0f}", str(replies)]


def bare(replies: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        connection = apsw.Connection(str(Path(folder) / "bare.db"))
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("CREATE TABLE replies (id INTEGER PRIMARY KEY, state TEXT)")
        began = time.perf_counter()
        for number in range(replies):
            connection.execute("INSERT INTO replies VALUES (?, 'sending')", (number,))
            connection.execute("UPDATE replies SET state = 'sent' WHERE id = ?", (number,))
        seconds = time.perf_counter() - began
    return ["two bare commits", "", f"{replies / seconds:,.0f}", str(replies)]


def latency(approvals: int) -> list[str]:
    sandbox = free_port()
    with make_dev(accounts=1, SANDBOX_PORT=str(sandbox)) as there:
        stores = there.stores
        chat = Chat(there.folder / FILE)
        values = {"base_url": f"http://127.0.0.1:{sandbox}", "name": "Ana", "token": chat.token()}
        add_account(stores, "ana", "ana-sandbox", "sandbox", values, lambda field: "")
        Settings(stores.database, "ana").set("undo_seconds", 0)
        took = []
        for number in range(approvals):
            chat.say("Can you send me the contract?", f"Person {number}")
            asked = "FROM messages WHERE account = 'ana-sandbox' AND text LIKE 'Can you send%'"
            there.until(f"SELECT count(*) AS n {asked}", number + 1)
            conversation = stores.database.execute(
                f"SELECT conversation_id {asked} ORDER BY sent_at DESC LIMIT 1"
            )[0]["conversation_id"]
            before = len(chat.arrivals())
            approve(
                stores.database, "ana", "ana-sandbox", conversation, PROMISE, text="On its way."
            )
            began = time.perf_counter()
            while len(chat.arrivals()) == before:
                time.sleep(0.002)
            took.append(time.perf_counter() - began)
    took.sort()
    p95 = took[min(len(took) - 1, int(0.95 * len(took)))]
    return [str(approvals), f"{statistics.median(took):.2f}", f"{p95:.2f}", f"{took[-1]:.2f}"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--replies", type=int, default=500)
    options.add_argument("--approvals", type=int, default=20, help="for the latency; 0: leave out")
    asked = options.parse_args()
    print(machine())
    rows = [bare(asked.replies), throughput(asked.replies, 1), throughput(asked.replies, 4)]
    table(["outbox", "approvals/s", "claimed, sent, recorded/s", "replies"], rows)
    if asked.approvals:
        table(["approved to arrived", "median s", "p95 s", "max s"], [latency(asked.approvals)])


if __name__ == "__main__":
    main()
