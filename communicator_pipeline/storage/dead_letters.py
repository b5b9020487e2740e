"""Dead letters: what could not be understood, with the reason, kept until somebody acts.

Belongs here: burying, listing, trying again. Does not belong here: judging what is broken
(importers, assets).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.database import Database, Row, carry_rows, now_text
from communicator_pipeline.storage.outbox import Outbox
from communicator_pipeline.storage.work import WorkQueue

LONGEST_PAYLOAD = 64_000  # characters: enough to see what it is, far below a row's 2 MB
MOST_TRIES = 3
"""A conversation that has failed this often is buried, and its partition goes on."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    stage: str
    source: str  # file and place in it, or the conversation
    reason: str  # what was wrong and what to do
    payload: str | None = None
    day: str | None = None  # the UTC day to materialise again on a retry

    @property
    def id(self) -> str:
        """The same fault at the same place is the same letter."""
        what = f"{self.stage}\0{self.source}\0{self.payload or ''}"
        return hashlib.sha256(what.encode(errors="surrogatepass")).hexdigest()[:16]


def bury(database: Database, account: str, letters: Iterable[DeadLetter]) -> None:
    """Keep the letters; one that is there already keeps its first date and state."""
    now = now_text()
    rows = (
        {
            "id": hashlib.sha256(f"{account}\0{letter.id}".encode()).hexdigest()[:12],
            "stage": letter.stage,
            "source": _plain(letter.source),
            "reason": _plain(letter.reason),
            "payload": _plain(letter.payload),
            "day": letter.day,
        }
        for letter in letters
    )
    database.batch(
        list(
            carry_rows(
                "INSERT INTO dead_letters (dead_letter_id, account, stage, source, reason, "
                "payload, day, first_seen_at, last_seen_at) SELECT value ->> 'id', ?2, "
                "value ->> 'stage', value ->> 'source', value ->> 'reason', value ->> 'payload', "
                "value ->> 'day', ?3, ?3 FROM json_each(?1) WHERE true "
                "ON CONFLICT (dead_letter_id) DO UPDATE SET reason = excluded.reason, "
                "last_seen_at = excluded.last_seen_at, state = 'open'",
                rows,
                account,
                now,
            )
        )
    )


def note_failure(database: Database, account: str, letter: DeadLetter) -> int:
    """Count a failure of something that is tried again; returns how often it has failed.

    It is listed as a dead letter from the third time on.
    """
    row_id = hashlib.sha256(f"{account}\0{letter.id}".encode()).hexdigest()[:12]
    rows = database.execute(
        "INSERT INTO dead_letters (dead_letter_id, account, stage, source, reason, payload, day, "
        "state, first_seen_at, last_seen_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'trying', ?8, ?8) "
        "ON CONFLICT (dead_letter_id) DO UPDATE SET reason = excluded.reason, "
        "last_seen_at = excluded.last_seen_at, "
        "attempts = CASE state WHEN 'resolved' THEN 1 ELSE attempts + 1 END, "
        f"state = CASE WHEN state <> 'resolved' AND attempts + 1 >= {MOST_TRIES} THEN 'open' "
        "ELSE 'trying' END RETURNING attempts",
        (
            row_id,
            account,
            letter.stage,
            _plain(letter.source),
            _plain(letter.reason),
            _plain(letter.payload),
            letter.day,
            now_text(),
        ),
    )
    return int(rows[0]["attempts"])


def resolve(database: Database, account: str, letters: Iterable[DeadLetter]) -> None:
    """What had failed works now."""
    rows = (
        {"id": hashlib.sha256(f"{account}\0{letter.id}".encode()).hexdigest()[:12]}
        for letter in letters
    )
    database.batch(
        list(
            carry_rows(
                "UPDATE dead_letters SET state = 'resolved' WHERE dead_letter_id IN "
                "(SELECT value ->> 'id' FROM json_each(?))",
                rows,
            )
        )
    )


class DeadLetters:
    """The dead letters of the accounts that one user may see."""

    def __init__(self, database: Database, user_id: str) -> None:
        self.database = database
        self.user_id = user_id

    def list(self, account: str | None = None) -> list[Row]:
        """Open letters, newest first, without their payloads."""
        return self.database.execute(
            "SELECT dead_letter_id, d.account, stage, source, reason, day, attempts, "
            "first_seen_at, last_seen_at FROM dead_letters AS d "
            "JOIN account_members AS m USING (account) WHERE m.user_id = ?1 AND state = 'open' "
            "AND (?2 IS NULL OR d.account = ?2) ORDER BY last_seen_at DESC, dead_letter_id",
            (self.user_id, account),
        )

    def get(self, dead_letter_id: str) -> Row:
        """One letter, payload included; raises `NotFound`."""
        rows = self.database.execute(
            "SELECT d.* FROM dead_letters AS d JOIN account_members AS m USING (account) "
            "WHERE m.user_id = ? AND dead_letter_id = ?",
            (self.user_id, dead_letter_id),
        )
        if not rows:
            raise NotFound(
                f"there is no dead letter {dead_letter_id!r}: "
                "`communicator dead-letters list` shows them"
            )
        return rows[0]

    def resolve(self, dead_letter_id: str) -> None:
        """Close a letter; raises `NotFound`, and `PermissionError` for a viewer."""
        self._must_answer(self.get(dead_letter_id)["account"])
        self.database.execute(
            "UPDATE dead_letters SET state = 'resolved' WHERE dead_letter_id = ?",
            (dead_letter_id,),
        )

    def retry_day(self, dead_letter_id: str) -> str | None:
        """Have the letter's day materialised again, with a fresh count of tries.

        Returns the day, or None for a letter that an import left: that is tried again by the
        caller, who has the payload. Raises as `resolve` does.
        """
        letter = self.get(dead_letter_id)
        self._must_answer(letter["account"])
        if letter["day"] is None:
            return None
        self.resolve(dead_letter_id)
        WorkQueue(self.database).mark(letter["account"], [letter["day"]], "dead letter retried")
        return str(letter["day"])

    def _must_answer(self, account: str) -> None:
        Outbox(self.database, self.user_id).must_approve(account)


def _plain(text: str | None) -> str | None:
    # Lone surrogates come out of broken JSON escapes and cannot be stored as UTF-8.
    return None if text is None else text.encode(errors="replace").decode()[:LONGEST_PAYLOAD]
