"""How content or upset a conversation sounds: counted words, capitals and exclamation marks.

Belongs here: the tone, -1..1. Does not belong here: what the tone is worth (`priority.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from communicator_pipeline.analysis.needs_reply import applies
from communicator_pipeline.analysis.reading import Reading

HEATED = -0.5
_TONES = frozenset({"positive", "negative", "angry"})
_NEGATION_REACH = 2  # tokens before a word that turn it around


def tone_of(readings: Sequence[Reading], language: str) -> tuple[float, bool]:
    """Tone -1..1 of what others wrote, and whether somebody is heated."""
    good = bad = 0.0
    angry = shouting = 0
    for reading in readings:
        if reading.turn.from_me:
            continue
        shouting += _shouts(reading)
        if _TONES.isdisjoint(reading.roles):
            continue
        negated = {h.end for h in reading.hits if h.role == "negations"}
        last_end = -1
        for hit in reading.hits:
            role = hit.role
            if role not in ("positive", "negative", "angry") or hit.start < last_end:
                continue
            if not applies(hit, language):
                continue
            last_end = hit.end
            turned = any(hit.start - _NEGATION_REACH < end <= hit.start for end in negated)
            if role == "positive":
                good, bad = (good, bad + 1) if turned else (good + 1, bad)
            elif role == "negative":
                bad += 0.0 if turned else 1.0
            else:
                bad += 2.0
                angry += 1
    if shouting and bad:
        bad += 1.0
    if not good and not bad:
        return 0.0, False
    tone = round((good - bad) / (good + bad + 1.0), 3)
    return tone, tone < 0 and (
        (angry > 0 and tone <= HEATED) or angry > 1 or (shouting > 0 and bad >= 2)
    )


def _shouts(reading: Reading) -> int:
    if "!!" in reading.turn.text:
        return 1
    if reading.clean.islower():
        return 0
    capitals = sum(1 for w in reading.raw if len(w) > 3 and w.isupper() and w.isalpha())
    return int(capitals >= 3 and capitals * 2 >= len(reading.raw))
