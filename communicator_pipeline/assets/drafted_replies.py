"""The asset `drafted_replies`."""

from typing import Any

import dagster as dg

from communicator_pipeline.assets.partition_runs import RunScope, column_schema, each_month
from communicator_pipeline.chain import drafted_replies as chain
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.partitions import account_months
from communicator_pipeline.resources import StoresResource


@dg.asset(
    partitions_def=account_months,
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags=on_queue("drafted_replies"),
    deps=["raw_messages", "conversations", "analyses"],
    kinds={"duckdb", "parquet"},
    group_name="answering",
    owners=["team:inbox"],
    metadata=column_schema(chain.DRAFT_SCHEMA),
    description=(
        "A proposed reply for each conversation that waits for the user, from what the "
        "user answered before."
    ),
)
def drafted_replies(
    context: dg.AssetExecutionContext, config: RunScope, stores: StoresResource
) -> dg.MaterializeResult[Any]:
    return each_month(context, config, stores.open(), chain.materialise)
