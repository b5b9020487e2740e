"""A record that is no message: the dead letter that says so.

Belongs here: wording the reason and showing the record, alike for every platform. Does not belong
here: what is wrong with a record (each platform's reader raises that, as a sentence).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson

from communicator_pipeline.storage.dead_letters import LONGEST_PAYLOAD, DeadLetter

_DEEPEST = 50  # enough to recognise a record by


def dead_letter(
    error: Exception,
    source: str,
    record: Any,
    clean: Callable[[str], str] = lambda text: text,
    stage: str = "import",
) -> DeadLetter:
    """The letter for a record that raised `error` at `source`; `clean` takes secrets out."""
    return DeadLetter(
        stage, source, reason(error), clean(shown(record))[:LONGEST_PAYLOAD] or "(empty)"
    )


def reason(error: Exception) -> str:
    """What was wrong, as a sentence."""
    if isinstance(error, KeyError):
        return f"the message has no {error.args[0]!r}: correct the record and import it again"
    words = str(error)
    if "ecursion" in words or isinstance(error, RecursionError):
        return "the message is nested too deep to be one"
    if "surrogates" in words:
        return "the message has half a character (a lone surrogate): export it again"
    if "64-bit" in words or "exceeds" in words:
        return "the message has a number with more than 64 bits: write ids as texts"
    return words or type(error).__name__


def shown(record: Any) -> str:
    """The record for people, as JSON where that is possible."""
    if isinstance(record, bytes):
        return record[:LONGEST_PAYLOAD].decode(errors="replace")
    if isinstance(record, str):
        return record[:LONGEST_PAYLOAD].encode(errors="replace").decode()
    try:
        return orjson.dumps(record, default=float).decode()
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return json.dumps(_cut(record), default=str)
    except (TypeError, ValueError, RecursionError):
        return "(cannot be shown: it is not JSON)"


def _cut(value: Any, depth: int = 0) -> Any:
    """The value without what is nested too deep."""
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, dict):
        return {str(key): _cut(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cut(inner, depth + 1) for inner in value]
    return value
