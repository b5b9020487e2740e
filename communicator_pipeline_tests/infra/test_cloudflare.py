"""What the Pulumi program asks Cloudflare for, in every stack.

The program runs in its own environment against Pulumi's stand-in for its engine
(`record_stack.py` says what that does not do). Nothing is sent anywhere.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from communicator_pipeline.storage.on_cloudflare import REQUIRED, Cloudflare

CLONE = Path(__file__).resolve().parents[2]
PROGRAM = CLONE / "infra" / "cloudflare"
PYTHON = PROGRAM / ".venv" / "bin" / "python"

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not PYTHON.exists(), reason="run `make -C infra/cloudflare` first"),
]

ACCOUNT = "0123456789abcdef0123456789abcdef"
ZONE = "fedcba9876543210fedcba9876543210"
NEW_KEY = "bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldy0="
OLD_KEY = "b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkLW9sZC0="
TOKEN = "d1-token-of-the-tests-0123456789abcdef"
BUNDLE = CLONE / "infra" / "edge" / "src" / "index.ts"  # any file will do: nobody runs it here

GIVEN = {
    "account_id": ACCOUNT,
    "workers_subdomain": "acme",
    "keys": f"{NEW_KEY},{OLD_KEY}",
    "d1_token": TOKEN,
}
TUNNEL = {
    "gateway_hostname": "inbox.example.org",
    "dagster_hostname": "dagster.example.org",
    "zone_id": ZONE,
    "access_team": "acme",
    "access_emails": "ana@example.org,ben@example.org",
}
STACKS = ("dev", "staging", "prod")

Resource = dict[str, Any]


@cache
def _recorder() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [PYTHON, Path(__file__).with_name("record_stack.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.kill)
    return process


@cache
def _recorded(stack: str, given: str) -> dict[str, Any]:
    recorder = _recorder()
    assert recorder.stdin
    assert recorder.stdout
    print(json.dumps({"stack": stack, "settings": json.loads(given)}), file=recorder.stdin)
    recorder.stdin.flush()
    line = recorder.stdout.readline()
    assert line, "the program ended without a word: its errors stand above"
    recorded: dict[str, Any] = json.loads(line)
    return recorded


def record(stack: str, **settings: object) -> dict[str, Any]:
    given = {"edge bundle": str(BUNDLE), **GIVEN, **settings}
    given = {key: value for key, value in given.items() if value is not None}
    return _recorded(stack, json.dumps(given, sort_keys=True))


def resources(stack: str, kind: str, **settings: object) -> dict[str, Resource]:
    recorded = record(stack, **settings)
    assert "error" not in recorded, recorded
    return {one["name"]: one for one in recorded["resources"] if one["type"] == kind}


def inputs(stack: str, kind: str, **settings: object) -> dict[str, Any]:
    return {name: one["inputs"] for name, one in resources(stack, kind, **settings).items()}


def error(stack: str, **settings: object) -> str:
    said: str = record(stack, **settings)["error"]
    return said


@pytest.mark.parametrize("stack", STACKS)
def test_every_name_says_its_stack_and_everything_is_in_the_account(stack: str) -> None:
    named = {
        key: value
        for one in record(stack, ai_gateway="true", **TUNNEL)["resources"]
        for key, value in one["inputs"].items()
        if key in ("name", "title", "queueName", "scriptName", "aiGatewayId")
        and one["type"] != "DnsRecord"
    }
    assert named
    for value in named.values():
        assert value.startswith(f"communicator-{stack}")
    for one in record(stack)["resources"]:
        assert one["inputs"]["accountId"] == ACCOUNT


@pytest.mark.parametrize("stack", STACKS)
def test_no_two_resources_have_the_same_name(stack: str) -> None:
    names = [
        (one["type"], one["inputs"].get(key))
        for one in record(stack, databases="3", token_generations="1,2")["resources"]
        for key in ("name", "queueName")
        if key in one["inputs"]
    ]
    assert len(names) == len(set(names))


def test_the_worker_is_bound_to_what_it_uses_in_the_form_in_which_it_is_tested() -> None:
    """Names and kinds as in the Worker's own configuration for one machine."""
    source = re.sub(r"^\s*//.*$", "", (CLONE / "infra/edge/wrangler.jsonc").read_text(), flags=re.M)
    local = json.loads(source)
    script = inputs("dev", "WorkersScript")["edge"]
    bound = {binding["name"]: binding["type"] for binding in script["bindings"]}
    for name in [one["binding"] for one in local["d1_databases"]]:
        assert bound[name] == "d1"
    for name in [one["binding"] for one in local["r2_buckets"]]:
        assert bound[name] == "r2_bucket"
    for name in [one["binding"] for one in local["queues"]["producers"]]:
        assert bound[name] == "queue"
    for name in [one["name"] for one in local["ratelimits"]]:
        assert bound[name] == "ratelimit"
    for name in local["vars"]:
        assert name in bound
    assert script["compatibilityDate"] == local["compatibility_date"]
    assert script.get("compatibilityFlags", []) == local.get("compatibility_flags", [])
    declared = re.findall(
        r"^  (\w+)\??:", (CLONE / "infra/edge/src/bindings.ts").read_text().split("}")[0], re.M
    )
    assert set(declared) <= set(bound) | {"D1_TOKEN_PREVIOUS"}


@pytest.mark.parametrize("stack", STACKS)
def test_the_worker_has_these_bindings_and_no_others(stack: str) -> None:
    bindings = inputs(stack, "WorkersScript")["edge"]["bindings"]
    bound = {binding.pop("name"): binding for binding in json.loads(json.dumps(bindings))}
    prefix = f"communicator-{stack}"
    limit = {"dev": "1001", "staging": "1002", "prod": "1003"}[stack]
    assert bound == {
        "DB": {"type": "d1", "id": "id-of-database-1", "databaseId": "id-of-database-1"},
        "LAKE": {"type": "r2_bucket", "bucketName": f"{prefix}-lake"},
        "CACHE": {"type": "kv_namespace", "namespaceId": "id-of-cache"},
        "INGESTION": {"type": "queue", "queueName": f"{prefix}-ingestion"},
        "PUSH_LIMIT": {
            "type": "ratelimit",
            "namespaceId": limit,
            "simple": {"limit": 1200, "period": 60},
        },
        "ACCOUNT_ID": {"type": "plain_text", "text": ACCOUNT},
        "DATABASE_ID": {"type": "plain_text", "text": "id-of-database-1"},
        "COMMUNICATOR_KEYS": {"type": "secret_text", "text": {"secret": f"{NEW_KEY},{OLD_KEY}"}},
        "D1_TOKEN": {"type": "secret_text", "text": {"secret": TOKEN}},
    }


def test_the_token_before_is_bound_too_while_it_is_set() -> None:
    script = inputs("dev", "WorkersScript", d1_token_previous="before-" + TOKEN)["edge"]
    bound = {binding["name"]: binding for binding in script["bindings"]}
    assert bound["D1_TOKEN_PREVIOUS"]["type"] == "secret_text"
    assert bound["D1_TOKEN_PREVIOUS"]["text"] == {"secret": "before-" + TOKEN}


def test_the_worker_is_the_bundle_and_changes_with_it() -> None:
    script = inputs("dev", "WorkersScript")["edge"]
    assert script["contentFile"] == str(BUNDLE)
    assert script["contentSha256"] == hashlib.sha256(BUNDLE.read_bytes()).hexdigest()
    assert script["mainModule"] == BUNDLE.name


def test_the_worker_logs_but_never_the_headers_of_requests() -> None:
    seen = inputs("prod", "WorkersScript")["edge"]["observability"]
    assert seen["enabled"]
    assert seen["logs"]["enabled"]
    assert seen["logs"]["invocationLogs"] is False


def test_the_worker_has_one_address_workers_dev_or_its_own() -> None:
    assert inputs("dev", "WorkersScriptSubdomain")["edge-workers-dev"]["enabled"] is True
    assert not resources("dev", "WorkersCustomDomain")
    own = {"hostname": "edge.example.org", "zone_id": ZONE, "workers_subdomain": None}
    assert inputs("dev", "WorkersScriptSubdomain", **own)["edge-workers-dev"]["enabled"] is False
    domain = inputs("dev", "WorkersCustomDomain", **own)["edge-hostname"]
    assert (domain["hostname"], domain["zoneId"]) == ("edge.example.org", ZONE)
    outputs = record("dev", **own)["outputs"]
    assert outputs["COMMUNICATOR_D1_URL"] == "https://edge.example.org"
    for one in (resources("dev", "WorkersScriptSubdomain", **own)).values():
        assert one["inputs"]["previewsEnabled"] is False


@pytest.mark.parametrize("stack", STACKS)
def test_both_queues_keep_messages_for_14_days_and_are_pulled(stack: str) -> None:
    queues = inputs(stack, "Queue")
    assert set(queues) == {"ingestion", "ingestion-dead"}
    for queue in queues.values():
        assert queue["settings"]["messageRetentionPeriod"] == 1_209_600
        assert queue["settings"]["deliveryPaused"] is False
    consumers = inputs(stack, "QueueConsumer")
    assert {one["queueId"] for one in consumers.values()} == {
        "id-of-ingestion",
        "id-of-ingestion-dead",
    }
    for one in consumers.values():
        assert one["type"] == "http_pull"
        assert one["settings"]["visibilityTimeoutMs"] >= 60_000
        assert 1 <= one["settings"]["batchSize"] <= 100
        assert one["settings"]["maxRetries"] <= 100


@pytest.mark.parametrize("stack", STACKS)
def test_what_is_retried_too_often_goes_to_the_dead_letters_and_stays_there(stack: str) -> None:
    consumers = inputs(stack, "QueueConsumer")
    dead = inputs(stack, "Queue")["ingestion-dead"]["queueName"]
    assert consumers["ingestion-pull"]["deadLetterQueue"] == dead
    assert consumers["ingestion-pull"]["settings"]["maxRetries"] >= 10
    assert "deadLetterQueue" not in consumers["ingestion-dead-pull"]


@pytest.mark.parametrize("stack", STACKS)
def test_r2_forgets_only_what_it_may(stack: str) -> None:
    day = 86_400
    deletes, aborts, moves = {}, {}, {}
    for rule in inputs(stack, "R2BucketLifecycle")["lake-lifecycle"]["rules"]:
        assert rule["enabled"]
        prefix = rule["conditions"]["prefix"]
        if found := rule.get("deleteObjectsTransition"):
            deletes[prefix] = found["condition"]
        if found := rule.get("abortMultipartUploadsTransition"):
            aborts[prefix] = found["condition"]
        for found in rule.get("storageClassTransitions", []):
            moves[prefix] = (found["storageClass"], found["condition"])
    assert deletes == {
        "parked/": {"type": "Age", "maxAge": 15 * day},
        "backups/": {"type": "Age", "maxAge": 35 * day},
    }
    assert aborts == {"": {"type": "Age", "maxAge": day}}
    assert moves == {
        prefix: ("InfrequentAccess", {"type": "Age", "maxAge": 90 * day})
        for prefix in ("landing/", "attachments/")
    }


@pytest.mark.parametrize("stack", STACKS)
def test_what_is_parked_outlives_the_message_that_names_it(stack: str) -> None:
    retention = inputs(stack, "Queue")["ingestion"]["settings"]["messageRetentionPeriod"]
    rules = inputs(stack, "R2BucketLifecycle")["lake-lifecycle"]["rules"]
    (parked,) = [rule for rule in rules if rule["conditions"]["prefix"] == "parked/"]
    assert parked["deleteObjectsTransition"]["condition"]["maxAge"] > retention


@pytest.mark.parametrize("stack", STACKS)
def test_nothing_is_public(stack: str) -> None:
    kinds = {one["type"] for one in record(stack, **TUNNEL, ai_gateway="true")["resources"]}
    assert "R2CustomDomain" not in kinds
    domain = inputs(stack, "R2ManagedDomain")["lake-not-public"]
    assert domain["enabled"] is False
    assert domain["bucketName"] == f"communicator-{stack}-lake"


ALLOWED = {
    "pipeline": {
        "D1 Write",
        "Queues Read",
        "Queues Write",
        "Workers KV Storage Write",
        "Workers AI Read",
    },
    "lake": {"Workers R2 Storage Bucket Item Write"},
    "analytics": {"Account Analytics Read", "Queues Read"},
}


@pytest.mark.parametrize("stack", STACKS)
def test_no_token_may_do_more_than_its_holder_needs(stack: str) -> None:
    tokens = inputs(stack, "AccountToken")
    assert set(tokens) == {f"{name}-token-1" for name in ALLOWED}
    for name, rights in ALLOWED.items():
        (policy,) = tokens[f"{name}-token-1"]["policies"]
        assert policy["effect"] == "allow"
        scope = "com.cloudflare.api.account"
        resource = f"{scope}.{ACCOUNT}"
        if name == "lake":
            scope = "com.cloudflare.edge.r2.bucket"
            resource = f"{scope}.{ACCOUNT}_default_communicator-{stack}-lake"
        assert {one["id"] for one in policy["permissionGroups"]} == {f"{scope}:{r}" for r in rights}
        assert json.loads(policy["resources"]) == {resource: "*"}


def test_no_api_token_of_a_person_is_made() -> None:
    assert not resources("prod", "ApiToken")


def test_a_right_that_cloudflare_has_renamed_is_said() -> None:
    said = error("dev", **{"missing rights": ["Queues Write"]})
    assert "'Queues Write'" in said
    assert "tokens.py" in said


def test_tokens_of_two_generations_are_there_while_they_are_changed_and_the_last_is_used() -> None:
    both = record("dev", token_generations="1,2")
    names = {one["name"] for one in both["resources"] if one["type"] == "AccountToken"}
    assert names == {f"{name}-token-{n}" for name in ALLOWED for n in (1, 2)}
    outputs = both["outputs"]
    assert outputs["CLOUDFLARE_API_TOKEN"] == {"secret": "value-of-pipeline-token-2"}
    assert outputs["COMMUNICATOR_R2_KEY_ID"] == "id-of-lake-token-2"


@pytest.mark.parametrize("stack", STACKS)
def test_the_outputs_are_the_pipelines_environment_and_secrets_are_secret(stack: str) -> None:
    outputs = record(stack)["outputs"]
    secret = {name: value["secret"] for name, value in outputs.items() if isinstance(value, dict)}
    assert secret == {
        "CLOUDFLARE_API_TOKEN": "value-of-pipeline-token-1",
        "CLOUDFLARE_ANALYTICS_TOKEN": "value-of-analytics-token-1",
        "COMMUNICATOR_D1_TOKEN": TOKEN,
        "COMMUNICATOR_R2_SECRET": hashlib.sha256(b"value-of-lake-token-1").hexdigest(),
        "COMMUNICATOR_KEYS": f"{NEW_KEY},{OLD_KEY}",
    }
    plain = {name: value for name, value in outputs.items() if name not in secret}
    assert plain == {
        "COMMUNICATOR_BACKEND": "cloudflare",
        "COMMUNICATOR_ENVIRONMENT": stack,
        "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
        "COMMUNICATOR_D1_DATABASE": "id-of-database-1",
        "COMMUNICATOR_D1_URL": f"https://communicator-{stack}-edge.acme.workers.dev",
        "COMMUNICATOR_R2_BUCKET": f"communicator-{stack}-lake",
        "COMMUNICATOR_R2_ENDPOINT": f"https://{ACCOUNT}.r2.cloudflarestorage.com",
        "COMMUNICATOR_R2_KEY_ID": "id-of-lake-token-1",
        "COMMUNICATOR_KV_NAMESPACE": "id-of-cache",
        "COMMUNICATOR_QUEUE": "id-of-ingestion",
        "COMMUNICATOR_QUEUE_DEAD": "id-of-ingestion-dead",
        "edge_url": f"https://communicator-{stack}-edge.acme.workers.dev",
        "databases": ["id-of-database-1"],
    }


def test_no_secret_stands_in_clear_anywhere() -> None:
    def clear(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: clear(v) for k, v in value.items() if k != "secret"}
        return [clear(part) for part in value] if isinstance(value, list) else value

    said = json.dumps(clear(record("prod", d1_token_previous="before-" + TOKEN, **TUNNEL)))
    for secret in (NEW_KEY, OLD_KEY, TOKEN, "value-of-"):
        assert secret not in said


def test_the_pipeline_reads_its_settings_from_what_is_written(tmp_path: Path) -> None:
    """The file of variables holds what the pipeline asks for, and nothing needs quotes."""
    outputs = {
        name: value["secret"] if isinstance(value, dict) else value
        for name, value in record("prod", **TUNNEL)["outputs"].items()
    }
    file = tmp_path / "prod.env"
    file.write_text("older")
    tools = tmp_path / "bin"
    tools.mkdir()
    pulumi = tools / "pulumi"  # the command's one use of Pulumi: its outputs as JSON
    pulumi.write_text(
        f"#!{sys.executable}\nimport sys\n"
        'asked = ["stack", "output", "--stack", "prod", "--show-secrets", "--json"]\n'
        "assert sys.argv[1:] == asked\n"
        f"print({json.dumps(outputs)!r})\n"
    )
    pulumi.chmod(0o755)
    run = subprocess.run(
        [PYTHON, PROGRAM / "environment.py", "prod", file],
        env={"PATH": f"{tools}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    assert TOKEN not in run.stdout + run.stderr
    environment = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert set(REQUIRED) <= set(environment)
    assert set(environment) == {name for name in outputs if name.isupper() or "D1" in name}
    configured = Cloudflare.of_environment(environment)
    assert configured.d1_token == TOKEN
    assert configured.queue == "id-of-ingestion"
    assert configured.dead_queue == "id-of-ingestion-dead"
    shell = subprocess.run(
        ["/bin/sh", "-c", f'set -a; . {file}; printf %s "$COMMUNICATOR_KEYS"'],
        capture_output=True,
        text=True,
        env={},
    )
    assert shell.stdout == f"{NEW_KEY},{OLD_KEY}"


def test_a_value_that_needs_quotes_is_refused_and_not_shown(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from environment import env_lines\n"
        "try: env_lines({'COMMUNICATOR_KEYS': 'hush hush'})\n"
        "except ValueError as error: print(error)\n"
    )
    run = subprocess.run([PYTHON, "-c", code, PROGRAM], capture_output=True, text=True, timeout=60)
    assert "COMMUNICATOR_KEYS" in run.stdout
    assert "hush" not in run.stdout + run.stderr


def test_in_prod_nothing_that_holds_data_can_be_destroyed() -> None:
    keeps = {
        one["name"]: (one["protect"], one["retain"])
        for one in record("prod", databases="2")["resources"]
        if one["type"] in ("D1Database", "R2Bucket", "Queue")
    }
    assert keeps == dict.fromkeys(
        ("database-1", "database-2", "lake", "ingestion", "ingestion-dead"), (True, True)
    )
    for stack in ("dev", "staging"):
        assert not any(one["protect"] or one["retain"] for one in record(stack)["resources"])


def test_data_that_must_stay_in_the_union_are_asked_to_and_reached_there() -> None:
    recorded = record("prod", jurisdiction="eu")
    for one in recorded["resources"]:
        if one["type"] in ("D1Database", "R2Bucket", "R2BucketLifecycle", "R2ManagedDomain"):
            assert one["inputs"]["jurisdiction"] == "eu"
    endpoint = recorded["outputs"]["COMMUNICATOR_R2_ENDPOINT"]
    assert endpoint == f"https://{ACCOUNT}.eu.r2.cloudflarestorage.com"
    token = inputs("prod", "AccountToken", jurisdiction="eu")["lake-token-1"]
    assert f"{ACCOUNT}_eu_communicator-prod-lake" in token["policies"][0]["resources"]
    script = inputs("prod", "WorkersScript", jurisdiction="eu")["edge"]
    (lake,) = [one for one in script["bindings"] if one["name"] == "LAKE"]
    assert lake["jurisdiction"] == "eu"


def test_without_a_gateways_name_there_is_no_tunnel() -> None:
    kinds = {one["type"] for one in record("prod")["resources"]}
    assert not any(kind.startswith("ZeroTrust") or kind == "DnsRecord" for kind in kinds)


def test_whoever_comes_through_the_tunnel_has_signed_in() -> None:
    applications = inputs("prod", "ZeroTrustAccessApplication", **TUNNEL)
    assert {one["domain"] for one in applications.values()} == {
        "inbox.example.org",
        "dagster.example.org",
    }
    for one in applications.values():
        assert one["type"] == "self_hosted"
        assert [policy["id"] for policy in one["policies"]] == ["id-of-people"]
    (policy,) = inputs("prod", "ZeroTrustAccessPolicy", **TUNNEL).values()
    assert policy["decision"] == "allow"
    assert policy["includes"] == [
        {"email": {"email": "ana@example.org"}},
        {"email": {"email": "ben@example.org"}},
    ]
    ingresses = inputs("prod", "ZeroTrustTunnelCloudflaredConfig", **TUNNEL)["tunnel-doors"][
        "config"
    ]["ingresses"]
    assert ingresses[-1] == {"service": "http_status:404"}
    assert {one["hostname"]: one["service"] for one in ingresses[:-1]} == {
        "inbox.example.org": "http://gateway:8700",
        "dagster.example.org": "http://webserver:3000",
    }
    for one in ingresses[:-1]:
        access = one["originRequest"]["access"]
        assert access["required"] is True
        assert access["teamName"] == "acme"
        name = "gateway" if one["hostname"].startswith("inbox") else "dagster"
        assert access["audTags"] == [f"aud-of-{name}-application"]


def test_a_name_leads_to_the_tunnel_only_when_access_stands_before_it() -> None:
    records = resources("prod", "DnsRecord", **TUNNEL)
    assert set(records) == {"gateway-name", "dagster-name"}
    for name, record_ in records.items():
        assert name.replace("name", "application") in record_["depends_on"]
        assert record_["inputs"]["content"] == "id-of-tunnel.cfargotunnel.com"
        assert record_["inputs"]["proxied"] is True
        assert record_["inputs"]["zoneId"] == ZONE


def test_the_tunnels_outputs_are_the_gateways_settings() -> None:
    outputs = record("prod", **TUNNEL)["outputs"]
    assert outputs["COMMUNICATOR_URL"] == "https://inbox.example.org"
    assert outputs["COMMUNICATOR_ACCESS_TEAM"] == "https://acme.cloudflareaccess.com"
    assert outputs["COMMUNICATOR_ACCESS_AUDIENCE"] == "aud-of-gateway-application"
    assert outputs["TUNNEL_TOKEN"] == {"secret": "value-of-tunnel-token"}


def test_the_ai_gateway_keeps_nothing_that_people_wrote() -> None:
    assert not resources("prod", "AiGateway")
    gateway = inputs("prod", "AiGateway", ai_gateway="true")["ai-gateway"]
    assert gateway["collectLogs"] is False
    assert gateway["cacheTtl"] == 0
    assert gateway["rateLimitingLimit"] > 0
    url = record("prod", ai_gateway="true")["outputs"]["ai_gateway_url"]
    assert url == (f"https://gateway.ai.cloudflare.com/v1/{ACCOUNT}/communicator-prod/workers-ai")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"account_id": None}, "account_id is not set"),
        ({"account_id": "acme"}, "32 hexadecimal digits"),
        ({"edge bundle": "/nowhere/index.js"}, "npm run build"),
        ({"workers_subdomain": None}, "set hostname"),
        ({"hostname": "edge.example.org"}, "set zone_id"),
        ({"hostname": "https://edge.example.org", "zone_id": ZONE}, "hostname is"),
        ({"keys": None}, "keys is not set"),
        ({"keys": "short"}, "Fernet"),
        ({"keys": f"{NEW_KEY}, {OLD_KEY}"}, "no spaces"),
        ({"d1_token": "too-short"}, "openssl rand"),
        ({"databases": "0"}, "from 1 to 50"),
        ({"jurisdiction": "moon"}, "it can be eu"),
        ({"jurisdiction": "eu", "location": "weur"}, "not both"),
        ({"token_generations": "2,1"}, "ascending"),
        ({**TUNNEL, "access_emails": None}, "access_emails"),
        ({**TUNNEL, "access_emails": "everybody"}, "access_emails"),
        ({**TUNNEL, "gateway_hostname": None}, "set gateway_hostname too"),
        ({**TUNNEL, "zone_id": None}, "set zone_id"),
        ({**TUNNEL, "access_team": "https://acme.cloudflareaccess.com"}, "access_team"),
    ],
)
def test_a_wrong_setting_is_named(wrong: dict[str, Any], named: str) -> None:
    said = error("dev", **wrong)
    assert named in said
    assert TOKEN not in said


def test_there_are_three_stacks() -> None:
    assert "dev, staging, prod" in error("production")
    assert {file.name for file in PROGRAM.glob("Pulumi.*.yaml")} == {
        f"Pulumi.{stack}.yaml" for stack in STACKS
    }
