"""What a Slack payload says: text, thread, mentions, files, edits, deletions.

Text formatting: https://docs.slack.dev/messaging/formatting-message-text (read 2026-11).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

from communicator_pipeline.messages import Attachment, ChannelKind, Message
from communicator_pipeline.platforms import Arrived
from communicator_pipeline.platforms.slack.moments import time_of
from communicator_pipeline.platforms.slack.payloads import SYSTEM_SUBTYPES, is_edit

_TOKEN = re.compile(r"<([@#!]?)([^<>|]*)(?:\|([^<>]*))?>")


def normalise(arrived: Arrived) -> Message:
    """The message (version) that the payload is; KeyError, TypeError or ValueError if none."""
    item: dict[str, Any] = arrived.payload
    if arrived.kind == "deletion":
        return _tombstone(arrived, item)
    if item.get("subtype") == "message_changed":
        told_at = {"edited": {"ts": item["ts"]}} if is_edit(item) else {}
        item = {**told_at, **item["message"]}
    ts = str(item["ts"])
    mentions: list[str] = []
    subtype = item.get("subtype") or ""
    author, author_name, is_bot = _author(item, subtype)
    thread_ts = item.get("thread_ts")
    edited = item.get("edited") or {}
    channel_kind: ChannelKind = arrived.channel_kind  # type: ignore[assignment]
    text = plain_text(_written(item), mentions)
    return Message(
        message_id=arrived.message_id,
        channel_id=arrived.channel_id,
        channel_kind=channel_kind,
        sent_at=time_of(ts),
        author_id=author,
        author_name=author_name,
        author_is_bot=is_bot,
        kind="system" if subtype in SYSTEM_SUBTYPES else "message",
        text=text,
        thread_id=f"{arrived.channel_id}:{thread_ts}" if thread_ts and thread_ts != ts else None,
        mentions=tuple(dict.fromkeys(mentions)),
        attachments=tuple(_files(item)),
        reactions=tuple(
            (str(r.get("name", "")), int(r.get("count") or len(r.get("users") or ())))
            for r in item.get("reactions") or ()
        ),
        edited_at=time_of(str(edited["ts"])) if edited.get("ts") else None,
    )


def plain_text(text: str, mentions: list[str]) -> str:
    """Slack's markup as plain text. Mentions stay as `<@id>` and `<#id>`; the ids of people
    are added to `mentions`."""
    if "<" in text:
        text = _TOKEN.sub(lambda match: _token(match, mentions), text)
    return html.unescape(text) if "&" in text else text


def _token(match: re.Match[str], mentions: list[str]) -> str:
    sign, target, label = match[1], match[2], match[3]
    if sign == "@":
        mentions.append(target)
        return f"<@{target}>"
    if sign == "#":
        return f"<#{target}>"
    if sign == "!":
        if target.startswith(("subteam^", "date^")):
            return label or ""
        return f"@{target}"
    address = target.removeprefix("mailto:")
    return f"{label} ({address})" if label and label not in (address, target) else address


def _written(item: dict[str, Any]) -> str:
    text = item.get("text")
    if isinstance(text, str) and text:
        return text
    blocks = item.get("blocks")
    if isinstance(blocks, list) and blocks:
        rendered = "\n".join(filter(None, ("".join(_rich(block)) for block in blocks)))
        if rendered.strip():
            return rendered.strip("\n")
    parts = []
    for attachment in item.get("attachments") or ():
        if isinstance(attachment, dict):
            lines = [attachment.get(k) for k in ("pretext", "title", "text")]
            shown = "\n".join(str(line) for line in lines if line)
            parts.append(shown or str(attachment.get("fallback") or ""))
    return "\n".join(part for part in parts if part)


def _rich(block: Any) -> Iterator[str]:
    """A block's text in Slack's own markup, element by element, however deep it nests."""
    stack = [block]
    while stack:
        element = stack.pop()
        if isinstance(element, str):
            yield element
            continue
        if isinstance(element, list):
            stack.extend(reversed(element))
            continue
        if not isinstance(element, dict):
            continue
        kind = element.get("type")
        if kind == "text":
            yield html.escape(str(element.get("text", "")), quote=False)
        elif kind in ("mrkdwn", "plain_text"):
            yield str(element.get("text", ""))
        elif kind == "user":
            yield f"<@{element.get('user_id', '')}>"
        elif kind == "channel":
            yield f"<#{element.get('channel_id', '')}>"
        elif kind == "broadcast":
            yield f"@{element.get('range', '')}"
        elif kind == "emoji":
            yield f":{element.get('name', '')}:"
        elif kind == "link":
            label = element.get("text")
            yield f"<{element.get('url', '')}|{label}>" if label else f"<{element.get('url', '')}>"
        elif kind == "rich_text_list":
            for item in reversed(element.get("elements") or ()):
                stack.extend(["\n", item, "• "])
        elif kind == "rich_text_quote":
            stack.extend(["\n", element.get("elements") or [], "> "])
        else:
            stack.extend(
                inner
                for inner in (element.get("fields"), element.get("elements"), element.get("text"))
                if isinstance(inner, list | dict)
            )


def _author(item: dict[str, Any], subtype: str) -> tuple[str, str, bool]:
    profile = item.get("user_profile") or item.get("bot_profile") or {}
    name = profile.get("display_name") or profile.get("real_name") or profile.get("name")
    name = str(item.get("username") or name or "")
    is_bot = subtype == "bot_message" or bool(item.get("bot_id"))
    author = item.get("user") or item.get("bot_id") or name
    if not isinstance(author, str):
        raise TypeError(f"the author should be a text, it is {author!r}")
    return author, name, is_bot


def _files(item: dict[str, Any]) -> Iterator[Attachment]:
    files = item.get("files") or ([item["file"]] if isinstance(item.get("file"), dict) else [])
    for file in files:
        if not isinstance(file, dict):
            continue
        size = file.get("size")
        yield Attachment(
            name=str(file.get("name") or file.get("title") or file.get("id") or "file"),
            mime=file.get("mimetype") if isinstance(file.get("mimetype"), str) else None,
            bytes=size if isinstance(size, int) else None,
            url=file.get("url_private") if isinstance(file.get("url_private"), str) else None,
        )


def _tombstone(arrived: Arrived, item: dict[str, Any]) -> Message:
    ts = arrived.message_id.rsplit(":", 1)[1]
    gone = item.get("previous_message") or item.get("message") or item
    channel_kind: ChannelKind = arrived.channel_kind  # type: ignore[assignment]
    thread_ts = gone.get("thread_ts")
    return Message(
        message_id=arrived.message_id,
        channel_id=arrived.channel_id,
        channel_kind=channel_kind,
        sent_at=time_of(ts),
        # A tombstone's user is Slackbot: who wrote the message is known from its versions.
        author_id="" if gone.get("subtype") == "tombstone" else str(gone.get("user") or ""),
        text="",
        thread_id=f"{arrived.channel_id}:{thread_ts}" if thread_ts and thread_ts != ts else None,
        deleted=True,
    )
