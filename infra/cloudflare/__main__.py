"""One installation of Communicator at Cloudflare, as Pulumi sees it.

Belongs here: putting the parts together, and the stack's outputs. Does not belong here: the parts
(the other modules). The outputs in capitals are the variables of the pipeline's environment.
"""

from __future__ import annotations

import pulumi
from access import make_access
from edge import make_edge
from language_model import make_ai_gateway
from queues import make_queues
from settings import Settings, read_settings
from stores import make_stores
from tokens import make_tokens


def make_installation(settings: Settings) -> dict[str, pulumi.Input[object]]:
    """Everything, and the outputs."""
    stores = make_stores(settings)
    queues = make_queues(settings)
    make_edge(settings, stores, queues)
    tokens = make_tokens(settings, stores)
    door = "" if settings.jurisdiction == "default" else f".{settings.jurisdiction}"
    outputs: dict[str, pulumi.Input[object]] = {
        "COMMUNICATOR_BACKEND": "cloudflare",
        "COMMUNICATOR_ENVIRONMENT": settings.environment,
        "CLOUDFLARE_ACCOUNT_ID": settings.account_id,
        "CLOUDFLARE_API_TOKEN": tokens.pipeline,
        "COMMUNICATOR_D1_DATABASE": stores.databases[0].id,
        "COMMUNICATOR_D1_URL": settings.edge_url,
        "COMMUNICATOR_D1_TOKEN": settings.d1_token,
        "COMMUNICATOR_R2_BUCKET": stores.bucket.name,
        "COMMUNICATOR_R2_ENDPOINT": (
            f"https://{settings.account_id}{door}.r2.cloudflarestorage.com"
        ),
        "COMMUNICATOR_R2_KEY_ID": tokens.lake_key_id,
        "COMMUNICATOR_R2_SECRET": tokens.lake_secret,
        "COMMUNICATOR_KV_NAMESPACE": stores.cache.id,
        "COMMUNICATOR_QUEUE": queues.ingestion.queue_id,
        "COMMUNICATOR_QUEUE_DEAD": queues.dead.queue_id,
        "COMMUNICATOR_KEYS": settings.keys,
        "CLOUDFLARE_ANALYTICS_TOKEN": tokens.analytics,
        "edge_url": settings.edge_url,
        "databases": [database.id for database in stores.databases],
    }
    if settings.ai_gateway:
        outputs["ai_gateway_url"] = make_ai_gateway(settings)
    if settings.tunnel:
        reached = make_access(settings, settings.tunnel)
        outputs |= {
            "COMMUNICATOR_URL": f"https://{settings.tunnel.gateway_hostname}",
            "COMMUNICATOR_ACCESS_TEAM": settings.tunnel.team,
            "COMMUNICATOR_ACCESS_AUDIENCE": reached.audience,
            "TUNNEL_TOKEN": reached.token,
        }
    return outputs


def main() -> None:
    settings = read_settings(pulumi.Config(), pulumi.get_stack())
    for name, value in make_installation(settings).items():
        pulumi.export(name, value)


if __name__ == "__main__":
    main()
