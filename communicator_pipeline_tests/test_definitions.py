"""What Dagster sees: names, partitions, runs, checks, the sensor, the schedules, pruning.

Names are held by a snapshot: an accidental rename loses every partition's status.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import socket
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterInstance
from dagster._core.storage.defs_state.base import set_defs_state_storage

from communicator_pipeline import abandoned_runs, runs
from communicator_pipeline.asset_checks import (
    CHECKS,
    CONNECTION_CHECKS,
    a_day_costs_what_is_expected,
)
from communicator_pipeline.chain import checks as rules
from communicator_pipeline.chain import label_checks as label_rules
from communicator_pipeline.chain import memory_checks as memory_rules
from communicator_pipeline.chain.analyses import _row as _real_row
from communicator_pipeline.dagster_records.pruning import prune, superseded
from communicator_pipeline.definitions import build_definitions
from communicator_pipeline.jobs import run_config
from communicator_pipeline.partitions import first_digest_day
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.retention_settings import Retention
from communicator_pipeline.storage import Stores, home
from communicator_pipeline.storage.accounts import Accounts, add_user
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.lake import stretches
from communicator_pipeline.storage.preview import PreviewRefused, refuse_preview
from communicator_pipeline.storage.work import DirtyDay, WorkQueue
from communicator_pipeline.wanted_runs import whole_runs
from communicator_pipeline_tests.chain.test_chain import TALK
from communicator_pipeline_tests.conftest import Fill, line

CHAIN = [
    "analyses",
    "attachments",
    "conversations",
    "drafted_replies",
    "inbox",
    "raw_messages",
]
COMPARING = ["comparison", "shadow_analyses", "shadow_drafts"]


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    gc.collect()  # the contexts of earlier tests: see `_no_leftover_instance`
    with set_defs_state_storage(None):
        built = build_definitions()
        built.get_repository_def()  # kept by it
    return built


@pytest.fixture
def instance(stores: Stores) -> Iterator[DagsterInstance]:
    """A real instance, stored as the command line stores it."""
    with runs.open_instance() as opened:
        yield opened


@pytest.fixture
def job(stores: Stores) -> dg.JobDefinition:
    return runs.chain_job(build_definitions({"stores": StoresResource(folder=str(home()))}))


def _say(run: runs.FinishedRun) -> None:
    pass


def _materialised(instance: DagsterInstance, asset: str) -> set[str]:
    return set(instance.get_materialized_partitions(dg.AssetKey(asset)))


def test_the_names_of_everything_are_these(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    graph = repository.asset_graph
    assert sorted(key.to_user_string() for key in graph.materializable_asset_keys) == sorted(
        [
            *CHAIN,
            *COMPARING,
            "daily_digest",
            "deliveries",
            "feedback",
            "label_models",
            "reply_memory",
            "usage",
        ]
    )
    assert sorted(f"{k.asset_key.to_user_string()}: {k.name}" for k in graph.asset_check_keys) == [
        "analyses: categories_are_in_the_taxonomy",
        "conversations: conversation_ids_are_stable",
        "conversations: every_message_is_in_one_conversation",
        "drafted_replies: no_draft_to_oneself",
        "drafted_replies: nothing_drafted_that_was_answered",
        "label_models: no_worse_than_untrained",
        "raw_messages: accounts_can_be_pulled",
        "raw_messages: direct_messages_still_come",
        "raw_messages: message_ids_are_unique",
        "reply_memory: an_edit_teaches_three_at_most",
        "reply_memory: every_memory_has_a_source",
        "reply_memory: memories_are_in_the_users_words",
        "usage: a_day_costs_what_is_expected",
    ]
    assert sorted(j.name for j in repository.get_all_jobs() if not j.name.startswith("__")) == [
        "compare",
        "connection_checks",
        "deliver_replies",
        "digest",
        "housekeeping",
        "learn",
        "ledger",
        "notify",
        "price_usage",
        "pull",
        "refresh",
    ]
    assert sorted(s.name for s in repository.schedule_defs) == [
        "daily_digests",
        "daily_learning",
        "daily_ledger",
        "daily_usage",
        "nightly_housekeeping",
        "notify_people",
        "poll_accounts",
        "watch_connections",
    ]
    assert sorted(s.name for s in repository.sensor_defs) == [
        "due_replies",
        "new_feedback",
        "touched_days",
    ]


def test_every_asset_says_what_it_is(definitions: dg.Definitions) -> None:
    graph = definitions.get_repository_def().asset_graph
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert node.description
        assert node.owners == ["team:inbox"]
        assert node.kinds
        assert node.group_name in (
            "ingestion",
            "understanding",
            "answering",
            "comparing",
            "operating",
        )
        assert node.backfill_policy == dg.BackfillPolicy.single_run()


def test_checks_stop_what_stands_on_a_broken_asset(definitions: dg.Definitions) -> None:
    graph = definitions.get_repository_def().asset_graph
    assert len(CHECKS) == 13
    only_warn = [*CONNECTION_CHECKS, a_day_costs_what_is_expected]
    warnings = {key for check in only_warn for key in check.check_keys}
    for key in graph.asset_check_keys:
        assert graph.get_check_spec(key).blocking == (key not in warnings)


def test_a_range_of_months_is_one_run_and_each_month_has_metadata_of_its_own(
    stores: Stores, fill: Fill, instance: DagsterInstance, job: dg.JobDefinition
) -> None:
    fill(line(0, "2026-10-30T09:00:00Z", "ben", "who has the key?"), *TALK)
    finished = runs.materialise_touched(stores, instance, job, _say)
    assert [(run.first, run.last) for run in finished] == [("2026-10", "2026-11")]
    for asset in CHAIN:
        assert _materialised(instance, asset) == {"ana-chat|2026-10", "ana-chat|2026-11"}
    records = instance.fetch_materializations(dg.AssetKey("raw_messages"), limit=10).records
    counts = {
        r.partition_key: r.asset_materialization.metadata["messages"].value  # type: ignore[union-attr]
        for r in records
    }
    assert counts == {"ana-chat|2026-10": 1, "ana-chat|2026-11": 3}
    assert instance.get_runs_count() == 1


def test_metadata_holds_no_message_text_unless_it_was_asked_for(
    stores: Stores, fill: Fill, instance: DagsterInstance, job: dg.JobDefinition
) -> None:
    fill(*TALK)
    runs.materialise_touched(stores, instance, job, _say)

    def logged() -> str:
        return "".join(
            str(instance.all_logs(record.dagster_run.run_id))
            for record in instance.get_run_records()
        )

    assert "invoice" not in logged()
    assert "truck" not in logged()
    fill(line(9, "2026-11-03T10:00:00Z", "ben", "ana: and the invoice?"), name="more.jsonl")
    runs.materialise_touched(stores, instance, job, _say, preview=True)
    assert "invoice" in logged()


def test_text_is_not_shown_where_more_than_one_person_has_accounts(stores: Stores) -> None:
    refuse_preview(stores.database)
    add_user(stores.database, "ben", "Ben")
    Accounts(stores.database, "ben").add("ben-chat", "generic", "Chat")
    with pytest.raises(PreviewRefused, match="no login"):
        refuse_preview(stores.database)


def test_a_check_that_fails_keeps_the_inbox_as_it_was(
    stores: Stores,
    fill: Fill,
    instance: DagsterInstance,
    job: dg.JobDefinition,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(*TALK)
    monkeypatch.setattr(
        "communicator_pipeline.chain.analyses._row",
        lambda *args: _real_row(*args) | {"category": "gossip"},
    )
    with pytest.raises(runs.RunFailed, match="categories_are_in_the_taxonomy"):
        runs.materialise_touched(stores, instance, job, _say)
    assert Inbox(stores.database, "ana").conversations() == []
    assert [day.day for day in WorkQueue(stores.database).dirty()] == ["2026-11-03"]


def test_the_sensor_registers_accounts_and_asks_for_touched_days_once(
    stores: Stores, fill: Fill, instance: DagsterInstance, definitions: dg.Definitions
) -> None:
    fill(line(0, "2026-08-30T09:00:00Z", "ben", "hello"), *TALK)
    repository = build_definitions(
        {"stores": StoresResource(folder=str(home()))}
    ).get_repository_def()
    sensor = repository.get_sensor_def("touched_days")

    def tick() -> dg.SensorExecutionData:
        context = dg.build_sensor_context(
            instance=instance,
            repository_def=repository,
            resources={"stores": StoresResource(folder=str(home()))},
        )
        return sensor.evaluate_tick(context)

    first = tick()
    assert [
        (request.tags["dagster/asset_partition_range_start"], request.run_config["ops"])
        for request in first.run_requests or []
    ] == [
        ("ana-chat|2026-08", run_config(["2026-08-30"]).to_config_dict()["ops"]),
        ("ana-chat|2026-11", run_config(["2026-11-03"]).to_config_dict()["ops"]),
    ]
    assert [list(r.partition_keys) for r in first.dynamic_partitions_requests or []] == [
        ["ana-chat"]
    ]
    assert not tick().run_requests
    fill(line(8, "2026-11-03T12:00:00Z", "ben", "another one"), name="more.jsonl")
    again = tick().run_requests or []
    assert [request.tags["communicator/account"] for request in again] == ["ana-chat"]
    assert again[0].run_key not in {request.run_key for request in first.run_requests or []}


def test_a_run_that_was_lost_is_asked_for_again_when_its_lease_is_over(
    stores: Stores, fill: Fill
) -> None:
    fill(*TALK)
    work, now = WorkQueue(stores.database), datetime.now(UTC)
    first = whole_runs(work.unleased(now, 9))
    work.lease(first[0].days, now)
    assert work.unleased(now + timedelta(minutes=9), 9) == []
    again = whole_runs(work.unleased(now + timedelta(minutes=11), 9))
    assert again[0].run_key != first[0].run_key


def test_a_step_that_is_delivered_twice_takes_off_nothing_that_the_first_has_missed(
    stores: Stores,
) -> None:
    work = WorkQueue(stores.database)
    work.mark("ana-chat", ["2026-11-03"], "messages landed")
    work.claim("run 1", "ana-chat", "2026-11", ["2026-11-03"])
    work.mark("ana-chat", ["2026-11-03"], "messages landed")  # read by the second delivery only
    work.claim("run 1", "ana-chat", "2026-11", ["2026-11-03"])
    work.finish("run 1", "ana-chat", "2026-11")
    assert [day.day for day in work.dirty()] == ["2026-11-03"]
    work.claim("run 2", "ana-chat", "2026-11", ["2026-11-03"])
    work.finish("run 2", "ana-chat", "2026-11")
    assert work.dirty() == []


def test_runs_are_wanted_per_account_and_stretch_of_months() -> None:
    days = [
        DirtyDay("a", "2026-01-31", 1, "", ""),
        DirtyDay("a", "2026-02-01", 1, "", ""),
        DirtyDay("a", "2026-05-01", 1, "", ""),
        DirtyDay("b", "2026-02-01", 1, "", ""),
    ]
    wanted = [(run.account, run.first_month, run.last_month) for run in whole_runs(days)]
    assert wanted == [
        ("a", "2026-01", "2026-02"),
        ("a", "2026-05", "2026-05"),
        ("b", "2026-02", "2026-02"),
    ]


@pytest.mark.parametrize(
    ("months", "ranges"),
    [
        ([], []),
        (["2026-03"], [("2026-03", "2026-03")]),
        (["2025-12", "2026-01"], [("2025-12", "2026-01")]),
        (["2026-01", "2026-03", "2026-01"], [("2026-01", "2026-01"), ("2026-03", "2026-03")]),
    ],
)
def test_a_range_never_holds_a_month_without_data(
    months: list[str], ranges: list[tuple[str, str]]
) -> None:
    """Every month of a range would be marked materialised."""
    assert stretches(months) == ranges


def test_superseded_runs_go_and_no_partition_loses_its_status(
    stores: Stores, fill: Fill, instance: DagsterInstance, job: dg.JobDefinition
) -> None:
    """Deleting runs without looking turned 28 materialised partitions into 10."""
    fill(line(0, "2026-10-30T09:00:00Z", "ben", "who has the key?"), *TALK)
    runs.materialise_touched(stores, instance, job, _say)
    for number in range(2):
        runs.materialise_range(
            stores, instance, job, ["ana-chat"], "2026-11-01", "2026-11-30", _say
        )
        assert instance.get_runs_count() == 2 + number
    before = {asset: _materialised(instance, asset) for asset in CHAIN}
    keys = [key for check in CHECKS for key in check.check_keys]
    assert prune(instance, keys, datetime.now(UTC), Retention()).runs == 0
    gone = prune(instance, keys, datetime.now(UTC) + timedelta(days=2), Retention())
    assert (gone.runs, gone.condensed) == (1, 0)
    assert {asset: _materialised(instance, asset) for asset in CHAIN} == before
    newest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    with_a_job_of_their_own = {
        key
        for check in CHECKS
        for key in check.check_keys
        if check in CONNECTION_CHECKS
        or key.asset_key.path[0] in ("reply_memory", "label_models", "usage")
    }
    assert set(newest) == set(keys) - with_a_job_of_their_own


def test_failed_runs_are_kept_longer_than_superseded_ones() -> None:
    now = datetime(2026, 11, 20, tzinfo=UTC)
    finished = {name: now - timedelta(days=3) for name in ("old", "bad", "needed")}
    assert superseded(finished, ["bad"], ["needed"], now, Retention()) == ["old"]
    later = now + timedelta(days=15)
    assert superseded(finished, ["bad"], ["needed"], later, Retention()) == ["bad", "old"]


def test_a_digest_names_what_came_and_what_waits(
    stores: Stores, fill: Fill, instance: DagsterInstance, job: dg.JobDefinition
) -> None:
    today = datetime.now(UTC).date()  # of days long past there is no asset any more
    yesterday = f"{today - timedelta(days=1)}"
    fill(*({**one, "sent_at": f"{yesterday}{str(one['sent_at'])[10:]}"} for one in TALK))
    runs.materialise_touched(stores, instance, job, _say)
    digest = runs.digest_job(build_definitions({"stores": StoresResource(folder=str(home()))}))
    [run] = runs.digest_days(stores, instance, digest, "ana-chat", yesterday, f"{today}")
    assert run.materialisations == 2
    written = stores.lake.objects.get(f"digests/ana-chat/{yesterday}.md")[0].decode()
    assert "3 messages in 2 conversations" in written
    assert "Waits for you" in written
    assert "Nothing came." in stores.lake.objects.get(f"digests/ana-chat/{today}.md")[0].decode()


def test_of_days_without_a_partition_only_the_file_is_made(
    stores: Stores, instance: DagsterInstance
) -> None:
    digest = runs.digest_job(build_definitions({"stores": StoresResource(folder=str(home()))}))
    begins = date.fromisoformat(first_digest_day(datetime.now(UTC).date()))
    days = [f"{begins + timedelta(days=number)}" for number in (-2, -1, 0, 1)]
    [run] = runs.digest_days(stores, instance, digest, "ana-chat", days[0], days[3])
    assert (run.first, run.last, run.materialisations) == (days[2], days[3], 2)
    assert runs.digest_days(stores, instance, digest, "ana-chat", days[0], days[1]) == []
    assert _materialised(instance, "daily_digest") == {f"ana-chat|{day}" for day in days[2:]}
    listed = stores.lake.objects.list("digests/ana-chat/")
    assert [one.key for one in listed] == [f"digests/ana-chat/{day}.md" for day in days]


def test_schedules_ask_for_every_account(stores: Stores, instance: DagsterInstance) -> None:
    repository = build_definitions(
        {"stores": StoresResource(folder=str(home()))}
    ).get_repository_def()
    moment = datetime.now(UTC).replace(hour=5, minute=0, second=0, microsecond=0)
    runs.register_accounts(stores, instance)
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=moment,
        repository_def=repository,
        resources={"stores": StoresResource(folder=str(home()))},
    )
    schedule = repository.get_schedule_def("daily_digests")
    requests = schedule.evaluate_tick(context).run_requests or []
    day = f"{moment.date() - timedelta(days=1)}"
    yesterday = dg.MultiPartitionKey({"account": "ana-chat", "day": day})
    assert [request.partition_key for request in requests] == [yesterday]


def test_every_rule_is_a_check() -> None:
    """A rule that nobody runs protects nothing."""
    public = {
        name
        for module in (rules, memory_rules, label_rules)
        for name, value in vars(module).items()
        if callable(value)
        and getattr(value, "__module__", "") == module.__name__
        and not name.startswith("_")
    }
    in_the_database = 2  # accounts_can_be_pulled, a_day_costs_what_is_expected ask no lake
    assert len(public) + in_the_database == len(CHECKS)


def test_the_workspace_and_the_instance_files_are_what_dagster_takes(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    workspace = (root / "workspace.yaml").read_text()
    assert "location_name: communicator_pipeline" in workspace
    config = (root / "dagster.yaml").read_text()
    assert "enabled: false" in config


def test_a_run_whose_process_was_killed_is_reported_as_failed(
    stores: Stores, fill: Fill, instance: DagsterInstance, job: dg.JobDefinition
) -> None:
    """Killed in process, a run stays STARTED for ever and takes a place in the queue."""
    fill(*TALK)
    child = multiprocessing.get_context("spawn").Process(target=int)
    child.start()
    child.join()
    tags = {abandoned_runs.PROCESS_TAG: f"{socket.gethostname()}:{child.pid}"}
    alive = {abandoned_runs.PROCESS_TAG: f"{socket.gethostname()}:{os.getpid()}"}
    for each in (tags, alive, {}):
        run = instance.create_run_for_job(
            job,
            status=dg.DagsterRunStatus.STARTED,
            tags={**each, "dagster/partition": "ana-chat|2026-11"},
        )
        del run
    assert len(abandoned_runs.fail_abandoned_runs(instance)) == 1
    assert abandoned_runs.fail_abandoned_runs(instance) == []


def test_a_run_that_is_executed_again_is_not_taken_for_the_dead_one(
    stores: Stores, fill: Fill, instance: DagsterInstance, job: dg.JobDefinition
) -> None:
    """Dagster gives it the tags of the run before, the dead process among them."""
    fill(*TALK)
    dead = {abandoned_runs.PROCESS_TAG: f"{socket.gethostname()}:{os.getpid()}:1"}
    of_partition = {"dagster/partition": "ana-chat|2026-11"}
    parent = instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.FAILURE, tags=dead | of_partition
    )
    again = instance.create_run_for_job(
        job,
        status=dg.DagsterRunStatus.STARTED,
        tags=dead | of_partition,
        parent_run_id=parent.run_id,
        root_run_id=parent.run_id,
    )
    assert abandoned_runs.fail_abandoned_runs(instance) == []  # launched, and not claimed yet
    abandoned_runs.claim_run(instance, again)
    found = instance.get_run_by_id(again.run_id)
    assert found is not None
    assert found.tags[abandoned_runs.PROCESS_TAG] == abandoned_runs.this_process()
    assert abandoned_runs.fail_abandoned_runs(instance) == []
