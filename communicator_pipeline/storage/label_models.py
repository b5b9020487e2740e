"""How far relabels were learnt from, and what people want forgotten.

Belongs here: all SQL about that. Does not belong here: learning (`analysis/train_label_model.py`),
what was learnt (`chain/label_models.py`), the relabels themselves (`corrections.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from communicator_pipeline.storage.corrections import Label
from communicator_pipeline.storage.database import Database, utc_text
from communicator_pipeline.storage.outbox import Outbox


@dataclass(frozen=True, slots=True)
class Lesson:
    """What there is to learn from, read at one moment."""

    newest: int  # id of the account's newest relabel; 0: there never was one
    forgotten_to: int
    # conversation_id → what people set and neither took back nor wanted forgotten, newest first
    labels: dict[str, Label]


def lesson(database: Database, account: str) -> Lesson:
    """What an account's relabels teach; only what people set counts, never what others write."""
    marks, rows = database.batch(
        [
            (
                "SELECT (SELECT coalesce(max(id), 0) FROM relabels WHERE account = ?1) AS newest, "
                "coalesce(max(forgotten_to), 0) AS forgotten_to "
                "FROM label_models WHERE account = ?1",
                (account,),
            ),
            (
                "SELECT conversation_id, category, priority FROM relabels WHERE account = ?1 "
                "AND id IN (SELECT max(id) FROM relabels WHERE account = ?1 "
                "GROUP BY conversation_id) AND id > coalesce((SELECT forgotten_to "
                "FROM label_models WHERE account = ?1), 0) "
                "AND (category IS NOT NULL OR priority IS NOT NULL) "
                "ORDER BY id DESC",
                (account,),
            ),
        ]
    )
    return Lesson(
        int(marks[0]["newest"]),
        int(marks[0]["forgotten_to"]),
        {row["conversation_id"]: Label(row["category"], row["priority"]) for row in rows},
    )


def note_learnt(database: Database, account: str, learnt: Lesson) -> bool:
    """Note that all of this was learnt from. False if people forgot more of it meanwhile, or the
    account is gone: read again."""
    return bool(
        database.execute(
            "INSERT INTO label_models (account, learnt_to, forgotten_to) "
            "SELECT account, ?2, ?3 FROM accounts WHERE account = ?1 "
            "ON CONFLICT (account) DO UPDATE SET learnt_to = max(learnt_to, excluded.learnt_to) "
            "WHERE forgotten_to = excluded.forgotten_to RETURNING account",
            (account, learnt.newest, learnt.forgotten_to),
        )
    )


def newest_conversations(database: Database, account: str, most: int) -> list[str]:
    """Ids of the conversations that were last active, the newest first."""
    rows = database.execute(
        "SELECT conversation_id FROM conversations WHERE account = ? "
        "ORDER BY day DESC, conversation_id LIMIT ?",
        (account, most),
    )
    return [row["conversation_id"] for row in rows]


def days_since(database: Database, account: str, first_day: str) -> list[str]:
    """The days, from a first one on, on which a conversation was last active."""
    rows = database.execute(
        "SELECT DISTINCT day FROM conversations WHERE account = ?1 AND day >= ?2 ORDER BY day",
        (account, first_day),
    )
    return [row["day"] for row in rows]


class LabelModels:
    """What was learnt of the accounts that one user may see.

    Raises `NotFound` for accounts that are not there, or not theirs.
    """

    def __init__(self, database: Database, user_id: str) -> None:
        self.database = database
        self.user_id = user_id

    def accounts(self) -> list[str]:
        """The user's accounts in which something was relabelled, in order."""
        rows = self.database.execute(
            "SELECT account FROM account_members AS m WHERE user_id = ? AND EXISTS (SELECT 1 "
            "FROM relabels AS r WHERE r.account = m.account) ORDER BY account",
            (self.user_id,),
        )
        return [row["account"] for row in rows]

    def forget(self, account: str, now: datetime) -> None:
        """Have what was set up to now teach nothing any more; it stays set. Raises
        `PermissionError` for a viewer."""
        Outbox(self.database, self.user_id).must_approve(account)
        self.database.execute(
            "INSERT INTO label_models (account, forgotten_to, forgotten_by, forgotten_at) "
            "SELECT account, max(id), ?2, ?3 FROM relabels WHERE account = ?1 GROUP BY account "
            "ON CONFLICT (account) DO UPDATE SET learnt_to = 0, "
            "forgotten_to = excluded.forgotten_to, forgotten_by = excluded.forgotten_by, "
            "forgotten_at = excluded.forgotten_at",
            (account, self.user_id, utc_text(now)),
        )
