"""Durable writes to the ingestion queue, many in one transaction.

Belongs here: gathering what waits while the disk syncs. Does not belong here: verifying.

A commit that is synced to the disk takes milliseconds; whoever comes meanwhile goes with the next
one. Nobody is answered before the own row is on the disk.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType

from communicator_pipeline.storage.queue import IngestionQueue, QueuedPush

MOST_TOGETHER = 500
MOST_BYTES = 8 * 2**20


class QueueWriter:
    """Writes for the length of an `async with`."""

    def __init__(self, queue: IngestionQueue) -> None:
        self._queue = queue
        self._waiting: list[tuple[QueuedPush, asyncio.Future[None]]] = []
        self._news = asyncio.Event()

    async def put(self, push: QueuedPush) -> None:
        """Returns when the push is durable; raises what the database raised."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((push, done))
        self._news.set()
        await done

    async def __aenter__(self) -> QueueWriter:
        self._task = asyncio.create_task(self._write())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _write(self) -> None:
        while True:
            await self._news.wait()
            some = self._some()
            if not self._waiting:
                self._news.clear()
            try:
                await asyncio.to_thread(self._queue.put, [push for push, _ in some])
            except Exception as error:
                for _, done in some:
                    if not done.done():
                        done.set_exception(error)
                continue
            for _, done in some:
                if not done.done():
                    done.set_result(None)

    def _some(self) -> list[tuple[QueuedPush, asyncio.Future[None]]]:
        """The next few, in order, and not more than a transaction should hold."""
        size, count = 0, 0
        for push, _ in self._waiting[:MOST_TOGETHER]:
            size += len(push.body)
            if count and size > MOST_BYTES:
                break
            count += 1
        some, self._waiting = self._waiting[:count], self._waiting[count:]
        return some
