"""Slack's export: `users.json`, the lists of channels, and `<channel>/<YYYY-MM-DD>.json`.

https://slack.com/help/articles/220556107-How-to-read-Slack-data-exports (read 2026-11).
Old exports have neither `blocks` nor `client_msg_id`, and tell of edits by `message_changed`
items; new ones carry `edited` in the message itself. Both are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson
import xxhash

from communicator_pipeline.messages import ChannelKind
from communicator_pipeline.platforms import Record
from communicator_pipeline.platforms.archive import Archive, read_items, read_json
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope

DIRECTORY = "users and channels"
_LISTS: tuple[tuple[str, ChannelKind], ...] = (
    ("channels.json", "channel"),
    ("groups.json", "group"),
    ("mpims.json", "group"),
    ("dms.json", "dm"),
)
_DAY_FILE = re.compile(r"(?P<folder>[^/]+)/(?P<day>\d{4}-\d\d-\d\d)\.json")
_TS = re.compile(r"(\d{9,11})\.(\d{6})")

# Links to files in an export carry a token that opens them for anyone.
_FILE_TOKEN = re.compile(rb"[?&]t=xox[a-z]-[\w%-]+")

# What changes in a parent while replies come in, or in its author's profile: not the message.
_VOLATILE = frozenset(
    "reply_count reply_users reply_users_count latest_reply replies subscribed last_read "
    "user_profile unread_count is_locked".split()
)


class SlackExport:
    """A workspace export. Raises `BrokenFile` if its lists cannot be read."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.me: frozenset[str] = frozenset()  # an export does not say who asked for it
        self.title = f"Slack export {archive.path.name}"
        self.account_hint = re.sub(r"(?i)\b(slack|export)\b.*", "", archive.path.stem)
        self._days = [m for m in map(_DAY_FILE.fullmatch, archive.names) if m]
        self._channels: dict[str, tuple[str, ChannelKind]] = {}  # folder → id, kind
        self._listed: list[tuple[str, str, ChannelKind]] = []
        for name, kind in _LISTS:
            if name not in archive:
                continue
            for entry in read_json(archive, name):
                if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
                    continue
                title = str(entry.get("name") or entry["id"])
                self._channels[title] = self._channels[entry["id"]] = entry["id"], kind
                members = entry.get("members")
                self._listed.append((entry["id"], _title(title, kind, members), kind))

    def parts(self) -> Sequence[str]:
        return [DIRECTORY, *(match[0] for match in self._days)]

    def records(self, part: str) -> Iterator[Record]:
        if part == DIRECTORY:
            yield from self._directory()
            return
        folder = part.split("/")[0]
        channel_id, kind = self._channels.get(folder, (folder, "channel"))
        for place, item in enumerate(read_items(self.archive, part), start=1):
            try:
                yield envelope(item, channel_id, kind, part)
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
                yield DeadLetter("import", f"{part}, item {place}", _reason(error), _shown(item))

    def _directory(self) -> Iterator[Record]:
        newest = max((m["day"] for m in self._days), default="1970-01-01")
        seen_at = datetime.fromisoformat(newest).replace(tzinfo=UTC)
        names = {}
        listed = "users.json" if "users.json" in self.archive else "org_users.json"
        for place, user in enumerate(read_items(self.archive, listed), start=1):
            try:
                person = _person(user, seen_at)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                yield DeadLetter("import", f"{listed}, item {place}", _reason(error), _shown(user))
                continue
            names[person.person_id] = person.name
            yield person
        for channel_id, title, kind in self._listed:
            shown = ", ".join(names.get(member, member) for member in title.split(","))
            yield Channel(channel_id, title if kind == "channel" else shown, kind, seen_at)


def envelope(item: Any, channel_id: str, kind: str, origin: str) -> Envelope:
    """An export item or an event as an envelope.

    Raises KeyError, TypeError or ValueError, with a sentence, for what is no message.
    """
    if not isinstance(item, dict):
        raise TypeError(f"a message should be an object, this is {type(item).__name__}")
    what, subtype = "message", item.get("subtype")
    concerned, version = item, item.get("edited") or item
    if subtype == "message_changed":
        concerned = item["message"]
        version = concerned.get("edited") or item
        if concerned.get("subtype") == "tombstone":
            what = "deletion"
    elif subtype == "message_deleted":
        what, concerned = "deletion", {"ts": item["deleted_ts"]}
    elif subtype == "tombstone":
        what = "deletion"
    ts = concerned.get("ts")
    if not isinstance(ts, str):
        raise ValueError(
            "the message has no ts (its time and id)"
            if ts is None
            else f"ts should be a text, it is {ts!r}: as a number it has lost digits"
        )
    payload = orjson.dumps(item)
    if b"xox" in payload:
        payload = _FILE_TOKEN.sub(b"", payload)
    if _VOLATILE.isdisjoint(concerned):
        digest = xxhash.xxh3_64_intdigest(payload)
    else:
        lasting = {k: v for k, v in concerned.items() if k not in _VOLATILE}
        digest = xxhash.xxh3_64_intdigest(_FILE_TOKEN.sub(b"", orjson.dumps(lasting)))
    return Envelope(
        _day(micros(ts) // 86_400_000_000),
        f"{channel_id}:{ts}",
        channel_id,
        kind,
        what,
        micros(version.get("ts") or ts),
        digest,
        payload,
        None,
        origin,
    )


def micros(ts: str) -> int:
    """A Slack ts (`1355517523.000005`) in microseconds since 1970 UTC; raises ValueError."""
    if len(ts) == 17 and ts[10] == "." and ts.isascii():
        try:
            return int(ts[:10]) * 1_000_000 + int(ts[11:])
        except ValueError:
            pass
    match = _TS.fullmatch(ts)
    if not match:
        raise ValueError(f"ts should look like 1355517523.000005, it is {ts!r}")
    return int(match[1]) * 1_000_000 + int(match[2])


@lru_cache(maxsize=4096)
def _day(number: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=number)).isoformat()


def _person(user: dict[str, Any], seen_at: datetime) -> Person:
    profile = user.get("profile") or {}
    name = (
        profile.get("display_name")
        or profile.get("real_name")
        or user.get("real_name")
        or user.get("name")
        or user["id"]
    )
    updated = user.get("updated")
    if isinstance(updated, int) and updated > 0:
        seen_at = datetime.fromtimestamp(updated, UTC)
    if not isinstance(user["id"], str):
        raise TypeError(f"a user's id should be a text, it is {user['id']!r}")
    return Person(
        user["id"], str(name), seen_at, str(user.get("name") or ""), bool(user.get("is_bot"))
    )


def _title(name: str, kind: ChannelKind, members: Any) -> str:
    if kind != "channel" and isinstance(members, list) and (kind == "dm" or "mpdm-" in name):
        return ",".join(str(member) for member in members)
    return name


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the message has no {error.args[0]!r}"
    if isinstance(error, RecursionError) or "ecursion" in str(error):
        return "the message is nested too deep to be one"
    return str(error)


def _shown(item: Any) -> str:
    try:
        return _FILE_TOKEN.sub(b"", orjson.dumps(item)).decode()
    except (TypeError, RecursionError, orjson.JSONEncodeError):
        return "(cannot be shown: nested too deep, or not JSON)"
