"""Slack's events: verified, understood, and the same messages as those that are pulled."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slack_sdk.signature import SignatureVerifier

from communicator_pipeline.platforms import live_side
from communicator_pipeline.platforms.protocol import (
    Accepted,
    Answer,
    Connection,
    NotSupported,
    Push,
    Record,
)
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope
from communicator_pipeline_tests.platforms.reading import read, write_zip
from communicator_pipeline_tests.platforms.slack_polling import Poll
from communicator_pipeline_tests.platforms.slack_server import (
    ANA,
    BEA,
    DIRECT,
    GENERAL,
    GROUP,
    SECRET,
    SIGNING_SECRET,
    TEAM,
    SlackServer,
)
from communicator_pipeline_tests.platforms.test_slack_live import JSON

LIVE = live_side("slack")


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with SlackServer() as server:
        yield server


@pytest.fixture
def ana() -> Connection:
    secrets = {"signing_secret": SIGNING_SECRET, "team": TEAM, "token": "xoxp-x"}
    return Connection("ana-acme", frozenset({ANA}), {}, secrets)


def now() -> datetime:
    return datetime.now(UTC)


def records(push: Push, ana: Connection) -> list[Record]:
    return list(LIVE.events(push.body, ana))


# --- who pushes


def test_slacks_own_verifier_and_ours_agree(slack: SlackServer, ana: Connection) -> None:
    slack.add_message("héllo")
    push = slack.pushes()[0]
    assert SignatureVerifier(SIGNING_SECRET).is_valid_request(push.body, dict(push.headers))
    verdict = LIVE.receive(push, ana, now())
    assert isinstance(verdict, Accepted)
    assert verdict.key == orjson.loads(push.body)["event_id"]


def test_a_push_that_comes_again_has_the_same_key(slack: SlackServer, ana: Connection) -> None:
    event = slack.wrapped({"type": "message"})
    first = LIVE.receive(slack.signed(event), ana, now())
    again = LIVE.receive(slack.signed(event, at=time.time() - 60), ana, now())
    assert first == again


def test_the_challenge_is_answered_only_under_the_right_signature(
    slack: SlackServer, ana: Connection
) -> None:
    body = {"type": "url_verification", "challenge": "3eZbrw1a", "token": "x"}
    assert LIVE.receive(slack.signed(body), ana, now()) == Answer(b"3eZbrw1a")
    with pytest.raises(ValueError, match="wrong"):
        LIVE.receive(slack.signed(body, secret="another"), ana, now())


@pytest.mark.parametrize(
    ("seconds", "good"), [(-301, False), (-299, True), (299, True), (302, False)]
)
def test_a_signature_is_good_for_five_minutes(
    slack: SlackServer, ana: Connection, seconds: int, good: bool
) -> None:
    push = slack.signed(slack.wrapped({"type": "message"}), at=time.time() + seconds)
    if good:
        assert isinstance(LIVE.receive(push, ana, now()), Accepted)
    else:
        with pytest.raises(ValueError, match="old"):
            LIVE.receive(push, ana, now())


def test_an_account_without_a_signing_secret_takes_no_push(slack: SlackServer) -> None:
    bare = Connection("a", frozenset(), {}, {"token": "x"})
    with pytest.raises(NotSupported):
        LIVE.receive(slack.signed({"type": "event_callback"}), bare, now())
    # An empty secret would be one that everybody knows.
    empty = Connection("a", frozenset(), {}, {"token": "x", "signing_secret": ""})
    with pytest.raises(NotSupported):
        LIVE.receive(slack.signed({"type": "event_callback"}, secret=""), empty, now())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    headers=st.dictionaries(
        st.sampled_from(["x-slack-request-timestamp", "x-slack-signature", "other"]),
        st.text()
        | st.sampled_from(["0", "9" * 400, "١٢٣", "v0=" + "0" * 64, "\udcff", "-1", "1e9"]),
    ),
    body=st.binary(),
)
def test_no_forged_push_is_taken(ana: Connection, headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011
        LIVE.receive(Push("POST", headers, {}, body), ana, now())


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(body=st.binary() | JSON.map(lambda value: orjson.dumps(value, default=str)))
def test_a_signed_body_that_is_no_event_is_refused_or_answered(
    slack: SlackServer, ana: Connection, body: bytes
) -> None:
    try:
        verdict = LIVE.receive(slack.signed(body), ana, now())
    except Exception:
        return
    assert isinstance(verdict, Answer)


# --- what is pushed


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120, deadline=None
)
@given(
    event=st.dictionaries(
        st.sampled_from(["type", "subtype", "channel", "ts", "message", "user", "channel_type"]),
        JSON
        | st.sampled_from(
            ["message", "message_changed", "message_deleted", "user_change", "channel_rename"]
        ),
    )
    | JSON,
    outer=st.dictionaries(
        st.sampled_from(["event_id", "event_time", "authorizations", "team_id", "type"]), JSON
    ),
    raw=st.none() | st.binary(),
)
def test_no_body_breaks_the_reading_of_events(
    ana: Connection, event: Any, outer: dict[str, Any], raw: bytes | None
) -> None:
    body = orjson.dumps({**outer, "event": event}) if raw is None else raw
    for record in LIVE.events(body, ana):
        assert isinstance(record, Envelope | DeadLetter | Person | Channel)


@pytest.mark.parametrize(
    ("channel", "name", "type_", "kind"),
    [
        (GENERAL, "general", "public_channel", "channel"),
        (SECRET, "plans", "private_channel", "group"),
        (GROUP, "mpdm-a--b-1", "mpim", "group"),
        (DIRECT, BEA, "im", "dm"),
    ],
)
def test_the_kind_of_a_channel_is_that_of_the_event(
    slack: SlackServer, ana: Connection, channel: str, name: str, type_: str, kind: str
) -> None:
    slack.add_channel(channel, name, type_)
    slack.add_message("x", channel)
    (envelope,) = records(slack.pushes()[0], ana)
    assert isinstance(envelope, Envelope)
    assert (envelope.channel_id, envelope.channel_kind) == (channel, kind)
    poll = Poll(slack)
    assert [e.channel_kind for e in poll.pull()] == [kind]


def test_names_that_change_come_in(slack: SlackServer, ana: Connection) -> None:
    ts = "1793707200.000100"
    user = {
        "id": BEA,
        "name": "bea",
        "profile": {"display_name": "Beatrice"},
        "updated": 1793707200,
    }
    pushed = slack.signed(slack.wrapped({"type": "user_change", "user": user, "event_ts": ts}))
    (person,) = records(pushed, ana)
    assert isinstance(person, Person)
    assert person.name == "Beatrice"
    channel = {"id": GENERAL, "name": "harbour", "is_channel": True, "created": 1}
    event = {"type": "channel_rename", "channel": channel, "event_ts": ts}
    (renamed,) = records(slack.signed(slack.wrapped(event)), ana)
    assert isinstance(renamed, Channel)
    assert (renamed.name, renamed.kind) == ("harbour", "channel")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "reaction_added", "item": {}},
        {"type": "app_mention", "text": "<@U0BOT>", "ts": "1793707200.000100", "channel": "C1"},
        {"type": "message", "subtype": "message_replied", "message": {}, "channel": "C1"},
        {"type": "message", "is_ephemeral": True, "ts": "1793707200.000100", "channel": "C1"},
        {"type": "something_new"},
        {},
    ],
)
def test_what_is_of_no_interest_yields_nothing(
    slack: SlackServer, ana: Connection, event: dict[str, Any]
) -> None:
    assert records(slack.signed(slack.wrapped(event)), ana) == []


def test_an_event_for_somebody_else_is_left_to_them(slack: SlackServer, ana: Connection) -> None:
    """One address serves all who installed the app: Carl's direct messages are not Ana's."""
    slack.add_message("for Carl's eyes")
    body = orjson.loads(slack.pushes()[0].body)
    body["authorizations"] = [{"team_id": TEAM, "user_id": "U0CARL", "is_bot": False}]
    assert records(slack.signed(body), ana) == []
    body["authorizations"] = []
    body["team_id"] = body["context_team_id"] = "T0OTHER"
    assert records(slack.signed(body), ana) == []
    body["team_id"] = TEAM
    assert len(records(slack.signed(body), ana)) == 1


def test_a_broken_event_is_a_dead_letter_without_the_envelopes_secrets(
    slack: SlackServer, ana: Connection
) -> None:
    event = {"type": "message", "ts": 1.5, "channel": GENERAL, "text": "x"}
    (letter,) = records(slack.signed(slack.wrapped(event)), ana)
    assert isinstance(letter, DeadLetter)
    assert letter.stage == "push"
    assert "lost digits" in letter.reason
    assert "a-verification-token" not in f"{letter}"


# --- one version, however it comes


def test_a_message_is_one_version_pulled_pushed_pushed_again_and_exported(
    slack: SlackServer, ana: Connection, tmp_path: Path
) -> None:
    file = {"id": "F1", "name": "a.pdf", "mimetype": "application/pdf", "size": 7}
    link = "https://files.slack.com/a.pdf"
    root = slack.add_message(
        "see <https://a.example> & more", files=[{**file, "url_private": link}]
    )
    reply = slack.add_message("I do", thread_ts=root, user=ANA)
    slack.edit(f"{GENERAL}:{reply}", "I did")
    pushes = slack.pushes()
    # The same event under another id, from another installation.
    again = [slack.signed({**orjson.loads(p.body), "event_id": "EvOther"}) for p in pushes]
    pushed = [record for push in [*pushes, *again] for record in records(push, ana)]

    poll = Poll(slack)
    pulled = poll.pull()

    exported = []
    for message in slack.messages[GENERAL]:
        profile = {"user_profile": {"display_name": "Bea"}, "user_team": TEAM, "source_team": TEAM}
        exported.append(slack._shown(GENERAL, message, {}) | profile)
    exported[0]["files"] = [{**file, "url_private": f"{link}?t=xoxe-123"}]
    exported[0]["replies"] = [{"user": ANA, "ts": reply}]
    del exported[0]["client_msg_id"], exported[0]["team"]
    day = datetime.fromtimestamp(float(root), UTC).date().isoformat()
    path = write_zip(
        tmp_path / "acme Slack export.zip",
        {
            "users.json": [{"id": BEA, "name": "bea"}],
            "channels.json": [{"id": GENERAL, "name": "general"}],
            f"general/{day}.json": json.loads(json.dumps(exported)),
        },
    )

    def versions(envelopes: list[Any]) -> set[tuple[str, str, int, int]]:
        return {(e.message_id, e.kind, e.digest, e.version_at) for e in envelopes}

    assert versions(pulled) == versions(read(path).envelopes)
    assert len(versions(pulled)) == 2
    # Pushes saw the reply before its edit, too.
    assert versions(pulled) < versions(pushed)
    assert len(versions(pushed)) == 3


def test_an_edit_and_a_preview_are_told_apart(slack: SlackServer, ana: Connection) -> None:
    ts = slack.add_message("see https://a.example")
    slack.change(GENERAL, ts, attachments=[{"title": "A"}])
    slack.edit(f"{GENERAL}:{ts}", "never mind")
    first, preview, edit = (records(push, ana)[0] for push in slack.pushes())
    assert isinstance(first, Envelope)
    assert isinstance(preview, Envelope)
    assert isinstance(edit, Envelope)
    assert (preview.digest, preview.version_at) == (first.digest, first.version_at)
    assert edit.digest != first.digest
    assert edit.version_at > first.version_at


def test_a_first_reaction_is_seen_and_changes_no_text(slack: SlackServer) -> None:
    ts = slack.add_message("done")
    poll = Poll(slack)
    poll.pull()
    slack.find(GENERAL, ts)["reactions"] = [{"name": "tada", "count": 1, "users": [ANA]}]
    assert len(poll.pull()) == 1
    rows = poll.rows()
    assert [(row["version"], row["reactions"]) for row in rows] == [
        (1, [{"name": "tada", "count": 1}])
    ]


def test_deletions_are_one_whether_told_by_an_event_or_a_tombstone(
    slack: SlackServer, ana: Connection
) -> None:
    root = slack.add_message("root")
    slack.add_message("reply", thread_ts=root)
    slack.delete(f"{GENERAL}:{root}")
    pushed = [r for p in slack.pushes() for r in records(p, ana) if isinstance(r, Envelope)]
    told = [e for e in pushed if e.kind == "deletion"]
    pulled = [e for e in Poll(slack).pull() if e.kind == "deletion"]
    assert [e.digest for e in told] == [e.digest for e in pulled]
    assert told[0].message_id == f"{GENERAL}:{root}"
    assert now() - timedelta(minutes=1) < datetime.fromtimestamp(told[0].version_at / 1e6, UTC)
