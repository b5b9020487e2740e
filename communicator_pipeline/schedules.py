"""The schedules: the daily digest, polling, housekeeping. All in UTC.

Belongs here: when. Does not belong here: what (`jobs.py`).
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from communicator_pipeline.chain.deliveries import months_with_replies
from communicator_pipeline.chain.usage import accounts_with_usage
from communicator_pipeline.failed_runs import failed_runs
from communicator_pipeline.jobs import (
    UNFINISHED,
    connection_checks,
    digest,
    housekeeping,
    learn,
    ledger,
    notify,
    price_usage,
    pull,
)
from communicator_pipeline.notifying.telling import anything_to_tell, note_news
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.storage.accounts import account_keys
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.database import utc_text
from communicator_pipeline.storage.workers import Workers

RUN_KEY = "dagster/run_key"
"""The tag in which Dagster keeps the key that a run was asked for with."""


def _registered(context: dg.ScheduleEvaluationContext, stores: StoresResource) -> list[str]:
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
    context: dg.ScheduleEvaluationContext, stores: StoresResource
) -> Iterator[dg.RunRequest]:
    day = (context.scheduled_execution_time - timedelta(days=1)).date().isoformat()
    for account in _registered(context, stores):
        yield dg.RunRequest(
            run_key=f"{account}:{day}",
            partition_key=dg.MultiPartitionKey({"account": account, "day": day}),
        )


@dg.schedule(
    job=price_usage,
    cron_schedule="20 5 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="What yesterday cost at Cloudflare, of every account that used anything there.",
)
def daily_usage(
    context: dg.ScheduleEvaluationContext, stores: StoresResource
) -> Iterator[dg.RunRequest]:
    day = (context.scheduled_execution_time - timedelta(days=1)).date().isoformat()
    used = accounts_with_usage(stores.open().database, day)
    for account in _registered(context, stores):
        if account in used:
            yield dg.RunRequest(
                run_key=f"{account}:{day}",
                partition_key=dg.MultiPartitionKey({"account": account, "day": day}),
            )


@dg.schedule(
    job=pull,
    cron_schedule="* * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Asks the platforms whose accounts are due, while no `communicator worker` lives.",
)
def poll_accounts(
    context: dg.ScheduleEvaluationContext, stores: StoresResource
) -> dg.RunRequest | dg.SkipReason:
    opened = stores.open()
    now = datetime.now(UTC)
    if Workers(opened.database).living(now):
        return dg.SkipReason("a worker does it")
    due = Connections(opened).due(now)
    if not due:
        return dg.SkipReason("no account is due")
    if context.instance.get_runs_count(dg.RunsFilter(job_name=pull.name, statuses=UNFINISHED)):
        return dg.SkipReason("the last poll is still at it")
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())


@dg.schedule(
    job=notify,
    cron_schedule="* * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Tells people what cannot wait, and their digest at the time that they chose, "
    "while no `communicator worker` lives.",
)
def notify_people(
    context: dg.ScheduleEvaluationContext, stores: StoresResource
) -> dg.RunRequest | dg.SkipReason:
    opened = stores.open()
    now = datetime.now(UTC)
    if Workers(opened.database).living(now):
        return dg.SkipReason("a worker does it")
    note_news(opened, failed_runs(context.instance), now)
    if not anything_to_tell(opened, now):
        return dg.SkipReason("nobody is to be told of anything")
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())


@dg.schedule(
    job=connection_checks,
    cron_schedule="*/10 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Checks the connected accounts when one falls ill or is well again, and daily.",
)
def watch_connections(
    context: dg.ScheduleEvaluationContext, stores: StoresResource
) -> dg.RunRequest | dg.SkipReason:
    healths = Connections(stores.open()).healths()
    if not healths:
        return dg.SkipReason("no account is connected")
    # A dead token brings no run by itself; and one that is still dead needs no other check.
    states = "|".join(f"{health.account}:{health.trouble_kind}" for health in healths)
    digest_of_states = hashlib.sha256(states.encode()).hexdigest()[:16]
    run_key = f"{context.scheduled_execution_time:%Y-%m-%d}:{digest_of_states}"
    # A schedule's run key holds for its own tick only: the last run tells what was seen last.
    last = context.instance.get_runs(dg.RunsFilter(job_name=connection_checks.name), limit=1)
    if last and last[0].tags.get(RUN_KEY) == run_key:
        return dg.SkipReason("nothing has changed since the last check")
    return dg.RunRequest(run_key=run_key)


@dg.schedule(
    job=ledger,
    cron_schedule="15 4 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="The ledger of the months in which a reply has changed since the day before.",
)
def daily_ledger(
    context: dg.ScheduleEvaluationContext, stores: StoresResource
) -> Iterator[dg.RunRequest]:
    opened = stores.open()
    moment = context.scheduled_execution_time
    since = utc_text(moment - timedelta(days=2))
    for account in _registered(context, stores):
        for month in months_with_replies(opened, account, since):
            yield dg.RunRequest(
                run_key=f"{account}:{month}:{moment:%Y-%m-%d}",
                partition_key=dg.MultiPartitionKey({"account": account, "month": month}),
            )


@dg.schedule(
    job=learn,
    cron_schedule="45 4 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="What every account's feedback teaches, whether there is news or not.",
)
def daily_learning(
    context: dg.ScheduleEvaluationContext, stores: StoresResource
) -> Iterator[dg.RunRequest]:
    for account in _registered(context, stores):
        yield dg.RunRequest(
            run_key=f"{account}:{context.scheduled_execution_time:%Y-%m-%d}",
            partition_key=account,
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


SCHEDULES = [
    daily_digests,
    daily_usage,
    poll_accounts,
    daily_ledger,
    daily_learning,
    watch_connections,
    notify_people,
    nightly_housekeeping,
]
