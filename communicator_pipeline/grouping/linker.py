"""Which earlier message a message without an explicit parent belongs to.

Belongs here: the linkers, from a plain gap to the learnt one, over a `Flow`. Does not belong
here: explicit links and membership (`links.py`), how pairs are described (`features.py`).

A linker is causal: it looks at a message's window and nothing else, so what it says of a message
never changes when later ones come.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from communicator_pipeline.grouping import reasons
from communicator_pipeline.grouping.features import FEATURES, FEW, SHARED_UNITS, Pairs, pairs
from communicator_pipeline.grouping.flow import (
    CALLED,
    CHANNEL,
    DM,
    GROUP,
    HOUR,
    MINUTE,
    NOBODY,
    WINDOW,
    Bytes,
    Flow,
    Ints,
    behind,
)
from communicator_pipeline.grouping.trees import ObliviousTrees, load

Scores = npt.NDArray[np.float64]

ROWS_AT_ONCE: Final = 8_192
"""Rows of a chunk; a few (rows, WINDOW) matrices of it stay within the processor's cache."""


@dataclass(slots=True, frozen=True)
class Links:
    """For m messages: index of the parent in the flow (-1: a root), certainty and reason."""

    parent: Ints
    score: Scores
    reason: Bytes  # index into reasons.INFERRED


class Linker(Protocol):
    def link(self, flow: Flow, rows: Ints) -> Links:
        """Parents for these rows of the flow; a pure function of each row's window."""
        ...


def concatenate(parts: list[Links]) -> Links:
    if not parts:
        return Links(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8))
    return Links(
        np.concatenate([p.parent for p in parts]),
        np.concatenate([p.score for p in parts]),
        np.concatenate([p.reason for p in parts]),
    )


@dataclass(slots=True, frozen=True)
class GapLinker:
    """A message belongs with the one before it unless the channel was silent for a while.

    Right where nearly everybody talks about one thing at a time. The limit is `paces` times the
    channel's pace, between `shortest` and `longest` (µs); somebody else's question may wait
    twice as long.
    """

    paces: float = 20.0
    shortest: int = 5 * HOUR
    longest: int = 36 * HOUR

    def link(self, flow: Flow, rows: Ints) -> Links:
        before = rows - 1
        there = before >= flow.first[rows]
        before = np.where(there, before, 0)
        gap = flow.time[rows] - flow.time[before]
        limit = np.clip(flow.pace[rows] * self.paces, self.shortest, self.longest)
        other = flow.author[before] != flow.author[rows]
        limit = np.where(flow.question[before] & other, 2 * limit, limit)
        linked = there & (gap <= limit)
        answered = other & flow.question[before]
        reason = np.where(other, reasons.TIME, reasons.CONTINUATION)
        reason = np.where(answered, reasons.ANSWER, reason)
        nearness = 1.0 - 0.5 * gap / limit
        return Links(
            np.where(linked, before, -1),
            np.where(linked, nearness, np.where(there, 1.0 - 0.5 * limit / np.maximum(gap, 1), 1)),
            np.where(linked, reason, reasons.ROOT).astype(np.uint8),
        )


@dataclass(slots=True, frozen=True)
class RuleLinker:
    """The addressed person's latest message, else what addressed me since I spoke, else my own.

    The time limits are the larger of a fixed span (µs) and a multiple of the channel's pace;
    `paces=0` gives the plain rule.
    """

    answer_within: int = 30 * MINUTE
    continue_within: int = 15 * MINUTE
    paces: float = 20.0

    def link(self, flow: Flow, rows: Ints) -> Links:
        parts = [
            self._link(flow, rows[lo : lo + ROWS_AT_ONCE])
            for lo in range(0, len(rows), ROWS_AT_ONCE)
        ]
        return concatenate(parts)

    def _link(self, flow: Flow, rows: Ints) -> Links:
        column = np.arange(WINDOW)[None, :]
        reach = _reach(flow, rows)
        author = behind(flow.author, -2)[rows]
        me = flow.author[rows, None]
        age = flow.time[rows, None] - behind(flow.time, 0)[rows]
        patience = np.maximum(self.answer_within, self.paces * flow.pace[rows])[:, None]
        breath = np.maximum(self.continue_within, self.paces / 2 * flow.pace[rows])[:, None]

        addressee = flow.addressed[rows, :1]
        of_addressee = reach & (author == addressee) & (addressee != NOBODY) & (age <= patience)
        mine = reach & (author == me)
        last_mine = _nearest(mine)
        to_me = behind(flow.addressed[:, 0], -2)[rows] == me
        to_me |= (behind(flow.call, -2)[rows] == flow.name[rows, None]) & (
            flow.name[rows, None] >= 0
        )
        to_me &= reach & (author != me) & (age <= patience) & (column > last_mine[:, None])
        own = mine & (age <= breath)

        parent = np.full(len(rows), -1)
        reason = np.full(len(rows), reasons.ROOT, np.uint8)
        for found, code in (
            (_nearest(of_addressee), reasons.MENTION),
            (_nearest(to_me), reasons.ANSWER),
            (_nearest(own), reasons.CONTINUATION),
        ):
            free = (parent < 0) & (found >= 0)
            parent = np.where(free, rows - WINDOW + found, parent)
            reason = np.where(free, code, reason).astype(np.uint8)
        clear = flow.clarity[rows, 0] >= CALLED
        score = np.where(reason == reasons.MENTION, np.where(clear, 0.9, 0.7), 0.6)
        return Links(parent, score, reason)


def _nearest(there: npt.NDArray[np.bool_]) -> Ints:
    """Rightmost true column of each row, -1 where there is none."""
    best = there.shape[1] - 1 - np.argmax(there[:, ::-1], axis=1)
    return np.where(there.any(axis=1), best, -1)


@dataclass(slots=True, frozen=True)
class CloseLinker:
    """For a closed group of a few people: what hardly anybody said anything before is one talk.

    Follows `many`, but a message that it is not sure to be a root (less than `sure`) joins the
    one before it where at most `few` people have spoken in the window and the gap is short.
    """

    many: Linker
    gap: GapLinker = GapLinker(paces=10.0, shortest=30 * MINUTE, longest=3 * HOUR)
    few: int = 8
    sure: float = 0.8

    def link(self, flow: Flow, rows: Ints) -> Links:
        chosen, near = self.many.link(flow, rows), self.gap.link(flow, rows)
        joins = (chosen.parent < 0) & (chosen.score < self.sure) & (near.parent >= 0)
        joins[joins] = people_in_window(flow, rows[joins]) <= self.few
        return Links(
            np.where(joins, near.parent, chosen.parent),
            np.where(joins, 1.0 - chosen.score, chosen.score),
            np.where(joins, near.reason, chosen.reason).astype(np.uint8),
        )


def people_in_window(flow: Flow, rows: Ints) -> Ints:
    """How many people have spoken in each row's window."""
    author = np.sort(np.where(_reach(flow, rows), behind(flow.author, -2)[rows], -2), axis=1)
    changes = (author[:, 1:] != author[:, :-1]).sum(axis=1)
    return np.asarray(changes + (author[:, 0] != -2))


def _reach(flow: Flow, rows: Ints) -> npt.NDArray[np.bool_]:
    """(m, WINDOW): which columns of `behind` belong to each row's window."""
    return np.asarray(np.arange(WINDOW)[None, :] >= (WINDOW - (rows - flow.first[rows]))[:, None])


@dataclass(slots=True, frozen=True)
class KindLinker:
    """The linker that fits the channel's kind: a gap in a DM, none in a feed.

    `few` serves closed groups, `many` open channels.
    """

    many: Linker
    few: Linker | None = None  # as `many` if none is given
    two: Linker = GapLinker()

    def link(self, flow: Flow, rows: Ints) -> Links:
        kind = flow.kind[rows]
        parent = np.full(len(rows), -1)
        score = np.ones(len(rows))
        reason = np.full(len(rows), reasons.ROOT, np.uint8)
        for linker, here in (
            (self.two, kind == DM),
            (self.few or self.many, kind == GROUP),
            (self.many, kind == CHANNEL),
        ):
            links = linker.link(flow, rows[here])
            parent[here], score[here], reason[here] = links.parent, links.score, links.reason
        return Links(parent, score, reason)


CALLING: Final = 0.2
"""Share of calls by name or @ in the window from which on a channel counts as a calling one."""


YOUNG: Final = 16
"""A window shorter than this is that of a channel's beginning."""

SIEVE_TREES: Final = 100
FINALISTS: Final = 5
"""A quarter of the trees tells which five of the twelve candidates may win at all; on the dev
split fewer than one winner in 1,000 differs from that of all trees for all candidates."""


@dataclass(slots=True, frozen=True)
class LearntLinker:
    """The candidate that an ensemble of trees scores highest, itself (a root) among them.

    Where people call each other by name, a message without a call means something else than
    where they never do: each style has an ensemble of its own, chosen by the window. `score` of
    a link is the softmax probability of the choice.
    """

    calling: ObliviousTrees
    quiet: ObliviousTrees

    def link(self, flow: Flow, rows: Ints) -> Links:
        return concatenate([self._choose(flow, part, found) for part, found in pairs(flow, rows)])

    def _scores(self, found: Pairs) -> Scores:
        """(m, CANDIDATES) scores, each row by the ensemble of its style; -inf has no chance."""
        there = found.distance >= 0
        columns = found.features.reshape(len(FEATURES), *there.shape)
        calling = calling_style(columns[:, :, 0])
        scores = np.empty(there.shape, np.float64)
        for trees, here in ((self.calling, calling), (self.quiet, ~calling)):
            if here.any():
                part = columns if here.all() else columns[:, here]
                scores[here] = _sieved(trees, part, there[here])
        return scores

    def _choose(self, flow: Flow, rows: Ints, found: Pairs) -> Links:
        scores = self._scores(found)
        # Columns are ordered by nearness, so that a tie goes to the nearest.
        best = np.argmax(scores, axis=1)
        line = np.arange(len(rows))
        odds = np.exp(scores - scores[line, best][:, None])
        back = found.distance[line, best]
        parent = np.where(back > 0, rows - back, -1)
        columns = found.features.reshape(len(FEATURES), *scores.shape)[:, line, best]
        return Links(parent, 1.0 / odds.sum(axis=1), _reasons(back, columns))


def calling_style(columns: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Whether people call each other by name around these messages; columns are (features, m).

    The feature is cautious about short windows; a channel's first messages are told by what
    there is, since nearly every early message of a busy channel would count as quiet otherwise.
    """
    share = columns[FEATURES.index("calls")]
    window = columns[FEATURES.index("window")]
    bold = share * (window + FEW) / (window + 1)
    return np.asarray(np.where(window < YOUNG, bold, share) >= CALLING)


def _sieved(
    trees: ObliviousTrees, columns: npt.NDArray[np.float32], there: npt.NDArray[np.bool_]
) -> Scores:
    """Scores by the first SIEVE_TREES for all candidates, by all trees for the FINALISTS."""
    m, width = there.shape
    rough = trees.first(SIEVE_TREES).score(columns.reshape(len(columns), -1)).reshape(m, width)
    rough[~there] = -np.inf
    # The sort is stable: among equals the nearest stay, whatever the processor.
    kept = np.sort(np.argsort(-rough, axis=1, kind="stable")[:, :FINALISTS], axis=1)
    cell = (np.arange(m)[:, None] * width + kept).ravel()
    finalists = np.ascontiguousarray(columns.reshape(len(columns), -1)[:, cell])
    fine = trees.after(SIEVE_TREES).score(finalists).reshape(m, FINALISTS)
    scores = np.full((m, width), -np.inf)
    np.put_along_axis(scores, kept, np.take_along_axis(rough, kept, axis=1) + fine, axis=1)
    return scores


def _reasons(back: Ints, columns: npt.NDArray[np.float32]) -> Bytes:
    """What to tell a person about a chosen pair: the plainest of the signs that speak for it."""
    sign = dict(zip(FEATURES, columns, strict=True))
    topic = sign["shared"] >= TELLING_BITS * SHARED_UNITS
    answers = (sign["addressed_by"] > 0) | ((sign["candidate_question"] > 0) & ~topic)
    reason = np.select(
        [
            back == 0,
            sign["same_author"] > 0,
            sign["addresses_author"] > 0,
            answers,
            topic,
        ],
        [
            reasons.ROOT,
            reasons.CONTINUATION,
            reasons.MENTION,
            reasons.ANSWER,
            reasons.TOPIC,
        ],
        reasons.TIME,
    )
    return reason.astype(np.uint8)


TELLING_BITS: Final = 5
"""Shared words are worth telling from here on: one word in 32 messages has as much."""

ARTEFACT: Final = Path(__file__).with_name("linker.npz")


@cache
def default_linker() -> Linker:
    """The linker that is used when none is named."""
    if not ARTEFACT.exists():
        return KindLinker(RuleLinker())
    learnt = learnt_linker(ARTEFACT)
    return KindLinker(learnt, CloseLinker(learnt))


def learnt_linker(path: Path) -> LearntLinker:
    """The linker in a file that `train.py` wrote."""
    ensembles = load(path)
    if any(trees.names != FEATURES for trees in ensembles.values()):
        raise ValueError(f"{path.name} was trained on other features: run grouping/train.py")
    return LearntLinker(ensembles["calling"], ensembles["quiet"])
