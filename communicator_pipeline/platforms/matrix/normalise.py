"""What a Matrix event says: text, thread, reply, mentions, files, edits, deletions.

https://spec.matrix.org/v1.16/client-server-api/#instant-messaging (read 2026-11). Times of
`communicator` are microseconds since 1970 UTC, `origin_server_ts` is milliseconds.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

from communicator_pipeline.messages import Attachment, ChannelKind, Message
from communicator_pipeline.platforms import Arrived
from communicator_pipeline.platforms.instants import moment
from communicator_pipeline.platforms.matrix.events import edited

_FILES = frozenset({"m.image", "m.file", "m.audio", "m.video"})
_TO_USER = re.compile(r"https://matrix\.to/#/(?P<id>(?:@|%40)[^\"'?/\s()]+)")
_PILL = re.compile(
    r"<a\s[^>]*href=[\"'](?P<link>https://matrix\.to/#/[^\"']+)[\"'][^>]*>(?P<label>[^<]*)</a>"
)
_MARKDOWN = re.compile(r"\[(?P<label>[^\[\]]*)\]\((?P<link>https://matrix\.to/#/[^\s()]+)\)")
_LONGEST_HTML = 200_000  # characters
_TEXT_OF_POLL = ("m.text", "org.matrix.msc1767.text", "body")


def normalise(arrived: Arrived) -> Message:
    """The message (version) that the payload is; KeyError, TypeError or ValueError if none."""
    event: dict[str, Any] = arrived.payload
    if not isinstance(event, dict):
        raise TypeError(f"an event should be an object, this is {type(event).__name__}")
    added = event.get("communicator") or {}
    channel_kind: ChannelKind = arrived.channel_kind  # type: ignore[assignment]
    if arrived.kind == "deletion":
        return Message(
            message_id=arrived.message_id,
            channel_id=arrived.channel_id,
            channel_kind=channel_kind,
            sent_at=moment(added["sent_at"]),
            author_id=str(event.get("sender") or ""),
            text="",
            deleted=True,
        )
    original = added.get("original") or event
    content = _content(event)
    if edited(event) is not None and isinstance(content.get("m.new_content"), dict):
        content = content["m.new_content"]
    mentions = list(_mentioned(content))
    thread, answered = _relations(_content(original), arrived.channel_id)
    text, attachments = _said(event, content, mentions, answered is not None)
    changed = added.get("changed_at")
    return Message(
        message_id=arrived.message_id,
        channel_id=arrived.channel_id,
        channel_kind=channel_kind,
        sent_at=_sent_at(original, added),
        author_id=str(event["sender"]),
        author_is_bot=content.get("msgtype") == "m.notice",
        text=text,
        thread_id=thread,
        reply_to=answered,
        mentions=tuple(dict.fromkeys(mentions)),
        attachments=attachments,
        edited_at=None if changed is None else moment(changed),
    )


def relations(content: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The event ids of the thread's root and of what is answered.

    In a thread a reply is only meant as one if it is no fallback for clients without threads:
    https://spec.matrix.org/v1.16/client-server-api/#fallback-for-unthreaded-clients
    """
    relation = content.get("m.relates_to")
    if not isinstance(relation, dict):
        return None, None
    inner = relation.get("m.in_reply_to")
    answered = inner.get("event_id") if isinstance(inner, dict) else None
    answered = answered if isinstance(answered, str) and answered else None
    root = relation.get("event_id") if relation.get("rel_type") == "m.thread" else None
    if isinstance(root, str) and root:
        return root, None if relation.get("is_falling_back") is True else answered
    return None, answered


def _relations(content: Mapping[str, Any], channel: str) -> tuple[str | None, str | None]:
    root, answered = relations(content)
    return root and f"{channel}:{root}", answered and f"{channel}:{answered}"


def _content(event: Mapping[str, Any]) -> dict[str, Any]:
    content = event["content"]
    if not isinstance(content, dict):
        raise TypeError(f"content should be an object, it is {type(content).__name__}")
    return content


def _sent_at(original: Mapping[str, Any], added: Mapping[str, Any]) -> datetime:
    micros = added.get("sent_at")
    return moment(original["origin_server_ts"] * 1_000 if micros is None else micros)


def _said(
    event: Mapping[str, Any], content: Mapping[str, Any], mentions: list[str], answers: bool
) -> tuple[str, tuple[Attachment, ...]]:
    kind = event.get("type")
    if kind in ("m.poll.start", "org.matrix.msc3381.poll.start"):
        return _poll(content), ()
    if kind == "m.sticker":
        return _words(content, "body"), tuple(_file(content))
    if content.get("msgtype") in _FILES:
        # A caption stands in `body` where `filename` names the file; else `body` is the name.
        named, body = content.get("filename"), content.get("body")
        caption = isinstance(named, str) and named and named != body
        text = _plain(content, mentions, answers) if caption else ""
        return text, tuple(_file(content))
    text = _plain(content, mentions, answers)
    if content.get("msgtype") == "m.emote":
        text = f"* {text}"
    elif content.get("msgtype") == "m.location" and isinstance(
        place := content.get("geo_uri"), str
    ):
        text = text if place in text else f"{text}\n{place}".strip()
    return text, ()


def _words(content: Mapping[str, Any], key: str) -> str:
    text = content[key]
    if not isinstance(text, str):
        raise TypeError(f"{key} should be a text, it is {type(text).__name__}")
    return text


def _plain(content: Mapping[str, Any], mentions: list[str], answers: bool) -> str:
    """The text without the quotation of what it answers, people as `<@id>`."""
    formatted = content.get("formatted_body")
    formatted = formatted[:_LONGEST_HTML] if isinstance(formatted, str) else ""
    if "body" not in content and formatted:
        return _text_of(_PILL.sub(lambda m: _as_text(m, mentions), formatted))
    text = _words(content, "body")
    if answers:
        text = _without_quotation(text)
    text = _MARKDOWN.sub(lambda match: _named(match, mentions), text)
    for match in _PILL.finditer(formatted):
        person, label = _person(match["link"]), html.unescape(match["label"])
        if person is None:
            continue
        mentions.append(person)
        if label and f"<@{person}>" not in text:
            text = text.replace(label, f"<@{person}>", 1)
    for person in mentions:
        if person in text and f"<@{person}>" not in text:
            text = text.replace(person, f"<@{person}>")
    return text


def _without_quotation(text: str) -> str:
    """Older clients repeat what they answer: `> <@ana:example.org> the words`, an empty line.

    https://spec.matrix.org/v1.12/client-server-api/#stripping-the-fallback (read 2026-11)
    """
    lines = text.split("\n")
    if not re.match(r"> (?:\* )?<@[^>\s]+>", lines[0]):
        return text
    first = next((n for n, line in enumerate(lines) if not line.startswith("> ")), len(lines))
    return "\n".join(lines[first:]).lstrip("\n")


def _mentioned(content: Mapping[str, Any]) -> Iterator[str]:
    mentions = content.get("m.mentions")
    people = mentions.get("user_ids") if isinstance(mentions, dict) else None
    for person in people if isinstance(people, list) else ():
        if isinstance(person, str) and person.startswith("@"):
            yield person


def _person(link: str) -> str | None:
    match = _TO_USER.match(html.unescape(link))
    return unquote(match["id"]) if match else None


def _named(match: re.Match[str], mentions: list[str]) -> str:
    person = _person(match["link"])
    if person is None:
        return match[0]
    mentions.append(person)
    return f"<@{person}>"


def _as_text(match: re.Match[str], mentions: list[str]) -> str:
    person = _person(match["link"])
    return match["label"] if person is None else html.escape(_named(match, mentions))


class _Text(HTMLParser):
    """The text in some HTML, block by block."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.inside_reply = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "mx-reply":
            self.inside_reply += 1
        elif tag in ("br", "p", "li", "div", "blockquote", "tr", "h1", "h2", "h3"):
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "mx-reply":
            self.inside_reply = max(0, self.inside_reply - 1)

    def handle_data(self, data: str) -> None:
        if not self.inside_reply:
            self.parts.append(data)


def _text_of(source: str) -> str:
    parser = _Text()
    parser.feed(source)
    parser.close()
    return "".join(parser.parts).strip()


def _file(content: Mapping[str, Any]) -> Iterator[Attachment]:
    info = content.get("info")
    info = info if isinstance(info, dict) else {}
    name = content.get("filename") or content.get("body")
    size, mime, url = info.get("size"), info.get("mimetype"), content.get("url")
    yield Attachment(
        name if isinstance(name, str) and name else "file",
        mime if isinstance(mime, str) else None,
        size
        if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63
        else None,
        url if isinstance(url, str) and url.startswith("mxc://") else None,
    )


def _poll(content: Mapping[str, Any]) -> str:
    """A poll's question and answers, in its stable or its older form."""
    poll = content.get("m.poll") or content.get("org.matrix.msc3381.poll.start") or {}
    if not isinstance(poll, dict):
        raise TypeError(f"a poll should be an object, it is {type(poll).__name__}")
    answers = poll.get("answers")
    shown = [_poll_text(poll.get("question"))]
    shown += [f"• {_poll_text(a)}" for a in (answers if isinstance(answers, list) else ())]
    return "\n".join(line for line in shown if line.strip("• "))


def _poll_text(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    for key in _TEXT_OF_POLL:
        text = value.get(key)
        if isinstance(text, list):
            bodies = (part.get("body") for part in text if isinstance(part, dict))
            text = next((body for body in bodies if isinstance(body, str)), None)
        if isinstance(text, str):
            return text
    return ""
