"""Why a reply went out as it did: from the platform back to the messages that it rests on.

Belongs here: gathering what the database knows of one delivery. Does not belong here: showing it
(`cli/`, the gateway), which Dagster run made the draft (`runs.py` knows the runs).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from communicator_pipeline.storage.database import Database, Row
from communicator_pipeline.storage.outbox import Outbox, Outgoing


@dataclass(frozen=True, slots=True)
class SeenMessage:
    """A message that the approver had seen, in the version that it had then."""

    message_id: str
    version: int
    author: str  # as people are called now; "" if the message is not here any more
    text: str  # as it is now
    changed_since: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that is known of a delivery. Times are UTC."""

    reply: Outgoing
    approval: Row  # approved_by, approved_at, automatic, edited, category, content_hash, …
    draft: Row | None  # day, version, text, model, reason, rests_on; None: a text of their own
    messages: list[SeenMessage]  # in order of time
    attempts: list[Row]
    log: list[Row]


def explain(database: Database, user_id: str, delivery_id: str) -> Explanation:
    """What is known of a delivery; raises `NotFound`, also for another user's."""
    outbox = Outbox(database, user_id)
    reply = outbox.get(delivery_id)
    name = reply.delivery.delivery_id
    approval = database.execute(
        "SELECT approved_by, approved_at, automatic, edited, category, content_hash, "
        "source_version, draft_day, draft_version, draft, send_at, expires_at FROM approvals "
        "WHERE approval_id = ?",
        (reply.delivery.approval_id,),
    )[0]
    draft = approval.pop("draft")
    return Explanation(
        reply,
        approval,
        orjson.loads(draft) if draft else None,
        _messages(database, reply),
        outbox.attempts(name),
        outbox.log(name),
    )


def _messages(database: Database, reply: Outgoing) -> list[SeenMessage]:
    rows = database.execute(
        "SELECT g.message_id, g.version, g.sent_at, g.text, coalesce(p.name, "
        "nullif(g.author_name, ''), g.author_id) AS author FROM messages AS g "
        "LEFT JOIN people AS p ON p.account = g.account AND p.person_id = g.author_id "
        "WHERE g.account = ? AND g.message_id IN (SELECT value FROM json_each(?)) "
        "ORDER BY g.sent_at, g.message_id",
        (reply.delivery.account, orjson.dumps(sorted(reply.seen)).decode()),
    )
    here = {row["message_id"] for row in rows}
    found = [_seen(row, reply.seen[row["message_id"]][0]) for row in rows]
    gone = sorted(set(reply.seen) - here)
    return found + [SeenMessage(m, reply.seen[m][0], "", "", True) for m in gone]


def _seen(row: dict[str, Any], version: int) -> SeenMessage:
    return SeenMessage(
        row["message_id"], version, row["author"], row["text"], row["version"] != version
    )


def as_json(explanation: Explanation, run_id: str | None) -> dict[str, Any]:
    """An explanation for programs. `run_id`: the Dagster run that made the draft."""
    delivery = explanation.reply.delivery
    return {
        "delivery_id": delivery.delivery_id,
        "account": delivery.account,
        "conversation_id": explanation.reply.conversation_id,
        "state": delivery.state,
        "reason": delivery.reason,
        "text": delivery.text,
        "part": delivery.number,
        "parts": delivery.of,
        "message_id": delivery.message_id,
        "sent_at": _time(delivery.sent_at),
        "confirmed_at": _time(delivery.confirmed_at),
        "approval": {"approval_id": delivery.approval_id, **explanation.approval},
        "draft": explanation.draft,
        "run_id": run_id,
        "messages": [
            {
                "message_id": m.message_id,
                "version": m.version,
                "author": m.author,
                "text": m.text,
                "changed_since": m.changed_since,
            }
            for m in explanation.messages
        ],
        "attempts": explanation.attempts,
        "log": explanation.log,
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
