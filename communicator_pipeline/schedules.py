"""The schedules: the daily digest, polling, housekeeping. All in UTC.

Belongs here: when. Does not belong here: what (`jobs.py`).
"""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from communicator_pipeline.jobs import digest, housekeeping, refresh, run_config
from communicator_pipeline.resources import LocalStores
from communicator_pipeline.storage.accounts import account_keys


def _registered(context: dg.ScheduleEvaluationContext, stores: LocalStores) -> list[str]:
    """The accounts that are partitions already: one too new for that would break the tick."""
    known = set(context.instance.get_dynamic_partitions("accounts"))
    return [key for key in account_keys(stores.open().database) if key in known]


@dg.schedule(
    job=digest,
    cron_schedule="0 5 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Yesterday's digest of every account.",
)
def daily_digests(
    context: dg.ScheduleEvaluationContext, stores: LocalStores
) -> Iterator[dg.RunRequest]:
    day = (context.scheduled_execution_time - timedelta(days=1)).date().isoformat()
    for account in _registered(context, stores):
        yield dg.RunRequest(
            run_key=f"{account}:{day}",
            partition_key=dg.MultiPartitionKey({"account": account, "day": day}),
        )


@dg.schedule(
    job=refresh,
    cron_schedule="*/15 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description=(
        "The current day of every account, touched or not. Off: what has landed is picked up by "
        "the sensor; turn it on where the sensor must not run."
    ),
)
def poll_accounts(
    context: dg.ScheduleEvaluationContext, stores: LocalStores
) -> Iterator[dg.RunRequest]:
    moment = context.scheduled_execution_time
    for account in _registered(context, stores):
        yield dg.RunRequest(
            run_key=f"{account}:{moment.isoformat()}",
            partition_key=dg.MultiPartitionKey({"account": account, "month": f"{moment:%Y-%m}"}),
            run_config=run_config([moment.date().isoformat()]),
        )


@dg.schedule(
    job=housekeeping,
    cron_schedule="30 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Cut back what grows.",
)
def nightly_housekeeping() -> dg.RunRequest:
    return dg.RunRequest()


SCHEDULES = [daily_digests, poll_accounts, nightly_housekeeping]
