"""Matrix, live: every promise, gaps in what /sync brings, what events mean, sends and limits.

Against a small homeserver in this process; the real Synapse is in `peers/test_matrix_synapse.py`.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from communicator_pipeline.ingestion.pull import pull_new
from communicator_pipeline.platforms import Arrived, platforms
from communicator_pipeline.platforms.contract import ACCOUNT, LiveContract
from communicator_pipeline.platforms.matrix import pulling, sending
from communicator_pipeline.platforms.matrix.events import Reading, read_events
from communicator_pipeline.platforms.matrix.homeserver import Declined, Homeserver, not_before
from communicator_pipeline.platforms.matrix.live import MatrixLive
from communicator_pipeline.platforms.matrix.normalise import normalise
from communicator_pipeline.platforms.matrix.rooms import Room
from communicator_pipeline.platforms.protocol import (
    Absent,
    CannotTell,
    Chats,
    Client,
    Connection,
    Field,
    LoginNeeded,
    NotSupported,
    Page,
    Part,
    PullRequest,
    Push,
    Refused,
    Sent,
    Target,
    Unknown,
    Unreachable,
    Wait,
    Window,
)
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope
from communicator_pipeline_tests.platforms.matrix_server import ANA, BEN, MatrixServer
from communicator_pipeline_tests.platforms.reading import understood

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[MatrixServer]:
    with MatrixServer() as running:
        yield running


@pytest.fixture
def client(server: MatrixServer) -> Iterator[Client]:
    with MatrixLive().connect(connection(server)) as connected:
        yield connected


class TestTheContract(LiveContract):
    platform = "matrix"

    @pytest.fixture
    def peer(self, server: MatrixServer) -> MatrixServer:
        return server

    def test_a_killed_pull_goes_on_and_misses_nothing(
        self, connected: Stores, peer: MatrixServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stopped at whichever request: the token that makes a gap is kept with the gap."""
        monkeypatch.setattr(pulling, "TIMELINE", 3)
        monkeypatch.setattr(pulling, "PAGE", 4)
        said = {peer.say(f"number {n}") for n in range(20)}
        for stop_at in range(1, 9):
            asked = itertools.count(1)
            with monkeypatch.context() as patched:
                patched.setattr(Homeserver, "get", _stopping(Homeserver.get, asked, stop_at))
                pull_new(connected, ACCOUNT)
            said |= {peer.say(f"after stop {stop_at}, {n}") for n in range(5)}
        assert pull_new(connected, ACCOUNT).state == "ok"
        assert said <= set(self.messages(connected))
        assert not [c for c in Connections(connected).cursors(ACCOUNT, "") if c.startswith("gap:")]

    def test_a_lost_sync_token_costs_no_message(
        self, connected: Stores, peer: MatrixServer
    ) -> None:
        """A homeserver that was set up anew answers 400 to its own old token."""
        self.pull(connected)
        message = peer.say("meanwhile")
        peer.first_valid_token = 10**6
        assert self.pull(connected).kept == 1
        assert message in self.messages(connected)


def _stopping(get: Any, asked: Iterator[int], stop_at: int) -> Any:
    def stopped(*arguments: Any) -> Any:
        if next(asked) >= stop_at:
            raise Unreachable("stopped here")
        return get(*arguments)

    return stopped


# --- gaps and windows


def test_what_sync_leaves_out_is_read_back_to_what_is_known(
    server: MatrixServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "TIMELINE", 5)
    monkeypatch.setattr(pulling, "PAGE", 7)
    known = [server.say(f"known {n}") for n in range(30)]
    first = Pulled(client)
    assert first.message_ids == set(known)
    new = [server.say(f"new {n}") for n in range(40)]
    server.requests.clear()
    second = Pulled(client, first.cursors)
    assert set(new) <= second.message_ids
    assert server.requests.count(f"GET /_matrix/client/v3/rooms/{server.channel_id}/messages") == 6
    assert not [name for name in second.cursors if name.startswith("gap:")]


def test_an_account_begins_where_it_was_asked_to(server: MatrixServer, client: Client) -> None:
    hour = 3_600_000
    now = int(time.time() * 1_000)
    old, young = (
        server.put({"msgtype": "m.text", "body": "x"}, origin_server_ts=now - age * hour)
        for age in (30, 2)
    )
    pulled = Pulled(client, since=datetime.now(UTC) - timedelta(days=1))
    assert pulled.message_ids == {young}
    assert old not in pulled.message_ids


def test_a_long_gap_is_finished_by_later_pulls(
    server: MatrixServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "TIMELINE", 2)
    monkeypatch.setattr(pulling, "PAGE", 4)
    monkeypatch.setattr(pulling, "MOST_GAP_PAGES", 2)
    said = {server.say(f"number {n}") for n in range(30)}
    cursors: Mapping[str, str] = {}
    found: set[str] = set()
    for _ in range(10):
        pulled = Pulled(client, cursors)
        cursors, found = pulled.cursors, found | pulled.message_ids
        if not any("still being read" in notice for notice in pulled.notices):
            break
    assert said == found


def test_a_window_brings_what_was_sent_in_it_and_nothing_else(
    server: MatrixServer, client: Client
) -> None:
    day = 86_400_000
    now = int(time.time() * 1_000)
    sent = [
        server.put({"msgtype": "m.text", "body": str(n)}, origin_server_ts=now - n * day)
        for n in (40, 30, 20, 10)
    ]
    server.edit(sent[1], "changed later")
    server.delete(sent[2])
    moment = datetime.now(UTC)
    window = Window(moment - timedelta(days=35), moment - timedelta(days=15))
    pulled = Pulled(client, window=window)
    assert pulled.message_ids == {sent[1], sent[2]}
    rows = pulled.rows()
    assert (rows[sent[1]]["text"], rows[sent[1]]["version"]) == ("changed later", 2)
    assert rows[sent[2]]["deleted"]
    assert any("timestamp_to_event" in request for request in server.requests)
    assert pulled.cursors == {}
    assert pulled.pages[-1].done == 1.0


def test_a_window_goes_on_where_it_was_killed(
    server: MatrixServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "PAGE", 5)
    said = {server.say(f"number {n}") for n in range(23)}
    window = Window(LONG_AGO, datetime.now(UTC) + timedelta(hours=1))
    cursors: dict[str, str] = {}
    found: set[str] = set()
    for _ in range(30):
        with MatrixLive().connect(connection(server)) as again:
            pages = again.pull(request(cursors, window=window))
            for page in itertools.islice(pages, 2):  # then it is killed
                found |= {r.message_id for r in page.records if isinstance(r, Envelope)}
                cursors = moved(cursors, page)
        if page.done == 1.0:
            break
    assert found == said


# --- rooms


def test_rooms_have_the_names_and_kinds_that_people_see(
    server: MatrixServer, client: Client
) -> None:
    direct = server.create_room("", [ANA, BEN], direct=True)
    crowd = server.create_room("crowd", [ANA, *(f"@p{n}:here.example" for n in range(20))])
    public = server.create_room(
        "",
        [ANA, BEN],
        join_rules={"join_rule": "public"},
        canonical_alias={"alias": "#open:here.example"},
    )
    channels = Pulled(client).channels
    assert (channels[server.channel_id].name, channels[server.channel_id].kind) == (
        "boats",
        "group",
    )
    assert (channels[direct].name, channels[direct].kind) == ("Ben", "dm")
    assert channels[crowd].kind == "channel"
    assert (channels[public].name, channels[public].kind) == ("#open:here.example", "channel")


def test_a_room_that_is_renamed_keeps_its_id(server: MatrixServer, client: Client) -> None:
    first = Pulled(client)
    server.add(server.channel_id, "m.room.name", {"name": "ships"}, BEN, state_key="")
    again = Pulled(client, first.cursors)
    assert again.channels[server.channel_id].name == "ships"
    assert Pulled(client, again.cursors).channels == {}


def test_people_are_known_by_their_display_names(server: MatrixServer, client: Client) -> None:
    server.say("hello")
    people = Pulled(client).people
    assert (people[BEN].name, people[BEN].handle) == ("Ben", "ben")


def test_an_excluded_room_is_named_and_not_read(server: MatrixServer, client: Client) -> None:
    server.say("secret")
    pulled = Pulled(client, chats=Chats({server.channel_id: "exclude"}))
    assert pulled.message_ids == set()
    assert server.channel_id in pulled.channels
    assert Pulled(client, pulled.cursors).message_ids == set()


def test_an_invitation_is_told_and_not_accepted(server: MatrixServer, client: Client) -> None:
    content = {"membership": "invite"}
    invite = {"type": "m.room.member", "sender": BEN, "state_key": ANA, "content": content}
    server.invitations["!new:here.example"] = invite
    pulled = Pulled(client)
    assert pulled.notices == [
        "@ben:here.example invites you to !new:here.example: "
        "join it in your Matrix client to have it read"
    ]
    assert not [line for line in server.requests if line.startswith("POST")]


def test_encrypted_messages_are_a_notice_and_nothing_is_written_among_them(
    server: MatrixServer, client: Client
) -> None:
    room = server.create_room("vault", [ANA, BEN], encryption={"algorithm": "m.megolm.v1.aes-sha2"})
    server.put({"ciphertext": "AwgA"}, room=room, kind="m.room.encrypted")
    pulled = Pulled(client)
    assert pulled.message_ids == set()
    assert "messages in vault are encrypted" in pulled.notices[0]
    result = client.send(Target(room), Part("plain"), "token-1")
    assert isinstance(result, Refused)
    assert "encrypted" in result.reason
    assert result.not_before is None


def test_a_room_whose_history_is_closed_does_not_hold_up_the_others(
    server: MatrixServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "TIMELINE", 1)
    other = server.create_room("other", [ANA, BEN])
    said = [server.put({"msgtype": "m.text", "body": str(n)}, room=other) for n in range(4)]
    server.say("one")
    server.say("two")
    with monkeypatch.context() as patched:
        patched.setattr(
            Homeserver,
            "get",
            _forbidding(Homeserver.get, f"{server.channel_id}/messages"),
        )
        pulled = Pulled(client)
    assert set(said) <= pulled.message_ids
    assert any("cannot be read" in notice for notice in pulled.notices)


def _forbidding(get: Any, what: str) -> Any:
    def asked(self: Homeserver, path: str, *arguments: Any) -> Any:
        if what in unquote(path):
            raise Declined(403, "M_FORBIDDEN", "You aren't a member of the room")
        return get(self, path, *arguments)

    return asked


# --- events


def test_a_redacted_edit_brings_the_words_before_it_back(
    server: MatrixServer, client: Client
) -> None:
    message = server.say("at nine")
    edit = server.edit(message, "at ten")
    first = Pulled(client)
    assert first.rows()[message]["text"] == "at ten"
    server.delete(edit)
    again = Pulled(client, first.cursors)
    rows = understood_rows(first.envelopes + again.envelopes)
    assert (rows[message]["text"], rows[message]["deleted"]) == ("at nine", False)
    assert edit not in rows


def test_a_redacted_reaction_deletes_nothing(server: MatrixServer, client: Client) -> None:
    message = server.say("yes")
    relation = {"m.relates_to": {"rel_type": "m.annotation", "event_id": message, "key": "👍"}}
    reaction = server.put(relation, kind="m.reaction")
    first = Pulled(client)
    server.delete(reaction)
    assert Pulled(client, first.cursors).envelopes == []


def test_both_spellings_of_a_redaction_delete(server: MatrixServer, client: Client) -> None:
    """Room version 11 moved `redacts` into the content."""
    messages = [server.say("one"), server.say("two")]
    first = Pulled(client)
    for message, in_content in zip(messages, (False, True), strict=True):
        server.delete(message, in_content)
    again = Pulled(client, first.cursors)
    assert {e.message_id for e in again.envelopes if e.kind == "deletion"} == set(messages)
    assert not any(b'"one"' in e.payload or b'"two"' in e.payload for e in again.envelopes)


def test_an_edit_by_somebody_else_changes_nothing(server: MatrixServer, client: Client) -> None:
    message = server.say("mine")
    first = Pulled(client)
    server.edit(message, "yours", sender="@mallory:evil.example")
    assert Pulled(client, first.cursors).envelopes == []


def test_an_edit_of_an_older_message_stands_on_the_messages_day(
    server: MatrixServer, client: Client
) -> None:
    yesterday = int(time.time() * 1_000) - 86_400_000
    message = server.put({"msgtype": "m.text", "body": "at nine"}, origin_server_ts=yesterday)
    first = Pulled(client, since=datetime.now(UTC))
    server.edit(message, "at ten")
    (edit,) = Pulled(client, first.cursors).envelopes
    assert edit.message_id == message
    assert edit.day == datetime.fromtimestamp(yesterday / 1_000, UTC).date().isoformat()


def test_a_message_from_the_future_is_dated_when_it_was_read(
    server: MatrixServer, client: Client
) -> None:
    """A homeserver whose clock is wrong would put it where no day is, and it would be lost."""
    ahead = int(time.time() * 1_000) + 40 * 86_400_000
    message = server.put({"msgtype": "m.text", "body": "soon"}, origin_server_ts=ahead)
    row = Pulled(client).rows()[message]
    assert abs(row["sent_at"] - datetime.now(UTC)) < timedelta(minutes=1)


def arrived(content: dict[str, Any], kind: str = "m.room.message") -> Arrived:
    event = {
        "event_id": "$e",
        "type": kind,
        "sender": BEN,
        "origin_server_ts": 1_793_700_000_000,
        "content": content,
    }
    return Arrived("!r:$e", "!r", "group", "message", event, {})


@pytest.mark.parametrize(
    ("content", "text", "mentions"),
    [
        ({"msgtype": "m.text", "body": "hi"}, "hi", ()),
        ({"msgtype": "m.emote", "body": "waves"}, "* waves", ()),
        (
            {"msgtype": "m.text", "body": f"{ANA}: now?", "m.mentions": {"user_ids": [ANA]}},
            f"<@{ANA}>: now?",
            (ANA,),
        ),
        (
            {
                "msgtype": "m.text",
                "body": "Ana D.: now?",
                "formatted_body": f'<a href="https://matrix.to/#/{ANA}">Ana D.</a>: now?',
            },
            f"<@{ANA}>: now?",
            (ANA,),
        ),
        (
            {"msgtype": "m.text", "body": f"[Ana](https://matrix.to/#/{ANA}) now?"},
            f"<@{ANA}> now?",
            (ANA,),
        ),
        (
            {
                "msgtype": "m.text",
                "body": f"> <{ANA}> the question\n> goes on\n\nthe answer",
                "m.relates_to": {"m.in_reply_to": {"event_id": "$q"}},
            },
            "the answer",
            (),
        ),
        (
            {
                "msgtype": "m.text",
                "formatted_body": "<mx-reply>no</mx-reply><p>a &amp; b</p><p>c</p>",
            },
            "a & b\nc",
            (),
        ),
        (
            {"msgtype": "m.location", "body": "the pier", "geo_uri": "geo:59.9,10.7"},
            "the pier\ngeo:59.9,10.7",
            (),
        ),
    ],
)
def test_what_a_message_says(content: dict[str, Any], text: str, mentions: tuple[str]) -> None:
    message = normalise(arrived(content))
    assert (message.text, message.mentions) == (text, mentions)


def test_threads_replies_and_their_fallbacks_are_told_apart() -> None:
    """Clients without threads show the fallback as a reply; it answers nothing."""
    in_reply = {"m.in_reply_to": {"event_id": "$q"}}
    thread = {"rel_type": "m.thread", "event_id": "$root"}
    found = [
        normalise(arrived({"msgtype": "m.text", "body": "x", "m.relates_to": relation}))
        for relation in (
            in_reply,
            {**thread, **in_reply, "is_falling_back": True},
            {**thread, **in_reply},
        )
    ]
    assert [(m.thread_id, m.reply_to) for m in found] == [
        (None, "!r:$q"),
        ("!r:$root", None),
        ("!r:$root", "!r:$q"),
    ]


def test_files_are_named_and_only_a_caption_is_text() -> None:
    info = {"mimetype": "image/png", "size": 7}
    plain = {"msgtype": "m.image", "body": "a.png", "url": "mxc://here.example/abc", "info": info}
    captioned = {**plain, "filename": "a.png", "body": "the pier"}
    first, second = (normalise(arrived(content)) for content in (plain, captioned))
    assert (first.text, second.text) == ("", "the pier")
    (file,) = second.attachments
    assert (file.name, file.mime, file.bytes, file.url) == (
        "a.png",
        "image/png",
        7,
        "mxc://here.example/abc",
    )


def test_bots_and_polls_are_known() -> None:
    notice = normalise(arrived({"msgtype": "m.notice", "body": "built"}))
    assert notice.author_is_bot
    poll = {
        "org.matrix.msc3381.poll.start": {
            "question": {"org.matrix.msc1767.text": "When?"},
            "answers": [{"id": "1", "org.matrix.msc1767.text": "now"}],
        }
    }
    assert normalise(arrived(poll, "org.matrix.msc3381.poll.start")).text == "When?\n• now"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=10,
)
RELATION = st.fixed_dictionaries(
    {},
    optional={
        "rel_type": st.sampled_from(["m.thread", "m.replace", "x"]) | JSON,
        "event_id": st.just("$a") | JSON,
        "m.in_reply_to": JSON,
    },
)
EVENT = st.fixed_dictionaries(
    {},
    optional={
        "event_id": st.just("$a") | JSON,
        "type": st.sampled_from(
            ["m.room.message", "m.room.redaction", "m.room.member", "m.sticker", "m.poll.start"]
        )
        | JSON,
        "sender": st.just(BEN) | JSON,
        "state_key": st.just(BEN) | JSON,
        "origin_server_ts": st.integers(-(2**70), 2**70) | JSON,
        "redacts": st.just("$a") | JSON,
        "unsigned": st.fixed_dictionaries(
            {},
            optional={
                "redacted_because": JSON,
                "m.relations": st.fixed_dictionaries({"m.replace": JSON}) | JSON,
            },
        )
        | JSON,
        "content": st.fixed_dictionaries(
            {},
            optional={
                "body": st.text() | JSON,
                "msgtype": st.sampled_from(["m.text", "m.image", "m.location"]) | JSON,
                "formatted_body": st.text() | JSON,
                "m.relates_to": RELATION | JSON,
                "m.new_content": JSON,
                "m.mentions": JSON,
                "info": JSON,
                "membership": st.just("join") | JSON,
                "displayname": st.text() | JSON,
            },
        )
        | JSON,
    },
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENT | JSON, max_size=4), st.booleans(), EVENT | st.none())
def test_no_event_stops_the_others(events: list[Any], follows: bool, target: Any) -> None:
    reading = Reading(
        Room("!r:x"), "group", datetime.now(UTC), lambda event_id: target, follows=follows
    )
    good = arrived({"msgtype": "m.text", "body": "good"}).payload | {"event_id": "$good"}
    records = read_events([*events, good], reading).records
    envelopes = [record for record in records if isinstance(record, Envelope)]
    assert envelopes[-1].message_id == "!r:x:$good"
    for record in records:
        if isinstance(record, DeadLetter):
            assert record.stage == "pull"
            assert record.reason
    rows, _ = understood(envelopes, platforms()["matrix"])
    assert any(row["text"] == "good" for row in rows)
    reading.room.dump()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "rooms": st.fixed_dictionaries(
                {},
                optional={
                    name: st.dictionaries(
                        st.text(max_size=5),
                        st.fixed_dictionaries(
                            {},
                            optional={
                                "timeline": st.fixed_dictionaries(
                                    {},
                                    optional={
                                        "events": st.lists(EVENT | JSON, max_size=2) | JSON,
                                        "limited": st.booleans(),
                                        "prev_batch": st.text() | JSON,
                                    },
                                )
                                | JSON,
                                "state": st.fixed_dictionaries({"events": JSON | st.lists(EVENT)}),
                                "summary": st.fixed_dictionaries({"m.heroes": JSON}) | JSON,
                                "invite_state": JSON,
                            },
                        )
                        | JSON,
                        max_size=2,
                    )
                    | JSON
                    for name in ("join", "leave", "invite")
                },
            )
            | JSON,
            "account_data": JSON,
        },
    ),
    st.fixed_dictionaries(
        {}, optional={"chunk": st.lists(EVENT | JSON) | JSON, "end": JSON, "state": JSON}
    ),
)
def test_no_answer_of_a_homeserver_stops_a_pull(sync: Any, messages: Any) -> None:
    def answer(self: Any, path: str, *arguments: Any) -> Any:
        return messages if "/messages" in path else sync | {"next_batch": "s1"}

    server = type("Answering", (Homeserver,), {"get": answer})(httpx.Client(), "http://x")
    for window in (None, Window(LONG_AGO, datetime.now(UTC))):
        pages = pulling.Puller(server, request({}, window=window)).pages()
        for page in itertools.islice(pages, 20):
            json.dumps(page.cursors).encode()
            "".join(page.notices).encode()


# --- limits and logins


def test_a_limit_is_told_with_its_deadline(server: MatrixServer, client: Client) -> None:
    server.limit(90)
    with pytest.raises(Wait) as caught:
        Pulled(client)
    assert timedelta(80) > caught.value.until - datetime.now(UTC) > timedelta(seconds=80)


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({}, {"retry_after_ms": 1_500}, 1.5),
        ({"retry-after": "7"}, {"retry_after_ms": 1_500}, 7),
        ({"retry-after": "Wed, 25 Nov 2026 12:00:30 GMT"}, {}, 30),
        ({"retry-after": "soon"}, {"retry_after_ms": "soon"}, 10),
        ({}, {"retry_after_ms": 1e300}, 10),
        ({}, {"retry_after_ms": 9e11}, 86_400),
    ],
)
def test_the_deadline_of_a_limit_is_read_from_all_that_names_it(
    headers: dict[str, str], body: dict[str, Any], seconds: float
) -> None:
    now = datetime(2026, 11, 25, 12, tzinfo=UTC)
    answer = httpx.Response(429, headers=headers, json=body)
    assert not_before(answer, now) - now == timedelta(seconds=seconds)


def test_a_password_is_used_once_and_not_kept(server: MatrixServer) -> None:
    values = {"homeserver": server.url, "user_id": ANA, "password": "ana's password"}
    kept = MatrixLive().login(values, _nobody)
    assert "ana's password" not in str(kept)
    assert kept["device_id"]
    made = Connection("a", frozenset(), {}, {})
    assert kept["access_token"] not in repr(made)
    asked: list[str] = []

    def ask(field: Field) -> str:
        asked.append(field.name)
        return "wrong"

    with pytest.raises(LoginNeeded, match="does not accept"):
        MatrixLive().login({"homeserver": server.url, "user_id": ANA}, ask)
    assert asked == ["password"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"homeserver": "http://far.example"}, "https://"),
        ({"homeserver": "https://ana:secret@far.example"}, "without a user"),
        ({"user_id": "ana"}, "@ana:example.org"),
        ({"user_id": "", "access_token": ""}, "user_id is missing"),
        ({"user_id": BEN}, "is @ana:here.example's, not @ben:here.example's"),
    ],
)
def test_a_login_says_what_is_wrong(
    server: MatrixServer, values: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        MatrixLive().login({**server.values, **values}, _nobody)


def test_nothing_is_pushed(server: MatrixServer) -> None:
    with pytest.raises(NotSupported):
        MatrixLive().receive(Push("POST", {}, {}, b"{}"), connection(server), datetime.now(UTC))
    assert list(MatrixLive().events(b"{}", connection(server))) == []


# --- files


def test_a_file_comes_with_the_token_and_within_its_cap(
    server: MatrixServer, client: Client
) -> None:
    server.media["abc"] = b"x" * 100
    assert client.download("mxc://here.example/abc", 100) == b"x" * 100
    with pytest.raises(ValueError, match="more than 99"):
        client.download("mxc://here.example/abc", 99)
    for gone in ("mxc://here.example/gone", "https://here.example/abc", "mxc://x/../y"):
        with pytest.raises(FileNotFoundError):
            client.download(gone, 100)


def test_the_token_does_not_follow_a_file_elsewhere(server: MatrixServer, client: Client) -> None:
    """The stand-in's other place refuses a request that carries one."""
    server.media["abc"] = b"x"
    server.media_elsewhere = True
    assert client.download("mxc://here.example/abc", 9) == b"x"


# --- sending


def test_a_reply_in_a_thread_is_one_for_old_clients_too(
    server: MatrixServer, client: Client
) -> None:
    root = server.say("who has the key?")
    room = server.channel_id
    sent = client.send(Target(room, thread_id=root, reply_to=root), Part("I"), "token-1")
    assert isinstance(sent, Sent)
    written = server.event(server.native(sent.message_id))["content"]
    assert written["m.relates_to"] == {
        "rel_type": "m.thread",
        "event_id": server.native(root),
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": server.native(root)},
    }


def test_parts_of_one_reply_are_different_transactions(
    server: MatrixServer, client: Client
) -> None:
    target = Target(server.channel_id)
    sent = [client.send(target, Part("a", n, 2), "token-1") for n in (1, 2)]
    assert len({result.message_id for result in sent if isinstance(result, Sent)}) == 2


@pytest.mark.parametrize("status", [500, 502, 504, 408])
def test_an_answer_that_was_lost_is_unknown_and_found(
    server: MatrixServer, client: Client, status: int
) -> None:
    began = datetime.now(UTC)
    target, part = Target(server.channel_id), Part("only once")
    server.next_send = status
    assert isinstance(client.send(target, part, "token-1"), Unknown)
    found = client.find_sent(target, part, "token-1", began)
    assert isinstance(found, Sent)
    assert found.message_id in Pulled(client).message_ids


def test_the_same_words_of_another_delivery_are_not_taken_for_it(
    server: MatrixServer, client: Client
) -> None:
    began = datetime.now(UTC)
    target, part = Target(server.channel_id), Part("ok")
    assert isinstance(client.send(target, part, "token-1"), Sent)
    assert isinstance(client.find_sent(target, part, "token-2", began), Absent)


def test_after_a_new_login_a_send_is_known_by_its_words(server: MatrixServer) -> None:
    """Another device is not told the transaction."""
    began = datetime.now(UTC)
    target, part = Target(server.channel_id), Part("ok")
    server.add(server.channel_id, "m.room.message", sending.content(target, part), ANA)
    with MatrixLive().connect(connection(server)) as client:
        assert isinstance(client.find_sent(target, part, "token-1", began), Sent)
        later = began + timedelta(minutes=10)
        assert isinstance(client.find_sent(target, part, "token-1", later), Absent)
        in_thread = Target(server.channel_id, thread_id=f"{server.channel_id}:$event1")
        assert isinstance(client.find_sent(in_thread, part, "token-1", began), Absent)


def test_an_incomplete_look_proves_nothing(
    server: MatrixServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(9):
        server.say(f"number {n}")
    monkeypatch.setattr(sending, "_PAGE", 2)
    monkeypatch.setattr(sending, "_MOST_PAGES", 2)
    looked = client.find_sent(Target(server.channel_id), Part("x"), "token-1", LONG_AGO)
    assert isinstance(looked, CannotTell)
    server.limit(5)
    looked = client.find_sent(Target(server.channel_id), Part("x"), "token-1", LONG_AGO)
    assert isinstance(looked, CannotTell)


def test_a_server_that_is_gone_has_taken_nothing(server: MatrixServer) -> None:
    gone = Connection("a", frozenset(), {"homeserver": "http://127.0.0.1:9"}, {})
    with MatrixLive().connect(gone) as client:
        result = client.send(Target(server.channel_id), Part("x"), "token-1")
        assert isinstance(result, Refused)
        assert result.not_before is not None
        with pytest.raises(Unreachable):
            client.identity()


def test_a_room_that_is_not_mine_takes_nothing(server: MatrixServer, client: Client) -> None:
    foreign = server.create_room("theirs", [BEN])
    result = client.send(Target(foreign), Part("x"), "token-1")
    assert isinstance(result, Refused)
    assert result.not_before is None


# --- what the tests are made of


class Pulled:
    """What one pull brought."""

    def __init__(
        self,
        client: Client,
        cursors: Mapping[str, str] | None = None,
        since: datetime = LONG_AGO,
        **more: Any,
    ) -> None:
        self.cursors: dict[str, str] = dict(cursors or {})
        self.pages: list[Page] = []
        for page in client.pull(request(self.cursors, since=since, **more)):
            self.pages.append(page)
            self.cursors = moved(self.cursors, page)
        records = [record for page in self.pages for record in page.records]
        self.envelopes = [record for record in records if isinstance(record, Envelope)]
        self.channels = {r.channel_id: r for r in records if isinstance(r, Channel)}
        self.people = {r.person_id: r for r in records if isinstance(r, Person)}
        self.notices = [notice for page in self.pages for notice in page.notices]
        self.message_ids = {envelope.message_id for envelope in self.envelopes}

    def rows(self) -> dict[str, dict[str, Any]]:
        return understood_rows(self.envelopes)


def understood_rows(envelopes: list[Envelope]) -> dict[str, dict[str, Any]]:
    rows, letters = understood(envelopes, platforms()["matrix"])
    assert letters == []
    return {row["message_id"]: row for row in rows if row["latest"]}


def request(
    cursors: Mapping[str, str],
    since: datetime = LONG_AGO,
    window: Window | None = None,
    chats: Chats | None = None,
) -> PullRequest:
    return PullRequest(datetime.now(UTC), since, window, cursors, chats or Chats())


def moved(cursors: Mapping[str, str], page: Page) -> dict[str, str]:
    return {name: at for name, at in {**cursors, **page.cursors}.items() if at}


def connection(server: MatrixServer) -> Connection:
    kept = MatrixLive().login(server.values, _nobody)
    open_names = ("homeserver", "user_id")
    return Connection(
        "ana-there",
        frozenset([ANA]),
        {name: kept[name] for name in open_names},
        {name: value for name, value in kept.items() if name not in open_names},
    )


def _nobody(field: Field) -> str:
    raise AssertionError(f"the login asked for {field.name}")
