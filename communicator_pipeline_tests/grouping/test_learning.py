"""The learning machinery: trees, boosting, scores, restyled chats, and the shipped artefact."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from communicator_pipeline.grouping import trees as trees_module
from communicator_pipeline.grouping.boosting import Examples, Settings, boost
from communicator_pipeline.grouping.features import FEATURES
from communicator_pipeline.grouping.linker import ARTEFACT, learnt_linker
from communicator_pipeline.grouping.restyle import Line, restyled
from communicator_pipeline.grouping.scores import agreement
from communicator_pipeline.grouping.train import score

SETTINGS = Settings(trees=20, rate=0.3, row_share=0.8, smoothing=1.0, depth=3, column_share=1.0)


def toy(seed: int) -> Examples:
    """The right candidate is the one with the largest first column; the second is noise."""
    random = np.random.default_rng(seed)
    columns = random.random((2, 400 * 4)).astype(np.float32)
    best = columns[0].reshape(400, 4).argmax(axis=1)
    right = np.arange(4)[None, :] == best[:, None]
    return Examples(columns, np.ones((400, 4), np.bool_), right, np.ones(400))


def test_boosting_learns_which_candidate_is_right() -> None:
    learnt = boost(("signal", "noise"), toy(1), SETTINGS)
    unseen = toy(2)
    chosen = learnt.score(unseen.columns).reshape(400, 4).argmax(axis=1)
    assert unseen.right[np.arange(400), chosen].mean() > 0.9


def test_boosting_gives_the_same_trees_for_the_same_seed() -> None:
    once, again = (boost(("signal", "noise"), toy(1), SETTINGS) for _ in range(2))
    np.testing.assert_array_equal(once.leaf, again.leaf)
    np.testing.assert_array_equal(once.threshold, again.threshold)


def test_trees_survive_their_file(tmp_path: Path) -> None:
    learnt = boost(("signal", "noise"), toy(1), SETTINGS).with_step("noise", -2.0)
    trees_module.save(tmp_path / "trees.npz", {"a": learnt, "b": learnt.first(3)})
    read = trees_module.load(tmp_path / "trees.npz")
    columns = toy(3).columns
    np.testing.assert_array_equal(read["a"].score(columns), learnt.score(columns))
    assert len(read["b"].leaf) == 3
    assert read["a"].names == ("signal", "noise")


def test_trees_add_up_from_any_cut() -> None:
    learnt = boost(("signal", "noise"), toy(1), SETTINGS)
    columns = toy(3).columns
    parts = learnt.first(7).score(columns) + learnt.after(7).score(columns)
    np.testing.assert_allclose(parts, learnt.score(columns), atol=1e-5)


def test_a_step_moves_only_where_its_feature_is_one() -> None:
    learnt = boost(("signal", "noise"), toy(1), SETTINGS)
    columns = np.array([[0.3, 0.3], [0.0, 1.0]], np.float32)
    moved = learnt.with_step("noise", -2.0).score(columns) - learnt.score(columns)
    np.testing.assert_allclose(moved, [0.0, -2.0], atol=1e-5)


def test_the_artefact_is_small_and_of_these_features() -> None:
    assert ARTEFACT.stat().st_size < 1_500_000
    assert learnt_linker(ARTEFACT).quiet.names == FEATURES


def test_an_artefact_of_other_features_is_refused_with_an_instruction(tmp_path: Path) -> None:
    other = boost(("signal", "noise"), toy(1), SETTINGS)
    trees_module.save(tmp_path / "other.npz", {"calling": other, "quiet": other})
    with pytest.raises(ValueError, match=r"run grouping/train\.py"):
        learnt_linker(tmp_path / "other.npz")


def test_grouping_imports_nothing_that_only_learning_needs() -> None:
    code = (
        "import sys, communicator_pipeline.grouping as g; g.default_linker();"
        "print([m for m in ('sklearn', 'scipy', 'dagster', 'fastapi') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_perfect_agreement_scores_a_hundred() -> None:
    gold = {"a": 1, "b": 1, "c": 2}
    found = agreement(gold, {"a": "x", "b": "x", "c": "y"}, {("b", "a")}, {("b", "a")})
    assert (found.variation, found.one_to_one, found.exact, found.link) == (100, 100, 100, 100)


def test_scores_of_one_lump_are_those_of_the_literature() -> None:
    gold = {"a": 1, "b": 1, "c": 2, "d": 2}
    found = agreement(gold, dict.fromkeys(gold, "x"))
    assert found.variation == pytest.approx(50.0)  # one bit lost of two
    assert found.one_to_one == pytest.approx(50.0)
    assert found.exact == 0.0


def talk(stream: str = "s") -> list[Line]:
    return [
        Line(stream, 0, 0.0, "ana", "any idea why sound fails?", False, 0, (0,)),
        Line(stream, 1, 60.0, "zed", "ana: muted?", False, 0, (0,)),
        Line(stream, 2, 60.0, "joe", "joe joined", True, 2, (2,)),
        Line(stream, 3, 120.0, "ana", "zed: indeed, thanks", False, 0, (1,)),
        Line(stream, 4, 900.0, "joe", "who knows a mail client?", False, 4, (4,)),
        Line(stream, 5, 960.0, "ana", "joe: mutt", False, 4, (4,)),
    ]


def test_a_restyled_chat_keeps_its_talks_whole_and_its_people_few() -> None:
    for seed in range(20):
        lines = restyled(talk(), "new", np.random.default_rng(seed))
        assert [x.index for x in lines] == list(range(5))
        assert {x.talk for x in lines} == {0, 4}
        assert not any(x.system for x in lines)
        assert all(p <= x.index for x in lines for p in x.parents)
        assert not {"ana", "zed", "joe"} & {x.author for x in lines}
        assert lines == restyled(talk(), "new", np.random.default_rng(seed))


def test_a_labelled_stream_can_be_scored() -> None:
    assert score(talk()).one_to_one >= 80
