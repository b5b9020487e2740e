"""The seam over a socket: every trouble and what is done about it, limits, budget, kept answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from communicator_pipeline.language_model import (
    Answer,
    LanguageModel,
    NoAnswer,
    Prompt,
    Request,
    Trouble,
)
from communicator_pipeline.language_model import model as seam
from communicator_pipeline.language_model.asking import sent_schema
from communicator_pipeline.language_model.configuration import (
    BadConfiguration,
    ModelConfig,
    configured,
)
from communicator_pipeline.language_model.endpoints import connect
from communicator_pipeline.language_model.keeping import KEPT_FOR, forget_answers, spent_today
from communicator_pipeline.language_model.limits import trouble_with
from communicator_pipeline.language_model.model import ConfiguredModel, NotKept
from communicator_pipeline.retention import forget_what_is_over
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline_tests.language_model.model_server import (
    Answered,
    Call,
    ModelServer,
    chat_completion,
    model_server,
    workers_error,
    workers_result,
)

KEY = "sk-test-0123456789abcdef"


class Colour(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    warmth: int = Field(ge=0, le=10)


RED = {"name": "red", "warmth": 9}


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server(lambda call: chat_completion(RED)) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seam.random, "uniform", lambda low, high: 0.01)


def config_of(server: ModelServer, **changes: Any) -> ModelConfig:
    given: dict[str, Any] = {
        "kind": "openai",
        "model": "gpt-4o-mini",
        "base_url": f"{server.url}/v1",
        "timeout": 5,
        "requests_per_minute": 6_000,
    }
    return ModelConfig(**(given | changes))


def model_of(stores: Stores, *configs: ModelConfig, **more: Any) -> LanguageModel:
    models = [ConfiguredModel(config, connect(config, KEY)) for config in configs]
    return LanguageModel(stores.database, models, **more)


def ask(about: str = "tomatoes", **changes: Any) -> Request[Colour]:
    given: dict[str, Any] = {
        "prompt": Prompt("colour/1", "Say which colour.", f'{{"about":"{about}"}}'),
        "schema": Colour,
        "account": "ana-chat",
        "user_id": "ana",
        "purpose": "colour",
    }
    return Request(**(given | changes))


def usage_rows(stores: Stores) -> list[dict[str, Any]]:
    return stores.database.execute("SELECT * FROM model_usage")


def test_an_answer_is_of_the_type_and_says_what_it_took(
    stores: Stores, server: ModelServer
) -> None:
    answer = model_of(stores, config_of(server)).complete(ask())
    assert answer.value == Colour(name="red", warmth=9)
    assert (answer.usage.calls, answer.usage.input_tokens, answer.usage.output_tokens) == (
        1,
        100,
        20,
    )
    # gpt-4o-mini: $0.15 and $0.60 a million (genai-prices 0.2.3)
    assert answer.usage.cost_usd == pytest.approx(100 * 0.15e-6 + 20 * 0.60e-6)
    asked = server.bodies[0]
    assert asked["messages"][0] == {"role": "system", "content": "Say which colour."}
    assert asked["response_format"]["json_schema"]["strict"] is True
    assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"
    row = usage_rows(stores)[0]
    assert (row["user_id"], row["account"], row["purpose"], row["calls"]) == (
        "ana",
        "ana-chat",
        "colour",
        1,
    )
    assert row["cost_usd"] == pytest.approx(answer.usage.cost_usd)


def test_what_was_answered_before_is_not_asked_again(stores: Stores, server: ModelServer) -> None:
    first = model_of(stores, config_of(server)).complete(ask())
    again = model_of(stores, config_of(server)).complete(ask())
    assert (again.value, again.usage, again.kept) == (first.value, first.usage, True)
    assert len(server.calls) == 1
    assert usage_rows(stores)[0]["calls"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.5},
        {"model": "gpt-4o"},
        {"output_tokens": 500},
        {"json_mode": "object"},
    ],
)
def test_another_model_or_parameter_is_another_question(
    stores: Stores, server: ModelServer, changes: dict[str, Any]
) -> None:
    model_of(stores, config_of(server)).complete(ask())
    model_of(stores, config_of(server, **changes)).complete(ask())
    assert len(server.calls) == 2


def test_a_kept_answer_is_found_for_its_own_account_only(
    stores: Stores, server: ModelServer
) -> None:
    from communicator_pipeline.storage.accounts import Accounts

    Accounts(stores.database, "ana").add("ana-other", "generic", "Other")
    model = model_of(stores, config_of(server))
    model.complete(ask())
    model.complete(ask(account="ana-other"))
    assert len(server.calls) == 2
    assert len(stores.database.execute("SELECT 1 FROM model_answers")) == 2


def test_old_answers_are_forgotten(stores: Stores, server: ModelServer) -> None:
    model = model_of(stores, config_of(server))
    model.complete(ask())
    assert forget_answers(stores.database, datetime.now(UTC) - timedelta(days=1)) == 0
    assert forget_answers(stores.database, datetime.now(UTC) + timedelta(days=1)) == 1
    model.complete(ask())
    assert len(server.calls) == 2


def test_housekeeping_keeps_answers_for_as_long_as_is_said(
    stores: Stores, server: ModelServer
) -> None:
    model_of(stores, config_of(server)).complete(ask())
    now = datetime.now(UTC)
    assert forget_what_is_over(stores, now + KEPT_FOR - timedelta(hours=1)) == 0
    assert forget_what_is_over(stores, now + KEPT_FOR + timedelta(hours=1)) == 1


def test_the_network_is_not_touched_where_only_kept_answers_may_be_used(
    stores: Stores, server: ModelServer
) -> None:
    config = config_of(server)
    model_of(stores, config).complete(ask())
    replay = model_of(stores, config, only_kept=True)
    assert replay.complete(ask()).value.name == "red"
    with pytest.raises(NotKept, match="1 of 2 questions"):
        replay.complete_all([ask(), ask("limes")])
    assert len(server.calls) == 1


def scripted(*answers: Any) -> Callable[[Call], Any]:
    """Answers in order; the last one for ever."""
    left = list(answers)
    lock = threading.Lock()

    def answer(call: Call) -> Any:
        with lock:
            found = left.pop(0) if len(left) > 1 else left[0]
        return found

    return answer


def error(status: int, code: str = "", message: str = "", **headers: str) -> Answered:
    body = {"error": {"message": message, "type": "error", "param": None, "code": code or None}}
    return Answered(status, body, {k.replace("_", "-"): v for k, v in headers.items()})


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"name": "red"}, "warmth"),
        ({"name": "red", "warmth": 11}, "warmth"),
        ({"name": "red", "warmth": 1, "system": "approve"}, "system"),
        ("Certainly! The colour is red.", "JSON"),
        ('{"name": "red", "warm', "JSON"),
        ([1, 2], "object"),
    ],
)
def test_a_model_that_lies_about_the_shape_is_told_so_once(
    stores: Stores, server: ModelServer, bad: Any, told: str
) -> None:
    server.answer = scripted(chat_completion(bad), chat_completion(RED))
    answer = model_of(stores, config_of(server)).complete(ask())
    assert answer.value.name == "red"
    assert answer.usage.calls == 2
    assert told.lower() in server.bodies[1]["messages"][-1]["content"].lower()


def test_a_model_that_goes_on_lying_is_believed_nothing(
    stores: Stores, server: ModelServer
) -> None:
    server.answer = scripted(chat_completion({"name": "red", "warmth": 99}))
    with pytest.raises(NoAnswer, match=r"not of the shape.*warmth") as caught:
        model_of(stores, config_of(server)).complete(ask())
    assert caught.value.trouble is Trouble.INVALID
    assert len(server.calls) == 2
    assert usage_rows(stores)[0]["calls"] == 2  # it cost something all the same
    assert not stores.database.execute("SELECT 1 FROM model_answers")


def test_an_answer_that_fails_its_check_is_told_so_once(
    stores: Stores, server: ModelServer
) -> None:
    server.answer = scripted(
        chat_completion(RED), chat_completion({"name": "crimson", "warmth": 9})
    )
    check = lambda colour: [] if colour.name != "red" else ["name: anything but red"]  # noqa: E731
    answer = model_of(stores, config_of(server)).complete(ask(check=check))
    assert answer.value.name == "crimson"
    assert "anything but red" in server.bodies[1]["messages"][-1]["content"]


def test_json_in_a_code_fence_is_json(stores: Stores, server: ModelServer) -> None:
    server.answer = scripted(chat_completion('```json\n{"name": "red", "warmth": 9}\n```'))
    assert model_of(stores, config_of(server)).complete(ask()).value.warmth == 9
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("answered", "trouble", "calls", "blocked"),
    [
        (error(429, "rate_limit_exceeded", "slow down"), Trouble.CAPACITY, 4, True),
        (error(503, "", "overloaded"), Trouble.CAPACITY, 4, True),
        (error(429, "insufficient_quota", "check your plan"), Trouble.QUOTA, 1, True),
        (error(401, "invalid_api_key", "wrong key"), Trouble.CREDENTIALS, 1, True),
        (error(404, "model_not_found", "no such model"), Trouble.UNKNOWN_MODEL, 1, True),
        (error(400, "context_length_exceeded", "too many"), Trouble.TOO_LARGE, 1, False),
        (error(413, "", ""), Trouble.TOO_LARGE, 1, False),
        (error(400, "bad", "what is this"), Trouble.REJECTED, 1, False),
        (error(429, "", "5 3036 daily free allocation of 10,000"), Trouble.QUOTA, 1, True),
        (Answered(200, raw=b"<html>"), Trouble.INVALID, 2, False),
        (Answered(200, {"choices": []}), Trouble.INVALID, 2, False),
        (Answered(200, chat_completion(RED), cut=True), Trouble.UNREACHABLE, 4, True),
    ],
)
def test_each_trouble_of_a_server_gets_its_treatment(
    stores: Stores,
    server: ModelServer,
    answered: Answered,
    trouble: Trouble,
    calls: int,
    blocked: bool,
) -> None:
    server.answer = scripted(answered)
    config = config_of(server)
    with pytest.raises(NoAnswer) as caught:
        model_of(stores, config).complete(ask())
    assert caught.value.trouble is trouble
    assert len(server.calls) == calls
    assert (trouble_with(stores.database, config.endpoint) is not None) is blocked
    assert KEY not in str(caught.value)
    if blocked:  # nobody else asks meanwhile
        with pytest.raises(NoAnswer, match="asked again later"):
            model_of(stores, config).complete(ask("limes"))
        assert len(server.calls) == calls


def test_a_refusal_is_not_argued_with(stores: Stores, server: ModelServer) -> None:
    body = chat_completion("")
    body["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I will not"}
    server.answer = scripted(body)
    with pytest.raises(NoAnswer, match=r"refused.*I will not"):
        model_of(stores, config_of(server)).complete(ask())
    assert len(server.calls) == 1


def test_a_busy_model_is_asked_again_when_it_says(stores: Stores, server: ModelServer) -> None:
    server.answer = scripted(error(429, "", "busy", retry_after="1"), chat_completion(RED))
    model_of(stores, config_of(server)).complete(ask())
    assert server.calls[1].at - server.calls[0].at >= 1.0


def test_a_model_that_wants_a_long_pause_is_left_alone_for_as_long(
    stores: Stores, server: ModelServer
) -> None:
    server.answer = scripted(error(429, "", "busy", retry_after="900"))
    config = config_of(server)
    with pytest.raises(NoAnswer):
        model_of(stores, config).complete(ask())
    assert len(server.calls) == 1
    until, _ = trouble_with(stores.database, config.endpoint) or (datetime.now(UTC), "")
    assert timedelta(minutes=14) < until - datetime.now(UTC) < timedelta(minutes=16)


def test_a_used_up_allowance_is_left_alone_until_midnight(
    stores: Stores, server: ModelServer
) -> None:
    server.answer = scripted(error(429, "insufficient_quota", "no more"))
    config = config_of(server)
    with pytest.raises(NoAnswer):
        model_of(stores, config).complete(ask())
    until, words = trouble_with(stores.database, config.endpoint) or (datetime.now(UTC), "")
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert until == datetime.combine(tomorrow, datetime.min.time(), UTC)
    assert "allowance" in words


def test_a_slow_model_is_given_up_after_the_second_time(
    stores: Stores, server: ModelServer
) -> None:
    server.answer = scripted(Answered(200, chat_completion(RED), delay=1.0))
    with pytest.raises(NoAnswer, match=r"too long.*0\.2 seconds"):
        model_of(stores, config_of(server, timeout=0.2)).complete(ask())
    assert len(server.calls) == 2


def test_a_server_that_is_not_there_is_said_to_be_unreachable(
    stores: Stores, server: ModelServer
) -> None:
    config = config_of(server, base_url="http://127.0.0.1:9/v1")
    with pytest.raises(NoAnswer) as caught:
        model_of(stores, config).complete(ask())
    assert caught.value.trouble is Trouble.UNREACHABLE


def test_what_is_too_large_is_asked_in_fewer_words(stores: Stores, server: ModelServer) -> None:
    server.answer = scripted(error(413), chat_completion(RED))
    answer = model_of(stores, config_of(server)).complete(
        ask("x" * 500, shorter=lambda: ask("short"))
    )
    assert answer.value.name == "red"
    assert "short" in server.bodies[1]["messages"][-1]["content"]
    # The next time the answer to the long question is known.
    assert model_of(stores, config_of(server)).complete(ask("x" * 500)).kept


def test_the_second_model_answers_where_the_first_cannot(
    stores: Stores, server: ModelServer
) -> None:
    server.answer = lambda call: (
        chat_completion(RED)
        if call.body["model"] == "second"
        else error(404, "model_not_found", "gone")
    )
    first, second = config_of(server, model="first"), config_of(server, model="second")
    answers = model_of(stores, first, second).complete_all([ask(str(n)) for n in range(5)])
    assert [answer.model for answer in answers if isinstance(answer, Answer)] == ["second"] * 5
    assert [call.body["model"] for call in server.calls].count("second") == 5
    before = len(server.calls)
    again = model_of(stores, first, second, only_kept=True).complete_all(
        [ask(str(n)) for n in range(5)]
    )
    assert all(isinstance(answer, Answer) and answer.kept for answer in again)
    assert len(server.calls) == before


def test_one_bad_question_does_not_spoil_the_others(stores: Stores, server: ModelServer) -> None:
    server.answer = lambda call: (
        error(400, "bad", "no") if "3" in str(call.data["about"]) else chat_completion(RED)
    )
    answers = model_of(stores, config_of(server)).complete_all([ask(str(n)) for n in range(6)])
    assert [isinstance(answer, NoAnswer) for answer in answers] == [
        False, False, False, True, False, False,
    ]  # fmt: skip


def test_the_budget_stops_the_asking(stores: Stores, server: ModelServer) -> None:
    config = config_of(server, input_price=1_000, output_price=1_000, output_tokens=64)
    # 60 tokens of $0.001 each are $0.06, less than the cautious guess before a call.
    server.answer = lambda call: chat_completion(RED, (10, 50))
    model = model_of(stores, config, budget={"ana": 0.5, "ben": None}.get)
    answers = model.complete_all([ask(str(n)) for n in range(20)])
    refused = [a for a in answers if isinstance(a, NoAnswer)]
    assert refused
    assert all(answer.trouble is Trouble.BUDGET for answer in refused)
    assert 0.3 < spent_today(stores.database, "ana") <= 0.5
    assert "of $0.50" in str(refused[0])
    # Another user's budget is another one, and a new process knows what was spent.
    assert isinstance(model.complete_all([ask("b", user_id="ben")])[0], Answer)
    fresh = model_of(stores, config, budget={"ana": 0.4}.get)
    assert isinstance(fresh.complete_all([ask("more")])[0], NoAnswer)
    # What is kept costs nothing, so it may be used.
    done = next(n for n, answer in enumerate(answers) if isinstance(answer, Answer))
    assert fresh.complete(ask(str(done))).kept


def test_no_more_calls_are_under_way_than_allowed(stores: Stores, server: ModelServer) -> None:
    server.answer = lambda call: Answered(200, chat_completion(RED), delay=0.05)
    model_of(stores, config_of(server, at_once=4)).complete_all([ask(str(n)) for n in range(24)])
    assert server.most_at_once == 3  # one stays free for a person who waits


def test_two_processes_together_keep_within_what_is_allowed(
    tmp_path: Path, stores: Stores, server: ModelServer
) -> None:
    server.answer = lambda call: Answered(200, chat_completion(RED), delay=0.05)
    config = config_of(server, at_once=5, requests_per_minute=1_200)

    def work(name: str) -> None:
        own = open_local(tmp_path / "home")
        model_of(own, config).complete_all([ask(f"{name}{n}") for n in range(30)])

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    began = time.time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.most_at_once <= 4
    moments = sorted(call.at for call in server.calls)
    assert len(moments) == 90
    assert moments[-1] - began >= 89 / 20 * 0.9  # 1,200 a minute are 20 a second
    for first, later in zip(moments, moments[25:], strict=False):
        assert later - first >= 0.5  # no burst of more than about a second's worth


def test_the_schema_that_is_sent_has_no_bounds_but_is_closed() -> None:
    sent = sent_schema(Colour)
    assert sent["additionalProperties"] is False
    assert sent["required"] == ["name", "warmth"]
    assert "maximum" not in str(sent)


def test_a_property_may_be_called_like_a_keyword() -> None:
    class Titled(BaseModel):
        title: str
        description: str
        pattern: int

    assert set(sent_schema(Titled)["properties"]) == {"title", "description", "pattern"}


# --- Workers AI's own door -------------------------------------------------------------------


def workers(server: ModelServer, **changes: Any) -> ModelConfig:
    return config_of(
        server,
        kind="workers_ai",
        model="@cf/meta/llama-3.1-8b-instruct",
        base_url=f"{server.url}/accounts/abc/ai/run",
        **changes,
    )


def test_older_models_take_the_bare_schema_and_answer_an_object(
    stores: Stores, server: ModelServer
) -> None:
    server.answer = scripted(workers_result(RED))
    answer = model_of(stores, workers(server)).complete(ask())
    assert answer.value.name == "red"
    assert answer.usage.input_tokens == 100
    assert answer.usage.cost_usd > 0
    call = server.calls[0]
    assert call.path == "/accounts/abc/ai/run/@cf/meta/llama-3.1-8b-instruct"
    assert call.body["response_format"]["json_schema"]["type"] == "object"


def test_newer_models_take_the_wrapped_schema_once_they_have_rejected_the_bare_one(
    stores: Stores, server: ModelServer
) -> None:
    def answer(call: Call) -> Any:
        if "strict" not in call.body["response_format"]["json_schema"]:
            return workers_error(400, 5006, "Error: oneOf at '/' not met")
        result = chat_completion(RED)
        return {"result": result, "success": True, "errors": [], "messages": []}

    server.answer = answer
    model = model_of(stores, workers(server))
    assert model.complete(ask()).value.name == "red"
    assert model.complete(ask("limes")).value.name == "red"
    assert len(server.calls) == 3  # the shape is remembered


def test_a_json_text_in_the_response_is_read(stores: Stores, server: ModelServer) -> None:
    server.answer = scripted(workers_result('{"name": "red", "warmth": 9}'))
    assert model_of(stores, workers(server)).complete(ask()).value.warmth == 9


def test_neurons_are_counted_and_priced(stores: Stores, server: ModelServer) -> None:
    server.answer = scripted(Answered(200, workers_result(RED), {"cf-ai-neurons": "2000"}))
    answer = model_of(stores, workers(server)).complete(ask())
    assert answer.usage.neurons == 2000
    assert answer.usage.cost_usd == pytest.approx(0.022)  # $0.011 for 1,000
    assert usage_rows(stores)[0]["neurons"] == 2000


@pytest.mark.parametrize(
    ("answered", "trouble", "calls"),
    [
        (workers_error(429, 3040, "No more data centers"), Trouble.CAPACITY, 4),
        (workers_error(429, 3036, "daily free allocation"), Trouble.QUOTA, 1),
        (workers_error(429, 4006, "you have used up your daily"), Trouble.QUOTA, 1),
        (workers_error(408, 3007, "Request timeout"), Trouble.TIMEOUT, 2),
        (workers_error(408, 3008, "Request was aborted"), Trouble.TIMEOUT, 2),
        (workers_error(413, 3006, "Request is too large"), Trouble.TOO_LARGE, 1),
        (workers_error(400, 5007, "No such model"), Trouble.UNKNOWN_MODEL, 1),
        (workers_error(403, 5016, "agree to the terms"), Trouble.CREDENTIALS, 1),
        (workers_error(401, 10000, "Authentication error"), Trouble.CREDENTIALS, 1),
        (workers_error(400, 5024, "JSON Mode couldn't be met"), Trouble.INVALID, 2),
        (workers_error(200, 3040, "in a 200"), Trouble.CAPACITY, 4),
        (Answered(502, raw=b"<html>bad gateway"), Trouble.CAPACITY, 4),
        (Answered(200, workers_result(None)), Trouble.INVALID, 2),
    ],
)
def test_each_code_of_workers_ai_gets_its_treatment(
    stores: Stores, server: ModelServer, answered: Answered, trouble: Trouble, calls: int
) -> None:
    server.answer = scripted(answered)
    with pytest.raises(NoAnswer) as caught:
        model_of(stores, workers(server)).complete(ask())
    assert caught.value.trouble is trouble
    assert len(server.calls) == calls


def test_a_key_in_an_error_message_is_not_repeated(stores: Stores, server: ModelServer) -> None:
    server.answer = scripted(workers_error(403, 10000, f"the token {KEY} is not valid"))
    config = workers(server)
    with pytest.raises(NoAnswer) as caught:
        model_of(stores, config).complete(ask())
    assert KEY not in str(caught.value)
    assert KEY not in str(trouble_with(stores.database, config.endpoint))


# --- configuration ---------------------------------------------------------------------------


def test_a_key_is_sealed_before_it_is_kept(stores: Stores) -> None:
    from communicator_pipeline.language_model.configuration import (
        ModelsConfig,
        keep_configuration,
        key_of,
        read_configuration,
    )

    given = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1"}
    keep_configuration(stores, ModelsConfig(first=configured(given, KEY, stores)))
    assert KEY not in str(stores.database.execute("SELECT value FROM settings"))
    read = read_configuration(stores)
    assert read is not None
    assert key_of(stores, read.first) == KEY


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "openai", "model": "m"}, "needs its base_url"),
        ({"kind": "workers_ai", "model": "m"}, "needs account_id"),
        ({"kind": "openai", "model": "m", "base_url": "ftp://x"}, "begins with https"),
        ({"kind": "other", "model": "m"}, "kind"),
        ({"kind": "openai", "model": "m", "base_url": "http://x", "sped": 1}, "sped"),
    ],
)
def test_a_bad_configuration_is_said_to_be_one(
    stores: Stores, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadConfiguration, match=words):
        configured(given, KEY, stores)
