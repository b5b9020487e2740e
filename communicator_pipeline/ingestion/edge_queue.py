"""What the edge has queued, moved into the database's ingestion queue.

Belongs here: pulling from Cloudflare Queues, fetching bodies that were too large for them,
acknowledging. Does not belong here: verifying a push (the edge has), landing it (`push.py`).

Cloudflare Queues deliver at least once and take a late acknowledgement
(https://developers.cloudflare.com/queues/configuration/pull-consumers/, read 2026-11). A push is
acknowledged after it is durable in the database, where its key is unique, and only then is a body
that lay in R2 deleted: killed anywhere in between, it is moved again, and nothing is lost or twice.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.cloudflare import CloudflareAccount
from communicator_pipeline.storage.dead_letters import DeadLetter, bury
from communicator_pipeline.storage.metering import count
from communicator_pipeline.storage.queue import LARGEST_BODY, IngestionQueue, QueuedPush

if TYPE_CHECKING:
    from cloudflare.types.queues.message_ack_params import Ack, Retry
    from cloudflare.types.queues.message_pull_response import Message, MessagePullResponse

log = logging.getLogger(__name__)

STAGE = "edge queue"
PARKED = "parked/"
"""Where the edge lays bodies that are too large for a message, which has 128 KB at most."""

BATCH = 100  # messages: the most that one call gives, and acknowledges
LEASE = timedelta(seconds=60)
AGAIN = timedelta(seconds=60)
"""When a message is delivered again that could not be moved for a fault of ours."""

_MOST_BYTES = 8 * 2**20  # of bodies in one transaction; the database takes a request of 10 MB


@dataclass
class Moved:
    """What became of the messages that were pulled."""

    pulled: int = 0
    moved: int = 0  # are in the ingestion queue, or their account does not exist any more
    buried: int = 0  # could not be read: they are dead letters, or only in the log
    put_off: int = 0  # for a fault that is not theirs
    backlog: int = 0  # messages that the queue held when it was last asked, as far as it knows
    oldest: datetime | None = None  # when the oldest of them came (UTC); None if it does not know


@dataclass(frozen=True)
class _Taken:
    """A message that is leased, and what it says."""

    lease_id: str
    account: str
    key: str
    body: str | None  # None: it is parked
    parked: str | None


@dataclass
class _Sorted:
    """What is to be done with the messages of one batch."""

    acks: list[str] = field(default_factory=list)  # lease ids
    retries: list[str] = field(default_factory=list)
    parked: list[str] = field(default_factory=list)  # objects that are not needed any more


class _Unreadable(ValueError):
    """The message is not one of the edge's; says why."""


def move(account: CloudflareAccount, queue_id: str, stores: Stores, most: int = 1_000) -> Moved:
    """Move what waits at the edge into the ingestion queue, until there is no more or `most`
    messages were pulled.

    Draining the dead-letter queue is the same with its id: what is in it was verified, and only
    could not be moved for too long. What cannot be read becomes a dead letter of its account.
    Raises what the database raised: nothing is acknowledged then, and comes again. Raises
    `CallsUsedUp` or what Cloudflare's client raised if the queue cannot be asked.
    """
    done = Moved()
    while done.pulled < most:
        size = min(BATCH, most - done.pulled)
        answer = _pull(account, queue_id, size)
        messages = (answer and answer.messages) or []
        for message in messages:
            count("queues operations", _operations(message), _account_of(message.body or ""))
        _note_backlog(done, answer)
        done.pulled += len(messages)
        if messages:
            _move_batch(account, queue_id, stores, messages, done)
        if len(messages) < size:
            break
    return done


def _move_batch(
    account: CloudflareAccount,
    queue_id: str,
    stores: Stores,
    messages: Sequence[Message],
    done: Moved,
) -> None:
    batch = _Sorted()
    for some in _together(_readable(stores, messages, batch, done)):
        IngestionQueue(stores.database).put([push for _, push in some])
        for taken, _ in some:
            batch.acks.append(taken.lease_id)
            if taken.parked:
                batch.parked.append(taken.parked)
        done.moved += len(some)
    done.put_off += len(batch.retries)
    _acknowledge(account, queue_id, batch)
    for key in batch.parked:
        try:
            stores.lake.objects.delete(key)
        except OSError as error:  # R2 deletes it by itself some day
            log.warning("%s could not be deleted: %s", key, error)


def _readable(
    stores: Stores, messages: Sequence[Message], batch: _Sorted, done: Moved
) -> Iterator[tuple[_Taken, QueuedPush]]:
    """The pushes of the messages; those that cannot be had are sorted out on the way."""
    for message in messages:
        lease_id = message.lease_id or ""
        try:
            taken = _read(lease_id, message.body or "")
        except _Unreadable as error:
            _bury(stores, _account_of(message.body or ""), message, str(error))
            batch.acks.append(lease_id)
            done.buried += 1
            continue
        try:
            body = taken.body if taken.parked is None else _fetched(stores, taken.parked)
        except FileNotFoundError:
            batch.acks.append(lease_id)
            if _is_known(stores, taken):  # moved before, when the acknowledgement was lost
                done.moved += 1
            else:
                why = f"its body is not at {taken.parked} any more: ask the sender to push it again"
                _bury(stores, taken.account, message, why)
                done.buried += 1
            continue
        except _Unreadable as error:
            _bury(stores, taken.account, message, str(error))
            batch.acks.append(lease_id)
            done.buried += 1
            continue
        except OSError as error:
            log.warning("%s could not be read, and is put off: %s", taken.parked, error)
            batch.retries.append(lease_id)
            continue
        yield taken, QueuedPush(taken.account, taken.key, body or "")


def _together(
    pushes: Iterator[tuple[_Taken, QueuedPush]],
) -> Iterator[list[tuple[_Taken, QueuedPush]]]:
    """The pushes, as many at once as a transaction should hold."""
    some: list[tuple[_Taken, QueuedPush]] = []
    size = 0
    for taken, push in pushes:
        length = len(push.body.encode())
        if some and size + length > _MOST_BYTES:
            yield some
            some, size = [], 0
        some.append((taken, push))
        size += length
    if some:
        yield some


def _read(lease_id: str, body: str) -> _Taken:
    """What a message says. Raises `_Unreadable`."""
    held = _held(body)
    wanted = {name: held.get(name) for name in ("account", "key", "body", "parked")}
    if not all(value is None or isinstance(value, str) for value in wanted.values()):
        raise _Unreadable("account, key, body and parked must be texts")
    if not wanted["account"] or not wanted["key"]:
        raise _Unreadable("it does not say whose it is, or its key")
    if (wanted["body"] is None) == (wanted["parked"] is None):
        raise _Unreadable("it should have either a body or the place where the body lies")
    if wanted["parked"] is not None and not wanted["parked"].startswith(PARKED):
        raise _Unreadable(f"its body should lie under {PARKED}, not at {wanted['parked']!r}")
    return _Taken(
        lease_id, wanted["account"], wanted["key"], wanted["body"], wanted["parked"] or None
    )


def _held(body: str) -> dict[str, Any]:
    """The JSON of a message: in base64 if it was sent as JSON, as it is if it was sent as text."""
    try:
        plain = (
            body.encode() if body.lstrip().startswith("{") else base64.b64decode(body, None, True)
        )
        held = orjson.loads(plain)
    except (binascii.Error, ValueError) as error:
        raise _Unreadable(f"it is no JSON: {error}") from None
    if not isinstance(held, dict):
        raise _Unreadable("it is no JSON object")
    return held


def _account_of(body: str) -> str:
    """Whose an unreadable message is, if it says so."""
    try:
        found = _held(body).get("account")
    except _Unreadable:
        return ""
    return found if isinstance(found, str) else ""


def _fetched(stores: Stores, key: str) -> str:
    content, _ = stores.lake.objects.get(key)
    if len(content) > LARGEST_BODY:
        raise _Unreadable(f"its body has {len(content)} bytes, {LARGEST_BODY} are taken")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _Unreadable(f"its body is no text: {error}") from None


def _is_known(stores: Stores, taken: _Taken) -> bool:
    return bool(
        stores.database.execute(
            "SELECT 1 FROM pushes WHERE account = ? AND push_key = ?", (taken.account, taken.key)
        )
    )


def _bury(stores: Stores, account: str, message: Message, why: str) -> None:
    """A dead letter of the account. A message of nobody's can be shown to nobody: the log says
    that it came, and not what is in it."""
    known = stores.database.execute("SELECT 1 FROM accounts WHERE account = ?", (account,))
    if not known:
        log.error("message %s of the edge queue is nobody's, and is dropped: %s", message.id, why)
        return
    bury(
        stores.database,
        account,
        [DeadLetter(STAGE, f"message {message.id}", why, message.body)],
    )


def _pull(account: CloudflareAccount, queue_id: str, size: int) -> MessagePullResponse | None:
    client = account.client()
    # Asked again after a lost answer, it gives others: those come back when their lease is over.
    return account.call(
        lambda: client.queues.messages.pull(
            queue_id,
            account_id=account.account_id,
            batch_size=size,
            visibility_timeout_ms=LEASE.total_seconds() * 1_000,
        ),
        True,
    )


def _operations(message: Message) -> int:
    """One for each 64,000 bytes that were begun, some 100 of its own among them: written, read and
    deleted at first, then only read again
    (https://developers.cloudflare.com/queues/platform/pricing/, read 2026-11)."""
    body = message.body or ""
    size = len(body.encode()) if body.lstrip().startswith("{") else len(body) * 3 // 4
    return -(-(size + 100) // 64_000) * (3 if (message.attempts or 1) <= 1 else 1)


def _acknowledge(account: CloudflareAccount, queue_id: str, batch: _Sorted) -> None:
    acks: list[Ack] = [{"lease_id": lease_id} for lease_id in batch.acks]
    retries: list[Retry] = [
        {"lease_id": lease_id, "delay_seconds": AGAIN.total_seconds()} for lease_id in batch.retries
    ]
    client = account.client()
    answer = account.call(
        lambda: client.queues.messages.ack(
            queue_id, account_id=account.account_id, acks=acks, retries=retries
        ),
        True,
    )
    if answer and answer.warnings:
        log.warning("%d acknowledgements were not taken: they come again", len(answer.warnings))


def _note_backlog(done: Moved, answer: MessagePullResponse | None) -> None:
    metrics = answer.metadata.metrics if answer and answer.metadata else None
    if metrics:
        done.backlog = int(metrics.backlog_count)
        since = metrics.oldest_message_timestamp_ms
        done.oldest = datetime.fromtimestamp(since / 1_000, UTC) if since else None
    elif answer and answer.message_backlog_count is not None:
        done.backlog = int(answer.message_backlog_count)
