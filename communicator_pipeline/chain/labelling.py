"""What people set for a conversation, in the rows of `analyses`.

Belongs here: putting a person's category and priority into a finished row, and telling which rows
carry one that is no longer in force. Does not belong here: analysing (`analyses.py`), keeping what
people set (`storage/corrections.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from communicator_pipeline.storage.corrections import BY_HAND, Label

Row = Mapping[str, Any]


class Labels:
    """conversation id → what people set for it, as far as the taxonomy still has the category."""

    def __init__(self, set_by_hand: Mapping[str, Label], categories: Collection[str]) -> None:
        self._labels = set_by_hand
        self._categories = frozenset(categories)

    def of(self, conversation_id: str) -> Label:
        label = self._labels.get(conversation_id, Label())
        known = label.category in self._categories
        return label if known else Label(None, label.priority)


def labelled(row: Row, labels: Labels) -> Row:
    """The row of a conversation with what people set for it."""
    label = labels.of(row["conversation_id"])
    by_hand: dict[str, Any] = {}
    if label.category is not None:
        by_hand |= {"category": label.category, "category_reason": BY_HAND}
    if label.priority is not None:
        by_hand |= {"priority": label.priority, "priority_reasons": [BY_HAND]}
    return {**row, **by_hand} if by_hand else row


def still_as_analysed(rows: Mapping[str, Row], labels: Labels) -> dict[str, Row]:
    """Without the rows that carry a label that was taken back: what the analyser had said is not
    in them any more, so it has to say it again."""
    return {key: row for key, row in rows.items() if not _is_taken_back(row, labels.of(key))}


def _is_taken_back(row: Row, label: Label) -> bool:
    return (row["category_reason"] == BY_HAND and label.category is None) or (
        list(row["priority_reasons"]) == [BY_HAND] and label.priority is None
    )
