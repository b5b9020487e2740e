"""The asset `daily_digest`."""

from typing import Any

import dagster as dg

from communicator_pipeline.assets.partition_runs import RunScope
from communicator_pipeline.assets.plots import bars
from communicator_pipeline.chain import daily_digest as chain
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.partitions import account_days
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.storage.preview import refuse_preview


@dg.asset(
    partitions_def=account_days,
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags=on_queue("daily_digest"),
    deps=["raw_messages", "analyses", "drafted_replies"],
    kinds={"markdown"},
    group_name="answering",
    owners=["team:inbox"],
    description="What came on a day, what matters and what waits, as Markdown in the lake.",
)
def daily_digest(
    context: dg.AssetExecutionContext, config: RunScope, stores: StoresResource
) -> dg.MaterializeResult[Any]:
    opened = stores.open()
    if config.preview_text:
        refuse_preview(opened.database)
    for key in sorted(context.partition_keys):
        account, day = key.split("|")
        digest = chain.materialise(opened, account, day)
        metadata: dict[str, Any] = {
            "messages": digest.messages,
            "conversations": digest.conversations,
            "waiting for an answer": digest.waiting,
            "drafts": digest.drafts,
            "where": chain.digest_key(account, day),
        }
        if digest.by_category:
            metadata["categories"] = dg.MetadataValue.md(
                bars(digest.by_category.most_common(), "conversations by category")
            )
        if config.preview_text:
            metadata["digest"] = dg.MetadataValue.md(digest.markdown)
        context.add_asset_metadata(metadata, partition_key=key)
    return dg.MaterializeResult()
