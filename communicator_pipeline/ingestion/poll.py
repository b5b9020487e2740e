"""Polling: every due account is asked, and history that was asked for goes on.

Belongs here: which accounts, how many at once. Does not belong here: what a pull is (`pull.py`).
A poll makes no run: what has landed is marked, and whoever materialises takes it from there.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
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
from communicator_pipeline.storage.connections import Connections, DueAccount

AT_ONCE = 8
"""Accounts that are asked at the same time: a pull mostly waits for its platform."""

HISTORIES_AT_ONCE = 2
"""Accounts whose history goes on at the same time: in places of their own, so that history never
keeps what is new waiting."""

HISTORY_STEP = timedelta(seconds=20)
"""How long an account's history goes on before what is new has its turn again; cursors allow it."""

MAY_GO_ON = ("ok", "waiting")
"""After what is new came to one of these ends, history has its turn. A limit is no hindrance: if it
is one on the whole account, or on history, nothing is asked."""

log = logging.getLogger("communicator.poll")


def next_accounts(
    due: Sequence[DueAccount], under_way: Collection[DueAccount], places: int
) -> list[DueAccount]:
    """Those that may begin now, while so many places are taken: whose tenant and platform have the
    fewest under way comes first, then who has waited longest.

    A quarter of the places is left to tenants and platforms that have less than half of them: a
    platform that answers slowly, or a tenant with a thousand accounts, never takes them all.
    """
    busy = list(under_way)
    at_it = {account.account for account in busy}
    waiting = [account for account in due if account.account not in at_it]
    chosen: list[DueAccount] = []
    while waiting and len(busy) < places:
        tenants = Counter(account.tenant for account in busy)
        platforms = Counter(account.platform for account in busy)
        is_scarce = places - len(busy) <= places // 4
        may = [
            account
            for account in waiting
            if not is_scarce
            or 2 * max(tenants[account.tenant], platforms[account.platform]) < places
        ]
        if not may:
            break
        # `min` takes the first of equals, and they are in order of waiting.
        first = min(may, key=lambda a: (tenants[a.tenant], platforms[a.platform]))
        waiting.remove(first)
        busy.append(first)
        chosen.append(first)
    return chosen


def poll(stores: Stores, now: datetime) -> Iterator[PullReport]:
    """Ask every account that is due, each once; reports as they come. `now` is UTC."""
    due = Connections(stores).due(now)
    under_way: dict[Future[PullReport], DueAccount] = {}
    with ThreadPoolExecutor(AT_ONCE, "poll") as pool:
        while due or under_way:
            for account in next_accounts(due, under_way.values(), AT_ONCE):
                due.remove(account)
                under_way[pool.submit(poll_one, stores, account.account)] = account
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                del under_way[future]
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
