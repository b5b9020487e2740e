"""Tokens, each with no more rights than its holder needs.

Belongs here: which token may do what. Does not belong here: the token that Pulumi itself uses,
which a person makes (docs/deploying.md).

The tokens belong to the account, not to whoever deploys: they outlive a colleague's leaving, and
their calls are counted apart from those of people.
Rights of R2 keys, and how a key is made of a token: https://developers.cloudflare.com/r2/api/tokens/
(read 2026-11).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_cloudflare as cloudflare
from settings import Settings
from stores import Stores

ACCOUNT_SCOPE = "com.cloudflare.api.account"
BUCKET_SCOPE = "com.cloudflare.edge.r2.bucket"

PIPELINE_RIGHTS = (
    "D1 Write",
    "Queues Read",  # pulling asks for both
    "Queues Write",
    "Workers KV Storage Write",
    "Workers AI Read",  # is enough to run models
)
LAKE_RIGHTS = ("Workers R2 Storage Bucket Item Write",)  # objects of one bucket; reads them too
ANALYTICS_RIGHTS = ("Account Analytics Read", "Queues Read")


class RightUnknown(ValueError):
    """Cloudflare does not name a right as this program does; the message says which."""


@dataclass(frozen=True)
class Tokens:
    """The newest generation of each."""

    pipeline: pulumi.Output[str]
    lake_key_id: pulumi.Output[str]
    lake_secret: pulumi.Output[str]
    analytics: pulumi.Output[str]


def make_tokens(settings: Settings, stores: Stores) -> Tokens:
    """A set of tokens for each generation. Two at once let the old ones work until everybody has
    the new ones."""
    groups = cloudflare.get_account_api_token_permission_groups_list_output(
        account_id=settings.account_id
    ).apply(
        lambda found: {(scope, one.name): one.id for one in found.results for scope in one.scopes}
    )
    account = {f"{ACCOUNT_SCOPE}.{settings.account_id}": "*"}
    bucket = stores.bucket.name.apply(
        lambda name: {f"{BUCKET_SCOPE}.{settings.account_id}_{settings.jurisdiction}_{name}": "*"}
    )
    for generation in settings.token_generations:
        pipeline = _token(
            settings, "pipeline", generation, groups, ACCOUNT_SCOPE, PIPELINE_RIGHTS, account
        )
        lake = _token(settings, "lake", generation, groups, BUCKET_SCOPE, LAKE_RIGHTS, bucket)
        analytics = _token(
            settings, "analytics", generation, groups, ACCOUNT_SCOPE, ANALYTICS_RIGHTS, account
        )
    return Tokens(
        pipeline=pulumi.Output.secret(pipeline.value),
        lake_key_id=lake.id,
        lake_secret=pulumi.Output.secret(
            lake.value.apply(lambda value: hashlib.sha256(value.encode()).hexdigest())
        ),
        analytics=pulumi.Output.secret(analytics.value),
    )


def rights(
    groups: Mapping[tuple[str, str], str], scope: str, names: Sequence[str]
) -> list[cloudflare.AccountTokenPolicyPermissionGroupArgs]:
    """The ids of rights by their names. Raises `RightUnknown`."""
    missing = [name for name in names if (scope, name) not in groups]
    if missing:
        raise RightUnknown(
            f"Cloudflare knows no right {', '.join(map(repr, missing))} for {scope}: it may have "
            "been renamed; see https://developers.cloudflare.com/fundamentals/api/reference/"
            "permissions/ and change infra/cloudflare/tokens.py"
        )
    return [
        cloudflare.AccountTokenPolicyPermissionGroupArgs(id=groups[scope, name])
        for name in sorted(names)
    ]


def _token(
    settings: Settings,
    name: str,
    generation: int,
    groups: pulumi.Output[dict[tuple[str, str], str]],
    scope: str,
    names: Sequence[str],
    resources: pulumi.Input[Mapping[str, str]],
) -> cloudflare.AccountToken:
    return cloudflare.AccountToken(
        f"{name}-token-{generation}",
        account_id=settings.account_id,
        name=f"{settings.prefix}-{name}-{generation}",
        policies=[
            cloudflare.AccountTokenPolicyArgs(
                effect="allow",
                permission_groups=groups.apply(lambda found: rights(found, scope, names)),
                resources=pulumi.Output.from_input(resources).apply(json.dumps),
            )
        ],
    )
