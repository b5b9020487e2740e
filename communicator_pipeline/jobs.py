"""The jobs: what is materialised together, in one process.

Belongs here: selections and how they run. A process per step would cost 4 CPU seconds each, so
every job uses the in-process executor.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from communicator_pipeline.asset_checks import CHECKS
from communicator_pipeline.assets import CHAIN, daily_digest
from communicator_pipeline.assets.partition_runs import RunScope
from communicator_pipeline.resources import LocalStores
from communicator_pipeline.retention import collect_lake_garbage, prune_superseded_runs

refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.assets(*CHAIN),
    executor_def=dg.in_process_executor,
    description="A message's whole way, from the landing zone to the inbox.",
)

digest = dg.define_asset_job(
    "digest",
    selection=dg.AssetSelection.assets(daily_digest),
    executor_def=dg.in_process_executor,
    description="The digest of a day.",
)


@dg.op(description="Delete the files that no manifest has named for an hour.")
def collect_garbage(context: dg.OpExecutionContext, stores: LocalStores) -> None:
    files = collect_lake_garbage(stores.open(), datetime.now(UTC))
    context.log.info("collected %s files", files)


@dg.op(description="Delete the runs of which every materialisation has a newer one.")
def prune_runs(context: dg.OpExecutionContext) -> None:
    checks = [key for check in CHECKS for key in check.check_keys]
    runs = prune_superseded_runs(context.instance, checks, datetime.now(UTC))
    context.log.info("pruned %s runs", len(runs))


@dg.job(
    executor_def=dg.in_process_executor,
    description="What grows is cut back: superseded files of the lake, superseded runs.",
)
def housekeeping() -> None:
    collect_garbage()
    prune_runs()


def run_config(days: Iterable[str] = (), preview_text: bool = False) -> dg.RunConfig:
    """The chain's config: work on these days only (none given: on every day with data)."""
    scope = RunScope(days=sorted(set(days)), preview_text=preview_text)
    return dg.RunConfig(ops={asset.key.to_user_string(): scope for asset in CHAIN})


JOBS: list[dg.JobDefinition | UnresolvedAssetJobDefinition] = [refresh, digest, housekeeping]
