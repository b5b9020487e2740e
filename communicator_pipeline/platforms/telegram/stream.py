"""A walk through `result.json`: one message at a time, whatever the file's size.

Belongs here: where in the file the chats and messages stand. Does not belong here: what they mean.

https://core.telegram.org/import-export (read 2026-11); the file is written by Telegram Desktop's
`export_output_json.cpp`: a chat's `name`, `type` and `id` come before its `messages`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

from communicator_pipeline.platforms.archive import Events, build


class Found(Enum):
    """What the walk has come to."""

    ME = auto()  # personal_information
    CONTACT = auto()
    CHAT = auto()  # a chat's messages begin; the value is what is known of the chat by now
    MESSAGE = auto()
    END = auto()  # a chat is over; the value is all that is known of it


_CHAT_KEYS = frozenset(("id", "type", "name"))


def walk(events: Events, *, with_messages: bool = True) -> Iterator[tuple[Found, Any]]:
    """Everything of interest in a file, in its order; nothing at all if it is no object."""
    if next(events, ("", None))[0] != "start_map":
        return
    yield from _object(events, with_messages, top=True)


def _object(events: Events, with_messages: bool, top: bool = False) -> Iterator[tuple[Found, Any]]:
    """A chat, or the whole file: an export of one chat is that chat."""
    header: dict[str, Any] = {}
    is_chat = not top
    for event, key in events:
        if event == "end_map":
            break
        event, value = next(events)
        if key in _CHAT_KEYS:
            header[key] = build(events, event, value)
        elif key == "messages" and event == "start_array":
            is_chat = True
            yield Found.CHAT, header
            for event, value in events:
                if event == "end_array":
                    break
                if with_messages:
                    yield Found.MESSAGE, build(events, event, value)
                else:
                    skip(events, event)
        elif top and key == "personal_information":
            yield Found.ME, build(events, event, value)
        elif top and key in ("chats", "left_chats", "contacts") and event == "start_map":
            yield from _list(events, key == "contacts", with_messages)
        else:
            skip(events, event)
    if is_chat:
        yield Found.END, header


def _list(events: Events, contacts: bool, with_messages: bool) -> Iterator[tuple[Found, Any]]:
    for event, key in events:
        if event == "end_map":
            return
        event, _ = next(events)
        if key != "list" or event != "start_array":
            skip(events, event)
            continue
        for event, value in events:
            if event == "end_array":
                break
            if contacts:
                yield Found.CONTACT, build(events, event, value)
            elif event == "start_map":
                yield from _object(events, with_messages)
            else:
                skip(events, event)


def skip(events: Events, event: str) -> None:
    """Pass over the value that begins with the event."""
    level = int(event.startswith("start_"))
    while level:
        event, _ = next(events)
        if event.startswith("start_"):
            level += 1
        elif event.startswith("end_"):
            level -= 1
