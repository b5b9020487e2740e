"""`attachments`: the files of the messages, where they are and why not where they are not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from communicator_pipeline.chain import raw_messages
from communicator_pipeline.chain.scope import MonthReport, Scope
from communicator_pipeline.messages import table_schema
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.lake import AccountMonth, Manifest, NewDays, attachment_key

ASSET = "attachments"

ATTACHMENT_SCHEMA = table_schema(
    [
        ("message_id", pa.string()),
        ("position", pa.int32()),  # 0, 1, … within the message
        ("name", pa.string()),
        ("mime", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("state", pa.string()),  # 'stored'; 'remote': at `url`; 'missing': nowhere that we know
        ("url", pa.string()),
    ]
)


def materialise(stores: Stores, partition: AccountMonth, scope: Scope) -> MonthReport:
    """List the attachments of the latest versions. Contents were stored when they arrived, under
    their SHA-256: an export's files are gone once the user has deleted it, and URLs expire."""
    counts: Counter[str] = Counter()
    processed: list[str] = []

    def list_files(_: Manifest) -> NewDays:
        raw = stores.lake.manifest(raw_messages.ASSET, partition)
        processed[:] = scope.chosen(raw.days)
        counts.clear()
        tables = {}
        for day in processed:
            messages = stores.lake.read_day(raw_messages.ASSET, partition, raw.days[day])
            rows = _rows(stores, messages.select(["message_id", "attachments", "latest"]))
            counts.update(row["state"] for row in rows)
            tables[day] = pa.Table.from_pylist(rows, schema=ATTACHMENT_SCHEMA)
        return tables

    manifest, changed = stores.lake.update(ASSET, partition, list_files)
    return MonthReport(partition, manifest, processed, changed, dict(counts))


def _rows(stores: Stores, messages: pa.Table) -> list[dict[str, Any]]:
    rows = []
    for message in messages.filter(messages["latest"]).to_pylist():
        for position, file in enumerate(message["attachments"] or ()):
            stored = file["sha256"] and stores.lake.objects.exists(attachment_key(file["sha256"]))
            state = "stored" if stored else "remote" if file["url"] else "missing"
            where = {"message_id": message["message_id"], "position": position, "state": state}
            rows.append(file | where)
    return rows
