"""The sensor: accounts become partitions, touched days become runs.

Gather, decide (`wanted_runs.py`, pure), apply.
A read that fails is not an empty read: the tick fails with words and nothing is requested.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from communicator_pipeline.abandoned_runs import fail_abandoned_runs
from communicator_pipeline.delivery.clock import read_clock
from communicator_pipeline.delivery.dispatch import due
from communicator_pipeline.delivery.voiding import sweep
from communicator_pipeline.ingestion.push import drain
from communicator_pipeline.jobs import UNFINISHED, deliver_replies, learn, refresh, run_config
from communicator_pipeline.partitions import accounts
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.storage.accounts import account_keys
from communicator_pipeline.storage.memories import accounts_to_learn_from
from communicator_pipeline.storage.model_retries import mark_due
from communicator_pipeline.storage.outbox import has_any
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline.storage.workers import Workers
from communicator_pipeline.wanted_runs import (
    ACCOUNT_TAG,
    LANE_TAG,
    LAUNCHED_SLICE_DAYS,
    ROWS_FOR_LANES,
    TENANT_TAG,
    UNSETTLED,
    in_turn,
    read_turns,
    rows_for_slice,
    turns_text,
    wanted_delivery,
    wanted_learning,
    wanted_runs,
    with_room,
)


def _unfinished(context: dg.SensorEvaluationContext) -> list[dg.DagsterRun]:
    """The runs in the queue or under way."""
    return list(context.instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)))


@dg.sensor(
    job=refresh,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Registers accounts as partitions; drains the ingestion queue and runs exactly "
    "the days that were touched, while no `communicator worker` does both sooner. Beside a worker "
    "it asks for history, if the worker leaves that to Dagster.",
)
def touched_days(context: dg.SensorEvaluationContext, stores: StoresResource) -> dg.SensorResult:
    opened = stores.open()
    now = datetime.now(UTC)
    work = WorkQueue(opened.database)
    work.recover_landings(opened.lake.objects)
    mark_due(opened.database, now)
    known = set(context.instance.get_dynamic_partitions("accounts"))
    new = [key for key in account_keys(opened.database) if key not in known]
    leaving_history = Workers(opened.database).leaving_history(now)
    has_worker = bool(leaving_history)
    if has_worker and not any(leaving_history):
        return dg.SensorResult(
            dynamic_partitions_requests=[accounts.build_add_request(new)] if new else [],
            skip_reason=None if new else dg.SkipReason("a worker does it"),
        )
    while not has_worker and drain(opened).taken:
        pass
    fail_abandoned_runs(context.instance, work)
    unfinished = _unfinished(context)
    # Asked for when the one before is over, else a long queue would fill with copies of the same.
    busy = {(run.tags.get(ACCOUNT_TAG), run.tags.get(LANE_TAG)) for run in unfinished}
    # A first look tells whose turn it is, a second one fetches only their slices.
    waiting = wanted_runs(work.unleased(now, ROWS_FOR_LANES), now.date(), LAUNCHED_SLICE_DAYS)
    wanted = [
        run
        for run in waiting
        if (run.account, run.lane) not in busy and not (has_worker and run.lane == "live")
    ]
    served = read_turns(context.cursor)
    next_ones = with_room(in_turn(wanted, served), [run.tags.get(LANE_TAG) for run in unfinished])
    chosen = {(run.account, run.lane) for run in next_ones}
    most = rows_for_slice(LAUNCHED_SLICE_DAYS)
    found = work.unleased(now, most, accounts=[account for account, _ in chosen]) if chosen else []
    runs = [
        run
        for run in wanted_runs(found, now.date(), LAUNCHED_SLICE_DAYS)
        if (run.account, run.lane) in chosen
    ]
    # Leased before they are asked for: if this tick is lost, the lease runs out and the days
    # are asked for again.
    work.lease([day for run in runs for day in run.days], now)
    served |= {run.tenant: now.timestamp() for run in runs}
    there = {run.tenant for run in waiting} | {run.tags.get(TENANT_TAG, "") for run in unfinished}
    return dg.SensorResult(
        cursor=turns_text({tenant: when for tenant, when in served.items() if tenant in there}),
        run_requests=[
            dg.RunRequest(
                run_key=run.run_key,
                run_config=run_config(day.day for day in run.days),
                tags=run.tags,
            )
            for run in runs
        ],
        dynamic_partitions_requests=[accounts.build_add_request(new)] if new else [],
        skip_reason=None if runs or new else dg.SkipReason("all that was touched is asked for"),
    )


@dg.sensor(
    job_name=deliver_replies.name,  # the job itself would be bound anew, with a warning
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Replies whose time has come, and those that nobody knows of whether they "
    "arrived, while no `communicator worker` does it sooner.",
)
def due_replies(
    context: dg.SensorEvaluationContext, stores: StoresResource
) -> dg.RunRequest | dg.SkipReason:
    opened = stores.open()
    now = datetime.now(UTC)
    if Workers(opened.database).living(now):
        return dg.SkipReason("a worker does it")
    sweep(opened.database, read_clock())  # what was overtaken is taken back at once, without a run
    fail_abandoned_runs(context.instance, WorkQueue(opened.database))
    open_replies = due(opened.database, now)
    unsettled = has_any(opened.database, UNSETTLED)
    run_key = wanted_delivery(open_replies, unsettled, now)
    if run_key is None:
        return dg.SkipReason("nothing is due")
    return dg.RunRequest(run_key=run_key)


@dg.sensor(
    job_name=learn.name,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Learns from accounts in which somebody did something with a draft or a memory, "
    "while no `communicator worker` does it sooner.",
)
def new_feedback(
    context: dg.SensorEvaluationContext, stores: StoresResource
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    opened = stores.open()
    now = datetime.now(UTC)
    if Workers(opened.database).living(now):
        yield dg.SkipReason("a worker does it")
        return
    known = set(context.instance.get_dynamic_partitions("accounts"))
    for account, run_key in wanted_learning(accounts_to_learn_from(opened.database), now).items():
        if account in known:
            yield dg.RunRequest(run_key=run_key, partition_key=account)


SENSORS = [touched_days, due_replies, new_feedback]
