"""What Slack gives, as records: messages, people, channels.

Belongs here: envelopes and directory entries, from wherever they come: an export, a pull, a push.
Does not belong here: where they come from (`export.py`, `reading.py`, `pushes.py`), what a message
says (`normalise.py`).

One and the same version of a message comes in different clothes: an export adds `user_profile`, an
event `event_ts` and `channel_type`, a later pull `reply_count`, and `thread_ts` on a message that
got its first answer. Its digest is therefore taken over what it says, and not over how it came.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import orjson
import xxhash

from communicator_pipeline.messages import ChannelKind
from communicator_pipeline.platforms.slack.moments import day_of, micros
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope

# https://docs.slack.dev/reference/events/message#subtypes (read 2026-11): what the workspace says
# of itself.
SYSTEM_SUBTYPES = frozenset(
    "channel_archive channel_canvas_updated channel_convert_to_private channel_convert_to_public "
    "channel_join channel_leave channel_name channel_posting_permissions channel_purpose "
    "channel_topic channel_unarchive bot_add bot_remove bot_disable bot_enable ekm_access_denied "
    "group_archive group_join group_leave group_name group_purpose group_topic group_unarchive "
    "huddle_thread joiner_notification pinned_item reminder_add reminder_delete sh_room_created "
    "sh_room_shared tabbed_canvas_updated unpinned_item".split()
)

# Links to files in an export carry a token that opens them for anyone.
_FILE_TOKEN = re.compile(rb"[?&]t=xox[a-z]-[\w%-]+")

BROKEN = (KeyError, TypeError, ValueError, AttributeError, RecursionError)
"""What a payload that is no message may raise."""


def envelope(item: Any, channel_id: str, kind: str, origin: str) -> Envelope:
    """An export item, a message of `conversations.history`, or an event, as an envelope.

    Raises one of `BROKEN`, with a sentence, for what is no message.
    """
    if not isinstance(item, dict):
        raise TypeError(f"a message should be an object, this is {type(item).__name__}")
    what, subtype = "message", item.get("subtype")
    concerned = item
    version = item.get("edited") or item
    if subtype == "message_changed":
        concerned = item["message"]
        version = concerned.get("edited") or (item if is_edit(item) else concerned)
        if concerned.get("subtype") == "tombstone":
            what, version = "deletion", item
    elif subtype == "message_deleted":
        what, concerned = "deletion", {"ts": item["deleted_ts"]}
    elif subtype == "tombstone":
        what = "deletion"
    ts = concerned.get("ts")
    if not isinstance(ts, str):
        raise ValueError(
            "the message has no ts (its time and id)"
            if ts is None
            else f"ts should be a text, it is {ts!r}: as a number it has lost digits"
        )
    payload = orjson.dumps(item)
    if b"xox" in payload:
        payload = _FILE_TOKEN.sub(b"", payload)
    return Envelope(
        day_of(ts),
        f"{channel_id}:{ts}",
        channel_id,
        kind,
        what,
        micros(version.get("ts") or ts),
        xxhash.xxh3_64_intdigest(ts.encode() if what == "deletion" else _said(concerned, ts)),
        payload,
        None,
        origin,
    )


def is_edit(changed: dict[str, Any]) -> bool:
    """Whether a `message_changed` without `edited` tells of an edit, as in old exports.

    Slack sends the same when it adds a link's preview or finishes a file: then the text before and
    after is the same.
    """
    before, after = changed.get("previous_message"), changed.get("message")
    if isinstance(before, dict) and isinstance(after, dict):
        return before.get("text") != after.get("text")
    return True


def _said(message: dict[str, Any], ts: str) -> bytes:
    """What makes this version of a message differ from another one, in bytes."""
    edited = message.get("edited")
    thread = message.get("thread_ts")
    text = message.get("text")
    parts = [
        ts,
        edited.get("ts") if isinstance(edited, dict) else None,
        message.get("user") or message.get("bot_id") or message.get("username"),
        thread if thread != ts else None,
        message["subtype"] if message.get("subtype") in SYSTEM_SUBTYPES else None,
        # Blocks repeat the text, and link previews are added to it later.
        text or [message.get("blocks"), message.get("attachments")],
    ]
    if message.get("files") or message.get("file"):
        files = message.get("files") or [message["file"]]
        # A file can be unfinished when its event comes: it has its address later.
        parts.append([_file(file) for file in files] if isinstance(files, list) else files)
    if reactions := message.get("reactions"):
        parts.append(
            reactions if not isinstance(reactions, list) else [_count(r) for r in reactions]
        )
    said = orjson.dumps(parts)
    return _FILE_TOKEN.sub(b"", said) if b"xox" in said else said


def _file(file: Any) -> Any:
    if not isinstance(file, dict):
        return file
    gone = file.get("mode") == "tombstone"
    return [file.get("id"), file.get("name"), bool(file.get("url_private")), gone]


def _count(reaction: Any) -> Any:
    if not isinstance(reaction, dict):
        return reaction
    return [reaction.get("name"), reaction.get("count") or reaction.get("users")]


def person(user: Any, seen_at: datetime) -> Person:
    """Somebody of `users.list`, of an export or of an event. Raises one of `BROKEN`."""
    profile = user.get("profile") or {}
    name = (
        profile.get("display_name")
        or profile.get("real_name")
        or user.get("real_name")
        or user.get("name")
        or user["id"]
    )
    updated = user.get("updated")
    if isinstance(updated, int) and 0 < updated < 2**33:
        seen_at = datetime.fromtimestamp(updated, UTC)
    if not isinstance(user["id"], str):
        raise TypeError(f"a user's id should be a text, it is {user['id']!r}")
    return Person(
        user["id"], str(name), seen_at, str(user.get("name") or ""), bool(user.get("is_bot"))
    )


def channel_kind(conversation: dict[str, Any]) -> ChannelKind:
    """Of a conversation object: https://docs.slack.dev/reference/objects/conversation-object."""
    if conversation.get("is_im"):
        return "dm"
    if (
        conversation.get("is_mpim")
        or conversation.get("is_private")
        or conversation.get("is_group")
    ):
        return "group"
    return "channel"


def conversation_type(conversation: dict[str, Any]) -> str:
    """As `types` of `users.conversations` has it."""
    for flag, name in (("is_im", "im"), ("is_mpim", "mpim")):
        if conversation.get(flag):
            return name
    return "private_channel" if channel_kind(conversation) == "group" else "public_channel"


def handles(conversation: dict[str, Any]) -> list[str]:
    """Who is in a group direct message: its name (`mpdm-maya--bob-1`) is made of them."""
    name = str(conversation.get("name") or "")
    if not name.startswith("mpdm-"):
        return []
    return re.sub(r"-\d+$", "", name.removeprefix("mpdm-")).split("--")


def channel(conversation: dict[str, Any], names: dict[str, str], seen_at: datetime) -> Channel:
    """A conversation of a list, called as people call it. `names` has what is known of people, by
    id and by handle: a direct message is called like the other one, a group of people like them.

    Raises one of `BROKEN`.
    """
    channel_id = conversation["id"]
    if not isinstance(channel_id, str):
        raise TypeError(f"a channel's id should be a text, it is {channel_id!r}")
    title = str(conversation.get("name") or channel_id)
    if conversation.get("is_im"):
        other = str(conversation.get("user") or channel_id)
        title = names.get(other, other)
    elif people := handles(conversation):
        title = ", ".join(names.get("@" + handle, handle) for handle in people)
    return Channel(channel_id, title, channel_kind(conversation), seen_at)


def reason(error: Exception, what: str = "message") -> str:
    """Why something is no message, for people."""
    if isinstance(error, KeyError):
        return f"the {what} has no {error.args[0]!r}"
    if isinstance(error, RecursionError) or "ecursion" in str(error):
        return f"the {what} is nested too deep to be one"
    return str(error)


def shown(item: Any) -> str:
    """A broken item as text, to be looked at; without the tokens of file links."""
    try:
        return _FILE_TOKEN.sub(b"", orjson.dumps(item)).decode()
    except (TypeError, RecursionError, orjson.JSONEncodeError):
        return "(cannot be shown: nested too deep, or not JSON)"


def record(item: Any, channel_id: str, kind: str, stage: str, origin: str) -> Envelope | DeadLetter:
    """An item as an envelope; a broken one as a dead letter in its place."""
    try:
        return envelope(item, channel_id, kind, origin)
    except BROKEN as error:
        return DeadLetter(stage, f"{channel_id} ({origin})", reason(error), shown(item))
