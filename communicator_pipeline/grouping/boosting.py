"""Gradient boosting of oblivious trees for a choice among candidates.

Belongs here: the learning itself, from feature columns to `ObliviousTrees`. Does not belong here:
where the examples come from (`train.py`).

The loss is that of a softmax over each message's candidates: minus the logarithm of the
probability that falls on any of its true parents. Trees grow level by level, each level the one
question that helps most over all leaves together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from communicator_pipeline.grouping.trees import ObliviousTrees

Floats = npt.NDArray[np.float64]


@dataclass(slots=True, frozen=True)
class Settings:
    trees: int
    rate: float
    row_share: float  # messages per tree
    smoothing: float  # added to each leaf's curvature
    depth: int = 6
    bins: int = 40
    column_share: float = 0.5  # features per tree
    seed: int = 7


@dataclass(slots=True, frozen=True)
class Examples:
    """m messages with c candidates each."""

    columns: npt.NDArray[np.float32]  # (features, m * c)
    there: npt.NDArray[np.bool_]  # (m, c): is a candidate
    right: npt.NDArray[np.bool_]  # (m, c): is a true parent; at least one per row
    weight: Floats  # (m,)


def borders_of(column: npt.NDArray[np.float32], bins: int) -> npt.NDArray[np.float32]:
    """At most bins - 1 thresholds between values that occur, at quantiles of the column."""
    values, counts = np.unique(column, return_counts=True)
    middle = ((values[1:] + values[:-1]) / 2).astype(np.float32)
    if len(middle) < bins:
        return middle
    share = np.cumsum(counts)[:-1] / counts.sum()
    # Rare values matter here (most candidates are far away), so half of the thresholds are
    # spread over the values and not over their mass.
    by_mass = np.searchsorted(share, np.linspace(0, 1, bins // 2 + 1)[1:-1])
    by_value = np.linspace(0, len(middle) - 1, bins // 2).astype(int)
    chosen = np.unique(np.concatenate([np.minimum(by_mass, len(middle) - 1), by_value]))
    return np.asarray(middle[chosen])


def softmax(scores: Floats, there: npt.NDArray[np.bool_]) -> Floats:
    """Probabilities over each row's candidates, 0 where there is none."""
    masked = np.where(there, scores, -np.inf)
    odds = np.exp(masked - masked.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def slopes(scores: Floats, examples: Examples) -> tuple[Floats, Floats]:
    """First and second derivative of the loss by each pair's score."""
    chance = softmax(scores, examples.there)
    on_right = np.where(examples.right, chance, 0)
    wanted = on_right / np.maximum(on_right.sum(axis=1, keepdims=True), 1e-12)
    weight = examples.weight[:, None]
    return weight * (chance - wanted), weight * np.maximum(chance * (1 - chance), 1e-6)


def boost(
    names: tuple[str, ...],
    examples: Examples,
    settings: Settings,
) -> ObliviousTrees:
    """Trees that choose among candidates; the same for the same seed."""
    random = np.random.default_rng(settings.seed)
    borders = [borders_of(column, settings.bins) for column in examples.columns]
    binned = np.stack(
        [
            np.searchsorted(border, column, side="left").astype(np.uint8)
            for border, column in zip(borders, examples.columns, strict=True)
        ]
    )
    m, c = examples.there.shape
    scores = np.zeros((m, c))
    chosen, limits, leaves = [], [], []
    for _ in range(settings.trees):
        rows = np.flatnonzero(random.random(m) < settings.row_share)
        usable = np.array([i for i in range(len(names)) if len(borders[i])])
        some = max(1, round(len(usable) * settings.column_share))
        columns = np.sort(random.choice(usable, some, replace=False))
        first, second = slopes(scores, examples)
        pick = (rows[:, None] * c + np.arange(c))[examples.there[rows]]
        feature, bins = _grow(binned, pick, first.ravel(), second.ravel(), columns, settings)
        where = np.zeros(m * c, np.uint8)
        for level, (index, bin_) in enumerate(zip(feature, bins, strict=True)):
            where |= (binned[index] > bin_).view(np.uint8) << np.uint8(level)
        size = 2**settings.depth
        slope = np.bincount(where[pick], first.ravel()[pick], size)
        curve = np.bincount(where[pick], second.ravel()[pick], size)
        leaf = -settings.rate * slope / (curve + settings.smoothing)
        scores += leaf[where].reshape(m, c)
        chosen.append(feature)
        limits.append([borders[i][b] for i, b in zip(feature, bins, strict=True)])
        leaves.append(leaf)
    return _trees(names, chosen, limits, leaves)


def _trees(
    names: tuple[str, ...],
    feature: list[list[int]],
    limits: list[list[np.float32]],
    leaves: list[Floats],
) -> ObliviousTrees:
    return ObliviousTrees(
        names,
        np.array(feature, np.int16),
        np.array(limits, np.float32),
        np.array(leaves, np.float32),
    )


def _grow(
    binned: npt.NDArray[np.uint8],
    pick: npt.NDArray[np.int64],
    first: Floats,
    second: Floats,
    columns: npt.NDArray[np.int64],
    settings: Settings,
) -> tuple[list[int], list[int]]:
    """Feature and bin of each level's question; the question is 'is the bin above this one'."""
    slope, curve = first[pick], second[pick]
    local = {int(index): binned[index][pick].astype(np.int64) for index in columns}
    width = settings.bins + 1
    where = np.zeros(len(pick), np.int64)
    feature: list[int] = []
    bins: list[int] = []
    for level in range(settings.depth):
        best = (-np.inf, 0, 0)
        cells = 2**level * width
        base = where * width
        for index, values in local.items():
            cell = base + values
            g = np.bincount(cell, slope, cells).reshape(-1, width)
            h = np.bincount(cell, curve, cells).reshape(-1, width)
            below_g, below_h = np.cumsum(g, axis=1), np.cumsum(h, axis=1)
            above_g, above_h = below_g[:, -1:] - below_g, below_h[:, -1:] - below_h
            gain = below_g**2 / (below_h + settings.smoothing)
            gain += above_g**2 / (above_h + settings.smoothing)
            total = gain.sum(axis=0)[:-1]
            bin_ = int(np.argmax(total))
            if total[bin_] > best[0]:
                best = (float(total[bin_]), index, bin_)
        _, index, bin_ = best
        where |= (local[index] > bin_).astype(np.int64) << level
        feature.append(index)
        bins.append(bin_)
    return feature, bins
