"""JSONL: one message per line, for everything that has no importer of its own.

Belongs here: the format that `docs/jsonl.md` promises. `export.py` reads the lines, `normalise.py`
understands a payload, `live.py` takes pushes and sends replies.
"""

from __future__ import annotations

from communicator_pipeline.messages import Message
from communicator_pipeline.platforms import Arrived, Export, Live
from communicator_pipeline.platforms.archive import Archive
from communicator_pipeline.platforms.generic.export import JsonLines, is_jsonl
from communicator_pipeline.platforms.generic.live import GenericLive
from communicator_pipeline.platforms.generic.normalise import normalise


class Generic:
    name = "generic"
    live: Live | None = GenericLive()

    def recognises(self, archive: Archive) -> bool:
        return is_jsonl(archive)

    def open_export(self, archive: Archive) -> Export:
        return JsonLines(archive)

    def normalise(self, arrived: Arrived) -> Message:
        return normalise(arrived)


PLATFORM = Generic()
