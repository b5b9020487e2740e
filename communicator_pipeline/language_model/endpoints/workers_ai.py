"""Workers AI by its own door, `POST /ai/run/{model}`.

Belongs here: its request, its two JSON-mode shapes, its errors. By the plain HTTP client, because
the official SDK percent-encodes the slashes of a model's name, which the service rejects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import orjson
from pydantic import BaseModel

from communicator_pipeline.language_model.asking import (
    EndpointError,
    Message,
    Reply,
    Trouble,
    Usage,
    sent_schema,
)
from communicator_pipeline.language_model.configuration import CLOUDFLARE_API, ModelConfig
from communicator_pipeline.language_model.endpoints.endpoint import described
from communicator_pipeline.language_model.endpoints.openai_compatible import (
    LONGEST_WORDS,
    reply_of,
    retry_after,
    trouble_of,
    usage_of,
)
from communicator_pipeline.storage.credentials import redact

NEURONS_HEADER = "cf-ai-neurons"


class WorkersAi:
    """The native endpoint.

    Older models take the bare schema and answer an object under `response`; newer chat models
    take OpenAI's `{name, schema, strict}` and answer `choices`. Which one a model wants is not
    said anywhere: the first rejection changes over to the other shape, for as long as this
    process lives.
    """

    def __init__(self, config: ModelConfig, key: str) -> None:
        self._config = config
        self._key = key
        base = config.base_url or f"{CLOUDFLARE_API}/accounts/{config.account_id}/ai/run"
        self._url = f"{base.rstrip('/')}/{config.model}"
        self._wrapped = False
        self._client = httpx.Client(
            timeout=config.timeout, headers={"Authorization": f"Bearer {key}"} if key else {}
        )

    def ask(self, messages: Sequence[Message], schema: type[BaseModel]) -> Reply:
        wrapped = self._wrapped
        try:
            return self._ask(messages, schema, wrapped)
        except EndpointError as error:
            if error.trouble is not Trouble.REJECTED or self._config.json_mode != "schema":
                raise
            reply = self._ask(messages, schema, not wrapped)
            self._wrapped = not wrapped
            return reply

    def close(self) -> None:
        self._client.close()

    def _ask(self, messages: Sequence[Message], schema: type[BaseModel], wrapped: bool) -> Reply:
        config = self._config
        asked: dict[str, Any] = {
            "messages": list(messages),
            "temperature": config.temperature,
            "max_tokens": config.output_tokens,
        }
        if config.json_mode == "schema":
            bare = sent_schema(schema)
            named = {"name": schema.__name__, "schema": bare, "strict": True}
            asked["response_format"] = {
                "type": "json_schema",
                "json_schema": named if wrapped else bare,
            }
        else:
            asked["messages"] = described(messages, schema)
            if config.json_mode == "object":
                asked["response_format"] = {"type": "json_object"}
        try:
            response = self._client.post(self._url, json=asked)
            body: Any = orjson.loads(response.content)
        except httpx.TimeoutException:
            raise EndpointError(Trouble.TIMEOUT, f"{config.timeout:g} seconds") from None
        except httpx.HTTPError as error:
            words = redact(str(error)[:LONGEST_WORDS], [self._key])
            raise EndpointError(Trouble.UNREACHABLE, words) from None
        except ValueError:
            if response.status_code >= 400:
                words = f"HTTP {response.status_code}"
                raise EndpointError(
                    trouble_of(response.status_code, "", ""), words, retry_after(response.headers)
                ) from None
            raise EndpointError(Trouble.INVALID, "the server's answer is no JSON") from None
        if (
            response.status_code >= 400
            or not isinstance(body, dict)
            or body.get("success") is False
        ):
            raise self._error(response, body)
        return self._reply(response, body)

    def _reply(self, response: httpx.Response, body: dict[str, Any]) -> Reply:
        result = body.get("result", body)  # an AI Gateway may answer without the envelope
        if isinstance(result, dict) and "choices" in result:
            reply = reply_of(result)
            text, usage = reply.text, reply.usage
        else:
            said = result.get("response") if isinstance(result, dict) else None
            usage = usage_of(result.get("usage") if isinstance(result, dict) else None)
            if isinstance(said, dict):
                text = orjson.dumps(said).decode()
            elif isinstance(said, str) and said:
                text = said
            else:
                raise EndpointError(
                    Trouble.INVALID, "the server answered without a text", usage=usage
                )
        neurons = _number(response.headers.get(NEURONS_HEADER)) or usage.neurons
        return Reply(text, usage + Usage(neurons=neurons - usage.neurons))

    def _error(self, response: httpx.Response, body: Any) -> EndpointError:
        errors = body.get("errors") if isinstance(body, dict) else None
        first = errors[0] if isinstance(errors, list) and errors else {}
        code = str(first.get("code", "")) if isinstance(first, dict) else ""
        said = str(first.get("message", "")) if isinstance(first, dict) else ""
        words = redact(f"{code} {said}".strip()[:LONGEST_WORDS], [self._key])
        if "JSON Mode couldn't be met" in said:
            return EndpointError(Trouble.INVALID, words)
        return EndpointError(
            trouble_of(response.status_code, code, said), words, retry_after(response.headers)
        )


def _number(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
