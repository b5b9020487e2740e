"""What is kept levels off over a year, and nothing that counts is lost by it."""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg
import pytest

from communicator_pipeline.assets import CHAIN, daily_digest
from communicator_pipeline_tests.conftest import FaultSizes
from communicator_pipeline_tests.end_to_end.simulated_year import (
    FIRST,
    Size,
    Year,
    live_through,
    simulated,
)

RECORD = 6 * 2**10
"""Bytes in Dagster's files for a partition that is over (a month of an asset, a day's digest), with
its tags and indexes: what remains of its run. There are more of them with every day."""

ROW = 400
"""Bytes in the database for a row about messages, with its indexes."""

HIGHEST_PEAK = 1.25
"""Of the first half's peak: the most that the second half may reach. What grows with the history
itself is taken off: a file for each month and asset, a record of each digest, messages."""

LEVELS: dict[str, Callable[[Size], int]] = {
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
        _levels_off(sizes)
        _all_is_materialised(year)
        _nothing_is_lost(year)
        month = FIRST.isoformat()[:7]
        before = year.inbox(month)
        assert before
        year.rebuild(month)
        assert year.inbox(month) == before


def _levels_off(sizes: list[Size]) -> None:
    for name, measure in LEVELS.items():
        table = [measure(size) for size in sizes]
        assert max(table[7:]) <= HIGHEST_PEAK * max(table[:7]), f"{name} grow on: {table}"


def _all_is_materialised(year: Year) -> None:
    months = {day.isoformat()[:7] for day in year.days}
    for asset in CHAIN:
        done = year.instance.get_materialized_partitions(asset.key)
        wanted = {f"{account}|{month}" for account in year.accounts for month in months}
        assert wanted <= done, f"{asset.key}: {sorted(wanted - done)}"
    digests = {f"{account}|{day}" for account in year.accounts for day in year.days}
    assert digests <= year.instance.get_materialized_partitions(daily_digest.key)
    newest = year.instance.fetch_materializations(
        dg.AssetRecordsFilter(
            daily_digest.key, asset_partitions=[f"{year.accounts[0]}|{year.days[0]}"]
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
