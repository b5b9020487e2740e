"""`POST /push/{platform}/{account}`: verify the raw bytes, write them durably, acknowledge.

Belongs here: reading the request and answering. Does not belong here: verifying (`platforms/`),
landing (`ingestion/push.py`). Nothing else happens before the acknowledgement.
"""

from __future__ import annotations

import asyncio
import time

from fastapi import APIRouter, Request, Response

from communicator_pipeline.ingestion.push import (
    REFUSED,
    TAKEN,
    Reply,
    connection_on,
    judge,
    look_up,
    verify,
)
from communicator_pipeline.platforms.protocol import Connection, Push
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.queue import LARGEST_BODY, IngestionQueue

CONNECTION_KEPT = 5.0
"""Seconds for which a connection is kept decrypted; a new secret counts after them."""

FULL_LOOKED_UP_EVERY = 5.0  # seconds

LONGEST_BODY = 10.0
"""Seconds that a body may take: whoever sends slowly holds memory, and is not a platform."""

TOO_SLOW = Reply(408, b'{"error": "the body took too long"}')
TOO_LARGE = Reply(413, b'{"error": "the body is larger than 1 MB"}')
FULL = Reply(503, b'{"error": "too many pushes of this account wait: push it again later"}')
NOT_WRITTEN = Reply(503, b'{"error": "not written: push it again"}')


def router(stores: Stores) -> APIRouter:
    """The push routes on these stores."""
    routes = APIRouter(tags=["push"])
    connections = _Connections(stores)
    full = _Full(IngestionQueue(stores.database))

    @routes.post(
        "/push/{platform}/{account}",
        responses={
            401: {"description": "Not verified, or no such account"},
            408: {"description": "The body took too long"},
            413: {"description": "Larger than 1 MB"},
            503: {"description": "Could not be verified or written, or too many pushes wait"},
        },
    )
    async def push(platform: str, account: str, request: Request) -> Response:
        """Take what a platform pushes."""
        found = look_up(lambda key: connections.get(platform, key), platform, account)
        if isinstance(found, Reply):
            return _response(found)
        try:
            async with asyncio.timeout(LONGEST_BODY):
                body = await _body(request)
        except TimeoutError:
            return _response(TOO_SLOW)
        if body is None:
            return _response(TOO_LARGE)
        verdict = judge(*found, account, _push(request, body))
        if isinstance(verdict, Reply):
            return _response(verdict)
        if account in full.accounts():
            return _response(FULL)
        try:
            await request.app.state.queue_writer.put(verdict)
        except Exception:
            return _response(NOT_WRITTEN)
        return _response(TAKEN)

    @routes.get(
        "/push/{platform}/{account}",
        responses={
            401: {"description": "Not a platform's question"},
            503: {"description": "Could not be verified"},
        },
    )
    async def challenge(platform: str, account: str, request: Request) -> Response:
        """Answer the question by which a platform makes sure whose the endpoint is."""
        verdict = verify(
            lambda key: connections.get(platform, key), platform, account, _push(request, b"")
        )
        return _response(verdict if isinstance(verdict, Reply) else REFUSED)

    return routes


class _Connections:
    """Connections, decrypted, for a few seconds each: a burst needs one look."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._known: dict[tuple[str, str], tuple[float, Connection]] = {}

    def get(self, platform: str, account: str) -> Connection:
        now = time.monotonic()
        known = self._known.get((platform, account))
        if known is None or known[0] < now:
            connection = connection_on(self._stores, platform, account)
            if len(self._known) > 10_000:
                self._known.clear()
            known = self._known[platform, account] = now + CONNECTION_KEPT, connection
        return known[1]


class _Full:
    """The accounts of which too much waits, looked up every few seconds."""

    def __init__(self, queue: IngestionQueue) -> None:
        self._queue = queue
        self._looked_up = float("-inf")
        self._accounts: set[str] = set()

    def accounts(self) -> set[str]:
        now = time.monotonic()
        if now - self._looked_up > FULL_LOOKED_UP_EVERY:
            self._accounts = self._queue.full()
            self._looked_up = now
        return self._accounts


async def _body(request: Request) -> bytes | None:
    """The body, or None if it is too large: whatever the header says, no more is read."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST_BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def _push(request: Request, body: bytes) -> Push:
    return Push(request.method, dict(request.headers), dict(request.query_params), body)


def _response(reply: Reply) -> Response:
    headers = {"retry-after": "60"} if reply is FULL else None
    return Response(reply.body, reply.status, headers, reply.content_type)
