"""Slack: the workspace export that its owners can download, and the Web and Events APIs.

Belongs here: all that is Slack's own. `export.py` reads the export; `live.py` puts the live side
together: `asking.py` (one request), `reading.py` (pulling, with `places.py` for how far),
`pushes.py` (events), `sending.py`, `files.py`, `scopes.py`. `payloads.py` makes records of what
comes, `normalise.py` understands them, `moments.py` knows what a `ts` is.
"""

from __future__ import annotations

from communicator_pipeline.messages import Message
from communicator_pipeline.platforms import Arrived, Export, Live
from communicator_pipeline.platforms.archive import Archive
from communicator_pipeline.platforms.slack.export import SlackExport
from communicator_pipeline.platforms.slack.live import SlackLive
from communicator_pipeline.platforms.slack.normalise import normalise


class Slack:
    name = "slack"
    live: Live | None = SlackLive()

    def recognises(self, archive: Archive) -> bool:
        has_members = "users.json" in archive or "org_users.json" in archive
        return has_members and any(
            name in archive for name in ("channels.json", "groups.json", "dms.json", "mpims.json")
        )

    def open_export(self, archive: Archive) -> Export:
        return SlackExport(archive)

    def normalise(self, arrived: Arrived) -> Message:
        return normalise(arrived)


PLATFORM = Slack()
