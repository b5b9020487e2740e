"""Events: what Slack pushes, verified and understood.

Belongs here: the signature, the key of a push, events as records. Does not belong here: HTTP, the
queue (`ingestion/push.py`).

https://docs.slack.dev/authentication/verifying-requests-from-slack and
https://docs.slack.dev/apis/events-api (read 2026-11): the signature is an HMAC over
`v0:<timestamp>:<raw body>`; an event is pushed again after failures, and the same message can come
under another `event_id`, which then lands as known, for its digest is the same.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson

from communicator_pipeline.platforms.protocol import (
    Accepted,
    Answer,
    Connection,
    NotSupported,
    Push,
    Record,
)
from communicator_pipeline.platforms.slack.moments import time_of
from communicator_pipeline.platforms.slack.payloads import (
    BROKEN,
    channel_kind,
    person,
    reason,
    record,
    shown,
)
from communicator_pipeline.platforms.slack.scopes import KIND_OF_CHANNEL_TYPE
from communicator_pipeline.storage.accounts import Channel
from communicator_pipeline.storage.dead_letters import DeadLetter

STAGE = "push"
OLDEST_SIGNATURE = 300  # seconds, before and after
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


class Forged(ValueError):
    """Not from Slack, or too old."""


def receive(push: Push, connection: Connection, now: datetime) -> Accepted | Answer:
    """Verify over the raw bytes, then say what it is. Any exception is a refusal."""
    secret = connection.secrets.get("signing_secret", "")
    if not secret:
        raise NotSupported("this account has no signing secret: log in again and give it")
    verify(push, secret, now)
    body = orjson.loads(push.body)
    what = body["type"]
    if what == "url_verification":
        challenge = body["challenge"]
        if not isinstance(challenge, str):
            raise Forged("the challenge is no text")
        return Answer(challenge.encode())
    if what == "event_callback":
        event_id = body["event_id"]
        if not isinstance(event_id, str) or not event_id:
            raise Forged("the event has no id")
        return Accepted(event_id)
    return Answer(b"")  # app_rate_limited and what may come: the next pull brings what is missing


def verify(push: Push, secret: str, now: datetime) -> None:
    """Raises for what Slack did not sign with this secret within the last five minutes."""
    timestamp = push.headers["x-slack-request-timestamp"]
    if not _SECONDS.fullmatch(timestamp):
        raise Forged("the timestamp is no number")
    if abs(now.timestamp() - int(timestamp)) > OLDEST_SIGNATURE:
        raise Forged("the signature is too old")
    signed = b"v0:" + timestamp.encode() + b":" + push.body
    expected = "v0=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), push.headers["x-slack-signature"].encode()):
        raise Forged("the signature is wrong")


def events(body: bytes, connection: Connection) -> Iterator[Record]:
    """What a verified body holds: a message, a person, a channel, or nothing of interest."""
    try:
        outer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        yield DeadLetter(STAGE, "an event", f"it is no JSON: {error}")
        return
    event = outer.get("event") if isinstance(outer, dict) else None
    if not isinstance(event, dict):
        if not isinstance(outer, dict) or outer.get("type") == "event_callback":
            yield DeadLetter(STAGE, "an event", "it holds no event")
        return
    if not _is_for(outer, connection):
        return
    source = f"event {outer.get('event_id') or ''}".strip()
    try:
        yield from _records(event, outer, source)
    except BROKEN as error:
        yield DeadLetter(STAGE, source, reason(error, "event"), shown(event))


def _records(event: dict[str, Any], outer: dict[str, Any], source: str) -> Iterator[Record]:
    what = event.get("type")
    if what == "message":
        yield from _message(event, source)
    elif what in ("user_change", "team_join", "user_profile_changed"):
        yield person(event["user"], _moment(event, outer))
    elif what in ("channel_rename", "group_rename", "channel_created"):
        renamed = event["channel"]
        kind = "group" if what == "group_rename" else channel_kind(renamed)
        yield Channel(renamed["id"], str(renamed["name"]), kind, _moment(event, outer))


def _message(event: dict[str, Any], source: str) -> Iterator[Record]:
    # A message that only one person sees is in no history, and message_replied says nothing that
    # the reply itself does not.
    if event.get("is_ephemeral") or event.get("subtype") == "message_replied":
        return
    channel_id = event["channel"]
    if not isinstance(channel_id, str) or not channel_id:
        raise TypeError(f"the channel should be a text, it is {channel_id!r}")
    kind = KIND_OF_CHANNEL_TYPE.get(str(event.get("channel_type")))
    if kind is None:
        kind = "dm" if channel_id.startswith("D") else "channel"
    yield record(event, channel_id, kind, STAGE, source)


def _moment(event: dict[str, Any], outer: dict[str, Any]) -> datetime:
    """When it happened: names that were told later win."""
    event_ts = event.get("event_ts")
    return time_of(event_ts if isinstance(event_ts, str) else f"{int(outer['event_time'])}.000000")


def _is_for(outer: dict[str, Any], connection: Connection) -> bool:
    """Whether an event is the account's to see.

    An app has one address for all who installed it: other workspaces, and, with user tokens, other
    people. `authorizations` names one installation that may see the event; one that names
    somebody else is left to that person's account, and pulling brings what this one may see.
    """
    named = outer.get("authorizations")
    named = [entry for entry in named if isinstance(entry, dict)] if isinstance(named, list) else []
    people = {entry.get("user_id") for entry in named if isinstance(entry.get("user_id"), str)}
    if people:
        return not connection.me or not people.isdisjoint(connection.me)
    team = connection.secrets.get("team")
    teams = [t for t in (outer.get("team_id"), outer.get("context_team_id")) if t is not None]
    return not team or not teams or team in teams
