"""`analyses`: what is thought about each conversation, as of the end of each active day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import xxhash

from communicator_pipeline.analysis import Analysis
from communicator_pipeline.analysis.by_model import Analyser
from communicator_pipeline.chain import conversations
from communicator_pipeline.chain.labelling import Labels, labelled, still_as_analysed
from communicator_pipeline.chain.ripples import mark_all, mark_later_days
from communicator_pipeline.chain.scope import MonthReport, Scope
from communicator_pipeline.chain.transcripts import Transcripts
from communicator_pipeline.chain.variants import LIVE, Variant, analyser_of, taxonomy_of
from communicator_pipeline.language_model import Usage
from communicator_pipeline.language_model.provenance import (
    COLUMNS,
    STOOD_IN,
    in_numbers,
    usage_of,
    with_provenance,
)
from communicator_pipeline.messages import (
    LONGEST_TRANSCRIPT,
    TIME,
    Transcript,
    table_schema,
)
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import account_owner
from communicator_pipeline.storage.connections import muted_chats
from communicator_pipeline.storage.corrections import labels
from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.dead_letters import (
    MOST_TRIES,
    DeadLetter,
    note_failure,
    resolve,
)
from communicator_pipeline.storage.lake import AccountMonth, Manifest, NewDays
from communicator_pipeline.storage.model_retries import retry_later
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.work import WorkQueue

ASSET = "analyses"

ANALYSIS_SCHEMA = table_schema(
    [
        ("conversation_id", pa.string()),
        ("as_of", TIME),  # the end of the day
        ("channel_id", pa.string()),
        ("started_at", TIME),
        ("last_message_at", TIME),
        ("last_author", pa.string()),
        ("message_count", pa.int32()),
        ("people", pa.list_(pa.string())),  # names, the first to speak first
        ("language", pa.string()),  # ISO 639-1, or 'und'
        ("category", pa.string()),
        ("category_reason", pa.string()),
        ("priority", pa.int32()),  # 0…100
        ("priority_reasons", pa.list_(pa.string())),
        ("needs_reply", pa.bool_()),
        ("needs_reply_score", pa.float64()),  # 0…1
        ("needs_reply_reason", pa.string()),
        ("waiting_since", TIME),  # null when no reply is needed
        ("summary", pa.string()),
        ("summary_message_ids", pa.list_(pa.string())),
        ("sentiment", pa.float64()),  # -1…1
        ("confidence", pa.float64()),  # 0…1
        ("flags", pa.list_(pa.string())),
        *COLUMNS,
    ]
)

STAGE = "analyses"

MUTED = "you have muted the chat"

_BANDS = ("0-19", "20-39", "40-59", "60-79", "80-100")

PREVIEWED = 3
"""Conversations per day whose summaries a preview shows."""


def materialise(
    stores: Stores, partition: AccountMonth, scope: Scope, variant: Variant = LIVE
) -> MonthReport:
    """Analyse the conversations that were active on the month's days. One whose input is the
    same as when it was last analysed keeps its row; one that fails is tried three times, then
    buried, and the rest goes on. What people set goes before what the analyser says.

    Where the offline analyser stood in for a model that may answer later, the day is tried again
    then. Another variant than the live one writes its own asset, and touches nothing else."""
    account = partition.account
    analyser = analyser_of(stores, account, variant)
    fingerprint = analyser.fingerprint()
    muted = muted_chats(stores.database, account)
    by_hand = Labels(
        labels(stores.database, account) if variant.is_live else {},
        categories_of(stores.database, account),
    )
    asset = variant.asset(ASSET)
    numbers: Counter[str] = Counter()
    counts: dict[str, Counter[str]] = {}
    processed: list[str] = []
    failed: list[DeadLetter] = []
    worked: list[DeadLetter] = []
    again: dict[str, str] = {}
    continued: set[str] = set()
    preview: list[dict[str, str]] = []
    later: dict[str, str] = {}

    def analyse_days(manifest: Manifest) -> NewDays:
        members = stores.lake.manifest(conversations.ASSET, partition)
        processed[:] = scope.chosen(members.days)
        numbers.clear()
        counts.clear()
        counts.update({name: Counter() for name in ("category", "language", "priority")})
        failed.clear()
        worked.clear()
        again.clear()
        continued.clear()
        preview.clear()
        transcripts = Transcripts.of_days(
            stores, account, processed, longest=analyser.longest or LONGEST_TRANSCRIPT
        )
        old = {
            day: stores.lake.rows_by("conversation_id", asset, partition, manifest, day)
            for day in processed
        }
        known = {day: still_as_analysed(rows, by_hand) for day, rows in old.items()}
        found = _analyse_days(analyser, fingerprint, muted, transcripts, known)
        failed.extend(found.failed)
        again.update(found.again)
        usage = Usage()
        tables: dict[str, pa.Table] = {}
        for day in processed:
            rows = [labelled(row, by_hand) for row in found.rows[day]]
            fresh = found.fresh[day]
            worked.extend(_letter(row["conversation_id"], day) for row in fresh)
            continued.update(row["conversation_id"] for row in fresh)
            continued.update(set(old[day]) - {row["conversation_id"] for row in rows})
            numbers["conversations"] += len(rows)
            numbers["analysed"] += len(fresh)
            numbers["kept"] += len(rows) - len(fresh)
            numbers["need a reply"] += sum(row["needs_reply"] for row in rows)
            numbers["stood in for a model"] += sum(bool(row["stood_in"]) for row in rows)
            for row in rows:
                usage += usage_of(row)
                counts["category"][row["category"]] += 1
                counts["language"][row["language"]] += 1
                counts["priority"][_BANDS[min(row["priority"] // 20, 4)]] += 1
            tables[day] = pa.Table.from_pylist(rows, schema=ANALYSIS_SCHEMA)
            first = sorted(rows, key=lambda row: -row["priority"])[:PREVIEWED]
            preview.extend(
                {"day": day, "conversation": row["conversation_id"], "summary": row["summary"]}
                for row in first
            )
        numbers.update(in_numbers(usage))
        later.clear()
        if variant.is_live:
            later.update(
                mark_later_days(
                    stores,
                    partition,
                    scope,
                    processed,
                    conversations.ASSET,
                    "conversation_id IN (SELECT id FROM changed)",
                    continued,
                    "a conversation that goes on there changed",
                )
            )
        return tables

    manifest, changed = stores.lake.update(asset, partition, analyse_days)
    if variant.is_live:
        mark_all(stores, partition, later)
        _settle(stores, account, failed, worked)
        retry_later(stores.database, account, again, processed)
    numbers["failed"] = len(failed)
    return MonthReport(partition, manifest, processed, changed, dict(numbers), counts, preview)


@dataclass
class _Found:
    """The rows of each day, those of them that were made now, and what is to be tried again."""

    rows: dict[str, list[Mapping[str, Any]]]
    fresh: dict[str, list[Mapping[str, Any]]]
    failed: list[DeadLetter] = field(default_factory=list)
    again: dict[str, str] = field(default_factory=dict)  # day → why


def _analyse_days(
    analyser: Analyser,
    fingerprint: str,
    muted: frozenset[str],
    transcripts: Transcripts,
    old: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> _Found:
    """All days' conversations; those that changed go to the analyser together, because a model
    answers many questions at once."""
    found = _Found({day: [] for day in old}, {day: [] for day in old})
    due: list[tuple[str, Transcript, str]] = []
    for day, known in old.items():
        for transcript in transcripts.of_day(day):
            if not any(transcript.people()):  # all of it was deleted: nothing to think about
                continue
            is_muted = transcript.channel_id in muted
            digest = input_digest(transcript, f"{fingerprint} muted" if is_muted else fingerprint)
            row = known.get(transcript.conversation_id)
            if row is not None and row["input_digest"] == digest:
                found.rows[day].append(with_provenance(row))
            else:
                due.append((day, transcript, digest))
    answers = analyser.analyse([transcript for _, transcript, _ in due])
    for (day, transcript, digest), answer in zip(due, answers, strict=True):
        if isinstance(answer, Exception):
            reason = f"the conversation could not be analysed: {answer}"
            found.failed.append(_letter(transcript.conversation_id, day, reason))
            continue
        if answer.made.passes:
            digest = f"{digest} {STOOD_IN}"
            found.again[day] = answer.made.stood_in
        analysis = answer.analysis
        if transcript.channel_id in muted:
            analysis = replace(
                analysis, needs_reply=False, needs_reply_reason=MUTED, waiting_since=None
            )
        row = _row(transcript, analysis, digest) | answer.made.columns()
        found.fresh[day].append(row)
        found.rows[day].append(row)
    for rows in found.rows.values():
        rows.sort(key=lambda row: str(row["conversation_id"]))
    return found


def categories_of(database: Database, account: str) -> tuple[str, ...]:
    """The names of the categories that an account's conversations are sorted into."""
    return taxonomy_of(Settings(database, account_owner(database, account))).names


def input_digest(transcript: Transcript, fingerprint: str) -> str:
    """Digest of what an analysis rests on: the conversation, who "me" is, and who analyses."""
    digest = xxhash.xxh3_128()
    digest.update(fingerprint.encode())
    for part in (
        transcript.channel_name,
        transcript.channel_kind,
        transcript.as_of.isoformat(),
        str(transcript.left_out),
        *sorted(transcript.me),
        *transcript.my_names,
    ):
        digest.update(part.encode() + b"\0")
    for turn in transcript.turns:
        digest.update(
            f"{turn.message_id}\0{turn.author_name}\0{turn.from_me}{turn.is_bot}{turn.deleted}\0"
            f"{turn.text}\0{turn.mentions}{turn.attachments}\0".encode(errors="surrogatepass")
        )
    return digest.hexdigest()


def _row(transcript: Transcript, analysis: Analysis, digest: str) -> dict[str, Any]:
    said = list(transcript.people())
    return {name: getattr(analysis, name) for name in Analysis.__slots__} | {
        "as_of": transcript.as_of,
        "channel_id": transcript.channel_id,
        "started_at": transcript.turns[0].sent_at,
        "last_message_at": said[-1].sent_at,
        "last_author": said[-1].author_name,
        "message_count": len(transcript.turns) + transcript.left_out,
        "people": list(dict.fromkeys(turn.author_name for turn in said)),
        "input_digest": digest,
    }


def _letter(conversation_id: str, day: str, reason: str = "") -> DeadLetter:
    return DeadLetter(STAGE, f"conversation {conversation_id} on {day}", reason, None, day)


def _settle(
    stores: Stores, account: str, failed: Sequence[DeadLetter], worked: Sequence[DeadLetter]
) -> None:
    """Have failures tried again until the third; close the letters of what works now."""
    for letter in failed:
        if note_failure(stores.database, account, letter) < MOST_TRIES:
            WorkQueue(stores.database).mark(account, [letter.day or ""], "an analysis failed")
    resolve(stores.database, account, worked)
