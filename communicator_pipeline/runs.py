"""Running the chain from the command line, in this process, recorded in Dagster.

Belongs here: opening Dagster's instance, and runs that are not launched by its daemon. Does not
belong here: what a run does (`assets/`), which days want one (`storage/work.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster import AssetRecordsFilter, DagsterInstance
from dagster._core.instance.ref import InstanceRef

from communicator_pipeline.abandoned_runs import PROCESS_TAG, fail_abandoned_runs, this_process
from communicator_pipeline.chain import daily_digest
from communicator_pipeline.chain.redrafting import Redrafted
from communicator_pipeline.dagster_records.database import (
    STORAGES,
    make_storage_once,
    sqlite_folder,
)
from communicator_pipeline.jobs import deliver_replies, digest, learn, refresh, run_config
from communicator_pipeline.partitions import first_digest_day
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import account_keys
from communicator_pipeline.storage.lake import stretches
from communicator_pipeline.storage.landing import landed_months
from communicator_pipeline.storage.memories import accounts_to_learn_from
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline.wanted_runs import (
    ACCOUNT_TAG,
    RANGE_END,
    RANGE_START,
    WantedRun,
    whole_runs,
)

REPOSITORY_TAGS = {".dagster/repository": "__repository__@communicator_pipeline"}
"""Without it the web UI's job filter does not find a run that was made here."""

MOST_ROUNDS = 40
"""Ripples converge: each round of touched days comes from the one before. A month's days in a
row is the longest that a change can travel before the grouping window closes."""


class RunFailed(RuntimeError):
    """A run did not succeed; the message says what failed."""

    def __init__(self, why: str, run_id: str = "") -> None:
        super().__init__(why)
        self.run_id = run_id


@dataclass(frozen=True)
class FinishedRun:
    run_id: str
    account: str
    first: str  # month or day
    last: str
    materialisations: int  # assets × partitions
    failed_checks: tuple[str, ...]
    seconds: float


Say = Callable[[FinishedRun], None]


@contextmanager
def open_instance() -> Iterator[DagsterInstance]:
    """Dagster's instance: `$DAGSTER_HOME`'s, else one whose records are in Communicator's home or,
    if `$COMMUNICATOR_DAGSTER_DATABASE` is set, there. Opened once before anything else uses it:
    several processes that make its tables together get in each other's way. Raises
    `DagsterDatabaseError` if the database cannot be used."""
    chosen = os.environ.get("DAGSTER_HOME")
    if not chosen or Path(chosen) == sqlite_folder():  # elsewhere the records are none of ours
        make_storage_once()
    with _instance() as instance:
        yield instance


def _instance() -> DagsterInstance:
    if os.environ.get("DAGSTER_HOME"):
        return DagsterInstance.get()
    folder = sqlite_folder()
    folder.mkdir(parents=True, exist_ok=True)
    clone = Path(__file__).resolve().parents[1]
    has_config = (clone / "dagster.yaml").is_file()
    return DagsterInstance.from_ref(
        InstanceRef.from_dir(
            str(folder), config_dir=str(clone if has_config else folder), overrides=STORAGES
        )
    )


def materialise_touched(
    stores: Stores,
    instance: DagsterInstance,
    job: dg.JobDefinition,
    say: Say,
    preview: bool = False,
    accounts: Collection[str] | None = None,
) -> list[FinishedRun]:
    """Run what is touched until nothing is, ripples included; of these accounts only, if they
    are given. Raises `RunFailed` after all that could be done was."""
    register_accounts(stores, instance)
    work = WorkQueue(stores.database)
    work.recover_landings(stores.lake.objects)
    finished: list[FinishedRun] = []
    failed: dict[str, RunFailed] = {}
    for _ in range(MOST_ROUNDS):
        runs = whole_runs(
            day
            for day in work.dirty()
            if day.account not in failed and (accounts is None or day.account in accounts)
        )
        if not runs:
            break
        for run in runs:
            if run.account in failed:
                continue
            try:
                finished.append(run_range(instance, job, run, preview))
            except RunFailed as error:
                work.give_back(error.run_id)
                failed[run.account] = error  # the other accounts have done nothing wrong
            else:
                say(finished[-1])
    else:
        raise RunFailed(
            f"after {MOST_ROUNDS} rounds there are still touched days: "
            "`communicator status` shows them"
        )
    if failed:
        raise RunFailed("; ".join(str(error) for error in failed.values()))
    return finished


def materialise_range(
    stores: Stores,
    instance: DagsterInstance,
    job: dg.JobDefinition,
    accounts: Sequence[str],
    first_day: str,
    last_day: str,
    say: Say,
    preview: bool = False,
) -> list[FinishedRun]:
    """Run every day with data from `first_day` to `last_day` again, one run per account and
    stretch of months, then whatever that has touched. Nothing is fetched."""
    register_accounts(stores, instance)
    finished: list[FinishedRun] = []
    for account in accounts:
        months = [
            month
            for month in landed_months(stores.lake, account)
            if first_day[:7] <= month <= last_day[:7]
        ]
        for first, last in stretches(months):
            days = _days_between(first_day, last_day, (first, last))
            run = WantedRun(account, first, last, ())
            finished.append(run_range(instance, job, run, preview, days))
            say(finished[-1])
    finished += materialise_touched(stores, instance, job, say, preview, accounts)
    return finished


def run_range(
    instance: DagsterInstance,
    job: dg.JobDefinition,
    run: WantedRun,
    preview: bool = False,
    days: Iterable[str] | None = None,
) -> FinishedRun:
    """One run of the chain over an account's stretch of months, in this process."""
    chosen = [day.day for day in run.days] if days is None else days
    return execute(
        instance,
        job,
        run.account,
        run.first_month,
        run.last_month,
        run_config(chosen, preview),
        run.tags,
    )


def digest_days(
    stores: Stores,
    instance: DagsterInstance,
    job: dg.JobDefinition,
    account: str,
    first: str,
    last: str,
    preview: bool = False,
) -> list[FinishedRun]:
    """The digests of an account's days from `first` to `last`: of days that have a partition still
    in one run, of earlier ones the files alone."""
    register_accounts(stores, instance)
    begins = max(first, first_digest_day(datetime.now(UTC).date()))
    for day in _days(first, last):
        if day < begins:
            daily_digest.materialise(stores, account, day)
    if last < begins:
        return []
    config = dg.RunConfig(ops={"daily_digest": {"config": {"preview_text": preview}}})
    return [execute(instance, job, account, begins, last, config)]


def deliver(stores: Stores, instance: DagsterInstance, job: dg.JobDefinition) -> FinishedRun:
    """Send what is due and settle what is not settled, in one run of `deliver_replies`."""
    return _finished(instance, job, dg.RunConfig(), {}, "", "", "")


def learn_what_is_new(
    stores: Stores, instance: DagsterInstance, job: dg.JobDefinition
) -> list[FinishedRun]:
    """Learn from the feedback of each account that has news, in a run of `learn` each."""
    accounts = [account for account, _ in accounts_to_learn_from(stores.database)]
    if accounts:
        register_accounts(stores, instance)
    return [
        _finished(
            instance,
            job,
            dg.RunConfig(),
            {RANGE_START: account, RANGE_END: account, ACCOUNT_TAG: account},
            account,
            "",
            "",
        )
        for account in accounts
    ]


def register_accounts(stores: Stores, instance: DagsterInstance) -> None:
    """Make every account a partition; clear up after runs that died."""
    fail_abandoned_runs(instance, WorkQueue(stores.database))
    known = set(instance.get_dynamic_partitions("accounts"))
    new = [key for key in account_keys(stores.database) if key not in known]
    if new:
        instance.add_dynamic_partitions("accounts", new)


def draft_run(
    instance: DagsterInstance, account: str, draft_day: str | None, before: datetime
) -> str | None:
    """The run that last made the drafts of a day's month before a moment (UTC); None if Dagster
    has no record of it (any more)."""
    if draft_day is None:
        return None
    found = instance.fetch_materializations(
        AssetRecordsFilter(
            asset_key=dg.AssetKey("drafted_replies"),
            asset_partitions=[f"{account}|{draft_day[:7]}"],
            before_timestamp=before.timestamp(),
        ),
        limit=1,
    )
    # A condensed materialisation names no run: it is gone.
    return (found.records[0].run_id or None) if found.records else None


def note_redraft(
    instance: DagsterInstance, account: str, conversation_id: str, made: Redrafted
) -> None:
    """Note a draft that a person asked for with the partition of `drafted_replies` that it belongs
    to. An observation: what the last run materialised is still what the lake holds. No text: the
    event log is never erased."""
    drafted = made.drafted
    instance.report_runless_asset_event(
        dg.AssetObservation(
            "drafted_replies",
            description="a person asked for a new draft",
            partition=f"{account}|{made.day[:7]}",
            metadata={
                "conversation": conversation_id,
                "version": made.number,
                "model": drafted.made.model,
                "prompt": drafted.made.prompt,
                "model tokens in": drafted.made.usage.input_tokens,
                "model tokens out": drafted.made.usage.output_tokens,
            },
        )
    )


def chain_job(definitions: dg.Definitions) -> dg.JobDefinition:
    return definitions.resolve_job_def(refresh.name)


def delivery_job(definitions: dg.Definitions) -> dg.JobDefinition:
    return definitions.resolve_job_def(deliver_replies.name)


def learning_job(definitions: dg.Definitions) -> dg.JobDefinition:
    return definitions.resolve_job_def(learn.name)


def digest_job(definitions: dg.Definitions) -> dg.JobDefinition:
    return definitions.resolve_job_def(digest.name)


def execute(
    instance: DagsterInstance,
    job: dg.JobDefinition,
    account: str,
    first: str,
    last: str,
    config: dg.RunConfig,
    more_tags: Mapping[str, str] | None = None,
) -> FinishedRun:
    tags = {
        **(more_tags or {}),
        RANGE_START: f"{account}|{first}",
        RANGE_END: f"{account}|{last}",
        ACCOUNT_TAG: account,
    }
    return _finished(instance, job, config, tags, account, first, last)


def _finished(
    instance: DagsterInstance,
    job: dg.JobDefinition,
    config: dg.RunConfig,
    tags: Mapping[str, str],
    account: str,
    first: str,
    last: str,
) -> FinishedRun:
    began = time.monotonic()
    result = job.execute_in_process(
        instance=instance,
        # Whoever ran the command reads its summary; the event log has every step.
        run_config=dg.RunConfig(
            ops=config.ops, loggers={"console": {"config": {"log_level": "CRITICAL"}}}
        ),
        raise_on_error=False,
        tags={**tags, PROCESS_TAG: this_process(), **REPOSITORY_TAGS},
    )
    checks = tuple(
        f"{check.asset_key.to_user_string()}: {check.check_name}"
        for check in result.get_asset_check_evaluations()
        if not check.passed
    )
    if not result.success:
        raise RunFailed(_why(result, account or job.name, checks), result.run_id)
    materialised = [e for e in result.all_events if e.is_step_materialization]
    seconds = time.monotonic() - began
    return FinishedRun(result.run_id, account, first, last, len(materialised), checks, seconds)


def _why(result: dg.ExecuteInProcessResult, account: str, checks: tuple[str, ...]) -> str:
    if checks:
        return f"run {result.run_id} of {account}: a check failed ({'; '.join(checks)})"
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            cause = error.cause if error and error.cause else error
            message = cause.message.strip() if cause else "no reason given"
            return f"run {result.run_id} of {account} failed in {event.step_key}: {message}"
    return f"run {result.run_id} of {account} failed"


def _days_between(first_day: str, last_day: str, months: tuple[str, str]) -> list[str]:
    """The days to name in the run's config; none when the range covers whole months."""
    if first_day <= f"{months[0]}-01" and last_day >= f"{months[1]}-31":
        return []
    return _days(max(first_day, f"{months[0]}-01"), min(last_day, f"{months[1]}-31"))


def _days(first: str, last: str) -> list[str]:
    """Every day from `first` to `last`, which need not be one (`2026-11-31`)."""
    days, day = [], date.fromisoformat(first)
    while day.isoformat() <= last:
        days.append(day.isoformat())
        day += timedelta(days=1)
    return days
