"""What every answer of the JSON API is wrapped in: `{"success", "data", "error"}`.

Belongs here: the wrapping, and which exception is which status. Does not belong here: the pages'
errors (`pages.py`), what a route says.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from communicator_pipeline.chain.redrafting import NotRedrafted
from communicator_pipeline.delivery.approving import NotApproved, TooLate
from communicator_pipeline.delivery.recovery import NoQuestion
from communicator_pipeline.gateway.identity import TooManyRequests
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.contacts import Taken
from communicator_pipeline.storage.sign_in import NotSignedIn, TooManyFailures

Data = TypeVar("Data")


class Failure(BaseModel):
    """What was wrong, and what to do."""

    code: str
    message: str


class Answer(BaseModel, Generic[Data]):
    """An answer that succeeded."""

    model_config = ConfigDict(extra="forbid")

    success: Literal[True] = True
    data: Data
    error: None = None


class Page(BaseModel, Generic[Data]):
    """A page of a list; `next` is the cursor of the page after it, null on the last one."""

    items: list[Data]
    next: str | None = None


class Refusal(BaseModel):
    """An answer that did not."""

    success: Literal[False] = False
    data: None = None
    error: Failure


REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Refusal, "description": "Nobody is signed in, or the key is not good"},
    403: {
        "model": Refusal,
        "description": "The user's role, or the key's scope, does not allow it",
    },
    404: {"model": Refusal, "description": "There is no such thing among the user's"},
    409: {"model": Refusal, "description": "Things are not as they were when the user looked"},
    422: {"model": Refusal, "description": "The request is not well formed"},
    429: {"model": Refusal, "description": "Too many requests"},
}
"""What any route of the API may answer, for its `responses`."""

_STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (TooManyFailures, 429, "too_many_tries"),
    (TooManyRequests, 429, "too_many_requests"),
    (NotSignedIn, 401, "not_signed_in"),
    (NotFound, 404, "not_found"),
    (PermissionError, 403, "not_allowed"),
    (NotApproved, 409, "not_approved"),
    (NotRedrafted, 409, "not_redrafted"),
    (TooLate, 409, "too_late"),
    (NoQuestion, 409, "too_late"),
    (Taken, 409, "taken"),
    (ValueError, 422, "not_valid"),
)


def status_of(error: Exception) -> tuple[int, str, str]:
    """(status, code, message) of an exception that a person may see; 500 for any other."""
    if isinstance(error, RequestValidationError):
        places = (
            f"{'.'.join(str(p) for p in e['loc'][1:]) or 'the request'}: {e['msg']}"
            for e in error.errors()
        )
        return 422, "not_valid", "; ".join(places)
    if isinstance(error, HTTPException):
        return error.status_code, "http", str(error.detail)
    for kind, status, code in _STATUS:
        if isinstance(error, kind):
            message = str(error) or "too many requests: wait a minute"
            return status, code, message
    return 500, "internal", "something went wrong here; the gateway's log says what"


def refusal(error: Exception, request: Request) -> JSONResponse:
    """An exception as the API answers it."""
    status, code, message = status_of(error)
    headers = dict(getattr(error, "headers", None) or {})
    if status == 429:
        headers["Retry-After"] = "60"
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = Refusal(error=Failure(code=code, message=message)).model_dump()
    return JSONResponse(body, status, headers)
