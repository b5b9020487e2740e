"""Slack's export: `users.json`, the lists of channels, and `<channel>/<YYYY-MM-DD>.json`.

https://slack.com/help/articles/220556107-How-to-read-Slack-data-exports (read 2026-11).
Old exports have neither `blocks` nor `client_msg_id`, and tell of edits by `message_changed`
items; new ones carry `edited` in the message itself. Both are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from communicator_pipeline.messages import ChannelKind
from communicator_pipeline.platforms import Record
from communicator_pipeline.platforms.archive import Archive, read_items, read_json
from communicator_pipeline.platforms.slack.payloads import (
    BROKEN,
    envelope,
    person,
    reason,
    shown,
)
from communicator_pipeline.storage.accounts import Channel
from communicator_pipeline.storage.dead_letters import DeadLetter

DIRECTORY = "users and channels"
_LISTS: tuple[tuple[str, ChannelKind], ...] = (
    ("channels.json", "channel"),
    ("groups.json", "group"),
    ("mpims.json", "group"),
    ("dms.json", "dm"),
)
_DAY_FILE = re.compile(r"(?P<folder>[^/]+)/(?P<day>\d{4}-\d\d-\d\d)\.json")


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
            except BROKEN as error:
                yield DeadLetter("import", f"{part}, item {place}", reason(error), shown(item))

    def _directory(self) -> Iterator[Record]:
        newest = max((m["day"] for m in self._days), default="1970-01-01")
        seen_at = datetime.fromisoformat(newest).replace(tzinfo=UTC)
        names = {}
        listed = "users.json" if "users.json" in self.archive else "org_users.json"
        for place, user in enumerate(read_items(self.archive, listed), start=1):
            try:
                known = person(user, seen_at)
            except BROKEN as error:
                source = f"{listed}, item {place}"
                yield DeadLetter("import", source, reason(error, "user"), shown(user))
                continue
            names[known.person_id] = known.name
            yield known
        for channel_id, title, kind in self._listed:
            spelled = ", ".join(names.get(member, member) for member in title.split(","))
            yield Channel(channel_id, title if kind == "channel" else spelled, kind, seen_at)


def _title(name: str, kind: ChannelKind, members: Any) -> str:
    if kind != "channel" and isinstance(members, list) and (kind == "dm" or "mpdm-" in name):
        return ",".join(str(member) for member in members)
    return name
