"""The asset `feedback`."""

from statistics import fmean
from typing import Any

import dagster as dg

from communicator_pipeline.assets.partition_runs import column_schema
from communicator_pipeline.assets.plots import bars
from communicator_pipeline.chain import feedback as chain
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.partitions import accounts
from communicator_pipeline.resources import StoresResource

MOST_MONTHS = 24
"""Months in the plot, the newest."""


@dg.asset(
    partitions_def=accounts,
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags=on_queue("feedback"),
    deps=["drafted_replies"],
    kinds={"parquet"},
    group_name="answering",
    owners=["team:inbox"],
    metadata=column_schema(chain.FEEDBACK_SCHEMA),
    description=(
        "What people did with the drafts: approved, edited (with what became of each word), "
        "rejected, redrafted with an instruction; and what they set right in what was understood."
    ),
)
def feedback(
    context: dg.AssetExecutionContext, stores: StoresResource
) -> dg.MaterializeResult[Any]:
    opened = stores.open()
    for account in sorted(context.partition_keys):
        report = chain.materialise(opened, account)
        metadata: dict[str, Any] = {
            "dagster/row_count": report.rows,
            "days changed": len(report.changed),
            **dict(sorted(report.kinds.items())),
        }
        if report.share_unedited is not None:
            metadata["sent as drafted"] = round(report.share_unedited, 3)
            metadata["words changed"] = round(fmean(report.distances), 3)
            shares = [(month, 100 * share) for month, share in report.shares_by_month]
            metadata["sent as drafted by month"] = dg.MetadataValue.md(
                bars(shares[-MOST_MONTHS:], "drafts sent as drafted, percent by month")
            )
        context.add_asset_metadata(metadata, partition_key=account)
    return dg.MaterializeResult()
