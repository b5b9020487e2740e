"""A user's account over MTProto, against servers that answer Telethon's real client.

What stands in the contract is not repeated here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from telethon import password as telethon_password
from telethon.tl import functions, types

from communicator_pipeline.platforms import telegram
from communicator_pipeline.platforms.protocol import (
    Absent,
    CannotTell,
    Chats,
    Connection,
    Field,
    LoginNeeded,
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
from communicator_pipeline.platforms.telegram import mtproto, mtproto_asking, mtproto_pull
from communicator_pipeline.platforms.telegram.live import TelegramLive
from communicator_pipeline.platforms.telegram.mtproto_messages import Cast, exported
from communicator_pipeline.platforms.telegram.whereabouts import BLOCK, MOST_BLOCKS, Whereabouts
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope
from communicator_pipeline_tests.platforms.reading import read, understood, write_json
from communicator_pipeline_tests.platforms.telegram_request_peer import (
    HELPER,
    JOE,
    MAYA,
    ME,
    PeerSender,
    Refusal,
    TelegramServer,
    client_of,
    session_text,
)

LIVE = TelegramLive()
PRIVATE, GROUP, DOCKS, FORUM, NEWS = "user7", "chat55", "channel777", "channel888", "channel999"
LOOK_BACK = timedelta(days=14)


@dataclass
class Pulled:
    """What came of a pull."""

    envelopes: list[Envelope] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    channels: dict[str, Channel] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    done: list[float] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [envelope.message_id for envelope in self.envelopes]

    def messages(self) -> dict[str, dict[str, Any]]:
        rows, letters = understood(self.envelopes, telegram.PLATFORM)
        assert letters == []
        return {row["message_id"]: row for row in rows if row["latest"]}


class Account:
    """The account at the peer, and its cursors, as the engine would keep them."""

    def __init__(self, server: TelegramServer) -> None:
        self.server = server
        self.cursors: dict[str, str] = {}
        self.window_cursors: dict[str, str] = {}
        self.chats = Chats()
        self.settings: dict[str, str] = {}
        self.waits: dict[str, datetime] = {}
        self.later = timedelta(0)

    @property
    def connection(self) -> Connection:
        values = {**self.server.values, **self.settings}
        secret = {name: values.pop(name) for name in ("api_hash", "session")}
        return Connection("ana-there", frozenset({"user1"}), values, secret)

    @contextmanager
    def client(self) -> Iterator[mtproto.UserClient]:
        with LIVE.connect(self.connection) as client:
            assert isinstance(client, mtproto.UserClient)
            yield client

    def pages(self, window: Window | None = None) -> Iterator[Page]:
        """Each page is taken over when the next one is asked for: whoever stops loses the last."""
        cursors = self.cursors if window is None else self.window_cursors
        now = datetime.now(UTC) + self.later
        since = window.first if window else now - LOOK_BACK
        request = PullRequest(now, since, window, dict(cursors), self.chats, self.waits)
        with self.client() as client:
            for page in client.pull(request):
                yield page
                for stream, position in page.cursors.items():
                    cursors.pop(stream, None) if position == "" else cursors.update(
                        {stream: position}
                    )

    def pull(self, window: Window | None = None, pages: int | None = None) -> Pulled:
        """Pull, or as much of it as some pages; the last of these is not taken over."""
        pulled = Pulled()
        for number, page in enumerate(self.pages(window), start=1):
            for record in page.records:
                if isinstance(record, Envelope):
                    pulled.envelopes.append(record)
                elif isinstance(record, DeadLetter):
                    pulled.letters.append(record)
                elif isinstance(record, Channel):
                    pulled.channels[record.channel_id] = record
                else:
                    pulled.people[record.person_id] = record
            pulled.notices += page.notices
            if page.done is not None:
                pulled.done.append(page.done)
            if number == pages:
                break
        return pulled

    def asked(self, kind: type) -> list[Any]:
        return [one for one in self.server.requests if isinstance(one, kind)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> TelegramServer:
    server = TelegramServer()
    monkeypatch.setattr(mtproto_asking, "new_client", client_of(server))
    return server


@pytest.fixture
def account(server: TelegramServer) -> Account:
    return Account(server)


@pytest.fixture
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Telethon rests for two seconds after a server's error, even if it does not try again."""

    async def at_once(seconds: float) -> None:
        return None

    monkeypatch.setattr("telethon.client.users.asyncio.sleep", at_once)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(mtproto_pull, "PAGE", 5)
    return 5


# --- what is new


def test_the_first_pull_looks_back_as_far_as_it_is_asked_to(
    server: TelegramServer, account: Account
) -> None:
    now = datetime.now(UTC)
    server.post(PRIVATE, "too old", date=now - timedelta(days=20))
    server.post(PRIVATE, "old enough", date=now - timedelta(days=10))
    server.post("user9", "a chat of last year", by=JOE, date=now - timedelta(days=300))
    pulled = account.pull()
    assert pulled.ids == ["7:2"]
    assert pulled.channels["9"].name == "Joe"
    assert len(account.asked(functions.messages.GetHistoryRequest)) == 1
    assert account.pull().envelopes == []


def test_people_and_chats_come_with_their_names_and_handles(
    server: TelegramServer, account: Account
) -> None:
    server.post(PRIVATE, "hi")
    server.post(f"user{ME}", "a note", by=ME)
    server.post(f"user{HELPER}", "I am a bot", by=HELPER)
    server.post(GROUP, "all of us")
    pulled = account.pull()
    maya = pulled.people["user7"]
    assert (maya.name, maya.handle, maya.is_bot) == ("Maya Ito", "maya", False)
    assert pulled.people["user33"].is_bot
    names = {key: (channel.name, channel.kind) for key, channel in pulled.channels.items()}
    assert names["1"] == ("Saved Messages", "dm")
    assert names["55"] == ("Harbour", "group")
    rows = pulled.messages()
    assert rows["1:2"]["author_id"] == "user1"
    assert rows["33:3"]["author_is_bot"]


def test_my_own_messages_are_mine_in_private_chats_too(
    server: TelegramServer, account: Account
) -> None:
    """Telegram names no author there."""
    server.post(PRIVATE, "from her")
    server.post(PRIVATE, "from me", by=ME)
    rows = account.pull().messages()
    assert [row["author_id"] for row in rows.values()] == ["user7", "user1"]


def test_an_idle_poll_costs_two_requests(server: TelegramServer, account: Account) -> None:
    """Besides those with which Telethon connects: one for all private chats and groups, one for up
    to a hundred supergroups."""
    server.post(PRIVATE, "hi")
    server.post(DOCKS, "hi")
    account.pull()
    server.requests.clear()
    assert account.pull().envelopes == []
    asked = [type(request).__name__ for request in server.requests]
    assert asked[-2:] == ["GetDifferenceRequest", "GetPeerDialogsRequest"]
    assert "GetDialogsRequest" not in asked
    assert "GetChannelDifferenceRequest" not in asked


def test_only_supergroups_that_moved_are_asked(server: TelegramServer, account: Account) -> None:
    server.post(DOCKS, "one")
    server.post(FORUM, "one")
    account.pull()
    server.requests.clear()
    server.post(DOCKS, "two")
    assert account.pull().ids == ["777:2"]
    [request] = account.asked(functions.updates.GetChannelDifferenceRequest)
    assert request.channel.channel_id == 777


def test_broadcast_channels_are_read_when_they_are_included(
    server: TelegramServer, account: Account
) -> None:
    server.post(NEWS, "buy now", from_id=None)
    server.post(PRIVATE, "hi")
    assert account.pull().ids == ["7:1"]
    server.post(NEWS, "again", from_id=None)
    assert account.pull().ids == []
    account.chats = Chats({"999": "include"})
    rows = account.pull().messages()
    assert set(rows) == {"999:1", "999:2"}
    assert rows["999:1"]["channel_kind"] == "feed"
    assert rows["999:1"]["author_id"] == "channel999"


def test_an_excluded_chat_is_not_read_and_begins_anew_when_it_is_back(
    server: TelegramServer, account: Account
) -> None:
    server.post(PRIVATE, "one")
    server.post(GROUP, "one")
    account.pull()
    account.chats = Chats({"7": "exclude"})
    server.post(PRIVATE, "two")
    server.post(GROUP, "two")
    assert account.pull().ids == ["55:4"]
    account.chats = Chats()
    assert account.pull().ids == ["7:3", "7:1"]


def test_a_chat_that_was_not_there_comes_by_itself(
    server: TelegramServer, account: Account
) -> None:
    """A stranger writes; the account joins a supergroup."""
    server.post(PRIVATE, "hi")
    account.pull()
    server.post("user9", "do you know me?", by=JOE)
    server.supergroup(4444, "New one")
    server.post("channel4444", "welcome")
    pulled = account.pull()
    assert set(pulled.ids) == {"9:2", "4444:1"}
    assert pulled.channels["4444"].name == "New one"


def test_deletions_find_their_chat_though_telegram_does_not_name_it(
    server: TelegramServer, account: Account
) -> None:
    server.post(PRIVATE, "one")
    server.post(GROUP, "two")
    account.chats = Chats({"9": "exclude"})
    account.pull()
    server.post("user9", "three", by=JOE)
    assert account.pull().ids == []
    server.remove(PRIVATE, 1, 2, 3)
    pulled = account.pull()
    assert sorted((e.message_id, e.kind) for e in pulled.envelopes) == [
        ("55:2", "deletion"),
        ("7:1", "deletion"),
    ]
    assert pulled.notices == []


def test_a_deletion_of_something_never_seen_is_said(
    server: TelegramServer, account: Account
) -> None:
    server.post(PRIVATE, "of last year", date=datetime.now(UTC) - timedelta(days=300))
    server.post(PRIVATE, "of today")
    account.pull()
    server.remove(PRIVATE, 1)
    pulled = account.pull()
    assert pulled.envelopes == []
    assert "1 messages were deleted" in pulled.notices[0]


def test_a_deletion_in_a_supergroup_is_a_tombstone_there(
    server: TelegramServer, account: Account
) -> None:
    server.post(PRIVATE, "the same number")
    server.post(DOCKS, "one")
    account.pull()
    server.remove(DOCKS, 1)
    assert [(e.message_id, e.kind) for e in account.pull().envelopes] == [("777:1", "deletion")]


def test_a_reaction_is_no_new_version(server: TelegramServer, account: Account) -> None:
    """Some come as an edit that is to be hidden, some as an update without the message."""
    server.post(PRIVATE, "one")
    server.post(PRIVATE, "two")
    pulled = account.pull()

    def liked(count: int) -> Any:
        return types.MessageReactions([types.ReactionCount(types.ReactionEmoji("👍"), count)])

    server.change(PRIVATE, 1, reactions=liked(1), edit_date=server.tick(), edit_hide=True)
    server.account.messages[2].reactions = liked(3)
    server.tell(types.UpdateMessageReactions(types.PeerUser(MAYA), 2, liked(3)))
    pulled.envelopes += account.pull().envelopes
    rows = pulled.messages()
    assert [row["version"] for row in rows.values()] == [1, 1]
    assert [row["reactions"] for row in rows.values()] == [
        [{"name": "👍", "count": 1}],
        [{"name": "👍", "count": 3}],
    ]
    assert [row["edited_at"] for row in rows.values()] == [None, None]


def test_a_long_difference_comes_in_slices_and_a_kill_loses_none(
    server: TelegramServer, account: Account
) -> None:
    server.post(PRIVATE, "first")
    account.pull()
    server.slice_at = 2
    for number in range(7):
        server.post(PRIVATE, f"number {number}")
    killed = account.pull(pages=3)
    whole = account.pull()
    wanted = {f"7:{n}" for n in range(2, 9)}
    assert {*killed.ids, *whole.ids} == wanted
    assert len(whole.ids) < len(wanted)


def test_after_too_long_an_absence_history_is_read(
    server: TelegramServer, account: Account
) -> None:
    server.post(PRIVATE, "before")
    server.post(GROUP, "before")
    account.pull()
    server.post(PRIVATE, "missed")
    server.post(GROUP, "missed")
    server.account.oldest = server.account.pts
    pulled = account.pull()
    assert {"7:3", "55:4"} <= {*pulled.ids}
    assert any("edits and deletions" in notice for notice in pulled.notices)
    server.post(PRIVATE, "after")
    pulled = account.pull()
    assert (pulled.ids, pulled.notices) == (["7:5"], [])


def test_after_too_long_an_absence_a_supergroup_is_read_from_the_last_known_message(
    server: TelegramServer, account: Account
) -> None:
    for number in range(3):
        server.post(DOCKS, f"before {number}")
    account.pull()
    for number in range(2):
        server.post(DOCKS, f"missed {number}")
    server.channels[777].oldest = server.channels[777].pts
    pulled = account.pull()
    assert pulled.ids == ["777:5", "777:4"]
    assert "Docks: Telegram keeps no list" in pulled.notices[0]


def test_a_place_that_telegram_does_not_take_begins_anew(
    server: TelegramServer, account: Account
) -> None:
    server.post(PRIVATE, "before")
    account.pull()
    server.post(PRIVATE, "missed")
    answered = server._GetDifference

    def refused(request: Any) -> Any:
        if request.pts < server.account.pts:
            raise Refusal(400, "PERSISTENT_TIMESTAMP_INVALID")
        return answered(request)

    server._GetDifference = refused  # type: ignore[method-assign]
    pulled = account.pull()
    assert "7:2" in pulled.ids
    assert pulled.notices
    assert account.pull().notices == []


def test_a_supergroup_that_is_gone_is_said_and_the_others_go_on(
    server: TelegramServer, account: Account
) -> None:
    server.post(DOCKS, "one")
    server.post(FORUM, "one")
    account.pull()
    server.chats[DOCKS].left = True
    server.post(FORUM, "two")
    pulled = account.pull()
    assert pulled.ids == ["888:2"]
    assert pulled.notices == ["Docks: this account is not in the chat any more"]
    assert account.pull().notices == []


def test_a_killed_first_pull_goes_on_where_it_was(
    server: TelegramServer, account: Account, small_pages: int
) -> None:
    for number in range(23):
        server.post(PRIVATE, f"number {number}")
    killed = account.pull(pages=5)
    server.requests.clear()
    rest = account.pull()
    assert {*killed.ids, *rest.ids} == {f"7:{n}" for n in range(1, 24)}
    assert len(account.asked(functions.messages.GetHistoryRequest)) < 5


def test_more_chats_than_a_page_are_all_listed(
    server: TelegramServer, account: Account, small_pages: int
) -> None:
    for number in range(100, 117):
        server.users[number] = server._user(number, f"Person {number}")
        server.post(f"user{number}", "hi", by=number)
    assert len(account.pull().ids) == 17


def test_two_chats_of_one_number_are_not_mixed(server: TelegramServer, account: Account) -> None:
    """Ids of people, groups and channels are sequences of their own; the export has the bare
    number, and so does everything here."""
    server.group(MAYA, "Seven")
    server.post(PRIVATE, "from Maya")
    server.post(f"chat{MAYA}", "from the group")
    pulled = account.pull()
    assert pulled.ids == ["7:2"]
    assert "Maya Ito: its number is also that of chat7" in pulled.notices[0]
    server.post(PRIVATE, "from Maya again")
    server.post(f"chat{MAYA}", "from the group again")
    assert account.pull().ids == ["7:4"]
    with account.client() as client:
        assert isinstance(client.send(Target("7"), Part("hi"), "t"), Refused)


# --- what messages say


def test_topics_are_threads_and_general_is_none(server: TelegramServer, account: Account) -> None:
    server.post(FORUM, "in General")
    server.act(FORUM, types.MessageActionTopicCreate("Repairs", 0))
    header = types.MessageReplyHeader
    server.post(FORUM, "in it", reply_to=header(forum_topic=True, reply_to_msg_id=2))
    server.post(
        FORUM,
        "an answer in it",
        reply_to=header(forum_topic=True, reply_to_msg_id=3, reply_to_top_id=2),
    )
    server.post(FORUM, "an answer in General", reply_to=header(reply_to_msg_id=1))
    rows = account.pull().messages()
    assert rows["888:2"]["text"] == 'Maya Ito opened the topic "Repairs"'
    told = {key: (row["thread_id"], row["reply_to"]) for key, row in rows.items()}
    assert told["888:1"] == (None, None)
    assert told["888:3"] == ("888:2", None)
    assert told["888:4"] == ("888:2", "888:3")
    assert told["888:5"] == (None, "888:1")


def test_an_album_is_several_messages_that_name_the_first(
    server: TelegramServer, account: Account
) -> None:
    for number in range(3):
        server.post(PRIVATE, "three boats" if number == 0 else "", grouped_id=5, media=_photo(1))
    rows = account.pull().messages()
    assert [row["reply_to"] for row in rows.values()] == [None, "7:1", "7:1"]
    assert all(len(row["attachments"]) == 1 for row in rows.values())


def test_an_album_is_not_torn_at_the_edge_of_a_page(
    server: TelegramServer, account: Account, small_pages: int
) -> None:
    server.post(PRIVATE, "before")
    for _ in range(3):
        server.post(PRIVATE, "", grouped_id=5, media=_photo(1))
    for number in range(3):
        server.post(PRIVATE, f"after {number}")
    rows = account.pull().messages()
    assert len(rows) == 7
    assert [rows[f"7:{n}"]["reply_to"] for n in (2, 3, 4)] == [None, "7:2", "7:2"]


def test_files_and_other_media_are_attachments_or_words(
    server: TelegramServer, account: Account
) -> None:
    attributes = [types.DocumentAttributeFilename("plan.pdf")]
    document = types.Document(
        8, 80, b"ref", server.clock, "application/pdf", 1234, 2, attributes=attributes
    )
    poll = types.Poll(
        1,
        _text("When?"),
        [types.PollAnswer(_text("Mon"), b"0"), types.PollAnswer(_text("Tue"), b"1")],
        0,
    )
    place = types.GeoPoint(-9.1, 38.7, 1)
    server.post(PRIVATE, "see", media=types.MessageMediaDocument(document=document))
    server.post(PRIVATE, "", media=types.MessageMediaPoll(poll, types.PollResults()))
    server.post(PRIVATE, "", media=types.MessageMediaGeo(place))
    server.post(PRIVATE, "", media=types.MessageMediaContact("+351 1", "Joe", "", "", 0))
    server.post(PRIVATE, "", media=types.MessageMediaUnsupported())
    rows = account.pull().messages()
    [file] = rows["7:1"]["attachments"]
    assert (file["name"], file["mime"], file["bytes"]) == ("plan.pdf", "application/pdf", 1234)
    assert file["url"] == "telegram:user7/1"
    assert rows["7:2"]["text"] == "When?\n• Mon\n• Tue"
    assert rows["7:3"]["text"] == "Location: 38.7, -9.1"
    assert rows["7:4"]["text"] == "Contact: Joe +351 1"
    assert rows["7:5"]["text"] == ""


def test_mentions_are_resolved_by_id_and_by_handle(
    server: TelegramServer, account: Account
) -> None:
    """Offsets count UTF-16 units: an emoji is two."""
    text = "🎃 @AnaDuarte and Joe!"
    entities = [types.MessageEntityMention(3, 10), types.MessageEntityMentionName(18, 3, JOE)]
    server.post(GROUP, text, entities=entities)
    row = account.pull().messages()["55:1"]
    assert row["text"] == "🎃 <@user1> and <@user9>!"
    assert row["mentions"] == ["user1", "user9"]


def test_an_export_and_a_pull_of_the_same_messages_are_one_version(
    server: TelegramServer, account: Account, tmp_path: Path
) -> None:
    """As Telegram Desktop spells them."""
    reply = types.MessageReplyHeader(reply_to_msg_id=1)
    bold = [types.MessageEntityBold(4, 5), types.MessageEntityUrl(10, 19)]
    server.post(DOCKS, "the boat is ready")
    server.post(DOCKS, "and again https://a.example/x", reply_to=reply, entities=bold)
    server.post(DOCKS, "edited", edit_date=server.tick())
    forwarded = types.MessageFwdHeader(server.clock, from_id=types.PeerUser(JOE))
    server.post(DOCKS, "forwarded", fwd_from=forwarded)
    server.act(DOCKS, types.MessageActionPinMessage(), reply_to=reply)
    server.act(DOCKS, types.MessageActionChatAddUser([JOE]))
    server.post(DOCKS, "signed", post_author="Maya")
    dates = {n: m.date for n, m in server.channels[777].messages.items()}

    def one(native: int, **more: Any) -> dict[str, Any]:
        said = {"date": "2026-11-25T09:00:00", "date_unixtime": f"{dates[native].timestamp():.0f}"}
        return {"id": native, "type": "message", **said, **more}

    def message(native: int, text: Any, **more: Any) -> dict[str, Any]:
        who = {"from": "Maya", "from_id": "user7"}
        return one(native, **who, **more, text=text, text_entities=[])

    def service(native: int, action: str, **more: Any) -> dict[str, Any]:
        who = {"type": "service", "actor": "Maya", "actor_id": "user7"}
        return one(native, **who, action=action, **more, text="", text_entities=[])

    link = {"type": "link", "text": "https://a.example/x"}
    formatted = ["and ", {"type": "bold", "text": "again"}, " ", link]
    edited = f"{server.channels[777].messages[3].edit_date.timestamp():.0f}"
    messages = [
        message(1, "the boat is ready"),
        message(2, formatted, reply_to_message_id=1),
        message(3, "edited", edited="2026-11-25T09:00:09", edited_unixtime=edited),
        message(4, "forwarded", forwarded_from="Joe"),
        service(5, "pin_message", message_id=1),
        service(6, "invite_members", members=["Joe"]),
        message(7, "signed", author="Maya"),
    ]
    whole = {"name": "Docks", "type": "private_supergroup", "id": 777, "messages": messages}
    exported_ = read(write_json(tmp_path / "result.json", whole)).envelopes
    pulled = sorted(account.pull().envelopes, key=lambda e: int(e.message_id[4:]))
    same = ("day", "message_id", "channel_id", "channel_kind", "kind", "version_at", "digest")
    for theirs, ours in zip(exported_, pulled, strict=True):
        for name in same:
            assert getattr(theirs, name) == getattr(ours, name), (theirs.message_id, name)


# --- a group becomes a supergroup


def test_a_group_that_becomes_a_supergroup_goes_on_in_it(
    server: TelegramServer, account: Account
) -> None:
    """What was read before stays where it is; the rule that the group had holds on."""
    account.chats = Chats({"55": "include"}, only_included=True)
    server.post(GROUP, "before")
    assert account.pull().ids == ["55:1"]
    server.migrate(55, 5555)
    server.post("channel5555", "after")
    pulled = account.pull()
    rows = pulled.messages()
    assert set(rows) == {"55:2", "5555:1", "5555:2"}
    assert rows["55:2"]["text"] == "Ana turned this group into a supergroup"
    assert rows["5555:1"]["text"] == 'Ana turned the group "Harbour" into this supergroup'
    assert pulled.channels["55"].name == "Harbour (until it became a supergroup)"
    server.post("channel5555", "and on")
    assert account.pull().ids == ["5555:3"]


def test_a_group_that_had_become_one_before_is_read_into_it_as_the_export_has_it(
    server: TelegramServer, account: Account
) -> None:
    server.post(GROUP, "before")
    server.migrate(55, 5555)
    server.post("channel5555", "after")
    pulled = account.pull()
    assert set(pulled.ids) == {"5555:-999999999", "5555:-999999998", "5555:1", "5555:2"}
    server.remove(GROUP, 1)
    assert account.pull().ids == ["5555:-999999999"]


# --- history


def _window(server: TelegramServer) -> Window:
    now = datetime.now(UTC)
    return Window(now - timedelta(days=30), now - timedelta(days=10))


def _write_history(server: TelegramServer, chat: str, count: int) -> None:
    first = datetime.now(UTC) - timedelta(days=40)
    for number in range(count):
        server.post(chat, f"day {number}", date=first + timedelta(days=number))


def test_a_window_brings_what_was_sent_in_it_and_nothing_else(
    server: TelegramServer, account: Account, small_pages: int
) -> None:
    _write_history(server, PRIVATE, 40)
    _write_history(server, DOCKS, 40)
    window = _window(server)
    pulled = account.pull(window)
    sent = [row["sent_at"] for row in pulled.messages().values()]
    assert len(sent) == 40
    assert min(sent) >= window.first
    assert max(sent) < window.last
    assert pulled.done == sorted(pulled.done)
    assert pulled.done[-1] == 1.0
    server.requests.clear()
    assert account.pull(window).envelopes == []
    assert account.asked(functions.messages.GetHistoryRequest) == []


def test_a_broken_message_in_a_window_is_a_dead_letter(
    server: TelegramServer, account: Account
) -> None:
    _write_history(server, PRIVATE, 40)
    server.account.messages[20].date = datetime.fromtimestamp(0, UTC)
    pulled = account.pull(_window(server))
    assert len(pulled.ids) == 19
    assert [letter.stage for letter in pulled.letters] == ["pull"]
    assert "no date" in pulled.letters[0].reason


def test_a_killed_window_goes_on_where_it_was(
    server: TelegramServer, account: Account, small_pages: int
) -> None:
    _write_history(server, PRIVATE, 40)
    killed = account.pull(_window(server), pages=4)
    server.requests.clear()
    rest = account.pull(_window(server))
    assert len({*killed.ids, *rest.ids}) == 20
    [first, *_] = account.asked(functions.messages.GetHistoryRequest)
    assert first.offset_id > 0


def test_a_limit_on_history_does_not_hold_up_what_is_new(
    server: TelegramServer, account: Account
) -> None:
    _write_history(server, PRIVATE, 40)
    account.pull()
    server.fail_once[functions.messages.GetHistoryRequest] = Refusal(420, "FLOOD_WAIT_3600")
    with pytest.raises(Wait) as caught:
        account.pull(_window(server))
    assert caught.value.scope == "telegram:ana-there:history"
    account.waits = {caught.value.scope: caught.value.until}
    server.requests.clear()
    with pytest.raises(Wait):
        account.pull(_window(server))
    assert account.asked(functions.messages.GetDialogsRequest) == []
    server.post(PRIVATE, "new")
    assert len(account.pull().ids) == 1


def test_a_takeout_is_opened_once_and_closed_at_the_end(
    server: TelegramServer, account: Account, small_pages: int
) -> None:
    account.settings["takeout"] = "yes"
    _write_history(server, PRIVATE, 40)
    account.pull(_window(server), pages=4)
    assert server.takeout is not None
    account.pull(_window(server))
    assert server.takeout is None
    assert "takeout" not in account.window_cursors
    assert len(account.asked(functions.account.InitTakeoutSessionRequest)) == 1


def test_a_takeout_that_must_wait_is_a_wait(server: TelegramServer, account: Account) -> None:
    """Telegram lets a day pass after the login before it believes an export."""
    account.settings["takeout"] = "yes"
    server.fail_once[functions.account.InitTakeoutSessionRequest] = Refusal(
        420, "TAKEOUT_INIT_DELAY_86400"
    )
    with pytest.raises(Wait) as caught:
        account.pull(_window(server))
    assert caught.value.until - datetime.now(UTC) > timedelta(hours=23)
    assert caught.value.scope


def test_a_takeout_that_ended_is_opened_anew(
    server: TelegramServer, account: Account, small_pages: int
) -> None:
    account.settings["takeout"] = "yes"
    _write_history(server, PRIVATE, 40)
    killed = account.pull(_window(server), pages=4)
    server.takeout = 17
    with pytest.raises(Wait):
        account.pull(_window(server))
    rest = account.pull(_window(server))
    assert len({*killed.ids, *rest.ids}) == 20


# --- trouble


@pytest.mark.parametrize(
    ("code", "word", "expected"),
    [
        (401, "AUTH_KEY_UNREGISTERED", LoginNeeded),
        (401, "SESSION_REVOKED", LoginNeeded),
        (401, "USER_DEACTIVATED", LoginNeeded),
        (401, "A_NEW_WORD_OF_2027", LoginNeeded),
        (406, "AUTH_KEY_DUPLICATED", LoginNeeded),
        (420, "FLOOD_WAIT_30", Wait),
        (420, "FLOOD_PREMIUM_WAIT_30", Wait),
        (503, "Timeout", Unreachable),
    ],
)
def test_errors_are_the_projects(
    server: TelegramServer,
    account: Account,
    no_rest: None,
    code: int,
    word: str,
    expected: type[Exception],
) -> None:
    server.fail_once[functions.messages.GetDialogsRequest] = Refusal(code, word)
    with pytest.raises(expected):
        account.pull()


@pytest.mark.parametrize(
    "error", [ConnectionResetError("lost"), asyncio.CancelledError(), EOFError(), TimeoutError()]
)
def test_a_lost_connection_is_unreachable(
    server: TelegramServer, account: Account, error: BaseException
) -> None:
    """Telethon cancels what waits for an answer when its connection ends."""
    server.fail_once[functions.messages.GetDialogsRequest] = error
    with pytest.raises(Unreachable):
        account.pull()


def test_servers_that_have_trouble_are_asked_again_later_and_not_now(
    server: TelegramServer, account: Account, no_rest: None
) -> None:
    server.fail_once[functions.messages.GetDialogsRequest] = Refusal(500, "RPC_CALL_FAIL")
    with pytest.raises(Unreachable):
        account.pull()
    assert len(account.asked(functions.messages.GetDialogsRequest)) == 1


@contextmanager
def _nobody_understands(answers: bool) -> Iterator[int]:
    """A port on which somebody listens who hangs up, or says nothing at all."""
    listener = socket.create_server(("127.0.0.1", 0))
    held = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                there, _ = listener.accept()
                if answers:
                    there.close()
                held.append(there)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)
    for there in held:
        there.close()


@pytest.mark.parametrize("answers", [True, False, None])
def test_on_a_real_socket_nobody_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, answers: bool | None
) -> None:
    """Telethon's own transport: nobody listens, somebody hangs up, somebody is silent."""
    monkeypatch.setattr(mtproto_asking, "CONNECT_TIMEOUT", 0.2)
    server = TelegramServer()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        port = 1 if answers is None else stack.enter_context(_nobody_understands(answers))
        server.values["session"] = session_text(port)
        account = Account(server)
        with account.client() as client:
            result = client.send(Target("7"), Part("hi"), "token")
            with pytest.raises(Unreachable):
                client.identity()
    assert isinstance(result, Refused), result
    assert result.not_before is not None
    assert time.monotonic() - began < 5


def test_nothing_is_sent_before_the_first_method(server: TelegramServer, account: Account) -> None:
    with account.client():
        pass
    assert server.requests == []


def test_a_user_account_takes_no_pushes(account: Account) -> None:
    push = Push("POST", {"x-telegram-bot-api-secret-token": ""}, {}, b'{"update_id": 1}')
    with pytest.raises(Exception, match="pushes to bots only"):
        LIVE.receive(push, account.connection, datetime.now(UTC))


# --- sending


def test_a_repeated_send_is_the_same_request_and_one_message(
    server: TelegramServer, account: Account
) -> None:
    server.post(PRIVATE, "hello")
    results = []
    for _ in range(2):
        with account.client() as client:
            results.append(client.send(Target("7"), Part("only once"), "token"))
    assert results[0] == results[1]
    assert isinstance(results[0], Sent)
    first, second = account.asked(functions.messages.SendMessageRequest)
    assert first.random_id == second.random_id
    assert 0 <= first.random_id < 2**63
    assert [m.message for m in server.account.messages.values()] == ["hello", "only once"]


def test_pieces_of_one_reply_are_told_apart(server: TelegramServer, account: Account) -> None:
    server.post(PRIVATE, "hello")
    with account.client() as client:
        client.send(Target("7"), Part("one", 1, 2), "token")
        client.send(Target("7"), Part("two", 2, 2), "token")
    assert [m.message for m in server.account.messages.values()] == ["hello", "one", "two"]


def test_a_known_random_id_without_an_answer_is_looked_up(
    server: TelegramServer, account: Account, no_rest: None
) -> None:
    server.post(PRIVATE, "hello")
    server.forgets_results = True
    with account.client() as client:
        sent = client.send(Target("7"), Part(" only once "), "token")
        assert client.send(Target("7"), Part(" only once "), "token") == sent
        server.account.messages.clear()
        again = client.send(Target("7"), Part(" only once "), "token")
    assert isinstance(again, Unknown)


@pytest.mark.parametrize(
    ("chat", "target", "expected"),
    [
        (PRIVATE, Target("7", None, "7:1"), (1, None)),
        (PRIVATE, Target("7", "7:1", None), (1, None)),
        (PRIVATE, Target("7", None, "5555:1"), None),
        (GROUP, Target("55", "55:1", "55:1"), (1, None)),
        (DOCKS, Target("777", "777:1", "777:1"), (1, None)),
        (FORUM, Target("888", "888:1", None), None),  # General
        (FORUM, Target("888", "888:2", None), (2, 2)),
        (FORUM, Target("888", "888:2", "888:3"), (3, 2)),
    ],
)
def test_a_reply_goes_where_it_belongs(
    server: TelegramServer,
    account: Account,
    chat: str,
    target: Target,
    expected: tuple[int, int | None] | None,
) -> None:
    for number in range(3):
        server.post(chat, f"number {number}")
    with account.client() as client:
        result = client.send(target, Part("yes"), "token")
    assert isinstance(result, Sent), result
    [request] = account.asked(functions.messages.SendMessageRequest)
    told = request.reply_to and (request.reply_to.reply_to_msg_id, request.reply_to.top_msg_id)
    assert told == expected
    assert request.no_webpage
    assert result.message_id.startswith(f"{target.channel_id}:")


@pytest.mark.parametrize(
    ("failure", "expected", "later"),
    [
        (Refusal(403, "CHAT_WRITE_FORBIDDEN"), Refused, False),
        (Refusal(400, "USER_IS_BLOCKED"), Refused, False),
        (Refusal(400, "PEER_FLOOD"), Refused, False),
        (Refusal(400, "REPLY_MESSAGE_ID_INVALID"), Refused, False),
        (Refusal(420, "SLOWMODE_WAIT_40"), Refused, True),
        (Refusal(420, "FLOOD_WAIT_40"), Refused, True),
        (Refusal(401, "SESSION_REVOKED"), Refused, False),
        (Refusal(503, "Timeout"), Unknown, False),
        (ConnectionResetError("lost"), Unknown, False),
        (asyncio.CancelledError(), Unknown, False),
        (TimeoutError(), Unknown, False),
        (ValueError("Telethon's own"), Unknown, False),
    ],
)
def test_what_a_failed_send_means(
    server: TelegramServer,
    account: Account,
    no_rest: None,
    failure: Refusal | BaseException,
    expected: type,
    later: bool,
) -> None:
    server.post(PRIVATE, "hello")
    server.fail_once[functions.messages.SendMessageRequest] = failure
    with account.client() as client:
        result = client.send(Target("7"), Part("a private word"), "token")
    assert isinstance(result, expected), result
    assert (getattr(result, "not_before", None) is not None) == later
    assert "private word" not in f"{result}"
    assert len(account.asked(functions.messages.SendMessageRequest)) == 1


def test_what_reached_nobody_is_refused_for_now(server: TelegramServer, account: Account) -> None:
    server.fail_once[PeerSender] = ConnectionRefusedError("no")
    with account.client() as client:
        result = client.send(Target("7"), Part("hi"), "token")
    assert isinstance(result, Refused)
    assert result.not_before is not None
    assert server.requests == []


def test_a_text_is_measured_in_utf16(server: TelegramServer, account: Account) -> None:
    server.post(PRIVATE, "hello")
    with account.client() as client:
        assert isinstance(client.send(Target("7"), Part("🎃" * 2049), "t"), Refused)
        assert isinstance(client.send(Target("7"), Part("🎃" * 2048), "t"), Sent)
        assert isinstance(client.send(Target("12"), Part("hi"), "t"), Refused)


def test_a_look_that_is_not_complete_proves_nothing(
    server: TelegramServer, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mtproto, "PAGE", 5)
    monkeypatch.setattr(mtproto, "MOST_LOOKED_THROUGH", 2)
    for number in range(12):
        server.post(PRIVATE, f"number {number}")
    began = datetime.now(UTC) - timedelta(hours=1)
    with account.client() as client:
        found = client.find_sent(Target("7"), Part("mine"), "token", began)
        assert isinstance(found, CannotTell)
        found = client.find_sent(Target("7"), Part("mine"), "token", began + timedelta(hours=2))
        assert isinstance(found, Absent)
        server.post(PRIVATE, "number 5", by=ME)
        found = client.find_sent(Target("7"), Part("number 5"), "token", began)
    assert isinstance(found, Sent)
    assert found.message_id == "7:13"


def test_the_promise_is_that_of_the_accounts_kind(account: Account) -> None:
    bot = Connection("b", frozenset(), {"kind": "bot"}, {})
    assert LIVE.promise(account.connection).repeats
    assert not LIVE.promise(bot).repeats
    assert not LIVE.promise(bot).looks_up


# --- files


def _photo(number: int, size: int = 10) -> Any:
    sizes = [types.PhotoSize("x", 80, 60, size), types.PhotoStrippedSize("i", b"1")]
    photo = types.Photo(number, 10, b"ref", datetime.now(UTC), sizes, 2)
    return types.MessageMediaPhoto(photo=photo)


def _text(text: str) -> Any:
    return types.TextWithEntities(text, [])


@pytest.mark.parametrize("chat", [PRIVATE, DOCKS])
def test_a_file_is_fetched_by_its_message(
    server: TelegramServer, account: Account, chat: str
) -> None:
    server.files[6] = b"picture" * 100
    server.post(chat, "look", media=_photo(6))
    [row] = account.pull().messages().values()
    url = row["attachments"][0]["url"]
    with account.client() as client:
        assert client.download(url, 1_000) == server.files[6]
        with pytest.raises(ValueError, match="more than 99"):
            client.download(url, 99)
    server.remove(chat, 1)
    server.post(chat, "something else")
    with account.client() as client:
        for gone in (
            url,
            "telegram:channel404/1",
            "https://elsewhere.example/x",
            "telegram:user7/",
        ):
            with pytest.raises(FileNotFoundError):
                client.download(gone, 1_000)


# --- logging in


class Somebody:
    """Answers what the login asks."""

    def __init__(self, **answers: list[str]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, field: Field) -> str:
        self.asked.append(field.name)
        assert field.secret
        return self.answers[field.name].pop(0)


def _values(server: TelegramServer, **more: str) -> Mapping[str, str]:
    return {**server.values, "session": "", "phone": "+351 912 345 678", "takeout": "no", **more}


def test_a_login_asks_for_the_code_and_gives_a_session(server: TelegramServer) -> None:
    server.revoked = True  # until somebody signs in
    server.fail_once.clear()
    person = Somebody(code=["00000", " 12345 "])
    with _signing_in(server):
        kept = LIVE.login(_values(server), person)
    assert person.asked == ["code", "code"]
    assert server.codes == ["351912345678"]
    assert mtproto.checked_session(kept["session"])
    assert kept["kind"] == "user"


def test_a_login_asks_for_the_two_step_password_too(
    server: TelegramServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = types.InputCheckPasswordSRP(1, b"a", b"b")
    monkeypatch.setattr(telethon_password, "compute_check", lambda *_: checked)
    server.two_step = True
    server.wrong_passwords = 1
    person = Somebody(code=["12345"], password=["wrong", "right"])
    with _signing_in(server):
        assert LIVE.login(_values(server), person)["session"]
    assert person.asked == ["code", "password", "password"]


def test_a_code_that_is_wrong_three_times_ends_the_login(server: TelegramServer) -> None:
    with _signing_in(server), pytest.raises(ValueError, match="3 times"):
        LIVE.login(_values(server), Somebody(code=["1", "2", "3"]))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"api_id": ""}, "my.telegram.org"),
        ({"api_id": "x12"}, "my.telegram.org"),
        ({"phone": ""}, "phone is needed"),
        ({"phone": "ana"}, "phone is needed"),
        ({"session": "1-the-secret-session"}, "string session"),
        ({"kind": "robot"}, "user or bot"),
        ({"takeout": "maybe"}, "yes or no"),
        ({"base_url": "http://elsewhere.example"}, "https"),
    ],
)
def test_what_is_missing_or_wrong_is_said_without_secrets(
    server: TelegramServer, more: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        LIVE.login(_values(server, **more), Somebody())
    assert "the-secret-session" not in str(caught.value)


@contextmanager
def _signing_in(server: TelegramServer) -> Iterator[None]:
    """Nobody is logged in until the code is right: `users.getUsers` says so."""
    real = server._GetUsers

    def not_yet(request: Any) -> Any:
        if not any(isinstance(r, functions.auth.SignInRequest) for r in server.requests[-1:]):
            raise Refusal(401, "AUTH_KEY_UNREGISTERED")
        return real(request)

    server.revoked = False
    server._GetUsers = not_yet  # type: ignore[method-assign]
    yield


# --- whatever comes

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.lists(st.integers(), max_size=2),
    st.just(types.MessageEntityBold(2**30, -5)),
    st.just(types.MessageMediaPhoto()),
    st.just(types.MessageMediaDice(6, "🎲")),
    st.just([types.MessageEntityBold(0, 1), types.MessageEntityPre(0, 2, "py")]),
    st.just(types.PeerUser(7)),
    st.just(types.MessageEmpty(5, None)),
    st.datetimes(timezones=st.just(UTC)),
)
FIELDS = (
    "id peer_id date message from_id fwd_from reply_to media entities edit_date grouped_id "
    "reactions via_bot_id post_author action out edit_hide"
).split()


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=4),
    st.booleans(),
)
def test_no_message_stops_the_others(junk: dict[str, Any], is_service: bool) -> None:
    now = datetime.now(UTC)
    message: Any = types.Message(3, types.PeerUser(MAYA), now, "hi")
    if is_service:
        message = types.MessageService(3, types.PeerUser(MAYA), now, types.MessageActionEmpty())
    for name, value in junk.items():
        setattr(message, name, value)
    good = types.Message(4, types.PeerUser(MAYA), now, "good")
    request = PullRequest(now, now - LOOK_BACK)
    reader = mtproto_pull.Reader(lambda _: None, ME, request, "")
    records = reader._records([message, good])
    ids = [record.message_id for record in records if isinstance(record, Envelope)]
    assert "7:4" in ids
    _, letters = understood([r for r in records if isinstance(r, Envelope)], telegram.PLATFORM)
    assert letters == []


@given(st.lists(st.tuples(st.integers(1, 5 * BLOCK), st.sampled_from(["user7", "chat5", ""]))))
def test_where_a_message_stands_is_remembered(noted: list[tuple[int, str]]) -> None:
    where = Whereabouts({})
    for native, key in noted:
        where.note(native, key)
    again = Whereabouts(where.moved())
    for native, key in dict(noted).items():
        assert again.find(native) == key
    assert again.find(9 * BLOCK) is None
    assert again.moved() == {}


def test_only_the_newest_messages_are_remembered() -> None:
    cursors: dict[str, str] = {}
    for number in range(MOST_BLOCKS + 2):
        where = Whereabouts(cursors)
        where.note(number * BLOCK + 5, "user7")
        for stream, position in where.moved().items():
            cursors.pop(stream, None) if position == "" else cursors.update({stream: position})
    assert len(cursors) == MOST_BLOCKS
    assert Whereabouts(cursors).find(5) is None
    assert Whereabouts(cursors).find((MOST_BLOCKS + 1) * BLOCK + 5) == "user7"


def test_a_message_of_the_real_kind_keeps_what_the_export_cannot_say() -> None:
    message = types.Message(3, types.PeerUser(MAYA), datetime.now(UTC), "hi", views=5, silent=True)
    raw = exported(message, Cast(ME))["communicator"]["raw"]
    assert (raw["_"], raw["views"], raw["silent"]) == ("Message", 5, True)
    assert "forwards" not in raw
