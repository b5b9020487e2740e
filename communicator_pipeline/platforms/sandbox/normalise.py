"""What a payload of the sandbox says."""

from __future__ import annotations

from typing import Any

from communicator_pipeline.messages import ChannelKind, Message
from communicator_pipeline.platforms import Arrived
from communicator_pipeline.platforms.instants import iso_micros, moment


def normalise(arrived: Arrived) -> Message:
    """The message (version) that the payload is; KeyError, TypeError or ValueError if none."""
    item: dict[str, Any] = arrived.payload
    deleted = arrived.kind == "deletion"
    channel_kind: ChannelKind = arrived.channel_kind  # type: ignore[assignment]
    if not deleted and not isinstance(item["text"], str):
        raise TypeError(f"text should be a text, it is {type(item['text']).__name__}")
    thread, answered, edited = item.get("thread"), item.get("reply_to"), item.get("edited_at")
    return Message(
        message_id=arrived.message_id,
        channel_id=arrived.channel_id,
        channel_kind=channel_kind,
        sent_at=moment(iso_micros(item["sent_at"])),
        author_id=str(item["author"]),
        author_name=str(item.get("author_name") or ""),
        text="" if deleted else item["text"],
        thread_id=f"{arrived.channel_id}:{thread}" if thread else None,
        reply_to=f"{arrived.channel_id}:{answered}" if answered else None,
        edited_at=moment(iso_micros(edited)) if edited else None,
        deleted=deleted,
    )
