"""What a Telegram payload says: text, thread, mentions, media, reactions, deletions.

Exported and live messages have the same shape (https://core.telegram.org/import-export, read
2026-11); what only a live one says stands under `communicator` (see `envelopes.py`).
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from communicator_pipeline.messages import Attachment, ChannelKind, Message
from communicator_pipeline.platforms import Arrived
from communicator_pipeline.platforms.instants import moment
from communicator_pipeline.platforms.telegram.export import (
    FILE_KEYS,
    edited_micros,
    sent_micros,
)
from communicator_pipeline.platforms.telegram.service import sentence

_NOT_HERE = re.compile(r"^(?P<name>.*?) ?\((?:File|Photo) [^()]*\)$", re.DOTALL)

# Until 2021 peers were written as one number, groups and channels by an offset of their own
# (Telegram Desktop's PeerId of that time).
_OLD_GROUPS = 1 << 32
_OLD_CHANNELS = 2 << 32


def normalise(arrived: Arrived) -> Message:
    """The message that the payload is; KeyError, TypeError or ValueError if none."""
    item: dict[str, Any] = arrived.payload
    if not isinstance(item, dict):
        raise TypeError(f"a message should be an object, this is {type(item).__name__}")
    added = item.get("communicator") or {}
    channel_kind: ChannelKind = arrived.channel_kind  # type: ignore[assignment]
    if arrived.kind == "deletion":
        return Message(
            message_id=arrived.message_id,
            channel_id=arrived.channel_id,
            channel_kind=channel_kind,
            sent_at=moment(sent_micros(item)),
            author_id="",
            text="",
            deleted=True,
        )
    topic = added.get("topic")
    edited = edited_micros(item)
    is_service = item.get("type") == "service"
    who = "actor" if is_service and "actor_id" in item else "from"
    mentions: list[str] = []
    if is_service:
        text = sentence(item)
    else:
        shown = _media_in_words(item)
        text = "\n".join(filter(None, [_text(item, added.get("people") or {}, mentions), *shown]))
    forwarded = item.get("forwarded_from")
    return Message(
        message_id=arrived.message_id,
        channel_id=arrived.channel_id,
        channel_kind=channel_kind,
        sent_at=moment(sent_micros(item, added.get("offset") or 0)),
        author_id=person_id(item.get(f"{who}_id")),
        author_name=str(item.get(who) or ""),
        author_is_bot=bool(added.get("bot")),
        kind="system" if is_service else "message",
        text=text,
        thread_id=f"{arrived.channel_id}:{topic}" if topic else None,
        reply_to=None if is_service else _reply_to(item, added, arrived.channel_id),
        mentions=tuple(dict.fromkeys(mentions)),
        attachments=tuple(_files(item, arrived.files)),
        reactions=tuple(_reactions(item)),
        forwarded_from=str(forwarded or "a deleted account") if "forwarded_from" in item else None,
        edited_at=moment(edited) if edited else None,
    )


def person_id(value: Any) -> str:
    """`user123`, `channel123` or `chat123`, also from an old export's number."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if type(value) is not int:
        raise TypeError(f"the author's id should be a text such as user123, it is {value!r}")
    if value >= _OLD_CHANNELS:
        return f"channel{value - _OLD_CHANNELS}"
    return f"chat{value - _OLD_GROUPS}" if value >= _OLD_GROUPS else f"user{value}"


def _reply_to(item: dict[str, Any], added: dict[str, Any], channel_id: str) -> str | None:
    answered = item.get("reply_to_message_id")
    # To the topic's head: it stands in there.
    if type(answered) is not int or answered == added.get("topic"):
        album = added.get("album_of")
        return f"{channel_id}:{album}" if type(album) is int else None
    peer = item.get("reply_to_peer_id")
    if isinstance(peer, str) and (digits := peer.lstrip("abcdefghijklmnopqrstuvwxyz")):
        return f"{digits}:{answered}"
    return f"{channel_id}:{answered}"


def _text(item: dict[str, Any], people: dict[str, str], mentions: list[str]) -> str:
    text = item.get("text")
    if isinstance(text, str) and text:
        return text
    parts = text or item.get("text_entities") or ()
    if not isinstance(parts, list):
        return ""
    return "".join(_part(part, people, mentions) for part in parts)


def _part(part: Any, people: dict[str, str], mentions: list[str]) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    text, kind = str(part.get("text", "")), part.get("type")
    if kind == "mention_name" and type(part.get("user_id")) is int:
        person = f"user{part['user_id']}"
    elif kind == "mention" and text in people:
        person = people[text]
    elif kind == "text_link" and part.get("href") not in (None, "", text):
        return f"{text} ({part['href']})"
    else:
        return text
    mentions.append(person)
    return f"<@{person}>"


def _media_in_words(item: dict[str, Any]) -> Iterator[str]:
    """What stands in a message beside its text and its files."""
    if emoji := item.get("sticker_emoji"):
        yield str(emoji)
    if isinstance(poll := item.get("poll"), dict):
        yield _written(poll.get("question"))
        for answer in poll.get("answers") or ():
            if isinstance(answer, dict):
                yield f"• {_written(answer.get('text'))}"
    if isinstance(contact := item.get("contact_information"), dict):
        parts = [contact.get(k) for k in ("first_name", "last_name", "phone_number")]
        yield "Contact: " + " ".join(str(part) for part in parts if part)
    place = [str(item[key]) for key in ("place_name", "address") if item.get(key)]
    if isinstance(at := item.get("location_information"), dict):
        place.append(f"{at.get('latitude')}, {at.get('longitude')}")
    if place:
        yield "Location: " + ", ".join(place)
    if game := item.get("game_title"):
        yield f"Game: {game}"
    if isinstance(invoice := item.get("invoice_information"), dict):
        yield f"Invoice: {invoice.get('title')}, {invoice.get('amount')} {invoice.get('currency')}"


def _written(text: Any) -> str:
    """A poll's words are a string, or in newer exports a list as a message's are."""
    return text if isinstance(text, str) else _text({"text": text}, {}, [])


def _files(item: dict[str, Any], stored: dict[str, str]) -> Iterator[Attachment]:
    urls = (item.get("communicator") or {}).get("urls") or {}
    for key in FILE_KEYS:
        path = item.get(key)
        if not isinstance(path, str) or not path:
            continue
        absent = _NOT_HERE.match(path)
        spelled = absent["name"] if absent else path.rsplit("/", 1)[-1]
        name = item.get("file_name") if key == "file" else None
        size = item.get({"photo": "photo_file_size", "file": "file_size"}.get(key, ""))
        mime = item.get("mime_type") if key == "file" else None
        yield Attachment(
            name=str(name or spelled or item.get("media_type") or key),
            mime=mime if isinstance(mime, str) else _mime(spelled),
            bytes=size if type(size) is int else None,
            url=urls.get(key),
            sha256=_stored(stored, path) or None,
        )


def _stored(stored: dict[str, str], path: str) -> str:
    if path in stored:
        return stored[path]
    # An export in a folder of the archive: its paths start there.
    return next((sha for name, sha in stored.items() if name.endswith(f"/{path}")), "")


@lru_cache(maxsize=256)
def _mime_of_suffix(suffix: str) -> str | None:
    return mimetypes.guess_type(f"file.{suffix}")[0]


def _mime(name: str) -> str | None:
    return _mime_of_suffix(name.rsplit(".", 1)[1].lower()) if "." in name else None


def _reactions(item: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for reaction in item.get("reactions") or ():
        if isinstance(reaction, dict):
            kind = reaction.get("type")
            name = reaction.get("emoji") or {"paid": "⭐"}.get(str(kind)) or "custom emoji"
            count = reaction.get("count")
            yield str(name), count if type(count) is int and 0 <= count < 2**31 else 1
