"""Everything that speaks as OpenAI does: Ollama, vLLM, Workers AI's `/ai/v1`, an AI Gateway.

Belongs here: the call by the official client, and its errors in our terms.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import openai
from pydantic import BaseModel

from communicator_pipeline.language_model.asking import (
    EndpointError,
    Message,
    Reply,
    Trouble,
    Usage,
    sent_schema,
)
from communicator_pipeline.language_model.configuration import ModelConfig
from communicator_pipeline.language_model.endpoints.endpoint import described
from communicator_pipeline.storage.credentials import redact

_TOO_LARGE = re.compile(r"context.{0,20}length|too (large|long|many tokens)|maximum context", re.I)
_QUOTA = re.compile(r"insufficient_quota|exceeded your current quota|daily free allocation", re.I)
_CODE = re.compile(r"\b(3003|3006|3007|3008|3023|3036|3040|3041|3042|4006|5007|5016|5018)\b")

LONGEST_WORDS = 300  # characters of what a server says about an error

BY_CODE = {
    "3006": Trouble.TOO_LARGE,
    "3007": Trouble.TIMEOUT,
    "3008": Trouble.TIMEOUT,
    "3023": Trouble.CREDENTIALS,
    "3036": Trouble.QUOTA,
    "3040": Trouble.CAPACITY,
    "3041": Trouble.CREDENTIALS,
    "3042": Trouble.UNKNOWN_MODEL,
    "4006": Trouble.QUOTA,  # what is answered, where the documentation says 3036
    "5007": Trouble.UNKNOWN_MODEL,
    "5016": Trouble.CREDENTIALS,
    "5018": Trouble.CREDENTIALS,
}
"""Workers AI's internal codes."""


def trouble_of(status: int, code: str, words: str) -> Trouble:
    """What an HTTP error of a model's server means. The code says more than the status, and the
    words more than the status too: 429 is both "busy" and "no more today"."""
    if code in BY_CODE:
        return BY_CODE[code]
    if _QUOTA.search(f"{code} {words}"):
        return Trouble.QUOTA
    if status == 413 or code == "context_length_exceeded" or _TOO_LARGE.search(words):
        return Trouble.TOO_LARGE
    if status in (401, 403):
        return Trouble.CREDENTIALS
    if status == 404:
        return Trouble.UNKNOWN_MODEL
    if status == 408:
        return Trouble.TIMEOUT
    if status == 429 or status >= 500:
        return Trouble.CAPACITY
    return Trouble.REJECTED


def retry_after(headers: Any) -> float | None:
    """Seconds to wait, as the server says; None if it does not."""
    try:
        return max(0.0, float(headers.get("retry-after")))
    except (TypeError, ValueError):
        return None


class OpenAiCompatible:
    """Chat completions with a JSON schema. The client's own retries are off: only the seam knows
    what a repeated call costs."""

    def __init__(self, config: ModelConfig, key: str) -> None:
        self._config = config
        self._key = key
        self._client = openai.OpenAI(
            base_url=config.base_url,
            api_key=key or "none",  # the client wants one even where the server does not
            timeout=config.timeout,
            max_retries=0,
        )

    def ask(self, messages: Sequence[Message], schema: type[BaseModel]) -> Reply:
        config = self._config
        asked: dict[str, Any] = {
            "model": config.model,
            "messages": list(messages),
            "temperature": config.temperature,
            "max_tokens": config.output_tokens,
        }
        if config.json_mode == "schema":
            asked["response_format"] = {
                "type": "json_schema",
                "json_schema": {
                    "name": schema.__name__,
                    "schema": sent_schema(schema),
                    "strict": True,
                },
            }
        else:
            asked["messages"] = described(messages, schema)
            if config.json_mode == "object":
                asked["response_format"] = {"type": "json_object"}
        try:
            raw = self._client.chat.completions.with_raw_response.create(**asked)
            body: Any = raw.http_response.json()
        except openai.APITimeoutError:
            raise EndpointError(Trouble.TIMEOUT, f"{config.timeout:g} seconds") from None
        except openai.APIConnectionError as error:
            raise EndpointError(Trouble.UNREACHABLE, self._words(error.__cause__)) from None
        except openai.APIStatusError as error:
            words = self._words(error.message)
            code = str(error.code or "")
            found = _CODE.search(words)
            raise EndpointError(
                trouble_of(error.status_code, code or (found[1] if found else ""), words),
                words,
                retry_after(error.response.headers),
            ) from None
        except openai.OpenAIError as error:
            raise EndpointError(Trouble.REJECTED, self._words(error)) from None
        except ValueError:
            raise EndpointError(Trouble.INVALID, "the server's answer is no JSON") from None
        return reply_of(body)

    def close(self) -> None:
        self._client.close()

    def _words(self, said: object) -> str:
        return redact(str(said or "")[:LONGEST_WORDS], [self._key])


def reply_of(body: Any) -> Reply:
    """The reply in a chat completion; raises `EndpointError` for one without a text."""
    usage = usage_of(body.get("usage") if isinstance(body, dict) else None)
    try:
        choice = body["choices"][0]
        message = choice["message"]
    except (KeyError, IndexError, TypeError):
        raise EndpointError(Trouble.INVALID, "the server answered nothing", usage=usage) from None
    if message.get("refusal") or choice.get("finish_reason") == "content_filter":
        raise EndpointError(
            Trouble.REFUSED, str(message.get("refusal") or "")[:LONGEST_WORDS], usage=usage
        )
    text = message.get("content")
    if not isinstance(text, str) or not text:
        raise EndpointError(Trouble.INVALID, "the server answered without a text", usage=usage)
    return Reply(text, usage)


def usage_of(said: Any) -> Usage:
    """Tokens as the server counts them; none if it does not."""
    if not isinstance(said, dict):
        return Usage(calls=1)
    return Usage(
        calls=1,
        input_tokens=_count(said.get("prompt_tokens")),
        output_tokens=_count(said.get("completion_tokens")),
        neurons=float(_count(said.get("neurons"))),
    )


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**53 else 0
