"""Any other system: what it pushes comes in, and replies reach it signed, over a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from communicator_pipeline.ingestion.connecting import add_account, change_setting, identity_of
from communicator_pipeline.ingestion.pull import fetch_missing, pull_new
from communicator_pipeline.platforms import live_side
from communicator_pipeline.platforms.generic.live import GenericLive
from communicator_pipeline.platforms.protocol import (
    Connection,
    Field,
    Part,
    Refused,
    SendResult,
    Sent,
    Target,
    Unknown,
    Window,
)
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import load_account
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.dead_letters import DeadLetter

ACCOUNT = "ana-crm"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver:
    """The other system: verifies a reply as Standard Webhooks says, and knows repeats by its id."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.replies: dict[str, dict[str, Any]] = {}
        self.requests = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests += 1
                reply = Webhook(SECRET).verify(
                    body, {k.lower(): v for k, v in self.headers.items()}
                )
                if receiver.status == 0:  # the answer is lost
                    self.connection.close()
                    return
                if receiver.status == 200:
                    receiver.replies.setdefault(self.headers["webhook-id"], reply)
                answer = json.dumps({"id": f"r{len(receiver.replies)}"}).encode()
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/replies"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture
def connected(stores: Stores, receiver: Receiver) -> Stores:
    values = {"me": "ana", "name": "crm", "reply_url": receiver.url, "reply_secret": SECRET}
    add_account(stores, "ana", ACCOUNT, "generic", values, lambda field: "")
    return stores


def send(stores: Stores, token: str = "d-1", text: str = "on its way") -> SendResult:
    connection = Connections(stores).load(ACCOUNT)
    with live_side("generic").connect(connection) as client:
        target = Target("c1", thread_id="c1:m1", reply_to="c1:m2")
        return client.send(target, Part(text, 1, 2), token)


def test_a_reply_carries_the_deliverys_id_and_where_it_belongs(
    connected: Stores, receiver: Receiver
) -> None:
    assert send(connected) == Sent("c1:r1")
    assert receiver.replies["d-1"] == {
        "type": "reply",
        "delivery_id": "d-1",
        "account": ACCOUNT,
        "channel": "c1",
        "thread_id": "m1",
        "reply_to": "m2",
        "text": "on its way",
        "part": 1,
        "parts": 2,
    }


def test_the_same_delivery_again_is_known_by_its_id(connected: Stores, receiver: Receiver) -> None:
    assert send(connected) == send(connected)
    assert len(receiver.replies) == 1
    assert receiver.requests == 2
    assert live_side("generic").promise(Connections(connected).load(ACCOUNT)).repeats


@pytest.mark.parametrize(
    ("status", "kind", "later"),
    [
        (0, Unknown, False),
        (500, Unknown, False),
        (503, Unknown, False),
        (408, Unknown, False),
        (400, Refused, False),
        (401, Refused, False),
        (410, Refused, False),
        (429, Refused, True),
    ],
)
def test_each_answer_is_understood_and_asked_for_once(
    connected: Stores,
    receiver: Receiver,
    status: int,
    kind: type[SendResult],
    later: bool,
) -> None:
    receiver.status, receiver.headers = status, {"retry-after": "30"}
    result = send(connected)
    assert isinstance(result, kind), result
    assert receiver.requests == 1
    if isinstance(result, Refused):
        assert (result.not_before is not None) == later
        if result.not_before:
            left = result.not_before - datetime.now(UTC)
            assert timedelta(seconds=25) < left <= timedelta(seconds=30)


def test_a_receiver_that_is_not_there_was_sent_nothing(
    connected: Stores, receiver: Receiver
) -> None:
    receiver.close()
    result = send(connected)
    assert isinstance(result, Refused)
    assert result.not_before is not None


def test_an_account_without_an_address_says_how_to_give_it_one(stores: Stores) -> None:
    add_account(stores, "ana", ACCOUNT, "generic", {"me": "ana"}, lambda field: "")
    result = send(stores)
    assert isinstance(result, Refused)
    assert f"communicator accounts set {ACCOUNT} reply_url" in result.reason
    assert (
        "send: give it a reply_url"
        in identity_of(stores, load_account(stores.database, ACCOUNT)).cannot
    )


def test_what_is_made_is_shown_once_and_kept_hashed(stores: Stores, receiver: Receiver) -> None:
    shown: list[Field] = []

    def ask(field: Field) -> str:
        shown.append(field)
        return ""

    values = {"me": "ana", "reply_url": receiver.url}
    add_account(stores, "ana", ACCOUNT, "generic", values, ask)
    words = " ".join(field.words for field in shown)
    assert "The push key is" in words
    assert "whsec_" in words
    kept = Connections(stores).load(ACCOUNT).secrets
    assert kept["push_key"].startswith("sha256:")
    assert kept["push_key"].removeprefix("sha256:") not in words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"push_key": "short"}, "20 characters or more"),
        ({"reply_url": "http://example.com/x"}, "should begin with https"),
        ({"reply_url": "https://example.com", "reply_secret": "whsec_%"}, "should be whsec_"),
    ],
)
def test_a_login_that_cannot_work_is_refused_in_words(
    stores: Stores, values: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        add_account(stores, "ana", ACCOUNT, "generic", {"me": "ana", **values}, lambda f: "")


def test_it_cannot_be_pulled_and_is_not_asked_again_and_again(connected: Stores) -> None:
    assert pull_new(connected, ACCOUNT).state == "not supported"
    connections = Connections(connected)
    assert connections.due(datetime.now(UTC) + timedelta(hours=23)) == []
    assert connections.health(ACCOUNT).trouble_kind == ""
    window = Window(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC))
    reports = fetch_missing(connected, ACCOUNT, window, lambda until: False)
    assert [report.state for report in reports] == ["not supported"]


def test_a_reply_url_that_is_set_later_has_a_secret_to_sign_with(
    stores: Stores,
) -> None:
    told: list[str] = []
    account = add_account(
        stores, "ana", ACCOUNT, "generic", {"me": "ana"}, lambda f: told.append(f.words) or ""
    ).account
    assert "Replies are signed with whsec_" in told[-1]
    change_setting(stores, account, "reply_url", "http://127.0.0.1:1/nobody-listens")
    signed = send(stores)
    assert isinstance(signed, Refused)
    assert "could not be reached" in signed.reason
    kept = Connections(stores).load(ACCOUNT)
    secrets = {**kept.secrets, "reply_secret": ""}  # made before there was always one
    Connections(stores).save(ACCOUNT, kept.settings, secrets, timedelta(days=1), datetime.now(UTC))
    refused = send(stores)
    assert isinstance(refused, Refused)
    assert f"accounts login {ACCOUNT}" in refused.reason


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_whatever_is_pushed_is_read_or_becomes_dead_letters(body: bytes) -> None:
    connection = Connection(ACCOUNT, frozenset(), {}, {})
    records = list(GenericLive().events(body, connection))
    assert all(isinstance(record, DeadLetter) for record in records)
    assert all(record.stage == "push" for record in records if isinstance(record, DeadLetter))


def test_a_version_of_the_format_that_is_not_ours_is_a_dead_letter() -> None:
    connection = Connection(ACCOUNT, frozenset(), {}, {})
    (letter,) = GenericLive().events(b'{"communicator_jsonl": 9}', connection)
    assert isinstance(letter, DeadLetter)
    assert "update it" in letter.reason
