"""The partitions: account × month for the chain, account × day for digests. All times UTC.

Months, not days: a range costs 15 ms and 6 KiB per partition and asset, most days of a personal
account are empty and would read as missing for ever, and Dagster advises at most 100,000
partitions per asset, which days would meet at some 130 accounts. Inside a month each day has
a file of its own, and a run can be told to work on some days only.
"""

from __future__ import annotations

import os

import dagster as dg

from communicator_pipeline.storage.lake import FIRST_MONTH, AccountMonth

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
