"""The sandbox: a small chat service that Communicator brings along, on this machine only.

It closes the loop without any account: somebody writes to you, a draft is approved, the reply
arrives, and you see how often. And it breaks on demand, in every way in which a send can go wrong.

Belongs here: `chat.py` is the chat and the file that holds it, `faults.py` what goes wrong on
demand, `server.py` speaks HTTP, `live.py` is the client, `normalise.py` understands a payload.
Does not belong here: the commands (`cli/sandbox.py`).
"""

from __future__ import annotations

from communicator_pipeline.messages import Message
from communicator_pipeline.platforms import Arrived, Export
from communicator_pipeline.platforms.archive import Archive, BrokenFile
from communicator_pipeline.platforms.protocol import Live
from communicator_pipeline.platforms.sandbox.live import SandboxLive
from communicator_pipeline.platforms.sandbox.normalise import normalise


class Sandbox:
    name = "sandbox"
    live: Live | None = SandboxLive()

    def recognises(self, archive: Archive) -> bool:
        return False

    def open_export(self, archive: Archive) -> Export:
        raise BrokenFile("the sandbox has no export files")

    def normalise(self, arrived: Arrived) -> Message:
        return normalise(arrived)


PLATFORM = Sandbox()
