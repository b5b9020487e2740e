"""`feedback`: what people did with an account's drafts, as history in the lake."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa

from communicator_pipeline.drafting.parts import changes, distance
from communicator_pipeline.messages import TIME, table_schema
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.feedback import Feedback, feedback_of_month, rows_by_month
from communicator_pipeline.storage.lake import AccountMonth, Manifest, NewDays

ASSET = "feedback"

FEEDBACK_SCHEMA = table_schema(
    [
        ("feedback_id", pa.string()),  # a digest of what it tells of
        ("conversation_id", pa.string()),
        # 'approved', 'edited', 'rejected', 'instructed', 'relabelled', 'merged', 'split'
        ("kind", pa.string()),
        ("user_id", pa.string()),
        ("at", TIME),
        ("taken_back", pa.bool_()),  # the approval was undone
        ("draft_text", pa.string()),  # texts without secrets
        ("final_text", pa.string()),  # of an approval or an edit
        # what became of the draft's tokens
        ("diff", pa.list_(pa.struct([("was", pa.string()), ("now", pa.string())]))),
        ("distance", pa.float64()),  # 0 (as it was)…1 (nothing left); null without a final text
        ("note", pa.string()),  # the instruction, the reason, the new label
        ("model", pa.string()),
        ("draft_day", pa.string()),
        ("draft_version", pa.int32()),
        ("category", pa.string()),
        ("language", pa.string()),
        ("rests_on", pa.list_(pa.string())),  # ids of the message answered, and of memories
        ("person_id", pa.string()),  # who was answered
    ]
)
"""One row per event, a file per day on which it happened, in the account's months: days that are
over are not written again."""

RECENT_MONTHS = 2
"""Months, this one included, whose events may still be taken back; older ones only grow."""


_DECISIONS = """
SELECT strftime("at", '%Y-%m') AS month, kind, distance FROM feedback WHERE NOT taken_back
QUALIFY kind NOT IN ('approved', 'edited', 'rejected') OR row_number() OVER (
    PARTITION BY conversation_id, draft_day, draft_version,
        kind IN ('approved', 'edited', 'rejected')
    ORDER BY "at" DESC, feedback_id) = 1
ORDER BY ALL
"""
"""The last that was done with each draft, and all else; nothing that was taken back."""


@dataclass
class FeedbackReport:
    """What an account's feedback amounts to, in numbers."""

    account: str
    rows: int = 0
    changed: list[str] = field(default_factory=list)  # days
    kinds: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(
        default_factory=Counter
    )  # month → drafts that were sent, edited or not
    unedited: Counter[str] = field(
        default_factory=Counter
    )  # month → those that were sent as drafted
    distances: list[float] = field(default_factory=list)  # of what was sent, 0…1

    @property
    def share_unedited(self) -> float | None:
        """The share of the drafts sent that were sent as drafted, 0…1; None without any."""
        return self.unedited.total() / self.sent.total() if self.sent else None

    @property
    def shares_by_month(self) -> list[tuple[str, float]]:
        """(month, the same of that month) of months in which something was sent, in order."""
        return [
            (month, round(self.unedited[month] / sent, 3))
            for month, sent in sorted(self.sent.items())
        ]


def materialise(stores: Stores, account: str, now: datetime | None = None) -> FeedbackReport:
    """Bring the account's events into the lake, and count them.

    Partitioned by account, since what is learnt from them is the account's; kept by month and day,
    so that an account with years of events does not write all of them for each new one.
    """
    report = FeedbackReport(account)
    recent = _recent(now or datetime.now(UTC))
    in_database = rows_by_month(stores.database, account)
    for month in sorted({*in_database, *stores.lake.months(ASSET, account)}):
        partition = AccountMonth(account, month)
        manifest = stores.lake.manifest(ASSET, partition)
        if manifest.rows != in_database.get(month, 0) or month in recent:
            write = partial(_days, stores, partition)
            manifest, changed = stores.lake.update(ASSET, partition, write)
            report.changed += changed
        report.rows += manifest.rows
    files = [address for address, _ in stores.lake.day_files(ASSET, account)]
    if files:
        _count(report, stores.lake.query(_DECISIONS, {"feedback": files}))
    return report


def _days(stores: Stores, partition: AccountMonth, manifest: Manifest) -> NewDays:
    rows: dict[str, list[dict[str, Any]]] = {}
    for event in feedback_of_month(stores.database, partition.account, partition.month):
        rows.setdefault(event.at.date().isoformat(), []).append(_row(event))
    gone: dict[str, pa.Table | None] = dict.fromkeys(set(manifest.days) - set(rows))
    return gone | {
        day: pa.Table.from_pylist(of_day, schema=FEEDBACK_SCHEMA) for day, of_day in rows.items()
    }


def _row(event: Feedback) -> dict[str, Any]:
    has_final = bool(event.final_text)
    return {name: value for name, value in asdict(event).items() if name in _NAMES} | {
        "diff": [asdict(one) for one in changes(event.draft_text, event.final_text)]
        if has_final
        else [],
        "distance": round(distance(event.draft_text, event.final_text), 3) if has_final else None,
    }


_NAMES = frozenset(FEEDBACK_SCHEMA.names)


def _count(report: FeedbackReport, decisions: pa.Table) -> None:
    for row in decisions.to_pylist():
        report.kinds[row["kind"]] += 1
        if row["kind"] in ("approved", "edited"):
            report.sent[row["month"]] += 1
            report.unedited[row["month"]] += row["kind"] == "approved"
            report.distances.append(row["distance"])


def _recent(now: datetime) -> set[str]:
    month = now.year * 12 + now.month - 1
    return {
        f"{(month - back) // 12:04d}-{(month - back) % 12 + 1:02d}" for back in range(RECENT_MONTHS)
    }
