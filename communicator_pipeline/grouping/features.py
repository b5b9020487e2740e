"""What speaks for one message answering another: candidates and the numbers that describe them.

Belongs here: pruning a window to the few candidates worth a look, and the features of each
(message, candidate) pair. Does not belong here: what the numbers are worth (`trees.py`, learnt by
`train.py`).

No feature knows a word's identity, and none knows absolute time: gaps count relative to the
channel's recent pace, so that a busy channel and a slow one look alike. Everything is computed
from the message's window, with integer sums, so that it does not depend on what else is in a call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from communicator_pipeline.grouping import flow as f
from communicator_pipeline.grouping.flow import (
    NOBODY,
    WINDOW,
    Array,
    Bytes,
    Codes,
    Flags,
    Flow,
    Ints,
    behind,
)

Matrix = npt.NDArray[np.float32]

CANDIDATES: Final = 12
"""Candidates per message, the message itself (a root) among them."""

ROWS_AT_ONCE: Final = 4_096
"""Rows of a chunk: its (rows, WINDOW) matrices stay within the processor's cache."""

SHARED_BYTES: Final = 3
"""Shortest token that counts as shared: one ideograph, two Cyrillic or three Latin letters."""
SHARED_COUNT: Final = 6
"""A token that more messages of the window have than this is no sign of a shared topic."""
SHARED_UNITS: Final = 8
"""Weights of shared tokens are summed as integers of 1/8 bit."""

FEW: Final = 4
"""Added to the number of messages that the share of calls is taken of: two do not make a style."""

LONG_SILENCE: Final = 16.0
"""Octaves of pace: what is said of a pause whose beginning lies before the window."""

_CUE_NAMES: Final = ("greeting", "thanks", "assent", "asks", "connective")

FEATURES: Final[tuple[str, ...]] = (
    # the pair; 0 for the message itself unless said otherwise
    "is_root",
    "distance",
    "gap",
    "gap_to_own",
    "silence",
    "same_author",
    "latest_of_author",
    "spoke_twice_since",
    "own_since",
    "addresses_author",
    "addresses_other",
    "addressed_by",
    "addresses_someone_else",
    "same_addressee",
    "same_call",
    "calls_me_since",
    "answered_since",
    "exchange_distance",
    "exchanges",
    "my_last_addressee",
    "shared",
    "shared_rest",
    "candidate_silence",
    "candidate_first_of_author",
    "candidate_continues",
    "candidate_continued",
    "i_spoke_next",
    "candidate_length",
    "candidate_question",
    "candidate_link",
    *(f"candidate_{cue}" for cue in _CUE_NAMES),
    "candidate_clarity",
    # the message, the same for all its candidates
    "length",
    "question",
    "link",
    *_CUE_NAMES,
    "clarity",
    "unknown_call",
    "last_gap",
    "own_gap",
    "own_distance",
    "own_count",
    "people",
    "calls",
    "window",
    "calls_me",
    "shared_most",
)


@dataclass(slots=True, frozen=True)
class Pairs:
    """m messages with CANDIDATES candidates each; column 0 is the message itself."""

    distance: Ints  # (m, CANDIDATES): messages back, 0 for itself, -1 for no candidate
    features: Matrix  # (len(FEATURES), m * CANDIDATES): one feature's values lie together


@dataclass(slots=True, frozen=True)
class _Turns:
    """Who spoke before and after, per message of the flow; -1 or a huge index for never."""

    before: Ints  # the author's message before it in the channel
    after: Ints  # the author's next message in the channel
    after_next: Ints  # the one after that
    ordinal: Ints  # rank among the author's messages in the channel


def _turns(flow: Flow) -> _Turns:
    n = len(flow)
    order = np.lexsort((np.arange(n), flow.author, flow.channel))
    same = np.zeros(n, np.bool_)
    same[1:] = (flow.author[order[1:]] == flow.author[order[:-1]]) & (
        flow.channel[order[1:]] == flow.channel[order[:-1]]
    )
    before = np.full(n, -1)
    after = np.full(n, 2 * n + WINDOW)
    later, earlier = order[1:][same[1:]], order[:-1][same[1:]]
    before[later] = earlier
    after[earlier] = later
    after_next = np.full(n, 2 * n + WINDOW)
    after_next[earlier] = after[later]
    ordinal = np.empty(n, np.int64)
    starts = np.flatnonzero(~same)
    ordinal[order] = np.arange(n) - np.repeat(starts, np.diff(starts, append=n))
    return _Turns(before, after, after_next, ordinal)


@dataclass(slots=True, frozen=True)
class _Shared:
    """Tokens that a message shares with one of its window, ordered by the message."""

    row: Ints
    distance: Ints
    weight: Ints  # in 1/SHARED_UNITS bit


def _shared(flow: Flow) -> _Shared:
    """Rare words in common: a token counts the more, the fewer messages of the window have it."""
    n = len(flow)
    row = np.repeat(np.arange(n), np.diff(flow.token_offset))
    wide = flow.token_bytes >= SHARED_BYTES
    row, token = row[wide], flow.token[wide].astype(np.int64)
    width = flow.token_bytes[wide]
    # One ordering serves all: occurrences of a token in a channel lie together, by time.
    place = (token * (flow.channel.max(initial=0) + 1) + flow.channel[row]) * (n + 1) + row
    order = np.argsort(place, kind="stable")
    place, row, width = place[order], row[order], width[order]
    once = np.ones(len(place), np.bool_)
    once[1:] = place[1:] != place[:-1]
    place, row, width = place[once], row[once], width[once]
    group = place - row
    fresh = np.ones(len(place), np.bool_)
    fresh[1:] = group[1:] != group[:-1]
    oldest = flow.first[row]
    at = np.arange(len(place))
    # Occurrences within the window, as far as it matters how many they are.
    count = np.zeros(len(place), np.int64)
    open_ = np.ones(len(place), np.bool_)
    for back in range(1, SHARED_COUNT + 2):
        earlier = np.maximum(at - back, 0)
        open_ &= (at >= back) & (group[earlier] == group) & (row[earlier] >= oldest)
        count += open_
    size = row - oldest
    bits = np.log2((size + 1) / np.maximum(count, 1)) * np.minimum(width, 8) / 8
    weight = np.rint(bits * SHARED_UNITS).astype(np.int64)
    rows, distances, weights = [], [], []
    for back in range(1, SHARED_COUNT + 1):
        hit = np.flatnonzero((count >= back) & (count <= SHARED_COUNT) & (weight > 0))
        rows.append(row[hit])
        distances.append(row[hit] - row[hit - back])
        weights.append(weight[hit])
    all_rows = np.concatenate(rows)
    by_row = np.argsort(all_rows, kind="stable")
    return _Shared(
        all_rows[by_row], np.concatenate(distances)[by_row], np.concatenate(weights)[by_row]
    )


@dataclass(slots=True, frozen=True)
class _Views:
    """Windows over the flow's arrays, (n, WINDOW), nearest last."""

    author: Array
    addressee: Array
    second: Array
    call: Array
    calling: Array
    after: Array
    gap: Array  # µs from each message to the next of the flow


def pairs(flow: Flow, rows: Ints) -> Iterator[tuple[Ints, Pairs]]:
    """Chunks of `rows` with the candidates of each and their description."""
    if len(rows) == 0:
        return
    turns, shared = _turns(flow), _shared(flow)
    views = _Views(
        behind(flow.author, -2),
        behind(np.ascontiguousarray(flow.addressed[:, 0]), -2),
        behind(np.ascontiguousarray(flow.addressed[:, 1]), -2),
        behind(flow.call, -2),
        behind((flow.call >= 0) | (flow.clarity[:, 0] >= f.CALLED), 0),
        behind(turns.after, 0),
        behind(np.diff(flow.time, append=flow.time[-1:]), 0),
    )
    for lo in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[lo : lo + ROWS_AT_ONCE]
        yield part, _describe(flow, part, turns, shared, views)


def _overlap(shared: _Shared, rows: Ints) -> Codes:
    """(m, WINDOW) summed weights of the tokens shared with each message of the window."""
    lo, hi = np.searchsorted(shared.row, [rows[0], rows[-1] + 1])
    line = np.searchsorted(rows, shared.row[lo:hi])
    mine = rows[np.minimum(line, len(rows) - 1)] == shared.row[lo:hi]
    cell = line[mine] * WINDOW + WINDOW - shared.distance[lo:hi][mine]
    total = np.bincount(cell, shared.weight[lo:hi][mine], minlength=len(rows) * WINDOW)
    return total.astype(np.int32).reshape(len(rows), WINDOW)


def _choose(worth: npt.NDArray[np.int32], reach: Flags) -> Ints:
    """Columns of the most promising candidates, nearest first; -1 where there are too few."""
    column = np.arange(WINDOW, dtype=np.int32)
    # The column in the low bits makes every value of a row different: no ties to break.
    key = np.where(reach, worth * WINDOW + column, np.int32(-1))
    best = np.partition(key, WINDOW - (CANDIDATES - 1), axis=1)[:, WINDOW - (CANDIDATES - 1) :]
    chosen = np.where(best >= 0, best % WINDOW, -1)
    return np.sort(chosen, axis=1)[:, ::-1].astype(np.int64)


def _since(marks: Flags) -> npt.NDArray[np.uint8]:
    """(m, WINDOW): how many marks lie nearer than each column."""
    running = np.cumsum(marks[:, ::-1], axis=1, dtype=np.uint8)[:, ::-1]
    return running - marks


def _octaves(span: Array, pace: npt.NDArray[np.float64]) -> Matrix:
    """A span of time (µs) in octaves of the pace; nothing is nearer than 1/16 of it.

    The floor makes coarse clocks (IRC logs know only minutes) and fine ones agree.
    """
    octaves = np.log2(np.maximum(span / pace, 1 / 16))
    # Whole sixteenths: the last bit of a logarithm may differ between processors.
    return np.asarray(np.rint(octaves * 16) / 16, np.float32)


def _silences(gaps: Array) -> Array:
    """(m, WINDOW): the longest pause between each column and the message.

    Column k holds the pause after its message, so that the nearest holds the one before the
    message itself.
    """
    return np.maximum.accumulate(gaps[:, ::-1], axis=1)[:, ::-1]


def _describe(flow: Flow, rows: Ints, turns: _Turns, shared: _Shared, views: _Views) -> Pairs:
    m = len(rows)
    column = np.arange(WINDOW)[None, :]
    first = flow.first[rows]
    reach = column >= (WINDOW - (rows - first))[:, None]
    author, addressee = views.author[rows], views.addressee[rows]
    me = flow.author[rows, None]
    mine = (author == me) & reach
    my_name = flow.name[rows, None]
    to_me = (addressee == me) | (views.second[rows] == me)
    to_me |= (views.call[rows] == my_name) & (my_name >= 0)
    to_me &= reach & ~mine
    to = flow.addressed[rows]
    of_addressee = (author == to[:, :1]) | (author == to[:, 1:])  # NOBODY is no author
    latest = (views.after[rows] >= rows[:, None]) & reach
    same_to = (addressee == to[:, :1]) & (to[:, :1] != NOBODY)
    overlap = _overlap(shared, rows)
    worth = (
        column.astype(np.int32)
        + 48 * of_addressee
        + 32 * to_me
        + 24 * mine
        + 12 * latest
        + 12 * same_to
        + np.minimum(overlap, 160) // 4
    ).astype(np.int32)
    columns = _choose(worth, reach)

    there = np.concatenate([np.ones((m, 1), np.bool_), columns >= 0], axis=1)
    distance = np.concatenate([np.zeros((m, 1), np.int64), WINDOW - columns], axis=1)
    distance[~there] = 0
    other = rows[:, None] - distance
    column_of = np.where(distance > 0, WINDOW - distance, 0)

    def at(matrix: Array) -> Array:
        return np.take_along_axis(matrix, column_of, axis=1)

    pace = flow.pace[rows]
    gap = _octaves(flow.time[rows, None] - flow.time[other], pace[:, None])
    own = turns.before[rows]
    has_own = own >= first
    own_age = np.where(has_own, flow.time[rows] - flow.time[np.maximum(own, 0)], f.HORIZON)
    own_gap = _octaves(own_age, pace)
    previous = np.maximum(rows - 1, first)
    last_gap = _octaves(flow.time[rows] - flow.time[previous], pace)
    pause = np.diff(flow.time, prepend=flow.time[:1])
    their = flow.author[other]
    is_other = distance > 0
    addresses, addresses_other = _addressing(to, flow.clarity[rows], their)
    theirs, their_clarity = flow.addressed[other], flow.clarity[other]
    by, by_other = _addressing_back(theirs, their_clarity, me)
    called = (flow.call[other] == my_name) & (my_name >= 0)
    by = np.where(called, np.maximum(by, f.CALLED), by)
    exchange_distance, exchanges, answered = _exchanges(
        author, addressee, reach, me, their, column_of
    )
    my_last = _last_addressee(addressee, mine)
    best_shared = overlap.max(axis=1)
    cue_bits = [1 << bit for bit in range(len(_CUE_NAMES))]
    their_length = np.log2(1 + flow.length[other])
    next_one = np.minimum(other + 1, rows[:, None])
    before_other = turns.before[other]

    pair: dict[str, Array] = {
        "distance": distance,
        "gap": gap,
        "silence": np.where(is_other, _octaves(at(_silences(views.gap[rows])), pace[:, None]), 0),
        "candidate_silence": np.where(
            other > first[:, None], _octaves(pause[other], pace[:, None]), LONG_SILENCE
        ),
        "gap_to_own": gap - own_gap[:, None],
        "same_author": their == me,
        "latest_of_author": turns.after[other] >= rows[:, None],
        "spoke_twice_since": turns.after_next[other] < rows[:, None],
        "own_since": np.minimum(at(_since(mine)), 8),
        "addresses_author": addresses,
        "addresses_other": addresses_other,
        "addressed_by": by,
        "addresses_someone_else": by_other,
        "same_addressee": at(same_to),
        "same_call": (flow.call[other] == flow.call[rows, None]) & (flow.call[rows, None] >= 0),
        "calls_me_since": np.minimum(at(_since(to_me)), 8),
        "answered_since": answered,
        "exchange_distance": exchange_distance,
        "exchanges": exchanges,
        "my_last_addressee": (their == my_last[:, None]) & (my_last[:, None] != NOBODY),
        "shared": at(overlap),
        "shared_rest": best_shared[:, None] - at(overlap),
        "candidate_first_of_author": before_other < first[:, None],
        "candidate_continues": (before_other == other - 1) & (other - 1 >= first[:, None]),
        "candidate_continued": (flow.author[next_one] == their) & (next_one < rows[:, None]),
        "i_spoke_next": (flow.author[next_one] == me) & (next_one < rows[:, None]),
        "candidate_length": their_length,
        "candidate_question": flow.question[other],
        "candidate_link": flow.link[other],
        "candidate_clarity": their_clarity[..., 0],
    }
    for bit, cue in zip(cue_bits, _CUE_NAMES, strict=True):
        pair[f"candidate_{cue}"] = (flow.cue[other] & bit) > 0
    alone: dict[str, Array] = {
        "length": np.log2(1 + flow.length[rows]),
        "question": flow.question[rows],
        "link": flow.link[rows],
        "clarity": flow.clarity[rows, 0],
        "unknown_call": (flow.call[rows] >= 0) & (flow.clarity[rows, 0] < f.CALLED),
        "last_gap": last_gap,
        "own_gap": own_gap,
        "own_distance": np.where(has_own, rows - own, 2 * WINDOW),
        "own_count": np.minimum(mine.sum(axis=1), 16),
        "people": latest.sum(axis=1),
        "calls": (views.calling[rows] & reach).sum(axis=1) / (rows - first + FEW),
        "window": rows - first,
        "calls_me": np.minimum((to_me & (_since(mine) == 0)).sum(axis=1), 8),
        "shared_most": best_shared,
    }
    for bit, cue in zip(cue_bits, _CUE_NAMES, strict=True):
        alone[cue] = (flow.cue[rows] & bit) > 0
    features = np.empty((len(FEATURES), m, CANDIDATES), np.float32)
    for index, feature in enumerate(FEATURES):
        if feature == "is_root":
            features[index] = ~is_other
        elif feature in pair:
            features[index] = np.where(is_other, pair[feature], 0)
        else:
            features[index] = alone[feature][:, None]
    return Pairs(np.where(there, distance, -1), features.reshape(len(FEATURES), -1))


def _addressing(to: Codes, clarity: Bytes, their: Codes) -> tuple[Bytes, Bytes]:
    """How clearly a message addresses each candidate's author, and how clearly somebody else."""
    hit = [their == to[:, slot, None] for slot in range(2)]
    level = [clarity[:, slot, None] for slot in range(2)]
    this = np.maximum(np.where(hit[0], level[0], 0), np.where(hit[1], level[1], 0))
    else_ = np.maximum(np.where(hit[0], 0, level[0]), np.where(hit[1], 0, level[1]))
    return this.astype(np.uint8), else_.astype(np.uint8)


def _addressing_back(to: Codes, clarity: Bytes, me: Codes) -> tuple[Bytes, Bytes]:
    """How clearly each candidate addresses the message's author, and how clearly somebody else."""
    hit = to == me[:, :, None]
    this = np.where(hit, clarity, 0).max(axis=2)
    else_ = np.where(hit, 0, clarity).max(axis=2)
    return this.astype(np.uint8), else_.astype(np.uint8)


def _last_addressee(addressee: Array, mine: Flags) -> Codes:
    """Whom the message's author addressed last within the window, NOBODY if nobody."""
    speaking = mine & (addressee >= 0)
    nearest = WINDOW - 1 - np.argmax(speaking[:, ::-1], axis=1)
    line = np.arange(len(mine))
    return np.where(speaking[line, nearest], addressee[line, nearest], NOBODY)


def _exchanges(
    author: Array,
    addressee: Array,
    reach: Flags,
    me: Codes,
    their: Codes,
    column_of: Ints,
) -> tuple[Ints, Ints, Ints]:
    """When the two authors last addressed each other, how often, and who answered the candidate.

    Each (m, CANDIDATES): messages back to the last exchange (2 * WINDOW if none), their number,
    and how many messages since the candidate address its author.
    """
    m, width = their.shape
    last = np.full((m, width), 2 * WINDOW)
    count = np.zeros((m, width), np.int64)
    answered = np.zeros((m, width), np.int64)
    from_me = (author == me) & reach
    to_me = (addressee == me) & reach
    column = np.arange(WINDOW)[None, :]
    for candidate in range(1, width):
        who = their[:, candidate, None]
        to_them = addressee == who
        between = (from_me & to_them) | (to_me & (author == who))
        count[:, candidate] = np.minimum(between.sum(axis=1), 8)
        back = 1 + np.argmax(between[:, ::-1], axis=1)
        last[:, candidate] = np.where(count[:, candidate] > 0, back, 2 * WINDOW)
        newer = to_them & reach & (column > column_of[:, candidate, None])
        answered[:, candidate] = np.minimum(newer.sum(axis=1), 8)
    return last, count, answered
