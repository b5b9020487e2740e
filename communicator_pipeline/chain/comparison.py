"""`comparison`: the variant's side partitions against the live ones, and against what people did.

Belongs here: reading both ways, drafting again what people answered, writing the rows. Does not
belong here: the figures (`comparing/`), which comparisons there are (`shadows.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from communicator_pipeline.analysis import Analysis
from communicator_pipeline.analysis.suspicion import without_secrets
from communicator_pipeline.chain import analyses, drafted_replies
from communicator_pipeline.chain.drafted_replies import memories_for
from communicator_pipeline.chain.scope import MonthReport, Scope
from communicator_pipeline.chain.shadows import ANSWERS, PAIRS, Shadow, keep_report
from communicator_pipeline.chain.transcripts import Transcripts
from communicator_pipeline.chain.variants import Variant, analyser_of, drafter_of
from communicator_pipeline.comparing.figures import (
    Comparison,
    Flip,
    category_flips,
    compared,
    in_numbers,
    outcome_flips,
)
from communicator_pipeline.comparing.holding_out import answers_given, is_held_out, not_held_out
from communicator_pipeline.comparing.pairing import paired
from communicator_pipeline.comparing.report import markdown
from communicator_pipeline.drafting.learning import distil
from communicator_pipeline.drafting.learnt import Chosen, Memory
from communicator_pipeline.drafting.parts import distance
from communicator_pipeline.language_model.provenance import Provenance
from communicator_pipeline.messages import LONGEST_TRANSCRIPT, TIME, Transcript, table_schema
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.comparisons import (
    category_labels,
    delivered_messages,
    held_out_salt,
)
from communicator_pipeline.storage.feedback import MOST_LEARNT_FROM, Feedback, feedback_of_account
from communicator_pipeline.storage.lake import AccountMonth, Manifest, NewDays
from communicator_pipeline.storage.memories import active_memories, spent

PAIR_SCHEMA = table_schema(
    [
        ("conversation_id", pa.string()),
        ("held_out", pa.bool_()),
        ("label", pa.string()),  # the category that a person set; null: nobody did
        ("live_category", pa.string()),  # null: a person's, and nobody knows what it was before
        ("variant_category", pa.string()),
        ("live_priority", pa.int32()),  # 0…100; null: a person's
        ("variant_priority", pa.int32()),
        ("live_needs_reply", pa.bool_()),
        ("variant_needs_reply", pa.bool_()),
        ("live_summary", pa.int32()),  # characters
        ("variant_summary", pa.int32()),
        ("live_outcome", pa.string()),  # of drafting, or 'not drafted'
        ("variant_outcome", pa.string()),
        ("draft_distance", pa.float64()),  # 0…1; null: one of them has no text
        ("analysis_stood_in", pa.string()),  # why the variant's model did not answer, or ""
        ("draft_stood_in", pa.string()),
    ]
)
"""One row per conversation and day that both ways have analysed."""

ANSWER_SCHEMA = table_schema(
    [
        ("feedback_id", pa.string()),
        ("conversation_id", pa.string()),
        ("at", TIME),  # when a person approved: the conversation is cut just before
        ("held_out", pa.bool_()),
        ("live_distance", pa.float64()),  # of the live draft to what was sent, 0…1
        ("variant_distance", pa.float64()),
        ("drafted", pa.bool_()),  # whether the variant would have drafted at all
        ("text", pa.string()),  # the variant's draft, without secrets; "" if there is none
        ("category", pa.string()),
        ("model", pa.string()),
        ("prompt", pa.string()),  # its version; "" where no model was asked
        ("stood_in", pa.string()),  # why the variant's model did not answer, or ""
    ]
)
"""One row per answer that a person sent, on the day on which they approved it."""

MOST_READ = 20_000
"""Events of an account, the newest: more than two years of a busy one's."""


def shadow_analyses(
    stores: Stores, partition: AccountMonth, scope: Scope, shadow: Shadow
) -> MonthReport:
    """Analyse under the variant, beside the live analyses."""
    return analyses.materialise(stores, partition, scope, shadow.variant(stores))


def shadow_drafts(
    stores: Stores, partition: AccountMonth, scope: Scope, shadow: Shadow
) -> MonthReport:
    """Draft under the variant, beside the live drafts."""
    return drafted_replies.materialise(stores, partition, scope, shadow.variant(stores))


def materialise(
    stores: Stores, partition: AccountMonth, scope: Scope, shadow: Shadow
) -> MonthReport:
    """Put both ways side by side, and draft again what people answered.

    Done again, or by two at once, it gives the same rows: what the model answered is kept."""
    variant = shadow.variant(stores)
    salt = held_out_salt(stores.database)
    processed: list[str] = []

    def pair_days(manifest: Manifest) -> NewDays:
        tables = _paired_days(stores, partition, scope, variant, salt)
        processed[:] = sorted({*tables, *scope.chosen(manifest.days)})
        return dict.fromkeys(processed) | tables

    def draft_answers_again(manifest: Manifest) -> NewDays:
        tables = _answers(stores, partition, scope, variant, salt)
        return dict.fromkeys(scope.chosen(manifest.days)) | tables

    answers, changed_answers = stores.lake.update(
        variant.asset(ANSWERS), partition, draft_answers_again
    )
    manifest, changed = stores.lake.update(variant.asset(PAIRS), partition, pair_days)
    for asset in (analyses.ASSET, drafted_replies.ASSET, ANSWERS, PAIRS):
        stores.lake.collect_garbage(variant.asset(asset), partition, datetime.now(UTC))
    pairs = _frame(stores, variant.asset(PAIRS), partition, manifest, PAIR_SCHEMA)
    sent = _frame(stores, variant.asset(ANSWERS), partition, answers, ANSWER_SCHEMA)
    return MonthReport(
        partition,
        manifest,
        processed,
        sorted({*changed, *changed_answers}),
        in_numbers(pairs, sent),
        {
            "category that became another": _counted(category_flips(pairs)),
            "outcome that became another": _counted(outcome_flips(pairs)),
        },
    )


def write_report(stores: Stores, account: str, shadow: Shadow) -> str:
    """Write the account's figures, of all its months, into the lake; returns the report."""
    written = markdown(shadow.name, shadow.changes, comparison_of(stores, [account], shadow.name))
    keep_report(stores, account, shadow.name, written)
    return written


def comparison_of(stores: Stores, accounts: Sequence[str], name: str) -> Comparison:
    """The figures of all that a comparison has made of these accounts."""
    pairs: list[pd.DataFrame] = []
    answers: list[pd.DataFrame] = []
    for account in accounts:
        for frames, asset, schema in (
            (pairs, PAIRS, PAIR_SCHEMA),
            (answers, ANSWERS, ANSWER_SCHEMA),
        ):
            kept_as = Variant(name).asset(asset)
            for month in stores.lake.months(kept_as, account):
                partition = AccountMonth(account, month)
                manifest = stores.lake.manifest(kept_as, partition)
                frames.append(_frame(stores, kept_as, partition, manifest, schema))
    return compared(_joined(pairs, PAIR_SCHEMA), _joined(answers, ANSWER_SCHEMA))


# --- both ways side by side ------------------------------------------------------------------


def _paired_days(
    stores: Stores, partition: AccountMonth, scope: Scope, variant: Variant, salt: str
) -> dict[str, pa.Table | None]:
    ways = [
        (asset, stores.lake.manifest(asset, partition))
        for name in (analyses.ASSET, drafted_replies.ASSET)
        for asset in (name, variant.asset(name))
    ]
    live, others = ways[0][1], ways[1][1]
    found = category_labels(stores.database, partition.account)
    labels = pd.DataFrame(
        [(key, label, before) for key, (label, before) in found.items()],
        columns=["conversation_id", "label", "analysed"],
    )
    tables: dict[str, pa.Table | None] = {}
    for day in scope.chosen(live.days.keys() & others.days.keys()):
        ours, theirs, our_drafts, their_drafts = (
            _rows(stores, asset, partition, manifest, day) for asset, manifest in ways
        )
        pairs = paired(ours, theirs, our_drafts, their_drafts, labels)
        pairs["held_out"] = [is_held_out(key, salt) for key in pairs["conversation_id"]]
        tables[day] = _table(pairs, PAIR_SCHEMA)
    return tables


def _rows(
    stores: Stores, asset: str, partition: AccountMonth, manifest: Manifest, day: str
) -> pd.DataFrame:
    if day not in manifest.days:
        return pd.DataFrame({"conversation_id": []})
    return pd.DataFrame(stores.lake.read_day(asset, partition, manifest.days[day]).to_pylist())


# --- what people answered, drafted again -----------------------------------------------------


@dataclass
class _Again:
    """An answer that a person sent, on its way to what the variant would have drafted."""

    event: Feedback
    transcript: Transcript
    analysis: Analysis | None = None
    text: str = ""
    made: Provenance = field(default_factory=lambda: Provenance(""))


def _answers(
    stores: Stores, partition: AccountMonth, scope: Scope, variant: Variant, salt: str
) -> dict[str, pa.Table | None]:
    """Day → its answers. Each conversation is cut just before the person's answer, understood and
    drafted for as the variant does it; the answer is not seen, nor what came after it."""
    account = partition.account
    events = feedback_of_account(stores.database, account, MOST_READ)
    wanted = [
        event
        for event in answers_given(events)
        if f"{event.at:%Y-%m}" == partition.month and scope.wants(f"{event.at:%Y-%m-%d}")
    ]
    if not wanted:
        return {}
    memories: list[Memory] = []
    if variant.memories:
        memories = _taught_by_the_rest(stores, account, events, salt)
    found = _cut(stores, account, variant, wanted)
    _analyse(stores, account, variant, found)
    _draft(stores, account, variant, found, memories)
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in found:
        if one.analysis is not None:
            rows[f"{one.event.at:%Y-%m-%d}"].append(_row(one, salt))
    return {day: pa.Table.from_pylist(of, schema=ANSWER_SCHEMA) for day, of in rows.items()}


def _taught_by_the_rest(
    stores: Stores, account: str, events: Sequence[Feedback], salt: str
) -> list[Memory]:
    """What the feedback on conversations that are not held out teaches, and what people wrote."""
    newest = not_held_out(events, salt)[-MOST_LEARNT_FROM:]
    written = [one for one in active_memories(stores.database, account) if one.by_person]
    known = {one.memory_id for one in written}
    learnt = distil(newest, spent(stores.database, account))
    return [*written, *(one for one in learnt if one.memory_id not in known)]


def _cut(
    stores: Stores, account: str, variant: Variant, events: Sequence[Feedback]
) -> list[_Again]:
    longest = analyser_of(stores, account, variant).longest or LONGEST_TRANSCRIPT
    transcripts = Transcripts.of_conversations(
        stores, account, {event.conversation_id for event in events}, longest
    )
    sent = delivered_messages(
        stores.database, account, (e.approval_id for e in events if e.approval_id)
    )
    found = []
    for event in events:
        without = sent.get(event.approval_id or "", frozenset())
        transcript = transcripts.before(event.conversation_id, event.at, without)
        if transcript is not None:
            found.append(_Again(event, transcript))
    return found


def _analyse(stores: Stores, account: str, variant: Variant, found: Sequence[_Again]) -> None:
    analyser = analyser_of(stores, account, variant)
    for one, answer in zip(found, analyser.analyse([one.transcript for one in found]), strict=True):
        if not isinstance(answer, Exception):
            one.analysis = answer.analysis
            one.made = answer.made


def _draft(
    stores: Stores,
    account: str,
    variant: Variant,
    found: Sequence[_Again],
    memories: Sequence[Memory],
) -> None:
    """Draft where the variant would: where it finds that a reply is needed. A memory that a
    person wrote counts for what was answered after it was written."""
    drafter = drafter_of(stores, account, variant)
    for batch in _one_of_each(found):
        items = []
        chosen: dict[str, Sequence[Chosen]] = {}
        for one, analysis in batch:
            known = [m for m in memories if not m.by_person or m.changed_at < one.event.at]
            items.append((one.transcript, analysis))
            chosen[one.transcript.conversation_id] = memories_for(known, one.transcript, analysis)
        for (one, _), drafted in zip(batch, drafter.draft(items, chosen), strict=True):
            one.text = without_secrets(drafted.draft.text)
            one.made = drafted.made


def _one_of_each(found: Sequence[_Again]) -> Iterator[list[tuple[_Again, Analysis]]]:
    """What is to be drafted, in batches without two of one conversation: a drafter is told by
    conversation which memories count."""
    by_conversation: dict[str, list[tuple[_Again, Analysis]]] = defaultdict(list)
    for one in found:
        if one.analysis is not None and one.analysis.needs_reply and not one.made.stood_in:
            by_conversation[one.event.conversation_id].append((one, one.analysis))
    most = max(map(len, by_conversation.values()), default=0)
    for place in range(most):
        yield [of[place] for of in by_conversation.values() if place < len(of)]


def _row(one: _Again, salt: str) -> dict[str, Any]:
    event, final = one.event, one.event.final_text.strip()
    assert one.analysis is not None
    return {
        "feedback_id": event.feedback_id,
        "conversation_id": event.conversation_id,
        "at": event.at,
        "held_out": is_held_out(event.conversation_id, salt),
        "live_distance": round(distance(event.draft_text.strip(), final), 4),
        "variant_distance": round(distance(one.text.strip(), final), 4),
        "drafted": bool(one.text),
        "text": one.text,
        "category": one.analysis.category,
        "model": one.made.model,
        "prompt": one.made.prompt,
        "stood_in": one.made.stood_in,
    }


# --- rows as data frames ---------------------------------------------------------------------


def _frame(
    stores: Stores, asset: str, partition: AccountMonth, manifest: Manifest, schema: pa.Schema
) -> pd.DataFrame:
    frames = []
    for day, entry in manifest.days.items():
        rows = stores.lake.read_day(asset, partition, entry).to_pandas()
        frames.append(rows.assign(day=day, account=partition.account))
    return _joined(frames, schema)


def _joined(frames: Sequence[pd.DataFrame], schema: pa.Schema) -> pd.DataFrame:
    """The frames one below the other; an empty one has the columns' types as well."""
    empty = schema.empty_table().to_pandas().assign(day="", account="")
    return pd.concat(frames, ignore_index=True) if frames else empty


def _table(rows: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    held = rows.astype(object).where(rows.notna(), None)
    return pa.Table.from_pylist(held.to_dict("records"), schema=schema)  # type: ignore[arg-type]


def _counted(flips: Sequence[Flip]) -> Mapping[str, int]:
    return {f"{flip.was} → {flip.now}": flip.count for flip in flips}
