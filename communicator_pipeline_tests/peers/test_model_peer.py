"""The language model's seam against `@dwmkerr/mock-llm`, a server that others wrote, over a socket.

What it does differently from the real services (0.1.29, seen 2026-11):

- It answers by rules that the test gives it; it knows no model, no key and no limit by itself. So
  401, 404 and 429 are what a rule says, and an unknown model is answered like any other.
- It looks at no JSON schema: `response_format` arrives and is not obeyed. What a rule says is sent,
  of the right shape or not.
- It counts no tokens: `usage` stands in an answer only if the rule has written it there.
- A rule cannot set headers, so a 429 comes without `Retry-After`; nor can it wait.
- A rule whose content is no JSON, once filled in, is a 500; services cut answers off in the middle.
- A request for which there is no rule is 404 with a body that is not OpenAI's.
- It listens on all interfaces unless `HOST` says otherwise, and prints a line per request.
- It takes bodies up to 100 KB (Express's default); OpenAI's and Cloudflare's limits are tokens.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest

from communicator_pipeline.chain import (
    analyses,
    attachments,
    conversations,
    drafted_replies,
    raw_messages,
)
from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.language_model import LanguageModel, NoAnswer, Trouble, open_model
from communicator_pipeline.language_model.asking import Answer, Prompt, Request
from communicator_pipeline.language_model.configuration import (
    ModelsConfig,
    configured,
    keep_configuration,
)
from communicator_pipeline.language_model.conversations import Summary
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline_tests.conftest import Fill, line
from communicator_pipeline_tests.language_model.model_server import (
    analysis_of,
    chat_completion,
    reply_of,
)
from communicator_pipeline_tests.peers.node import FOLDER, NODE, free_port, needs_peers, program

pytestmark = pytest.mark.peers

MAIN = FOLDER / "node_modules" / "@dwmkerr" / "mock-llm" / "dist" / "main.js"
KEY = "sk-peer-0123456789abcdef"
CHAT = "/v1/chat/completions"


@dataclass
class Peer:
    url: str

    def follow(self, *rules: dict[str, Any]) -> None:
        """From now on it answers by these rules; of those that match the last one wins."""
        for method, body in (("DELETE", None), ("POST", {"rules": list(rules)})):
            asked = HttpRequest(
                f"{self.url}/config",
                None if body is None else json.dumps(body).encode(),
                {"Content-Type": "application/json"},
                method=method,
            )
            urlopen(asked, timeout=10).close()


def rule(answer: Any, status: int = 200, **more: Any) -> dict[str, Any]:
    """Whoever asks gets this; `match` is a JMESPath expression, `sequence` the how manieth."""
    content = answer if isinstance(answer, str) else json.dumps(answer)
    return {"path": CHAT, "response": {"status": status, "content": content}, **more}


def error(status: int, message: str, code: str, **more: Any) -> dict[str, Any]:
    """As OpenAI spells errors."""
    body = {"error": {"message": message, "type": "x", "param": None, "code": code}}
    return rule(body, status, **more)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    needs_peers()
    config = Path(tmp_path_factory.mktemp("mock-llm")) / "rules.yaml"
    config.write_text("rules: []\n")
    with pytest.MonkeyPatch.context() as patch:
        port = free_port()
        patch.setenv("HOST", "127.0.0.1")
        patch.setenv("PORT", str(port))
        with program([str(NODE), str(MAIN), "--config", str(config)]) as answers:
            url = f"http://127.0.0.1:{port}"
            answers(f"{url}/ready")
            yield Peer(url)


@pytest.fixture
def model(stores: Stores, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> LanguageModel:
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.01)
    values = {
        "kind": "openai",
        "model": "gpt-4o-mini",
        "base_url": f"{peer.url}/v1",
        "requests_per_minute": 6_000,
    }
    keep_configuration(stores, ModelsConfig(first=configured(values, KEY, stores)))
    opened = open_model(stores)
    assert opened is not None
    return opened


def ask(about: str) -> Request[Summary]:
    prompt = Prompt("summary/1", "Summarise.", json.dumps({"about": about}))
    return Request(prompt, Summary, "ana-chat", "ana", "compact")


def test_a_rule_of_its_answers_for_each_question(model: LanguageModel, peer: Peer) -> None:
    peer.follow(
        rule(chat_completion({"summary": "something"}, (11, 3))),
        rule(
            chat_completion({"summary": "tomatoes"}, (12, 4)),
            match="contains(body.messages[-1].content, 'tomato')",
        ),
    )
    answers = model.complete_all([ask("tomatoes"), ask("potatoes")])
    assert [a.value.summary for a in answers if isinstance(a, Answer)] == ["tomatoes", "something"]
    assert [a.usage.input_tokens for a in answers] == [12, 11]


def test_key_model_and_schema_arrive_as_the_service_wants_them(
    model: LanguageModel, peer: Peer
) -> None:
    content = chat_completion("__SEEN__")
    seen = (
        '{\\"summary\\": \\"{{jmes request headers.authorization}} {{jmes request body.model}} '
        "{{jmes request body.response_format.type}} "
        "{{jmes request body.response_format.json_schema.strict}} "
        '{{jmes request body.response_format.json_schema.schema.required[0]}}\\"}'
    )
    peer.follow(rule(json.dumps(content).replace("__SEEN__", seen)))
    answer = model.complete(ask("what arrives"))
    assert answer.value.summary == f"Bearer {KEY} gpt-4o-mini json_schema true summary"


def test_an_answer_of_another_shape_is_asked_for_once_more(
    model: LanguageModel, peer: Peer
) -> None:
    peer.follow(
        rule(chat_completion("Sure, here you are!"), sequence=0),
        rule(chat_completion({"summary": "as you wish"}), sequence=1),
    )
    answer = model.complete(ask("shapes"))
    assert answer.value.summary == "as you wish"
    assert answer.usage.calls == 2


def test_a_busy_model_is_asked_again(model: LanguageModel, peer: Peer) -> None:
    peer.follow(
        error(429, "Rate limit reached", "rate_limit_exceeded", sequence=0),
        error(503, "overloaded", "server_error", sequence=1),
        rule(chat_completion({"summary": "at last"}), sequence=2),
    )
    assert model.complete(ask("patience")).value.summary == "at last"


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (error(401, "Incorrect API key provided.", "invalid_api_key"), Trouble.CREDENTIALS),
        (error(404, "The model does not exist", "model_not_found"), Trouble.UNKNOWN_MODEL),
        (error(429, "You exceeded your current quota", "insufficient_quota"), Trouble.QUOTA),
        (error(400, "maximum context length", "context_length_exceeded"), Trouble.TOO_LARGE),
        (error(400, "Invalid schema", "invalid_request_error"), Trouble.REJECTED),
        (rule(chat_completion({"other": 1})), Trouble.INVALID),
        (rule({"id": "x", "object": "chat.completion"}), Trouble.INVALID),
    ],
    ids=["key", "model", "quota", "context", "rejected", "shape", "no choices"],
)
def test_each_trouble_is_told_from_the_others(
    model: LanguageModel, peer: Peer, answer: dict[str, Any], trouble: Trouble
) -> None:
    peer.follow(answer)
    with pytest.raises(NoAnswer) as raised:
        model.complete(ask(f"trouble {trouble.name}"))
    assert raised.value.trouble is trouble
    assert KEY not in str(raised.value)


def test_the_chain_reads_analyses_and_drafts_from_it(
    stores: Stores, model: LanguageModel, peer: Peer, fill: Fill
) -> None:
    shown = {"messages": [{"n": 1, "me": False, "from": "ben", "text": "can you?"}]}
    asks_for = "body.response_format.json_schema.schema.properties"
    peer.follow(
        rule(chat_completion(analysis_of(shown)), match=f"{asks_for}.category"),
        rule(
            chat_completion(reply_of(shown, text="I will look.")),
            match=f"{asks_for}.used_memories",
        ),
    )
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "ana: can you send me the invoice?"))
    month = AccountMonth("ana-chat", "2026-11")
    for stage in (raw_messages, attachments, conversations, analyses, drafted_replies):
        stage.materialise(stores, month, Scope((month,), frozenset()))
    files = [address for address, _ in stores.lake.day_files("drafted_replies", "ana-chat")]
    (row,) = stores.lake.query("FROM t", {"t": files}).to_pylist()
    assert (row["text"], row["model"], row["stood_in"]) == ("I will look.", "gpt-4o-mini", "")
