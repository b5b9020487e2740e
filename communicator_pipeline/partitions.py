"""The partitions: account × month for the chain, account × day for digests. All times UTC.

Months, not days: a range costs 15 ms and 6 KiB per partition and asset, most days of a personal
account are empty and would read as missing for ever, and Dagster advises at most 100,000
partitions per asset, which days would meet at some 130 accounts. Inside a month each day has
a file of its own, and a run can be told to work on some days only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import date, datetime
from functools import lru_cache
from itertools import product

import dagster as dg

from communicator_pipeline.storage.lake import FIRST_MONTH, AccountMonth

FIRST_DIGEST_DAY = os.environ.get("COMMUNICATOR_FIRST_DIGEST_DAY", "2026-01-01")
"""A digest is for today's reader: years of past days would only use up partitions."""

accounts = dg.DynamicPartitionsDefinition(name="accounts")


class AccountPartitions(dg.MultiPartitionsDefinition):
    """Accounts × a stretch of time, whose keys are built once and not at every question.

    Dagster lists them for every check of a run, by an instant that is another one each time: for
    ten accounts that was a fifth of a run.
    """

    def _get_partition_keys(  # type: ignore[override]  # Dagster's is wrapped in a cache
        self, _current_time: datetime
    ) -> Sequence[dg.MultiPartitionKey]:
        dimensions = [(d.name, d.partitions_def) for d in self.partitions_defs]
        return _keys(
            tuple(name for name, _ in dimensions),
            tuple(
                _stretch(definition, _current_time.date())
                if isinstance(definition, dg.TimeWindowPartitionsDefinition)
                else tuple(definition.get_partition_keys())
                for _, definition in dimensions
            ),
        )


@lru_cache(maxsize=4)
def _stretch(definition: dg.TimeWindowPartitionsDefinition, _today: date) -> tuple[str, ...]:
    """Its months or days: others only when a day has passed."""
    return tuple(definition.get_partition_keys())


@lru_cache(maxsize=4)
def _keys(names: tuple[str, ...], keys: tuple[tuple[str, ...], ...]) -> list[dg.MultiPartitionKey]:
    return [dg.MultiPartitionKey(dict(zip(names, key, strict=True))) for key in product(*keys)]


account_months = AccountPartitions(
    {
        "account": accounts,
        "month": dg.MonthlyPartitionsDefinition(
            start_date=FIRST_MONTH, fmt="%Y-%m", timezone="UTC", end_offset=1
        ),
    }
)

account_days = AccountPartitions(
    {
        "account": accounts,
        "day": dg.DailyPartitionsDefinition(
            start_date=FIRST_DIGEST_DAY, timezone="UTC", end_offset=1
        ),
    }
)


def account_month(key: str) -> AccountMonth:
    """The partition that a multi-partition key such as `ana-slack|2026-11` names."""
    account, month = key.split("|")
    return AccountMonth(account, month)
