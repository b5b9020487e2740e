"""The asset `label_models`."""

from typing import Any

import dagster as dg

from communicator_pipeline.analysis.train_label_model import Scores
from communicator_pipeline.assets.plots import bars
from communicator_pipeline.chain import label_models as chain
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.partitions import accounts
from communicator_pipeline.resources import StoresResource


@dg.asset(
    partitions_def=accounts,
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags=on_queue("label_models"),
    deps=["analyses"],
    kinds={"sklearn", "numpy"},
    group_name="understanding",
    owners=["team:inbox"],
    description=(
        "What relabels teach the offline analyser: how words move a category and a priority, in "
        "use only where conversations held out come out better than without it."
    ),
)
def label_models(
    context: dg.AssetExecutionContext, stores: StoresResource
) -> dg.MaterializeResult[Any]:
    opened = stores.open()
    for account in sorted(context.partition_keys):
        report = chain.materialise(opened, account)
        kept = report.kept
        context.add_asset_metadata(
            {
                "trained": report.trained,
                "model": kept.model.digest or "none",
                "days to sort anew": len(report.days_marked),
                **_scores("category", "share right", kept.category),
                **_scores("priority", "mean error", kept.priority),
            },
            partition_key=account,
        )
    return dg.MaterializeResult()


def _scores(of: str, what: str, scores: Scores) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"{of} corrections": scores.corrections,
        f"{of} model": scores.verdict,
    }
    if scores.before is not None and scores.after is not None:
        before, after = round(scores.before, 3), round(scores.after, 3)
        found |= {
            f"{of} {what} before": before,
            f"{of} {what} after": after,
            f"{of} {what}": dg.MetadataValue.md(
                bars([("before", before), ("after", after)], f"{of}: {what}, held out")
            ),
        }
    return found
