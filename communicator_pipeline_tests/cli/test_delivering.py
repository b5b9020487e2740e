"""From a question to an answer that is confirmed, with the command alone, on the sandbox."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from communicator_pipeline import runs
from communicator_pipeline.cli import app
from communicator_pipeline.definitions import defs
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.ingestion.pull import pull_new
from communicator_pipeline.platforms.sandbox.chat import FILE
from communicator_pipeline.platforms.sandbox.faults import Fault
from communicator_pipeline.platforms.sandbox.server import SandboxServer
from communicator_pipeline.storage import home, open_local
from communicator_pipeline.storage.accounts import add_user
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.worker import Worker

ACCOUNT = "ana-sandbox"


class Command:
    """The command in this process: these tests call it often, and a process takes seconds."""

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    def json(self, *words: str) -> Any:
        answer = self(*words, "--json")
        assert answer.exit_code == 0, answer.stderr
        return json.loads(answer.stdout)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxServer]:
    home().mkdir(parents=True)
    with SandboxServer(home() / FILE) as server:
        yield server


@pytest.fixture
def shell(sandbox: SandboxServer) -> Command:
    """Somebody has asked Ana something, and there is a draft."""
    asked(sandbox, "key")
    return Command()


def asked(sandbox: SandboxServer, mode: str) -> None:
    stores = open_local(home())
    add_user(stores.database, "ana", "Ana")
    values = sandbox.values(mode=mode, name="Ana")
    add_account(stores, "ana", ACCOUNT, "sandbox", values, lambda field: "")
    Settings(stores.database, "ana").set("undo_seconds", 0.5)
    Settings(stores.database, None).set("quiet_seconds", 0.5)
    sandbox.chat.say("Hi Ana, can you send me the signed contract today?", "Ben")
    assert pull_new(stores, ACCOUNT).kept == 1
    with runs.open_instance() as instance:
        runs.materialise_touched(stores, instance, runs.chain_job(defs), lambda run: None)


@contextmanager
def working() -> Iterator[None]:
    """A worker, for the length of a `with`."""
    stores = open_local(home())
    with runs.open_instance() as instance:
        worker = Worker(stores, instance, defs)
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                if not worker.step():
                    stop.wait(0.05)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def only(shell: Command) -> dict[str, Any]:
    (delivery,) = shell.json("outbox", "--all")["deliveries"]
    assert isinstance(delivery, dict)
    return delivery


def until(shell: Command, *states: str) -> dict[str, Any]:
    deadline = time.monotonic() + 90
    database = open_local(home()).database
    while True:
        rows = database.execute("SELECT state FROM deliveries")
        if {row["state"] for row in rows} <= set(states):
            return only(shell)
        assert time.monotonic() < deadline, rows
        time.sleep(0.1)


def test_a_draft_is_approved_sent_once_confirmed_and_explained(
    shell: Command, sandbox: SandboxServer
) -> None:
    (draft,) = shell.json("drafts")
    assert draft["text"]
    approved = shell("approve", draft["conversation_id"])
    assert "To take it back: communicator undo" in approved.stdout
    assert shell.json("drafts") == []
    assert "Nothing is on its way." not in shell("outbox").stdout
    with working():
        delivery = until(shell, "confirmed")
    assert [line.text for line in sandbox.chat.lines() if line.yours] == [draft["text"]]
    assert len(sandbox.chat.arrivals(delivery["delivery_id"])) <= 1
    assert "Nothing is on its way." in shell("outbox").stdout
    told = shell.json("why", delivery["delivery_id"])
    assert told["state"] == "confirmed"
    assert told["draft"]["text"] == draft["text"]
    assert told["run_id"]
    assert [m["text"] for m in told["messages"]] == [
        "Hi Ana, can you send me the signed contract today?"
    ]
    assert [a["outcome"] for a in told["attempts"]] == ["sent"]
    shown = shell("why", delivery["delivery_id"]).stdout
    assert "approved → sending" in shown
    assert "sent → confirmed by echo" in shown


def test_an_approval_is_taken_back_in_time(shell: Command, sandbox: SandboxServer) -> None:
    (draft,) = shell.json("drafts")
    approved = shell.json("approve", draft["conversation_id"])
    assert "Taken back: 1 part." in shell("undo", approved["approval_id"]).stdout
    late = shell("undo", approved["approval_id"])
    assert late.exit_code == 1
    assert "error:" in late.stderr
    assert only(shell)["state"] == "canceled"
    assert len(shell.json("drafts")) == 1  # it can be approved again


def test_an_edited_text_is_what_leaves(shell: Command, sandbox: SandboxServer) -> None:
    (draft,) = shell.json("drafts")
    conversation = draft["conversation_id"]
    assert shell("edit", conversation, "Done, look into your mailbox.").exit_code == 0
    assert shell.json("drafts")[0]["text"] == "Done, look into your mailbox."
    shell("approve", conversation)
    with working():
        until(shell, "confirmed")
    assert sandbox.chat.lines()[-1].text == "Done, look into your mailbox."


def test_a_rejected_draft_is_not_shown_again(shell: Command) -> None:
    (draft,) = shell.json("drafts")
    assert shell("reject", draft["conversation_id"], "--why", "too stiff").exit_code == 0
    assert shell.json("drafts") == []


def test_a_newer_message_takes_the_approval_back(shell: Command, sandbox: SandboxServer) -> None:
    (draft,) = shell.json("drafts")
    approved = shell.json("approve", draft["conversation_id"], "--at", "2099-01-01T00:00")
    sandbox.chat.say("Never mind, I found it!", "Ben")
    with working():
        delivery = until(shell, "superseded")
    assert [line for line in sandbox.chat.lines() if line.yours] == []
    again = shell.json("approve", delivery["conversation_id"], "--again", approved["approval_id"])
    assert again["is_new"]


def test_an_answer_that_was_lost_is_a_persons_question_where_nobody_can_tell(
    sandbox: SandboxServer,
) -> None:
    asked(sandbox, "neither")
    shell = Command()
    (draft,) = shell.json("drafts")
    sandbox.chat.faults.add(Fault("reset"))
    shell("approve", draft["conversation_id"])
    with working():
        delivery = until(shell, "needs_human")
    shown = shell("outbox").stdout
    assert "Nobody knows whether it arrived" in shown
    assert "gets it twice" in shown
    assert len([line for line in sandbox.chat.lines() if line.yours]) == 1
    refused = shell("resolve", delivery["delivery_id"], "perhaps")
    assert refused.exit_code == 2
    assert "'it was sent'" in refused.stderr
    assert shell("resolve", delivery["delivery_id"], "it was sent").exit_code == 0
    with working():
        until(shell, "sent", "confirmed")
    assert [line.copies for line in sandbox.chat.lines() if line.yours] == [1]


def test_the_kill_switch_holds_everything_until_it_is_taken_back(
    shell: Command, sandbox: SandboxServer
) -> None:
    (draft,) = shell.json("drafts")
    assert shell("sending", "stop", "--why", "something is odd").exit_code == 0
    approved = shell("approve", draft["conversation_id"])
    assert "all sending is stopped (something is odd)" in approved.stdout.replace("\n", " ")
    with working():
        time.sleep(3)
        assert only(shell)["state"] == "approved"
        shell("sending", "resume")
        until(shell, "confirmed")
    assert [line.copies for line in sandbox.chat.lines() if line.yours] == [1]


def test_what_must_not_go_out_is_refused_in_words(shell: Command) -> None:
    (draft,) = shell.json("drafts")
    for words, said in (
        (("approve", draft["conversation_id"], "--text", "  "), "nothing to send"),
        (("approve", "nonsense"), "`communicator inbox` shows their ids"),
        (("undo", "nonsense"), "error:"),
        (("why", "nonsense"), "error:"),
        (("resolve", "nonsense"), "error:"),
    ):
        answer = shell(*words)
        assert answer.exit_code in (1, 2), words
        assert said in answer.stderr.replace("\n", " "), answer.stderr
        assert "Traceback" not in answer.stderr


def test_auto_approval_is_closed_until_somebody_opens_it(shell: Command) -> None:
    assert "Nothing goes out without you." in shell("sending", "auto", ACCOUNT).stdout
    opened = shell.json("sending", "auto", ACCOUNT, "request", "--threshold", "0.9")
    assert [(p["category"], p["threshold"]) for p in opened] == [("request", 0.9)]
    shell("sending", "auto", ACCOUNT, "request", "--revoke")
    assert "closed" in shell("sending", "auto", ACCOUNT).stdout
