"""What a payload of X says: text, thread, mentions, media, edits, deletions.

https://docs.x.com/x-api/fundamentals/data-dictionary (read 2026-11); in archives, and where they
are pushed by the Account Activity API, the posts have the older form of API 1.1, with `id_str`.
API v2 has two spellings of its fields (`reading.py`).
"""

from __future__ import annotations

import html
import mimetypes
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from communicator_pipeline.messages import Attachment, ChannelKind, Message
from communicator_pipeline.platforms import Arrived
from communicator_pipeline.platforms.instants import iso_micros, moment
from communicator_pipeline.platforms.x.export import FEED, edited_micros, post_micros
from communicator_pipeline.platforms.x.reading import first_version, references, snowflake_micros

_SHORT = re.compile(r"https?://t\.co/\w+")
_HANDLE = re.compile(r"(?<![\w@/])@(\w{1,20})")
_REPOST = re.compile(r"RT @(\w{1,20}): ")


def normalise(arrived: Arrived) -> Message:
    """The message that the payload is; KeyError, TypeError or ValueError if none."""
    item: dict[str, Any] = arrived.payload
    if not isinstance(item, dict):
        raise TypeError(f"a message should be an object, this is {type(item).__name__}")
    if arrived.kind == "deletion":
        return Message(
            message_id=arrived.message_id,
            channel_id=arrived.channel_id,
            channel_kind="feed",
            sent_at=moment(post_micros(item)),
            author_id=_author(item),
            text="",
            deleted=True,
        )
    if arrived.channel_id == FEED:
        is_old = "id_str" in item or "author_id" not in item
        return _post(arrived, item) if is_old else _new_post(arrived, item)
    return _direct_message(arrived, item) if "senderId" in item else _new_message(arrived, item)


def _post(arrived: Arrived, post: dict[str, Any]) -> Message:
    sent_at = moment(post_micros(post))
    mentions: list[str] = []
    text = _whole_text(post, mentions)
    repost = _REPOST.match(html.unescape(_words(post)))
    answered = post.get("in_reply_to_status_id_str") or post.get("in_reply_to_status_id")
    edit = (post.get("edit_info") or {}).get("edit") or {}
    first = edit.get("initialTweetId")
    return Message(
        message_id=arrived.message_id,
        channel_id=arrived.channel_id,
        channel_kind="feed",
        sent_at=sent_at,
        author_id=_author(post),
        text=text,
        thread_id=f"{FEED}:{first}" if first else None,
        reply_to=f"{FEED}:{answered}" if answered else None,
        mentions=tuple(dict.fromkeys(mentions)),
        attachments=tuple(_pictures(post, arrived)),
        reactions=tuple(_counts(post)),
        forwarded_from=f"@{repost[1]}" if repost else None,
        edited_at=sent_at if first else None,
    )


def _counts(post: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for name, key in (("like", "favorite_count"), ("repost", "retweet_count")):
        count = str(post.get(key) or "0")
        if count.isascii() and count.isdigit() and 0 < int(count[:10]) < 2**31:
            yield name, int(count[:10])


def _author(post: dict[str, Any]) -> str:
    return str((post.get("communicator") or {}).get("author") or "")


def _words(post: dict[str, Any]) -> str:
    extended = post.get("extended_tweet") or {}  # a push cuts what has more than 140 characters
    text = extended.get("full_text") or post.get("full_text", post.get("text"))
    if not isinstance(text, str):
        raise TypeError(f"full_text should be a text, it is {type(text).__name__}")
    return text


def _whole_text(post: dict[str, Any], mentions: list[str]) -> str:
    """The text with its links spelled out, its own pictures' links left out, people as ids."""
    entities = (post.get("extended_tweet") or post).get("entities") or {}
    note = (post.get("communicator") or {}).get("note") or {}
    links = {u.get("url"): u.get("expanded_url") for u in entities.get("urls") or ()}
    links |= {m.get("url"): "" for m in _media(post)}
    links |= {u.get("shortUrl"): u.get("expandedUrl") for u in note.get("urls") or ()}
    people = {
        str(m.get("screen_name")).lower(): m["id_str"]
        for m in entities.get("user_mentions") or ()
        if isinstance(m.get("id_str"), str) and m["id_str"] not in ("", "-1")
    }
    whole = note.get("text")
    text = whole if isinstance(whole, str) else html.unescape(_words(post))
    text = _REPOST.sub("", text, count=1) if _REPOST.match(text) else text
    text = _spelled_out(text, links)

    def named(match: re.Match[str]) -> str:
        person = people.get(match[1].lower())
        if person is None:
            return match[0]
        mentions.append(person)
        return f"<@{person}>"

    return _HANDLE.sub(named, text)


def _spelled_out(text: str, links: dict[Any, Any]) -> str:
    def expanded(match: re.Match[str]) -> str:
        known = links.get(match[0])
        return match[0] if known is None else str(known)

    return _SHORT.sub(expanded, text).strip()


def _media(post: dict[str, Any]) -> list[dict[str, Any]]:
    shown = post.get("extended_tweet") or post
    for key in ("extended_entities", "entities"):
        media = (shown.get(key) or {}).get("media")
        if isinstance(media, list) and media:
            return [entry for entry in media if isinstance(entry, dict)]
    return []


def _pictures(post: dict[str, Any], arrived: Arrived) -> Iterator[Attachment]:
    """A post's pictures and films: the file in the archive, else where it can be had."""
    files = dict(arrived.files)
    for entry in _media(post):
        video = entry.get("video_info") or {}
        offered = [v.get("url") for v in video.get("variants") or () if isinstance(v, dict)]
        offered.append(entry.get("media_url_https"))
        urls = [url for url in offered if isinstance(url, str)]
        names = [_file_name(url) for url in urls]
        path = next((p for p in files if p.endswith(tuple(f"-{name}" for name in names))), None)
        if path is not None:
            yield _stored(path, files.pop(path))
        elif urls:
            yield Attachment(names[-1], _mime(names[-1]), url=urls[-1])
    for path, sha256 in files.items():
        yield _stored(path, sha256)


def _stored(path: str, sha256: str) -> Attachment:
    name = path.rsplit("/", 1)[-1].split("-", 1)[-1]
    return Attachment(name, _mime(name), sha256=sha256 or None)


def _file_name(url: str) -> str:
    return url.split("?", 1)[0].rsplit("/", 1)[-1] or "file"


def _mime(name: str) -> str | None:
    return mimetypes.guess_type(name)[0]


def _direct_message(arrived: Arrived, item: dict[str, Any]) -> Message:
    text = item.get("text") or ""
    if not isinstance(text, str):
        raise TypeError(f"text should be a text, it is {type(text).__name__}")
    media = [url for url in item.get("mediaUrls") or () if isinstance(url, str)]
    links = {u.get("url"): u.get("expanded") for u in item.get("urls") or () if isinstance(u, dict)}
    text = _spelled_out(text, links)
    if media and (last := _SHORT.search(text, max(0, text.rfind("https://")))):
        # The picture's own link stands at the end, and is in no list.
        text = text[: last.start()].rstrip() if last.end() == len(text) else text
    edited = edited_micros(item)
    reactions: dict[str, int] = {}
    for reaction in item.get("reactions") or ():
        if isinstance(reaction, dict):
            name = str(reaction.get("reactionKey") or "reaction")
            reactions[name] = reactions.get(name, 0) + 1
    channel_kind: ChannelKind = arrived.channel_kind  # type: ignore[assignment]
    return Message(
        message_id=arrived.message_id,
        channel_id=arrived.channel_id,
        channel_kind=channel_kind,
        sent_at=moment(iso_micros(str(item["createdAt"]))),
        author_id=str(item["senderId"]),
        text=text,
        attachments=tuple(_sent_files(media, arrived)),
        reactions=tuple(reactions.items()),
        edited_at=moment(edited) if edited else None,
    )


def _sent_files(media: list[str], arrived: Arrived) -> Iterator[Attachment]:
    files = dict(arrived.files)
    for url in media:
        name = _file_name(url)
        path = next((p for p in files if p.endswith(f"-{name}")), None)
        if path is not None:
            yield _stored(path, files.pop(path))
        else:
            yield Attachment(name, _mime(name), url=url)
    for path, sha256 in files.items():
        yield _stored(path, sha256)


def _new_post(arrived: Arrived, post: dict[str, Any]) -> Message:
    """A post of API v2. Its conversation is its thread; an edit belongs to its first version."""
    sent_at = _sent_at(post)
    whole = _object(post.get("note_post") or post.get("note_tweet"))
    text, entities = post["text"], _object(post.get("entities"))
    if isinstance(whole.get("text"), str):
        text, entities = whole["text"], _object(whole.get("entities")) or entities
    mentions: list[str] = []
    repost = _REPOST.match(html.unescape(post["text"]))
    first = first_version(post)
    root = first or post.get("conversation_id")
    refers = references(post)
    return Message(
        message_id=arrived.message_id,
        channel_id=arrived.channel_id,
        channel_kind="feed",
        sent_at=sent_at,
        author_id=str(post["author_id"]),
        text=_new_text(text, entities, mentions),
        thread_id=f"{FEED}:{root}" if isinstance(root, str) and root != post.get("id") else None,
        reply_to=f"{FEED}:{refers['replied_to']}" if "replied_to" in refers else None,
        mentions=tuple(dict.fromkeys(mentions)),
        attachments=tuple(_new_media(post)),
        reactions=tuple(_new_counts(_object(post.get("public_metrics")))),
        forwarded_from=f"@{repost[1]}" if repost else None,
        edited_at=sent_at if first else None,
    )


def _new_message(arrived: Arrived, event: dict[str, Any]) -> Message:
    """A direct message of API v2; some servers put the entities' lists into the event itself."""
    text = event.get("text") or ""
    if not isinstance(text, str):
        raise TypeError(f"text should be a text, it is {type(text).__name__}")
    channel_kind: ChannelKind = arrived.channel_kind  # type: ignore[assignment]
    entities = _object(event.get("entities")) or event
    attachments = tuple(_new_media(event))
    text = _new_text(text, entities, [])
    if attachments and (last := _SHORT.search(text, max(0, text.rfind("https://")))):
        # The picture's own link stands at the end, and is in no list.
        text = text[: last.start()].rstrip() if last.end() == len(text) else text
    return Message(
        message_id=arrived.message_id,
        channel_id=arrived.channel_id,
        channel_kind=channel_kind,
        sent_at=_sent_at(event),
        author_id=str(event["sender_id"]),
        text=text,
        attachments=attachments,
    )


def _sent_at(item: dict[str, Any]) -> datetime:
    created = item.get("created_at")
    told = snowflake_micros(str(item["id"])) if created is None else iso_micros(str(created))
    if told is None:
        raise ValueError("it does not say when it was made")
    return moment(told)


def _new_text(text: str, entities: dict[str, Any], mentions: list[str]) -> str:
    links: dict[Any, Any] = {}
    for link in _list(entities.get("urls")):
        if isinstance(link, dict) and isinstance(link.get("url"), str):
            # The link of a post's own pictures leads to the post.
            links[link["url"]] = "" if "media_key" in link else link.get("expanded_url")
    people = {
        str(who.get("username") or who.get("screen_name")).lower(): who["id"]
        for who in _list(entities.get("mentions"))
        if isinstance(who, dict) and isinstance(who.get("id"), str)
    }
    text = html.unescape(text)
    text = _REPOST.sub("", text, count=1) if _REPOST.match(text) else text

    def named(match: re.Match[str]) -> str:
        person = people.get(match[1].lower())
        if person is None:
            return match[0]
        mentions.append(person)
        return f"<@{person}>"

    return _HANDLE.sub(named, _spelled_out(text, links))


def _new_media(item: dict[str, Any]) -> Iterator[Attachment]:
    for entry in _list(_object(item.get("communicator")).get("media")):
        told = _object(entry)
        variants = [v.get("url") for v in _list(told.get("variants")) if isinstance(v, dict)]
        urls = [told.get("url"), *variants, told.get("preview_image_url")]
        url = next((url for url in urls if isinstance(url, str)), None)
        if url is not None:
            yield Attachment(_file_name(url), _mime(_file_name(url)), url=url)


def _new_counts(metrics: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for name, keys in (("like", ("like_count",)), ("repost", ("repost_count", "retweet_count"))):
        count = next((metrics[key] for key in keys if key in metrics), 0)
        if type(count) is int and 0 < count < 2**31:
            yield name, count


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
