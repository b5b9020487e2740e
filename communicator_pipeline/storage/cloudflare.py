"""Cloudflare's REST API: who asks it, how often it may be asked, what is asked again.

Belongs here: the account and its client, the budget of calls, waiting and asking again. Does not
belong here: what is asked (`d1.py`, `kv.py`, `ingestion/edge_queue.py`). R2 has an interface of its
own (`r2.py`) and does not count.

Cloudflare takes 1,200 calls in 5 minutes from a user, counted over all tokens, and then refuses
every one for the next 5 minutes
(https://developers.cloudflare.com/fundamentals/api/reference/limits/, read 2026-11). So calls are
counted in a file that all processes of a machine share. Machines do not see each other's files:
where there are several, `COMMUNICATOR_CLOUDFLARE_CALLS` says how many of the 1,200 are this one's.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import apsw

if TYPE_CHECKING:
    from cloudflare import Cloudflare

T = TypeVar("T")

MOST_CALLS = 1_200
WINDOW = 300.0  # seconds
MARGIN = 5.0
"""Seconds that a call counts longer here than there: it may have travelled for a while."""

BLOCK = 300.0
"""Seconds for which nobody asks after a 429 that does not say how long."""

PATIENCE = 60.0
"""Seconds that a call waits for its turn before it gives up with `CallsUsedUp`."""

PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds before the second, third, … try of what may be asked again."""

BASE_URL = "https://api.cloudflare.com/client/v4"


class CallsUsedUp(Exception):
    """Cloudflare may not be asked now; nothing was asked. The message says until when."""

    def __init__(self, until: float) -> None:
        moment = datetime.fromtimestamp(until, UTC)
        super().__init__(
            f"Cloudflare's API may not be asked again before {moment:%H:%M:%S} UTC: its limit is "
            f"{MOST_CALLS} calls in 5 minutes. Let the pipeline and the gateway reach the database "
            "through the edge Worker (COMMUNICATOR_D1_URL), which does not count"
        )
        self.until = until


class CallBudget:
    """The calls of the last five minutes, counted in a file by all processes of a machine.

    Safe for threads and processes. What a power cut takes from the file is five minutes of counts.
    """

    def __init__(self, path: Path, most: int = MOST_CALLS) -> None:
        self.path = path
        self.most = most
        self._local = threading.local()

    def take(self, patience: float = PATIENCE) -> None:
        """Count one call; waits for its turn up to `patience` seconds, then raises
        `CallsUsedUp`."""
        deadline = time.time() + patience
        while (turn := self._next_turn()) is not None:
            if turn > deadline:
                raise CallsUsedUp(turn)
            time.sleep(max(0.01, min(turn - time.time(), 1.0)))

    def block(self, seconds: float) -> None:
        """Nobody on this machine asks for so long: Cloudflare said so."""
        self._connection().execute(
            "UPDATE blocked SET until = max(until, ?)", (time.time() + seconds,)
        )

    def used(self) -> int:
        """Calls that count now."""
        rows = self._connection().execute(
            "SELECT count(*) FROM calls WHERE at > ?", (time.time() - WINDOW - MARGIN,)
        )
        return int(next(iter(rows))[0])

    def blocked_until(self) -> float:
        """When Cloudflare may be asked again, as `time.time()` counts; 0 if it never refused."""
        return float(next(iter(self._connection().execute("SELECT until FROM blocked")))[0])

    def _next_turn(self) -> float | None:
        """Takes a turn and gives None, or says when there will be one."""
        connection = self._connection()
        now = time.time()
        connection.execute("BEGIN IMMEDIATE")
        with connection:  # a savepoint: released or rolled back whatever happens
            blocked = self.blocked_until()
            connection.execute("DELETE FROM calls WHERE at <= ?", (now - WINDOW - MARGIN,))
            count, oldest = next(iter(connection.execute("SELECT count(*), min(at) FROM calls")))
            turn = None
            if blocked > now:
                turn = blocked
            elif count >= self.most:
                turn = float(oldest) + WINDOW + MARGIN
            else:
                connection.execute("INSERT INTO calls (at) VALUES (?)", (now,))
        connection.execute("COMMIT")
        return turn

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = apsw.Connection(str(self.path))
            connection.set_busy_timeout(30_000)
            connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF")
            connection.execute("CREATE TABLE IF NOT EXISTS calls (at REAL NOT NULL)")
            connection.execute("CREATE INDEX IF NOT EXISTS calls_in_time ON calls (at)")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS blocked (one INTEGER PRIMARY KEY, until REAL NOT NULL)"
            )
            connection.execute("INSERT OR IGNORE INTO blocked VALUES (1, 0)")
            self._local.connection = connection
        return connection


@dataclass(frozen=True)
class CloudflareAccount:
    """An account at Cloudflare, and a token that may use it."""

    account_id: str
    api_token: str = field(repr=False)
    budget: CallBudget | None
    """None: the calls do not count, because they go to the edge Worker."""

    base_url: str = BASE_URL
    timeout: float = 40.0  # seconds: D1 takes 30 for a statement

    def client(self) -> Cloudflare:
        """The official client; asks once, for asking again is `call`'s."""
        known: Cloudflare | None = self.__dict__.get("_client")
        if known is None:
            import httpx
            from cloudflare import Cloudflare

            known = Cloudflare(
                api_token=self.api_token,
                base_url=self.base_url,
                max_retries=0,
                timeout=httpx.Timeout(self.timeout, connect=5.0),
            )
            self.__dict__["_client"] = known  # frozen for callers; the client is made when needed
        return known

    def call(self, ask: Callable[[], T], repeatable: bool, unsaid_wait: float | None = None) -> T:
        """What `ask` gives, which makes exactly one call. Waits for a turn.

        A 429 puts off every process of this machine, and the call is made when it is over if that
        is within `PATIENCE`: it did nothing. What failed on the way or with 5xx is asked again
        only if it is `repeatable`. Raises `CallsUsedUp`, or in the end what the client raised.

        `unsaid_wait`: for what has limits of its own besides those of the user. A 429 that does
        not say how long is taken for one of these: the call is made again after so many seconds,
        and nobody else is put off.
        """
        from cloudflare import APIConnectionError, APIStatusError

        tries = 0
        while True:
            if self.budget:
                self.budget.take()
            try:
                return ask()
            except (APIStatusError, APIConnectionError) as error:
                tries += 1
                if isinstance(error, APIStatusError) and error.status_code == 429:
                    said = error.response.headers.get("retry-after")
                    if not said and unsaid_wait is not None:
                        if tries > len(PAUSES):
                            raise
                        time.sleep(unsaid_wait * random.uniform(1.0, 1.3))  # noqa: S311
                        continue
                    wait = retry_after(said)
                    if self.budget:
                        self.budget.block(wait)
                    if wait > PATIENCE or tries > len(PAUSES):
                        raise CallsUsedUp(time.time() + wait) from None
                    if not self.budget:
                        time.sleep(wait)
                    continue
                if tries > len(PAUSES) or not (
                    nothing_left_us(error) or (repeatable and may_pass(error))
                ):
                    raise
                time.sleep(PAUSES[tries - 1] * random.uniform(0.7, 1.3))  # noqa: S311


@dataclass(frozen=True)
class EdgeQueue:
    """The queue into which the edge Worker puts what is pushed, and where it goes that nobody
    could take out."""

    account: CloudflareAccount
    queue_id: str
    dead_queue_id: str  # "" if there is none


def retry_after(header: str | None) -> float:
    """Seconds that a 429 asks for."""
    try:
        return max(0.0, float(header or ""))
    except ValueError:
        return BLOCK


def may_pass(error: Exception) -> bool:
    """Whether the same call may succeed a moment later."""
    from cloudflare import APIConnectionError, APIStatusError

    if isinstance(error, APIStatusError):
        return error.status_code >= 500 or error.status_code == 408
    return isinstance(error, APIConnectionError)


def nothing_left_us(error: Exception) -> bool:
    """Whether it is certain that Cloudflare saw nothing of the call."""
    import httpx

    return isinstance(
        error.__cause__, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout
    )
