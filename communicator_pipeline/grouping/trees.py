"""A small ensemble of oblivious decision trees as plain arrays.

Belongs here: evaluating the ensemble, and its file. Does not belong here: what the features mean
(`features.py`) or how the trees were learnt (`train.py`).

An oblivious tree asks the same question everywhere on a level, so that a tree of depth d is d
comparisons of whole columns and one look-up among 2^d leaves: numpy does that at the speed of
memory, with no compiled extension and no pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]


@dataclass(slots=True, frozen=True)
class ObliviousTrees:
    """T trees of depth D over named features."""

    names: tuple[str, ...]
    feature: npt.NDArray[np.int16]  # (T, D): index into names
    threshold: npt.NDArray[np.float32]  # (T, D): a value above it sets the level's bit
    leaf: npt.NDArray[np.float32]  # (T, 2**D): the lowest bit is the first level's

    def score(self, columns: npt.NDArray[np.float32]) -> Scores:
        """Sum of the leaves each pair falls into; `columns` is (len(names), pairs)."""
        pairs = columns.shape[1]
        total = np.zeros(pairs, np.float32)
        where = np.empty(pairs, np.uint8)
        above = np.empty(pairs, np.bool_)
        bit = above.view(np.uint8)
        rows = list(columns)
        for feature, threshold, leaf in zip(
            self.feature.tolist(), self.threshold, self.leaf, strict=True
        ):
            where.fill(0)
            # From the last level down, doubling as it goes: adding bytes is vectorised
            # everywhere, shifting them is not.
            for index, limit in zip(reversed(feature), threshold[::-1], strict=True):
                np.greater(rows[index], limit, out=above)
                np.add(where, where, out=where)
                np.bitwise_or(where, bit, out=where)
            total += leaf.take(where)
        return total

    def first(self, count: int) -> ObliviousTrees:
        """The same ensemble as it was after so many trees."""
        return ObliviousTrees(
            self.names, self.feature[:count], self.threshold[:count], self.leaf[:count]
        )

    def after(self, count: int) -> ObliviousTrees:
        """The trees that `first` leaves out."""
        return ObliviousTrees(
            self.names, self.feature[count:], self.threshold[count:], self.leaf[count:]
        )

    def with_step(self, name: str, amount: float) -> ObliviousTrees:
        """One tree more, at the front, which adds `amount` where a 0-or-1 feature is 1."""
        depth = self.feature.shape[1]
        leaf = np.zeros((1, 2**depth), np.float32)
        leaf[0, -1] = amount
        index = self.names.index(name)
        return ObliviousTrees(
            self.names,
            np.concatenate([np.full((1, depth), index, np.int16), self.feature]),
            np.concatenate([np.full((1, depth), 0.5, np.float32), self.threshold]),
            np.concatenate([leaf, self.leaf]),
        )


def save(path: Path, ensembles: Mapping[str, ObliviousTrees]) -> None:
    """Writes named ensembles into one npz file."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for title, trees in ensembles.items():
        arrays[f"{title}.names"] = np.array(trees.names)
        arrays[f"{title}.feature"] = trees.feature
        arrays[f"{title}.threshold"] = trees.threshold
        arrays[f"{title}.leaf"] = trees.leaf
    np.savez_compressed(path, allow_pickle=False, **arrays)


def load(path: Path) -> dict[str, ObliviousTrees]:
    """Ensembles by name, as `save` wrote them."""
    with np.load(path, allow_pickle=False) as file:
        titles = [key.removesuffix(".names") for key in file.files if key.endswith(".names")]
        return {
            title: ObliviousTrees(
                tuple(str(name) for name in file[f"{title}.names"]),
                file[f"{title}.feature"],
                file[f"{title}.threshold"],
                file[f"{title}.leaf"],
            )
            for title in titles
        }
