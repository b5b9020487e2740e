"""Trains the label model from what people set, and says on conversations held out what it is worth.

Belongs here: training, with scikit-learn, which only this module asks for. Does not belong here:
what the model does (`label_model.py`), where corrections come from (`chain/label_models.py`).

What is fitted is the difference between what a person set and what the offline analyser says. What
nobody corrected counts a little as right as it is, so that words which stand everywhere move
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from communicator_pipeline.analysis.label_model import (
    MOST_POINTS,
    LabelModel,
    Seen,
    moved_to,
    scale,
    shares,
)

VERSION = "1"
"""Raised when the same corrections are to teach something else."""

FEWEST = 10
"""Corrections below which nothing is learnt. Measured on the labelled conversations of the tests,
one category of which a person sorts elsewhere: see `test_train_label_model.py`."""

FOLDS = 5
RIGHT_AT_LEAST = 2 / 3
"""Share of held-out conversations that must be sorted as the person did, as memories need it."""

BETTER_BY = 0.9
"""The mean error of held-out priorities must be at most this share of what it was, and better by
three standard errors: less may be chance."""

SEED = 7
_ALPHA = 0.1  # ridge; see the measurement named at FEWEST
_LEFT_WEIGHT = 1.0  # all that nobody corrected counts as much as all that somebody did
_IN_AT_LEAST = 2  # corrected conversations: what stands in one alone may be anything, secrets too
_MOST_WORDS = 4_000
_POINTS = 100.0


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation that a person labelled; None: they left it to the analyser."""

    seen: Seen
    category: str | None = None
    priority: int | None = None  # 0..100


@dataclass(frozen=True, slots=True)
class Scores:
    """What the corrections taught, measured on conversations held out. Without enough of them
    nothing was measured, and `before` and `after` are None."""

    corrections: int = 0
    before: float | None = None  # category: share that is right; priority: mean absolute error
    after: float | None = None
    used: bool = False

    @property
    def verdict(self) -> str:
        """Whether it is in use, in words."""
        if self.used:
            return "in use"
        if self.before is None:
            return f"not in use: it takes {FEWEST} corrections"
        return "not in use: it is not better on conversations that it has not seen"


@dataclass(frozen=True, slots=True)
class Trained:
    model: LabelModel
    category: Scores
    priority: Scores


def train(
    examples: Sequence[Example], left: Sequence[Sequence[str]], names: tuple[str, ...]
) -> Trained:
    """The model that these corrections teach; what is no better on held-out conversations than the
    analyser alone is left out of it. `left`: features of conversations that nobody corrected.
    `names`: the categories in the taxonomy's order. The same input gives the same model."""
    sorted_ones = [e for e in examples if e.category in names]
    by_category, category_scores, held_out = _category(sorted_ones, left, names)
    in_use = {id(e): place for e, place in zip(sorted_ones, held_out, strict=True)}
    ranked = [e for e in examples if e.priority is not None]
    # From the category that the model would give it without having seen it: its points count too.
    base = [e.seen.priorities[in_use.get(id(e), e.seen.place)] for e in ranked]
    by_priority, priority_scores = _priority(ranked, base, left)
    return Trained(LabelModel(names, by_category, by_priority), category_scores, priority_scores)


def _category(
    examples: Sequence[Example], left: Sequence[Sequence[str]], names: tuple[str, ...]
) -> tuple[dict[str, tuple[float, ...]], Scores, list[int]]:
    """The weights, what they are worth, and the category in use of each, sorted unseen."""
    as_it_is = [e.seen.place for e in examples]
    if len(examples) < FEWEST:
        return {}, Scores(len(examples)), as_it_is
    wanted = np.array([names.index(e.category or "") for e in examples])
    base = np.array([shares(e.seen.scores, e.seen.place) for e in examples])
    target = np.eye(len(names))[wanted] - base
    words, matrix = _matrix([e.seen.features for e in examples], left)
    by_words = _held_out(matrix, target)
    held_out = [moved_to(*row) for row in zip(base, by_words, as_it_is, strict=True)]
    before = float(np.mean(np.array(as_it_is) == wanted))
    after = float(np.mean(np.array(held_out) == wanted))
    if not (after > before and after >= RIGHT_AT_LEAST):
        return {}, Scores(len(examples), before, after), as_it_is
    weights = _weights(words, _fit(matrix, target))
    return (
        {word: tuple(row) for word, row in weights.items()},
        Scores(len(examples), before, after, True),
        held_out,
    )


def _priority(
    examples: Sequence[Example], base: Sequence[int], left: Sequence[Sequence[str]]
) -> tuple[dict[str, float], Scores]:
    if len(examples) < FEWEST:
        return {}, Scores(len(examples))
    offset = np.array([[float(e.priority or 0)] for e in examples]) - np.array(base)[:, None]
    words, matrix = _matrix([e.seen.features for e in examples], left)
    points = np.clip(_POINTS * _held_out(matrix, offset / _POINTS), -MOST_POINTS, MOST_POINTS)
    was, error = np.abs(offset), np.abs(points - offset)
    before, after = float(np.mean(was)), float(np.mean(error))
    chance = 3 * float(np.std(was - error)) / len(examples) ** 0.5
    if not (after < before * BETTER_BY and before - after > chance):
        return {}, Scores(len(examples), before, after)
    weights = _weights(words, _POINTS * _fit(matrix, offset / _POINTS))
    return {word: row[0] for word, row in weights.items()}, Scores(
        len(examples), before, after, True
    )


def _matrix(
    labelled: Sequence[Sequence[str]], left: Sequence[Sequence[str]]
) -> tuple[list[str], tuple[np.ndarray, np.ndarray]]:
    """The words that are weighed, and a row per conversation, scaled as the model scales them: of
    those that were labelled, and of those that were left as they were."""
    counts = Counter(feature for found in labelled for feature in found)
    often = [(count, feature) for feature, count in counts.items() if count >= _IN_AT_LEAST]
    words = sorted(f for _, f in sorted(often, key=lambda one: (-one[0], one[1]))[:_MOST_WORDS])
    place = {feature: column for column, feature in enumerate(words)}

    def rows(conversations: Sequence[Sequence[str]]) -> np.ndarray:
        found = np.zeros((len(conversations), len(words)))
        for row, said in enumerate(conversations):
            known = [place[feature] for feature in said if feature in place]
            found[row, known] = scale(said)
        return found

    return words, (rows(labelled), rows(left))


def _fit(matrix: tuple[np.ndarray, np.ndarray], target: np.ndarray) -> np.ndarray:
    """Weights (words × outputs) that bring the labelled rows to their target, and the rest to 0."""
    from sklearn.linear_model import Ridge  # takes a second to import, and only training needs it

    labelled, left = matrix
    if not labelled.shape[1]:
        return np.zeros((0, target.shape[1]))
    share = min(1.0, _LEFT_WEIGHT * len(labelled) / max(len(left), 1))
    ridge = Ridge(alpha=_ALPHA, fit_intercept=False, solver="cholesky").fit(
        np.vstack([labelled, left]),
        np.vstack([target, np.zeros((len(left), target.shape[1]))]),
        sample_weight=np.concatenate([np.ones(len(labelled)), np.full(len(left), share)]),
    )
    return np.asarray(ridge.coef_).reshape(target.shape[1], -1).T


def _held_out(matrix: tuple[np.ndarray, np.ndarray], target: np.ndarray) -> np.ndarray:
    """What each labelled row is moved by, by a model that has not seen it. A conversation is one
    row, so it never stands on both sides."""
    from sklearn.model_selection import KFold

    labelled, left = matrix
    moved = np.zeros_like(target)
    for known, unseen in KFold(FOLDS, shuffle=True, random_state=SEED).split(labelled):
        moved[unseen] = labelled[unseen] @ _fit((labelled[known], left), target[known])
    return moved


def _weights(words: Sequence[str], fitted: np.ndarray) -> dict[str, list[float]]:
    """Weights by word, rounded so that no machine's last digits make another model."""
    rounded = np.round(fitted, 4) + 0.0
    return {
        word: row.tolist() for word, row in zip(words, rounded, strict=True) if np.abs(row).any()
    }
