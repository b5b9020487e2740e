"""Envelopes → message versions. Pure: the same envelopes give the same rows, in any order.

Belongs here: which versions a message has had and which is the latest. Does not belong here:
reading the landing zone, writing the lake.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import pyarrow as pa

from communicator_pipeline.messages import MESSAGE_SCHEMA, Message
from communicator_pipeline.platforms import Arrived
from communicator_pipeline.storage.dead_letters import DeadLetter

Normalise = Callable[[Arrived], Message]

_VERSIONED = ("text", "deleted", "edited_at", "kind", "thread_id", "reply_to", "attachments")
"""What makes a version. A reaction more, or a name spelled anew, is the same version."""


def message_versions(
    envelopes: pa.Table, normalise: Normalise
) -> tuple[dict[str, pa.Table], list[DeadLetter]]:
    """Every version of every message: day → table (MESSAGE_SCHEMA), and what was not understood.

    `envelopes` has ENVELOPE_SCHEMA's columns, in order of arrival. A payload that cannot be
    understood becomes a dead letter; the message's other versions stay. Within a message the
    versions are in order of `version_at`, then of arrival; once deleted, it stays deleted,
    whatever older export is imported later.
    """
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    letters: list[DeadLetter] = []
    for day, versions, broken in _by_message(envelopes, normalise):
        rows[day].extend(versions)
        letters.extend(broken)
    tables = {}
    for day, of_day in rows.items():
        of_day.sort(key=lambda row: (row["sent_at"], row["message_id"], row["version"]))
        tables[day] = pa.Table.from_pydict(_columns(of_day), schema=MESSAGE_SCHEMA)
    return dict(sorted(tables.items())), letters


def _by_message(
    envelopes: pa.Table, normalise: Normalise
) -> Iterator[tuple[str, list[dict[str, Any]], list[DeadLetter]]]:
    order = envelopes.select(["message_id", "kind", "version_at"]).append_column(
        "arrival", pa.array(range(envelopes.num_rows), pa.int64())
    )
    # 'deletion' sorts before 'message': descending puts deletions behind every version.
    order = order.sort_by(
        [
            ("message_id", "ascending"),
            ("kind", "descending"),
            ("version_at", "ascending"),
            ("arrival", "ascending"),
        ]
    )
    table = envelopes.take(order["arrival"])
    names = "day message_id channel_id channel_kind kind digest payload files origin".split()
    current: str | None = None
    day = ""
    messages: list[Message] = []
    letters: list[DeadLetter] = []
    seen: set[tuple[str, int]] = set()
    for batch in table.select(names).to_batches(max_chunksize=10_000):
        columns = (batch.column(i).to_pylist() for i in range(len(names)))
        for (
            of_day,
            message_id,
            channel_id,
            channel_kind,
            kind,
            digest,
            payload,
            files,
            origin,
        ) in zip(*columns, strict=True):
            if message_id != current:
                if current is not None:
                    yield day, _versions(messages, day), letters
                current, day, messages, letters, seen = message_id, of_day, [], [], set()
            if (kind, digest) in seen:
                continue
            seen.add((kind, digest))
            try:
                arrived = Arrived(
                    message_id,
                    channel_id,
                    channel_kind,
                    kind,
                    orjson.loads(payload),
                    orjson.loads(files) if files else {},
                )
                messages.append(normalise(arrived))
            except Exception as error:  # whatever a stranger's payload does to a parser
                letters.append(
                    DeadLetter(
                        "raw_messages",
                        f"{message_id} ({origin})",
                        f"{type(error).__name__}: {error}",
                        payload.decode(errors="replace"),
                        of_day,
                    )
                )
    if current is not None:
        yield day, _versions(messages, day), letters


def _versions(messages: list[Message], day: str) -> list[dict[str, Any]]:
    """The rows of one message: what it was at first, and after each change.

    It was sent when the version says that the message's day comes from: a later word on the
    time does not move it to another day, for what stands on that day would have it twice.
    """
    rows: list[dict[str, Any]] = []
    said = [_utc(message.sent_at) for message in messages]
    sent_at = next((at for at in said if at.date().isoformat() == day), None)
    if sent_at is None:
        sent_at = datetime.fromisoformat(day).replace(tzinfo=UTC)
    for message in messages:
        row = _row(message) | {"sent_at": sent_at}
        if row["deleted"] and rows:
            row = _buried(rows[-1], row)
        if rows:
            _keep_contents(rows[-1]["attachments"], row["attachments"])
        if rows and all(rows[-1][name] == row[name] for name in _VERSIONED):
            row["version"] = rows[-1]["version"]
            rows[-1] = row
            continue
        row["version"] = len(rows) + 1
        rows.append(row)
    for row in rows:
        row["latest"] = row is rows[-1]
    return rows


def _keep_contents(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> None:
    """An export without its media folder says less, not something else: what was stored stays."""
    stored = {file["name"]: file for file in before if file["sha256"]}
    for file in now:
        if not file["sha256"] and file["name"] in stored:
            file["sha256"] = stored[file["name"]]["sha256"]


def _buried(before: Mapping[str, Any], tombstone: Mapping[str, Any]) -> dict[str, Any]:
    """A tombstone says little: who wrote the message is known from the version before."""
    return {
        **before,
        "text": "",
        "mentions": [],
        "attachments": [],
        "reactions": [],
        "deleted": True,
        "thread_id": before["thread_id"] or tombstone["thread_id"],
    }


def _row(message: Message) -> dict[str, Any]:
    return {
        "message_id": message.message_id,
        "channel_id": message.channel_id,
        "channel_kind": message.channel_kind,
        "sent_at": _utc(message.sent_at),
        "author_id": message.author_id,
        "author_name": message.author_name,
        "author_is_bot": message.author_is_bot,
        "kind": message.kind,
        "text": message.text,
        "thread_id": message.thread_id,
        "reply_to": message.reply_to,
        "mentions": list(message.mentions),
        "attachments": [
            {"name": a.name, "mime": a.mime, "bytes": a.bytes, "url": a.url, "sha256": a.sha256}
            for a in message.attachments
        ],
        "reactions": [{"name": name, "count": count} for name, count in message.reactions],
        "forwarded_from": message.forwarded_from,
        "edited_at": None if message.edited_at is None else _utc(message.edited_at),
        "deleted": message.deleted,
    }


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return moment.astimezone(UTC)


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in MESSAGE_SCHEMA.names}
