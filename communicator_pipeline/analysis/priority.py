"""How soon a conversation should be looked at, in points whose reasons are spelled out.

Belongs here: the points. Does not belong here: whether a reply is needed, what the tone is.
All points are set by hand, so that a person can follow and contest each.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from communicator_pipeline.analysis.deadlines import Deadline
from communicator_pipeline.analysis.needs_reply import ReplyNeed
from communicator_pipeline.analysis.reading import Reading
from communicator_pipeline.analysis.taxonomy import Category
from communicator_pipeline.messages import Transcript

BASE = 10
WITHOUT_A_REPLY_AT_MOST = 45
"""What waits for nobody does not stand above what waits for the owner."""

INJECTED_AT_MOST = 20

_WAITING = (  # waited at least, points: steep in the first days, then flat
    (timedelta(days=3), 12),
    (timedelta(days=2), 10),
    (timedelta(days=1), 8),
    (timedelta(hours=4), 5),
    (timedelta(hours=1), 2),
)
_DEADLINE = (  # time left at most, points
    (timedelta(hours=4), 25),
    (timedelta(days=1), 20),
    (timedelta(days=3), 14),
    (timedelta(days=7), 8),
)
_ADDRESSED = {
    "in a direct message": (25, "direct message"),
    "by mention": (20, "mentions you"),
    "by name": (15, "asks you by name"),
    "in reply to you": (15, "replies to you"),
    "right after you spoke": (10, "follows your message"),
    "in a small group": (6, "asks a small group"),
    "and everybody else in the channel": (2, "asks the channel"),
}


def waiting_points(waited: timedelta) -> int:
    """0..12 points for the time an ask has been open."""
    return next((points for least, points in _WAITING if waited >= least), 0)


def aged_priority(
    priority: int, waiting_since: datetime | None, as_of: datetime, now: datetime
) -> int:
    """The priority to show now: that of `as_of` plus what the waiting since then adds."""
    if waiting_since is None:
        return priority
    more = waiting_points(now - waiting_since) - waiting_points(as_of - waiting_since)
    return max(0, min(100, priority + more))


def _span(waited: timedelta) -> str:
    hours = int(waited.total_seconds() // 3600)
    if hours < 24:
        return f"{hours} hour{'s' if hours != 1 else ''}"
    return f"{hours // 24} day{'s' if hours >= 48 else ''}"


def _deadline_points(deadline: Deadline, as_of: datetime) -> tuple[int, str]:
    left = deadline.at - as_of
    if left < timedelta(0):
        if left < timedelta(days=-14):
            return 0, ""
        return 15, f"deadline passed: {deadline.words}"
    points = next((p for most, p in _DEADLINE if left <= most), 4)
    if not deadline.strict:
        points //= 2
    return points, f"{'deadline' if deadline.strict else 'date'}: {deadline.words}"


def priority_of(
    transcript: Transcript,
    readings: Sequence[Reading],
    need: ReplyNeed,
    category: Category | None,
    sentiment: float,
    heated: bool,
    deadline: Deadline | None,
    priority_people: frozenset[str],
    flags: Sequence[str],
) -> tuple[int, tuple[str, ...]]:
    """Points 0..100 and the reasons, each with its points."""
    reasons: list[tuple[int, str]] = [(BASE, "every conversation")]
    if need.needed:
        reasons.append(_ADDRESSED[need.how])
        if any(r.questions for r in need.asking):
            reasons.append((10, "question to you"))
        else:
            reasons.append((8, "asks something of you"))
        if need.waiting_since is not None:
            waited = transcript.as_of - need.waiting_since
            reasons.append((waiting_points(waited), f"waiting {_span(waited)}"))
    theirs = [r for r in readings if not r.turn.from_me]
    matters = need.needed or not any(r.turn.from_me for r in readings)
    if matters and deadline is not None:
        reasons.append(_deadline_points(deadline, transcript.as_of))
    if matters and any(r.has("urgent") for r in theirs):
        reasons.append((12, "says it is urgent"))
    if not priority_people.isdisjoint(r.turn.author_id for r in theirs):
        reasons.append((15, "from a person you marked"))
    if heated:
        reasons.append((10, "upset tone"))
    elif sentiment <= -0.5:
        reasons.append((4, "unhappy tone"))
    if category is not None and category.weight:
        reasons.append((category.weight, f"category {category.name}"))
    if "spam" in flags and (category is None or category.name != "spam"):
        reasons.append((-30, "looks like spam"))
    kept = [(points, why) for points, why in reasons if points]
    total = sum(points for points, _ in kept)
    most = 100
    if "injection" in flags:
        most = INJECTED_AT_MOST
    elif not need.needed:
        most = WITHOUT_A_REPLY_AT_MOST
        if category is not None and category.weight >= 15:
            most += 25
    if total > most:
        why = "not raised by a suspicious message" if "injection" in flags else "no reply needed"
        kept.append((most - total, why if most < 100 else "100 is the most"))
        total = most
    if total < 0:
        kept.append((-total, "0 is the least"))
        total = 0
    return total, tuple(f"{points:+d} {why}" for points, why in kept)
