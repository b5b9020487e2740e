"""The inbox in a real browser: by keyboard, on a phone, in the dark, under attack, with axe."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from communicator_pipeline.gateway import identity
from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.language_model.configuration import (
    ModelConfig,
    ModelsConfig,
    keep_configuration,
)
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.outbox import Outbox
from communicator_pipeline.storage.sign_in import make_link, set_password
from communicator_pipeline_tests.chain.test_chain import run
from communicator_pipeline_tests.chain.test_redrafting import wishful
from communicator_pipeline_tests.conftest import Fill, line
from communicator_pipeline_tests.conftest import fill as fill_chat
from communicator_pipeline_tests.delivery.world import ACCOUNT, say
from communicator_pipeline_tests.gateway.conftest import PASSWORD, box, quick_hashes
from communicator_pipeline_tests.gateway.strangers import plant
from communicator_pipeline_tests.language_model.model_server import model_server

pytestmark = pytest.mark.peers

__all__ = ["box", "fill_chat", "quick_hashes"]

PEERS = Path(__file__).parent

Act = Callable[..., dict[str, Any]]


@pytest.fixture
def address(box: Stores, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(identity, "REQUESTS", identity.parse("100000/minute"))
    with served(box) as found:
        yield found


@contextmanager
def served(stores: Stores) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(create_app(stores), port=0, log_level="warning"))
    server.config.timeout_graceful_shutdown = 1
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def act(address: str, tmp_path: Path) -> Act:
    """Has a person do something in a browser; returns what was seen, after what holds always."""
    return acting(address, tmp_path)


def acting(address: str, tmp_path: Path) -> Act:
    def do(scenario: str, argument: str = "", while_open: Callable[[], None] | None = None) -> Any:
        with subprocess.Popen(
            [
                PEERS / ".venv/bin/python",
                PEERS / "browser.py",
                scenario,
                address,
                tmp_path,
                argument,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            if while_open is not None:
                assert process.stdout is not None
                assert process.stdin is not None
                assert process.stdout.readline() == "ready\n"
                while_open()
                process.stdin.write("\n")
                process.stdin.flush()
            out, err = process.communicate(timeout=300)
        assert process.returncode == 0, f"{err[-3_000:]} (see {tmp_path})"
        said = json.loads(out)
        for kind in ("errors", "elsewhere", "violations", "axe"):
            assert said[kind] == [], kind
        return said

    return do


def fill(box: Stores) -> None:
    for number in range(2, 7):
        say(
            box,
            f"明天下午可以吗? number {number}",
            at=datetime.now(UTC) - timedelta(days=number),
            number=str(number),
            conversation=f"c{number}",
            channel=f"chat-{number}",
            draft=f"Yes, gladly, {number}.",
        )


def test_the_first_login_by_a_link_then_by_password(box: Stores, act: Act) -> None:
    link = make_link(box.database, "ana", datetime.now(UTC))
    assert act("first_login", f"/welcome/{link}")["title"] == "Needs reply · Communicator"


def test_triage_by_keyboard(box: Stores, act: Act) -> None:
    fill(box)
    said = act("triage")
    assert said["counts"] == [6]
    assert "it leaves in" in said["approved"]
    assert said["found"] == 5
    assert sorted(said["outbox"]) == ["approved", "canceled"]
    sent = Outbox(box.database, "ana").deliveries(states=["canceled"])
    assert [row.delivery.text for row in sent] == ["Yes, at five then."]
    rejected = box.database.execute("SELECT conversation_id, why FROM draft_rejections")
    assert [row["why"] for row in rejected] == ["too formal"]
    snoozed = Inbox(box.database, "ana").conversations(view="snoozed")
    assert [row["conversation_id"] for row in snoozed] == [rejected[0]["conversation_id"]]


def test_a_new_draft_is_asked_for_and_a_category_set(
    stores: Stores, fill_chat: Fill, tmp_path: Path
) -> None:
    """On a conversation that the chain has made, with a model's server that grants every wish."""
    set_password(stores.database, "ana", PASSWORD, datetime.now(UTC))
    fill_chat(line(1, "2026-11-03T09:00:00Z", "ben", "ana: can you send me the invoice?"))
    with model_server(wishful) as model, served(stores) as found:
        config = ModelConfig(kind="openai", model="double", base_url=f"{model.url}/v1")
        keep_configuration(stores, ModelsConfig(first=config))
        run(stores)
        said = acting(found, tmp_path)("correct_and_redraft")
    assert said["first"] == "The first draft."
    assert said["second"] == "As you wish: say no politely"
    assert said["versions"] == ["As you wish: say no politely", "The first draft."]


def test_one_pane_on_a_phone_and_dark_where_that_is_liked(box: Stores, act: Act) -> None:
    fill(box)
    said = act("phone_and_dark")
    assert said["panes"] == [True, False, False, True]
    assert said["width"] == 390
    assert said["ground"] == "rgb(15, 18, 21)"


def test_news_show_by_themselves(box: Stores, act: Act) -> None:
    def come() -> None:
        say(box, "x", conversation="c9", channel="Fresh news", draft="Yes", at=datetime.now(UTC))

    assert act("news", while_open=come)["rows"] == 2


def test_another_user_sees_nothing_of_it(box: Stores, act: Act) -> None:
    fill(box)
    text = act("stranger")["text"]
    assert "Yes" not in text
    assert ACCOUNT not in text
    assert "Nothing here yet" in text


def test_no_payload_runs_or_loads_anything(box: Stores, act: Act) -> None:
    planted = plant(box)
    assert act("payloads", str(planted))["seen"] == planted > 300
