"""What all routes of the JSON API have in common.

Belongs here: their prefix, key, refusals and names. Does not belong here: the routes themselves
(one module for each subject).
"""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from communicator_pipeline.gateway.envelope import REFUSALS, Refusal

PREFIX = "/api/v1"

_KEY = HTTPBearer(
    auto_error=False,  # `Reader` says what is wrong, in the envelope
    description="An API key (`communicator keys add NAME`); the inbox's session does as well.",
)


def api_routes() -> APIRouter:
    """A router for a part of the API."""
    return APIRouter(
        prefix=PREFIX,
        responses={400: {"model": Refusal, "description": "The body is no JSON"}, **REFUSALS},
        dependencies=[Depends(_private), Depends(_KEY)],
        generate_unique_id_function=_name,
    )


def _private(response: Response) -> None:
    """No cache on the way, nor the browser's, keeps what is one user's alone."""
    response.headers["Cache-Control"] = "no-store"


def _name(route: APIRoute) -> str:
    return route.name
