"""The asset `deliveries`: the ledger."""

from typing import Any

import dagster as dg

from communicator_pipeline.assets.partition_runs import RunScope, column_schema, each_month
from communicator_pipeline.chain import deliveries as chain
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.partitions import account_months
from communicator_pipeline.resources import StoresResource


@dg.asset(
    partitions_def=account_months,
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags=on_queue("deliveries"),
    deps=["drafted_replies"],
    kinds={"parquet"},
    group_name="answering",
    owners=["team:inbox"],
    metadata=column_schema(chain.DELIVERY_SCHEMA),
    description=(
        "What was approved in the month and what became of it: sent, confirmed by its echo, "
        "unknown, failed, taken back because it was answered elsewhere. `communicator why` "
        "follows one back to its draft and the messages that it rests on."
    ),
)
def deliveries(
    context: dg.AssetExecutionContext, config: RunScope, stores: StoresResource
) -> dg.MaterializeResult[Any]:
    return each_month(context, config, stores.open(), chain.materialise)
