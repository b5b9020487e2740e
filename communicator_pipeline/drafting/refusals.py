"""Conversations that get no draft because the user wants none. Pure.

Belongs here: the rules of the setting `never_draft`, and their words. Does not belong here: the
setting (`user_settings.py`), what is drafted for otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from communicator_pipeline.messages import Transcript

MODEL = "never_draft 1"
"""What stands where a draft's model does: a draft that is there for a rule goes with the rule."""

_WORDS = {
    "account": "in the account {}",
    "category": "of the category {}",
    "channel_id": "in this chat",
    "person_id": "with this person",
}


def wants_no_draft(
    rules: Sequence[Mapping[str, str]], account: str, category: str, transcript: Transcript
) -> str:
    """Why a conversation is not drafted for, in words; "" if it is. A rule holds where everything
    in it does; one with `person_id` where that person has said something."""
    said = {turn.author_id for turn in transcript.turns}
    here = {"account": {account}, "category": {category}, "channel_id": {transcript.channel_id}}
    found: Mapping[str, set[str]] = {**here, "person_id": said}
    for rule in rules:
        if rule and all(value in found.get(key, ()) for key, value in rule.items()):
            words = " and ".join(_WORDS[key].format(rule[key]) for key in _WORDS if key in rule)
            return f"you want no drafts {words}"
    return ""
