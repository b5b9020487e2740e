"""A bot against `telegram-test-api`, a server that others wrote, over a socket.

What it does differently from the real service (4.2.1, seen 2026-11):

- `getUpdates` ignores `offset`: an update is forgotten as soon as it has been given once, so what
  a kill between the answer and the landing loses cannot be seen here (our own server has it).
- Any token is taken, nothing is limited, and an error has a `message` and no `description`.
- People cannot edit or delete what they wrote, so `edited_message` never comes.
- A webhook is called without the secret header, for it is not kept: the test adds it.
- `sendMessage` answers with a `date` in milliseconds, and with what it was sent as it came.
- It has no `getChat`, `getWebhookInfo` or `getFile` (`telegram_test_api.mjs` lends it the first).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
import pytest

from communicator_pipeline.ingestion.push import drain, receive
from communicator_pipeline.platforms.contract import ACCOUNT, LiveContract
from communicator_pipeline.platforms.contract import Peer as ContractPeer
from communicator_pipeline.platforms.protocol import Part, Push, Sent, Target
from communicator_pipeline.platforms.telegram.bot_api import HEADER
from communicator_pipeline.storage import Stores
from communicator_pipeline_tests.peers.node import needs_peers, node_program

pytestmark = pytest.mark.peers

SECRET = "the-webhooks_secret-1234"
MAYA = {"id": 7, "first_name": "Maya", "username": "maya", "is_bot": False}


class Emulated:
    """The service, in which Maya writes to the bot."""

    channel_id = "7"

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token
        self.values = {
            "kind": "bot",
            "bot_token": token,
            "webhook_secret": SECRET,
            "base_url": url,
        }

    def say(self, text: str, thread: str | None = None) -> str:
        message: dict[str, Any] = {
            "botToken": self.token,
            "from": MAYA,
            "chat": {"id": 7, "type": "private", "first_name": "Maya"},
            "date": int(time.time()),
            "text": text,
        }
        if thread is not None:
            message["reply_to_message"] = {"message_id": int(thread.split(":")[1])}
        httpx.post(f"{self.url}/sendMessage", json=message).raise_for_status()
        newest = max(self.history(), key=lambda update: int(update["messageId"]))
        return f"7:{newest['messageId']}"

    def history(self) -> list[dict[str, Any]]:
        answer = httpx.post(f"{self.url}/getUpdatesHistory", json={"token": self.token})
        found: list[dict[str, Any]] = answer.json()["result"]
        return found

    def edit(self, message_id: str, text: str) -> None:
        pytest.skip("people cannot edit there")

    def delete(self, message_id: str) -> None:
        pytest.skip("Telegram does not tell bots of deletions")

    def limit(self, seconds: float) -> None:
        pytest.skip("it limits nothing")

    def revoke(self) -> None:
        pytest.skip("it takes any token")

    def spoil(self, message_id: str) -> None:
        pytest.skip("it has no broken messages")

    def pushes(self) -> Sequence[Push]:
        return ()


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    needs_peers()
    with node_program(["telegram_test_api.mjs", "{port}"]) as url:
        yield url


class TestContract(LiveContract):
    platform = "telegram"
    has_history = False
    tokens = iter(range(1_000_000))

    @pytest.fixture
    def peer(self, service: str) -> ContractPeer:
        return Emulated(service, f"666:a_bot-of-its-own-{next(self.tokens)}")

    def test_an_answer_arrives_and_its_echo_is_recognised(
        self, connected: Stores, peer: ContractPeer
    ) -> None:
        """Telegram does not show a bot what it wrote: the server itself is asked."""
        assert isinstance(peer, Emulated)
        question = peer.say("who has the key?")
        self.pull(connected)
        with self.client(connected) as client:
            target = Target(peer.channel_id, reply_to=question)
            result = client.send(target, Part("I have it"), "01b6c6f2-token-1")
        assert isinstance(result, Sent), result
        sent = [u for u in peer.history() if f"7:{u['messageId']}" == result.message_id]
        assert [update["message"]["text"] for update in sent] == ["I have it"]

    def test_what_its_webhook_brings_lands_once(
        self, connected: Stores, peer: ContractPeer
    ) -> None:
        assert isinstance(peer, Emulated)
        received: list[bytes] = []

        class Endpoint(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        endpoint = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
        Thread(target=endpoint.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{endpoint.server_address[1]}/push/telegram/{ACCOUNT}"
        httpx.post(f"{peer.url}/bot{peer.token}/setWebhook", json={"url": address})
        text = json.dumps({"botToken": peer.token, "from": MAYA, "text": "pushed"})
        message = json.loads(text) | {
            "chat": {"id": 7, "type": "private", "first_name": "Maya"},
            "date": int(time.time()),
        }
        httpx.post(f"{peer.url}/sendMessage", json=message).raise_for_status()
        deadline = time.monotonic() + 10
        while not received and time.monotonic() < deadline:
            time.sleep(0.01)
        endpoint.shutdown()
        endpoint.server_close()
        [body] = received
        for _ in range(2):
            push = Push("POST", {HEADER: SECRET}, {}, body)
            assert receive(connected, "telegram", ACCOUNT, push).status == 200
        assert drain(connected).landed == 1
        [row] = self.messages(connected).values()
        assert row["text"] == "pushed"
