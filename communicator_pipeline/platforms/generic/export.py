"""JSONL files as an export: `docs/jsonl.md` is the contract, this module keeps it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
import xxhash

from communicator_pipeline.platforms import Record
from communicator_pipeline.platforms.archive import Archive, BrokenFile
from communicator_pipeline.platforms.instants import day_of, iso_micros, moment
from communicator_pipeline.platforms.lines import LONGEST_LINE, read_lines
from communicator_pipeline.platforms.rejected import dead_letter
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope

VERSION = 1
ORDER = "communicator_order"
KINDS = ("channel", "group", "dm", "feed")

_SUFFIX = re.compile(r"(?i)\.(?:jsonl|ndjson)(?:\.gz)?$")
_LONGEST_ID = 500  # characters
_LONGEST_FIRST_LINE = 64 * 1024
_VOLATILE = frozenset(("author_name", "channel_name", "channel_kind"))
_MOST_PEOPLE = 50_000  # names that are held back until their newest spelling is known

_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "text": (str, "a text"),
    "author": (str, "a text"),
    "author_name": (str, "a text"),
    "channel_name": (str, "a text"),
    "author_is_bot": (bool, "true or false"),
    "deleted": (bool, "true or false"),
    "mentions": (list, "a list of author ids"),
    "attachments": (list, "a list"),
    "reactions": ((dict, list), 'an object such as {"👍": 2}'),
}


def is_jsonl(archive: Archive) -> bool:
    """Files named `.jsonl` or `.ndjson` and nothing else, or a file that begins like one."""
    if archive.names and all(_SUFFIX.search(name) for name in archive.names):
        return True
    if not archive.is_single_file:
        return False
    with archive.path.open("rb") as stream:
        first = stream.readline(_LONGEST_FIRST_LINE).removeprefix(b"\xef\xbb\xbf")
    try:
        item = orjson.loads(first)
    except orjson.JSONDecodeError:
        return False
    return isinstance(item, dict) and (
        "communicator_jsonl" in item or {"id", "channel", "sent_at"} <= item.keys()
    )


class JsonLines:
    """JSONL files, each a part."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.title = f"JSONL {archive.path.name}"
        self.account_hint = _SUFFIX.sub("", archive.path.name)
        self.me = frozenset(me for name in archive.names for me in self._owners(name))

    def parts(self) -> Sequence[str]:
        return self.archive.names

    def records(self, part: str) -> Iterator[Record]:
        return read_messages(read_lines(self.archive, part), part)

    def _owners(self, name: str) -> Iterator[str]:
        """Whom the first line names as the owner."""
        try:
            _, line = next(read_lines(self.archive, name), (0, b""))
            item = orjson.loads(line or b"{}")
        except (BrokenFile, orjson.JSONDecodeError):
            return  # `records` will say it
        if isinstance(item, dict) and "communicator_jsonl" in item:
            me = item.get("me")
            yield from (p for p in (me if isinstance(me, list) else [me]) if isinstance(p, str))


def read_messages(
    lines: Iterable[tuple[int, bytes | None]], part: str, stage: str = "import"
) -> Iterator[Record]:
    """What numbered lines hold (None: one that is too long): messages, and who and where they name.
    Raises `BrokenFile` for a version of the format that is not this one, or as `lines` does."""
    people: dict[str, tuple[str, int, bool]] = {}
    channels: dict[str, tuple[str, str, int]] = {}
    moments: dict[str, tuple[int, int]] = {}  # channel → newest time, how many lines told it
    try:
        for number, line in lines:
            where = f"{part}, line {number}"
            if line is None:
                yield DeadLetter(stage, where, f"the line is longer than {LONGEST_LINE >> 20} MB")
                continue
            if not line.strip():
                continue
            try:
                item = _parsed(line)
                if isinstance(item, dict) and "communicator_jsonl" in item:
                    _check_version(item, part)
                    continue
                envelope = _in_order(_envelope(item, part), item, moments)
            except BrokenFile:
                raise
            except Exception as error:  # whatever a stranger's record does to a parser
                yield dead_letter(error, where, line, stage=stage)
                continue
            _remember(item, envelope, people, channels)
            yield envelope
            if len(people) + len(channels) > _MOST_PEOPLE:
                yield from _names(people, channels)
    except BrokenFile:
        yield from _names(people, channels)
        raise
    yield from _names(people, channels)


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(
            f"the line is not valid JSON ({error}): write one object per line"
        ) from None


def _check_version(header: dict[str, Any], part: str) -> None:
    version = header["communicator_jsonl"]
    if version != VERSION or isinstance(version, bool):
        raise BrokenFile(
            f"{part} is written in version {version!r} of the format, this Communicator reads "
            f"version {VERSION}: update it"
        )


def _envelope(item: Any, part: str) -> Envelope:
    if not isinstance(item, dict):
        raise TypeError(f"a line should hold an object, this is {type(item).__name__}")
    native, channel = _id(item, "id"), _id(item, "channel")
    for key in ("thread_id", "reply_to"):
        if item.get(key) is not None:
            _id(item, key)
    for key, (kind, words) in _TYPES.items():
        if item.get(key) is not None and not isinstance(item[key], kind):
            raise TypeError(f"{key} should be {words}, it is {_spelled(item[key])}")
    deleted = bool(item.get("deleted"))
    if not deleted and item.get("text") is None and not item.get("attachments"):
        raise ValueError("the message has neither text nor attachments")
    if item.get("kind") not in (None, "message", "system"):
        raise ValueError(f"kind should be message or system, it is {_spelled(item['kind'])}")
    if item.get("channel_kind") not in (None, *KINDS):
        raise ValueError(
            f"channel_kind should be one of {', '.join(KINDS)}, it is "
            f"{_spelled(item['channel_kind'])}"
        )
    if not deleted and item.get("author") is None and item.get("kind") != "system":
        raise KeyError("author")
    sent = _time(item, "sent_at")
    edited = _time(item, "edited_at") if item.get("edited_at") is not None else sent
    day_of(edited)
    lasting = {key: value for key, value in item.items() if key not in _VOLATILE}
    digest = xxhash.xxh3_64_intdigest(orjson.dumps(lasting, option=orjson.OPT_SORT_KEYS))
    return Envelope(
        day_of(sent),
        f"{channel}:{native}",
        channel,
        item.get("channel_kind") or "channel",
        "deletion" if deleted else "message",
        edited,
        digest,
        orjson.dumps(item),
        None,
        part,
    )


def _in_order(
    envelope: Envelope, item: dict[str, Any], moments: dict[str, tuple[int, int]]
) -> Envelope:
    """The envelope, with its place among the channel's messages of the same moment.

    Many sources tell seconds or minutes only: within one, the file's order is the order. It
    stands in the payload and not in the digest, so that the same message elsewhere is the same.
    """
    sent = iso_micros(item["sent_at"])
    newest, nth = moments.get(envelope.channel_id, (0, 0))
    nth = nth + 1 if sent == newest else 0
    moments[envelope.channel_id] = sent, nth
    if nth == 0:
        return envelope
    return envelope._replace(payload=orjson.dumps(item | {ORDER: nth}))


def _id(item: dict[str, Any], key: str) -> str:
    if item.get(key) is None:
        raise KeyError(key)
    value = item[key]
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise TypeError(
            f'{key} should be a text, it is the number {_spelled(value)}: write "{value}", for '
            "numbers lose digits on their way"
        )
    if not isinstance(value, str):
        raise TypeError(f"{key} should be a text, it is {_spelled(value)}")
    if not 0 < len(value) <= _LONGEST_ID or not value.isprintable():
        raise ValueError(f"{key} should be 1 to {_LONGEST_ID} printable characters")
    return value


def _time(item: dict[str, Any], key: str) -> int:
    value = item.get(key)
    if value is None:
        raise KeyError(key)
    if not isinstance(value, str):
        raise TypeError(f"{key} should be a text such as 2026-11-03T09:12:44Z, it is {value!r:.80}")
    try:
        return iso_micros(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _spelled(value: Any) -> str:
    return orjson.dumps(value).decode()[:80]


def _remember(
    item: dict[str, Any],
    envelope: Envelope,
    people: dict[str, tuple[str, int, bool]],
    channels: dict[str, tuple[str, str, int]],
) -> None:
    at, author = envelope.version_at, item.get("author")
    if author:
        # Without a name the id is all that people can be found by; any name told later wins.
        name, said_at = item.get("author_name"), at
        if not name:
            name, said_at = author, 0
        known = people.get(author)
        if known is None or known[1] <= said_at:
            people[author] = name, said_at, bool(item.get("author_is_bot"))
    channel = envelope.channel_id
    name = item.get("channel_name") or (channels[channel][0] if channel in channels else channel)
    if channel not in channels or channels[channel][2] <= at:
        channels[channel] = name, envelope.channel_kind, at


def _names(
    people: dict[str, tuple[str, int, bool]], channels: dict[str, tuple[str, str, int]]
) -> Iterator[Person | Channel]:
    for person_id, (name, at, is_bot) in people.items():
        yield Person(person_id, name, moment(at), is_bot=is_bot)
    for channel_id, (name, kind, at) in channels.items():
        yield Channel(channel_id, name, kind, moment(at))
    people.clear()
    channels.clear()
