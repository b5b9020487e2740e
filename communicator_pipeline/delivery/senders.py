"""The way to the platforms, for whoever sends.

Belongs here: a client and a promise for an account. Does not belong here: when either is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from communicator_pipeline.platforms import UnknownPlatform, live_side
from communicator_pipeline.platforms.protocol import Client, Sending
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import NotFound, load_account
from communicator_pipeline.storage.connections import Connections, redacted
from communicator_pipeline.storage.credentials import KeyMissing


class CannotConnect(Exception):
    """There is no way to the platform now; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Sender:
    """A client, what its platform promises, and how its secrets are kept out of texts."""

    client: Client
    promise: Sending
    clean: Callable[[str], str] = field(default=lambda text: text)


class Senders(Protocol):
    """What sends for an account."""

    def open(self, account: str) -> AbstractContextManager[Sender]:
        """For the length of a `with`; nothing is sent before it is told to. Raises
        `CannotConnect`."""


class LiveSenders:
    """The installed platforms."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    @contextmanager
    def open(self, account: str) -> Iterator[Sender]:
        try:
            live = live_side(load_account(self._stores.database, account).platform)
            connection = Connections(self._stores).load(account)
            promise = live.promise(connection)
        except (NotFound, KeyMissing, UnknownPlatform) as error:
            raise CannotConnect(str(error)) from None
        with ExitStack() as stack:
            try:
                client = stack.enter_context(live.connect(connection))
            except Exception as error:
                words = f"{type(error).__name__}: {error}"
                raise CannotConnect(redacted(words, connection)) from None
            yield Sender(client, promise, lambda text: redacted(text, connection))


def promise_of(stores: Stores, account: str) -> Sending | None:
    """What holds when the account sends; None if it cannot."""
    try:
        live = live_side(load_account(stores.database, account).platform)
        return live.promise(Connections(stores).load(account))
    except (NotFound, KeyMissing, UnknownPlatform):
        return None
