"""Example: a chat service with a plain HTTP API, and what its messages say.

Belongs here: all that is Example's own. `live.py` logs in, pulls, is pushed to and sends;
`normalise.py` understands a payload. It has no export files.
"""

from __future__ import annotations

from communicator_pipeline.messages import Message
from communicator_pipeline.platforms import Arrived, Export
from communicator_pipeline.platforms.archive import Archive, BrokenFile
from communicator_pipeline.platforms.example.live import ExampleLive
from communicator_pipeline.platforms.example.normalise import normalise


class Example:
    name = "example"
    live = ExampleLive()

    def recognises(self, archive: Archive) -> bool:
        return False

    def open_export(self, archive: Archive) -> Export:
        raise BrokenFile("Example has no export files")

    def normalise(self, arrived: Arrived) -> Message:
        return normalise(arrived)


PLATFORM = Example()
