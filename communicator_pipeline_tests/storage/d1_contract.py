"""What a D1 database must do, behind whatever serves its REST shape.

Belongs here: the tests that are the same for the double, for workerd and for a real account. Does
not belong here: what goes wrong on the way (`test_d1.py`), the pipeline on D1 (`make
test-cloudflare`).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from communicator_pipeline.storage.d1 import FENCE, D1Database, spelled
from communicator_pipeline.storage.database import (
    ConstraintFailed,
    DatabaseFailed,
    SqliteDatabase,
    Value,
    carry_rows,
    migrate,
)

NUMBERS: list[Value] = [0, -1, 2**53, -(2**53), 1.5, -0.25, 1e300, None]
TEXTS: list[Value] = ["", "a'b", "?1", "naïve 日本 🙂", "2**60", "1e5", " 7 "]
BYTES: list[Value] = [b"", b"\x00a", bytes(range(256))]
TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, n)"


class D1Contract:
    """Subclasses give a fixture `database`: migrated, with the empty table `TABLE`."""

    @pytest.fixture
    def local(self, tmp_path: Path) -> SqliteDatabase:
        opened = SqliteDatabase(tmp_path / "local.db")
        migrate(opened)
        opened.execute(TABLE)
        return opened

    def test_the_schema_is_that_of_sqlite(
        self, database: D1Database, local: SqliteDatabase
    ) -> None:
        question = (
            "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL "
            "AND name NOT LIKE '_cf_%' ORDER BY type, name"
        )
        assert database.execute(question) == local.execute(question)

    def test_every_value_comes_back_as_from_sqlite(
        self, database: D1Database, local: SqliteDatabase
    ) -> None:
        for one in (database, local):
            one.batch(
                [
                    ("INSERT INTO t (id, n) VALUES (?, ?)", (number, value))
                    for number, value in enumerate([*NUMBERS, *TEXTS, *BYTES])
                ]
            )
        question = (
            "SELECT id, n, typeof(n) AS kind, ?1 / 2 AS half, ?1 || 'x' AS words, ?2 AS other, "
            "n = ?1 AS same FROM t ORDER BY id LIMIT ?3"
        )
        params = (7, "é?1'", 1_000)
        assert database.execute(question, params) == local.execute(question, params)

    def test_a_batch_takes_effect_whole_or_not_at_all(self, database: D1Database) -> None:
        with pytest.raises(ConstraintFailed, match=r"UNIQUE constraint failed: t\.name"):
            database.batch([("INSERT INTO t (name) VALUES (?)", ("a",))] * 2)
        assert database.execute("SELECT * FROM t") == []
        answers = database.batch(
            [
                ("INSERT INTO t (name) VALUES (?) RETURNING name", ("a",)),
                ("SELECT count(*) AS n FROM t", ()),
            ]
        )
        assert answers == [[{"name": "a"}], [{"n": 1}]]

    def test_a_rule_of_the_schema_is_told_in_its_own_words(self, database: D1Database) -> None:
        with pytest.raises(ConstraintFailed, match="FOREIGN KEY"):
            database.execute(
                "INSERT INTO account_members (account, user_id, role) VALUES ('x', 'y', 'owner')"
            )
        database.execute(
            "CREATE TRIGGER refuses BEFORE INSERT ON t BEGIN SELECT raise(ABORT, 'not today'); END"
        )
        try:
            with pytest.raises(ConstraintFailed, match="not today"):
                database.execute("INSERT INTO t (n) VALUES (1)")
        finally:
            database.execute("DROP TRIGGER refuses")

    @pytest.mark.parametrize("sql", ["SELECT * FROM nowhere", "SELEC 1", "SELECT nothing(1)"])
    def test_a_wrong_statement_has_failed(self, database: D1Database, sql: str) -> None:
        with pytest.raises(DatabaseFailed):
            database.execute(sql)

    def test_thousands_of_rows_travel_in_few_parameters(self, database: D1Database) -> None:
        rows = [{"name": f"{number:05d}" + "é" * 500} for number in range(3_000)]
        statements = list(
            carry_rows("INSERT INTO t (name) SELECT value ->> 'name' FROM json_each(?1)", rows)
        )
        assert 1 < len(statements) < 5
        database.batch(statements)
        found = database.execute("SELECT count(*) AS n, sum(length(name)) AS size FROM t")
        assert found == [{"n": 3_000, "size": 3_000 * 505}]

    def test_a_batch_that_comes_again_with_its_fence_does_nothing(
        self, database: D1Database
    ) -> None:
        sent = [spelled("INSERT INTO t (n) VALUES (1)", ()), spelled(FENCE, ("a fence", "2026"))]
        database._ask(sent)
        with pytest.raises(ConstraintFailed, match=r"write_fences\.fence"):
            database._ask(sent)
        assert database.execute("SELECT n FROM t") == [{"n": 1}]

    def test_words_are_found(self, database: D1Database) -> None:
        database.execute("INSERT INTO messages_fts (rowid, body) VALUES (1, 'Grüße aus Köln')")
        found = database.execute(
            "SELECT rowid FROM messages_fts WHERE messages_fts MATCH ?", ("grusse OR koln",)
        )
        assert found == [{"rowid": 1}]
        database.execute("DELETE FROM messages_fts WHERE rowid = 1")
