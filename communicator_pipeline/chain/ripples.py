"""What a change in some days means for later ones that this run does not come to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa

from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.lake import AccountMonth, texts
from communicator_pipeline.storage.work import WorkQueue


def mark_later_days(
    stores: Stores,
    partition: AccountMonth,
    scope: Scope,
    days: Sequence[str],
    asset: str,
    concerned: str,
    changed: Collection[str],
    why: str,
) -> dict[str, str]:
    """Mark the later days of an asset that hold rows which hang on something that changed.

    Returns day → why, for the caller to mark once more when the change is visible: a run that
    took the first mark in between has read what was there before.

    `concerned` is an SQL condition over the asset's rows (with `sent_at`) and the table
    `changed` (id); days of this run's scope need no mark, it comes to them anyway.
    """
    if not days or not changed:
        return {}
    later = [
        address
        for address, day in stores.lake.day_files(asset, partition.account, first=min(days))
        if day > min(days) and not scope.covers(partition.account, day)
    ]
    if not later:
        return {}
    found = stores.lake.query(
        "SELECT DISTINCT strftime(sent_at, '%Y-%m-%d') AS day FROM later "
        f"WHERE {concerned} ORDER BY day",
        {"later": later, "changed": pa.table({"id": sorted(changed)})},
    )
    told = dict.fromkeys(texts(found["day"]), why)
    mark_all(stores, partition, told)
    return told


def mark_all(stores: Stores, partition: AccountMonth, told: Mapping[str, str]) -> None:
    """Mark days, each with its reason."""
    for day, why in told.items():
        WorkQueue(stores.database).mark(partition.account, [day], why)
