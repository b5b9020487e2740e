"""What is over goes from our own stores when its time has come, and nothing else does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import time_machine
from pydantic import ValidationError

from communicator_pipeline import runs
from communicator_pipeline.dagster_records.pruning import superseded
from communicator_pipeline.jobs import housekeeping
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.retention import (
    LAKE_ASSETS,
    OVER,
    POSITION_SETTING,
    compact_landings,
    forget_what_is_over,
    shrink_database,
    tidy_lake,
    until,
    was_tidy,
)
from communicator_pipeline.retention_settings import Retention, read_retention
from communicator_pipeline.storage import Stores, audit, home
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.database import utc_text
from communicator_pipeline.storage.lake import AccountMonth, MonthFiles
from communicator_pipeline.storage.landing import Envelope, Landing
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.sign_in import make_key, make_link, open_session, revoke_key
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline.user_settings import NotAValue, change_installation, installation_values
from communicator_pipeline_tests.storage.test_lake import _table

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def _count(stores: Stores, table: str) -> int:
    return int(stores.database.execute(f"SELECT count(*) AS n FROM {table}")[0]["n"])


def _insert(stores: Stores, table: str, **values: object) -> None:
    marks = ", ".join("?" for _ in values)
    stores.database.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})",
        list(values.values()),  # type: ignore[arg-type]
    )


# --- the settings -----------------------------------------------------------------------------


def test_what_is_not_set_is_as_it_was_at_first(stores: Stores) -> None:
    assert read_retention(stores.database) == Retention()
    change_installation(stores, "retention", {"audit_days": 100})
    assert read_retention(stores.database) == Retention(audit_days=100)
    assert installation_values(stores)["retention"]["audit_days"] == 100
    assert installation_values(stores)["retention"]["runs_days"] == 30


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"runs_days": 1}, "runs_days: Input should be greater than or equal to 2"),
        ({"audit_days": 4_000}, "audit_days: Input should be less than or equal to 3650"),
        ({"messages_days": 3}, "messages_days: Extra inputs are not permitted"),
        ({"usage_days": "many"}, "usage_days: Input should be a valid integer"),
        ([30], "should be a valid dictionary"),
    ],
)
def test_a_wrong_value_is_refused_in_words(stores: Stores, wrong: object, words: str) -> None:
    with pytest.raises(NotAValue, match="retention should be JSON: how long") as refused:
        change_installation(stores, "retention", wrong)
    assert words in str(refused.value)
    assert read_retention(stores.database) == Retention()


def test_periods_cannot_be_so_short_that_something_breaks() -> None:
    with pytest.raises(ValidationError):
        Retention(superseded_runs_days=0)
    with pytest.raises(ValidationError):
        Retention(dead_letters_days=7)  # a push is known by its key for eight


def test_the_settings_decide_which_runs_go() -> None:
    finished = {name: NOW - timedelta(days=3) for name in ("old", "bad", "needed")}
    gone = superseded(finished, ["bad"], ["needed"], NOW, Retention(failed_runs_days=2))
    assert gone == ["bad", "old"]
    assert superseded(finished, ["bad"], [], NOW, Retention(superseded_runs_days=4)) == []


# --- rows -------------------------------------------------------------------------------------


def test_rows_go_when_their_time_has_come_and_not_before(stores: Stores) -> None:
    at = utc_text(NOW)
    _insert(
        stores,
        "dead_letters",
        dead_letter_id="closed",
        account="ana-chat",
        stage="import",
        source="x",
        reason="y",
        state="resolved",
        first_seen_at=at,
        last_seen_at=at,
    )
    audit.note(stores.database, "ana", "looked", NOW)
    key = make_key(stores.database, "ana", "mine", "read", NOW)
    make_key(stores.database, "ana", "in use", "read", NOW)
    revoke_key(stores.database, "ana", key.split("_")[1], NOW)
    _insert(
        stores,
        "service_usage",
        day="2026-11-20",
        account="",
        service="d1",
        what="rows read",
        machine="m",
        count=1,
    )
    _insert(stores, "platform_costs", account="ana-chat", day="2026-11-20")
    _insert(
        stores,
        "model_usage",
        user_id="ana",
        account="ana-chat",
        day="2026-11-20",
        purpose="draft",
        model="m",
    )
    for table, days, left in (
        ("dead_letters", 90, 0),
        ("audit_log", 730, 0),
        ("api_keys", 365, 1),
        ("service_usage", 401, 0),
        ("platform_costs", 401, 0),
        ("model_usage", 401, 0),
    ):
        before = _count(stores, table)
        _only(stores, table, NOW + timedelta(days=days) - timedelta(hours=13))
        assert _count(stores, table) == before, table
        _only(stores, table, NOW + timedelta(days=days, hours=1))
        assert _count(stores, table) == left, table


def _only(stores: Stores, table: str, now: datetime) -> None:
    """Forget rows of one table."""
    chosen = [over for over in OVER if over.table == table]
    assert chosen
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("communicator_pipeline.retention.OVER", chosen)
        forget_what_is_over(stores, now)


def test_what_holds_until_a_time_goes_then(stores: Stores) -> None:
    open_session(stores.database, "ana", NOW)
    make_link(stores.database, "ana", NOW)
    forget_what_is_over(stores, NOW + timedelta(minutes=1))
    assert (_count(stores, "sessions"), _count(stores, "login_links")) == (1, 1)
    forget_what_is_over(stores, NOW + timedelta(days=400))
    assert (_count(stores, "sessions"), _count(stores, "login_links")) == (0, 0)


def test_open_dead_letters_and_keys_in_use_stay_for_ever(stores: Stores) -> None:
    at = utc_text(NOW)
    _insert(
        stores,
        "dead_letters",
        dead_letter_id="open",
        account="ana-chat",
        stage="import",
        source="x",
        reason="y",
        first_seen_at=at,
        last_seen_at=at,
    )
    make_key(stores.database, "ana", "mine", "read", NOW)
    forget_what_is_over(stores, NOW + timedelta(days=9_000))
    assert (_count(stores, "dead_letters"), _count(stores, "api_keys")) == (1, 1)


def test_many_rows_go_a_few_at_a_time_and_a_night_has_an_end(stores: Stores) -> None:
    stores.database.execute(
        "WITH RECURSIVE n (v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 1200) "
        "INSERT INTO audit_log (at, user_id, action, via) "
        "SELECT ?, 'ana', 'looked', 'inbox' FROM n",
        (utc_text(NOW),),
    )
    later = NOW + timedelta(days=800)
    left = iter([True] * (len(OVER) - 1))
    counted: list[int] = []

    def may_go_on() -> bool:
        counted.append(_count(stores, "audit_log"))
        return next(left, False)

    forget_what_is_over(stores, later, may_go_on)
    assert max(a - b for a, b in pairwise(counted)) == 500
    forget_what_is_over(stores, later)
    assert _count(stores, "audit_log") == 0


# --- the lake ---------------------------------------------------------------------------------


def _fill_lake(stores: Stores) -> None:
    for account in ("ana-chat", "ana-two"):
        for asset in ("raw_messages", "analyses"):
            for day in ("2026-01-03", "2026-01-04"):
                stores.lake.update(
                    asset,
                    AccountMonth(account, "2026-01"),
                    lambda _, day=day: {day: _table(1)},  # type: ignore[misc]
                )


def test_the_lake_is_joined_and_a_night_goes_on_where_the_last_one_ended(stores: Stores) -> None:
    Accounts(stores.database, "ana").add("ana-two", "generic", "Two")
    _fill_lake(stores)
    later = datetime.now(UTC) + timedelta(days=30)
    state = Settings(stores.database, None)
    joined = []
    for night in range(6):  # of three parts each, and there are two accounts of eight assets
        left = iter([True] * 3)
        done = tidy_lake(stores, later, lambda left=left: next(left, False))  # type: ignore[misc]
        joined.append(done.joined)
        assert not done.is_through
        account, asset = state.get(POSITION_SETTING)
        place = 3 * (night + 1) % 16
        assert (account, asset) == (("ana-chat", "ana-two")[place // 8], LAKE_ASSETS[place % 8])
    assert sum(joined) == 4
    assert max(joined) < 4
    done = tidy_lake(stores, later + timedelta(days=9))
    assert (done.joined, done.is_through) == (0, True)
    assert state.get(POSITION_SETTING) is None


def _calls(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the lake's objects from now on."""
    asked: list[str] = []
    objects = type(stores.lake.objects)

    def noting(real: Any) -> Any:
        def noted(self: object, key: str, *more: Any, **named: Any) -> Any:
            asked.append(key)
            return real(self, key, *more, **named)

        return noted

    for name in ("get", "put", "delete", "list"):
        monkeypatch.setattr(objects, name, noting(getattr(objects, name)))
    return asked


def test_months_that_were_tidy_are_left_alone_until_something_comes(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    Accounts(stores.database, "ana").add("ana-two", "generic", "Two")
    _fill_lake(stores)
    later = datetime.now(UTC) + timedelta(days=30)
    assert tidy_lake(stores, later).joined == 4
    assert tidy_lake(stores, later + timedelta(hours=2)).is_through
    asked = _calls(stores, monkeypatch)
    assert tidy_lake(stores, later + timedelta(days=1)).is_through
    assert [key for key in asked if "2026-01" in key] == []
    partition = AccountMonth("ana-chat", "2026-01")
    stores.lake.update("analyses", partition, lambda _: {"2026-01-04": _table(2)})
    assert tidy_lake(stores, later + timedelta(days=2)).joined == 1
    assert {key.split("/")[2] for key in asked if "2026-01" in key} == {"ana-chat"}


def test_a_month_counts_as_tidy_only_if_nothing_in_it_had_to_wait() -> None:
    looked = datetime(2026, 3, 1, tzinfo=UTC)
    long_ago = looked - timedelta(days=9)
    assert was_tidy("2026-01", MonthFiles(long_ago, 1, 1), looked)
    assert not was_tidy("2026-02", MonthFiles(long_ago, 1, 1), looked)  # over, but not for long
    for files, handed_over in ((2, 1), (1, 2)):
        assert not was_tidy("2026-01", MonthFiles(long_ago, files, handed_over), looked)
    for days in (-1, 1):
        written = looked + timedelta(days=days)
        assert not was_tidy("2026-01", MonthFiles(written, 1, 0), looked)


def test_a_file_that_cannot_be_read_stops_nothing_else(stores: Stores) -> None:
    Accounts(stores.database, "ana").add("ana-two", "generic", "Two")
    _fill_lake(stores)
    work, lake = WorkQueue(stores.database), stores.lake
    for account in ("ana-chat", "ana-two"):
        for number in range(3):
            landing = Landing(lake, work, account)
            landing.land([_envelope(number)])
    for folder in ("landing/ana-chat/", "lake/analyses/ana-chat/"):
        damaged = max(i.key for i in lake.objects.list(folder) if i.key.endswith(".parquet"))
        lake.objects.delete(damaged)
        lake.objects.put(damaged, b"not a Parquet file")
    later = datetime.now(UTC) + timedelta(days=400)
    done = compact_landings(stores, later)
    assert done.joined == 3
    assert len(done.faults) == 1
    assert done.faults[0].startswith("the landing zone of ana-chat|2026-01: ")
    for _ in range(2):  # what has a fault is not counted as looked at
        done = tidy_lake(stores, later)
        assert done.is_through
        assert [fault.split(":")[0] for fault in done.faults] == ["analyses of ana-chat|2026-01"]
    assert (
        lake.manifest("analyses", AccountMonth("ana-two", "2026-01")).days["2026-01-03"].is_joined
    )
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with time_machine.travel(later), runs.open_instance() as instance:
        night = housekeeping.execute_in_process(
            instance=instance, run_config=quiet, raise_on_error=False,
            resources={"stores": StoresResource(folder=str(home()))},
        )  # fmt: skip
        assert not night.success
        failed = {event.step_key for event in night.get_step_failure_events()}
    assert failed == {"collect_garbage", "tidy_up"}


def test_joining_landings_goes_on_with_the_next_account(stores: Stores) -> None:
    accounts = ["ana-chat", *(f"ana-{n}" for n in range(4))]
    for account in accounts[1:]:
        Accounts(stores.database, "ana").add(account, "generic", "Two")
    for account in accounts:
        for number in range(3):
            Landing(stores.lake, WorkQueue(stores.database), account).land([_envelope(number)])
    later, joined = datetime.now(UTC) + timedelta(days=400), []
    for _ in range(5):  # time for one: before the account, before its month
        left = iter([True, True])
        done = compact_landings(stores, later, lambda left=left: next(left, False))  # type: ignore[misc]
        joined.append((done.joined, done.is_through))
    assert joined == [(3, False)] * 5
    assert compact_landings(stores, later).joined == 0


def _envelope(number: int) -> Envelope:
    payload = f'{{"number": {number}}}'.encode()
    return Envelope("2026-01-05", f"c:{number}", "c", "dm", "message", number, number, payload)


def test_a_night_whose_place_is_gone_begins_anew(stores: Stores) -> None:
    Settings(stores.database, None).set(POSITION_SETTING, ["no-such-account", "analyses"])
    assert tidy_lake(stores, datetime.now(UTC)).is_through


def test_an_end_is_an_end() -> None:
    assert until(1)()
    assert not until(0)()


@pytest.mark.embedded
def test_the_database_is_shrunk_where_it_is_a_file(stores: Stores) -> None:
    assert shrink_database(stores) >= 0
    [row] = stores.database.execute("SELECT auto_vacuum FROM pragma_auto_vacuum")
    assert row["auto_vacuum"] == 2
