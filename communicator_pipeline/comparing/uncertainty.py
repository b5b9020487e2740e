"""How far a figure can be trusted: intervals of 95 % for shares and means.

Belongs here: Wilson's interval and the bootstrap. Does not belong here: which figures there are
(`figures.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

FEW = 30
"""Observations below which a figure is said to rest on few: the usual rule of thumb for means; a
share's interval is then at least 30 points wide around one half."""

_Z = 1.959964  # the normal distribution's 97.5 % quantile
_DRAWS = 2_000
_SEED = 20_261_128  # any: the same figures give the same interval


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `of`, and between which shares (0…1) the true one lies; None without any."""

    hits: int
    of: int
    low: float | None
    high: float | None

    @property
    def value(self) -> float | None:
        return self.hits / self.of if self.of else None


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of `of` observations, and between which values the true one lies; None without any,
    and without an interval where there are fewer than two independent ones."""

    value: float | None
    of: int
    low: float | None
    high: float | None


def share(hits: int, of: int) -> Share:
    """A share with Wilson's interval, which holds for few observations and shares near 0 or 1 too
    (E. B. Wilson, Probable Inference, 1927)."""
    if of == 0:
        return Share(0, 0, None, None)
    p, spread = hits / of, _Z**2 / of
    middle = (p + spread / 2) / (1 + spread)
    half = _Z * sqrt(p * (1 - p) / of + spread / (4 * of)) / (1 + spread)
    return Share(hits, of, round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4))


def mean(values: Sequence[float], groups: Sequence[str]) -> Mean:
    """A mean with a bootstrapped interval. What belongs to one group (a conversation) is drawn
    together: its answers are like each other, and are no independent observations."""
    if not len(values):
        return Mean(None, 0, None, None)
    found = np.asarray(values, float)
    names, place = np.unique(np.asarray(groups, object).astype(str), return_inverse=True)
    value = round(float(found.mean()), 4)
    if len(names) < 2:
        return Mean(value, len(found), None, None)
    sums, counts = np.bincount(place, found), np.bincount(place)
    drawn = np.random.default_rng(_SEED).integers(0, len(names), (_DRAWS, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Mean(value, len(found), round(float(low), 4), round(float(high), 4))
