"""The points of a conversation and how they are explained."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta

from communicator_pipeline.analysis import Analysis, OfflineAnalyser, aged_priority
from communicator_pipeline_tests.analysis.conversations import START, labelled, transcript

ANALYSER = OfflineAnalyser()


def analysed(*messages: str, kind: str = "dm") -> Analysis:
    return ANALYSER.analyse_one(transcript(*messages, kind=kind))


def test_the_reasons_add_up_to_the_priority() -> None:
    for gold in labelled():
        analysis = ANALYSER.analyse_one(gold.transcript)
        points = [int(m[0]) for r in analysis.priority_reasons if (m := re.match(r"[+-]\d+", r))]
        assert sum(points) == analysis.priority
        assert 0 <= analysis.priority <= 100


def test_a_direct_question_with_a_deadline_says_why_it_is_urgent() -> None:
    reasons = analysed("tom: can you send me the contract by Friday 14:00?").priority_reasons
    assert "+25 direct message" in reasons
    assert "+10 question to you" in reasons
    assert "+14 deadline: by Friday 14:00" in reasons


def test_a_nearer_deadline_counts_more() -> None:
    def by(when: str) -> int:
        return analysed(f"tom: can you send me the contract by {when}?").priority

    assert by("today 13:00") > by("tomorrow") > by("Saturday") > by("next week")


def test_an_upset_customer_comes_before_a_calm_one() -> None:
    calm = analysed("mia: where is my order?")
    upset = analysed("mia: where is my order?? this is UNACCEPTABLE, worst service ever!!")
    assert upset.priority > calm.priority
    assert upset.sentiment < 0
    assert "+10 upset tone" in upset.priority_reasons


def test_an_outage_comes_before_small_talk() -> None:
    outage = analysed("tom: <@ana> production is down, 503s everywhere", kind="channel")
    assert outage.priority > analysed("tom: how was your weekend?").priority + 15


def test_spam_stands_at_the_bottom() -> None:
    spam = analysed("x: You have won a prize! Click here to claim your prize http://x.example")
    assert spam.priority == 0
    assert not spam.needs_reply


def test_a_marked_person_comes_first() -> None:
    asked = transcript("tom: are the slides ready?")
    marked = OfflineAnalyser(priority_people=frozenset({"tom"})).analyse_one(asked)
    assert marked.priority == ANALYSER.analyse_one(asked).priority + 15
    assert "+15 from a person you marked" in marked.priority_reasons


def test_waiting_adds_points_and_says_how_long() -> None:
    asked = transcript("tom: are the slides ready?")
    later = dataclasses.replace(asked, as_of=START + timedelta(days=1, hours=1))
    assert "+8 waiting 1 day" in ANALYSER.analyse_one(later).priority_reasons


def test_the_displayed_priority_ages_to_what_an_analysis_of_now_would_say() -> None:
    asked = transcript("tom: are the slides ready?")
    then = ANALYSER.analyse_one(asked)
    for hours in (0, 1, 3, 9, 30, 60, 400):
        now = asked.as_of + timedelta(hours=hours)
        fresh = ANALYSER.analyse_one(dataclasses.replace(asked, as_of=now))
        assert aged_priority(then.priority, then.waiting_since, asked.as_of, now) == fresh.priority


def test_what_waits_for_nobody_does_not_age() -> None:
    assert aged_priority(30, None, START, START + timedelta(days=9)) == 30


def test_a_thank_you_is_not_upset() -> None:
    analysis = analysed("tom: thank you so much, this is GREAT WORK EVERYBODY!!")
    assert analysis.sentiment > 0
    assert not any("tone" in r for r in analysis.priority_reasons)


def test_not_bad_is_not_negative() -> None:
    assert analysed("tom: that is not bad").sentiment >= 0
    assert analysed("tom: das ist nicht gut").sentiment < 0
