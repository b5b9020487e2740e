"""Polling: every due account is asked, and history that was asked for goes on.

Belongs here: which accounts, how many at once. Does not belong here: what a pull is (`pull.py`).
A poll makes no run: what has landed is marked, and whoever materialises takes it from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime

from communicator_pipeline.ingestion.pull import (
    PullReport,
    pull_history,
    pull_new,
    unfinished_history,
)
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.connections import Connections

AT_ONCE = 8
"""Accounts that are asked at the same time: a pull mostly waits for its platform."""


def poll(stores: Stores, now: datetime) -> Iterator[PullReport]:
    """Ask every account that is due, each once; reports as they come. `now` is UTC."""
    due = Connections(stores).due(now)
    if not due:
        return
    with ThreadPoolExecutor(min(AT_ONCE, len(due)), "poll") as pool:
        for future in as_completed([pool.submit(poll_one, stores, key) for key in due]):
            yield future.result()


def poll_one(stores: Stores, account: str) -> PullReport:
    """What is new in one account; and if there was time for that, some more of its history."""
    report = pull_new(stores, account)
    if report.state == "ok" and (window := unfinished_history(stores, account)) is not None:
        pull_history(stores, account, window)
    return report
