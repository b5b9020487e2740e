"""When a conversation waits for its owner, and when it does not."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from communicator_pipeline.analysis import Analysis, OfflineAnalyser
from communicator_pipeline_tests.analysis.conversations import START, transcript

ANALYSER = OfflineAnalyser()


def analysed(*messages: str, kind: str = "dm") -> Analysis:
    return ANALYSER.analyse_one(transcript(*messages, kind=kind))


def test_a_question_in_a_direct_message_needs_a_reply() -> None:
    analysis = analysed("tom: what's the wifi password?")
    assert analysis.needs_reply
    assert analysis.waiting_since == START
    assert "direct message" in analysis.needs_reply_reason


def test_a_question_i_have_answered_needs_no_reply() -> None:
    analysis = analysed("tom: what's the plan for launch?", "ana: we ship on Monday")
    assert not analysis.needs_reply
    assert analysis.waiting_since is None
    assert analysis.needs_reply_reason == "you have answered"


def test_a_new_question_after_my_answer_waits_since_the_new_one() -> None:
    analysis = analysed("tom: is it done?", "ana: yes, it is", "tom: can you send me the link?")
    assert analysis.waiting_since == START + timedelta(minutes=10)


def test_two_questions_wait_since_the_first() -> None:
    analysis = analysed("tom: can you send me the link?", "tom: hello? are you there?")
    assert analysis.waiting_since == START


def test_a_channel_question_that_somebody_answered_does_not_need_me() -> None:
    analysis = analysed("tom: how do I restart it?", "eva: make restart", kind="channel")
    assert not analysis.needs_reply
    assert analysis.needs_reply_reason == "somebody else has answered"


def test_a_mention_needs_me_even_when_somebody_else_spoke_after_it() -> None:
    analysis = analysed(
        "tom: <@ana> can you approve the budget?", "eva: lunch is here", kind="channel"
    )
    assert analysis.needs_reply
    assert "mention" in analysis.needs_reply_reason


def test_a_request_to_somebody_else_by_name_does_not_need_me() -> None:
    analysis = analysed("eva: morning all", "tom: Eva, could you rotate the keys?", kind="channel")
    assert not analysis.needs_reply
    assert analysis.needs_reply_reason == "it is asked of somebody else"


def test_a_mention_of_somebody_else_does_not_need_me() -> None:
    assert not analysed("tom: <@eva> can you deploy this?", kind="channel").needs_reply


@pytest.mark.parametrize(
    "message",
    [
        "tom: Ana, could you look at the failing test?",
        "tom: could you look at the failing test, ana?",
        "tom: Ана, глянь, пожалуйста, тест",
        "tom: @ana can you look?",
    ],
)
def test_my_name_in_a_channel_addresses_me(message: str) -> None:
    found = ANALYSER.analyse_one(transcript(message, kind="channel", names=("Ana", "Ана")))
    assert found.needs_reply


def test_a_name_inside_another_word_does_not_address_me() -> None:
    found = ANALYSER.analyse_one(
        transcript("eva: hi", "tom: Eva, can you send bananas?", kind="channel")
    )
    assert not found.needs_reply


def test_never_mind_closes_a_question() -> None:
    analysis = analysed("tom: how do I reset it?", "tom: never mind, found it")
    assert not analysis.needs_reply
    assert analysis.needs_reply_reason == "it was settled"


def test_thanks_in_advance_does_not_close_a_request() -> None:
    assert analysed("tom: could you send me the report?", "tom: thanks!").needs_reply


def test_thanks_after_somebody_elses_answer_closes_it() -> None:
    analysis = analysed(
        "tom: <@ana> where is the report?", "eva: on the drive", "tom: thanks!", kind="channel"
    )
    assert not analysis.needs_reply


def test_a_reply_to_somebody_elses_message_does_not_answer_mine() -> None:
    asked = transcript(
        "tom: <@ana> can you approve it?", "eva: shall I order lunch?", "ana: yes", kind="channel"
    )
    last = dataclasses.replace(asked.turns[2], reply_to=asked.turns[1].message_id)
    asked = dataclasses.replace(asked, turns=(*asked.turns[:2], last))
    analysis = ANALYSER.analyse_one(asked)
    assert analysis.needs_reply
    assert analysis.waiting_since == START


def test_a_bot_needs_no_reply() -> None:
    analysis = analysed("buildbot: Did you know? You can rerun this job!")
    assert not analysis.needs_reply
    assert analysis.needs_reply_reason == "written by a bot"


def test_what_only_i_have_written_needs_no_reply() -> None:
    analysis = analysed("ana: should I buy milk?")
    assert not analysis.needs_reply
    assert analysis.needs_reply_reason == "only you have written"


def test_a_problem_told_in_a_direct_message_needs_a_reply_without_a_question_mark() -> None:
    assert analysed("mia: i can't log in, it keeps saying error").needs_reply


def test_a_deleted_question_needs_no_reply() -> None:
    asked = transcript("tom: can you help me?")
    gone = dataclasses.replace(asked, turns=(dataclasses.replace(asked.turns[0], deleted=True),))
    assert not ANALYSER.analyse_one(gone).needs_reply


def test_a_question_mark_in_a_link_asks_nothing() -> None:
    assert not analysed("tom: https://example.com/search?q=1").needs_reply


@pytest.mark.parametrize(
    ("message", "needs"),
    [
        ("tom: kannst du mir das schicken", True),
        ("tom: avísame cuando llegues", True),
        ("tom: dis-moi si ça te convient", True),
        ("tom: дай знать, когда будешь на месте", True),
        ("tom: дай знати, коли будеш на місці", True),
        ("tom: 麻烦帮我确认一下", True),
        ("tom: 請幫我確認一下", True),
        ("tom: danke, passt", False),
        ("tom: perfecto, gracias", False),
        ("tom: merci, c'est noté", False),
        ("tom: понял, спасибо", False),
        ("tom: зрозуміло, дякую", False),
        ("tom: 好的，收到", False),
    ],
)
def test_requests_and_thanks_are_told_apart_in_every_language(message: str, needs: bool) -> None:
    assert analysed(message).needs_reply is needs
