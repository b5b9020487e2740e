"""Polling: every due account is asked, and history that was asked for goes on.

Belongs here: which accounts, how many at once. Does not belong here: what a pull is (`pull.py`).
A poll makes no run: what has landed is marked, and whoever materialises takes it from there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime, timedelta

from communicator_pipeline.ingestion.pull import (
    PullReport,
    Stop,
    pull_history,
    pull_new,
    unfinished_history,
)
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.connections import Connections

AT_ONCE = 8
"""Accounts that are asked at the same time: a pull mostly waits for its platform."""

HISTORY_STEP = timedelta(seconds=20)
"""How long an account's history goes on before what is new has its turn again; cursors allow it."""

MAY_GO_ON = ("ok", "waiting")
"""After what is new came to one of these ends, history has its turn. A limit is no hindrance: if it
is one on the whole account, or on history, nothing is asked."""

log = logging.getLogger("communicator.poll")


def poll(stores: Stores, now: datetime) -> Iterator[PullReport]:
    """Ask every account that is due, each once; reports as they come. `now` is UTC."""
    due = Connections(stores).due(now)
    if not due:
        return
    with ThreadPoolExecutor(min(AT_ONCE, len(due)), "poll") as pool:
        for future in as_completed([pool.submit(poll_one, stores, key) for key in due]):
            yield future.result()


def poll_one(stores: Stores, account: str) -> PullReport:
    """What is new in one account, then some more of its history. Never raises."""
    report = poll_new(stores, account)
    if report.state in MAY_GO_ON:
        poll_history(stores, account)
    return report


def poll_new(stores: Stores, account: str, stop: Stop = lambda: False) -> PullReport:
    """What is new in one account, until it is all there or `stop` says so. Never raises."""
    try:
        return pull_new(stores, account, stop=stop)
    except NotFound as error:
        return PullReport(account, "removed", str(error))
    except Exception as error:
        log.exception("%s could not be polled", account)
        return PullReport(account, "fault", f"{type(error).__name__}: {error}")


def poll_history(stores: Stores, account: str, stop: Stop = lambda: False) -> PullReport:
    """Some more of an account's history, if it was asked for: for the length of a step, or until
    `stop`. Never raises."""
    until = time.monotonic() + HISTORY_STEP.total_seconds()
    try:
        window = unfinished_history(stores, account)
        if window is None:
            return PullReport(account)
        return pull_history(
            stores, account, window, stop=lambda: stop() or time.monotonic() > until
        )
    except NotFound as error:
        return PullReport(account, "removed", str(error))
    except Exception as error:
        log.exception("%s's history could not be polled", account)
        return PullReport(account, "fault", f"{type(error).__name__}: {error}")
