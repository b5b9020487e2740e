"""Plots for the metadata: Dagster has no plot type, but Markdown shows an embedded image."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT, _LABELS = 640, 180, 34


def bars(values: Sequence[tuple[str, float]], title: str) -> str:
    """A bar chart as Markdown: (label, value) from left to right, values of 0 or more."""
    highest = max((value for _, value in values), default=0) or 1
    step = _WIDTH / max(len(values), 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="#fff"/>'
    ]
    room = _HEIGHT - _LABELS - 16
    for place, (label, value) in enumerate(values):
        tall = room * value / highest
        left, middle = step * place, step * (place + 0.5)
        parts.append(
            f'<rect x="{left + step * 0.1:.1f}" y="{_HEIGHT - _LABELS - tall:.1f}" '
            f'width="{step * 0.8:.1f}" height="{tall:.1f}" fill="#4f43dd"/>'
            f'<text x="{middle:.1f}" y="{_HEIGHT - _LABELS - tall - 3:.1f}" '
            f'text-anchor="middle">{value:g}</text>'
            f'<text x="{middle:.1f}" y="{_HEIGHT - _LABELS + 14}" '
            f'text-anchor="middle">{escape(label)}</text>'
        )
    parts.append("</svg>")
    image = base64.b64encode("".join(parts).encode()).decode()
    return f"![{title}](data:image/svg+xml;base64,{image})"
