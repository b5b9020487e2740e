"""A comparison in words: numbers and ids, never a message's text.

Belongs here: the table's rows, the verdict, the Markdown report. Does not belong here: the figures
(`figures.py`), the terminal (`cli/comparing.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from communicator_pipeline.comparing.figures import FAR, Comparison, Figures, Flip
from communicator_pipeline.comparing.uncertainty import FEW, Mean, Share

MOST_FLIPS = 10
"""Kinds of flips that are listed, the most frequent."""

Row = tuple[str, str, str]  # what, on the held-out side, on the rest


def verdict(figures: Figures) -> str:
    """What the answers that people sent say, in a sentence."""
    found = figures.answers.difference
    if found.of == 0:
        return "Nobody sent an answer to a held-out draft in these days: nothing can be decided."
    if found.low is None or found.high is None:
        return (
            "All held-out answers are of one conversation: too few to say which way is nearer to "
            "what people sent."
        )
    few = f" It rests on {found.of} answers only: compare more days." if found.of < FEW else ""
    if found.high < 0:
        return f"The variant is nearer to what people sent.{few}"
    if found.low > 0:
        return f"The variant is farther from what people sent.{few}"
    return f"No difference in nearness to what people sent can be told.{few}"


def rows(comparison: Comparison) -> list[Row]:
    """Every figure with both sides, in order; "" where there is nothing to say."""
    sides = (comparison.held_out, comparison.rest)
    return [
        (what, held_out, rest)
        for (what, held_out), (_, rest) in zip(*map(_of_side, sides), strict=True)
        if held_out or rest
    ]


def flips(found: Sequence[Flip]) -> list[str]:
    """Flips in words, the most frequent."""
    listed = [f"{flip.was} → {flip.now}: {flip.count}" for flip in found[:MOST_FLIPS]]
    more = len(found) - MOST_FLIPS
    return [*listed, f"and {more} more kinds"] if more > 0 else listed


def markdown(name: str, variant: str, comparison: Comparison) -> str:
    """The report. `variant`: what differs from the live way, in words."""
    days = f"{comparison.first_day} to {comparison.last_day}"
    lines = [
        f"# Comparison {name}",
        "",
        f"Variant: {_cell(variant)}. Days: {days if comparison.first_day else 'none'} (UTC).",
        "",
        f"**{verdict(comparison.held_out)}**",
        "",
        "| | held out | the rest |",
        "|---|---|---|",
        *(f"| {_cell(what)} | {held} | {rest} |" for what, held, rest in rows(comparison)),
    ]
    for title, side in (("held out", comparison.held_out), ("the rest", comparison.rest)):
        for what, found in (
            ("Categories", side.changes.category_flips),
            ("Outcomes of drafting", side.changes.outcome_flips),
        ):
            if found:
                lines += ["", f"{what} that became others, {title}:", ""]
                lines += [f"- {_cell(flip)}" for flip in flips(found)]
    lines += [
        "",
        "Decide on what was held out: the variant may have been made while looking at the rest. In "
        "brackets: between which values the true figure lies, 19 times of 20. Drafts were sent "
        "only where the live way had drafted, so what it had missed altogether is not in here.",
        "",
    ]
    return "\n".join(lines)


def _of_side(figures: Figures) -> list[tuple[str, str]]:
    what, sent, labels = figures.changes, figures.answers, figures.labels
    return [
        ("answers that people sent", _count(sent.live.distance.of)),
        ("distance to what was sent, live", _mean(sent.live.distance)),
        ("distance to what was sent, variant", _mean(sent.variant.distance)),
        ("difference of the distances", _mean(sent.difference, signed=True)),
        ("sent as drafted, live", _share(sent.live.unedited)),
        ("sent as drafted, variant", _share(sent.variant.unedited)),
        ("answered, but the variant drafts nothing", _count(sent.not_drafted)),
        ("category as people set it, live", _share(labels.live)),
        ("category as people set it, variant", _share(labels.variant)),
        ("conversations compared", _count(what.conversations)),
        ("another category", _share(what.category)),
        ("priority, mean change", _mean(what.priority, signed=True, digits=1)),
        (f"priority changed by more than {FAR}", _share(what.priority_far)),
        ("needs a reply with the variant only", _count(what.needs_reply_gained)),
        ("needs a reply live only", _count(what.needs_reply_lost)),
        ("summary, characters, live", _mean(what.summary_live, digits=0)),
        ("summary, characters, variant", _mean(what.summary_variant, digits=0)),
        ("another outcome of drafting", _count(sum(f.count for f in what.outcome_flips))),
        ("distance between both ways' drafts", _mean(what.draft_distance)),
        (
            "left out, for the model gave no answer",
            _count(what.analyses_stood_in + what.drafts_stood_in + sent.stood_in),
        ),
    ]


def _count(number: int) -> str:
    return str(number) if number else ""


def _share(found: Share) -> str:
    if found.value is None or found.low is None or found.high is None:
        return ""
    interval = f"{100 * found.low:.0f}–{100 * found.high:.0f}"
    return f"{100 * found.value:.0f} % ({interval}), {_of(found.of)}"


def _mean(found: Mean, signed: bool = False, digits: int = 2) -> str:
    if found.value is None:
        return ""
    form = f"{'+' if signed else ''}.{digits}f"
    interval = (
        f" ({found.low:{form}} to {found.high:{form}})"
        if found.low is not None and found.high is not None
        else ""
    )
    return f"{found.value:{form}}{interval}, {_of(found.of)}"


def _of(number: int) -> str:
    return f"of {number}, few" if number < FEW else f"of {number}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", r"\|").split())
