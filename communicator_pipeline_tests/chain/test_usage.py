"""The asset `usage`, and the check that warns of a day that costs more than expected."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterInstance

from communicator_pipeline import runs
from communicator_pipeline.chain import usage
from communicator_pipeline.definitions import build_definitions
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.schedules import daily_usage
from communicator_pipeline.storage import Stores, home, metering
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.user_settings import NotAValue, check

# Dagster has partitions of the last months' days only.
DAY, NEXT, ONE_MORE = (f"{datetime.now(UTC).date() - timedelta(days=ago)}" for ago in (4, 3, 2))
ACCOUNT = "ana-chat"


@pytest.fixture
def filled(stores: Stores) -> Stores:
    rows = [
        (DAY, ACCOUNT, "d1", "rows written", "m1", 400_000),
        (DAY, ACCOUNT, "d1", "rows written", "m2", 100_000),
        (DAY, ACCOUNT, "r2", "bytes up", "m1", 9),
        (DAY, "", "r2", "class a", "m1", 100_000),
        (NEXT, ACCOUNT, "d1", "rows written", "m1", 1),
    ]
    for row in rows:
        stores.database.execute("INSERT INTO service_usage VALUES (?, ?, ?, ?, ?, ?)", row)
    stores.database.execute(
        "INSERT INTO model_usage (user_id, account, day, purpose, model, neurons) "
        "VALUES ('ana', ?, ?, 'analysis', 'm', 2000.0)",
        (ACCOUNT, DAY),
    )
    return stores


@pytest.fixture
def instance(stores: Stores) -> Iterator[DagsterInstance]:
    with runs.open_instance() as opened:
        yield opened


def rows_in_lake(stores: Stores) -> list[dict[str, object]]:
    partition = AccountMonth(ACCOUNT, DAY[:7])
    manifest = stores.lake.manifest(usage.ASSET, partition)
    return stores.lake.read_day(usage.ASSET, partition, manifest.days[DAY]).to_pylist()


def test_a_day_of_an_account_in_the_lake(filled: Stores) -> None:
    usage.materialise(filled, ACCOUNT, DAY)
    assert {
        (row["service"], row["what"]): (row["count"], row["usd"]) for row in rows_in_lake(filled)
    } == {
        ("d1", "rows written"): (500_000.0, 0.5),
        ("r2", "bytes up"): (9.0, 0.0),
        ("workers ai", "neurons"): (2_000.0, pytest.approx(0.022)),
    }
    partition = AccountMonth(ACCOUNT, DAY[:7])
    before = filled.lake.manifest(usage.ASSET, partition)
    usage.materialise(filled, ACCOUNT, DAY)  # again: nothing is written
    assert filled.lake.manifest(usage.ASSET, partition) == before
    assert usage.materialise(filled, ACCOUNT, ONE_MORE) == []
    assert usage.accounts_with_usage(filled.database, DAY) == {ACCOUNT}
    assert usage.accounts_with_usage(filled.database, ONE_MORE) == set()


def test_costly_days_are_those_of_the_whole_installation(filled: Stores) -> None:
    days = [DAY, NEXT, ONE_MORE]
    assert usage.costly_days(filled, days) == {}
    settings = Settings(filled.database, None)
    settings.set("usage_alert_usd", 0.9)  # 0.5 + 0.022 of the account's, 0.45 of nobody's
    assert usage.costly_days(filled, days) == {DAY: pytest.approx(0.972)}
    settings.set("usage_alert_usd", 0.98)
    assert usage.costly_days(filled, days) == {}
    with pytest.raises(NotAValue):
        check("usage_alert_usd", -1, installation=True)


def test_a_run_says_what_it_cost_and_only_warns(filled: Stores, instance: DagsterInstance) -> None:
    runs.register_accounts(filled, instance)
    Settings(filled.database, None).set("usage_alert_usd", 0.1)
    definitions = build_definitions({"stores": StoresResource(folder=str(home()))})
    done = (
        definitions.get_repository_def()
        .get_job("price_usage")
        .execute_in_process(
            instance=instance,
            partition_key=dg.MultiPartitionKey({"account": ACCOUNT, "day": DAY}),
        )
    )
    assert done.success
    (made,) = done.get_asset_materialization_events()
    metadata = made.materialization.metadata
    assert metadata["USD"].value == pytest.approx(0.522)
    services = metadata["services"]
    assert isinstance(services, dg.TableMetadataValue)
    assert len(services.records) == 3
    assert "data:image/svg+xml" in str(metadata["cost"].value)
    (evaluated,) = done.get_asset_check_evaluations()
    assert not evaluated.passed
    assert evaluated.severity is dg.AssetCheckSeverity.WARN
    assert "0.97" in str(evaluated.metadata["days"].value)


def test_the_schedule_asks_for_nothing_where_nothing_was_used(
    filled: Stores, instance: DagsterInstance
) -> None:
    runs.register_accounts(filled, instance)

    def asked(day: str) -> list[object]:
        context = dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime.combine(date.fromisoformat(day), time(5, 20), UTC),
            resources={"stores": StoresResource(folder=str(home()))},
            repository_def=build_definitions().get_repository_def(),
        )
        return list(daily_usage.evaluate_tick(context).run_requests or ())

    assert len(asked(NEXT)) == 1
    assert asked(f"{datetime.now(UTC):%F}") == []


def test_counts_of_this_machine_come_along(
    filled: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metering, "_meter", metering.Meter(tmp_path / "usage.db"))
    metering.count("d1 rows read", 5, ACCOUNT)
    usage.hand_over(filled)
    assert filled.database.execute("SELECT 1 FROM service_usage WHERE what = 'rows read'")
