"""The JSON API: `/api/v1`.

Belongs here: putting its routes together. Does not belong here: what a route does (one module for
each subject), what answers are wrapped in (`gateway/envelope.py`).

The routes call the functions that the command line calls. A route that changes something depends
on `Writer` and notes in the audit log what was done, after it was done. What users or platforms
name (conversations, categories) travels in the query, since a path does not carry every text.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

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
from communicator_pipeline.gateway.envelope import REFUSALS, Refusal

PREFIX = "/api/v1"

_KEY = HTTPBearer(
    auto_error=False,  # `Reader` says what is wrong, in the envelope
    description="An API key (`communicator keys add NAME`); the inbox's session does as well.",
)


def router() -> APIRouter:
    """All routes of the API, to be included under `PREFIX`."""
    routes = APIRouter(
        responses={400: {"model": Refusal, "description": "The body is no JSON"}, **REFUSALS},
        dependencies=[Depends(_private), Depends(_KEY)],
        generate_unique_id_function=_name,
    )
    for part in (
        people, accounts, conversations, corrections, deliveries, memories, notifying, redrafts,
        contacts, usage,
    ):  # fmt: skip
        routes.include_router(part.routes)
    return routes


def _private(response: Response) -> None:
    """No cache on the way, nor the browser's, keeps what is one user's alone."""
    response.headers["Cache-Control"] = "no-store"


def _name(route: APIRoute) -> str:
    return route.name
