"""What is one user's, as JSON Lines: to be taken along.

Belongs here: which rows are theirs, read page by page. Does not belong here: writing them to a file
or an answer (`cli/`, the gateway).

Secrets are left out: passwords, keys, the credentials of accounts, the addresses of notification
targets. So is what only this installation needs (leases, digests, search indexes).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from communicator_pipeline.storage.accounts import Accounts, get_user
from communicator_pipeline.storage.database import Database, Row, Value, now_text

PAGE = 200
"""Rows in memory at once: of the longest messages (100 000 characters), some 80 MB."""

_JSON = frozenset(
    "attachments reactions people priority_reasons summary_message_ids flags gaps rests_on me "
    "value draft about rule sources withheld".split()
)
"""Columns that hold JSON."""


@dataclass(frozen=True)
class _Table:
    """A table: what each line says it is; its columns; by which it is read in order, `account`
    being fixed."""

    kind: str
    name: str
    columns: str
    order: tuple[str, ...]


_OF_ACCOUNTS = (
    _Table("person", "people", "person_id, name, handle, is_bot, seen_at", ("person_id",)),
    _Table("channel", "channels", "channel_id, name, kind, seen_at", ("channel_id",)),
    _Table(
        "message",
        "messages",
        "message_id, sent_at, channel_id, author_id, author_name, kind, text, thread_id, reply_to, "
        "attachments, reactions, edited_at, deleted, version, conversation_id, parent_message_id, "
        "link_reason, link_score, link_why",
        ("message_id",),
    ),
    _Table(
        "conversation",
        "conversations",
        "conversation_id, day, needs_reply, priority, last_message_at, category",
        ("conversation_id",),
    ),
    _Table(
        "conversation_state",
        "conversation_states",
        "conversation_id, hidden_until, hidden_why, assigned_to, changed_by, changed_at",
        ("conversation_id",),
    ),
    _Table(
        "analysis",
        "analyses",
        "conversation_id, day, as_of, channel_id, started_at, last_message_at, last_author, "
        "message_count, people, language, category, category_reason, priority, priority_reasons, "
        "needs_reply, needs_reply_score, needs_reply_reason, waiting_since, summary, "
        "summary_message_ids, sentiment, confidence, flags, model, prompt, stood_in, withheld",
        ("conversation_id", "day"),
    ),
    _Table(
        "draft",
        "drafts",
        "conversation_id, day, version, outcome, text, language, gaps, rests_on, reason, flags, "
        "confidence, model, prompt, stood_in, withheld",
        ("conversation_id", "day", "version"),
    ),
    _Table(
        "draft_edit",
        "draft_edits",
        "conversation_id, source_version, text, edited_by, edited_at",
        ("conversation_id",),
    ),
    _Table(
        "draft_rejection",
        "draft_rejections",
        "conversation_id, source_version, rejected_by, rejected_at, why",
        ("conversation_id", "source_version"),
    ),
    _Table(
        "approval",
        "approvals",
        "approval_id, conversation_id, channel_id, thread_id, reply_to, text, attachments, "
        "category, draft, edited, automatic, approved_by, approved_at, send_at, expires_at, "
        "ended_at",
        ("approval_id",),
    ),
    _Table(
        "delivery",
        "deliveries",
        "delivery_id, approval_id, number, of, text, state, attempts, message_id, sent_at, "
        "confirmed_at, reason, changed_at, changed_by",
        ("delivery_id",),
    ),
    _Table(
        "regrouping",
        "regroupings",
        "id, regrouping_id, message_id, parent_message_id, conversation_id, "
        "other_conversation_id, made_by, made_at, undone_by, undone_at",
        ("id",),
    ),
    _Table(
        "relabel",
        "relabels",
        "id, conversation_id, category, priority, before_category, before_priority, why, "
        "made_by, made_at",
        ("id",),
    ),
    _Table(
        "feedback",
        "feedback",
        "feedback_id, conversation_id, kind, user_id, at, source_version, approval_id, draft_text, "
        "final_text, note, model, draft_day, draft_version, category, language, rests_on, "
        "person_id, person_name, about",
        ("feedback_id",),
    ),
    _Table(
        "memory",
        "memories",
        "memory_id, user_id, scope, kind, language, rule, text, sources, state, created_at, "
        "edited_by, edited_at",
        ("memory_id",),
    ),
    _Table(
        "draft_version",
        "draft_versions",
        "conversation_id, number, text, outcome, made_by, user_id, instruction, language, gaps, "
        "rests_on, reason, flags, confidence, model, prompt, stood_in, made_at",
        ("conversation_id", "number"),
    ),
)

_OF_THE_USER = (
    (
        "contact",
        "SELECT c.contact_id, c.name, c.created_at, (SELECT json_group_array(json_array("
        "p.account, p.person_id)) FROM contact_people AS p JOIN account_members AS m "
        "ON m.account = p.account AND m.user_id = p.user_id WHERE p.user_id = c.user_id "
        "AND p.contact_id = c.contact_id) AS people FROM contacts AS c WHERE c.user_id = ?1 "
        "ORDER BY c.contact_id",
    ),
    ("setting", "SELECT key, value, updated_at FROM settings WHERE scope = 'user:' || ?1"),
    (
        "key",
        "SELECT key_id, name, scope, created_at, used_at, revoked_at FROM api_keys "
        "WHERE user_id = ?1 ORDER BY created_at",
    ),
    (
        "notification_target",
        "SELECT name, shown, operators, created_at FROM notification_targets WHERE user_id = ?1 "
        "ORDER BY name",
    ),
)

_AUDIT = """
SELECT l.id, l.at, l.user_id, l.account, l.action, l.target, l.detail, l.via FROM audit_log AS l
JOIN users AS u ON u.user_id = ?1
WHERE l.id > ?2 AND ((l.user_id = ?1 AND l.at >= u.created_at) OR EXISTS (SELECT 1
    FROM account_members AS m JOIN accounts AS a USING (account) WHERE m.user_id = ?1
    AND m.role = 'owner' AND m.account = l.account AND l.at >= a.created_at))
ORDER BY l.id LIMIT ?3
"""
"""What they did, and what others did in accounts that they own; for administrators, too: the rest
of the log is not theirs to take along."""

_NOTIFICATIONS = """
SELECT id, kind, account, conversation_id, line, state, noticed_at, ended_at, why
FROM notifications WHERE user_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3
"""


def export(database: Database, user_id: str) -> Iterator[bytes]:
    """The user's data, a line of JSON for each thing, `what` being what it is; the last line
    (`end`) says how many there are, so that a file that broke off is known. Raises `NotFound` at
    the first line. Times are UTC.

    Each page is read by itself, under the user's membership at that moment: what changes meanwhile
    may or may not be in it.
    """
    count = 0
    for what, row in _rows(database, user_id):
        count += 1
        yield _line(what, row)
    yield _line("end", {"lines": count})


def _rows(database: Database, user_id: str) -> Iterator[tuple[str, Row]]:
    user = get_user(database, user_id)
    yield "export", {"of": user_id, "at": datetime.now(UTC).isoformat(), "format": 1}
    profile = database.execute(
        "SELECT user_id, name, email, is_admin, created_at FROM users WHERE user_id = ?",
        (user.user_id,),
    )
    yield from (("user", row) for row in profile)
    for what, sql in _OF_THE_USER:
        yield from ((what, row) for row in database.execute(sql, (user_id,)))
    for account in Accounts(database, user_id).all():
        yield from _account(database, user_id, account.account)
    for what, sql in (("notification", _NOTIFICATIONS), ("audit", _AUDIT)):
        yield from ((what, row) for row in _by_id(database, sql, user_id))


def _account(database: Database, user_id: str, account: str) -> Iterator[tuple[str, Row]]:
    rows = database.execute(
        "SELECT a.account, a.platform, a.name, a.me, a.created_at, m.role FROM accounts AS a "
        "JOIN account_members AS m USING (account) WHERE m.user_id = ? AND a.account = ?",
        (user_id, account),
    )
    yield from (("account", row) for row in rows)
    for table in _OF_ACCOUNTS:
        for row in _by_keys(database, table, user_id, account):
            yield table.kind, {"account": account, **row}


def _by_keys(database: Database, table: _Table, user_id: str, account: str) -> Iterator[Row]:
    keys = ", ".join(table.order)
    last: tuple[Value, ...] = ()
    while True:
        places = ", ".join(f"?{number}" for number in range(4, 4 + len(last)))
        beyond = f"AND ({keys}) > ({places})" if last else ""
        rows = database.execute(
            f"SELECT {table.columns} FROM {table.name} WHERE account = ?1 AND EXISTS "
            "(SELECT 1 FROM account_members WHERE account = ?1 AND user_id = ?2) "
            f"{beyond} ORDER BY {keys} LIMIT ?3",
            (account, user_id, PAGE, *last),
        )
        yield from rows
        if len(rows) < PAGE:
            return
        last = tuple(rows[-1][name] for name in table.order)


def _by_id(database: Database, sql: str, user_id: str) -> Iterator[Row]:
    last = 0
    while rows := database.execute(sql, (user_id, last, PAGE)):
        yield from rows
        last = int(rows[-1]["id"])


def _line(what: str, row: Row) -> bytes:
    return orjson.dumps({"what": what, **{name: _read(name, row[name]) for name in row}}) + b"\n"


def _read(name: str, value: Any) -> Any:
    return orjson.loads(value) if name in _JSON and isinstance(value, str) else value


def export_name(user_id: str) -> str:
    """What a file with the export is called."""
    return f"communicator-{user_id}-{now_text()[:10]}.jsonl"
