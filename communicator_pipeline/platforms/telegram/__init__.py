"""Telegram: the JSON that Telegram Desktop exports, a user's own account, and bots.

Belongs here: all that is Telegram's own. `export.py` reads the export, `stream.py` walks through
a file larger than memory, `normalise.py` understands a payload, `service.py` puts what the
platform says of a chat into words. `live.py` is the live side: `mtproto*.py` a user's account,
`bot_api*.py` a bot; `envelopes.py` makes both agree with the export.
"""

from __future__ import annotations

from communicator_pipeline.messages import Message
from communicator_pipeline.platforms import Arrived, Export, Live
from communicator_pipeline.platforms.archive import Archive
from communicator_pipeline.platforms.telegram.export import TelegramExport, is_telegram
from communicator_pipeline.platforms.telegram.live import TelegramLive
from communicator_pipeline.platforms.telegram.normalise import normalise


class Telegram:
    name = "telegram"
    live: Live | None = TelegramLive()

    def recognises(self, archive: Archive) -> bool:
        return is_telegram(archive)

    def open_export(self, archive: Archive) -> Export:
        return TelegramExport(archive)

    def normalise(self, arrived: Arrived) -> Message:
        return normalise(arrived)


PLATFORM = Telegram()
