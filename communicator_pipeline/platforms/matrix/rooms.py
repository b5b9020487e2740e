"""A room between two pulls: its name, its kind, and how far it has been read.

Belongs here: what a room is called and who is in it. Does not belong here: its messages
(`events.py`). A /sync tells only what has changed since the last one, so the rest is kept as a
cursor.

Names: https://spec.matrix.org/v1.16/client-server-api/#calculating-the-display-name-for-a-room
(read 2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from communicator_pipeline.messages import ChannelKind

MOST_IN_A_GROUP = 12
"""A room that only the invited may enter and that has no more members is a group."""

MOST_EDITS = 100
"""So many edits are remembered per room: what a later redaction of one of them means."""

_MOST_HEROES = 5


@dataclass(slots=True)
class Room:
    """What is known of a room. `last` is the newest event that a /sync has brought, `last_ms` when
    that was sent (milliseconds since 1970 UTC, as the sender's server says)."""

    room_id: str
    name: str = ""
    alias: str = ""
    heroes: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # of the heroes
    joined: int = 0
    invited: int = 0
    public: bool = False
    encrypted: bool = False
    last: str = ""
    last_ms: int = 0
    edits: dict[str, str] = field(default_factory=dict)  # edit's event id → original's

    @classmethod
    def load(cls, room_id: str, position: str) -> Room:
        """The room as a cursor keeps it; what cannot be read of it is forgotten."""
        try:
            kept = orjson.loads(position) if position else {}
        except orjson.JSONDecodeError:
            kept = {}
        room = cls(room_id)
        for name, value in kept.items() if isinstance(kept, dict) else ():
            if name != "room_id" and name in cls.__slots__:
                setattr(room, name, value)
        return room

    def dump(self) -> str:
        kept = {name: getattr(self, name) for name in self.__slots__ if name != "room_id"}
        return orjson.dumps({name: value for name, value in kept.items() if value}).decode()

    def take_state(self, event: Mapping[str, Any]) -> None:
        """Learn from a state event; what is broken in it tells nothing."""
        content = event.get("content")
        if not isinstance(content, dict) or not isinstance(event.get("state_key"), str):
            return
        kind = event.get("type")
        if kind == "m.room.name":
            self.name = _text(content.get("name"))
        elif kind == "m.room.canonical_alias":
            self.alias = _text(content.get("alias"))
        elif kind == "m.room.join_rules":
            self.public = content.get("join_rule") == "public"
        elif kind == "m.room.encryption":
            self.encrypted = True
        elif kind == "m.room.member" and event["state_key"] in self.heroes:
            self.names[event["state_key"]] = _text(content.get("displayname"))

    def take_summary(self, summary: Any, names: Mapping[str, str]) -> None:
        """Learn from a /sync's summary; `names` are those that came with it."""
        if not isinstance(summary, dict):
            return
        heroes = summary.get("m.heroes")
        if isinstance(heroes, list):
            self.heroes = [hero for hero in map(_text, heroes) if hero][:_MOST_HEROES]
            known = {**self.names, **names}
            self.names = {hero: known[hero] for hero in self.heroes if hero in known}
        self.joined = _count(summary.get("m.joined_member_count"), self.joined)
        self.invited = _count(summary.get("m.invited_member_count"), self.invited)

    def remember_edit(self, edit: str, original: str) -> None:
        self.edits.pop(edit, None)
        self.edits[edit] = original
        while len(self.edits) > MOST_EDITS:
            del self.edits[next(iter(self.edits))]

    def title(self) -> str:
        """What the room is called."""
        if self.name or self.alias:
            return self.name or self.alias
        shown = [self.names.get(hero) or hero for hero in self.heroes]
        others = self.joined + self.invited - 1 - len(shown)
        if not shown:
            return "Empty room"
        return ", ".join(shown) + (f" and {others} more" if others > 0 else "")

    def kind(self, is_direct: bool) -> ChannelKind:
        if is_direct:
            return "dm"
        few = self.joined + self.invited <= MOST_IN_A_GROUP
        return "group" if few and not self.public else "channel"


def direct_rooms(content: Any) -> frozenset[str]:
    """The rooms that the owner's clients show as direct messages: `m.direct`."""
    if not isinstance(content, dict):
        return frozenset()
    lists = (rooms for rooms in content.values() if isinstance(rooms, list))
    return frozenset(room for rooms in lists for room in rooms if isinstance(room, str))


def _text(value: Any) -> str:
    return sayable(value.strip()) if isinstance(value, str) else ""


def sayable(text: str) -> str:
    """The text without halves of characters, which no store takes."""
    return text.encode(errors="replace").decode()


def _count(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
