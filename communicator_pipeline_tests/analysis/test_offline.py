"""The analyser as a whole: taxonomies, odd input, errors."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pytest
from pydantic import ValidationError

from communicator_pipeline.analysis import (
    DEFAULT_TAXONOMY,
    AnalysisError,
    Category,
    OfflineAnalyser,
    Taxonomy,
)
from communicator_pipeline.messages import Transcript
from communicator_pipeline_tests.analysis.conversations import START, transcript

GARDEN = Taxonomy(
    categories=(
        Category(name="plants", cues=("tomato*", "roses", "浇水"), weight=7),
        Category(name="tools", cues=("lawn mower", "spade")),
        Category(name="rest"),
    ),
    fallback="rest",
)


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("how are the tomatoes?", "plants"),
        ("please bring the lawn mower", "tools"),
        ("the lawn is green", "rest"),
        ("记得浇水", "plants"),
        ("is the server down?", "rest"),
    ],
)
def test_a_users_own_categories_work_from_their_cues_alone(text: str, category: str) -> None:
    analysis = OfflineAnalyser(GARDEN).analyse_one(transcript(f"tom: {text}"))
    assert analysis.category == category


def test_the_reason_names_the_cue_as_it_was_written() -> None:
    analysis = OfflineAnalyser(GARDEN).analyse_one(transcript("tom: Tomatoes are ripe"))
    assert analysis.category_reason == "says “Tomatoes”"
    assert "+7 category plants" in analysis.priority_reasons


def test_a_taxonomy_survives_json() -> None:
    for taxonomy in (GARDEN, DEFAULT_TAXONOMY):
        assert Taxonomy.model_validate_json(taxonomy.model_dump_json()) == taxonomy


def test_a_removed_category_is_never_chosen() -> None:
    without = Taxonomy(
        categories=tuple(c for c in DEFAULT_TAXONOMY.categories if c.name != "social"),
        fallback="fyi",
    )
    analysis = OfflineAnalyser(without).analyse_one(transcript("tom: happy birthday!"))
    assert analysis.category in without.names


def test_a_taxonomy_refuses_two_categories_of_one_name_and_an_unknown_fallback() -> None:
    with pytest.raises(ValidationError, match="share a name"):
        Taxonomy(categories=(Category(name="a"), Category(name="a")), fallback="a")
    with pytest.raises(ValidationError, match="fallback"):
        Taxonomy(categories=(Category(name="a"),), fallback="b")


def test_a_broken_transcript_names_its_conversation() -> None:
    good = transcript("tom: hi, are you there?")
    broken = dataclasses.replace(good, conversation_id="bad", turns=cast(Any, (None,)))
    with pytest.raises(AnalysisError, match="bad") as caught:
        OfflineAnalyser().analyse_one(broken)
    assert caught.value.conversation_id == "bad"


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "\n\n", "🎉" * 50, "a" * 50_000, "?" * 5000, "\ud800 lone surrogate", "\x00",
        "x " * 30_000, "«»", "``````", "<@", "<@ana>", "[](" * 500, ":" * 100, "١٢٣", "№",
    ],
)  # fmt: skip
def test_odd_messages_are_analysed_all_the_same(text: str) -> None:
    for kind in ("dm", "group", "channel", "feed"):
        analysis = OfflineAnalyser().analyse_one(transcript(f"tom: {text}", kind=kind))
        assert 0 <= analysis.priority <= 100
        assert analysis.category in DEFAULT_TAXONOMY.names


def test_a_conversation_without_turns_is_analysed() -> None:
    empty = Transcript("c", "ch", "x", "dm", START, ())
    analysis = OfflineAnalyser().analyse_one(empty)
    assert analysis.language == "und"
    assert not analysis.needs_reply
    assert analysis.summary == ""


def test_a_batch_keeps_its_order() -> None:
    transcripts = [transcript("tom: hi", conversation_id=f"c{i}") for i in range(20)]
    found = OfflineAnalyser().analyse(transcripts)
    assert [a.conversation_id for a in found] == [t.conversation_id for t in transcripts]


def test_two_hundred_turns_are_read_quickly_enough() -> None:
    import time

    turns = [
        f"{who}: what do you think about option {i}?" for i in range(100) for who in ("tom", "eva")
    ]
    long = transcript(*turns, kind="channel")
    analyser = OfflineAnalyser()
    started = time.process_time()
    analyser.analyse_one(long)
    assert time.process_time() - started < 0.5


def test_scikit_learn_is_not_needed_to_analyse() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from communicator_pipeline.analysis import OfflineAnalyser; OfflineAnalyser();"
        "import communicator_pipeline.drafting;"
        "heavy = ('sklearn', 'scipy', 'dagster', 'fastapi', 'pandas');"
        "print([m for m in heavy if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
