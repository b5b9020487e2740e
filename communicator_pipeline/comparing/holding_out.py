"""Which conversations decisions rest on: a fifth, chosen once and for all.

Belongs here: the split, and which feedback may teach what drafts are made with when answers are
drafted again. Does not belong here: the salt (`storage/comparisons.py`).

**Held out** means: nothing that is learnt for a comparison has seen the conversation. Memories are
distilled anew from the other conversations' feedback, and whoever writes prompts looks at the
others only. So figures on the rest may flatter a variant that was made while looking at them;
decisions are taken on what was held out. A conversation stays on its side for as long as the
installation lives, because the side is a digest of its id and the installation's salt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from communicator_pipeline.storage.feedback import Feedback

HELD_OUT = 0.2
"""The share of the conversations that is held out: at a hundred answers a month some twenty, enough
to see a large difference, and four fifths are left to learn from."""


def is_held_out(conversation_id: str, salt: str) -> bool:
    """Whether a conversation is held out: the same answer at every time and on every machine."""
    digest = hashlib.sha256(f"{salt}\0{conversation_id}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8]) / 2**64 < HELD_OUT


def not_held_out(events: Iterable[Feedback], salt: str) -> list[Feedback]:
    """The feedback that may teach something."""
    return [event for event in events if not is_held_out(event.conversation_id, salt)]


def answers_given(events: Iterable[Feedback]) -> list[Feedback]:
    """What people sent in the end, in order of time: of each draft the last that was done with it,
    if that was an approval or an edit, and was not taken back."""
    last: dict[tuple[str, str | None, int | None], Feedback] = {}
    for event in sorted(events, key=lambda one: (one.at, one.feedback_id)):
        if event.kind in ("approved", "edited", "rejected") and not event.taken_back:
            last[event.conversation_id, event.draft_day, event.draft_version] = event
    found = (e for e in last.values() if e.kind != "rejected" and e.draft_text and e.final_text)
    return sorted(found, key=lambda one: (one.at, one.feedback_id))
