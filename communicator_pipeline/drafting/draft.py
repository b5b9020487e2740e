"""A proposed reply, and why it is what it is.

Belongs here: the value that a drafter returns. Does not belong here: how it is arrived at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ready", "needs_fill", "no_reply"]
"""`needs_fill`: the text holds marked gaps that only the owner can fill; `no_reply`: no text."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A reply to one conversation, for a person to approve."""

    conversation_id: str
    outcome: Outcome
    text: str  # gaps look like "[…: date]"; "" when there is to be no reply
    language: str  # ISO 639-1
    gaps: tuple[str, ...]  # the gaps as they stand in the text
    rests_on: tuple[str, ...]  # ids of the message answered and of the earlier reply reused
    reason: str
    flags: tuple[str, ...]
    confidence: float  # 0..1
