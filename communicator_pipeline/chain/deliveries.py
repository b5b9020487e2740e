"""`deliveries`: the ledger of what was approved in a month and what became of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
import pyarrow as pa

from communicator_pipeline.chain.scope import MonthReport, Scope
from communicator_pipeline.messages import TIME, table_schema
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.database import from_utc_text
from communicator_pipeline.storage.lake import AccountMonth, Manifest, NewDays

ASSET = "deliveries"

DELIVERY_SCHEMA = table_schema(
    [
        ("delivery_id", pa.string()),
        ("approval_id", pa.string()),
        ("conversation_id", pa.string()),
        ("part", pa.int32()),  # 1…parts
        ("parts", pa.int32()),
        ("state", pa.string()),
        # 'answered elsewhere', 'newer message', … for what was taken back; empty otherwise
        ("reason", pa.string()),
        ("automatic", pa.bool_()),  # approved by a policy
        ("edited", pa.bool_()),  # the draft's text was changed
        ("approved_by", pa.string()),
        ("approved_at", TIME),
        ("send_at", TIME),
        ("sent_at", TIME),
        ("confirmed_at", TIME),  # when its echo was seen
        ("attempts", pa.int32()),
        ("message_id", pa.string()),  # on the platform
        ("content_hash", pa.string()),
        ("source_version", pa.string()),
        ("source_message_ids", pa.list_(pa.string())),  # what the approver had seen
        ("draft_day", pa.string()),
        ("draft_version", pa.int32()),
    ]
)
"""One row per part; without its text, which is in the database and in the sent message."""

_ROWS = """
SELECT d.delivery_id, d.approval_id, a.conversation_id, d.number AS part, d.of AS parts, d.state,
    d.reason, a.automatic, a.edited, a.approved_by, a.approved_at, a.send_at, d.sent_at,
    d.confirmed_at, d.attempts, d.message_id, a.content_hash, a.source_version, a.seen, a.draft_day,
    a.draft_version
FROM deliveries AS d JOIN approvals AS a USING (approval_id)
WHERE d.account = ? AND a.approved_at >= ? AND a.approved_at < ?
ORDER BY a.approved_at, d.approval_id, d.number
"""
_TIMES = ("approved_at", "send_at", "sent_at", "confirmed_at")


def materialise(stores: Stores, partition: AccountMonth, scope: Scope) -> MonthReport:
    """Write the month's approvals as they stand, a file per day of approval."""
    counts: Counter[str] = Counter()
    days: dict[str, list[dict[str, Any]]] = {}

    def write(manifest: Manifest) -> NewDays:
        counts.clear()
        days.clear()
        month = partition.month
        rows = stores.database.execute(_ROWS, (partition.account, month, f"{month}-99"))
        for row in map(_typed, rows):
            counts[row["state"]] += 1
            days.setdefault(row["approved_at"].date().isoformat(), []).append(row)
        gone: dict[str, pa.Table | None] = dict.fromkeys(set(manifest.days) - set(days))
        return gone | {
            day: pa.Table.from_pylist(of_day, schema=DELIVERY_SCHEMA)
            for day, of_day in days.items()
        }

    manifest, changed = stores.lake.update(ASSET, partition, write)
    numbers = {"replies": float(sum(counts.values()))}
    return MonthReport(partition, manifest, sorted(days), changed, numbers, {"state": counts})


def months_with_replies(stores: Stores, account: str, since: str) -> list[str]:
    """The months in which replies were approved of which something has changed since a moment
    (UTC, as the database spells it)."""
    rows = stores.database.execute(
        "SELECT DISTINCT substr(a.approved_at, 1, 7) AS month FROM deliveries AS d "
        "JOIN approvals AS a USING (approval_id) WHERE d.account = ? AND d.changed_at >= ? "
        "ORDER BY month",
        (account, since),
    )
    return [row["month"] for row in rows]


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    times = {name: from_utc_text(row[name]) if row[name] else None for name in _TIMES}
    return {
        **row,
        **times,
        "automatic": bool(row["automatic"]),
        "edited": bool(row["edited"]),
        "source_message_ids": sorted(orjson.loads(row["seen"])),
    }
