"""What people do with a conversation beside answering it: done, snoozed, assigned.

Belongs here: hiding a conversation until a time or until it goes on, and who looks after it. Does
not belong here: reading it (`inbox.py`), replies (`outbox.py`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.database import Database, Value, utc_text
from communicator_pipeline.storage.outbox import Outbox

FOR_EVER = "9999-12-31T23:59:59.999999Z"


class Triage:
    """What one user does with the conversations of their accounts.

    Each method raises `NotFound` for a conversation that is not there, or not theirs, and
    `PermissionError` for a viewer.
    """

    def __init__(self, database: Database, user_id: str) -> None:
        self.database = database
        self.user_id = user_id

    def done(self, account: str, conversation_id: str, seen: str | None, now: datetime) -> None:
        """Nothing is left to do, until somebody writes again.

        `seen`: the conversation's `last_message_at` as the user had seen it; what is newer brings
        it back at once. None: as it is now.
        """
        self._hide(account, conversation_id, FOR_EVER, "done", seen, now)

    def snooze(
        self,
        account: str,
        conversation_id: str,
        until: datetime,
        seen: str | None,
        now: datetime,
    ) -> None:
        """Out of sight until a time (UTC), or until somebody writes again."""
        if until <= now:
            raise ValueError(f"snooze it until a time to come: {until:%Y-%m-%d %H:%M} UTC is over")
        self._hide(account, conversation_id, utc_text(until), "snoozed", seen, now)

    def reopen(self, account: str, conversation_id: str, now: datetime) -> None:
        """Take `done` or `snooze` back."""
        self._hide(account, conversation_id, "", "", None, now)

    def assign(self, account: str, conversation_id: str, to: str | None, now: datetime) -> None:
        """Say who looks after it: a member of the account, or nobody (None)."""
        self._must_exist(account, conversation_id)
        if to is not None:
            members = self.database.execute(
                "SELECT user_id FROM account_members WHERE account = ?", (account,)
            )
            names = sorted(row["user_id"] for row in members)
            if to not in names:
                raise ValueError(
                    f"{to!r} is no member of {account}: assign it to one of {', '.join(names)}"
                )
        self.database.batch(
            [
                (
                    "INSERT INTO conversation_states (account, conversation_id, assigned_to, "
                    "changed_by, changed_at) VALUES (?, ?, ?, ?, ?) "
                    "ON CONFLICT (account, conversation_id) DO UPDATE SET "
                    "assigned_to = excluded.assigned_to, changed_by = excluded.changed_by, "
                    "changed_at = excluded.changed_at",
                    (account, conversation_id, to or "", self.user_id, utc_text(now)),
                ),
                (
                    "UPDATE conversations SET assigned_to = ?3 WHERE account = ?1 "
                    "AND conversation_id = ?2",
                    (account, conversation_id, to or ""),
                ),
            ]
        )

    def _hide(
        self,
        account: str,
        conversation_id: str,
        until: str,
        why: Literal["", "done", "snoozed"],
        seen: str | None,
        now: datetime,
    ) -> None:
        newest = self._must_exist(account, conversation_id)
        # Nobody has seen what is yet to come: a later time would hide that too.
        seen = newest if seen is None else min(seen, newest)
        state: tuple[Value, ...] = (account, conversation_id, until, seen, why, self.user_id)
        self.database.batch(
            [
                (
                    "INSERT INTO conversation_states (account, conversation_id, hidden_until, "
                    "hidden_seen, hidden_why, changed_by, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?) "
                    "ON CONFLICT (account, conversation_id) DO UPDATE SET "
                    "hidden_until = excluded.hidden_until, hidden_seen = excluded.hidden_seen, "
                    "hidden_why = excluded.hidden_why, changed_by = excluded.changed_by, "
                    "changed_at = excluded.changed_at",
                    (*state, utc_text(now)),
                ),
                (
                    "UPDATE conversations SET hidden_until = iif(last_message_at <= ?4, ?3, '') "
                    "WHERE account = ?1 AND conversation_id = ?2",
                    (account, conversation_id, until, seen),
                ),
            ]
        )

    def _must_exist(self, account: str, conversation_id: str) -> str:
        """The conversation's `last_message_at`."""
        Outbox(self.database, self.user_id).must_approve(account)
        rows = self.database.execute(
            "SELECT last_message_at FROM conversations WHERE account = ? AND conversation_id = ?",
            (account, conversation_id),
        )
        if not rows:
            raise NotFound(
                f"there is no conversation {conversation_id!r} in {account}: "
                "`communicator inbox` shows their ids"
            )
        return str(rows[0]["last_message_at"])
