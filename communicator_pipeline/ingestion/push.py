"""Pushes: verified and queued in one step, landed in another.

Belongs here: what happens to a push before and after the acknowledgement, alike for every platform.
Does not belong here: HTTP (`gateway/`), how a platform signs (`platforms/`).

Before the acknowledgement there is one durable write and nothing else. Draining lands first and
acknowledges then; a kill in between lands the same again, which changes nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from communicator_pipeline.ingestion.intake import Counts, Intake
from communicator_pipeline.platforms import UnknownPlatform, live_side
from communicator_pipeline.platforms.protocol import Answer, Connection, Live, Push, Record
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import NotFound, load_account
from communicator_pipeline.storage.connections import Connections, TroubleKind, redacted
from communicator_pipeline.storage.credentials import KeyMissing
from communicator_pipeline.storage.dead_letters import DeadLetter, bury, resolve
from communicator_pipeline.storage.lake import ACCOUNT_PATTERN
from communicator_pipeline.storage.landing import Envelope, Landing
from communicator_pipeline.storage.metering import on_behalf_of
from communicator_pipeline.storage.queue import (
    MOST_FAILURES,
    MOST_LEASES,
    IngestionQueue,
    LeasedPush,
    QueuedPush,
)
from communicator_pipeline.storage.work import WorkQueue

STAGE = "push"
RETRY_AFTER = (1, 5, 15, 60)  # seconds before the second, third, … try
OUR_FAULT_AGAIN = timedelta(seconds=60)
REST_AGAIN = timedelta(seconds=5)
MOST_IN_A_ROW = 3

log = logging.getLogger("communicator.push")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the platform is answered."""

    status: int
    body: bytes = b"{}"
    content_type: str = "application/json"


REFUSED = Reply(401, b'{"error": "not verified"}')
"""One answer for a wrong signature, an unknown account and a broken body: it tells nothing."""

UNAVAILABLE = Reply(503, b'{"error": "not now: push it again"}')
"""A fault of ours before the push could be verified: whoever pushes must not give up."""

TAKEN = Reply(200, b"{}")


def verify(
    connection_of: Callable[[str], Connection], platform: str, account: str, push: Push
) -> Reply | QueuedPush:
    """What to answer, or what to queue before the answer is `TAKEN`."""
    found = look_up(connection_of, platform, account)
    if isinstance(found, Reply):
        return found
    return judge(*found, account, push)


def look_up(
    connection_of: Callable[[str], Connection], platform: str, account: str
) -> tuple[Live, Connection] | Reply:
    """Whose push it claims to be: known before a byte of its body is read."""
    try:
        if not ACCOUNT_PATTERN.fullmatch(account):
            return REFUSED
        return live_side(platform), connection_of(account)
    except (NotFound, UnknownPlatform):
        return REFUSED
    except Exception as error:
        log.warning("the connection of %s could not be loaded: %s", account, error)
        return UNAVAILABLE


def judge(live: Live, connection: Connection, account: str, push: Push) -> Reply | QueuedPush:
    """What to answer, or what to queue. Any exception of a verifier is a 401: official ones raise
    all sorts of them on hostile input."""
    try:
        verdict = live.receive(push, connection, datetime.now(UTC))
        if isinstance(verdict, Answer):
            return Reply(verdict.status, verdict.body, verdict.content_type)
        return QueuedPush(account, verdict.key, push.body.decode())
    except Exception:
        return REFUSED


def connection_on(stores: Stores, platform: str, account: str) -> Connection:
    """The connection of an account of this platform; raises `NotFound`."""
    if load_account(stores.database, account).platform != platform:
        raise NotFound(f"{account} is not an account of {platform}")
    return Connections(stores).load(account)


def receive(stores: Stores, platform: str, account: str, push: Push) -> Reply:
    """Verify a push and queue it; durable when it returns."""
    verdict = verify(lambda key: connection_on(stores, platform, key), platform, account, push)
    if isinstance(verdict, Reply):
        return verdict
    IngestionQueue(stores.database).put([verdict])
    return TAKEN


@dataclass
class Drained:
    """What became of the pushes that were taken from the queue."""

    taken: int = 0
    landed: int = 0  # messages and versions that were new
    failed: int = 0
    buried: int = 0
    put_off: int = 0  # for a fault that is not theirs
    accounts: set[str] = field(default_factory=set)  # in which something landed


def drain(
    stores: Stores, landing_of: Callable[[str], Landing] | None = None, most: int = 1_000
) -> Drained:
    """Land what waits in the queue: lease, land durably, mark the days, acknowledge.

    One that cannot be read is put off, and buried after five failures; the others go on. What
    cannot be landed for a fault that is not its own is put off uncounted, and its account says so;
    the other accounts go on.
    """
    queue = IngestionQueue(stores.database)
    drained = Drained()
    by_account: dict[str, list[LeasedPush]] = defaultdict(list)
    for push in queue.lease(most):
        drained.taken += 1
        by_account[push.account].append(push)
    for account, pushes in by_account.items():
        try:
            with on_behalf_of(account):
                _drain_account(stores, queue, account, pushes, landing_of, drained)
        except Exception as error:
            kind: TroubleKind = "login needed" if isinstance(error, KeyMissing) else "fault"
            _put_off(stores, queue, pushes, kind, error, drained)
    return drained


def _drain_account(
    stores: Stores,
    queue: IngestionQueue,
    account: str,
    pushes: Sequence[LeasedPush],
    landing_of: Callable[[str], Landing] | None,
    drained: Drained,
) -> None:
    connections = Connections(stores)
    connection = connections.load(account)
    live = live_side(load_account(stores.database, account).platform)
    chats = connections.chats(account)
    work = WorkQueue(stores.database)
    landing = landing_of(account) if landing_of else Landing(stores.lake, work, account)

    def land(some: Sequence[tuple[LeasedPush, list[Record]]]) -> None:
        counts = Counts()
        clean: Callable[[str], str] = lambda text: redacted(text, connection)  # noqa: E731
        intake = Intake(stores.database, landing, counts, STAGE, clean=clean)
        for _, records in some:
            for record in records:
                # A chat that is not read when it is pulled is not read when it is pushed either.
                if not isinstance(record, Envelope) or chats.wants(record.channel_id):
                    intake.take(record)
        intake.flush()
        queue.acknowledge(push.push_id for push, _ in some)
        drained.landed += counts.kept + counts.updated
        if counts.kept + counts.updated:
            drained.accounts.add(account)

    readable = []
    for push in pushes:
        if push.leases > MOST_LEASES:
            why = f"it was taken {push.leases - 1} times and whoever took it died"
            _bury(stores, queue, push, why, connection, drained)
            continue
        try:
            readable.append((push, list(live.events(push.body.encode(), connection))))
        except Exception as error:
            _fail(stores, queue, push, f"{type(error).__name__}: {error}", connection, drained)
    if not readable:
        return
    try:
        land(readable)
    except Exception as error:
        _land_one_by_one(stores, queue, readable, land, error, drained)
        return
    connections.note_push_success(account)


def _land_one_by_one(
    stores: Stores,
    queue: IngestionQueue,
    readable: Sequence[tuple[LeasedPush, list[Record]]],
    land: Callable[[Sequence[tuple[LeasedPush, list[Record]]]], None],
    error: Exception,
    drained: Drained,
) -> None:
    """Together they could not be landed: one cannot hold up the others. After some in a row it is
    not they; those behind them come first the next time."""
    stuck: list[LeasedPush] = []
    in_a_row = 0
    for place, one in enumerate(readable):
        try:
            land([one])
            in_a_row = 0
        except Exception as again:
            error = again
            stuck.append(one[0])
            in_a_row += 1
        if in_a_row == MOST_IN_A_ROW:
            rest = [push for push, _ in readable[place + 1 :]]
            queue.put_off(rest, REST_AGAIN, failed=False)
            break
    if stuck:
        _put_off(stores, queue, stuck, "fault", error, drained)


def _put_off(
    stores: Stores,
    queue: IngestionQueue,
    pushes: Sequence[LeasedPush],
    kind: TroubleKind,
    error: Exception,
    drained: Drained,
) -> None:
    """A fault that is not theirs: they wait, and the account says why."""
    account = pushes[0].account
    drained.put_off += len(pushes)
    try:
        words = str(error) if kind == "login needed" else f"{type(error).__name__}: {error}"
        Connections(stores).note_push_trouble(account, kind, words)
        queue.put_off(pushes, OUR_FAULT_AGAIN, failed=False)
    except Exception:
        # The database itself: the lease ends, and they are taken again.
        log.exception("pushes of %s could not be put off", account)


def _fail(
    stores: Stores,
    queue: IngestionQueue,
    push: LeasedPush,
    why: str,
    connection: Connection,
    drained: Drained,
) -> None:
    drained.failed += 1
    if push.failures + 1 >= MOST_FAILURES:
        _bury(stores, queue, push, why, connection, drained)
        return
    queue.put_off([push], timedelta(seconds=RETRY_AFTER[min(push.failures, 3)]), failed=True)


def _bury(
    stores: Stores,
    queue: IngestionQueue,
    push: LeasedPush,
    why: str,
    connection: Connection,
    drained: Drained,
) -> None:
    letter = DeadLetter(STAGE, push.key, redacted(why, connection), redacted(push.body, connection))
    bury(stores.database, push.account, [letter])
    if queue.bury(push):
        drained.buried += 1
    else:  # somebody else has taken it since
        resolve(stores.database, push.account, [letter])


def retry_push(stores: Stores, account: str, key: str) -> bool:
    """Have a buried push tried again; False if it is not in the queue any more."""
    return IngestionQueue(stores.database).revive(account, key)
