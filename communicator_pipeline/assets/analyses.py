"""The asset `analyses`."""

from typing import Any

import dagster as dg

from communicator_pipeline.assets.partition_runs import RunScope, column_schema, each_month
from communicator_pipeline.chain import analyses as chain
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.partitions import account_months
from communicator_pipeline.resources import StoresResource


@dg.asset(
    partitions_def=account_months,
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags=on_queue("analyses"),
    deps=["raw_messages", "conversations"],
    kinds={"duckdb", "parquet"},
    group_name="understanding",
    owners=["team:inbox"],
    metadata=column_schema(chain.ANALYSIS_SCHEMA),
    description=(
        "Category, priority with its reasons, summary, needs-reply of each conversation, "
        "as of the end of each day on which it was active."
    ),
)
def analyses(
    context: dg.AssetExecutionContext, config: RunScope, stores: StoresResource
) -> dg.MaterializeResult[Any]:
    return each_month(context, config, stores.open(), chain.materialise)
