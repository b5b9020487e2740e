"""What people merged, split and relabelled, through the whole chain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from communicator_pipeline.analysis import DEFAULT_TAXONOMY, Taxonomy
from communicator_pipeline.chain import checks, conversations, raw_messages
from communicator_pipeline.chain.analyses import categories_of
from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.delivery.approving import approve
from communicator_pipeline.delivery.clock import Instant
from communicator_pipeline.delivery.voiding import sweep
from communicator_pipeline.ingestion.owner import touch_everything
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.corrections import BY_HAND, Corrections
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.triage import Triage
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline_tests.chain.test_chain import of, run, settle
from communicator_pipeline_tests.conftest import Fill, line

ACCOUNT = "ana-chat"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)

RACK = line(1, "2026-11-03T09:00:00Z", "ben", "ana: can you send me the invoice for the rack?")
MORE = line(2, "2026-11-03T09:01:00Z", "ben", "and the one for the bell?", reply_to="m1")
FERRY = line(3, "2026-11-09T15:00:00Z", "cat", "ana: when does the ferry leave on Friday?")
SECOND = line(4, "2026-11-11T08:00:00Z", "cat", "or is it Saturday?", reply_to="m3")


@pytest.fixture
def by_hand(stores: Stores) -> Corrections:
    return Corrections(stores.database, "ana")


def together(stores: Stores) -> dict[str, list[str]]:
    """conversation → its messages, in the lake; the database has the same."""
    found: dict[str, list[str]] = {}
    for row in sorted(of(stores, "conversations"), key=lambda row: str(row["message_id"])):
        found.setdefault(str(row["conversation_id"]), []).append(str(row["message_id"]))
    shown: dict[str, list[str]] = {}
    for row in stores.database.execute(
        "SELECT conversation_id, message_id FROM messages ORDER BY message_id"
    ):
        shown.setdefault(row["conversation_id"], []).append(row["message_id"])
    assert shown == found
    listed = {row["conversation_id"] for row in Inbox(stores.database, "ana").conversations()}
    hidden = {
        row["conversation_id"] for row in Inbox(stores.database, "ana").conversations(view="all")
    }
    assert listed <= hidden == set(found)
    return found


def link_of(stores: Stores, message_id: str) -> tuple[object, ...]:
    (row,) = [row for row in of(stores, "conversations") if row["message_id"] == message_id]
    return row["link_reason"], row["parent_message_id"], row["link_why"]


def drafts(stores: Stores) -> list[dict[str, object]]:
    has_any = stores.lake.day_files("drafted_replies", ACCOUNT)
    return of(stores, "drafted_replies") if has_any else []


def snapshot(stores: Stores) -> list[object]:
    """All that the chain has made."""
    return [
        of(stores, "conversations"),
        [{**row, "version": 0} for row in drafts(stores)],
        of(stores, "analyses"),
        stores.database.execute("SELECT * FROM conversations ORDER BY conversation_id"),
        stores.database.execute("SELECT * FROM analyses ORDER BY conversation_id, day"),
    ]


APART = {"c1:m1": ["c1:m1", "c1:m2"], "c1:m3": ["c1:m3", "c1:m4"]}
ONE = {"c1:m1": ["c1:m1", "c1:m2", "c1:m3", "c1:m4"]}


# --- merge -----------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [("c1:m1", "c1:m3"), ("c1:m3", "c1:m1")])
def test_merged_conversations_are_one_with_all_that_hangs_on_them(
    stores: Stores, fill: Fill, by_hand: Corrections, named: tuple[str, str]
) -> None:
    fill(RACK, MORE, FERRY, SECOND)
    settle(stores)
    assert together(stores) == APART
    said = by_hand.merge(ACCOUNT, *named, NOW)
    assert (said.kind, said.conversation_id, said.is_new) == ("merge", "c1:m1", True)
    settle(stores)
    assert together(stores) == ONE
    assert link_of(stores, "c1:m3") == (
        "merged", "c1:m2", "continues what ben wrote 6 days before, set by hand",
    )  # fmt: skip
    assert link_of(stores, "c1:m4")[:2] == ("reply", "c1:m3")
    assert [row["conversation_id"] for row in drafts(stores)] == ["c1:m1"]
    assert checks.unstable_conversations(stores, AccountMonth(ACCOUNT, "2026-11")) == []
    assert checks.misplaced_messages(stores, AccountMonth(ACCOUNT, "2026-11")) == []


def test_a_merge_that_is_taken_back_leaves_everything_as_it_was(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    fill(RACK, MORE, FERRY, SECOND)
    settle(stores)
    before = snapshot(stores)
    said = by_hand.merge(ACCOUNT, "c1:m1", "c1:m3", NOW)
    settle(stores)
    assert snapshot(stores) != before
    assert by_hand.undo(said.regrouping_id, NOW).is_new
    settle(stores)
    assert together(stores) == APART
    assert snapshot(stores) == before


def test_a_link_within_a_day_says_what_it_continues(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    other = line(5, "2026-11-03T09:30:00Z", "dan", "lunch?", thread_id="m5")
    fill(RACK, other)
    settle(stores)
    by_hand.merge(ACCOUNT, "c1:m1", "c1:m5", NOW)
    settle(stores)
    assert together(stores) == {"c1:m1": ["c1:m1", "c1:m5"]}
    assert link_of(stores, "c1:m5") == (
        "merged", "c1:m1", "continues what ben wrote 30 min before, set by hand",
    )  # fmt: skip


def test_a_merge_across_months_reaches_both(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    """Months that do not follow one another are run one by one: what depends on the later one is
    found all the same."""
    old = line(0, "2026-08-03T09:00:00Z", "cat", "ana: when does the ferry leave?")
    fill(old, FERRY, SECOND)
    settle(stores)
    before = snapshot(stores)
    drafted = {row["conversation_id"] for row in drafts(stores)}
    assert drafted == {"c1:m0", "c1:m3"}
    said = by_hand.merge(ACCOUNT, "c1:m0", "c1:m3", NOW)
    one_by_one(stores)
    assert together(stores) == {"c1:m0": ["c1:m0", "c1:m3", "c1:m4"]}
    assert [row["conversation_id"] for row in drafts(stores)] == ["c1:m0"]
    by_hand.undo(said.regrouping_id, NOW)
    one_by_one(stores)
    assert snapshot(stores) == before


def one_by_one(stores: Stores) -> None:
    """As `settle`, but each month in runs of its own, the earlier ones first."""
    work = WorkQueue(stores.database)
    for round_ in range(20):
        dirty = work.dirty()
        if not dirty:
            return
        month = min(day.day[:7] for day in dirty)
        days = [day.day for day in dirty if day.day.startswith(month)]
        work.claim(f"one{round_}", ACCOUNT, month, days)
        run(stores, AccountMonth(ACCOUNT, month), days=days)
        work.finish(f"one{round_}", ACCOUNT, month)
    raise AssertionError("the touched days never came to an end")


def test_a_thread_whose_root_never_came_is_merged_with_what_is_still_to_come(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    fill(
        RACK,
        line(6, "2026-11-05T10:00:00Z", "dan", "it was paid", thread_id="m0"),
        line(7, "2026-11-06T10:00:00Z", "eva", "on Monday", thread_id="m0"),
    )
    settle(stores)
    assert together(stores) == {"c1:m0": ["c1:m6", "c1:m7"], "c1:m1": ["c1:m1"]}
    said = by_hand.merge(ACCOUNT, "c1:m0", "c1:m1", NOW)
    assert said.conversation_id == "c1:m1"
    settle(stores)
    assert together(stores) == {"c1:m1": ["c1:m1", "c1:m6", "c1:m7"]}
    assert link_of(stores, "c1:m7") == ("thread", "c1:m0", "replies in thread")
    fill(line(8, "2026-11-07T10:00:00Z", "dan", "thanks", thread_id="m0"), name="later.jsonl")
    settle(stores)
    assert together(stores) == {"c1:m1": ["c1:m1", "c1:m6", "c1:m7", "c1:m8"]}
    by_hand.undo(said.regrouping_id, NOW)
    settle(stores)
    assert together(stores) == {"c1:m0": ["c1:m6", "c1:m7", "c1:m8"], "c1:m1": ["c1:m1"]}


def test_what_was_merged_follows_when_that_moves_in_its_turn(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    third = line(9, "2026-11-20T08:00:00Z", "eva", "ana: who pays for the tickets?")
    fill(RACK, FERRY, third)
    settle(stores)
    by_hand.merge(ACCOUNT, "c1:m3", "c1:m9", NOW)
    settle(stores)
    by_hand.merge(ACCOUNT, "c1:m1", "c1:m3", NOW)
    settle(stores)
    assert together(stores) == {"c1:m1": ["c1:m1", "c1:m3", "c1:m9"]}


def test_what_was_merged_follows_when_that_moves_because_older_messages_came(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    fill(
        line(6, "2026-11-05T10:00:00Z", "dan", "it was paid", thread_id="m0"),
        line(7, "2026-11-14T10:00:00Z", "eva", "lunch?", channel="c2"),
        line(9, "2026-11-20T08:00:00Z", "eva", "ana: who pays for the tickets?"),
    )
    settle(stores)
    by_hand.merge(ACCOUNT, "c1:m0", "c1:m9", NOW)
    settle(stores)
    assert together(stores)["c1:m0"] == ["c1:m6", "c1:m9"]
    fill(
        RACK,
        line(0, "2026-11-04T10:00:00Z", "cat", "which invoice?", reply_to="m1"),
        name="older.jsonl",
    )
    scope = Scope(
        (AccountMonth(ACCOUNT, "2026-11"),), frozenset(f"2026-11-0{n}" for n in (3, 4, 5))
    )
    for stage in (raw_messages, conversations):  # grouping alone says whom else it concerns
        stage.materialise(stores, scope.partitions[0], scope)
    assert "2026-11-20" in {day.day for day in WorkQueue(stores.database).dirty()}
    settle(stores)
    assert together(stores)["c1:m1"] == ["c1:m0", "c1:m1", "c1:m6", "c1:m9"]


def test_one_merges_with_what_was_said_long_before_much_else(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    else_ = line(7, "2026-11-14T10:00:00Z", "eva", "lunch?", channel="c2")
    fill(RACK, MORE, else_, line(9, "2026-11-20T08:00:00Z", "eva", "ana: who pays the tickets?"))
    settle(stores)
    by_hand.merge(ACCOUNT, "c1:m1", "c1:m9", NOW)
    settle(stores)
    assert together(stores)["c1:m1"] == ["c1:m1", "c1:m2", "c1:m9"]
    assert link_of(stores, "c1:m9") == (
        "merged", "c1:m2", "continues an older message, set by hand",
    )  # fmt: skip
    before = snapshot(stores)
    run(stores, days=["2026-11-20"])  # alone, it has to look for what it continues
    assert snapshot(stores) == before


def test_days_in_any_order_give_the_same_conversations(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    fill(RACK, MORE, FERRY, SECOND)
    settle(stores)
    by_hand.merge(ACCOUNT, "c1:m1", "c1:m3", NOW)
    run(stores, days=["2026-11-11"])
    run(stores, days=["2026-11-09"])
    settle(stores)
    before = snapshot(stores)
    touch_everything(stores, ACCOUNT, "all of it again")
    settle(stores)
    assert snapshot(stores) == before
    assert together(stores) == ONE


# --- split -----------------------------------------------------------------------------------


def test_what_hangs_on_a_message_follows_it_into_a_conversation_of_its_own(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    fill(
        RACK,
        MORE,
        line(3, "2026-11-03T09:05:00Z", "cat", "which bell do you mean?", reply_to="m2"),
        line(4, "2026-11-12T09:05:00Z", "ben", "the brass one", reply_to="m3"),
        line(5, "2026-11-12T09:06:00Z", "ana", "the rack's is attached", reply_to="m1"),
    )
    settle(stores)
    before = snapshot(stores)
    assert set(together(stores)) == {"c1:m1"}
    said = by_hand.split(ACCOUNT, "c1:m1", "c1:m2", NOW)
    settle(stores)
    assert together(stores) == {"c1:m1": ["c1:m1", "c1:m5"], "c1:m2": ["c1:m2", "c1:m3", "c1:m4"]}
    assert link_of(stores, "c1:m2") == (
        "split", None, "begins a conversation of its own, set by hand",
    )  # fmt: skip
    assert checks.unstable_conversations(stores, AccountMonth(ACCOUNT, "2026-11")) == []
    by_hand.undo(said.regrouping_id, NOW)
    settle(stores)
    assert snapshot(stores) == before


def test_what_is_inferred_from_a_split_message_follows_into_the_next_day(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    fill(
        line(1, "2026-11-03T23:50:00Z", "ben", "who wants the new bell?", channel_kind="dm"),
        line(2, "2026-11-03T23:58:00Z", "cat", "by the way, the ferry is late", channel_kind="dm"),
        line(3, "2026-11-04T00:01:00Z", "cat", "the ferry comes at nine", channel_kind="dm"),
    )
    settle(stores)
    assert set(together(stores)) == {"c1:m1"}
    by_hand.split(ACCOUNT, "c1:m1", "c1:m2", NOW)
    settle(stores)
    assert together(stores) == {"c1:m1": ["c1:m1"], "c1:m2": ["c1:m2", "c1:m3"]}


def test_a_conversation_that_ends_earlier_now_has_its_draft_there_again(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    late = line(2, "2026-11-20T09:00:00Z", "cat", "ana: when does the ferry leave?", reply_to="m1")
    fill({**RACK, "sent_at": "2026-08-03T09:00:00Z"}, late)
    one_by_one(stores)
    assert [row["conversation_id"] for row in drafts(stores)] == ["c1:m1"]
    by_hand.split(ACCOUNT, "c1:m1", "c1:m2", NOW)
    one_by_one(stores)
    drafted = sorted(str(row["conversation_id"]) for row in drafts(stores))
    assert drafted == ["c1:m1", "c1:m2"]
    assert Inbox(stores.database, "ana").conversation("c1:m1")["draft"]


# --- what people had done with it ------------------------------------------------------------


def hidden(stores: Stores, conversation_id: str) -> str:
    return str(Inbox(stores.database, "ana").conversation(conversation_id, now=NOW)["hidden_why"])


@pytest.mark.parametrize(
    ("done", "after"), [((), ""), (("c1:m1",), ""), (("c1:m3",), ""), (("c1:m1", "c1:m3"), "done")]
)
def test_a_merged_conversation_is_out_of_sight_only_if_both_were(
    stores: Stores, fill: Fill, by_hand: Corrections, done: tuple[str, ...], after: str
) -> None:
    fill(RACK, FERRY)
    settle(stores)
    for conversation_id in done:
        Triage(stores.database, "ana").done(ACCOUNT, conversation_id, None, NOW)
    by_hand.merge(ACCOUNT, "c1:m1", "c1:m3", NOW)
    settle(stores)
    assert set(together(stores)) == {"c1:m1"}
    assert hidden(stores, "c1:m1") == after


def test_the_sooner_end_of_a_snooze_holds_for_both(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    fill(RACK, FERRY)
    settle(stores)
    triage = Triage(stores.database, "ana")
    triage.done(ACCOUNT, "c1:m1", None, NOW)
    triage.snooze(ACCOUNT, "c1:m3", NOW + timedelta(days=2), None, NOW)
    by_hand.merge(ACCOUNT, "c1:m1", "c1:m3", NOW)
    settle(stores)
    assert hidden(stores, "c1:m1") == "snoozed"


def test_who_looks_after_either_looks_after_both(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    fill(RACK, FERRY)
    settle(stores)
    Triage(stores.database, "ana").assign(ACCOUNT, "c1:m3", "ana", NOW)
    by_hand.merge(ACCOUNT, "c1:m1", "c1:m3", NOW)
    settle(stores)
    assert Inbox(stores.database, "ana").conversation("c1:m1")["assigned_to"] == "ana"


def test_what_was_done_with_a_conversation_holds_for_what_is_split_off(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    fill(RACK, MORE)
    settle(stores)
    triage = Triage(stores.database, "ana")
    triage.done(ACCOUNT, "c1:m1", None, NOW)
    triage.assign(ACCOUNT, "c1:m1", "ana", NOW)
    by_hand.split(ACCOUNT, "c1:m1", "c1:m2", NOW)
    settle(stores)
    assert (hidden(stores, "c1:m1"), hidden(stores, "c1:m2")) == ("done", "done")
    assert Inbox(stores.database, "ana").conversation("c1:m2")["assigned_to"] == "ana"


def test_a_reply_on_its_way_is_taken_back_when_what_it_answers_is_elsewhere(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    fill(RACK, FERRY)
    settle(stores)
    approval = approve(stores.database, "ana", ACCOUNT, "c1:m3", None, text="At nine.")
    kept = approve(stores.database, "ana", ACCOUNT, "c1:m1", None, text="Here it is.")
    assert sweep(stores.database, Instant(NOW, "")).superseded == []
    by_hand.merge(ACCOUNT, "c1:m1", "c1:m3", NOW)
    settle(stores)
    # The one answers a message that is elsewhere now, the other had not seen what came in.
    swept = sweep(stores.database, Instant(NOW, ""))
    assert len(swept.superseded) == 2
    assert {approval.is_new, kept.is_new} == {True}


def test_a_reply_on_its_way_stays_where_something_else_was_split_off(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    fill(RACK, MORE, line(3, "2026-11-03T09:05:00Z", "ben", "hello?", reply_to="m1"))
    settle(stores)
    approve(stores.database, "ana", ACCOUNT, "c1:m1", None, text="Here it is.")
    by_hand.split(ACCOUNT, "c1:m1", "c1:m2", NOW)
    settle(stores)
    assert set(together(stores)) == {"c1:m1", "c1:m2"}
    assert sweep(stores.database, Instant(NOW, "")).superseded == []


# --- relabel ---------------------------------------------------------------------------------


def shown(stores: Stores, conversation_id: str = "c1:m3") -> tuple[object, ...]:
    row = Inbox(stores.database, "ana").conversation(conversation_id)
    return row["category"], row["category_reason"], row["priority"], row["priority_reasons"]


def relabel(stores: Stores, conversation_id: str = "c1:m3", **what: object) -> None:
    Corrections(stores.database, "ana").relabel(
        ACCOUNT, conversation_id, categories_of(stores.database, ACCOUNT), NOW, **what,  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_label_is_shown_at_once_and_is_in_the_analyses_from_then_on(
    stores: Stores, fill: Fill
) -> None:
    fill(FERRY)
    settle(stores)
    before = shown(stores)
    relabel(stores, category="sales", priority=91)
    by_hand = ("sales", BY_HAND, 91, [BY_HAND])
    assert shown(stores) == by_hand
    assert Inbox(stores.database, "ana").conversations(category="sales")[0]["priority"] == 91
    settle(stores)
    assert shown(stores) == by_hand
    fill(SECOND)
    settle(stores)
    assert shown(stores) == by_hand
    rows = of(stores, "analyses")
    assert [row["as_of"].day for row in rows] == [10, 12]  # type: ignore[attr-defined]
    assert {(row["category"], row["priority"]) for row in rows} == {("sales", 91)}
    assert {row["category_reason"] for row in rows} == {BY_HAND}
    assert before != by_hand


def test_a_day_with_a_label_costs_no_analysis_once_it_is_made(stores: Stores, fill: Fill) -> None:
    fill(FERRY)
    settle(stores)
    relabel(stores, category="sales")
    settle(stores)
    again = run(stores)
    assert again["analyses"].numbers["analysed"] == 0
    assert all(report.changed == [] for report in again.values())


def test_a_label_that_is_taken_back_leaves_everything_as_it_was(stores: Stores, fill: Fill) -> None:
    fill(FERRY, SECOND)
    settle(stores)
    before, seen = snapshot(stores), shown(stores)
    relabel(stores, category="sales", priority=3)
    settle(stores)
    relabel(stores, category=None)
    assert shown(stores) == (*seen[:2], 3, [BY_HAND])
    settle(stores)
    assert shown(stores) == (*seen[:2], 3, [BY_HAND])
    relabel(stores, priority=None)
    assert shown(stores) == seen
    settle(stores)
    assert snapshot(stores) == before


def test_a_label_that_comes_and_goes_between_two_runs_leaves_nothing(
    stores: Stores, fill: Fill
) -> None:
    fill(FERRY)
    settle(stores)
    before = snapshot(stores)
    relabel(stores, category="sales")
    relabel(stores, category=None)
    settle(stores)
    assert snapshot(stores) == before


def test_what_was_shown_at_once_gives_way_to_what_the_chain_makes(
    stores: Stores, fill: Fill
) -> None:
    fill(FERRY)
    settle(stores)
    seen = shown(stores)
    relabel(stores, category="sales")
    stores.database.execute("DELETE FROM relabels")
    settle(stores)
    assert shown(stores) == seen


def test_a_category_that_left_the_taxonomy_is_set_no_more(stores: Stores, fill: Fill) -> None:
    fill(FERRY)
    settle(stores)
    seen = shown(stores)
    relabel(stores, category="sales")
    settle(stores)
    fewer = Taxonomy(
        categories=tuple(c for c in DEFAULT_TAXONOMY.categories if c.name != "sales"),
        fallback="fyi",
    )
    Settings(stores.database, "ana").set("taxonomy", fewer.model_dump())
    touch_everything(stores, ACCOUNT, "the taxonomy was changed")
    settle(stores)
    assert shown(stores) == seen
    assert checks.unknown_categories(stores, AccountMonth(ACCOUNT, "2026-11")) == []


def test_the_lake_does_not_say_who_corrected_what(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "hi"), FERRY)
    settle(stores)
    by_hand.merge(ACCOUNT, "c1:m1", "c1:m3", NOW)
    relabel(stores, "c1:m1", category="sales", why="because zebra")
    settle(stores)
    text = repr([of(stores, "conversations"), of(stores, "analyses")])
    assert "zebra" not in text
    assert "'ana'" not in text


def test_what_is_no_more_cannot_be_corrected(
    stores: Stores, fill: Fill, by_hand: Corrections
) -> None:
    fill(RACK, FERRY)
    settle(stores)
    by_hand.merge(ACCOUNT, "c1:m1", "c1:m3", NOW)
    settle(stores)
    with pytest.raises(NotFound):
        relabel(stores, "c1:m3", priority=1)
