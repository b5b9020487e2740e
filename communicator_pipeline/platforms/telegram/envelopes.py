"""What comes in live, as envelopes that agree with those of the export's importer.

Belongs here: ids, days, digests and tombstones, alike for both interfaces. Does not belong here:
what an interface's objects look like (`mtproto_messages.py`, `bot_api_messages.py`).

A live message is kept in the shape of Telegram Desktop's export, so that an import and a pull of
the same message are one version. What that shape cannot say is added under `communicator`:

- `raw`: the object as the interface gave it, without what is empty;
- `topic`: id of the forum topic's first message (General has none, as in the export);
- `album`, `album_of`: the album's id, and the id of its first message where that is known;
- `urls`: the key of a file (`photo`, `file`) → what `download` takes;
- `bot`: the author is a bot; `people`: the `@names` in the text whose ids are known;
- `migrated_to`, `migrated_from`: the chat id of the other half of a group that became a supergroup.

A group that had become a supergroup before anybody read it is read into the supergroup's chat, its
ids lowered by a billion, as the export has it (`kMigratedMessagesIdShift` in Telegram Desktop's
`export_data_types.cpp`, read 2026-11): in the export and here, the history is one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import orjson
import xxhash

from communicator_pipeline.platforms.instants import day_of, micros_of
from communicator_pipeline.platforms.telegram.export import (
    edited_micros,
    sent_micros,
    version_digest,
)
from communicator_pipeline.storage.landing import Envelope

MIGRATED_SHIFT = -1_000_000_000
_DELETED = xxhash.xxh3_64_intdigest(b"telegram: deleted")


class Chat(NamedTuple):
    """Where messages go."""

    channel_id: str  # as the export spells it: the bare number
    kind: str
    shift: int = 0  # added to the ids of its messages

    def message_id(self, native: int) -> str:
        return f"{self.channel_id}:{native + self.shift}"


def envelope(item: dict[str, Any], chat: Chat, origin: str) -> Envelope:
    """A message in the export's shape as an envelope; raises ValueError or TypeError."""
    sent = sent_micros(item, 0)
    version_at = edited_micros(item) or sent
    day_of(version_at)
    native = item["id"]
    if type(native) is not int or native <= 0:
        raise ValueError(f"the message's id should be a positive whole number, it is {native!r}")
    return Envelope(
        day_of(sent),
        chat.message_id(native),
        chat.channel_id,
        chat.kind,
        "message",
        version_at,
        version_digest(item),
        orjson.dumps(item),
        None,
        origin,
    )


def tombstone(native: int, chat: Chat, now: datetime, origin: str) -> Envelope:
    """Word of a deletion. Telegram does not say when it was: it is dated with the moment at which
    it was learned, and its day is that of the message, if that has landed."""
    micros = micros_of(now)
    payload = {"id": native, "type": "deleted", "date_unixtime": str(micros // 1_000_000)}
    return Envelope(
        day_of(micros),
        chat.message_id(native),
        chat.channel_id,
        chat.kind,
        "deletion",
        micros,
        _DELETED,
        orjson.dumps(payload),
        None,
        origin,
    )


def native_id(message_id: str | None, channel_id: str) -> int | None:
    """Telegram's own id of a message in this chat; None for one of another chat, or of a group
    that became a supergroup (it cannot be answered)."""
    if message_id is None:
        return None
    channel, _, native = message_id.rpartition(":")
    if channel != channel_id or not native.isascii() or not native.isdigit():
        return None
    return int(native)


def mark_albums(items: list[dict[str, Any]]) -> None:
    """Let the later messages of an album name its first one, as far as they came together.

    An album is several messages that were sent as one; each keeps its own file. So that they stay
    together, the others stand as answers to the first.
    """
    first: dict[str, int] = {}
    for item in items:
        album = _added(item).get("album")
        if album:
            first[album] = min(item["id"], first.get(album, item["id"]))
    for item in items:
        added = _added(item)
        album = added.get("album")
        if album and item["id"] != first[album]:
            added["album_of"] = first[album]


def _added(item: dict[str, Any]) -> dict[str, Any]:
    added: dict[str, Any] = item.get("communicator") or {}
    return added
