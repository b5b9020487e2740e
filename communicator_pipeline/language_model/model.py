"""`complete`: a typed value from a language model, or the reason why there is none.

Belongs here: what is done about each trouble, in which order the models are asked, and that no
answer is paid for twice. Does not belong here: the calls (`endpoints/`), the counters
(`limits.py`), where answers are kept (`keeping.py`).

What is done: a busy model is asked again a few times, later each time; an answer of the wrong
shape once more, with what was wrong; a conversation that is too large once more in fewer words.
Then the second model's turn comes, if there is one. A key, a model or an allowance that does not
serve is not tried with the next conversation either: nobody asks there for a while.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from communicator_pipeline.language_model.asking import (
    Answer,
    EndpointError,
    Message,
    NoAnswer,
    Prompt,
    Reply,
    Request,
    Trouble,
    Usage,
)
from communicator_pipeline.language_model.configuration import (
    ModelConfig,
    ModelsConfig,
    key_of,
    read_configuration,
)
from communicator_pipeline.language_model.endpoints import Endpoint, connect
from communicator_pipeline.language_model.keeping import (
    AnswersInDatabase,
    KeptAnswer,
    KeptAnswers,
    Spent,
    answer_digest,
    answers_of,
    spent_today,
)
from communicator_pipeline.language_model.limits import (
    Pace,
    Share,
    block,
    next_midnight,
    trouble_with,
)
from communicator_pipeline.language_model.prices import price_of, priced
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.settings import Settings

T = TypeVar("T", bound=BaseModel)

MOST_TRIES = 4
"""Calls for one question while the model is busy or cannot be reached."""

LONGEST_PAUSE = 60.0
"""Seconds: a server that wants a longer one is left alone for that long."""

BLOCKED_FOR = {
    Trouble.CREDENTIALS: timedelta(minutes=5),
    Trouble.UNKNOWN_MODEL: timedelta(minutes=5),
    Trouble.CAPACITY: timedelta(seconds=30),
    Trouble.UNREACHABLE: timedelta(seconds=30),
}
"""How long nobody asks after a trouble that the next conversation would meet too."""

_ASKED_AGAIN = (Trouble.CAPACITY, Trouble.UNREACHABLE, Trouble.TIMEOUT)

MOST_UNKEPT = 10  # answers
LONGEST_UNKEPT = 1.0
"""Seconds for which an answer stands in memory only: a kill loses no more than these."""

_CHARACTERS_PER_TOKEN = 3
"""A cautious guess before a call, of what it will cost; what it did cost is what is counted."""


class NotKept(LookupError):
    """Only kept answers may be used, and this question has none."""


@dataclass(frozen=True)
class ConfiguredModel:
    config: ModelConfig
    endpoint: Endpoint


class LanguageModel:
    """The models of an installation, asked in order."""

    def __init__(
        self,
        database: Database,
        models: Sequence[ConfiguredModel],
        budget: Callable[[str], float | None] = lambda user_id: None,
        only_kept: bool = False,
        answers: KeptAnswers | None = None,
    ) -> None:
        """`budget`: USD that a user may spend in a UTC day, None for no limit. With `only_kept`
        no model is asked: raises `NotKept` instead. `answers`: where they are kept, by default
        in the database."""
        if not models:
            raise ValueError("there is no model to ask")
        self._database = database
        self._models = models
        self._budget = budget
        self._only_kept = only_kept
        self._answers = answers or AnswersInDatabase(database)

    @property
    def config(self) -> ModelConfig:
        """The configuration of the model that is asked first."""
        return self._models[0].config

    @property
    def fingerprint(self) -> str:
        """What answers depend on: the models, not where they are, nor how fast, at what price, or
        how much of a long conversation they are shown as it is."""
        return " ".join(
            f"{each.config.model} {each.config.temperature} {each.config.output_tokens} "
            f"{each.config.json_mode}"
            for each in self._models
        )

    def complete(self, request: Request[T]) -> Answer[T]:
        """The answer to one question; raises `NoAnswer`."""
        answer = self.complete_all([request])[0]
        if isinstance(answer, NoAnswer):
            raise answer
        return answer

    def complete_all(self, requests: Sequence[Request[T]]) -> list[Answer[T] | NoAnswer]:
        """An answer, or the reason why there is none, to each question, in order.

        What was answered before is not asked again; the others are asked at once, as many as the
        limits let through. Each answer is kept within a second of its arrival.
        """
        results: list[Answer[T] | NoAnswer | None] = list(self._kept(requests))
        for configured in self._models:
            open_ones = [n for n, result in enumerate(results) if not isinstance(result, Answer)]
            if not open_ones:
                break
            if self._only_kept:
                raise NotKept(
                    f"{len(open_ones)} of {len(requests)} questions have no kept answer, and "
                    "only kept ones may be used"
                )
            asking = _Asking(
                self._database, self._answers, configured, self._budget, len(requests) > 1
            )
            for number, result in asking.ask([(n, requests[n]) for n in open_ones]):
                results[number] = result
        return [result for result in results if result is not None]

    def _kept(self, requests: Sequence[Request[T]]) -> Iterator[Answer[T] | None]:
        digests = {
            (number, place): (
                request.account,
                answer_digest(model.config, request.prompt, request.schema),
            )
            for number, request in enumerate(requests)
            for place, model in enumerate(self._models)
        }
        kept = self._answers.find(digests.values())
        for number, request in enumerate(requests):
            found: Answer[T] | None = None
            for place, model in enumerate(self._models):
                answer = kept.get(digests[number, place])
                if answer is not None:
                    value = request.schema.model_validate_json(answer.answer)
                    found = Answer(value, model.config.model, answer.usage, kept=True)
                    break
            yield found


class _Asking:
    """Many questions to one model."""

    def __init__(
        self,
        database: Database,
        answers: KeptAnswers,
        model: ConfiguredModel,
        budget: Callable[[str], float | None],
        many: bool,
    ) -> None:
        config = model.config
        self._database = database
        self._answers = answers
        self._model = model
        self._config = config
        self._pace = Pace(database, config.endpoint, config.requests_per_minute)
        self._share = Share(
            database, config.endpoint, config.at_once, config.at_once if many else 1
        )
        self._purse = _Purse(database, config, budget)
        self._stopped: NoAnswer | None = None
        self._spent: list[Spent] = []
        self._lock = threading.Lock()  # of `_spent`, which every call adds to

    def ask(
        self, pending: Sequence[tuple[int, Request[T]]]
    ) -> Iterator[tuple[int, Answer[T] | NoAnswer]]:
        trouble = trouble_with(self._database, self._config.endpoint)
        if trouble is not None:
            self._stopped = NoAnswer(Trouble.UNREACHABLE, f"{trouble[1]} (asked again later)")
        left = list(reversed(pending))
        under_way: dict[Future[Answer[T] | NoAnswer], tuple[int, Request[T]]] = {}
        unkept: list[KeptAnswer] = []
        since = time.monotonic()
        with self._pool() as pool:
            while left or under_way:
                yield from self._start(pool, left, under_way)
                done, _ = wait(under_way, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    number, request = under_way.pop(future)
                    answer = future.result()
                    self._purse.settle(request, answer.usage)
                    if isinstance(answer, Answer):
                        unkept.append(self._keepsake(request, answer))
                    yield number, answer
                old = time.monotonic() - since > LONGEST_UNKEPT
                if old or len(unkept) >= MOST_UNKEPT or not (left or under_way):
                    self._note(unkept)
                    unkept, since = [], time.monotonic()
            self._note(unkept)

    def _start(
        self,
        pool: ThreadPoolExecutor,
        left: list[tuple[int, Request[T]]],
        under_way: dict[Future[Answer[T] | NoAnswer], tuple[int, Request[T]]],
    ) -> Iterator[tuple[int, Answer[T] | NoAnswer]]:
        """Begin as many calls as there is room for; yields what is not asked at all."""
        while left:
            number, request = left[-1]
            refusal = self._stopped or self._purse.refusal(request)
            if refusal is not None:
                left.pop()
                yield number, NoAnswer(refusal.trouble, _words_of(refusal))
                continue
            if self._share.renew(len(under_way)) <= len(under_way):
                if not under_way:
                    time.sleep(0.3)  # others have all of it: until one of them makes room
                return
            left.pop()
            self._purse.take_out(request)
            moment = self._pace.next_moment(len(left) + 1)
            under_way[pool.submit(self._answer, request, moment)] = (number, request)

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        pool = ThreadPoolExecutor(self._config.at_once, "language-model")
        try:
            yield pool
        finally:
            # Whoever ends early (Ctrl-C, a failed run) does not wait for a minute's answers, but
            # what they have cost is counted.
            pool.shutdown(wait=True, cancel_futures=True)
            self._note([])
            self._share.give_back()

    def _note(self, unkept: Sequence[KeptAnswer]) -> None:
        with self._lock:
            spent, self._spent = self._spent, []
        self._answers.note(unkept, spent)
        if spent:
            self._purse.look_again()

    def _keepsake(self, request: Request[T], answer: Answer[T]) -> KeptAnswer:
        return KeptAnswer(
            request.account,
            answer_digest(self._config, request.prompt, request.schema),
            answer.value.model_dump_json(),
            answer.model,
            request.purpose,
            answer.usage,
        )

    def _answer(self, request: Request[T], moment: float) -> Answer[T] | NoAnswer:
        """One question until it is answered or given up; in a thread of its own."""
        usage = Usage()
        prompt = request.prompt
        messages = prompt.messages()
        repaired = shortened = False
        tries = 0
        while True:
            time.sleep(max(0.0, moment - time.time()))
            if self._stopped is not None:
                return NoAnswer(self._stopped.trouble, _words_of(self._stopped), usage)
            tries += 1
            try:
                reply = self._call(messages, request)
                usage += reply.usage
                value, problems = _read(reply.text, request)
                if value is not None:
                    return Answer(value, self._config.model, usage)
                if repaired:
                    return NoAnswer(Trouble.INVALID, "; ".join(problems)[:300], usage)
                repaired = True
                messages = _with_objection(messages, reply.text, problems)
            except EndpointError as error:
                usage += error.usage
                if error.trouble is Trouble.TOO_LARGE and not shortened:
                    shorter = request.shorter() if request.shorter else None
                    if shorter is not None:
                        messages, shortened = shorter.prompt.messages(), True
                        moment = self._pace.next_moment()
                        continue
                if error.trouble is Trouble.INVALID and not repaired:
                    repaired = True
                    moment = self._pace.next_moment()
                    continue
                pause = self._pause(error, tries)
                if pause is None:
                    self._leave_alone(error)
                    return NoAnswer(error.trouble, error.words, usage)
                moment = max(self._pace.next_moment(), time.time() + pause)
                continue
            moment = self._pace.next_moment()

    def _call(self, messages: Sequence[Message], request: Request[T]) -> Reply:
        try:
            reply = self._model.endpoint.ask(messages, request.schema)
        except EndpointError as error:
            error.usage = priced(self._config, error.usage)
            self._count(request, error.usage)
            raise
        reply = replace(reply, usage=priced(self._config, reply.usage))
        self._count(request, reply.usage)
        return reply

    def _count(self, request: Request[T], usage: Usage) -> None:
        with self._lock:
            self._spent.append(
                Spent(request.user_id, request.account, request.purpose, self._config.model, usage)
            )

    def _pause(self, error: EndpointError, tries: int) -> float | None:
        """Seconds until the next try; None: there is none."""
        if error.trouble not in _ASKED_AGAIN or tries >= MOST_TRIES:
            return None
        if error.trouble is Trouble.TIMEOUT and tries > 1:
            return None  # each costs a minute
        wanted = error.retry_after
        if wanted is not None and wanted > LONGEST_PAUSE:
            return None
        own = 2.0 ** (tries - 1) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries
        return max(own, wanted or 0.0)

    def _leave_alone(self, error: EndpointError) -> None:
        """Have nobody ask for a while, if the next question would fare no better."""
        now = datetime.now(UTC)
        if error.trouble is Trouble.QUOTA:
            until = next_midnight(now)
        elif error.trouble in BLOCKED_FOR:
            asked = timedelta(seconds=min(error.retry_after or 0.0, 86_400.0))
            until = now + max(BLOCKED_FOR[error.trouble], asked)
        else:
            return
        self._stopped = NoAnswer(error.trouble, error.words)
        block(self._database, self._config.endpoint, until, str(error))


class _Purse:
    """What users may still spend today: what is counted, and a guess for what is under way."""

    def __init__(
        self, database: Database, config: ModelConfig, budget: Callable[[str], float | None]
    ) -> None:
        self._database = database
        self._input = price_of(config, output=False)
        self._output = price_of(config, output=True) * config.output_tokens
        self._budget = budget
        self._budgets: dict[str, float | None] = {}
        self._spent: dict[str, float] = {}
        self._out: dict[str, float] = {}

    def refusal(self, request: Request[T]) -> NoAnswer | None:
        user = request.user_id
        if user not in self._budgets:
            self._budgets[user] = self._budget(user)
        most = self._budgets[user]
        if most is None:
            return None
        if user not in self._spent:
            self._spent[user] = spent_today(self._database, user)
        if self._spent[user] + self._out.get(user, 0.0) + self._guess(request) <= most:
            return None
        return NoAnswer(
            Trouble.BUDGET, f"${self._spent[user]:.2f} of ${most:.2f}; it begins anew at 00:00 UTC"
        )

    def take_out(self, request: Request[T]) -> None:
        user = request.user_id
        self._out[user] = self._out.get(user, 0.0) + self._guess(request)

    def settle(self, request: Request[T], usage: Usage) -> None:
        user = request.user_id
        self._out[user] -= self._guess(request)
        if user in self._spent:
            self._spent[user] += usage.cost_usd

    def look_again(self) -> None:
        """Others spend too."""
        self._spent.clear()

    def _guess(self, request: Request[T]) -> float:
        return _length(request.prompt) / _CHARACTERS_PER_TOKEN * self._input + self._output


def _length(prompt: Prompt) -> int:
    return sum(len(message["content"]) for message in prompt.messages())


def _words_of(answer: NoAnswer) -> str:
    return str(answer).removeprefix(answer.trouble.value).removeprefix(": ")


def _read(text: str, request: Request[T]) -> tuple[T | None, list[str]]:
    """The value in an answer, or what is wrong with it, in words for the model."""
    try:
        value = request.schema.model_validate_json(_unfenced(text))
    except ValidationError as error:
        return None, [
            f"{'.'.join(map(str, one['loc'])) or 'the answer'}: {one['msg']}"
            for one in error.errors(include_input=False, include_url=False)[:5]
        ]
    problems = list(request.check(value))
    return (None, problems) if problems else (value, [])


def _unfenced(text: str) -> str:
    """The text without the code fence that models like to put around JSON."""
    stripped = text.strip()
    if stripped.startswith("```") and stripped.endswith("```"):
        return stripped.split("\n", 1)[-1].removesuffix("```").strip()
    return stripped


def _with_objection(
    messages: Sequence[Message], reply: str, problems: Sequence[str]
) -> list[Message]:
    objection = (
        "That answer cannot be used: "
        + "; ".join(problems)
        + ". Answer again, with one JSON object of the schema and nothing else."
    )
    return [
        *messages,
        {"role": "assistant", "content": reply[:4_000]},
        {"role": "user", "content": objection},
    ]


_CONNECTED: dict[tuple[ModelConfig, str], Endpoint] = {}


def open_model(stores: Stores, only_kept: bool = False) -> LanguageModel | None:
    """The models that are configured; None if none are. Raises `KeyMissing` if their keys
    cannot be opened."""
    models = read_configuration(stores)
    return None if models is None else model_of(stores, models, only_kept)


def model_of(stores: Stores, models: ModelsConfig, only_kept: bool = False) -> LanguageModel:
    """These models, connected once per process."""
    found = []
    for config in (models.first, models.second):
        if config is None:
            continue
        known = (config, key_of(stores, config))
        if known not in _CONNECTED:
            _CONNECTED[known] = connect(*known)
        found.append(ConfiguredModel(config, _CONNECTED[known]))
    return LanguageModel(
        stores.database,
        found,
        lambda user_id: daily_budget(stores.database, user_id),
        only_kept,
        answers_of(stores),
    )


BUDGET_SETTING = "model_budget_usd"


def daily_budget(database: Database, user_id: str) -> float | None:
    """USD that a user may spend in a UTC day: what they set, and never more than what the
    installation lets everybody spend. None: no limit."""
    given = [Settings(database, who).get(BUDGET_SETTING) for who in (user_id, None)]
    limits = [float(value) for value in given if value is not None]
    return min(limits) if limits else None
