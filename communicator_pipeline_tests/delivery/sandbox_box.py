"""Replies to people in the sandbox's chat: its server in a process of its own, behind a socket.

Belongs here: an account on it, questions that wait, approvals, and what has become of each. Does
not belong here: what is killed or broken meanwhile (the tests).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from communicator_pipeline.delivery.approving import approve
from communicator_pipeline.delivery.senders import promise_of
from communicator_pipeline.delivery.states import ARRIVED, TERMINAL
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.platforms.sandbox.server import SandboxServer
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.accounts import add_user
from communicator_pipeline.storage.database import Row
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline_tests.delivery.world import say

ACCOUNT = "ana-sandbox"
MODES = ("key", "lookup", "neither")


@dataclass
class SandboxBox:
    """Ana's account on the sandbox, in a folder."""

    folder: Path
    server: SandboxServer
    mode: str
    stores: Stores = field(init=False)
    approved: list[str] = field(default_factory=list)  # delivery ids, in order

    def __post_init__(self) -> None:
        self.stores = open_local(self.folder)
        add_user(self.stores.database, "ana", "Ana")
        values = self.server.values(mode=self.mode)
        add_account(self.stores, "ana", ACCOUNT, "sandbox", values, lambda field: "")
        Settings(self.stores.database, "ana").set("undo_seconds", 0)

    def approve(self, count: int) -> list[str]:
        """So many more questions, each in a chat of its own, and the approved answers."""
        promise = promise_of(self.stores, ACCOUNT)
        new = []
        for number in range(len(self.approved), len(self.approved) + count):
            asked = self.server.chat.say("And you?", "Kim", chat=f"r{number}")
            channel, _, native = asked.message_id.partition(":")
            conversation = f"c{number}"
            say(
                self.stores,
                "And you?",
                number=native,
                conversation=conversation,
                channel=channel,
                account=ACCOUNT,
            )
            done = approve(
                self.stores.database, "ana", ACCOUNT, conversation, promise, text=f"reply {number}"
            )
            new.append(f"{done.approval_id}-1")
        self.approved += new
        return new

    def rows(self) -> list[Row]:
        return self.stores.database.execute(
            "SELECT delivery_id, token, state, attempts, ambiguous, reason FROM deliveries"
        )

    def open(self) -> list[Row]:
        """What is neither over nor with a person."""
        return [
            row for row in self.rows() if row["state"] not in (*ARRIVED, *TERMINAL, "needs_human")
        ]

    def copies(self) -> dict[str, int]:
        """token → messages that it made in the chat."""
        found: dict[str, int] = {}
        for arrival in self.server.chat.arrivals():
            if arrival.outcome == "stored":
                found[arrival.send.delivery] = found.get(arrival.send.delivery, 0) + 1
        return found


def check_once(box: SandboxBox, where: str) -> dict[str, int]:
    """Nothing is lost and nothing is there twice; returns how many are in each state. `where` says
    how the case can be run again."""
    copies = box.copies()
    rows = box.rows()
    lost = set(box.approved) - {row["delivery_id"] for row in rows}
    assert not lost, f"{where}: {lost} are not there any more"
    assert set(copies) <= {row["token"] for row in rows}, f"{where}: strangers arrived"
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["state"]] = counts.get(row["state"], 0) + 1
        arrived = copies.get(row["token"], 0)
        assert arrived <= 1, f"{where}: {row} arrived {arrived} times"
        if row["state"] in ARRIVED:
            assert arrived == 1, f"{where}: {row} never arrived"
        else:
            assert row["state"] == "needs_human", f"{where}: {row} came to no good end"
            assert box.mode == "neither", f"{where}: {row} could have been found out"
    ambiguous = [row for row in rows if row["ambiguous"]]
    assert all(row["state"] == "needs_human" for row in ambiguous), f"{where}: {ambiguous}"
    return counts
