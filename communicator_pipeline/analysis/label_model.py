"""What corrections changed in how conversations are sorted and ranked: a small linear model
over words, added to what the offline analyser says.

Belongs here: the model, its bytes, and what it does to a category and a priority. Does not belong
here: its training (`train_label_model.py`) and what the analyser says without it (`offline.py`).

A weight says by how much a word moves a category's share of the points, or the priority. Without
words that people sorted by, nothing moves; so few corrections hardly change anything.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from communicator_pipeline.analysis.category import Choice
from communicator_pipeline.analysis.reading import Reading

PERSON, KIND = "@", "#"
"""What a feature that is no word begins with; no word does."""

MOST_FEATURES = 600
"""Features read of one conversation: what it is about is said by then."""

MOST_POINTS = 40
"""Points by which a priority is moved at most: what offline rules know is never all thrown away."""

ENOUGH = 0.2
"""Share that words must add to a category for a conversation to move there: else a conversation
that was undecided between two moves for words that stand everywhere."""

_SHOWN = 3  # words of a reason


def features(readings: Sequence[Reading], channel_kind: str) -> tuple[str, ...]:
    """What a conversation is told by: its distinct words and pairs of words, who wrote, and where.

    Only words of letters count: numbers, addresses and codes say who, not what, and may be secret.
    """
    found: dict[str, None] = {f"{KIND}{channel_kind}": None}
    for reading in readings:
        if not reading.turn.from_me:
            found[PERSON + reading.turn.author_id.replace("\0", "")] = None
        words = [t if t.isalpha() else "" for t in reading.tokens]
        found.update(dict.fromkeys(filter(None, words)))
        found.update(dict.fromkeys(f"{a} {b}" for a, b in pairwise(words) if a and b))
    return tuple(found)[:MOST_FEATURES]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the untrained offline analyser makes of one conversation, as training needs it."""

    features: tuple[str, ...]
    scores: tuple[float, ...]  # points by category, in the taxonomy's order
    place: int  # of the category that it chose
    priorities: tuple[int, ...]  # 0..100, were it sorted into each category


def shares(scores: Sequence[float], place: int) -> list[float]:
    """Each category's share of the points, 0..1; all of it for the chosen one if there are none."""
    total = sum(scores)
    if total <= 0:
        return [float(one == place) for one in range(len(scores))]
    return [points / total for points in scores]


def moved_to(base: Sequence[float], by_words: Sequence[float], was: int) -> int:
    """The place of the category that a conversation falls into once words have moved the shares. It
    stays where it was unless the words themselves speak for the other one."""
    place = max(range(len(base)), key=lambda one: (base[one] + by_words[one], one == was, -one))
    return place if by_words[place] >= ENOUGH else was


@dataclass(frozen=True)
class LabelModel:
    """Weights by feature. Either part may be empty: then it changes nothing."""

    names: tuple[str, ...] = ()  # the categories, in the taxonomy's order
    category: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # a weight per category
    priority: Mapping[str, float] = field(default_factory=dict)  # points

    @cached_property
    def digest(self) -> str:
        """Of all that it does; "" if that is nothing."""
        if not self.category and not self.priority:
            return ""
        return hashlib.sha256(
            repr(
                (self.names, sorted(self.category.items()), sorted(self.priority.items()))
            ).encode()
        ).hexdigest()[:16]

    def sort(self, found: Sequence[str], choice: Choice) -> Choice:
        """The choice that people would make; its scores are in the order of `names`."""
        if not self.category:
            return choice
        was = self.names.index(choice.name)
        known = [f for f in found if f in self.category]
        base, factor = shares(choice.scores, was), scale(found)
        by_words = [factor * sum(self.category[f][one] for f in known) for one in range(len(base))]
        place = moved_to(base, by_words, was)
        if place == was:
            return choice
        total = [points + more for points, more in zip(base, by_words, strict=True)]
        moved = {f: self.category[f][place] - self.category[f][was] for f in known}
        rest = max(points for one, points in enumerate(total) if one != place)
        return replace(
            choice,
            name=self.names[place],
            reason=f"as you sorted similar conversations{_because(moved)}",
            confidence=min(0.98, 0.4 + 0.5 * (total[place] - rest)),
        )

    def rank(self, found: Sequence[str], priority: int) -> tuple[int, str]:
        """The priority that people would give, 0..100, and the reason; "" if it is the same."""
        factor = scale(found)
        moved = {f: factor * self.priority[f] for f in found if f in self.priority}
        points = round(max(-MOST_POINTS, min(MOST_POINTS, sum(moved.values()))))
        new = max(0, min(100, priority + points))
        if new == priority:
            return priority, ""
        toward = {f: weight if points > 0 else -weight for f, weight in moved.items()}
        return new, f"{new - priority:+d} as you ranked similar conversations{_because(toward)}"


def scale(found: Sequence[str]) -> float:
    """What each feature of a conversation counts: long ones are not moved more than short ones."""
    return 1 / math.sqrt(max(len(found), 1))


def _because(moved: Mapping[str, float]) -> str:
    """The words that decided, the strongest first; a pair stands for its words."""
    shown: list[str] = []
    for feature in sorted(moved, key=lambda f: (-moved[f], -len(f), f)):
        if moved[feature] <= 0 or len(shown) == _SHOWN:
            break
        if feature[0] in (PERSON, KIND):
            words = "who wrote" if feature[0] == PERSON else "where"
        else:
            words = f"“{feature}”"
            if any(feature in one or one.strip("“”") in feature for one in shown):
                continue
        if words not in shown:
            shown.append(words)
    return f" ({', '.join(shown)})" if shown else ""


# --- bytes -----------------------------------------------------------------------------------


def to_arrays(model: LabelModel) -> dict[str, np.ndarray]:
    """The model as arrays without objects, as `from_arrays` reads them."""
    return {
        "names": _lines(model.names),
        "category_features": _lines(model.category),
        "category_weights": np.array(list(model.category.values()), np.float64),
        "priority_features": _lines(model.priority),
        "priority_weights": np.array(list(model.priority.values()), np.float64),
    }


def from_arrays(stored: Mapping[str, np.ndarray]) -> LabelModel:
    """The model in the arrays of `to_arrays`; raises `KeyError` for others."""
    by_category = [tuple(row) for row in stored["category_weights"].tolist()]
    return LabelModel(
        tuple(_texts(stored["names"])),
        dict(zip(_texts(stored["category_features"]), by_category, strict=True)),
        dict(
            zip(
                _texts(stored["priority_features"]),
                stored["priority_weights"].tolist(),
                strict=True,
            )
        ),
    )


def to_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as the bytes of one file: equal arrays give equal bytes (no time is noted)."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def _lines(texts: Iterable[str]) -> np.ndarray:
    """No feature and no category's name holds a NUL."""
    return np.frombuffer("\0".join(texts).encode("utf-8", "replace"), np.uint8)


def _texts(stored: np.ndarray) -> list[str]:
    joined = bytes(stored).decode("utf-8")
    return joined.split("\0") if joined else []
