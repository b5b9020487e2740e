"""What a message is, from the moment a platform's payload has been understood until it is shown.

Belongs here: the types and Arrow schemas that importers, grouping, analysis, drafting and the
inbox share. Does not belong here: how a platform spells them (`platforms/`), where they are
kept (`storage/`), what is thought about them (`grouping/`, `analysis/`, `drafting/`).

Every time is UTC, to the microsecond. Every id is text: platform ids are names, not numbers
(a Slack `ts` that takes a detour over a float comes back changed).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import pyarrow as pa

ChannelKind = Literal["channel", "group", "dm", "feed"]
"""`channel`: many people, open; `group`: a few, closed; `dm`: two; `feed`: posts to the public."""

MessageKind = Literal["message", "system"]
"""`system`: something the platform says about the channel (a join, a rename), not a person."""

TIME = pa.timestamp("us", tz="UTC")

ATTACHMENT = pa.struct(
    [
        ("name", pa.string()),
        ("mime", pa.string()),
        ("bytes", pa.int64()),
        ("url", pa.string()),
        ("sha256", pa.string()),
    ]
)
"""`sha256` names the stored content, null while there is none; `url` is where it can be had."""

REACTION = pa.struct([("name", pa.string()), ("count", pa.int32())])


def table_schema(columns: list[tuple[str, pa.DataType]]) -> pa.Schema:
    """A table's columns, in order."""
    return pa.schema(columns)


MESSAGE_SCHEMA = table_schema(
    [
        ("message_id", pa.string()),  # "<channel_id>:<native id>", unique in the account
        ("channel_id", pa.string()),
        ("channel_kind", pa.string()),
        ("sent_at", TIME),
        ("author_id", pa.string()),  # "" when the platform names none
        ("author_name", pa.string()),  # as the payload spelled it; the directory knows better
        ("author_is_bot", pa.bool_()),
        ("kind", pa.string()),
        ("text", pa.string()),  # mentions stay as <@person_id>, channels as <#channel_id>
        ("thread_id", pa.string()),  # message_id of the native thread's root, null outside one
        ("reply_to", pa.string()),  # message_id that this one answers, null if none is named
        ("mentions", pa.list_(pa.string())),  # person ids
        ("attachments", pa.list_(ATTACHMENT)),
        ("reactions", pa.list_(REACTION)),
        ("forwarded_from", pa.string()),
        ("edited_at", TIME),
        ("deleted", pa.bool_()),  # a tombstone: the text is empty from this version on
        ("version", pa.int32()),  # 1, 2, … in the order in which they came to be
        ("latest", pa.bool_()),  # exactly one row of a message_id has it
    ]
)
"""One row per version of a message: the `raw_messages` asset's columns."""


@dataclass(slots=True)
class Attachment:
    name: str
    mime: str | None = None
    bytes: int | None = None
    url: str | None = None
    sha256: str | None = None


@dataclass(slots=True)
class Message:
    """One version of one message, as a platform's `normalise` gives it (see MESSAGE_SCHEMA)."""

    message_id: str
    channel_id: str
    channel_kind: ChannelKind
    sent_at: datetime
    author_id: str
    text: str
    author_name: str = ""
    author_is_bot: bool = False
    kind: MessageKind = "message"
    thread_id: str | None = None
    reply_to: str | None = None
    mentions: Sequence[str] = ()
    attachments: Sequence[Attachment] = ()
    reactions: Sequence[tuple[str, int]] = ()
    forwarded_from: str | None = None
    edited_at: datetime | None = None
    deleted: bool = False


@dataclass(slots=True, frozen=True)
class Turn:
    """A message as analysis and drafting read it: latest version, names resolved."""

    message_id: str
    sent_at: datetime
    author_id: str
    author_name: str
    from_me: bool
    text: str
    is_bot: bool = False
    kind: str = "message"
    mentions: tuple[str, ...] = ()
    reply_to: str | None = None
    edited: bool = False
    deleted: bool = False
    attachments: tuple[str, ...] = ()  # file names


@dataclass(slots=True, frozen=True)
class Transcript:
    """One conversation as of a moment: what analysis and drafting are given.

    `turns` are in order of time. A conversation longer than its reader takes
    (`LONGEST_TRANSCRIPT`, if it does not say) keeps its first turn and its newest ones;
    `left_out` counts what stands between them.
    """

    conversation_id: str
    channel_id: str
    channel_name: str
    channel_kind: str
    as_of: datetime
    turns: tuple[Turn, ...]
    left_out: int = 0
    me: frozenset[str] = field(default_factory=frozenset)  # the owner's person ids
    my_names: tuple[str, ...] = ()  # names and handles that address the owner

    def people(self) -> Iterator[Turn]:
        """The turns that a person or a bot wrote and that still say something."""
        return (t for t in self.turns if t.kind == "message" and not t.deleted)


LONGEST_TRANSCRIPT = 200

Directory = Mapping[str, str]
"""person id or channel id → the name to show."""

_NAMED = re.compile(r"<([@#])([^<>|\s]+)>")


def resolve_names(text: str, names: Directory) -> str:
    """The text with `<@id>` and `<#id>` spelled out, as people are called now.

    Names change, so messages keep ids and every reader resolves them.
    """
    if "<" not in text:
        return text
    return _NAMED.sub(lambda found: found[1] + names.get(found[2], found[2]), text)
