"""Compiles a script to Telegram Desktop's export of a whole account: `result.json` and media.

`date` is the exporting computer's local time, here Berlin's; `date_unixtime` is the truth. Ids
count through the account in private chats and basic groups, and by themselves in supergroups
and channels.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from communicator_pipeline.demo.script import MEDIA, SYSTEM, Channel, Line, Person, Script, number

Record = dict[str, Any]

_BERLIN = timedelta(hours=1)  # winter time on all ten days

_ENTITY = re.compile(
    r"\*\*(?P<bold>[^*\n]+)\*\*|(?P<link>(?:https?://|t\.me/)\S*[^\s.,!?)])"
    r"|(?<!\w)(?P<mention>@\w+)|(?<![\w&])(?P<hashtag>#\w+)|(?:(?<=^)|(?<=\s))(?P<bot_command>/[a-z]+)\b"
)

_STICKERS = {"🎃": "sticker-pumpkin.webp", "🥳": "sticker-party.webp", "👍": "sticker-thumb.webp"}


def compile_telegram(script: Script) -> dict[str, bytes]:
    """The files of the export by their path."""
    ids = _native_ids(script)
    media: dict[str, bytes] = {}
    chats = []
    for place, channel in enumerate(script.channels.values(), start=1):
        folder = _Folder(f"chats/chat_{place:02d}", media)
        chats.append(_chat(script, channel, ids, folder))
    me = script.me
    first, _, last = me.name.partition(" ")
    result = {
        "about": "Here is the data you requested. Remember: Telegram is ad free, it doesn't use "
        "your data for ad targeting and doesn't sell it to others.",
        "personal_information": {
            "user_id": int(me.id),
            "first_name": first,
            "last_name": last,
            "phone_number": "+49 30 23125 014",
            "username": "@benokafor",
            "bio": "Spoke & Bell, Berlin",
        },
        "profile_pictures": [],
        "contacts": {
            "about": "If you allow access, your contacts are continuously synced with Telegram.",
            "list": [_contact(p) for p in script.people.values() if p.key in ("nadia", "chidi")],
        },
        "frequent_contacts": {"about": "Your most frequent contacts.", "list": []},
        "chats": {"about": "This page lists all chats from this export.", "list": chats},
        "left_chats": {"about": "Groups and channels you have left.", "list": []},
    }
    return {"result.json": json.dumps(result, indent=1, ensure_ascii=False).encode(), **media}


def telegram_ids(script: Script) -> list[tuple[Line, str]]:
    """The message id of each line that is not broken."""
    ids = _native_ids(script)
    return [
        (line, f"{script.channels[line.channel].id}:{ids[id(line)]}")
        for line in script.lines
        if not line.broken
    ]


def _native_ids(script: Script) -> dict[int, int]:
    ids: dict[int, int] = {}
    last: dict[str, int] = defaultdict(int, {"account": 88012, "radnews": 3310})
    for line in script.lines:
        own = script.channels[line.channel].kind in ("private_supergroup", "public_channel")
        counter = line.channel if own else "account"
        last[counter] += 1 + number(line.channel, line.at, below=1 if own else 4)
        ids[id(line)] = last[counter]
    return ids


class _Folder:
    """A chat's folder of media: gives a file its path in the export."""

    def __init__(self, path: str, media: dict[str, bytes]) -> None:
        self._path = path
        self._media = media
        self._taken: dict[str, int] = defaultdict(int)

    def put(self, kind: str, name: str, line: Line) -> tuple[str, int]:
        content = (MEDIA / name).read_bytes()
        self._taken[kind] += 1
        suffix = name.rsplit(".", 1)[1]
        stamp = (line.at + _BERLIN).strftime("%d-%m-%Y_%H-%M-%S")
        spelled = {
            "photos": f"photo_{self._taken[kind]}@{stamp}.{suffix}",
            "voice_messages": f"audio_{self._taken[kind]}@{stamp}.{suffix}",
            "stickers": "sticker.webp" if self._taken[kind] == 1 else name,
        }.get(kind, name)
        path = f"{self._path}/{kind}/{spelled}"
        self._media[path] = content
        return path, len(content)


def _contact(person: Person) -> Record:
    first, _, last = person.name.partition(" ")
    return {
        "user_id": int(person.id),
        "first_name": first,
        "last_name": last,
        "phone_number": f"00493023125{number(person.id, below=1000):03d}",
        "date": "2021-04-11T19:20:03",
        "date_unixtime": "1618161603",
    }


def _chat(script: Script, channel: Channel, ids: dict[int, int], folder: _Folder) -> Record:
    chat: Record = {"name": channel.about, "type": channel.kind, "id": int(channel.id)}
    if channel.about == "-":
        chat["name"] = None
    if channel.kind == "saved_messages":
        del chat["name"]
    named = script.named(channel.key)
    chat["messages"] = [
        _message(script, line, ids, named, folder) for line in script.of(channel.key)
    ]
    return chat


def _dates(key: str, moment: int) -> Record:
    local = datetime.fromtimestamp(moment, UTC) + _BERLIN
    prefix = "" if key == "date" else "edited_"
    return {
        key: local.strftime("%Y-%m-%dT%H:%M:%S"),
        f"{prefix or 'date_'}unixtime": str(moment),
    }


def _peer(person: Person) -> str:
    return ("channel" if person.key == "radnews" else "user") + person.id


def _message(
    script: Script, line: Line, ids: dict[int, int], named: dict[str, Line], folder: _Folder
) -> Record:
    person = script.people[line.who]
    kind = "service" if line.conversation == SYSTEM else "message"
    record: Record = {"id": ids[id(line)], "type": kind, **_dates("date", line.moment)}
    if line.broken:
        del record["id"]
    if kind == "service":
        return record | _service(script, line, ids, named)
    if edit := line.edit():
        record |= _dates("edited", edit[0])
    record |= {"from": person.name or None, "from_id": _peer(person)}
    if forwarded := line.note("forward"):
        record["forwarded_from"] = forwarded
        if script.channels[line.channel].kind == "saved_messages":
            record["saved_from"] = forwarded
    if line.answers is not None:
        record["reply_to_message_id"] = ids[id(named[line.answers])]
    record |= _attachment(line, folder)
    entities = [] if line.note("sticker") else _entities(line.text)
    record |= {"text": _text(entities), "text_entities": entities}
    if reactions := line.all_notes("react"):
        record["reactions"] = [_reaction(script, line, value) for value in reactions]
    return record


def _service(script: Script, line: Line, ids: dict[int, int], named: dict[str, Line]) -> Record:
    person, action = script.people[line.who], line.flags["action"]
    record: Record = {"actor": person.name, "actor_id": _peer(person), "action": action}
    if action in ("topic_created", "edit_group_title"):
        record["title"] = line.text
    if action == "pin_message" and line.answers is not None:
        record["message_id"] = ids[id(named[line.answers])]
    if action == "join_group_by_link":
        record["inviter"] = "Group"
    if members := line.note("members"):
        record["members"] = [script.people[key].name for key in members.split(",")]
    if duration := line.note("duration"):
        record |= {"duration_seconds": int(duration), "discard_reason": "hangup"}
    return record | {"text": "", "text_entities": []}


def _attachment(line: Line, folder: _Folder) -> Record:
    if photo := line.note("photo"):
        path, size = folder.put("photos", photo, line)
        return {"photo": path, "photo_file_size": size, "width": 240, "height": 160}
    if emoji := line.note("sticker"):
        path, size = folder.put("stickers", _STICKERS[emoji], line)
        square = {"width": 128, "height": 128}
        sticker = {"media_type": "sticker", "sticker_emoji": emoji, **square}
        return {"file": path, "file_name": "sticker.webp", "file_size": size, **sticker}
    if voice := line.note("voice"):
        name, seconds = voice.split(" ")
        path, size = folder.put("voice_messages", name, line)
        spoken = {"mime_type": "audio/ogg", "duration_seconds": int(seconds)}
        return {"file": path, "file_size": size, "media_type": "voice_message", **spoken}
    if file := line.note("file"):
        name, mime = file.split(" ")
        path, size = folder.put("files", name, line)
        return {"file": path, "file_name": name, "file_size": size, "mime_type": mime}
    return {}


def _entities(text: str) -> list[Record]:
    parts: list[Record] = []
    end = 0
    for match in _ENTITY.finditer(text):
        if match.start() > end:
            parts.append({"type": "plain", "text": text[end : match.start()]})
        kind = str(match.lastgroup)
        parts.append({"type": kind, "text": match[kind]})
        end = match.end()
    if end < len(text):
        parts.append({"type": "plain", "text": text[end:]})
    return parts


def _text(entities: list[Record]) -> str | list[str | Record]:
    """Plain words stand as a string; with entities it is a list of strings and objects."""
    if not entities:
        return ""
    if [part["type"] for part in entities] == ["plain"]:
        return str(entities[0]["text"])
    return [part["text"] if part["type"] == "plain" else part for part in entities]


def _reaction(script: Script, line: Line, value: str) -> Record:
    emoji, keys = value.split(" ")
    people = [script.people[key] for key in keys.split(",")]
    recent = [
        {"from": p.name, "from_id": _peer(p)}
        | {"date": _dates("date", line.moment + 60 * n)["date"]}
        for n, p in enumerate(people, start=1)
    ]
    return {"type": "emoji", "count": len(people), "emoji": emoji, "recent": recent}
