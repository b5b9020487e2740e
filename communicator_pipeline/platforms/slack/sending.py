"""Replies: sent once, and looked for when the answer was lost.

Belongs here: `chat.postMessage` and the look for what became of it. Does not belong here: reading
(`reading.py`), when to send again (the delivery).

Slack knows no key by which it would recognise a repeat (`client_msg_id` promises nothing). So the
delivery's token travels in the message's metadata, which people do not see, and a look through the
history since then tells whether it is there:
https://docs.slack.dev/messaging/message-metadata (read 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

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
from communicator_pipeline.platforms.slack.asking import Api, LeftOpen, SaidNo
from communicator_pipeline.platforms.slack.moments import is_ts, time_of, ts_of

SENDING = Sending(
    repeats=False,
    looks_up=True,
    # https://docs.slack.dev/reference/methods/chat.postMessage (read 2026-11) advises 4,000 and
    # truncates at 40,000; beyond 4,000 Slack splits a text into several messages, or refuses it.
    longest=4_000,
)
EVENT_TYPE = "communicator_delivery"
CLOCKS_DIFFER = timedelta(seconds=120)
TRY_AGAIN_IN = timedelta(seconds=30)
LOOK_PAGE = 200
MOST_PAGES = 50  # 10,000 messages: more in one channel since an attempt is no complete look

# What people write stays: `<@U…>`, `<#C…>`, `<!here>`. Every other <, > and & is text.
# https://docs.slack.dev/messaging/formatting-message-text#escaping (read 2026-11)
_MENTION = re.compile(r"<(?:@[UWB][A-Z0-9]+|#[CG][A-Z0-9]+)>")


def escaped(text: str) -> str:
    """A plain text as Slack wants it, mentions of people and channels working.

    `<!channel>` and links with a label are not among them: who drafts an answer must not be able
    to ring the whole workspace, or to show one address and mean another.
    """
    pieces, end = [], 0
    for match in _MENTION.finditer(text):
        pieces += [_plain(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*pieces, _plain(text[end:])])


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def send(api: Api, target: Target, part: Part, token: str) -> SendResult:
    """One request, no retry."""
    thread = _native(target.thread_id, target.channel_id)
    if target.thread_id and not thread:
        return Refused(f"{target.thread_id} is no message of {target.channel_id}: nothing was sent")
    arguments: dict[str, Any] = {
        "channel": target.channel_id,
        "text": escaped(part.text),
        "metadata": {"event_type": EVENT_TYPE, "event_payload": _mark(part, token)},
        "unfurl_links": False,
        "unfurl_media": False,
    }
    if thread:
        arguments["thread_ts"] = thread
    try:
        answer = api.post("chat.postMessage", arguments)
    except Wait as wait:
        return Refused(str(wait), wait.until)
    except LoginNeeded as error:
        return Refused(f"{error}: log in again")
    except Unreachable as error:
        return Refused(str(error), datetime.now(UTC) + TRY_AGAIN_IN)
    except LeftOpen as error:
        return Unknown(str(error))
    except SaidNo as no:
        needed = f" ({no.needed})" if no.code == "missing_scope" and no.needed else ""
        return Refused(f"{no}{needed}")
    channel, ts = answer.get("channel"), answer.get("ts")
    if not isinstance(channel, str) or not isinstance(ts, str) or not is_ts(ts):
        return Unknown("Slack says that it was sent, but not under which id")
    return Sent(f"{channel}:{ts}", time_of(ts))


def find_sent(
    api: Api, target: Target, part: Part, token: str, since: datetime, page: int = LOOK_PAGE
) -> FindResult:
    """Look through everything since the attempt, less two minutes for clocks that differ."""
    try:
        for messages in _since(api, target, since - CLOCKS_DIFFER, page):
            for message in messages:
                ts = message.get("ts") if isinstance(message, dict) else None
                if isinstance(ts, str) and is_ts(ts) and _is_marked(message, part, token):
                    return Sent(f"{target.channel_id}:{ts}", time_of(ts))
    except (SaidNo, _Incomplete) as error:
        return CannotTell(f"the look was not complete: {error}")
    return Absent()


class _Incomplete(PlatformError):
    """Something that Slack answered leaves the question open."""


def _since(api: Api, target: Target, since: datetime, page: int) -> Iterator[list[Any]]:
    thread = _native(target.thread_id, target.channel_id)
    method = "conversations.replies" if thread else "conversations.history"
    arguments: dict[str, str | int | bool] = {
        "channel": target.channel_id,
        "oldest": ts_of(since),
        "latest": ts_of(datetime.now(UTC) + CLOCKS_DIFFER),
        "inclusive": True,
        "include_all_metadata": True,
        "limit": page,
    }
    if thread:
        arguments["ts"] = thread
    for _ in range(MOST_PAGES):
        answer = api.read(method, **arguments)
        messages = answer.get("messages")
        if not isinstance(messages, list):
            raise _Incomplete("Slack's answer holds no list of messages")
        yield messages
        metadata = answer.get("response_metadata")
        cursor = metadata.get("next_cursor") if isinstance(metadata, dict) else ""
        if not cursor:
            if answer.get("has_more"):
                raise _Incomplete("Slack says that there is more, but not where")
            return
        if not isinstance(cursor, str) or cursor == arguments.get("cursor"):
            raise _Incomplete("Slack's pages go in a circle")
        arguments["cursor"] = cursor
    raise _Incomplete(f"there is more than {MOST_PAGES * page} messages")


def _mark(part: Part, token: str) -> dict[str, Any]:
    return {"delivery": token, "part": part.number}


def _is_marked(message: dict[str, Any], part: Part, token: str) -> bool:
    metadata = message.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("event_type") != EVENT_TYPE:
        return False
    payload = metadata.get("event_payload")
    return isinstance(payload, dict) and {
        "delivery": payload.get("delivery"),
        "part": payload.get("part"),
    } == _mark(part, token)


def _native(message_id: str | None, channel_id: str) -> str:
    """The ts of a message of this channel; "" if it is none."""
    if not message_id or not message_id.startswith(channel_id + ":"):
        return ""
    ts = message_id.removeprefix(channel_id + ":")
    return ts if is_ts(ts) else ""
