"""What people correct: which messages belong together, a conversation's category and priority.

Belongs here: keeping a person's word and what it sets in motion, in one transaction: what is shown
at once, and the days that are to be made again. Does not belong here: how messages are grouped with
it (`grouping/links.py`), how analyses carry it (`chain/analyses.py`).

A regrouping is about one message: it continues an earlier message of its channel, or begins a
conversation. Merging two conversations links the root of the later one to what was said last in the
earlier one before it; so a message still links to at most one earlier message, and a conversation
is still named after its root. The newest word on a message that was not taken back is in force.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, Literal

import orjson

from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.database import Database, Row, Statement, utc_text
from communicator_pipeline.storage.feedback import (
    Feedback,
    FeedbackKind,
    feedback_id,
    feedback_statement,
)
from communicator_pipeline.storage.outbox import Outbox

LONGEST_WHY = 1_000  # characters

BY_HAND: Final = "you set this"
"""The reason that stands beside what a person set. It does not say who: reasons are in the lake."""


class _Keep(Enum):
    """Left as it is: `None` gives a label back to the analysis."""

    KEEP = "keep"


KEEP: Final = _Keep.KEEP


@dataclass(frozen=True, slots=True)
class Label:
    """What people set for a conversation; None: the analysis decides."""

    category: str | None = None
    priority: int | None = None  # 0…100


@dataclass(frozen=True, slots=True)
class Regrouped:
    """A regrouping as it stands after it was said or taken back."""

    regrouping_id: str
    account: str
    kind: Literal["merge", "split"]
    conversation_id: str  # which the message belongs to once its days have been made again
    is_new: bool  # False: it was so already


# --- for the chain ---------------------------------------------------------------------------


def placements(database: Database, account: str) -> dict[str, str | None]:
    """message_id → the earlier message that it continues, None where a conversation begins with
    it: what people said of an account's messages and have not taken back."""
    rows = database.execute(
        "SELECT message_id, parent_message_id FROM regroupings "
        "WHERE account = ? AND undone_at IS NULL ORDER BY id",
        (account,),
    )
    return {row["message_id"]: row["parent_message_id"] for row in rows}


def labels(database: Database, account: str) -> dict[str, Label]:
    """conversation_id → what people set for it, where they set anything."""
    rows = database.execute(
        "SELECT conversation_id, category, priority FROM relabels WHERE account = ?1 AND id IN "
        "(SELECT max(id) FROM relabels WHERE account = ?1 GROUP BY conversation_id) "
        "AND (category IS NOT NULL OR priority IS NOT NULL)",
        (account,),
    )
    return {row["conversation_id"]: Label(row["category"], row["priority"]) for row in rows}


# --- for people ------------------------------------------------------------------------------


class Corrections:
    """What one user corrects in their accounts.

    What changes something raises `NotFound` for what is not there, or not theirs, and
    `PermissionError` for a viewer. Saying the same twice is saying it once.
    """

    def __init__(self, database: Database, user_id: str) -> None:
        self.database = database
        self.user_id = user_id

    def merge(self, account: str, conversation_id: str, other_id: str, now: datetime) -> Regrouped:
        """Two conversations of a channel are one, which keeps the earlier one's id.

        What was hidden stays so if both were; the later one's assignee is kept if the earlier has
        none. Raises `ValueError` for two channels, or one conversation.
        """
        one, other = self._beginning(account, conversation_id), self._beginning(account, other_id)
        if one["conversation_id"] == other["conversation_id"]:
            raise ValueError("these are one conversation already: name another one to merge with")
        if one["channel_id"] != other["channel_id"]:
            raise ValueError(
                "they are in two channels: only conversations of one channel can be merged"
            )
        first, later = sorted((one, other), key=lambda row: (row["sent_at"], row["message_id"]))
        last_before = self.database.execute(
            "SELECT message_id FROM messages WHERE account = ?1 AND conversation_id = ?2 "
            "AND (sent_at, message_id) < (?3, ?4) ORDER BY sent_at DESC, message_id DESC LIMIT 1",
            (account, first["conversation_id"], later["sent_at"], later["message_id"]),
        )
        return self._say(
            account,
            later["conversation_id"],
            last_before[0]["message_id"],
            later["conversation_id"],
            first["conversation_id"],
            now,
            _merged_states(
                account, later["conversation_id"], first["conversation_id"], self.user_id, now
            ),
        )

    def split(
        self, account: str, conversation_id: str, message_id: str, now: datetime
    ) -> Regrouped:
        """A conversation of its own begins with a message; what hangs on it follows.

        What people did with the conversation (done, snoozed, assigned) holds for both then.
        Raises `ValueError` for the message that the conversation begins with.
        """
        self._beginning(account, conversation_id)
        standing = self._in_force(account, message_id)
        if (
            standing
            and standing["parent_message_id"] is None
            and conversation_id in (standing["conversation_id"], message_id)
        ):
            return _regrouped(standing, False)
        found = self.database.execute(
            "SELECT 1 FROM messages WHERE account = ? AND conversation_id = ? AND message_id = ?",
            (account, conversation_id, message_id),
        )
        if not found:
            raise NotFound(f"there is no message {message_id!r} in {conversation_id!r}")
        if message_id == conversation_id:
            raise ValueError(
                "the conversation begins with this message already: choose a later one"
            )
        return self._say(
            account,
            message_id,
            None,
            conversation_id,
            message_id,
            now,
            _copied_state(account, conversation_id, message_id, self.user_id, now),
        )

    def undo(self, regrouping_id: str, now: datetime) -> Regrouped:
        """Take a merge or a split back: the word before it is in force again, or none."""
        rows = self.database.execute(
            "SELECT r.* FROM regroupings AS r JOIN account_members AS m ON m.account = r.account "
            "AND m.user_id = ? WHERE r.regrouping_id = ?",
            (self.user_id, regrouping_id),
        )
        if not rows:
            raise NotFound(f"there is no merge or split {regrouping_id!r} among yours")
        row = rows[0]
        Outbox(self.database, self.user_id).must_approve(row["account"])
        touched = (row["conversation_id"], row["other_conversation_id"])
        undone = self.database.batch(
            [
                (
                    "UPDATE regroupings SET undone_by = ?2, undone_at = ?3 "
                    "WHERE regrouping_id = ?1 AND undone_at IS NULL RETURNING id",
                    (regrouping_id, self.user_id, utc_text(now)),
                ),
                _mark_days(row["account"], touched, row["message_id"], now, "a merge or split"),
            ]
        )[0]
        return Regrouped(
            regrouping_id, row["account"], _kind(row), row["conversation_id"], bool(undone)
        )

    def relabel(
        self,
        account: str,
        conversation_id: str,
        categories: Collection[str],
        now: datetime,
        *,
        category: str | _Keep | None = KEEP,
        priority: int | _Keep | None = KEEP,
        why: str = "",
    ) -> Label:
        """Set a conversation's category and priority (0…100), or give them back to the analysis
        (None). Returns what the user had set before.

        It is shown at once; the conversation's days are made again with it. `categories`: those of
        the account's taxonomy. Raises `ValueError` for another one, and for a priority out of
        range.
        """
        self._beginning(account, conversation_id)
        if category is KEEP and priority is KEEP:
            raise ValueError("say what it should be: a category, a priority, or both")
        if isinstance(category, str) and category not in categories:
            raise ValueError(
                f"there is no category {category!r} (there are: {', '.join(categories)}); "
                "`communicator settings show taxonomy` shows them"
            )
        if isinstance(priority, int) and not 0 <= priority <= 100:
            raise ValueError(f"a priority is between 0 and 100, not {priority}")
        if len(why) > LONGEST_WHY:
            raise ValueError(f"say why in {LONGEST_WHY} characters at most")
        before = labels(self.database, account).get(conversation_id, Label())
        told = _note(category, priority, why)
        self.database.batch(
            [
                (
                    _RELABEL,
                    (
                        account, conversation_id,
                        category is not KEEP, None if category is KEEP else category,
                        priority is not KEEP, None if priority is KEEP else priority,
                        why, self.user_id, utc_text(now),
                    ),
                ),
                self._told("relabelled", account, conversation_id, now, told),
                *_shown_at_once(account, conversation_id),
                _mark_days(account, (conversation_id,), None, now, "a category or priority"),
            ]
        )  # fmt: skip
        return before

    def of_conversation(self, account: str, conversation_id: str) -> tuple[list[Row], list[Row]]:
        """A conversation's regroupings and relabels, the newest first; those that were taken back
        too. Raises `NotFound`."""
        self._must_see(account, conversation_id)
        mine = (
            "JOIN account_members AS m ON m.account = r.account AND m.user_id = ?1 "
            "WHERE r.account = ?2 AND "
        )
        regrouped, relabelled = self.database.batch(
            [
                (
                    "SELECT r.regrouping_id, iif(r.parent_message_id IS NULL, 'split', 'merge') "
                    "AS kind, r.message_id, r.parent_message_id, r.conversation_id, "
                    "r.other_conversation_id, r.made_by, r.made_at, r.undone_by, r.undone_at "
                    f"FROM regroupings AS r {mine} (r.conversation_id = ?3 "
                    "OR r.other_conversation_id = ?3 OR r.message_id IN (SELECT g.message_id "
                    "FROM messages AS g WHERE g.account = ?2 AND g.conversation_id = ?3)) "
                    "ORDER BY r.id DESC",
                    (self.user_id, account, conversation_id),
                ),
                (
                    "SELECT r.category, r.priority, r.before_category, r.before_priority, r.why, "
                    f"r.made_by, r.made_at FROM relabels AS r {mine} r.conversation_id = ?3 "
                    "ORDER BY r.id DESC",
                    (self.user_id, account, conversation_id),
                ),
            ]
        )
        return regrouped, relabelled

    def _say(
        self,
        account: str,
        message_id: str,
        parent: str | None,
        conversation_id: str,
        other_id: str,
        now: datetime,
        states: list[Statement],
    ) -> Regrouped:
        """Keep a person's word, unless it is in force already, and mark the days of both."""
        same = (
            "(SELECT parent_message_id IS ?3 FROM regroupings WHERE account = ?1 "
            "AND message_id = ?2 AND undone_at IS NULL ORDER BY id DESC LIMIT 1)"
        )
        made = self.database.batch(
            [
                (
                    "INSERT INTO regroupings (account, message_id, parent_message_id, "
                    "conversation_id, other_conversation_id, regrouping_id, made_by, made_at) "
                    f"SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE NOT coalesce({same}, 0) "
                    "RETURNING *",
                    (
                        account, message_id, parent, conversation_id, other_id,
                        secrets.token_hex(8), self.user_id, utc_text(now),
                    ),
                ),
                self._told(
                    "split" if parent is None else "merged", account, other_id, now, message_id
                ),
                *states,
                _mark_days(
                    account, (conversation_id, other_id), message_id, now, "a merge or split"
                ),
            ]
        )[0]  # fmt: skip
        if made:
            return _regrouped(made[0], True)
        return _regrouped(self._in_force(account, message_id) or {}, False)

    def _told(
        self, kind: FeedbackKind, account: str, conversation_id: str, now: datetime, note: str
    ) -> Statement:
        """What a correction says of what was understood; right behind the statement that makes it,
        and only where that made something."""
        event = Feedback(
            account,
            feedback_id(account, conversation_id, kind, self.user_id, utc_text(now), note),
            conversation_id,
            kind,
            self.user_id,
            now,
            note=note,
        )
        return feedback_statement(event, "changes() > 0")

    def _in_force(self, account: str, message_id: str) -> Row | None:
        rows = self.database.execute(
            "SELECT * FROM regroupings WHERE account = ? AND message_id = ? "
            "AND undone_at IS NULL ORDER BY id DESC LIMIT 1",
            (account, message_id),
        )
        return rows[0] if rows else None

    def _must_see(self, account: str, conversation_id: str) -> Row:
        """The conversation's first message; raises `NotFound`."""
        rows = self.database.execute(
            "SELECT g.conversation_id, g.channel_id, g.sent_at, g.message_id "
            "FROM messages AS g JOIN conversations AS c ON c.account = g.account "
            "AND c.conversation_id = g.conversation_id JOIN account_members AS m "
            "ON m.account = g.account AND m.user_id = ?1 WHERE g.account = ?2 "
            "AND g.conversation_id = ?3 ORDER BY g.sent_at, g.message_id LIMIT 1",
            (self.user_id, account, conversation_id),
        )
        if not rows:
            raise NotFound(
                f"there is no conversation {conversation_id!r} in {account}: "
                "`communicator inbox` shows their ids"
            )
        return rows[0]

    def _beginning(self, account: str, conversation_id: str) -> Row:
        """As `_must_see`, for who may change it; raises `PermissionError` for a viewer."""
        Outbox(self.database, self.user_id).must_approve(account)
        return self._must_see(account, conversation_id)


def _note(category: str | _Keep | None, priority: int | _Keep | None, why: str) -> str:
    """What was set, in words: "category: sales; priority: as analysed; why"."""
    said = [
        f"{name}: {'as analysed' if value is None else value}"
        for name, value in (("category", category), ("priority", priority))
        if value is not KEEP
    ]
    return "; ".join([*said, *([why] if why else [])])


def _kind(row: Mapping[str, object]) -> Literal["merge", "split"]:
    return "split" if row["parent_message_id"] is None else "merge"


def _regrouped(row: Row, is_new: bool) -> Regrouped:
    return Regrouped(
        row["regrouping_id"], row["account"], _kind(row), row["other_conversation_id"], is_new
    )


_STATE = (
    "INSERT INTO conversation_states (account, conversation_id, hidden_until, hidden_seen, "
    "hidden_why, assigned_to, changed_by, changed_at) {source} "
    "ON CONFLICT (account, conversation_id) DO UPDATE SET hidden_until = excluded.hidden_until, "
    "hidden_seen = excluded.hidden_seen, hidden_why = excluded.hidden_why, "
    "assigned_to = excluded.assigned_to, changed_by = excluded.changed_by, "
    "changed_at = excluded.changed_at"
)


def _merged_states(
    account: str, later: str, first: str, user_id: str, now: datetime
) -> list[Statement]:
    """What people did with two conversations, for the one that they become."""
    both = "(f.hidden_until > ?5 AND l.hidden_until > ?5)"
    return [
        (
            _STATE.format(
                source=f"SELECT f.account, f.conversation_id, "
                f"iif({both}, min(f.hidden_until, l.hidden_until), ''), "
                f"iif({both}, max(fs.hidden_seen, ls.hidden_seen), ''), "
                f"iif({both}, iif(l.hidden_until < f.hidden_until, ls.hidden_why, fs.hidden_why), "
                "''), coalesce(nullif(f.assigned_to, ''), l.assigned_to), ?4, ?5 "
                "FROM conversations AS f JOIN conversations AS l ON l.account = f.account "
                "AND l.conversation_id = ?2 LEFT JOIN conversation_states AS fs "
                "ON fs.account = f.account AND fs.conversation_id = f.conversation_id "
                "LEFT JOIN conversation_states AS ls ON ls.account = l.account "
                "AND ls.conversation_id = l.conversation_id WHERE f.account = ?1 "
                "AND f.conversation_id = ?3 "
                "AND (fs.account IS NOT NULL OR ls.account IS NOT NULL)"
            ),
            (account, later, first, user_id, utc_text(now)),
        ),
        (
            "UPDATE conversations SET hidden_until = iif(conversations.hidden_until > ?3, "
            "s.hidden_until, ''), assigned_to = s.assigned_to FROM conversation_states AS s "
            "WHERE s.account = ?1 AND s.conversation_id = ?2 "
            "AND conversations.account = ?1 AND conversations.conversation_id = ?2",
            (account, first, utc_text(now)),
        ),
    ]


def _copied_state(
    account: str, conversation_id: str, new_id: str, user_id: str, now: datetime
) -> list[Statement]:
    """What people did with a conversation, for what is split off."""
    return [
        (
            "DELETE FROM conversation_states WHERE account = ? AND conversation_id = ?",
            (account, new_id),
        ),
        (
            _STATE.format(
                source="SELECT account, ?3, hidden_until, hidden_seen, hidden_why, assigned_to, "
                "?4, ?5 FROM conversation_states WHERE account = ?1 AND conversation_id = ?2"
            ),
            (account, conversation_id, new_id, user_id, utc_text(now)),
        ),
    ]


_NEWEST = "(SELECT max(id) FROM relabels WHERE account = ?1 AND conversation_id = ?2)"

_RELABEL = f"""
INSERT INTO relabels (account, conversation_id, category, priority, before_category,
    before_priority, analysed_category, analysed_category_reason, analysed_priority,
    analysed_priority_reasons, why, made_by, made_at)
SELECT a.account, a.conversation_id, iif(?3, ?4, n.category), iif(?5, ?6, n.priority), a.category,
    a.priority,
    iif(a.category IS n.category, n.analysed_category, a.category),
    iif(a.category IS n.category, n.analysed_category_reason, a.category_reason),
    iif(a.priority IS n.priority, n.analysed_priority, a.priority),
    iif(a.priority IS n.priority, n.analysed_priority_reasons, a.priority_reasons), ?7, ?8, ?9
FROM conversations AS c JOIN analyses AS a ON a.account = c.account
    AND a.conversation_id = c.conversation_id AND a.day = c.day
LEFT JOIN relabels AS n ON n.id = {_NEWEST}
WHERE c.account = ?1 AND c.conversation_id = ?2 AND NOT (iif(?3, ?4, n.category) IS n.category
    AND iif(?5, ?6, n.priority) IS n.priority)
"""


def _shown_at_once(account: str, conversation_id: str) -> list[Statement]:
    """The inbox's rows as the newest word has them."""
    reasons = orjson.dumps([BY_HAND]).decode()
    of_newest_day = (
        "(SELECT day FROM conversations AS c WHERE c.account = ?1 AND c.conversation_id = ?2)"
    )
    where = "account = ?1 AND conversation_id = ?2"
    return [
        (
            "UPDATE analyses SET "
            "category = coalesce(n.category, iif(analyses.category_reason = ?3, "
            "n.analysed_category, analyses.category)), "
            "category_reason = iif(n.category IS NOT NULL, ?3, iif(analyses.category_reason = ?3, "
            "n.analysed_category_reason, analyses.category_reason)), "
            "priority = coalesce(n.priority, iif(analyses.priority_reasons = ?4, "
            "n.analysed_priority, analyses.priority)), "
            "priority_reasons = iif(n.priority IS NOT NULL, ?4, "
            "iif(analyses.priority_reasons = ?4, n.analysed_priority_reasons, "
            "analyses.priority_reasons)) "
            f"FROM relabels AS n WHERE n.id = {_NEWEST} AND analyses.account = ?1 "
            f"AND analyses.conversation_id = ?2 AND analyses.day = {of_newest_day}",
            (account, conversation_id, BY_HAND, reasons),
        ),
        (
            "UPDATE conversations SET (category, priority) = (SELECT a.category, a.priority "
            "FROM analyses AS a WHERE a.account = ?1 AND a.conversation_id = ?2 "
            f"AND a.day = conversations.day) WHERE {where}",
            (account, conversation_id),
        ),
        # The day's rows are not the lake's any more: it is brought in again, whatever is made.
        (
            f"UPDATE published_days SET digest = '' WHERE account = ?1 AND day = {of_newest_day}",
            (account, conversation_id),
        ),
    ]


def _mark_days(
    account: str,
    conversation_ids: Collection[str],
    message_id: str | None,
    now: datetime,
    what: str,
) -> Statement:
    """Mark the days on which these conversations, or the one that a message is in, were active: to
    be made again. As `WorkQueue.mark`, but of days that are looked up in the same transaction."""
    return (
        "INSERT INTO dirty_days (account, day, since, why) SELECT ?1, day, ?4, ?5 FROM ("
        "SELECT g.day FROM messages AS g INDEXED BY messages_by_conversation "
        "WHERE g.account = ?1 AND g.conversation_id IN (SELECT value FROM json_each(?2) "
        "UNION SELECT n.conversation_id FROM messages AS n "
        "WHERE n.account = ?1 AND n.message_id = ?3) GROUP BY g.day) WHERE true "
        "ON CONFLICT (account, day) DO UPDATE SET mark = mark + 1, why = excluded.why, "
        "since = CASE WHEN mark > done_mark THEN since ELSE excluded.since END",
        (
            account,
            orjson.dumps(list(conversation_ids)).decode(),
            message_id,
            utc_text(now),
            f"{what} was set by hand",
        ),
    )
