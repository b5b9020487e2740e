"""The jobs: what is materialised together.

Belongs here: selections and how they run. A process per step would cost 4 CPU seconds each, so
every job stays in one unless another executor is chosen (`engines/executor.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG

from communicator_pipeline.asset_checks import CHECKS, CONNECTION_CHECKS
from communicator_pipeline.assets import (
    CHAIN,
    COMPARING,
    LEARNING,
    daily_digest,
    deliveries,
    usage,
)
from communicator_pipeline.assets.partition_runs import RunScope
from communicator_pipeline.assets.shadows import ShadowScope
from communicator_pipeline.dagster_records.pruning import prune
from communicator_pipeline.dagster_records.sqlite import shrink
from communicator_pipeline.delivery.dispatch import deliver_due
from communicator_pipeline.delivery.policies import approve_by_policy
from communicator_pipeline.delivery.recovery import recover
from communicator_pipeline.engines.executor import EXECUTOR, on_queue
from communicator_pipeline.failed_runs import failed_runs, note_made_digest
from communicator_pipeline.ingestion.poll import poll
from communicator_pipeline.notifying.telling import note_news, tell
from communicator_pipeline.partitions import is_past
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.retention import (
    compact_landings,
    forget_what_is_over,
    shrink_database,
    tidy_lake,
    until,
)
from communicator_pipeline.retention_settings import read_retention
from communicator_pipeline.storage.metering import hand_over

MOST_NAMED = 5  # faults in one message

refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.assets(*CHAIN) - dg.AssetSelection.checks(*CONNECTION_CHECKS),
    executor_def=EXECUTOR,
    description="A message's whole way, from the landing zone to the inbox.",
)

digest = dg.define_asset_job(
    "digest",
    selection=dg.AssetSelection.assets(daily_digest),
    executor_def=EXECUTOR,
    description="The digest of a day.",
)


ledger = dg.define_asset_job(
    "ledger",
    selection=dg.AssetSelection.assets(deliveries),
    executor_def=EXECUTOR,
    description="What became of a month's replies.",
)

price_usage = dg.define_asset_job(
    "price_usage",
    selection=dg.AssetSelection.assets(usage),
    executor_def=EXECUTOR,
    description="What an account took of Cloudflare's services on a day, and what it costs.",
)

learn = dg.define_asset_job(
    "learn",
    selection=dg.AssetSelection.assets(*LEARNING),
    executor_def=EXECUTOR,
    description="What people did with the drafts of an account, and what that teaches.",
)

compare = dg.define_asset_job(
    "compare",
    selection=dg.AssetSelection.assets(*COMPARING),
    executor_def=EXECUTOR,
    description="Another prompt, model or memory set beside the live one, and the difference.",
)

connection_checks = dg.define_asset_job(
    "connection_checks",
    selection=dg.AssetSelection.checks(*CONNECTION_CHECKS),
    executor_def=EXECUTOR,
    description="Whether the connected accounts are well.",
)


@dg.op(
    pool="poll",
    tags=on_queue("pull_due_accounts"),
    description="Ask every platform whose account is due; go on with history that was asked for.",
)
def pull_due_accounts(context: dg.OpExecutionContext, stores: StoresResource) -> None:
    opened = stores.open()
    for report in poll(opened, datetime.now(UTC)):
        context.log.info("%s: %s, %s new", report.account, report.state, report.kept)


@dg.job(
    executor_def=EXECUTOR,
    description="Stands in for `communicator worker`: all due accounts in one run.",
)
def pull() -> None:
    pull_due_accounts()


@dg.op(
    pool="deliver",
    tags=on_queue("send_due_replies"),
    description="Reconcile what is unknown; send every reply whose time has come, each once.",
)
def send_due_replies(context: dg.OpExecutionContext, stores: StoresResource) -> None:
    opened = stores.open()
    found = recover(opened)
    judged = approve_by_policy(opened)
    done = deliver_due(opened)
    context.log.info(
        "%s sent, %s put off, %s failed, %s unknown; %s leases were over, %s found sent, %s left "
        "to a person, %s approved by a policy",
        len(done.sent),
        len(done.put_off),
        len(done.failed),
        len(done.unknown),
        len(found.leases_over),
        len(found.sent),
        len(found.left_to_a_person),
        len(judged.approved),
    )


@dg.job(
    executor_def=EXECUTOR,
    # Only the outbox tries again: a run that is repeated knows nothing of what has left.
    tags={"dagster/max_retries": "0"},
    description="Approved replies on their way: claimed, sent, recorded, reconciled.",
)
def deliver_replies() -> None:
    send_due_replies()


@dg.op(
    pool="notify",
    tags=on_queue("tell_what_waits"),
    description="Tell people what cannot wait, their digest, and administrators what is wrong.",
)
def tell_what_waits(context: dg.OpExecutionContext, stores: StoresResource) -> None:
    opened = stores.open()
    note_news(opened, failed_runs(context.instance), datetime.now(UTC))
    taken = tell(opened, datetime.now(UTC), note_made_digest(context.instance))
    context.log.info("%s messages were taken", taken)


@dg.job(
    executor_def=EXECUTOR,
    # What is told is in the database; a run that is repeated knows nothing of it.
    tags={"dagster/max_retries": "0"},
    description="Notifications that wait, each told once.",
)
def notify() -> None:
    tell_what_waits()


@dg.op(
    tags=on_queue("collect_garbage"),
    description="Join the files of days that are long over; delete those that no manifest names.",
)
def collect_garbage(context: dg.OpExecutionContext, stores: StoresResource) -> None:
    opened = stores.open()
    minutes = read_retention(opened.database).minutes_a_night
    done = tidy_lake(opened, datetime.now(UTC), until(minutes / 2))
    context.log.info(
        "joined %s files, collected %s; %s",
        done.joined,
        done.collected,
        "that was all" if done.is_through else "the rest is for the next night",
    )
    _fail_if(done.faults)


@dg.op(
    tags=on_queue("prune_runs"),
    description="Delete runs that are superseded; of old ones keep what is newest.",
)
def prune_runs(context: dg.OpExecutionContext, stores: StoresResource) -> None:
    retention = read_retention(stores.open().database)
    may_go_on = until(retention.minutes_a_night / 4)
    checks = [key for check in CHECKS for key in check.check_keys]
    now = datetime.now(UTC)
    gone = prune(
        context.instance, checks, now, retention, may_go_on, lambda key: is_past(key, now.date())
    )
    freed = shrink(context.instance, may_go_on)
    context.log.info(
        "%s runs went, of %s what is newest stays; %s rows and %s bytes of Dagster's",
        gone.runs,
        gone.condensed,
        gone.rows,
        freed,
    )


@dg.op(
    tags=on_queue("tidy_up"),
    description="Join small files of the landing zone; forget rows that are over.",
)
def tidy_up(context: dg.OpExecutionContext, stores: StoresResource) -> None:
    opened = stores.open()
    now = datetime.now(UTC)
    may_go_on = until(read_retention(opened.database).minutes_a_night / 4)
    hand_over(opened.database, now)
    forgotten = forget_what_is_over(opened, now, may_go_on)
    done = compact_landings(opened, now, may_go_on)
    freed = shrink_database(opened, may_go_on)
    context.log.info(
        "joined %s files, forgot %s things that are over, freed %s bytes",
        done.joined,
        forgotten,
        freed,
    )
    _fail_if(done.faults)


def _fail_if(faults: Sequence[str]) -> None:
    """End a step as failed whose work was done but for these faults: then people are told."""
    if faults:
        more = f" (and {len(faults) - MOST_NAMED} more)" if len(faults) > MOST_NAMED else ""
        raise dg.Failure(
            f"{len(faults)} could not be tidied, all else was: "
            f"{'; '.join(faults[:MOST_NAMED])}{more}",
            allow_retries=False,
        )


@dg.job(
    executor_def=EXECUTOR,
    # Longer than `minutes_a_night` may be: its steps end by themselves.
    tags={MAX_RUNTIME_SECONDS_TAG: str(9 * 3600)},
    description="What grows is cut back: superseded files of the lake, superseded runs.",
)
def housekeeping() -> None:
    collect_garbage()
    prune_runs()
    tidy_up()


def run_config(
    days: Iterable[str] = (), preview_text: bool = False, fetch: bool = False
) -> dg.RunConfig:
    """The chain's config: work on these days only (none given: on every day with data). What is
    touched has landed: whoever asks for it does not want the platform asked as well."""
    scope = RunScope(days=sorted(set(days)), preview_text=preview_text, fetch=fetch)
    return dg.RunConfig(ops={asset.key.to_user_string(): scope for asset in CHAIN})


def compare_config(shadow: Mapping[str, Any], days: Iterable[str] = ()) -> dg.RunConfig:
    """A comparison's config (`chain/shadows.config_of`): on these days only, if any are given."""
    scope = ShadowScope(days=sorted(set(days)), **shadow)
    return dg.RunConfig(ops={asset.key.to_user_string(): scope for asset in COMPARING})


UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
"""A run in one of these states is in the queue or under way."""

JOBS: list[dg.JobDefinition | UnresolvedAssetJobDefinition] = [
    refresh,
    digest,
    pull,
    deliver_replies,
    ledger,
    learn,
    compare,
    connection_checks,
    notify,
    housekeeping,
]
