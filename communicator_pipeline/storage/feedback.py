"""Feedback in the database: what people did with drafts, append-only.

Belongs here: the event, the statement that writes one, for the batch of the deed that it tells of;
reading events. Does not belong here: what is learnt from them (`drafting/learning.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

import orjson

from communicator_pipeline.analysis.suspicion import without_secrets
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.database import Database, Row, Statement, Value, utc_text

FeedbackKind = Literal[
    "approved", "edited", "rejected", "instructed", "relabelled", "merged", "split"
]


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody did with a draft, or with what was understood of a conversation."""

    account: str
    feedback_id: str
    conversation_id: str
    kind: FeedbackKind
    user_id: str
    at: datetime  # UTC
    source_version: str = ""
    approval_id: str | None = None
    draft_text: str = ""
    final_text: str = ""
    note: str = ""  # the instruction, the reason, the new label
    model: str = ""
    draft_day: str | None = None
    draft_version: int | None = None
    category: str = ""
    language: str = ""
    rests_on: tuple[str, ...] = ()  # ids of the message answered, and of memories
    person_id: str = ""  # who was answered
    person_name: str = ""
    about: tuple[str, ...] = ()  # content words of the message answered
    borrowed: tuple[str, ...] = ()  # sentences of the final text that others had written before
    taken_back: bool = False  # the approval was undone


def feedback_id(*told: str | None) -> str:
    """The id of an event: the same for the same account, conversation, deed and text."""
    return hashlib.sha256(orjson.dumps(told)).hexdigest()[:24]


MOST_LEARNT_FROM = 1_000
"""Events of an account, the newest: what people did before is not how they do it now. To learn from
so many takes a second."""

_LISTS = ("rests_on", "about", "borrowed")
_COLUMNS = (
    "account", "feedback_id", "conversation_id", "kind", "user_id", "at", "source_version",
    "approval_id", "draft_text", "final_text", "note", "model", "draft_day", "draft_version",
    "category", "language", "rests_on", "person_id", "person_name", "about", "borrowed",
)  # fmt: skip

_TAKEN_BACK = (
    "(f.approval_id IS NOT NULL AND EXISTS (SELECT 1 FROM deliveries AS d "
    "WHERE d.approval_id = f.approval_id) AND NOT EXISTS (SELECT 1 FROM deliveries AS d "
    "WHERE d.approval_id = f.approval_id AND d.state <> 'canceled')) AS taken_back"
)


def feedback_statement(event: Feedback, only_if: str = "1") -> Statement:
    """The statement that writes an event, once, without secrets that stand in its texts.

    For the batch of the deed itself, so that neither is without the other. `only_if`: a condition
    that says whether the deed was done; it may name `?1` (the account) and `?8` (the approval).
    """
    values: list[Value] = []
    for name in _COLUMNS:
        value = getattr(event, name)
        if name in _LISTS:
            value = orjson.dumps(value).decode()
        elif name == "at":
            value = utc_text(value)
        elif name in ("draft_text", "final_text", "note"):
            value = without_secrets(value)
        values.append(value)
    places = ", ".join(f"?{place}" for place in range(1, len(_COLUMNS) + 1))
    return (
        f"INSERT OR IGNORE INTO feedback ({', '.join(_COLUMNS)}) SELECT {places} WHERE {only_if}",
        values,
    )


def feedback_of_account(
    database: Database, account: str, most: int = MOST_LEARNT_FROM
) -> list[Feedback]:
    """An account's newest events, in order of time."""
    rows = database.execute(
        f"SELECT f.*, {_TAKEN_BACK} FROM feedback AS f WHERE f.account = ? "
        "ORDER BY f.at DESC, f.feedback_id DESC LIMIT ?",
        (account, most),
    )
    return [_feedback(row) for row in reversed(rows)]


def feedback_of_ids(database: Database, account: str, ids: Iterable[str]) -> dict[str, Feedback]:
    """id → event, of those that there are."""
    rows = database.execute(
        f"SELECT f.*, {_TAKEN_BACK} FROM json_each(?2) AS w CROSS JOIN feedback AS f "
        "ON f.account = ?1 AND f.feedback_id = w.value",
        (account, orjson.dumps(sorted(set(ids))).decode()),
    )
    return {row["feedback_id"]: _feedback(row) for row in rows}


def feedback_of_month(database: Database, account: str, month: str) -> list[Feedback]:
    """An account's events of a UTC month such as `2026-11`, in order of time."""
    rows = database.execute(
        f"SELECT f.*, {_TAKEN_BACK} FROM feedback AS f WHERE f.account = ?1 AND f.at >= ?2 "
        "AND f.at < ?2 || '~' ORDER BY f.at, f.feedback_id",
        (account, month),
    )
    return [_feedback(row) for row in rows]


def rows_by_month(database: Database, account: str) -> dict[str, int]:
    """UTC month → how many events an account has in it."""
    rows = database.execute(
        "SELECT substr(at, 1, 7) AS month, count(*) AS events FROM feedback WHERE account = ? "
        "GROUP BY 1 ORDER BY 1",
        (account,),
    )
    return {row["month"]: int(row["events"]) for row in rows}


def handled_drafts(database: Database, account: str) -> set[tuple[str, str, int]]:
    """(conversation, day, version) of the drafts that somebody has done something with."""
    rows = database.execute(
        "SELECT DISTINCT conversation_id, draft_day, draft_version FROM feedback "
        "WHERE account = ? AND draft_day IS NOT NULL AND kind <> 'instructed'",
        (account,),
    )
    return {(r["conversation_id"], r["draft_day"], int(r["draft_version"])) for r in rows}


def days_to_draft_anew(database: Database, account: str, first_day: str) -> list[str]:
    """The days, from a first one on, on which a draft waits with which nobody has done anything."""
    rows = database.execute(
        "SELECT DISTINCT c.day FROM conversations AS c JOIN drafts AS d ON d.account = c.account "
        "AND d.conversation_id = c.conversation_id AND d.day = c.day WHERE c.account = ?1 "
        "AND c.day >= ?2 AND c.needs_reply AND d.outcome <> 'no_reply' AND NOT EXISTS (SELECT 1 "
        "FROM feedback AS f INDEXED BY feedback_by_conversation WHERE f.account = d.account "
        "AND f.conversation_id = d.conversation_id AND f.draft_day = d.day "
        "AND f.draft_version = d.version AND f.kind <> 'instructed') ORDER BY c.day",
        (account, first_day),
    )
    return [row["day"] for row in rows]


class FeedbackLog:
    """The feedback of the accounts that one user may see."""

    def __init__(self, database: Database, user_id: str) -> None:
        self.database = database
        self.user_id = user_id

    def events(
        self,
        account: str | None = None,
        kind: FeedbackKind | None = None,
        limit: int = 100,
    ) -> list[Feedback]:
        """Events, the newest first; raises `NotFound` for an account that is not theirs."""
        if account is not None:
            Accounts(self.database, self.user_id).get(account)
        rows = self.database.execute(
            f"SELECT f.*, {_TAKEN_BACK} FROM account_members AS m JOIN feedback AS f "
            "ON f.account = m.account WHERE m.user_id = ?1 AND (?2 IS NULL OR f.account = ?2) "
            "AND (?3 IS NULL OR f.kind = ?3) ORDER BY f.at DESC, f.feedback_id LIMIT ?4",
            (self.user_id, account, kind, limit),
        )
        return [_feedback(row) for row in rows]


def _feedback(row: Row) -> Feedback:
    values: dict[str, Any] = {name: row[name] for name in _COLUMNS}
    values |= {name: tuple(orjson.loads(row[name])) for name in _LISTS}
    version = row["draft_version"]
    return Feedback(
        **{
            **values,
            "kind": cast(FeedbackKind, row["kind"]),
            "at": datetime.fromisoformat(row["at"]),
            "draft_version": None if version is None else int(version),
            "taken_back": bool(row["taken_back"]),
        }
    )
