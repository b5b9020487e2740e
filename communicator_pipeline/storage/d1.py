"""Cloudflare D1 behind the database's interface, over its REST API or the edge Worker.

Belongs here: statements as D1 takes them, what its errors mean, which of its writes took effect.
Does not belong here: how often Cloudflare may be asked (`cloudflare.py`), what the tables mean.

The shape of requests and answers is that of the REST API
(https://developers.cloudflare.com/api/resources/d1/subresources/database/methods/raw/, read
2026-11); the edge Worker serves the same from its binding, so only the base URL differs.

Three things are not as in SQLite:

- Numbers that are bound arrive as REAL or as text, and change what `/`, `||` or a comparison gives.
  So numbers and NULL stand in the statement itself, and only text is bound.
- A batch is one transaction, but its answer can get lost after it took effect. Every batch that
  writes also writes a fence, a row with a random key. The same batch is then simply sent again:
  if the first one took effect, or still does, the fence lets the other one fail as a whole.
- Answers are JSON: a REAL without fraction comes back as an integer.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from communicator_pipeline.storage.cloudflare import (
    CallsUsedUp,
    CloudflareAccount,
    may_pass,
    nothing_left_us,
)
from communicator_pipeline.storage.database import (
    LONGEST_STATEMENT,
    MOST_PARAMETERS,
    ConstraintFailed,
    Database,
    DatabaseFailed,
    DatabaseRefused,
    DatabaseUnavailable,
    MayGoOn,
    OutcomeUnknown,
    Row,
    Statement,
    Value,
    check_limits,
    delete_in_parts,
    for_ever,
    now_text,
    reads,
    utc_text,
)

if TYPE_CHECKING:
    from cloudflare import APIStatusError

FENCE = "INSERT INTO write_fences (fence, written_at) VALUES (?1, ?2)"

_PLACEHOLDER = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | \?(\d*)""", re.VERBOSE | re.DOTALL
)


class D1Database:
    """One D1 database. Safe for threads."""

    def __init__(
        self,
        account: CloudflareAccount,
        database_id: str,
        meter: Callable[[str, int], None] = lambda what, count: None,
    ) -> None:
        self.account = account
        self.database_id = database_id
        self._meter = meter

    def execute(self, sql: str, params: Sequence[Value] = ()) -> list[Row]:
        """Run one statement, committed when the call returns; see `batch`."""
        return self.batch([(sql, params)])[0]

    def batch(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Run the statements as one transaction.

        Raises `DatabaseRefused` for what D1 would not take, `ConstraintFailed`, `DatabaseFailed`
        for a wrong statement, `DatabaseUnavailable` if nothing was done and it may work later, and
        `OutcomeUnknown` if it may have been done, or was done and the answer is lost.
        """
        if not statements:
            return []
        from cloudflare import APIConnectionError, APIStatusError

        for sql, params in statements:
            check_limits(sql, params)
        sent = [spelled(sql, params) for sql, params in statements]
        only_reads = all(reads(sql) for sql, _ in statements)
        fence = ""
        # A migration notes its name, which is unique: that fences it, and the first ones have to
        # make the table of fences.
        if not only_reads and not any("d1_migrations" in sql for sql, _ in statements):
            fence = secrets.token_hex(12)
            sent.append(spelled(FENCE, (fence, now_text())))
        uncertain = False  # whether a try may have taken effect whose answer never came

        def ask() -> list[list[Row]]:
            nonlocal uncertain
            try:
                return self._ask(sent)
            except (APIStatusError, APIConnectionError) as error:
                uncertain |= not only_reads and may_pass(error) and not nothing_left_us(error)
                raise

        try:
            answer = self.account.call(ask, repeatable=only_reads or bool(fence))
        except ConstraintFailed as error:
            if not fence or "write_fences.fence" not in str(error):
                raise
            if any(reads(sql) or "RETURNING" in sql.upper() for sql, _ in statements):
                raise OutcomeUnknown(
                    "the database did what it was asked, but its answer was lost on the way"
                ) from None
            return [[] for _ in statements]
        except (CallsUsedUp, APIStatusError, APIConnectionError) as error:
            words = str(error) if isinstance(error, CallsUsedUp) else _words(error)
            if uncertain:
                raise OutcomeUnknown(f"D1 may have done what it was asked: {words}") from None
            raise DatabaseUnavailable(f"D1 cannot be asked just now: {words}") from None
        return answer[: len(statements)]

    def _ask(self, sent: Sequence[tuple[str, list[str]]]) -> list[list[Row]]:
        from cloudflare import APIStatusError

        if self.account.budget is None:  # what is counted there is counted with the calls
            self._meter("workers requests", 1)
        try:
            response = self.account.client().d1.database.with_raw_response.raw(
                self.database_id,
                account_id=self.account.account_id,
                batch=[{"sql": sql, "params": params} for sql, params in sent],
            )
        except APIStatusError as error:
            is_refusal = error.status_code < 500 and error.status_code not in (408, 429)
            # What SQLite itself said is an answer, whatever the status is.
            if is_refusal or "SQLITE_" in _words(error):
                raise _refusal(error) from None
            raise
        results = orjson.loads(response.http_response.content)["result"]
        for result in results:
            meta = result.get("meta") or {}
            self._meter("d1 rows read", int(meta.get("rows_read") or 0))
            self._meter("d1 rows written", int(meta.get("rows_written") or 0))
        return [_rows(result["results"]) for result in results]


def forget_fences(database: Database, before: datetime, may_go_on: MayGoOn = for_ever) -> int:
    """Delete the fences of writes that nobody can be sending any more; returns how many went."""
    return delete_in_parts(
        database, "write_fences", "fence", "written_at < ?", (utc_text(before),), may_go_on
    )


def spelled(sql: str, params: Sequence[Value]) -> tuple[str, list[str]]:
    """The statement as it is sent: texts bound, numbers, bytes and NULL written out.

    Raises `DatabaseRefused` if it is too long then.
    """
    bound: list[str] = []
    places: dict[int, str] = {}
    highest = 0

    def place(match: re.Match[str]) -> str:
        nonlocal highest
        if match.group(1) is None:
            return match.group()  # a text, a name in quotes or a comment
        number = int(match.group(1)) if match.group(1) else highest + 1
        highest = max(highest, number)
        if not 1 <= number <= len(params):
            raise DatabaseRefused(f"the statement asks for parameter {number} of {len(params)}")
        if number not in places:
            value = params[number - 1]
            if isinstance(value, str):
                bound.append(value)
                places[number] = f"?{len(bound)}"
            else:
                places[number] = _literal(value)
        return places[number]

    written = _PLACEHOLDER.sub(place, sql)
    size = len(written.encode())
    if size > LONGEST_STATEMENT or len(bound) > MOST_PARAMETERS:
        raise DatabaseRefused(
            f"the statement has {size} bytes with its numbers written out, D1 takes "
            f"{LONGEST_STATEMENT}: carry the rows in one JSON parameter"
        )
    return written, bound


def _literal(value: float | bytes | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, bool | int):
        return f"({int(value)})" if value < 0 else str(int(value))
    if value != value or value in (float("inf"), float("-inf")):
        raise DatabaseRefused(f"{value} is no number that a database keeps")
    return f"({value!r})"


def _rows(results: dict[str, Any]) -> list[Row]:
    names = results["columns"]
    return [
        # JSON has no bytes: only a BLOB comes as a list of numbers.
        {
            name: bytes(value) if isinstance(value, list) else value
            for name, value in zip(names, row, strict=True)
        }
        for row in results["rows"]
    ]


def _refusal(error: APIStatusError) -> DatabaseFailed | DatabaseRefused:
    """What a 4xx means."""
    words = _words(error)
    if "SQLITE_CONSTRAINT" in words or "constraint failed" in words:
        return ConstraintFailed(words)
    if error.status_code in (401, 403):
        return DatabaseUnavailable(
            f"D1 does not take the token ({words}): `communicator doctor` says what it lacks"
        )
    if error.status_code == 404:
        return DatabaseUnavailable(
            f"D1 knows no such database ({words}): check COMMUNICATOR_D1_DATABASE and "
            "CLOUDFLARE_ACCOUNT_ID"
        )
    return DatabaseFailed(words)


def _words(error: Exception) -> str:
    """What Cloudflare said, or how it could not be asked; without what was asked."""
    body: object = getattr(error, "body", None)
    if isinstance(body, dict) and isinstance(body.get("errors"), list):
        said = [str(one.get("message", "")) for one in body["errors"] if isinstance(one, dict)]
        if any(said):
            return "; ".join(said)
    status = getattr(error, "status_code", None)
    if status is not None:
        return f"HTTP {status}"
    cause = error.__cause__
    return f"{type(cause or error).__name__}"
