"""The asset `raw_messages`."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from communicator_pipeline.assets.partition_runs import (
    RunScope,
    column_schema,
    each_month,
    scope_of,
)
from communicator_pipeline.chain import raw_messages as chain
from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.ingestion.pull import fetch_missing
from communicator_pipeline.messages import MESSAGE_SCHEMA
from communicator_pipeline.partitions import account_months
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.work import WorkQueue

LONGEST_WAIT = timedelta(seconds=60)
"""A run waits so long for a platform's limit. What it leaves, the worker or the next poll
fetches: a wait is no failure."""


@dg.asset(
    partitions_def=account_months,
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags=on_queue("raw_messages"),
    deps=[],
    kinds={"parquet"},
    group_name="ingestion",
    owners=["team:inbox"],
    metadata=column_schema(MESSAGE_SCHEMA),
    description=(
        "Every message of the account that was sent in the month: the latest version and "
        "those before it, merged from the landing zone. A deletion is a tombstone. A connected "
        "account is asked first for what is missing of the month."
    ),
)
def raw_messages(
    context: dg.AssetExecutionContext, config: RunScope, stores: StoresResource
) -> dg.MaterializeResult[Any]:
    opened = stores.open()
    work = WorkQueue(opened.database)
    work.recover_landings(opened.lake.objects)
    scope = scope_of(context, config)
    if config.fetch:
        _fetch(context, opened, scope)
    for partition in scope.partitions:
        days = chain.days_with_data(opened, partition, scope)
        work.claim(context.run.run_id, partition.account, partition.month, days)
    return each_month(context, config, opened, chain.materialise)


def _fetch(context: dg.AssetExecutionContext, stores: Stores, scope: Scope) -> None:
    """Ask the platforms for what is missing, a stretch of months at a time. A platform that does
    not answer fails nothing: what has landed is merged, and the account says what is wrong."""

    def wait(until: datetime) -> bool:
        seconds = (until - datetime.now(UTC)).total_seconds()
        if seconds > LONGEST_WAIT.total_seconds():
            return False
        time.sleep(max(0.0, seconds) + 0.05)
        return True

    for account, window in chain.windows(scope):
        for report in fetch_missing(stores, account, window, wait):
            context.log.info(
                "%s: %s, %s new, %s updated%s",
                account,
                report.state,
                report.counts.kept,
                report.counts.updated,
                f" ({report.words})" if report.words else "",
            )
