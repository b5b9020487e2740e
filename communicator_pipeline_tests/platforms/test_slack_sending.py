"""Slack: replies leave once, are found again, and files come only from Slack."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from communicator_pipeline.platforms import live_side
from communicator_pipeline.platforms.protocol import (
    Absent,
    CannotTell,
    Connection,
    Part,
    Refused,
    Sent,
    Target,
    Unknown,
    Unreachable,
    Wait,
)
from communicator_pipeline.platforms.slack.normalise import plain_text
from communicator_pipeline.platforms.slack.sending import escaped
from communicator_pipeline_tests.platforms.slack_polling import Poll, client
from communicator_pipeline_tests.platforms.slack_server import (
    ALL_SCOPES,
    BEA,
    DIRECT,
    GENERAL,
    TOKEN,
    SlackServer,
)

DELIVERY = "01j-delivery-1"
HERE = Target(GENERAL)


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with SlackServer() as server:
        yield server


def posts(slack: SlackServer) -> list[Any]:
    return [arguments for method, arguments in slack.calls if method == "chat.postMessage"]


def now() -> datetime:
    return datetime.now(UTC)


# --- sending


def test_a_reply_goes_into_its_thread_with_the_token_and_without_previews(
    slack: SlackServer,
) -> None:
    root = slack.add_message("who?")
    target = Target(GENERAL, f"{GENERAL}:{root}", f"{GENERAL}:{root}")
    sent = client(slack).send(target, Part("me"), DELIVERY)
    assert isinstance(sent, Sent)
    stored = slack.find(GENERAL, sent.message_id.split(":")[1])
    assert stored["thread_ts"] == root
    assert stored["metadata"]["event_payload"] == {"delivery": DELIVERY, "part": 1}
    assert posts(slack)[0]["unfurl_links"] is False
    assert posts(slack)[0]["unfurl_media"] is False
    assert sent.sent_at is not None


def test_a_direct_message_is_answered_outside_of_threads(slack: SlackServer) -> None:
    slack.add_channel(DIRECT, BEA, "im")
    sent = client(slack).send(Target(DIRECT), Part("hi"), DELIVERY)
    assert isinstance(sent, Sent)
    assert sent.message_id.startswith(DIRECT + ":")
    assert "thread_ts" not in posts(slack)[0]


@pytest.mark.parametrize("thread", ["C0OTHER:1793707200.000100", f"{GENERAL}:now", "x"])
def test_a_thread_that_is_none_of_the_channel_is_refused(slack: SlackServer, thread: str) -> None:
    assert isinstance(client(slack).send(Target(GENERAL, thread), Part("x"), DELIVERY), Refused)
    assert posts(slack) == []


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("1 < 2 && 3 > 2", "1 &lt; 2 &amp;&amp; 3 &gt; 2"),
        ("<@U0BEA> see <#C0GENERAL>", "<@U0BEA> see <#C0GENERAL>"),
        ("<!channel> <!here>", "&lt;!channel&gt; &lt;!here&gt;"),
        (
            "<https://evil.example|https://bank.example>",
            "&lt;https://evil.example|https://bank.example&gt;",
        ),
        ("&lt; stays what it is", "&amp;lt; stays what it is"),
    ],
)
def test_what_is_written_arrives_as_it_was_written(text: str, wire: str) -> None:
    assert escaped(text) == wire


@given(st.text())
def test_whatever_is_sent_is_read_back_as_the_same_text(text: str) -> None:
    assert plain_text(escaped(text), []) == text


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ({"ok": False, "error": "channel_not_found"}, Refused),
        ({"ok": False, "error": "not_in_channel"}, Refused),
        ({"ok": False, "error": "is_archived"}, Refused),
        ({"ok": False, "error": "msg_too_long"}, Refused),
        ({"ok": False, "error": "restricted_action"}, Refused),
        ({"ok": False, "error": "missing_scope", "needed": "chat:write"}, Refused),
        ({"ok": False, "error": "something_new"}, Refused),
        ({"ok": False, "error": "invalid_auth"}, Refused),
        ((400, b"bad request"), Refused),
        ({"ok": False, "error": "internal_error"}, Unknown),
        ({"ok": False, "error": "fatal_error"}, Unknown),
        ({"ok": False, "error": "request_timeout"}, Unknown),
        ((500, b"oops"), Unknown),
        ((503, b"<html>"), Unknown),
        ((200, b"<html>a proxy's page</html>"), Unknown),
        ((200, b"{"), Unknown),
        ({"ok": True}, Unknown),
        ({"ok": True, "channel": GENERAL, "ts": 1.5}, Unknown),
    ],
)
def test_an_answer_to_a_post_is_sorted_into_no_and_perhaps(
    slack: SlackServer, answer: Any, result: type
) -> None:
    slack.before = lambda method, _: answer if method == "chat.postMessage" else None
    got = client(slack).send(HERE, Part("x"), DELIVERY)
    assert type(got) is result
    assert got.reason
    assert TOKEN not in got.reason
    assert len(posts(slack)) == 1  # never twice, whatever came


def test_a_limit_is_a_no_for_now(slack: SlackServer) -> None:
    connected = client(slack)
    slack.limits["chat.postMessage"] = time.monotonic() + 20
    got = connected.send(HERE, Part("x"), DELIVERY)
    assert isinstance(got, Refused)
    assert got.not_before is not None
    assert got.not_before > now() + timedelta(seconds=15)


def test_a_lost_answer_is_unknown_and_posted_once(slack: SlackServer) -> None:
    slack.lost["chat.postMessage"] = 1
    connected = client(slack)
    began = now()
    assert isinstance(connected.send(HERE, Part("x"), DELIVERY), Unknown)
    assert len(posts(slack)) == 1
    found = connected.find_sent(HERE, Part("x"), DELIVERY, began)
    assert isinstance(found, Sent)
    assert found.message_id == f"{GENERAL}:{slack.messages[GENERAL][0]['ts']}"


def test_where_nobody_listens_nothing_was_sent(slack: SlackServer) -> None:
    connected = client(slack)
    slack._server.shutdown()
    slack._server.server_close()
    got = connected.send(HERE, Part("x"), DELIVERY)
    assert isinstance(got, Refused)
    assert got.not_before is not None


def test_the_promise_is_slacks(slack: SlackServer) -> None:
    promise = live_side("slack").promise(Connection("", frozenset(), {}, {}))
    assert (promise.repeats, promise.looks_up) == (False, True)
    assert promise.longest == 4_000


# --- looking for what was sent


def test_the_look_reads_all_pages_and_the_thread(slack: SlackServer) -> None:
    slack.page = 3
    root = slack.add_message("who?")
    target = Target(GENERAL, f"{GENERAL}:{root}")
    connected = client(slack)
    began = now()
    sent = connected.send(target, Part("me", 2, 2), DELIVERY)
    assert isinstance(sent, Sent)
    for n in range(10):
        slack.add_message(str(n), thread_ts=root)
    for _ in range(3):
        slack.add_message("me", thread_ts=root, user="U0ANA")
    assert connected.find_sent(target, Part("me", 2, 2), DELIVERY, began) == sent
    # Another part of the delivery, another delivery, another place: not sent.
    assert connected.find_sent(target, Part("me", 1, 2), DELIVERY, began) == Absent()
    assert connected.find_sent(target, Part("me", 2, 2), "other", began) == Absent()
    assert connected.find_sent(HERE, Part("me", 2, 2), DELIVERY, began) == Absent()
    assert all(a["include_all_metadata"] == "1" for a in slack.asked("conversations.replies"))


def test_a_post_before_the_attempt_is_not_taken_for_it(slack: SlackServer) -> None:
    connected = client(slack)
    assert isinstance(connected.send(HERE, Part("x"), DELIVERY), Sent)
    late = now() + timedelta(minutes=5)
    assert connected.find_sent(HERE, Part("x"), DELIVERY, late) == Absent()
    # Clocks differ: two minutes before counts.
    soon = now() + timedelta(seconds=100)
    assert isinstance(connected.find_sent(HERE, Part("x"), DELIVERY, soon), Sent)


def test_an_incomplete_look_proves_nothing(slack: SlackServer) -> None:
    slack.page = 2
    for n in range(6):
        slack.add_message(str(n))
    connected = client(slack)
    second = {"ok": True, "messages": [], "has_more": True}
    slack.before = lambda method, a: second if a.get("cursor") else None
    assert isinstance(connected.find_sent(HERE, Part("x"), DELIVERY, now()), CannotTell)
    slack.before = lambda method, a: {"ok": False, "error": "not_in_channel"}
    assert isinstance(connected.find_sent(HERE, Part("x"), DELIVERY, now()), CannotTell)
    slack.before = lambda method, a: (429, 7) if a.get("cursor") else None
    with pytest.raises(Wait):
        connected.find_sent(HERE, Part("x"), DELIVERY, now())
    slack.before = lambda method, a: (503, b"")
    with pytest.raises(Unreachable):
        connected.find_sent(HERE, Part("x"), DELIVERY, now())


def test_the_echo_is_the_same_message(slack: SlackServer) -> None:
    poll = Poll(slack)
    sent = client(slack).send(HERE, Part("1 < 2 <@U0BEA>"), DELIVERY)
    assert isinstance(sent, Sent)
    poll.pull()
    row = poll.rows()[0]
    assert row["message_id"] == sent.message_id
    assert row["text"] == "1 < 2 <@U0BEA>"
    assert row["mentions"] == ["U0BEA"]


# --- files


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """Another host: its address, and the tokens that it was shown."""
    shown: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers.get("authorization", ""))
            self.send_response(200)
            self.send_header("content-length", "4")
            self.end_headers()
            self.wfile.write(b"evil")

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/x.pdf", shown
    server.shutdown()
    server.server_close()


def test_a_file_is_fetched_with_the_token(slack: SlackServer) -> None:
    file = slack.add_file("a.pdf", b"%PDF content")
    assert client(slack).download(file["url_private"], 100) == b"%PDF content"


def test_a_file_that_is_too_large_is_left(slack: SlackServer) -> None:
    file = slack.add_file("a.bin", b"x" * 1000, "application/octet-stream")
    with pytest.raises(ValueError, match="more than 999 bytes"):
        client(slack).download(file["url_private"], 999)
    assert len(client(slack).download(file["url_private"], 1000)) == 1000


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/a.pdf",
        "https://slack.com.evil.example/a.pdf",
        "https://evilslack.com/a.pdf",
        "http://files.slack.com/a.pdf",
        "https://files.slack.com:8443/a.pdf",
        "https://user@evil.example/files.slack.com",
        "file:///etc/passwd",
        "http://169.254.169.254/latest",
        "https://[broken",
        "",
    ],
)
def test_other_hosts_are_not_even_asked(slack: SlackServer, url: str) -> None:
    with pytest.raises(FileNotFoundError):
        client(slack).download(url, 100)


def test_a_redirect_does_not_take_the_token_along(
    slack: SlackServer, elsewhere: tuple[str, list[str]]
) -> None:
    file = slack.add_file("a.pdf", b"good")
    connected = client(slack)
    slack.before = lambda method, _: (
        (302, b"", "text/plain", {"location": elsewhere[0]}) if method.startswith("GET") else None
    )
    with pytest.raises(FileNotFoundError, match="outside of Slack"):
        connected.download(file["url_private"], 100)
    assert elsewhere[1] == []


def test_a_redirect_within_slack_is_followed_and_a_circle_is_not(slack: SlackServer) -> None:
    first, second = slack.add_file("a.pdf", b"first"), slack.add_file("b.pdf", b"second")
    connected = client(slack)
    to = {"location": second["url_private"]}
    slack.before = lambda method, _: (
        (302, b"", "text/plain", to) if method.endswith("a.pdf") else None
    )
    assert connected.download(first["url_private"], 100) == b"second"
    slack.before = lambda method, _: (302, b"", "text/plain", {"location": "#"})
    with pytest.raises(FileNotFoundError, match="to and fro"):
        connected.download(first["url_private"], 100)


def test_the_login_page_is_not_the_file(slack: SlackServer) -> None:
    slack.scopes = ALL_SCOPES.replace("files:read,", "")
    file = slack.add_file("a.pdf", b"content")
    with pytest.raises(FileNotFoundError, match="files:read"):
        client(slack).download(file["url_private"], 10_000)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, FileNotFoundError),
        (403, FileNotFoundError),
        (410, FileNotFoundError),
        (429, Wait),
        (500, Unreachable),
        (503, Unreachable),
    ],
)
def test_what_a_files_status_means(slack: SlackServer, status: int, error: type[Exception]) -> None:
    file = slack.add_file("a.pdf", b"content")
    connected = client(slack)
    slack.before = lambda method, _: (status, b"", "text/plain", {"retry-after": "9"})
    with pytest.raises(error) as raised:
        connected.download(file["url_private"], 100)
    assert TOKEN not in str(raised.value)
    assert json.dumps(str(raised.value))
