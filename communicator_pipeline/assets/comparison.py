"""The asset `comparison`."""

from typing import Any

import dagster as dg

from communicator_pipeline.assets.partition_runs import column_schema
from communicator_pipeline.assets.shadows import ShadowScope, each_month_of
from communicator_pipeline.chain import comparison as chain
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.partitions import account_months
from communicator_pipeline.resources import StoresResource


@dg.asset(
    partitions_def=account_months,
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags=on_queue("comparison"),
    deps=["analyses", "drafted_replies", "shadow_analyses", "shadow_drafts"],
    kinds={"duckdb", "parquet"},
    group_name="comparing",
    owners=["team:inbox"],
    metadata=column_schema(chain.PAIR_SCHEMA),
    description=(
        "The variant against the live way, and both against what people sent and which categories "
        "they set; with a report in the lake."
    ),
)
def comparison(
    context: dg.AssetExecutionContext, config: ShadowScope, stores: StoresResource
) -> dg.MaterializeResult[Any]:
    opened, shadow = stores.open(), config.shadow()
    result = each_month_of(context, config, opened, chain.materialise)
    for account in sorted({key.split("|")[0] for key in context.partition_keys}):
        chain.write_report(opened, account, shadow)
    return result
