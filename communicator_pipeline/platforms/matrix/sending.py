"""Sending into a room, once.

Belongs here: a message's content, what the homeserver's answer means for a send, looking for one
whose answer was lost. Does not belong here: when to try again (the delivery job).

The delivery's token is the transaction id: the homeserver answers the same PUT again with the event
that the first one made, for as long as it remembers (Synapse: some 30 minutes,
https://github.com/element-hq/synapse/blob/develop/synapse/rest/client/transactions.py, read
2026-11), and for the same device. Later, the room is read back: an own event tells its transaction
id to the device that sent it.
https://spec.matrix.org/v1.16/client-server-api/#transaction-identifiers (read 2026-11)
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from communicator_pipeline.platforms.instants import micros_of
from communicator_pipeline.platforms.matrix.events import edited
from communicator_pipeline.platforms.matrix.homeserver import (
    Declined,
    Homeserver,
    answered,
    not_before,
    room_path,
    segment,
)
from communicator_pipeline.platforms.matrix.normalise import relations
from communicator_pipeline.platforms.protocol import (
    Absent,
    CannotTell,
    FindResult,
    LoginNeeded,
    Part,
    PlatformError,
    Refused,
    Sending,
    SendResult,
    Sent,
    Target,
    Unknown,
    Unreachable,
    Wait,
)

SENDING = Sending(
    repeats=True,
    looks_up=True,
    # https://spec.matrix.org/v1.16/client-server-api/#size-limits (read 2026-11): an event has
    # 65,536 bytes at most, as JSON and with all that the homeserver adds to it; a line break or a
    # quotation mark takes two of them.
    longest=30_000,
    unit="bytes",
    repeats_for=timedelta(minutes=30),
)

TRY_AGAIN_IN = timedelta(minutes=1)
_CLOCKS_DIFFER = timedelta(minutes=2)
_PAGE = 100
_MOST_PAGES = 50


def send(server: Homeserver, target: Target, part: Part, token: str) -> SendResult:
    """One PUT. A look at the room comes first: no plain text where all else is encrypted."""
    now = datetime.now(UTC)
    try:
        server.get(room_path(target.channel_id, "state/m.room.encryption"))
        return Refused("the room is encrypted, and Communicator sends plain text: answer there")
    except Declined as declined:
        if declined.status != 404:
            return Refused(f"{declined}: are you still in the room?")
    except LoginNeeded as error:
        return Refused(str(error))
    except Wait as wait:
        return Refused(str(wait), wait.until)
    except PlatformError as error:
        return Refused(str(error), now + TRY_AGAIN_IN)
    path = room_path(target.channel_id, f"send/m.room.message/{segment(transaction(part, token))}")
    try:
        answer = server.put(path, content(target, part))
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        why = f"{server.host} could not be reached: {type(error).__name__}"
        return Refused(why, datetime.now(UTC) + TRY_AGAIN_IN)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Unknown(f"{server.host} did not answer: {type(error).__name__}")
    return outcome(answer, server, target)


def outcome(answer: httpx.Response, server: Homeserver, target: Target) -> SendResult:
    """What the answer to a PUT means."""
    if answer.is_success:
        try:
            event_id = answered(answer, server.host).get("event_id")
        except Unreachable as error:
            return Unknown(str(error))
        if isinstance(event_id, str) and event_id:
            return Sent(f"{target.channel_id}:{event_id}")
        return Unknown(f"{server.host} took the message and did not say under which id")
    if answer.status_code == 429:
        until = not_before(answer, datetime.now(UTC))
        return Refused(f"{server.host} limits sending", until)
    meant = server.failure(answer)
    if isinstance(meant, Unreachable) and answer.status_code >= 400:
        return Unknown(str(meant))
    code, words = server.error_words(answer)
    if code == "M_FORBIDDEN":
        return Refused(f"you may not write in this room: {words}")
    if code == "M_TOO_LARGE":
        return Refused("the message is too long for Matrix: shorten it")
    return Refused(str(meant))


def find_sent(
    server: Homeserver, me: str, target: Target, part: Part, token: str, since: datetime
) -> FindResult:
    """Read the room back to `since` for an own event of this transaction, or of these words by a
    login that cannot know transactions."""
    oldest = (micros_of(since - _CLOCKS_DIFFER)) // 1_000
    position = ""
    for _ in range(_MOST_PAGES):
        parameters = {"dir": "b", "limit": str(_PAGE)}
        if position:
            parameters["from"] = position
        try:
            page = server.get(room_path(target.channel_id, "messages"), parameters)
        except PlatformError as error:
            return CannotTell(str(error))
        events = page.get("chunk")
        if not isinstance(events, list):
            return CannotTell(f"{server.host} did not say what stands in the room")
        for event in events:
            if isinstance(event, dict) and _is_it(event, me, target, part, token, oldest):
                return Sent(f"{target.channel_id}:{event['event_id']}", _when(event))
        end = page.get("end")
        if not isinstance(end, str) or end in ("", position):
            return Absent()
        if events and all(_millis(event) < oldest for event in events):
            return Absent()
        position = end
    return CannotTell(f"the room has more than {_MOST_PAGES * _PAGE} newer events")


def transaction(part: Part, token: str) -> str:
    return token if part.of == 1 else f"{token}.{part.number}"


def content(target: Target, part: Part) -> dict[str, Any]:
    """What is put into the room. In a thread, what is answered is named for older clients only."""
    written: dict[str, Any] = {"msgtype": "m.text", "body": part.text}
    root = _native(target.thread_id, target)
    answered_id = _native(target.reply_to, target)
    reply = {"m.in_reply_to": {"event_id": answered_id or root}}
    if root:
        written["m.relates_to"] = {
            "rel_type": "m.thread",
            "event_id": root,
            "is_falling_back": True,
            **reply,
        }
    elif answered_id:
        written["m.relates_to"] = reply
    return written


def _is_it(
    event: Mapping[str, Any], me: str, target: Target, part: Part, token: str, oldest: int
) -> bool:
    if event.get("sender") != me or event.get("type") != "m.room.message":
        return False
    if not isinstance(event.get("event_id"), str):
        return False
    unsigned = event.get("unsigned")
    known = unsigned.get("transaction_id") if isinstance(unsigned, dict) else None
    if known is not None:
        return bool(known == transaction(part, token))
    written = event.get("content")
    return (
        isinstance(written, dict)
        and written.get("body") == part.text
        and edited(event) is None
        and relations(written)[0] == _native(target.thread_id, target)
        and _millis(event) >= oldest
    )


def _native(message_id: str | None, target: Target) -> str | None:
    return None if message_id is None else message_id.removeprefix(f"{target.channel_id}:")


def _millis(event: Any) -> int:
    found = event.get("origin_server_ts") if isinstance(event, dict) else None
    return found if isinstance(found, int) else 0


def _when(event: Mapping[str, Any]) -> datetime | None:
    try:
        return datetime.fromtimestamp(_millis(event) / 1_000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
