"""The sandbox keeps the contract in each of its modes, and goes wrong exactly as it is told to.

Everything goes over a real socket. Where a test says that a message was stored once, the chat's
file says so, not the client.
"""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from communicator_pipeline.cli import sandbox as commands
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.ingestion.pull import pull_new
from communicator_pipeline.platforms.contract import LiveContract, Peer
from communicator_pipeline.platforms.protocol import (
    Absent,
    CannotTell,
    Connection,
    Field,
    LoginNeeded,
    NotSupported,
    Part,
    PullRequest,
    Push,
    Refused,
    SendResult,
    Sent,
    Target,
    Unknown,
    Unreachable,
    Wait,
)
from communicator_pipeline.platforms.sandbox import PLATFORM
from communicator_pipeline.platforms.sandbox import live as sandbox_live
from communicator_pipeline.platforms.sandbox.chat import FILE, LONGEST, Chat
from communicator_pipeline.platforms.sandbox.faults import KINDS, NOT_STORED, Fault
from communicator_pipeline.platforms.sandbox.live import MODES, read_event
from communicator_pipeline.platforms.sandbox.server import SandboxServer
from communicator_pipeline.storage import Stores, home
from communicator_pipeline.storage.dead_letters import DeadLetter

LIVE = PLATFORM.live
assert LIVE is not None

KILLS = 20


class SandboxPeer:
    """The sandbox with somebody else in it."""

    channel_id = "harbour"

    def __init__(self, server: SandboxServer, mode: str) -> None:
        self._chat = server.chat
        self.values = server.values(mode)

    def say(self, text: str, thread: str | None = None) -> str:
        return self._chat.say(text, chat=None if thread else "Harbour", thread=thread).message_id

    def edit(self, message_id: str, text: str) -> None:
        self._chat.edit(text, message_id)

    def delete(self, message_id: str) -> None:
        self._chat.delete(message_id)

    def limit(self, seconds: float) -> None:
        self._chat.faults.clear("limit")
        if seconds:
            self._chat.faults.add(Fault("limit", None, seconds=seconds, everywhere=True))

    def revoke(self) -> None:
        self._chat.renew_token()

    def spoil(self, message_id: str) -> None:
        number = int(message_id.rpartition(":")[2])
        spoilt = "UPDATE events SET text = NULL WHERE message = ?"
        self._chat.database.execute(spoilt, (number,))

    def pushes(self) -> Sequence[Push]:
        return []


class Contract(LiveContract):
    platform = "sandbox"
    mode: str

    @pytest.fixture
    def peer(self, tmp_path: Path) -> Iterator[Peer]:
        with SandboxServer(tmp_path / FILE) as server:
            yield SandboxPeer(server, self.mode)


class TestWithKeys(Contract):
    mode = "key"


class TestWithLookUp(Contract):
    mode = "lookup"


class TestWithNeither(Contract):
    mode = "neither"


del Contract, LiveContract


# --- what the other tests are made of


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SandboxServer]:
    with SandboxServer(tmp_path / FILE) as running:
        running.chat.say("who has the key?", chat="Harbour")
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_live, "TIMEOUT", httpx.Timeout(0.3))


def connection(server: SandboxServer, mode: str = "key", name: str = "you") -> Connection:
    values = server.values(mode, name)
    token = values.pop("token")
    return Connection("ana-sandbox", frozenset({name}), values, {"token": token})


def send(
    server: SandboxServer,
    token: str = "t1",
    text: str = "I have it",
    mode: str = "key",
    channel: str = "harbour",
) -> SendResult:
    with LIVE.connect(connection(server, mode)) as client:
        return client.send(Target(channel), Part(text), token)


def stored(server: SandboxServer, text: str = "I have it") -> int:
    """How often the others have got this text."""
    return sum(line.text == text for line in server.chat.lines(last=10_000))


def outcomes(server: SandboxServer) -> list[tuple[str, str]]:
    return [(arrival.fault, arrival.outcome) for arrival in server.chat.arrivals()]


# --- sending


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_promises_what_it_keeps(server: SandboxServer, mode: str) -> None:
    promise = LIVE.promise(connection(server, mode))
    assert (promise.repeats, promise.looks_up) == (mode == "key", mode == "lookup")
    first, second = send(server, mode=mode), send(server, mode=mode)
    assert isinstance(first, Sent)
    assert isinstance(second, Sent)
    assert (first.message_id == second.message_id) is promise.repeats
    assert stored(server) == (1 if promise.repeats else 2)
    again = "repeated" if promise.repeats else "stored"
    assert outcomes(server) == [("", "stored"), ("", again)]


@pytest.mark.parametrize("mode", MODES)
def test_a_look_up_finds_what_was_sent_and_proves_what_was_not(
    server: SandboxServer, mode: str
) -> None:
    since = datetime.now(UTC)
    target, part = Target("harbour"), Part("I have it")
    sent = send(server, mode=mode)
    with LIVE.connect(connection(server, mode)) as client:
        found = client.find_sent(target, part, "t1", since)
        missing = client.find_sent(target, part, "t2", since)
    if mode == "lookup":
        assert found == sent
        assert missing == Absent()
    else:
        assert isinstance(found, CannotTell)
        assert isinstance(missing, CannotTell)


def test_the_parts_of_a_long_reply_are_deliveries_of_their_own(server: SandboxServer) -> None:
    for mode in ("key", "lookup"):
        with LIVE.connect(connection(server, mode)) as client:
            for number in (1, 2, 1):
                client.send(Target("harbour"), Part(f"{mode} {number}", number, 2), "t1")
    assert stored(server, "key 1") == stored(server, "key 2") == 1
    assert stored(server, "lookup 1") == 2
    assert {a.send.delivery for a in server.chat.arrivals()} == {"t1.1", "t1.2"}


def test_a_key_is_its_authors_own(server: SandboxServer) -> None:
    for name in ("you", "Анна"):
        with LIVE.connect(connection(server, name=name)) as client:
            assert client.identity().name == name
            assert isinstance(client.send(Target("harbour"), Part("I have it"), "t1"), Sent)
    assert [line.author_name for line in server.chat.lines() if line.yours] == ["you", "Анна"]


def test_what_the_service_cannot_take_is_refused(server: SandboxServer) -> None:
    root = server.chat.say("elsewhere", chat="Yard").message_id
    with LIVE.connect(connection(server)) as client:
        for target, text in (
            (Target("nowhere"), "I have it"),
            (Target("harbour", thread_id=root), "I have it"),
            (Target("harbour", reply_to="harbour:999"), "I have it"),
            (Target("harbour"), " "),
            (Target("harbour"), "x" * (LONGEST + 1)),
            (Target("harbour"), "half \ud83d"),
        ):
            result = client.send(target, Part(text), "t1")
            assert isinstance(result, Refused), (target, result)
            assert result.not_before is None
    assert {outcome for _, outcome in outcomes(server)} == {"not stored"}


def test_what_nobody_listens_to_may_be_sent_again_soon(tmp_path: Path) -> None:
    server = SandboxServer(tmp_path / FILE)
    result = send(server)
    assert isinstance(result, Refused)
    assert result.not_before is not None
    assert result.not_before < datetime.now(UTC) + timedelta(seconds=2)
    assert "communicator sandbox serve" in result.reason


# --- faults

STORED_AND_LOST = ("reset", "truncate", "error", "timeout")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", STORED_AND_LOST)
@pytest.mark.usefixtures("impatient")
def test_an_answer_that_is_lost_leaves_it_unknown_and_the_message_there(
    server: SandboxServer, mode: str, kind: str
) -> None:
    server.chat.faults.add(Fault(kind))
    assert isinstance(send(server, mode=mode), Unknown)
    assert stored(server) == 1
    assert outcomes(server) == [(kind, "stored")]
    assert isinstance(send(server, "t2", "next", mode), Sent)


@pytest.mark.parametrize("kind", ["refuse", "fail"])
def test_a_send_that_breaks_before_it_is_stored_is_unknown_too(
    server: SandboxServer, kind: str
) -> None:
    server.chat.faults.add(Fault(kind))
    assert isinstance(send(server), Unknown)
    assert stored(server) == 0
    assert outcomes(server) == [(kind, "not stored")]
    assert isinstance(send(server), Sent)


def test_a_limit_says_when_and_a_dead_token_what_to_do(server: SandboxServer) -> None:
    server.chat.faults.add(Fault("limit", seconds=7), Fault("unauthorised"))
    limited, dead = send(server), send(server)
    assert isinstance(limited, Refused)
    assert limited.not_before is not None
    wait = limited.not_before - datetime.now(UTC)
    assert timedelta(seconds=5) < wait <= timedelta(seconds=7)
    assert isinstance(dead, Refused)
    assert "log in" in dead.reason
    assert stored(server) == 0


def test_every_byte_of_a_request_can_be_the_last_one_that_is_read(server: SandboxServer) -> None:
    for at in (0, 1, 20, 150, 200, 300, 400, 10_000):
        server.chat.faults.add(Fault("refuse", at=at))
        assert isinstance(send(server, f"t{at}"), Unknown), at
    assert stored(server) == 0
    assert outcomes(server) == [("refuse", "not stored")] * 8
    assert server.chat.arrivals()[0].send.delivery == "t0"


@pytest.mark.parametrize("kind", ["reset", "truncate", "timeout"])
@pytest.mark.usefixtures("impatient")
def test_every_byte_of_an_answer_can_be_the_last_one(server: SandboxServer, kind: str) -> None:
    whole = 10_000
    for at in (0, 1, 12, 17, 60, 100, 130, whole):
        server.chat.faults.add(Fault(kind, at=at))
        result = send(server, f"t{at}")
        assert isinstance(result, Sent if at == whole else Unknown), (at, result)
    assert outcomes(server) == [(kind, "stored")] * 8


@pytest.mark.parametrize("kind", ["slow", "late"])
def test_a_slow_answer_is_one(server: SandboxServer, kind: str) -> None:
    server.chat.faults.add(Fault(kind, seconds=0.2))
    began = time.monotonic()
    assert isinstance(send(server), Sent)
    assert time.monotonic() - began >= 0.2


@pytest.mark.usefixtures("impatient")
def test_a_request_may_be_carried_out_when_its_sender_has_long_given_up(
    server: SandboxServer,
) -> None:
    """Why a look-up has to wait for a quiet period: it would find nothing here."""
    server.chat.faults.add(Fault("late", seconds=0.6))
    assert isinstance(send(server, mode="lookup"), Unknown)
    assert stored(server) == 0
    server.wait_until_idle()
    assert stored(server) == 1


def test_a_request_that_never_ends_is_under_way(server: SandboxServer) -> None:
    server.chat.faults.add(Fault("timeout"))
    waiting = threading.Thread(target=send, args=(server,))
    waiting.start()
    while not server.chat.arrivals():
        time.sleep(0.005)
    with pytest.raises(TimeoutError):
        server.wait_until_idle(0.1)
    server.stop()
    waiting.join()


def test_faults_are_a_plan_request_by_request(server: SandboxServer) -> None:
    plan = ("pass", "reset", "pass", "fail", "pass")
    server.chat.faults.add(*(Fault(kind) for kind in plan))
    results = [type(send(server, f"t{n}")).__name__ for n in range(6)]
    assert results == ["Sent", "Unknown", "Sent", "Unknown", "Sent", "Sent"]
    assert [fault for fault, _ in outcomes(server)] == [*plan, ""]
    assert server.chat.faults.all() == []


def test_a_fault_holds_for_as_many_requests_as_it_says(server: SandboxServer) -> None:
    server.chat.faults.add(Fault("fail", 2), Fault("reset", None))
    for _ in range(5):
        send(server)
    assert [fault for fault, _ in outcomes(server)] == ["fail"] * 2 + ["reset"] * 3
    server.chat.faults.clear()
    assert isinstance(send(server), Sent)


def test_faults_are_for_sends_unless_they_are_for_all(server: SandboxServer) -> None:
    with LIVE.connect(connection(server)) as client:
        server.chat.faults.add(Fault("fail", None))
        assert client.identity().person_ids == ("you",)
        for kind, error in (
            ("refuse", Unreachable),
            ("reset", Unreachable),
            ("truncate", Unreachable),
            ("error", Unreachable),
            ("fail", Unreachable),
            ("limit", Wait),
            ("unauthorised", LoginNeeded),
        ):
            server.chat.faults.clear()
            server.chat.faults.add(Fault(kind, everywhere=True))
            with pytest.raises(error):
                client.identity()


def test_a_fault_that_there_is_not_is_refused_in_words(server: SandboxServer) -> None:
    for wrong in (Fault("fire"), Fault("reset", 0), Fault("reset", at=-1), Fault("slow", 1, 0, -1)):
        with pytest.raises(ValueError, match=r"there is no fault|should"):
            server.chat.faults.add(wrong)
    assert set(KINDS) > NOT_STORED
    assert server.chat.faults.all() == []


def test_every_arrival_is_in_the_journal_even_one_with_a_wrong_token(
    server: SandboxServer,
) -> None:
    known = connection(server)
    server.chat.renew_token()
    with LIVE.connect(known) as client:
        assert isinstance(client.send(Target("harbour"), Part("I have it"), "t1"), Refused)
    (arrival,) = server.chat.arrivals("t1")
    assert (arrival.send.text, arrival.send.key) == ("I have it", "t1")
    assert (arrival.fault, arrival.outcome, arrival.message_id) == ("", "not stored", None)


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST /messages HTTP/1.1\r\ncontent-length: -4\r\n\r\n",
        b"POST /messages HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n",
        b"POST /messages HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET /events?after=x HTTP/1.1\r\nauthorization: Bearer TOKEN\r\n\r\n",
        b"GET /messages HTTP/1.1\r\nauthorization: Bearer TOKEN\r\n\r\n",
        b"GET /messages?first=2&last=3 HTTP/1.1\r\nauthorization: Bearer TOKEN\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nauthorization: Bearer TOKEN\r\n\r\n",
        b"GET /me HTTP/1.1\r\nauthorization: Bearer \xff\r\n\r\n",
        b"POST /messages HTTP/1.1\r\nauthorization: Bearer TOKEN\r\ncontent-length: 3\r\n\r\n[1]",
        b"POST /messages HTTP/1.1\r\nauthorization: Bearer TOKEN\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
def test_a_request_that_is_none_is_answered_with_a_4xx(server: SandboxServer, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 5) as plain:
        plain.sendall(sent.replace(b"TOKEN", server.chat.token().encode()))
        assert plain.recv(100).startswith(b"HTTP/1.1 4")
    assert isinstance(send(server), Sent)


# --- reading


def test_a_pull_begins_where_it_is_told_to_and_takes_many_pages(server: SandboxServer) -> None:
    for number in range(230):
        server.chat.say(f"number {number}", chat="Yard")
    now = datetime.now(UTC)
    with LIVE.connect(connection(server)) as client:
        pages = list(client.pull(PullRequest(now, since=now - timedelta(days=1))))
        assert len(pages) == 3
        assert list(client.pull(PullRequest(now, since=now + timedelta(days=1)))) == []
        later = PullRequest(now, since=now, cursors=pages[-1].cursors)
        assert list(client.pull(later)) == []


def test_what_somebody_says_to_you_alone_stands_in_a_chat_of_two(
    server: SandboxServer, stores: Stores
) -> None:
    said = server.chat.say("are you there?", "Olga P.").message_id
    add_account(stores, "ana", "ana-sandbox", "sandbox", server.values(), _nobody)
    pull_new(stores, "ana-sandbox")
    kinds = {row["name"]: row["kind"] for row in stores.database.execute("SELECT * FROM channels")}
    assert said == "@olga-p.:2"
    assert kinds == {"Olga P.": "dm", "Harbour": "channel"}


@given(st.binary() | st.just(b'{"sent_at": 5}') | st.just(b"[" * 5_000))
def test_whatever_arrives_is_read_or_becomes_a_dead_letter(body: bytes) -> None:
    assert all(isinstance(record, DeadLetter) for record in read_event(body, "pull"))


VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("2026-11-03T09:12:44Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = "id kind channel channel_kind channel_name author author_name text thread sent_at edited_at"


@given(st.dictionaries(st.sampled_from(NAMES.split()), VALUE))
def test_no_event_stops_a_pull(event: dict[str, Any]) -> None:
    records = list(read_event(json.dumps(event).encode(errors="replace"), "pull"))
    assert records


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"{}", b"null", b'{"events": 5, "next": 3}', b'{"messages": [5], "next": "1"}'],
)
def test_another_service_at_the_address_is_unreachable_and_sends_nothing(answer: bytes) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=answer)

    with httpx.Client(transport=httpx.MockTransport(reply), base_url="http://there") as http:
        client = sandbox_live.SandboxClient(http, "lookup")
        now = datetime.now(UTC)
        with pytest.raises(Unreachable):
            client.identity()
        with pytest.raises(Unreachable):
            list(client.pull(PullRequest(now, now)))
        assert isinstance(client.send(Target("harbour"), Part("hi"), "t1"), Unknown)
        if b"messages" in answer:
            found = client.find_sent(Target("harbour"), Part("hi"), "t1", now)
            assert isinstance(found, CannotTell)


# --- logging in


def _nobody(field: Field) -> str:
    raise AssertionError(field.name)


def test_the_token_of_this_home_is_known_without_being_given(tmp_path: Path) -> None:
    chat = Chat(home() / FILE)
    defaults = {field.name: field.default or "" for field in LIVE.fields}
    kept = LIVE.login(defaults, _nobody)
    assert kept["token"] == chat.token() == Chat(home() / FILE).token()
    assert (home() / FILE).stat().st_mode & 0o077 == 0


def test_it_is_not_told_to_a_stranger() -> None:
    defaults = {field.name: field.default or "" for field in LIVE.fields}
    for wrong in (
        {"base_url": "http://example.com"},
        {"base_url": "127.0.0.1:8701"},
        {"base_url": "http://["},
        {"mode": "maybe"},
        {"name": "  "},
    ):
        with pytest.raises(ValueError, match=r"should|missing"):
            LIVE.login({**defaults, **wrong}, _nobody)


def test_there_is_no_push(server: SandboxServer) -> None:
    with pytest.raises(NotSupported):
        LIVE.receive(Push("POST", {}, {}, b""), connection(server), datetime.now(UTC))


# --- the server is killed


class Sender(threading.Thread):
    """Sends one delivery after the other, each until it is acknowledged."""

    def __init__(self, server: SandboxServer) -> None:
        super().__init__()
        self.acknowledged: list[str] = []
        self.under_way = threading.Event()
        self.stopped = threading.Event()
        self._connection = connection(server)

    def run(self) -> None:
        number = 0
        with LIVE.connect(self._connection) as client:
            while not self.stopped.is_set():
                number += 1
                result: SendResult | None = None
                while not isinstance(result, Sent) and not self.stopped.is_set():
                    if isinstance(result, Refused):
                        time.sleep(0.005)
                    self.under_way.set()
                    result = client.send(Target("harbour"), Part(f"n{number}"), f"t{number}")
                    self.under_way.clear()
                if isinstance(result, Sent):
                    self.acknowledged.append(result.message_id)


def test_a_killed_server_has_everything_that_it_acknowledged_once(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    with SandboxServer(tmp_path / FILE, process=True) as server:
        server.chat.say("who has the key?", chat="Harbour")
        # So that some kills land before the message is stored, and some between that and the
        # answer.
        plan = (Fault("late", seconds=0.005), Fault("slow", seconds=0.005))
        server.chat.faults.add(*plan * 2_000)
        sender = Sender(server)

        def repeated() -> int:
            return sum(a.outcome == "repeated" for a in server.chat.arrivals())

        sender.start()
        try:
            kills = 0
            while kills < KILLS or (repeated() < KILLS // 4 and kills < 10 * KILLS):
                before = len(sender.acknowledged)
                deadline = time.monotonic() + 20
                while len(sender.acknowledged) == before and time.monotonic() < deadline:
                    time.sleep(0.001)
                sender.under_way.wait()
                time.sleep(chance.uniform(0, 0.015))
                server.kill()
                server.start()
                kills += 1
        finally:
            sender.stopped.set()
            sender.join()
        lines = [line for line in server.chat.lines(last=10**6) if line.yours]
    ids = [line.message_id for line in lines]
    print(f"seed {seed}: {kills} kills, {repeated()} met a stored message whose answer was due")
    assert set(sender.acknowledged) <= set(ids), f"seed {seed}"
    assert len(set(sender.acknowledged)) == len(sender.acknowledged) >= KILLS
    assert all(line.copies == 1 for line in lines), f"seed {seed}"
    assert len({line.text for line in lines}) == len(lines), f"seed {seed}"
    assert repeated() >= KILLS // 4, f"seed {seed}: too few kills between message and answer"


# --- the commands


def command(*words: str) -> Any:
    result = CliRunner().invoke(commands.app, list(words))
    assert result.exit_code == 0, result.output
    return json.loads(result.output) if "--json" in words else result.output


def test_you_are_the_others_by_command_and_see_how_often_a_reply_arrived(stores: Stores) -> None:
    said = command("say", "who has the key?", "--as", "Olga", "--json")["message_id"]
    assert said == "@olga:1"
    command("say", "in the yard", "--chat", "#Yard")
    command("say", "mine is in here", "--as", "Cat", "--thread", "2")
    command("edit", "in the yard, I think", "--message", "yard:2")
    command("delete")
    with SandboxServer(home() / FILE) as server:
        server.chat.faults.add(Fault("reset"))
        add_account(stores, "ana", "ana-sandbox", "sandbox", server.values(), _nobody)
        for _ in range(2):
            send(server, text="I have it", channel="@olga")
        for _ in range(2):
            send(server, "t2", "twice", "neither", "@olga")
    lines = {line["message_id"]: line for line in command("show", "--json")}
    assert lines["@olga:1"]["channel_kind"] == "dm"
    assert (lines["yard:2"]["text"], lines["yard:2"]["edited"]) == ("in the yard, I think", True)
    assert (lines["yard:3"]["thread_id"], lines["yard:3"]["deleted"]) == ("yard:2", True)
    assert (lines["@olga:4"]["copies"], lines["@olga:4"]["requests"]) == (1, 2)
    assert (lines["@olga:5"]["copies"], lines["@olga:6"]["copies"]) == (2, 2)
    shown = command("show", "--chat", "@olga")
    assert "1×, asked for 2×" in " ".join(shown.split())
    assert "yard" not in shown


def test_faults_are_set_listed_and_cleared_by_command() -> None:
    command("fault", "reset", "--times", "3", "--at", "20")
    command("fault", "limit", "--always", "--everywhere", "--seconds", "5")
    assert Chat(home() / FILE).faults.all() == [
        Fault("reset", 3, 20),
        Fault("limit", None, None, 5.0, True),
    ]
    assert "reset: 3×, at byte 20" in command("faults")
    assert set(command("faults", "--kinds", "--json")) == set(KINDS)
    assert command("faults", "--clear", "--json") == []


def test_commands_say_in_words_what_is_wrong() -> None:
    for words in (
        ("edit", "x"),
        ("delete", "--message", "harbour:7"),
        ("say", " "),
        ("say", "x", "--thread", "nowhere:1"),
        ("fault", "fire"),
    ):
        result = CliRunner().invoke(commands.app, list(words))
        assert result.exit_code == 1, words
        assert "error:" in result.output


def test_a_port_that_is_taken_is_said_in_words(server: SandboxServer) -> None:
    result = CliRunner().invoke(commands.app, ["serve", "--port", str(server.port)])
    assert result.exit_code == 1
    assert f"port {server.port} cannot be had" in " ".join(result.output.split())
    assert "listens" not in result.output
