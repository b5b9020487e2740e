"""`analyses`: what is thought about each conversation, as of the end of each active day."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import xxhash

from communicator_pipeline.analysis import (
    DEFAULT_TAXONOMY,
    Analysis,
    OfflineAnalyser,
    Taxonomy,
)
from communicator_pipeline.chain import conversations
from communicator_pipeline.chain.ripples import mark_all, mark_later_days
from communicator_pipeline.chain.scope import MonthReport, Scope
from communicator_pipeline.chain.transcripts import Transcripts
from communicator_pipeline.messages import TIME, Transcript, table_schema
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import account_owner
from communicator_pipeline.storage.connections import muted_chats
from communicator_pipeline.storage.dead_letters import (
    MOST_TRIES,
    DeadLetter,
    note_failure,
    resolve,
)
from communicator_pipeline.storage.lake import AccountMonth, Manifest, NewDays
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
        ("model", pa.string()),
        ("input_digest", pa.string()),  # of all that the analysis rests on: equal, not redone
    ]
)

STAGE = "analyses"

MUTED = "you have muted the chat"

_BANDS = ("0-19", "20-39", "40-59", "60-79", "80-100")

PREVIEWED = 3
"""Conversations per day whose summaries a preview shows."""


def materialise(stores: Stores, partition: AccountMonth, scope: Scope) -> MonthReport:
    """Analyse the conversations that were active on the month's days. One whose input is the
    same as when it was last analysed keeps its row; one that fails is tried three times, then
    buried, and the rest goes on."""
    settings = Settings(stores.database, account_owner(stores.database, partition.account))
    taxonomy = taxonomy_of(settings)
    analyser = _analyser(taxonomy, settings.priority_people())
    fingerprint = _fingerprint(analyser, taxonomy, settings.priority_people())
    muted = muted_chats(stores.database, partition.account)
    numbers: Counter[str] = Counter()
    counts: dict[str, Counter[str]] = {}
    processed: list[str] = []
    failed: list[DeadLetter] = []
    worked: list[DeadLetter] = []
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
        continued.clear()
        preview.clear()
        transcripts = Transcripts.of_days(stores, partition.account, processed)
        tables: dict[str, pa.Table] = {}
        for day in processed:
            old = stores.lake.rows_by("conversation_id", ASSET, partition, manifest, day)
            rows, fresh, broken = _analyse_day(
                analyser, fingerprint, muted, list(transcripts.of_day(day)), old, day
            )
            failed.extend(broken)
            worked.extend(_letter(row["conversation_id"], day) for row in fresh)
            continued.update(row["conversation_id"] for row in fresh)
            continued.update(set(old) - {row["conversation_id"] for row in rows})
            numbers["conversations"] += len(rows)
            numbers["analysed"] += len(fresh)
            numbers["kept"] += len(rows) - len(fresh)
            numbers["need a reply"] += sum(row["needs_reply"] for row in rows)
            for row in rows:
                counts["category"][row["category"]] += 1
                counts["language"][row["language"]] += 1
                counts["priority"][_BANDS[min(row["priority"] // 20, 4)]] += 1
            tables[day] = pa.Table.from_pylist(rows, schema=ANALYSIS_SCHEMA)
            first = sorted(rows, key=lambda row: -row["priority"])[:PREVIEWED]
            preview.extend(
                {"day": day, "conversation": row["conversation_id"], "summary": row["summary"]}
                for row in first
            )
        told = mark_later_days(
            stores,
            partition,
            scope,
            processed,
            conversations.ASSET,
            "conversation_id IN (SELECT id FROM changed)",
            continued,
            "a conversation that goes on there changed",
        )
        later.clear()
        later.update(told)
        return tables

    manifest, changed = stores.lake.update(ASSET, partition, analyse_days)
    mark_all(stores, partition, later)
    _settle(stores, partition.account, failed, worked)
    numbers["failed"] = len(failed)
    return MonthReport(partition, manifest, processed, changed, dict(numbers), counts, preview)


def _analyse_day(
    analyser: OfflineAnalyser,
    fingerprint: str,
    muted: frozenset[str],
    transcripts: Sequence[Transcript],
    old: Mapping[str, Mapping[str, Any]],
    day: str,
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]], list[DeadLetter]]:
    """All rows of the day, those of them that were made now, and what failed."""
    rows: dict[str, Mapping[str, Any]] = {}
    due: list[tuple[Transcript, str]] = []
    for transcript in transcripts:
        if not any(transcript.people()):  # all of it was deleted: there is nothing to think about
            continue
        is_muted = transcript.channel_id in muted
        digest = input_digest(transcript, f"{fingerprint} muted" if is_muted else fingerprint)
        row = old.get(transcript.conversation_id)
        if row is not None and row["input_digest"] == digest:
            rows[transcript.conversation_id] = row
        else:
            due.append((transcript, digest))
    fresh: list[Mapping[str, Any]] = []
    broken: list[DeadLetter] = []
    for (transcript, digest), analysis in zip(due, _analyse(analyser, due), strict=True):
        if isinstance(analysis, Exception):
            reason = f"the conversation could not be analysed: {analysis}"
            broken.append(_letter(transcript.conversation_id, day, reason))
            continue
        if transcript.channel_id in muted:
            analysis = replace(
                analysis, needs_reply=False, needs_reply_reason=MUTED, waiting_since=None
            )
        fresh.append(_row(transcript, analysis, analyser, digest))
        rows[transcript.conversation_id] = fresh[-1]
    return [rows[key] for key in sorted(rows)], fresh, broken


def _analyse(
    analyser: OfflineAnalyser, due: Sequence[tuple[Transcript, str]]
) -> list[Analysis | Exception]:
    """All at once; and one by one if that fails, so that one cannot spoil the others."""
    try:
        return list(analyser.analyse([transcript for transcript, _ in due]))
    except Exception:
        answers: list[Analysis | Exception] = []
        for transcript, _ in due:
            try:
                answers.append(analyser.analyse_one(transcript))
            except Exception as error:
                answers.append(error)
        return answers


def taxonomy_of(settings: Settings) -> Taxonomy:
    """The categories that the user's conversations are sorted into."""
    value = settings.get("taxonomy")
    return DEFAULT_TAXONOMY if value is None else Taxonomy.model_validate(value)


_KEPT = threading.local()  # an analyser remembers words as it reads, so each thread has its own


def _analyser(taxonomy: Taxonomy, priority_people: frozenset[str]) -> OfflineAnalyser:
    """The thread's analyser if it still fits: its phrase table alone takes a tenth of a second."""
    kept: tuple[Taxonomy, frozenset[str], OfflineAnalyser] | None = getattr(_KEPT, "one", None)
    if kept is None or kept[:2] != (taxonomy, priority_people):
        kept = (taxonomy, priority_people, OfflineAnalyser(taxonomy, priority_people))
        _KEPT.one = kept
    return kept[2]


def _fingerprint(
    analyser: OfflineAnalyser, taxonomy: Taxonomy, priority_people: frozenset[str]
) -> str:
    people = ",".join(sorted(priority_people))
    return f"{analyser.name} {analyser.version} {taxonomy.model_dump_json()} {people}"


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


def _row(
    transcript: Transcript, analysis: Analysis, analyser: OfflineAnalyser, digest: str
) -> dict[str, Any]:
    said = list(transcript.people())
    return {name: getattr(analysis, name) for name in Analysis.__slots__} | {
        "as_of": transcript.as_of,
        "channel_id": transcript.channel_id,
        "started_at": transcript.turns[0].sent_at,
        "last_message_at": said[-1].sent_at,
        "last_author": said[-1].author_name,
        "message_count": len(transcript.turns) + transcript.left_out,
        "people": list(dict.fromkeys(turn.author_name for turn in said)),
        "model": f"{analyser.name} {analyser.version}",
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
