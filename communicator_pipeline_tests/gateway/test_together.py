"""Several readers asked with one call of the database."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from communicator_pipeline.gateway.pages.together import Together
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.database import Database, Row, Statement, Value


class Counted:
    """A real database that notes how many statements each call had."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.calls: list[int] = []

    def execute(self, sql: str, params: Sequence[Value] = ()) -> list[Row]:
        return self.batch([(sql, params)])[0]

    def batch(self, statements: Sequence[Statement]) -> list[list[Row]]:
        self.calls.append(len(statements))
        return self.database.batch(statements)


def one(number: int, database: Database) -> int:
    return int(database.execute("SELECT ? AS n", (number,))[0]["n"])


def two(database: Database) -> list[int]:
    return [rows[0]["n"] for rows in database.batch([("SELECT 7 AS n", ()), ("SELECT 8 AS n", ())])]


def test_each_reader_gets_its_own_rows_of_one_call(stores: Stores) -> None:
    database = Counted(stores.database)
    together = Together(database)
    first = together.add(lambda asked: one(1, asked))
    both = together.add(two)
    silent = together.add(lambda asked: "asks nothing")
    last = together.add(lambda asked: one(2, asked))
    together.ask()
    found = (first.value, both.value, silent.value, last.value)
    assert found == (1, [7, 8], "asks nothing", 2)
    assert database.calls == [4]


def test_what_a_reader_asks_besides_is_asked_by_itself(stores: Stores) -> None:
    database = Counted(stores.database)
    together = Together(database)
    later = together.add(lambda asked: one(one(3, asked) + 1, asked))
    together.add(two)
    together.ask()
    assert later.value == 4
    assert database.calls == [3, 1]


def test_a_reader_that_refuses_refuses_for_all(stores: Stores) -> None:
    def refuses(database: Database) -> None:
        if one(0, database) == 0:
            raise NotFound("there is no such thing")

    together = Together(stores.database)
    together.add(two)
    together.add(refuses)
    with pytest.raises(NotFound, match="no such thing"):
        together.ask()
