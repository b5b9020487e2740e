"""X: the archive that it gives its users, and what the posts and direct messages in it say.

Belongs here: all that is X's own. `export.py` reads the archive, `normalise.py` understands a
payload.
"""

from __future__ import annotations

from communicator_pipeline.messages import Message
from communicator_pipeline.platforms import Arrived, Export
from communicator_pipeline.platforms.archive import Archive
from communicator_pipeline.platforms.x.export import XArchive, is_x
from communicator_pipeline.platforms.x.normalise import normalise


class X:
    name = "x"

    def recognises(self, archive: Archive) -> bool:
        return is_x(archive)

    def open_export(self, archive: Archive) -> Export:
        return XArchive(archive)

    def normalise(self, arrived: Arrived) -> Message:
        return normalise(arrived)


PLATFORM = X()
