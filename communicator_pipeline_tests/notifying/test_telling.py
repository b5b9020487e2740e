"""Rounds of telling, on real stores and over a real socket: each thing once, whoever dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from communicator_pipeline.notifying import telling
from communicator_pipeline.notifying.sending import send as send_by_child
from communicator_pipeline.notifying.targets import add_target
from communicator_pipeline.notifying.telling import (
    FailedRun,
    anything_to_tell,
    note_news,
    tell,
    try_target,
)
from communicator_pipeline.notifying.wording import Message
from communicator_pipeline.storage import Stores, home, open_local
from communicator_pipeline.storage.accounts import Accounts, add_user, remove_user
from communicator_pipeline.storage.database import utc_text
from communicator_pipeline.storage.dead_letters import DeadLetter, bury
from communicator_pipeline.storage.notifications import (
    LOST,
    LOST_AFTER,
    Targets,
    Told,
    troubled_targets,
)
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.triage import Triage
from communicator_pipeline_tests.delivery.world import ACCOUNT, add_box, say
from communicator_pipeline_tests.notifying.ear import Ear, listening

NOW = datetime.now(UTC)


@pytest.fixture
def ear() -> Iterator[Ear]:
    with listening() as heard:
        yield heard


@pytest.fixture
def box(stores: Stores, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> Stores:
    """ana's box, with a target that hears her; bo and vi see the box, too."""
    monkeypatch.delenv("COMMUNICATOR_URL", raising=False)
    monkeypatch.setenv("COMMUNICATOR_PRIVATE_TARGETS", "yes")
    add_box(stores)
    add_target(stores, "ana", "phone", ear.url, False, NOW)
    return stores


def ask(stores: Stores, number: int = 1, priority: int = 90, at: datetime = NOW) -> None:
    """Kim asks something in conversation `c<number>`; the first is there before the others, which
    are its copies: bringing in a day replaces what it had."""
    database, key = stores.database, f"c{number}"
    if number == 1:
        say(stores, "Where is the spare key?", at=at, number="1", draft="?")
        database.execute("UPDATE analyses SET summary = 'Kim looks for the key.'")
    for table in ("analyses", "conversations"):
        (row,) = database.execute(f"SELECT * FROM {table} WHERE conversation_id = 'c1' LIMIT 1")
        row |= {"conversation_id": key, "priority": priority}
        places = ", ".join("?" for _ in row)
        database.execute(
            f"INSERT OR REPLACE INTO {table} ({', '.join(row)}) VALUES ({places})",
            tuple(row.values()),
        )


def nothing(since: datetime) -> list[FailedRun]:
    return []


def round_at(stores: Stores, now: datetime, **more: Any) -> int:
    note_news(stores, nothing, now)
    return tell(stores, now, **more)


def states(stores: Stores, user: str = "ana") -> list[str]:
    return [row["state"] for row in Told(stores.database, user).log(None, 100)]


def later(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


# --- urgent ----------------------------------------------------------------------------------


def test_an_urgent_conversation_is_told_once_with_its_summary_and_a_link(
    box: Stores, ear: Ear
) -> None:
    ask(box)
    for minutes in (0, 1, 2, 50, 200):
        round_at(box, later(minutes))
    ((title, text),) = ear.heard
    assert "waits for your reply" in title
    assert "Kim looks for the key." in text
    assert f"http://127.0.0.1:8700/inbox?of={ACCOUNT}&conversation=c1" in text
    assert "spare" not in text  # no more of the message than the summary
    assert states(box) == ["told"]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [("urgent_priority", 91, 0), ("urgent_priority", 90, 1), ("notify", [], 0),
     ("notify", ["phone"], 1), ("notify", ["mail"], 0)],
)  # fmt: skip
def test_a_user_decides_from_where_on_and_where_they_are_told(
    box: Stores, ear: Ear, key: str, value: Any, told: int
) -> None:
    Settings(box.database, "ana").set(key, value)
    ask(box)
    round_at(box, NOW)
    assert len(ear.heard) == told


def test_what_came_earlier_than_a_day_ago_is_no_news(box: Stores, ear: Ear) -> None:
    ask(box, at=NOW - timedelta(days=1, minutes=1))
    assert round_at(box, NOW) == 0
    assert states(box) == []


def test_who_has_no_target_and_who_is_no_member_is_told_nothing(box: Stores, ear: Ear) -> None:
    add_user(box.database, "dan", "Dan")
    add_target(box, "dan", "phone", ear.url, False, NOW)
    ask(box)
    assert round_at(box, NOW) == 1
    assert states(box, "bo") == states(box, "dan") == []


def test_a_conversation_that_goes_on_is_told_again_after_an_hour_at_the_soonest(
    box: Stores, ear: Ear
) -> None:
    for minutes in (0, 20, 40, 61):
        ask(box, at=later(minutes))
        round_at(box, later(minutes))
    assert len(ear.heard) == 2


def test_quiet_hours_hold_it_back_and_bundle_it(box: Stores, ear: Ear) -> None:
    begin, end = NOW - timedelta(minutes=10), NOW + timedelta(hours=2)
    Settings(box.database, "ana").set(
        "quiet_hours", {"from": f"{begin:%H:%M}", "to": f"{end:%H:%M}"}
    )
    ask(box, 1)
    ask(box, 2)
    assert round_at(box, NOW) == 0
    assert not anything_to_tell(box, NOW)
    assert states(box) == ["waiting", "waiting"]
    assert anything_to_tell(box, later(121))
    assert round_at(box, later(121)) == 1
    assert ear.heard[0][0] == "2 conversations wait for your reply"


def test_what_was_answered_or_done_during_quiet_hours_is_not_told(box: Stores, ear: Ear) -> None:
    ask(box)
    note_news(box, nothing, NOW)
    Triage(box.database, "ana").done(ACCOUNT, "c1", None, NOW)
    assert round_at(box, later(1)) == 0
    assert states(box) == ["over"]
    assert ear.heard == []


def test_a_second_message_waits_a_minute_and_holds_all_that_came(box: Stores, ear: Ear) -> None:
    for number in (1, 2, 3):
        ask(box, number)
        round_at(box, NOW + timedelta(seconds=10 * number))
    round_at(box, NOW + timedelta(seconds=70))
    assert [title.split()[0] for title, _ in ear.heard] == ["kim", "2"]


# --- once ------------------------------------------------------------------------------------


def test_twice_at_once_tells_once(box: Stores, ear: Ear) -> None:
    for number in range(1, 6):
        ask(box, number)
    note_news(box, nothing, NOW)
    both = threading.Barrier(4)
    taken: list[int] = []

    def one_round() -> None:
        both.wait()
        taken.append(round_at(box, NOW))

    threads = [threading.Thread(target=one_round) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 1
    assert len(ear.heard) == 1


def _die_before_sending(_: str, __: Message, ___: bool) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _die_after_sending(url: str, message: Message, private: bool) -> str:
    send_by_child(url, message, private)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _round_of_a_process(send: Callable[[str, Message, bool], str]) -> None:
    opened = open_local(home())
    note_news(opened, nothing, NOW)
    tell(opened, NOW, send=send)


@pytest.mark.parametrize(("send", "heard"), [(_die_before_sending, 0), (_die_after_sending, 1)])
def test_killed_between_claim_and_record_it_is_not_told_a_second_time(
    box: Stores, ear: Ear, send: Callable[[str, Message, bool], str], heard: int
) -> None:
    ask(box)
    process = multiprocessing.get_context("spawn").Process(target=_round_of_a_process, args=(send,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert states(box) == ["sending"]
    assert round_at(box, later(1)) == 0
    # The process has a clock of its own, and began long after this file was read.
    assert round_at(box, datetime.now(UTC) + LOST_AFTER + timedelta(minutes=1)) == 0
    (row,) = Told(box.database, "ana").log(None, 10)
    assert (row["state"], row["why"]) == ("not_told", LOST)
    assert len(ear.heard) == heard


def test_what_was_refused_is_tried_once_more(box: Stores, ear: Ear) -> None:
    ear.status = 500
    ask(box)
    for minutes in (0, 4, 5, 11, 60):
        round_at(box, later(minutes))
    assert len(ear.heard) == 2
    (row,) = Told(box.database, "ana").log(None, 10)
    assert row["state"] == "not_told"
    assert row["why"] == "phone: the service answered 500 Internal Server Error"
    assert [(t["name"], t["trouble"]) for t in troubled_targets(box.database)] == [
        ("phone", "the service answered 500 Internal Server Error")
    ]
    ear.status = 200
    target = Targets(box.database, "ana").called("phone")
    assert try_target(box, "ana", target, later(61)) == ""
    assert troubled_targets(box.database) == []


def test_one_target_that_takes_it_is_enough(box: Stores, ear: Ear) -> None:
    add_target(box, "ana", "broken", "json://127.0.0.1:9/x", False, NOW)
    ask(box)
    assert round_at(box, NOW) == 1
    assert states(box) == ["told"]
    assert [row["name"] for row in troubled_targets(box.database)] == ["broken"]
    round_at(box, later(10))
    assert len(ear.heard) == 1


def test_a_message_that_cannot_be_put_together_keeps_nobody_else_waiting(
    box: Stores, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_target(box, "bo", "phone", ear.url, False, NOW)
    ask(box)
    real = telling.urgent_message
    broken: list[int] = []

    def first_breaks(*args: Any) -> Message:
        if not broken:
            broken.append(1)
            raise RuntimeError("secret words")
        return real(*args)

    monkeypatch.setattr(telling, "urgent_message", first_breaks)
    assert round_at(box, NOW) == 1
    (row,) = Told(box.database, "ana").log(None, 10)
    assert (row["state"], row["why"]) == ("waiting", "it could not be put together: RuntimeError")
    assert round_at(box, later(6)) == 1
    assert len(ear.heard) == 2


def test_settings_that_cannot_be_read_keep_nobody_else_waiting(box: Stores, ear: Ear) -> None:
    Settings(box.database, "ana").set("zone", "Atlantis/Nowhere")
    Settings(box.database, "ana").set("digest_at", "00:00")
    add_target(box, "bo", "phone", ear.url, False, NOW)
    ask(box)
    assert round_at(box, NOW) == 1


# --- what is kept ----------------------------------------------------------------------------


def test_an_address_is_encrypted_at_rest_and_shown_nowhere(box: Stores, ear: Ear) -> None:
    ask(box)
    round_at(box, NOW)
    files = [path for path in home().rglob("*") if path.is_file()]
    assert any(path.name == "communicator.db" for path in files)
    for path in files:
        content = path.read_bytes()
        assert b"sesame-open" not in content, path
        assert b"hook-of-ana" not in content, path
        assert b"Kim looks for the key. " not in content
    for row in Targets(box.database, "ana").all():
        assert row["shown"] == "json: JSON, 127.0.0.1"
        assert "sealed" not in row
    target = Targets(box.database, "ana")
    assert "sesame" not in repr(target.get(target.called("phone"), box.keys))


def test_a_key_that_is_gone_is_said(box: Stores, ear: Ear) -> None:
    box.keys.path.unlink()
    ask(box)
    assert round_at(box, NOW) == 0
    assert "put the key back" in troubled_targets(box.database)[0]["trouble"]


def test_ten_targets_are_the_most_and_names_are_ones_own(box: Stores, ear: Ear) -> None:
    with pytest.raises(ValueError, match="already"):
        add_target(box, "ana", " phone ", ear.url, False, NOW)
    add_target(box, "bo", "phone", ear.url, False, NOW)
    for number in range(9):
        add_target(box, "ana", f"t{number}", ear.url, False, NOW)
    with pytest.raises(ValueError, match="10 targets"):
        add_target(box, "ana", "one more", ear.url, False, NOW)


def test_what_is_old_is_forgotten_and_a_removed_user_takes_all_along(box: Stores, ear: Ear) -> None:
    add_target(box, "bo", "phone", ear.url, False, NOW)
    ask(box)
    round_at(box, NOW)
    assert states(box, "bo") == ["told"]
    remove_user(box.database, "ana", "bo")
    assert states(box, "bo") == []
    round_at(box, NOW + timedelta(days=91))
    assert states(box) == []


# --- the digest ------------------------------------------------------------------------------


def test_the_digest_comes_once_a_day_and_is_made_if_it_is_not_there(box: Stores, ear: Ear) -> None:
    settings = Settings(box.database, "ana")
    settings.set("zone", "Europe/Berlin")
    settings.set("digest_at", "08:00")
    settings.set("quiet_hours", {"from": "00:00", "to": "23:59"})
    made: list[tuple[str, str]] = []

    def at(moment: str) -> int:
        now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
        return round_at(box, now, made_digest=lambda account, day: made.append((account, day)))

    assert at("2026-11-03T06:59") == 0
    assert at("2026-11-03T07:00") == 1
    assert at("2026-11-03T07:01") == 0
    assert at("2026-11-03T22:00") == 0
    assert sorted(made) == [(account, "2026-11-02") for account in (ACCOUNT, "ana-chat")]
    assert at("2026-11-04T20:00") == 1  # missed in the morning: late, on the same day
    assert at("2026-11-07T08:00") == 1  # after days without any process
    assert [title for title, _ in ear.heard] == [
        "Digest of 2026-11-02",
        "Digest of 2026-11-03",
        "Digest of 2026-11-04 to 2026-11-06",
    ]
    assert f"{ACCOUNT}, 2026-11-02" in ear.heard[0][1]


def test_a_digest_holds_the_users_own_accounts_alone(box: Stores, ear: Ear) -> None:
    add_user(box.database, "dan", "Dan")
    Accounts(box.database, "dan").add("dan-chat", "generic", "Chat")
    Settings(box.database, "ana").set("digest_at", "00:00")
    round_at(box, NOW)
    assert ACCOUNT in ear.heard[0][1]
    assert "dan-chat" not in ear.heard[0][1]


# --- the installation ------------------------------------------------------------------------


@pytest.fixture
def operator(box: Stores, ear: Ear) -> Stores:
    """ana, who administers, is told of the installation since an hour."""
    add_target(box, "ana", "operators", ear.url, True, NOW - timedelta(hours=1))
    return box


def test_who_is_no_administrator_is_not_told_of_the_installation(box: Stores, ear: Ear) -> None:
    with pytest.raises(PermissionError):
        add_target(box, "bo", "phone", ear.url, True, NOW)
    add_target(box, "ana", "operators", ear.url, True, NOW - timedelta(hours=1))
    box.database.execute("UPDATE users SET is_admin = 0")
    bury(box.database, ACCOUNT, [DeadLetter("import", "a.jsonl:1", "broken")])
    assert round_at(box, later(1)) == 0


def test_dead_letters_come_bundled_every_quarter_of_an_hour(operator: Stores, ear: Ear) -> None:
    for number in range(3):
        bury(operator.database, ACCOUNT, [DeadLetter("import", f"{number}", "why", "its payload")])
    round_at(operator, later(1))
    bury(operator.database, ACCOUNT, [DeadLetter("import", "9", "why", "its payload")])
    round_at(operator, later(2))
    assert len(ear.heard) == 1
    assert ear.heard[0][0] == "Communicator: 3 new dead letters"
    assert "payload" not in ear.heard[0][1]
    round_at(operator, later(17))
    assert [title for title, _ in ear.heard][1:] == ["Communicator: 1 new dead letters"]


def test_failed_runs_and_dead_tokens_are_told_once(operator: Stores, ear: Ear) -> None:
    runs = [
        FailedRun("1", "refresh of ana-box: run 1", NOW - timedelta(minutes=1)),
        FailedRun("0", "long ago", NOW - timedelta(hours=2)),
    ]
    operator.database.execute(
        "INSERT INTO connections (account, settings, secrets, covered_since, every_seconds, "
        "next_pull_at, trouble_kind, trouble, trouble_since) "
        "VALUES (?, '{}', '', '', 60, ?, 'login needed', 'the token xoxb-1 is revoked', ?)",
        (ACCOUNT, utc_text(NOW), utc_text(NOW)),
    )
    for minutes in (1, 20, 40):
        note_news(operator, lambda since: runs, later(minutes))
        tell(operator, later(minutes))
    assert sorted(title for title, _ in ear.heard) == [
        "Communicator: 1 accounts need somebody",
        "Communicator: 1 runs failed",
    ]
    told = "\n".join(text for _, text in ear.heard)
    assert "refresh of ana-box: run 1" in told
    assert f"{ACCOUNT}: login needed" in told
    assert "xoxb" not in told
    assert "long ago" not in told
