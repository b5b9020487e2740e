"""What people say of grouping and labels is kept once, for their accounts only, with what follows
from it in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, NotFound, add_user
from communicator_pipeline.storage.corrections import (
    BY_HAND,
    KEEP,
    LONGEST_WHY,
    Corrections,
    Label,
    labels,
    placements,
)
from communicator_pipeline.storage.feedback import feedback_of_account
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline_tests.delivery.world import ACCOUNT, START, add_box, say

FIRST, SECOND, THIRD = "chat:1", "chat:2", "chat:3"
CATEGORIES = ("question", "sales", "fyi")
DAYS = [f"{START - timedelta(days=days):%Y-%m-%d}" for days in (3, 2, 1)]


@pytest.fixture
def box(stores: Stores) -> Stores:
    """Ana's box, which bo reviews and vi reads, with three conversations of a channel on three days
    and one of another channel."""
    add_box(stores)
    for number, days in (("1", 3), ("2", 2), ("3", 1)):
        say(
            stores,
            f"Question {number}?",
            at=START - timedelta(days=days),
            number=number,
            conversation=f"chat:{number}",
            channel="chat",
            draft="Yes.",
        )
    say(
        stores, "Elsewhere?", at=START, number="9", conversation="far:9", channel="far", draft="No."
    )
    return stores


@pytest.fixture
def ana(box: Stores) -> Corrections:
    return Corrections(box.database, "ana")


def dirty(box: Stores) -> dict[str, int]:
    return {day.day: day.mark for day in WorkQueue(box.database).dirty()}


def relabel(who: Corrections, conversation: str = FIRST, **what: object) -> Label:
    return who.relabel(ACCOUNT, conversation, CATEGORIES, START, **what)  # type: ignore[arg-type]


# --- merge and split -------------------------------------------------------------------------


@pytest.mark.parametrize("named", [(FIRST, THIRD), (THIRD, FIRST)])
def test_the_later_conversation_is_linked_to_the_earlier_one(
    box: Stores, ana: Corrections, named: tuple[str, str]
) -> None:
    found = ana.merge(ACCOUNT, *named, START)
    assert found.conversation_id == FIRST
    assert placements(box.database, ACCOUNT) == {THIRD: FIRST}
    assert sorted(dirty(box)) == [DAYS[0], DAYS[2]]


def test_the_later_one_goes_on_from_what_was_said_last_before_it(
    box: Stores, ana: Corrections
) -> None:
    for number, hours in (("4", 2), ("5", 60)):
        say(
            box, "And?", at=START - timedelta(days=3) + timedelta(hours=hours), number=number,
            conversation=FIRST, channel="chat",
        )  # fmt: skip
    ana.merge(ACCOUNT, FIRST, SECOND, START)
    assert placements(box.database, ACCOUNT) == {SECOND: "chat:4"}


def test_saying_it_twice_is_saying_it_once(box: Stores, ana: Corrections) -> None:
    first = ana.merge(ACCOUNT, FIRST, SECOND, START)
    again = ana.merge(ACCOUNT, SECOND, FIRST, START)
    assert (again.regrouping_id, again.is_new) == (first.regrouping_id, False)
    regrouped, _ = ana.of_conversation(ACCOUNT, FIRST)
    assert len(regrouped) == 1


def test_many_who_say_the_same_at_once_have_said_it_once(box: Stores, ana: Corrections) -> None:
    found: list[str] = []

    def say_it() -> None:
        who = Corrections(box.database, "ana")
        found.append(who.merge(ACCOUNT, FIRST, SECOND, START).regrouping_id)
        who.relabel(ACCOUNT, FIRST, CATEGORIES, START, category="sales")

    threads = [threading.Thread(target=say_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    regrouped, relabelled = ana.of_conversation(ACCOUNT, FIRST)
    assert (len(regrouped), len(relabelled)) == (1, 1)


def test_what_is_taken_back_leaves_what_was_said_before(box: Stores, ana: Corrections) -> None:
    one = ana.merge(ACCOUNT, FIRST, THIRD, START)
    two = ana.merge(ACCOUNT, SECOND, THIRD, START)
    assert placements(box.database, ACCOUNT) == {THIRD: SECOND}
    before = dirty(box)
    assert ana.undo(two.regrouping_id, START).is_new
    assert dirty(box)[DAYS[1]] > before[DAYS[1]]
    assert placements(box.database, ACCOUNT) == {THIRD: FIRST}
    assert ana.undo(one.regrouping_id, START).is_new
    assert not ana.undo(one.regrouping_id, START).is_new
    assert placements(box.database, ACCOUNT) == {}
    regrouped, _ = ana.of_conversation(ACCOUNT, THIRD)
    assert [row["undone_by"] for row in regrouped] == ["ana", "ana"]


def test_a_split_begins_a_conversation_with_a_message(box: Stores, ana: Corrections) -> None:
    say(
        box, "And?", at=START - timedelta(days=2), number="4", conversation=FIRST, channel="chat"
    )  # fmt: skip
    found = ana.split(ACCOUNT, FIRST, "chat:4", START)
    assert (found.kind, found.conversation_id, found.is_new) == ("split", "chat:4", True)
    assert placements(box.database, ACCOUNT) == {"chat:4": None}
    assert sorted(dirty(box)) == [DAYS[0], DAYS[1]]
    again = ana.split(ACCOUNT, FIRST, "chat:4", START)
    assert (again.regrouping_id, again.is_new) == (found.regrouping_id, False)


@pytest.mark.parametrize(
    ("does", "words"),
    [
        (lambda c: c.merge(ACCOUNT, FIRST, FIRST, START), "one conversation already"),
        (lambda c: c.merge(ACCOUNT, FIRST, "far:9", START), "two channels"),
        (lambda c: c.split(ACCOUNT, FIRST, FIRST, START), "begins with this message already"),
        (lambda c: relabel(c, category="nothing"), "no category 'nothing'.*question, sales"),
        (lambda c: relabel(c, priority=101), "between 0 and 100, not 101"),
        (lambda c: relabel(c, priority=-1), "between 0 and 100, not -1"),
        (lambda c: relabel(c), "say what it should be"),
        (lambda c: relabel(c, priority=1, why="x" * (LONGEST_WHY + 1)), "characters at most"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    box: Stores, ana: Corrections, does: Callable[[Corrections], object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        does(ana)
    assert dirty(box) == {}
    assert box.database.execute("SELECT * FROM regroupings") == []
    assert box.database.execute("SELECT * FROM relabels") == []


CHANGES: list[Callable[[Corrections], object]] = [
    lambda c: c.merge(ACCOUNT, FIRST, SECOND, START),
    lambda c: c.split(ACCOUNT, FIRST, SECOND, START),
    lambda c: relabel(c, category="sales"),
    lambda c: c.undo(
        c.database.execute("SELECT regrouping_id FROM regroupings")[0]["regrouping_id"], START
    ),
]


@pytest.mark.parametrize("does", CHANGES)
def test_a_viewer_changes_nothing_and_a_stranger_finds_nothing(
    box: Stores, ana: Corrections, does: Callable[[Corrections], object]
) -> None:
    ana.merge(ACCOUNT, FIRST, THIRD, START)
    add_user(box.database, "sam", "Sam")
    before = placements(box.database, ACCOUNT), dirty(box)
    with pytest.raises(NotFound):
        does(Corrections(box.database, "sam"))
    with pytest.raises(PermissionError):
        does(Corrections(box.database, "vi"))
    assert (placements(box.database, ACCOUNT), dirty(box)) == before
    assert labels(box.database, ACCOUNT) == {}


def test_another_accounts_conversations_and_messages_do_not_exist(
    box: Stores, ana: Corrections
) -> None:
    Accounts(box.database, "ana").add("ana-other", "sandbox", "Other")
    for named in (("ana-other", FIRST, SECOND), (ACCOUNT, FIRST, "nothing")):
        with pytest.raises(NotFound):
            ana.merge(*named, START)
    with pytest.raises(NotFound):
        ana.split(ACCOUNT, FIRST, SECOND, START)
    with pytest.raises(NotFound):
        ana.of_conversation("ana-other", FIRST)


def test_the_word_and_its_marks_come_together_or_not_at_all(box: Stores, ana: Corrections) -> None:
    box.database.execute(
        "CREATE TRIGGER broken BEFORE INSERT ON dirty_days BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    for does in CHANGES[:1] + CHANGES[2:3]:
        with pytest.raises(Exception, match="full"):
            does(ana)
    assert placements(box.database, ACCOUNT) == {}
    assert labels(box.database, ACCOUNT) == {}
    assert Inbox(box.database, "ana").conversation(FIRST)["category"] == "question"


# --- labels ----------------------------------------------------------------------------------


def test_the_newest_label_holds_and_what_was_said_before_is_kept(
    box: Stores, ana: Corrections
) -> None:
    assert relabel(ana, category="sales", why="they want an offer") == Label()
    assert relabel(Corrections(box.database, "bo"), priority=80) == Label("sales", None)
    assert labels(box.database, ACCOUNT) == {FIRST: Label("sales", 80)}
    assert relabel(ana, category=None) == Label("sales", 80)
    assert labels(box.database, ACCOUNT) == {FIRST: Label(None, 80)}
    relabel(ana, priority=None)
    assert labels(box.database, ACCOUNT) == {}
    _, history = ana.of_conversation(ACCOUNT, FIRST)
    assert [
        (r["category"], r["priority"], r["before_category"], r["before_priority"], r["made_by"])
        for r in history
    ] == [
        (None, None, "question", 80, "ana"),
        (None, 80, "sales", 80, "ana"),
        ("sales", 80, "sales", 50, "bo"),
        ("sales", None, "question", 50, "ana"),
    ]
    assert history[-1]["why"] == "they want an offer"


def test_a_label_is_shown_at_once_and_so_is_its_end(box: Stores, ana: Corrections) -> None:
    reader = Inbox(box.database, "ana")
    names = ("category", "category_reason", "priority", "priority_reasons")

    def shown() -> list[object]:
        return [reader.conversation(FIRST)[name] for name in names]

    before = shown()
    relabel(ana, category="sales", priority=99)
    assert shown() == ["sales", BY_HAND, 99, [BY_HAND]]
    assert [r["conversation_id"] for r in reader.conversations(limit=1)] == [FIRST]
    assert [r["conversation_id"] for r in reader.conversations(category="sales")] == [FIRST]
    assert reader.counts()["categories"] == {"question": 3, "sales": 1}
    relabel(ana, category=None)
    relabel(ana, priority=None)
    assert shown() == before
    assert list(dirty(box)) == [DAYS[0]]


def test_what_the_analysis_said_meanwhile_is_shown_and_not_what_it_said_once(
    box: Stores, ana: Corrections
) -> None:
    relabel(ana, priority=99)
    box.database.execute("UPDATE analyses SET category = 'fyi' WHERE conversation_id = ?", (FIRST,))
    relabel(ana, priority=99)
    assert Inbox(box.database, "ana").conversation(FIRST)["category"] == "fyi"


def test_a_label_that_was_never_set_is_given_back_without_a_trace(
    box: Stores, ana: Corrections
) -> None:
    assert relabel(ana, category=None, priority=None) == Label()
    assert ana.of_conversation(ACCOUNT, FIRST)[1] == []
    assert KEEP is not None


def test_what_people_said_goes_with_the_account(box: Stores, ana: Corrections) -> None:
    ana.merge(ACCOUNT, FIRST, SECOND, START)
    relabel(ana, category="sales")
    box.database.execute("DELETE FROM accounts WHERE account = ?", (ACCOUNT,))
    assert box.database.execute("SELECT * FROM regroupings") == []
    assert box.database.execute("SELECT * FROM relabels") == []


# --- what there is to merge with -------------------------------------------------------------


def test_one_merges_with_the_newest_of_the_channel_or_by_words(box: Stores) -> None:
    reader = Inbox(box.database, "ana")

    def found(words: str = "", user: str = "ana") -> list[str]:
        rows = Inbox(box.database, user).in_same_channel(ACCOUNT, FIRST, words)
        return [row["conversation_id"] for row in rows]

    assert found() == [THIRD, SECOND]
    assert found("question 2") == [SECOND]
    assert found("elsewhere") == []
    assert found("?!") == [THIRD, SECOND]
    assert reader.in_same_channel(ACCOUNT, FIRST, limit=1)[0]["conversation_id"] == THIRD
    add_user(box.database, "sam", "Sam")
    with pytest.raises(NotFound):
        found(user="sam")


def test_what_was_corrected_is_feedback_once(box: Stores, ana: Corrections) -> None:
    later = START + timedelta(minutes=1)
    relabel(ana, category="sales", priority=80, why="they buy")
    relabel(ana, category="sales", priority=80)  # it was so already
    ana.merge(ACCOUNT, FIRST, SECOND, START)
    ana.merge(ACCOUNT, FIRST, SECOND, later)
    ana.split(ACCOUNT, THIRD, say_another(box), later)
    told = feedback_of_account(box.database, ACCOUNT)
    assert [(f.kind, f.conversation_id, f.note) for f in told] == [
        ("merged", FIRST, SECOND),
        ("relabelled", FIRST, "category: sales; priority: 80; they buy"),
        ("split", "chat:8", "chat:8"),
    ]


def say_another(box: Stores) -> str:
    return say(box, "By the way", at=START, number="8", conversation=THIRD, channel="chat")


def test_a_time_is_kept_as_the_database_spells_it(ana: Corrections) -> None:
    ana.merge(ACCOUNT, FIRST, SECOND, datetime(2026, 11, 3, 9, tzinfo=UTC))
    assert ana.of_conversation(ACCOUNT, FIRST)[0][0]["made_at"] == "2026-11-03T09:00:00.000000Z"
