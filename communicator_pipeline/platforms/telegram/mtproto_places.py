"""Where a pull over MTProto stands, chat by chat: what the cursors say. Pure.

Belongs here: reading and writing cursors. Does not belong here: moving them (`mtproto_pull.py`).

Streams: `state` (where the account's own updates stand), `listed` (when the chats were listed),
`chat:user7`, `chat:chat7`, `chat:channel7` (a chat that is read), `ids:…` (`whereabouts.py`), and
for a window of history also `takeout`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from telethon.tl import types  # type: ignore[import-untyped]

from communicator_pipeline.platforms.protocol import Chats
from communicator_pipeline.platforms.telegram.envelopes import MIGRATED_SHIFT, Chat
from communicator_pipeline.platforms.telegram.mtproto_messages import bare

STATE, LISTED, TAKEOUT = "state", "listed", "takeout"
CHAT = "chat:"


@dataclass
class State:
    """Where the account's updates stand (https://core.telegram.org/api/updates, read 2026-11)."""

    pts: int
    qts: int
    date: int  # seconds since 1970 UTC


@dataclass
class Listed:
    """When the chats were listed, under which rules, and which that were asked for are not among
    them."""

    at: int = 0
    rules: str = ""
    absent: tuple[str, ...] = ()


@dataclass
class Fill:
    """A stretch of a chat's history that is still to be read, newest first."""

    since: int  # seconds since 1970 UTC: what is older is not wanted
    floor: int = 0  # nor what has this id or a lower one
    below: int = 0  # only ids below it are missing; 0: nothing has been read yet


@dataclass
class Place:
    """A chat that is read."""

    key: str  # user7, chat7, channel7
    kind: str
    access_hash: int = 0
    pts: int = 0  # of a channel: where its updates stand
    top: int = 0  # of a channel: the newest message that was read
    became: str = ""  # the supergroup that a group had become when it was first seen: its number
    was: str = ""  # the group that a supergroup has been: its number
    fill: Fill | None = None
    done: bool = False  # of a window: it has been read

    @property
    def stream(self) -> str:
        return f"{CHAT}{self.key}"

    @property
    def chat(self) -> Chat:
        if self.became:
            return Chat(self.became, self.kind, MIGRATED_SHIFT)
        return Chat(bare(self.key), self.kind)

    @property
    def is_channel(self) -> bool:
        return self.key.startswith("channel")

    @property
    def peer(self) -> Any:
        return input_peer(self.key, self.access_hash)

    def written(self) -> str:
        said = {
            "kind": self.kind,
            "hash": self.access_hash,
            "pts": self.pts,
            "top": self.top,
            "became": self.became,
            "was": self.was,
            "fill": vars(self.fill) if self.fill else None,
            "done": self.done,
        }
        return orjson.dumps({name: value for name, value in said.items() if value}).decode()


def read_places(cursors: Mapping[str, str]) -> dict[str, Place]:
    """key → place, of all chats that are read."""
    places = {}
    for stream, position in cursors.items():
        if stream.startswith(CHAT):
            key, said = stream.removeprefix(CHAT), orjson.loads(position)
            fill = Fill(**said["fill"]) if said.get("fill") else None
            places[key] = Place(
                key,
                said.get("kind", "dm"),
                said.get("hash", 0),
                said.get("pts", 0),
                said.get("top", 0),
                said.get("became", ""),
                said.get("was", ""),
                fill,
                said.get("done", False),
            )
    return places


def read_state(cursors: Mapping[str, str]) -> State | None:
    position = cursors.get(STATE)
    return State(**orjson.loads(position)) if position else None


def read_listed(cursors: Mapping[str, str]) -> Listed:
    position = cursors.get(LISTED)
    if not position:
        return Listed()
    said = orjson.loads(position)
    return Listed(said["at"], said["rules"], tuple(said["absent"]))


def write(state: State | Listed) -> str:
    return orjson.dumps(vars(state)).decode()


def rules_digest(chats: Chats) -> str:
    """Changes when the account's rules do."""
    said = orjson.dumps([sorted(chats.rules.items()), chats.only_included])
    return hashlib.sha256(said).hexdigest()[:12]


def wanted(chats: Chats, key: str, kind: str, before: str = "") -> bool:
    """Whether a chat is read. A supergroup that was a group (`before`, its number) keeps the rule
    that the group had, unless it has one of its own."""
    channel_id = bare(key)
    if before and channel_id not in chats.rules and before in chats.rules:
        channel_id = before
    return chats.wants(channel_id, default=kind != "feed")


def input_peer(key: str, access_hash: int) -> Any:
    """How a request names a chat."""
    number = int(bare(key))
    if key.startswith("user"):
        return types.InputPeerUser(number, access_hash)
    if key.startswith("channel"):
        return types.InputPeerChannel(number, access_hash)
    return types.InputPeerChat(number)
