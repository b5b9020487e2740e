"""Approved, delivered, confirmed by its echo, in the ledger: on servers that others wrote.

Synapse is a real Matrix homeserver, where a repeated transaction id sends nothing twice. The Slack
emulator has no key: a lost answer is looked up by the delivery's mark in the message's metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from communicator_pipeline import runs
from communicator_pipeline.chain import deliveries
from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.definitions import build_definitions
from communicator_pipeline.delivery.approving import approve
from communicator_pipeline.delivery.dispatch import deliver_due
from communicator_pipeline.delivery.recovery import confirm_echoes, recover
from communicator_pipeline.delivery.senders import LiveSenders, Sender, promise_of
from communicator_pipeline.ingestion.connecting import add_account, change_setting
from communicator_pipeline.ingestion.pull import pull_new
from communicator_pipeline.platforms.contract import Peer
from communicator_pipeline.platforms.protocol import Part, SendResult, Target, Unknown
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.storage import Stores, home
from communicator_pipeline.storage.accounts import load_account
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.outbox import Outbox, Outgoing
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline_tests.peers.test_matrix_synapse import homeserver, peer
from communicator_pipeline_tests.peers.test_slack_emulate import Emulated, emulated

__all__ = ["emulated", "homeserver", "peer"]

pytestmark = pytest.mark.peers

ACCOUNT = "ana-there"
TEXT = "Yes, it is on its way."


class LosingSenders(LiveSenders):
    """The real platform, whose first answer is lost on the way back."""

    def __init__(self, stores: Stores) -> None:
        super().__init__(stores)
        self.lost = 0

    @contextmanager
    def open(self, account: str) -> Iterator[Sender]:
        with super().open(account) as sender:
            whole = sender.client.send

            def send(target: Target, part: Part, token: str) -> SendResult:
                result = whole(target, part, token)
                if self.lost == 0:
                    self.lost += 1
                    return Unknown("the answer was lost")
                return result

            sender.client.send = send  # type: ignore[method-assign]
            yield sender


def connect(stores: Stores, platform: str, values: dict[str, str]) -> None:
    account = add_account(stores, "ana", ACCOUNT, platform, values, lambda field: "").account
    change_setting(stores, account, "sending", "open")
    Settings(stores.database, "ana").set("undo_seconds", 0)


def asked(stores: Stores, message_id: str) -> str:
    """The conversation of a message, brought into the inbox."""
    assert pull_new(stores, ACCOUNT).state == "ok"
    definitions = build_definitions({"stores": StoresResource(folder=str(home()))})
    with runs.open_instance() as instance:
        runs.materialise_touched(
            stores, instance, runs.chain_job(definitions), lambda run: None, accounts=[ACCOUNT]
        )
    rows = stores.database.execute(
        "SELECT conversation_id FROM messages WHERE account = ? AND message_id = ?",
        (ACCOUNT, message_id),
    )
    return str(rows[0]["conversation_id"])


def only(stores: Stores) -> Outgoing:
    (row,) = Outbox(stores.database, "ana").deliveries(ACCOUNT)
    return row


def copies(stores: Stores) -> int:
    rows = stores.database.execute(
        "SELECT count(*) AS n FROM messages WHERE account = ? AND text = ?", (ACCOUNT, TEXT)
    )
    return int(rows[0]["n"])


def confirmed(stores: Stores, question: str) -> None:
    """The echo comes in, confirms, is by me, and stands in the ledger."""
    asked(stores, question)
    confirm_echoes(stores.database, ACCOUNT)
    row = only(stores)
    assert row.delivery.state == "confirmed"
    assert copies(stores) == 1
    echo = stores.database.execute(
        "SELECT author_id FROM messages WHERE account = ? AND message_id = ?",
        (ACCOUNT, row.delivery.message_id),
    )
    assert echo[0]["author_id"] in load_account(stores.database, ACCOUNT).me
    partition = AccountMonth(ACCOUNT, datetime.now(UTC).strftime("%Y-%m"))
    report = deliveries.materialise(stores, partition, Scope((partition,)))
    (day,) = report.manifest.days.values()
    (entry,) = stores.lake.read_day(deliveries.ASSET, partition, day).to_pylist()
    assert (entry["state"], entry["message_id"]) == ("confirmed", row.delivery.message_id)


def test_on_synapse_a_lost_answer_is_sent_again_under_the_same_key(
    stores: Stores, peer: Peer
) -> None:
    connect(stores, "matrix", dict(peer.values))
    question = peer.say("Ana, can you send me the contract today?")
    conversation = asked(stores, question)
    promise = promise_of(stores, ACCOUNT)
    approve(
        stores.database, "ana", ACCOUNT, conversation, promise, text=TEXT, environment_opens=True
    )
    senders = LosingSenders(stores)
    assert len(deliver_due(stores, senders=senders, environment_opens=True).unknown) == 1
    recover(stores, senders=senders, quiet=timedelta(0))
    deliver_due(stores, senders=senders, environment_opens=True)
    assert only(stores).delivery.state == "sent"
    confirmed(stores, question)


def test_on_slack_a_lost_answer_is_looked_up_by_its_mark(
    stores: Stores, emulated: Emulated
) -> None:
    connect(stores, "slack", emulated.values)
    question = emulated.say("Ana, can you send me the contract today?")
    conversation = asked(stores, question)
    promise = promise_of(stores, ACCOUNT)
    approve(
        stores.database, "ana", ACCOUNT, conversation, promise, text=TEXT, environment_opens=True
    )
    senders = LosingSenders(stores)
    assert len(deliver_due(stores, senders=senders, environment_opens=True).unknown) == 1
    found = recover(stores, senders=senders, quiet=timedelta(0))
    assert len(found.sent) == 1
    assert only(stores).delivery.attempts == 1  # nothing was sent again
    confirmed(stores, question)
