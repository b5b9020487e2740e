"""By when something is wanted. Messages are sent on Wednesday 4 March 2026, 09:00 UTC."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from communicator_pipeline.analysis import DEFAULT_TAXONOMY
from communicator_pipeline.analysis.deadlines import deadline_of
from communicator_pipeline.analysis.reading import Reader
from communicator_pipeline_tests.analysis.conversations import transcript

READER = Reader(DEFAULT_TAXONOMY)


@pytest.mark.parametrize(
    ("language", "text", "day", "hour"),
    [
        ("en", "send it by Friday 14:00 please", 6, 14),
        ("en", "I need it until tomorrow", 5, 18),
        ("en", "please reply by eod", 4, 18),
        ("en", "due on March 20", 20, 18),
        ("en", "by 5pm please", 4, 17),
        ("en", "the deadline is 2026-03-09", 9, 18),
        ("en", "by the day after tomorrow", 6, 18),
        ("de", "bitte bis Freitag schicken", 6, 18),
        ("de", "bis morgen 12 Uhr", 5, 12),
        ("de", "spätestens am 10.3.", 10, 18),
        ("es", "lo necesito antes del viernes", 6, 18),
        ("es", "para mañana a las 10:30", 5, 10),
        ("fr", "avant vendredi 18h stp", 6, 18),
        ("fr", "d'ici demain", 5, 18),
        ("ru", "пришли до пятницы", 6, 18),
        ("ru", "нужно до 10 марта", 10, 18),
        ("uk", "надішли до п'ятниці", 6, 18),
        ("uk", "до завтра 15:00", 5, 15),
        ("zh", "请在周五之前发给我", 6, 18),
        ("zh", "最晚明天下班前", 5, 18),
        ("zh", "3月10日之前", 10, 18),
    ],
)
def test_deadlines_are_read_in_every_language(
    language: str, text: str, day: int, hour: int
) -> None:
    found = deadline_of(READER.read(transcript(f"tom: {text}").turns[0], 0), language)
    assert found is not None
    assert found.at == datetime(2026, 3, day, hour, found.at.minute, tzinfo=UTC)
    assert found.strict


@pytest.mark.parametrize("text", ["by the way, nice work", "until then!", "before I forget"])
def test_by_without_a_day_is_no_deadline(text: str) -> None:
    assert deadline_of(READER.read(transcript(f"tom: {text}").turns[0], 0), "en") is None


def test_a_day_without_by_is_a_date_and_no_limit() -> None:
    reading = READER.read(transcript("tom: can you call me on Friday?").turns[0], 0)
    found = deadline_of(reading, "en")
    assert found is not None
    assert not found.strict


@pytest.mark.parametrize("text", ["by February 30", "by 99/99", "by 31.2.", "by 2026-13-45"])
def test_a_day_that_does_not_exist_is_no_deadline(text: str) -> None:
    reading = READER.read(transcript(f"tom: {text}").turns[0], 0)
    assert deadline_of(reading, "en") is None
