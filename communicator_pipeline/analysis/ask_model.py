"""Whether an English message asks its reader for something: a linear model over word n-grams.

Belongs here: reading the shipped model and scoring tokens. Does not belong here: its training
(`train_needs_reply.py`) and the decision about a conversation (`needs_reply.py`).

The n-grams are stored as text, not hashed: a look-up in a dict is faster than a hash in Python,
nothing collides, and the n-gram that decided can be shown to a person.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

LONGEST = 3
"""Words in the longest n-gram."""

MODEL = Path(__file__).with_name("needs_reply_model.npz")


def ngrams(tokens: Sequence[str]) -> list[str]:
    """The distinct 1- to 3-grams of a message with its edges."""
    edged = ["^", *tokens, "$"]
    pairs = [f"{a} {b}" for a, b in pairwise(edged)]
    triples = [f"{p} {c}" for p, c in zip(pairs, edged[2:], strict=False)]
    return list(dict.fromkeys([*tokens, *pairs, *triples]))


@dataclass(frozen=True, slots=True)
class AskModel:
    """A logistic model: bias + sum of weights over the square root of their number."""

    weights: dict[str, float]
    bias: float

    def probability(self, tokens: Sequence[str]) -> float:
        """How probable it is, 0..1, that the message asks for something."""
        weights = self.weights
        found = [weights[n] for n in ngrams(tokens[:120]) if n in weights]
        logit = self.bias + (sum(found) / math.sqrt(len(found)) if found else 0.0)
        return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, logit))))


@cache
def ask_model() -> AskModel:
    """The shipped model; read once. Weights are int8 in steps of `step`."""
    with np.load(MODEL, allow_pickle=False) as stored:
        listed = bytes(stored["ngrams"]).decode("utf-8").split("\n")
        weights = (stored["weights"].astype(np.float32) * stored["step"]).tolist()
        return AskModel(dict(zip(listed, weights, strict=True)), float(stored["bias"]))
