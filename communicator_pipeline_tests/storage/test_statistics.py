"""The numbers agree with a small world that was counted by hand, and are nobody else's."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest

from communicator_pipeline.delivery.approving import undo
from communicator_pipeline.language_model import keeping
from communicator_pipeline.language_model.asking import Usage
from communicator_pipeline.language_model.keeping import Spent
from communicator_pipeline.language_model.model import BUDGET_SETTING, daily_budget
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, NotFound
from communicator_pipeline.storage.database import Row, Statement
from communicator_pipeline.storage.outbox import Outbox
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.statistics import (
    MOST_CATEGORIES,
    NOT_UNDERSTOOD,
    REST,
    Answers,
    Drafts,
    Statistics,
)
from communicator_pipeline_tests.delivery.conftest import Box
from communicator_pipeline_tests.delivery.conftest import stores as stores
from communicator_pipeline_tests.delivery.world import ACCOUNT, START, add_box, say

TODAY = date(2026, 11, 8)  # the Sunday of the week that START begins
WEEK = "2026-11-02"
OTHER = "ana-two"


def talk(stores: Stores, who: str, at: datetime, conversation: str = "c1", **more: Any) -> None:
    """A message that is understood as nothing."""
    number = f"{conversation} {at.isoformat()} {who}"
    say(stores, "…", at=at, author=who, number=number, conversation=conversation, **more)


def minutes(count: float) -> datetime:
    return START + timedelta(minutes=count)


def answers(stores: Stores, days: int = 7, account: str | None = None) -> Answers:
    return Statistics(stores.database, "ana").figures(days, account, TODAY).answers[WEEK]


def test_messages_are_counted_by_the_day_and_its_category(stores: Stores) -> None:
    add_box(stores)
    say(stores, "May I?", at=START, draft="Yes.", category="question")
    talk(stores, "ana", minutes(5))  # the same conversation and day
    say(stores, "Gone", at=minutes(6), number="gone", deleted=True)
    tuesday = START + timedelta(days=1)
    say(stores, "Pay!", at=tuesday, number="9", conversation="c2", draft="No.", category="bill")
    talk(stores, "kim", tuesday, "c3")
    talk(stores, "kim", START - timedelta(days=1), "c3")  # the day before the first
    found = Statistics(stores.database, "ana").figures(7, None, TODAY)
    assert found.categories == ["question", "bill", NOT_UNDERSTOOD]
    assert list(found.messages) == [f"2026-11-0{n}" for n in range(2, 9)]
    assert found.messages["2026-11-02"] == {"question": 2, "bill": 0, NOT_UNDERSTOOD: 0}
    assert found.messages["2026-11-03"] == {"question": 0, "bill": 1, NOT_UNDERSTOOD: 1}
    assert not any(found.messages["2026-11-04"].values())


def test_rare_categories_are_counted_together_and_none_is_lost(stores: Stores) -> None:
    add_box(stores)
    for n in range(MOST_CATEGORIES + 3):
        at = START + timedelta(days=n % 7, minutes=n)
        talk(stores, "kim", at, f"c{n}")
        stores.database.execute(
            "INSERT INTO analyses SELECT ?, ?, ?, '', '', '', '', '', 1, '[]', '', ?, '', 1, '[]', "
            "0, 0, '', NULL, '', '[]', 0, 0, '[]', '', '', '', '[]'",
            (ACCOUNT, f"c{n}", at.date().isoformat(), f"kind {n:02}"),
        )
    found = Statistics(stores.database, "ana").figures(7, None, TODAY)
    assert list(found.categories) == [*(f"kind {n:02}" for n in range(MOST_CATEGORIES)), REST]
    assert sum(of_day[REST] for of_day in found.messages.values()) == 3
    assert sum(sum(of_day.values()) for of_day in found.messages.values()) == MOST_CATEGORIES + 3


def test_a_wait_runs_from_the_first_message_to_the_first_answer(stores: Stores) -> None:
    add_box(stores)
    talk(stores, "kim", minutes(0))
    talk(stores, "lee", minutes(3))
    talk(stores, "ana", minutes(10))
    talk(stores, "ana", minutes(20))
    assert answers(stores) == Answers(1, 0, 600, 600)
    talk(stores, "kim", minutes(30))
    assert answers(stores) == Answers(1, 1, 600, 600)


def test_median_and_nine_of_ten_are_those_of_the_sorted_times(stores: Stores) -> None:
    add_box(stores)
    for n in (7, 1, 9, 3, 11, 5, 2, 10, 4, 8, 6):  # 1…11 minutes
        talk(stores, "kim", minutes(0), f"c{n}")
        talk(stores, "ana", minutes(n), f"c{n}")
    assert answers(stores) == Answers(11, 0, 6 * 60, 10 * 60)
    talk(stores, "kim", minutes(0), "c12")
    talk(stores, "ana", minutes(12), "c12")
    talk(stores, "kim", minutes(0), "never")
    assert answers(stores) == Answers(12, 1, 6.5 * 60, 11 * 60)


def test_an_older_wait_is_not_counted_where_the_days_begin(stores: Stores) -> None:
    add_box(stores)
    talk(stores, "kim", START - timedelta(days=2))
    talk(stores, "kim", minutes(0))  # goes on with the wait
    talk(stores, "ana", minutes(10))
    talk(stores, "ana", START - timedelta(days=2), "c2")
    talk(stores, "kim", minutes(0), "c2")  # begins one
    talk(stores, "ana", minutes(4), "c2")
    assert answers(stores) == Answers(1, 0, 240, 240)
    two_weeks = Statistics(stores.database, "ana").figures(14, None, TODAY).answers
    assert two_weeks["2026-10-26"].answered == 1
    assert two_weeks["2026-10-26"].median == timedelta(days=2, minutes=10).total_seconds()


def test_a_program_waits_for_no_answer_and_the_account_of_another_gives_none(
    stores: Stores,
) -> None:
    add_box(stores)
    add_box(stores, OTHER)
    talk(stores, "robot", minutes(0), "c9")
    stores.database.execute("UPDATE messages SET author_is_bot = 1")
    talk(stores, "kim", minutes(0), account=ACCOUNT)
    talk(stores, "ana", minutes(1), account=OTHER)  # the same name of a conversation
    assert answers(stores) == Answers(0, 1, None, None)


@pytest.fixture
def box(stores: Stores) -> Box:
    return Box(stores)


def test_verdicts_on_drafts_are_counted_once_each(box: Box) -> None:
    for n in (2, 3, 4, 5, 6):
        say(
            box.stores,
            f"Question {n}",
            at=START - timedelta(minutes=n, days=n),
            number=str(n),
            conversation=f"c{n}",
            draft="Yes.",
        )
    box.approve()
    box.approve(conversation="c2")
    box.approve(conversation="c3", text="Yes, but later.")
    taken_back = box.approve(conversation="c4")
    undo(box.database, "ana", taken_back.approval_id, clock=box.clock)
    Outbox(box.database, "ana").keep_rejection(ACCOUNT, "c5", "v", "no", box.clock().wall)
    own = box.approve(conversation="c6")
    assert own.is_new
    found = Statistics(box.database, "ana").figures(14, None, TODAY).drafts
    assert found == {"2026-10-26": Drafts(), WEEK: Drafts(3, 1, 1)}
    assert found[WEEK].all == 5


def test_what_a_policy_approved_is_no_verdict(box: Box) -> None:
    box.approve()
    box.database.execute("DROP TRIGGER approvals_do_not_change")
    box.database.execute("UPDATE approvals SET automatic = 1")
    assert Statistics(box.database, "ana").figures(7, None, TODAY).drafts[WEEK] == Drafts()


def test_nothing_of_anybody_elses_is_counted(box: Box) -> None:
    box.approve()
    talk(box.stores, "ana", minutes(1))
    Accounts(box.database, "vi").add("vi-box", "sandbox", "Vi's")
    box.database.execute(
        "DELETE FROM account_members WHERE account = ? AND user_id = 'vi'", (ACCOUNT,)
    )
    ana, vi = Statistics(box.database, "ana"), Statistics(box.database, "vi")
    theirs = vi.figures(30, None, TODAY)
    assert [key for key, _ in theirs.accounts] == ["vi-box"]
    assert theirs.categories == []
    assert not any(any(of_day.values()) for of_day in theirs.messages.values())
    assert set(theirs.answers.values()) == {Answers()}
    assert set(theirs.drafts.values()) == {Drafts()}
    with pytest.raises(NotFound):
        vi.figures(30, ACCOUNT, TODAY)
    mine = ana.figures(30, None, TODAY)
    assert sum(mine.messages["2026-11-02"].values()) == 2
    assert mine.answers[WEEK].answered == 1
    assert mine.drafts[WEEK] == Drafts(unedited=1)


def test_one_account_is_counted_without_the_others(stores: Stores) -> None:
    add_box(stores)
    add_box(stores, OTHER)
    talk(stores, "kim", minutes(0), account=ACCOUNT)
    talk(stores, "kim", minutes(0), account=OTHER, channel="there")
    counts = [
        sum(Statistics(stores.database, "ana").figures(7, one, TODAY).messages[WEEK].values())
        for one in (ACCOUNT, OTHER, None)
    ]
    assert counts == [1, 1, 2]


def test_all_is_asked_in_one_call(stores: Stores) -> None:
    add_box(stores)
    calls: list[int] = []

    class Counting:
        def execute(self, sql: str, params: object = ()) -> list[Row]:
            raise AssertionError(sql)

        def batch(self, statements: list[Statement]) -> list[list[Row]]:
            calls.append(len(statements))
            return stores.database.batch(statements)

    Statistics(Counting(), "ana").figures(90, ACCOUNT, TODAY)  # type: ignore[arg-type]
    assert len(calls) == 1


@pytest.mark.parametrize("ones_own", ["unset", None, 0, 0.5, 2, 1e9])
@pytest.mark.parametrize("everybodys", ["unset", None, 0, 1, 2.5])
def test_the_inbox_and_the_model_agree_on_the_budget_and_what_is_spent(
    stores: Stores, ones_own: float | str | None, everybodys: float | str | None
) -> None:
    add_box(stores)
    for who, value in (("ana", ones_own), (None, everybodys), ("bo", 0.25)):
        if value != "unset":
            Settings(stores.database, who).set(BUDGET_SETTING, value)
    spent = [
        Spent(user, ACCOUNT, purpose, "model", Usage(1, 10, 5, 0.0, 0.25))
        for user, purpose in (("ana", "analysis"), ("ana", "draft"), ("bo", "draft"))
    ]
    keeping.AnswersInDatabase(stores.database).note([], spent)
    found = Statistics(stores.database, "ana").model_state()
    assert found.budget_usd == daily_budget(stores.database, "ana")
    assert found.spent_usd == keeping.spent_today(stores.database, "ana") == 0.5
    assert ("is spent" in found.words) == (found.budget_usd is not None and found.budget_usd <= 0.5)
