"""Matrix: rooms on any homeserver, read and answered as the user that logs in.

Belongs here: all that is Matrix's own. `live.py` logs in, `homeserver.py` asks, `pulling.py` reads
rooms (`rooms.py`) event by event (`events.py`), `sending.py` sends, `normalise.py` understands a
payload. There are no exports to import.
"""

from __future__ import annotations

from communicator_pipeline.messages import Message
from communicator_pipeline.platforms import Arrived, Export, Live
from communicator_pipeline.platforms.archive import Archive, BrokenFile
from communicator_pipeline.platforms.matrix.live import MatrixLive
from communicator_pipeline.platforms.matrix.normalise import normalise


class Matrix:
    name = "matrix"
    live: Live | None = MatrixLive()

    def recognises(self, archive: Archive) -> bool:
        return False

    def open_export(self, archive: Archive) -> Export:
        raise BrokenFile(
            "Matrix has no export that Communicator reads: communicator accounts add matrix "
            "connects the account itself, and its history comes from there"
        )

    def normalise(self, arrived: Arrived) -> Message:
        return normalise(arrived)


PLATFORM = Matrix()
