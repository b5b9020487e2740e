"""The one FastAPI application: push endpoints and health.

Belongs here: putting routes together, and what lives as long as the server does. Does not belong
here: what a route does (`pushes.py`).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from communicator_pipeline.gateway import pushes
from communicator_pipeline.gateway.queue_writer import QueueWriter
from communicator_pipeline.platforms import platforms
from communicator_pipeline.storage import Stores
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
    app.include_router(pushes.router(stores))

    @app.get("/", tags=["service"])
    def service() -> dict[str, object]:
        """Which service this is."""
        data = {
            "service": "communicator",
            "version": app.version,
            "environment": os.environ.get("COMMUNICATOR_ENVIRONMENT", "local"),
        }
        return {"success": True, "data": data, "error": None}

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

    return app
