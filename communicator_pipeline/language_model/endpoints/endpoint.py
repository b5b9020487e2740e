"""What the seam asks of a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pydantic import BaseModel

from communicator_pipeline.language_model.asking import Message, Reply, as_json, sent_schema


class Endpoint(Protocol):
    """One model at one server. Safe for many threads."""

    def ask(self, messages: Sequence[Message], schema: type[BaseModel]) -> Reply:
        """One call, never repeated here. Raises `EndpointError`."""

    def close(self) -> None: ...


def described(messages: Sequence[Message], schema: type[BaseModel]) -> list[Message]:
    """The messages with the schema spelled out, for servers that cannot be given one."""
    first, *others = messages
    told = (
        f"{first['content']}\n\nAnswer with one JSON object and nothing else. Its JSON schema:\n"
        f"{as_json(sent_schema(schema))}"
    )
    return [{"role": first["role"], "content": told}, *others]
