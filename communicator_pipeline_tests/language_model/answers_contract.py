"""What every place where answers are kept must do, in the database, on a double of KV and on the
real KV of workerd.

Belongs here: the tests that are the same for all. Does not belong here: starting the servers, and
what is peculiar to one (the modules that subclass).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from communicator_pipeline.ingestion.connecting import remove_account
from communicator_pipeline.language_model import LanguageModel, Prompt, Request, Usage
from communicator_pipeline.language_model.configuration import (
    ModelConfig,
    ModelsConfig,
    keep_configuration,
)
from communicator_pipeline.language_model.keeping import KeptAnswer, Spent, answers_of
from communicator_pipeline.language_model.model import NotKept, open_model
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline_tests.language_model.model_server import (
    Call,
    Json,
    ModelServer,
    chat_completion,
    model_server,
)

ACCOUNT = "ana-chat"
LONGER = "ana-chat-2"
"""An account whose key begins as another's does."""


class Colour(BaseModel):
    name: str


def kept(number: int, account: str = ACCOUNT, answer: str = '{"name":"red"}') -> KeptAnswer:
    usage = Usage(1, 100 + number, 20, 1.25, 0.000125)
    return KeptAnswer(account, f"{number:064x}", answer, "double", "analysis", usage)


def keys_of(*answers: KeptAnswer) -> list[tuple[str, str]]:
    return [(each.account, each.digest) for each in answers]


def question(about: str, account: str = ACCOUNT) -> Request[Colour]:
    return Request(
        prompt=Prompt("colour/1", "Say which colour.", f'{{"about":"{about}"}}'),
        schema=Colour,
        account=account,
        user_id="ana",
        purpose="colour",
    )


def configured_model(stores: Stores, server: ModelServer, only_kept: bool = False) -> LanguageModel:
    config = ModelConfig(
        kind="openai", model="double", base_url=f"{server.url}/v1", requests_per_minute=60_000
    )
    keep_configuration(stores, ModelsConfig(first=config))
    opened = open_model(stores, only_kept)
    assert opened
    return opened


def spent_calls(stores: Stores) -> int:
    rows = stores.database.execute("SELECT coalesce(sum(calls), 0) AS calls FROM model_usage")
    return int(rows[0]["calls"])


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """Answers each question differently, so that an answer shows when it was given."""
    given: list[int] = []

    def answer(call: Call) -> Json:
        given.append(1)
        return chat_completion({"name": f"colour {len(given)}"})

    with model_server(answer) as running:
        yield running


class AnswersContract:
    """Subclasses have a fixture `box`: stores with the user ana and her account `ana-chat`."""

    def test_what_is_kept_is_found_as_it_was(self, box: Stores) -> None:
        Accounts(box.database, "ana").add(LONGER, "generic", "Longer")
        answers = [
            kept(1, answer='{"name":"ünï 日本 🙂 \\u0000 \\"quoted\\" � "}'),
            kept(2),
            kept(2, LONGER, '{"name":"blue"}'),
            *(kept(number) for number in range(3, 253)),  # several bulk reads
        ]
        answers_of(box).note(answers, [])
        found = answers_of(box).find([*keys_of(*answers), (ACCOUNT, "f" * 64), (LONGER, "0" * 64)])
        assert found == dict(zip(keys_of(*answers), answers, strict=True))
        assert answers_of(box).find([]) == {}

    def test_an_answer_is_found_for_its_own_account_only(self, box: Stores) -> None:
        answers_of(box).note([kept(1)], [])
        assert answers_of(box).find([(LONGER, kept(1).digest)]) == {}

    def test_usage_is_counted_in_the_database(self, box: Stores) -> None:
        answers_of(box).note([kept(1)], [Spent("ana", ACCOUNT, "analysis", "double", Usage(2))])
        answers_of(box).note([], [Spent("ana", ACCOUNT, "analysis", "double", Usage(3))])
        answers_of(box).note([], [])
        assert spent_calls(box) == 5

    def test_the_same_question_may_be_answered_twice(self, box: Stores) -> None:
        answers_of(box).note([kept(1)], [])
        answers_of(box).note([kept(1), kept(2)], [])
        assert len(answers_of(box).find(keys_of(kept(1), kept(2)))) == 2

    def test_an_account_that_is_removed_takes_its_answers_along_and_no_others(
        self, box: Stores
    ) -> None:
        Accounts(box.database, "ana").add(LONGER, "generic", "Longer")
        answers = [kept(1), kept(2), kept(1, LONGER)]
        answers_of(box).note(answers, [])
        remove_account(box, "ana", ACCOUNT)
        assert list(answers_of(box).find(keys_of(*answers))) == [(LONGER, kept(1).digest)]

    def test_forgetting_says_how_many(self, box: Stores) -> None:
        answers_of(box).note([kept(1), kept(2)], [])
        assert answers_of(box).forget_account(LONGER) == 0
        assert answers_of(box).forget_account(ACCOUNT) == 2
        assert answers_of(box).forget_account(ACCOUNT) == 0
        assert answers_of(box).find(keys_of(kept(1), kept(2))) == {}

    def test_what_was_answered_before_is_not_asked_again(
        self, box: Stores, model: ModelServer
    ) -> None:
        first = configured_model(box, model).complete(question("tomatoes"))
        again = configured_model(box, model).complete(question("tomatoes"))
        assert (again.value, again.usage, again.kept) == (first.value, first.usage, True)
        assert (len(model.calls), spent_calls(box)) == (1, 1)

    def test_a_replay_asks_no_model_and_a_miss_is_an_error(
        self, box: Stores, model: ModelServer
    ) -> None:
        many = [question(str(number)) for number in range(23)]
        first = configured_model(box, model).complete_all(many)
        replay = configured_model(box, model, only_kept=True)
        assert [a.value for a in replay.complete_all(many)] == [a.value for a in first]  # type: ignore[union-attr]
        with pytest.raises(NotKept, match="1 of 24 questions"):
            replay.complete_all([*many, question("limes")])
        assert len(model.calls) == 23
