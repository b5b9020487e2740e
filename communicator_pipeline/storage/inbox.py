"""The inbox in the database: bringing days in, and what a user reads of them.

Belongs here: the tables messages, analyses, conversations and drafts. Does not belong here:
where the rows come from (`chain/`), how they look (`cli.py`, the gateway).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.database import (
    ConstraintFailed,
    Database,
    Row,
    Statement,
    carry_rows,
    utc_text,
)
from communicator_pipeline.storage.lake import AccountMonth

LONGEST_TEXT = 100_000
"""Characters. A row of D1 holds 2 MB: this text at 4 bytes each, and once more cut into words
with two spaces each (6 bytes), stay below half of it."""

MOST_RANKED = 1_000
"""Matches of a search. Ranking takes a look at each of them, and there may be a million."""

_STALE = "a newer run has published this day"


@dataclass(frozen=True)
class PublishedDay:
    """A day's rows, as the lake has them; times as `utc_text` spells them, lists as lists."""

    account: str
    day: str
    generation: int  # of the manifests that were read: never published over a larger one
    digest: str
    messages: Sequence[dict[str, Any]]
    analyses: Sequence[dict[str, Any]]
    drafts: Sequence[dict[str, Any]]


_MESSAGE_COLUMNS = (
    "message_id channel_id sent_at author_id author_name author_is_bot kind text thread_id "
    "reply_to attachments reactions edited_at deleted version conversation_id parent_message_id "
    "link_reason link_score link_why search_text"
).split()

_ANALYSIS_COLUMNS = (
    "conversation_id as_of channel_id started_at last_message_at last_author message_count people "
    "language category category_reason priority priority_reasons needs_reply needs_reply_score "
    "needs_reply_reason waiting_since summary summary_message_ids sentiment confidence flags model "
    "prompt stood_in withheld"
).split()

_DRAFT_COLUMNS = (
    "conversation_id version outcome text language gaps rests_on reason flags confidence model "
    "prompt stood_in withheld"
).split()


def published(database: Database, partition: AccountMonth) -> dict[str, str]:
    """day → digest, for the days of a month that are in the database."""
    rows = database.execute(
        "SELECT day, digest FROM published_days WHERE account = ? AND substr(day, 1, 7) = ?",
        (partition.account, partition.month),
    )
    return {row["day"]: row["digest"] for row in rows}


def publish(database: Database, day: PublishedDay) -> bool:
    """Replace a day's rows in one batch; False if a newer run has done so already.

    Conversations whose newest day this was, or is now, are looked at again, so that the order
    in which days are brought in does not matter.
    """
    where = (day.account, day.day)
    statements: list[Statement] = [
        (
            "INSERT INTO published_days (account, day, generation, digest) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (account, day) DO UPDATE SET generation = excluded.generation, "
            "digest = excluded.digest",
            (*where, day.generation, day.digest),
        ),
        *_touched(day),
        *_upsert_messages(day),
        *_insert("analyses", _ANALYSIS_COLUMNS, day, day.analyses),
        *_insert("drafts", _DRAFT_COLUMNS, day, day.drafts),
        (
            "INSERT OR REPLACE INTO conversations (account, conversation_id, day, needs_reply, "
            "priority, last_message_at, category, from_me, hidden_until, assigned_to) "
            "SELECT a.account, a.conversation_id, a.day, a.needs_reply, a.priority, "
            "a.last_message_at, a.category, coalesce((SELECT g.author_id IN (SELECT value "
            "FROM accounts AS p, json_each(p.me) WHERE p.account = ?1) FROM messages AS g "
            "WHERE g.account = ?1 AND g.conversation_id = a.conversation_id "
            "ORDER BY g.sent_at DESC, g.message_id DESC LIMIT 1), 0), "
            # What we say ourselves is no news: the echo of a reply leaves it done.
            "coalesce(iif(s.hidden_seen >= coalesce((SELECT max(g.sent_at) FROM messages AS g "
            "WHERE g.account = ?1 AND g.conversation_id = a.conversation_id AND g.author_id "
            "NOT IN (SELECT value FROM accounts AS p, json_each(p.me) WHERE p.account = ?1)), ''), "
            "s.hidden_until, ''), ''), "
            "coalesce(s.assigned_to, '') "
            "FROM (SELECT a.*, row_number() OVER (PARTITION BY conversation_id ORDER BY day DESC) "
            "AS place FROM analyses AS a WHERE account = ?1 AND conversation_id IN "
            "(SELECT conversation_id FROM touched_conversations WHERE account = ?1)) AS a "
            "LEFT JOIN conversation_states AS s ON s.account = a.account "
            "AND s.conversation_id = a.conversation_id WHERE a.place = 1",
            (day.account,),
        ),
        ("DELETE FROM touched_conversations WHERE account = ?", (day.account,)),
    ]
    try:
        database.batch(statements)
    except ConstraintFailed as error:
        if _STALE in str(error):
            return False
        raise
    return True


def _touched(day: PublishedDay) -> list[Statement]:
    """Note the conversations that the day had or has, and take its old rows away."""
    where = (day.account, day.day)
    keys = sorted({row["conversation_id"] for row in day.analyses})
    return [
        (
            "INSERT OR IGNORE INTO touched_conversations (account, conversation_id) "
            "SELECT account, conversation_id FROM analyses WHERE account = ? AND day = ?",
            where,
        ),
        *carry_rows(
            "INSERT OR IGNORE INTO touched_conversations (account, conversation_id) "
            "SELECT ?2, value ->> 'id' FROM json_each(?1)",
            ({"id": key} for key in keys),
            day.account,
        ),
        (
            "DELETE FROM conversations WHERE account = ?1 AND conversation_id IN "
            "(SELECT conversation_id FROM touched_conversations WHERE account = ?1)",
            (day.account,),
        ),
        ("DELETE FROM analyses INDEXED BY analyses_by_day WHERE account = ? AND day = ?", where),
        ("DELETE FROM drafts INDEXED BY drafts_by_day WHERE account = ? AND day = ?", where),
    ]


def _upsert_messages(day: PublishedDay) -> Iterable[Statement]:
    columns = ", ".join(_MESSAGE_COLUMNS)
    values = _unpacked(_MESSAGE_COLUMNS)
    updates = ", ".join(f"{name} = excluded.{name}" for name in _MESSAGE_COLUMNS[1:])
    rows = [
        [*_stored(row, _MESSAGE_COLUMNS[:-1]), words_of(_shortened(row["text"]))]
        for row in day.messages
    ]
    # A day's messages are never fewer than before: a deletion is a tombstone.
    return carry_rows(
        f"INSERT INTO messages (account, day, {columns}) SELECT ?2, ?3, {values} "
        f"FROM json_each(?1) WHERE true ON CONFLICT (account, message_id) DO UPDATE SET {updates}",
        rows,
        day.account,
        day.day,
    )


def _insert(
    table: str, columns: Sequence[str], day: PublishedDay, rows: Sequence[dict[str, Any]]
) -> Iterable[Statement]:
    return carry_rows(
        f"INSERT INTO {table} (account, day, {', '.join(columns)}) "
        f"SELECT ?2, ?3, {_unpacked(columns)} FROM json_each(?1)",
        (_stored(row, columns) for row in rows),
        day.account,
        day.day,
    )


def _unpacked(columns: Sequence[str]) -> str:
    """By place, not by name: SQLite looks a name up among all that stand before it."""
    return ", ".join(f"value ->> {place}" for place in range(len(columns)))


def _stored(row: Mapping[str, Any], columns: Sequence[str]) -> list[Any]:
    return [
        orjson.dumps([_shortened(v) if isinstance(v, str) else v for v in row[name] or ()]).decode()
        if name in _LISTS
        else _shortened(row[name])
        if isinstance(row[name], str)
        else row[name]
        for name in columns
    ]


def _shortened(text: str) -> str:
    """A text that a database row can hold, with its words cut apart besides; the lake has all."""
    if len(text) <= LONGEST_TEXT:
        return text
    return text[:LONGEST_TEXT] + " … (shortened: the whole text is in the lake)"


def words_of(text: str) -> str | None:
    """The text with every Chinese, Japanese or Korean sign a word of its own; None if it has none.

    Those scripts put no spaces between words, and neither of FTS5's tokenizers finds a word of
    two signs in them: a search for two signs becomes a phrase of two words instead.
    """
    if text.isascii() or not _IDEOGRAPH.search(text):
        return None
    return _IDEOGRAPH.sub(r" \g<0> ", text)


_IDEOGRAPH = re.compile(
    "[\u1100-\u11ff\u3041-\u3096\u309b-\u30ff\u3131-\u318e\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97c\uac00-\ud7fb\U0001aff0-\U0001b164\U00020000-\U0003134a]"
)
"""Han, kana and hangul, by Unicode block: asking each sign for its name takes ten times as long."""


_LISTED = """
SELECT c.account, c.conversation_id, a.day, a.as_of, a.channel_id, h.name AS channel, h.kind AS
    channel_kind, a.started_at, a.last_message_at, a.last_author, a.message_count, a.people,
    a.language, a.category, a.category_reason, a.priority, a.priority_reasons, a.needs_reply,
    a.needs_reply_score, a.needs_reply_reason, a.waiting_since, a.summary, a.summary_message_ids,
    a.sentiment, a.confidence, a.flags, a.model, a.prompt, a.stood_in, a.withheld,
    d.model AS draft_model, d.prompt AS draft_prompt, d.stood_in AS draft_stood_in,
    d.withheld AS draft_withheld, d.outcome AS draft_outcome, d.text AS draft,
    d.gaps AS draft_gaps, d.reason AS draft_reason, d.rests_on AS draft_rests_on,
    d.version AS draft_version, o.platform, c.from_me, c.assigned_to, c.hidden_until,
    coalesce(s.hidden_why, '') AS hidden_why,
    (SELECT json_group_array(p.name) FROM people AS p
        JOIN json_each(o.me) AS j ON j.value = p.person_id
        WHERE p.account = c.account) AS my_names
FROM {source} AS c
JOIN account_members AS m ON m.account = c.account AND m.user_id = ?1
JOIN accounts AS o ON o.account = c.account
JOIN analyses AS a ON a.account = c.account AND a.conversation_id = c.conversation_id
    AND a.day = c.day
LEFT JOIN channels AS h ON h.account = c.account AND h.channel_id = a.channel_id
LEFT JOIN drafts AS d ON d.account = c.account AND d.conversation_id = c.conversation_id
    AND d.day = c.day
LEFT JOIN conversation_states AS s ON s.account = c.account
    AND s.conversation_id = c.conversation_id
"""

_PAGE = """
(SELECT * FROM conversations AS c
WHERE c.account IN (SELECT account FROM account_members WHERE user_id = ?1)
AND (?2 IS NULL OR c.account = ?2) AND (?3 IS NULL OR c.category = ?3)
AND (?4 IS NULL OR c.account IN (SELECT account FROM accounts WHERE platform = ?4))
AND (?12 IS NULL OR (c.account, c.conversation_id) IN (SELECT g.account, g.conversation_id
    FROM contact_people AS k JOIN messages AS g ON g.account = k.account
    AND g.author_id = k.person_id WHERE k.user_id = ?1 AND k.contact_id = ?12))
AND {view} AND (?6 IS NULL OR (-c.needs_reply, -c.priority) > (?6, ?7)
    OR ((-c.needs_reply, -c.priority) = (?6, ?7) AND (c.last_message_at < ?8
        OR (c.last_message_at = ?8 AND (c.conversation_id, c.account) > (?9, ?10)))))
ORDER BY c.needs_reply DESC, c.priority DESC, c.last_message_at DESC, c.conversation_id, c.account
LIMIT ?11)
"""

HIGH_PRIORITY = 70

View = Literal[
    "open", "needs_reply", "waiting_for_them", "high_priority", "assigned", "snoozed", "all"
]

_VIEWS: Mapping[View, str] = {
    "open": "c.hidden_until <= ?5",
    "needs_reply": "c.needs_reply AND c.hidden_until <= ?5 AND NOT EXISTS (SELECT 1 "
    "FROM approvals AS b WHERE b.account = c.account AND b.conversation_id = c.conversation_id "
    "AND b.ended_at IS NULL)",
    "waiting_for_them": "c.from_me AND NOT c.needs_reply AND c.hidden_until <= ?5",
    "high_priority": f"c.priority >= {HIGH_PRIORITY} AND c.hidden_until <= ?5",
    "assigned": "c.assigned_to = ?1 AND c.hidden_until <= ?5",
    "snoozed": "c.hidden_until > ?5 AND c.hidden_until < '9999'",
    "all": "?5 = ?5",
}
"""What each view shows; ?5 is now. Done is hidden until the year 9999. What has a reply on its way
needs none."""

VIEWS: tuple[View, ...] = tuple(_VIEWS)

Place = tuple[int, int, str, str, str]
"""Where a page of a list ended: needs_reply, priority, last_message_at, conversation_id, account.
`place_of` makes it of the page's last row."""


def place_of(row: Row) -> Place:
    return (
        int(row["needs_reply"]),
        int(row["priority"]),
        row["last_message_at"],
        row["conversation_id"],
        row["account"],
    )


_LISTS = frozenset(
    "people priority_reasons summary_message_ids flags draft_gaps draft_rests_on attachments "
    "reactions my_names withheld draft_withheld".split()
)


class Inbox:
    """What one user may read: the conversations of the accounts they are a member of.

    A direct message is called by the others' names: `channel` leaves the owner's own out.
    """

    def __init__(self, database: Database, user_id: str) -> None:
        self.database = database
        self.user_id = user_id

    def conversations(
        self,
        account: str | None = None,
        category: str | None = None,
        view: View = "open",
        limit: int = 50,
        *,
        platform: str | None = None,
        contact_id: str | None = None,
        after: Place | None = None,
        now: datetime | None = None,
    ) -> list[Row]:
        """A page of a view: those that need a reply first, then by priority, newest first.

        `contact_id`: those in which one of the user's contacts wrote, in whatever account.
        `after`: where the page before ended. `now`: what is snoozed until then is hidden.
        """
        at = utc_text(now or datetime.now(UTC))
        needs, priority, *rest = after or (None, None, None, None, None)
        sql = _LISTED.format(source=_PAGE.format(view=_VIEWS[view])) + (
            "ORDER BY c.needs_reply DESC, c.priority DESC, c.last_message_at DESC, "
            "c.conversation_id, c.account"
        )
        rows = self.database.execute(
            sql,
            (
                self.user_id,
                account,
                category,
                platform,
                at,
                None if needs is None else -needs,
                None if priority is None else -priority,
                *rest,
                limit,
                contact_id,
            ),
        )
        return [_read_conversation(row, at) for row in rows]

    def counts(self, now: datetime | None = None) -> dict[str, Any]:
        """How many conversations each view shows, and the open ones by category and account:
        `{"views": {view: n}, "categories": {category: n}, "accounts": {account: n}}`."""
        at = utc_text(now or datetime.now(UTC))
        sums = ", ".join(
            f'sum({where.replace("?5", "?2")}) AS "{view}"' for view, where in _VIEWS.items()
        )
        theirs = (
            "FROM conversations AS c WHERE c.account IN "
            "(SELECT account FROM account_members WHERE user_id = ?1)"
        )
        views, by = self.database.batch(
            [
                (f"SELECT {sums} {theirs}", (self.user_id, at)),
                (
                    f"SELECT c.account, c.category, count(*) AS n {theirs} "
                    "AND c.hidden_until <= ?2 GROUP BY c.account, c.category",
                    (self.user_id, at),
                ),
            ]
        )
        found: dict[str, Any] = {
            "views": {view: views[0][view] or 0 for view in _VIEWS},
            "categories": {},
            "accounts": {},
        }
        for row in by:
            for kind, key in (("categories", row["category"]), ("accounts", row["account"])):
                found[kind][key] = found[kind].get(key, 0) + row["n"]
        return found

    def conversation(
        self, conversation_id: str, account: str | None = None, now: datetime | None = None
    ) -> Row:
        """One conversation with its newest analysis and draft; raises `NotFound`."""
        rows = self.database.execute(
            _LISTED.format(source="conversations")
            + "WHERE c.conversation_id = ?2 AND (?3 IS NULL OR c.account = ?3)",
            (self.user_id, conversation_id, account),
        )
        if not rows:
            raise NotFound(
                f"there is no conversation {conversation_id!r}: "
                "`communicator inbox` shows their ids"
            )
        if len(rows) > 1:
            accounts = ", ".join(row["account"] for row in rows)
            raise ValueError(f"{conversation_id!r} is in several accounts: say which ({accounts})")
        return _read_conversation(rows[0], utc_text(now or datetime.now(UTC)))

    def messages(
        self,
        account: str,
        conversation_id: str,
        limit: int | None = None,
        after: tuple[str, str] | None = None,
    ) -> list[Row]:
        """The messages of a conversation in order of time, each with the reason of its link.

        `limit`: how many at most, all without one. `after`: `sent_at` and `message_id` of the last
        one of the page before.
        """
        sent_at, message_id = after or (None, None)
        rows = self.database.execute(
            "SELECT g.message_id, g.sent_at, g.author_id, coalesce(p.name, "
            "nullif(g.author_name, ''), g.author_id) AS author, g.kind, g.text, g.edited_at, "
            "g.deleted, g.version, g.attachments, g.reactions, g.parent_message_id, g.link_reason, "
            "g.link_score, g.link_why, g.day FROM messages AS g "
            "JOIN account_members AS m ON m.account = g.account AND m.user_id = ?1 "
            "LEFT JOIN people AS p ON p.account = g.account AND p.person_id = g.author_id "
            "WHERE g.account = ?2 AND g.conversation_id = ?3 "
            "AND (?5 IS NULL OR (g.sent_at, g.message_id) > (?5, ?6)) "
            "ORDER BY g.sent_at, g.message_id LIMIT ?4",
            (
                self.user_id, account, conversation_id, -1 if limit is None else limit,
                sent_at, message_id,
            ),
        )  # fmt: skip
        return [_read(row) for row in rows]

    def message(self, account: str, message_id: str) -> Row:
        """The day and the attachments of a message that is not deleted; raises `NotFound`."""
        rows = self.database.execute(
            "SELECT g.day, g.attachments FROM messages AS g JOIN account_members AS m "
            "ON m.account = g.account AND m.user_id = ?1 WHERE g.account = ?2 "
            "AND g.message_id = ?3 AND NOT g.deleted",
            (self.user_id, account, message_id),
        )
        if not rows:
            raise NotFound(f"there is no message {message_id!r} in {account} (any more)")
        return _read(rows[0])

    def message_place(self, account: str, message_id: str) -> Row:
        """The day of a message, whether it is deleted, and the user's role in the account; raises
        `NotFound`."""
        rows = self.database.execute(
            "SELECT g.day, g.deleted, m.role FROM messages AS g JOIN account_members AS m "
            "ON m.account = g.account AND m.user_id = ?1 WHERE g.account = ?2 "
            "AND g.message_id = ?3",
            (self.user_id, account, message_id),
        )
        if not rows:
            raise NotFound(f"there is no message {message_id!r} in {account}")
        return rows[0]

    def channel_messages(self, account: str, channel_id: str, first: str, last: str) -> list[Row]:
        """A channel's messages between two moments (UTC, as `utc_text` spells them)."""
        return self.database.execute(
            "SELECT g.message_id, g.sent_at, coalesce(p.name, nullif(g.author_name, ''), "
            "g.author_id) AS author, g.text, g.kind, g.conversation_id, g.link_reason, g.link_why "
            "FROM messages AS g "
            "JOIN account_members AS m ON m.account = g.account AND m.user_id = ?1 "
            "LEFT JOIN people AS p ON p.account = g.account AND p.person_id = g.author_id "
            "WHERE g.account = ?2 AND g.channel_id = ?3 AND g.sent_at BETWEEN ?4 AND ?5 "
            "ORDER BY g.sent_at, g.message_id",
            (self.user_id, account, channel_id, first, last),
        )

    def in_same_channel(
        self, account: str, conversation_id: str, words: str = "", limit: int = 10
    ) -> list[Row]:
        """Other conversations of a conversation's channel, the newest first: among the account's
        `MOST_RANKED` newest, or, if there are words, among those with a message that contains all
        of them. Raises `NotFound`."""
        channel = self.conversation(conversation_id, account)["channel_id"]
        query = _fts_query(words)
        newest = (
            "SELECT conversation_id FROM conversations WHERE account = ?2 "
            "ORDER BY last_message_at DESC LIMIT ?6"
        )
        with_words = (
            "SELECT g.conversation_id FROM messages_fts CROSS JOIN messages AS g "
            "ON g.id = messages_fts.rowid WHERE messages_fts MATCH ?7 AND NOT g.deleted "
            "AND g.account = ?2 AND g.channel_id = ?4 ORDER BY messages_fts.rowid DESC LIMIT ?6"
        )
        return self.database.execute(
            "SELECT a.conversation_id, a.summary, a.last_author, a.last_message_at "
            "FROM conversations AS c JOIN account_members AS m ON m.account = c.account "
            "AND m.user_id = ?1 JOIN analyses AS a ON a.account = c.account "
            "AND a.conversation_id = c.conversation_id AND a.day = c.day "
            "WHERE c.account = ?2 AND c.conversation_id <> ?3 AND a.channel_id = ?4 "
            f"AND c.conversation_id IN ({with_words if query else newest}) "
            "ORDER BY c.last_message_at DESC, c.conversation_id LIMIT ?5",
            (
                self.user_id, account, conversation_id, channel, limit, MOST_RANKED,
                *([query] if query else []),
            ),
        )  # fmt: skip

    def search(self, words: str, account: str | None = None, limit: int = 20) -> list[Row]:
        """Messages that contain all the words, best match first; the words stand in any order,
        the last one may be a beginning. Of a word that stands in very many messages, those that
        came last are ranked. Raises `ValueError` if there is no word to look for."""
        query = _fts_query(words)
        if not query:
            raise ValueError("there is no word to search for: give letters or digits")
        return self.database.execute(
            "SELECT g.account, g.message_id, g.conversation_id, g.sent_at, coalesce(p.name, "
            "nullif(g.author_name, ''), g.author_id) AS author, h.name AS channel, g.text "
            "FROM (SELECT id, place, sent_at FROM (SELECT g.id, messages_fts.rank AS place, "
            "g.sent_at FROM messages_fts CROSS JOIN messages AS g ON g.id = messages_fts.rowid "
            "WHERE messages_fts MATCH ?2 AND NOT g.deleted AND g.account IN "
            "(SELECT account FROM account_members WHERE user_id = ?1) "
            "AND (?3 IS NULL OR g.account = ?3) ORDER BY messages_fts.rowid DESC LIMIT ?5) "
            "ORDER BY place, sent_at DESC LIMIT ?4) AS f JOIN messages AS g ON g.id = f.id "
            "LEFT JOIN people AS p ON p.account = g.account AND p.person_id = g.author_id "
            "LEFT JOIN channels AS h ON h.account = g.account AND h.channel_id = g.channel_id "
            "ORDER BY f.place, f.sent_at DESC",
            (self.user_id, query, account, limit, MOST_RANKED),
        )


def _fts_query(words: str) -> str:
    phrases = []
    for word in words.replace('"', " ").replace("\0", " ").split():
        cut = words_of(word)
        if any(sign.isalnum() for sign in word):
            phrases.append(f'"{(cut or word).strip()}"')
    return " AND ".join(phrases) + "*" if phrases else ""


def _read_conversation(row: Row, now: str) -> Row:
    read = _read(row)
    if read["hidden_until"] <= now:
        read["hidden_why"] = ""
    mine = read.pop("my_names")
    if read["channel_kind"] in ("dm", "group") and read["channel"]:
        others = [name for name in read["channel"].split(", ") if name not in mine]
        read["channel"] = ", ".join(others) or read["channel"]
    return read


def _read(row: Row) -> Row:
    return {
        name: orjson.loads(value) if name in _LISTS and value is not None else value
        for name, value in row.items()
    }
