"""`raw_messages`: the landing zone merged into message versions, a file per day."""

from __future__ import annotations

from collections import Counter

import pyarrow.compute as pc

from communicator_pipeline.chain.scope import MonthReport, Scope
from communicator_pipeline.ingestion.merge import message_versions
from communicator_pipeline.platforms import platforms
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import load_account
from communicator_pipeline.storage.connections import Window
from communicator_pipeline.storage.dead_letters import DeadLetter, bury
from communicator_pipeline.storage.lake import (
    AccountMonth,
    Manifest,
    NewDays,
    end_of_day,
    last_day_of,
    start_of_day,
    stretches,
    texts,
)
from communicator_pipeline.storage.landing import read_landing

ASSET = "raw_messages"


def windows(scope: Scope) -> list[tuple[str, Window]]:
    """(account, window) that the scope stands for: one per account and stretch of months, or the
    stretch from its first to its last day."""
    found = []
    for account in sorted({partition.account for partition in scope.partitions}):
        months = [p.month for p in scope.partitions if p.account == account]
        for first, last in stretches(months):
            days = [day for day in scope.days if first <= day[:7] <= last]
            if days:
                found.append((account, Window(start_of_day(min(days)), end_of_day(max(days)))))
            elif not scope.days:
                end = end_of_day(last_day_of(last))
                found.append((account, Window(start_of_day(f"{first}-01"), end)))
    return found


def days_with_data(stores: Stores, partition: AccountMonth, scope: Scope) -> list[str]:
    """The days of the scope on which something has landed or been merged."""
    landed = texts(pc.unique(read_landing(stores.lake, partition, None, ["day"])["day"]))
    merged = stores.lake.manifest(ASSET, partition).days
    return scope.chosen({*landed, *merged})


def materialise(stores: Stores, partition: AccountMonth, scope: Scope) -> MonthReport:
    """Merge a month's envelopes, or those of some of its days. The same landing zone gives the
    same rows. What cannot be understood is buried; the rest goes on."""
    platform = platforms()[load_account(stores.database, partition.account).platform]
    letters: list[DeadLetter] = []
    counts: Counter[str] = Counter()
    processed: list[str] = []

    def merge(_: Manifest) -> NewDays:
        envelopes = read_landing(stores.lake, partition, sorted(scope.days) or None)
        tables, broken = message_versions(envelopes, platform.normalise)
        letters[:] = broken
        processed[:] = scope.chosen(tables)
        counts.clear()
        for table in tables.values():
            counts["messages"] += pc.sum(table["latest"]).as_py()
            counts["versions"] += table.num_rows
            counts["deleted"] += pc.sum(pc.and_(table["latest"], table["deleted"])).as_py()
        counts["dead letters"] = len(broken)
        return tables

    manifest, changed = stores.lake.update(ASSET, partition, merge)
    bury(stores.database, partition.account, letters)
    return MonthReport(partition, manifest, processed, changed, dict(counts))
