"""The image's environment and Dagster's configuration in it, on a real Postgres.

No container engine is needed: the environment is made from the image's lock, the processes are
started by the containers' own commands, and Postgres is the distribution's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from communicator_pipeline_tests.infra.postgres import (
    Postgres,
    free_port,
    needs_postgres,
    postgres,
    until,
)

__all__ = ["postgres"]

CLONE = Path(__file__).resolve().parents[2]
DOCKER = CLONE / "infra" / "docker"
BIN = DOCKER / ".venv" / "bin"

pytestmark = [
    *needs_postgres,
    pytest.mark.skipif(not BIN.exists(), reason="run `make -C infra/docker` first"),
]

CHAT = [
    {"communicator_jsonl": 1, "me": "u-ana"},
    {
        "id": "1001",
        "channel": "support",
        "sent_at": "2026-11-03T09:12:44Z",
        "author": "u-joe",
        "author_name": "Joe Li",
        "text": "Ana, can you send me the invoice today?",
    },
]


@pytest.fixture(scope="module")
def environment(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """As in the containers, with this Postgres. Dagster's home holds what the image puts there."""
    home = tmp_path_factory.mktemp("dagster")
    written = (DOCKER / "dagster.yaml").read_text()
    assert "port: 5432" in written
    (home / "dagster.yaml").write_text(
        written.replace("port: 5432", f"port: {postgres.port}").replace(
            "/tmp/dagster", str(tmp_path_factory.mktemp("artifacts"))
        )
    )
    return {
        "PATH": f"{BIN}:/usr/bin:/bin",
        "HOME": str(tmp_path_factory.mktemp("nothing")),
        "DAGSTER_HOME": str(home),
        "COMMUNICATOR_HOME": str(tmp_path_factory.mktemp("volume") / "home"),
        **postgres.variables(),
    }


def run(
    environment: dict[str, str], *command: str | Path, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, timeout=seconds
    )


def worked(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_preparing_makes_both_storages_and_may_be_repeated(environment: dict[str, str]) -> None:
    for _ in range(2):
        worked(run(environment, "python", DOCKER / "prepare.py"))
    assert (Path(environment["COMMUNICATOR_HOME"]) / "communicator.db").exists()


def test_a_message_goes_through_the_chain_and_its_run_is_in_postgres(
    environment: dict[str, str], tmp_path: Path
) -> None:
    chat = tmp_path / "chat.jsonl"
    chat.write_text("\n".join(map(json.dumps, CHAT)))
    worked(run(environment, "communicator", "import", chat, "--user", "ana"))
    worked(run(environment, "communicator", "materialize", "--user", "ana"))
    inbox = worked(run(environment, "communicator", "inbox", "--user", "ana", "--json"))
    assert "invoice" in inbox
    seen = worked(
        run(
            environment,
            "python",
            "-c",
            "from dagster import DagsterInstance as I, AssetKey as K\n"
            "with I.get() as i:\n"
            " print(type(i.event_log_storage).__name__, type(i.run_storage).__name__)\n"
            " print(sorted({r.status.value for r in i.get_runs()}))\n"
            " print(i.get_materialized_partitions(K('inbox')))\n"
            " print(i.get_concurrency_config().run_queue_config)\n",
        )
    ).splitlines()
    assert seen[0] == "PostgresEvents PostgresRuns"
    assert seen[1] == "['SUCCESS']"
    assert "|2026-11" in seen[2]
    assert "communicator/account" in seen[3]


def test_code_location_daemon_and_web_ui_start_by_their_commands_and_are_healthy(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """And a run that is queued there is launched in the code location and succeeds."""
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    grpc, http = free_port(), free_port()
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text(
        (DOCKER / "workspace.yaml")
        .read_text()
        .replace("host: code-location", "host: 127.0.0.1")
        .replace("4000", str(grpc))
    )

    def here(words: list[str]) -> list[str]:
        replaced = {
            "0.0.0.0": "127.0.0.1",
            "4000": str(grpc),
            "3000": str(http),
            "/opt/dagster/workspace.yaml": str(workspace),
            "/opt/communicator/healthy.py": str(DOCKER / "healthy.py"),
            "http://127.0.0.1:3000/server_info": f"http://127.0.0.1:{http}/server_info",
        }
        return [replaced.get(word, word) for word in words]

    def check(service: str) -> subprocess.CompletedProcess[str]:
        return run(environment, *here(services[service]["healthcheck"]["test"][1:]))

    worked(run(environment, "python", DOCKER / "prepare.py"))
    started: list[subprocess.Popen[bytes]] = []
    try:
        for service in ("code-location", "daemon", "webserver"):
            assert check(service).returncode != 0, f"{service} is said to live before it does"
            started.append(
                subprocess.Popen(
                    here(services[service]["command"]),
                    executable=shutil.which(services[service]["command"][0], path=str(BIN)),
                    env=environment,
                    cwd=tmp_path,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            until(lambda service=service: check(service).returncode == 0, 120)
        worked(
            run(
                environment,
                *("dagster", "job", "launch", "--workspace", str(workspace)),
                *("--location", "communicator_pipeline", "--job", "housekeeping"),
            )
        )
        code = (
            "from dagster import DagsterInstance as I, RunsFilter as F\n"
            "with I.get() as i: runs = i.get_runs(F(job_name='housekeeping'))\n"
            "raise SystemExit({run.status.value for run in runs} != {'SUCCESS'})"
        )
        until(lambda: run(environment, "python", "-c", code).returncode == 0, 120)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)


def test_the_worker_is_healthy_while_it_lives(environment: dict[str, str]) -> None:
    check = ("python", DOCKER / "healthy.py", "worker")
    dead = run(environment, *check)
    assert dead.returncode == 1
    assert "no sign of life" in dead.stderr
    worker = subprocess.Popen(
        ["communicator", "worker"],
        executable=BIN / "communicator",
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: run(environment, *check).returncode == 0)
    finally:
        worker.terminate()
        worker.wait(60)
    until(lambda: run(environment, *check).returncode == 1)


def test_dagster_writes_only_where_the_containers_let_it(environment: dict[str, str]) -> None:
    """Their root is read-only."""
    home = Path(environment["DAGSTER_HOME"])
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    writable = {
        mount.partition(":")[0].rpartition("/")[2] for mount in compose["x-communicator"]["tmpfs"]
    }
    assert {path.name for path in home.iterdir()} <= {"dagster.yaml", *writable}


def test_the_lock_of_the_image_holds_no_tool_of_the_tests() -> None:
    installed = worked(run({"PATH": "/usr/bin"}, BIN / "python", "-m", "pip", "list"))
    for tool in ("pytest", "mypy", "moto", "hypothesis"):
        assert f"\n{tool} " not in installed
