"""What a conversation's summary quotes."""

from __future__ import annotations

import dataclasses
import re

from communicator_pipeline.analysis import Analysis, OfflineAnalyser
from communicator_pipeline.analysis.summary import MOST_WORDS, word_count
from communicator_pipeline_tests.analysis.conversations import labelled, transcript

ANALYSER = OfflineAnalyser()


def analysed(*messages: str, kind: str = "dm") -> Analysis:
    return ANALYSER.analyse_one(transcript(*messages, kind=kind))


def test_a_short_conversation_is_quoted_with_who_says_what() -> None:
    analysis = analysed("tom: is the demo on Friday?", "eva: yes, it is at ten", kind="group")
    assert analysis.summary == "Tom: “is the demo on Friday?” Eva: “yes, it is at ten”"
    assert analysis.summary_message_ids == ("c1:0", "c1:1")


def test_no_summary_is_longer_than_75_words() -> None:
    long = " ".join(["word"] * 400)
    chinese = "这是一个非常长的消息" * 60
    for text in (long, chinese, "https://x.example/" + "a" * 5000):
        messages = [f"tom: {text}", f"eva: {text}"] * 20
        assert word_count(analysed(*messages, kind="channel").summary) <= MOST_WORDS
    for gold in labelled():
        assert word_count(ANALYSER.analyse_one(gold.transcript).summary) <= MOST_WORDS


def test_a_long_conversation_keeps_its_opening_and_what_is_still_open() -> None:
    chatter = [
        f"{who}: we looked at option {i} and it is fine"
        for i in range(12)
        for who in ("tom", "eva")
    ]
    analysis = analysed(
        "tom: which database do we take for the archive?",
        *chatter,
        "tom: <@ana> can you decide by tomorrow?",
        kind="channel",
    )
    assert "which database do we take" in analysis.summary
    assert "can you decide by tomorrow?" in analysis.summary


def test_the_sentence_that_asks_is_quoted_not_the_pleasantry_before_it() -> None:
    analysis = analysed("tom: Hope you are well. It was great to meet. Could you send the slides?")
    assert "Could you send the slides?" in analysis.summary


def test_a_secret_is_not_quoted() -> None:
    analysis = analysed("tom: here is the key sk-live-abcdefghijklmnop1234 for you")
    assert "abcdefghijklmnop" not in analysis.summary
    assert "secrets" in analysis.flags


def test_files_without_words_are_named() -> None:
    sent = transcript("tom: ")
    turn = dataclasses.replace(sent.turns[0], attachments=("plan.pdf",))
    analysis = ANALYSER.analyse_one(dataclasses.replace(sent, turns=(turn,)))
    assert "plan.pdf" in analysis.summary


def test_the_quoted_messages_hold_the_quoted_words() -> None:
    for gold in labelled():
        analysis = ANALYSER.analyse_one(gold.transcript)
        texts = {t.message_id: t.text for t in gold.transcript.turns}
        cited = " ".join(texts[i] for i in analysis.summary_message_ids)
        for quote in re.findall("“(.*?)…?”", analysis.summary):
            assert quote in cited
