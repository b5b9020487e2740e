"""How well a grouping agrees with people's: the measures of the disentanglement literature.

Belongs here: scores of predicted against gold conversations and links. Does not belong here:
making either. All are percentages, higher is better; conversations are compared as sets, their
names do not matter. One-to-one needs SciPy, which comes with the development dependencies.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Set
from dataclasses import dataclass
from math import log2
from typing import Any


@dataclass(slots=True, frozen=True)
class Agreement:
    """Kummerfeld et al. 2019, section 5, names these measures and argues for them."""

    variation: float  # 100 × (1 − variation of information / log2 n)
    one_to_one: float  # share of messages covered by the best matching of conversations
    exact: float  # F1 of conversations of two messages and more that agree entirely
    link: float | None  # F1 of parent links, a root linking to itself; None without gold links

    def __str__(self) -> str:
        link = "–" if self.link is None else f"{self.link:.1f}"
        return (
            f"VI {self.variation:.1f}  1-1 {self.one_to_one:.1f}  "
            f"exact F {self.exact:.1f}  link F {link}"
        )


def agreement(
    gold: Mapping[Any, Hashable],
    predicted: Mapping[Any, Hashable],
    gold_links: Set[Any] | None = None,
    predicted_links: Set[Any] = frozenset(),
) -> Agreement:
    """Scores over the messages that `gold` knows; keys are message ids, values conversations."""
    return Agreement(
        _variation(gold, predicted),
        _one_to_one(gold, predicted),
        _exact(gold, predicted),
        None if gold_links is None else _harmonic(gold_links, predicted_links),
    )


def _harmonic(gold: Set[Hashable], found: Set[Hashable]) -> float:
    """F1 of two sets, in percent."""
    together = len(gold) + len(found)
    return 200 * len(gold & found) / together if together else 100.0


def _cells(
    gold: Mapping[Any, Hashable], predicted: Mapping[Any, Hashable]
) -> Counter[tuple[Hashable, Hashable]]:
    return Counter((gold[key], predicted[key]) for key in gold)


def _variation(gold: Mapping[Any, Hashable], predicted: Mapping[Any, Hashable]) -> float:
    n = len(gold)
    if n < 2:
        return 100.0
    golds = Counter(gold.values())
    founds = Counter(predicted[key] for key in gold)
    distance = -sum(
        count / n * (log2(count / golds[g]) + log2(count / founds[p]))
        for (g, p), count in _cells(gold, predicted).items()
    )
    return 100 * (1 - distance / log2(n))


def _one_to_one(gold: Mapping[Any, Hashable], predicted: Mapping[Any, Hashable]) -> float:
    import numpy as np
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    cells = _cells(gold, predicted)
    rows = {g: i for i, g in enumerate(dict.fromkeys(g for g, _ in cells))}
    columns = {p: i for i, p in enumerate(dict.fromkeys(p for _, p in cells))}
    at = [(rows[g], columns[p], count) for (g, p), count in cells.items()]
    edges = coo_matrix(
        ([1] * len(at), ([r for r, _, _ in at], [len(rows) + c for _, c, _ in at])),
        shape=(len(rows) + len(columns),) * 2,
    )
    # Channels share no conversation, so the matching falls into independent small ones.
    _, island = connected_components(edges, directed=False)
    members: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for r, c, count in at:
        members[int(island[r])].append((r, c, count))
    matched = 0.0
    for cell in members.values():
        r_of = {r: i for i, r in enumerate(dict.fromkeys(r for r, _, _ in cell))}
        c_of = {c: i for i, c in enumerate(dict.fromkeys(c for _, c, _ in cell))}
        table = np.zeros((len(r_of), len(c_of)))
        for r, c, count in cell:
            table[r_of[r], c_of[c]] = count
        matched += float(table[linear_sum_assignment(table, maximize=True)].sum())
    return 100 * matched / len(gold) if gold else 100.0


def _exact(gold: Mapping[Any, Hashable], predicted: Mapping[Any, Hashable]) -> float:
    def several(of: Mapping[Any, Hashable]) -> set[frozenset[Hashable]]:
        sets: dict[Hashable, set[Hashable]] = defaultdict(set)
        for key in gold:
            sets[of[key]].add(key)
        return {frozenset(s) for s in sets.values() if len(s) > 1}

    return _harmonic(several(gold), several(predicted))
