"""The asset `reply_memory`."""

from typing import Any

import dagster as dg

from communicator_pipeline.assets.partition_runs import column_schema
from communicator_pipeline.assets.plots import bars
from communicator_pipeline.chain import reply_memory as chain
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.partitions import accounts
from communicator_pipeline.resources import StoresResource


@dg.asset(
    partitions_def=accounts,
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags=on_queue("reply_memory"),
    deps=["feedback"],
    kinds={"sqlite", "parquet"},
    group_name="answering",
    owners=["team:inbox"],
    metadata=column_schema(chain.MEMORY_SCHEMA),
    description=(
        "What the feedback teaches, as sentences that people can read, change and delete: how "
        "replies begin and end, what is left out, what is said to which question."
    ),
)
def reply_memory(
    context: dg.AssetExecutionContext, stores: StoresResource
) -> dg.MaterializeResult[Any]:
    opened = stores.open()
    for account in sorted(context.partition_keys):
        report = chain.materialise(opened, account)
        metadata: dict[str, Any] = {
            "dagster/row_count": report.kinds.total(),
            "learnt from": report.learnt_from,
            "added": report.added,
            "withdrawn": report.withdrawn,
            "changed": report.changed,
            "days to draft anew": len(report.days_marked),
        }
        for what, counts in (("kind", report.kinds), ("scope", report.scopes)):
            if counts:
                metadata[f"by {what}"] = dg.MetadataValue.md(
                    bars(sorted(counts.items()), f"memories by {what}")
                )
        context.add_asset_metadata(metadata, partition_key=account)
    return dg.MaterializeResult()
