"""Telegram Desktop's export: `result.json`, of one chat or of the whole account, and its media.

https://core.telegram.org/import-export (read 2026-11). Newer files have `date_unixtime` beside
`date`, and `from_id` such as `user123`; files from before 2021 have neither. Their `date` is the
exporting computer's local time without a zone: it is taken with the offset that a record before
it in the same chat shows, else as UTC.

What a payload cannot say by itself is added to it under `communicator`: `topic` (id of the topic's
first message), `offset` (seconds that `date` is ahead of UTC), `bot` (the author is the chat's
bot), `people` (the `@names` in the text whose ids are known).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import xxhash

from communicator_pipeline.messages import ChannelKind
from communicator_pipeline.platforms import Record
from communicator_pipeline.platforms.archive import Archive, BrokenFile, read_events
from communicator_pipeline.platforms.instants import EPOCH, day_of, micros_of, moment
from communicator_pipeline.platforms.rejected import dead_letter
from communicator_pipeline.platforms.telegram.stream import Found, walk
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope

CHANNEL_KINDS: dict[str, ChannelKind] = {
    "saved_messages": "dm",
    "replies": "dm",
    "verification_codes": "dm",
    "personal_chat": "dm",
    "bot_chat": "dm",
    "private_group": "group",
    "private_supergroup": "group",
    "public_supergroup": "channel",
    "private_channel": "feed",
    "public_channel": "feed",
}
_OWN_NAMES = {"saved_messages": "Saved Messages", "replies": "Replies"}

FILE_KEYS = ("photo", "file", "contact_vcard")

# What differs between two exports of the same message: names as they are called on the day of
# the export, paths that count through it, votes, and how a time or an author is spelled.
_VOLATILE = frozenset(
    "id date date_unixtime edited edited_unixtime from from_id actor actor_id forwarded_from "
    "forwarded_from_id saved_from via_bot members inviter author text_entities thumbnail "
    "thumbnail_file_size photo file contact_vcard photo_file_size file_size file_name width "
    "height reactions poll communicator".split()
)

_RESULT = re.compile(r"(?:.*/)?result(?: ?\(\d+\))?\.json")
_MOST_KNOWN = 300_000  # replies of a forum whose topic is remembered: some 40 MB
_MOST_PEOPLE = 50_000  # names that are held back until their newest spelling is known


def is_telegram(archive: Archive) -> bool:
    """`result.json`, a single file that begins like one, or pages of the HTML export."""
    if any(_RESULT.fullmatch(name) for name in archive.names):
        return True
    if archive.is_single_file and archive.path.suffix.lower() == ".json":
        with archive.path.open("rb") as stream:
            head = stream.read(4096)
        return b'"personal_information"' in head or (
            b'"messages"' in head and b'"type"' in head and b'"id"' in head
        )
    return any(name.endswith("messages.html") for name in archive.names)


class TelegramExport:
    """An export of an account or of a chat. Raises `BrokenFile` for the kind in HTML."""

    account_hint = ""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.title = f"Telegram export {archive.path.name}"
        self.me: frozenset[str] = frozenset()
        self._parts = [name for name in archive.names if _RESULT.fullmatch(name)]
        if not self._parts and archive.is_single_file:
            self._parts = list(archive.names)
        if not self._parts:
            raise BrokenFile(
                f"{archive.path.name} is a Telegram export in HTML: export again and choose "
                '"Machine-readable JSON" as the format'
            )
        self._my_names: dict[str, str] = {}  # "@name" in lower case → person id
        for part in self._parts:
            self._look_for_me(part)

    def parts(self) -> Sequence[str]:
        return self._parts

    def records(self, part: str) -> Iterator[Record]:
        reading = _Reading(self.archive, part, self._my_names)
        try:
            for found, value in walk(read_events(self.archive, part)):
                if found is Found.MESSAGE:
                    if reading.chat_id:
                        yield reading.record(value)
                elif found is Found.CHAT:
                    reading.begin(value)
                elif found is Found.END:
                    yield from reading.end()
                else:
                    yield from reading.person(found, value)
        except BrokenFile:
            yield from reading.end()
            yield from reading.names()
            raise
        yield from reading.names()
        if reading.is_empty:
            raise BrokenFile(
                f"{part} has no chats in it: export again with chats chosen, as "
                '"Machine-readable JSON"'
            )

    def _look_for_me(self, part: str) -> None:
        """Who exported: said before the chats, or not at all."""
        try:
            for found, value in walk(read_events(self.archive, part), with_messages=False):
                if found is Found.ME and isinstance(value, dict):
                    if type(user_id := value.get("user_id")) is int:
                        self.me |= {f"user{user_id}"}
                        if isinstance(name := value.get("username"), str) and name:
                            self._my_names["@" + name.lstrip("@").lower()] = f"user{user_id}"
                    return
                if found is Found.CHAT:
                    return
        except BrokenFile:
            return  # `records` will say it


class _Reading:
    """What is known while one file is read."""

    def __init__(self, archive: Archive, part: str, my_names: dict[str, str]) -> None:
        self.archive = archive
        self.part = part
        self.folder = part.rpartition("/")[0]
        self.my_names = my_names
        self.is_empty = True
        self.chat_id = ""
        self.chats = 0
        self._people: dict[str, tuple[str, int, bool]] = {}  # id → name, newest time, is a bot
        self._headers: list[dict[str, Any]] | None = None
        self._mine = [name[1:].encode() for name in my_names]

    def begin(self, header: dict[str, Any]) -> None:
        """A chat's messages follow."""
        self.is_empty = False
        self.chats += 1
        if "id" not in header or "type" not in header:  # not in Telegram Desktop's order
            header = self._header_behind(self.chats) or header
        self.header = header
        self.chat_id = _native(header.get("id"))
        self.type = str(header.get("type") or "")
        self.kind = CHANNEL_KINDS.get(self.type, "group")
        self.name = str(header.get("name") or _OWN_NAMES.get(self.type, ""))
        self.bot = f"user{self.chat_id}" if self.type == "bot_chat" else ""
        self.place = 0
        self.newest = 0
        self.offset = 0
        self._topics: set[int] = set()
        self._topic_of: dict[int, int] = {}

    def end(self) -> Iterator[Record]:
        """The chat itself; nothing if none is under way."""
        if self.chats and not self.chat_id:
            why = "the chat has no id (a number): its messages cannot be imported"
            yield dead_letter(ValueError(why), f"{self.part}, chat {self.chats}", self.header)
        elif self.chat_id:
            name = self.name or ("Deleted Account" if self.kind == "dm" else self.chat_id)
            yield Channel(self.chat_id, name, self.kind, moment(self.newest))
        self.chat_id = ""
        if len(self._people) > _MOST_PEOPLE:
            yield from self.names()

    def names(self) -> Iterator[Person]:
        """Everybody who wrote, as the file calls them."""
        for person_id, (name, newest, is_bot) in self._people.items():
            handle = next((n[1:] for n, who in self.my_names.items() if who == person_id), "")
            yield Person(person_id, name, moment(newest), handle, is_bot)
        self._people.clear()

    def person(self, found: Found, value: Any) -> Iterator[Record]:
        """The owner, or somebody from the address book."""
        self.is_empty = False
        try:
            if type(user_id := value.get("user_id")) is not int:
                return  # in the address book, but not on Telegram
            name = " ".join(n for k in ("first_name", "last_name") if (n := value.get(k)))
            seen = value.get("date_unixtime")
            seen_at = datetime.fromtimestamp(int(seen), UTC) if seen else EPOCH
            person_id = f"user{user_id}"
            handle = next((n[1:] for n, who in self.my_names.items() if who == person_id), "")
            if name:
                yield Person(person_id, name, seen_at, handle)
        except Exception as error:  # whatever a stranger's record does to a parser
            yield dead_letter(error, f"{self.part}, {found.name.lower()}", value)

    def record(self, item: Any) -> Envelope | DeadLetter:
        self.place += 1
        try:
            return self._envelope(item)
        except Exception as error:  # whatever a stranger's record does to a parser
            where = f"{self.part}, chat {self.chat_id}, message {self.place}"
            return dead_letter(error, where, item)

    def _envelope(self, item: Any) -> Envelope:
        if not isinstance(item, dict):
            raise TypeError(f"a message should be an object, this is {type(item).__name__}")
        native = _native(item.get("id"))
        if not native:
            raise ValueError(
                "the message has no id: export it again"
                if item.get("id") is None
                else f"id should be a whole number, it is {item['id']!r}"
            )
        if item.get("type") == "unsupported" and "date" not in item:
            raise ValueError(
                "Telegram Desktop could not export this message: update it and export again"
            )
        added: dict[str, Any] = {}
        sent = self._sent(item, added)
        day = day_of(sent)
        version_at = edited_micros(item, added.get("offset", self.offset)) or sent
        day_of(version_at)
        if topic := self._topic(item, int(native)):
            added["topic"] = topic
        author, name = item.get("from_id"), item.get("from")
        if author is None:
            author, name = item.get("actor_id"), item.get("actor")
        if self.bot and author == self.bot:
            added["bot"] = True
        if isinstance(author, str) and isinstance(name, str):
            self._people[author] = name, max(sent, self.newest), bool(self.bot == author)
        self.newest = max(sent, self.newest)
        files = None
        for key in FILE_KEYS:
            path = item.get(key)
            if isinstance(path, str) and (inside := self._inside(path)) in self.archive:
                files = {**(files or {}), inside: ""}
        digest = version_digest(item, len(files) if files else 0)
        if self._mine and "text_entities" in item:
            self._resolve_mine(item, added)
        if added:
            item["communicator"] = added
        return Envelope(
            day,
            f"{self.chat_id}:{native}",
            self.chat_id,
            self.kind,
            "message",
            version_at,
            digest,
            orjson.dumps(item, default=float),
            orjson.dumps(files).decode() if files else None,
            self.part,
        )

    def _sent(self, item: dict[str, Any], added: dict[str, Any]) -> int:
        sent = sent_micros(item, self.offset)
        date = item.get("date")
        if isinstance(date, str):
            if "date_unixtime" not in item:
                added["offset"] = self.offset
            elif self.newest == 0 or not self.offset:
                self.offset = (_local_micros(date) - sent) // 1_000_000
        return sent

    def _topic(self, item: dict[str, Any], native: int) -> int | None:
        """The topic of a forum that a message stands in; None in General and elsewhere."""
        if item.get("action") == "topic_created":
            self._topics.add(native)
            return None
        if not self._topics or item.get("reply_to_peer_id") is not None:
            return None
        answered = item.get("reply_to_message_id")
        if not isinstance(answered, int):
            return None
        topic = answered if answered in self._topics else self._topic_of.get(answered)
        if topic is not None:
            self._topic_of[native] = topic
            if len(self._topic_of) > _MOST_KNOWN:  # the oldest: answers are mostly to new ones
                del self._topic_of[next(iter(self._topic_of))]
        return topic

    def _resolve_mine(self, item: dict[str, Any], added: dict[str, Any]) -> None:
        people = {}
        for entity in item["text_entities"] or ():
            if isinstance(entity, dict) and entity.get("type") == "mention":
                name = str(entity.get("text"))
                if name.lower() in self.my_names:
                    people[name] = self.my_names[name.lower()]
        if people:
            added["people"] = people

    def _inside(self, path: str) -> str:
        return f"{self.folder}/{path}" if self.folder else path

    def _header_behind(self, place: int) -> dict[str, Any] | None:
        """What the file says of a chat behind its messages: read once, for all chats."""
        if self._headers is None:
            self._headers = []
            try:
                for found, value in walk(read_events(self.archive, self.part), with_messages=False):
                    if found is Found.END:
                        self._headers.append(value)
            except BrokenFile:
                pass  # the reading that is under way will come to the same place
        return self._headers[place - 1] if place <= len(self._headers) else None


def version_digest(item: dict[str, Any], files: int = 0) -> int:
    """64 bits over what makes this version of a message differ from another one, however it came:
    an export and what was read live agree. `files` counts those that the export holds."""
    lasting: dict[str, Any] = {k: v for k, v in item.items() if k not in _VOLATILE}
    if files:
        lasting["files"] = files
    if "reactions" in item:
        lasting["reactions"] = _counted(item["reactions"])
    if "poll" in item:
        lasting["poll"] = _asked(item["poll"])
    return xxhash.xxh3_64_intdigest(orjson.dumps(lasting, default=float))


def sent_micros(item: dict[str, Any], offset: int = 0) -> int:
    """When a message was sent; `offset` is how many seconds its `date` is ahead of UTC."""
    if (unixtime := item.get("date_unixtime")) is not None:
        return _seconds(unixtime, "date_unixtime") * 1_000_000
    if (date := item.get("date")) is None:
        raise ValueError("the message has no date: export it again")
    if not isinstance(date, str):
        raise TypeError(f"date should be a text such as 2026-11-03T09:12:44, it is {date!r}")
    return _local_micros(date) - offset * 1_000_000


def edited_micros(item: dict[str, Any], offset: int | None = None) -> int:
    """When a message was edited; 0 if it was not."""
    if (unixtime := item.get("edited_unixtime")) is not None:
        return _seconds(unixtime, "edited_unixtime") * 1_000_000
    edited = item.get("edited")
    # Until 2019 every message had `edited`; 1970 meant that it had not been.
    if not isinstance(edited, str) or edited.startswith("1970-"):
        return 0
    if offset is None:
        offset = (item.get("communicator") or {}).get("offset") or 0
    return _local_micros(edited) - offset * 1_000_000


def _local_micros(date: str) -> int:
    try:
        when = datetime.fromisoformat(date)
    except ValueError:
        raise ValueError(f"date should look like 2026-11-03T09:12:44, it is {date!r}") from None
    return micros_of(when if when.tzinfo else when.replace(tzinfo=UTC))


def _seconds(value: Any, name: str) -> int:
    if type(value) is int or (isinstance(value, str) and value.isascii() and value.isdigit()):
        return int(value)
    raise ValueError(f"{name} should be whole seconds as a text, it is {value!r}")


def _native(value: Any) -> str:
    """An id of Telegram's, which are whole numbers, as text; "" for anything else."""
    return str(value) if type(value) is int and abs(value) < 2**63 else ""


def _counted(reactions: Any) -> Any:
    """Reactions without who gave them last."""
    if not isinstance(reactions, list):
        return reactions
    return [
        {k: v for k, v in r.items() if k != "recent"} if isinstance(r, dict) else r
        for r in reactions
    ]


def _asked(poll: Any) -> Any:
    """A poll without its votes."""
    if not isinstance(poll, dict):
        return poll
    answers = poll.get("answers")
    offered = [a.get("text") if isinstance(a, dict) else a for a in answers or ()]
    return [poll.get("question"), offered, poll.get("closed")]
