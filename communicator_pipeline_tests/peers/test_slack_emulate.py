"""Slack's live side against `emulate`'s Slack, a server that others wrote, over a socket.

What it does differently from the real service (0.12.2, seen 2026-11):

- `conversations.history` ignores `oldest`, `latest` and `inclusive`; `conversations.replies`
  ignores these and `limit`. So a second question for one message finds others, and a deletion is
  never believed when it is pulled: it comes by push here.
- A parent has `reply_count`, and neither `thread_ts` nor `latest_reply`. A deleted parent leaves no
  tombstone.
- It has no `users.conversations` (`slack_emulate.mjs` lends it one, which lists channels that the
  account is not in) and sends no `x-oauth-scopes`.
- Events have no `channel_type`, no `authorizations` and, on new messages, no `event_ts`; a reply
  with `reply_broadcast` is not told apart.
- Nothing is ever limited, and a token that it does not know passes for somebody: limits, dead
  tokens and broken messages are tested against our own server (`platforms/slack_server.py`).
- `metadata` is shown whether or not `include_all_metadata` asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import Request, urlopen

import pytest
from slack_sdk import WebClient

from communicator_pipeline.platforms import live_side
from communicator_pipeline.platforms.contract import ACCOUNT, LiveContract
from communicator_pipeline.platforms.contract import Peer as ContractPeer
from communicator_pipeline.platforms.protocol import Part, Push, Sent, Target
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline_tests.peers.node import needs_peers, node_program

pytestmark = pytest.mark.peers

SIGNING_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
ANA, BEA = "xoxb-ana-is-here", "xoxb-bea-is-here"
SEED: dict[str, Any] = {
    "slack": {
        "signing_secret": SIGNING_SECRET,
        "team": {"name": "Harbour", "domain": "harbour"},
        "users": [{"name": "ana", "real_name": "Ana"}, {"name": "bea", "real_name": "Bea"}],
        "channels": [{"name": "boats"}],
        "tokens": [{"token": ANA, "user": "ana"}, {"token": BEA, "user": "bea"}],
    }
}


class Emulated:
    """The workspace, with Bea in it."""

    def __init__(self, url: str, received: list[Push]) -> None:
        self.url, self.received = url, received
        self.values = {
            "token": ANA,
            "signing_secret": SIGNING_SECRET,
            "base_url": f"{url}/api/",
        }
        self.bea = WebClient(BEA, base_url=f"{url}/api/", retry_handlers=[])
        ana = WebClient(ANA, base_url=f"{url}/api/", retry_handlers=[])
        listed: Any = ana.conversations_list()["channels"]
        self.channel_id = str(next(c["id"] for c in listed if c["name"] == "boats"))
        for member in (ana, self.bea):
            member.conversations_join(channel=self.channel_id)
        self.received.clear()

    def say(self, text: str, thread: str | None = None) -> str:
        thread_ts = thread.split(":")[1] if thread else None
        said = self.bea.chat_postMessage(channel=self.channel_id, text=text, thread_ts=thread_ts)
        return f"{self.channel_id}:{said['ts']}"

    def edit(self, message_id: str, text: str) -> None:
        channel, ts = message_id.split(":")
        self.bea.chat_update(channel=channel, ts=ts, text=text)

    def delete(self, message_id: str) -> None:
        channel, ts = message_id.split(":")
        self.bea.chat_delete(channel=channel, ts=ts)

    def limit(self, seconds: float) -> None:
        pytest.skip("emulate limits nothing")

    def revoke(self) -> None:
        pytest.skip("emulate takes any token")

    def spoil(self, message_id: str) -> None:
        pytest.skip("emulate has no broken messages")

    def pushes(self) -> Sequence[Push]:
        """Its events arrive before its answer does, so nothing has to be waited for."""
        pushed = list(self.received)
        self.received.clear()
        return pushed


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    needs_peers()
    received: list[Push] = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            received.append(Push("POST", headers, {}, body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    endpoint = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    Thread(target=endpoint.serve_forever, args=(0.01,), daemon=True).start()
    seed: Path = tmp_path_factory.mktemp("emulate") / "seed.json"
    seed.write_text(json.dumps(SEED))
    events = f"http://127.0.0.1:{endpoint.server_address[1]}/push/slack/{ACCOUNT}"
    with node_program(["slack_emulate.mjs", "{port}", str(seed), events]) as url:
        yield Emulated(url, received)
    endpoint.shutdown()
    endpoint.server_close()


class TestContract(LiveContract):
    platform = "slack"
    sees_deletions_when_pulled = False  # the real service and our own server: they are seen

    @pytest.fixture
    def peer(self, emulated: Emulated) -> ContractPeer:
        emulated.received.clear()
        return emulated

    def test_the_same_message_pulled_and_pushed_is_one_version(
        self, connected: Stores, peer: ContractPeer
    ) -> None:
        said = peer.say("see <https://a.example|this> & that")
        connection = Connections(connected).load(ACCOUNT)
        pushed = list(live_side("slack").events(peer.pushes()[0].body, connection))
        assert [record.message_id for record in pushed] == [said]  # type: ignore[union-attr]
        assert self.pull(connected).kept >= 1
        rows = [row for row in self.rows(connected) if row["message_id"] == said]
        assert [row["text"] for row in rows] == ["see this (https://a.example) & that"]

    def test_a_file_is_fetched_with_the_token(
        self, connected: Stores, emulated: Emulated, peer: ContractPeer
    ) -> None:
        content = b"%PDF a timetable"
        upload: Any = emulated.bea.files_getUploadURLExternal(
            filename="timetable.pdf", length=len(content)
        )
        with urlopen(Request(upload["upload_url"], data=content, method="POST"), timeout=10):
            pass
        emulated.bea.files_completeUploadExternal(
            files=[{"id": upload["file_id"], "title": "timetable.pdf"}],
            channel_id=emulated.channel_id,
        )
        self.pull(connected)
        files = [f for row in self.messages(connected).values() for f in row["attachments"]]
        (file,) = [f for f in files if f["name"] == "timetable.pdf"]
        with self.client(connected) as client:
            assert client.download(file["url"], 1_000) == content

    def test_a_send_is_found_by_its_mark(self, connected: Stores, peer: ContractPeer) -> None:
        root = peer.say("who has the key?")
        target = Target(peer.channel_id, root, root)
        began = datetime.now(UTC)
        with self.client(connected) as client:
            sent = client.send(target, Part("1 < 2", 1, 2), "01b6-delivery")
            assert isinstance(sent, Sent)
            assert client.find_sent(target, Part("1 < 2", 1, 2), "01b6-delivery", began) == sent
            missed = client.find_sent(target, Part("1 < 2", 2, 2), "01b6-delivery", began)
        assert type(missed).__name__ == "Absent"
