"""Which category a conversation gets, and why: one rule per test."""

from __future__ import annotations

import dataclasses

import pytest

from communicator_pipeline.analysis import OfflineAnalyser
from communicator_pipeline_tests.analysis.conversations import transcript


@pytest.fixture(scope="module")
def analyser() -> OfflineAnalyser:
    return OfflineAnalyser()


def sorted_as(analyser: OfflineAnalyser, *messages: str, kind: str = "dm") -> str:
    return analyser.analyse_one(transcript(*messages, kind=kind)).category


def test_answers_that_name_times_do_not_make_a_question_scheduling(
    analyser: OfflineAnalyser,
) -> None:
    said = (
        "tom: which paint did we use for the fence?",
        "eva: the green one, it comes on Tuesday",
        "tom: fine, I am there from 14:30",
    )
    assert sorted_as(analyser, *said, kind="channel") == "question"


@pytest.mark.parametrize(
    "text",
    [
        "can we move it to 9:45 tomorrow? what time works for you",
        "Kannst du kommen, am Dienstag um 15:00?",
        "¿puedo pasar el miércoles a las 17:00?",
        "je peux passer mardi à 14h ?",
        "можно прийти завтра в 12:30?",
        "чи можна прийти завтра о 12:30?",
        "周三可以来吗？什么时候方便",
    ],
)
def test_a_question_about_coming_at_a_time_is_scheduling(
    analyser: OfflineAnalyser, text: str
) -> None:
    assert sorted_as(analyser, f"tom: {text}") == "scheduling"


def test_a_bots_post_is_news_even_if_it_asks_something(analyser: OfflineAnalyser) -> None:
    text = "deploybot: Version 4.2 is out on the server. Please restart, any trouble?"
    analysis = analyser.analyse_one(transcript(text, kind="channel"))
    assert (analysis.category, analysis.category_reason) == ("fyi", "written by a bot")


def test_a_please_to_everybody_who_reads_is_news(analyser: OfflineAnalyser) -> None:
    text = "The new entrance is open from Monday, please note the new opening hours."
    assert sorted_as(analyser, f"tom: {text}", kind="channel") == "fyi"


def test_a_please_to_somebody_named_stays_a_request(analyser: OfflineAnalyser) -> None:
    text = "<@eva> please send me the list"
    assert sorted_as(analyser, f"tom: {text}", kind="channel") == "request"


def test_a_newsletter_is_not_spam_because_one_can_leave_it(analyser: OfflineAnalyser) -> None:
    text = "Digest 44: three articles about steel https://digest.example/44 Unsubscribe"
    assert sorted_as(analyser, f"tom: {text}", kind="channel") == "fyi"


def test_a_warm_remark_without_a_fact_is_small_talk(analyser: OfflineAnalyser) -> None:
    said = "tom: the garden is so beautiful now!"
    assert sorted_as(analyser, said, kind="group") == "social"


def test_a_short_remark_with_a_number_or_a_link_is_news(analyser: OfflineAnalyser) -> None:
    for text in ("412 pieces on the shelf", "the list: https://list.example/a"):
        assert sorted_as(analyser, f"tom: {text}", kind="feed") == "fyi"


def test_a_picture_is_no_document(analyser: OfflineAnalyser) -> None:
    categories = []
    for name in ("IMG_2041.JPG", "report.pdf"):
        plain = transcript("tom: from the two of us", kind="group")
        turn = dataclasses.replace(plain.turns[0], attachments=(name,))
        categories.append(analyser.analyse_one(dataclasses.replace(plain, turns=(turn,))).category)
    assert categories == ["social", "fyi"]


def test_a_question_among_laughter_is_small_talk(analyser: OfflineAnalyser) -> None:
    said = ("tom: is the cake gone? 😂", "eva: ask the ghost 🎃", "tom: me too 🧙", "eva: oh no 😱")
    assert sorted_as(analyser, *said, kind="group") == "social"


def test_news_to_which_somebody_answers_with_a_request_is_a_request(
    analyser: OfflineAnalyser,
) -> None:
    said = ("tom: the parcel came back", "eva: could you send it again")
    assert sorted_as(analyser, *said) == "request"


def test_a_good_morning_does_not_make_small_talk_of_a_question(analyser: OfflineAnalyser) -> None:
    for text in ("Good morning, which paint is it?", "早上好，用哪个？"):
        assert sorted_as(analyser, f"tom: {text}") == "question"
