"""The Bot API's messages in the shape of Telegram Desktop's export. Pure.

Belongs here: reading `Update` and `Message` objects (https://core.telegram.org/bots/api, read
2026-11). Does not belong here: asking for them (`bot_api.py`), ids and digests (`envelopes.py`).

The Bot API writes the chats of supergroups and channels as -100…, those of basic groups as -…; the
export, and so `channel_id`, has the number alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from communicator_pipeline.messages import ChannelKind
from communicator_pipeline.platforms.protocol import Record
from communicator_pipeline.platforms.rejected import dead_letter
from communicator_pipeline.platforms.telegram.envelopes import Chat, envelope
from communicator_pipeline.storage.accounts import Channel, Person

KINDS = ("message", "edited_message", "channel_post", "edited_channel_post")
"""The updates that are messages. Reactions come without the message, so they are left out."""

ORIGIN = "telegram bot"
FILE_SCHEME = "telegram-bot-file:"
"""Telegram's own addresses of files hold the bot's token: they are made when they are needed."""

_CHANNELS = 1_000_000_000_000

_ENTITIES = {
    "url": "link",
    "text_mention": "mention_name",
    "expandable_blockquote": "blockquote",
}

# The Bot API's key → the export's `media_type`; a `document` has none.
_MEDIA = {
    "sticker": "sticker",
    "video_note": "video_message",
    "voice": "voice_message",
    "animation": "animation",
    "video": "video_file",
    "audio": "audio_file",
}

_ACTIONS = {
    "group_chat_created": "create_group",
    "supergroup_chat_created": "create_channel",
    "channel_chat_created": "create_channel",
    "new_chat_title": "edit_group_title",
    "new_chat_photo": "edit_group_photo",
    "delete_chat_photo": "delete_group_photo",
    "new_chat_members": "invite_members",
    "left_chat_member": "remove_members",
    "migrate_to_chat_id": "migrate_to_supergroup",
    "migrate_from_chat_id": "migrate_from_group",
    "pinned_message": "pin_message",
    "forum_topic_created": "topic_created",
    "forum_topic_edited": "topic_edit",
    "forum_topic_closed": "topic_closed",
    "forum_topic_reopened": "topic_reopened",
    "message_auto_delete_timer_changed": "set_messages_ttl",
    "video_chat_started": "group_call",
    "video_chat_ended": "group_call",
    "video_chat_scheduled": "group_call_scheduled",
}


def records(update: Any, now: datetime, stage: str) -> Iterator[Record]:
    """What an update brings; a broken one is a dead letter, one of another kind nothing."""
    number = update.get("update_id") if isinstance(update, dict) else None
    try:
        message = _message_in(update)
        if message is not None:
            yield from _of_message(message, now)
    except Exception as error:  # whatever a stranger's message does to a parser
        yield dead_letter(error, f"{ORIGIN}: update {number}", update, stage=stage)


def chat_id(update: Any) -> str | None:
    """The chat of an update, as `channel_id` has it; None if it is of no chat."""
    try:
        message = _message_in(update)
        return None if message is None else bare(message["chat"]["id"])
    except (KeyError, TypeError, ValueError):
        return None


def bare(number: Any) -> str:
    """A chat's number without the Bot API's prefix; raises TypeError."""
    if type(number) is not int:
        raise TypeError(f"a chat's id should be a whole number, it is {number!r}")
    return str(-number - _CHANNELS if number <= -_CHANNELS else abs(number))


def candidates(channel_id: str) -> tuple[int, int, int]:
    """What the Bot API may call a chat of this number: a channel, a person, a group."""
    number = int(channel_id)
    return -_CHANNELS - number, number, -number


def exported(message: dict[str, Any]) -> dict[str, Any]:
    """A message as the export would have it; raises KeyError, TypeError or ValueError."""
    chat = message["chat"]
    sender, name = _sender(message)
    action = next((key for key in _ACTIONS if key in message), None)
    item: dict[str, Any] = {
        "id": message["message_id"],
        "type": "service" if action else "message",
        **_time("date", message["date"]),
    }
    if "edit_date" in message:
        item |= _time("edited", message["edit_date"])
    added: dict[str, Any] = {}
    if action:
        item |= {"actor": name, "actor_id": sender, **_action(action, message, added)}
        item |= {"text": "", "text_entities": []}
    else:
        item |= {"from": name, "from_id": sender}
        if message.get("author_signature"):
            item["author"] = message["author_signature"]
        if "forward_origin" in message:
            item["forwarded_from"] = _origin(message["forward_origin"])
        item |= _reply(message, chat["id"])
        if "via_bot" in message:
            item["via_bot"] = f"@{message['via_bot']['username']}"
        urls: dict[str, str] = {}
        item |= _media(message, urls)
        text = message.get("text", message.get("caption", ""))
        parts = _parts(text, message.get("entities", message.get("caption_entities", ())))
        item["text"] = _text(parts)
        item["text_entities"] = parts
        if urls:
            added["urls"] = urls
        if "media_group_id" in message:
            added["album"] = str(message["media_group_id"])
    if message.get("is_topic_message") and message.get("message_thread_id") not in (None, 1):
        added["topic"] = message["message_thread_id"]
    if (message.get("from") or {}).get("is_bot") and "sender_chat" not in message:
        added["bot"] = True
    added["raw"] = message
    item["communicator"] = added
    return item


def _message_in(update: Any) -> dict[str, Any] | None:
    if not isinstance(update, dict):
        raise TypeError(f"an update should be an object, this is {type(update).__name__}")
    for kind in KINDS:
        if kind in update:
            message = update[kind]
            if not isinstance(message, dict):
                raise TypeError(f"{kind} should be an object, it is {type(message).__name__}")
            return message
    return None


def _of_message(message: dict[str, Any], now: datetime) -> Iterator[Record]:
    chat = message["chat"]
    kind = _kind(chat)
    channel_id = bare(chat["id"])
    arrived = envelope(exported(message), Chat(channel_id, kind), ORIGIN)
    yield Channel(channel_id, _named(chat) or "Deleted Account", kind, now)
    person = message.get("from")
    if person is not None and "sender_chat" not in message:
        yield Person(
            f"user{person['id']}",
            _named(person) or "Deleted Account",
            now,
            str(person.get("username") or ""),
            bool(person.get("is_bot")),
        )
    yield arrived


def _kind(chat: dict[str, Any]) -> ChannelKind:
    match chat["type"]:
        case "private":
            return "dm"
        case "channel":
            return "feed"
        case "supergroup":
            return "channel" if chat.get("username") else "group"
    return "group"


def _named(one: dict[str, Any]) -> str:
    if one.get("title"):
        return str(one["title"])
    return " ".join(str(one[key]) for key in ("first_name", "last_name") if one.get(key))


def _key(chat: dict[str, Any]) -> str:
    """A chat as the author of something."""
    prefix = {"private": "user", "group": "chat"}.get(chat["type"], "channel")
    return f"{prefix}{bare(chat['id'])}"


def _sender(message: dict[str, Any]) -> tuple[str, str | None]:
    if "sender_chat" in message:  # an anonymous administrator, or a channel in its group
        return _key(message["sender_chat"]), _named(message["sender_chat"]) or None
    if "from" in message:
        return f"user{message['from']['id']}", _named(message["from"]) or None
    return _key(message["chat"]), _named(message["chat"]) or None


def _time(name: str, seconds: Any) -> dict[str, str]:
    if type(seconds) is not int or not 0 < seconds < 2**36:
        raise ValueError(f"{name} should be seconds since 1970, it is {seconds!r}")
    spelled = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
    return {name: spelled, f"{name}_unixtime": str(seconds)}


def _origin(origin: dict[str, Any]) -> str | None:
    if "sender_user" in origin:
        return _named(origin["sender_user"]) or None
    if "sender_user_name" in origin:
        return str(origin["sender_user_name"])
    chat = origin.get("chat") or origin.get("sender_chat") or {}
    return _named(chat) or None


def _reply(message: dict[str, Any], here: int) -> dict[str, Any]:
    if "external_reply" in message:
        other = message["external_reply"]
        if "message_id" in other and "chat" in other:
            number = {"reply_to_message_id": other["message_id"]}
            return {**number, "reply_to_peer_id": _key(other["chat"])}
        return {}
    if "reply_to_message" in message:
        return {"reply_to_message_id": message["reply_to_message"]["message_id"]}
    if message.get("is_topic_message") and message.get("message_thread_id") not in (None, 1):
        return {"reply_to_message_id": message["message_thread_id"]}
    return {}


def _parts(text: Any, entities: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The text in pieces. Offsets count UTF-16 units; of entities that overlap, the first counts,
    as in the export."""
    if not isinstance(text, str):
        raise TypeError(f"the text should be a string, it is {type(text).__name__}")
    units = text.encode("utf-16-le", errors="surrogatepass")
    size = len(units) // 2

    def between(first: int, last: int) -> str:
        return units[first * 2 : last * 2].decode("utf-16-le", errors="replace")

    parts: list[dict[str, Any]] = []
    at = 0
    for entity in entities:
        first, length = entity["offset"], entity["length"]
        if first < at or length <= 0 or first + length > size:
            continue
        if first > at:
            parts.append({"type": "plain", "text": between(at, first)})
        at = first + length
        kind = _ENTITIES.get(entity["type"], entity["type"])
        part: dict[str, Any] = {"type": kind, "text": between(first, at)}
        if kind == "mention_name":
            part["user_id"] = entity["user"]["id"]
        elif kind == "custom_emoji":
            part["document_id"] = entity["custom_emoji_id"]
        elif kind == "pre":
            part["language"] = entity.get("language", "")
        elif kind == "text_link":
            part["href"] = entity["url"]
        elif kind == "blockquote":
            part["collapsed"] = entity["type"] == "expandable_blockquote"
        parts.append(part)
    if size > at:
        parts.append({"type": "plain", "text": between(at, size)})
    return parts


def _text(parts: list[dict[str, Any]]) -> Any:
    mixed = [part["text"] if part["type"] == "plain" else part for part in parts]
    if not mixed:
        return ""
    return mixed[0] if len(mixed) == 1 and isinstance(mixed[0], str) else mixed


def _media(message: dict[str, Any], urls: dict[str, str]) -> dict[str, Any]:
    if sizes := message.get("photo"):
        best = max(sizes, key=lambda size: size["width"] * size["height"])
        urls["photo"] = FILE_SCHEME + best["file_id"]
        found = {"photo": "photo.jpg", "photo_file_size": best.get("file_size")}
        return _present({**found, "width": best["width"], "height": best["height"]})
    for key in (*_MEDIA, "document"):  # an animation comes as a document as well
        if key in message:
            return _file(key, message[key], urls)
    if "contact" in message:
        contact = message["contact"]
        names = {key: contact.get(key, "") for key in ("first_name", "last_name", "phone_number")}
        return {"contact_information": names}
    if "venue" in message:
        venue = message["venue"]
        place = {"place_name": venue["title"], "address": venue["address"]}
        return {**place, **_place(venue["location"])}
    if "location" in message:
        return _place(message["location"])
    if "poll" in message:
        return {"poll": _poll(message["poll"])}
    if "game" in message:
        game = message["game"]
        return {"game_title": game["title"], "game_description": game["description"]}
    if "invoice" in message:
        invoice = message["invoice"]
        told = {key: invoice[key] for key in ("title", "description")}
        amount = {"amount": invoice["total_amount"], "currency": invoice["currency"]}
        return {"invoice_information": {**told, **amount}}
    if "dice" in message:
        return {"sticker_emoji": message["dice"]["emoji"]}
    return {}


def _file(key: str, file: dict[str, Any], urls: dict[str, str]) -> dict[str, Any]:
    urls["file"] = FILE_SCHEME + file["file_id"]
    name = file.get("file_name")
    return _present(
        {
            "file": name or _MEDIA.get(key, "file"),
            "file_name": name,
            "file_size": file.get("file_size"),
            "media_type": _MEDIA.get(key),
            "sticker_emoji": file.get("emoji") if key == "sticker" else None,
            "performer": file.get("performer"),
            "title": file.get("title"),
            "mime_type": file.get("mime_type"),
            "duration_seconds": file.get("duration") or None,
            "width": file.get("width"),
            "height": file.get("height"),
        }
    )


def _present(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if value is not None}


def _place(location: dict[str, Any]) -> dict[str, Any]:
    at = {key: location[key] for key in ("latitude", "longitude")}
    return {"location_information": at}


def _poll(poll: dict[str, Any]) -> dict[str, Any]:
    return {
        "question": poll["question"],
        "closed": bool(poll.get("is_closed")),
        "total_voters": poll.get("total_voter_count", 0),
        "answers": [
            {"text": option["text"], "voters": option.get("voter_count", 0), "chosen": False}
            for option in poll["options"]
        ],
    }


def _action(key: str, message: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"action": _ACTIONS[key]}
    value = message[key]
    match key:
        case "new_chat_title":
            said["title"] = value
        case "new_chat_members":
            said["members"] = [_named(one) or None for one in value]
        case "left_chat_member":
            said["members"] = [_named(value) or None]
        case "migrate_to_chat_id":
            added["migrated_to"] = bare(value)
        case "migrate_from_chat_id":
            said["title"] = _named(message["chat"])
            added["migrated_from"] = bare(value)
        case "pinned_message":
            said["message_id"] = value["message_id"]
        case "forum_topic_created":
            said["title"] = value["name"]
        case "forum_topic_edited":
            said |= {"new_title": value["name"]} if value.get("name") else {}
        case "group_chat_created" | "supergroup_chat_created" | "channel_chat_created":
            said["title"] = _named(message["chat"])
        case "message_auto_delete_timer_changed":
            said["period"] = value["message_auto_delete_time"]
        case "video_chat_ended":
            said["duration"] = value["duration"]
    return said
