"""What was learnt from people, and the feedback that it was learnt from.

Belongs here: those routes. Does not belong here: what is learnt (`drafting/learning.py`), how it
is kept (`storage/memories.py`, `storage/feedback.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import Path, Query
from pydantic import BaseModel, Field

from communicator_pipeline.analysis.lexicon import LEXICONS
from communicator_pipeline.drafting.learnt import EVERYONE, Do, Kind
from communicator_pipeline.drafting.parts import changes, distance
from communicator_pipeline.gateway.api.answers import Utc
from communicator_pipeline.gateway.api.asking import (
    AccountPath,
    Asked,
    Limit,
    OnlyAccount,
    Plain,
    must_see,
    note,
)
from communicator_pipeline.gateway.api.routing import api_routes
from communicator_pipeline.gateway.envelope import Answer
from communicator_pipeline.gateway.identity import Opened, Reader, Writer
from communicator_pipeline.storage.feedback import Feedback, FeedbackKind, FeedbackLog
from communicator_pipeline.storage.memories import (
    LONGEST_SCOPE,
    LONGEST_WORDS,
    MOST_ABOUT_WORDS,
    KeptMemory,
    Memories,
)

routes = api_routes()

MemoryId = Annotated[str, Path(max_length=200, description="The memory's id."), Plain]
Words = Annotated[
    str,
    Field(
        max_length=LONGEST_WORDS,
        description="What to begin, end with, say, ask or leave out; {name}, {last} and {full} "
        "stand for the reader's names. For the form of address: 'familiar' or 'polite'.",
    ),
    Plain,
]
HoldsFor = Annotated[
    str,
    Field(
        min_length=1,
        max_length=LONGEST_SCOPE,
        description="'everyone', 'contact:' with a person's id, 'category:' with a category.",
    ),
    Plain,
]
About = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=60), Plain]],
    Field(
        max_length=MOST_ABOUT_WORDS,
        description="Words that a message must name for it to count; none: any message.",
    ),
]
MostWords = Annotated[
    int, Field(ge=1, le=1_000, strict=True, description="Of 'shorten': the words of a reply.")
]
Language = Annotated[
    str, Field(pattern=f"^({'|'.join(sorted(LEXICONS))})?$", description="'' for any.")
]


class MemoryDetail(BaseModel):
    """Something learnt, or written by a person."""

    memory_id: str
    account: str
    holds_for: str
    kind: Kind
    language: str  # '' in any
    text: str  # what it says, in words
    do: Do
    words: str
    about: list[str]
    most: int  # words; 0 but for 'shorten'
    learnt: bool  # else a person wrote it
    edited_by: str | None
    created_at: Utc
    changed_at: Utc
    sources: list[str]  # ids of feedback
    conversations: list[str]  # in which it was given


class Deleted(BaseModel):
    """What was deleted."""

    memory_id: str


class Difference(BaseModel):
    was: str
    now: str


class FeedbackDetail(BaseModel):
    """What somebody did with a draft, or with what was understood of a conversation."""

    feedback_id: str
    account: str
    conversation_id: str
    kind: FeedbackKind
    user_id: str
    at: Utc
    taken_back: bool
    draft_text: str
    final_text: str
    diff: list[Difference]
    distance: float | None  # how much of the draft was changed, 0…1; null without a final text
    note: str
    model: str
    draft_day: str | None
    draft_version: int | None
    category: str
    language: str
    rests_on: list[str]
    person_id: str


class MemoryAsked(Asked):
    """A memory of one's own."""

    do: Literal["say", "ask", "greet", "sign", "address", "leave out", "no emoji", "note"]
    words: Words = ""
    holds_for: HoldsFor = EVERYONE
    language: Language = ""


class MemoryChangeAsked(Asked):
    """What a memory is to be. A field that is left out, or null, stays as it is."""

    words: Words | None = None
    holds_for: HoldsFor | None = None
    about: About | None = None
    most: MostWords | None = None


@routes.get("/memories", tags=["memories"])
def list_memories(
    opened: Opened, identity: Reader, account: OnlyAccount = None
) -> Answer[list[MemoryDetail]]:
    """What counts for the drafts of the user's accounts, the widest first."""
    rows = Memories(opened.database, identity.user_id).list(account)
    return Answer(data=[detail(row) for row in rows])


@routes.post("/memories/{account}", tags=["memories"])
def add_memory(
    opened: Opened, identity: Writer, account: AccountPath, asked: MemoryAsked
) -> Answer[MemoryDetail]:
    """Write a memory of one's own."""
    kept = Memories(opened.database, identity.user_id).add(
        account, asked.do, asked.words, asked.holds_for, asked.language, datetime.now(UTC)
    )
    note(opened, identity, "wrote a memory", account, kept.memory.memory_id)
    return Answer(data=detail(kept))


@routes.get("/memories/{account}/{memory_id}", tags=["memories"])
def read_memory(
    opened: Opened, identity: Reader, account: AccountPath, memory_id: MemoryId
) -> Answer[MemoryDetail]:
    """One memory, with the conversations that it was learnt from."""
    return Answer(data=detail(Memories(opened.database, identity.user_id).get(account, memory_id)))


@routes.patch("/memories/{account}/{memory_id}", tags=["memories"])
def change_memory(
    opened: Opened,
    identity: Writer,
    account: AccountPath,
    memory_id: MemoryId,
    asked: MemoryChangeAsked,
) -> Answer[MemoryDetail]:
    """Change what a memory says, for whom, or when. It stays so whatever is learnt later."""
    kept = Memories(opened.database, identity.user_id).edit(
        account,
        memory_id,
        datetime.now(UTC),
        words=asked.words,
        scope=asked.holds_for,
        about=asked.about,
        most=asked.most,
    )
    note(opened, identity, "changed a memory", account, memory_id)
    return Answer(data=detail(kept))


@routes.delete("/memories/{account}/{memory_id}", tags=["memories"])
def delete_memory(
    opened: Opened, identity: Writer, account: AccountPath, memory_id: MemoryId
) -> Answer[Deleted]:
    """Forget a memory. The same is not learnt again from the same feedback."""
    Memories(opened.database, identity.user_id).delete(account, memory_id, datetime.now(UTC))
    note(opened, identity, "deleted a memory", account, memory_id)
    return Answer(data=Deleted(memory_id=memory_id))


@routes.get("/feedback", tags=["memories"])
def list_feedback(
    opened: Opened,
    identity: Reader,
    account: OnlyAccount = None,
    kind: Annotated[FeedbackKind | None, Query(description="Only this kind.")] = None,
    limit: Limit = 100,
) -> Answer[list[FeedbackDetail]]:
    """What people did with the drafts of the user's accounts, the newest first."""
    must_see(opened, identity, account)
    events = FeedbackLog(opened.database, identity.user_id).events(account, kind, limit)
    return Answer(data=[_feedback(event) for event in events])


def detail(kept: KeptMemory) -> MemoryDetail:
    """A memory as it is answered."""
    memory = kept.memory
    return MemoryDetail(
        memory_id=memory.memory_id,
        account=kept.account,
        holds_for=memory.scope,
        kind=memory.kind,
        language=memory.language,
        text=kept.text,
        do=memory.rule.do,
        words=memory.rule.words,
        about=list(memory.rule.about),
        most=memory.rule.most,
        learnt=kept.learnt,
        edited_by=kept.edited_by or None,
        created_at=kept.created_at,
        changed_at=memory.changed_at,
        sources=list(memory.sources),
        conversations=list(kept.conversations),
    )


def _feedback(event: Feedback) -> FeedbackDetail:
    has_final = bool(event.final_text)
    found = changes(event.draft_text, event.final_text) if has_final else ()
    return FeedbackDetail(
        feedback_id=event.feedback_id,
        account=event.account,
        conversation_id=event.conversation_id,
        kind=event.kind,
        user_id=event.user_id,
        at=event.at,
        taken_back=event.taken_back,
        draft_text=event.draft_text,
        final_text=event.final_text,
        diff=[Difference(was=one.was, now=one.now) for one in found],
        distance=round(distance(event.draft_text, event.final_text), 3) if has_final else None,
        note=event.note,
        model=event.model,
        draft_day=event.draft_day,
        draft_version=event.draft_version,
        category=event.category,
        language=event.language,
        rests_on=list(event.rests_on),
        person_id=event.person_id,
    )
