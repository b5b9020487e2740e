"""`drafted_replies`: a proposed reply for each conversation that waits for the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from communicator_pipeline.analysis import Analysis
from communicator_pipeline.chain import analyses, conversations
from communicator_pipeline.chain.ripples import mark_all
from communicator_pipeline.chain.scope import MonthReport, Scope
from communicator_pipeline.chain.transcripts import Transcripts
from communicator_pipeline.drafting import OfflineDrafter, ReplyMemory
from communicator_pipeline.messages import Transcript, table_schema
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import account_owner
from communicator_pipeline.storage.lake import AccountMonth, Manifest, NewDays, texts
from communicator_pipeline.storage.settings import Settings

ASSET = "drafted_replies"

DRAFT_SCHEMA = table_schema(
    [
        ("conversation_id", pa.string()),
        ("version", pa.int32()),  # 1, and one more each time the day's draft changes
        ("outcome", pa.string()),  # 'ready', 'needs_fill' or 'no_reply'
        ("text", pa.string()),
        ("language", pa.string()),
        ("gaps", pa.list_(pa.string())),  # what a person has to fill in
        ("rests_on", pa.list_(pa.string())),  # message ids
        ("reason", pa.string()),
        ("flags", pa.list_(pa.string())),
        ("confidence", pa.float64()),  # 0…1
        ("model", pa.string()),
        ("input_digest", pa.string()),
    ]
)

OVERTAKEN = "a conversation that was drafted for went on"

MOST_REMEMBERED = 5_000
"""Conversations in which the owner answered, the newest: older ones speak of what was."""

_LAST_ACTIVE = """
SELECT conversation_id, max(strftime(sent_at, '%Y-%m-%d')) AS day FROM members
WHERE kind = 'message' AND conversation_id IN (SELECT conversation_id FROM asked)
GROUP BY conversation_id
"""


def materialise(stores: Stores, partition: AccountMonth, scope: Scope) -> MonthReport:
    """Draft for each conversation that needs a reply, on the day on which it was last active: a
    later day has the newer draft, or the user's own answer. A draft whose conversation has not
    changed stays as it is."""
    settings = Settings(stores.database, account_owner(stores.database, partition.account))
    numbers: Counter[str] = Counter()
    counts: dict[str, Counter[str]] = {}
    processed: list[str] = []
    preview: list[dict[str, str]] = []

    def draft_days(manifest: Manifest) -> NewDays:
        analysed = stores.lake.manifest(analyses.ASSET, partition)
        active = _active_on(stores, partition, analysed, scope)
        overtaken = _drafted_earlier(
            stores,
            partition,
            manifest,
            set(manifest.days) - set(scope.chosen(manifest.days)),
            active,
        )
        mark_all(stores, partition, dict.fromkeys(overtaken, OVERTAKEN))
        processed[:] = sorted({*scope.chosen({*analysed.days, *manifest.days}), *overtaken})
        numbers.clear()
        counts.clear()
        counts.update(outcome=Counter(), language=Counter())
        preview.clear()
        waiting = {
            day: _waiting(stores, partition, analysed, day)
            for day in processed
            if day in analysed.days
        }
        waiting = _on_their_last_day(stores, partition.account, waiting)
        days = [day for day, rows in waiting.items() if rows]
        asked = {conversation for rows in waiting.values() for conversation in rows}
        transcripts = Transcripts.of_days(stores, partition.account, days, asked)
        drafter: OfflineDrafter | None = None
        tables: dict[str, pa.Table | None] = dict.fromkeys(processed)
        for day in days:
            old = stores.lake.rows_by("conversation_id", ASSET, partition, manifest, day)
            due = []
            rows = []
            for transcript in transcripts.of_day(day):
                analysis = waiting[day].get(transcript.conversation_id)
                if analysis is None:
                    continue
                before = old.get(transcript.conversation_id)
                if before is not None and before["input_digest"] == analysis["input_digest"]:
                    rows.append(before)
                else:
                    due.append((transcript, analysis))
            if due:
                drafter = drafter or _drafter(stores, partition.account, settings)
                rows += _draft(drafter, due, old)
            rows.sort(key=lambda row: str(row["conversation_id"]))
            numbers["drafts"] += len(rows)
            numbers["drafted"] += len(due)
            counts["outcome"].update(row["outcome"] for row in rows)
            counts["language"].update(row["language"] for row in rows)
            preview.extend(
                {"day": day, "conversation": row["conversation_id"], "draft": row["text"]}
                for row in rows[:3]
            )
            tables[day] = pa.Table.from_pylist(rows, schema=DRAFT_SCHEMA)
        return tables

    manifest, changed = stores.lake.update(ASSET, partition, draft_days)
    _tell_earlier_months(stores, partition, scope)
    return MonthReport(partition, manifest, processed, changed, dict(numbers), counts, preview)


def _active_on(
    stores: Stores, partition: AccountMonth, analysed: Manifest, scope: Scope
) -> set[str]:
    """The conversations that were active on the days of the scope."""
    return {
        conversation
        for day in scope.chosen(analysed.days)
        for conversation in texts(
            stores.lake.read_day(analyses.ASSET, partition, analysed.days[day])["conversation_id"]
        )
    }


def _drafted_earlier(
    stores: Stores,
    partition: AccountMonth,
    manifest: Manifest,
    days: Collection[str],
    active: set[str],
) -> list[str]:
    """Those of the days that hold a draft for one of these conversations: it went on since, so
    the draft there is to go."""
    return [
        day
        for day, entry in manifest.days.items()
        if day in days
        and not active.isdisjoint(
            texts(stores.lake.read_day(ASSET, partition, entry)["conversation_id"])
        )
    ]


def _tell_earlier_months(stores: Stores, partition: AccountMonth, scope: Scope) -> None:
    """Mark the days of earlier months that hold drafts for conversations that went on."""
    analysed = stores.lake.manifest(analyses.ASSET, partition)
    active = _active_on(stores, partition, analysed, scope)
    for month in stores.lake.months(ASSET, partition.account):
        earlier = AccountMonth(partition.account, month)
        if month >= partition.month or earlier in scope.partitions or not active:
            continue
        drafts = stores.lake.manifest(ASSET, earlier)
        days = _drafted_earlier(stores, earlier, drafts, drafts.days, active)
        mark_all(stores, earlier, dict.fromkeys(days, OVERTAKEN))


def _waiting(
    stores: Stores, partition: AccountMonth, analysed: Manifest, day: str
) -> dict[str, dict[str, Any]]:
    table = stores.lake.read_day(analyses.ASSET, partition, analysed.days[day])
    waiting = table.filter(table["needs_reply"]).to_pylist()
    return {row["conversation_id"]: row for row in waiting}


def _on_their_last_day(
    stores: Stores, account: str, waiting: Mapping[str, dict[str, dict[str, Any]]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Without the conversations that went on later: theirs is the later day's draft."""
    asked = sorted({key for rows in waiting.values() for key in rows})
    if not asked:
        return dict(waiting)
    files = stores.lake.day_files(conversations.ASSET, account, first=min(waiting))
    found = stores.lake.query(
        _LAST_ACTIVE,
        {
            "members": [address for address, _ in files],
            "asked": pa.table({"conversation_id": asked}),
        },
    )
    last = dict(zip(texts(found["conversation_id"]), texts(found["day"]), strict=True))
    return {
        day: {key: row for key, row in rows.items() if last.get(key, day) <= day}
        for day, rows in waiting.items()
    }


def _drafter(stores: Stores, account: str, settings: Settings) -> OfflineDrafter:
    answered = Transcripts.answered(stores, account, MOST_REMEMBERED)
    return OfflineDrafter(ReplyMemory.from_transcripts(answered), signature=settings.signature())


def _draft(
    drafter: OfflineDrafter,
    due: Sequence[tuple[Transcript, dict[str, Any]]],
    old: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    drafts = drafter.draft([(transcript, _analysis(row)) for transcript, row in due])
    rows = []
    for (_, analysis), draft in zip(due, drafts, strict=True):
        before = old.get(draft.conversation_id)
        rows.append(
            asdict(draft)
            | {
                "version": before["version"] + 1 if before else 1,
                "model": f"{drafter.name} {drafter.version}",
                "input_digest": analysis["input_digest"],
            }
        )
    return rows


def _analysis(row: Mapping[str, Any]) -> Analysis:
    return Analysis(**{name: row[name] for name in Analysis.__slots__})
