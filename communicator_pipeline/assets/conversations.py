"""The asset `conversations`."""

from typing import Any

import dagster as dg

from communicator_pipeline.assets.partition_runs import RunScope, column_schema, each_month
from communicator_pipeline.chain import conversations as chain
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.partitions import account_months
from communicator_pipeline.resources import StoresResource


@dg.asset(
    partitions_def=account_months,
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags=on_queue("conversations"),
    deps=["raw_messages"],
    kinds={"duckdb", "parquet"},
    group_name="understanding",
    owners=["team:inbox"],
    metadata=column_schema(chain.MEMBERSHIP_SCHEMA),
    description=(
        "Which conversation each message belongs to, and why. Each day goes on from what "
        "the day before hands over."
    ),
)
def conversations(
    context: dg.AssetExecutionContext, config: RunScope, stores: StoresResource
) -> dg.MaterializeResult[Any]:
    return each_month(context, config, stores.open(), chain.materialise)
