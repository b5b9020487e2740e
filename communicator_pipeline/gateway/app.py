"""The one FastAPI application: push endpoints, JSON API, inbox pages, health, metrics.

Belongs here: putting routes together, and what lives as long as the server does. Does not belong
here: what a route does (`pushes.py`, `api.py`, `pages/`).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException

from communicator_pipeline.gateway import api, pushes
from communicator_pipeline.gateway.access import access_of_environment
from communicator_pipeline.gateway.envelope import refusal
from communicator_pipeline.gateway.identity import Limiter, TooManyRequests
from communicator_pipeline.gateway.metrics import add_metrics
from communicator_pipeline.gateway.pages import (
    contacts,
    figures,
    inbox,
    memories,
    redrafting,
    signing_in,
)
from communicator_pipeline.gateway.pages.rendering import STATIC, asset
from communicator_pipeline.gateway.queue_writer import QueueWriter
from communicator_pipeline.platforms import platforms
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.queue import IngestionQueue


def create_app(stores: Stores) -> FastAPI:
    """The application on these stores."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(platforms)  # else the first push waits while they are imported
        async with QueueWriter(IngestionQueue(stores.database)) as writer:
            app.state.queue_writer = writer
            yield

    app = FastAPI(
        title="Communicator",
        version=version("communicator-pipeline"),
        lifespan=lifespan,
        docs_url=None,  # the stock page loads its scripts from elsewhere
        redoc_url=None,
    )
    app.state.stores = stores
    app.state.limiter = Limiter()
    app.state.access = access_of_environment()
    # Not for event streams: what is compressed is held back until there is enough of it, and
    # Starlette leaves `text/event-stream` alone.
    app.add_middleware(GZipMiddleware, minimum_size=1_000)
    origins = os.environ.get("COMMUNICATOR_CORS_ORIGINS", "").split()
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    add_metrics(app, stores)
    for kind in (
        NotFound, PermissionError, ValueError, TooManyRequests, RequestValidationError,
        HTTPException,
    ):  # fmt: skip
        app.add_exception_handler(kind, _refused)
    app.include_router(pushes.router(stores))
    # As they are since they were imported: included, FastAPI makes each route anew for each
    # application, which takes half a second.
    for router in (
        *api.PARTS, signing_in.router, inbox.router, figures.router, contacts.router,
        memories.router, redrafting.router,
    ):  # fmt: skip
        app.router.routes.extend(router.routes)

    @app.get("/", tags=["service"])
    def service(request: Request) -> Response:
        """Which service this is. A browser is sent on to the inbox."""
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/inbox", 303)
        data = {
            "service": "communicator",
            "version": app.version,
            "environment": os.environ.get("COMMUNICATOR_ENVIRONMENT", "local"),
        }
        return JSONResponse({"success": True, "data": data, "error": None})

    @app.get("/healthz", tags=["service"])
    def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["service"], responses={503: {"description": "Not ready"}})
    async def readyz(request: Request) -> Response:
        """The database answers, and what waits in the ingestion queue."""
        try:
            depth = await run_in_threadpool(IngestionQueue(stores.database).depth)
        except Exception as error:
            return JSONResponse({"status": "not ready", "why": type(error).__name__}, 503)
        waits = {"waiting": depth.waiting, "oldest": depth.oldest, "dead": depth.dead}
        return JSONResponse({"status": "ready", "ingestion_queue": waits})

    @app.get("/static/{digest}/{name}", include_in_schema=False)
    def static(digest: str, name: str) -> Response:
        """What the pages load; kept by browsers for ever, since the address changes with it."""
        if name not in {path.name for path in STATIC.iterdir()} or asset(name) != (
            f"/static/{digest}/{name}"
        ):
            raise HTTPException(404, "there is no such file: load the page again")
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
        }
        return FileResponse(STATIC / name, headers=headers)

    return app


def _refused(request: Request, error: Exception) -> Response:
    path = request.url.path
    if path.startswith(
        ("/inbox", "/outbox", "/login", "/logout", "/welcome", "/figures", "/digest", "/settings")
    ):
        return inbox.said_error(request, error)
    return refusal(error, request)
