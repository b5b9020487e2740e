"""Whose turn it is: runs, polls and the process that works off a backlog."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterInstance

from communicator_pipeline import materialising, runs
from communicator_pipeline.definitions import build_definitions
from communicator_pipeline.ingestion.poll import next_accounts
from communicator_pipeline.materialising import Backlog, Materialiser, chosen_backlog
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.sensors import touched_days
from communicator_pipeline.storage import Stores, home
from communicator_pipeline.storage.accounts import Accounts, add_user
from communicator_pipeline.storage.connections import DueAccount
from communicator_pipeline.storage.work import DirtyDay, WorkQueue
from communicator_pipeline.storage.workers import DEAD_AFTER, Workers
from communicator_pipeline.wanted_runs import (
    FEW_DAYS,
    LANE_TAG,
    LAUNCHED_SLICE_DAYS,
    MOST_QUEUED,
    ROWS_FOR_LANES,
    SLICE_DAYS,
    TENANT_TAG,
    WantedRun,
    in_turn,
    read_turns,
    rows_for_slice,
    turns_text,
    wanted_runs,
    with_room,
)
from communicator_pipeline.worker import Worker
from communicator_pipeline_tests.conftest import Fill, line

TODAY = date(2026, 11, 29)


def touched(account: str, *days: str, tenant: str = "t", since: str = "1") -> list[DirtyDay]:
    return [DirtyDay(account, day, 1, since, "", "", tenant) for day in days]


def days_of(month: str, count: int) -> list[str]:
    return [f"{month}-{day:02d}" for day in range(1, count + 1)]


# --- lanes and slices ------------------------------------------------------------------------


def test_today_and_yesterday_are_live_and_history_is_backlog() -> None:
    days = touched("a", *days_of("2026-10", 10), "2026-11-27", "2026-11-28", "2026-11-29")
    live, backlog = wanted_runs(days, TODAY)
    assert (live.lane, [d.day for d in live.days]) == ("live", ["2026-11-28", "2026-11-29"])
    assert backlog.lane == "backlog"
    assert [d.day for d in backlog.days] == [*days_of("2026-10", 10), "2026-11-27"]
    assert (backlog.first_month, backlog.last_month) == ("2026-10", "2026-11")


def test_a_few_older_days_are_no_backlog() -> None:
    few = [f"2026-0{month}-01" for month in range(1, FEW_DAYS + 1)]
    assert {run.lane for run in wanted_runs(touched("a", *few), TODAY)} == {"live"}
    assert [run.lane for run in wanted_runs(touched("a", *few, "2026-05-01"), TODAY)] == ["backlog"]


def test_a_backlog_comes_in_slices_of_whole_months_the_newest_first() -> None:
    left = [day for m in ("2026-01", "2026-02", "2026-03") for day in days_of(m, 28)]
    left += days_of("2026-06", 20)
    seen = []
    while left:
        [run] = wanted_runs(touched("a", *left), TODAY, most_days=56)
        seen.append((run.first_month, run.last_month, len(run.days)))
        left = [day for day in left if day not in {d.day for d in run.days}]
    # No range over months without data: every month of a range is marked materialised.
    assert seen == [
        ("2026-06", "2026-06", 20),
        ("2026-02", "2026-03", 56),
        ("2026-01", "2026-01", 28),
    ]


def test_a_slice_holds_a_month_however_many_days_are_asked_for() -> None:
    [run] = wanted_runs(touched("a", *days_of("2026-02", 28)), TODAY, most_days=1)
    assert len(run.days) == 28


def test_a_run_says_its_lane_its_tenant_and_its_priority() -> None:
    live, backlog = wanted_runs(
        touched("a", *days_of("2026-02", 28), "2026-11-29", tenant="ana"), TODAY
    )
    assert (live.tags[LANE_TAG], live.tags[TENANT_TAG]) == ("live", "ana")
    assert backlog.tags[LANE_TAG] == "backlog"
    assert int(live.tags["dagster/priority"]) > 0 > int(backlog.tags["dagster/priority"])


@pytest.mark.parametrize("most_days", [1, 20, SLICE_DAYS, LAUNCHED_SLICE_DAYS])
def test_the_newest_days_tell_as_much_as_all_of_them(stores: Stores, most_days: int) -> None:
    work, chance = WorkQueue(stores.database), random.Random(7)
    for number in range(12):
        Accounts(stores.database, "ana").add(f"a{number}", "generic", "Chat")
        first = date.today() - timedelta(days=chance.choice([1, 2, 4, 40, 400, 1_500]))
        days = (first + timedelta(days=n) for n in range((date.today() - first).days + 1))
        share = chance.choice([0.1, 0.7, 1.0])
        work.mark(f"a{number}", [str(day) for day in days if chance.random() < share], "a test")
    now = datetime.now(UTC)
    everything = work.unleased(now, 10_000)
    wanted = wanted_runs(everything, now.date(), most_days)
    few = work.unleased(now, rows_for_slice(most_days))
    assert wanted_runs(few, now.date(), most_days) == wanted
    lanes = wanted_runs(work.unleased(now, ROWS_FOR_LANES), now.date(), most_days)
    assert {(r.account, r.lane) for r in lanes} == {(r.account, r.lane) for r in wanted}
    [*of_two] = work.unleased(now, 10_000, accounts=["a1", "a3"])
    assert of_two == [day for day in everything if day.account in ("a1", "a3")]


# --- turns -----------------------------------------------------------------------------------


def run(account: str, tenant: str, since: str = "1", lane: str = "live") -> WantedRun:
    days = tuple(touched(account, "2026-11-29", tenant=tenant, since=since))
    return WantedRun(account, "2026-11", "2026-11", days, lane)  # type: ignore[arg-type]


def test_tenants_take_turns_and_live_goes_before_backlog() -> None:
    ordered = in_turn(
        [
            run("old", "ana", "0", "backlog"),
            run("a1", "ana", "1"),
            run("a2", "ana", "2"),
            run("b1", "ben", "9"),
            run("a3", "ana", "3"),
        ],
        {},
    )
    assert [r.account for r in ordered] == ["a1", "b1", "a2", "a3", "old"]


def test_whoever_was_served_last_comes_last() -> None:
    wanted = [run("a", "ana", "1"), run("b", "ben", "2"), run("c", "cy", "3")]
    assert [r.account for r in in_turn(wanted, {"ana": 5.0, "cy": 4.0})] == ["b", "c", "a"]


def test_a_thousand_accounts_of_one_tenant_delay_another_by_one_run() -> None:
    served: dict[str, float] = {}
    waiting = [run(f"a{n}", "ana", "0") for n in range(1000)] + [run("b", "ben", "9")]
    made = []
    for moment in range(2):
        first = in_turn(waiting, served)[0]
        served[first.tenant] = float(moment)
        waiting.remove(first)
        made.append(first.account)
    assert "b" in made


def test_the_run_queue_is_not_filled_and_half_of_it_is_free_of_backlog() -> None:
    live = [run(f"l{n}", "ana") for n in range(10)]
    backlog = [run(f"b{n}", "ana", lane="backlog") for n in range(10)]
    assert len(with_room([*live, *backlog], [], most=8)) == 8
    assert {r.lane for r in with_room([*live, *backlog], [], most=8)} == {"live"}
    assert len(with_room(backlog, [], most=8)) == 4
    assert len(with_room(backlog, ["backlog"] * 3, most=8)) == 1
    assert with_room(backlog, ["backlog"] * 4, most=8) == []
    assert len(with_room(live, ["backlog"] * 4, most=8)) == 4
    assert with_room(live, ["live"] * 8, most=8) == []
    # A thousand digests that wait there keep nothing waiting: live runs go before them.
    assert len(with_room([*live, *backlog], [None] * 1_000, most=8)) == 8


# --- polls -----------------------------------------------------------------------------------


def due(account: str, tenant: str = "ana", platform: str = "slack") -> DueAccount:
    return DueAccount(account, platform, tenant)


def test_a_tenant_with_many_accounts_leaves_places_to_others() -> None:
    flood = [due(f"a{n}") for n in range(50)]
    under_way = next_accounts(flood, [], 8)
    assert len(under_way) == 6
    assert next_accounts([*flood, due("b", "ben", "x")], under_way, 8) == [due("b", "ben", "x")]


def test_a_slow_platform_leaves_places_to_others() -> None:
    slow = [due(f"a{n}", f"t{n}", "slow") for n in range(50)]
    under_way = next_accounts(slow, [], 8)
    assert len(under_way) == 6
    assert next_accounts([due("b", "t9", "quick")], under_way, 8) == [due("b", "t9", "quick")]


def test_tenants_share_the_places_and_nobody_is_asked_twice() -> None:
    waiting = [*(due(f"a{n}") for n in range(9)), *(due(f"b{n}", "ben", "x") for n in range(9))]
    chosen = next_accounts(waiting, [], 8)
    assert sorted(account.tenant for account in chosen) == ["ana"] * 4 + ["ben"] * 4
    assert not set(next_accounts(waiting, chosen[:4], 8)) & set(chosen[:4])


def test_two_places_are_both_used() -> None:
    assert len(next_accounts([due("a"), due("b")], [], 2)) == 2


# --- working it off --------------------------------------------------------------------------


@pytest.fixture
def instance(stores: Stores) -> Iterator[DagsterInstance]:
    with runs.open_instance() as opened:
        yield opened


@pytest.fixture
def definitions(stores: Stores) -> dg.Definitions:
    return build_definitions({"stores": StoresResource(folder=str(home()))})


def month_of(fill: Fill, month: str, account: str = "ana-chat") -> None:
    first = int(month.replace("-", "")) * 100  # a message has the same id in every month otherwise
    fill(
        *(
            line(first + n, f"{month}-{n:02d}T09:00:00Z", "ben", "can you help?")
            for n in range(1, 8)
        ),
        account=account,
        name=f"{account}-{month}.jsonl",
    )


def test_a_new_message_is_done_before_anothers_backlog(
    stores: Stores, instance: DagsterInstance, definitions: dg.Definitions, fill: Fill
) -> None:
    add_user(stores.database, "ben", "Ben")
    Accounts(stores.database, "ben").add("ben-chat", "generic", "Chat")
    said: list[str] = []
    made = Materialiser(stores, instance, runs.chain_job(definitions), said.append)
    for month in ("2026-01", "2026-04", "2026-07"):
        month_of(fill, month)
    assert made.make_first(made.waiting(datetime.now(UTC)), ("live", "backlog"))
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    fill(line(99, now, "joe", "hello?"), account="ben-chat", name="new.jsonl")
    assert made.make_first(made.waiting(datetime.now(UTC)), ("live", "backlog"))
    while made.make_first(made.waiting(datetime.now(UTC)), ("live", "backlog")):
        pass
    assert [words.split(":")[0] for words in said[:3]] == ["ana-chat", "ben-chat", "ana-chat"]
    months = [words.split(": ")[1][:7] for words in said]
    # A month is done once more where the older one has changed what it begins with.
    assert list(dict.fromkeys(months)) == ["2026-07", now[:7], "2026-04", "2026-01"]
    assert WorkQueue(stores.database).dirty() == []


def test_a_worker_leaves_backlog_to_a_process_that_ends_when_it_is_done(
    stores: Stores, instance: DagsterInstance, definitions: dg.Definitions, fill: Fill
) -> None:
    month_of(fill, "2026-01")
    own = os.getpriority(os.PRIO_PROCESS, 0)
    worker = Worker(stores, instance, definitions, backlog="beside")
    assert not worker.step()
    process = worker._backlog_process._process
    assert process is not None
    worker.step()
    assert worker._backlog_process._process is process  # one is enough
    assert process.wait(180) == 0
    assert WorkQueue(stores.database).dirty() == []
    assert worker.worked.runs == 0
    assert os.getpriority(os.PRIO_PROCESS, 0) == own
    worker.step()
    assert worker._backlog_process._process is process  # and none where there is nothing to do


def test_that_process_ends_with_its_worker(stores: Stores, fill: Fill) -> None:
    for month in ("2024-01", "2024-03", "2024-05", "2024-07", "2024-09"):
        month_of(fill, month)
    worker = subprocess.Popen(
        [sys.executable, "-m", "communicator_pipeline.cli", "worker"],
        stderr=subprocess.DEVNULL,
    )
    try:
        child, own = _first_child(worker.pid), os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, child) == own + materialising.NICENESS
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    deadline = time.monotonic() + 180
    while os.path.exists(f"/proc/{child}"):
        assert time.monotonic() < deadline, "it goes on without its worker"
        time.sleep(0.1)


def _first_child(pid: int) -> int:
    """A child of any of the process's threads that has lowered its priority."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for thread in os.listdir(f"/proc/{pid}/task"):
            children = Path(f"/proc/{pid}/task/{thread}/children")
            for child in children.read_text().split():
                if os.getpriority(os.PRIO_PROCESS, int(child)) > os.getpriority(os.PRIO_PROCESS, 0):
                    return int(child)
        time.sleep(0.05)
    raise AssertionError("no process was started")


def test_who_works_off_the_backlog_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_backlog() == "beside"
    monkeypatch.setenv("COMMUNICATOR_BACKLOG", "dagster")
    assert chosen_backlog() == "dagster"
    monkeypatch.setenv("COMMUNICATOR_BACKLOG", "celery")
    with pytest.raises(ValueError, match="COMMUNICATOR_BACKLOG is one of beside, here, dagster"):
        chosen_backlog()


def ticked(
    instance: DagsterInstance, definitions: dg.Definitions, cursor: str | None = None
) -> dg.SensorResult:
    context = dg.build_sensor_context(
        instance=instance,
        resources={"stores": StoresResource(folder=str(home()))},
        definitions=definitions,
        cursor=cursor,
    )
    result = touched_days(context)
    assert isinstance(result, dg.SensorResult)
    return result


def test_whoever_comes_after_others_histories_is_asked_for_at_the_next_free_place(
    stores: Stores, instance: DagsterInstance, definitions: dg.Definitions
) -> None:
    tenants = [f"t{number}" for number in range(MOST_QUEUED // 2 + 4)]
    for tenant in [*tenants, "late"]:
        add_user(stores.database, tenant, tenant)
        Accounts(stores.database, tenant).add(f"of-{tenant}", "generic", "Chat")
    runs.register_accounts(stores, instance)
    work = WorkQueue(stores.database)
    for tenant in tenants:
        work.mark(f"of-{tenant}", days_of("2010-01", 28), "a test")
    job = runs.chain_job(definitions)
    asked: list[str] = []
    under_way: list[dg.DagsterRun] = []

    def tick(cursor: str | None) -> str | None:
        result = ticked(instance, definitions, cursor)
        for request in result.run_requests or []:
            asked.append(request.tags[TENANT_TAG])
            under_way.append(instance.create_run_for_job(job, tags=dict(request.tags)))
        return result.cursor

    cursor = tick(None)
    assert len(asked) == MOST_QUEUED // 2
    work.mark("of-late", days_of("2019-03", 28), "a test")
    for _ in range(6):  # one ends, and has more to do at once
        done = under_way.pop(0)
        instance.report_run_failed(done)
        stores.database.execute(
            "UPDATE dirty_days SET leased_until = '' WHERE account = ?",
            (f"of-{done.tags[TENANT_TAG]}",),
        )
        cursor = tick(cursor)
    # Those who had no place yet, one after the other, and none of the others before them.
    assert asked[MOST_QUEUED // 2 :][:5] == [*tenants[MOST_QUEUED // 2 :], "late"]


def test_the_turns_are_kept_from_tick_to_tick() -> None:
    assert read_turns(turns_text({"ana": 5.0})) == {"ana": 5.0}
    assert read_turns(None) == read_turns("from an older version") == read_turns("[1]") == {}


def test_a_worker_says_with_its_heartbeat_whether_it_leaves_history(
    stores: Stores, instance: DagsterInstance, definitions: dg.Definitions
) -> None:
    now, seen = datetime.now(UTC), Workers(stores.database)
    others: tuple[Backlog, ...] = ("beside", "here")
    for backlog in others:
        Worker(stores, instance, definitions, backlog=backlog)._workers.beat(now)
        assert seen.leaving_history(now) == [False]
    Worker(stores, instance, definitions, backlog="dagster")._workers.beat(now)
    assert seen.leaving_history(now) == [True]
    assert seen.leaving_history(now + DEAD_AFTER + timedelta(seconds=1)) == []


def test_beside_a_worker_the_sensor_asks_for_history_only_if_the_worker_leaves_it(
    stores: Stores, instance: DagsterInstance, definitions: dg.Definitions, fill: Fill
) -> None:
    month_of(fill, "2026-01")
    now = datetime.now(UTC)
    fill(line(99, f"{now:%Y-%m-%dT%H:%M:%SZ}", "joe", "hello?"), name="new.jsonl")

    def tick() -> dg.SensorResult:
        return ticked(instance, definitions)

    Workers(stores.database).beat(now + timedelta(seconds=5))
    assert tick().run_requests == []
    Workers(stores.database, leaves_history=True).beat(now + timedelta(seconds=5))
    asked = tick().run_requests or []
    assert [request.tags[LANE_TAG] for request in asked] == ["backlog"]
    stores.database.execute("DELETE FROM workers")
    asked = tick().run_requests or []
    assert [request.tags[LANE_TAG] for request in asked] == ["live"]  # the other is leased
