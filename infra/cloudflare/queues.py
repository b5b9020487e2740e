"""The queue between the edge and the pipeline, and where its dead letters go.

Belongs here: queues and their consumers. Does not belong here: who puts in (`edge.py`) and who
may take out (`tokens.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi_cloudflare as cloudflare
from settings import Settings
from stores import kept

RETENTION = 1_209_600
"""Seconds (14 days), the most that Queues allows
(https://developers.cloudflare.com/queues/platform/limits/, read 2026-11)."""

MOST_RETRIES = 20
"""Then a message goes to the dead letters. Each time that it was pulled and not acknowledged
counts, also when the pipeline was killed: so rather too many than too few."""

VISIBILITY = 120_000
"""Milliseconds for which a message that was pulled is nobody else's: landing takes seconds."""


@dataclass(frozen=True)
class Queues:
    ingestion: cloudflare.Queue
    dead: cloudflare.Queue


def make_queues(settings: Settings) -> Queues:
    dead = _queue(settings, "ingestion-dead")
    ingestion = _queue(settings, "ingestion")
    for name, queue, dead_letters in (
        ("ingestion-pull", ingestion, dead.queue_name),
        # Without a dead letter queue Queues deletes a message after its last retry: nothing is
        # read from this one but to be acknowledged.
        ("ingestion-dead-pull", dead, None),
    ):
        cloudflare.QueueConsumer(
            name,
            account_id=settings.account_id,
            queue_id=queue.queue_id,
            type="http_pull",
            dead_letter_queue=dead_letters,
            settings=cloudflare.QueueConsumerSettingsArgs(
                batch_size=100,
                max_retries=MOST_RETRIES if dead_letters is not None else 100,
                retry_delay=0,
                visibility_timeout_ms=VISIBILITY,
            ),
        )
    return Queues(ingestion, dead)


def _queue(settings: Settings, name: str) -> cloudflare.Queue:
    return cloudflare.Queue(
        name,
        account_id=settings.account_id,
        queue_name=f"{settings.prefix}-{name}",
        settings=cloudflare.QueueSettingsArgs(
            delivery_delay=0, delivery_paused=False, message_retention_period=RETENTION
        ),
        opts=kept(settings),
    )
