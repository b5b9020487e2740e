"""The Jobs that Dagster posts to Kubernetes with what `infra/kubernetes` says.

Helm is not needed, so what its templates make of the values is said here once more: the variables
of every pod (`SHARED`) and the code location's container context (`context_of`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest
import yaml
from dagster import DagsterInstance
from dagster._core.definitions.reconstruct import reconstructable
from dagster._core.execution.api import create_execution_plan
from dagster._core.execution.context.system import PlanData, PlanOrchestrationContext
from dagster._core.execution.context_creation_job import create_context_free_log_manager
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.init import InitExecutorContext
from dagster._core.executor.step_delegating import StepDelegatingExecutor, StepHandlerContext
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._grpc.types import ExecuteStepArgs

from communicator_pipeline.engines.executor import CONFIG_VARIABLE, executor, executor_settings
from communicator_pipeline.engines.kubernetes_runs import KubernetesRunLauncher
from communicator_pipeline.jobs import housekeeping, refresh
from communicator_pipeline.retention_settings import Retention
from communicator_pipeline_tests.infra.cluster import Cluster, cluster

KUBERNETES = Path(__file__).resolve().parents[2] / "infra" / "kubernetes"
VALUES: dict[str, Any] = yaml.safe_load((KUBERNETES / "values.yaml").read_text())
(DEPLOYMENT,) = VALUES["dagster-user-deployments"]["deployments"]
IMAGE = f"{DEPLOYMENT['image']['repository']}:{DEPLOYMENT['image']['tag']}"

SHARED = {  # chart, templates/helpers/_helpers.tpl: dagster.shared_env
    "DAGSTER_HOME": VALUES["global"]["dagsterHome"],
    "DAGSTER_K8S_PG_PASSWORD_SECRET": VALUES["global"]["postgresqlSecretName"],
    "DAGSTER_K8S_INSTANCE_CONFIG_MAP": "dagster-instance",
    "DAGSTER_K8S_PIPELINE_RUN_NAMESPACE": "communicator",
    "DAGSTER_K8S_PIPELINE_RUN_ENV_CONFIGMAP": "dagster-pipeline-env",
}


def context_of(deployment: dict[str, Any]) -> dict[str, Any]:
    """Chart, dagster-user-deployments/templates/helpers/_helpers.tpl: k8sContainerContext."""
    assert deployment["includeConfigInLaunchedRuns"]["enabled"] is True
    return {
        "k8s": {
            "image_pull_policy": deployment["image"]["pullPolicy"],
            "env_config_maps": [
                f"dagster-{deployment['name']}-user-env",
                *(one["name"] for one in deployment["envConfigMaps"]),
            ],
            "env_secrets": [one["name"] for one in deployment["envSecrets"]],
            "resources": deployment["resources"],
            "namespace": "communicator",
            "env": deployment["env"],
        }
    }


def executor_of(file: str) -> dict[str, str]:
    config = yaml.safe_load((KUBERNETES / file).read_text())
    assert config["kind"] == "ConfigMap"
    assert {"name": config["metadata"]["name"]} in DEPLOYMENT["envConfigMaps"]
    return cast(dict[str, str], config["data"])


PER_STEP = executor_of("executor-per-step.yaml")


@pytest.fixture(scope="module")
def api() -> Iterator[Cluster]:
    with cluster() as there:
        yield there


@pytest.fixture
def instance(
    api: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterInstance]:
    """With the values' launcher, in a process that has the chart's variables."""
    for name, value in SHARED.items():
        monkeypatch.setenv(name, value)
    launcher = VALUES["runLauncher"]["config"]["customRunLauncher"]
    here = {"load_incluster_config": False, "kubeconfig_file": str(api.kubeconfig(tmp_path))}
    assert launcher["config"]["load_incluster_config"] is True
    (tmp_path / "dagster.yaml").write_text(
        yaml.safe_dump(
            {
                "run_launcher": {**launcher, "config": {**launcher["config"], **here}},
                "telemetry": {"enabled": False},
            }
        )
    )
    with DagsterInstance.from_config(str(tmp_path)) as opened:
        yield opened


def code_origin() -> JobPythonOrigin:
    pointer = reconstructable(per_step_job).get_python_origin().repository_origin.code_pointer
    return JobPythonOrigin(
        refresh.name,
        RepositoryPythonOrigin(
            executable_path="python",
            code_pointer=pointer,
            container_image=IMAGE,
            entry_point=["dagster"],
            container_context=context_of(DEPLOYMENT),
        ),
    )


def queued_run(instance: DagsterInstance, job: dg.JobDefinition) -> dg.DagsterRun:
    location = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(module_name="communicator_pipeline.definitions"),
        location_name="communicator_pipeline",
    )
    return instance.create_run_for_job(
        job,
        job_code_origin=code_origin(),
        remote_job_origin=RemoteJobOrigin(
            RemoteRepositoryOrigin(location, "__repository__"), refresh.name
        ),
        tags={"communicator/account": "ana-chat"},
    )


def per_step_job() -> dg.JobDefinition:
    """The chain, as the code location has it with executor-per-step.yaml."""
    from communicator_pipeline.definitions import defs

    job = defs.resolve_job_def(refresh.name)
    return cast(dg.JobDefinition, job.with_executor_def(executor(PER_STEP)))


def job_of_run(instance: DagsterInstance, api: Cluster) -> dict[str, Any]:
    run = queued_run(instance, per_step_job())
    assert isinstance(instance.run_launcher, KubernetesRunLauncher)
    instance.run_launcher.launch_run(LaunchRunContext(run, None))
    return api.jobs[f"communicator/dagster-run-{run.run_id}"]


@contextmanager
def handled(instance: DagsterInstance, run: dg.DagsterRun, step: str) -> Iterator[Any]:
    """The step handler of the run's executor, and what it is told of one step."""
    job = reconstructable(per_step_job)
    definition = job.get_definition()
    chosen = executor(PER_STEP)
    made = chosen.executor_creation_fn
    assert made is not None
    built = made(
        InitExecutorContext(
            job=job,
            executor_def=chosen,
            executor_config=_processed(chosen),
            instance=instance,
        )
    )
    assert isinstance(built, StepDelegatingExecutor)
    assert built._max_concurrent == 1
    plan = create_execution_plan(definition, step_keys_to_execute=[step])
    context = PlanOrchestrationContext(
        plan_data=PlanData(
            job=job,
            dagster_run=run,
            instance=instance,
            execution_plan=plan,
            raise_on_error=True,
            retry_mode=RetryMode.DISABLED,
        ),
        log_manager=create_context_free_log_manager(instance, run),
        executor=built,
        output_capture=None,
    )
    yield (
        built._step_handler,
        StepHandlerContext(
            instance=instance,
            plan_context=context,
            steps=[plan.get_step_by_key(step)],
            execute_step_args=ExecuteStepArgs(
                code_origin(), run.run_id, [step], print_serialized_events=False
            ),
        ),
    )


def _processed(chosen: dg.ExecutorDefinition) -> dict[str, Any]:
    from dagster._config import process_config

    found = process_config(chosen.config_schema.config_type, {})
    assert found.success, found.errors
    value = chosen.apply_config_mapping({"config": found.value})
    assert value.success
    return cast(dict[str, Any], value.value["config"])


def job_of_step(instance: DagsterInstance, api: Cluster, step: str) -> dict[str, Any]:
    run = queued_run(instance, per_step_job())
    before = set(api.jobs)
    with handled(instance, run, step) as (handler, context):
        list(handler.launch_step(context))
    (name,) = set(api.jobs) - before
    assert name.startswith("communicator/dagster-step-")
    return api.jobs[name]


def container(job: dict[str, Any]) -> dict[str, Any]:
    (only,) = job["spec"]["template"]["spec"]["containers"]
    return cast(dict[str, Any], only)


def sources(job: dict[str, Any], kind: str) -> set[str]:
    return {one[kind]["name"] for one in container(job)["envFrom"] if kind in one}


def is_confined_and_configured(job: dict[str, Any]) -> None:
    """What holds for every pod, whatever it executes."""
    pod, only = job["spec"]["template"]["spec"], container(job)
    assert only["image"] == IMAGE
    assert only["imagePullPolicy"] == "Always"
    assert pod["serviceAccountName"] == VALUES["serviceAccount"]["name"]
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert sources(job, "secretRef") == {"communicator"}
    assert sources(job, "configMapRef") == {
        "dagster-pipeline-env",
        "dagster-communicator-user-env",
        "communicator-executor",
    }
    given = {one["name"]: one for one in only["env"]}
    assert given["DAGSTER_HOME"]["value"] == "/opt/dagster/dagster_home"
    assert given["COMMUNICATOR_HOME"]["value"] == "/tmp/home"
    assert "COMMUNICATOR_CLOUDFLARE_CALLS" in given
    password = given["DAGSTER_PG_PASSWORD"]["valueFrom"]["secretKeyRef"]
    assert password == {"name": "dagster-postgresql-secret", "key": "postgresql-password"}
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/part-of"] == "communicator"
    assert labels["dagster/job"] == refresh.name
    assert pod["restartPolicy"] == "Never"
    assert job["spec"]["backoffLimit"] == 0  # what is repeated, Dagster and the outbox say


def test_the_job_of_a_run(instance: DagsterInstance, api: Cluster) -> None:
    job = job_of_run(instance, api)
    is_confined_and_configured(job)
    assert job["spec"]["ttlSecondsAfterFinished"] == 3600
    assert container(job)["args"][:3] == ["dagster", "api", "execute_run"]
    # The pod opens the instance that it is told of, with names of variables instead of values.
    assert "KubernetesRunLauncher" in container(job)["args"][3]
    assert "DAGSTER_K8S_PG_PASSWORD_SECRET" in container(job)["args"][3]
    assert container(job)["resources"] == DEPLOYMENT["resources"]


@pytest.mark.parametrize(
    "asset",
    ["raw_messages", "attachments", "conversations", "analyses", "drafted_replies", "inbox"],
)
def test_the_job_of_a_step_has_what_its_asset_needs(
    instance: DagsterInstance, api: Cluster, asset: str
) -> None:
    job = job_of_step(instance, api, asset)
    is_confined_and_configured(job)
    per_step = executor_settings(PER_STEP)["per_step_k8s_config"]
    wanted = per_step[asset]["container_config"]["resources"]
    assert container(job)["resources"] == wanted
    assert {"cpu", "memory"} == set(wanted["requests"])
    assert job["spec"]["ttlSecondsAfterFinished"] == 600
    assert job["spec"]["activeDeadlineSeconds"] == 7200
    assert container(job)["args"][:3] == ["dagster", "api", "execute_step"]


def test_every_step_named_there_is_one_of_the_chain_or_of_the_night() -> None:
    nightly = {step.key for step in create_execution_plan(housekeeping).steps}
    steps = {step.key for step in create_execution_plan(per_step_job()).steps} | nightly
    named = executor_settings(PER_STEP)["per_step_k8s_config"]
    assert nightly <= set(named) <= steps


def test_no_limit_ends_a_night_before_its_own_end() -> None:
    [most] = [m.le for m in Retention.model_fields["minutes_a_night"].metadata if hasattr(m, "le")]
    assert int(housekeeping.tags[MAX_RUNTIME_SECONDS_TAG]) > most * 60
    named = executor_settings(PER_STEP)["per_step_k8s_config"]
    for step in create_execution_plan(housekeeping).steps:
        assert named[step.key]["job_spec_config"]["active_deadline_seconds"] > most * 60


def test_by_default_a_run_is_one_pod() -> None:
    data = executor_of("executor.yaml")
    assert CONFIG_VARIABLE not in data
    assert executor(data) is dg.in_process_executor


def test_no_secret_is_in_a_job(
    instance: DagsterInstance, api: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "s3cret of Postgres")
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "s3cret of Cloudflare")
    assert "s3cret" not in str(job_of_run(instance, api))
    assert "s3cret" not in str(job_of_step(instance, api, "inbox"))


def test_web_ui_and_daemon_load_the_launcher_from_our_image() -> None:
    for part in ("dagsterWebserver", "dagsterDaemon"):
        assert VALUES[part]["image"] == DEPLOYMENT["image"]
        assert {"name": "communicator"} in VALUES[part]["envSecrets"]
