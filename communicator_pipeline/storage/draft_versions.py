"""Drafts that people asked for anew, and those that were there before them.

Belongs here: all SQL about `draft_versions`. Does not belong here: making a draft
(`chain/redrafting.py`), the drafts of the pipeline (`inbox.py`), what is approved (`outbox.py`).

A version is never changed. The newest redraft counts as long as nothing has been said, and the
pipeline has drafted nothing else, since it was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import orjson

from communicator_pipeline.storage.database import Database, Row, Statement, utc_text
from communicator_pipeline.storage.feedback import Feedback, feedback_statement
from communicator_pipeline.storage.outbox import Outbox

MadeBy = Literal["pipeline", "redraft", "user"]


@dataclass(frozen=True, slots=True)
class DraftVersion:
    """One version of the draft of a conversation; its number is given when it is kept."""

    account: str
    conversation_id: str
    base_version: str  # what had been said, and drafted by the pipeline
    text: str
    outcome: str
    made_by: MadeBy
    user_id: str | None
    made_at: datetime  # UTC
    language: str
    reason: str = ""
    instruction: str = ""
    gaps: tuple[str, ...] = ()
    rests_on: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    confidence: float = 1.0
    model: str = ""
    prompt: str = ""
    stood_in: str = ""


def keep_redraft(
    database: Database,
    user_id: str,
    before: DraftVersion | None,
    redraft: DraftVersion,
    feedback: Feedback | None,
) -> int:
    """Keep a redraft, the text that it stands in for, and what that says of the draft, in one
    batch; returns the redraft's number. What somebody had edited meanwhile gives way to it.

    Raises `PermissionError` for a viewer, `NotFound` for an account that is not theirs."""
    Outbox(database, user_id).must_approve(redraft.account)
    statements: list[Statement] = []
    if before is not None:
        statements.append(_insert(before, unless_newest=True))
    place = len(statements)
    statements.append(_insert(redraft))
    statements.append(
        (
            "DELETE FROM draft_edits WHERE account = ? AND conversation_id = ?",
            (redraft.account, redraft.conversation_id),
        )
    )
    if feedback is not None:
        statements.append(feedback_statement(feedback))
    return int(database.batch(statements)[place][0]["number"])


def versions(database: Database, user_id: str, account: str, conversation_id: str) -> list[Row]:
    """All versions of a conversation's draft, the newest first; lists as lists. Raises `NotFound`
    for an account that is not theirs."""
    Outbox(database, user_id).role(account)
    rows = database.execute(
        "SELECT * FROM draft_versions WHERE account = ? AND conversation_id = ? "
        "ORDER BY number DESC",
        (account, conversation_id),
    )
    return [
        row | {name: orjson.loads(row[name]) for name in ("gaps", "rests_on", "flags")}
        for row in rows
    ]


REDRAFTED = (
    "SELECT number, base_version, text, outcome, flags, gaps, language, model, rests_on, reason, "
    "user_id, instruction FROM draft_versions WHERE account = ?1 AND conversation_id = ?2 "
    "AND made_by = 'redraft' ORDER BY number DESC LIMIT 1"
)
"""The newest redraft of a conversation (account, conversation_id); it counts while its
`base_version` is what there is."""


def _insert(version: DraftVersion, unless_newest: bool = False) -> Statement:
    newest = (
        " AND NOT EXISTS (SELECT 1 FROM (SELECT text FROM draft_versions WHERE account = ?1 "
        "AND conversation_id = ?2 ORDER BY number DESC LIMIT 1) WHERE text = ?4)"
        if unless_newest
        else ""
    )
    return (
        "INSERT INTO draft_versions (account, conversation_id, number, base_version, text, "
        "outcome, made_by, user_id, instruction, language, gaps, rests_on, reason, flags, "
        "confidence, model, prompt, stood_in, made_at) "
        "SELECT ?1, ?2, (SELECT coalesce(max(number), 0) + 1 FROM draft_versions "
        "WHERE account = ?1 AND conversation_id = ?2), ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, "
        f"?12, ?13, ?14, ?15, ?16, ?17, ?18 WHERE true{newest} RETURNING number",
        (
            version.account,
            version.conversation_id,
            version.base_version,
            version.text,
            version.outcome,
            version.made_by,
            version.user_id,
            version.instruction,
            version.language,
            orjson.dumps(version.gaps).decode(),
            orjson.dumps(version.rests_on).decode(),
            version.reason,
            orjson.dumps(version.flags).decode(),
            version.confidence,
            version.model,
            version.prompt,
            version.stood_in,
            utc_text(version.made_at),
        ),
    )
