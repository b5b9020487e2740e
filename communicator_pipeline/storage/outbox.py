"""The outbox in the database: approvals, deliveries, their attempts, switches, policies, notices.

Belongs here: all SQL about replies on their way out. Does not belong here: what is decided about
them (`delivery/`).

What a person asks for goes through `Outbox`, which cannot be built without a user and sees that
user's accounts only. What the pipeline does is a function, and takes an account or means all.

A delivery is written by `write` and `claim` alone, from a change that `delivery/states.py` made,
under the fence that the change began with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import orjson

from communicator_pipeline.delivery.clock import Instant, instant_of
from communicator_pipeline.delivery.states import Change, Delivery, Outcome, State
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.database import (
    Database,
    Row,
    Statement,
    Value,
    utc_text,
)
from communicator_pipeline.storage.feedback import Feedback, feedback_statement

MAY_APPROVE = ("owner", "reviewer")

FENCED = "delivery_id = ?1 AND state = ?2 AND fence = ?3"
"""Under what every write of a delivery stands: that nobody has changed it since."""

_WRITTEN = (
    "state attempts ambiguous may_repeat not_before lease_holder lease_until first_attempt_at "
    "first_attempt_steady attempt_at attempt_steady unknown_at unknown_steady looks outcome "
    "message_id sent_at confirmed_at reason changed_at changed_by"
).split()
_SET = ", ".join(f"{name} = ?{place}" for place, name in enumerate(_WRITTEN, start=4))
_NEXT = 4 + len(_WRITTEN)  # the first parameter that a further condition may have


# --- deliveries ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A delivery with its approval, and all that decides whether it may leave."""

    delivery: Delivery
    conversation_id: str
    platform: str
    channel_id: str
    thread_id: str | None
    reply_to: str | None
    whole_text: str
    parts: tuple[str, ...]
    parts_kept: str  # the same as the database spells it
    attachments: tuple[Any, ...]
    content_hash: str
    source_version: str
    seen: Mapping[str, tuple[int, str]]  # message_id → version, digest
    seen_newest_at: datetime  # by the platform's clock
    approved_by: str
    approved_at: datetime
    send_at: datetime
    expires_at: datetime
    is_sandbox: bool
    account_opens: bool
    all_stopped: bool
    account_stopped: bool
    waits_until: datetime | None  # the platform's limit on the account's sends
    waits_for_part: bool
    earlier_ended: bool
    begun: bool  # a part of it has been sent
    sender_changed: bool
    approver_gone: bool
    source_moved: bool
    unseen: bool  # there are messages, or versions, that the approver has not seen

    @property
    def overtaken(self) -> bool:
        """Whether something has changed since the approval, however little."""
        return self.unseen or self.source_moved or self.sender_changed or self.approver_gone


def write(database: Database, changes: Sequence[Change], whole: bool = False) -> list[bool]:
    """Write the changes in one transaction; for each, whether it was: False if somebody has
    changed the delivery since.

    `whole`: the changes are of one approval, and none is written unless all its parts are as they
    were when none had left.
    """
    if not changes:
        return []
    unless = (
        " AND NOT EXISTS (SELECT 1 FROM deliveries AS e WHERE e.approval_id = "
        "deliveries.approval_id AND (e.state IN ('sending', 'sent', 'confirmed', 'unknown', "
        "'needs_human') OR e.ambiguous = 1))"
        if whole
        else ""
    )
    sql = (
        f"UPDATE deliveries SET {_SET}, fence = fence + 1 WHERE {FENCED}{unless} "
        "RETURNING delivery_id"
    )
    return [bool(rows) for rows in database.batch([(sql, _params(c)) for c in changes])]


def claim(
    database: Database, change: Change, checked: Outgoing, environment_opens: bool, now: datetime
) -> bool:
    """Write a claim, if in this very moment everything stands as it was checked and nothing
    forbids it. When this returns True the claim is on the disk, and the next byte may leave."""
    sql = (
        f"UPDATE deliveries SET {_SET}, fence = fence + 1 WHERE {FENCED} AND EXISTS ("
        "SELECT 1 FROM outgoing AS o WHERE o.delivery_id = ?1 "
        f"AND o.text = ?{_NEXT} AND o.parts = ?{_NEXT + 1} AND o.whole_text = ?{_NEXT + 2} "
        f"AND o.content_hash = ?{_NEXT + 3} AND o.source_version = ?{_NEXT + 4} "
        f"AND o.channel_id = ?{_NEXT + 5} AND o.thread_id IS ?{_NEXT + 6} "
        f"AND o.reply_to IS ?{_NEXT + 7} AND o.attachments = ?{_NEXT + 8} "
        f"AND o.not_before <= ?{_NEXT + 9} AND o.send_at <= ?{_NEXT + 9} "
        f"AND o.waits_until <= ?{_NEXT + 9} AND o.expires_at > ?{_NEXT + 9} "
        f"AND o.account_opens AND (o.is_sandbox OR ?{_NEXT + 10}) "
        "AND NOT o.all_stopped AND NOT o.account_stopped AND NOT o.waits_for_part "
        "AND NOT o.sender_changed "
        "AND (o.begun OR NOT (o.unseen OR o.source_moved OR o.approver_gone))"
        ") RETURNING delivery_id"
    )
    verified: tuple[Value, ...] = (
        change.before.text,
        checked.parts_kept,
        checked.whole_text,
        checked.content_hash,
        checked.source_version,
        checked.channel_id,
        checked.thread_id,
        checked.reply_to,
        _json(checked.attachments),
        utc_text(now),
        int(environment_opens),
    )
    return bool(database.execute(sql, (*_params(change), *verified)))


def is_still_there(database: Database, reply: Outgoing) -> bool:
    """Whether nobody has changed the delivery since it was read: a look that takes no lock, before
    a claim that does."""
    rows = database.execute(
        "SELECT 1 FROM deliveries WHERE delivery_id = ? AND fence = ?",
        (reply.delivery.delivery_id, reply.delivery.fence),
    )
    return bool(rows)


def waiting_to_leave(
    database: Database,
    now: datetime,
    account: str | None,
    environment_opens: bool,
    most: int = 1_000,
) -> list[Outgoing]:
    """What is approved, whose time has come and whose gates are open, in the order in which it was
    to go, parts in theirs; whether anything else forbids it stands in each."""
    rows = database.execute(
        "SELECT * FROM outgoing WHERE state = 'approved' AND send_at <= ?1 AND not_before <= ?1 "
        "AND waits_until <= ?1 AND (?2 IS NULL OR account = ?2) AND account_opens "
        "AND (is_sandbox OR ?3) AND NOT all_stopped AND NOT account_stopped "
        "AND NOT waits_for_part ORDER BY send_at, approval_id, number LIMIT ?4",
        (utc_text(now), account, int(environment_opens), most),
    )
    return [_outgoing(row) for row in rows]


def overtaken(database: Database, now: datetime, account: str | None = None) -> list[Outgoing]:
    """What is approved and may have to be taken back: something changed, it is too old, or an
    earlier part did not go out."""
    rows = database.execute(
        "SELECT * FROM outgoing WHERE state = 'approved' AND (?2 IS NULL OR account = ?2) "
        "AND (unseen OR source_moved OR sender_changed OR approver_gone OR earlier_ended "
        "OR expires_at <= ?1) ORDER BY approval_id, number",
        (utc_text(now), account),
    )
    return [_outgoing(row) for row in rows]


def in_state(
    database: Database, state: State, account: str | None = None, most: int = 1_000
) -> list[Outgoing]:
    """The deliveries in a state, the longest there first."""
    rows = database.execute(
        "SELECT * FROM outgoing WHERE state = ?1 AND (?2 IS NULL OR account = ?2) "
        "ORDER BY changed_at, delivery_id LIMIT ?3",
        (state, account, most),
    )
    return [_outgoing(row) for row in rows]


def has_any(database: Database, states: Sequence[State]) -> bool:
    """Whether a delivery is in one of these states: a look that takes no lock."""
    rows = database.execute(
        "SELECT 1 FROM deliveries WHERE state IN (SELECT value FROM json_each(?)) LIMIT 1",
        (_json(states),),
    )
    return bool(rows)


def load_delivery(database: Database, delivery_id: str) -> Outgoing:
    """One delivery, for the pipeline; raises `NotFound`."""
    rows = database.execute("SELECT * FROM outgoing WHERE delivery_id = ?", (delivery_id,))
    if not rows:
        raise NotFound(f"there is no delivery {delivery_id!r}: `communicator outbox` shows them")
    return _outgoing(rows[0])


def owner_of_message(database: Database, account: str, message_id: str) -> str | None:
    """The delivery that is known to have made a message of the platform's."""
    rows = database.execute(
        "SELECT delivery_id FROM deliveries WHERE account = ? AND message_id = ?",
        (account, message_id),
    )
    return rows[0]["delivery_id"] if rows else None


def echoes(database: Database, account: str | None = None) -> list[Outgoing]:
    """What was sent, or may have been, and whose message has come back to us."""
    rows = database.execute(
        "SELECT o.* FROM outgoing AS o JOIN messages AS g ON g.account = o.account "
        "AND g.message_id = o.message_id WHERE o.state IN ('sent', 'unknown') "
        "AND (?1 IS NULL OR o.account = ?1)",
        (account,),
    )
    return [_outgoing(row) for row in rows]


def echo_of(database: Database, reply: Outgoing) -> tuple[str, datetime] | None:
    """The one own message in the target chat, since the approval, that says the same and that no
    delivery is known to have made: its id and time. For when a person says that it was sent."""
    rows = database.execute(
        "SELECT g.message_id, g.sent_at FROM messages AS g JOIN accounts AS p USING (account) "
        "WHERE g.account = ?1 AND g.channel_id = ?2 AND g.sent_at >= ?3 AND trim(g.text) = ?4 "
        "AND NOT g.deleted AND g.author_id IN (SELECT value FROM json_each(p.me)) "
        "AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.account = g.account "
        "AND d.message_id = g.message_id) LIMIT 2",
        (
            reply.delivery.account,
            reply.channel_id,
            utc_text(reply.seen_newest_at),
            reply.delivery.text.strip(),
        ),
    )
    if len(rows) != 1:
        return None
    return rows[0]["message_id"], _time(rows[0]["sent_at"])


def wait_to_send(database: Database, account: str, until: datetime, why: str) -> None:
    """Keep a limit on an account's sends. A later deadline stays."""
    database.execute(
        "INSERT INTO platform_waits (scope, account, until, why) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (scope) DO UPDATE SET until = max(until, excluded.until), why = excluded.why",
        (f"send:{account}", account, utc_text(until), why),
    )


# --- what an answer rests on -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceMessage:
    """A message of the conversation that is answered, as it is now."""

    message_id: str
    version: int
    channel_id: str
    thread_id: str | None
    sent_at: datetime
    author: str
    author_id: str
    from_me: bool
    ours: bool  # we sent it
    text: str
    attachments: str  # JSON
    deleted: bool


def source_messages(
    database: Database, account: str, conversation_id: str, most: int
) -> list[SourceMessage]:
    """The newest messages of a conversation, in order of time."""
    rows = database.execute(_SOURCE_MESSAGES, (account, conversation_id, most))
    return _source_messages(rows)


_SOURCE_MESSAGES = (
    "SELECT g.message_id, g.version, g.channel_id, g.thread_id, g.sent_at, g.author_id, "
    "coalesce(p.name, nullif(g.author_name, ''), g.author_id) AS author, "
    "g.author_id IN (SELECT value FROM json_each(o.me)) AS from_me, EXISTS (SELECT 1 "
    "FROM deliveries AS d WHERE d.account = g.account AND d.message_id = g.message_id) "
    "AS ours, g.text, g.attachments, g.deleted FROM messages AS g "
    "JOIN accounts AS o USING (account) LEFT JOIN people AS p ON p.account = g.account "
    "AND p.person_id = g.author_id WHERE g.account = ?1 AND g.conversation_id = ?2 "
    "AND g.kind = 'message' ORDER BY g.sent_at DESC, g.message_id DESC LIMIT ?3"
)


def _source_messages(newest_first: Sequence[Row]) -> list[SourceMessage]:
    return [
        SourceMessage(
            row["message_id"],
            int(row["version"]),
            row["channel_id"],
            row["thread_id"],
            _time(row["sent_at"]),
            row["author"],
            row["author_id"],
            bool(row["from_me"]),
            bool(row["ours"]),
            row["text"],
            row["attachments"],
            bool(row["deleted"]),
        )
        for row in reversed(newest_first)
    ]


@dataclass(frozen=True, slots=True)
class Proposable:
    """What a proposal is made of, as it was at one moment."""

    role: str  # the user's, in the account
    draft: Row | None  # the pipeline's, as `_DRAFT` reads it; None: no such conversation
    messages: Sequence[SourceMessage]  # in order of time
    redraft: Row | None  # the newest one, whether or not it still counts
    edit: Row | None  # what a person made of a draft: `text`, `source_version`, `edited_by`
    rejected_by: Mapping[str, str]  # source version → who turned its draft down


def proposable(
    database: Database,
    user_id: str,
    account: str,
    conversation_id: str,
    most: int,
    newest_redraft: str,
) -> Proposable:
    """Read it all with one call of the database. `most`: messages, the newest; `newest_redraft`:
    the query (account, conversation_id) of `draft_versions.py`. Raises `NotFound` for an account
    that is not the user's."""
    where = (account, conversation_id)
    roles, drafts, messages, redrafts, edits, rejections = database.batch(
        [
            (_ROLE, (account, user_id)),
            (_DRAFT, (user_id, *where)),
            (_SOURCE_MESSAGES, (*where, most)),
            (newest_redraft, where),
            (
                "SELECT text, source_version, edited_by FROM draft_edits "
                "WHERE account = ? AND conversation_id = ?",
                where,
            ),
            (
                "SELECT source_version, rejected_by FROM draft_rejections "
                "WHERE account = ? AND conversation_id = ?",
                where,
            ),
        ]
    )
    return Proposable(
        _role(roles, account),
        drafts[0] if drafts else None,
        _source_messages(messages),
        redrafts[0] if redrafts else None,
        edits[0] if edits else None,
        {row["source_version"]: row["rejected_by"] for row in rejections},
    )


_ROLE = "SELECT role FROM account_members WHERE account = ? AND user_id = ?"


def _role(rows: Sequence[Row], account: str) -> str:
    if not rows:
        raise NotFound(f"there is no account {account!r} among yours")
    return str(rows[0]["role"])


_DRAFT = (
    "SELECT c.conversation_id, a.category, h.kind AS channel_kind, d.day, d.version, "
    "d.outcome, d.text, d.gaps, d.flags, d.confidence, d.model, d.rests_on, d.reason, "
    "coalesce(d.language, a.language) AS language FROM conversations AS c "
    "JOIN account_members AS m ON m.account = c.account AND m.user_id = ?1 "
    "JOIN analyses AS a ON a.account = c.account AND a.conversation_id = c.conversation_id "
    "AND a.day = c.day LEFT JOIN channels AS h ON h.account = c.account "
    "AND h.channel_id = a.channel_id LEFT JOIN drafts AS d ON d.account = c.account "
    "AND d.conversation_id = c.conversation_id AND d.day = c.day "
    "WHERE c.account = ?2 AND c.conversation_id = ?3"
)
"""A conversation's newest draft, with its category and the channel's kind (user, account,
conversation_id). The draft's columns are null where it has none."""


def see_more(
    database: Database,
    approval_id: str,
    before: Mapping[str, tuple[int, str]],
    after: Mapping[str, tuple[int, str]],
) -> bool:
    """Count as seen what is no reason to take an approval back; False if somebody else did."""
    rows = database.execute(
        "UPDATE approvals SET seen = ?3 WHERE approval_id = ?1 AND seen = ?2 RETURNING approval_id",
        (approval_id, _json(before), _json(after)),
    )
    return bool(rows)


# --- approving -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewApproval:
    """All that an approval binds."""

    approval_id: str
    account: str
    conversation_id: str
    channel_id: str
    thread_id: str | None
    reply_to: str | None
    text: str
    parts: tuple[str, ...]
    tokens: tuple[str, ...]
    content_hash: str
    source_version: str
    seen: Mapping[str, tuple[int, str]]
    seen_since: datetime
    seen_newest: str
    seen_newest_at: datetime
    category: str | None
    draft_day: str | None
    draft_version: int | None
    edited: bool
    automatic: bool
    approved_by: str
    approved_at: datetime
    send_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """The approval that stands for a conversation or a content: ours, or whoever was first."""

    approval_id: str
    approved_by: str
    approved_at: datetime
    send_at: datetime
    content_hash: str
    alive: bool  # on its way, or with a person; else it was sent


def insert_approval(
    database: Database, new: NewApproval, feedback: Feedback | None = None
) -> Standing | None:
    """Write an approval, its deliveries and what it says of the draft in one transaction, unless a
    reply to the conversation is on its way already, or this very content was sent.

    Returns the approval that stands afterwards: the new one, or the one that was in the way. None:
    the approver may not (any more), or the policy does not allow one more.
    """
    values: dict[str, Value] = {
        "approval_id": new.approval_id,
        "account": new.account,
        "conversation_id": new.conversation_id,
        "channel_id": new.channel_id,
        "thread_id": new.thread_id,
        "reply_to": new.reply_to,
        "text": new.text,
        "content_hash": new.content_hash,
        "source_version": new.source_version,
        "seen": _json(new.seen),
        "seen_since": utc_text(new.seen_since),
        "seen_newest": new.seen_newest,
        "seen_newest_at": utc_text(new.seen_newest_at),
        "category": new.category,
        "draft_day": new.draft_day,
        "draft_version": new.draft_version,
        "edited": int(new.edited),
        "automatic": int(new.automatic),
        "approved_by": new.approved_by,
        "approved_at": utc_text(new.approved_at),
        "send_at": utc_text(new.send_at),
        "expires_at": utc_text(new.expires_at),
    }
    at = {name: f"?{place}" for place, name in enumerate(values, start=1)}
    conditions = [
        f"p.account = {at['account']}",
        f"EXISTS (SELECT 1 FROM account_members AS m WHERE m.account = {at['account']} "
        f"AND m.user_id = {at['approved_by']} AND m.role IN {MAY_APPROVE})",
        f"NOT EXISTS (SELECT 1 FROM approvals WHERE account = {at['account']} "
        f"AND conversation_id = {at['conversation_id']} AND ended_at IS NULL)",
        f"NOT EXISTS (SELECT 1 FROM approvals AS b WHERE b.account = {at['account']} "
        f"AND b.content_hash = {at['content_hash']} AND {_WAS_SENT})",
    ]
    if new.automatic:
        conditions.append(
            f"EXISTS (SELECT 1 FROM sending_policies AS s WHERE s.account = {at['account']} "
            f"AND s.category = {at['category']} AND s.revoked_at IS NULL AND s.daily_cap > "
            f"(SELECT count(*) FROM approvals AS b WHERE b.account = {at['account']} "
            f"AND b.category = {at['category']} AND b.automatic = 1 "
            f"AND b.approved_at >= substr({at['approved_at']}, 1, 10)))"
        )
    # The draft itself goes with it: when the conversation is over, the inbox lets go of it.
    draft = (
        "(SELECT json_object('day', w.day, 'version', w.version, 'text', w.text, 'model', w.model, "
        "'reason', w.reason, 'rests_on', json(w.rests_on), 'confidence', w.confidence) "
        f"FROM drafts AS w WHERE w.account = {at['account']} "
        f"AND w.conversation_id = {at['conversation_id']} AND w.day = {at['draft_day']} "
        f"AND w.version = {at['draft_version']})"
    )
    insert: Statement = (
        f"INSERT INTO approvals ({', '.join(values)}, sender, draft) "
        f"SELECT {', '.join(at.values())}, p.platform || ' ' || p.me, {draft} "
        f"FROM accounts AS p WHERE {' AND '.join(conditions)}",
        tuple(values.values()),
    )
    was_written = "EXISTS (SELECT 1 FROM approvals WHERE approval_id = ?1)"
    parts = [
        {"id": f"{new.approval_id}-{number}", "number": number, "text": text, "token": token}
        for number, (text, token) in enumerate(zip(new.parts, new.tokens, strict=True), start=1)
    ]
    actor = f"policy:{new.category}" if new.automatic else f"user:{new.approved_by}"
    statements: list[Statement] = [
        insert,
        (
            "INSERT INTO deliveries (delivery_id, approval_id, account, number, of, text, token, "
            "changed_at, changed_by) SELECT value ->> 'id', ?1, ?2, value ->> 'number', ?3, "
            "value ->> 'text', value ->> 'token', ?4, ?5 FROM json_each(?6) "
            f"WHERE {was_written} ORDER BY value ->> 'number'",
            (
                new.approval_id,
                new.account,
                len(parts),
                utc_text(new.approved_at),
                actor,
                _json(parts),
            ),
        ),
        (
            "DELETE FROM draft_edits WHERE account = ?2 AND conversation_id = ?3 "
            f"AND {was_written}",
            (new.approval_id, new.account, new.conversation_id),
        ),
        (
            "SELECT approval_id, approved_by, approved_at, send_at, content_hash, "
            "ended_at IS NULL AS alive FROM approvals AS b WHERE b.account = ?2 "
            "AND EXISTS (SELECT 1 FROM account_members AS m WHERE m.account = ?2 "
            f"AND m.user_id = ?5 AND m.role IN {MAY_APPROVE}) "
            "AND ((b.conversation_id = ?3 AND b.ended_at IS NULL) "
            f"OR (b.content_hash = ?4 AND {_WAS_SENT})) "
            "ORDER BY approval_id = ?1 DESC, content_hash = ?4 DESC LIMIT 1",
            (
                new.approval_id,
                new.account,
                new.conversation_id,
                new.content_hash,
                new.approved_by,
            ),
        ),
    ]
    if new.edited:
        statements.append(
            (
                "UPDATE sending_policies SET revoked_at = ?3, revoked_why = ?4 WHERE account = ?2 "
                f"AND category = ?5 AND revoked_at IS NULL AND {was_written}",
                (
                    new.approval_id,
                    new.account,
                    utc_text(new.approved_at),
                    f"{new.approved_by} changed a draft of this category",
                    new.category,
                ),
            )
        )
    if feedback is not None:
        statements.append(
            feedback_statement(feedback, "EXISTS (SELECT 1 FROM approvals WHERE approval_id = ?8)")
        )
    found = database.batch(statements)[3]
    return _standing(found[0]) if found else None


def alive(database: Database, account: str, conversation_id: str) -> Standing | None:
    """The approval that is on its way to a conversation, or waits for a person."""
    rows = database.execute(
        "SELECT approval_id, approved_by, approved_at, send_at, content_hash, 1 AS alive "
        "FROM approvals WHERE account = ? AND conversation_id = ? AND ended_at IS NULL",
        (account, conversation_id),
    )
    return _standing(rows[0]) if rows else None


def _standing(row: Row) -> Standing:
    return Standing(
        row["approval_id"],
        row["approved_by"],
        _time(row["approved_at"]),
        _time(row["send_at"]),
        row["content_hash"],
        bool(row["alive"]),
    )


_WAS_SENT = (
    "EXISTS (SELECT 1 FROM deliveries AS d WHERE d.approval_id = b.approval_id "
    "AND d.state IN ('sent', 'confirmed'))"
)


def prolong(database: Database, approval_id: str, expires_at: datetime) -> None:
    """A person has decided about it just now: it does not expire for what it waited before."""
    database.execute(
        "UPDATE approvals SET expires_at = max(expires_at, ?2) WHERE approval_id = ?1",
        (approval_id, utc_text(expires_at)),
    )


# --- notices ---------------------------------------------------------------------------------


def raise_notice(database: Database, reply: Outgoing, cause: str, text: str, now: datetime) -> bool:
    """Tell the inbox about a reply that could not be taken back; once for each cause."""
    rows = database.execute(
        "INSERT OR IGNORE INTO delivery_notices (approval_id, cause, account, conversation_id, "
        "text, raised_at) VALUES (?, ?, ?, ?, ?, ?) RETURNING approval_id",
        (
            reply.delivery.approval_id,
            cause,
            reply.delivery.account,
            reply.conversation_id,
            text,
            utc_text(now),
        ),
    )
    return bool(rows)


def crossed_on_the_way(database: Database, since: datetime, account: str | None) -> list[Outgoing]:
    """The last parts of replies sent since then that crossed something which their approver had not
    seen: a message, or a new version of an older one."""
    rows = database.execute(
        "SELECT * FROM outgoing WHERE state IN ('sent', 'confirmed') AND number = of "
        "AND sent_at >= ?1 AND (?2 IS NULL OR account = ?2) AND EXISTS ("
        "SELECT message_id, version FROM messages AS g WHERE g.account = outgoing.account "
        "AND g.conversation_id = outgoing.conversation_id AND g.kind = 'message' "
        "AND g.sent_at BETWEEN outgoing.seen_since AND outgoing.sent_at AND NOT EXISTS (SELECT 1 "
        "FROM deliveries AS e WHERE e.account = g.account AND e.message_id = g.message_id) "
        "EXCEPT SELECT key, value ->> 0 FROM json_each(outgoing.seen)) ORDER BY sent_at",
        (utc_text(since), account),
    )
    return [_outgoing(row) for row in rows]


# --- policies --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Policy:
    """Under what drafts of a category are approved without a person."""

    account: str
    category: str
    threshold: float  # of the draft's confidence, 0…1
    daily_cap: int  # approvals a day (UTC)
    opened_by: str
    opened_at: datetime
    revoked_at: datetime | None
    revoked_why: str
    used_today: int

    @property
    def is_open(self) -> bool:
        return self.revoked_at is None


def policies(database: Database, account: str, now: datetime) -> dict[str, Policy]:
    """category → policy, revoked ones too."""
    rows = database.execute(
        "SELECT s.*, (SELECT count(*) FROM approvals AS b WHERE b.account = s.account "
        "AND b.category = s.category AND b.automatic = 1 AND b.approved_at >= ?2) AS used "
        "FROM sending_policies AS s WHERE s.account = ?1 ORDER BY category",
        (account, now.astimezone(UTC).date().isoformat()),
    )
    return {row["category"]: _policy(row) for row in rows}


def accounts_with_policies(database: Database) -> list[str]:
    """The accounts that have an open policy."""
    rows = database.execute(
        "SELECT DISTINCT account FROM sending_policies WHERE revoked_at IS NULL ORDER BY account"
    )
    return [row["account"] for row in rows]


def drafts_to_judge(database: Database, account: str) -> list[Row]:
    """The newest drafts of conversations that wait for a reply, in categories with an open policy,
    to which nothing is on its way: with the conversation's category and flags."""
    rows = database.execute(
        "SELECT c.conversation_id, a.category, a.flags AS conversation_flags, d.day, d.version, "
        "d.outcome, d.text, d.flags, d.gaps, d.confidence, d.prompt, p.platform "
        "FROM conversations AS c JOIN accounts AS p USING (account) JOIN analyses AS a "
        "ON a.account = c.account AND a.conversation_id = c.conversation_id AND a.day = c.day "
        "JOIN drafts AS d ON d.account = c.account AND d.conversation_id = c.conversation_id "
        "AND d.day = c.day JOIN sending_policies AS s ON s.account = c.account "
        "AND s.category = a.category AND s.revoked_at IS NULL WHERE c.account = ?1 "
        "AND c.needs_reply AND NOT EXISTS (SELECT 1 FROM approvals AS b "
        "WHERE b.account = c.account AND b.conversation_id = c.conversation_id "
        "AND (b.ended_at IS NULL OR (b.draft_day = d.day AND b.draft_version = d.version))) "
        "ORDER BY c.priority DESC, c.conversation_id",
        (account,),
    )
    return [
        row | {name: orjson.loads(row[name]) for name in ("conversation_flags", "flags", "gaps")}
        for row in rows
    ]


def _policy(row: Row) -> Policy:
    return Policy(
        row["account"],
        row["category"],
        float(row["threshold"]),
        int(row["daily_cap"]),
        row["opened_by"],
        _time(row["opened_at"]),
        _time(row["revoked_at"]) if row["revoked_at"] else None,
        row["revoked_why"],
        int(row["used"]),
    )


# --- people ----------------------------------------------------------------------------------


class Outbox:
    """The replies of the accounts that one user may see."""

    def __init__(self, database: Database, user_id: str) -> None:
        self.database = database
        self.user_id = user_id

    def role(self, account: str) -> str:
        """The user's role in an account; raises `NotFound` for one that is not theirs."""
        return _role(self.database.execute(_ROLE, (account, self.user_id)), account)

    def is_admin(self) -> bool:
        rows = self.database.execute(
            "SELECT is_admin FROM users WHERE user_id = ?", (self.user_id,)
        )
        return bool(rows and rows[0]["is_admin"])

    def get(self, delivery_id: str) -> Outgoing:
        """One delivery; raises `NotFound` also for another user's."""
        rows = self.database.execute(
            "SELECT o.* FROM outgoing AS o JOIN account_members AS m ON m.account = o.account "
            "AND m.user_id = ?1 WHERE o.delivery_id = ?2",
            (self.user_id, delivery_id),
        )
        if not rows:
            raise NotFound(
                f"there is no delivery {delivery_id!r}: `communicator outbox` shows them"
            )
        return _outgoing(rows[0])

    def parts(self, approval_id: str) -> list[Outgoing]:
        """The deliveries of an approval, in order; raises `NotFound`. A delivery's id will do."""
        rows = self.database.execute(
            "SELECT o.* FROM outgoing AS o JOIN account_members AS m ON m.account = o.account "
            "AND m.user_id = ?1 WHERE o.approval_id = coalesce((SELECT approval_id "
            "FROM deliveries WHERE delivery_id = ?2), ?2) ORDER BY o.number",
            (self.user_id, approval_id),
        )
        if not rows:
            raise NotFound(
                f"there is no approval {approval_id!r}: `communicator outbox` shows them"
            )
        return [_outgoing(row) for row in rows]

    def deliveries(
        self,
        account: str | None = None,
        states: Sequence[State] = (),
        limit: int = 100,
        conversation_id: str | None = None,
    ) -> list[Outgoing]:
        """The user's deliveries, the last changed first; in some states only, if any are named."""
        rows = self.database.execute(
            "SELECT o.* FROM outgoing AS o JOIN account_members AS m ON m.account = o.account "
            "AND m.user_id = ?1 WHERE (?2 IS NULL OR o.account = ?2) AND (?3 = '[]' OR o.state IN "
            "(SELECT value FROM json_each(?3))) AND (?5 IS NULL OR o.conversation_id = ?5) "
            "ORDER BY o.changed_at DESC, o.delivery_id LIMIT ?4",
            (self.user_id, account, _json(list(states)), limit, conversation_id),
        )
        return [_outgoing(row) for row in rows]

    def attempts(self, delivery_id: str) -> list[Row]:
        """Every attempt at a delivery, in order."""
        self.get(delivery_id)
        return self.database.execute(
            "SELECT attempt, fence, holder, started_at, ended_at, outcome, error, message_id "
            "FROM delivery_attempts WHERE delivery_id = ? ORDER BY attempt",
            (delivery_id,),
        )

    def log(self, delivery_id: str) -> list[Row]:
        """Every change of a delivery, in order: `at`, `actor`, `before`, `after`, `reason`."""
        self.get(delivery_id)
        return self.database.execute(
            "SELECT fence, at, actor, before, after, reason FROM delivery_log "
            "WHERE delivery_id = ? ORDER BY fence",
            (delivery_id,),
        )

    # --- drafts

    def keep_edit(
        self,
        account: str,
        conversation_id: str,
        source_version: str,
        text: str,
        now: datetime,
        feedback: Feedback | None = None,
    ) -> None:
        """Keep a text for later approval, in the place of one that was kept before, and what it
        says of the draft."""
        self.must_approve(account)
        self.database.batch(
            [
                (
                    "INSERT OR REPLACE INTO draft_edits (account, conversation_id, "
                    "source_version, text, edited_by, edited_at) VALUES (?, ?, ?, ?, ?, ?)",
                    (account, conversation_id, source_version, text, self.user_id, utc_text(now)),
                ),
                *([feedback_statement(feedback)] if feedback else []),
            ]
        )

    def keep_rejection(
        self,
        account: str,
        conversation_id: str,
        source_version: str,
        why: str,
        now: datetime,
        feedback: Feedback | None = None,
    ) -> None:
        """Note that a draft is not wanted, and why."""
        self.must_approve(account)
        self.database.batch(
            [
                (
                    "INSERT OR REPLACE INTO draft_rejections (account, conversation_id, "
                    "source_version, rejected_by, rejected_at, why) VALUES (?, ?, ?, ?, ?, ?)",
                    (account, conversation_id, source_version, self.user_id, utc_text(now), why),
                ),
                (
                    "DELETE FROM draft_edits WHERE account = ? AND conversation_id = ?",
                    (account, conversation_id),
                ),
                *([feedback_statement(feedback)] if feedback else []),
            ]
        )

    # --- switches

    def stop_sending(self, account: str | None, why: str, now: datetime) -> None:
        """The kill switch: nothing leaves any more, of one account or (for an administrator, with
        None) of the installation. What is being sent this very moment is not called back."""
        scope = self._scope(account)
        self.database.execute(
            "INSERT OR REPLACE INTO sending_switches (scope, account, closed_by, closed_at, why) "
            "VALUES (?, ?, ?, ?, ?)",
            (scope, account, self.user_id, utc_text(now), why),
        )

    def resume_sending(self, account: str | None) -> None:
        """Take the kill switch back."""
        self.database.execute(
            "DELETE FROM sending_switches WHERE scope = ?", (self._scope(account),)
        )

    def switches(self) -> list[Row]:
        """The kill switches that are thrown, as far as they concern the user."""
        return self.database.execute(
            "SELECT scope, account, closed_by, closed_at, why FROM sending_switches "
            "WHERE account IS NULL OR account IN "
            "(SELECT account FROM account_members WHERE user_id = ?) ORDER BY scope",
            (self.user_id,),
        )

    def _scope(self, account: str | None) -> str:
        if account is not None:
            self.must_approve(account)
            return f"account:{account}"
        if not self.is_admin():
            raise PermissionError("only an administrator stops or resumes all sending")
        return "installation"

    # --- policies

    def open_policy(
        self, account: str, category: str, threshold: float, daily_cap: int, now: datetime
    ) -> None:
        """Have drafts of a category approved without a person from now on."""
        if self.role(account) != "owner":
            raise PermissionError(f"only an owner of {account} can have replies approved unseen")
        self.database.execute(
            "INSERT OR REPLACE INTO sending_policies (account, category, threshold, daily_cap, "
            "opened_by, opened_at) VALUES (?, ?, ?, ?, ?, ?)",
            (account, category, threshold, daily_cap, self.user_id, utc_text(now)),
        )

    def revoke_policy(self, account: str, category: str, why: str, now: datetime) -> bool:
        """Have a person approve from now on; False if it was so."""
        self.must_approve(account)
        rows = self.database.execute(
            "UPDATE sending_policies SET revoked_at = ?3, revoked_why = ?4 WHERE account = ?1 "
            "AND category = ?2 AND revoked_at IS NULL RETURNING category",
            (account, category, utc_text(now), why),
        )
        return bool(rows)

    def policies(self, account: str, now: datetime) -> dict[str, Policy]:
        self.role(account)
        return policies(self.database, account, now)

    # --- notices

    def notices(self, account: str | None = None) -> list[Row]:
        """What came too late to void a reply and nobody has read, the newest first."""
        return self.database.execute(
            "SELECT n.approval_id, n.cause, n.account, n.conversation_id, n.text, n.raised_at "
            "FROM delivery_notices AS n JOIN account_members AS m ON m.account = n.account "
            "AND m.user_id = ?1 WHERE n.read_at IS NULL AND (?2 IS NULL OR n.account = ?2) "
            "ORDER BY n.raised_at DESC, n.cause",
            (self.user_id, account),
        )

    def read_notices(self, approval_id: str, now: datetime) -> int:
        """Take an approval's notices out of the inbox; returns how many."""
        rows = self.database.execute(
            "UPDATE delivery_notices SET read_at = ?3 WHERE approval_id = ?2 AND read_at IS NULL "
            "AND account IN (SELECT account FROM account_members WHERE user_id = ?1) "
            "RETURNING cause",
            (self.user_id, approval_id, utc_text(now)),
        )
        return len(rows)

    def must_approve(self, account: str) -> None:
        """Raise `PermissionError` for a viewer, `NotFound` for an account that is not theirs."""
        role = self.role(account)
        if role not in MAY_APPROVE:
            raise PermissionError(
                f"you are a {role} of {account}: an owner or a reviewer can do this"
            )


# --- rows ------------------------------------------------------------------------------------


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _time(text: str) -> datetime:
    # As `from_utc_text`, which takes ten times as long: a round reads thousands of them.
    return datetime.fromisoformat(text)


def _moment(text: str | None) -> datetime | None:
    return _time(text) if text else None


def _instant(row: Row, name: str) -> Instant | None:
    at = row[f"{name}_at"]
    return instant_of(_time(at), row[f"{name}_steady"]) if at else None


def _delivery(row: Row) -> Delivery:
    return Delivery(
        delivery_id=row["delivery_id"],
        approval_id=row["approval_id"],
        account=row["account"],
        number=int(row["number"]),
        of=int(row["of"]),
        text=row["text"],
        token=row["token"],
        state=cast(State, row["state"]),
        fence=int(row["fence"]),
        attempts=int(row["attempts"]),
        ambiguous=bool(row["ambiguous"]),
        may_repeat=bool(row["may_repeat"]),
        not_before=_moment(row["not_before"]),
        lease_holder=row["lease_holder"],
        lease_until=_moment(row["lease_until"]),
        first_attempt=_instant(row, "first_attempt"),
        attempt=_instant(row, "attempt"),
        unknown_since=_instant(row, "unknown"),
        looks=int(row["looks"]),
        outcome=cast(Outcome, row["outcome"]),
        message_id=row["message_id"],
        sent_at=_moment(row["sent_at"]),
        confirmed_at=_moment(row["confirmed_at"]),
        reason=row["reason"],
        changed_at=_time(row["changed_at"]),
        changed_by=row["changed_by"],
    )


def _outgoing(row: Row) -> Outgoing:
    return Outgoing(
        delivery=_delivery(row),
        conversation_id=row["conversation_id"],
        platform=row["platform"],
        channel_id=row["channel_id"],
        thread_id=row["thread_id"],
        reply_to=row["reply_to"],
        whole_text=row["whole_text"],
        parts=tuple(orjson.loads(row["parts"])),
        parts_kept=row["parts"],
        attachments=tuple(orjson.loads(row["attachments"])),
        content_hash=row["content_hash"],
        source_version=row["source_version"],
        seen={key: (int(v[0]), str(v[1])) for key, v in orjson.loads(row["seen"]).items()},
        seen_newest_at=_time(row["seen_newest_at"]),
        approved_by=row["approved_by"],
        approved_at=_time(row["approved_at"]),
        send_at=_time(row["send_at"]),
        expires_at=_time(row["expires_at"]),
        is_sandbox=bool(row["is_sandbox"]),
        account_opens=bool(row["account_opens"]),
        all_stopped=bool(row["all_stopped"]),
        account_stopped=bool(row["account_stopped"]),
        waits_until=_moment(row["waits_until"]),
        waits_for_part=bool(row["waits_for_part"]),
        earlier_ended=bool(row["earlier_ended"]),
        begun=bool(row["begun"]),
        sender_changed=bool(row["sender_changed"]),
        approver_gone=bool(row["approver_gone"]),
        source_moved=bool(row["source_moved"]),
        unseen=bool(row["unseen"]),
    )


def _params(change: Change) -> tuple[Value, ...]:
    """The fence that the change began with, then the values of `_WRITTEN`."""
    before, after = change

    def wall(instant: Instant | None) -> str:
        return utc_text(instant.wall) if instant else ""

    def steady(instant: Instant | None) -> str:
        return instant.steady_text() if instant else ""

    def text(moment: datetime | None) -> str:
        return utc_text(moment) if moment else ""

    return (
        before.delivery_id,
        before.state,
        before.fence,
        after.state,
        after.attempts,
        int(after.ambiguous),
        int(after.may_repeat),
        text(after.not_before),
        after.lease_holder,
        text(after.lease_until),
        wall(after.first_attempt),
        steady(after.first_attempt),
        wall(after.attempt),
        steady(after.attempt),
        wall(after.unknown_since),
        steady(after.unknown_since),
        after.looks,
        after.outcome,
        after.message_id,
        text(after.sent_at) or None,
        text(after.confirmed_at) or None,
        after.reason,
        utc_text(after.changed_at),
        after.changed_by,
    )
