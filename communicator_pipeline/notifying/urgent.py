"""Which conversations a user is told of at once. Pure.

Belongs here: what is urgent, and what of it is news. Does not belong here: reading conversations
(`storage/inbox.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from communicator_pipeline.storage.database import from_utc_text
from communicator_pipeline.storage.notifications import Notice

FRESH = timedelta(days=1)
"""What came earlier is no news: an export that is imported, or an account that is connected, brings
years of messages."""

AGAIN_AFTER = timedelta(hours=1)
"""Somebody who writes ten messages in a row is told of once an hour."""

Row = Mapping[str, Any]


def urgent(rows: Iterable[Row], user_id: str, least: float, now: datetime) -> list[Row]:
    """Of a user's conversations that need a reply (`Inbox.conversations`), those with at least this
    priority that came within a day, and that nobody else looks after."""
    return [
        row
        for row in rows
        if row["needs_reply"]
        and row["priority"] >= least
        and row["assigned_to"] in ("", user_id)
        and now - FRESH < from_utc_text(row["last_message_at"])
    ]


def news(
    rows: Iterable[Row], noticed: Mapping[tuple[str, str], str], now: datetime
) -> list[Notice]:
    """What of the urgent ones is to be told: a conversation is told of again when it went on, an
    hour after it was last told of at the soonest. `noticed`: when each was (`last_noticed`)."""
    return [
        Notice(
            "urgent",
            f"{row['account']} {row['conversation_id']} {row['last_message_at']}",
            row["account"],
            row["conversation_id"],
        )
        for row in rows
        if (at := noticed.get((row["account"], row["conversation_id"]))) is None
        or now - from_utc_text(at) >= AGAIN_AFTER
    ]
