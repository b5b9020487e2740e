"""Who did what: written with every change that somebody makes through the gateway, and with what
the command changes about people and conversations.

Belongs here: the audit log. Does not belong here: what became of a reply (`outbox.py` logs that).
"""

from __future__ import annotations

from datetime import datetime

from communicator_pipeline.storage.database import Database, Row, utc_text

LONGEST_DETAIL = 500  # characters


def note(
    database: Database,
    user_id: str,
    action: str,
    now: datetime,
    *,
    account: str | None = None,
    target: str = "",
    detail: str = "",
    via: str = "inbox",
) -> None:
    """Note what somebody did. `target`: the id of what it was done to. No text of a message.
    `via`: 'inbox', 'key:<key_id>' or 'command'."""
    database.execute(
        "INSERT INTO audit_log (at, user_id, account, action, target, detail, via) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (utc_text(now), user_id, account, action, target[:200], detail[:LONGEST_DETAIL], via),
    )


def audit_log(database: Database, user_id: str, before: int | None, limit: int) -> list[Row]:
    """What concerns the user, the newest first: all of it for an administrator; else what they did,
    and what others did in accounts of which they are an owner. `before`: an `id`.

    A name or a key that was removed may be given again: what is older is somebody else's.
    """
    return database.execute(
        "SELECT l.id, l.at, l.user_id, l.account, l.action, l.target, l.detail, l.via "
        "FROM audit_log AS l JOIN users AS u ON u.user_id = ?1 "
        "WHERE (?2 IS NULL OR l.id < ?2) AND (u.is_admin "
        "OR (l.user_id = ?1 AND l.at >= u.created_at) OR EXISTS (SELECT 1 "
        "FROM account_members AS m JOIN accounts AS a USING (account) WHERE m.user_id = ?1 "
        "AND m.role = 'owner' AND m.account = l.account AND l.at >= a.created_at)) "
        "ORDER BY l.id DESC LIMIT ?3",
        (user_id, before, limit),
    )
