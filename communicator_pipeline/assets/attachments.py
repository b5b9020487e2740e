"""The asset `attachments`."""

from typing import Any

import dagster as dg

from communicator_pipeline.assets.partition_runs import RunScope, column_schema, each_month
from communicator_pipeline.chain import attachments as chain
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.partitions import account_months
from communicator_pipeline.resources import StoresResource


@dg.asset(
    partitions_def=account_months,
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags=on_queue("attachments"),
    deps=["raw_messages"],
    kinds={"parquet"},
    group_name="ingestion",
    owners=["team:inbox"],
    metadata=column_schema(chain.ATTACHMENT_SCHEMA),
    description=(
        "The files of those messages: stored under the SHA-256 of their content, or where "
        "they are and why they are not here."
    ),
)
def attachments(
    context: dg.AssetExecutionContext, config: RunScope, stores: StoresResource
) -> dg.MaterializeResult[Any]:
    return each_month(context, config, stores.open(), chain.materialise)
