"""What is thought about one conversation, with the reason for each part of it.

Belongs here: the value that an analyser returns. Does not belong here: how it is arrived at.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


class AnalysisError(Exception):
    """A conversation that could not be analysed; the others can be."""

    def __init__(self, conversation_id: str, cause: str) -> None:
        super().__init__(f"conversation {conversation_id!r} could not be analysed: {cause}")
        self.conversation_id = conversation_id


@dataclass(frozen=True, slots=True)
class Analysis:
    """One conversation as of its transcript's `as_of`. Times are UTC."""

    conversation_id: str
    language: str  # ISO 639-1, "und" when there is too little text
    category: str
    category_reason: str
    priority: int  # 0..100
    priority_reasons: tuple[str, ...]  # "+25 direct message"; they add up before clamping
    needs_reply: bool
    needs_reply_score: float  # 0..1
    needs_reply_reason: str
    waiting_since: datetime | None  # sent_at of the first unanswered message that asks the owner
    summary: str
    summary_message_ids: tuple[str, ...]  # where the quoted sentences come from
    sentiment: float  # -1..1
    confidence: float  # 0..1, the least certain of language, category and needs_reply
    flags: tuple[str, ...]  # "injection", "spam", "secrets", "links"
