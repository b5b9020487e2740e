"""What must hold of what relabels taught, as questions that name what breaks it.

Belongs here: one function per rule; each gives what of an account breaks it, nothing if all is
well. Does not belong here: what happens then (`asset_checks.py`), what a model is
(`analysis/label_model.py`).
"""

from __future__ import annotations

from communicator_pipeline.analysis.train_label_model import FEWEST
from communicator_pipeline.chain.checks import Problem
from communicator_pipeline.chain.learnt_labels import stored
from communicator_pipeline.storage import Stores


def worse_than_untrained(stores: Stores, account: str) -> list[Problem]:
    """What is in use though it was no better on held-out conversations than the analyser alone."""
    kept, _ = stored(stores, account)
    problems: list[Problem] = []
    for what, weights, scores, sign in (
        ("category", kept.model.category, kept.category, 1),
        ("priority", kept.model.priority, kept.priority, -1),
    ):
        better = (
            scores.corrections >= FEWEST
            and scores.before is not None
            and scores.after is not None
            and sign * (scores.after - scores.before) > 0
        )
        if (weights or scores.used) and not better:
            problems.append({"what": what, "before": scores.before, "after": scores.after})
    return problems
