"""What a line of JSONL says: `docs/jsonl.md` is the contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from communicator_pipeline.messages import Attachment, ChannelKind, Message
from communicator_pipeline.platforms import Arrived
from communicator_pipeline.platforms.generic.export import ORDER
from communicator_pipeline.platforms.instants import iso_micros, moment


def normalise(arrived: Arrived) -> Message:
    """The message that the payload is; KeyError, TypeError or ValueError if none."""
    item: dict[str, Any] = arrived.payload
    if not isinstance(item, dict):
        raise TypeError(f"a message should be an object, this is {type(item).__name__}")
    channel_kind: ChannelKind = arrived.channel_kind  # type: ignore[assignment]
    deleted = arrived.kind == "deletion"
    edited_at = item.get("edited_at")
    thread_id, reply_to = item.get("thread_id"), item.get("reply_to")
    return Message(
        message_id=arrived.message_id,
        channel_id=arrived.channel_id,
        channel_kind=channel_kind,
        sent_at=moment(iso_micros(item["sent_at"]) + _order(item)),
        author_id=item.get("author") or "",
        author_name=item.get("author_name") or "",
        author_is_bot=bool(item.get("author_is_bot")),
        kind="system" if item.get("kind") == "system" else "message",
        text="" if deleted else item.get("text") or "",
        thread_id=_in_channel(arrived, thread_id),
        reply_to=_in_channel(arrived, reply_to),
        mentions=tuple(m for m in item.get("mentions") or () if isinstance(m, str)),
        attachments=() if deleted else tuple(_files(item)),
        reactions=tuple(_reactions(item.get("reactions"))),
        edited_at=moment(iso_micros(edited_at)) if edited_at is not None else None,
        deleted=deleted,
    )


def _order(item: dict[str, Any]) -> int:
    """Microseconds to add: the importer's word on which of several at one moment came first."""
    order = item.get(ORDER, 0)
    return order if type(order) is int and 0 <= order < 1_000_000 else 0


def _in_channel(arrived: Arrived, native: Any) -> str | None:
    """The id of another message of the channel; a message is no part of its own thread."""
    named = f"{arrived.channel_id}:{native}" if native is not None else None
    return None if named == arrived.message_id else named


def _files(item: dict[str, Any]) -> Iterator[Attachment]:
    for file in item.get("attachments") or ():
        if isinstance(file, str):
            yield Attachment(file)
            continue
        if not isinstance(file, dict) or not isinstance(file.get("name"), str):
            raise TypeError("an attachment should be a name, or an object with a name")
        size, url, mime = file.get("bytes"), file.get("url"), file.get("mime")
        yield Attachment(
            file["name"],
            mime if isinstance(mime, str) else None,
            size if type(size) is int and 0 <= size < 2**63 else None,
            url if isinstance(url, str) else None,
        )


def _reactions(reactions: Any) -> Iterator[tuple[str, int]]:
    """`{"👍": 2}`, or a list of names or of `{"name": "👍", "count": 2}`."""
    if isinstance(reactions, dict):
        reactions = [{"name": name, "count": count} for name, count in reactions.items()]
    for reaction in reactions or ():
        if isinstance(reaction, str):
            yield reaction, 1
        elif isinstance(reaction, dict) and isinstance(reaction.get("name"), str):
            count = reaction.get("count", 1)
            yield reaction["name"], count if type(count) is int and 0 < count < 2**31 else 1
