"""What a line of a text log says; `export.py` has taken it apart."""

from __future__ import annotations

from typing import Any

from communicator_pipeline.messages import ChannelKind, Message
from communicator_pipeline.platforms import Arrived
from communicator_pipeline.platforms.instants import moment


def normalise(arrived: Arrived) -> Message:
    """The message that the payload is; KeyError, TypeError or ValueError if none."""
    item: dict[str, Any] = arrived.payload
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        raise TypeError("a line of a log should be an object with a text")
    channel_kind: ChannelKind = arrived.channel_kind  # type: ignore[assignment]
    return Message(
        message_id=arrived.message_id,
        channel_id=arrived.channel_id,
        channel_kind=channel_kind,
        sent_at=moment(item["sent_at"]),
        author_id=str(item.get("author") or ""),
        author_name=str(item.get("author") or ""),
        kind="system" if item.get("kind") == "system" else "message",
        text=item["text"],
        mentions=tuple(str(name) for name in item.get("mentions") or ()),
    )
