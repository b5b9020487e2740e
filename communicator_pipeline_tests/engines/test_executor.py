"""Choosing an executor by configuration, and the queue of every step."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from communicator_pipeline.definitions import defs
from communicator_pipeline.engines.executor import (
    CONFIG_VARIABLE,
    EXECUTOR_VARIABLE,
    QUEUE_TAG,
    QUEUES,
    ExecutorMisconfigured,
    executor,
    executor_settings,
    on_queue,
)

CLONE = Path(__file__).resolve().parents[2]
EXECUTOR_YAML = CLONE / "infra" / "celery" / "executor.yaml"
COMPOSE = CLONE / "infra" / "docker" / "compose.celery.yaml"
SECRET = "redis://:s3cret-of-the-test@broker:6379/0"


def refused(**environment: str) -> str:
    with pytest.raises(ExecutorMisconfigured) as found:
        executor(environment)
    assert "s3cret" not in str(found.value)
    assert found.value.__cause__ is None or "s3cret" not in str(found.value.__cause__)
    return str(found.value)


def celery(config: str) -> dict[str, str]:
    return {EXECUTOR_VARIABLE: "celery", CONFIG_VARIABLE: config}


# --- which executor


def test_without_a_word_all_is_in_one_process() -> None:
    assert executor({}) is dg.in_process_executor
    assert executor({EXECUTOR_VARIABLE: "in_process"}) is dg.in_process_executor


@pytest.mark.parametrize("config", [str(EXECUTOR_YAML), EXECUTOR_YAML.read_text()])
def test_celery_with_the_file_or_its_text(config: str) -> None:
    chosen = executor(celery(config))
    assert chosen.name == "celery"
    assert executor_settings(celery(config))["config_source"]["task_acks_late"] is True


def test_kubernetes_with_settings() -> None:
    config = "execution: {config: {job_namespace: chats, max_concurrent: 4}}"
    chosen = executor({EXECUTOR_VARIABLE: "k8s", CONFIG_VARIABLE: config})
    assert chosen.name == "k8s"


def test_an_unknown_name_is_refused() -> None:
    words = refused(**{EXECUTOR_VARIABLE: "celeri"})
    assert "'celeri'" in words
    assert "in_process, celery or k8s" in words


@pytest.mark.parametrize(
    "config",
    [
        f"broker: {SECRET}",
        f"execution: {{broker: '{SECRET}'}}",
        f"execution: {{celery: {{broker: '{SECRET}'}}}}",
        f"config: {{broker: '{SECRET}'}}",
        f"execution: {{config: {{}}, broker: '{SECRET}'}}",
        f"execution: {{config: {{}}}}\nbroker: '{SECRET}'",
        "execution:",
        "- one\n- two",
    ],
)
def test_settings_that_would_be_ignored_are_refused(config: str) -> None:
    assert "`execution:`" in refused(**celery(config))


def test_settings_that_the_executor_does_not_know_are_refused_without_quoting_them() -> None:
    words = refused(**celery(f"execution: {{config: {{brokr: '{SECRET}'}}}}"))
    assert "celery" in words
    assert "config" in words


def test_a_setting_of_the_wrong_kind_is_named_and_not_quoted() -> None:
    words = refused(**celery(f"execution: {{config: {{broker: ['{SECRET}']}}}}"))
    assert "broker" in words


def test_text_that_is_not_yaml_is_not_quoted() -> None:
    assert "not YAML" in refused(**celery(f"execution: {{config: '{SECRET}\n"))


def test_an_address_in_place_of_a_file_is_not_quoted() -> None:
    assert "is an address" in refused(**celery(SECRET))
    assert "is an address" in refused(**celery(f"- {SECRET}\n"))


def test_a_file_that_is_not_there_is_named() -> None:
    assert "/nowhere/executor.yaml" in refused(**celery("/nowhere/executor.yaml"))


def test_settings_without_an_executor_are_refused() -> None:
    assert EXECUTOR_VARIABLE in refused(**{CONFIG_VARIABLE: str(EXECUTOR_YAML)})


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [
        name for name in sys.modules if name.startswith("communicator_pipeline.engines.celery")
    ]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "celery", None)
    assert "communicator-pipeline[scaling]" in refused(**celery(str(EXECUTOR_YAML)))


def test_nothing_of_celery_and_kubernetes_is_imported_unless_chosen() -> None:
    code = (
        "import sys, communicator_pipeline.definitions\n"
        "print([m for m in ('celery', 'kubernetes', 'redis') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CLONE
    )
    assert done.stdout.strip() == "[]"


def test_every_job_uses_the_executor_that_was_chosen() -> None:
    code = (
        "from communicator_pipeline.definitions import defs\n"
        "jobs = defs.get_repository_def().get_all_jobs()\n"
        "assert len(jobs) > 10\n"
        "print({job.executor_def.name for job in jobs})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=CLONE,
        env={"PATH": "/usr/bin:/bin", **celery(str(EXECUTOR_YAML))},
    )
    assert done.stdout.strip() == "{'celery'}"


# --- queues


def steps() -> Iterator[tuple[str, dict[str, str]]]:
    """Every step that Dagster can launch, and its tags."""
    for job in defs.get_repository_def().get_all_jobs():
        for node in job.all_node_defs:
            yield node.name, dict(node.tags)


def test_every_step_has_a_queue() -> None:
    without = {name for name, tags in steps() if tags.get(QUEUE_TAG) not in QUEUES}
    assert not without


def test_no_queue_names_what_is_not_there() -> None:
    named = {name for names in QUEUES.values() for name in names}
    assert named - {"checks"} <= {name for name, _ in steps()}
    assert len(named) == sum(map(len, QUEUES.values())), "something is in two queues"


def test_a_step_without_a_queue_is_refused() -> None:
    with pytest.raises(KeyError, match="add it to QUEUES"):
        on_queue("something_new")


def test_every_queue_has_a_worker_among_the_containers() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    served = {
        queue
        for service in services.values()
        if "celery" in (command := service.get("command", []))
        for queue in command[command.index("-Q") + 1].split(",")
    }
    assert served == set(QUEUES)


def test_the_containers_of_celery_are_as_tight_as_the_others() -> None:
    ours = yaml.safe_load(COMPOSE.read_text())["x-celery"]
    others = yaml.safe_load((COMPOSE.parent / "compose.yaml").read_text())["x-communicator"]
    for what in ("image", "read_only", "tmpfs", "cap_drop", "security_opt", "volumes"):
        assert ours[what] == others[what], what
    assert others["environment"].items() <= ours["environment"].items()
