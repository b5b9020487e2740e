"""What both ways made of the same conversations, side by side.

Belongs here: one row per conversation and day out of the rows of `analyses` and `drafted_replies`.
Does not belong here: reading them (`chain/comparison.py`), figures (`figures.py`).
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from communicator_pipeline.drafting.parts import distance
from communicator_pipeline.storage.corrections import BY_HAND

NOT_DRAFTED = "not drafted"
"""The outcome where nothing was drafted for a conversation, because it waits for nobody."""


def paired(
    live: pd.DataFrame,
    variant: pd.DataFrame,
    live_drafts: pd.DataFrame,
    variant_drafts: pd.DataFrame,
    labels: pd.DataFrame,
) -> pd.DataFrame:
    """One day's conversations that both ways have analysed, in order of id.

    `live` and `variant` have columns of `analyses`, the drafts of `drafted_replies`; `labels` has
    `conversation_id`, `label` (the category that a person set) and `analysed` (what the live
    analysis had said before). Returns the columns of `chain/comparison.py` (`PAIR_SCHEMA`) but
    `held_out`. What a person set is not what the live way said, so it counts as its category or
    priority nowhere: a category is then the one before, a priority is empty.
    """
    rows: list[dict[str, Any]] = []
    ours, theirs = _by_id(live), _by_id(variant)
    our_drafts, their_drafts = _by_id(live_drafts), _by_id(variant_drafts)
    said = _by_id(labels)
    for key in sorted(ours.keys() & theirs.keys()):
        mine, other = ours[key], theirs[key]
        label = said.get(key, {})
        before, after = our_drafts.get(key, {}), their_drafts.get(key, {})
        category: Any = mine["category"]
        if mine["category_reason"] == BY_HAND:
            category = label.get("analysed")
        by_hand = list(mine["priority_reasons"]) == [BY_HAND]
        texts = (str(before.get("text") or ""), str(after.get("text") or ""))
        rows.append(
            {
                "conversation_id": key,
                "label": label.get("label"),
                "live_category": category,
                "variant_category": other["category"],
                "live_priority": None if by_hand else mine["priority"],
                "variant_priority": other["priority"],
                "live_needs_reply": bool(mine["needs_reply"]),
                "variant_needs_reply": bool(other["needs_reply"]),
                "live_summary": len(str(mine["summary"])),
                "variant_summary": len(str(other["summary"])),
                "live_outcome": before.get("outcome", NOT_DRAFTED),
                "variant_outcome": after.get("outcome", NOT_DRAFTED),
                "draft_distance": distance(*texts) if all(texts) else None,
                "analysis_stood_in": str(other.get("stood_in") or ""),
                "draft_stood_in": str(after.get("stood_in") or ""),
            }
        )
    return pd.DataFrame(rows, columns=PAIR_COLUMNS)


PAIR_COLUMNS = [
    "conversation_id", "label", "live_category", "variant_category", "live_priority",
    "variant_priority", "live_needs_reply", "variant_needs_reply", "live_summary",
    "variant_summary", "live_outcome", "variant_outcome", "draft_distance", "analysis_stood_in",
    "draft_stood_in",
]  # fmt: skip


def _by_id(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    columns = [str(name) for name in rows.columns]
    return {
        str(row["conversation_id"]): row
        for values in rows.itertuples(index=False, name=None)
        for row in [dict(zip(columns, values, strict=True))]
    }
