"""The categories that a conversation can fall into, and what points to each.

Belongs here: the taxonomy a user edits, and the default one. Does not belong here: how cues are
weighed (`category.py`), the words of each language (`lexicon/`).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from communicator_pipeline.analysis.lexicon import LEXICONS, phrases


class Category(BaseModel):
    """One category. Cues are words or phrases of any language, written as in a lexicon."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=60)]
    description: str = ""
    cues: tuple[str, ...] = ()
    weight: Annotated[int, Field(ge=-30, le=30)] = 0  # points it adds to the priority


class Taxonomy(BaseModel):
    """What users sort their conversations into. `fallback` is for what no cue points to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    categories: tuple[Category, ...]
    fallback: str

    @model_validator(mode="after")
    def names_are_unique_and_hold_the_fallback(self) -> Taxonomy:
        names = [c.name for c in self.categories]
        if len(set(names)) < len(names):
            raise ValueError(f"two categories share a name: {names}")
        if self.fallback not in names:
            raise ValueError(f"fallback {self.fallback!r} is not one of the categories: {names}")
        return self

    def __getitem__(self, name: str) -> Category:
        for category in self.categories:
            if category.name == name:
                return category
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.categories)


_DEFAULTS = (  # name, description, points of priority
    ("question", "Somebody wants to know something.", 0),
    ("request", "Somebody wants something done.", 5),
    ("scheduling", "Finding or moving a time to meet.", 3),
    ("incident", "Something is down or on fire, now.", 20),
    ("sales", "Prices, offers, contracts, orders to come.", 5),
    ("support", "Somebody is stuck with a product or an order.", 8),
    ("fyi", "News, minutes, announcements: nothing is asked.", -10),
    ("social", "Greetings, congratulations, small talk.", -5),
    ("spam", "Unwanted advertising and fraud.", -30),
)


def _cues(name: str) -> tuple[str, ...]:
    return tuple(c for lexicon in LEXICONS.values() for c in phrases(lexicon.topics.get(name, "")))


DEFAULT_TAXONOMY = Taxonomy(
    categories=tuple(
        Category(name=name, description=description, cues=_cues(name), weight=weight)
        for name, description, weight in _DEFAULTS
    ),
    fallback="fyi",
)
