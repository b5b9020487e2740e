"""The partitions: account × month for the chain, account × day for digests and usage, of the last
months only. All times UTC.

Months, not days: a range costs 15 ms and 6 KiB per partition and asset, most days of a personal
account are empty and would read as missing for ever, and Dagster advises at most 100,000
partitions per asset, which days would meet at some 130 accounts. Inside a month each day has
a file of its own, and a run can be told to work on some days only.

What is by day is for today's reader, and each of its partitions is a record of Dagster's (some
6 KB) for as long as it is one. So those of the last months are; what was made of earlier days stays
in the lake, and housekeeping takes Dagster's record of it away (`dagster_records/pruning.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import product

import dagster as dg

from communicator_pipeline.storage.lake import FIRST_MONTH, AccountMonth

DIGEST_MONTHS_VARIABLE = "COMMUNICATOR_DIGEST_MONTHS"


def digest_months(environment: Mapping[str, str] = os.environ) -> int:
    """How many months before this one have partitions by day; raises ValueError for what is not
    a whole number from 1 to 240: on the first of a month, yesterday is in the one before."""
    chosen = environment.get(DIGEST_MONTHS_VARIABLE) or "3"
    if not chosen.isdecimal() or not 1 <= int(chosen) <= 240:
        raise ValueError(
            f"{DIGEST_MONTHS_VARIABLE} is {chosen!r}: it is a number of months, from 1 to 240"
        )
    return int(chosen)


DIGEST_MONTHS = digest_months()


def first_digest_day(today: date, months: int = DIGEST_MONTHS) -> str:
    """The first day that has a partition by day. The beginning of a month, so that processes which
    were started on different days mostly agree on it."""
    month = today.year * 12 + today.month - 1 - months
    return f"{date(month // 12, month % 12 + 1, 1)}"


def is_past(partition: str, today: date) -> bool:
    """Whether a key, such as `ana-slack|2026-11-03`, is of a day that has no partition any more."""
    day = partition.rpartition("|")[2]
    return len(day) == len("2026-11-03") and "|" in partition and day < first_digest_day(today)


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
            start_date=first_digest_day(datetime.now(UTC).date()), timezone="UTC", end_offset=1
        ),
    }
)


def account_month(key: str) -> AccountMonth:
    """The partition that a multi-partition key such as `ana-slack|2026-11` names."""
    account, month = key.split("|")
    return AccountMonth(account, month)
