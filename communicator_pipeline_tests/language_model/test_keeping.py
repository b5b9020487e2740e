"""Where answers are kept: in the database or in KV, and what is done when KV fails."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from communicator_pipeline.ingestion.connecting import CLEAN_FOR, clear_removed, remove_account
from communicator_pipeline.language_model import keeping
from communicator_pipeline.language_model.keeping import KEPT_FOR, answers_of
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, add_user, removed_accounts
from communicator_pipeline.storage.cloudflare import CallBudget, CloudflareAccount
from communicator_pipeline.storage.kv import LARGEST_VALUE, KvStore
from communicator_pipeline.storage.on_cloudflare import REQUIRED, open_cloudflare
from communicator_pipeline_tests.conftest import Fill
from communicator_pipeline_tests.language_model.answers_contract import (
    ACCOUNT,
    AnswersContract,
    configured_model,
    kept,
    keys_of,
    model,
    question,
    spent_calls,
)
from communicator_pipeline_tests.language_model.model_server import ModelServer, model_server
from communicator_pipeline_tests.language_model.test_by_model import TALK, configure, rows, run
from communicator_pipeline_tests.storage.d1_server import TOKEN as D1_TOKEN
from communicator_pipeline_tests.storage.d1_server import d1_server
from communicator_pipeline_tests.storage.kv_server import TOKEN, KvServer, kv_server

__all__ = ["model"]  # a fixture

BROKEN = (500, {})
REFUSED = (429, {"retry-after": "300"})


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.01)


@pytest.fixture
def server() -> Iterator[KvServer]:
    with kv_server() as running:
        yield running


@pytest.fixture
def in_kv(stores: Stores, server: KvServer, tmp_path: Path) -> Stores:
    budget = CallBudget(tmp_path / "calls.db")
    account = CloudflareAccount("acc", TOKEN, budget, server.url, 10.0)
    return replace(stores, cache=KvStore(account, "ns"))


class TestInDatabase(AnswersContract):
    @pytest.fixture
    def box(self, stores: Stores) -> Stores:
        return stores


class TestInKv(AnswersContract):
    @pytest.fixture
    def box(self, in_kv: Stores) -> Stores:
        return in_kv


def test_the_database_holds_no_answers_where_there_is_a_kv(
    in_kv: Stores, server: KvServer, model: ModelServer
) -> None:
    configured_model(in_kv, model).complete(question("tomatoes"))
    assert not in_kv.database.execute("SELECT 1 FROM model_answers")
    [key] = server.there()
    assert key.startswith(f"answers/{ACCOUNT}/")


def test_kv_forgets_answers_after_as_long_as_is_said(in_kv: Stores, server: KvServer) -> None:
    answers_of(in_kv).note([kept(1)], [])
    server.now = KEPT_FOR.total_seconds() - 60
    assert answers_of(in_kv).find(keys_of(kept(1)))
    server.now = KEPT_FOR.total_seconds() + 60
    assert answers_of(in_kv).find(keys_of(kept(1))) == {}
    assert server.there() == {}


def test_many_answers_take_few_calls(in_kv: Stores, server: KvServer) -> None:
    answers = [kept(number) for number in range(200)]
    answers_of(in_kv).note(answers, [])
    answers_of(in_kv).find(keys_of(*answers))
    assert server.calls == ["PUT bulk", "POST bulk/get", "POST bulk/get"]


def test_an_answer_that_kv_would_not_take_is_used_and_not_kept(
    in_kv: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    answers_of(in_kv).note([kept(1, answer="secret" * (LARGEST_VALUE // 6)), kept(2)], [])
    assert list(answers_of(in_kv).find(keys_of(kept(1), kept(2)))) == keys_of(kept(2))
    assert "too many to be kept" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "value", [b"", b"{}", b"null", b"\xff\xfe", b'{"account":"ana-chat","digest":"x"}']
)
def test_what_is_no_answer_is_asked_again(
    in_kv: Stores, server: KvServer, model: ModelServer, value: bytes
) -> None:
    configured_model(in_kv, model).complete(question("tomatoes"))
    [key] = server.values
    server.values[key] = value, float("inf")
    again = configured_model(in_kv, model).complete(question("tomatoes"))
    assert (again.kept, again.value.name) == (False, "colour 2")


def test_a_stale_miss_only_asks_the_model_again(
    in_kv: Stores, server: KvServer, model: ModelServer
) -> None:
    configured_model(in_kv, model).complete(question("tomatoes"))
    elsewhere, server.values = server.values, {}
    again = configured_model(in_kv, model).complete(question("tomatoes"))
    assert (again.kept, len(model.calls), spent_calls(in_kv)) == (False, 2, 2)
    assert server.values.keys() == elsewhere.keys()


@pytest.mark.parametrize("fault", [BROKEN, REFUSED, (403, {}), (429, {})])
def test_models_are_asked_while_kv_fails(
    in_kv: Stores,
    server: KvServer,
    model: ModelServer,
    fault: tuple[int, dict[str, str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.faults = [fault] * 100
    answer = configured_model(in_kv, model).complete(question("tomatoes"))
    assert (answer.kept, answer.value.name) == (False, "colour 1")
    assert spent_calls(in_kv) == 1
    [told] = [record for record in caplog.records if record.name == keeping.log.name]
    assert "models are asked" in told.getMessage()
    assert "tomatoes" not in caplog.text
    assert TOKEN not in caplog.text


def test_a_kv_that_cannot_be_reached_is_left_alone_for_a_while(
    stores: Stores,
    server: KvServer,
    model: ModelServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = CloudflareAccount(
        "acc", TOKEN, CallBudget(tmp_path / "calls.db"), "http://127.0.0.1:9"
    )
    gone = replace(stores, cache=KvStore(account, "ns"))
    for number in range(3):
        answer = configured_model(gone, model).complete(question("tomatoes"))
        assert answer.value.name == f"colour {number + 1}"
    assert account.budget
    once = account.budget.used()
    assert once <= 5  # the tries of one call
    monkeypatch.setattr(keeping, "REST", 0.0)
    keeping._RESTING.clear()
    configured_model(gone, model).complete(question("tomatoes"))
    assert account.budget.used() == 3 * once  # looked up, and kept


def test_answers_are_kept_again_when_kv_is_back(
    in_kv: Stores, server: KvServer, model: ModelServer
) -> None:
    server.faults = [REFUSED]
    configured_model(in_kv, model).complete(question("tomatoes"))
    assert server.there() == {}
    keeping._RESTING.clear()  # a minute later
    assert in_kv.cache
    assert in_kv.cache.account.budget
    in_kv.cache.account.budget._connection().execute("UPDATE blocked SET until = 0")
    configured_model(in_kv, model).complete(question("tomatoes"))
    assert len(server.there()) == 1
    assert configured_model(in_kv, model).complete(question("tomatoes")).kept


def test_conversations_are_analysed_and_drafted_while_kv_is_down(
    in_kv: Stores, server: KvServer, fill: Fill
) -> None:
    server.faults = [BROKEN] * 1_000
    with model_server() as sensible:
        configure(in_kv, sensible)
        fill(*TALK)
        run(in_kv)
        assert len(sensible.calls) == 6
    for asset in ("analyses", "drafted_replies"):
        assert [row["stood_in"] for row in rows(in_kv, asset).values()] == [""] * 3
    assert spent_calls(in_kv) == 6


def test_a_month_that_is_done_again_asks_nothing_of_the_model(
    in_kv: Stores, server: KvServer, fill: Fill
) -> None:
    with model_server() as sensible:
        configure(in_kv, sensible)
        fill(*TALK)
        run(in_kv)
        before = {asset: rows(in_kv, asset) for asset in ("analyses", "drafted_replies")}
        asked = len(sensible.calls)
        run(in_kv)
        assert len(sensible.calls) == asked == len(server.there())
    assert {asset: rows(in_kv, asset) for asset in before} == before


def test_an_account_that_is_removed_while_kv_fails_is_cleared_later(
    in_kv: Stores, server: KvServer, caplog: pytest.LogCaptureFixture
) -> None:
    answers_of(in_kv).note([kept(1)], [])
    server.faults = [BROKEN] * 100
    now = datetime.now(UTC)
    with caplog.at_level(logging.WARNING):
        remove_account(in_kv, "ana", ACCOUNT)
    assert "housekeeping tries again" in caplog.text
    clear_removed(in_kv, now + 2 * CLEAN_FOR)
    assert removed_accounts(in_kv.database)  # nobody is given the key
    server.faults = []
    clear_removed(in_kv, now + 3 * CLEAN_FOR)
    assert removed_accounts(in_kv.database)  # left alone for the minute
    keeping._RESTING.clear()
    assert clear_removed(in_kv, now + 3 * CLEAN_FOR) == 1
    assert server.there() == {}
    assert removed_accounts(in_kv.database)  # something had come
    clear_removed(in_kv, now + 5 * CLEAN_FOR)
    assert removed_accounts(in_kv.database) == []


def test_what_comes_into_a_removed_account_is_found_later(in_kv: Stores, server: KvServer) -> None:
    remove_account(in_kv, "ana", ACCOUNT)
    answers_of(in_kv).note([kept(1)], [])  # by a run that was under way
    now = datetime.now(UTC)
    assert clear_removed(in_kv, now + CLEAN_FOR) == 1
    assert server.there() == {}
    clear_removed(in_kv, now + 2 * CLEAN_FOR - timedelta(minutes=1))
    assert removed_accounts(in_kv.database)


@pytest.mark.parametrize("namespace", ["ns", ""])
def test_kv_is_used_where_a_namespace_is_named(
    server: KvServer, tmp_path: Path, namespace: str
) -> None:
    with d1_server(tmp_path / "d1.db") as database:
        given = {
            **dict.fromkeys(REQUIRED, "not-asked"),
            "CLOUDFLARE_ACCOUNT_ID": "acc",
            "CLOUDFLARE_API_TOKEN": TOKEN,
            "CLOUDFLARE_BASE_URL": server.url,
            "COMMUNICATOR_D1_DATABASE": "db",
            "COMMUNICATOR_D1_URL": database.url.removesuffix("/client/v4"),
            "COMMUNICATOR_D1_TOKEN": D1_TOKEN,
            "COMMUNICATOR_KV_NAMESPACE": namespace,
        }
        opened = open_cloudflare(tmp_path / "home", given)
        add_user(opened.database, "ana", "Ana")
        Accounts(opened.database, "ana").add(ACCOUNT, "generic", "Chat")
        answers_of(opened).note([kept(1)], [])
        assert answers_of(opened).find(keys_of(kept(1)))
    assert len(server.there()) == bool(namespace)
    if opened.cache:
        assert opened.cache.account.timeout <= 10  # slower is worse than none
        assert opened.cache.account.budget
        assert opened.cache.account.budget.used() == 1  # counted with all the others
