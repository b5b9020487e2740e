"""The partitions: account × month for the chain, account × day for digests. All times UTC.

Months, not days: a range costs 15 ms and 6 KiB per partition and asset, most days of a personal
account are empty and would read as missing for ever, and Dagster advises at most 100,000
partitions per asset, which days would meet at some 130 accounts. Inside a month each day has
a file of its own, and a run can be told to work on some days only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import pairwise

import dagster as dg

from communicator_pipeline.storage.lake import FIRST_MONTH, AccountMonth, months_between

FIRST_DIGEST_DAY = os.environ.get("COMMUNICATOR_FIRST_DIGEST_DAY", "2026-01-01")
"""A digest is for today's reader: years of past days would only use up partitions."""

accounts = dg.DynamicPartitionsDefinition(name="accounts")

account_months = dg.MultiPartitionsDefinition(
    {
        "account": accounts,
        "month": dg.MonthlyPartitionsDefinition(
            start_date=FIRST_MONTH, fmt="%Y-%m", timezone="UTC", end_offset=1
        ),
    }
)

account_days = dg.MultiPartitionsDefinition(
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


def stretches(months: Iterable[str]) -> list[tuple[str, str]]:
    """Months as ranges without gaps: (first, last) of each. A run covers a range, and every
    month in it is marked materialised, so months without data must not be in one."""
    ordered = sorted(set(months))
    if not ordered:
        return []
    breaks = [
        (before, after)
        for before, after in pairwise(ordered)
        if len(months_between(before, after)) > 2
    ]
    firsts = [ordered[0], *(after for _, after in breaks)]
    lasts = [*(before for before, _ in breaks), ordered[-1]]
    return list(zip(firsts, lasts, strict=True))
