"""The chain on real stores: what is redone, what is not, and what reaches later days."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

import pytest

from communicator_pipeline.analysis import DEFAULT_TAXONOMY, OfflineAnalyser
from communicator_pipeline.chain import (
    analyses,
    attachments,
    checks,
    conversations,
    drafted_replies,
    inbox,
    raw_messages,
)
from communicator_pipeline.chain.scope import MonthReport, Scope
from communicator_pipeline.chain.status import depths
from communicator_pipeline.ingestion.owner import set_owner
from communicator_pipeline.messages import Transcript
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.dead_letters import DeadLetters
from communicator_pipeline.storage.inbox import Inbox, PublishedDay, publish
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline_tests.conftest import Fill, line

STAGES = (raw_messages, attachments, conversations, analyses, drafted_replies, inbox)
NOVEMBER = AccountMonth("ana-chat", "2026-11")
OCTOBER = AccountMonth("ana-chat", "2026-10")


def run(
    stores: Stores, *partitions: AccountMonth, days: Iterable[str] = ()
) -> dict[str, MonthReport]:
    """The whole chain over some partitions; the last partition's reports by asset."""
    scope = Scope(tuple(sorted(partitions or (NOVEMBER,))), frozenset(days))
    return {
        stage.ASSET: [stage.materialise(stores, p, scope) for p in scope.partitions][-1]
        for stage in STAGES
    }


def settle(stores: Stores) -> int:
    """Run what is touched until nothing is, as the worker does; how many rounds it took."""
    work = WorkQueue(stores.database)
    for rounds in range(20):
        dirty = work.dirty()
        if not dirty:
            return rounds
        months = sorted({AccountMonth(day.account, day.day[:7]) for day in dirty})
        for number, month in enumerate(months):
            days = [day.day for day in dirty if day.day.startswith(month.month)]
            work.claim(f"run{rounds}-{number}", month.account, month.month, days)
        run(stores, *months, days={day.day for day in dirty})
        for number, month in enumerate(months):
            work.finish(f"run{rounds}-{number}", month.account, month.month)
    raise AssertionError("the touched days never came to an end")


def of(stores: Stores, asset: str) -> list[dict[str, object]]:
    files = [address for address, _ in stores.lake.day_files(asset, "ana-chat")]
    rows: list[dict[str, object]] = stores.lake.query("FROM t", {"t": files}).to_pylist()
    return rows


TALK = [
    line(1, "2026-11-03T09:00:00Z", "ben", "ana: can you send me the invoice for the rack?"),
    line(2, "2026-11-03T09:01:00Z", "cat", "did anybody see the truck today?", channel="c2"),
    line(3, "2026-11-03T09:02:00Z", "dan", "cat: yes, it is behind the hall", channel="c2"),
]


def test_days_without_data_are_materialised_as_nothing(stores: Stores, fill: Fill) -> None:
    fill(*TALK)
    run(stores)
    before = of(stores, "raw_messages")
    reports = run(stores, days=["2026-11-20", "2026-11-21"])
    assert {asset: report.changed for asset, report in reports.items()} == {
        key: [] for key in reports
    }
    assert of(stores, "raw_messages") == before


def test_a_message_goes_all_the_way_from_the_file_to_the_inbox(stores: Stores, fill: Fill) -> None:
    fill(*TALK)
    run(stores)
    rows = Inbox(stores.database, "ana").conversations()
    assert rows[0]["conversation_id"] == "c1:m1"
    assert rows[0]["needs_reply"]
    assert rows[0]["draft"]
    messages = Inbox(stores.database, "ana").messages("ana-chat", "c1:m1")
    assert [message["message_id"] for message in messages] == ["c1:m1"]


def test_a_day_in_which_nothing_changed_costs_no_analysis(stores: Stores, fill: Fill) -> None:
    fill(*TALK)
    run(stores)
    again = run(stores)
    assert again["analyses"].numbers["analysed"] == 0
    assert again["drafted_replies"].numbers["drafted"] == 0
    assert all(report.changed == [] for report in again.values())


def test_one_new_message_analyses_one_conversation_again(stores: Stores, fill: Fill) -> None:
    fill(*TALK)
    run(stores)
    fill(line(4, "2026-11-03T09:03:00Z", "ben", "ana: it is the one from October", reply_to="m1"))
    again = run(stores)
    assert again["analyses"].numbers["analysed"] == 1
    assert again["analyses"].numbers["kept"] == 1


def test_a_conversation_keeps_its_id_when_later_days_come(stores: Stores, fill: Fill) -> None:
    fill(*TALK)
    run(stores)
    before = {row["message_id"]: row["conversation_id"] for row in of(stores, "conversations")}
    fill(line(5, "2026-11-04T08:00:00Z", "ana", "ben: here it is", reply_to="m1"))
    run(stores)
    after = {row["message_id"]: row["conversation_id"] for row in of(stores, "conversations")}
    assert {key: after[key] for key in before} == before
    assert after["c1:m5"] == "c1:m1"


def test_a_late_reply_finds_its_root_in_another_month(stores: Stores, fill: Fill) -> None:
    fill(line(1, "2026-10-02T09:00:00Z", "ben", "who has the key of the hall?"))
    run(stores, OCTOBER)
    fill(line(2, "2026-11-20T09:00:00Z", "cat", "I do", thread_id="m1"))
    run(stores, NOVEMBER)
    assert {row["conversation_id"] for row in of(stores, "conversations")} == {"c1:m1"}
    shown = Inbox(stores.database, "ana").messages("ana-chat", "c1:m1")
    assert [message["text"] for message in shown] == ["who has the key of the hall?", "I do"]


def test_an_older_day_that_comes_late_reaches_the_days_behind_it(
    stores: Stores, fill: Fill
) -> None:
    """A conversation goes on past midnight; its beginning is imported afterwards."""
    fill(line(2, "2026-11-04T00:01:00Z", "ben", "and which colour?", reply_to="m1"))
    settle(stores)
    assert [row["conversation_id"] for row in of(stores, "conversations")] == ["c1:m1"]
    fill(
        line(0, "2026-11-03T23:58:00Z", "ana", "who wants the new bell?"),
        line(1, "2026-11-03T23:59:00Z", "ben", "I would like one", reply_to="m0"),
        name="older.jsonl",
    )
    settle(stores)
    assert {row["conversation_id"] for row in of(stores, "conversations")} == {"c1:m0"}


def test_ripples_stop_where_nothing_is_different_any_more(stores: Stores, fill: Fill) -> None:
    days = [
        line(n, f"2026-11-{n:02d}T12:00:00Z", "ben", f"note number {n} for the log")
        for n in range(1, 21)
    ]
    fill(*days)
    settle(stores)
    fill(line(99, "2026-11-01T12:00:30Z", "cat", "thanks for that one"), name="late.jsonl")
    work = WorkQueue(stores.database)
    assert [day.day for day in work.dirty()] == ["2026-11-01"]
    assert settle(stores) < 6


def test_the_order_in_which_days_come_does_not_matter(stores: Stores, fill: Fill) -> None:
    fill(*TALK, line(5, "2026-11-04T08:00:00Z", "ana", "ben: sent", reply_to="m1"))
    run(stores, days=["2026-11-04"])
    settle(stores)
    apart = sorted(map(str, of(stores, "conversations")))
    run(stores)
    assert sorted(map(str, of(stores, "conversations"))) == apart


def test_nothing_is_drafted_where_the_user_has_answered(stores: Stores, fill: Fill) -> None:
    fill(*TALK)
    run(stores)
    assert Inbox(stores.database, "ana").conversation("c1:m1")["draft"]
    fill(line(6, "2026-11-04T09:00:00Z", "ana", "ben: sent it just now", reply_to="m1"))
    run(stores)
    row = Inbox(stores.database, "ana").conversation("c1:m1")
    assert row["draft"] is None
    assert not row["needs_reply"]
    assert checks.drafts_already_answered(stores, NOVEMBER) == []


def test_an_edit_is_a_new_version_and_a_deletion_a_tombstone(stores: Stores, fill: Fill) -> None:
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "the price is 10"))
    fill(
        line(1, "2026-11-03T09:00:00Z", "ben", "the price is 12", edited_at="2026-11-03T09:05:00Z")
    )
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "", deleted=True))
    run(stores)
    versions = sorted(of(stores, "raw_messages"), key=lambda row: str(row["version"]))
    assert [(row["text"], row["deleted"], row["latest"]) for row in versions] == [
        ("the price is 10", False, False),
        ("the price is 12", False, False),
        ("", True, True),
    ]
    shown = Inbox(stores.database, "ana").messages("ana-chat", "c1:m1")
    assert [(message["text"], message["deleted"]) for message in shown] == [("", 1)]
    assert Inbox(stores.database, "ana").search("zzz price") == []


def test_an_older_export_that_comes_later_does_not_bring_back_what_was_deleted(
    stores: Stores, fill: Fill
) -> None:
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "", deleted=True))
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "secret"), name="older.jsonl")
    run(stores)
    latest = [row for row in of(stores, "raw_messages") if row["latest"]]
    assert [(row["text"], row["deleted"]) for row in latest] == [("", True)]


def test_correcting_the_owner_understands_everything_anew(stores: Stores, fill: Fill) -> None:
    fill(*TALK)
    settle(stores)
    accounts = Accounts(stores.database, "ana")
    _, days = set_owner(stores, accounts, accounts.get("ana-chat"), ["ben"])
    assert days == 1
    settle(stores)
    row = Inbox(stores.database, "ana").conversation("c1:m1")
    assert not row["needs_reply"]


def test_a_conversation_that_fails_three_times_is_buried_and_the_rest_goes_on(
    stores: Stores, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = OfflineAnalyser.analyse_one

    def fails_on_m2(analyser: OfflineAnalyser, transcript: Transcript) -> object:
        if transcript.conversation_id == "c2:m2":
            raise RuntimeError("the model choked")
        return real(analyser, transcript)

    def fails(analyser: OfflineAnalyser, transcripts: object) -> object:
        raise RuntimeError("one of them is bad")

    fill(*TALK)
    with monkeypatch.context() as broken:
        broken.setattr(OfflineAnalyser, "analyse_one", fails_on_m2)
        broken.setattr(OfflineAnalyser, "analyse", fails)
        assert settle(stores) == 3
    analysed = [row["conversation_id"] for row in of(stores, "analyses")]
    assert analysed == ["c1:m1"]
    letters = DeadLetters(stores.database, "ana").list()
    assert [letter["attempts"] for letter in letters] == [3]
    assert "the model choked" in letters[0]["reason"]
    DeadLetters(stores.database, "ana").retry_day(letters[0]["dead_letter_id"])
    settle(stores)
    assert [row["conversation_id"] for row in of(stores, "analyses")] == ["c1:m1", "c2:m2"]
    assert DeadLetters(stores.database, "ana").list() == []


def test_a_run_that_read_older_files_does_not_overwrite_the_inbox(
    stores: Stores, fill: Fill
) -> None:
    fill(*TALK)
    run(stores)
    stale = PublishedDay("ana-chat", "2026-11-03", 1, "old", [], [], [])
    assert publish(stores.database, stale) is False
    assert len(Inbox(stores.database, "ana").conversations()) == 2


def test_one_user_sees_nothing_of_another(stores: Stores, fill: Fill) -> None:
    fill(*TALK)
    run(stores)
    stranger = Inbox(stores.database, "eve")
    assert stranger.conversations() == []
    assert stranger.messages("ana-chat", "c1:m1") == []
    assert stranger.search("invoice") == []
    assert stranger.channel_messages("ana-chat", "c1", "", "9") == []
    with pytest.raises(LookupError):
        stranger.conversation("c1:m1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("请问发票抬头用哪一个？", "发票"),
        ("Wann ist die Lieferung für Größe L?", "lieferung große"),
        ("Коли буде доставка?", "доставка"),
        ("¿Cuándo llega el camión?", "camion"),
        ("the invoice, please", "INV"),
    ],
)
def test_search_finds_words_in_every_language(
    stores: Stores, fill: Fill, text: str, words: str
) -> None:
    fill(line(1, "2026-11-03T09:00:00Z", "ben", text), *TALK[1:])
    run(stores)
    found = Inbox(stores.database, "ana").search(words)
    assert [row["message_id"] for row in found] == ["c1:m1"]


def test_an_edited_message_is_found_by_its_new_words_only(stores: Stores, fill: Fill) -> None:
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "the old wording"))
    run(stores)
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "the new phrase", edited_at="2026-11-03T10:00:00Z"))
    run(stores)
    reader = Inbox(stores.database, "ana")
    assert reader.search("wording") == []
    assert len(reader.search("phrase")) == 1


@pytest.mark.parametrize("words", ["a AND", "NEAR(", "'; DROP TABLE messages; --", 'un"closed'])
def test_a_search_is_words_and_never_syntax(stores: Stores, fill: Fill, words: str) -> None:
    fill(*TALK)
    run(stores)
    assert Inbox(stores.database, "ana").search(words) == []


@pytest.mark.parametrize("words", ['"', "*", "--", ""])
def test_a_search_without_a_word_says_so(stores: Stores, words: str) -> None:
    with pytest.raises(ValueError, match="no word"):
        Inbox(stores.database, "ana").search(words)


def test_status_names_what_waits_and_since_when(stores: Stores, fill: Fill) -> None:
    fill(*TALK)
    waiting = {depth.waiting: depth for depth in depths(stores, "ana-chat")}
    assert waiting["landed, not merged"].depth == 3
    assert waiting["landed, not merged"].oldest is not None
    settle(stores)
    assert [depth.depth for depth in depths(stores, "ana-chat")] == [0, 0, 0, 0]


def test_a_change_during_a_run_stays_to_be_done(stores: Stores, fill: Fill) -> None:
    fill(*TALK)
    work = WorkQueue(stores.database)
    work.claim("run", "ana-chat", "2026-11", ["2026-11-03"])
    run(stores)
    fill(line(7, "2026-11-03T09:30:00Z", "ben", "one more thing"))
    work.finish("run", "ana-chat", "2026-11")
    assert [day.day for day in work.dirty()] == ["2026-11-03"]


def test_what_a_dead_writer_landed_is_marked_by_whoever_comes_next(stores: Stores) -> None:
    """Killed between the file and the mark: the intent is still there, and so is the file."""
    work = WorkQueue(stores.database)
    work.intend_landing("ana-chat", {"landing/ana-chat/2026-11/x.parquet": ["2026-11-05"]})
    assert work.recover_landings(stores.lake.objects) == 0
    stores.lake.objects.put("landing/ana-chat/2026-11/x.parquet", b"")
    assert work.recover_landings(stores.lake.objects) == 1
    assert [day.day for day in work.dirty()] == ["2026-11-05"]
    assert work.recover_landings(stores.lake.objects) == 0


def test_a_lake_that_begins_anew_is_newer_than_the_one_that_was_lost(
    stores: Stores, fill: Fill
) -> None:
    fill(*TALK)
    run(stores)
    shutil.rmtree(stores.lake.objects.addresses(["lake"])[0])
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "all new", edited_at="2026-11-03T10:00:00Z"))
    run(stores)
    messages = Inbox(stores.database, "ana").messages("ana-chat", "c1:m1")
    assert [message["text"] for message in messages] == ["all new"]


def test_a_conversation_that_was_deleted_whole_leaves_the_inbox(stores: Stores, fill: Fill) -> None:
    fill(*TALK)
    run(stores)
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "", deleted=True), name="gone.jsonl")
    run(stores)
    rows = Inbox(stores.database, "ana").conversations()
    assert [row["conversation_id"] for row in rows] == ["c2:m2"]


def test_the_user_can_change_the_categories(stores: Stores, fill: Fill) -> None:
    fill(*TALK)
    run(stores)
    taxonomy = DEFAULT_TAXONOMY.model_dump(mode="json")
    taxonomy["categories"].append(
        {"name": "trucks", "description": "", "cues": ["truck"], "weight": 30}
    )
    Settings(stores.database, "ana").set("taxonomy", taxonomy)
    again = run(stores)
    assert again["analyses"].numbers["analysed"] == 2
    assert Inbox(stores.database, "ana").conversation("c2:m2")["category"] == "trucks"
    assert checks.unknown_categories(stores, NOVEMBER) == []


def sound(stores: Stores) -> list[object]:
    """What the blocking checks would complain of, in every month."""
    return [
        problem
        for month in stores.lake.months("raw_messages", "ana-chat")
        for rule in (
            checks.repeated_messages,
            checks.misplaced_messages,
            checks.unstable_conversations,
            checks.unknown_categories,
            checks.drafts_to_oneself,
            checks.drafts_already_answered,
        )
        for problem in rule(stores, AccountMonth("ana-chat", month))
    ]


@pytest.mark.parametrize("asked_on", ["2026-10-30", "2026-11-03"])
def test_answering_a_day_later_takes_the_draft_away_and_blocks_nothing(
    stores: Stores, fill: Fill, asked_on: str
) -> None:
    """The day's draft was left in the lake, and a check of the month failed for ever after."""
    fill(line(1, f"{asked_on}T09:00:00Z", "ben", "ana: can you send me the invoice?"))
    settle(stores)
    assert Inbox(stores.database, "ana").conversation("c1:m1")["draft"]
    fill(line(2, "2026-11-04T09:00:00Z", "ana", "here it is", reply_to="m1"), name="next.jsonl")
    settle(stores)
    assert sound(stores) == []
    assert Inbox(stores.database, "ana").conversation("c1:m1")["draft"] is None
    assert stores.database.execute("SELECT * FROM drafts") == []


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1)])
def test_a_conversation_has_one_draft_on_its_last_day_in_whatever_order_it_came(
    stores: Stores, fill: Fill, order: tuple[int, ...]
) -> None:
    said = [
        line(1, "2026-09-10T09:00:00Z", "ben", "ana: can you send me the invoice?"),
        line(2, "2026-10-20T09:00:00Z", "ben", "ana: could you send it today?", reply_to="m1"),
        line(3, "2026-11-02T09:00:00Z", "ben", "ana: any news of the invoice?", reply_to="m2"),
        line(4, "2026-11-05T09:00:00Z", "ben", "ana: can you send it now?", reply_to="m3"),
    ]
    for number in order:
        fill(said[number], name=f"{number}.jsonl")
        settle(stores)
    drafted = [
        (day, row["conversation_id"])
        for month in stores.lake.months("drafted_replies", "ana-chat")
        for day, entry in stores.lake.manifest(
            "drafted_replies", AccountMonth("ana-chat", month)
        ).days.items()
        for row in stores.lake.read_day(
            "drafted_replies", AccountMonth("ana-chat", month), entry
        ).to_pylist()
    ]
    assert drafted == [("2026-11-05", "c1:m1")]
    assert sound(stores) == []


def test_a_draft_goes_with_the_message_that_it_answers(stores: Stores, fill: Fill) -> None:
    fill(TALK[0])
    settle(stores)
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "", deleted=True), name="gone.jsonl")
    settle(stores)
    assert stores.database.execute("SELECT * FROM drafts") == []
    assert stores.lake.manifest("drafted_replies", NOVEMBER).days == {}


def test_a_late_run_does_not_take_off_what_came_after_another_one(
    stores: Stores, fill: Fill
) -> None:
    """Both runs found mark 1, one finished, a message landed: its mark must not be 1 again."""
    fill(*TALK)
    work = WorkQueue(stores.database)
    for name in ("first", "second"):
        work.claim(name, "ana-chat", "2026-11", ["2026-11-03"])
    run(stores)
    work.finish("second", "ana-chat", "2026-11")
    fill(line(9, "2026-11-03T10:00:00Z", "ben", "one more"), name="more.jsonl")
    work.finish("first", "ana-chat", "2026-11")
    assert [day.day for day in work.dirty()] == ["2026-11-03"]


def test_a_range_that_dies_half_way_leaves_all_of_it_to_be_done(stores: Stores, fill: Fill) -> None:
    fill(line(0, "2026-10-31T23:00:00Z", "ben", "who has the key?"), *TALK)
    settle(stores)
    work = WorkQueue(stores.database)
    for month in (OCTOBER, NOVEMBER):
        days = raw_messages.days_with_data(stores, month, Scope((month,)))
        work.claim("range", month.account, month.month, days)
    assert [day.day for day in work.dirty()] == ["2026-10-31", "2026-11-03"]
    work.finish("range", "ana-chat", "2026-10")
    assert [day.day for day in work.dirty()] == ["2026-11-03"]


@pytest.mark.parametrize("corrected", ["2026-11-05T09:00:00Z", "2026-10-30T09:00:00Z"])
def test_a_message_whose_time_is_corrected_is_still_one_message(
    stores: Stores, fill: Fill, corrected: str
) -> None:
    fill(*TALK)
    settle(stores)
    later = "2026-11-06T10:00:00Z"
    moved = line(1, corrected, "ben", "ana: and the new text", edited_at=later)
    fill(moved, name="corrected.jsonl")
    settle(stores)
    assert sound(stores) == []
    latest = [row for row in of(stores, "raw_messages") if row["latest"]]
    assert len(latest) == 3
    shown = Inbox(stores.database, "ana").messages("ana-chat", "c1:m1")
    assert [message["text"] for message in shown] == ["ana: and the new text"]


def test_a_renamed_person_blocks_no_day(stores: Stores, fill: Fill) -> None:
    fill(
        line(1, "2026-11-01T09:00:00Z", "b1", "who has the key?", author_name="Bernard"),
        line(2, "2026-11-01T09:01:00Z", "c1", "Bernard: I do"),
    )
    settle(stores)
    fill(line(3, "2026-11-03T09:00:00Z", "b1", "good morning", author_name="Nardo"), name="n.jsonl")
    settle(stores)
    scope = frozenset({"2026-11-03"})
    assert checks.unstable_conversations(stores, NOVEMBER, scope) == []


@pytest.mark.parametrize("text", ["x" * 2_700_000, "单" * 840_000])
def test_a_huge_message_is_shortened_in_the_inbox_and_whole_in_the_lake(
    stores: Stores, fill: Fill, text: str
) -> None:
    fill(line(1, "2026-11-03T09:00:00Z", "ben", text), *TALK[1:])
    settle(stores)
    shown = Inbox(stores.database, "ana").messages("ana-chat", "c1:m1")[0]["text"]
    assert shown.endswith("(shortened: the whole text is in the lake)")
    assert max(len(str(row["text"])) for row in of(stores, "raw_messages")) == len(text)
    assert len(Inbox(stores.database, "ana").conversations()) == 2


def test_a_message_that_leaves_its_conversation_is_gone_from_later_days_too(
    stores: Stores, fill: Fill
) -> None:
    fill(
        line(1, "2026-11-01T09:00:00Z", "ben", "who has the key?"),
        line(2, "2026-11-02T09:00:00Z", "cat", "is the truck there?", reply_to="m1"),
        line(3, "2026-11-15T09:00:00Z", "dan", "I have it", reply_to="m1"),
    )
    settle(stores)
    assert Inbox(stores.database, "ana").conversation("c1:m1")["message_count"] == 3
    fill(
        line(
            2,
            "2026-11-02T09:00:00Z",
            "cat",
            "the truck?",
            edited_at="2026-11-02T10:00:00Z",
            channel="c1",
            thread_id="m2x",
        ),
        name="edit.jsonl",
    )
    settle(stores)
    assert Inbox(stores.database, "ana").conversation("c1:m1")["message_count"] == 2
