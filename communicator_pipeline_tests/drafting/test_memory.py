"""Finding an earlier answer again."""

from __future__ import annotations

import dataclasses
import time
from datetime import timedelta

import numpy as np

from communicator_pipeline.drafting import ReplyMemory, ReplyPair
from communicator_pipeline.drafting.memory import hashed_ngrams
from communicator_pipeline_tests.analysis.conversations import START, transcript


def pair(inbound: str, reply: str, language: str = "en", number: int = 0) -> ReplyPair:
    sent = START + timedelta(minutes=number)
    return ReplyPair(inbound, reply, language, f"c{number}", f"m{number}", sent, "bob", "Bob")


def test_the_likest_pair_comes_first_and_like_itself_is_1() -> None:
    memory = ReplyMemory.from_pairs(
        [
            pair("where is the coffee machine", "in the kitchen on the left", number=1),
            pair("how do I reset my password", "click on reset", number=2),
        ]
    )
    best = memory.nearest("how do I reset my password", "en", 2)[0]
    assert best.pair.message_id == "m2"
    assert best.likeness > 0.99


def test_of_equal_pairs_the_newest_answer_wins() -> None:
    memory = ReplyMemory.from_pairs(
        [pair("where is the key", f"in drawer {i} of the desk", number=i) for i in range(5)]
    )
    assert memory.nearest("where is the key", "en", 1)[0].pair.message_id == "m4"


def test_of_answers_alike_in_all_but_words_the_same_is_chosen_in_whatever_order_they_come() -> None:
    question = "When do you open on Saturday?"
    pairs = [
        dataclasses.replace(pair(question, f"At {hour}."), conversation_id=f"c{hour}")
        for hour in range(8, 12)
    ]
    found = [
        [match.pair.reply for match in ReplyMemory(some).nearest(question, "en", k=4)]
        for some in (pairs, pairs[::-1], [*pairs[2:], *pairs[:2]])
    ]
    assert found[0] == found[1] == found[2]


def test_an_empty_memory_finds_nothing() -> None:
    assert ReplyMemory.from_pairs([]).nearest("hello", "en", 3) == []
    assert ReplyMemory.from_pairs([pair("a b c", "d e f")]).nearest("", "en", 3) == []


def test_the_owners_reply_is_paired_with_the_message_it_names() -> None:
    said = transcript("tom: where is the key?", "eva: lunch anybody?", "ana: in the red drawer")
    last = dataclasses.replace(said.turns[2], reply_to=said.turns[0].message_id)
    said = dataclasses.replace(said, turns=(*said.turns[:2], last))
    memory = ReplyMemory.from_transcripts([said])
    assert memory.nearest("where is the key?", "en", 1)[0].pair.person == "tom"


def test_only_the_first_answer_after_a_message_is_paired_with_it() -> None:
    said = transcript("tom: where is the key?", "ana: in the red drawer", "ana: also, lunch?")
    assert len(ReplyMemory.from_transcripts([said])) == 1


def test_an_ngram_never_reaches_into_the_next_text() -> None:
    together, _ = hashed_ngrams(["abcd", "efgh"])
    alone, _ = hashed_ngrams(["abcd"])
    assert np.count_nonzero(together == 0) == len(alone)


def test_a_search_among_twenty_thousand_answers_takes_milliseconds_at_most() -> None:
    words = [
        "key",
        "door",
        "lamp",
        "desk",
        "chair",
        "printer",
        "router",
        "screen",
        "cable",
        "mouse",
        "invoice",
        "order",
    ]
    pairs = [
        pair(
            f"where is the {words[i % 12]} of room {words[i // 12 % 12]} number {i}",
            "here",
            "en",
            i,
        )
        for i in range(20_000)
    ]
    memory = ReplyMemory.from_pairs(pairs)
    started = time.process_time()
    for i in range(50):
        memory.nearest(f"where is the {words[i % 12]} please", "en", 3)
    assert (time.process_time() - started) / 50 < 0.01
