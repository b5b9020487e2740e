"""MTProto's messages and peers in the shape of Telegram Desktop's export. Pure.

Belongs here: reading objects of `telethon.tl`. Does not belong here: asking for them
(`mtproto_pull.py`), ids and digests (`envelopes.py`).

The keys, their order and their spelling are those of Telegram Desktop's `export_output_json.cpp`
and `export_data_types.cpp` (read 2026-11): the digest is taken over them, so a message that was
exported and read live is one version. Unknown media and actions stay in `communicator.raw`.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from telethon.tl import TLObject, types  # type: ignore[import-untyped]

from communicator_pipeline.messages import ChannelKind

_LONGEST_BYTES = 64  # of raw bytes: file references and thumbnails are noise
_DEEPEST = 40

_ENTITIES = {
    types.MessageEntityMention: "mention",
    types.MessageEntityHashtag: "hashtag",
    types.MessageEntityBotCommand: "bot_command",
    types.MessageEntityUrl: "link",
    types.MessageEntityEmail: "email",
    types.MessageEntityBold: "bold",
    types.MessageEntityItalic: "italic",
    types.MessageEntityCode: "code",
    types.MessageEntityPre: "pre",
    types.MessageEntityTextUrl: "text_link",
    types.MessageEntityMentionName: "mention_name",
    types.MessageEntityPhone: "phone",
    types.MessageEntityCashtag: "cashtag",
    types.MessageEntityUnderline: "underline",
    types.MessageEntityStrike: "strikethrough",
    types.MessageEntityBlockquote: "blockquote",
    types.MessageEntityBankCard: "bank_card",
    types.MessageEntitySpoiler: "spoiler",
    types.MessageEntityCustomEmoji: "custom_emoji",
}


def peer_key(peer: Any) -> str:
    """`user7`, `chat7` or `channel7`, as the export spells people; raises TypeError."""
    if isinstance(peer, types.PeerUser):
        return f"user{peer.user_id}"
    if isinstance(peer, types.PeerChat):
        return f"chat{peer.chat_id}"
    if isinstance(peer, types.PeerChannel):
        return f"channel{peer.channel_id}"
    raise TypeError(f"a peer should be a user, a chat or a channel, it is {type(peer).__name__}")


def bare(key: str) -> str:
    """The number of `user7`: what the export calls the chat."""
    return key.lstrip("abcdefghijklmnopqrstuvwxyz")


def entity_key(entity: Any) -> str:
    """The same for what stands in an answer's `users` and `chats`; "" for anything else."""
    if isinstance(entity, types.User | types.UserEmpty):
        return f"user{entity.id}"
    if isinstance(entity, types.Chat | types.ChatForbidden | types.ChatEmpty):
        return f"chat{entity.id}"
    if isinstance(entity, types.Channel | types.ChannelForbidden):
        return f"channel{entity.id}"
    return ""


def entity_name(entity: Any) -> str:
    """What it is called; "" if it has no name (a deleted account)."""
    if isinstance(entity, types.User):
        return " ".join(part for part in (entity.first_name, entity.last_name) if part)
    return str(getattr(entity, "title", None) or "")


def handles(entity: Any) -> Iterator[str]:
    """Its @names without the @, the main one first."""
    if name := getattr(entity, "username", None):
        yield str(name)
    for other in getattr(entity, "usernames", None) or ():
        if isinstance(other, types.Username) and other.active:
            yield str(other.username)


def entity_kind(entity: Any) -> ChannelKind:
    """What kind of channel its chat is, by the same measure as the export's `type`."""
    if isinstance(entity, types.Channel | types.ChannelForbidden):
        if not (entity.megagroup or getattr(entity, "gigagroup", False)):
            return "feed"
        return "channel" if next(handles(entity), "") else "group"
    return "group" if entity_key(entity).startswith("chat") else "dm"


class Cast:
    """Who is who, as far as answers have told."""

    def __init__(self, me: int) -> None:
        self.me = f"user{me}"
        self.entities: dict[str, Any] = {}
        self._handles: dict[str, str] = {}  # in lower case → key

    def learn(self, *entities: Iterable[Any]) -> None:
        for entity in (one for some in entities for one in some or ()):
            if not (key := entity_key(entity)):
                continue
            known = self.entities.get(key)
            # A `min` object lacks what the whole one has.
            if known is None or not getattr(entity, "min", False):
                self.entities[key] = entity
            for handle in handles(entity):
                self._handles[handle.lower()] = key

    def name(self, key: str) -> str | None:
        """The name; None if there is none, as the export has it."""
        entity = self.entities.get(key)
        return (entity_name(entity) or None) if entity is not None else None

    def is_bot(self, key: str) -> bool:
        return bool(getattr(self.entities.get(key), "bot", False))

    def by_handle(self, name: str) -> str | None:
        key = self._handles.get(name.lstrip("@").lower())
        return key if key and key.startswith("user") else None


def exported(message: Any, cast: Cast) -> dict[str, Any]:
    """A message as the export would have it; raises TypeError or ValueError if it is none."""
    if not isinstance(message, types.Message | types.MessageService):
        raise TypeError(f"this is a {type(message).__name__}, and no message")
    if not isinstance(message.date, datetime) or message.date.timestamp() <= 0:
        raise ValueError("the message has no date")
    is_service = isinstance(message, types.MessageService)
    peer = peer_key(message.peer_id)
    sender = _sender(message, peer, cast)
    item: dict[str, Any] = {
        "id": message.id,
        "type": "service" if is_service else "message",
        **_time("date", message.date),
    }
    if not is_service and message.edit_date is not None and not message.edit_hide:
        item |= _time("edited", message.edit_date)
    added: dict[str, Any] = {}
    if is_service:
        item |= _service(message, sender, cast, added)
        item |= {"text": "", "text_entities": []}
    else:
        item |= {"from": cast.name(sender), "from_id": sender}
        if message.post_author:
            item["author"] = message.post_author
        if message.fwd_from is not None:
            item |= _forwarded(message.fwd_from, cast)
        item |= _reply(message.reply_to, peer)
        if message.via_bot_id:
            bot = cast.entities.get(f"user{message.via_bot_id}")
            if name := next(handles(bot), ""):
                item["via_bot"] = f"@{name}"
        urls: dict[str, str] = {}
        item |= _media(message.media, f"telegram:{peer}/{message.id}", urls)
        parts = _parts(message.message or "", message.entities or ())
        item["text"] = _text(parts)
        item["text_entities"] = parts
        if urls:
            added["urls"] = urls
        if people := _people(parts, cast):
            added["people"] = people
        if message.grouped_id:
            added["album"] = str(message.grouped_id)
    if message.reactions is not None and (reactions := _reactions(message.reactions)):
        item["reactions"] = reactions
    if topic := topic_of(message.reply_to):
        added["topic"] = topic
    if cast.is_bot(sender):
        added["bot"] = True
    added["raw"] = plain(message)
    item["communicator"] = added
    return item


def topic_of(reply_to: Any) -> int | None:
    """The id of the first message of the forum topic that a message stands in; None in General
    (whose id is 1), and outside of forums."""
    if not isinstance(reply_to, types.MessageReplyHeader) or not reply_to.forum_topic:
        return None
    topic = reply_to.reply_to_top_id or reply_to.reply_to_msg_id
    return topic if topic and topic != 1 else None


def plain(value: Any, depth: int = 0) -> Any:
    """An object as JSON has it, without what is empty and without long bytes."""
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, TLObject):
        value = value.to_dict()
    if isinstance(value, dict):
        return {
            str(key): plain(inner, depth + 1)
            for key, inner in value.items()
            if inner is not None and inner is not False and inner != []
        }
    if isinstance(value, list | tuple):
        return [plain(inner, depth + 1) for inner in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex() if len(value) <= _LONGEST_BYTES else f"({len(value)} bytes)"
    if isinstance(value, int) and abs(value) >= 2**63:
        return str(value)
    return value


def _sender(message: Any, peer: str, cast: Cast) -> str:
    if message.from_id is not None:
        return peer_key(message.from_id)
    # In private chats nobody is named; a post in a channel is the channel's own.
    return cast.me if message.out and peer.startswith("user") else peer


def _time(name: str, when: datetime) -> dict[str, str]:
    utc = when.astimezone(UTC)
    spelled = utc.replace(tzinfo=None).isoformat(timespec="seconds")
    return {name: spelled, f"{name}_unixtime": str(int(utc.timestamp()))}


def _reply(reply_to: Any, peer: str) -> dict[str, Any]:
    if not isinstance(reply_to, types.MessageReplyHeader) or not reply_to.reply_to_msg_id:
        return {}
    answer: dict[str, Any] = {"reply_to_message_id": reply_to.reply_to_msg_id}
    if reply_to.reply_to_peer_id is not None:
        other = peer_key(reply_to.reply_to_peer_id)
        if other != peer:
            answer["reply_to_peer_id"] = other
    return answer


def _forwarded(header: Any, cast: Cast) -> dict[str, Any]:
    item: dict[str, Any] = {}
    if header.from_id is not None:
        key = peer_key(header.from_id)
        item = {"forwarded_from": cast.name(key), "forwarded_from_id": key}
    elif header.from_name:
        item = {"forwarded_from": header.from_name}
    if header.saved_from_peer is not None:
        item["saved_from"] = cast.name(peer_key(header.saved_from_peer))
    return item


# --- text


def _parts(text: str, entities: Iterable[Any]) -> list[dict[str, Any]]:
    """The text in pieces. Offsets count UTF-16 units; of entities that overlap, the first counts,
    as in the export."""
    units = text.encode("utf-16-le", errors="surrogatepass")
    size = len(units) // 2

    def between(first: int, last: int) -> str:
        return units[first * 2 : last * 2].decode("utf-16-le", errors="replace")

    parts: list[dict[str, Any]] = []
    at = 0
    for entity in entities:
        first, length = entity.offset, entity.length
        if first < at or length <= 0 or first + length > size:
            continue
        if first > at:
            parts.append({"type": "plain", "text": between(at, first)})
        at = first + length
        kind = _ENTITIES.get(type(entity), "unknown")
        part: dict[str, Any] = {"type": kind, "text": between(first, at)}
        if kind == "mention_name":
            part["user_id"] = entity.user_id
        elif kind == "custom_emoji":
            part["document_id"] = str(entity.document_id)
        elif kind == "pre":
            part["language"] = entity.language
        elif kind == "text_link":
            part["href"] = entity.url
        elif kind == "blockquote":
            part["collapsed"] = bool(entity.collapsed)
        parts.append(part)
    if size > at:
        parts.append({"type": "plain", "text": between(at, size)})
    return parts


def _text(parts: list[dict[str, Any]]) -> Any:
    """A string, or a list of strings and objects as soon as there is any formatting."""
    mixed = [part["text"] if part["type"] == "plain" else part for part in parts]
    if not mixed:
        return ""
    return mixed[0] if len(mixed) == 1 and isinstance(mixed[0], str) else mixed


def _people(parts: Iterable[dict[str, Any]], cast: Cast) -> dict[str, str]:
    names = (part["text"] for part in parts if part["type"] == "mention")
    return {name: key for name in names if (key := cast.by_handle(name))}


def _written(text: Any) -> Any:
    """A text with entities, as in polls."""
    if isinstance(text, str):
        return text
    return _text(_parts(text.text, text.entities or ()))


def _reactions(reactions: Any) -> list[dict[str, Any]]:
    told = []
    for one in reactions.results or ():
        kind = one.reaction
        if isinstance(kind, types.ReactionEmoji):
            told.append({"type": "emoji", "count": one.count, "emoji": kind.emoticon})
        elif isinstance(kind, types.ReactionCustomEmoji):
            emoji = str(kind.document_id)
            told.append({"type": "custom_emoji", "count": one.count, "document_id": emoji})
        elif isinstance(kind, types.ReactionPaid):
            told.append({"type": "paid", "count": one.count})
    return told


# --- media


def _media(media: Any, url: str, urls: dict[str, str]) -> dict[str, Any]:
    """The keys of a medium; the files' addresses go to `urls`."""
    if isinstance(media, types.MessageMediaPhoto):
        if not isinstance(media.photo, types.Photo):
            return {}
        urls["photo"] = url
        return {"photo": "photo.jpg", **_photo_size(media.photo), **_ttl(media)}
    if isinstance(media, types.MessageMediaDocument):
        if not isinstance(media.document, types.Document):
            return {}
        urls["file"] = url
        return {**_document(media.document), **_ttl(media)}
    if isinstance(media, types.MessageMediaContact):
        names = {"first_name": media.first_name, "last_name": media.last_name}
        return {"contact_information": {**names, "phone_number": media.phone_number}}
    if isinstance(media, types.MessageMediaVenue):
        return {"place_name": media.title, "address": media.address, **_place(media.geo)}
    if isinstance(media, types.MessageMediaGeo):
        return _place(media.geo)
    if isinstance(media, types.MessageMediaGeoLive):
        return {**_place(media.geo), "live_location_period_seconds": media.period}
    if isinstance(media, types.MessageMediaPoll):
        return {"poll": _poll(media.poll, media.results)}
    if isinstance(media, types.MessageMediaGame):
        return {"game_title": media.game.title, "game_description": media.game.description}
    if isinstance(media, types.MessageMediaInvoice):
        return {
            "invoice_information": {
                "title": media.title,
                "description": media.description,
                "amount": media.total_amount,
                "currency": media.currency,
            }
        }
    if isinstance(media, types.MessageMediaDice):
        return {"sticker_emoji": media.emoticon}
    return {}


def _ttl(media: Any) -> dict[str, Any]:
    return {"self_destruct_period_seconds": media.ttl_seconds} if media.ttl_seconds else {}


def _photo_size(photo: Any) -> dict[str, Any]:
    """Of the largest size that there is."""
    best: Any = None
    for size in photo.sizes or ():
        if isinstance(size, types.PhotoSize | types.PhotoSizeProgressive) and (
            best is None or size.w * size.h > best.w * best.h
        ):
            best = size
    if best is None:
        return {}
    count = best.sizes[-1] if isinstance(best, types.PhotoSizeProgressive) else best.size
    return {"photo_file_size": count, "width": best.w, "height": best.h}


def _document(document: Any) -> dict[str, Any]:
    by_type = {type(attribute): attribute for attribute in document.attributes or ()}
    named = by_type.get(types.DocumentAttributeFilename)
    sticker = by_type.get(types.DocumentAttributeSticker)
    video = by_type.get(types.DocumentAttributeVideo)
    audio = by_type.get(types.DocumentAttributeAudio)
    kind: dict[str, Any] = {}
    if sticker is not None:
        kind = {"media_type": "sticker", "sticker_emoji": sticker.alt or None}
    elif video is not None and video.round_message:
        kind = {"media_type": "video_message"}
    elif audio is not None and audio.voice:
        kind = {"media_type": "voice_message"}
    elif types.DocumentAttributeAnimated in by_type:
        kind = {"media_type": "animation"}
    elif video is not None:
        kind = {"media_type": "video_file"}
    elif audio is not None:
        kind = {
            "media_type": "audio_file",
            "performer": audio.performer or None,
            "title": audio.title or None,
        }
    if sticker is None and document.mime_type:
        kind["mime_type"] = document.mime_type
    duration = next((int(one.duration) for one in (video, audio) if one is not None), 0)
    sized = video or by_type.get(types.DocumentAttributeImageSize)
    name = named.file_name if named is not None else ""
    suffix = mimetypes.guess_extension(document.mime_type or "") or ""
    item: dict[str, Any] = {
        "file": name or f"{kind.get('media_type', 'file')}{suffix}",
        "file_name": name or None,
        "file_size": document.size,
        **kind,
        "duration_seconds": duration or None,
        "width": sized.w if sized is not None else None,
        "height": sized.h if sized is not None else None,
    }
    return {key: value for key, value in item.items() if value is not None}


def _place(point: Any) -> dict[str, Any]:
    if not isinstance(point, types.GeoPoint):
        return {}
    return {"location_information": {"latitude": point.lat, "longitude": point.long}}


def _poll(poll: Any, results: Any) -> dict[str, Any]:
    votes = {one.option: one.voters for one in results.results or () if one.voters is not None}
    answers = [
        {"text": _written(one.text), "voters": votes.get(one.option, 0), "chosen": False}
        for one in poll.answers
        if hasattr(one, "option")
    ]
    return {
        "question": _written(poll.question),
        "closed": bool(poll.closed),
        "total_voters": results.total_voters or 0,
        "answers": answers,
    }


# --- what the platform says of a chat


def _service(message: Any, sender: str, cast: Cast, added: dict[str, Any]) -> dict[str, Any]:
    actor = {"actor": cast.name(sender), "actor_id": sender}
    action = message.action
    said = _action(action, message.reply_to, cast)
    if isinstance(action, types.MessageActionChatMigrateTo):
        added["migrated_to"] = str(action.channel_id)
    elif isinstance(action, types.MessageActionChannelMigrateFrom):
        added["migrated_from"] = str(action.chat_id)
    return {**actor, **said}


def _action(action: Any, reply_to: Any, cast: Cast) -> dict[str, Any]:
    """What was done, in the export's words; an action that it has no word for is named as
    Telegram's schema has it."""

    def named(users: Iterable[int]) -> list[str | None]:
        return [cast.name(f"user{user}") for user in users]

    answered = getattr(reply_to, "reply_to_msg_id", None)
    pinned = {"message_id": answered} if answered else {}
    match action:
        case types.MessageActionChatCreate():
            return {
                "action": "create_group",
                "title": action.title,
                "members": named(action.users),
            }
        case types.MessageActionChatEditTitle():
            return {"action": "edit_group_title", "title": action.title}
        case types.MessageActionChatEditPhoto():
            return {"action": "edit_group_photo"}
        case types.MessageActionChatDeletePhoto():
            return {"action": "delete_group_photo"}
        case types.MessageActionChatAddUser():
            return {"action": "invite_members", "members": named(action.users)}
        case types.MessageActionChatDeleteUser():
            return {"action": "remove_members", "members": named([action.user_id])}
        case types.MessageActionChatJoinedByLink():
            inviter = cast.name(f"user{action.inviter_id}")
            return {"action": "join_group_by_link", "inviter": inviter}
        case types.MessageActionChatJoinedByRequest():
            return {"action": "join_group_by_request"}
        case types.MessageActionChannelCreate():
            return {"action": "create_channel", "title": action.title}
        case types.MessageActionChatMigrateTo():
            return {"action": "migrate_to_supergroup"}
        case types.MessageActionChannelMigrateFrom():
            return {"action": "migrate_from_group", "title": action.title}
        case types.MessageActionPinMessage():
            return {"action": "pin_message", **pinned}
        case types.MessageActionHistoryClear():
            return {"action": "clear_history"}
        case types.MessageActionPhoneCall():
            call: dict[str, Any] = {"action": "phone_call"}
            if action.duration:
                call["duration_seconds"] = action.duration
            if action.reason is not None:
                reason = type(action.reason).__name__.removeprefix("PhoneCallDiscardReason")
                call["discard_reason"] = reason.lower()
            return call
        case types.MessageActionScreenshotTaken():
            return {"action": "take_screenshot"}
        case types.MessageActionCustomAction():
            return {"information_text": action.message}
        case types.MessageActionContactSignUp():
            return {"action": "joined_telegram"}
        case types.MessageActionGroupCall():
            length = {"duration": action.duration} if action.duration else {}
            return {"action": "group_call", **length}
        case types.MessageActionInviteToGroupCall():
            return {"action": "invite_to_group_call", "members": named(action.users)}
        case types.MessageActionSetMessagesTTL():
            return {"action": "set_messages_ttl", "period": action.period}
        case types.MessageActionTopicCreate():
            return {"action": "topic_created", "title": action.title}
        case types.MessageActionTopicEdit():
            title = {"new_title": action.title} if action.title else {}
            return {"action": "topic_edit", **title}
    return {"action": _snake(type(action).__name__.removeprefix("MessageAction"))}


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
