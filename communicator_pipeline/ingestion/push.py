"""Pushes: verified and queued in one step, landed in another.

Belongs here: what happens to a push before and after the acknowledgement, alike for every platform.
Does not belong here: HTTP (`gateway/`), how a platform signs (`platforms/`).

Before the acknowledgement there is one durable write and nothing else. Draining lands first and
acknowledges then; a kill in between lands the same again, which changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from communicator_pipeline.ingestion.intake import Counts, Intake
from communicator_pipeline.platforms import UnknownPlatform, live_side
from communicator_pipeline.platforms.protocol import Answer, Connection, Push, Record
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import NotFound, load_account
from communicator_pipeline.storage.connections import Connections, redacted
from communicator_pipeline.storage.credentials import KeyMissing
from communicator_pipeline.storage.dead_letters import DeadLetter, bury
from communicator_pipeline.storage.landing import Envelope, Landing
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


@dataclass(frozen=True, slots=True)
class Reply:
    """What the platform is answered."""

    status: int
    body: bytes = b"{}"
    content_type: str = "application/json"


REFUSED = Reply(401, b'{"error": "not verified"}')
"""One answer for a wrong signature, an unknown account and a broken body: it tells nothing."""

TAKEN = Reply(200, b"{}")


def verify(
    connection_of: Callable[[str], Connection], platform: str, account: str, push: Push
) -> Reply | QueuedPush:
    """What to answer, or what to queue before the answer is `TAKEN`. Any exception is a 401:
    official verifiers raise all sorts of them on hostile input."""
    try:
        verdict = live_side(platform).receive(push, connection_of(account), datetime.now(UTC))
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
    accounts: set[str] = field(default_factory=set)  # in which something landed


def drain(
    stores: Stores, landing_of: Callable[[str], Landing] | None = None, most: int = 1_000
) -> Drained:
    """Land what waits in the queue: lease, land durably, mark the days, acknowledge.

    One that fails is put off, and buried after five failures; the others go on.
    """
    queue = IngestionQueue(stores.database)
    drained = Drained()
    by_account: dict[str, list[LeasedPush]] = defaultdict(list)
    for push in queue.lease(most):
        drained.taken += 1
        if push.leases > MOST_LEASES:
            why = f"it was taken {push.leases - 1} times and whoever took it died"
            _bury(stores, queue, push, why, None)
            drained.buried += 1
        else:
            by_account[push.account].append(push)
    for account, pushes in by_account.items():
        _drain_account(stores, queue, account, pushes, landing_of, drained)
    return drained


def _drain_account(
    stores: Stores,
    queue: IngestionQueue,
    account: str,
    pushes: Sequence[LeasedPush],
    landing_of: Callable[[str], Landing] | None,
    drained: Drained,
) -> None:
    try:
        connection = Connections(stores).load(account)
        live = live_side(load_account(stores.database, account).platform)
        chats = Connections(stores).chats(account)
    except (NotFound, KeyMissing, UnknownPlatform) as error:
        for push in pushes:
            _fail(stores, queue, push, str(error), None, drained)
        return
    if landing_of is not None:
        landing = landing_of(account)
        landing.refresh()
    else:
        landing = Landing(stores.lake, WorkQueue(stores.database), account)

    def land(some: Sequence[LeasedPush]) -> None:
        records: list[Record] = []
        for push in some:
            records += live.events(push.body.encode(), connection)
        counts = Counts()
        clean: Callable[[str], str] = lambda text: redacted(text, connection)  # noqa: E731
        intake = Intake(stores.database, landing, counts, STAGE, clean=clean)
        for record in records:
            # A chat that is not read when it is pulled is not read when it is pushed either.
            if not isinstance(record, Envelope) or chats.wants(record.channel_id):
                intake.take(record)
        intake.flush()
        queue.acknowledge(push.push_id for push in some)
        drained.landed += counts.kept + counts.updated
        if counts.kept + counts.updated:
            drained.accounts.add(account)

    try:
        land(pushes)
    except Exception:
        # One by one, so that one cannot hold up the others.
        for push in pushes:
            try:
                land([push])
            except Exception as error:
                _fail(stores, queue, push, f"{type(error).__name__}: {error}", connection, drained)


def _fail(
    stores: Stores,
    queue: IngestionQueue,
    push: LeasedPush,
    why: str,
    connection: Connection | None,
    drained: Drained,
) -> None:
    queue.put_off([push.push_id], timedelta(seconds=RETRY_AFTER[min(push.failures, 3)]))
    drained.failed += 1
    if push.failures + 1 >= MOST_FAILURES:
        _bury(stores, queue, push, why, connection)
        drained.buried += 1


def _bury(
    stores: Stores,
    queue: IngestionQueue,
    push: LeasedPush,
    why: str,
    connection: Connection | None,
) -> None:
    def clean(text: str) -> str:
        return redacted(text, connection) if connection else text

    letter = DeadLetter(STAGE, push.key, clean(why), clean(push.body) if connection else None)
    bury(stores.database, push.account, [letter])
    queue.bury(push.push_id)


def retry_push(stores: Stores, account: str, key: str) -> bool:
    """Have a buried push tried again; False if it is not in the queue any more."""
    return IngestionQueue(stores.database).revive(account, key)
