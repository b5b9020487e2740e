"""The prompts: versioned folders, each with its instructions, its schema and its examples.

Belongs here: finding a version, filling in what is the user's. Does not belong here: what is
done with the answer (`analysis/`, `drafting/`), asking (`language_model/`).

    prompts/analyse/1/instructions.md    Jinja2; what the user set goes in as data
    prompts/analyse/1/schema.json        what the answer must be; made of the type in the code
    prompts/analyse/1/examples.json      [{"data": …, "answer": …}, …]

A version that has been used never changes: a better prompt is a new version. Versions of one's
own lie in the same shape in `prompts/` of Communicator's home, under names of letters, digits
and dashes that are no shipped version's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import jinja2
import orjson

from communicator_pipeline.language_model.asking import Prompt, as_json
from communicator_pipeline.storage import home
from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.settings import Settings

SHIPPED = {"analyse": "1", "draft": "1", "compact": "1"}
"""The version of each purpose that is used where nobody promoted another."""

PROMOTED = "prompt_"
"""What the installation's settings begin with that hold, for a purpose, the versions that were in
use: a list, the last of them is."""

MOST_REMEMBERED = 20
"""Versions that were in use, the newest: so far one can go back."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,40}")


class NoSuchPrompt(LookupError):
    """There is no such version, or it is not whole; the message says what is there."""


@dataclass(frozen=True)
class PromptVersion:
    """One version of a prompt."""

    purpose: str
    version: str
    instructions: str  # a Jinja2 template
    examples: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        return f"{self.purpose}/{self.version}"

    def prompt(self, settings: Mapping[str, Any], data: Mapping[str, Any]) -> Prompt:
        """The prompt for some data; `settings` are what the template may name."""
        return Prompt(
            self.name, _filled(self.instructions, as_json(settings)), as_json(data), self.examples
        )


@cache
def _filled(instructions: str, settings: str) -> str:
    environment = jinja2.Environment(  # noqa: S701 - text for a model, not a page
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["json"] = as_json
    return environment.from_string(instructions).render(**orjson.loads(settings)).strip()


def versions(purpose: str) -> list[str]:
    """The versions of a purpose that are there: the shipped ones, then one's own."""
    found = []
    for folder in (files(__name__) / purpose, home() / "prompts" / purpose):
        if folder.is_dir():
            found += sorted(each.name for each in folder.iterdir() if each.is_dir())
    return found


def load(purpose: str, version: str) -> PromptVersion:
    """A version by its name; raises `NoSuchPrompt`."""
    if purpose not in SHIPPED:
        raise NoSuchPrompt(
            f"there are no prompts for {purpose!r} (there are: {', '.join(SHIPPED)})"
        )
    if not _NAME.fullmatch(version):
        raise NoSuchPrompt(f"{version!r} is no name of a prompt's version: letters, digits, dashes")
    shipped, own = files(__name__) / purpose / version, home() / "prompts" / purpose / version
    folder: Traversable | Path = shipped if shipped.is_dir() else own
    try:
        instructions = (folder / "instructions.md").read_text("utf-8")
        examples = folder / "examples.json"
        pairs = orjson.loads(examples.read_bytes()) if examples.is_file() else []
        return PromptVersion(
            purpose,
            version,
            instructions,
            tuple((as_json(pair["data"]), as_json(pair["answer"])) for pair in pairs),
        )
    except FileNotFoundError:
        raise NoSuchPrompt(
            f"there is no {purpose}/{version} (there are: {', '.join(versions(purpose))}); one of "
            f"your own needs {own}/instructions.md"
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise NoSuchPrompt(f"{purpose}/{version}/examples.json cannot be read: {error}") from None


def current(database: Database, purpose: str) -> PromptVersion:
    """The version in use: the one that was promoted, else the shipped one."""
    return load(purpose, history(database, purpose)[-1])


def history(database: Database, purpose: str) -> list[str]:
    """The versions that were in use, in order; the last one is."""
    return list(Settings(database, None).get(PROMOTED + purpose) or [SHIPPED[purpose]])


def promote(database: Database, purpose: str, version: str) -> bool:
    """From now on this version is used; returns whether another one was before. Raises
    `NoSuchPrompt`. Whether it is a good one is not looked at here (`checking.py`)."""
    load(purpose, version)
    used = history(database, purpose)
    if used[-1] == version:
        return False
    Settings(database, None).set(PROMOTED + purpose, [*used, version][-MOST_REMEMBERED:])
    return True


def go_back(database: Database, purpose: str) -> str:
    """From now on the version before the current one is used, which is returned; raises
    `NoSuchPrompt` if there was none, or it is not there any more."""
    if purpose not in SHIPPED:
        raise NoSuchPrompt(
            f"there are no prompts for {purpose!r} (there are: {', '.join(SHIPPED)})"
        )
    used = history(database, purpose)
    if len(used) < 2:
        raise NoSuchPrompt(f"{purpose}/{used[-1]} is the first one in use: there is none before it")
    load(purpose, used[-2])
    Settings(database, None).set(PROMOTED + purpose, used[:-1])
    return used[-2]
