"""The asset `inbox`: the chain's last, which takes the days off that the run has done."""

from typing import Any

import dagster as dg

from communicator_pipeline.assets.partition_runs import RunScope, each_month, scope_of
from communicator_pipeline.chain import inbox as chain
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.partitions import account_months
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.storage.work import WorkQueue

CHAIN_NAMES = (
    "raw_messages",
    "attachments",
    "conversations",
    "analyses",
    "drafted_replies",
    "inbox",
)


@dg.asset(
    partitions_def=account_months,
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags=on_queue("inbox"),
    deps=["raw_messages", "attachments", "conversations", "analyses", "drafted_replies"],
    kinds={"sqlite"},
    group_name="answering",
    owners=["team:inbox"],
    description=(
        "Messages, conversations, analyses and drafts in the database, where people read them: "
        "each day in one atomic batch, never over something newer."
    ),
)
def inbox(
    context: dg.AssetExecutionContext, config: RunScope, stores: StoresResource
) -> dg.MaterializeResult[Any]:
    opened = stores.open()
    result = each_month(context, config, opened, chain.materialise)
    if not _is_whole_chain(context):
        return result
    work = WorkQueue(opened.database)
    for partition in scope_of(context, config).partitions:
        work.finish(context.run.run_id, partition.account, partition.month)
    return result


def _is_whole_chain(context: dg.AssetExecutionContext) -> bool:
    """Whether the run goes all the way: only then has it done what it found to be done."""
    chosen = context.run.asset_selection
    return not chosen or {dg.AssetKey(name) for name in CHAIN_NAMES} <= set(chosen)
