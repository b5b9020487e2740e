"""Runs the Pulumi program of `infra/cloudflare` without Pulumi's engine; prints what it asked for.

Runs in that program's own environment. Each line of input is {"stack": …, "settings": {…}}, each
line of output what came of it: a process of its own each, because Pulumi's state is the process's.
Belongs here: the engine's stand-in (Pulumi's own, which answers nothing by itself). Does not belong
here: what ought to be asked for (`test_cloudflare.py`).

What the engine does and this does not: checking inputs against the provider's schema, asking
Cloudflare. Ids are made up.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict
from pulumi.runtime import mocks, rpc
from pulumi.runtime.config import set_all_config
from pulumi.runtime.settings import configure
from pulumi.runtime.stack import run_in_stack

PROGRAM = Path(__file__).resolve().parents[2] / "infra" / "cloudflare"
sys.path.insert(0, str(PROGRAM))

import settings  # noqa: E402  (the program's)
import tokens  # noqa: E402, F401  (half of the time goes into importing the provider's SDK: once)

RIGHTS = (
    ("Account Analytics Read", "com.cloudflare.api.account"),
    ("Account API Tokens Write", "com.cloudflare.api.account"),
    ("D1 Read", "com.cloudflare.api.account"),
    ("D1 Write", "com.cloudflare.api.account"),
    ("Queues Read", "com.cloudflare.api.account"),
    ("Queues Write", "com.cloudflare.api.account"),
    ("Workers AI Read", "com.cloudflare.api.account"),
    ("Workers AI Write", "com.cloudflare.api.account"),
    ("Workers KV Storage Write", "com.cloudflare.api.account"),
    ("Workers R2 Storage Write", "com.cloudflare.api.account"),
    ("Workers R2 Storage Bucket Item Read", "com.cloudflare.edge.r2.bucket"),
    ("Workers R2 Storage Bucket Item Write", "com.cloudflare.edge.r2.bucket"),
    ("Queues Write", "com.cloudflare.api.account.zone"),  # the same name for other things
)


class Cloudflare(mocks.Mocks):
    """Takes everything, and gives what Cloudflare itself makes up."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        made = {
            "cloudflare:index/queue:Queue": {"queueId": f"id-of-{args.name}"},
            "cloudflare:index/accountToken:AccountToken": {"value": f"value-of-{args.name}"},
            "cloudflare:index/zeroTrustAccessApplication:ZeroTrustAccessApplication": {
                "aud": f"aud-of-{args.name}"
            },
        }
        return f"id-of-{args.name}", {**args.inputs, **made.get(args.typ, {})}

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        if "PermissionGroupsList" in args.token:
            return {
                "id": "rights",
                "accountId": args.args["accountId"],
                "results": [
                    {
                        "id": f"{scope}:{name}",
                        "name": name,
                        "scopes": [scope],
                        "category": "other",
                        "isSelectable": True,
                    }
                    for name, scope in RIGHTS
                    if name not in missing_rights
                ],
            }
        if "TunnelCloudflaredToken" in args.token:
            return {"id": "token", **args.args, "token": "value-of-tunnel-token"}
        raise AssertionError(f"the program asks for {args.token}, which the test does not know")


class Monitor(mocks.MockMonitor):
    """Keeps what is on the wire: which values are secret, and the options of each resource."""

    def RegisterResource(self, request: Any) -> Any:
        if request.type != "pulumi:pulumi:Stack":
            recorded.append(
                {
                    "type": request.type.rsplit(":", 1)[-1],
                    "name": request.name,
                    "inputs": plain(MessageToDict(request.object)),
                    "protect": request.protect,
                    "retain": request.retainOnDelete,
                    "depends_on": sorted(urn.rsplit("::", 1)[-1] for urn in request.dependencies),
                }
            )
        return super().RegisterResource(request)

    def RegisterResourceOutputs(self, request: Any) -> Any:
        outputs.update(plain(MessageToDict(request.outputs)))
        return super().RegisterResourceOutputs(request)


def plain(value: Any) -> Any:
    """The wire's value, secrets as {"secret": value}."""
    if isinstance(value, dict):
        if value.get(rpc._special_sig_key) == rpc._special_secret_sig:
            return {"secret": plain(value["value"])}
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value


recorded: list[dict[str, Any]] = []
outputs: dict[str, Any] = {}
missing_rights: list[str] = []


def record(name: str, given: dict[str, Any]) -> dict[str, Any]:
    missing_rights.extend(given.pop("missing rights", []))
    bundle = Path(given.pop("edge bundle"))
    file = PROGRAM / f"Pulumi.{name}.yaml"
    config = yaml.safe_load(file.read_text())["config"] if file.is_file() else {}
    config |= {f"communicator:{key}": value for key, value in given.items()}
    secret = [f"communicator:{key}" for key in ("keys", "d1_token", "d1_token_previous")]
    monitor = Monitor(Cloudflare())
    configure(  # what `set_mocks` does, without the stack that it makes and ends at once
        mocks.MockSettings(
            monitor=monitor,
            monitor_features=set(monitor.GetDeploymentInfo(Empty()).supportedFeatures),
            engine=mocks.MockEngine(None),
            project="communicator",
            stack=name,
            dry_run=False,
            organization=None,
            callbacks=None,
        )
    )
    set_all_config(config, [key for key in secret if key in config])
    settings.EDGE_BUNDLE = bundle
    program = runpy.run_path(str(PROGRAM / "__main__.py"), run_name="program")
    try:
        asyncio.run(run_in_stack(program["main"]))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"resources": recorded, "outputs": outputs}


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            print(json.dumps(record(asked["stack"], asked["settings"])), flush=True)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
