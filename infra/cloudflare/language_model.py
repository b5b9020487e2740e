"""A gateway before Workers AI.

Belongs here: AI Gateway. Does not belong here: which model is asked (`communicator model set`).
"""

from __future__ import annotations

import pulumi
import pulumi_cloudflare as cloudflare
from settings import Settings

MOST_REQUESTS = 300
"""A minute: what Workers AI takes for text generation
(https://developers.cloudflare.com/workers-ai/platform/limits/, read 2026-11)."""


def make_ai_gateway(settings: Settings) -> pulumi.Output[str]:
    """Counts and limits what is asked of models; gives the address for `communicator model set
    --url`. It keeps no logs and no answers: both would hold people's messages, and answers are kept
    by Communicator itself. It asks for no token of its own, because Workers AI does."""
    gateway = cloudflare.AiGateway(
        "ai-gateway",
        account_id=settings.account_id,
        ai_gateway_id=settings.prefix,
        authentication=False,
        cache_invalidate_on_update=True,
        cache_ttl=0,
        collect_logs=False,
        rate_limiting_interval=60,
        rate_limiting_limit=MOST_REQUESTS,
        rate_limiting_technique="sliding",
    )
    return gateway.ai_gateway_id.apply(
        lambda name: f"https://gateway.ai.cloudflare.com/v1/{settings.account_id}/{name}/workers-ai"
    )
