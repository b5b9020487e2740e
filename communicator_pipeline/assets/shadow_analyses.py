"""The asset `shadow_analyses`."""

from typing import Any

import dagster as dg

from communicator_pipeline.assets.partition_runs import column_schema
from communicator_pipeline.assets.shadows import ShadowScope, each_month_of
from communicator_pipeline.chain import comparison as chain
from communicator_pipeline.chain.analyses import ANALYSIS_SCHEMA
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.partitions import account_months
from communicator_pipeline.resources import StoresResource


@dg.asset(
    partitions_def=account_months,
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags=on_queue("shadow_analyses"),
    deps=["raw_messages", "conversations"],
    kinds={"duckdb", "parquet"},
    group_name="comparing",
    owners=["team:inbox"],
    metadata=column_schema(ANALYSIS_SCHEMA),
    description=(
        "The analyses as another prompt, model or memory set would make them: beside the live "
        "ones, in partitions of their own that nothing else reads."
    ),
)
def shadow_analyses(
    context: dg.AssetExecutionContext, config: ShadowScope, stores: StoresResource
) -> dg.MaterializeResult[Any]:
    return each_month_of(context, config, stores.open(), chain.shadow_analyses)
