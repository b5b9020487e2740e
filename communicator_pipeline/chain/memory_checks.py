"""What must hold of the memories, as questions that name what breaks it.

Belongs here: one function per rule; each gives the memories of an account that break it, none if
all is well. Does not belong here: what happens then (`asset_checks.py`), what a memory is
(`drafting/learnt.py`). What people wrote or changed themselves is theirs, and not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from communicator_pipeline.chain.checks import Problem
from communicator_pipeline.drafting.learning import MOST_PER_EDIT
from communicator_pipeline.drafting.learnt import Memory
from communicator_pipeline.drafting.parts import comparable_sentence
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.feedback import Feedback, feedback_of_ids
from communicator_pipeline.storage.memories import active_memories


def edits_that_taught_too_much(stores: Stores, account: str) -> list[Problem]:
    """Feedback from which more than three memories were learnt."""
    taught = Counter(source for memory in _learnt(stores, account) for source in memory.sources)
    return [
        {"feedback_id": source, "memories": count}
        for source, count in sorted(taught.items())
        if count > MOST_PER_EDIT
    ]


def memories_without_a_source(stores: Stores, account: str) -> list[Problem]:
    """Memories that no feedback stands behind."""
    memories = _learnt(stores, account)
    known = _sources(stores, account, memories)
    return [
        {"memory_id": memory.memory_id, "sources": len(memory.sources)}
        for memory in memories
        if not memory.sources or not known.keys() >= set(memory.sources)
    ]


def memories_in_others_words(stores: Stores, account: str) -> list[Problem]:
    """Memories whose words the user did not write: that stand in no text which they sent, or
    that somebody else had written before."""
    memories = [
        one for one in _learnt(stores, account) if one.rule.do in ("say", "ask", "greet", "sign")
    ]
    known = _sources(stores, account, memories)
    return [
        {"memory_id": memory.memory_id}
        for memory in memories
        if not any(_wrote(known[one], memory) for one in memory.sources if one in known)
    ]


def _sources(stores: Stores, account: str, memories: Iterable[Memory]) -> dict[str, Feedback]:
    return feedback_of_ids(
        stores.database, account, [source for memory in memories for source in memory.sources]
    )


def _learnt(stores: Stores, account: str) -> list[Memory]:
    return [one for one in active_memories(stores.database, account) if not one.by_person]


def _wrote(event: Feedback, memory: Memory) -> bool:
    words = memory.rule.words.replace("{full}", event.person_name)
    names = event.person_name.split() or [""]
    words = comparable_sentence(words.replace("{name}", names[0]).replace("{last}", names[-1]))
    others = any(words and words in comparable_sentence(one) for one in event.borrowed)
    return words in comparable_sentence(event.final_text) and not others
