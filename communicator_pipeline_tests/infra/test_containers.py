"""What containers, manifests and workflows say, without an engine, a cluster or GitHub."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from communicator_pipeline.wanted_runs import ACCOUNT_TAG, LANE_TAG, TENANT_TAG

CLONE = Path(__file__).resolve().parents[2]
DOCKER = CLONE / "infra" / "docker"
KUBERNETES = CLONE / "infra" / "kubernetes"
WORKFLOWS = CLONE / ".github" / "workflows"

COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
CELERY: dict[str, Any] = yaml.safe_load((DOCKER / "compose.celery.yaml").read_text())
AT_CLOUDFLARE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.cloudflare.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if name != "postgres"}
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
VALUES: dict[str, Any] = yaml.safe_load((KUBERNETES / "values.yaml").read_text())
PRODUCTION: dict[str, Any] = yaml.safe_load((DOCKER / "dagster.yaml").read_text())
EMBEDDED: dict[str, Any] = yaml.safe_load((CLONE / "dagster.yaml").read_text())
SCRIPTS = Path(shutil.which("communicator") or CLONE / ".venv/bin/communicator").parent


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((KUBERNETES / name).read_text()))


def test_the_services_are_these() -> None:
    assert set(SERVICES) == {
        "postgres",
        "prepare",
        "code-location",
        "daemon",
        "webserver",
        "worker",
        "gateway",
    }


def test_only_dagster_and_the_gateway_are_published_and_on_loopback_unless_told_otherwise() -> None:
    published = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert published == {
        "webserver": ["127.0.0.1:${DAGSTER_PORT:-3000}:3000"],
        "gateway": ["${COMMUNICATOR_LISTEN:-127.0.0.1}:${GATEWAY_PORT:-8700}:8700"],
    }
    assert not any(one.get("network_mode") for one in SERVICES.values())
    assert not any("ports" in one for one in AT_CLOUDFLARE["services"].values())


def test_postgres_is_reached_from_inside_only() -> None:
    assert SERVICES["postgres"]["networks"] == ["storage"]
    assert COMPOSE["networks"]["storage"]["internal"] is True


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"prepare"}))
def test_every_service_is_watched_and_started_again(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["healthcheck"]["retries"] >= 2


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_service_may_change_its_root_or_gain_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")
    if name != "postgres":  # its start changes owners, then steps down
        assert service["cap_drop"] == ["ALL"]
    assert "docker.sock" not in str(service)


def test_nothing_starts_before_what_it_stands_on() -> None:
    for name in set(OURS) - {"prepare"}:
        needs = OURS[name]["depends_on"]
        assert needs["postgres"]["condition"] == "service_healthy"
        assert needs["prepare"]["condition"] == "service_completed_successfully"
    assert SERVICES["prepare"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in ("daemon", "webserver"):
        assert OURS[name]["depends_on"]["code-location"]["condition"] == "service_healthy"


def test_those_that_keep_runs_have_the_same_name_after_every_start() -> None:
    for name in ("worker", "code-location", "daemon"):
        assert SERVICES[name]["hostname"] == name


def test_all_are_one_image_with_one_volume() -> None:
    assert {one["image"] for one in OURS.values()} == {"${COMMUNICATOR_IMAGE:-communicator:latest}"}
    for one in OURS.values():
        assert one["volumes"] == ["data:/data"]
    home = re.search(r"COMMUNICATOR_HOME=(\S+)", DOCKERFILE)
    assert home
    assert Path(home[1]).parent == Path("/data")  # not the volume itself: a restore renames it


def test_every_command_exists() -> None:
    for name, one in OURS.items():
        command = one["command"]
        if command[0] == "python":
            assert (DOCKER / Path(command[1]).name).is_file(), name
            continue
        words = command if command[0] == "communicator" else command[:1]
        words = [word for word in words[:3] if not word.startswith("-")]
        helped = subprocess.run(
            [SCRIPTS / words[0], *words[1:], "--help"], capture_output=True, text=True, timeout=60
        )
        assert helped.returncode == 0, helped.stderr
        for option in (word for word in command if word.startswith("--")):
            if command[0] == "dagster" or command[0] == "dagster-daemon":
                continue  # their subcommands': test_on_postgres.py runs them
            assert option in helped.stdout, (name, option)


def test_there_is_no_secret_in_any_file() -> None:
    for name, one in SERVICES.items():
        for variable, value in one.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|SECRET|KEY", variable):
                assert value.startswith("${"), (name, variable)
    assert "POSTGRES_PASSWORD:?" in (DOCKER / "compose.yaml").read_text()
    assert not re.search(r"^(ARG|ENV).*(PASSWORD|TOKEN|SECRET|KEYS)", DOCKERFILE, re.M)


def test_at_cloudflare_only_those_that_need_them_get_its_secrets() -> None:
    given = {name for name, one in AT_CLOUDFLARE["services"].items() if "env_file" in one}
    # Web UI and daemon ask the data which workers live.
    assert given == {"prepare", "code-location", "worker", "gateway", "webserver", "daemon"}
    assert "outside" in AT_CLOUDFLARE["services"]["daemon"]["networks"]
    tunnel = AT_CLOUDFLARE["services"]["tunnel"]
    assert list(tunnel["environment"]) == ["TUNNEL_TOKEN"]
    assert tunnel["profiles"] == ["tunnel"]
    assert tunnel["networks"] == ["outside"]


def test_history_goes_to_celery_because_the_worker_leaves_it() -> None:
    assert CELERY["services"]["worker"]["environment"]["COMMUNICATOR_BACKLOG"] == "dagster"
    assert CELERY["services"]["code-location"]["environment"]["COMMUNICATOR_EXECUTOR"] == "celery"


def test_the_image_runs_as_nobody_special_and_is_made_from_the_lock() -> None:
    last = DOCKERFILE.split("FROM ")[-1]
    assert re.search(r"^USER 10001:10001$", last, re.M)
    assert last.index("USER ") < last.index("ENTRYPOINT")
    assert 'ENTRYPOINT ["tini", "--"]' in last
    assert "HEALTHCHECK" in last
    assert DOCKERFILE.count("FROM python:3.11-slim-bookworm") == DOCKERFILE.count("FROM ")
    assert "--require-hashes" in DOCKERFILE
    assert "--no-build-isolation" in DOCKERFILE  # else pip fetches a builder that no lock names


def test_whatever_the_image_copies_is_there_and_not_ignored() -> None:
    allowed = {
        line[1:]
        for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert "*" in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.M)
        for word in line.split()[:-1]
    }
    assert copied == allowed
    for path in copied:
        assert (CLONE / path).exists(), path


def test_the_image_holds_the_versions_that_are_tested() -> None:
    def versions(lock: Path) -> dict[str, str]:
        return dict(re.findall(r"^([\w.-]+(?:\[\w+\])?)==([\w.+-]+)", lock.read_text(), re.M))

    image, tested = versions(DOCKER / "requirements.lock"), versions(CLONE / "requirements.lock")
    differing = {name for name in image.keys() & tested.keys() if image[name] != tested[name]}
    assert not differing
    assert set(image) - set(tested) <= {"dagster-postgres", "psycopg2-binary"}
    project = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
    for needed in project["dependencies"]:
        name = re.split(r"[\[<>=;, ]", needed)[0].lower()
        assert name in image, f"make -C infra/docker lock: {name} is not in the image's lock"


def test_production_differs_from_one_machine_only_where_it_must() -> None:
    for key in ("telemetry", "compute_logs", "run_coordinator", "run_launcher", "run_monitoring"):
        assert PRODUCTION[key] == EMBEDDED[key], key
    assert PRODUCTION["retention"] == EMBEDDED["retention"]
    assert set(EMBEDDED) - set(PRODUCTION) == {
        "run_storage",
        "event_log_storage",
        "schedule_storage",
    }
    database = PRODUCTION["storage"]["custom"]["config"]["postgres_db"]
    assert database["scheme"] == "postgresql+psycopg2"
    assert database["password"] == {"env": "DAGSTER_POSTGRES_PASSWORD"}
    for value in database.values():
        if isinstance(value, dict):
            assert value["env"] in SERVICES["daemon"]["environment"]


@pytest.mark.parametrize("runs", [EMBEDDED, PRODUCTION], ids=["one machine", "containers"])
def test_no_account_tenant_or_backlog_takes_all_places(runs: dict[str, Any]) -> None:
    """The chart says the same as the containers' file; see below."""
    places = runs["concurrency"]["runs"]["max_concurrent_runs"]
    each = {"applyLimitPerUniqueValue": True}
    assert runs["concurrency"]["runs"]["tag_concurrency_limits"] == [
        {"key": ACCOUNT_TAG, "limit": 1, "value": each},
        {"key": TENANT_TAG, "limit": max(1, places // 2), "value": each},
        {"key": LANE_TAG, "limit": places - 1, "value": "backlog"},
    ]
    # Pools make a run wait inside its process, which the resident worker must never do.
    assert "pools" not in runs["concurrency"]


def test_the_chart_says_what_dagster_yaml_says() -> None:
    daemon = VALUES["dagsterDaemon"]
    runs = PRODUCTION["concurrency"]["runs"]
    queue = daemon["runCoordinator"]["config"]["queuedRunCoordinator"]
    assert queue["maxConcurrentRuns"] == runs["max_concurrent_runs"]
    assert queue["tagConcurrencyLimits"] == runs["tag_concurrency_limits"]
    monitoring = PRODUCTION["run_monitoring"]
    assert daemon["runMonitoring"]["enabled"] is True
    assert daemon["runMonitoring"]["maxRuntimeSeconds"] == monitoring["max_runtime_seconds"]
    assert VALUES["telemetry"]["enabled"] is False
    assert VALUES["computeLogManager"]["type"] == "NoOpComputeLogManager"
    assert VALUES["runLauncher"]["type"] == "CustomRunLauncher"
    assert VALUES["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"
    assert daemon["runRetries"]["enabled"] is False  # only the outbox sends again
    retention = PRODUCTION["retention"]
    assert (
        VALUES["retention"]["sensor"]["purgeAfterDays"] == retention["sensor"]["purge_after_days"]
    )


def test_the_chart_has_our_code_and_no_open_door() -> None:
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    assert deployment["codeServerArgs"] == ["--module-name", "communicator_pipeline.definitions"]
    assert deployment["includeConfigInLaunchedRuns"]["enabled"] is True
    assert {"name": "communicator"} in deployment["envSecrets"]
    assert VALUES["ingress"]["enabled"] is False
    assert VALUES["dagsterWebserver"]["service"]["type"] == "ClusterIP"
    for part in (deployment, VALUES["dagsterWebserver"], VALUES["dagsterDaemon"]):
        assert part["podSecurityContext"]["runAsNonRoot"] is True
        assert part["securityContext"]["capabilities"]["drop"] == ["ALL"]
    locked = re.search(r"^dagster==(\S+)", (CLONE / "requirements.lock").read_text(), re.M)
    assert locked
    assert f"--version {locked[1]} " in (KUBERNETES / "values.yaml").read_text()


@pytest.mark.parametrize("name", ["worker", "gateway"])
def test_worker_and_gateway_are_confined_and_watched(name: str) -> None:
    deployment = manifests(f"{name}.yaml")[0]
    assert (deployment["apiVersion"], deployment["kind"]) == ("apps/v1", "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    assert container["args"] == SERVICES[name]["command"]
    assert container["envFrom"] == [{"secretRef": {"name": "communicator"}}]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert {"startupProbe", "livenessProbe"} <= set(container)
    assert "memory" in container["resources"]["limits"]
    given = {one["name"] for one in container["env"]}
    for value in PRODUCTION["storage"]["custom"]["config"]["postgres_db"].values():
        if isinstance(value, dict):
            assert value["env"] in given
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in spec["volumes"]}


def test_the_gateway_has_a_service_that_finds_it() -> None:
    deployment, service = manifests("gateway.yaml")
    assert service["kind"] == "Service"
    assert service["spec"]["type"] == "ClusterIP"
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {one["name"] for one in container["ports"]}
    assert {one["targetPort"] for one in service["spec"]["ports"]} == ports


def test_all_pods_together_stay_below_cloudflares_calls() -> None:
    def calls(variables: list[dict[str, Any]]) -> int:
        (found,) = [one for one in variables if one["name"] == "COMMUNICATOR_CLOUDFLARE_CALLS"]
        return int(found["value"])

    pods = [
        manifests(f"{name}.yaml")[0]["spec"]["template"]["spec"]["containers"][0]["env"]
        for name in ("worker", "gateway")
    ]
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    queue = VALUES["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    together = sum(map(calls, pods)) + calls(code["env"]) * (1 + queue["maxConcurrentRuns"])
    together += calls(VALUES["dagsterWebserver"]["env"]) + calls(VALUES["dagsterDaemon"]["env"])
    assert together <= 1200


def workflow(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((WORKFLOWS / name).read_text())
    return read


@pytest.mark.parametrize("name", ["ci.yml", "deploy.yml"])
def test_workflows_have_the_least_rights_and_pinned_actions(name: str) -> None:
    written = workflow(name)
    assert written["permissions"] in ({}, {"contents": "read"})
    for job in written["jobs"].values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w./-]+@v\d+(\.\d+)*", step["uses"]), step["uses"]
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False
            assert "${{" not in step.get("run", ""), "what others name must not become a command"
    text = (WORKFLOWS / name).read_text()
    assert "pull_request_target" not in text


def test_a_deployment_is_reviewed_alone_and_in_order() -> None:
    jobs = workflow("deploy.yml")["jobs"]
    deploy = jobs["deploy"]
    assert deploy["environment"] == "${{ needs.stack.outputs.name }}"
    assert deploy["concurrency"] == {
        "group": "deploy-${{ needs.stack.outputs.name }}",
        "cancel-in-progress": False,
    }
    assert {"test", "image"} <= set(deploy["needs"])
    assert jobs["test"]["if"].startswith("github.event_name == 'push'")
    ran = [step["run"] for step in deploy["steps"] if "run" in step]
    targets = [re.search(r"infra/cloudflare (\w+)", command) for command in ran]
    assert [found[1] for found in targets if found] == ["databases", "migrate", "deploy", "check"]
    makefile = (CLONE / "infra/cloudflare/Makefile").read_text()
    for found in targets:
        assert found
        assert re.search(rf"^{found[1]}:", makefile, re.M)


def test_each_branch_has_its_stack() -> None:
    (step,) = workflow("deploy.yml")["jobs"]["stack"]["steps"]
    for branch, stack in (("develop", "dev"), ("staging", "staging"), ("main", "prod")):
        assert f"{branch}) name={stack} ;;" in step["run"]
        assert (CLONE / "infra/cloudflare" / f"Pulumi.{stack}.yaml").is_file()


def test_a_fork_is_given_no_secret() -> None:
    preview = workflow("deploy.yml")["jobs"]["preview"]
    assert "head.repo.full_name == github.repository" in preview["if"]
    for name, job in workflow("ci.yml")["jobs"].items():
        assert "secrets." not in str(job), name


def test_pulumis_command_and_sdk_are_of_one_version() -> None:
    lock = (CLONE / "infra/cloudflare/requirements.lock").read_text()
    locked = re.search(r"^pulumi==(\S+)", lock, re.M)
    assert locked
    assert workflow("deploy.yml")["env"]["PULUMI_CLI"] == locked[1]
