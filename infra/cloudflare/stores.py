"""Database, lake and cache.

Belongs here: D1, R2 with its lifecycle, KV. Does not belong here: who may use them (`tokens.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_cloudflare as cloudflare
from settings import Settings

DAY = 86_400  # seconds


@dataclass(frozen=True)
class Stores:
    databases: list[cloudflare.D1Database]  # the first is the one in use
    bucket: cloudflare.R2Bucket
    cache: cloudflare.WorkersKvNamespace


def kept(settings: Settings) -> pulumi.ResourceOptions:
    """For what holds data that nobody else has."""
    return pulumi.ResourceOptions(
        protect=settings.keep_data, retain_on_delete=settings.keep_data or None
    )


def make_stores(settings: Settings) -> Stores:
    jurisdiction = None if settings.jurisdiction == "default" else settings.jurisdiction
    databases = [
        cloudflare.D1Database(
            f"database-{number}",
            account_id=settings.account_id,
            name=settings.prefix if number == 1 else f"{settings.prefix}-{number}",
            primary_location_hint=settings.location or None,
            jurisdiction=jurisdiction,
            opts=kept(settings),
        )
        for number in range(1, settings.databases + 1)
    ]
    bucket = cloudflare.R2Bucket(
        "lake",
        account_id=settings.account_id,
        name=f"{settings.prefix}-lake",
        location=settings.location or None,
        jurisdiction=jurisdiction,
        storage_class="Standard",
        opts=kept(settings),
    )
    cloudflare.R2BucketLifecycle(
        "lake-lifecycle",
        account_id=settings.account_id,
        bucket_name=bucket.name,
        jurisdiction=jurisdiction,
        rules=lifecycle(),
    )
    cloudflare.R2ManagedDomain(  # said, not left to a default: nobody reads the bucket by its name
        "lake-not-public",
        account_id=settings.account_id,
        bucket_name=bucket.name,
        jurisdiction=jurisdiction,
        enabled=False,
    )
    cache = cloudflare.WorkersKvNamespace(
        "cache", account_id=settings.account_id, title=f"{settings.prefix}-cache"
    )
    return Stores(databases, bucket, cache)


def lifecycle() -> list[cloudflare.R2BucketLifecycleRuleArgs]:
    """What R2 does with objects by itself. `landing/` is the only record of what arrived, and
    `lake/` what it was made into: neither ever expires.

    Infrequent Access costs less to keep and more to read, and bills 30 days at least
    (https://developers.cloudflare.com/r2/buckets/storage-classes/, read 2026-11). The lake itself
    stays where reading is cheap.
    """
    return [
        _rule("abort-unfinished-uploads", "", abort_after=DAY),
        _rule("landing-to-infrequent-access", "landing/", infrequent_after=90 * DAY),
        _rule("attachments-to-infrequent-access", "attachments/", infrequent_after=90 * DAY),
        # Messages wait in the queue for 14 days at most, and what was parked for them as long.
        _rule("parked-expires", "parked/", delete_after=15 * DAY),
        _rule("backups-expire", "backups/", delete_after=35 * DAY),
    ]


def _rule(
    name: str,
    prefix: str,
    *,
    abort_after: int | None = None,
    delete_after: int | None = None,
    infrequent_after: int | None = None,
) -> cloudflare.R2BucketLifecycleRuleArgs:
    """A rule for objects under a prefix; ages in seconds."""
    abort = delete = transitions = None
    if abort_after:
        abort = cloudflare.R2BucketLifecycleRuleAbortMultipartUploadsTransitionArgs(
            condition=cloudflare.R2BucketLifecycleRuleAbortMultipartUploadsTransitionConditionArgs(
                type="Age", max_age=abort_after
            )
        )
    if delete_after:
        delete = cloudflare.R2BucketLifecycleRuleDeleteObjectsTransitionArgs(
            condition=cloudflare.R2BucketLifecycleRuleDeleteObjectsTransitionConditionArgs(
                type="Age", max_age=delete_after
            )
        )
    if infrequent_after:
        transitions = [
            cloudflare.R2BucketLifecycleRuleStorageClassTransitionArgs(
                storage_class="InfrequentAccess",
                condition=cloudflare.R2BucketLifecycleRuleStorageClassTransitionConditionArgs(
                    type="Age", max_age=infrequent_after
                ),
            )
        ]
    return cloudflare.R2BucketLifecycleRuleArgs(
        id=name,
        enabled=True,
        conditions=cloudflare.R2BucketLifecycleRuleConditionsArgs(prefix=prefix),
        abort_multipart_uploads_transition=abort,
        delete_objects_transition=delete,
        storage_class_transitions=transitions,
    )
