"""X: the archive that it gives its users, its API, and what posts and direct messages say.

Belongs here: all that is X's own. `export.py` reads the archive; `live.py` logs in, `api.py` asks,
`pulling.py` reads streams within a budget (`prices.py`), `pushed.py` checks what is pushed,
`reading.py` makes envelopes of both, `sending.py` sends what `counting.py` has measured; `quiet.py`
says when direct messages have gone; `normalise.py` understands a payload.
"""

from __future__ import annotations

from communicator_pipeline.messages import Message
from communicator_pipeline.platforms import Arrived, Export, Live
from communicator_pipeline.platforms.archive import Archive
from communicator_pipeline.platforms.x.export import XArchive, is_x
from communicator_pipeline.platforms.x.live import XLive
from communicator_pipeline.platforms.x.normalise import normalise


class X:
    name = "x"
    live: Live | None = XLive()

    def recognises(self, archive: Archive) -> bool:
        return is_x(archive)

    def open_export(self, archive: Archive) -> Export:
        return XArchive(archive)

    def normalise(self, arrived: Arrived) -> Message:
        return normalise(arrived)


PLATFORM = X()
