"""What comparisons need of the database: the split's salt, people's labels, what was delivered.

Belongs here: these questions. Does not belong here: what a comparison made; that is in the lake
(`chain/shadows.py`).
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable

import orjson

from communicator_pipeline.storage.database import Database, now_text

SALT = "held_out_salt"
"""The installation's setting. Nothing ever writes another one: the split would be another one, and
what was learnt since might have seen what is held out then."""


def held_out_salt(database: Database) -> str:
    """The salt of the held-out split, made the first time; of two at once both get the first's."""
    database.execute(
        "INSERT INTO settings (scope, key, value, updated_at) VALUES ('installation', ?, ?, ?) "
        "ON CONFLICT (scope, key) DO NOTHING",
        (SALT, orjson.dumps(secrets.token_hex(16)).decode(), now_text()),
    )
    rows = database.execute(
        "SELECT value FROM settings WHERE scope = 'installation' AND key = ?", (SALT,)
    )
    return str(orjson.loads(rows[0]["value"]))


def category_labels(database: Database, account: str) -> dict[str, tuple[str, str]]:
    """conversation_id → the category that people set for it, and the one that the live analysis
    had said before; of those that are in force."""
    rows = database.execute(
        "SELECT conversation_id, category, analysed_category FROM relabels WHERE account = ?1 "
        "AND id IN (SELECT max(id) FROM relabels WHERE account = ?1 GROUP BY conversation_id) "
        "AND category IS NOT NULL",
        (account,),
    )
    return {row["conversation_id"]: (row["category"], row["analysed_category"]) for row in rows}


def delivered_messages(
    database: Database, account: str, approvals: Iterable[str]
) -> dict[str, frozenset[str]]:
    """approval_id → the ids, on the platform, of the messages that it became."""
    rows = database.execute(
        "SELECT d.approval_id, d.message_id FROM json_each(?2) AS j JOIN deliveries AS d "
        "ON d.approval_id = j.value WHERE d.account = ?1 AND d.message_id IS NOT NULL",
        (account, orjson.dumps(sorted(set(approvals))).decode()),
    )
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[row["approval_id"]].add(row["message_id"])
    return {approval: frozenset(ids) for approval, ids in found.items()}
