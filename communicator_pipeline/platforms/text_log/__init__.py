"""Text logs of a chat, as IRC clients write them: a time, a name, a text on each line.

Belongs here: reading such lines. `export.py` finds the lines' times and ids, `spelling.py`
knows the spellings, `normalise.py` understands a payload.
"""

from __future__ import annotations

from communicator_pipeline.messages import Message
from communicator_pipeline.platforms import Arrived, Export, Live
from communicator_pipeline.platforms.archive import Archive
from communicator_pipeline.platforms.text_log.export import TextLog, is_text_log
from communicator_pipeline.platforms.text_log.normalise import normalise


class TextLogs:
    name = "text_log"
    live: Live | None = None

    def recognises(self, archive: Archive) -> bool:
        return is_text_log(archive)

    def open_export(self, archive: Archive) -> Export:
        return TextLog(archive)

    def normalise(self, arrived: Arrived) -> Message:
        return normalise(arrived)


PLATFORM = TextLogs()
