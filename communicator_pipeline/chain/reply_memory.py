"""`reply_memory`: what an account's feedback teaches, brought up to date in the database."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from communicator_pipeline.drafting.learning import distil
from communicator_pipeline.drafting.learnt import Memory, described
from communicator_pipeline.messages import TIME, table_schema
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import account_owner
from communicator_pipeline.storage.feedback import days_to_draft_anew, feedback_of_account
from communicator_pipeline.storage.lake import parquet_bytes
from communicator_pipeline.storage.memories import (
    active_memories,
    keep_learnt,
    learning_mark,
    spent,
)
from communicator_pipeline.storage.work import WorkQueue

ASSET = "reply_memory"

MEMORY_SCHEMA = table_schema(
    [
        ("memory_id", pa.string()),
        ("scope", pa.string()),  # 'everyone', 'contact:<person_id>', 'category:<name>'
        ("kind", pa.string()),  # 'fact', 'preference', 'procedure'
        ("language", pa.string()),  # '' in any
        ("rule", pa.string()),  # JSON
        ("text", pa.string()),
        ("sources", pa.list_(pa.string())),  # feedback ids; none if a person wrote it
        ("changed_at", TIME),
    ]
)
"""One row per memory that counts."""

LEARNT_ANEW = "what was learnt changed"

DRAFTED_ANEW_FOR = timedelta(days=7)
"""How far back conversations that still wait are drafted anew when memories change: who has
waited for longer is no longer answered with a draft."""

_MOST_TRIES = 100  # each lost race is somebody else's news: this many means a fault


@dataclass
class MemoryReport:
    """What an account's memories amount to, in numbers."""

    account: str
    kinds: Counter[str] = field(default_factory=Counter)
    scopes: Counter[str] = field(default_factory=Counter)  # without whose or which
    learnt_from: int = 0  # events
    added: int = 0
    withdrawn: int = 0
    changed: int = 0
    days_marked: list[str] = field(default_factory=list)


def memories_key(account: str) -> str:
    """Where the lake keeps what counts for an account."""
    return f"lake/{ASSET}/{account}/memories.parquet"


def materialise(stores: Stores, account: str, now: datetime | None = None) -> MemoryReport:
    """Learn from the account's feedback, and have drafts that wait made anew where memories
    changed. Whoever was first meanwhile, or a person who changed a memory, is heard: it is read
    again. Killed anywhere, the mark stays and it is done again; done twice, it is the same."""
    moment = now or datetime.now(UTC)
    for _ in range(_MOST_TRIES):
        found = learning_mark(stores.database, account)  # before all that it stands for is read
        before = active_memories(stores.database, account)
        feedback = feedback_of_account(stores.database, account)
        learnt = distil(feedback, spent(stores.database, account))
        after = _with_those_of_people(before, learnt)
        report = _report(account, len(feedback), before, after)
        if found.mark == 0:
            break  # nothing was ever told
        digest = _digest(after)
        if digest != found.digest:
            # Before the memories are visible: killed in between, the days are drafted as they were.
            first = (moment - DRAFTED_ANEW_FOR).date().isoformat()
            report.days_marked = days_to_draft_anew(stores.database, account, first)
            WorkQueue(stores.database).mark(account, report.days_marked, LEARNT_ANEW)
        owner = account_owner(stores.database, account) or ""
        if keep_learnt(stores.database, account, owner, learnt, found.mark, digest, moment):
            if report.days_marked:  # a run may have taken the days before the memories were there
                WorkQueue(stores.database).mark(account, report.days_marked, LEARNT_ANEW)
            break
    else:
        raise RuntimeError(f"{account}: lost {_MOST_TRIES} races for the memories")
    _write(stores, account)
    return report


def _with_those_of_people(before: Sequence[Memory], learnt: Sequence[Memory]) -> list[Memory]:
    """What counts afterwards, as far as it is known: what people wrote, and what was learnt."""
    kept = [memory for memory in before if memory.by_person]
    known = {memory.memory_id for memory in kept}
    return [*kept, *(memory for memory in learnt if memory.memory_id not in known)]


def _digest(memories: Sequence[Memory]) -> str:
    """What counts, as one text: equal, no draft is made anew. '' for nothing."""
    rules = sorted(f"{one.memory_id} {one.scope} {one.rule.to_json()}" for one in memories)
    return hashlib.sha256("\n".join(rules).encode()).hexdigest() if rules else ""


def _report(
    account: str, events: int, before: Sequence[Memory], after: Sequence[Memory]
) -> MemoryReport:
    was = {memory.memory_id: memory.rule for memory in before}
    now = {memory.memory_id: memory.rule for memory in after}
    return MemoryReport(
        account,
        Counter(memory.kind for memory in after),
        Counter(memory.scope.partition(":")[0] for memory in after),
        events,
        added=len(now.keys() - was.keys()),
        withdrawn=len(was.keys() - now.keys()),
        changed=sum(was[one] != now[one] for one in was.keys() & now.keys()),
    )


def _write(stores: Stores, account: str) -> None:
    """Bring what counts now into the lake; equal rows are not written again."""
    rows = [
        {
            "memory_id": memory.memory_id,
            "scope": memory.scope,
            "kind": memory.kind,
            "language": memory.language,
            "rule": memory.rule.to_json(),
            "text": described(memory.rule),
            "sources": list(memory.sources),
            "changed_at": memory.changed_at,
        }
        for memory in active_memories(stores.database, account)
    ]
    content = parquet_bytes(pa.Table.from_pylist(rows, schema=MEMORY_SCHEMA))
    try:
        held, _ = stores.lake.objects.get(memories_key(account))
    except FileNotFoundError:
        held = b""
    if held != content:
        stores.lake.objects.put(memories_key(account), content)


def stored(stores: Stores, account: str) -> pa.Table:
    """What the lake has of an account's memories, as last written."""
    content, _ = stores.lake.objects.get(memories_key(account))
    return pq.read_table(io.BytesIO(content))
