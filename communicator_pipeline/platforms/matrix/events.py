"""A room's events as the homeserver gave them → envelopes. Total: a broken one is a dead letter.

Belongs here: which message an event is about, and which version of it. Does not belong here:
asking the homeserver (what an edit or a redaction points at is looked up by the caller), what a
message says (`normalise.py`).

https://spec.matrix.org/v1.16/client-server-api/#event-replacements and #redactions (read 2026-11).
An event never changes, so its id is the digest of a version. Decisions:

- An edit is a version of the original, whose payload is the edit with the original under
  `communicator`. An edit by somebody else, of an edit, or without `m.new_content` is none.
- A redaction deletes its target, unless that is a reaction or a state event. Redacting an edit
  brings the version before it back, if the edit was seen while it could still be told from a
  message: a redacted event has lost what it was. One that was not is a tombstone without a message.
- A message stands on the day that its sender's homeserver says (`origin_server_ts`). A time in the
  future, which no message can have, is taken as the time at which it was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
import xxhash

from communicator_pipeline.platforms.instants import day_of, micros_of, moment
from communicator_pipeline.platforms.matrix.rooms import Room
from communicator_pipeline.platforms.protocol import PlatformError, Record
from communicator_pipeline.platforms.rejected import dead_letter
from communicator_pipeline.storage.accounts import Person
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope

MESSAGES = frozenset(
    {"m.room.message", "m.sticker", "m.poll.start", "org.matrix.msc3381.poll.start"}
)
STAGE = "pull"
CLOCKS_DIFFER = timedelta(minutes=5)

LookUp = Callable[[str], Mapping[str, Any] | None]
"""An event of the room by its id, as it is now; None if it cannot be seen."""


@dataclass(slots=True)
class Stretch:
    """What some events of a room brought."""

    records: list[Record] = field(default_factory=list)
    encrypted: int = 0
    replaced_by: str = ""  # the room that goes on instead of this one


@dataclass(frozen=True, slots=True)
class Reading:
    """How a stretch of events is read."""

    room: Room
    kind: str  # of the channel
    now: datetime
    look_up: LookUp
    wants: Callable[[int], bool] = lambda micros: True  # by the time at which it was sent
    follows: bool = True
    """Whether edits and redactions are followed to their targets. Where a window of history is
    read they are not: the messages in it bring their last edit and their redaction along."""
    is_newest: bool = True
    """Whether state events say how the room is now, and not how it once was."""


def read_events(events: Sequence[Any], reading: Reading) -> Stretch:
    """What the events say, in the order in which they came. Lets only `PlatformError`s of
    `look_up` out."""
    stretch = Stretch()
    for event in events:
        try:
            stretch.records.extend(_read(event, reading, stretch))
        except PlatformError:
            raise
        except Exception as error:  # whatever a stranger's event does to a parser
            stretch.records.append(broken(error, event, reading.room.room_id))
    return stretch


def broken(error: Exception, event: Any, room_id: str) -> DeadLetter:
    """The letter for an event; `unsigned` stays out, for its age differs with every look."""
    shown, name = event, ""
    if isinstance(event, dict):
        shown = {key: value for key, value in event.items() if key != "unsigned"}
        name = str(event.get("event_id") or "")[:255]
    return dead_letter(error, f"{room_id}, event {name or '(no id)'}", shown, stage=STAGE)


def member(event: Mapping[str, Any], now: datetime) -> Person | None:
    """Whom a membership names, if it is one."""
    who, content = event.get("state_key"), event.get("content")
    if event.get("type") != "m.room.member" or not isinstance(content, dict):
        return None
    if not isinstance(who, str) or not who or content.get("membership") not in ("join", "invite"):
        return None
    shown = content.get("displayname")
    local = who.removeprefix("@").partition(":")[0]
    name = shown.strip() if isinstance(shown, str) else ""
    try:
        seen = moment(sent_micros(event, now))
        (name + who).encode()
    except (ValueError, TypeError):
        return None
    return Person(who, name or local or who, seen, local)


def sent_micros(event: Mapping[str, Any], now: datetime) -> int:
    """When an event was sent, in microseconds since 1970 UTC; raises ValueError."""
    millis = event.get("origin_server_ts")
    if not isinstance(millis, int) or isinstance(millis, bool):
        raise ValueError(f"origin_server_ts should be a number, it is {millis!r}"[:200])
    micros = millis * 1_000
    if micros > micros_of(now + CLOCKS_DIFFER):
        return micros_of(now)
    day_of(micros)
    return micros


def _read(event: Any, reading: Reading, stretch: Stretch) -> Iterator[Record]:
    if not isinstance(event, dict):
        raise TypeError(f"an event should be an object, this is {type(event).__name__}")
    kind = event.get("type")
    if "state_key" in event:
        if reading.is_newest:
            reading.room.take_state(event)
        if (person := member(event, reading.now)) is not None:
            yield person
        if kind == "m.room.tombstone" and isinstance(event.get("content"), dict):
            stretch.replaced_by = str(event["content"].get("replacement_room") or "another room")
    elif kind == "m.room.encrypted":
        stretch.encrypted += 1
    elif kind == "m.room.redaction":
        if reading.follows:
            yield from _redaction(event, reading)
    elif kind in MESSAGES:
        yield from _message(event, reading)


def _message(event: dict[str, Any], reading: Reading) -> Iterator[Record]:
    event_id, sent = _id(event), sent_micros(event, reading.now)
    if not reading.wants(sent):
        return
    if (because := redacted_because(event)) is not None:
        yield _deletion(event, event_id, because, reading)
        return
    if (original_id := edited(event)) is not None:
        if reading.follows and has_new_content(event):
            original = reading.look_up(original_id)
            if original is None or _may_replace(event, original):
                yield _version(event, original, original_id, reading, event_id)
                reading.room.remember_edit(event_id, original_id)
        return
    yield _envelope(event_id, event, event, sent, sent, event_id, reading)
    if (edit := bundled_edit(event)) is not None and _may_replace(edit, event):
        yield _version(edit, event, event_id, reading, _id(edit))
        reading.room.remember_edit(_id(edit), event_id)


def _redaction(event: dict[str, Any], reading: Reading) -> Iterator[Record]:
    content = event.get("content")
    # https://spec.matrix.org/v1.16/rooms/v11/#moving-the-redacts-property (read 2026-11)
    target_id = event.get("redacts") or (
        content.get("redacts") if isinstance(content, dict) else None
    )
    if not isinstance(target_id, str) or not target_id:
        raise ValueError("the redaction does not say what it redacts")
    if not reading.wants(sent_micros(event, reading.now)):
        return
    original_id = reading.room.edits.get(target_id)
    if original_id is not None:
        original = reading.look_up(original_id)
        if original is None or redacted_because(original) is not None:
            return  # its own redaction says the rest
        edit = bundled_edit(original)
        base = edit if edit is not None and _may_replace(edit, original) else original
        yield _version(base, original, original_id, reading, f"without {target_id}", event)
        return
    target = reading.look_up(target_id)
    if target is None:
        target = {"origin_server_ts": event.get("origin_server_ts"), "type": "m.room.message"}
    if target.get("type") in (*MESSAGES, "m.room.encrypted") and "state_key" not in target:
        yield _deletion(target, target_id, event, reading)


def _version(
    edit: Mapping[str, Any],
    original: Mapping[str, Any] | None,
    original_id: str,
    reading: Reading,
    mark: str,
    redaction: Mapping[str, Any] | None = None,
) -> Envelope:
    """A later version of a message: by an edit, or by the redaction of one."""
    changed = sent_micros(redaction if redaction is not None else edit, reading.now)
    sent = sent_micros(original, reading.now) if original is not None else changed
    added: dict[str, Any] = {"changed_at": max(changed, sent)}
    if edit is not original:
        added["original"] = original
    return _envelope(
        original_id, edit, original or edit, sent, max(changed, sent), mark, reading, added
    )


def _envelope(
    event_id: str,
    payload: Mapping[str, Any],
    original: Mapping[str, Any],
    sent: int,
    version_at: int,
    mark: str,
    reading: Reading,
    added: dict[str, Any] | None = None,
) -> Envelope:
    sender = original.get("sender")
    if not isinstance(sender, str) or not sender:
        raise ValueError("the event does not say who sent it")
    added = added or {}
    if sent != original["origin_server_ts"] * 1_000:
        added["sent_at"] = sent
    room_id = reading.room.room_id
    return Envelope(
        day_of(sent),
        f"{room_id}:{event_id}",
        room_id,
        reading.kind,
        "message",
        version_at,
        xxhash.xxh3_64_intdigest(mark.encode()),
        orjson.dumps({**payload, "communicator": added} if added else payload),
        None,
        room_id,
    )


def _deletion(
    target: Mapping[str, Any], target_id: str, because: Mapping[str, Any], reading: Reading
) -> Envelope:
    """Word of a deletion, with nothing of what the message said."""
    gone = sent_micros(because, reading.now)
    try:
        sent = sent_micros(target, reading.now)
    except ValueError:
        sent = gone
    told = {"event_id": target_id, "type": target.get("type"), "sender": target.get("sender")}
    told["redacted_by"] = because.get("sender")
    room_id = reading.room.room_id
    return Envelope(
        day_of(sent),
        f"{room_id}:{target_id}",
        room_id,
        reading.kind,
        "deletion",
        max(gone, sent),
        xxhash.xxh3_64_intdigest(f"deleted {target_id}".encode()),
        orjson.dumps({**told, "communicator": {"sent_at": sent}}),
        None,
        room_id,
    )


def edited(event: Mapping[str, Any]) -> str | None:
    """The id of the event that this one replaces the content of."""
    content = event.get("content")
    relation = content.get("m.relates_to") if isinstance(content, dict) else None
    if isinstance(relation, dict) and relation.get("rel_type") == "m.replace":
        target = relation.get("event_id")
        return target if isinstance(target, str) and target else None
    return None


def has_new_content(event: Mapping[str, Any]) -> bool:
    content = event.get("content")
    return isinstance(content, dict) and isinstance(content.get("m.new_content"), dict)


def bundled_edit(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """The newest edit of a message, which servers send along with it."""
    edit = _inside(event, "unsigned", "m.relations", "m.replace")
    return edit if edit is not None and has_new_content(edit) else None


def redacted_because(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The redaction of an event that has been redacted; the event itself if that is missing."""
    if (because := _inside(event, "unsigned", "redacted_because")) is not None:
        return because
    return event if event.get("content") == {} and event.get("type") in MESSAGES else None


def _may_replace(edit: Mapping[str, Any], original: Mapping[str, Any]) -> bool:
    return (
        edit.get("sender") == original.get("sender")
        and edit.get("type") == original.get("type")
        and edited(original) is None
        and "state_key" not in original
        and redacted_because(original) is None
    )


def _id(event: Mapping[str, Any]) -> str:
    found = event.get("event_id")
    if not isinstance(found, str) or not found:
        raise ValueError("the event has no event_id")
    return found


def _inside(value: Any, *path: str) -> dict[str, Any] | None:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else None
