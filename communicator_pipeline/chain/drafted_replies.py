"""`drafted_replies`: a proposed reply for each conversation that waits for the user."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from communicator_pipeline.analysis import Analysis
from communicator_pipeline.chain import analyses, conversations
from communicator_pipeline.chain.ripples import mark_all
from communicator_pipeline.chain.scope import MonthReport, Scope
from communicator_pipeline.chain.transcripts import Transcripts, days_of
from communicator_pipeline.chain.variants import LIVE, Variant, drafter_of
from communicator_pipeline.drafting import refusals
from communicator_pipeline.drafting.by_model import Drafter
from communicator_pipeline.drafting.learnt import Asked, Chosen, Memory, choose
from communicator_pipeline.drafting.offline import message_to_answer
from communicator_pipeline.language_model import Usage
from communicator_pipeline.language_model.provenance import (
    COLUMNS,
    STOOD_IN,
    Provenance,
    in_numbers,
    usage_of,
    with_provenance,
)
from communicator_pipeline.messages import LONGEST_TRANSCRIPT, Transcript, table_schema
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import account_owner
from communicator_pipeline.storage.feedback import handled_drafts
from communicator_pipeline.storage.lake import AccountMonth, Manifest, NewDays, texts
from communicator_pipeline.storage.memories import active_memories
from communicator_pipeline.storage.model_retries import retry_later
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
        ("rests_on", pa.list_(pa.string())),  # message ids, and "memory:" with what was learnt
        ("reason", pa.string()),
        ("flags", pa.list_(pa.string())),
        ("confidence", pa.float64()),  # 0…1
        *COLUMNS,
    ]
)

OVERTAKEN = "a conversation that was drafted for went on"

_LAST_ACTIVE = """
SELECT conversation_id, max(strftime(sent_at, '%Y-%m-%d')) AS day FROM members
WHERE kind = 'message' AND conversation_id IN (SELECT conversation_id FROM asked)
GROUP BY conversation_id
"""

_WHERE_DRAFTS_MAY_BE = """
WITH elsewhere AS (FROM active_on ANTI JOIN chosen USING (day))
SELECT max(day) AS day FROM elsewhere WHERE day < (SELECT min(day) FROM chosen)
GROUP BY conversation_id
UNION SELECT day FROM elsewhere WHERE day > (SELECT min(day) FROM chosen)
"""


def materialise(
    stores: Stores, partition: AccountMonth, scope: Scope, variant: Variant = LIVE
) -> MonthReport:
    """Draft for each conversation that needs a reply, on the day on which it was last active: a
    later day has the newer draft, or the user's own answer. A draft stays as it is while neither
    its conversation nor the memories that count for it change; one that somebody has approved,
    edited or rejected stays whatever is learnt since.

    Another variant than the live one drafts on its own analyses, writes its own asset, and
    touches nothing else."""
    account = partition.account
    never = Settings(stores.database, account_owner(stores.database, account)).never_draft()
    drafter = drafter_of(stores, account, variant)
    asset, analysed_as = variant.asset(ASSET), variant.asset(analyses.ASSET)
    numbers: Counter[str] = Counter()
    counts: dict[str, Counter[str]] = {}
    processed: list[str] = []
    preview: list[dict[str, str]] = []
    again: dict[str, str] = {}
    elsewhere: dict[AccountMonth, list[str]] = {}  # what is overtaken in earlier months

    def draft_days(manifest: Manifest) -> NewDays:
        analysed = stores.lake.manifest(analysed_as, partition)
        overtaken: list[str] = []
        elsewhere.clear()
        if variant.is_live:
            these = {*scope.chosen(analysed.days), *scope.chosen(manifest.days)}
            active = _active_on(stores, partition, analysed, scope)
            elsewhere.update(_drafted_elsewhere(stores, partition, scope, manifest, these, active))
            overtaken = elsewhere.pop(partition, [])
            mark_all(stores, partition, dict.fromkeys(overtaken, OVERTAKEN))
        processed[:] = sorted({*scope.chosen({*analysed.days, *manifest.days}), *overtaken})
        numbers.clear()
        counts.clear()
        counts.update(outcome=Counter(), language=Counter())
        preview.clear()
        waiting = {
            day: _waiting(stores, analysed_as, partition, analysed, day)
            for day in processed
            if day in analysed.days
        }
        waiting = _on_their_last_day(stores, partition.account, waiting)
        days = [day for day, rows in waiting.items() if rows]
        asked = {conversation for of_day in waiting.values() for conversation in of_day}
        tables: dict[str, pa.Table | None] = dict.fromkeys(processed)
        transcripts = Transcripts.of_days(
            stores, account, days, asked, longest=drafter.longest or LONGEST_TRANSCRIPT
        )
        memories = active_memories(stores.database, account) if variant.memories else []
        # What people decided about is the live draft.
        handled = handled_drafts(stores.database, account) if variant.is_live else set()
        fingerprint = drafter.fingerprint()
        old = {
            day: stores.lake.rows_by("conversation_id", asset, partition, manifest, day)
            for day in days
        }
        rows: dict[str, list[Mapping[str, Any]]] = {day: [] for day in days}
        due: list[_Due] = []
        for day in days:
            for transcript in transcripts.of_day(day):
                analysis = waiting[day].get(transcript.conversation_id)
                if analysis is None:
                    continue
                before = old[day].get(transcript.conversation_id)
                unwanted = refusals.wants_no_draft(never, account, analysis["category"], transcript)
                if unwanted:
                    rows[day].append(_not_wanted(analysis, before, unwanted))
                    continue
                chosen = memories_for(memories, transcript, _analysis(analysis))
                digest = _input_digest(analysis["input_digest"], fingerprint, chosen)
                if (
                    before is not None
                    and before["model"] != refusals.MODEL
                    and (
                        before["input_digest"] == digest
                        or _is_settled(before, analysis, day, handled)
                    )
                ):
                    rows[day].append(with_provenance(before))
                else:
                    due.append(_Due(day, transcript, analysis, chosen, digest, before))
        again.clear()
        for one, drafted, passes in _draft(drafter, due):
            rows[one.day].append(drafted)
            if passes:
                again[one.day] = str(drafted["stood_in"])
        usage = Usage()
        for day in days:
            rows[day].sort(key=lambda row: str(row["conversation_id"]))
            for row in rows[day]:
                counts["outcome"][row["outcome"]] += 1
                counts["language"][row["language"]] += 1
                numbers["stood in for a model"] += bool(row["stood_in"])
                usage += usage_of(row)
            numbers["drafts"] += len(rows[day])
            preview.extend(
                {"day": day, "conversation": row["conversation_id"], "draft": row["text"]}
                for row in rows[day][:3]
            )
            tables[day] = pa.Table.from_pylist(rows[day], schema=DRAFT_SCHEMA)
        numbers["drafted"] = len(due)
        numbers.update(in_numbers(usage))
        return tables

    manifest, changed = stores.lake.update(asset, partition, draft_days)
    for earlier, days in elsewhere.items():
        mark_all(stores, earlier, dict.fromkeys(days, OVERTAKEN))
    if variant.is_live and again:
        retry_later(stores.database, account, again, ())
    return MonthReport(partition, manifest, processed, changed, dict(numbers), counts, preview)


@dataclass(frozen=True)
class _Due:
    """A conversation that is to be drafted for."""

    day: str
    transcript: Transcript
    analysis: Mapping[str, Any]
    chosen: tuple[Chosen, ...]
    digest: str
    before: Mapping[str, Any] | None


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


def _drafted_elsewhere(
    stores: Stores,
    partition: AccountMonth,
    scope: Scope,
    manifest: Manifest,
    chosen: Collection[str],
    active: Collection[str],
) -> dict[AccountMonth, list[str]]:
    """The days beside the chosen ones, of this month and of earlier ones, that hold a draft for
    one of the conversations which were active on these: it went on, so the draft there is to go.

    Of what was before, only each conversation's last day can hold one: drafts on earlier days were
    found in the same way when it went on from there.
    """
    account = partition.account
    earlier = [AccountMonth(account, m) for m in stores.lake.months(ASSET, account)]
    months = [e for e in earlier if e < partition and e not in scope.partitions]
    if set(manifest.days) - set(chosen):
        months.append(partition)
    members = stores.lake.day_files(conversations.ASSET, account, last=f"{partition.month}-31")
    if not active or not months or not members:
        return {}
    of_active = pa.table({"conversation_id": pa.array(sorted(active), pa.string())})
    tables = {
        "active_on": days_of(stores.lake, of_active, members),
        "chosen": pa.table({"day": sorted(chosen)}),
    }
    days = sorted(texts(stores.lake.query(_WHERE_DRAFTS_MAY_BE, tables)["day"]))
    found: dict[AccountMonth, list[str]] = {}
    for month in months:
        held = manifest if month == partition else stores.lake.manifest(ASSET, month)
        found[month] = [
            day
            for day in days
            if day in held.days
            and not set(active).isdisjoint(
                texts(stores.lake.read_day(ASSET, month, held.days[day])["conversation_id"])
            )
        ]
    return found


def _waiting(
    stores: Stores, asset: str, partition: AccountMonth, analysed: Manifest, day: str
) -> dict[str, dict[str, Any]]:
    table = stores.lake.read_day(asset, partition, analysed.days[day])
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


def memories_for(
    memories: Sequence[Memory], transcript: Transcript, analysis: Analysis
) -> tuple[Chosen, ...]:
    """The memories, six at most, that count for the draft of one conversation."""
    asked = message_to_answer(transcript, analysis) if memories else None
    if asked is None:
        return ()
    return choose(
        memories, Asked(asked.author_id, asked.text, analysis.language, analysis.category)
    )


def _input_digest(of_analysis: str, drafter: str, chosen: Sequence[Chosen]) -> str:
    """What a draft rests on: the analysis, who drafts, and the memories that count for it."""
    if not chosen and not drafter:
        return of_analysis
    rules = [f"{c.memory.memory_id} {c.memory.rule.to_json()}" for c in chosen]
    digest = hashlib.sha256("\n".join([*rules, drafter]).encode(errors="surrogatepass"))
    return f"{of_analysis}+{digest.hexdigest()[:16]}"


def _is_settled(
    before: Mapping[str, Any],
    analysis: Mapping[str, Any],
    day: str,
    handled: Collection[tuple[str, str, int]],
) -> bool:
    """Whether somebody has decided about the draft of a conversation that has not changed since:
    what they approved or edited is not to change under their hands."""
    of_analysis = before["input_digest"].partition("+")[0]
    return (
        of_analysis == analysis["input_digest"]
        and (before["conversation_id"], day, before["version"]) in handled
    )


def _draft(drafter: Drafter, due: Sequence[_Due]) -> Iterator[tuple[_Due, dict[str, Any], bool]]:
    """The row of each, and whether it is worth trying again later."""
    if not due:
        return
    drafts = drafter.draft(
        [(one.transcript, _analysis(one.analysis)) for one in due],
        {one.transcript.conversation_id: one.chosen for one in due},
    )
    for one, drafted in zip(due, drafts, strict=True):
        row = asdict(drafted.draft) | {
            "gaps": list(drafted.draft.gaps),
            "rests_on": list(drafted.draft.rests_on),
            "flags": list(drafted.draft.flags),
            **drafted.made.columns(),
        }
        before = None if one.before is None else with_provenance(one.before)
        # What says the same as before is the same draft: whoever looks at it may approve it.
        same = before is not None and all(before[name] == value for name, value in row.items())
        version = before["version"] + (not same) if before else 1
        passes = drafted.made.passes
        digest = f"{one.digest} {STOOD_IN}" if passes else one.digest
        yield one, row | {"version": version, "input_digest": digest}, passes


def _not_wanted(
    analysis: Mapping[str, Any], before: Mapping[str, Any] | None, why: str
) -> dict[str, Any]:
    """The row of a conversation for which the user wants no draft."""
    row = Provenance(refusals.MODEL).columns() | {
        "conversation_id": analysis["conversation_id"],
        "version": 1,
        "outcome": "no_reply",
        "text": "",
        "language": analysis["language"],
        "gaps": [],
        "rests_on": [],
        "reason": why,
        "flags": list(analysis["flags"]),
        "confidence": 1.0,
        "input_digest": analysis["input_digest"],
    }
    if before is None:
        return row
    row["version"] = before["version"]
    return row if row == with_provenance(before) else row | {"version": before["version"] + 1}


def _analysis(row: Mapping[str, Any]) -> Analysis:
    return Analysis(**{name: row[name] for name in Analysis.__slots__})
