"""The sandbox's chat: who said what where, and every request to send that arrived.

Belongs here: the file that holds it, and what can happen in it. Does not belong here: HTTP
(`server.py`), faults (`faults.py`).

The file is synced to the disk with every change, and any number of processes may have it open: a
server that is killed loses nothing that it acknowledged, and `communicator sandbox say` works
whether one runs or not.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from communicator_pipeline.platforms.sandbox import faults
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.database import (
    Row,
    SqliteDatabase,
    Value,
    from_utc_text,
    now_text,
    split_statements,
    utc_text,
)

FILE = "sandbox.db"  # in the home
LONGEST = 4_000  # characters of a message

_SCHEMA = """
CREATE TABLE IF NOT EXISTS token (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), token TEXT);

CREATE TABLE IF NOT EXISTS channels (channel TEXT PRIMARY KEY, name TEXT, kind TEXT);

CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY,
    channel TEXT NOT NULL REFERENCES channels (channel),
    author TEXT NOT NULL,
    author_name TEXT NOT NULL,
    text TEXT NOT NULL,
    thread INTEGER,
    reply_to INTEGER,
    sent_at TEXT NOT NULL,
    edited_at TEXT,
    deleted INTEGER NOT NULL DEFAULT 0,
    key TEXT,
    metadata TEXT,
    request TEXT  -- that brought it, null if it was said by somebody else
);
CREATE UNIQUE INDEX IF NOT EXISTS messages_by_key ON messages (author, key);
CREATE UNIQUE INDEX IF NOT EXISTS messages_by_request ON messages (request);
CREATE INDEX IF NOT EXISTS messages_by_metadata ON messages (metadata);
CREATE INDEX IF NOT EXISTS messages_by_time ON messages (sent_at);

CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    message INTEGER NOT NULL,
    kind TEXT NOT NULL,
    text TEXT,
    edited_at TEXT,
    at TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS message_is_news AFTER INSERT ON messages BEGIN
    INSERT INTO events (message, kind, text, edited_at, at)
    VALUES (new.number, 'message', new.text, NULL, new.sent_at);
END;
CREATE TRIGGER IF NOT EXISTS change_is_news AFTER UPDATE ON messages BEGIN
    INSERT INTO events (message, kind, text, edited_at, at)
    VALUES (new.number, iif(new.deleted, 'deletion', 'message'), new.text, new.edited_at,
            new.edited_at);
END;

CREATE TABLE IF NOT EXISTS arrivals (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    delivery TEXT NOT NULL,
    author TEXT NOT NULL,
    channel TEXT NOT NULL,
    thread TEXT,
    text TEXT NOT NULL,
    key TEXT,
    metadata TEXT,
    fault TEXT NOT NULL,
    outcome TEXT NOT NULL,
    message INTEGER
);
CREATE INDEX IF NOT EXISTS arrivals_by_delivery ON arrivals (delivery);
CREATE INDEX IF NOT EXISTS arrivals_by_message ON arrivals (message);
"""

_MESSAGE = (
    "SELECT m.number AS number, m.channel AS channel, c.name AS channel_name, "
    "c.kind AS channel_kind, author, author_name, thread, reply_to, sent_at, deleted, "
    "m.text AS text, m.edited_at AS edited_at FROM messages AS m JOIN channels AS c USING (channel)"
)


class Said(NamedTuple):
    """A message that is there now."""

    message_id: str
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class Send:
    """A request to send."""

    author: str  # a name
    channel: str
    text: str
    thread: str | None = None  # ids as the API has them, without the channel
    reply_to: str | None = None
    key: str | None = None
    metadata: str | None = None
    delivery: str = ""  # what it is counted by; the chat makes no other use of it


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request to send that arrived, and what became of it."""

    at: datetime
    send: Send
    fault: str  # its kind, or ""
    outcome: Literal["stored", "repeated", "not stored"]  # repeated: its key was known
    message_id: str | None


@dataclass(frozen=True, slots=True)
class Line:
    """A message as those who are in the chat see it."""

    message_id: str
    channel_name: str
    channel_kind: str
    author_name: str
    text: str
    thread_id: str | None
    sent_at: datetime
    edited: bool
    deleted: bool
    yours: bool  # it came over the API
    copies: int  # how many messages its delivery has made: 1, or a duplicate is there
    requests: int  # how often its delivery was asked for


class Chat:
    """The chat in a file, which is made on first use."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self.path = path
        self.database = SqliteDatabase(path)
        self.database.batch(
            [
                *((part, ()) for part in split_statements(_SCHEMA + faults.SCHEMA)),
                ("INSERT OR IGNORE INTO token VALUES (1, ?)", (secrets.token_urlsafe(24),)),
            ]
        )
        self.faults = faults.Faults(self.database)

    def token(self) -> str:
        """What every request has to bear."""
        token: str = self.database.execute("SELECT token FROM token")[0]["token"]
        return token

    def renew_token(self) -> None:
        """The token that was good until now is dead."""
        self.database.execute("UPDATE token SET token = ?", (secrets.token_urlsafe(24),))

    # --- somebody else

    def say(
        self, text: str, author: str = "Ben", chat: str | None = None, thread: str | None = None
    ) -> Said:
        """Somebody else writes: into a chat, which is made if it is not there, into the thread of
        a message (its message_id), or to you alone. Raises `ValueError`, `NotFound`."""
        _check_text(text)
        if thread is not None:
            root = self._find(thread)
            channel, name, kind = root["channel"], root["channel_name"], root["channel_kind"]
        elif chat is not None:
            name = chat.strip().removeprefix("#")
            channel, kind = person_id(name), "channel"
        else:
            name = author
            channel, kind = f"@{person_id(author)}", "dm"
        rows = self.database.batch(
            [
                ("INSERT OR IGNORE INTO channels VALUES (?, ?, ?)", (channel, name, kind)),
                (
                    "INSERT INTO messages (channel, author, author_name, text, thread, sent_at) "
                    "VALUES (?, ?, ?, ?, ?, ?) RETURNING *",
                    (
                        channel,
                        person_id(author),
                        author,
                        text,
                        (root["thread"] or root["number"]) if thread is not None else None,
                        now_text(),
                    ),
                ),
            ]
        )[1]
        return _said(rows[0])

    def edit(self, text: str, message_id: str | None = None) -> str:
        """Somebody else changes a message, by default the last one; returns its message_id."""
        _check_text(text)
        return self._change("UPDATE messages SET text = ?3, edited_at = ?2", message_id, text)

    def delete(self, message_id: str | None = None) -> str:
        """Somebody else deletes a message, by default the last one; returns its message_id."""
        return self._change(
            "UPDATE messages SET text = '', deleted = 1, edited_at = ?2", message_id
        )

    def _change(self, what: str, message_id: str | None, *others: Value) -> str:
        row = self._find(message_id)
        if row["deleted"]:
            raise ValueError(f"{_id(row)} is deleted")
        self.database.execute(f"{what} WHERE number = ?1", (row["number"], now_text(), *others))
        return _id(row)

    def _find(self, message_id: str | None) -> Row:
        """A message by its message_id or number, or the last one that somebody else has said."""
        if message_id is None:
            rows = self.database.execute(
                f"{_MESSAGE} WHERE request IS NULL AND NOT deleted ORDER BY m.number DESC LIMIT 1"
            )
            if not rows:
                raise NotFound('nobody has said anything: communicator sandbox say "…"')
            return rows[0]
        number = message_id.rpartition(":")[2]
        rows = self.database.execute(
            f"{_MESSAGE} WHERE m.number = ?", (int(number) if number.isdecimal() else -1,)
        )
        if not rows or message_id not in (number, _id(rows[0])):
            raise NotFound(f"there is no message {message_id!r}: communicator sandbox show")
        return rows[0]

    # --- you

    def post(self, send: Send, fault: str = "") -> Said:
        """You send. With a key that is known, it is the message of that key again. Raises
        `ValueError`, `NotFound`, and then nothing is stored but that it arrived."""
        try:
            self._check(send)
        except (ValueError, NotFound):
            self.not_stored(send, fault)
            raise
        request = secrets.token_hex(16)
        insert = (
            "INSERT INTO messages (channel, author, author_name, text, thread, reply_to, sent_at, "
            "key, metadata, request) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (author, key) DO NOTHING",
            (
                send.channel,
                person_id(send.author),
                send.author,
                send.text,
                _number(send.thread),
                _number(send.reply_to),
                now_text(),
                send.key,
                send.metadata,
                request,
            ),
        )
        which = "FROM messages WHERE request = ? OR (author = ? AND key = ?)"
        who = (request, person_id(send.author), send.key)
        journal = (
            f"{_ARRIVAL} SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, "
            f"iif(request = ?, 'stored', 'repeated'), number {which}",
            (*_arrival(send, fault), request, *who),
        )
        return _said(self.database.batch([insert, journal, (f"SELECT * {which}", who)])[2][0])

    def _check(self, send: Send) -> None:
        _check_text(send.text)
        known = "SELECT 1 FROM channels WHERE channel = ?"
        if not self.database.execute(known, (send.channel,)):
            raise NotFound(f"there is no chat {send.channel!r}")
        for number in filter(None, (send.thread, send.reply_to)):
            self._find(f"{send.channel}:{number}")

    def not_stored(self, send: Send, fault: str = "") -> None:
        """Note a request that arrived and did nothing."""
        self.database.execute(
            f"{_ARRIVAL} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'not stored', NULL)",
            _arrival(send, fault),
        )

    # --- reading

    def events(self, after: int, since: datetime | None, most: int) -> list[Row]:
        """What happened behind an event's number, at or after a time; in order."""
        return self.database.execute(
            "SELECT e.number AS event, e.kind AS kind, e.text AS text, e.edited_at AS edited_at, "
            "m.number AS number, channel, c.name AS channel_name, c.kind AS channel_kind, author, "
            "author_name, thread, reply_to, sent_at FROM events AS e "
            "JOIN messages AS m ON m.number = e.message JOIN channels AS c USING (channel) "
            "WHERE e.number > ? AND e.at >= ? ORDER BY e.number LIMIT ?",
            (after, utc_text(since) if since else "", most),
        )

    def window(self, first: datetime, last: datetime, after: int, most: int) -> list[Row]:
        """The messages of a stretch of time as they are now, behind a message's number."""
        return self.database.execute(
            f"{_MESSAGE} WHERE sent_at >= ? AND sent_at < ? AND m.number > ? "
            "ORDER BY m.number LIMIT ?",
            (utc_text(first), utc_text(last), after, most),
        )

    def marked(self, metadata: str, after: int, most: int) -> list[Row]:
        """The messages that carry this metadata, deleted ones too."""
        return self.database.execute(
            f"{_MESSAGE} WHERE metadata = ? AND m.number > ? ORDER BY m.number LIMIT ?",
            (metadata, after, most),
        )

    def arrivals(self, delivery: str | None = None) -> list[Arrival]:
        """Every request to send that arrived, in order; or those of a delivery."""
        rows = self.database.execute(
            "SELECT a.*, m.channel AS stored_in FROM arrivals AS a "
            "LEFT JOIN messages AS m ON m.number = a.message "
            "WHERE ?1 IS NULL OR delivery = ?1 ORDER BY a.number",
            (delivery,),
        )
        return [
            Arrival(
                from_utc_text(row["at"]),
                Send(
                    row["author"],
                    row["channel"],
                    row["text"],
                    row["thread"],
                    None,
                    row["key"],
                    row["metadata"],
                    row["delivery"],
                ),
                row["fault"],
                row["outcome"],
                f"{row['stored_in']}:{row['message']}" if row["message"] else None,
            )
            for row in rows
        ]

    def lines(self, chat: str | None = None, last: int = 50) -> list[Line]:
        """The last messages, oldest first, of all chats or of one (its id or name)."""
        rows = self.database.execute(
            "SELECT m.*, c.name AS channel_name, c.kind AS channel_kind, d.copies, d.requests "
            "FROM messages AS m JOIN channels AS c USING (channel) "
            "LEFT JOIN arrivals AS a ON a.message = m.number AND a.outcome = 'stored' "
            "LEFT JOIN (SELECT delivery, count(*) AS requests, "
            "sum(outcome = 'stored') AS copies FROM arrivals GROUP BY delivery) AS d "
            "ON d.delivery = a.delivery AND d.delivery <> '' "
            "WHERE ?1 IS NULL OR ?1 IN (c.channel, c.name) ORDER BY m.number DESC LIMIT ?2",
            (chat and chat.removeprefix("#"), last),
        )
        return [
            Line(
                _id(row),
                row["channel_name"],
                row["channel_kind"],
                row["author_name"],
                row["text"],
                f"{row['channel']}:{row['thread']}" if row["thread"] else None,
                from_utc_text(row["sent_at"]),
                row["edited_at"] is not None and not row["deleted"],
                bool(row["deleted"]),
                row["request"] is not None,
                row["copies"] or 1,
                row["requests"] or 1,
            )
            for row in reversed(rows)
        ]


_ARRIVAL = (
    "INSERT INTO arrivals (at, delivery, author, channel, thread, text, key, metadata, fault, "
    "outcome, message)"
)


def person_id(name: str) -> str:
    """The id of whoever has this name; raises `ValueError`."""
    found = "-".join(name.casefold().split()).replace(":", "-")
    if not found:
        raise ValueError("a name should have a letter or more")
    return found


def _arrival(send: Send, fault: str) -> Sequence[Value]:
    return (
        now_text(),
        send.delivery,
        send.author,
        send.channel,
        send.thread,
        send.text,
        send.key,
        send.metadata,
        fault,
    )


def _check_text(text: str) -> None:
    if not text.strip():
        raise ValueError("there is nothing in the message")
    if len(text) > LONGEST:
        raise ValueError(f"the message has {len(text)} characters, {LONGEST} is the most")


def _number(native: str | None) -> int | None:
    return int(native) if native else None


def _id(row: Row) -> str:
    return f"{row['channel']}:{row['number']}"


def _said(row: Row) -> Said:
    return Said(_id(row), from_utc_text(row["sent_at"]))
