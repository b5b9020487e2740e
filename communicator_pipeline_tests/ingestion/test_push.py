"""Pushes: verified, queued, landed once, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.ingestion.push import Drained, drain, receive, retry_push
from communicator_pipeline.platforms.generic.live import GenericLive
from communicator_pipeline.platforms.protocol import Connection, Push, Record
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.database import utc_text
from communicator_pipeline.storage.dead_letters import DeadLetter, DeadLetters, bury
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.landing import landed_months, read_landing
from communicator_pipeline.storage.queue import (
    MOST_FAILURES,
    MOST_LEASES,
    REMEMBERED,
    IngestionQueue,
    QueuedPush,
)
from communicator_pipeline.storage.work import WorkQueue

ACCOUNT = "ana-crm"
KEY = "a-key-of-more-than-20-characters"


@pytest.fixture
def connected(stores: Stores) -> Stores:
    values = {"me": "ana", "push_key": KEY}
    add_account(stores, "ana", ACCOUNT, "generic", values, lambda field: "")
    return stores


def connect(stores: Stores, *accounts: str) -> None:
    for account in accounts:
        add_account(stores, "ana", account, "generic", {"me": "ana", "push_key": KEY}, lambda f: "")


def push(*lines: dict[str, Any] | str) -> Push:
    body = "\n".join(x if isinstance(x, str) else orjson.dumps(x).decode() for x in lines)
    return Push("POST", {"authorization": f"Bearer {KEY}"}, {}, body.encode())


def message(number: int, text: str = "hello") -> dict[str, Any]:
    sent_at = f"2026-11-03T09:{number // 60 % 60:02d}:{number % 60:02d}Z"
    return {"id": f"m{number}", "channel": "c", "sent_at": sent_at, "author": "b", "text": text}


def taken(stores: Stores, *pushes: Push) -> None:
    for one in pushes:
        assert receive(stores, "generic", ACCOUNT, one).status == 200


def landed(stores: Stores) -> int:
    return sum(
        read_landing(stores.lake, AccountMonth(ACCOUNT, month), None).num_rows
        for month in landed_months(stores.lake, ACCOUNT)
    )


def later(stores: Stores) -> None:
    """Everything that was leased or put off is due."""
    stores.database.execute(
        "UPDATE pushes SET visible_at = ?", (utc_text(datetime.now(UTC) - timedelta(seconds=1)),)
    )


def test_what_was_acknowledged_lands_and_its_day_is_marked(connected: Stores) -> None:
    taken(connected, push(message(1), message(2)))
    assert IngestionQueue(connected.database).depth(ACCOUNT).waiting == 1
    drained = drain(connected)
    assert (drained.taken, drained.landed, drained.accounts) == (1, 2, {ACCOUNT})
    assert [d.day for d in WorkQueue(connected.database).dirty(ACCOUNT)] == ["2026-11-03"]
    assert drain(connected) == Drained()


def test_the_same_push_again_is_known_before_and_after_it_has_landed(connected: Stores) -> None:
    taken(connected, push(message(1)), push(message(1)))
    assert drain(connected).taken == 1
    taken(connected, push(message(1)))
    assert drain(connected).taken == 0
    assert landed(connected) == 1


def test_the_same_message_in_another_push_lands_once(connected: Stores) -> None:
    taken(connected, push(message(1)), push(message(1), message(2)))
    drain(connected)
    assert landed(connected) == 2


def test_a_kill_between_landing_and_acknowledging_repeats_nothing(
    connected: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(connected, push(message(1)))
    with monkeypatch.context() as patched:

        def killed(*_: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr(IngestionQueue, "acknowledge", killed)
        with pytest.raises(KeyboardInterrupt):
            drain(connected)
    assert landed(connected) == 1
    assert drain(connected).taken == 0  # leased for half a minute
    later(connected)
    assert drain(connected).taken == 1
    assert landed(connected) == 1
    assert IngestionQueue(connected.database).depth().waiting == 0


def test_a_broken_line_is_a_dead_letter_and_the_others_land(connected: Stores) -> None:
    taken(connected, push(message(1), "{broken", {"id": 5}, message(2)))
    drain(connected)
    assert landed(connected) == 2
    letters = DeadLetters(connected.database, "ana").list(ACCOUNT)
    assert {letter["stage"] for letter in letters} == {"push"}
    assert len(letters) == 2


def test_one_that_always_fails_is_buried_and_holds_nobody_up(
    connected: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = GenericLive.events

    def poisoned(self: GenericLive, body: bytes, connection: Connection) -> Iterator[Record]:
        if b"poison" in body:
            raise RuntimeError(f"it cannot be read with {connection.secrets['push_key']}")
        yield from whole(self, body, connection)

    taken(connected, push(message(1)), push(message(2, "poison")), push(message(3)))
    with monkeypatch.context() as patched:
        patched.setattr(GenericLive, "events", poisoned)
        for attempt in range(1, MOST_FAILURES + 1):
            drained = drain(connected)
            assert drained.failed == 1, attempt
            later(connected)
        assert drained.buried == 1
        assert drain(connected).taken == 0
    assert landed(connected) == 2
    letter = DeadLetters(connected.database, "ana").list(ACCOUNT)[0]
    assert "it cannot be read" in letter["reason"]
    assert "sha256:" not in letter["reason"]  # what is kept of the key is a secret too
    assert IngestionQueue(connected.database).depth(ACCOUNT).dead == 1
    assert retry_push(connected, ACCOUNT, letter["source"])
    assert drain(connected).landed == 1
    assert not retry_push(connected, ACCOUNT, letter["source"])


@pytest.mark.embedded
def test_one_accounts_fault_keeps_no_push_of_another_waiting(connected: Stores) -> None:
    values = {"me": "ana", "push_key": KEY}
    add_account(connected, "ana", "ana-aaa", "generic", values, lambda field: "")
    receive(connected, "generic", "ana-aaa", push(message(1)))
    drain(connected)
    (file,) = connected.lake.objects.list("landing/ana-aaa/")
    content, _ = connected.lake.objects.get(file.key)
    connected.lake.objects.put(file.key, b"not Parquet")
    receive(connected, "generic", "ana-aaa", push(message(2)))
    taken(connected, push(message(3)))
    drained = drain(connected)
    assert (drained.landed, drained.put_off) == (1, 1)
    for _ in range(MOST_LEASES + 2):
        later(connected)
        assert drain(connected).put_off == 1
    health = Connections(connected).health("ana-aaa")
    assert (health.trouble_kind, "cannot be landed" in health.trouble) == ("fault", True)
    connected.lake.objects.put(file.key, content)
    later(connected)
    assert drain(connected).landed == 1
    assert Connections(connected).health("ana-aaa").trouble_kind == ""


def test_a_full_disk_or_a_missing_key_buries_nothing(
    connected: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    taken(connected, *(push(message(n)) for n in range(5)))
    with monkeypatch.context() as patched:
        patched.setattr(type(connected.lake.objects), "put", full)
        for _ in range(MOST_FAILURES + 1):
            drained = drain(connected)
            assert (drained.failed, drained.buried) == (0, 0)
            later(connected)
        assert "No space left" in Connections(connected).health(ACCOUNT).trouble
    away = connected.keys.path.rename(connected.keys.path.with_name("away"))
    assert drain(connected).put_off == 5
    assert Connections(connected).health(ACCOUNT).trouble_kind == "login needed"
    away.rename(connected.keys.path)
    later(connected)
    assert drain(connected).landed == 5
    assert DeadLetters(connected.database, "ana").list() == []


def test_what_another_has_taken_since_is_neither_put_off_nor_buried(connected: Stores) -> None:
    taken(connected, push(message(1)))
    queue = IngestionQueue(connected.database)
    (mine,) = queue.lease()
    later(connected)
    (others,) = queue.lease()
    queue.put_off([mine], timedelta(days=1), failed=True)
    assert not queue.bury(mine)
    queue.acknowledge([others.push_id])
    assert not queue.bury(others)
    assert queue.depth().dead == 0
    connected.database.execute("UPDATE pushes SET state = 'dead'")
    assert not queue.revive(ACCOUNT, mine.key)  # its body is in the landing zone


def test_a_dead_push_goes_when_its_letter_is_closed_and_it_is_old(
    connected: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(connected, push(message(1)))
    queue = IngestionQueue(connected.database)
    (one,) = queue.lease()
    bury(connected.database, ACCOUNT, [DeadLetter("push", one.key, "broken")])
    assert queue.bury(one)
    letters = DeadLetters(connected.database, "ana")
    old = datetime.now(UTC) + REMEMBERED + timedelta(hours=1)
    assert queue.forget_old(old) == 0
    letters.resolve(letters.list()[0]["dead_letter_id"])
    assert queue.forget_old(datetime.now(UTC)) == 0
    assert queue.forget_old(old) == 1


def test_a_fault_before_the_push_is_verified_says_try_again(connected: Stores) -> None:
    connected.keys.path.rename(connected.keys.path.with_name("away"))
    assert receive(connected, "generic", ACCOUNT, push(message(1))).status == 503
    assert receive(connected, "generic", "nobody", push(message(1))).status == 401


def test_one_that_kills_whoever_takes_it_is_buried_in_the_end(connected: Stores) -> None:
    taken(connected, push(message(1)))
    queue = IngestionQueue(connected.database)
    for _ in range(MOST_LEASES):
        assert len(queue.lease()) == 1
        later(connected)
    assert drain(connected).buried == 1
    assert "whoever took it died" in DeadLetters(connected.database, "ana").list()[0]["reason"]


def test_nobody_else_gets_what_is_leased_and_a_late_acknowledgement_does_no_harm(
    connected: Stores,
) -> None:
    taken(connected, *(push(message(n)) for n in range(5)))
    queue = IngestionQueue(connected.database)
    mine = queue.lease(3)
    others = queue.lease(10)
    assert (len(mine), len(others)) == (3, 2)
    later(connected)
    drain(connected)  # somebody thought that we had died
    queue.acknowledge(push.push_id for push in mine)
    assert landed(connected) == 5
    assert queue.depth().waiting == 0


@pytest.mark.embedded
def test_large_bodies_are_leased_a_few_at_a_time(connected: Stores) -> None:
    queue = IngestionQueue(connected.database)
    queue.put([QueuedPush(ACCOUNT, str(n), "x" * 2**20) for n in range(40)])
    assert len(queue.lease(1_000)) == 16
    assert len(queue.lease(1_000)) == 16
    queue.put([QueuedPush(ACCOUNT, f"nul {n}", "\0" + "é" * 2**19) for n in range(40)])
    assert len(queue.lease(1_000)) == 16  # characters say little of bytes


def test_what_landed_long_ago_is_forgotten_and_not_before(connected: Stores) -> None:
    taken(connected, push(message(1)), push(message(2)))
    queue = IngestionQueue(connected.database)
    queue.acknowledge([queue.lease(1)[0].push_id])
    now = datetime.now(UTC)
    assert timedelta(days=7) <= REMEMBERED
    assert queue.forget_old(now + REMEMBERED - timedelta(hours=1)) == 0
    assert queue.forget_old(now + REMEMBERED + timedelta(hours=1)) == 1
    assert queue.depth().waiting == 1  # what has not landed is never forgotten


@pytest.mark.parametrize(
    ("headers", "account"),
    [
        ({}, ACCOUNT),
        ({"authorization": ""}, ACCOUNT),
        ({"authorization": KEY}, ACCOUNT),
        ({"authorization": f"Basic {KEY}"}, ACCOUNT),
        ({"authorization": f"Bearer {KEY}x"}, ACCOUNT),
        ({"authorization": "Bearer \udcff"}, ACCOUNT),
        ({"authorization": f"Bearer {KEY}"}, "nobody-here"),
        ({"authorization": f"Bearer {KEY}"}, "ana-chat"),  # imported, not connected
    ],
)
def test_whoever_has_no_key_is_refused(
    connected: Stores, headers: dict[str, str], account: str
) -> None:
    forged = push(message(1))._replace(headers=headers)
    assert receive(connected, "generic", account, forged).status == 401
    assert receive(connected, "nonsense", account, forged).status == 401
    assert receive(connected, "slack", account, forged).status == 401
    assert IngestionQueue(connected.database).depth().waiting == 0


def test_a_flood_of_one_account_keeps_no_other_waiting(stores: Stores) -> None:
    connect(stores, "ana-flood", "ana-quiet", "ana-other")
    queue = IngestionQueue(stores.database)
    queue.put([QueuedPush("ana-flood", f"k{n}", "{}") for n in range(300)])
    queue.put([QueuedPush("ana-quiet", "k", "{}"), QueuedPush("ana-other", "k", "{}")])
    first = queue.lease(100)
    assert len(first) == 100
    assert {push.account for push in first} == {"ana-flood", "ana-quiet", "ana-other"}
    flood = [push.key for push in first if push.account == "ana-flood"]
    assert flood == [f"k{n}" for n in range(98)]
    again = queue.lease(100)
    assert [push.key for push in again] == [f"k{n}" for n in range(98, 198)]


def test_of_very_many_accounts_the_one_that_waits_longest_comes_first(
    stores: Stores,
) -> None:
    names = [f"ana-{number}" for number in range(6)]
    connect(stores, *names)
    queue = IngestionQueue(stores.database)
    queue.put([QueuedPush(name, "k", "{}") for name in reversed(names)])
    assert {push.account for push in queue.lease(2)} == {"ana-5", "ana-4"}


def test_an_account_of_which_too_much_waits_is_full(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("communicator_pipeline.storage.queue.MOST_WAITING", 2)
    connect(stores, "ana-flood", "ana-quiet")
    queue = IngestionQueue(stores.database)
    queue.put([QueuedPush("ana-flood", f"k{n}", "{}") for n in range(2)])
    queue.put([QueuedPush("ana-quiet", "k", "{}")])
    assert queue.full() == {"ana-flood"}
    queue.acknowledge(push.push_id for push in queue.lease())
    assert queue.full() == set()
