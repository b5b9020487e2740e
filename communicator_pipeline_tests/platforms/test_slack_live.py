"""Slack, live: logging in and pulling, against a server of our own, over a socket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from communicator_pipeline.platforms import live_side
from communicator_pipeline.platforms.contract import LiveContract
from communicator_pipeline.platforms.contract import Peer as ContractPeer
from communicator_pipeline.platforms.protocol import (
    Chats,
    LoginNeeded,
    PlatformError,
    Unreachable,
    Wait,
    Window,
)
from communicator_pipeline.platforms.slack.moments import is_ts, micros, time_of, ts_of
from communicator_pipeline.platforms.slack.places import (
    MOST_HELD,
    Place,
    Thread,
    chosen,
    read_state,
    write_state,
)
from communicator_pipeline_tests.platforms.slack_polling import Poll, client, connection, identity
from communicator_pipeline_tests.platforms.slack_server import (
    ALL_SCOPES,
    ANA,
    BEA,
    BOT,
    CARL,
    DIRECT,
    GENERAL,
    GROUP,
    SECRET,
    SIGNING_SECRET,
    TEAM,
    TOKEN,
    SlackServer,
)

READING = {
    "auth.test",
    "users.conversations",
    "users.list",
    "users.info",
    "conversations.history",
    "conversations.replies",
}


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with SlackServer() as server:
        yield server


class TestContract(LiveContract):
    platform = "slack"

    @pytest.fixture
    def peer(self, slack: SlackServer) -> ContractPeer:
        return slack


def ago(**span: float) -> str:
    return ts_of(datetime.now(UTC) - timedelta(**span))


# --- logging in


def test_a_user_token_is_its_person_and_says_what_it_can(slack: SlackServer) -> None:
    found = identity(slack)
    assert found.person_ids == (ANA,)
    assert (found.name, found.place) == ("ana", "Harbour")
    assert "send replies" in found.can
    assert found.cannot == ()


def test_a_bot_token_has_two_ids_and_sees_where_it_was_invited(slack: SlackServer) -> None:
    slack.me, slack.bot_id = BOT, "B0BOT"
    found = identity(slack)
    assert found.person_ids == (BOT, "B0BOT")
    assert "invite it" in found.cannot[-1]


def test_a_missing_scope_is_named(slack: SlackServer) -> None:
    slack.scopes = ALL_SCOPES.replace("im:history,", "").replace(",files:read", "")
    found = identity(slack)
    assert "read public channels" in found.can
    assert "read direct messages: add the scope im:history to the app and install it again" in (
        found.cannot
    )
    assert any("files:read" in sentence for sentence in found.cannot)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"token": "xapp-1-A-2"}, "app-level"),
        ({"token": "xoxc-1"}, "forbids"),
        ({"token": "xoxp-1 2"}, "signs"),
        ({"limits": "none"}, "internal or restricted"),
        ({"look_back_days": "many"}, "whole number"),
        ({"reread_hours": "1000"}, "up to 168"),
        ({"base_url": "http://slack.example/api/"}, "https"),
        ({"base_url": "ftp://127.0.0.1/"}, "https"),
    ],
)
def test_what_cannot_be_right_is_refused_at_the_login(
    slack: SlackServer, values: dict[str, str], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        connection(slack, **values)
    assert values.get("token", "?") not in str(refused.value)


def test_no_secret_is_shown_by_what_the_login_gives(slack: SlackServer) -> None:
    shown = repr(connection(slack))
    assert TOKEN not in shown
    assert SIGNING_SECRET not in shown


# --- what Slack's answers mean


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        ({"ok": False, "error": "invalid_auth"}, LoginNeeded),
        ({"ok": False, "error": "token_revoked"}, LoginNeeded),
        ({"ok": False, "error": "account_inactive"}, LoginNeeded),
        ({"ok": False, "error": "token_expired"}, LoginNeeded),
        ({"ok": False, "error": "not_authed"}, LoginNeeded),
        ({"ok": False, "error": "ratelimited"}, Wait),
        ({"ok": False, "error": "internal_error"}, Unreachable),
        ({"ok": False, "error": "fatal_error"}, Unreachable),
        ((503, b"<html>upstream</html>"), Unreachable),
        ((500, {"ok": False}), Unreachable),
        ((200, b"<html>a proxy's page</html>"), Unreachable),
        ((200, b'["no", "object"]'), Unreachable),
        ((200, b'{"ok": tru'), Unreachable),
        ((200, b"\xff\xfe"), Unreachable),
        ((404, b"nothing here"), PlatformError),
        ({"ok": False, "error": ["what"]}, Unreachable),
        ({"ok": False}, Unreachable),
    ],
)
@pytest.mark.parametrize("method", ["users.conversations", "conversations.history"])
def test_an_error_is_one_of_the_protocols(
    slack: SlackServer, method: str, answer: Any, meaning: type[Exception]
) -> None:
    poll = Poll(slack)
    slack.before = lambda asked, _: answer if asked == method else None
    error = poll.try_pull()
    if method == "conversations.history" and meaning is PlatformError:
        assert error is None  # one channel's trouble is a notice
        assert poll.notices
    else:
        assert isinstance(error, meaning)
    assert TOKEN not in f"{error!r} {error} {poll.notices}"


def test_a_limit_says_until_when_and_for_what(slack: SlackServer) -> None:
    poll = Poll(slack)
    slack.limits["conversations.history"] = time.monotonic() + 30
    wait = poll.try_pull()
    assert isinstance(wait, Wait)
    assert wait.scope == f"slack:{TEAM}:{ANA}:conversations.history"
    assert timedelta(seconds=25) < wait.until - datetime.now(UTC) < timedelta(seconds=31)
    # Until then nothing is asked of that method, in whatever process.
    asked = len(slack.asked("conversations.history"))
    slack.limits.clear()
    assert isinstance(poll.try_pull(), Wait)
    assert len(slack.asked("conversations.history")) == asked


def test_nobody_there_is_unreachable(slack: SlackServer) -> None:
    poll = Poll(slack)
    slack._server.shutdown()
    slack._server.server_close()
    assert isinstance(poll.try_pull(), Unreachable)


# --- what comes in


def test_all_kinds_of_conversations_come_in_and_are_named(slack: SlackServer) -> None:
    slack.add_channel(SECRET, "plans", "private_channel")
    slack.add_channel(DIRECT, BEA, "im")
    slack.add_channel(GROUP, "mpdm-ana--bea--carl-1", "mpim")
    said = {slack.add_message(f"in {c}", c): c for c in (GENERAL, SECRET, DIRECT, GROUP)}
    poll = Poll(slack)
    poll.pull()
    rows = {row["channel_id"]: row for row in poll.rows()}
    assert {row["message_id"].split(":")[1] for row in rows.values()} == set(said)
    kinds = {channel: row["channel_kind"] for channel, row in rows.items()}
    assert kinds == {GENERAL: "channel", SECRET: "group", DIRECT: "dm", GROUP: "group"}
    names = {key: channel.name for key, channel in poll.channels.items()}
    assert names == {GENERAL: "general", SECRET: "plans", DIRECT: "Bea", GROUP: "Ana, Bea, Carl"}
    assert poll.people[BEA].name == "Bea"
    assert poll.people[BEA].handle == "bea"


def test_a_pull_only_reads(slack: SlackServer) -> None:
    """Joining a channel to read it would be a write to the customer's workspace."""
    slack.add_channel("C0OTHER", "others")
    slack.channels["C0OTHER"]["is_member"] = False
    slack.add_message("hello")
    Poll(slack).pull()
    assert {method for method, _ in slack.calls} <= READING
    assert not [a for a in slack.asked("conversations.history") if a["channel"] == "C0OTHER"]


def test_excluded_chats_are_not_asked_and_muted_ones_are(slack: SlackServer) -> None:
    slack.add_channel(SECRET, "plans", "private_channel")
    slack.add_message("x", SECRET)
    poll = Poll(slack, chats=Chats({SECRET: "exclude", GENERAL: "mute"}))
    poll.pull()
    assert {a["channel"] for a in slack.asked("conversations.history")} == {GENERAL}
    assert poll.channels[SECRET].name == "plans"  # or nobody could include it by its name


def test_every_ts_stays_the_text_that_it_was(slack: SlackServer) -> None:
    ts = slack.add_message("x", ts=ago(hours=1)[:10] + ".000005")
    poll = Poll(slack)
    assert [e.message_id for e in poll.pull()] == [f"{GENERAL}:{ts}"]


def test_many_pages_come_in_completely(slack: SlackServer) -> None:
    slack.page = 7
    said = {f"{GENERAL}:{slack.add_message(str(n))}" for n in range(50)}
    poll = Poll(slack)
    poll.pull()
    assert set(poll.texts()) == said


def test_latest_is_always_given_for_slack_would_page_from_the_other_end(
    slack: SlackServer,
) -> None:
    slack.add_message("x")
    Poll(slack).pull()
    for method in ("conversations.history", "conversations.replies"):
        assert all(arguments.get("latest") for arguments in slack.asked(method))


@pytest.mark.parametrize("after", range(1, 8))
def test_a_limit_in_the_middle_loses_nothing_of_what_lies_below(
    slack: SlackServer, after: int
) -> None:
    """History comes newest first: what was read is the newest part, and the cursor must not move
    over what is below."""
    slack.page = 10
    said = {f"{GENERAL}:{slack.add_message(str(n))}" for n in range(45)}
    poll = Poll(slack)
    limit_after(slack, "conversations.history", after)
    first = poll.try_pull()
    slack.before = lambda method, _: None
    said |= {f"{GENERAL}:{slack.add_message(f'later {n}')}" for n in range(13)}
    poll.waits.clear()
    if isinstance(first, Wait):
        assert len(poll.envelopes) == 10 * (after - 1)
    poll.pull()
    assert set(poll.texts()) == said


@pytest.mark.parametrize("pages", range(1, 9))
def test_a_kill_in_the_middle_loses_nothing(slack: SlackServer, pages: int) -> None:
    slack.page = 10
    root = slack.add_message("root")
    said = {slack.add_message(str(n)) for n in range(25)}
    said |= {slack.add_message(f"re {n}", thread_ts=root) for n in range(25)}
    poll = Poll(slack)
    poll.pull(most_pages=pages)
    poll.pull()
    assert {key.split(":")[1] for key in poll.texts()} == said | {root}


def limit_after(slack: SlackServer, method: str, calls: int) -> None:
    """From its n-th call on, a method is limited."""
    left = [calls]

    def before(asked: str, _: dict[str, str]) -> Any:
        if asked != method:
            return None
        left[0] -= 1
        return (429, 1) if left[0] <= 0 else None

    slack.before = before


Action = tuple[str, int]


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["say", "reply", "edit", "delete", "limit", "kill", "pull"]),
            st.integers(1, 12),
        ),
        min_size=5,
        max_size=30,
    )
)
def test_whatever_happens_in_between_the_inbox_ends_as_the_workspace(
    actions: list[Action],
) -> None:
    """Limits and kills at every place, edits and deletions of messages and replies."""
    with SlackServer() as slack:
        slack.page = 4
        poll = Poll(slack)
        for what, number in actions:
            _act(slack, poll, what, number)
        slack.before = lambda method, _: None
        poll.waits.clear()
        assert poll.try_pull() is None
        for hours in (2, 4):  # the look-back and the replies are read again once an hour
            poll.ahead = timedelta(hours=hours)
            assert poll.try_pull() is None
            while "below" in poll.cursors[GENERAL]:
                assert poll.try_pull() is None
        there = {
            f"{GENERAL}:{m['ts']}": m["text"]
            for m in slack.messages[GENERAL]
            if m.get("subtype") != "tombstone"
        }
        assert poll.texts() == there
        assert poll.letters == []


def _act(slack: SlackServer, poll: Poll, what: str, number: int) -> None:
    alive = [m for m in slack.messages[GENERAL] if m.get("subtype") != "tombstone"]
    message = alive[number % len(alive)] if alive else None
    if what == "say":
        for n in range(number):
            slack.add_message(f"{n}")
    elif what == "limit":
        limit_after(slack, ["conversations.history", "conversations.replies"][number % 2], number)
        poll.try_pull()
        slack.before = lambda method, _: None
        poll.waits.clear()
    elif what == "kill":
        poll.try_pull(most_pages=number)
    elif what == "pull":
        poll.try_pull()
    elif message is None:
        return
    elif what == "reply":
        root = message.get("thread_ts") or message["ts"]
        if any(m["ts"] == root for m in alive):
            slack.add_message("a reply", thread_ts=root)
    elif what == "edit":
        slack.edit(f"{GENERAL}:{message['ts']}", f"edited {number}")
    else:
        slack.delete(f"{GENERAL}:{message['ts']}")


def test_a_long_look_back_is_read_in_pieces_that_leave_calls_for_others(
    slack: SlackServer,
) -> None:
    slack.page = 2
    for n in range(60):
        slack.add_message(str(n), ts=ago(hours=30, minutes=-n))
    poll = Poll(slack)
    poll.pull()
    assert len(poll.envelopes) == 60
    slack.edit(f"{GENERAL}:{slack.messages[GENERAL][0]['ts']}", "edited")
    poll.ahead = timedelta(hours=2)
    slack.calls.clear()
    poll.pull()
    assert len(slack.asked("conversations.history")) == 6
    pulls = 1
    while "below" in poll.cursors[GENERAL]:
        poll.pull()
        pulls += 1
    assert pulls <= 6
    assert "edited" in poll.texts().values()


# --- threads


def test_a_late_reply_on_an_old_thread_comes_in(slack: SlackServer) -> None:
    """History shows no replies, and the parent is older than what was read last."""
    root = slack.add_message("who takes the boat?", ts=ago(days=6))
    for n in range(30):
        slack.add_message(str(n), ts=ago(hours=20 - n / 2))
    poll = Poll(slack)
    poll.pull()
    late = slack.add_message("I do", thread_ts=root)
    poll.ahead = timedelta(minutes=90)
    assert [e.message_id for e in poll.pull()] == [f"{GENERAL}:{late}"]
    row = next(row for row in poll.rows() if row["message_id"].endswith(late))
    assert row["thread_id"] == f"{GENERAL}:{root}"


def test_a_parent_beyond_the_look_back_is_let_go_and_forgotten(slack: SlackServer) -> None:
    root = slack.add_message("old", ts=ago(days=6))
    slack.add_message("reply", ts=ago(days=5), thread_ts=root)
    poll = Poll(slack)
    poll.pull()
    assert f"{GENERAL}:{root}" in poll.cursors
    poll.ahead = timedelta(days=3)
    poll.pull()
    assert f"{GENERAL}:{root}" not in poll.cursors


def test_the_parent_that_stands_on_every_page_of_replies_is_one_message(
    slack: SlackServer,
) -> None:
    slack.page = 3
    root = slack.add_message("root")
    replies = [slack.add_message(str(n), thread_ts=root) for n in range(10)]
    poll = Poll(slack)
    poll.pull()
    assert len(slack.asked("conversations.replies")) == 4
    rows = poll.rows()
    assert sorted(row["message_id"] for row in rows) == sorted(
        f"{GENERAL}:{ts}" for ts in (root, *replies)
    )


def test_a_parent_that_gets_replies_is_the_same_version(slack: SlackServer) -> None:
    root = slack.add_message("root")
    poll = Poll(slack)
    poll.pull()
    slack.add_message("reply", thread_ts=root)
    assert len(poll.pull()) == 1


def test_a_reply_to_the_channel_too_is_one_message(slack: SlackServer) -> None:
    root = slack.add_message("root")
    both = slack.add_message("look", thread_ts=root, subtype="thread_broadcast")
    poll = Poll(slack)
    poll.pull()
    assert [e.message_id for e in poll.envelopes].count(f"{GENERAL}:{both}") == 1


def test_a_quiet_thread_is_not_asked_again_at_the_next_pull(slack: SlackServer) -> None:
    root = slack.add_message("root")
    slack.add_message("reply", thread_ts=root)
    poll = Poll(slack)
    poll.pull()
    slack.calls.clear()
    poll.pull()
    assert slack.asked("conversations.replies") == []


def test_a_thread_whose_newest_reply_is_gone_is_not_asked_for_ever(slack: SlackServer) -> None:
    """The parent may go on telling of a reply that was deleted."""
    root = slack.add_message("root")
    slack.add_message("reply", thread_ts=root)
    told = ts_of(datetime.now(UTC) + timedelta(seconds=5))

    def before(method: str, arguments: dict[str, str]) -> Any:
        if method != "conversations.history":
            return None
        answer = slack._conversations_history(arguments)
        for message in answer["messages"]:
            if message.get("reply_count"):
                message["latest_reply"] = told
        return answer

    slack.before = before
    poll = Poll(slack)
    poll.pull()
    slack.calls.clear()
    poll.pull()
    poll.pull()
    assert slack.asked("conversations.replies") == []


# --- edits and deletions


def test_a_preview_that_is_added_later_is_no_new_version(slack: SlackServer) -> None:
    ts = slack.add_message("see https://a.example")
    poll = Poll(slack)
    poll.pull()
    slack.change(GENERAL, ts, attachments=[{"title": "A", "from_url": "https://a.example"}])
    assert poll.pull() == []


def test_a_file_that_was_not_finished_has_its_address_later(slack: SlackServer) -> None:
    unfinished = {"id": "F1", "name": "a.pdf", "mode": "hosted"}
    ts = slack.add_message("here", files=[unfinished])
    poll = Poll(slack)
    poll.pull()
    slack.change(GENERAL, ts, files=[{**unfinished, "url_private": "https://files.slack.com/a"}])
    poll.pull()
    row = poll.rows()[-1]
    assert row["attachments"][0]["url"] == "https://files.slack.com/a"
    assert row["edited_at"] is None


def test_a_deletion_is_asked_about_before_it_is_believed(slack: SlackServer) -> None:
    """A stretch that lacks a message once may be a server that lags behind."""
    ts = slack.add_message("still there")
    slack.add_message("other")
    poll = Poll(slack)
    poll.pull()

    def lagging(method: str, arguments: dict[str, str]) -> Any:
        if method != "conversations.history" or arguments["oldest"] == arguments["latest"]:
            return None
        answer = slack._conversations_history(arguments)
        answer["messages"] = [m for m in answer["messages"] if m["ts"] != ts]
        return answer

    slack.before = lagging
    assert poll.pull() == []
    slack.before = lambda method, _: None
    slack.delete(f"{GENERAL}:{ts}")
    assert [e.kind for e in poll.pull()] == ["deletion"]


def test_a_message_that_turns_broken_is_no_deletion(slack: SlackServer) -> None:
    said = slack.say("fine")
    poll = Poll(slack)
    poll.pull()
    slack.spoil(said)
    assert poll.pull() == []
    assert "lost digits" in poll.letters[0].reason


def test_a_deleted_parent_with_replies_leaves_a_tombstone_and_its_replies(
    slack: SlackServer,
) -> None:
    root = slack.add_message("root")
    reply = slack.add_message("reply", thread_ts=root)
    poll = Poll(slack)
    poll.pull()
    slack.delete(f"{GENERAL}:{root}")
    poll.pull()
    assert set(poll.texts()) == {f"{GENERAL}:{reply}"}


def test_a_thread_that_is_deleted_altogether_is_gone_altogether(slack: SlackServer) -> None:
    root = slack.add_message("root")
    reply = slack.add_message("reply", thread_ts=root)
    poll = Poll(slack)
    poll.pull()
    slack.delete(f"{GENERAL}:{reply}")
    slack.delete(f"{GENERAL}:{root}")
    poll.ahead = timedelta(hours=2)
    poll.pull()
    assert poll.texts() == {}
    assert f"{GENERAL}:{root}" not in poll.cursors


def test_a_deletion_that_is_pulled_and_pushed_is_one(slack: SlackServer) -> None:
    said = slack.say("gone soon")
    poll = Poll(slack)
    poll.pull()
    slack.delete(said)
    pushed = [
        record
        for push in slack.pushes()[1:]
        for record in live_side("slack").events(push.body, poll.connection)
    ]
    assert [e.digest for e in poll.pull()] == [pushed[0].digest]  # type: ignore[union-attr]


# --- channels that cannot be read


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"ok": False, "error": "not_in_channel"}, "invite it"),
        ({"ok": False, "error": "channel_not_found"}, "does not know"),
        ({"ok": False, "error": "missing_scope", "needed": "channels:history"}, "channels:history"),
        ({"ok": False, "error": "something_new"}, "something_new"),
        ({"ok": True, "messages": "none"}, "no list"),
    ],
)
def test_a_channel_that_cannot_be_read_is_a_notice_and_poisons_nothing(
    slack: SlackServer, answer: Any, said: str
) -> None:
    slack.add_channel("C0CLOSED", "closed")
    missed = slack.add_message("missed", "C0CLOSED")
    good = slack.add_message("good")
    poll = Poll(slack)

    def before(method: str, arguments: dict[str, str]) -> Any:
        closed = method == "conversations.history" and arguments["channel"] == "C0CLOSED"
        return answer if closed else None

    slack.before = before
    poll.pull()
    assert set(poll.texts()) == {f"{GENERAL}:{good}"}
    assert said in poll.notices[0]
    slack.before = lambda method, _: None
    poll.pull()
    assert f"C0CLOSED:{missed}" in poll.texts()
    poll.pull()
    assert poll.notices == []


def test_a_type_without_its_scope_is_left_out_and_named(slack: SlackServer) -> None:
    slack.add_channel(DIRECT, BEA, "im")
    slack.scopes = ALL_SCOPES.replace("im:read,im:history,", "")
    good = slack.add_message("good")
    poll = Poll(slack)
    poll.pull()
    assert set(poll.texts()) == {f"{GENERAL}:{good}"}
    assert poll.notices == [
        "direct messages are not read: add the scope im:read and im:history to the app and "
        "install it again"
    ]


def test_a_type_that_can_be_listed_and_not_read_gives_one_notice(slack: SlackServer) -> None:
    for n in range(5):
        slack.add_channel(f"D0{n}AA", BEA, "im")
    slack.scopes = ALL_SCOPES.replace("im:history,", "", 1)
    poll = Poll(slack)
    poll.pull()
    assert len(poll.notices) == 1
    assert "im:history" in poll.notices[0]


def test_a_token_that_may_list_nothing_says_so_and_is_no_failure(slack: SlackServer) -> None:
    slack.scopes = "chat:write"
    poll = Poll(slack)
    assert poll.pull() == []
    assert len(poll.notices) >= 4


# --- cheap polls


def test_two_hundred_silent_channels_are_asked_in_turn(slack: SlackServer) -> None:
    for n in range(199):
        slack.add_channel(f"C1{n:03d}", f"channel-{n}")
    poll = Poll(slack)
    polls = 0
    while len({a["channel"] for a in slack.asked("conversations.history")}) < 200:
        poll.pull()
        polls += 1
    assert polls <= 5  # 45 calls in each
    slack.calls.clear()
    poll.pull()
    assert len(slack.asked("conversations.history")) == 30
    assert len(slack.calls) <= 33


def test_where_something_happened_lately_is_asked_at_every_pull(slack: SlackServer) -> None:
    for n in range(60):
        slack.add_channel(f"C1{n:03d}", f"channel-{n}")
        slack.add_message("long ago", f"C1{n:03d}", ts=ago(days=3, seconds=n))
    slack.add_message("now", "C1007")
    poll = Poll(slack)
    poll.pull()
    poll.pull()
    for _ in range(3):
        slack.calls.clear()
        poll.pull()
        asked = [a["channel"] for a in slack.asked("conversations.history")]
        assert "C1007" in asked
        assert len(asked) <= 31


def test_the_channel_that_waits_longest_comes_first() -> None:
    now = datetime.now(UTC)
    places = {
        f"C{n}": Place(
            done=ts_of(now - timedelta(days=2)), polled=ts_of(now - timedelta(minutes=n))
        )
        for n in range(50)
    }
    assert chosen(places, now)[:3] == ["C49", "C48", "C47"]
    places["C5"].at = ts_of(now)  # half read
    assert "C5" in chosen(places, now)


def test_the_directory_is_read_once_a_day(slack: SlackServer) -> None:
    poll = Poll(slack)
    poll.pull()
    poll.pull()
    assert len(slack.asked("users.list")) == 1
    slack.users[BEA]["profile"]["display_name"] = "Beatrice"
    slack.users[BEA]["updated"] = int(time.time())
    poll.ahead = timedelta(days=1, minutes=1)
    poll.pull()
    assert len(slack.asked("users.list")) == 2
    assert poll.people[BEA].name == "Beatrice"


def test_somebody_from_another_workspace_is_looked_up_once(slack: SlackServer) -> None:
    slack.add_user("U0GUEST", "Gus", team_id="T0OTHER")
    slack.add_message("hello", user="U0GUEST")
    slack.add_message("hello <@U0GONE>", user="U0GUEST")
    poll = Poll(slack)
    poll.pull()
    assert poll.people["U0GUEST"].name == "Gus"
    poll.pull()
    assert sorted(a["user"] for a in slack.asked("users.info")) == ["U0GONE", "U0GUEST"]


def test_a_new_direct_message_is_named_without_reading_the_directory(slack: SlackServer) -> None:
    poll = Poll(slack)
    poll.pull()
    slack.add_user("U0NEW", "Nina")
    slack.add_channel("D0NEW", "U0NEW", "im")
    poll.pull()
    assert poll.channels["D0NEW"].name == "Nina"
    assert len(slack.asked("users.list")) == 1
    poll.channels.clear()
    poll.pull()
    assert poll.channels == {}


def test_names_stay_unknown_without_the_scope_and_messages_come(slack: SlackServer) -> None:
    slack.scopes = ALL_SCOPES.replace("users:read,", "")
    good = slack.add_message("good")
    poll = Poll(slack)
    poll.pull()
    assert set(poll.texts()) == {f"{GENERAL}:{good}"}
    assert "users:read" in poll.notices[-1]


def test_a_limit_on_names_does_not_hold_up_messages(slack: SlackServer) -> None:
    good = slack.add_message("good")
    slack.limits["users.list"] = time.monotonic() + 30
    poll = Poll(slack)
    assert isinstance(poll.try_pull(), Wait)
    assert set(poll.texts()) == {f"{GENERAL}:{good}"}


# --- restricted apps


class Restricted(Poll):
    """An app that may read one page a minute. `minute` lets one pass."""

    def __init__(self, slack: SlackServer, **more: Any) -> None:
        slack.page = 15
        super().__init__(slack, {"limits": "restricted"}, **more)

    def minute(self) -> None:
        self.waits.clear()
        pace = orjson.loads(self.cursors.get("pace", "{}"))
        earlier = {k: ts_of(time_of(ts) - timedelta(minutes=2)) for k, ts in pace.items()}
        self.cursors["pace"] = orjson.dumps(earlier).decode()


def test_a_restricted_app_asks_once_a_minute_and_goes_on(slack: SlackServer) -> None:
    slack.add_channel(SECRET, "plans", "private_channel")
    said = {f"{GENERAL}:{slack.add_message(str(n))}" for n in range(40)}
    said |= {f"{SECRET}:{slack.add_message(str(n), SECRET)}" for n in range(20)}
    poll = Restricted(slack)
    for minute in range(1, 12):
        poll.pull()
        assert len(slack.asked("conversations.history")) == minute
        assert isinstance(poll.try_pull(), Wait)  # too early
        assert len(slack.asked("conversations.history")) == minute
        if set(poll.texts()) == said:
            break
        poll.minute()
    assert set(poll.texts()) == said
    assert all(a["limit"] == "15" for a in slack.asked("conversations.history"))
    channels = [a["channel"] for a in slack.asked("conversations.history")]
    assert channels[:2] in ([GENERAL, SECRET], [SECRET, GENERAL])  # in turn


def test_a_restricted_app_reads_threads_beside_history(slack: SlackServer) -> None:
    root = slack.add_message("root")
    replies = {f"{GENERAL}:{slack.add_message(str(n), thread_ts=root)}" for n in range(40)}
    poll = Restricted(slack)
    for minute in range(1, 8):
        poll.pull()
        assert len(slack.asked("conversations.replies")) <= minute
        poll.minute()
    assert set(poll.texts()) == replies | {f"{GENERAL}:{root}"}


def test_a_restricted_window_waits_a_minute_for_each_page(slack: SlackServer) -> None:
    said = {
        f"{GENERAL}:{slack.add_message(str(n), ts=ago(hours=9, minutes=-n))}" for n in range(40)
    }
    window = Window(datetime.now(UTC) - timedelta(days=1), datetime.now(UTC))
    poll = Restricted(slack, window=window)
    waits = 0
    while isinstance(wait := poll.try_pull(), Wait):
        assert wait.until - datetime.now(UTC) > timedelta(seconds=50)
        waits += 1
        poll.minute()
    assert wait is None
    assert waits == 2
    assert set(poll.texts()) == said


# --- windows


def test_a_window_brings_what_was_sent_in_it_and_nothing_else(slack: SlackServer) -> None:
    first = datetime.now(UTC) - timedelta(days=3)
    window = Window(first, first + timedelta(days=1))
    at = {
        "before": ts_of(first - timedelta(microseconds=1)),
        "first": ts_of(first),
        "inside": ts_of(first + timedelta(hours=5)),
        "last": ts_of(window.last),
    }
    for text, ts in at.items():
        slack.add_message(text, ts=ts)
    poll = Poll(slack, window=window)
    poll.pull()
    assert sorted(poll.texts().values()) == ["first", "inside"]
    assert poll.pull() == []


def test_a_window_has_the_replies_of_its_time_on_older_parents(slack: SlackServer) -> None:
    first = datetime.now(UTC) - timedelta(days=3)
    root = slack.add_message("root", ts=ts_of(first - timedelta(days=4)))
    for hours, text in ((-5, "too early"), (5, "in time"), (30, "too late")):
        slack.add_message(text, ts=ts_of(first + timedelta(hours=hours)), thread_ts=root)
    poll = Poll(slack, window=Window(first, first + timedelta(days=1)))
    poll.pull()
    assert sorted(poll.texts().values()) == ["in time", "root"]  # not to be understood without it


def test_a_window_with_archived_channels_goes_on_after_a_limit(slack: SlackServer) -> None:
    slack.page = 10
    slack.add_channel("C0OLD", "old")
    slack.channels["C0OLD"]["is_archived"] = True
    said = {f"C0OLD:{slack.add_message(str(n), 'C0OLD')}" for n in range(35)}
    said |= {f"{GENERAL}:{slack.add_message(str(n))}" for n in range(35)}
    now = datetime.now(UTC)
    poll = Poll(slack, window=Window(now - timedelta(days=1), now + timedelta(minutes=1)))
    limit_after(slack, "conversations.history", 6)
    assert isinstance(poll.try_pull(), Wait)
    assert poll.done is not None
    assert 0 < poll.done < 1
    slack.before = lambda method, _: None
    poll.waits.clear()
    asked = len(slack.asked("conversations.history"))
    poll.pull()
    assert set(poll.texts()) == said
    assert len(slack.asked("conversations.history")) - asked <= 5  # nothing from the beginning


# --- hostile and broken answers

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                "ts text user subtype message files reactions edited thread_ts reply_count "
                "latest_reply bot_id id name is_im profile updated previous_message "
                "deleted_ts".split()
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(messages=st.lists(JSON, max_size=5), entries=st.lists(JSON, max_size=3), more=JSON)
def test_no_answer_breaks_a_pull(
    slack: SlackServer, messages: list[Any], entries: list[Any], more: Any
) -> None:
    answers = {
        "conversations.history": {"messages": messages, "has_more": bool(more)},
        "conversations.replies": {"messages": messages, "response_metadata": more},
        "users.list": {"members": entries, "response_metadata": {"next_cursor": more}},
        "users.info": {"user": more},
    }

    def before(method: str, arguments: dict[str, str]) -> Any:
        if method == "users.conversations":
            own = slack._users_conversations(arguments)
            return {**own, "channels": [*own["channels"], *entries], "response_metadata": more}
        return {"ok": True, **answers[method]} if method in answers else None

    slack.before = lambda method, _: None
    poll = Poll(slack)
    slack.before = before
    error = poll.try_pull()
    assert error is None or isinstance(error, PlatformError)
    for text in poll.cursors.values():
        orjson.loads(text)


@given(st.text() | JSON.map(lambda value: orjson.dumps(value, default=str).decode()))
def test_a_cursor_that_cannot_be_read_is_as_good_as_none(text: str) -> None:
    for kind in (Place, Thread):
        state = read_state(text, kind)
        assert read_state(write_state(state), kind) == state
        assert all(is_ts(ts) for ts in state.held)


def test_a_ts_and_its_moment_are_the_same() -> None:
    for ts in ("1355517523.000005", "1793707200.999999"):
        assert ts_of(time_of(ts)) == ts
        assert micros(ts) == int(ts.replace(".", ""))


def test_what_is_remembered_of_a_busy_channel_is_bounded(slack: SlackServer) -> None:
    for n in range(MOST_HELD + 50):
        slack.messages[GENERAL].append(
            {"type": "message", "user": BEA, "text": "x", "ts": ago(hours=2, milliseconds=-n)}
        )
    poll = Poll(slack)
    poll.pull()
    assert len(read_state(poll.cursors[GENERAL], Place).held) == MOST_HELD


def test_nothing_that_is_kept_holds_the_token(slack: SlackServer) -> None:
    slack.add_message("x", user=CARL)
    slack.spoil(slack.say("broken"))
    poll = Poll(slack)
    poll.pull()
    kept = f"{poll.envelopes} {poll.letters} {poll.cursors} {poll.notices} {poll.people}"
    assert TOKEN not in kept
    assert SIGNING_SECRET not in kept


@pytest.mark.parametrize("given", ["", "many", "1e9", "-1", "٣", "99999"])
def test_a_setting_that_was_spoiled_later_stops_nothing(slack: SlackServer, given: str) -> None:
    good = slack.add_message("good")
    poll = Poll(slack)
    changed = dict(poll.connection.settings) | {"look_back_days": given, "reread_hours": given}
    poll.connection = replace(poll.connection, settings=changed)
    poll.pull()
    assert set(poll.texts()) == {f"{GENERAL}:{good}"}


def test_the_token_is_not_sent_in_the_clear_whatever_base_url_was_set(slack: SlackServer) -> None:
    connected = connection(slack)
    changed = dict(connected.settings) | {"base_url": "http://slack.example/api/"}
    with (
        pytest.raises(LoginNeeded, match="https"),
        live_side("slack").connect(replace(connected, settings=changed)),
    ):
        pass


def test_a_client_is_silent_until_it_is_asked(slack: SlackServer) -> None:
    connected = connection(slack)
    slack.calls.clear()
    with live_side("slack").connect(connected):
        assert slack.calls == []
    assert client(slack)
