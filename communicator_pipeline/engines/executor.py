"""Where a run's steps are executed, and which queue each of them waits in.

Belongs here: choosing Dagster's executor by configuration, and the queues. Does not belong here:
what a step does (`assets/`, `jobs.py`), what Celery's workers start (`celery_app.py`).

Runs that Dagster launches use this executor. What the resident worker and the command line execute
stays in their own process, whatever is chosen here. Neither Celery's nor Kubernetes' library is
imported unless it is chosen.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import dagster as dg
import yaml
from dagster._config import validate_config

EXECUTOR_VARIABLE = "COMMUNICATOR_EXECUTOR"
CONFIG_VARIABLE = "COMMUNICATOR_EXECUTOR_CONFIG"
NAMES = ("in_process", "celery", "k8s")

Queue = Literal["pull", "understand", "model", "deliver"]

QUEUE_TAG = "dagster-celery/queue"
"""dagster-celery reads it (`dagster_celery.tags`), which is not imported for it."""

QUEUES: Mapping[Queue, tuple[str, ...]] = MappingProxyType(
    {
        # Wait for platforms.
        "pull": ("raw_messages", "attachments", "pull_due_accounts"),
        # Wait for a processor.
        "understand": (
            "conversations",
            "inbox",
            "daily_digest",
            "deliveries",
            "usage",
            "feedback",
            "reply_memory",
            "label_models",
            "comparison",
            "checks",
            "collect_garbage",
            "prune_runs",
            "tidy_up",
        ),
        # Wait for a language model, if one is set.
        "model": ("analyses", "drafted_replies", "shadow_analyses", "shadow_drafts"),
        # Somebody waits for them: never behind a backlog.
        "deliver": ("send_due_replies", "tell_what_waits"),
    }
)
"""Queue → the assets and ops whose steps wait in it, by what they wait for; `checks` are all asset
checks. A queue has workers of its own, so that a platform that keeps us waiting stops nothing
else."""


class ExecutorMisconfigured(ValueError):
    """The executor cannot be what the environment says; the message says why and what to do."""


def on_queue(name: str) -> dict[str, str]:
    """The tags of the step of an asset or op, which say where it waits. Raises KeyError for one
    that `QUEUES` does not name."""
    for queue, names in QUEUES.items():
        if name in names:
            return {QUEUE_TAG: queue}
    raise KeyError(f"no queue is named for {name}: add it to QUEUES in engines/executor.py")


def executor(environment: Mapping[str, str] = os.environ) -> dg.ExecutorDefinition:
    """The executor that the environment names, with its settings. Raises
    `ExecutorMisconfigured`."""
    name = environment.get(EXECUTOR_VARIABLE) or "in_process"
    if name not in NAMES:
        raise ExecutorMisconfigured(
            f"{EXECUTOR_VARIABLE} is {name!r}: it can be {', '.join(NAMES[:-1])} or {NAMES[-1]}"
        )
    if name == "in_process":
        if environment.get(CONFIG_VARIABLE):
            raise ExecutorMisconfigured(
                f"{CONFIG_VARIABLE} is set, but the executor in_process has no settings: set "
                f"{EXECUTOR_VARIABLE} to celery or k8s as well, or unset it"
            )
        return dg.in_process_executor
    chosen = _imported(name)
    settings = executor_settings(environment)
    found = validate_config(chosen.config_schema.config_type, settings)
    if not found.success:
        # Reason and place only: the message itself may quote an address with its password.
        wrong = "; ".join(
            f"{'.'.join(error.stack.levels) or 'config'}: {error.reason.value}"
            for error in found.errors or ()
        )
        raise ExecutorMisconfigured(f"{_source(environment)} is not one of {name}'s: {wrong}")
    return chosen.configured(settings, name=name)


def executor_settings(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What stands under `execution: config:` in the YAML that the environment gives, or in the
    file that it names; nothing given: {}. `env:` entries are not resolved. Raises
    `ExecutorMisconfigured`."""
    given = environment.get(CONFIG_VARIABLE, "").strip()
    if not given:
        return {}
    source = _source(environment)
    if not _is_yaml(given):
        if "://" in given:  # an address, whose password must not be quoted
            raise ExecutorMisconfigured(
                f"{CONFIG_VARIABLE} is an address: give the path of a YAML file, or the YAML itself"
            )
        try:
            given = Path(given).read_text()
        except OSError as error:
            raise ExecutorMisconfigured(
                f"{source} cannot be read ({error.strerror}): give the path of a YAML file, or "
                "the YAML itself"
            ) from None
    try:
        read = yaml.safe_load(given)
    except yaml.YAMLError:  # it quotes what it could not read
        raise ExecutorMisconfigured(f"{source} is not YAML") from None
    nested = read.get("execution") if isinstance(read, dict) else None
    settings = nested.get("config") if isinstance(nested, dict) else None
    if (
        not isinstance(settings, dict)
        or not isinstance(nested, dict)
        or set(read) != {"execution"}
        or set(nested) != {"config"}
    ):
        raise ExecutorMisconfigured(
            f"{source}: all settings must stand under `execution:` and in it under `config:`, and "
            "nothing beside them, else they would be ignored without a word"
        )
    return settings


def _imported(name: str) -> dg.ExecutorDefinition:
    try:
        if name == "celery":
            from communicator_pipeline.engines.celery_runs import celery_runs

            return celery_runs
        from dagster_k8s import k8s_job_executor
    except ImportError as error:
        raise ExecutorMisconfigured(
            f"{EXECUTOR_VARIABLE} is {name}, but a package for it is missing ({error.name}): "
            "pip install 'communicator-pipeline[scaling]'"
        ) from error
    return k8s_job_executor


def _is_yaml(given: str) -> bool:
    """Whether it is the YAML itself: no path has a colon before a line's end or a space."""
    return "\n" in given or ": " in given or given.endswith(":")


def _source(environment: Mapping[str, str]) -> str:
    given = environment.get(CONFIG_VARIABLE, "").strip()
    return CONFIG_VARIABLE if _is_yaml(given) or not given else f"{CONFIG_VARIABLE} ({given})"


EXECUTOR = executor()
"""What the environment says, read once: when the definitions are loaded."""
