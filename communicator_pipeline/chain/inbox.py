"""`inbox`: the lake's days brought into the database, where people read them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from communicator_pipeline.chain import (
    analyses,
    attachments,
    conversations,
    drafted_replies,
    raw_messages,
)
from communicator_pipeline.chain.scope import MonthReport, Scope
from communicator_pipeline.language_model.provenance import with_provenance
from communicator_pipeline.messages import resolve_names
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import directory
from communicator_pipeline.storage.inbox import PublishedDay, publish, published
from communicator_pipeline.storage.lake import AccountMonth, Manifest

ASSET = "inbox"

_UNREAD = {
    raw_messages.ASSET: ("channel_kind", "mentions", "forwarded_from", "latest"),
    conversations.ASSET: ("sent_at", "kind"),
    analyses.ASSET: ("input_digest", "input_tokens", "output_tokens", "cost_usd"),
    drafted_replies.ASSET: ("input_digest", "input_tokens", "output_tokens", "cost_usd"),
}
"""The sources, and their columns that the database does not have: making Python values of them
would be for nothing."""

_SOURCES = tuple(_UNREAD)


def materialise(stores: Stores, partition: AccountMonth, scope: Scope) -> MonthReport:
    """Bring the month's days into the database, each in one atomic batch.

    A day whose files are those that are there already costs nothing; one that a newer run has
    brought in meanwhile is left alone.
    """
    # The manifests are read before the database: what is published is at least as new as the
    # generation says, and an older run that comes late is refused by the database.
    manifests = {
        asset: stores.lake.manifest(asset, partition) for asset in (*_SOURCES, attachments.ASSET)
    }
    generation = max(manifest.generation for manifest in manifests.values())
    raw = manifests[raw_messages.ASSET]
    there = published(stores.database, partition)
    names = directory(stores.database, partition.account)
    processed = scope.chosen({*raw.days, *there})
    changed = []
    numbers: Counter[str] = Counter()
    for day in processed:
        digest = _digest(manifests, day)
        if there.get(day) == digest:
            numbers["unchanged days"] += 1
            continue
        rows = {asset: _rows(stores, asset, partition, manifests[asset], day) for asset in _SOURCES}
        result = publish(
            stores.database,
            PublishedDay(
                partition.account,
                day,
                generation,
                digest,
                _messages(
                    rows[raw_messages.ASSET],
                    rows[conversations.ASSET],
                    names,
                    attachments.contents(stores, partition, manifests[attachments.ASSET], day),
                ),
                rows[analyses.ASSET],
                rows[drafted_replies.ASSET],
            ),
        )
        if result:
            changed.append(day)
            numbers["messages"] += len(rows[conversations.ASSET])
            numbers["conversations"] += len(rows[analyses.ASSET])
            numbers["drafts"] += len(rows[drafted_replies.ASSET])
        else:
            numbers["days that a newer run had brought in"] += 1
    return MonthReport(partition, raw, processed, changed, dict(numbers))


def _digest(manifests: dict[str, Manifest], day: str) -> str:
    parts = [m.days[day].digest if day in m.days else "" for m in manifests.values()]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _rows(
    stores: Stores, asset: str, partition: AccountMonth, manifest: Manifest, day: str
) -> list[dict[str, Any]]:
    if day not in manifest.days:
        return []
    table: pa.Table = stores.lake.read_day(asset, partition, manifest.days[day])
    if asset == raw_messages.ASSET:
        table = table.filter(table["latest"])
    table = table.drop_columns([name for name in _UNREAD[asset] if name in table.column_names])
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            texts = pc.strftime(table.column(place), format="%Y-%m-%dT%H:%M:%SZ")
            table = table.set_column(place, field.name, texts)
    rows = table.to_pylist()
    if asset in (analyses.ASSET, drafted_replies.ASSET) and "stood_in" not in table.column_names:
        return [with_provenance(row) for row in rows]
    return rows


def _messages(
    raw: list[dict[str, Any]],
    membership: list[dict[str, Any]],
    names: dict[str, str],
    contents: Mapping[attachments.Place, str],
) -> list[dict[str, Any]]:
    linked = {row["message_id"]: row for row in membership}
    rows = []
    for message in raw:
        link = linked.get(message["message_id"])
        if link is None:  # landed after the grouping ran: its own run brings it in
            continue
        for position, file in enumerate(message["attachments"] or ()):
            file["sha256"] = contents.get((message["message_id"], position), file["sha256"])
        rows.append(message | link | {"text": resolve_names(message["text"], names)})
    return rows
