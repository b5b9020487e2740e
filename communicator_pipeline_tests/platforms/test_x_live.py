"""X, live: every promise, pages and what they cost, limits, pushes, sends.

Against a small X in this process; `peers/test_x_prism.py` holds our requests against X's own API
descriptions.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from communicator_pipeline.ingestion.connecting import change_setting
from communicator_pipeline.platforms import platforms
from communicator_pipeline.platforms.contract import ACCOUNT, LiveContract
from communicator_pipeline.platforms.protocol import (
    Absent,
    Answer,
    CannotTell,
    Chats,
    Client,
    Connection,
    Field,
    LoginNeeded,
    OverBudget,
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
from communicator_pipeline.platforms.x import pushed
from communicator_pipeline.platforms.x.api import Api, not_before
from communicator_pipeline.platforms.x.counting import has_link, weighted_length
from communicator_pipeline.platforms.x.live import XLive
from communicator_pipeline.platforms.x.prices import affordable, cost
from communicator_pipeline.platforms.x.pulling import Puller
from communicator_pipeline.platforms.x.quiet import direct_messages_went_quiet
from communicator_pipeline.platforms.x.sending import comparable
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, Channel, Person, load_account
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope
from communicator_pipeline_tests.platforms.reading import read, understood
from communicator_pipeline_tests.platforms.test_x import archive, js, tweet
from communicator_pipeline_tests.platforms.x_server import (
    ANA,
    BEN,
    KEYS,
    Problem,
    XServer,
)

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[XServer]:
    with XServer() as running:
        yield running


@pytest.fixture
def client(server: XServer) -> Iterator[Client]:
    with XLive().connect(connection(server)) as connected:
        yield connected


class TestPosts(LiveContract):
    """Posts that mention the owner, and the owner's own."""

    platform = "x"

    @pytest.fixture
    def peer(self, server: XServer) -> XServer:
        return server

    def test_an_edit_is_a_new_version(self, connected: Stores, peer: XServer) -> None:  # type: ignore[override]
        """X gives each version of a post an id of its own: it is a message of its own, as in the
        archive, in the thread of the first one and marked as edited."""
        message = peer.say("at nine")
        self.pull(connected)
        peer.edit(message, "at ten")
        self.pull(connected)
        rows = self.messages(connected)
        later = next(row for row in rows.values() if row["text"] == "at ten")
        assert later["thread_id"] == message
        assert later["edited_at"] is not None
        assert rows[message]["text"] == "at nine"

    def test_a_deletion_leaves_a_tombstone(self, connected: Stores, peer: XServer) -> None:  # type: ignore[override]
        """Only the owner's own deletions are told, and only by a push."""
        message = peer.put("the code is 1234", author=ANA)
        self.pull(connected)
        peer.pushes()
        peer.delete(message)
        self.bring(connected, peer, by_pull=False)
        row = self.messages(connected)[message]
        assert (row["text"], row["deleted"], row["author_id"]) == ("", True, ANA)

    def test_an_answer_arrives_and_its_echo_is_recognised(  # type: ignore[override]
        self, connected: Stores, peer: XServer
    ) -> None:
        """X puts the name of whoever is answered in front of a reply's text."""
        question = peer.say("who has the key?")
        self.pull(connected)
        target = Target(peer.channel_id, thread_id=question, reply_to=question)
        with self.client(connected) as client:
            result = client.send(target, Part("I have it"), "01b6c6f2-token-1")
        assert isinstance(result, Sent), result
        self.pull(connected)
        echo = self.messages(connected)[result.message_id]
        assert echo["text"] == "@ben I have it"
        assert (echo["author_id"], echo["reply_to"]) == (ANA, question)


class TestOldSpelling(TestPosts):
    """A server from before the fields' renaming."""

    @pytest.fixture
    def server(self) -> Iterator[XServer]:
        with XServer(spelling="tweet") as running:
            yield running


class TestDirectMessages(LiveContract):
    platform = "x"
    has_threads = False

    @pytest.fixture
    def peer(self) -> Iterator[XServer]:
        with XServer(speaks="dm") as running:
            yield running

    @pytest.mark.skip("direct messages show no edits in X's API")
    def test_an_edit_is_a_new_version(self) -> None:  # type: ignore[override]
        ...

    @pytest.mark.skip("X's API does not tell of deleted direct messages")
    def test_a_deletion_leaves_a_tombstone(self) -> None:  # type: ignore[override]
        ...


# --- pages, cursors, money


def test_all_pages_are_read_and_the_next_pull_asks_for_what_is_newer(
    server: XServer, client: Client
) -> None:
    said = {server.say(f"number {n}") for n in range(230)}
    first = Pulled(client)
    assert first.message_ids == said
    server.requests.clear()
    new = server.say("new")
    second = Pulled(client, first.cursors)
    assert second.message_ids == {new}
    since = [query.get("since_id") for path, query in server.requests if "mentions" in path]
    assert since == [max((message.split(":")[1] for message in said), key=int)]


def test_a_killed_pull_goes_on_and_pays_for_nothing_twice(server: XServer) -> None:
    """Page after page is kept, each by another process."""
    said = {server.say(f"number {n}") for n in range(350)}
    cursors: dict[str, str] = {}
    found: set[str] = set()
    spent, reads = 0.0, 0
    for _ in range(12):
        with XLive().connect(connection(server)) as again:
            for page in itertools.islice(again.pull(request(cursors)), 1):  # then it is killed
                found |= {r.message_id for r in page.records if isinstance(r, Envelope)}
                cursors, spent, reads = (
                    moved(cursors, page),
                    spent + page.cost_usd,
                    reads + page.reads,
                )
    with XLive().connect(connection(server)) as again:
        last = Pulled(again, cursors)
    assert found | last.message_ids == said
    assert reads + last.reads == 350
    assert spent + last.cost == pytest.approx(0.350)


def test_posts_that_come_while_older_ones_are_read_are_not_lost(server: XServer) -> None:
    said = {server.say(f"number {n}") for n in range(150)}
    with XLive().connect(connection(server)) as once:
        page = next(iter(once.pull(request({}))))
    found = {r.message_id for r in page.records if isinstance(r, Envelope)}
    said |= {server.say(f"meanwhile {n}") for n in range(120)}
    with XLive().connect(connection(server)) as again:
        found |= Pulled(again, moved({}, page)).message_ids
    assert found == said


def test_what_is_read_again_on_the_same_day_costs_nothing(server: XServer, client: Client) -> None:
    for n in range(3):
        server.write(f"number {n}")
    first = Pulled(client)
    assert (first.reads, first.cost) == (3, pytest.approx(0.030))
    again = Pulled(client, first.cursors)
    assert (again.reads, again.cost) == (0, 0)
    yesterday = json.loads(first.cursors["billed"])
    yesterday[0] = "2026-01-01"
    tomorrow = Pulled(client, {**first.cursors, "billed": json.dumps(yesterday)})
    assert (tomorrow.reads, tomorrow.cost) == (3, pytest.approx(0.030))


def test_few_known_direct_messages_are_read_again(server: XServer, client: Client) -> None:
    """The API has no `since` for them: what is known is met again, and paid for each day."""
    for n in range(80):
        server.write(f"number {n}")
    first = Pulled(client)
    new = {server.write(f"new {n}") for n in range(12)}
    server.requests.clear()
    assert Pulled(client, first.cursors).message_ids == new
    sizes = [query["max_results"] for path, query in server.requests if "dm_events" in path]
    assert sizes == ["5", "10"]


def test_no_call_is_made_whose_worst_case_is_over_the_budget(
    server: XServer, client: Client
) -> None:
    for n in range(30):
        server.say(f"number {n}")
    with pytest.raises(OverBudget, match="cap_usd"):
        Pulled(client, budget_usd=0.029)
    assert not [path for path, _ in server.requests if "mentions" in path]
    pulled = Pulled(client, budget_usd=0.05, fails=True)
    sizes = [int(query["max_results"]) for path, query in server.requests if "mentions" in path]
    assert sizes[0] == 8  # 0.006 each: a mention, and what it answers
    assert pulled.cost <= 0.05
    rest = Pulled(client, pulled.cursors)
    assert len(pulled.message_ids | rest.message_ids) == 30
    assert not pulled.message_ids & rest.message_ids


@pytest.mark.parametrize(
    ("budget", "spent", "count"), [(None, 9, 100), (0.05, 0, 10), (0.05, 0.046, 0), (0, 0, 0)]
)
def test_the_budget_says_how_much_may_be_asked_for(
    budget: float | None, spent: float, count: int
) -> None:
    assert affordable(budget, spent, 0.005, 100) == count
    assert cost(["a", "b", "b"], ["a"], 0.005) == 0.005


def test_an_account_begins_where_it_was_asked_to(server: XServer, client: Client) -> None:
    now = datetime.now(UTC)
    for days in (20, 3):
        server.put(f"{days}", at=now - timedelta(days=days))
        server.write(f"dm {days}", at=now - timedelta(days=days))
    pulled = Pulled(client, since=now - timedelta(days=7))
    assert sorted(row["text"] for row in pulled.rows().values()) == ["3", "dm 3"]


def test_a_window_brings_what_was_sent_in_it(server: XServer, client: Client) -> None:
    now = datetime.now(UTC)
    for days in (20, 10, 3):
        server.put(f"{days}", at=now - timedelta(days=days))
        server.write(f"dm {days}", at=now - timedelta(days=days))
    window = Window(now - timedelta(days=15), now - timedelta(days=5))
    pulled = Pulled(client, window=window)
    assert sorted(row["text"] for row in pulled.rows().values()) == ["10", "dm 10"]
    assert pulled.pages[-1].done == 1.0
    assert set(pulled.cursors) <= {"fields", "billed", "me"}


def test_a_search_is_read_if_there_is_one(server: XServer) -> None:
    other = server.put("the harbour ferry is late", mentions_ana=False)
    server.put("something else", mentions_ana=False)
    with XLive().connect(connection(server, search="ferry")) as client:
        pulled = Pulled(client)
    assert pulled.message_ids == {other}
    assert pulled.cost == pytest.approx(0.005)


def test_the_spelling_of_fields_is_found_out_once(server: XServer) -> None:
    server.spelling = "tweet"
    server.say("hello")
    with XLive().connect(connection(server)) as client:
        pulled = Pulled(client)
    refused = [q for _, q in server.requests if "post.fields" in q]
    assert (len(refused), pulled.cursors["fields"]) == (1, "tweet")
    server.requests.clear()
    with XLive().connect(connection(server)) as client:
        Pulled(client, pulled.cursors)
    assert not [q for _, q in server.requests if "post.fields" in q]


def test_a_page_token_that_has_died_begins_the_stream_again(
    server: XServer, client: Client
) -> None:
    said = {server.say(f"number {n}") for n in range(7)}
    left = json.dumps(["dead-token-000000", "", "", 0])
    assert Pulled(client, {"mentions:pages": left, "fields": "post"}).message_ids == said


def test_posts_that_are_excluded_are_not_paid_for(server: XServer, client: Client) -> None:
    server.say("hello")
    message = server.write("hello")
    pulled = Pulled(client, chats=Chats({"feed": "exclude"}))
    assert pulled.message_ids == {message}
    assert not [path for path, _ in server.requests if "mentions" in path]


# --- limits, failures


def test_a_limit_on_one_stream_does_not_stop_the_others(server: XServer, client: Client) -> None:
    post, message = server.say("post"), server.write("message")
    server.limit(60)
    server.limited_path = "dm_events"
    pulled = Pulled(client, fails=True)
    assert pulled.message_ids == {post}
    assert isinstance(pulled.error, Wait)
    assert pulled.error.scope == f"x:{ANA}:dms"
    assert pulled.error.until > datetime.now(UTC) + timedelta(seconds=50)
    server.requests.clear()
    waits = {pulled.error.scope: pulled.error.until}
    again = Pulled(client, pulled.cursors, waits=waits)
    assert not [path for path, _ in server.requests if "dm_events" in path]
    assert any("direct messages" in notice for notice in again.notices)
    server.limit(0)
    assert Pulled(client, again.cursors).message_ids == {message}


def test_a_stream_that_is_not_allowed_is_a_notice(server: XServer, client: Client) -> None:
    post = server.say("post")
    server.refused["dm_events"] = Problem(403, "Forbidden", "no access to direct messages")
    pulled = Pulled(client)
    assert pulled.message_ids == {post}
    assert "direct messages cannot be read" in pulled.notices[0]


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, LoginNeeded), (402, OverBudget), (500, Unreachable), (503, Unreachable)],
)
def test_errors_are_what_they_mean(
    server: XServer, client: Client, status: int, error: type[Exception]
) -> None:
    server.refused["mentions"] = Problem(status, "title", f"words {KEYS['access_token']}")
    with pytest.raises(error) as caught:
        Pulled(client)
    assert KEYS["access_token"] not in str(caught.value)


def test_the_limit_of_the_day_counts_if_it_is_used_up() -> None:
    now = datetime(2026, 11, 25, 12, tzinfo=UTC)
    window, day = int(now.timestamp()) + 60, int(now.timestamp()) + 7_200
    headers = {"x-rate-limit-reset": str(window), "x-user-limit-24hour-reset": str(day)}
    assert (not_before(httpx.Response(429, headers=headers), now) - now).seconds == 60
    headers["x-user-limit-24hour-remaining"] = "0"
    assert (not_before(httpx.Response(429, headers=headers), now) - now).seconds == 7_200
    for nonsense in ("soon", "-5", "9" * 30):
        headers = {"x-rate-limit-reset": nonsense}
        assert (not_before(httpx.Response(429, headers=headers), now) - now).seconds == 900


def test_the_login_says_what_the_app_may_not_do(server: XServer) -> None:
    server.access_level = "read"
    with XLive().connect(connection(server)) as client:
        identity = client.identity()
    assert identity.person_ids == (ANA,)
    told = " ".join(identity.cannot)
    assert "write access" in told
    assert "direct messages" in told


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cap_usd": "much"}, "amount in US dollars"),
        ({"cap_usd": "nan"}, "amount in US dollars"),
        ({"base_url": "http://far.example"}, "https://"),
        ({"access_token": ""}, "access_token: missing"),
    ],
)
def test_a_login_says_what_is_wrong(values: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        XLive().login({**KEYS, **values}, _nobody)


# --- what posts and messages say


def test_a_post_is_told_as_the_archive_tells_it(
    server: XServer, client: Client, tmp_path: Any
) -> None:
    """The same post from both is one version, where both know the same of it."""
    entities = {
        "urls": [{"url": "https://t.co/a1", "expanded_url": "https://a.example/?x=1"}],
        "mentions": [{"username": "Joe", "id": "20", "start": 0, "end": 4}],
    }
    words = "@joe a &amp; b https://t.co/a1"
    message = server.put(words, author=ANA, entities=entities)
    native = message.split(":")[1]
    pulled = Pulled(client)
    old = {
        "urls": entities["urls"],
        "user_mentions": [{"screen_name": "Joe", "name": "Joe Li", "id_str": "20"}],
    }
    made = datetime.fromisoformat(server._post(native)["created_at"])
    at = made.strftime("%a %b %d %H:%M:%S +0000 %Y")
    rows = [tweet(native, words, entities=old, created_at=at)]
    mine = [{"account": {"accountId": ANA, "username": "ana", "accountDisplayName": "Ana D."}}]
    files = {"data/tweets.js": js("tweets", rows), "data/account.js": js("account", mine)}
    exported = read(archive(tmp_path, files))
    (row,) = understood([*pulled.envelopes, *exported.envelopes], platforms()["x"])[0]
    assert row["text"] == "<@20> a & b https://a.example/?x=1"
    assert (row["mentions"], row["version"], row["author_id"]) == (["20"], 1, ANA)


def test_long_posts_pictures_reposts_and_likes_are_understood(
    server: XServer, client: Client
) -> None:
    long = server.put("begins…", note={"text": "begins and goes on &amp; on"})
    picture = {"media_key": "3_1", "type": "photo", "url": "https://pbs.twimg.com/media/G1.jpg"}
    link = {"url": "https://t.co/p", "expanded_url": "https://x.com/…/photo/1", "media_key": "3_1"}
    shown = server.put("look https://t.co/p", media=[picture], entities={"urls": [link]})
    repost = server.put("RT @joe: so true", author=ANA)
    rows = Pulled(client).rows()
    assert rows[long]["text"] == "begins and goes on & on"
    assert rows[shown]["text"] == "look"
    assert [(a["name"], a["url"]) for a in rows[shown]["attachments"]] == [
        ("G1.jpg", "https://pbs.twimg.com/media/G1.jpg")
    ]
    assert (rows[repost]["text"], rows[repost]["forwarded_from"]) == ("so true", "@joe")
    assert [(r["name"], r["count"]) for r in rows[long]["reactions"]] == [("like", 3)]


def test_people_and_conversations_have_names(server: XServer, client: Client) -> None:
    server.say("hello")
    server.write("hello")
    server.write("hello", talk="1900000000000000000")
    pulled = Pulled(client)
    assert (pulled.people[BEN].name, pulled.people[BEN].handle) == ("Ben", "ben")
    assert pulled.channels["feed"].kind == "feed"
    talk = pulled.channels[f"{ANA}-{BEN}"]
    assert (talk.name, talk.kind) == ("Ben", "dm")
    assert pulled.channels["1900000000000000000"].kind == "group"


def test_a_file_is_fetched_from_x_only(server: XServer, client: Client) -> None:
    server.media["a.jpg"] = b"x" * 50
    assert client.download(f"{server.url}/media/a.jpg", 50) == b"x" * 50
    with pytest.raises(ValueError, match="more than 49"):
        client.download(f"{server.url}/media/a.jpg", 49)
    for elsewhere in ("https://evil.example/a.jpg", "http://pbs.twimg.com/a.jpg", "file:///etc"):
        with pytest.raises(FileNotFoundError):
            client.download(elsewhere, 50)
    with pytest.raises(FileNotFoundError):
        client.download(f"{server.url}/media/gone.jpg", 50)


# --- pushes


def test_x_is_told_that_the_secret_is_known() -> None:
    """The value is OpenSSL's HMAC-SHA256 of the token under the app's secret."""
    answer = XLive().receive(
        Push("GET", {}, {"crc_token": "challenge"}, b""), known(), datetime.now(UTC)
    )
    assert isinstance(answer, Answer)
    assert json.loads(answer.body) == {"response_token": pushed.signed(b"challenge", "key")}
    assert pushed.signed(b"challenge", "key") == (
        "sha256=/pSWP7rGsIbPhx1COvS7X3o9wOYdN+THjRIqbMdRs+g="
    )
    with pytest.raises(KeyError):
        XLive().receive(Push("GET", {}, {}, b""), known(), datetime.now(UTC))


def test_no_answer_to_a_question_signs_a_push() -> None:
    forged = b'{"for_user_id":"1","direct_message_events":[{"id":"9","text":"pay"}]}'
    for token in (forged.decode(), "", "x" * 201, "a b", "a\n"):
        with pytest.raises(ValueError, match="crc_token"):
            pushed.verify(Push("GET", {}, {"crc_token": token}, b""), "secret")
    token = b"an-honest_Token1"
    signature = pushed.signed(token, "secret")
    with pytest.raises(ValueError, match="body"):
        pushed.verify(Push("POST", {pushed.SIGNATURE: signature}, {}, token), "secret")
    assert pushed.verify(Push("GET", {}, {"crc_token": token.decode()}, b""), "secret")


def test_a_cap_is_an_amount_when_it_is_changed_too(stores: Stores) -> None:
    Accounts(stores.database, "ana").add("ana-x", "x", "X")
    now = datetime.now(UTC)
    Connections(stores).save("ana-x", {"cap_usd": "5"}, {}, timedelta(minutes=5), now)
    account = load_account(stores.database, "ana-x")
    with pytest.raises(ValueError, match="amount in US dollars"):
        change_setting(stores, account, "cap_usd", "$5")
    change_setting(stores, account, "cap_usd", "7.5")


def test_a_push_again_has_the_same_key_and_another_one_another() -> None:
    event = {"for_user_id": ANA, "tweet_create_events": [{"id_str": "5"}]}
    spelled = [json.dumps(event).encode(), json.dumps(event, indent=2).encode()]
    assert pushed.key_of(spelled[0]) == pushed.key_of(spelled[1])
    deleted = {"for_user_id": ANA, "tweet_delete_events": [{"status": {"id": "5"}}]}
    assert pushed.key_of(json.dumps(deleted).encode()) != pushed.key_of(spelled[0])
    for odd in (b"", b"[]", b"\xff", b'{"data": 5}', b'{"tweet_create_events": [{}]}'):
        assert len(pushed.key_of(odd)) == 64


def old_post(native: str, text: str, author: str = BEN, **more: Any) -> dict[str, Any]:
    """A post as the Account Activity API pushes it."""
    user = {"id_str": author, "name": "Ben", "screen_name": "ben"}
    made = "Tue Nov 03 09:12:44 +0000 2026"
    return {"id_str": native, "text": text, "created_at": made, "user": user, **more}


def test_both_shapes_of_pushes_are_read() -> None:
    """The Account Activity API's, and the X Activity API's."""
    long = {"full_text": "the whole of it", "entities": {}}
    told = {
        "for_user_id": ANA,
        "tweet_create_events": [
            old_post("5", "hello", in_reply_to_status_id_str="4"),
            old_post("6", "the wh…", truncated=True, extended_tweet=long),
            old_post("7", "RT @ana: mine", retweeted_status={"id_str": "3"}),
        ],
        "direct_message_events": [
            {
                "type": "message_create",
                "id": "1980000000000000001",
                "created_timestamp": "1793700100123",
                "message_create": {
                    "sender_id": BEN,
                    "target": {"recipient_id": ANA},
                    "message_data": {
                        "text": "see https://t.co/a",
                        "entities": {
                            "urls": [{"url": "https://t.co/a", "expanded_url": "https://a.example"}]
                        },
                    },
                },
            }
        ],
        "users": {BEN: {"id": BEN, "name": "Ben", "screen_name": "ben"}},
    }
    records = list(pushed.read(json.dumps(told).encode(), {ANA}))
    envelopes = [record for record in records if isinstance(record, Envelope)]
    rows, letters = understood(envelopes, platforms()["x"])
    assert letters == []
    found = {row["message_id"]: row for row in rows}
    assert set(found) == {"feed:5", "feed:6", f"{ANA}-{BEN}:1980000000000000001"}
    assert (found["feed:5"]["reply_to"], found["feed:5"]["author_id"]) == ("feed:4", BEN)
    assert found["feed:6"]["text"] == "the whole of it"
    assert found[f"{ANA}-{BEN}:1980000000000000001"]["text"] == "see https://a.example"
    assert {r.name for r in records if isinstance(r, Person)} == {"Ben"}


def test_a_push_for_somebody_else_is_not_mine() -> None:
    """All users of one app may share a webhook."""
    for told in (
        {"for_user_id": "77", "tweet_create_events": [old_post("5", "hello")]},
        {"data": {"event_type": "post.create", "filter": {"user_id": "77"}, "payload": {}}},
    ):
        assert list(pushed.read(json.dumps(told).encode(), {ANA})) == []


def test_encrypted_chat_and_other_events_are_no_messages() -> None:
    for kind in ("chat.received", "dm.read", "follow.follow", "profile.update.bio"):
        data = {"event_type": kind, "filter": {"user_id": ANA}, "payload": {"id": "1"}}
        assert list(pushed.read(json.dumps({"data": data}).encode(), {ANA})) == []


def test_a_deleted_post_that_was_never_read_is_dated_by_its_id() -> None:
    status = {"id": "1980000000000000000", "user_id": ANA}
    told = {
        "for_user_id": ANA,
        "tweet_delete_events": [{"status": status, "timestamp_ms": "1793700100123"}],
    }
    (deletion,) = pushed.read(json.dumps(told).encode(), {ANA})
    assert isinstance(deletion, Envelope)
    assert (deletion.kind, deletion.day) == ("deletion", "2025-10-19")
    assert deletion.version_at == 1_793_700_100_123_000


class TestPushedAndPulled:
    def test_a_post_in_the_old_shape_and_its_pull_are_one_version(
        self, server: XServer, client: Client
    ) -> None:
        message = server.say("hello &amp; welcome")
        native = message.split(":")[1]
        made = datetime.fromisoformat(server._post(native)["created_at"])
        at = made.strftime("%a %b %d %H:%M:%S +0000 %Y")
        told = {
            "for_user_id": ANA,
            "tweet_create_events": [old_post(native, "hello &amp; welcome", created_at=at)],
        }
        records = [*pushed.read(json.dumps(told).encode(), {ANA}), *Pulled(client).envelopes]
        rows, _ = understood([r for r in records if isinstance(r, Envelope)], platforms()["x"])
        assert [(row["text"], row["version"]) for row in rows] == [("hello & welcome", 1)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=10,
)
ID = st.sampled_from(["5", "1980000000000000000", ANA, BEN]) | JSON
OBJECT = st.fixed_dictionaries(
    {},
    optional={
        "id": ID,
        "id_str": ID,
        "type": st.just("message_create") | JSON,
        "text": st.text(max_size=30) | JSON,
        "author_id": ID,
        "sender_id": ID,
        "dm_conversation_id": st.sampled_from([f"{ANA}-{BEN}", "77"]) | JSON,
        "event_type": st.just("MessageCreate") | JSON,
        "created_at": st.sampled_from(["2026-11-03T10:00:00Z", "Tue Nov 03 09:12:44 +0000 2026"])
        | JSON,
        "created_timestamp": st.just("1793700100123") | JSON,
        "conversation_id": ID,
        "referenced_posts": JSON,
        "referenced_tweets": st.lists(st.fixed_dictionaries({"id": ID, "type": ID})),
        "edit_history_post_ids": JSON | st.lists(ID),
        "attachments": st.fixed_dictionaries({"media_keys": JSON}) | JSON,
        "entities": st.fixed_dictionaries({}, optional={"urls": JSON, "mentions": JSON}) | JSON,
        "note_post": st.fixed_dictionaries({"text": JSON}) | JSON,
        "public_metrics": JSON,
        "extended_tweet": JSON,
        "user": st.fixed_dictionaries({"id_str": ID, "name": JSON}) | JSON,
        "status": st.fixed_dictionaries({"id": ID}) | JSON,
        "timestamp_ms": JSON | st.just("1793700100123"),
        "message_create": st.fixed_dictionaries(
            {
                "sender_id": ID,
                "target": st.fixed_dictionaries({"recipient_id": ID}) | JSON,
                "message_data": st.fixed_dictionaries({"text": JSON, "entities": JSON}) | JSON,
            }
        )
        | JSON,
    },
)
INCLUDES = st.fixed_dictionaries(
    {}, optional={"users": JSON | st.lists(OBJECT), "media": JSON, "posts": JSON | st.lists(OBJECT)}
)
PUSHED = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "for_user_id": ID,
            "users": JSON,
            **{
                name: st.lists(OBJECT | JSON, max_size=2) | JSON
                for name in ("tweet_create_events", "tweet_delete_events", "direct_message_events")
            },
        },
    ),
    st.fixed_dictionaries(
        {
            "data": st.fixed_dictionaries(
                {},
                optional={
                    "event_type": st.sampled_from(["post.create", "post.delete", "dm.sent"]) | JSON,
                    "filter": st.fixed_dictionaries({"user_id": ID}) | JSON,
                    "payload": OBJECT | JSON,
                    "includes": INCLUDES | JSON,
                    "event_uuid": JSON,
                },
            )
            | JSON
        }
    ),
    JSON,
)


@settings(max_examples=120, deadline=None)
@given(PUSHED | st.binary(max_size=30))
def test_no_push_is_too_odd(told: Any) -> None:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    assert pushed.key_of(body)
    _hold(list(pushed.read(body, {ANA})))


@settings(max_examples=50, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "data": st.lists(OBJECT | JSON, max_size=3) | JSON,
            "includes": INCLUDES | JSON,
            "meta": st.fixed_dictionaries({"next_token": JSON}) | JSON,
            "errors": JSON | st.lists(OBJECT),
        },
    )
)
def test_no_answer_of_x_stops_a_pull(answer: dict[str, Any]) -> None:
    api = type("Answering", (Api,), {"get": lambda self, path, parameters=None: answer})
    asked = api(httpx.Client(), known())
    for window in (None, Window(LONG_AGO, datetime.now(UTC))):
        pages = Puller(asked, ANA, "", request({}, window=window)).pages()
        for page in itertools.islice(pages, 8):
            json.dumps(page.cursors).encode()
            "".join(page.notices).encode()
            _hold(list(page.records))


def _hold(records: list[Any]) -> None:
    for record in records:
        if isinstance(record, DeadLetter):
            assert record.reason
        elif isinstance(record, Person):
            (record.name + record.handle + record.person_id).encode()
        elif isinstance(record, Channel):
            (record.name + record.channel_id).encode()
    if envelopes := [record for record in records if isinstance(record, Envelope)]:
        understood(envelopes, platforms()["x"])


# --- sending


def test_a_reply_answers_and_a_direct_message_goes_to_its_conversation(
    server: XServer, client: Client
) -> None:
    question = server.say("who?")
    sent = client.send(Target("feed", reply_to=question), Part("I"), "token-1")
    assert isinstance(sent, Sent)
    assert server.posts[-1]["references"] == [{"type": "replied_to", "id": question[5:]}]
    talk = f"{ANA}-{BEN}"
    sent = client.send(Target(talk), Part("hi"), "token-2")
    assert isinstance(sent, Sent)
    assert sent.message_id.startswith(f"{talk}:")
    assert sent.sent_at is not None


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
@pytest.mark.parametrize("channel", ["feed", f"{ANA}-{BEN}"])
def test_an_answer_that_was_lost_is_unknown_and_found(
    server: XServer, client: Client, status: int, channel: str
) -> None:
    began = datetime.now(UTC)
    question = server.say("who?") if channel == "feed" else server.write("who?")
    target = Target(channel, reply_to=question if channel == "feed" else None)
    part = Part("I do & bring https://example.com/oars")
    assert isinstance(client.find_sent(target, part, "token-1", began), Absent)
    server.next_send = status
    assert isinstance(client.send(target, part, "token-1"), Unknown)
    found = client.find_sent(target, part, "token-1", began)
    assert isinstance(found, Sent)
    assert found.message_id in Pulled(client).message_ids


def test_the_same_words_elsewhere_are_not_taken_for_it(server: XServer, client: Client) -> None:
    began = datetime.now(UTC)
    first, second = server.say("one?"), server.say("two?")
    client.send(Target("feed", reply_to=first), Part("yes"), "token-1")
    for target in (Target("feed", reply_to=second), Target("feed"), Target(f"{ANA}-{BEN}")):
        assert isinstance(client.find_sent(target, Part("yes"), "token-2", began), Absent)
    later = began + timedelta(minutes=5)
    looked = client.find_sent(Target("feed", reply_to=first), Part("yes"), "token-1", later)
    assert isinstance(looked, Absent)


def test_duplicate_content_is_a_hint_and_not_an_answer(server: XServer, client: Client) -> None:
    began = datetime.now(UTC)
    server.duplicates_are_refused = True
    target, part = Target("feed"), Part("only once")
    assert isinstance(client.send(target, part, "token-1"), Sent)
    result = client.send(target, part, "token-1")
    assert isinstance(result, Unknown)
    assert "duplicate content" in result.reason
    assert isinstance(client.find_sent(target, part, "token-1", began), Sent)


def test_a_post_that_may_not_be_answered_says_why(server: XServer, client: Client) -> None:
    server.self_serve = True
    other = server.put("not about Ana", mentions_ana=False)
    result = client.send(Target("feed", reply_to=other), Part("hi"), "token-1")
    assert isinstance(result, Refused)
    assert "mention or quote you" in result.reason
    assert result.not_before is None


def test_without_a_look_nothing_is_proved(server: XServer, client: Client) -> None:
    for status in (401, 402, 403, 429, 500):
        server.refused["/tweets"] = Problem(status, "title")
        looked = client.find_sent(Target("feed"), Part("x"), "token-1", LONG_AGO)
        assert isinstance(looked, CannotTell)


def test_a_server_that_is_gone_has_taken_nothing() -> None:
    with XLive().connect(known(base_url="http://127.0.0.1:9")) as client:
        result = client.send(Target("feed"), Part("x"), "token-1")
    assert isinstance(result, Refused)
    assert result.not_before is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a & b", "a &amp; b"),
        ("see https://example.com/a?b=c now", "see https://t.co/xyz now"),
        ("see example.com", "see https://t.co/xyz"),
        ("hi there", "@ben @joe_2 hi  there"),
        ("café", "cafe\u0301"),
    ],
)
def test_a_text_is_known_again_after_x_took_it(one: str, other: str) -> None:
    assert comparable(one) == comparable(other)


# --- counting, quiet


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("", 0),
        ("hello", 5),
        ("café", 4),
        ("cafe\u0301", 4),
        ("привіт", 6),
        ("你好", 4),
        ("👾", 2),
        ("👨\u200d👩\u200d👧\u200d👦", 2),
        ("👍🏽", 2),
        ("🇩🇪", 2),
        ("❤️", 2),
        ("…", 2),
        ("“quoted”", 8),
        ("https://example.com/a/very/long/path?with=query&and=more", 23),
        ("see https://example.com.", 28),
        ("see example.com now", 31),
        ("e.g. 3.5 and a.b", 16),
        ("ana@example.com", 15),
    ],
)
def test_lengths_are_weighed_as_x_does(text: str, length: int) -> None:
    """By X's own table of examples and its configuration, version 3."""
    assert weighted_length(text) == length


@given(st.text(), st.text())
def test_two_texts_weigh_no_less_than_their_longer_part(one: str, other: str) -> None:
    if not has_link(one + "\n" + other):
        whole = weighted_length(f"{one}\n{other}")
        assert whole >= max(weighted_length(one), weighted_length(other))


def test_links_are_seen_for_they_cost_more() -> None:
    assert has_link("at https://example.com")
    assert has_link("at example.com")
    assert not has_link("at nine. No more")


def days_back(today: date, *back: int) -> list[date]:
    return [today - timedelta(days=n) for n in back]


def test_direct_messages_that_stop_after_weeks_are_an_alarm() -> None:
    today = date(2026, 11, 25)
    weekly = days_back(today, *range(15, 15 + 56, 5))
    alarm = direct_messages_went_quiet(weekly, today)
    assert alarm is not None
    assert "X Chat" in alarm
    assert "15 days" in alarm
    assert direct_messages_went_quiet([], today) is None
    assert direct_messages_went_quiet(days_back(today, 15, 16, 40), today) is None
    assert direct_messages_went_quiet([*weekly, today - timedelta(days=3)], today) is None
    with_a_gap = [day for day in weekly if not 30 <= (today - day).days < 45]
    assert direct_messages_went_quiet(with_a_gap, today) is None


# --- what the tests are made of


class Pulled:
    """What one pull brought."""

    def __init__(
        self,
        client: Client,
        cursors: Mapping[str, str] | None = None,
        fails: bool = False,
        **more: Any,
    ) -> None:
        self.cursors: dict[str, str] = dict(cursors or {})
        self.pages: list[Page] = []
        self.error: Exception | None = None
        try:
            for page in client.pull(request(self.cursors, **more)):
                self.pages.append(page)
                self.cursors = moved(self.cursors, page)
        except (Wait, OverBudget) as error:
            if not fails:
                raise
            self.error = error
        records = [record for page in self.pages for record in page.records]
        self.envelopes = [record for record in records if isinstance(record, Envelope)]
        self.channels = {r.channel_id: r for r in records if isinstance(r, Channel)}
        self.people = {r.person_id: r for r in records if isinstance(r, Person)}
        self.notices = [notice for page in self.pages for notice in page.notices]
        self.message_ids = {envelope.message_id for envelope in self.envelopes}
        self.reads = sum(page.reads for page in self.pages)
        self.cost = sum(page.cost_usd for page in self.pages)

    def rows(self) -> dict[str, dict[str, Any]]:
        rows, letters = understood(self.envelopes, platforms()["x"])
        assert letters == []
        return {row["message_id"]: row for row in rows if row["latest"]}


def request(
    cursors: Mapping[str, str],
    since: datetime = LONG_AGO,
    window: Window | None = None,
    chats: Chats | None = None,
    waits: Mapping[str, datetime] | None = None,
    budget_usd: float | None = None,
) -> PullRequest:
    now = datetime.now(UTC)
    return PullRequest(now, since, window, cursors, chats or Chats(), waits or {}, budget_usd)


def moved(cursors: Mapping[str, str], page: Page) -> dict[str, str]:
    return {name: at for name, at in {**cursors, **page.cursors}.items() if at}


def connection(server: XServer, **more: str) -> Connection:
    kept = XLive().login({**server.values, **more}, _nobody)
    open_names = ("base_url", "cap_usd", "search")
    return Connection(
        ACCOUNT,
        frozenset([ANA]),
        {name: kept[name] for name in open_names},
        {name: value for name, value in kept.items() if name not in open_names},
    )


def known(base_url: str = "http://127.0.0.1:9") -> Connection:
    secrets = {**KEYS, "consumer_secret": "key"}
    return Connection(ACCOUNT, frozenset([ANA]), {"base_url": base_url}, secrets)


def _nobody(field: Field) -> str:
    raise AssertionError(f"the login asked for {field.name}")
