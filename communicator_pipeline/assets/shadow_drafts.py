"""The asset `shadow_drafts`."""

from typing import Any

import dagster as dg

from communicator_pipeline.assets.partition_runs import column_schema
from communicator_pipeline.assets.shadows import ShadowScope, each_month_of
from communicator_pipeline.chain import comparison as chain
from communicator_pipeline.chain.drafted_replies import DRAFT_SCHEMA
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.partitions import account_months
from communicator_pipeline.resources import StoresResource


@dg.asset(
    partitions_def=account_months,
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags=on_queue("shadow_drafts"),
    deps=["raw_messages", "conversations", "shadow_analyses"],
    kinds={"duckdb", "parquet"},
    group_name="comparing",
    owners=["team:inbox"],
    metadata=column_schema(DRAFT_SCHEMA),
    description=(
        "The drafts as another prompt, model or memory set would make them: nobody is shown them, "
        "and nothing is sent."
    ),
)
def shadow_drafts(
    context: dg.AssetExecutionContext, config: ShadowScope, stores: StoresResource
) -> dg.MaterializeResult[Any]:
    return each_month_of(context, config, stores.open(), chain.shadow_drafts)
