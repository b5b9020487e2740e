"""What people put aside comes back when it should; every view, its count and its pages agree."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, NotFound, add_user
from communicator_pipeline.storage.database import Database, Row, Value, utc_text
from communicator_pipeline.storage.inbox import (
    VIEWS,
    Inbox,
    Place,
    PublishedDay,
    View,
    place_of,
    publish,
)
from communicator_pipeline.storage.triage import FOR_EVER, Triage
from communicator_pipeline_tests.delivery.world import ACCOUNT, START, add_box, say

ASKED = START - timedelta(minutes=5)  # when the conversation's first message was sent
LATER = START + timedelta(hours=1)
TICK = timedelta(microseconds=1)


class Desk:
    """Ana's box with one conversation, which goes on when the test says so."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.database = stores.database
        self.triage = Triage(stores.database, "ana")
        self.inbox = Inbox(stores.database, "ana")
        self.messages = 1
        add_box(stores)
        self.seen = utc_text(ASKED)
        say(stores, "Can you come at five?", draft="Yes, I can.", at=ASKED)

    def goes_on(self, at: datetime) -> str:
        """Somebody writes once more; the conversation's `last_message_at`."""
        self.messages += 1
        number = str(self.messages)
        say(self.stores, "And?", draft="Yes!", at=at, number=number)
        return utc_text(at)

    def views(self, now: datetime = START, user: str = "ana") -> set[str]:
        """The views in which the conversation is."""
        inbox = Inbox(self.database, user)
        return {view for view in VIEWS if inbox.conversations(view=view, now=now)}


@pytest.fixture
def desk(stores: Stores) -> Desk:
    return Desk(stores)


OPEN = {"open", "needs_reply", "all"}


# --- done ------------------------------------------------------------------------------------


def test_what_is_done_is_out_of_sight_for_ever(desk: Desk) -> None:
    assert desk.views() == OPEN
    desk.triage.done(ACCOUNT, "c1", desk.seen, START)
    assert desk.views() == {"all"}
    assert desk.views(datetime(9998, 1, 1, tzinfo=UTC)) == {"all"}
    assert desk.inbox.conversation("c1")["hidden_why"] == "done"


def test_what_is_done_comes_back_with_a_new_message(desk: Desk) -> None:
    desk.triage.done(ACCOUNT, "c1", None, START)
    desk.goes_on(START)
    assert desk.views() == OPEN
    assert desk.inbox.conversation("c1")["hidden_why"] == ""


def test_what_is_done_comes_back_with_a_message_of_a_later_day(desk: Desk) -> None:
    desk.triage.done(ACCOUNT, "c1", None, START)
    desk.goes_on(START + timedelta(days=3))
    assert desk.views() == OPEN


def test_what_is_done_stays_so_while_its_day_is_only_understood_anew(desk: Desk) -> None:
    desk.triage.done(ACCOUNT, "c1", None, START)
    say(desk.stores, "Can you come at five?", draft="No, I cannot.", at=ASKED)
    assert desk.views() == {"all"}


def test_what_is_done_stays_so_when_an_older_day_is_brought_in(desk: Desk) -> None:
    desk.triage.done(ACCOUNT, "c1", None, START)
    desk.goes_on(ASKED - timedelta(days=9))
    assert desk.views() == {"all"}


def test_a_message_that_came_between_look_and_click_is_not_hidden(desk: Desk) -> None:
    desk.goes_on(START)
    desk.triage.done(ACCOUNT, "c1", desk.seen, START)
    assert desk.views() == OPEN
    assert desk.inbox.conversation("c1")["hidden_why"] == ""


def test_a_message_on_its_way_when_done_was_clicked_brings_it_back(desk: Desk) -> None:
    desk.triage.done(ACCOUNT, "c1", desk.seen, START)
    desk.goes_on(ASKED + TICK)  # sent before the click, brought in after it
    assert desk.views() == OPEN


@pytest.mark.parametrize("seen", [utc_text(LATER), "9999", "zzz", "2026-11-02T08:55:00Z"])
def test_nobody_has_seen_what_is_yet_to_come(desk: Desk, seen: str) -> None:
    desk.triage.done(ACCOUNT, "c1", seen, START)
    assert desk.views() == {"all"}
    desk.goes_on(ASKED + TICK)
    assert desk.views() == OPEN


def test_done_is_taken_back(desk: Desk) -> None:
    desk.triage.done(ACCOUNT, "c1", None, START)
    desk.triage.reopen(ACCOUNT, "c1", START)
    assert desk.views() == OPEN
    say(desk.stores, "Can you come at five?", draft="No, I cannot.", at=ASKED)
    assert desk.views() == OPEN


def test_what_is_done_again_with_what_is_new_stays_out_of_sight(desk: Desk) -> None:
    desk.triage.done(ACCOUNT, "c1", None, START)
    newest = desk.goes_on(START)
    desk.triage.done(ACCOUNT, "c1", newest, START)
    assert desk.views() == {"all"}


# --- snoozed ---------------------------------------------------------------------------------


def test_what_is_snoozed_comes_back_at_its_time(desk: Desk) -> None:
    desk.triage.snooze(ACCOUNT, "c1", LATER, desk.seen, START)
    assert desk.views(START) == {"snoozed", "all"}
    assert desk.inbox.conversation("c1", now=START)["hidden_why"] == "snoozed"
    assert desk.inbox.conversation("c1", now=LATER)["hidden_why"] == ""
    assert desk.views(LATER - TICK) == {"snoozed", "all"}
    assert desk.views(LATER) == OPEN


def test_what_is_snoozed_comes_back_with_a_new_message(desk: Desk) -> None:
    desk.triage.snooze(ACCOUNT, "c1", LATER, None, START)
    desk.goes_on(START)
    assert desk.views(START) == OPEN


def test_a_message_between_look_and_click_is_not_snoozed(desk: Desk) -> None:
    desk.goes_on(START)
    desk.triage.snooze(ACCOUNT, "c1", LATER, desk.seen, START)
    assert desk.views(START) == OPEN


def test_a_snooze_until_a_time_that_is_over_is_refused(desk: Desk) -> None:
    for until in (START, START - TICK, START - timedelta(days=400)):
        with pytest.raises(ValueError, match="a time to come"):
            desk.triage.snooze(ACCOUNT, "c1", until, None, START)
    assert desk.views() == OPEN


def test_the_last_of_done_and_snooze_holds(desk: Desk) -> None:
    desk.triage.snooze(ACCOUNT, "c1", LATER, None, START)
    desk.triage.done(ACCOUNT, "c1", None, START)
    assert desk.views(LATER) == {"all"}
    desk.triage.snooze(ACCOUNT, "c1", LATER, None, START)
    assert desk.views(LATER) == OPEN
    desk.triage.reopen(ACCOUNT, "c1", START)
    assert desk.views(START) == OPEN


# --- assigned --------------------------------------------------------------------------------


def test_what_is_assigned_is_in_that_users_view_alone(desk: Desk) -> None:
    desk.triage.assign(ACCOUNT, "c1", "bo", START)
    assert desk.views(user="bo") == OPEN | {"assigned"}
    assert desk.views(user="ana") == OPEN
    assert desk.inbox.conversation("c1")["assigned_to"] == "bo"
    desk.triage.assign(ACCOUNT, "c1", "ana", START)
    assert (desk.views(user="bo"), desk.views(user="ana")) == (OPEN, OPEN | {"assigned"})
    desk.triage.assign(ACCOUNT, "c1", None, START)
    assert desk.views(user="ana") == OPEN


def test_an_assignment_outlasts_what_happens_to_the_conversation(desk: Desk) -> None:
    desk.triage.assign(ACCOUNT, "c1", "bo", START)
    desk.goes_on(START)
    assert "assigned" in desk.views(user="bo")
    desk.triage.done(ACCOUNT, "c1", None, START)
    assert desk.views(user="bo") == {"all"}
    desk.goes_on(LATER)
    assert "assigned" in desk.views(user="bo")


def test_an_assignment_leaves_what_is_done_out_of_sight(desk: Desk) -> None:
    desk.triage.done(ACCOUNT, "c1", None, START)
    desk.triage.assign(ACCOUNT, "c1", "bo", START)
    assert desk.views(user="bo") == {"all"}
    say(desk.stores, "Can you come at five?", draft="No, I cannot.", at=ASKED)
    assert desk.views(user="bo") == {"all"}


@pytest.mark.parametrize("stranger", ["cy", "nobody", ""])
def test_only_a_member_can_be_assigned(desk: Desk, stranger: str) -> None:
    add_user(desk.database, "cy", "Cy")
    with pytest.raises(ValueError, match="assign it to one of ana, bo, vi"):
        desk.triage.assign(ACCOUNT, "c1", stranger, START)
    assert desk.database.execute("SELECT * FROM conversation_states") == []


# --- who may ---------------------------------------------------------------------------------

Deed = Callable[[Triage, str, str], None]
DEEDS: dict[str, Deed] = {
    "done": lambda triage, account, key: triage.done(account, key, None, START),
    "snooze": lambda triage, account, key: triage.snooze(account, key, LATER, None, START),
    "reopen": lambda triage, account, key: triage.reopen(account, key, START),
    "assign": lambda triage, account, key: triage.assign(account, key, "ana", START),
    "unassign": lambda triage, account, key: triage.assign(account, key, None, START),
}


def states(database: Database) -> list[Row]:
    return [
        *database.execute("SELECT * FROM conversation_states"),
        *database.execute("SELECT hidden_until, assigned_to FROM conversations"),
    ]


@pytest.mark.parametrize("deed", DEEDS)
def test_a_reviewer_may_and_it_is_said_who_it_was(desk: Desk, deed: str) -> None:
    DEEDS[deed](Triage(desk.database, "bo"), ACCOUNT, "c1")
    assert desk.database.execute("SELECT changed_by, changed_at FROM conversation_states") == [
        {"changed_by": "bo", "changed_at": utc_text(START)}
    ]


@pytest.mark.parametrize("deed", DEEDS)
def test_a_viewer_may_not(desk: Desk, deed: str) -> None:
    before = states(desk.database)
    with pytest.raises(PermissionError, match="you are a viewer"):
        DEEDS[deed](Triage(desk.database, "vi"), ACCOUNT, "c1")
    assert states(desk.database) == before


@pytest.mark.parametrize("deed", DEEDS)
def test_another_users_conversation_is_not_there(desk: Desk, deed: str) -> None:
    add_user(desk.database, "cy", "Cy")
    Accounts(desk.database, "cy").add("cy-box", "sandbox", "Box")
    before = states(desk.database)
    theirs = Triage(desk.database, "cy")
    for account, key in (
        (ACCOUNT, "c1"),
        (ACCOUNT, "nothing"),
        ("nothing", "c1"),
        ("cy-box", "c1"),
    ):
        with pytest.raises(NotFound):
            DEEDS[deed](theirs, account, key)
    assert states(desk.database) == before


# --- views, counts, pages --------------------------------------------------------------------

ACCOUNTS = ("ana-one", "ana-two", "ana-three")


def bring(
    stores: Stores, account: str, rows: list[dict[str, Any]], day: str = "2026-11-02"
) -> None:
    """Conversations of a day, each with one message: of ana if it says so."""
    analyses, messages = [], []
    for row in rows:
        key, at = row["conversation_id"], row["last_message_at"]
        author = row.get("author", "kim")
        analyses.append(
            {
                "as_of": at, "channel_id": "general", "started_at": at, "last_author": author,
                "message_count": 1, "people": [author], "language": "en", "category": "question",
                "category_reason": "", "priority": 50, "priority_reasons": [],
                "needs_reply": True, "needs_reply_score": 0.9, "needs_reply_reason": "",
                "waiting_since": at, "summary": "", "summary_message_ids": [], "sentiment": 0.0,
                "confidence": 0.9, "flags": [], "model": "test",
                "prompt": "", "stood_in": "", "withheld": [], **row,
            }
        )  # fmt: skip
        messages.append(
            {
                "message_id": f"{key}:1", "channel_id": "general", "sent_at": at,
                "author_id": author, "author_name": author, "author_is_bot": False,
                "kind": "message", "text": "Hello", "thread_id": None, "reply_to": None,
                "attachments": [], "reactions": [], "edited_at": None, "deleted": False,
                "version": 1, "conversation_id": key, "parent_message_id": None,
                "link_reason": "flow", "link_score": 1.0, "link_why": "",
            }
        )  # fmt: skip
    assert publish(stores.database, PublishedDay(account, day, 1, "d", messages, analyses, []))


def fill_inbox(stores: Stores, count: int) -> None:
    """Ana's three accounts with so many conversations between them, most of them alike: the same
    ids in every account, few priorities, few times. And one of somebody else's."""
    chance = random.Random(11)
    add_user(stores.database, "bo", "Bo")
    add_user(stores.database, "cy", "Cy")
    for owner, account, size in [
        *(("ana", account, count // 3) for account in ACCOUNTS[:2]),
        ("ana", ACCOUNTS[2], count - 2 * (count // 3)),
        ("cy", "cy-box", 40),
    ]:
        accounts = Accounts(stores.database, owner)
        accounts.add(account, "sandbox" if account == ACCOUNTS[0] else "generic", "Box")
        accounts.set_me(account, ["ana"])
        accounts.set_member(account, "bo", "reviewer")
        rows: list[dict[str, Any]] = [
            {
                "conversation_id": f"c{number}",
                "priority": chance.choice((10, 69, 70, 90)),
                "needs_reply": chance.random() < 0.5,
                "last_message_at": utc_text(START - timedelta(minutes=chance.randrange(3))),
                "category": chance.choice(("question", "fyi", "request")),
                "author": chance.choice(("ana", "kim")),
            }
            for number in range(size)
        ]
        bring(stores, account, rows)
        if owner == "ana":
            triage = Triage(stores.database, "ana")
            for row in rows:
                key = row["conversation_id"]
                if chance.random() < 0.2:
                    triage.done(account, key, None, START)
                elif chance.random() < 0.2:
                    until = START + timedelta(hours=chance.choice((1, 2)))
                    triage.snooze(account, key, until, None, START)
                if chance.random() < 0.3:
                    triage.assign(account, key, chance.choice(("ana", "bo")), START)
            approve_some(stores, account, rows[::7])


def approve_some(stores: Stores, account: str, rows: list[dict[str, Any]]) -> None:
    """A reply on its way to each, and to every other one that has ended."""
    for number, row in enumerate(rows):
        key = row["conversation_id"]
        stores.database.execute(
            "INSERT INTO approvals (approval_id, account, conversation_id, channel_id, text, "
            "content_hash, source_version, seen, seen_since, seen_newest, seen_newest_at, sender, "
            "approved_by, approved_at, send_at, expires_at, ended_at) VALUES (?1, ?2, ?3, "
            "'general', 'Yes', ?1, '', '{}', ?4, '', ?4, '', 'ana', ?4, ?4, ?4, ?5)",
            (
                f"{account} {key}",
                account,
                key,
                utc_text(START),
                utc_text(START) if number % 2 else None,
            ),
        )


def shown(
    row: Row, view: View, user: str, now: datetime, on_their_way: set[tuple[str, str]]
) -> bool:
    """Whether a view shows a conversation, said once more in Python."""
    hidden = row["hidden_until"]
    is_open = not hidden or hidden <= utc_text(now)
    match view:
        case "open":
            return is_open
        case "needs_reply":
            answered = (row["account"], row["conversation_id"]) in on_their_way
            return bool(row["needs_reply"]) and is_open and not answered
        case "waiting_for_them":
            return is_open and str(row["last_author"]) == "ana" and not row["needs_reply"]
        case "high_priority":
            return is_open and int(row["priority"]) >= 70
        case "assigned":
            return is_open and str(row["assigned_to"]) == user
        case "snoozed":
            return not is_open and str(hidden) != FOR_EVER
        case "all":
            return True


@pytest.mark.parametrize("user", ["ana", "bo", "cy"])
@pytest.mark.parametrize("hours", [0, 1, 3])
def test_views_and_their_counts_agree(stores: Stores, user: str, hours: int) -> None:
    fill_inbox(stores, 150)
    now, inbox = START + timedelta(hours=hours), Inbox(stores.database, user)
    on_their_way = {
        (row["account"], row["conversation_id"])
        for row in stores.database.execute("SELECT * FROM approvals WHERE ended_at IS NULL")
    }
    everything = inbox.conversations(view="all", limit=1_000, now=now)
    assert len(everything) == {"ana": 150, "bo": 190, "cy": 40}[user]
    counts = inbox.counts(now)
    for view in VIEWS:
        rows = inbox.conversations(view=view, limit=1_000, now=now)
        expected = {
            (row["account"], row["conversation_id"])
            for row in everything
            if shown(row, view, user, now, on_their_way)
        }
        assert {(row["account"], row["conversation_id"]) for row in rows} == expected, view
        assert (counts["views"][view], len(rows)) == (len(expected), len(expected)), view
        if user != "cy" and not (view == "snoozed" and hours == 3):
            assert len(expected) > 0, view
    for kind, name in (("categories", "category"), ("accounts", "account")):
        found: dict[str, int] = {}
        for row in inbox.conversations(view="open", limit=1_000, now=now):
            found[row[name]] = found.get(row[name], 0) + 1
        assert counts[kind] == found


def test_counts_of_an_empty_inbox_are_nought(stores: Stores) -> None:
    counts = Inbox(stores.database, "ana").counts(START)
    assert counts == {"views": dict.fromkeys(VIEWS, 0), "categories": {}, "accounts": {}}


def pages(inbox: Inbox, size: int, **more: Any) -> list[list[Row]]:
    """Every page of a list, each after the last row of the one before."""
    found: list[list[Row]] = []
    after: Place | None = None
    while page := inbox.conversations(limit=size, after=after, now=START, **more):
        found.append(page)
        after = place_of(page[-1])
    return found


def test_pages_go_through_everything_without_a_gap_or_a_double(stores: Stores) -> None:
    fill_inbox(stores, 500)
    inbox = Inbox(stores.database, "ana")
    found = pages(inbox, 7, view="all")
    assert [len(page) for page in found] == [7] * 71 + [3]
    rows = [row for page in found for row in page]
    keys = [(row["account"], row["conversation_id"]) for row in rows]
    assert len(keys) == len(set(keys)) == 500
    assert {account for account, _ in keys} == set(ACCOUNTS)

    def order(row: Row) -> tuple[Any, ...]:
        newest = datetime.fromisoformat(row["last_message_at"]).timestamp()
        ranks = (-row["needs_reply"], -row["priority"], -newest)
        return (*ranks, row["conversation_id"], row["account"])

    assert rows == sorted(rows, key=order)
    ties = [place_of(row)[:4] for row in rows]
    assert len(set(ties)) < len(ties), "no two conversations differ in their account alone"


@pytest.mark.parametrize(
    "choice",
    [
        {"view": "open"},
        {"view": "needs_reply"},
        {"view": "assigned"},
        {"view": "all", "account": "ana-two"},
        {"view": "all", "category": "fyi"},
        {"view": "all", "platform": "generic"},
        {"view": "open", "platform": "sandbox", "category": "question"},
    ],
)
def test_pages_of_a_choice_are_the_choice(stores: Stores, choice: dict[str, Any]) -> None:
    fill_inbox(stores, 400)
    inbox = Inbox(stores.database, "ana")
    whole = inbox.conversations(limit=1_000, now=START, **choice)
    assert len(whole) > 14
    assert [row for page in pages(inbox, 7, **choice) for row in page] == whole
    for name in ("account", "category", "platform"):
        if name in choice:
            assert {row[name] for row in whole} == {choice[name]}


def test_what_comes_in_between_two_pages_moves_nothing_on_the_next(stores: Stores) -> None:
    fill_inbox(stores, 60)
    inbox = Inbox(stores.database, "ana")
    first = inbox.conversations(view="all", limit=20, now=START)
    rest = inbox.conversations(view="all", limit=100, after=place_of(first[-1]), now=START)
    newest = {"conversation_id": "new", "priority": 99, "last_message_at": utc_text(LATER)}
    bring(stores, "ana-one", [newest], "2026-11-03")
    again = inbox.conversations(view="all", limit=100, after=place_of(first[-1]), now=START)
    assert again == rest
    assert inbox.conversations(view="all", limit=1, now=START)[0]["conversation_id"] == "new"


# --- the index -------------------------------------------------------------------------------


class Watched:
    """A database that keeps what it was asked."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.asked: list[tuple[str, tuple[Value, ...]]] = []

    def execute(self, sql: str, params: Any = ()) -> list[Row]:
        self.asked.append((sql, tuple(params)))
        return self.database.execute(sql, params)

    def batch(self, statements: Any) -> list[list[Row]]:
        self.asked.extend((sql, tuple(params)) for sql, params in statements)
        return self.database.batch(statements)


def plan(database: Database, asked: tuple[str, tuple[Value, ...]]) -> list[str]:
    """How SQLite goes about it, where it looks for conversations."""
    rows = database.execute(f"EXPLAIN QUERY PLAN {asked[0]}", asked[1])
    return [row["detail"] for row in rows]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("account", ["ana-one", None])
@pytest.mark.parametrize("later_page", [False, True])
def test_a_list_is_read_from_its_covering_index(
    stores: Stores, view: View, account: str | None, later_page: bool
) -> None:
    fill_inbox(stores, 60)
    watched = Watched(stores.database)
    inbox = Inbox(watched, "ana")
    after = place_of(inbox.conversations(view="all", now=START)[5]) if later_page else None
    inbox.conversations(account, view=view, after=after, now=START)
    steps = plan(stores.database, watched.asked[-1])
    reading = next(step for step in steps if step.startswith(("SEARCH c ", "SCAN c ")))
    assert "USING COVERING INDEX conversations_by_priority (account=?" in reading, steps


def test_counts_are_read_from_indexes_alone_and_nothing_is_sorted(stores: Stores) -> None:
    fill_inbox(stores, 60)
    watched = Watched(stores.database)
    Inbox(watched, "ana").counts(START)
    assert len(watched.asked) == 2
    for asked, index in zip(
        watched.asked, ("conversations_by_priority", "conversations_by_category"), strict=True
    ):
        steps = plan(stores.database, asked)
        assert any(f"USING COVERING INDEX {index}" in step for step in steps), steps
        assert not any("TEMP B-TREE" in step for step in steps), steps


# --- members who go ----------------------------------------------------------------------------


def test_a_removed_members_conversations_are_nobodys(stores: Stores) -> None:
    fill_inbox(stores, 150)
    before = assigned(stores.database)
    assert ("ana-one", "bo") in before
    assert ("ana-two", "bo") in before
    Accounts(stores.database, "ana").remove_member("ana-one", "bo")
    assert assigned(stores.database) == before - {("ana-one", "bo")}
    Accounts(stores.database, "ana").set_member("ana-one", "bo", "owner")
    assert assigned(stores.database) == before - {("ana-one", "bo")}
    key = {"conversation_id": "c0", "last_message_at": utc_text(LATER)}
    bring(stores, "ana-one", [key], "2026-11-03")
    assert ("ana-one", "bo") not in assigned(stores.database)


def assigned(database: Database) -> set[tuple[str, str]]:
    """Which accounts have something that is assigned, and to whom; both tables say the same."""
    found = [
        {
            (row["account"], row["conversation_id"]): row["assigned_to"]
            for row in database.execute(f"SELECT * FROM {table} WHERE assigned_to <> ''")
        }
        for table in ("conversations", "conversation_states")
    ]
    assert found[0] == found[1]
    return {(account, whose) for (account, _), whose in found[0].items()}
