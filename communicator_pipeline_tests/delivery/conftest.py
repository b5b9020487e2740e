"""What the delivery tests share: ana's box on the sandbox, a platform in memory, a clock."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from communicator_pipeline.delivery.approving import Approved, approve
from communicator_pipeline.delivery.dispatch import Delivered, deliver_due
from communicator_pipeline.delivery.recovery import Recovered, recover
from communicator_pipeline.storage import Stores, open_local, open_stores
from communicator_pipeline.storage.outbox import Outbox, Outgoing
from communicator_pipeline_tests.conftest import use_cloudflare
from communicator_pipeline_tests.delivery.faulty_outbox import MEMORY
from communicator_pipeline_tests.delivery.world import (
    ACCOUNT,
    PROMISES,
    FakeClock,
    Network,
    Platform,
    add_box,
    say,
)


class Box:
    """An account with one conversation that waits for an answer, and all that delivers it."""

    def __init__(self, stores: Stores) -> None:
        add_box(stores)
        self.stores = stores
        self.database = stores.database
        self.clock = FakeClock()
        self.platform = Platform(PROMISES["look-up"], self.clock)
        self.network = Network({ACCOUNT: self.platform})
        self.outbox = Outbox(stores.database, "ana")
        self.question = say(stores, "Can you come at five?", draft="Yes, I can.")

    def promise(self, name: str) -> None:
        self.platform.promise = PROMISES[name]

    def approve(self, user: str = "ana", conversation: str = "c1", **more: object) -> Approved:
        arguments: dict[str, object] = {"clock": self.clock, "environment_opens": True, **more}
        promise = arguments.pop("promise", self.platform.promise)
        return approve(  # type: ignore[arg-type]
            self.database, user, ACCOUNT, conversation, promise, **arguments
        )

    def deliver(self, behaviour: str = "ok", **more: object) -> Delivered:
        self.platform.behave = lambda: behaviour
        arguments: dict[str, object] = {"environment_opens": True, **more}
        return deliver_due(  # type: ignore[arg-type]
            self.stores, senders=self.network, clock=self.clock, **arguments
        )

    def recover(self, **more: object) -> Recovered:
        return recover(  # type: ignore[arg-type]
            self.stores, senders=self.network, clock=self.clock, **more
        )

    def approve_and_wait(self, **more: object) -> Outgoing:
        """An approval whose undo window is over: its first part."""
        approved = self.approve(**more)  # type: ignore[arg-type]
        self.clock.pass_by(10)
        return self.outbox.parts(approved.approval_id)[0]

    def state(self, reply: Outgoing) -> str:
        return self.outbox.get(reply.delivery.delivery_id).delivery.state

    def reason(self, reply: Outgoing) -> str:
        return self.outbox.get(reply.delivery.delivery_id).delivery.reason

    def arrived(self) -> list[str]:
        return [arrival.text for arrival in self.platform.arrivals]


@pytest.fixture
def stores(
    cloudflare: dict[str, str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stores]:
    """In memory where there is a folder in memory: what the disk does is another test's."""
    if cloudflare is not None:
        use_cloudflare(cloudflare, tmp_path, monkeypatch)
        yield open_stores(tmp_path)
        return
    folder = tempfile.mkdtemp(prefix="outbox-", dir=MEMORY if MEMORY.is_dir() else None)
    opened = open_local(Path(folder))
    yield opened
    opened.database.close()  # type: ignore[attr-defined]
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def box(stores: Stores) -> Box:
    return Box(stores)
