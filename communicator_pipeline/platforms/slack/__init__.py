"""Slack: the workspace export that its owners can download, and what its messages say.

Belongs here: all that is Slack's own. `export.py` reads the export, `normalise.py` understands
a payload.
"""

from __future__ import annotations

from communicator_pipeline.messages import Message
from communicator_pipeline.platforms import Arrived, Export
from communicator_pipeline.platforms.archive import Archive
from communicator_pipeline.platforms.slack.export import SlackExport
from communicator_pipeline.platforms.slack.normalise import normalise


class Slack:
    name = "slack"

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
