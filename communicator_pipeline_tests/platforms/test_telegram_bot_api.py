"""A bot over the Bot API, against our own server on a socket.

What stands in the contract is not repeated here.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import JSONResponse, Response

from communicator_pipeline.platforms import telegram
from communicator_pipeline.platforms.protocol import (
    Accepted,
    CannotTell,
    Chats,
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
from communicator_pipeline.platforms.telegram import bot_api
from communicator_pipeline.platforms.telegram.bot_api import HEADER, BotClient
from communicator_pipeline.platforms.telegram.bot_api_messages import bare, candidates
from communicator_pipeline.platforms.telegram.live import TelegramLive
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope
from communicator_pipeline_tests.platforms.bot_api_server import (
    FORUM,
    GROUP,
    MAYA,
    SECRET,
    TOKEN,
    BotApiServer,
)
from communicator_pipeline_tests.platforms.reading import understood

LIVE = TelegramLive()
NOON = 1793707200  # 2026-11-03T12:00:00Z
_SECRET_PART = TOKEN.split(":")[1]


@pytest.fixture
def server() -> Iterator[BotApiServer]:
    with BotApiServer() as server:
        yield server


def connection_to(base_url: str, token: str = TOKEN) -> Connection:
    settings = {"kind": "bot", "base_url": base_url}
    secrets = {"bot_token": token, "webhook_secret": SECRET}
    return Connection("ana-bot", frozenset({"user424242"}), settings, secrets)


@contextmanager
def client(server: BotApiServer) -> Iterator[BotClient]:
    with LIVE.connect(connection_to(server.url)) as found:
        assert isinstance(found, BotClient)
        yield found


def pull(
    server: BotApiServer, cursors: dict[str, str] | None = None, chats: Chats | None = None
) -> Page:
    now = datetime.now(UTC)
    request = PullRequest(now, now, None, cursors or {}, chats or Chats())
    with client(server) as bot:
        [page] = bot.pull(request)
    return page


def rows_of(records: Any) -> dict[str, dict[str, Any]]:
    envelopes = [record for record in records if isinstance(record, Envelope)]
    if not envelopes:
        return {}
    rows, letters = understood(envelopes, telegram.PLATFORM)
    assert letters == []
    return {row["message_id"]: row for row in rows if row["latest"]}


def nobody(field: Field) -> str:
    raise AssertionError(f"asked for {field.name}")


# --- pulling


def test_what_was_brought_is_forgotten_by_the_next_pull_and_not_before(
    server: BotApiServer,
) -> None:
    """Telegram forgets updates as soon as later ones are asked for: a pull that is killed before
    it has landed must find them again."""
    first = server.say("one")
    page = pull(server)
    assert set(rows_of(page.records)) == {first}
    assert set(rows_of(pull(server).records)) == {first}
    second = server.say("two")
    assert set(rows_of(pull(server, dict(page.cursors)).records)) == {second}
    assert [u["message"]["text"] for u in server.updates] == ["two"]
    assert [name for name, _ in server.calls].count("getUpdates") == 3


def test_an_empty_answer_moves_nothing(server: BotApiServer) -> None:
    assert pull(server, {"updates": "9001"}) == Page([], {})


def test_excluded_chats_are_left_out(server: BotApiServer) -> None:
    server.say("to the bot")
    server.say("in the group", chat=GROUP)
    page = pull(server, chats=Chats({"55": "exclude"}))
    assert set(rows_of(page.records)) == {"7:1"}
    assert page.cursors == {"updates": "9003"}


def test_history_is_not_offered(server: BotApiServer) -> None:
    now = datetime.now(UTC)
    request = PullRequest(now, now, Window(now - timedelta(days=1), now))
    with client(server) as bot, pytest.raises(NotSupported, match="no history"):
        list(bot.pull(request))


def test_a_webhook_of_this_account_is_no_trouble(server: BotApiServer) -> None:
    server.webhook["url"] = "https://here.example/push/telegram/ana-bot"
    assert pull(server) == Page(notices=[])


def test_a_webhook_that_fails_or_leads_elsewhere_is_said(server: BotApiServer) -> None:
    server.webhook["url"] = "https://here.example/push/telegram/ana-bot"
    server.webhook["last_error_message"] = "Connection timed out"
    server.webhook["pending_update_count"] = 12
    assert "Connection timed out (12 messages wait there" in pull(server).notices[0]
    server.webhook["url"] = "https://other.example/hook"
    [notice] = pull(server).notices
    assert "pushed to another address" in notice
    assert "/push/telegram/ana-bot" in notice


def test_two_programs_with_one_token_are_told_apart_from_a_webhook(server: BotApiServer) -> None:
    server.other_poller = True
    with pytest.raises(Unreachable, match="another program"):
        pull(server)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Response("<html>", 502), Unreachable),
        (Response("not JSON", 200), Unreachable),
        (Response("[]", 200), Unreachable),
        (Response(status_code=404), LoginNeeded),
        (JSONResponse({"ok": True, "result": {"no": "list"}}), Unreachable),
        (JSONResponse({"ok": False, "error_code": 500, "description": "x"}, 500), Unreachable),
        (JSONResponse({"ok": False, "error_code": 404, "description": "x"}, 404), LoginNeeded),
        (JSONResponse({"ok": False, "error_code": 429, "description": "x"}, 429), Wait),
        (JSONResponse({"ok": False, "error_code": 429, "parameters": {"retry_after": "x"}}), Wait),
        (JSONResponse({"ok": False, "parameters": []}, 401), LoginNeeded),
    ],
)
def test_answers_that_are_none_are_errors_of_the_projects(
    server: BotApiServer, answer: Response, expected: type[Exception]
) -> None:
    server.answers_once = [answer]
    with pytest.raises(expected):
        pull(server)


# --- who it is


def test_privacy_mode_is_said_with_what_to_do(server: BotApiServer) -> None:
    with client(server) as bot:
        private = bot.identity()
        server.reads_groups = True
        open_ = bot.identity()
    assert any("/setprivacy" in words for words in private.cannot)
    assert not any("/setprivacy" in words for words in open_.cannot)
    assert private.person_ids == ("user424242",)
    assert private.place == "Telegram (@helper_bot)"


def test_a_login_makes_the_webhooks_secret_and_sets_the_webhook(server: BotApiServer) -> None:
    values = {**server.values, "webhook_secret": "", "takeout": "no"}
    kept = LIVE.login({**values, "webhook_url": ""}, nobody)
    assert len(kept["webhook_secret"]) > 30
    assert not server.webhook["url"]
    url = "https://here.example/push/telegram/ana-bot"
    kept = LIVE.login({**values, "webhook_url": url}, nobody)
    assert server.webhook["url"] == url
    assert server.webhook["secret_token"] == kept["webhook_secret"]
    assert "edited_message" in server.webhook["allowed_updates"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"bot_token": "a-very-secret-word"}, "bot_token should look like"),
        ({"bot_token": ""}, "bot_token should look like"),
        ({"webhook_secret": "short"}, "webhook_secret"),
        ({"webhook_secret": "an umlaut ü is not allowed"}, "webhook_secret"),
        ({"webhook_url": "http://here.example/x"}, "https"),
        ({"base_url": "http://elsewhere.example"}, "https"),
    ],
)
def test_what_was_typed_wrong_is_said_and_not_repeated(
    server: BotApiServer, more: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        LIVE.login({**server.values, "webhook_url": "", **more}, nobody)
    assert "a-very-secret-word" not in str(caught.value)
    assert server.calls == []


# --- sending


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target("7", None, "7:1"), {"chat_id": MAYA, "reply_parameters": {"message_id": 1}}),
        (Target("7", "7:1"), {"chat_id": MAYA, "reply_parameters": {"message_id": 1}}),
        (Target("55"), {"chat_id": GROUP}),
        (Target("888", "888:4"), {"chat_id": FORUM, "message_thread_id": 4}),
        (Target("888", "888:1"), {"chat_id": FORUM}),  # General
        (
            Target("888", "888:4", "888:3"),
            {"chat_id": FORUM, "message_thread_id": 4, "reply_parameters": {"message_id": 3}},
        ),
    ],
)
def test_a_reply_goes_where_it_belongs(
    server: BotApiServer, target: Target, expected: dict[str, Any]
) -> None:
    for chat in (MAYA, GROUP, FORUM):
        server.say("hello", chat=chat)
    with client(server) as bot:
        result = bot.send(target, Part("yes"), "token")
    assert isinstance(result, Sent), result
    assert result.message_id == f"{target.channel_id}:4"
    preview = {"link_preview_options": {"is_disabled": True}}
    assert server.sent == [{"text": "yes", **preview, **expected}]


def test_nobody_gets_what_was_meant_for_another(server: BotApiServer) -> None:
    """A group and a person of the same number: the channel id does not tell them apart."""
    server.chats[-MAYA] = {"id": -MAYA, "type": "group", "title": "Seven"}
    with client(server) as bot:
        result = bot.send(Target("7"), Part("a private word"), "token")
        nowhere = bot.send(Target("404"), Part("a private word"), "token")
        odd = bot.send(Target("#boats"), Part("a private word"), "token")
    assert isinstance(result, Refused)
    assert "same number" in result.reason
    assert isinstance(nowhere, Refused)
    assert isinstance(odd, Refused)
    assert server.sent == []


def _said(status: int, words: str, **parameters: Any) -> Response:
    body = {"ok": False, "error_code": status, "description": words, "parameters": parameters}
    return JSONResponse(body, status)


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (_said(403, "Forbidden: bot was blocked by the user"), Refused, "blocked"),
        (_said(400, "Bad Request: chat not found"), Refused, "chat not found"),
        (_said(400, "upgraded", migrate_to_chat_id=-1000000005555), Refused, "supergroup 5555"),
        (_said(401, "Unauthorized"), Refused, "token"),
        (_said(404, "Not Found"), Refused, "token"),
        (_said(429, "Too Many Requests", retry_after=40), Refused, "limit"),
        (_said(500, "Internal Server Error"), Unknown, "trouble"),
        (Response("<html>", 502), Unknown, "502"),
        (Response("cut off", 200), Unknown, ""),
        (JSONResponse({"ok": True, "result": {}}), Unknown, "which message"),
        (JSONResponse({"ok": True, "result": {"message_id": 5, "date": 10**18}}), Sent, ""),
    ],
)
def test_what_an_answer_to_a_send_means(
    server: BotApiServer, answer: Response, expected: type, words: str
) -> None:
    chats = [JSONResponse({"ok": True, "result": server.chats[MAYA]})]
    unknown = [_said(400, "Bad Request: chat not found")]
    server.answers_once = [*unknown, *chats, *unknown, answer]
    with client(server) as bot:
        result = bot.send(Target("7"), Part("hi"), "token")
    assert isinstance(result, expected), result
    assert words in getattr(result, "reason", "")
    assert (getattr(result, "not_before", None) is not None) == (words == "limit")


def test_a_text_is_measured_in_utf16(server: BotApiServer) -> None:
    with client(server) as bot:
        assert isinstance(bot.send(Target("7"), Part("🎃" * 2049), "t"), Refused)
        assert isinstance(bot.send(Target("7"), Part("🎃" * 2048), "t"), Sent)


def test_no_connection_is_for_later_and_a_lost_answer_is_unknown(server: BotApiServer) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody_there = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with LIVE.connect(connection_to(nobody_there)) as bot:
        result = bot.send(Target("7"), Part("hi"), "token")
    assert isinstance(result, Refused)
    assert result.not_before is not None
    with _cut_off_after(server, 3) as url, LIVE.connect(connection_to(url)) as bot:
        result = bot.send(Target("7"), Part("hi"), "token")
        assert isinstance(result, Unknown), result
        found = bot.find_sent(Target("7"), Part("hi"), "token", datetime.now(UTC))
    assert isinstance(found, CannotTell)


@contextmanager
def _cut_off_after(server: BotApiServer, requests: int) -> Iterator[str]:
    """A way to the server that passes some requests on, and hangs up on the next."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        there, _ = listener.accept()
        for _ in range(requests):
            asked = there.recv(65_536)
            path = asked.split(b" ")[1].decode()
            body = asked.split(b"\r\n\r\n", 1)[1]
            while len(body) < int(asked.lower().split(b"content-length: ")[1].split(b"\r")[0]):
                body += there.recv(65_536)
            answer = httpx.post(server.url + path, content=body)
            head = f"HTTP/1.1 {answer.status_code} OK\r\ncontent-length: {len(answer.content)}"
            there.sendall(head.encode() + b"\r\n\r\n" + answer.content)
        there.recv(65_536)
        there.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.join(10)


# --- the token


def test_the_token_is_in_no_log_and_in_no_error(
    server: BotApiServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """httpx logs the address of every request, and the token is part of it."""
    caplog.set_level(logging.DEBUG)
    server.files["documents/a"] = b"content"
    server.say("hello")
    told: list[Any] = [pull(server)]
    with client(server) as bot:
        told.append(bot.send(Target("7"), Part("hi"), "token"))
        told.append(bot.download("telegram-bot-file:a", 100))
        server.revoke()
        told.append(bot.send(Target("7"), Part("hi"), "token"))
        for fails in (bot.identity, lambda: bot.download("telegram-bot-file:a", 100)):
            with pytest.raises(LoginNeeded) as caught:
                fails()
            told.append(caught.value)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody_there = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with LIVE.connect(connection_to(nobody_there)) as bot, pytest.raises(Unreachable) as lost:
        bot.identity()
    told.append(lost.value)
    assert "/bot•••" in caplog.text
    assert _SECRET_PART not in caplog.text
    assert _SECRET_PART not in f"{told!r}"
    for error in told:
        if isinstance(error, Exception):
            assert error.__context__ is None or error.__suppress_context__


# --- files


def test_files_are_fetched_by_their_own_name(server: BotApiServer) -> None:
    server.files["documents/a"] = b"x" * 200
    with client(server) as bot:
        assert bot.download("telegram-bot-file:a", 200) == b"x" * 200
        for too_large in ("telegram-bot-file:a", "telegram-bot-file:huge"):
            with pytest.raises(ValueError, match=r"more than|20 MB"):
                bot.download(too_large, 199)
        for gone in ("telegram-bot-file:b", "https://elsewhere.example/x", "telegram:user7/1"):
            with pytest.raises(FileNotFoundError):
                bot.download(gone, 100)
        for path in ("../secret", "/etc/x?y", 7, None):
            told = {"ok": True, "result": {"file_path": path}}
            server.answers_once = [JSONResponse(told)]
            with pytest.raises(FileNotFoundError):
                bot.download("telegram-bot-file:a", 100)


# --- being pushed to


def _push(body: bytes, secret: str = SECRET) -> Push:
    return Push("POST", {HEADER: secret}, {}, body)


def test_a_push_is_known_by_its_number() -> None:
    verdict = LIVE.receive(_push(b'{"update_id": 17}'), connection_to(""), datetime.now(UTC))
    assert verdict == Accepted("update 17")


@pytest.mark.parametrize(
    "push",
    [
        _push(b'{"update_id": 17}', "wrong"),
        _push(b'{"update_id": 17}', ""),
        _push(b'{"update_id": "17"}'),
        _push(b"[]"),
        _push(b"\xff"),
        Push("POST", {}, {}, b'{"update_id": 17}'),
    ],
)
def test_what_is_not_telegrams_is_refused(push: Push) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        LIVE.receive(push, connection_to(""), datetime.now(UTC))


def test_an_account_without_a_secret_takes_no_pushes() -> None:
    secrets = {"bot_token": TOKEN, "webhook_secret": ""}
    connection = Connection("b", frozenset(), {"kind": "bot"}, secrets)
    with pytest.raises(ValueError, match="secret"):
        LIVE.receive(_push(b'{"update_id": 17}', ""), connection, datetime.now(UTC))


# --- what messages say


def update(message: Any, kind: str = "message") -> bytes:
    return json.dumps({"update_id": 1, kind: message}).encode()


def message(**more: Any) -> dict[str, Any]:
    maya = {"id": MAYA, "is_bot": False, "first_name": "Maya", "username": "maya"}
    group = {"id": -1000000000777, "type": "supergroup", "title": "Docks"}
    return {"message_id": 5, "from": maya, "chat": group, "date": NOON, **more}


def only_row(body: bytes) -> dict[str, Any]:
    [row] = rows_of(LIVE.events(body, connection_to(""))).values()
    return row


def test_a_message_brings_its_chat_and_its_author() -> None:
    records = list(LIVE.events(update(message(text="hi")), connection_to("")))
    [channel] = [r for r in records if isinstance(r, Channel)]
    [person] = [r for r in records if isinstance(r, Person)]
    assert (channel.channel_id, channel.name, channel.kind) == ("777", "Docks", "group")
    assert (person.person_id, person.handle, person.is_bot) == ("user7", "maya", False)
    [row] = rows_of(records).values()
    assert (row["message_id"], row["author_id"], row["text"]) == ("777:5", "user7", "hi")


def test_formatting_is_read_in_utf16_units() -> None:
    joe = {"id": 9, "is_bot": False, "first_name": "Joe"}
    entities = [
        {"type": "text_mention", "offset": 3, "length": 3, "user": joe},
        {"type": "text_link", "offset": 12, "length": 4, "url": "https://a.example"},
        {"type": "bold", "offset": 13, "length": 900},
    ]
    row = only_row(update(message(text="🎃 Joe, see this", entities=entities)))
    assert row["text"] == "🎃 <@user9>, see this (https://a.example)"
    assert row["mentions"] == ["user9"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"is_topic_message": True, "message_thread_id": 3}, ("777:3", None)),
        (
            {
                "is_topic_message": True,
                "message_thread_id": 3,
                "reply_to_message": {"message_id": 4},
            },
            ("777:3", "777:4"),
        ),
        (
            {
                "is_topic_message": True,
                "message_thread_id": 3,
                "reply_to_message": {"message_id": 3},
            },
            ("777:3", None),
        ),
        ({"message_thread_id": 3, "reply_to_message": {"message_id": 3}}, (None, "777:3")),
        (
            {
                "external_reply": {
                    "message_id": 8,
                    "chat": {"id": -1000000000999, "type": "channel", "title": "News"},
                }
            },
            (None, "999:8"),
        ),
    ],
)
def test_topics_are_threads_and_answers_are_answers(
    more: dict[str, Any], expected: tuple[str | None, str | None]
) -> None:
    row = only_row(update(message(text="x", **more)))
    assert (row["thread_id"], row["reply_to"]) == expected


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"new_chat_members": [{"id": 9, "first_name": "Joe"}]}, "Maya invited Joe"),
        ({"left_chat_member": {"id": MAYA, "first_name": "Maya"}}, "Maya left"),
        ({"new_chat_title": "Piers"}, 'Maya renamed the group to "Piers"'),
        ({"pinned_message": {"message_id": 3}}, "Maya pinned a message"),
        ({"forum_topic_created": {"name": "Nets"}}, 'Maya opened the topic "Nets"'),
        ({"migrate_from_chat_id": -55}, 'Maya turned the group "Docks" into this supergroup'),
    ],
)
def test_what_happens_in_a_chat_is_put_into_words(more: dict[str, Any], words: str) -> None:
    row = only_row(update(message(**more)))
    assert (row["kind"], row["text"]) == ("system", words)


def test_media_are_attachments_or_words() -> None:
    sizes = [
        {"file_id": "small", "width": 90, "height": 60},
        {"file_id": "large", "width": 900, "height": 600, "file_size": 55},
    ]
    row = only_row(update(message(photo=sizes, caption="look")))
    assert row["text"] == "look"
    [file] = row["attachments"]
    assert (file["name"], file["bytes"]) == ("photo.jpg", 55)
    assert file["url"] == "telegram-bot-file:large"
    pdf = {"file_id": "p", "file_name": "plan.pdf", "mime_type": "application/pdf"}
    [file] = only_row(update(message(document=pdf)))["attachments"]
    assert (file["name"], file["mime"]) == ("plan.pdf", "application/pdf")
    poll = {"question": "When?", "options": [{"text": "Mon"}, {"text": "Tue"}]}
    assert only_row(update(message(poll=poll)))["text"] == "When?\n• Mon\n• Tue"
    place = {"latitude": 38.7, "longitude": -9.1}
    assert only_row(update(message(location=place)))["text"] == "Location: 38.7, -9.1"


def test_posts_of_channels_and_anonymous_administrators_are_their_own() -> None:
    news = {"id": -1000000000999, "type": "channel", "title": "News", "username": "news"}
    post = {"message_id": 5, "chat": news, "date": NOON, "text": "hi", "sender_chat": news}
    row = only_row(update(post, "channel_post"))
    assert (row["channel_kind"], row["author_id"], row["author_name"]) == (
        "feed",
        "channel999",
        "News",
    )
    docks = message()["chat"]
    row = only_row(update(message(text="x", sender_chat=docks)))
    assert (row["author_id"], row["author_name"]) == ("channel777", "Docks")


def test_an_edit_is_a_version_of_the_same_message() -> None:
    records = [
        *LIVE.events(update(message(text="at nine")), connection_to("")),
        *LIVE.events(
            update(message(text="at ten", edit_date=NOON + 60), "edited_message"),
            connection_to(""),
        ),
    ]
    [row] = rows_of(records).values()
    assert (row["text"], row["version"]) == ("at ten", 2)
    assert row["edited_at"].timestamp() == NOON + 60


def test_other_updates_say_nothing() -> None:
    for kind in ("message_reaction", "callback_query", "my_chat_member", "invented_in_2027"):
        assert list(LIVE.events(update({"id": "x"}, kind), connection_to(""))) == []


@pytest.mark.parametrize("number", [7, -55, -1000000000777, -4000000007])
def test_numbers_of_chats_go_back_and_forth(number: int) -> None:
    assert number in candidates(bare(number))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "type", "title", "offset", "length", "file_id", "width", "height"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
KEYS = (
    "message_id from chat date text edit_date entities photo document sticker poll reply_to_message"
    " external_reply forward_origin sender_chat new_chat_members pinned_message media_group_id "
    "is_topic_message message_thread_id location contact via_bot caption video_chat_ended"
).split()


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), JUNK, max_size=4))
def test_no_push_raises_and_what_is_understood_stays_so(junk: dict[str, Any]) -> None:
    records = list(LIVE.events(update({**message(text="hi"), **junk}), connection_to("")))
    assert records
    assert sum(isinstance(record, DeadLetter | Envelope) for record in records) == 1
    rows_of(records)


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=40), JUNK.map(lambda value: json.dumps(value).encode())))
def test_no_body_raises(body: bytes) -> None:
    list(LIVE.events(body, connection_to("")))


def test_a_body_nested_too_deep_is_a_dead_letter() -> None:
    deep = b'{"update_id": 1, "message": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    [letter] = LIVE.events(deep, connection_to(""))
    assert isinstance(letter, DeadLetter)
    assert letter.stage == "push"


def test_the_apis_address_is_taken_over_https_only() -> None:
    assert bot_api.checked_base_url("https://api.telegram.org/") == "https://api.telegram.org"
    for bad in ("http://api.telegram.org", "ftp://x", "", "https://"):
        with pytest.raises(ValueError, match="https"):
            bot_api.checked_base_url(bad)
