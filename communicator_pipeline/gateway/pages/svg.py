"""Pictures of numbers: bars as SVG.

Belongs here: numbers in, markup out. Does not belong here: where the numbers come from
(`storage/statistics.py`), colours (`static/inbox.css`: the pages allow no style in the markup).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 8, 12, 28
_STEPS = 4
_MOST_LABELS = 10


@dataclass(frozen=True)
class Series:
    """One colour's numbers, one for each place on the axis; None: there is none."""

    name: str
    values: Sequence[float | None]


def plain(value: float) -> str:
    """A number as people write it."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def duration(seconds: float) -> str:
    """A time in its largest unit."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{plain(round(seconds / size, 1))} {unit}"
    return f"{plain(round(seconds))} s"


def percent(share: float) -> str:
    return f"{plain(round(100 * share, 1))} %"


def stacked(
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    say: Callable[[float], str] = plain,
    most: float | None = None,
) -> Markup:
    """A bar for each label, the series on top of one another; `most` sets the axis' end."""
    sums = [sum(one.values[n] or 0 for one in series) for n in range(len(labels))]
    top = most or _round_up(max(sums, default=0))
    slot = _slot(labels)
    bars = Markup("")
    for n, label in enumerate(labels):
        below = 0.0
        for colour, one in enumerate(series):
            value = one.values[n]
            if value:
                x = _LEFT + n * slot + slot * 0.1
                bars += _bar(x, slot * 0.8, below, value, top, colour, f"{label}, {one.name}", say)
                below += value
    return _framed(title, labels, bars, top, say)


def beside(
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    say: Callable[[float], str] = plain,
) -> Markup:
    """For each label the series' bars side by side."""
    top = _round_up(max((v for one in series for v in one.values if v is not None), default=0))
    slot = _slot(labels)
    width = slot * 0.8 / max(1, len(series))
    bars = Markup("")
    for n, label in enumerate(labels):
        for colour, one in enumerate(series):
            value = one.values[n]
            if value is not None:
                x = _LEFT + n * slot + slot * 0.1 + colour * width
                bars += _bar(x, width, 0, value, top, colour, f"{label}, {one.name}", say)
    return _framed(title, labels, bars, top, say)


def swatch(colour: int) -> Markup:
    """A series' colour, for what explains the picture."""
    return Markup(
        '<svg class="swatch" width="12" height="12" aria-hidden="true">'
        '<rect class="s{}" width="12" height="12"/></svg>'
    ).format(colour)


def _slot(labels: Sequence[str]) -> float:
    return (WIDTH - _LEFT - _RIGHT) / max(1, len(labels))


def _height(value: float, top: float) -> float:
    return (HEIGHT - _TOP - _BOTTOM) * value / top


def _bar(
    x: float,
    width: float,
    below: float,
    value: float,
    top: float,
    colour: int,
    name: str,
    say: Callable[[float], str],
) -> Markup:
    height = _height(value, top)
    y = HEIGHT - _BOTTOM - _height(below, top) - height
    return Markup(
        '<rect class="bar s{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
        "<title>{}: {}</title></rect>"
    ).format(colour, x, y, width, height, name, say(value))


def _framed(
    title: str, labels: Sequence[str], bars: Markup, top: float, say: Callable[[float], str]
) -> Markup:
    """The bars with their axes."""
    lines = Markup("")
    for step in range(_STEPS + 1):
        value = top * step / _STEPS
        y = HEIGHT - _BOTTOM - _height(value, top)
        lines += Markup(
            '<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>'
            '<text class="axis" x="{3}" y="{4:.1f}" text-anchor="end">{5}</text>'
        ).format(_LEFT, WIDTH - _RIGHT, y, _LEFT - 6, y + 4, say(value))
    slot, every = _slot(labels), -(-len(labels) // _MOST_LABELS) or 1
    for n in range(0, len(labels), every):
        lines += Markup(
            '<text class="axis" x="{:.1f}" y="{}" text-anchor="middle">{}</text>'
        ).format(_LEFT + (n + 0.5) * slot, HEIGHT - 8, labels[n])
    return Markup(
        '<svg class="picture" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" role="img" '
        'aria-label="{}">{}{}</svg>'
    ).format(WIDTH, HEIGHT, title, lines, bars)


def _round_up(value: float) -> float:
    """Where the axis ends: the next number that divides well by its steps."""
    if value <= _STEPS:
        return _STEPS
    size = 1.0
    while size * 10 < value:
        size *= 10
    return next(size * n for n in (2, 4, 6, 8, 10) if size * n >= value)
