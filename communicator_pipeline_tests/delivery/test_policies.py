"""Nothing is approved without a person unless an owner has opened exactly that."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from communicator_pipeline.delivery.approving import edit, reject
from communicator_pipeline.delivery.policies import (
    Candidate,
    approve_by_policy,
    links_from_elsewhere,
    reasons_against,
)
from communicator_pipeline.platforms.protocol import Target
from communicator_pipeline.storage.outbox import Outbox, Policy, SourceMessage
from communicator_pipeline_tests.delivery.conftest import Box
from communicator_pipeline_tests.delivery.world import ACCOUNT, START, say

QUESTION = SourceMessage(
    "general:1",
    1,
    "general",
    None,
    START,
    "Kim",
    "kim",
    False,
    False,
    "Is https://example.com/plan the plan?",
    "[]",
    False,
)
GOOD = Candidate(
    platform="slack",
    category="question",
    outcome="ready",
    text="Yes, that is the plan.",
    confidence=0.9,
    gaps=(),
    flags=(),
    target=Target("general", None, "general:1"),
    messages=(QUESTION,),
)
OPEN = Policy("ana-box", "question", 0.8, 3, "ana", START, None, "", 0)


def test_an_open_policy_approves_a_good_draft() -> None:
    assert reasons_against(GOOD, OPEN) == []
    same_link = replace(GOOD, text="Yes: https://example.com/plan.")
    assert reasons_against(same_link, OPEN) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"confidence": 0.79}, "0.80 is asked for"),
        ({"platform": "x"}, "X asks for consent"),
        ({"outcome": "needs_fill"}, "not ready"),
        ({"gaps": ("[…: date]",)}, "not ready"),
        ({"text": "On […: date]."}, "not ready"),
        ({"text": " "}, "empty"),
        ({"flags": ("injection",)}, "flagged: injection"),
        ({"text": "See https://evil.example/plan"}, "links that nobody in the thread wrote"),
        ({"text": "The password is hunter2x!"}, "looks like a secret"),
        ({"text": "key sk_live_abcdefghijklmnop1234"}, "looks like a secret"),
        ({"target": Target("everyone", None, None)}, "another chat"),
        ({"text": "Ask <@U999>."}, "people who are not in the thread: U999"),
        ({"text": "Ask @lu."}, "people who are not in the thread: lu"),
        ({"text": "@here Yes."}, "people who are not in the thread: here"),
        ({"messages": ()}, "no thread"),
        ({"messages": (replace(QUESTION, thread_id="general:0"),)}, "leaves the thread"),
        ({"rejected": True}, "turned this draft down"),
        ({"edited": True}, "changed this draft"),
    ],
)
def test_a_person_looks_at_what_is_not(changes: dict[str, object], says: str) -> None:
    assert says in " ".join(reasons_against(replace(GOOD, **changes), OPEN))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (None, "nobody has opened"),
        (replace(OPEN, revoked_at=START, revoked_why="ana changed a draft"), "was revoked: ana"),
        (replace(OPEN, used_today=3), "the cap"),
    ],
)
def test_without_an_open_policy_a_person_looks(policy: Policy | None, says: str) -> None:
    assert says in " ".join(reasons_against(GOOD, policy))


def test_a_link_counts_by_its_address_and_not_by_its_spelling() -> None:
    assert links_from_elsewhere("http://example.com/plan/", [QUESTION]) == []
    assert links_from_elsewhere("www.example.org/x and bit.ly/abc", [QUESTION]) == [
        "www.example.org/x",
        "bit.ly/abc",
    ]
    gone = replace(QUESTION, deleted=True)
    assert links_from_elsewhere("https://example.com/plan", [gone]) != []


# --- with the database -----------------------------------------------------------------------


def run(box: Box) -> list[str]:
    judged = approve_by_policy(
        box.stores, promise=box.platform.promise, environment_opens=True, clock=box.clock
    )
    return judged.approved


def opened(box: Box, cap: int = 5, threshold: float = 0.8) -> None:
    box.outbox.open_policy(ACCOUNT, "question", threshold, cap, START)


def test_off_by_default_and_on_where_an_owner_has_opened_it(box: Box) -> None:
    assert run(box) == []
    opened(box)
    (approval,) = run(box)
    assert run(box) == []
    (reply,) = box.outbox.parts(approval)
    assert reply.approved_by == "ana"
    assert reply.delivery.changed_by == "policy:question"
    box.clock.pass_by(10)
    box.deliver()
    assert box.arrived() == ["Yes, I can."]


def test_only_an_owner_opens_it(box: Box) -> None:
    with pytest.raises(PermissionError, match="only an owner"):
        Outbox(box.database, "bo").open_policy(ACCOUNT, "question", 0.5, 1, START)


def test_no_more_than_the_daily_cap(box: Box) -> None:
    opened(box, cap=2)
    for number in range(2, 5):
        say(
            box.stores,
            "And you?",
            at=START - timedelta(days=number),
            number=f"{number}",
            conversation=f"c{number}",
            draft="Me too.",
        )
    assert len(run(box)) == 2
    assert run(box) == []
    box.clock.pass_by(timedelta(days=1).total_seconds())
    assert len(run(box)) == 2


def test_the_first_draft_that_a_person_changes_revokes_it(box: Box) -> None:
    opened(box)
    box.approve(text="Yes, at five sharp.")
    policy = box.outbox.policies(ACCOUNT, START)["question"]
    assert not policy.is_open
    assert policy.revoked_why == "ana changed a draft of this category"
    say(
        box.stores,
        "And you?",
        at=START - timedelta(days=2),
        number="2",
        conversation="c2",
        draft="Me too.",
    )
    assert run(box) == []
    opened(box)
    assert len(run(box)) == 1


def test_a_draft_as_it_stands_approved_by_a_person_revokes_nothing(box: Box) -> None:
    opened(box)
    box.approve()
    assert box.outbox.policies(ACCOUNT, START)["question"].is_open


@pytest.mark.parametrize(
    "draft",
    [
        {"draft": "On […: date].", "outcome": "needs_fill", "gaps": ["[…: date]"]},
        {"draft": "Sure.", "flags": ["suspicious"]},
        {"draft": "Sure.", "conversation_flags": ["injection"]},
        {"draft": "Sure.", "confidence": 0.5},
        {"draft": "Sure.", "category": "request"},
        {"draft": ""},
    ],
)
def test_what_a_person_has_to_see_is_left_to_them(box: Box, draft: dict[str, object]) -> None:
    opened(box)
    box.database.execute("DELETE FROM drafts")
    say(box.stores, "Hm?", at=START, number="5", conversation="c5", **draft)  # type: ignore[arg-type]
    assert run(box) == []


def test_a_persons_no_or_a_persons_words_are_not_overruled(box: Box) -> None:
    opened(box)
    edit(box.database, "bo", ACCOUNT, "c1", "Maybe.", clock=box.clock)
    assert run(box) == []
    reject(box.database, "bo", ACCOUNT, "c1", clock=box.clock)
    assert run(box) == []


def test_nothing_is_approved_for_the_day_on_which_the_gates_open(box: Box) -> None:
    opened(box)
    box.outbox.stop_sending(ACCOUNT, "holiday", START)
    assert run(box) == []


def test_revoked_by_hand(box: Box) -> None:
    opened(box)
    assert box.outbox.revoke_policy(ACCOUNT, "question", "enough", START)
    assert not box.outbox.revoke_policy(ACCOUNT, "question", "enough", START)
    assert run(box) == []
