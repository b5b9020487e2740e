"""D1 over its REST interface: what is sent, what errors mean, no write is done twice or lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from communicator_pipeline.storage.cloudflare import CallBudget, CloudflareAccount
from communicator_pipeline.storage.d1 import D1Database, spelled
from communicator_pipeline.storage.database import (
    DatabaseFailed,
    DatabaseRefused,
    DatabaseUnavailable,
    OutcomeUnknown,
    Value,
    migrate,
)
from communicator_pipeline_tests.storage.d1_contract import TABLE, D1Contract
from communicator_pipeline_tests.storage.d1_server import TOKEN, D1Server, Fault, d1_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[D1Server]:
    with d1_server(tmp_path / "d1.db") as running:
        yield running


@pytest.fixture
def database(server: D1Server, tmp_path: Path) -> D1Database:
    opened = database_on(server, tmp_path)
    migrate(opened)
    opened.execute(TABLE)
    server.requests.clear()
    return opened


def database_on(server: D1Server, tmp_path: Path, timeout: float = 5.0) -> D1Database:
    budget = CallBudget(tmp_path / "calls.db")
    return D1Database(CloudflareAccount("acc", TOKEN, budget, server.url, timeout), "db")


def once(*faults: Fault) -> object:
    """These faults, one a request, then none."""
    waiting = list(faults)
    return lambda: waiting.pop(0) if waiting else ""


@pytest.mark.parametrize(
    ("sql", "params", "sent", "bound"),
    [
        ("SELECT ?, ?", (1, "a"), "SELECT 1, ?1", ["a"]),
        ("SELECT ?2, ?1, ?2", ("a", "b"), "SELECT ?1, ?2, ?1", ["b", "a"]),
        ("SELECT ? - ?", (-1, -2.5), "SELECT (-1) - (-2.5)", []),
        ("SELECT ?, ?", (None, True), "SELECT NULL, 1", []),
        ("SELECT ?", (b"\x00\xff",), "SELECT x'00ff'", []),
        ("SELECT '?', \"?\" -- ?\n, ?", ("x",), "SELECT '?', \"?\" -- ?\n, ?1", ["x"]),
        ("SELECT /* ? */ ?", ("x",), "SELECT /* ? */ ?1", ["x"]),
        ("SELECT 'it''s ?', ?", ("x",), "SELECT 'it''s ?', ?1", ["x"]),
        ("SELECT ?3, ?", ("a", "b", "c", "d"), "SELECT ?1, ?2", ["c", "d"]),
        ("SELECT ?", (2**53,), "SELECT 9007199254740992", []),
        ("SELECT ?", (1e300,), "SELECT (1e+300)", []),
    ],
)  # fmt: skip
def test_texts_are_bound_and_numbers_written_out(
    sql: str, params: tuple[Value, ...], sent: str, bound: list[str]
) -> None:
    assert spelled(sql, params) == (sent, bound)


@pytest.mark.parametrize(
    ("sql", "params"), [("SELECT ?", ()), ("SELECT ?2", ("a",)), ("SELECT ?", (float("nan"),))]
)
def test_a_parameter_that_is_not_there_or_no_number_is_refused(
    sql: str, params: tuple[Value, ...]
) -> None:
    with pytest.raises(DatabaseRefused):
        spelled(sql, params)


class TestD1OfTheDouble(D1Contract):
    pass


def test_opening_an_up_to_date_database_is_one_call(database: D1Database, server: D1Server) -> None:
    assert migrate(database) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["5xx before", "5xx after", "cut before", "cut after", "429"])
@pytest.mark.parametrize("times", [1, 3])
def test_a_write_takes_effect_exactly_once_whatever_happens_on_the_way(
    database: D1Database, server: D1Server, fault: Fault, times: int
) -> None:
    server.faults = once(*[fault] * times)  # type: ignore[assignment]
    database.execute("INSERT INTO t (n) VALUES (1)")
    assert database.execute("SELECT n FROM t") == [{"n": 1}]
    assert len(server.requests) >= times + 1


@pytest.mark.parametrize("fault", ["5xx after", "cut after"])
def test_a_write_whose_answer_is_wanted_and_lost_says_so(
    database: D1Database, server: D1Server, fault: Fault
) -> None:
    server.faults = once(fault)  # type: ignore[assignment]
    with pytest.raises(OutcomeUnknown, match="its answer was lost"):
        database.execute("INSERT INTO t (n) VALUES (1) RETURNING id")
    assert len(database.execute("SELECT * FROM t")) == 1


def test_what_never_comes_through_is_unknown_for_a_write_and_unavailable_for_a_read(
    database: D1Database, server: D1Server
) -> None:
    server.faults = lambda: "cut before"
    with pytest.raises(OutcomeUnknown, match="may have done"):
        database.execute("INSERT INTO t (n) VALUES (1)")
    with pytest.raises(DatabaseUnavailable):
        database.execute("SELECT * FROM t")


def test_a_write_that_never_left_is_not_unknown(database: D1Database, tmp_path: Path) -> None:
    nobody = CloudflareAccount(
        "acc", TOKEN, CallBudget(tmp_path / "calls.db"), "http://127.0.0.1:1/client/v4"
    )
    with pytest.raises(DatabaseUnavailable, match="ConnectError"):
        D1Database(nobody, "db").execute("INSERT INTO t (n) VALUES (1)")


def test_a_first_try_that_may_have_arrived_is_remembered_when_the_later_ones_are_refused(
    database: D1Database, server: D1Server
) -> None:
    server.faults = once("cut after", "429 for ever")  # type: ignore[assignment]
    with pytest.raises(OutcomeUnknown, match="may have done"):
        database.execute("INSERT INTO t (n) VALUES (1)")


def test_an_answer_that_takes_too_long_is_asked_for_again(
    server: D1Server, database: D1Database, tmp_path: Path
) -> None:
    quick = database_on(server, tmp_path, timeout=0.5)
    server.faults = once("slow")  # type: ignore[assignment]
    quick.execute("INSERT INTO t (n) VALUES (1)")
    assert len(database.execute("SELECT * FROM t")) == 1


def test_a_batch_that_arrives_late_does_nothing_any_more(
    database: D1Database, server: D1Server
) -> None:
    """The first try's request may still be under way when the second one has taken effect."""
    server.faults = once("5xx before")  # type: ignore[assignment]
    database.execute("INSERT INTO t (n) VALUES (1)")
    late = server.requests[0]["batch"]
    with pytest.raises(Exception, match="UNIQUE"):
        server.run(late)
    assert len(database.execute("SELECT * FROM t")) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"api_token": "other"}, "does not take the token"),
        ({"account_id": "other"}, "no such database"),
    ],
)
def test_a_wrong_token_and_a_wrong_account_are_said_in_words_without_the_token(
    database: D1Database, change: dict[str, str], says: str
) -> None:
    account = CloudflareAccount(
        **{  # type: ignore[arg-type]
            "account_id": "acc",
            "api_token": TOKEN,
            "budget": None,
            "base_url": database.account.base_url,
            **change,
        }
    )
    with pytest.raises(DatabaseUnavailable, match=says) as told:
        D1Database(account, "db").execute("SELECT 1")
    assert TOKEN not in str(told.value)
    assert "other" not in str(told.value)
    assert TOKEN not in repr(account)


def test_a_wrong_statement_is_not_asked_again(database: D1Database, server: D1Server) -> None:
    with pytest.raises(DatabaseFailed, match="no such table"):
        database.execute("SELECT * FROM nowhere")
    assert len(server.requests) == 1


def test_what_d1_refuses_is_refused_before_it_is_sent(
    database: D1Database, server: D1Server
) -> None:
    with pytest.raises(DatabaseRefused):
        database.execute("INSERT INTO t (name) VALUES (?)", ("x" * 2_000_001,))
    assert server.requests == []


def test_a_429_for_long_puts_off_everybody_on_the_machine(
    database: D1Database, server: D1Server, tmp_path: Path
) -> None:
    server.faults = once("429 for ever")  # type: ignore[assignment]
    with pytest.raises(DatabaseUnavailable, match="may not be asked again before"):
        database.execute("INSERT INTO t (n) VALUES (1)")
    asked = len(server.requests)
    other = database_on(server, tmp_path)
    with pytest.raises(DatabaseUnavailable, match="may not be asked again before"):
        other.execute("SELECT 1")
    assert len(server.requests) == asked


def test_many_threads_share_a_database(database: D1Database) -> None:
    def write(worker: int) -> None:
        for number in range(10):
            database.execute("INSERT INTO t (name) VALUES (?)", (f"{worker}-{number}",))

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.execute("SELECT count(*) AS n FROM t") == [{"n": 80}]
    assert database.execute("SELECT count(*) AS n FROM write_fences")[0]["n"] >= 80


def test_what_it_read_and_wrote_is_metered(server: D1Server, tmp_path: Path) -> None:
    counted: dict[str, int] = {}

    def meter(what: str, count: int) -> None:
        counted[what] = counted.get(what, 0) + count

    account = CloudflareAccount("acc", TOKEN, None, server.url)
    database = D1Database(account, "db", meter)
    migrate(database)
    database.execute("CREATE TABLE t (n)")
    counted.clear()
    database.execute("INSERT INTO t VALUES (1), (2)")
    database.execute("SELECT * FROM t")
    # One of those that were written is the fence.
    assert (counted["d1 rows read"], counted["d1 rows written"]) == (2, 3)
