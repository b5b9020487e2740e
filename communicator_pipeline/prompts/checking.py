"""Whether a prompt's version can be used: its template renders, its examples are right.

Belongs here: what a version is held against, and the schema files. Does not belong here: finding
and promoting versions (`__init__.py`), whether it is a good one (`comparing/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2
import orjson
from pydantic import BaseModel, ValidationError

from communicator_pipeline.analysis.by_model import ConversationAnalysis
from communicator_pipeline.drafting.by_model import ProposedReply
from communicator_pipeline.language_model.asking import sent_schema
from communicator_pipeline.language_model.conversations import Summary
from communicator_pipeline.prompts import PromptVersion

ANSWERS: Mapping[str, type[BaseModel]] = {
    "analyse": ConversationAnalysis,
    "draft": ProposedReply,
    "compact": Summary,
}
"""What each purpose asks for."""

_DRAFTING: dict[str, Any] = {
    "tone": "", "signature": False, "languages": [], "memories": [], "instruction": "",
    "previous": "",
}  # fmt: skip

_SETTINGS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "analyse": (
        {"categories": [{"name": "billing", "description": "money"}], "priority_people": []},
        {"categories": [{"name": "other", "description": ""}], "priority_people": ["Ben"]},
    ),
    "draft": (
        _DRAFTING,
        {
            "tone": "short",
            "signature": True,
            "languages": ["en", "de"],
            "memories": [{"id": "m1", "wanted": "Begin with “Hi”"}],
            "instruction": "more formal",
            "previous": "Hi",
        },
    ),
    "compact": ({},),
}
"""What templates may name: once with as little as a user sets, once with everything."""


def problems(version: PromptVersion) -> list[str]:
    """What is wrong with a version, in words; nothing: it can be used."""
    found: list[str] = []
    for settings in _SETTINGS[version.purpose]:
        try:
            if not version.prompt(settings, {}).instructions:
                found.append("instructions.md says nothing")
        except jinja2.TemplateError as error:
            found.append(f"instructions.md cannot be filled in: {error}")
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            found.append(f"instructions.md cannot be filled in: {type(error).__name__}: {error}")
    for number, (data, answer) in enumerate(version.examples, 1):
        found += [f"example {number}: {problem}" for problem in _of_example(version, data, answer)]
    return list(dict.fromkeys(found))


def schema_file(purpose: str) -> bytes:
    """What `schema.json` beside a version holds: the answer's shape as a model is given it."""
    schema = sent_schema(ANSWERS[purpose])
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def _of_example(version: PromptVersion, data: str, answer: str) -> list[str]:
    try:
        value = ANSWERS[version.purpose].model_validate_json(answer)
    except ValidationError as error:
        return [
            f"answer: {'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}"
            for one in error.errors(include_input=False, include_url=False)
        ]
    shown = orjson.loads(data)
    if not isinstance(shown, dict):
        return ["data: it should be a JSON object, as a conversation is shown"]
    messages = shown.get("messages") or []
    if not all(isinstance(message, dict) for message in messages):
        return ["data.messages: each should be a JSON object"]
    there = {message.get("n") for message in messages}
    named: set[int] = set()
    if isinstance(value, ProposedReply):
        named = set(value.rests_on)
    if isinstance(value, ConversationAnalysis):
        named = {*value.summary_rests_on, *([value.waiting_for] if value.waiting_for else [])}
    unknown = sorted(named - there)
    return [f"there are no messages with the numbers {unknown}"] if unknown else []
