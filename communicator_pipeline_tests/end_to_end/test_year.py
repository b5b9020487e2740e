"""What is kept levels off over a year, and nothing that counts is lost by it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median

import dagster as dg
import pytest

from communicator_pipeline.assets import CHAIN, daily_digest
from communicator_pipeline.chain.daily_digest import digest_key
from communicator_pipeline.partitions import first_digest_day
from communicator_pipeline_tests.conftest import FaultSizes
from communicator_pipeline_tests.end_to_end.simulated_year import (
    FIRST,
    Size,
    Year,
    live_through,
    simulated,
)

LARGEST_SHARE = 0.5
"""Of the first quarter's growth: the most by which what is kept may grow in the last one, from
median to median of the months' ends. What remains is the history itself: a file and a record for
each month and asset."""

Measures = dict[str, Callable[[Size], int]]

GROWTH: Measures = {
    "Dagster's bytes": lambda size: size.dagster_bytes,
    "events": lambda size: size.events,
}

GROWTH_OF_EVERY_DAY: Measures = {
    "lake files": lambda size: size.lake_files,
    "landing files": lambda size: size.landing_files,
}
"""Where every day is lived: a few days in a month are few files, joined or not."""

RECORD = 6 * 2**10
"""Bytes in Dagster's files for a partition that is over (a month of an asset, a day's digest), with
its tags and indexes: what remains of its run."""

ROW = 400
"""Bytes in the database for a row about messages, with its indexes."""

HIGHEST_PEAK = 1.25
"""Of the first half's peak: the most that the second half may reach. What grows with the history
itself is taken off: a file and a record for each month and asset, messages."""

LEVELS: Measures = {
    "runs": lambda size: size.runs,
    "events of runs": lambda size: size.events - size.records,
    "Dagster's bytes beside its records": lambda size: size.dagster_bytes - RECORD * size.records,
    "the database's bytes beside such rows": lambda size: (
        size.database_bytes - ROW * size.rows_of_messages
    ),
    "lake files that are not joined": lambda size: size.spare_lake_files,
    "landing files that are not joined": lambda size: size.spare_landing_files,
    "pushes": lambda size: size.rows["pushes"],
    "sessions": lambda size: size.rows["sessions"],
    "links": lambda size: size.rows["login_links"],
    "claims": lambda size: size.rows["day_claims"],
    "tags of runs": lambda size: size.dagster_rows["run_tags"],
    "results of checks": lambda size: size.dagster_rows["asset_check_executions"],
}


def live_a_year(accounts: int, every: int) -> None:
    """Live a year and check it; every so many days only."""
    with simulated(accounts) as (year, clock):
        empty = year.size()
        sizes = [empty, *live_through(year, clock, every)]
        assert len(sizes) == 13  # the beginning, and the end of each month
        _levels_off(sizes, GROWTH if every > 1 else GROWTH | GROWTH_OF_EVERY_DAY)
        _all_is_materialised(year)
        _nothing_is_lost(year)
        month = FIRST.isoformat()[:7]
        before = year.inbox(month)
        assert before
        year.rebuild(month)
        assert year.inbox(month) == before


def _levels_off(sizes: list[Size], growth: Measures) -> None:
    for name, measure in LEVELS.items():
        table = [measure(size) for size in sizes]
        assert max(table[7:]) <= HIGHEST_PEAK * max(table[:7]), f"{name} grow on: {table}"
    for name, measure in growth.items():
        table = [measure(size) for size in sizes]
        quarters = [median(table[end - 2 : end + 1]) for end in (3, 6, 9, 12)]
        first, last = quarters[0] - table[0], quarters[3] - quarters[2]
        assert first > 0, f"{name} did not grow: {table}"
        assert last <= LARGEST_SHARE * first, f"{name} grows on: {table}"


def _all_is_materialised(year: Year) -> None:
    months = {day.isoformat()[:7] for day in year.days}
    for asset in CHAIN:
        done = year.instance.get_materialized_partitions(asset.key)
        wanted = {f"{account}|{month}" for account in year.accounts for month in months}
        assert wanted <= done, f"{asset.key}: {sorted(wanted - done)}"
    first = first_digest_day(datetime.now(UTC).date())
    last_months = [day for day in map(str, year.days) if day >= first]
    assert len(last_months) < len(year.days) / 2  # the others' digests are files
    digests = {f"{account}|{day}" for account in year.accounts for day in last_months}
    assert year.instance.get_materialized_partitions(daily_digest.key) == digests
    for account in year.accounts:
        listed = year.stores.lake.objects.list(f"digests/{account}/")
        assert [one.key for one in listed] == [digest_key(account, str(day)) for day in year.days]
    newest = year.instance.fetch_materializations(
        dg.AssetRecordsFilter(
            daily_digest.key, asset_partitions=[f"{year.accounts[0]}|{last_months[0]}"]
        ),
        limit=1,
    ).records[0]
    assert newest.run_id == ""  # its run went months ago
    assert newest.asset_materialization is not None
    assert len(newest.asset_materialization.metadata) > 1


def _nothing_is_lost(year: Year) -> None:
    for account, sent in year.sent.items():
        rows = year.stores.database.execute(
            "SELECT message_id FROM messages WHERE account = ?", (account,)
        )
        missing = sent - {row["message_id"] for row in rows}
        assert not missing, f"{account}: {len(missing)} of {len(sent)} are missing: {missing}"


@pytest.mark.faults
def test_a_year_levels_off(sizes: FaultSizes) -> None:
    """In full every day of ten accounts; a tenth is two accounts, on every fifteenth day:
    one for each process."""
    every = 1 if sizes.share >= 1 else round(1.5 / sizes.share)
    live_a_year(accounts=sizes.count(10, at_least=2), every=every)
