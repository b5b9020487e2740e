"""Memories in the database: what was learnt, and what people made of it.

Belongs here: all SQL about memories. Does not belong here: how they are arrived at
(`drafting/learning.py`) and what they do (`drafting/learnt.py`).

A person has the last word: what they changed, nothing that is learnt later changes; what they
deleted is not learnt again from the same feedback. Both stay as rows for that.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from communicator_pipeline.analysis.suspicion import holds_a_secret
from communicator_pipeline.drafting.learning import key_of
from communicator_pipeline.drafting.learnt import (
    CATEGORY,
    CONTACT,
    EVERYONE,
    KINDS,
    Do,
    Memory,
    Rule,
    described,
    rule_of,
)
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.database import Database, Row, Statement, carry_rows, utc_text
from communicator_pipeline.storage.outbox import Outbox

LONGEST_WORDS = 1_000  # characters
LONGEST_SCOPE = 1_100
MOST_ABOUT_WORDS = 6


class NotAMemory(ValueError):
    """It cannot be kept like this; the message says why, and what can."""


@dataclass(frozen=True, slots=True)
class KeptMemory:
    """A memory as people see it. Times are UTC."""

    memory: Memory
    account: str
    text: str
    learnt: bool  # else a person wrote it
    created_at: datetime
    edited_by: str  # '' if nobody changed it
    conversations: tuple[str, ...]  # what it was learnt from


# --- the pipeline ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LearningMark:
    """How far an account was learnt from."""

    mark: int  # grows with everything that may change the memories; 0: nothing ever did
    done: int  # the mark up to which it was learnt from
    digest: str  # of what counted then


def learning_mark(database: Database, account: str) -> LearningMark:
    """How far an account was learnt from."""
    rows = database.execute(
        "SELECT mark, done, digest FROM learning_marks WHERE account = ?", (account,)
    )
    if not rows:
        return LearningMark(0, 0, "")
    return LearningMark(int(rows[0]["mark"]), int(rows[0]["done"]), rows[0]["digest"])


def accounts_to_learn_from(database: Database) -> list[tuple[str, int]]:
    """(account, mark) of those whose feedback, memories or relabels changed since they were learnt
    from. The mark grows with each change: relabels count in it by the newest one's id."""
    rows = database.execute(
        "SELECT account, sum(mark) AS mark FROM (SELECT account, mark FROM learning_marks "
        "WHERE mark > done UNION ALL SELECT r.account, max(r.id) FROM relabels AS r "
        "LEFT JOIN label_models AS l ON l.account = r.account "
        "GROUP BY r.account HAVING max(r.id) > coalesce(max(l.learnt_to), 0)) "
        "GROUP BY account ORDER BY account"
    )
    return [(row["account"], int(row["mark"])) for row in rows]


def active_memories(database: Database, account: str) -> list[Memory]:
    """What counts for an account's drafts."""
    rows = database.execute(
        "SELECT * FROM memories WHERE account = ? AND state = 'active' ORDER BY memory_id",
        (account,),
    )
    return [_memory(row) for row in rows]


def spent(database: Database, account: str) -> dict[str, set[str]]:
    """What people had the last word on: what was learnt → the feedback that it was learnt from."""
    rows = database.execute(
        "SELECT learnt, sources FROM memories WHERE account = ? AND learnt <> '' "
        "AND edited_at <> ''",
        (account,),
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["learnt"], set()).update(orjson.loads(row["sources"]))
    return found


def keep_learnt(
    database: Database,
    account: str,
    owner: str,
    memories: Sequence[Memory],
    mark: int,
    digest: str,
    now: datetime,
) -> bool:
    """Have these be what is learnt of an account, in one batch; what people changed or deleted
    stays as they left it. False, and nothing is written, if the account's feedback or what people
    did with memories is not what it was at `mark`: read again. `digest`: of all that counts."""
    current = "(SELECT mark FROM learning_marks WHERE account = ?2) = ?3"
    rows = [
        {
            "id": memory.memory_id,
            "scope": memory.scope,
            "kind": memory.kind,
            "language": memory.language,
            "rule": memory.rule.to_json(),
            "text": described(memory.rule),
            "learnt": key_of(memory.rule, memory.language),
            "sources": orjson.dumps(memory.sources).decode(),
            "at": utc_text(memory.changed_at),
        }
        for memory in memories
    ]
    statements: list[Statement] = [
        (f"SELECT 1 WHERE {current.replace('?2', '?1').replace('?3', '?2')}", (account, mark)),
        (
            "DELETE FROM memories WHERE account = ?2 AND edited_at = '' AND "
            f"{current} AND memory_id NOT IN (SELECT value FROM json_each(?1))",
            (orjson.dumps([row["id"] for row in rows]).decode(), account, mark),
        ),
        *carry_rows(
            "INSERT INTO memories (account, memory_id, user_id, scope, kind, language, rule, text, "
            "learnt, sources, created_at) SELECT ?2, value ->> 'id', ?4, value ->> 'scope', "
            "value ->> 'kind', value ->> 'language', value ->> 'rule', value ->> 'text', "
            "value ->> 'learnt', value ->> 'sources', value ->> 'at' FROM json_each(?1) "
            f"WHERE {current} "
            "ON CONFLICT (account, memory_id) DO UPDATE SET rule = excluded.rule, "
            "text = excluded.text, sources = excluded.sources, created_at = excluded.created_at, "
            "user_id = excluded.user_id WHERE memories.edited_at = ''",
            rows,
            account,
            mark,
            owner,
        ),
        (
            "UPDATE learning_marks SET done = ?3, done_at = ?1, digest = ?4 WHERE account = ?2 "
            f"AND {current}",
            (utc_text(now), account, mark, digest),
        ),
    ]
    return bool(database.batch(statements)[0])


# --- people ----------------------------------------------------------------------------------


class Memories:
    """The memories of the accounts that one user may see.

    Each method raises `NotFound` for what is not there, or not theirs; those that change something
    raise `PermissionError` for a viewer and `NotAMemory` for what cannot be kept.
    """

    def __init__(self, database: Database, user_id: str) -> None:
        self.database = database
        self.user_id = user_id

    def list(self, account: str | None = None) -> list[KeptMemory]:
        """What is kept, the widest scope first."""
        if account is not None:
            Outbox(self.database, self.user_id).role(account)
        rows = self.database.execute(
            f"{_SHOWN} AND (?2 IS NULL OR g.account = ?2) ORDER BY g.account, "
            "g.scope <> 'everyone', g.scope, g.kind, g.text, g.memory_id",
            (self.user_id, account),
        )
        return [_kept(row) for row in rows]

    def get(self, account: str, memory_id: str) -> KeptMemory:
        """One memory."""
        rows = self.database.execute(
            f"{_SHOWN} AND g.account = ?2 AND g.memory_id = ?3",
            (self.user_id, account, memory_id),
        )
        if not rows:
            raise NotFound(
                f"there is no memory {memory_id!r} in {account}: `communicator memories list` "
                "shows them"
            )
        return _kept(rows[0])

    def add(
        self, account: str, do: Do, words: str, scope: str, language: str, now: datetime
    ) -> KeptMemory:
        """Write a memory of one's own."""
        Outbox(self.database, self.user_id).must_approve(account)
        rule, where = checked(Rule(do, words=words.strip())), checked_scope(scope)
        memory_id = secrets.token_hex(8)
        self.database.batch(
            [
                (
                    "INSERT INTO memories (account, memory_id, user_id, scope, kind, language, "
                    "rule, text, created_at, edited_by, edited_at) VALUES (?1, ?2, coalesce("
                    "(SELECT min(user_id) FROM account_members WHERE account = ?1 "
                    "AND role = 'owner'), ?3), ?4, ?5, ?6, ?7, ?8, ?9, ?3, ?9)",
                    (
                        account, memory_id, self.user_id, where, KINDS[do], language,
                        rule.to_json(), described(rule), utc_text(now),
                    ),
                ),
            ]
        )  # fmt: skip
        return self.get(account, memory_id)

    def edit(
        self,
        account: str,
        memory_id: str,
        now: datetime,
        *,
        words: str | None = None,
        scope: str | None = None,
        about: Iterable[str] | None = None,
        most: int | None = None,
    ) -> KeptMemory:
        """Change what a memory says, for whom, or when; it is the person's from then on."""
        Outbox(self.database, self.user_id).must_approve(account)
        kept = self.get(account, memory_id)
        old = kept.memory.rule
        rule = checked(
            Rule(
                old.do,
                old.words if words is None else words.strip(),
                old.about if about is None else tuple(about),
                old.instead,
                old.breaks,
                old.most if most is None else most,
            )
        )
        where = kept.memory.scope if scope is None else checked_scope(scope)
        changed = self.database.execute(
            "UPDATE memories SET rule = ?3, text = ?4, scope = ?5, edited_by = ?6, edited_at = ?7 "
            "WHERE account = ?1 AND memory_id = ?2 AND state = 'active' RETURNING memory_id",
            (
                account, memory_id, rule.to_json(), described(rule), where, self.user_id,
                utc_text(now),
            ),
        )  # fmt: skip
        # What was learnt meanwhile may have taken it away: then there is nothing to change.
        return self.get(account, changed[0]["memory_id"] if changed else memory_id)

    def delete(self, account: str, memory_id: str, now: datetime) -> None:
        """Forget a memory, words and all; the same is not learnt again from the same feedback: a
        digest of it stays for that."""
        Outbox(self.database, self.user_id).must_approve(account)
        self.get(account, memory_id)
        self.database.execute(
            "UPDATE memories SET state = 'deleted', rule = '{\"do\":\"note\"}', text = '', "
            "edited_by = ?3, edited_at = ?4 "
            "WHERE account = ?1 AND memory_id = ?2 AND state = 'active'",
            (account, memory_id, self.user_id, utc_text(now)),
        )


def checked(rule: Rule) -> Rule:
    """The rule as it is kept; raises `NotAMemory`."""
    if len(rule.words) > LONGEST_WORDS:
        raise NotAMemory(f"it has {len(rule.words)} characters, {LONGEST_WORDS} can be kept")
    if holds_a_secret(rule.words):
        raise NotAMemory(
            "it looks like a password or a key, which drafts must not hold: leave it out"
        )
    if rule.do in ("say", "ask", "leave out", "note") and not rule.words:
        raise NotAMemory("it is empty: write what it is to say, or delete it")
    if rule.do == "address" and rule.words not in ("familiar", "polite"):
        raise NotAMemory("the form of address is either 'familiar' or 'polite'")
    if rule.do == "shorten" and not 1 <= rule.most <= 1_000:
        raise NotAMemory("give the most words that a reply may have, 1 to 1000")
    if len(rule.about) > MOST_ABOUT_WORDS or any(not w.strip() for w in rule.about):
        raise NotAMemory(f"name at most {MOST_ABOUT_WORDS} words that a message is about")
    return rule


def checked_scope(scope: str) -> str:
    """The scope as it is kept; raises `NotAMemory`."""
    named = any(scope.startswith(kind) and scope != kind for kind in (CONTACT, CATEGORY))
    if (scope != EVERYONE and not named) or len(scope) > LONGEST_SCOPE:
        raise NotAMemory(
            f"{scope[:100]!r} is no scope: 'everyone', 'contact:' with a person's id, or "
            "'category:' with a category's name"
        )
    return scope


_SHOWN = (
    "SELECT g.*, (SELECT json_group_array(DISTINCT f.conversation_id) FROM json_each(g.sources) "
    "AS s JOIN feedback AS f ON f.account = g.account AND f.feedback_id = s.value) "
    "AS conversations FROM account_members AS m JOIN memories AS g ON g.account = m.account "
    "WHERE m.user_id = ?1 AND g.state = 'active'"
)


def _memory(row: Row) -> Memory:
    return Memory(
        row["memory_id"],
        row["scope"],
        row["language"],
        rule_of(row["rule"]),
        tuple(orjson.loads(row["sources"])),
        datetime.fromisoformat(row["edited_at"] or row["created_at"]),
        bool(row["edited_at"]),
    )


def _kept(row: Row) -> KeptMemory:
    conversations: list[str] = orjson.loads(row["conversations"])
    return KeptMemory(
        _memory(row),
        row["account"],
        row["text"],
        bool(row["learnt"]),
        datetime.fromisoformat(row["created_at"]),
        row["edited_by"],
        tuple(sorted(conversations)),
    )
