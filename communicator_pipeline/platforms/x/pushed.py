"""What X pushes: the check that it is X, and the events in it. Pure.

Belongs here: signatures and the two shapes of a push. Does not belong here: what a post or a
message in it says (`reading.py`).

https://docs.x.com/x-api/webhooks/introduction (read 2026-11): X asks with a `crc_token` whether the
endpoint knows the app's secret, and signs each body with it. There is no time in the signature, so
a key that is the same for the same events is all the protection against a replay. The shapes are
those of the Account Activity API (deprecated) and of the X Activity API
(https://docs.x.com/x-api/activity/event-payloads, read 2026-11).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from communicator_pipeline.platforms.protocol import Accepted, Answer, Push, Record
from communicator_pipeline.platforms.x.reading import (
    Around,
    broken,
    read_deletion,
    read_direct_message,
    read_old_direct_message,
    read_old_post,
    read_post,
)

SIGNATURE = "x-twitter-webhooks-signature"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,200}")  # X's are random text; JSON is none
_STAGE = "push"
_SOURCE = "X, pushed"
_LISTS = ("tweet_create_events", "tweet_delete_events", "direct_message_events")


def verify(push: Push, consumer_secret: str) -> Accepted | Answer:
    """The answer to X's question, or the key of a push that X has signed; raises ValueError.

    Both are signed with the same secret and anybody may ask: a token that could be a push's body
    must not be answered, and a body that could be a token is not believed.
    """
    if not consumer_secret:
        raise ValueError("this account has no consumer secret: log in again and give it")
    if push.method == "GET":
        asked = push.query["crc_token"]
        if not _TOKEN.fullmatch(asked):
            raise ValueError("the crc_token is not one of X's")
        token = signed(asked.encode(), consumer_secret)
        return Answer(orjson.dumps({"response_token": token}), "application/json")
    if not push.body.startswith(b"{"):
        raise ValueError("the body is not one of X's")
    expected = signed(push.body, consumer_secret)
    if not hmac.compare_digest(push.headers[SIGNATURE].encode("ascii"), expected.encode("ascii")):
        raise ValueError("the signature is not X's")
    return Accepted(key_of(push.body))


def signed(data: bytes, consumer_secret: str) -> str:
    digest = hmac.new(consumer_secret.encode(), data, hashlib.sha256).digest()
    return "sha256=" + base64.b64encode(digest).decode()


def key_of(body: bytes) -> str:
    """The same for the same events, however the body is spelled; else the body's own digest."""
    try:
        told = _object(orjson.loads(body))
    except orjson.JSONDecodeError:
        told = {}
    uuid = _object(told.get("data")).get("event_uuid")
    events = [(kind, event) for kind in _LISTS for event in _list(told.get(kind))]
    if isinstance(uuid, str) and uuid:
        names = ["event", uuid]
    elif events and all(_native(event) for _, event in events):
        names = [str(told.get("for_user_id")), *(f"{kind} {_native(e)}" for kind, e in events)]
    else:
        return hashlib.sha256(body).hexdigest()
    return hashlib.sha256("\n".join(names).encode(errors="replace")).hexdigest()


def read(body: bytes, me: Collection[str], now: datetime | None = None) -> Iterator[Record]:
    """What a push holds for the owner (`me`); what concerns others of the app's users is theirs."""
    now = now or datetime.now(UTC)
    try:
        told = orjson.loads(body)
        if not isinstance(told, dict):
            raise TypeError(f"a push should be an object, this is {type(told).__name__}")
    except Exception as error:  # whatever a stranger's body does to a parser
        yield broken(error, body.decode(errors="replace"), _STAGE, _SOURCE)
        return
    if isinstance(told.get("data"), dict):
        yield from _activity(told["data"], me, now)
    else:
        yield from _account_activity(told, me, now)


def _account_activity(
    told: Mapping[str, Any], me: Collection[str], now: datetime
) -> Iterator[Record]:
    owner = told.get("for_user_id")
    if owner is not None and str(owner) not in me:
        return
    mine = str(owner or next(iter(me), ""))
    around = Around.of({"users": told.get("users")})
    for post in _list(told.get("tweet_create_events")):
        yield from read_old_post(post, around, mine, _STAGE, _SOURCE)
    for event in _list(told.get("tweet_delete_events")):
        status = _object(_object(event).get("status"))
        gone = _object(event).get("timestamp_ms")
        micros = int(gone) * 1_000 if isinstance(gone, str) and gone[:18].isdecimal() else None
        yield read_deletion(status.get("id"), status.get("user_id"), micros, _STAGE, _SOURCE, event)
    yield from _direct_messages(told, around, mine, now)


def _direct_messages(
    told: Mapping[str, Any], around: Around, me: str, now: datetime
) -> Iterator[Record]:
    events = _list(told.get("direct_message_events"))
    if events:
        yield from around.people(now)
    for event in events:
        yield from read_old_direct_message(event, around, me, now, _STAGE, _SOURCE)


def _activity(data: Mapping[str, Any], me: Collection[str], now: datetime) -> Iterator[Record]:
    owner = _object(data.get("filter")).get("user_id")
    if owner is not None and str(owner) not in me:
        return
    mine = str(owner or next(iter(me), ""))
    kind, payload = data.get("event_type"), data.get("payload")
    around = Around.of(data.get("includes"))
    if not isinstance(kind, str) or not isinstance(payload, dict):
        yield broken(ValueError("the event has no type or no payload"), data, _STAGE, _SOURCE)
    elif kind == "post.delete":
        yield read_deletion(
            payload.get("id"), payload.get("author_id"), None, _STAGE, _SOURCE, payload
        )
    elif kind.startswith("post.") and "text" in payload:
        yield from around.people(now)
        yield read_post(payload, around, _STAGE, _SOURCE)
    elif kind in ("dm.sent", "dm.received") and "direct_message_events" in payload:
        users = Around.of({"users": payload.get("users")})
        yield from _direct_messages(payload, users, mine, now)
    elif kind in ("dm.sent", "dm.received"):
        yield from around.people(now)
        yield from read_direct_message(payload, around, mine, now, _STAGE, _SOURCE)


def _native(event: Any) -> str:
    told = _object(event)
    native = told.get("id_str") or told.get("id") or _object(told.get("status")).get("id")
    return native if isinstance(native, str) else ""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
