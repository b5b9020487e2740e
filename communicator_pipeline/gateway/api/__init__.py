"""The JSON API: `/api/v1`.

Belongs here: which parts it has. Does not belong here: what they have in common (`routing.py`),
what a route does (one module for each subject), what answers are wrapped in
(`gateway/envelope.py`).

The routes call the functions that the command line calls. A route that changes something depends
on `Writer` and notes in the audit log what was done, after it was done. What users or platforms
name (conversations, categories) travels in the query, since a path does not carry every text.
"""

from __future__ import annotations

from communicator_pipeline.gateway.api import (
    accounts,
    contacts,
    conversations,
    corrections,
    deliveries,
    memories,
    notifying,
    people,
    redrafts,
    usage,
)

PARTS = tuple(
    part.routes
    for part in (
        people, accounts, conversations, corrections, deliveries, memories, notifying, redrafts,
        contacts, usage,
    )
)  # fmt: skip
