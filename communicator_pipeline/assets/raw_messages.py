"""The asset `raw_messages`."""

from typing import Any

import dagster as dg

from communicator_pipeline.assets.partition_runs import (
    RunScope,
    column_schema,
    each_month,
    scope_of,
)
from communicator_pipeline.chain import raw_messages as chain
from communicator_pipeline.messages import MESSAGE_SCHEMA
from communicator_pipeline.partitions import account_months
from communicator_pipeline.resources import LocalStores
from communicator_pipeline.storage.work import WorkQueue


@dg.asset(
    partitions_def=account_months,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[],
    kinds={"parquet"},
    group_name="ingestion",
    owners=["team:inbox"],
    metadata=column_schema(MESSAGE_SCHEMA),
    description=(
        "Every message of the account that was sent in the month: the latest version and "
        "those before it, merged from the landing zone. A deletion is a tombstone."
    ),
)
def raw_messages(
    context: dg.AssetExecutionContext, config: RunScope, stores: LocalStores
) -> dg.MaterializeResult[Any]:
    opened = stores.open()
    work = WorkQueue(opened.database)
    work.recover_landings(opened.lake.objects)
    scope = scope_of(context, config)
    for partition in scope.partitions:
        days = chain.days_with_data(opened, partition, scope)
        work.claim(context.run.run_id, partition.account, partition.month, days)
    return each_month(context, config, opened, chain.materialise)
