"""The edge Worker: its code, its bindings, its address.

Belongs here: uploading the one bundled file and what it is bound to. Does not belong here: what
it does (`infra/edge/src`).
"""

from __future__ import annotations

import hashlib

import pulumi_cloudflare as cloudflare
from queues import Queues
from settings import Settings
from stores import Stores

COMPATIBILITY_DATE = "2026-11-01"  # the same as in infra/edge/wrangler.jsonc, and tested with it


def make_edge(settings: Settings, stores: Stores, queues: Queues) -> cloudflare.WorkersScript:
    script = cloudflare.WorkersScript(
        "edge",
        account_id=settings.account_id,
        script_name=f"{settings.prefix}-edge",
        main_module=settings.edge_bundle.name,
        content_file=str(settings.edge_bundle),
        content_sha256=hashlib.sha256(settings.edge_bundle.read_bytes()).hexdigest(),
        content_type="application/javascript+module",
        compatibility_date=COMPATIBILITY_DATE,
        bindings=bindings(settings, stores, queues),
        observability=cloudflare.WorkersScriptObservabilityArgs(
            enabled=True,
            head_sampling_rate=1,
            # Invocation logs would hold the headers of every request, signatures among them.
            logs=cloudflare.WorkersScriptObservabilityLogsArgs(
                enabled=True, invocation_logs=False, head_sampling_rate=1
            ),
        ),
    )
    cloudflare.WorkersScriptSubdomain(
        "edge-workers-dev",
        account_id=settings.account_id,
        script_name=script.script_name,
        enabled=not settings.hostname,
        previews_enabled=False,
    )
    if settings.hostname:
        cloudflare.WorkersCustomDomain(
            "edge-hostname",
            account_id=settings.account_id,
            hostname=settings.hostname,
            service=script.script_name,
            zone_id=settings.zone_id,
        )
    return script


def bindings(
    settings: Settings, stores: Stores, queues: Queues
) -> list[cloudflare.WorkersScriptBindingArgs]:
    """What the Worker finds in its environment."""
    binding = cloudflare.WorkersScriptBindingArgs
    database = stores.databases[0]
    jurisdiction = None if settings.jurisdiction == "default" else settings.jurisdiction
    bound = [
        binding(name="DB", type="d1", id=database.id, database_id=database.id),
        binding(
            name="LAKE",
            type="r2_bucket",
            bucket_name=stores.bucket.name,
            jurisdiction=jurisdiction,
        ),
        binding(name="CACHE", type="kv_namespace", namespace_id=stores.cache.id),
        binding(name="INGESTION", type="queue", queue_name=queues.ingestion.queue_name),
        binding(
            name="PUSH_LIMIT",
            type="ratelimit",
            namespace_id=_limit_namespace(settings),
            simple=cloudflare.WorkersScriptBindingSimpleArgs(limit=settings.push_limit, period=60),
        ),
        binding(name="ACCOUNT_ID", type="plain_text", text=settings.account_id),
        binding(name="DATABASE_ID", type="plain_text", text=database.id),
        binding(name="COMMUNICATOR_KEYS", type="secret_text", text=settings.keys),
        binding(name="D1_TOKEN", type="secret_text", text=settings.d1_token),
    ]
    if settings.d1_token_previous is not None:
        bound.append(
            binding(name="D1_TOKEN_PREVIOUS", type="secret_text", text=settings.d1_token_previous)
        )
    return bound


def _limit_namespace(settings: Settings) -> str:
    """A number of the stack's own: Workers of an account that share one share its counts."""
    return {"dev": "1001", "staging": "1002", "prod": "1003"}[settings.environment]
