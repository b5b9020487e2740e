"""Several readers, one call of the database: where it is not on this machine, each is a journey.

Belongs here: putting the readers' calls together. Does not belong here: what they read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

from communicator_pipeline.storage.database import Database, Row, Statement, Value

T = TypeVar("T")


class Later(Generic[T]):
    """What a reader returns, once all have been asked."""

    def __init__(self, read: Callable[[Database], T]) -> None:
        self.read = read
        self.value = cast(T, None)


class Together:
    """Asks readers that do not need each other's answers, with one call for all.

    A reader runs twice: until it asks the database, and again with the answer. What it asks then
    besides is asked by itself.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._readers: list[Later[object]] = []

    def add(self, read: Callable[[Database], T]) -> Later[T]:
        later = Later(read)
        self._readers.append(cast(Later[object], later))
        return later

    def ask(self) -> None:
        """Fill in every reader's value."""
        asking: list[tuple[Later[object], Sequence[Statement]]] = []
        for reader in self._readers:
            try:
                reader.value = reader.read(_Listening())
            except _Asked as asked:
                asking.append((reader, asked.statements))
        answers = self._database.batch([s for _, statements in asking for s in statements])
        for reader, statements in asking:
            own, answers = answers[: len(statements)], answers[len(statements) :]
            reader.value = reader.read(_Answering(self._database, own))


class _Asked(BaseException):
    """Not an `Exception`, which a reader may catch."""

    def __init__(self, statements: Sequence[Statement]) -> None:
        self.statements = statements


class _Listening:
    def execute(self, sql: str, params: Sequence[Value] = ()) -> list[Row]:
        raise _Asked([(sql, params)])

    def batch(self, statements: Sequence[Statement]) -> list[list[Row]]:
        raise _Asked(statements)


class _Answering:
    """Knows the answer to the first call."""

    def __init__(self, database: Database, answer: list[list[Row]]) -> None:
        self._database = database
        self._answer: list[list[Row]] | None = answer

    def execute(self, sql: str, params: Sequence[Value] = ()) -> list[Row]:
        return self.batch([(sql, params)])[0]

    def batch(self, statements: Sequence[Statement]) -> list[list[Row]]:
        answer, self._answer = self._answer, None
        return self._database.batch(statements) if answer is None else answer
