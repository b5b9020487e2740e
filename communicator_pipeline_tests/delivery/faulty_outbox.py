"""An outbox under everything that can happen to it, one step at a time.

Belongs here: the steps and what must hold after each. Does not belong here: in which order they
come (hypothesis chooses, or a seed does: `test_state_machine.py`).

Two workers, three conversations, one platform in memory. Steps take numbers and make of them what
they can, so that every sequence of numbers is a history. The database is SQLite with everything on,
in a folder in memory if there is one: power loss is another test.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from unittest import mock

from communicator_pipeline.delivery import approving, dispatch
from communicator_pipeline.delivery.approving import (
    NotApproved,
    TooLate,
    approve,
    reapprove,
    undo,
)
from communicator_pipeline.delivery.dispatch import Claim, deliver_due, due, record, take, transmit
from communicator_pipeline.delivery.recovery import recover, resolve
from communicator_pipeline.delivery.senders import Sender
from communicator_pipeline.delivery.states import ARRIVED, TERMINAL, broken_invariants
from communicator_pipeline.platforms.protocol import Sending, SendResult
from communicator_pipeline.storage import open_local
from communicator_pipeline.storage.outbox import Outbox, Outgoing, load_delivery
from communicator_pipeline_tests.delivery.world import (
    ACCOUNT,
    START,
    FakeClock,
    Network,
    Platform,
    add_box,
    say,
)

BEHAVIOURS = ("ok", "ok", "lost answer", "lost", "late", "no", "wait", "raises")
CHOICES = ("it was sent", "send it again", "drop it")
CONVERSATIONS = 3
WORKERS = 2
TEXTS = ("yes", "no, thanks", "the first half of it. the second half")
LONGEST = 24  # characters: the last text has two parts

MEMORY = Path("/dev/shm")


@dataclass
class Worker:
    claim: Claim | None = None
    result: SendResult | None = None


class FaultyOutbox:
    """The steps, and what must hold after each."""

    triggers_off: tuple[str, ...] = ()  # for a test that plants a bug

    def __init__(self, promise: Sending) -> None:
        self.promise = Sending(
            promise.repeats, promise.looks_up, LONGEST, "characters", promise.repeats_for
        )
        folder = str(MEMORY) if MEMORY.is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="outbox-", dir=folder))
        self.stores = open_local(self.folder)
        self.database = self.stores.database
        self.clock = FakeClock()
        self.platform = Platform(self.promise, self.clock)
        self.network = Network({ACCOUNT: self.platform})
        self.sender = Sender(self.platform, self.promise)
        self.workers = [Worker() for _ in range(WORKERS)]
        self.approvals: list[str] = []
        self.approved_texts: dict[str, tuple[str, str]] = {}  # token → text, channel
        self.said = 0
        self.edits = 0
        self.stale: set[str] = set()  # conversations that went on since their approval
        self.echoes: set[str] = set()  # to which something of ours came back that nobody knew
        self.again: dict[str, int] = {}  # token → how often a person sent it again
        self.by_a_person: set[str] = set()  # deliveries whose end a person declared
        self.echoed = 0
        self._checked = 0
        self._fences: dict[str, int] = {}
        add_box(self.stores)
        # Somebody with the database in their hands can change what was approved; it must not leave.
        for trigger in ("deliveries_do_not_change", *self.triggers_off):
            self.database.execute(f"DROP TRIGGER {trigger}")
        for number in range(CONVERSATIONS):
            self._say(number)

    def close(self) -> None:
        self.database.close()  # type: ignore[attr-defined]
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- steps

    def approve(self, number: int) -> None:
        conversation, text = f"c{number % CONVERSATIONS}", TEXTS[number // 3 % len(TEXTS)]
        user = ("ana", "bo")[number // 9 % 2]
        try:
            done = approve(
                self.database,
                user,
                ACCOUNT,
                conversation,
                self.promise,
                text=text,
                environment_opens=True,
                clock=self.clock,
            )
        except NotApproved:
            return
        if done.is_new:
            self._know(done.approval_id, conversation)

    def undo(self, number: int) -> None:
        if not self.approvals:
            return
        approval = self.approvals[-1 - number % min(4, len(self.approvals))]
        try:
            undo(self.database, "bo", approval, rest=number % 2 == 1, clock=self.clock)
        except TooLate:
            return

    def reapprove(self, number: int) -> None:
        if not self.approvals:
            return
        approval = self.approvals[-1 - number % min(4, len(self.approvals))]
        try:
            done = reapprove(
                self.database,
                "ana",
                approval,
                self.promise,
                environment_opens=True,
                clock=self.clock,
            )
        except NotApproved:
            return
        if done.is_new:
            parts = Outbox(self.database, "ana").parts(done.approval_id)
            self._know(done.approval_id, parts[0].conversation_id)

    def claim(self, number: int) -> None:
        worker = self.workers[number % WORKERS]
        if worker.claim is not None:
            return
        rows = due(self.database, self.clock().wall, environment_opens=True)
        if not rows:
            return
        row = rows[number // 2 % len(rows)]
        worker.claim = take(self.database, row, self.promise, self.clock(), True)
        if worker.claim is not None:
            assert not self._is_stopped(), "claimed behind the kill switch"
            assert row.begun or row.conversation_id not in self.stale, "claimed what is overtaken"
            # An own message of the same words may be the lost attempt itself, coming back.
            its_own = row.delivery.ambiguous or row.delivery.token in self.again
            assert row.begun or its_own or row.conversation_id not in self.echoes, (
                "claimed what may have been answered"
            )

    def transmit(self, number: int) -> None:
        worker = self.workers[number % WORKERS]
        if worker.claim is None or worker.result is not None:
            return
        self.platform.behave = lambda: BEHAVIOURS[number // 2 % len(BEHAVIOURS)]
        worker.result = transmit(worker.claim, self.sender, self.clock)

    def record(self, number: int) -> None:
        worker = self.workers[number % WORKERS]
        if worker.claim is None or worker.result is None:
            return
        record(self.database, worker.claim, worker.result, self.sender, self.clock())
        worker.claim = worker.result = None

    def crash(self, number: int) -> None:
        worker = self.workers[number % WORKERS]
        worker.claim = worker.result = None

    def deliver(self, number: int) -> None:
        self.platform.behave = lambda: BEHAVIOURS[number % len(BEHAVIOURS)]
        deliver_due(
            self.stores, senders=self.network, environment_opens=True, clock=self.clock, most=4
        )

    def recover(self, number: int) -> None:
        self.platform.can_look = number % 4 != 3
        recover(self.stores, senders=self.network, clock=self.clock)
        self.platform.can_look = True

    def pass_by(self, number: int) -> None:
        self.clock.pass_by((1, 2, 11, 11, 31, 61, 121, 130, 900)[number % 9])
        self.platform.settle()

    def minutes(self, number: int) -> None:
        """Five minutes in which the recovery runs as it does."""
        for _ in range(5):
            self.clock.pass_by(61)
            self.platform.settle()
            recover(self.stores, senders=self.network, clock=self.clock)

    def jump(self, number: int) -> None:
        self.clock.jump((3_600, -3_600)[number % 2])

    def hear(self, number: int) -> None:
        """Somebody writes, the owner answers elsewhere, or a message is edited or deleted."""
        conversation = number % CONVERSATIONS
        match number // 3 % 4:
            case 0 | 1:
                self._say(conversation)
            case 2:
                self._say(conversation, author="ana", text="I answered from my phone")
            case 3:
                self._say(conversation, again=True)
        self.stale.add(f"c{conversation}")

    def echo(self, number: int) -> None:
        """What arrived comes back as a message, in order."""
        if self.echoed >= len(self.platform.arrivals):
            return
        arrival = self.platform.arrivals[self.echoed]
        self.echoed += 1
        channel, _, native = arrival.message_id.partition(":")
        known = {
            row["message_id"] for row in self.database.execute("SELECT message_id FROM deliveries")
        }
        conversation = channel.replace("chat-", "c")
        say(
            self.stores,
            arrival.text,
            at=self._platform_time(),
            author="ana",
            number=native,
            conversation=conversation,
            channel=channel,
        )
        if arrival.message_id not in known:  # ours, and nobody knows it yet
            self.echoes.add(conversation)

    def switch(self, number: int) -> None:
        outbox = Outbox(self.database, "ana")
        account = (None, ACCOUNT)[number // 4 % 2]
        if number % 4 == 3:
            outbox.stop_sending(account, "test", self.clock().wall)
        else:
            outbox.resume_sending(account)

    def resolve(self, number: int) -> None:
        rows = Outbox(self.database, "ana").deliveries(states=["needs_human"])
        if not rows:
            return
        row = rows[number // 3 % len(rows)].delivery
        choice = CHOICES[number % 3]
        resolve(self.database, "ana", row.delivery_id, choice, clock=self.clock)  # type: ignore[arg-type]
        if choice == "send it again":
            self.again[row.token] = self.again.get(row.token, 0) + 1
        else:
            self.by_a_person.add(row.delivery_id)

    def tamper(self, number: int) -> None:
        """Somebody changes what was approved."""
        self.database.execute(
            "UPDATE deliveries SET text = 'tampered', fence = fence + 1 WHERE delivery_id IN "
            "(SELECT delivery_id FROM deliveries WHERE state = 'approved' LIMIT 1)"
        )

    # --- what must hold

    def check(self) -> None:
        self.platform.settle()
        counts = self.platform.counts()
        for arrival in self.platform.arrivals[self._checked :]:
            text, channel = self.approved_texts[arrival.token]
            assert arrival.text == text, f"what arrived was not approved: {arrival.text!r}"
            assert arrival.target.channel_id == channel
        self._checked = len(self.platform.arrivals)
        for row in self.database.execute("SELECT delivery_id, token, state, fence FROM deliveries"):
            name, token, state = row["delivery_id"], row["token"], row["state"]
            arrived = counts.get(token, 0)
            allowed = 1 + self.again.get(token, 0)
            assert arrived <= allowed, f"{name} arrived {arrived} times"
            if self._fences.get(name) != row["fence"]:
                assert row["fence"] > self._fences.get(name, -1), f"the fence of {name} shrank"
                self._fences[name] = row["fence"]
                broken = broken_invariants(load_delivery(self.database, name).delivery)
                assert not broken, broken
            if name in self.by_a_person:
                continue
            if state in ARRIVED:
                assert arrived, f"{name} is {state} and never arrived"
            elif state in TERMINAL and token not in self.again:
                assert not arrived, f"{name} is {state} and arrived"

    def check_end(self) -> None:
        """Left alone, everything comes to an end or to a person, and nothing is lost."""
        for worker in self.workers:
            worker.claim = worker.result = None
        self.platform.behave = lambda: "ok"
        for account in (None, ACCOUNT):
            Outbox(self.database, "ana").resume_sending(account)
        for turn in range(60):
            # A clock that was set back by hours puts off what is to go at a time of day.
            self.clock.pass_by(130 if turn < 30 else 1_800)
            self.platform.settle()
            recover(self.stores, senders=self.network, clock=self.clock)
            deliver_due(self.stores, senders=self.network, environment_opens=True, clock=self.clock)
            self.check()
            still = self._still_open()
            if not still:
                break
        else:
            raise AssertionError(f"it does not come to an end: {still}")
        if not (self.promise.repeats or self.promise.looks_up):
            for row in self._all():  # the ambiguous ones are with a person, every one
                assert not row.delivery.ambiguous or row.delivery.state in (
                    "needs_human",
                    "canceled",
                )

    def _still_open(self) -> dict[str, str]:
        """What is neither over nor with a person: a part waits for the one before it."""
        asked = "SELECT approval_id FROM deliveries WHERE state = 'needs_human'"
        rows = self.database.execute(
            "SELECT delivery_id, state, reason FROM deliveries WHERE state IN ('sending', "
            f"'unknown') OR (state = 'approved' AND approval_id NOT IN ({asked}))"
        )
        return {row["delivery_id"]: f"{row['state']} {row['reason']}" for row in rows}

    # --- small things

    def _say(
        self, conversation: int, author: str = "kim", text: str = "hello", again: bool = False
    ) -> None:
        if again:
            self.edits += 1
            text = f"edited {self.edits} times"
        else:
            self.said += 1
        say(
            self.stores,
            text,
            at=self._platform_time(),
            author=author,
            number=f"{self.said if not again else conversation + 1}",
            conversation=f"c{conversation}",
            channel=f"chat-{conversation}",
            version=1 + self.edits if again else 1,
        )

    def _platform_time(self) -> datetime:
        """Nobody sets the platform's clock."""
        return START + timedelta(seconds=self.clock.steady - 1_000)

    def _know(self, approval: str, conversation: str) -> None:
        self.approvals.append(approval)
        self.stale.discard(conversation)
        self.echoes.discard(conversation)
        for row in Outbox(self.database, "ana").parts(approval):
            self.approved_texts[row.delivery.token] = (row.delivery.text, row.channel_id)

    def _all(self) -> list[Outgoing]:
        return Outbox(self.database, "ana").deliveries(limit=10_000)

    def _is_stopped(self) -> bool:
        return bool(Outbox(self.database, "ana").switches())


STEPS: list[tuple[Callable[[FaultyOutbox, int], None], int]] = [
    (FaultyOutbox.approve, 24),
    (FaultyOutbox.undo, 2),
    (FaultyOutbox.reapprove, 4),
    (FaultyOutbox.claim, 24),
    (FaultyOutbox.transmit, 24),
    (FaultyOutbox.record, 16),
    (FaultyOutbox.crash, 3),
    (FaultyOutbox.deliver, 6),
    (FaultyOutbox.recover, 20),
    (FaultyOutbox.pass_by, 36),
    (FaultyOutbox.jump, 6),
    (FaultyOutbox.hear, 2),
    (FaultyOutbox.echo, 6),
    (FaultyOutbox.switch, 3),
    (FaultyOutbox.resolve, 8),
    (FaultyOutbox.tamper, 1),
]
"""Each step and its weight where a seed chooses."""


class CountedIds:
    """In the place of random ids: a history that is told twice is the same."""

    def __init__(self) -> None:
        self.count = 0

    def token_hex(self, size: int) -> str:
        self.count += 1
        return f"{self.count:0{2 * size}x}"


@contextmanager
def counted_ids() -> Iterator[None]:
    ids = CountedIds()
    with (
        mock.patch.object(approving, "secrets", ids),
        mock.patch.object(dispatch, "secrets", ids),
    ):
        yield


def drive(promise: Sending, seed: int, steps: int, settle_every: int = 500) -> FaultyOutbox:
    """One long history, chosen by a seed; raises at the first step after which something does not
    hold, with the number of that step."""
    chance = random.Random(seed)
    functions = [step for step, _ in STEPS]
    weights = [weight for _, weight in STEPS]
    with counted_ids():
        outbox = FaultyOutbox(promise)
        try:
            for number in range(steps):
                step = chance.choices(functions, weights)[0]
                argument = chance.randrange(1_000)
                try:
                    step(outbox, argument)
                    outbox.check()
                    if number % settle_every == settle_every - 1:
                        outbox.check_end()
                except Exception as error:
                    error.add_note(f"seed {seed}, step {number}: {step.__name__}({argument})")
                    raise
            outbox.check_end()
        finally:
            outbox.close()
    return outbox
