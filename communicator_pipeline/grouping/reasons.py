"""Why a message stands where it stands: the reasons a link can have, and the words for a person.

Belongs here: the closed set of reasons and the sentence fragments shown beside them. Does not
belong here: deciding on a link (`linker.py`) or resolving explicit ones (`links.py`).
"""

from __future__ import annotations

from typing import Final, Literal

LinkReason = Literal[
    "thread",  # the platform's own thread
    "reply",  # the platform's own reply-to
    "mention",  # it addresses the author of its parent, by name or by @mention
    "answer",  # its parent addresses or asks, and this is the addressed or asked one
    "continuation",  # the same author goes on
    "topic",  # it shares words with its parent that few messages around have
    "time",  # nothing but nearness in time and place
    "root",  # it starts a conversation
    "system",  # the platform speaks, not a person
    "merged",  # somebody said by hand that it continues its parent
    "split",  # somebody said by hand that it starts a conversation
]

INFERRED: Final[tuple[LinkReason, ...]] = (
    "root",
    "mention",
    "answer",
    "continuation",
    "topic",
    "time",
)
"""Reasons a linker may give, by the code it gives them (the index)."""

ROOT, MENTION, ANSWER, CONTINUATION, TOPIC, TIME = range(len(INFERRED))

SYSTEM_WHY: Final = "the platform reports something"
ROOT_WHY: Final = "starts a conversation"
FEED_WHY: Final = "a public post of its own"
SPLIT_WHY: Final = "begins a conversation of its own, set by hand"


def delay(microseconds: int) -> str:
    """A span of time as a person says it: '40 s', '2 min', '3 h', '2 days'."""
    seconds = microseconds // 1_000_000
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 36 * 3600:
        return f"{round(seconds / 3600)} h"
    return f"{round(seconds / 86400)} days"


def inferred_why(code: int, author: str, parent_author: str, gap: int) -> str:
    """The fragment for an inferred link; `gap` in microseconds, names as shown."""
    writer = parent_author or "someone"
    if code == MENTION:
        return f"addresses {writer}, who wrote {delay(gap)} before"
    if code == ANSWER:
        return f"answers {writer}, who wrote {delay(gap)} before"
    if code == CONTINUATION:
        return f"{author or 'the same author'} continues {delay(gap)} later"
    if code == TOPIC:
        return f"shares words with what {writer} wrote {delay(gap)} before"
    return f"follows {writer}, {delay(gap)} later"


def explicit_why(in_thread: bool, parent_author: str, gap: int) -> str:
    """The fragment for a link that the platform itself names; no author if it is not at hand."""
    if in_thread:
        return "replies in thread"
    if not parent_author:
        return "replies to an older message"
    return f"replies to {parent_author}, who wrote {delay(gap)} before"


def merged_why(parent_author: str, gap: int) -> str:
    """The fragment for a link that somebody made by hand; no author if the parent is not at
    hand."""
    if not parent_author:
        return "continues an older message, set by hand"
    return f"continues what {parent_author} wrote {delay(gap)} before, set by hand"
