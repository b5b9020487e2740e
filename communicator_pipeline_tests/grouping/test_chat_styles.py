"""How well different styles of chat are told apart, and that the learnt linker earns its keep.

The chats in `labelled/` are our own, with labels, and nothing was trained on them.
"""

from __future__ import annotations

import pytest

from communicator_pipeline.grouping import GapLinker, KindLinker, Linker, RuleLinker, group
from communicator_pipeline.grouping.flow import MINUTE
from communicator_pipeline.grouping.scores import Agreement, agreement
from communicator_pipeline_tests.grouping.chats import labelled

GAP = GapLinker(paces=0, shortest=30 * MINUTE, longest=30 * MINUTE)
PLAIN_RULE = RuleLinker(paces=0)

LEAST = {"team": 85.0, "family": 90.0, "support": 90.0, "dm": 100.0, "busy": 85.0}
"""Variation of information that the default linker must reach, in percent."""


def scores(style: str, linker: Linker | None = None) -> Agreement:
    messages, talks = labelled(style)
    membership, _ = group(messages, None, {}, linker)
    found = dict(zip(membership["message_id"], membership["conversation_id"], strict=True))
    return agreement(talks, found)


@pytest.mark.parametrize("style", LEAST)
def test_each_style_of_chat_is_told_apart_well_enough(style: str) -> None:
    assert scores(style).variation >= LEAST[style]


@pytest.mark.parametrize("style", LEAST)
def test_the_default_linker_is_no_worse_than_the_plain_rule(style: str) -> None:
    rule = scores(style, KindLinker(PLAIN_RULE))
    assert scores(style).variation >= rule.variation


@pytest.mark.parametrize("style", LEAST)
def test_the_default_linker_is_no_worse_than_a_plain_gap(style: str) -> None:
    gap = scores(style, KindLinker(GAP, two=GAP))
    assert scores(style).variation >= gap.variation
