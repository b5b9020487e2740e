"""What users can set, with sensible defaults.

Belongs here: reading and writing settings by user. Does not belong here: what they change.
"""

from __future__ import annotations

from collections.abc import Mapping
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

    def at_once(self) -> Settings:
        """The same as they are now, read with one call of the database."""
        rows = self.database.execute(
            "SELECT key, value FROM settings WHERE scope = ?", (self._scope,)
        )
        return _AtOnce(self, {row["key"]: orjson.loads(row["value"]) for row in rows})

    def set(self, key: str, value: Any) -> None:
        """Set a value (anything that JSON can carry)."""
        self.database.execute(
            "INSERT INTO settings (scope, key, value, updated_at) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value, "
            "updated_at = excluded.updated_at",
            (self._scope, key, orjson.dumps(value).decode(), now_text()),
        )

    def unset(self, key: str) -> bool:
        """Go back to the default; returns whether a value had been set."""
        return bool(
            self.database.execute(
                "DELETE FROM settings WHERE scope = ? AND key = ? RETURNING key",
                (self._scope, key),
            )
        )

    def priority_people(self) -> frozenset[str]:
        """Person ids whose messages count for more."""
        return frozenset(self.get("priority_people") or ())

    def signature(self) -> str | None:
        """What drafts end with, if anything."""
        value = self.get("signature")
        return str(value) if value else None

    def zone(self) -> str:
        """The user's time zone (IANA)."""
        return str(self.get("zone") or "UTC")

    def languages(self) -> list[str]:
        """ISO 639-1 codes of the languages that the user reads and writes; none were said: []."""
        return list(self.get("languages") or ())

    def tone(self) -> str:
        """How drafts are to sound, in the user's words; "" if they did not say."""
        return str(self.get("tone") or "")

    def never_draft(self) -> list[dict[str, str]]:
        """The rules by which conversations get no draft; what they hold: `drafting/refusals.py`."""
        return list(self.get("never_draft") or ())

    def digest_at(self) -> str:
        """The user's own time at which the day's digest is sent, as `08:00`; "": it is not."""
        return str(self.get("digest_at") or "")

    def notify(self) -> list[str] | None:
        """The names of the notification targets in use; None: all of them."""
        value = self.get("notify")
        return None if value is None else list(value)

    def urgent_priority(self) -> float:
        """The priority from which on a conversation that needs a reply is urgent, 0…100."""
        value = self.get("urgent_priority")
        return 80.0 if value is None else float(value)


class _AtOnce(Settings):
    """Settings as they were at one moment."""

    def __init__(self, settings: Settings, values: Mapping[str, Any]) -> None:
        self.database, self._scope = settings.database, settings._scope
        self._values = values

    def get(self, key: str) -> Any:
        return self._values.get(key)
