"""Other styles of chat made from labelled #ubuntu logs, for training only.

Belongs here: turning a labelled stream into a chat among few people, slower, with fewer talks at
a time and fewer names called. Does not belong here: learning from it (`train.py`).

An open help channel teaches habits that are wrong elsewhere: everybody is called by name, a new
face starts a new conversation, talk never stops. Real conversations are kept whole and laid out
anew: among a handful of people who take part in all of them, one after the other with silences in
between or overlapping, and mostly without the calls by name. Every choice comes from a seed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

import numpy as np

NAMES: Final = tuple(
    name.strip()
    for line in (
        "Maya Lopez, Ben Carter, Priya Nair, Tom Becker, Lena Fischer, Omar, Chloé Martin, jonas",
        "Ana Ruiz, Wei Chen, Sofia, Ivan Petrov, Olena Koval, nadia_k, Max, Ingrid Dahl, Kofi",
        "Emma Brown, raj, Lucia Rossi, Pavel, Yuki Tanaka, Hugo, Zoe Adams, Mateo, Fatima, Erik",
        "Dana Scott, Leo, Nina Vogel",
    )
    for name in line.split(",")
)

START: Final = 1_100_000_000  # s; any date does, no feature knows it


@dataclass(slots=True, frozen=True)
class Line:
    """One labelled line: `parents` are lines of the same stream, itself if it starts a talk."""

    stream: str
    index: int
    seconds: float  # since 1970, UTC
    author: str
    text: str
    system: bool
    talk: int | None  # None: context that nobody labelled
    parents: tuple[int, ...]
    mentions: tuple[str, ...] = ()


def spread(lines: list[Line], random: np.random.Generator) -> list[Line]:
    """The same lines with the seconds that a clock of minutes has hidden, in the same order."""
    by_minute: dict[float, list[int]] = defaultdict(list)
    for at, line in enumerate(lines):
        by_minute[line.seconds].append(at)
    result = list(lines)
    for minute, members in by_minute.items():
        for at, second in zip(members, np.sort(random.uniform(0, 60, len(members))), strict=True):
            result[at] = _moved(lines[at], minute + float(second))
    return result


def _moved(line: Line, seconds: float) -> Line:
    return Line(
        line.stream,
        line.index,
        seconds,
        line.author,
        line.text,
        line.system,
        line.talk,
        line.parents,
        line.mentions,
    )


def restyled(lines: list[Line], stream: str, random: np.random.Generator) -> list[Line]:
    """A smaller, slower chat made of the labelled talks of one stream."""
    talks: dict[int, list[Line]] = defaultdict(list)
    for line in spread(lines, random):
        if line.talk is not None and not line.system:
            talks[line.talk].append(line)
    # Lone lines are half of a help channel (nobody answered) but rare among acquaintances.
    alone = random.uniform(0, 0.5)
    kept = [t for t in talks.values() if len(t) > 1 or random.random() < alone]
    people = list(
        random.permutation(NAMES)[: random.integers(3, 3 + int(random.choice([4, 8, 24])))]
    )
    calls = float(random.choice([0.0, 0.1, 0.3, 0.8]))
    at_sign = random.random() < 0.6
    stretch = float(np.exp(random.uniform(np.log(0.15), np.log(20))))
    apart = float(random.uniform(0.0, 1.0))
    placed: list[Line] = []
    begin, end = float(START), float(START)
    for talk in kept:
        offsets = _offsets(talk, stretch, random)
        if random.random() < apart:
            silence = stretch * 60 * float(np.exp(random.uniform(np.log(2), np.log(300))))
            start = end + silence
        else:
            start = float(random.uniform(begin, end)) + 1
        cast = _cast(talk, people, random)
        for line, offset in zip(talk, offsets, strict=True):
            text, mentions = _recast(line.text, cast, calls, at_sign, random)
            author = cast[line.author]
            placed.append(
                Line(
                    stream,
                    line.index,
                    start + offset,
                    author,
                    text,
                    False,
                    line.talk,
                    line.parents,
                    mentions,
                )
            )
        begin, end = start, max(end, start + offsets[-1])
    return _renumbered(sorted(placed, key=lambda line: (line.seconds, line.index)))


def _offsets(talk: list[Line], stretch: float, random: np.random.Generator) -> list[float]:
    """Seconds from the talk's first line; people vary, so every gap is stretched differently."""
    seconds = np.array([line.seconds for line in talk])
    gaps = np.diff(seconds) * stretch * np.exp(random.normal(0, 0.6, len(talk) - 1))
    return [0.0, *np.cumsum(np.maximum(gaps, 1.0)).tolist()]


def _cast(talk: list[Line], people: list[str], random: np.random.Generator) -> dict[str, str]:
    """Who plays whom: different authors stay different as long as there are people enough."""
    order = [str(p) for p in random.permutation(people)]
    authors = dict.fromkeys(line.author for line in talk)
    return {author: order[i % len(order)] for i, author in enumerate(authors)}


_PREFIX: Final = re.compile(r"^\s*@?([^\s:,>]{1,32})\s*[:,>]+\s*")


def _recast(
    text: str, cast: dict[str, str], calls: float, at_sign: bool, random: np.random.Generator
) -> tuple[str, tuple[str, ...]]:
    """The text with the new names, most calls by name left out; and whom it @mentions."""
    lower = {author.lower(): name for author, name in cast.items()}
    found = _PREFIX.match(text)
    named = lower.get(found.group(1).lower()) if found else None
    rest = text[found.end() :] if found and named else text
    for author, name in cast.items():
        if len(author) > 2 and author.lower() in rest.lower():
            rest = re.sub(rf"\b{re.escape(author)}\b", name.split()[0], rest, flags=re.I)
    if named is None or random.random() >= calls:
        return rest, ()
    if at_sign:
        return f"@{named} {rest}", (named,)
    return f"{named.split()[0]}: {rest}", ()


def _renumbered(lines: list[Line]) -> list[Line]:
    place = {line.index: at for at, line in enumerate(lines)}
    return [
        Line(
            line.stream,
            at,
            line.seconds,
            line.author,
            line.text,
            line.system,
            line.talk,
            # A parent that comes later now (gaps were stretched differently) is none.
            tuple(place[p] for p in line.parents if p in place and place[p] <= at) or (at,),
            line.mentions,
        )
        for at, line in enumerate(lines)
    ]
