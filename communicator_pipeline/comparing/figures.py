"""The figures of a comparison: what changes, and which way is nearer to what people do.

Belongs here: figures out of the rows of a comparison. Does not belong here: the rows
(`pairing.py`, `chain/comparison.py`), figures in words (`report.py`).

Where the offline analyser or drafter stood in for the variant's model, the row says nothing of the
variant: it is left out everywhere, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from communicator_pipeline.comparing.uncertainty import Mean, Share, mean, share

FAR = 10
"""Points of priority from which on a change is one that people see: half a band of the inbox."""


@dataclass(frozen=True, slots=True)
class Flip:
    """So many rows went from one value to another one."""

    was: str
    now: str
    count: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What would be otherwise, over conversations and days."""

    conversations: int
    conversation_days: int
    category: Share  # of the rows: those whose category is another one
    category_flips: tuple[Flip, ...]
    priority: Mean  # variant − live, points
    priority_far: Share  # changed by more than `FAR` points
    needs_reply_gained: int
    needs_reply_lost: int
    summary_live: Mean  # characters
    summary_variant: Mean
    outcome_flips: tuple[Flip, ...]
    draft_distance: Mean  # 0 (the same text)…1, where both ways drafted
    analyses_stood_in: int  # left out: no answer of the variant's model
    drafts_stood_in: int


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near one way's drafts are to what people sent."""

    distance: Mean  # 0 (sent as drafted)…1 (nothing of it was left)
    unedited: Share  # drafts at distance 0


@dataclass(frozen=True, slots=True)
class Answers:
    """Against what people sent: the same answers for both ways."""

    live: Nearness
    variant: Nearness
    difference: Mean  # of the distances, variant − live: below 0 the variant is nearer
    not_drafted: int  # the variant would have drafted nothing; counted as distance 1
    stood_in: int  # left out


@dataclass(frozen=True, slots=True)
class Labels:
    """Against the categories that people set, by conversation, on its last day."""

    live: Share  # right before a person set it
    variant: Share


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one side of the split."""

    changes: Changes
    answers: Answers
    labels: Labels


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison amounts to. Decisions are taken on `held_out`."""

    first_day: str  # UTC, "" without any
    last_day: str
    held_out: Figures
    rest: Figures

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def compared(pairs: pd.DataFrame, answers: pd.DataFrame) -> Comparison:
    """The figures of both sides.

    `pairs` has the columns of `PAIR_SCHEMA` and `answers` those of `ANSWER_SCHEMA` (both of
    `chain/comparison.py`), each with `account` and `day` beside them.
    """
    days = sorted({*pairs["day"], *answers["day"]})
    sides = [
        Figures(
            changes(pairs[pairs["held_out"] == held_out]),
            against_answers(answers[answers["held_out"] == held_out]),
            against_labels(pairs[pairs["held_out"] == held_out]),
        )
        for held_out in (True, False)
    ]
    return Comparison(days[0] if days else "", days[-1] if days else "", *sides)


def changes(pairs: pd.DataFrame) -> Changes:
    """What would be otherwise."""
    made = pairs[pairs["analysis_stood_in"] == ""]
    known = made[made["live_category"].notna()]
    ranked = made[made["live_priority"].notna()]
    moved = (ranked["variant_priority"] - ranked["live_priority"]).astype(float)
    drafted = made[made["draft_stood_in"] == ""]
    both = drafted[drafted["draft_distance"].notna()]
    flips = category_flips(made)
    return Changes(
        conversations=len(set(_groups(made))),
        conversation_days=len(made),
        category=share(sum(flip.count for flip in flips), len(known)),
        category_flips=flips,
        priority=mean(moved.tolist(), _groups(ranked)),
        priority_far=share(int((moved.abs() > FAR).sum()), len(ranked)),
        needs_reply_gained=int((~made["live_needs_reply"] & made["variant_needs_reply"]).sum()),
        needs_reply_lost=int((made["live_needs_reply"] & ~made["variant_needs_reply"]).sum()),
        summary_live=mean(made["live_summary"].tolist(), _groups(made)),
        summary_variant=mean(made["variant_summary"].tolist(), _groups(made)),
        outcome_flips=outcome_flips(drafted),
        draft_distance=mean(both["draft_distance"].astype(float).tolist(), _groups(both)),
        analyses_stood_in=len(pairs) - len(made),
        drafts_stood_in=len(made) - len(drafted),
    )


def category_flips(pairs: pd.DataFrame) -> tuple[Flip, ...]:
    """Which categories became which, the most frequent first."""
    return _flips(pairs[pairs["live_category"].notna()], "category")


def outcome_flips(pairs: pd.DataFrame) -> tuple[Flip, ...]:
    """Which outcomes of drafting became which, the most frequent first."""
    return _flips(pairs, "outcome")


def against_answers(answers: pd.DataFrame) -> Answers:
    """Which way's drafts are nearer to what people sent."""
    made = answers[answers["stood_in"] == ""]
    groups = _groups(made)
    differences = made["variant_distance"] - made["live_distance"]
    return Answers(
        live=_nearness(made["live_distance"], groups),
        variant=_nearness(made["variant_distance"], groups),
        difference=mean(differences.astype(float).tolist(), groups),
        not_drafted=int((~made["drafted"]).sum()),
        stood_in=len(answers) - len(made),
    )


def against_labels(pairs: pd.DataFrame) -> Labels:
    """Which way finds the categories that people set."""
    made = pairs[(pairs["analysis_stood_in"] == "") & pairs["label"].notna()]
    last = made.sort_values("day", kind="stable").groupby(["account", "conversation_id"]).tail(1)
    right = {
        way: int((last[f"{way}_category"].astype(object) == last["label"].astype(object)).sum())
        for way in ("live", "variant")
    }
    return Labels(share(right["live"], len(last)), share(right["variant"], len(last)))


def in_numbers(pairs: pd.DataFrame, answers: pd.DataFrame) -> dict[str, float]:
    """A partition's figures of both sides together, for Dagster to plot over time."""
    over_all, sent = changes(pairs), against_answers(answers)
    numbers: Mapping[str, float | None] = {
        "conversations compared": over_all.conversations,
        "other category": over_all.category.value,
        "priority, mean change": over_all.priority.value,
        "priority changed by more than 10": over_all.priority_far.value,
        "needs a reply now": over_all.needs_reply_gained,
        "needs no reply any more": over_all.needs_reply_lost,
        "summary, characters live": over_all.summary_live.value,
        "summary, characters variant": over_all.summary_variant.value,
        "drafts, distance to live": over_all.draft_distance.value,
        "answers drafted again": sent.live.distance.of,
        "distance to what was sent, live": sent.live.distance.value,
        "distance to what was sent, variant": sent.variant.distance.value,
        "sent as drafted, live": sent.live.unedited.value,
        "sent as drafted, variant": sent.variant.unedited.value,
        "stood in for the variant's model": over_all.analyses_stood_in
        + over_all.drafts_stood_in
        + sent.stood_in,
    }
    return {name: round(value, 4) for name, value in numbers.items() if value is not None}


def _nearness(distances: pd.Series[float], groups: list[str]) -> Nearness:
    return Nearness(
        mean(distances.astype(float).tolist(), groups),
        share(int((distances == 0).sum()), len(distances)),
    )


def _flips(rows: pd.DataFrame, what: str) -> tuple[Flip, ...]:
    was, now = f"live_{what}", f"variant_{what}"
    differ = rows[rows[was].astype(object) != rows[now].astype(object)]
    counts = differ.groupby([was, now]).size()
    found = [Flip(str(key[0]), str(key[1]), int(count)) for key, count in counts.items()]  # type: ignore[index]
    return tuple(sorted(found, key=lambda flip: (-flip.count, flip.was, flip.now)))


def _groups(rows: pd.DataFrame) -> list[str]:
    """Whose observations are not independent: one conversation's."""
    pairs = zip(rows["account"], rows["conversation_id"], strict=True)
    return [f"{account} {conversation}" for account, conversation in pairs]
