"""What is asked of a language model, what it answers, and how it can fail.

Belongs here: the values that go through the seam. Does not belong here: sending them
(`endpoints/`), retrying, keeping and counting (`model.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, Generic, TypeVar

import orjson
from pydantic import BaseModel

T = TypeVar("T", bound=BaseModel)

Message = Mapping[str, str]
"""`{"role": "system" | "user" | "assistant", "content": …}`."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads. Only `instructions` are ours; `data` is what strangers wrote, as JSON,
    so that no text can step out of its place."""

    name: str  # such as "analyse/1"
    instructions: str
    data: str
    examples: tuple[tuple[str, str], ...] = ()  # data and the right answer, both JSON

    def messages(self) -> list[Message]:
        asked: list[Message] = [{"role": "system", "content": self.instructions}]
        for data, answer in self.examples:
            asked.append({"role": "user", "content": data})
            asked.append({"role": "assistant", "content": answer})
        asked.append({"role": "user", "content": self.data})
        return asked


@dataclass(frozen=True, slots=True)
class Usage:
    """What answers took when they were given."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    neurons: float = 0.0  # Workers AI's own measure, where it says it
    cost_usd: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.neurons + other.neurons,
            self.cost_usd + other.cost_usd,
        )


def _nothing_wrong(value: Any) -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One question, and on whose account it is asked."""

    prompt: Prompt
    schema: type[T]
    account: str
    user_id: str  # who pays
    purpose: str  # "analyse", "draft", "compact"
    check: Callable[[T], Sequence[str]] = _nothing_wrong
    """What is wrong with an answer of the right shape, in words that the model is told; nothing:
    it is right."""

    shorter: Callable[[], Request[T] | None] | None = None
    """The same question in fewer words, for when the model finds it too large."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    value: T
    model: str
    usage: Usage
    kept: bool = False  # it was given before, and cost nothing now


class Trouble(Enum):
    """How a question can fail, and so what is done about it (`model.py`).

    Cloudflare's codes: https://developers.cloudflare.com/workers-ai/platform/errors/ (read
    2026-11)."""

    CAPACITY = "the model is busy"
    QUOTA = "the day's allowance at the model's provider is used up"
    TIMEOUT = "the model took too long"
    UNREACHABLE = "the model could not be reached"
    TOO_LARGE = "the conversation is too large for the model"
    UNKNOWN_MODEL = "the provider has no such model"
    CREDENTIALS = "the provider does not accept the key"
    REJECTED = "the provider rejected the request"
    INVALID = "the model's answers were not of the shape that was asked for"
    REFUSED = "the model refused to answer"
    BUDGET = "the day's budget is spent"
    WITHHELD = "a rule keeps this conversation from the model"
    NOT_KEPT = "no answer is kept, and only kept ones may be used"

    @property
    def passes(self) -> bool:
        """Whether asking again later may help."""
        return self in _PASSING


_PASSING = frozenset(
    {
        Trouble.CAPACITY,
        Trouble.QUOTA,
        Trouble.TIMEOUT,
        Trouble.UNREACHABLE,
        Trouble.UNKNOWN_MODEL,
        Trouble.CREDENTIALS,
        Trouble.BUDGET,
    }
)


class EndpointError(Exception):
    """One call failed; the message is free of secrets."""

    def __init__(
        self,
        trouble: Trouble,
        words: str = "",
        retry_after: float | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(f"{trouble.value}{f': {words}' if words else ''}")
        self.trouble = trouble
        self.words = words
        self.retry_after = retry_after  # seconds
        self.usage = usage or Usage()


class NoAnswer(Exception):
    """No model gave a valid answer; the message says why in words."""

    def __init__(self, trouble: Trouble, words: str, usage: Usage | None = None) -> None:
        super().__init__(f"{trouble.value}{f': {words}' if words else ''}")
        self.trouble = trouble
        self.usage = usage or Usage()


@dataclass(frozen=True, slots=True)
class Reply:
    """What an endpoint gave back for one call."""

    text: str
    usage: Usage
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))


_LEFT_TO_US = frozenset(
    {
        "title", "default", "description", "minLength", "maxLength", "minItems", "maxItems",
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern",
    }
)  # fmt: skip


@cache
def sent_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema as a model is given it.

    Bounds and lengths are left out, because providers' strict modes differ in which of them they
    refuse (https://platform.openai.com/docs/guides/structured-outputs, read 2026-11); every
    answer is validated against the whole type here.
    """
    sent: dict[str, Any] = _without(schema.model_json_schema(), properties=False)
    return sent


def _without(part: Any, properties: bool) -> Any:
    if isinstance(part, dict):
        return {
            key: _without(value, properties=key in ("properties", "$defs") and not properties)
            for key, value in part.items()
            if properties or key not in _LEFT_TO_US
        }
    if isinstance(part, list):
        return [_without(value, properties=False) for value in part]
    return part


def as_json(value: Any) -> str:
    """Compact JSON, the same for the same value."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
