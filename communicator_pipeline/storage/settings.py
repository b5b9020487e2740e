"""What users can set, with sensible defaults.

Belongs here: reading and writing settings by user. Does not belong here: what they change.
"""

from __future__ import annotations

from typing import Any

import orjson

from communicator_pipeline.storage.database import Database, now_text


class Settings:
    """The settings of one user, or of the installation (no user)."""

    def __init__(self, database: Database, user_id: str | None) -> None:
        self.database = database
        self._scope = "installation" if user_id is None else f"user:{user_id}"

    def get(self, key: str) -> Any:
        """The value that was set, None if none was."""
        rows = self.database.execute(
            "SELECT value FROM settings WHERE scope = ? AND key = ?", (self._scope, key)
        )
        return orjson.loads(rows[0]["value"]) if rows else None

    def set(self, key: str, value: Any) -> None:
        """Set a value (anything that JSON can carry)."""
        self.database.execute(
            "INSERT INTO settings (scope, key, value, updated_at) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value, "
            "updated_at = excluded.updated_at",
            (self._scope, key, orjson.dumps(value).decode(), now_text()),
        )

    def priority_people(self) -> frozenset[str]:
        """Person ids whose messages count for more."""
        return frozenset(self.get("priority_people") or ())

    def signature(self) -> str | None:
        """What drafts end with, if anything."""
        value = self.get("signature")
        return str(value) if value else None
