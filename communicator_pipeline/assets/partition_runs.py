"""A run over many partitions: each materialised in order, timed, and described.

Belongs here: what the chain's assets have in common as Dagster sees them.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import pyarrow as pa
from pydantic import Field

from communicator_pipeline.assets.plots import bars
from communicator_pipeline.chain.scope import MonthReport, Scope
from communicator_pipeline.partitions import account_month
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.database import now_text
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.metering import on_behalf_of
from communicator_pipeline.storage.preview import refuse_preview
from communicator_pipeline.storage.work import WorkQueue

Materialise = Callable[[Stores, AccountMonth, Scope], MonthReport]

MOST_LISTED_DAYS = 31


class RunScope(dg.Config):
    """What of its partitions a run works on."""

    days: list[str] = Field(
        default_factory=list
    )  # UTC days such as 2026-11-03; empty: every day with data
    preview_text: bool = False  # text in the metadata: for whoever is alone with Dagster's UI
    fetch: bool = True  # ask the platform for what is missing of the partitions, or of the days


def scope_of(context: dg.AssetExecutionContext, config: RunScope) -> Scope:
    keys = sorted(account_month(key) for key in context.partition_keys)
    return Scope(tuple(keys), frozenset(config.days))


def each_month(
    context: dg.AssetExecutionContext, config: RunScope, stores: Stores, materialise: Materialise
) -> dg.MaterializeResult[Any]:
    """Materialise the run's partitions in order, and give each its own metadata."""
    if config.preview_text:
        refuse_preview(stores.database)
    scope = scope_of(context, config)
    stage = context.asset_key.to_user_string()
    for partition in scope.partitions:
        began = time.monotonic()
        WorkQueue(stores.database).renew(context.run.run_id)
        with on_behalf_of(partition.account):
            report = materialise(stores, partition, scope)
        seconds = time.monotonic() - began
        _note_timing(stores, stage, report, seconds)
        metadata = dict(described(report, seconds))
        if config.preview_text and report.preview:
            records = [dg.TableRecord(row) for row in report.preview]
            metadata["preview"] = dg.MetadataValue.table(records)
        context.add_asset_metadata(metadata, partition_key=partition.key)
    return dg.MaterializeResult()


def described(report: MonthReport, seconds: float) -> Mapping[str, Any]:
    """A partition's metadata: counts, a table by day and a plot; ids and numbers, never text."""
    changed = set(report.changed)
    days = list(report.manifest.days.items())[-MOST_LISTED_DAYS:]
    metadata: dict[str, Any] = {
        "dagster/row_count": report.manifest.rows,
        "bytes": report.manifest.bytes,
        "days processed": len(report.processed),
        "days changed": len(changed),
        "seconds": round(seconds, 3),
        **dict(sorted(report.numbers.items())),
    }
    if days:
        metadata["by day"] = dg.MetadataValue.table(
            [
                dg.TableRecord({"day": day, "rows": file.rows, "changed": day in changed})
                for day, file in days
            ]
        )
        metadata["rows by day"] = dg.MetadataValue.md(
            bars([(day[8:], file.rows) for day, file in days], "rows by day of the month")
        )
    for what, counts in report.counts.items():
        shown = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if shown:
            metadata[f"by {what}"] = dg.MetadataValue.table(
                [dg.TableRecord({what: name, "count": count}) for name, count in shown]
            )
            metadata[f"{what} plot"] = dg.MetadataValue.md(bars(shown[:12], f"by {what}"))
    return metadata


def column_schema(schema: pa.Schema) -> dict[str, dg.TableSchema]:
    """An Arrow schema as the definition's metadata."""
    columns = [dg.TableColumn(field.name, str(field.type)) for field in schema]
    return {"dagster/column_schema": dg.TableSchema(columns)}


def _note_timing(stores: Stores, stage: str, report: MonthReport, seconds: float) -> None:
    stores.database.execute(
        "INSERT OR REPLACE INTO stage_timings "
        "(stage, account, month, item_count, seconds, finished_at) VALUES (?, ?, ?, ?, ?, ?)",
        (
            stage,
            report.partition.account,
            report.partition.month,
            report.manifest.rows,
            round(seconds, 3),
            now_text(),
        ),
    )
