"""The diff, without stores: the split, the pairs, the figures, their uncertainty, the words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from communicator_pipeline.chain.comparison import ANSWER_SCHEMA, PAIR_SCHEMA
from communicator_pipeline.comparing.figures import (
    Comparison,
    Flip,
    against_answers,
    against_labels,
    changes,
    compared,
    in_numbers,
)
from communicator_pipeline.comparing.holding_out import answers_given, is_held_out, not_held_out
from communicator_pipeline.comparing.pairing import NOT_DRAFTED, PAIR_COLUMNS, paired
from communicator_pipeline.comparing.report import flips, markdown, rows, verdict
from communicator_pipeline.comparing.uncertainty import mean, share
from communicator_pipeline.storage.corrections import BY_HAND
from communicator_pipeline.storage.feedback import Feedback, FeedbackKind

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


# --- the split -------------------------------------------------------------------------------


def test_a_fifth_is_held_out_and_another_salt_holds_out_others() -> None:
    ids = [f"c{number}:m{number}" for number in range(10_000)]
    first = [one for one in ids if is_held_out(one, "salt")]
    assert 1_850 < len(first) < 2_150
    assert first == [one for one in ids if is_held_out(one, "salt")]
    other = [one for one in first if is_held_out(one, "another")]
    assert 300 < len(other) < 500  # a fifth of the fifth: the salts have nothing in common


def test_the_split_is_the_one_that_installations_have_already() -> None:
    found = [n for n in range(20) if is_held_out(f"c1:m{n}", "fixed")]
    assert found == [0, 11, 12, 13, 14, 16, 17]


@given(st.text(), st.text())
def test_any_id_is_on_one_side(conversation_id: str, salt: str) -> None:
    assert is_held_out(conversation_id, salt) in (True, False)


def event(number: int, kind: FeedbackKind, **more: Any) -> Feedback:
    told = {"draft_text": "Hi", "final_text": "Hello", "draft_day": "2026-11-19"}
    return Feedback(
        "ana-chat",
        f"f{number}",
        more.pop("conversation", "c1:m1"),
        kind,
        "ana",
        NOW + timedelta(minutes=number),
        **(told | {"draft_version": 1} | more),
    )


def test_the_last_word_on_a_draft_counts_and_none_that_was_taken_back() -> None:
    events = [
        event(2, "approved", final_text="Bye"),
        event(1, "edited"),
        event(3, "edited", conversation="c2:m2"),
        event(4, "rejected", conversation="c2:m2", final_text=""),
        event(5, "edited", conversation="c3:m3"),
        event(6, "approved", conversation="c3:m3", taken_back=True),
        event(7, "instructed", conversation="c4:m4"),
        event(8, "edited", draft_version=2, final_text="Third"),
        event(9, "approved", conversation="c5:m5", draft_text=""),
    ]
    assert [one.feedback_id for one in answers_given(events)] == ["f2", "f5", "f8"]


def test_what_is_held_out_teaches_nothing() -> None:
    events = [event(n, "edited", conversation=f"c1:m{n}") for n in range(20)]
    kept = not_held_out(events, "fixed")
    assert len(kept) == 13
    assert not any(is_held_out(one.conversation_id, "fixed") for one in kept)


# --- pairs -----------------------------------------------------------------------------------


def analysis(key: str, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "conversation_id": key,
        "category": "billing",
        "category_reason": "because",
        "priority": 50,
        "priority_reasons": ["because"],
        "needs_reply": True,
        "summary": "12345",
        "stood_in": "",
    }
    return told | more


def draft(key: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "conversation_id": key,
        "outcome": "ready" if text else "no_reply",
        "text": text,
        "stood_in": "",
    } | more


def side_by_side(
    live: list[dict[str, Any]],
    variant: list[dict[str, Any]],
    live_drafts: list[dict[str, Any]] | None = None,
    variant_drafts: list[dict[str, Any]] | None = None,
    labels: list[tuple[str, str, str]] | None = None,
) -> dict[str, dict[str, Any]]:
    nothing = pd.DataFrame({"conversation_id": []})
    found = paired(
        pd.DataFrame(live) if live else nothing,
        pd.DataFrame(variant) if variant else nothing,
        pd.DataFrame(live_drafts) if live_drafts else nothing,
        pd.DataFrame(variant_drafts) if variant_drafts else nothing,
        pd.DataFrame(labels or [], columns=["conversation_id", "label", "analysed"]),
    )
    assert list(found.columns) == PAIR_COLUMNS
    return {str(row["conversation_id"]): row for _, row in found.iterrows()}  # type: ignore[misc]


def test_only_what_both_ways_have_is_compared() -> None:
    assert list(side_by_side([analysis("a"), analysis("b")], [analysis("b")])) == ["b"]
    assert side_by_side([], []) == {}


def test_a_pair_says_what_became_of_each_part() -> None:
    found = side_by_side(
        [analysis("a")],
        [analysis("a", category="order", priority=70, needs_reply=False, summary="1234567")],
        [draft("a", "one two three four")],
    )["a"]
    assert (found["live_category"], found["variant_category"]) == ("billing", "order")
    assert (found["live_priority"], found["variant_priority"]) == (50, 70)
    assert (found["live_needs_reply"], found["variant_needs_reply"]) == (True, False)
    assert (found["live_summary"], found["variant_summary"]) == (5, 7)
    assert (found["live_outcome"], found["variant_outcome"]) == ("ready", NOT_DRAFTED)
    assert pd.isna(found["draft_distance"])


def test_the_distance_is_of_both_ways_texts() -> None:
    found = side_by_side(
        [analysis(key) for key in "abc"],
        [analysis(key) for key in "abc"],
        [draft("a", "one two"), draft("b", "one two three four"), draft("c", "")],
        [draft("a", "one two"), draft("b", "one two five six"), draft("c", "one")],
    )
    assert found["a"]["draft_distance"] == 0
    assert found["b"]["draft_distance"] == pytest.approx(0.5)
    assert pd.isna(found["c"]["draft_distance"])


def test_what_a_person_set_is_not_taken_for_what_the_live_way_said() -> None:
    by_hand = {"category": "order", "category_reason": BY_HAND, "priority_reasons": [BY_HAND]}
    live = [analysis("a", **by_hand), analysis("b", **by_hand)]
    found = side_by_side(live, [analysis("a"), analysis("b")], labels=[("a", "order", "billing")])
    assert (found["a"]["label"], found["a"]["live_category"]) == ("order", "billing")
    assert pd.isna(found["b"]["live_category"])
    assert pd.isna(found["a"]["live_priority"])


# --- figures ---------------------------------------------------------------------------------


def pair(key: str, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "account": "ana-chat",
        "day": "2026-11-19",
        "conversation_id": key,
        "held_out": True,
        "label": None,
        "live_category": "billing",
        "variant_category": "billing",
        "live_priority": 50,
        "variant_priority": 50,
        "live_needs_reply": True,
        "variant_needs_reply": True,
        "live_summary": 100,
        "variant_summary": 100,
        "live_outcome": "ready",
        "variant_outcome": "ready",
        "draft_distance": 0.0,
        "analysis_stood_in": "",
        "draft_stood_in": "",
    }
    assert set(told) == {*PAIR_SCHEMA.names, "account", "day"}
    return told | more


def answer(key: str, live: float, variant: float, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "account": "ana-chat",
        "day": "2026-11-19",
        "feedback_id": key,
        "conversation_id": key,
        "at": NOW,
        "held_out": True,
        "live_distance": live,
        "variant_distance": variant,
        "drafted": True,
        "text": "Hi",
        "category": "billing",
        "model": "double",
        "prompt": "draft/2",
        "stood_in": "",
    }
    assert set(told) == {*ANSWER_SCHEMA.names, "account", "day"}
    return told | more


def test_changes_are_counted_with_their_direction() -> None:
    found = changes(
        pd.DataFrame(
            [
                pair("a", variant_category="order", variant_priority=70),
                pair("b", variant_category="order", variant_priority=60, variant_summary=40),
                pair("c", variant_needs_reply=False, variant_outcome=NOT_DRAFTED),
                pair("d", live_needs_reply=False, live_outcome=NOT_DRAFTED, draft_distance=None),
                pair("e", live_category=None, variant_category="order", live_priority=None),
                pair("f", analysis_stood_in="busy", variant_category="chat", draft_distance=1.0),
                pair("g", draft_stood_in="busy", variant_outcome="no_reply", draft_distance=1.0),
            ]
        )
    )
    assert found.conversations == found.conversation_days == 6
    assert found.category_flips == (Flip("billing", "order", 2),)
    assert (found.category.hits, found.category.of) == (2, 5)
    assert found.priority.value == 6.0  # (20 + 10) / 5
    assert (found.priority_far.hits, found.priority_far.of) == (1, 5)  # 10 points are not more
    assert (found.needs_reply_gained, found.needs_reply_lost) == (1, 1)
    assert found.summary_variant.value == 90.0
    assert found.outcome_flips == (
        Flip(NOT_DRAFTED, "ready", 1),
        Flip("ready", NOT_DRAFTED, 1),
    )
    assert (found.draft_distance.value, found.draft_distance.of) == (0.0, 4)
    assert (found.analyses_stood_in, found.drafts_stood_in) == (1, 1)


def test_answers_say_which_way_is_nearer_to_what_was_sent() -> None:
    found = against_answers(
        pd.DataFrame(
            [
                answer("a", 0.5, 0.0),
                answer("b", 0.4, 0.2),
                answer("c", 0.0, 1.0, drafted=False),
                answer("d", 0.0, 1.0, stood_in="busy"),
            ]
        )
    )
    assert found.live.distance.value == 0.3
    assert found.variant.distance.value == 0.4
    assert found.difference.value == pytest.approx(0.1)
    assert (found.live.unedited.hits, found.variant.unedited.hits) == (1, 1)
    assert found.live.unedited.of == found.variant.unedited.of == 3
    assert (found.not_drafted, found.stood_in) == (1, 1)


def test_labels_are_held_against_a_conversations_last_day_once() -> None:
    found = against_labels(
        pd.DataFrame(
            [
                pair("a", label="order", variant_category="order", day="2026-11-19"),
                pair("a", label="order", variant_category="chat", day="2026-11-18"),
                pair("b", label="order", variant_category="chat"),
                pair("c", label="order", live_category="order", analysis_stood_in="busy"),
                pair("d"),
                pair("a", label="billing", account="ben-chat"),
            ]
        )
    )
    assert (found.live.hits, found.live.of) == (1, 3)
    assert (found.variant.hits, found.variant.of) == (2, 3)


def both_sides(answers: list[dict[str, Any]]) -> Comparison:
    pairs = [pair("a"), pair("b", held_out=False, variant_category="order|x", day="2026-11-02")]
    return compared(pd.DataFrame(pairs), pd.DataFrame(answers))


def test_both_sides_have_figures_of_their_own() -> None:
    found = both_sides([answer("a", 0.2, 0.1), answer("b", 0.2, 0.3, held_out=False)])
    assert (found.first_day, found.last_day) == ("2026-11-02", "2026-11-19")
    assert found.held_out.answers.variant.distance.value == 0.1
    assert found.rest.answers.variant.distance.value == 0.3
    assert found.held_out.changes.category.hits == 0
    assert found.rest.changes.category.hits == 1


def test_nothing_at_all_can_be_summed_up() -> None:
    empty = [s.empty_table().to_pandas().assign(day="", account="") for s in
             (PAIR_SCHEMA, ANSWER_SCHEMA)]  # fmt: skip
    found = compared(*empty)
    assert found.first_day == ""
    assert "nothing can be decided" in verdict(found.held_out)
    assert rows(found) == []
    assert in_numbers(*empty)["conversations compared"] == 0
    assert markdown("x", "draft/2", found)


# --- uncertainty -----------------------------------------------------------------------------


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe, Two-sided confidence intervals for the single proportion (1998), table I.
    assert share(81, 263).low == pytest.approx(0.2553, abs=1e-4)
    assert share(81, 263).high == pytest.approx(0.3662, abs=1e-4)
    assert share(15, 148).low == pytest.approx(0.0624, abs=1e-4)
    assert share(15, 148).high == pytest.approx(0.1605, abs=1e-4)
    assert share(0, 20).low == 0
    assert share(0, 20).high == pytest.approx(0.1611, abs=1e-4)
    assert share(1, 29).low == pytest.approx(0.0061, abs=1e-4)
    assert share(1, 29).high == pytest.approx(0.1718, abs=1e-4)
    assert share(0, 0).value is None


def test_a_bootstrapped_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    held = 0
    for _ in range(300):
        found = mean(random.uniform(0, 1, 60).tolist(), [str(n) for n in range(60)])
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.5 <= found.high
    assert 0.90 < held / 300 < 0.99


def test_many_answers_of_one_conversation_are_not_many_observations() -> None:
    values = [0.1, 0.9] * 20
    alone = mean(values, [str(n) for n in range(40)])
    together = mean(values, [str(n % 2) for n in range(40)])
    assert alone.low is not None
    assert together.low is not None
    assert together.low < alone.low - 0.2
    one = mean(values, ["a"] * 40)
    assert (one.value, one.low, one.high) == (0.5, None, None)


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abc")), max_size=30))
def test_an_interval_holds_its_mean_and_is_the_same_each_time(
    found: list[tuple[float, str]],
) -> None:
    values, groups = [value for value, _ in found], [group for _, group in found]
    one = mean(values, groups)
    assert one == mean(values, groups)
    if one.low is not None:
        assert one.value is not None
        assert one.high is not None
        assert -1e-3 <= one.low <= one.high <= 1 + 1e-3


# --- words -----------------------------------------------------------------------------------


def test_the_verdict_says_what_the_interval_does() -> None:
    nearer = both_sides([answer(str(n), 0.5 + n / 1000, 0.1) for n in range(40)])
    assert verdict(nearer.held_out) == "The variant is nearer to what people sent."
    farther = both_sides([answer(str(n), 0.1, 0.5) for n in range(40)])
    assert verdict(farther.held_out) == "The variant is farther from what people sent."
    same = both_sides([answer(str(n), 0.3, 0.1 + 0.4 * (n % 2)) for n in range(40)])
    assert "No difference" in verdict(same.held_out)
    few = both_sides([answer(str(n), 0.5, 0.1) for n in range(5)])
    assert "5 answers only" in verdict(few.held_out)
    alone = both_sides([answer(str(n), 0.5, 0.1, conversation_id="c") for n in range(40)])
    assert "one conversation" in verdict(alone.held_out)
    seen = both_sides([answer(str(n), 0.5, 0.1, held_out=False) for n in range(40)])
    assert "nothing can be decided" in verdict(seen.held_out)


def test_the_report_has_every_figure_on_its_side_and_says_what_is_few() -> None:
    comparison = both_sides([answer("a", 0.2, 0.1), answer("b", 0.2, 0.3, held_out=False)])
    told = {what: (held, rest) for what, held, rest in rows(comparison)}
    assert told["distance to what was sent, variant"] == ("0.10, of 1, few", "0.30, of 1, few")
    assert told["another category"][1].startswith("100 %")
    report = markdown("x", "draft/2", comparison)
    assert "# Comparison x" in report
    assert r"- billing → order\|x: 1" in report
    table = [line for line in report.splitlines() if line.startswith("| ")]
    assert len(table) == len(told) + 1
    assert all(line.replace(r"\|", "").count("|") == 4 for line in table)


def test_only_the_most_frequent_flips_are_listed() -> None:
    listed = flips([Flip("a", str(n), 20 - n) for n in range(12)])
    assert listed[0] == "a → 0: 20"
    assert listed[-1] == "and 2 more kinds"
    assert len(listed) == 11


def test_figures_become_json() -> None:
    comparison = both_sides([answer("a", 0.2, 0.1)])
    told = replace(comparison, first_day="x").as_json()
    assert told["first_day"] == "x"
    assert told["held_out"]["answers"]["variant"]["distance"]["value"] == 0.1
