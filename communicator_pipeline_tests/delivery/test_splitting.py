"""A long reply is cut where a reader pauses, and no part is too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from communicator_pipeline.delivery.splitting import MEASURES, CannotSplit, split, split_for
from communicator_pipeline.platforms.protocol import Sending


def test_a_text_that_fits_is_one_part() -> None:
    assert split("hello there", 11) == ["hello there"]
    assert split_for("hello there ", None) == ["hello there"]


def test_it_is_cut_between_paragraphs_first() -> None:
    assert split("One. Two.\n\nThree. Four.", 20) == ["One. Two.", "Three. Four."]


def test_then_between_lines_sentences_and_words() -> None:
    assert split("one two\nthree four", 14) == ["one two", "three four"]
    assert split('He said "no." Then he left.', 20) == ['He said "no."', "Then he left."]
    assert split("one two three", 8) == ["one two", "three"]
    assert split("第一句话。第二句话。", 6) == ["第一句话。", "第二句话。"]


def test_a_word_that_is_too_long_is_cut_but_no_sign_of_it() -> None:
    assert split("abcdefgh", 3) == ["abc", "def", "gh"]
    family = "👨‍👩‍👧‍👦"
    assert split(family * 3, 10) == [family, family, family]
    assert split("e\u0301" * 4, 5) == ["e\u0301" * 2, "e\u0301" * 2]
    assert split("🇩🇪🇫🇷🇪🇸", 5) == ["🇩🇪🇫🇷", "🇪🇸"]


def test_code_stays_whole_if_it_fits() -> None:
    code = "```\na = 1\n\nb = 2\n```"
    assert split(f"Some words first.\n\n{code}", 24) == ["Some words first.", code]


def test_code_that_does_not_fit_is_closed_and_opened_again() -> None:
    lines = "\n".join(f"line {number}" for number in range(6))
    parts = split(f"```py\n{lines}\n```", 30)
    assert all(part.startswith("```py\n") and part.endswith("\n```") for part in parts)
    said = "\n".join(part.removeprefix("```py\n").removesuffix("\n```") for part in parts)
    assert said == lines


def test_each_platforms_unit_is_its_own() -> None:
    assert [MEASURES[unit]("né😀") for unit in ("characters", "utf16", "bytes", "x_weighted")] == [
        3,
        4,
        7,
        4,
    ]
    promise = Sending(repeats=False, looks_up=True, longest=280, unit="x_weighted")
    link = "https://example.com/" + "x" * 300
    assert split_for(f"look: {link}", promise) == [f"look: {link}"]
    assert len(split_for("字 " * 200, promise)) == 3


def test_a_limit_that_no_sign_fits_into_is_refused() -> None:
    with pytest.raises(CannotSplit, match="takes too little"):
        split("😀", 3, MEASURES["bytes"])


@given(st.text(max_size=300), st.integers(8, 60), st.sampled_from(sorted(MEASURES)))
def test_no_part_is_too_long_or_empty_and_no_word_is_lost(
    text: str, longest: int, unit: str
) -> None:
    measure = MEASURES[unit]  # type: ignore[index]
    try:
        parts = split(text, longest, measure)
    except CannotSplit:
        return
    assert all(part and measure(part) <= longest for part in parts)
    if "```" not in text and "~~~" not in text:
        assert "".join("".join(parts).split()) == "".join(text.split())


@given(
    st.lists(st.sampled_from(["```", "~~~", "```py", "a line", "", "word " * 9]), max_size=20),
    st.integers(12, 40),
)
def test_code_fences_in_any_order_do_no_harm(lines: list[str], longest: int) -> None:
    parts = split("\n".join(lines), longest)
    assert all(part and len(part) <= longest for part in parts)
    assert "".join(parts).count("word") == "\n".join(lines).count("word")
