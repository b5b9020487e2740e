"""The demo's last part: a reply on its way out, on the sandbox, with its sender killed half-way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.text import Text

from communicator_pipeline.cli.delivering import why
from communicator_pipeline.cli.output import one_line, out
from communicator_pipeline.cli.reading import print_conversation
from communicator_pipeline.delivery.approving import approve
from communicator_pipeline.delivery.dispatch import deliver_due
from communicator_pipeline.delivery.recovery import confirm_echoes, recover
from communicator_pipeline.delivery.senders import promise_of
from communicator_pipeline.demo.sender import LEASE
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.ingestion.pull import pull_new
from communicator_pipeline.platforms.sandbox.chat import FILE
from communicator_pipeline.platforms.sandbox.faults import Fault
from communicator_pipeline.platforms.sandbox.live import BASE_URL
from communicator_pipeline.platforms.sandbox.server import SandboxServer
from communicator_pipeline.storage import Stores, home
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.outbox import Outbox
from communicator_pipeline.storage.settings import Settings

ACCOUNT = "ana-sandbox"
QUESTION = "Ana, can you confirm the pickup on Thursday at 10?"
ANSWER = "Confirmed: Thursday at 10, at the back door."
PATIENCE = 30.0  # seconds


def show_a_reply(opened: Stores) -> None:
    """Somebody asks, Ana answers, the sender dies half-way, and the answer arrives once."""
    with SandboxServer(home() / FILE) as server, _no_undo_window(opened):
        values = server.values(name="Ana")
        add_account(opened, "ana", ACCOUNT, "sandbox", values, lambda field: "")
        server.chat.say(QUESTION, "Maya")
        conversation = _brought_in(opened)
        print_conversation(Inbox(opened.database, "ana").conversation(conversation, ACCOUNT))
        promise = promise_of(opened, ACCOUNT)
        approved = approve(
            opened.database, "ana", ACCOUNT, conversation, promise, text=ANSWER, any_time=True
        )
        out.print(Text(f"Ana approves: {ANSWER}", style="green"))
        delivery = f"{approved.approval_id}-1"
        server.chat.faults.add(Fault("timeout"))
        module = "communicator_pipeline.demo.sender"
        command = [sys.executable, "-m", module, str(home()), ACCOUNT]
        sender = subprocess.Popen(command)  # noqa: S603  (our own module, under our own Python)
        deadline = time.monotonic() + PATIENCE
        while not server.chat.lines(last=1)[0].yours and time.monotonic() < deadline:
            time.sleep(0.02)
        sender.send_signal(signal.SIGKILL)
        sender.wait()
        state = Outbox(opened.database, "ana").get(delivery).delivery.state
        out.print(f"The sender is killed in mid-send; all that the outbox knows is: {state}.")
        server.chat.faults.clear()
        time.sleep(LEASE.total_seconds() + 0.2)
        recover(opened, account=ACCOUNT, quiet=timedelta(0))
        deliver_due(opened, account=ACCOUNT)
        _brought_in(opened)
        confirm_echoes(opened.database, ACCOUNT)
        out.print("Another one takes over, and asks again under the same key. Maya sees:")
        for line in server.chat.lines(last=2):
            times = f" (arrived {line.copies}×)" if line.yours else ""
            out.print(Text(f"    {line.author_name}: {one_line(line.text)}{times}"))
        out.print()
        out.print("communicator why", delivery, style="dim")
        why(delivery, user="ana")
    # From now on `make dev` serves the same chat, at the usual address.
    connections = Connections(opened)
    connections.set_settings(ACCOUNT, {**connections.settings(ACCOUNT), "base_url": BASE_URL})


def _brought_in(opened: Stores) -> str:
    """What is new comes into the inbox; returns the newest conversation."""
    from communicator_pipeline import runs
    from communicator_pipeline.definitions import defs

    pull_new(opened, ACCOUNT)
    with runs.open_instance() as instance:
        runs.materialise_touched(
            opened, instance, runs.chain_job(defs), lambda run: None, accounts=[ACCOUNT]
        )
    rows = opened.database.execute(
        "SELECT conversation_id FROM conversations WHERE account = ? "
        "ORDER BY last_message_at DESC LIMIT 1",
        (ACCOUNT,),
    )
    return str(rows[0]["conversation_id"])


@contextmanager
def _no_undo_window(opened: Stores) -> Iterator[None]:
    settings = Settings(opened.database, "ana")
    before = settings.get("undo_seconds")
    settings.set("undo_seconds", 0)
    try:
        yield
    finally:
        settings.set("undo_seconds", before)
