"""What a message said before it was edited or deleted.

Belongs here: reading a message's versions out of the lake, for a member of its account. Does not
belong here: what makes a version (`ingestion/merge.py`), messages as they are now (`inbox.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.outbox import MAY_APPROVE

ASSET = "raw_messages"
"""Whose rows are versions of messages (`MESSAGE_SCHEMA`); `chain/raw_messages.py` writes them."""


@dataclass(frozen=True, slots=True)
class MessageVersion:
    """What a message was from one moment on. Times are UTC."""

    version: int  # 1, 2, …
    latest: bool
    since: datetime | None  # version 1: when it was sent; None: the platform does not say
    deleted: bool
    text: str
    attachments: tuple[dict[str, Any], ...]  # ATTACHMENT's fields


def message_versions(
    stores: Stores, user_id: str, account: str, message_id: str
) -> list[MessageVersion]:
    """The versions of a message, the first one first; none if the lake does not have them (any
    more).

    Raises `NotFound` for what is not the user's, and `PermissionError` for a viewer who asks for
    a message that was deleted: who took their words back has taken them from those at least who do
    not answer for the account.
    """
    found = Inbox(stores.database, user_id).message_place(account, message_id)
    partition = AccountMonth(account, found["day"][:7])
    file = stores.lake.manifest(ASSET, partition).days.get(found["day"])
    rows: list[dict[str, Any]] = []
    if file is not None:
        table = stores.lake.read_day(ASSET, partition, file)
        rows = table.filter(pc.equal(table["message_id"], pa.scalar(message_id))).to_pylist()
    # The lake may know of a deletion before the inbox does.
    is_deleted = bool(found["deleted"]) or any(row["deleted"] for row in rows)
    if is_deleted and found["role"] not in MAY_APPROVE:
        raise PermissionError(
            "the message was deleted: what it said is shown to owners and reviewers of "
            f"{account} only"
        )
    rows.sort(key=lambda row: row["version"])
    return [
        MessageVersion(
            row["version"],
            row["latest"],
            _since(row),
            row["deleted"],
            row["text"],
            tuple(row["attachments"] or ()),
        )
        for row in rows
    ]


def _since(row: dict[str, Any]) -> datetime | None:
    if row["deleted"]:
        return None  # a tombstone has the time of the last edit, not its own
    moment = row["edited_at"] or (row["sent_at"] if row["version"] == 1 else None)
    return None if moment is None else moment.astimezone(UTC)
