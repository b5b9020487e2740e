"""Pulling, as every platform meets it: order of writing, limits, history, costs.

The platform is the example one against its own server; what each platform promises is in
`platforms/contract.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from communicator_pipeline.chain import attachments, raw_messages
from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.ingestion import connecting, pull
from communicator_pipeline.ingestion import poll as poll_module
from communicator_pipeline.ingestion.connecting import (
    add_account,
    change_setting,
    login_again,
    remove_account,
)
from communicator_pipeline.ingestion.intake import Counts, Intake
from communicator_pipeline.ingestion.poll import poll, poll_history, poll_one
from communicator_pipeline.ingestion.pull import (
    fetch_missing,
    missing_history,
    pull_history,
    pull_new,
)
from communicator_pipeline.platforms import live_side
from communicator_pipeline.platforms.example.live import ExampleClient
from communicator_pipeline.platforms.example.server import ExampleServer
from communicator_pipeline.platforms.protocol import (
    LoginNeeded,
    OverBudget,
    Page,
    PullRequest,
    Unreachable,
    Wait,
    Window,
)
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import (
    Accounts,
    NotFound,
    Person,
    know_people,
    load_account,
)
from communicator_pipeline.storage.connections import Connections, window_scope
from communicator_pipeline.storage.database import now_text
from communicator_pipeline.storage.lake import AccountMonth, attachment_key
from communicator_pipeline.storage.landing import (
    Envelope,
    Landing,
    landed_months,
    read_landing,
)
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline_tests.conftest import EXAMPLE

NOW = datetime.now(UTC)


@pytest.fixture
def peer(example: None) -> Iterator[ExampleServer]:
    with ExampleServer() as server:
        yield server


@pytest.fixture
def connected(stores: Stores, peer: ExampleServer) -> Stores:
    add_account(stores, "ana", EXAMPLE, "example", peer.values, _nobody)
    return stores


def _nobody(field: object) -> str:
    raise AssertionError(f"asked for {field}")


def landed(stores: Stores) -> int:
    return sum(
        read_landing(stores.lake, AccountMonth(EXAMPLE, month), None).num_rows
        for month in landed_months(stores.lake, EXAMPLE)
    )


def test_the_cursors_move_only_after_what_came_before_is_durable(
    connected: Stores, peer: ExampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.say("hello")

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(type(connected.lake.objects), "put", full_disk)
        report = pull_new(connected, EXAMPLE)
    assert report.state == "fault"
    assert "No space left" in report.words
    assert Connections(connected).cursors(EXAMPLE, pull.NEW) == {}
    assert pull_new(connected, EXAMPLE).kept == 1


def test_what_has_landed_is_marked_to_be_materialised(
    connected: Stores, peer: ExampleServer
) -> None:
    peer.say("hello")
    pull_new(connected, EXAMPLE)
    assert [d.day for d in WorkQueue(connected.database).dirty(EXAMPLE)] == [
        datetime.now(UTC).date().isoformat()
    ]


def test_a_pull_without_news_writes_no_file_and_marks_nothing(
    connected: Stores, peer: ExampleServer
) -> None:
    pull_new(connected, EXAMPLE)
    assert landed_months(connected.lake, EXAMPLE) == []
    assert WorkQueue(connected.database).dirty(EXAMPLE) == []


def test_pages_before_a_failure_count(
    connected: Stores, peer: ExampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        peer.say(f"number {number}")
    whole = ExampleClient.pull

    def breaking(self: ExampleClient, request: PullRequest) -> Iterator[Page]:
        yield from whole(self, request)
        raise Unreachable("the line went dead")

    monkeypatch.setattr(ExampleClient, "pull", breaking)
    report = pull_new(connected, EXAMPLE)
    assert (report.state, report.kept) == ("unreachable", 5)
    assert Connections(connected).cursors(EXAMPLE, pull.NEW) == {"events": "5"}


def test_one_account_is_pulled_by_one_process_at_a_time(
    connected: Stores, peer: ExampleServer
) -> None:
    connections = Connections(connected)
    lease = connections.lease(EXAMPLE, datetime.now(UTC))
    assert lease is not None
    assert pull_new(connected, EXAMPLE).state == "busy"
    connections.release(EXAMPLE, lease)
    assert pull_new(connected, EXAMPLE).state == "ok"


def test_the_lease_of_a_pull_that_died_runs_out(connected: Stores, peer: ExampleServer) -> None:
    connections = Connections(connected)
    assert connections.lease(EXAMPLE, datetime.now(UTC) - timedelta(minutes=6))
    assert pull_new(connected, EXAMPLE).state == "ok"


def test_a_platform_that_does_not_answer_is_news_the_third_time(
    connected: Stores, peer: ExampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(self: ExampleClient, request: PullRequest) -> Iterator[Page]:
        raise Unreachable("Example did not answer: ReadTimeout")
        yield

    connections = Connections(connected)
    with monkeypatch.context() as patched:
        patched.setattr(ExampleClient, "pull", silent)
        for times, shown in ((1, ""), (2, ""), (3, "unreachable")):
            assert pull_new(connected, EXAMPLE).state == "unreachable"
            health = connections.health(EXAMPLE)
            assert health.trouble_kind == shown, times
    assert connections.due(datetime.now(UTC)) == []  # it backs off
    assert pull_new(connected, EXAMPLE).state == "ok"
    assert connections.health(EXAMPLE).trouble_kind == ""


def test_an_error_that_quotes_the_token_is_kept_without_it(
    connected: Stores, peer: ExampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(self: ExampleClient, request: PullRequest) -> Iterator[Page]:
        raise RuntimeError(f"GET https://api/{peer.values['token']}/events failed")
        yield

    monkeypatch.setattr(ExampleClient, "pull", careless)
    report = pull_new(connected, EXAMPLE)
    assert report.state == "fault"
    kept = str(connected.database.execute("SELECT * FROM connections"))
    for text in (report.words, kept):
        assert peer.values["token"] not in text
    assert "•••" in report.words


def test_a_limit_of_one_scope_is_kept_for_every_process(
    connected: Stores, peer: ExampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = datetime.now(UTC) + timedelta(minutes=15)
    seen: list[PullRequest] = []

    def limited(self: ExampleClient, request: PullRequest) -> Iterator[Page]:
        seen.append(request)
        raise Wait(until, "15 requests in 15 minutes", "example:history")
        yield

    monkeypatch.setattr(ExampleClient, "pull", limited)
    assert pull_new(connected, EXAMPLE).state == "waiting"
    pull_new(connected, EXAMPLE)
    assert seen[0].waits == {}
    assert abs(seen[1].waits["example:history"] - until) < timedelta(milliseconds=1)
    assert Connections(connected).due(datetime.now(UTC)) == []


def test_what_is_spent_is_counted_and_the_cap_holds(
    connected: Stores, peer: ExampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = Connections(connected)
    kept = connections.load(EXAMPLE)
    connections.save(
        EXAMPLE, {**kept.settings, "cap_usd": "0.25"}, kept.secrets, timedelta(minutes=1), NOW
    )
    seen: list[float | None] = []

    def billed(self: ExampleClient, request: PullRequest) -> Iterator[Page]:
        seen.append(request.budget_usd)
        if request.budget_usd is not None and request.budget_usd < 0.1:
            raise OverBudget("the next page could cost $0.10")
        yield Page(reads=20, cost_usd=0.1)

    monkeypatch.setattr(ExampleClient, "pull", billed)
    states = [pull_new(connected, EXAMPLE).state for _ in range(3)]
    assert states == ["ok", "ok", "over budget"]
    assert [round(left or 0, 2) for left in seen] == [0.25, 0.15, 0.05]
    health = connections.health(EXAMPLE)
    assert "cap_usd" in health.repair
    assert round(health.cost_usd, 2) == 0.2


def test_a_chat_that_is_excluded_is_not_read(connected: Stores, peer: ExampleServer) -> None:
    peer.say("secret plans")
    Connections(connected).set_rules(EXAMPLE, {peer.channel_id: "exclude"})
    assert pull_new(connected, EXAMPLE).kept == 0
    assert landed(connected) == 0


def test_credentials_that_cannot_be_opened_are_trouble_in_words(
    connected: Stores, peer: ExampleServer
) -> None:
    sealed = Fernet(Fernet.generate_key()).encrypt(b"{}").decode()
    connected.database.execute("UPDATE connections SET secrets = ?", (sealed,))
    report = pull_new(connected, EXAMPLE)
    assert report.state == "login needed"
    health = Connections(connected).health(EXAMPLE)
    assert "put the key back, or log in again" in health.trouble
    assert health.repair == f"communicator accounts login {EXAMPLE}"
    assert Connections(connected).due(datetime.now(UTC)) == []


def test_a_limit_after_some_pages_is_a_pull_that_came_to_its_end(
    connected: Stores, peer: ExampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = Window(NOW - timedelta(days=60), NOW - timedelta(days=30))
    connections = Connections(connected)
    connections.ask_for_history(EXAMPLE, window)

    def limited(self: ExampleClient, request: PullRequest) -> Iterator[Page]:
        yield Page(notices=["a chat cannot be read"])
        if request.window is None:
            raise Wait(datetime.now(UTC) + timedelta(minutes=1), "a limit", "example:replies")

    monkeypatch.setattr(ExampleClient, "pull", limited)
    assert poll_one(connected, EXAMPLE).state == "waiting"
    health = connections.health(EXAMPLE)
    assert health.pulled_at
    assert health.notices == ("a chat cannot be read",)
    assert connections.due(datetime.now(UTC)) == []
    assert connections.history(EXAMPLE)[0].finished


def test_a_pull_whose_lease_another_has_taken_lands_and_moves_nothing(
    connected: Stores, peer: ExampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.say("hello")
    whole = ExampleClient.pull
    connections = Connections(connected)
    others: list[str | None] = []

    def slow(self: ExampleClient, request: PullRequest) -> Iterator[Page]:
        for page in whole(self, request):
            if not others:
                later = datetime.now(UTC) + timedelta(minutes=6)
                others.append(connections.lease(EXAMPLE, later))
            yield page

    monkeypatch.setattr(ExampleClient, "pull", slow)
    report = pull_new(connected, EXAMPLE)
    assert (report.state, report.kept) == ("busy", 0)
    assert connections.cursors(EXAMPLE, pull.NEW) == {}
    assert connections.failures(EXAMPLE) == 0
    connections.move_cursors(EXAMPLE, pull.NEW, {"events": "9"}, "a lease that is over")
    assert connections.cursors(EXAMPLE, pull.NEW) == {}
    connections.move_cursors(EXAMPLE, pull.NEW, {"events": "9"}, others[0])
    assert connections.cursors(EXAMPLE, pull.NEW) == {"events": "9"}


def test_a_clock_that_was_once_ahead_keeps_nobody_waiting_for_years(
    connected: Stores, peer: ExampleServer
) -> None:
    connections = Connections(connected)
    ahead = datetime(2030, 1, 1, tzinfo=UTC)
    connections.note_success(EXAMPLE, ahead, False, ())
    assert connections.lease(EXAMPLE, ahead)
    assert [due.account for due in connections.due(NOW)] == [EXAMPLE]
    assert pull_new(connected, EXAMPLE).state == "ok"
    assert connections.due(datetime.now(UTC)) == []
    connections.set_cadence(EXAMPLE, timedelta(days=30))
    connections.note_success(EXAMPLE, NOW, False, ())
    assert connections.due(NOW + timedelta(days=1)) == []  # that is its own cadence


def test_names_that_are_no_text_stop_no_pull(connected: Stores, peer: ExampleServer) -> None:
    person = Person("p\ud800", "Ann\udcff", datetime.now(UTC), "@\ud83d")
    know_people(connected.database, EXAMPLE, [person])
    known = {p.name for p in Accounts(connected.database, "ana").people(EXAMPLE)}
    assert "Ann?" in known


# --- history


def test_trouble_of_a_window_is_the_windows_own(
    connected: Stores, peer: ExampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Window] = []

    def half(self: ExampleClient, request: PullRequest) -> Iterator[Page]:
        if request.window is not None:
            asked.append(request.window)
            raise LoginNeeded("history needs the scope channels:history")
        yield Page()

    monkeypatch.setattr(ExampleClient, "pull", half)
    connections = Connections(connected)
    connections.ask_for_history(EXAMPLE, Window(day(1), day(5)))
    for _ in range(3):
        assert poll_one(connected, EXAMPLE).state == "ok"
    assert len(asked) == 1  # it rests
    health = connections.health(EXAMPLE)
    assert (health.trouble_kind, connections.failures(EXAMPLE)) == ("", 0)
    assert "channels:history" in connections.history(EXAMPLE)[0].trouble
    later = datetime.now(UTC) + timedelta(seconds=31)
    assert [due.account for due in connections.due(later)] == [EXAMPLE]


def test_history_goes_on_for_a_step_and_then_what_is_new_has_its_turn(
    connected: Stores, peer: ExampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(self: ExampleClient, request: PullRequest) -> Iterator[Page]:
        number = int(request.cursors.get("page", "0"))
        while request.window is not None:
            number += 1
            yield Page(cursors={"page": str(number)}, done=number / 1_000)

    monkeypatch.setattr(ExampleClient, "pull", endless)
    monkeypatch.setattr(poll_module, "HISTORY_STEP", timedelta(seconds=0.05))
    connections = Connections(connected)
    window = Window(day(1), day(5))
    connections.ask_for_history(EXAMPLE, window)
    far = []
    for _ in range(2):
        assert poll_one(connected, EXAMPLE).state == "ok"
        far.append(int(connections.cursors(EXAMPLE, window_scope(window))["page"]))
    assert 0 < far[0] < far[1]
    soon = datetime.now(UTC) + timedelta(seconds=31)
    assert [due.account for due in connections.due(soon)] == [EXAMPLE]
    assert poll_history(connected, EXAMPLE, stop=lambda: True).state == "unfinished"


def test_a_day_that_is_fetched_again_leaves_the_windows_around_it(connected: Stores) -> None:
    connections = Connections(connected)
    year, one = Window(day(1), day(31)), Window(day(5), day(6))
    connections.ask_for_history(EXAMPLE, year)
    connections.move_cursors(EXAMPLE, window_scope(year), {"c": "x"})
    connections.fetch_again(EXAMPLE, one)
    assert connections.cursors(EXAMPLE, window_scope(year)) == {"c": "x"}
    connections.history_progress(EXAMPLE, year, 1.0)
    assert missing_history(connected, EXAMPLE, one) == [one]
    connections.history_progress(EXAMPLE, one, 1.0)
    assert missing_history(connected, EXAMPLE, year) == []


def test_a_window_that_is_through_keeps_no_cursors(connected: Stores, peer: ExampleServer) -> None:
    peer.say("hello")
    window = Window(NOW - timedelta(days=1), NOW + timedelta(days=1))
    Connections(connected).fetch_again(EXAMPLE, window)
    assert pull_history(connected, EXAMPLE, window).state == "ok"
    assert Connections(connected).cursors(EXAMPLE, window_scope(window)) == {}
    assert pull_history(connected, EXAMPLE, window).kept == 0


def day(number: int) -> datetime:
    return datetime(2025, 3, number, tzinfo=UTC)


def test_what_has_been_fetched_is_not_missing(connected: Stores) -> None:
    connections = Connections(connected)
    whole = Window(day(1), day(31))
    assert missing_history(connected, EXAMPLE, whole) == [whole]
    for first, last in ((5, 10), (10, 12), (20, 25)):
        connections.ask_for_history(EXAMPLE, Window(day(first), day(last)))
        connections.history_progress(EXAMPLE, Window(day(first), day(last)), 1.0)
    assert missing_history(connected, EXAMPLE, whole) == [
        Window(day(1), day(5)),
        Window(day(12), day(20)),
        Window(day(25), day(31)),
    ]
    assert missing_history(connected, EXAMPLE, Window(day(6), day(12))) == []


def test_what_the_live_cursors_bring_is_not_missing(connected: Stores) -> None:
    since = Connections(connected).covered_since(EXAMPLE)
    window = Window(since - timedelta(days=1), since + timedelta(days=400))
    assert missing_history(connected, EXAMPLE, window) == [Window(window.first, since)]
    assert missing_history(connected, EXAMPLE, Window(since, window.last)) == []


def test_history_that_met_a_limit_goes_on_at_the_next_poll(
    connected: Stores, peer: ExampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):  # three pages
        peer.say(f"number {number}")
    window = Window(NOW - timedelta(days=1), NOW + timedelta(days=1))
    connections = Connections(connected)
    connections.fetch_again(EXAMPLE, window)
    whole = ExampleClient.pull
    pages: list[int] = []

    def limited(self: ExampleClient, request: PullRequest) -> Iterator[Page]:
        for number, page in enumerate(whole(self, request)):
            if request.window is not None:
                if number == 2:
                    raise Wait(datetime.now(UTC) - timedelta(seconds=1), "a limit", "history")
                pages.append(int(page.cursors["page"]))
            yield page

    monkeypatch.setattr(ExampleClient, "pull", limited)
    report = pull_history(connected, EXAMPLE, window)
    assert report.state == "waiting"
    assert pages == [1, 2]
    assert 0 < connections.history(EXAMPLE)[0].done < 1
    poll_one(connected, EXAMPLE)
    assert pages == [1, 2, 3]
    assert connections.history(EXAMPLE)[0].finished
    assert landed(connected) == 8


def test_a_wait_is_waited_for_or_left_as_the_caller_says(
    connected: Stores, peer: ExampleServer
) -> None:
    window = Window(NOW - timedelta(days=40), NOW + timedelta(days=1))
    peer.limit(30)
    asked: list[datetime] = []

    def no(until: datetime) -> bool:
        asked.append(until)
        return False

    assert {r.state for r in fetch_missing(connected, EXAMPLE, window, no)} == {"waiting"}
    assert len(asked) == 2  # what is new, and history

    def yes(until: datetime) -> bool:
        peer.limit(0)
        Connections(connected).forget_waits(EXAMPLE)
        return True

    assert fetch_missing(connected, EXAMPLE, window, yes)[-1].state == "ok"


def test_an_imported_account_has_nothing_to_fetch(stores: Stores) -> None:
    window = Window(NOW - timedelta(days=1), NOW)
    assert fetch_missing(stores, "ana-chat", window, lambda until: False) == []


def test_a_range_of_partitions_is_one_window() -> None:
    months = tuple(AccountMonth("a", f"2025-{m:02d}") for m in (3, 4, 6))
    assert raw_messages.windows(Scope(months)) == [
        ("a", Window(datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 5, 1, tzinfo=UTC))),
        ("a", Window(datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC))),
    ]
    some = Scope(months[:1], frozenset({"2025-03-05", "2025-03-07"}))
    assert raw_messages.windows(some) == [("a", Window(day(5), day(8)))]


# --- files


def files_of(stores: Stores) -> list[tuple[str, str, str | None]]:
    """(name, state, SHA-256) of the month's attachments, materialised."""
    partition = AccountMonth(EXAMPLE, datetime.now(UTC).strftime("%Y-%m"))
    scope = Scope((partition,))
    raw_messages.materialise(stores, partition, scope)
    report = attachments.materialise(stores, partition, scope)
    rows = [
        row
        for entry in report.manifest.days.values()
        for row in stores.lake.read_day(attachments.ASSET, partition, entry).to_pylist()
    ]
    return [(row["name"], row["state"], row["sha256"]) for row in rows]


def test_a_file_is_fetched_once_and_kept_when_it_is_gone_there(
    connected: Stores, peer: ExampleServer
) -> None:
    peer.send_file("the plan", "plan.pdf", b"%PDF")
    pull_new(connected, EXAMPLE)
    ((name, state, sha256),) = files_of(connected)
    assert (name, state, sha256) == ("plan.pdf", "stored", hashlib.sha256(b"%PDF").hexdigest())
    assert connected.lake.objects.get(attachment_key(sha256 or ""))[0] == b"%PDF"
    peer.lose_files()
    assert files_of(connected) == [("plan.pdf", "stored", sha256)]


def test_a_file_that_cannot_be_had_says_why(
    connected: Stores, peer: ExampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.send_file("gone", "gone.pdf", b"x")
    peer.lose_files()
    peer.send_file("large", "large.iso", b"x" * 100)
    monkeypatch.setattr(attachments, "LARGEST_ATTACHMENT", 99)
    pull_new(connected, EXAMPLE)
    assert sorted(files_of(connected)) == [
        ("gone.pdf", "gone", None),
        ("large.iso", "too large", None),
    ]


def test_files_wait_for_a_platform_that_does_not_answer(
    connected: Stores, peer: ExampleServer
) -> None:
    peer.send_file("the plan", "plan.pdf", b"%PDF")
    pull_new(connected, EXAMPLE)
    peer.limit(60)
    assert files_of(connected) == [("plan.pdf", "remote", None)]
    peer.limit(0)
    assert files_of(connected)[0][1] == "stored"


def test_files_that_take_too_long_are_fetched_by_the_next_run(
    connected: Stores, peer: ExampleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        peer.send_file("a file", f"{number}.txt", str(number).encode())
    pull_new(connected, EXAMPLE)
    whole = ExampleClient.download

    def slow(self: ExampleClient, url: str, most: int) -> bytes:
        monkeypatch.setattr("time.monotonic", lambda: 1e9)  # its time is over after one
        return whole(self, url, most)

    work = WorkQueue(connected.database)
    before = work.dirty(EXAMPLE)[0].mark
    with monkeypatch.context() as patched:
        patched.setattr(ExampleClient, "download", slow)
        assert [state for _, state, _ in files_of(connected)] == ["stored", "remote", "remote"]
        monkeypatch.undo()
    assert work.dirty(EXAMPLE)[0].mark == before + 1


# --- polling


def test_a_poll_asks_who_is_due_and_nobody_else(connected: Stores, peer: ExampleServer) -> None:
    message = peer.say("hello")
    assert [(r.account, r.kept) for r in poll(connected, datetime.now(UTC))] == [(EXAMPLE, 1)]
    assert list(poll(connected, datetime.now(UTC))) == []
    later = datetime.now(UTC) + timedelta(seconds=31)
    assert [r.kept for r in poll(connected, later)] == [0]
    Connections(connected).pause(EXAMPLE)
    assert list(poll(connected, later + timedelta(days=1))) == []
    assert pull_new(connected, EXAMPLE).state == "paused"
    assert message


def test_a_stalled_account_says_so(connected: Stores, peer: ExampleServer) -> None:
    pull_new(connected, EXAMPLE)
    connections = Connections(connected)
    assert connections.health(EXAMPLE).trouble_kind == ""
    connected.database.execute("UPDATE connections SET pulled_at = '2026-01-01T00:00:00.000000Z'")
    health = connections.health(EXAMPLE)
    assert (health.trouble_kind, health.repair) == ("stalled", "communicator worker")


# --- accounts


def test_an_account_gets_a_key_of_its_place(stores: Stores, peer: ExampleServer) -> None:
    connected = add_account(stores, "ana", None, "example", peer.values, _nobody)
    assert connected.account.account == "ana-example-the-example"


def test_nothing_is_kept_of_a_login_that_fails(stores: Stores, peer: ExampleServer) -> None:
    peer.revoke()
    with pytest.raises(Exception, match="does not know the token"):
        add_account(stores, "ana", EXAMPLE, "example", peer.values, _nobody)
    with pytest.raises(NotFound):
        load_account(stores.database, EXAMPLE)


def test_logging_in_again_mends_a_dead_token_and_loses_nothing(
    connected: Stores, peer: ExampleServer
) -> None:
    peer.say("before")
    pull_new(connected, EXAMPLE)
    peer.revoke()
    assert pull_new(connected, EXAMPLE).state == "login needed"
    with ExampleServer() as other:  # the same service, with a token that lives
        values = {"token": other.values["token"], "base_url": other.values["base_url"]}
        login_again(connected, "ana", EXAMPLE, values, _nobody)
        assert Connections(connected).health(EXAMPLE).trouble_kind == ""
        assert Connections(connected).cursors(EXAMPLE, pull.NEW) == {"events": "1"}
        assert pull_new(connected, EXAMPLE).state == "ok"


def test_a_setting_can_be_changed_and_a_secret_cannot(
    connected: Stores, peer: ExampleServer
) -> None:
    account = load_account(connected.database, EXAMPLE)
    for name in ("token", "base_url"):  # a token that is sent elsewhere is given away
        with pytest.raises(ValueError, match=f"{name} is part of the login: log in again"):
            change_setting(connected, account, name, "http://127.0.0.1:1")
    generic = add_account(
        connected, "ana", "ana-crm", "generic", {"me": "ana"}, lambda field: ""
    ).account
    change_setting(connected, generic, "reply_url", "https://crm.example.com/replies")
    loaded = Connections(connected).load("ana-crm")
    assert loaded.setting("reply_url") == "https://crm.example.com/replies"
    for address in ("http://169.254.169.254/x", "http://127.0.0.1.example.com", "https://"):
        with pytest.raises(ValueError, match="should begin with https"):
            change_setting(connected, generic, "reply_url", address)
    with pytest.raises(ValueError, match="nonsense is not a setting"):
        change_setting(connected, account, "nonsense", "x")


def test_a_field_that_is_missing_is_named(stores: Stores, peer: ExampleServer) -> None:
    with pytest.raises(ValueError, match="token is missing: the API token"):
        add_account(stores, "ana", EXAMPLE, "example", {}, _nobody)
    with pytest.raises(ValueError, match="there is no field tokn"):
        add_account(stores, "ana", EXAMPLE, "example", {"tokn": "x"}, _nobody)


def test_removing_an_account_leaves_nothing_of_it(
    connected: Stores, peer: ExampleServer, tmp_path: Path
) -> None:
    message = peer.say("gone tomorrow")
    pull_new(connected, EXAMPLE)
    partition = AccountMonth(EXAMPLE, datetime.now(UTC).strftime("%Y-%m"))
    raw_messages.materialise(connected, partition, Scope((partition,)))
    assert remove_account(connected, "ana", EXAMPLE) >= 2
    tables = connected.database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%account TEXT%' "
        "AND name <> 'removed_accounts'"  # which says for a while that it was there
    )
    assert len(tables) > 15
    for table in tables:
        rows = connected.database.execute(
            f"SELECT count(*) AS n FROM {table['name']} WHERE account = ?", (EXAMPLE,)
        )
        assert rows[0]["n"] == 0, table
    left = [path for path in (tmp_path / "home").rglob("*") if EXAMPLE in str(path)]
    assert [path for path in left if path.is_file() and not path.name.startswith(".")] == []
    assert message
    with pytest.raises(NotFound):
        Accounts(connected.database, "ana").get(EXAMPLE)


def test_another_users_account_cannot_be_removed(connected: Stores, peer: ExampleServer) -> None:
    from communicator_pipeline.storage.accounts import add_user

    add_user(connected.database, "eve", "Eve")
    with pytest.raises(NotFound):
        remove_account(connected, "eve", EXAMPLE)
    with pytest.raises(NotFound):
        login_again(connected, "eve", EXAMPLE, peer.values, _nobody)


def test_a_cached_landing_zone_learns_what_others_have_landed(
    connected: Stores, peer: ExampleServer
) -> None:
    mine = Landing(connected.lake, WorkQueue(connected.database), EXAMPLE)
    peer.say("hello")
    pull_new(connected, EXAMPLE)
    connected.database.execute("DELETE FROM cursors")
    assert pull_new(connected, EXAMPLE, landing=mine).kept == 0
    assert landed(connected) == 1


def test_a_message_stays_on_the_day_on_which_others_have_landed_it_meanwhile(
    connected: Stores,
) -> None:
    work = WorkQueue(connected.database)
    mine = Landing(connected.lake, work, EXAMPLE)
    first = Envelope("2026-10-05", "c:m1", "c", "channel", "message", 1, 1, b"{}")
    Landing(connected.lake, work, EXAMPLE).land([first])
    intake = Intake(connected.database, mine, Counts(), "pull")
    intake.take(first._replace(day="2026-10-09", kind="deletion", version_at=2, digest=2))
    intake.flush()
    rows = read_landing(connected.lake, AccountMonth(EXAMPLE, "2026-10"), None).to_pylist()
    assert [(row["kind"], row["day"]) for row in rows] == [
        ("message", "2026-10-05"),
        ("deletion", "2026-10-05"),
    ]


def test_the_first_look_goes_back_two_weeks(connected: Stores) -> None:
    since = Connections(connected).covered_since(EXAMPLE)
    assert abs(datetime.now(UTC) - connecting.FIRST_LOOK_BACK - since) < timedelta(minutes=1)
    assert live_side("example").cadence == timedelta(seconds=30)
    assert now_text() > "2026"
