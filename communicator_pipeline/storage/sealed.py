"""Everything that lies encrypted in the database, and encrypting it with another key.

Belongs here: where sealed values stand. Does not belong here: the keys (`credentials.py`), what
is sealed.
"""

from __future__ import annotations

from dataclasses import dataclass

from communicator_pipeline.storage import Stores


@dataclass(frozen=True)
class _Place:
    """A column of sealed texts, and what tells its rows apart; `path` in a column of JSON."""

    table: str
    key: str
    column: str
    path: str = ""
    where: str = "true"

    @property
    def value(self) -> str:
        return f"{self.column} ->> '{self.path}'" if self.path else self.column

    @property
    def put(self) -> str:
        return f"json_set({self.column}, '{self.path}', ?2)" if self.path else "?2"


_MODELS = "scope = 'installation' AND key = 'language_model'"

_PLACES = (
    _Place("connections", "account", "secrets"),
    _Place("notification_targets", "target_id", "sealed"),
    _Place("settings", "scope", "value", "$.first.sealed_key", _MODELS),
    _Place("settings", "scope", "value", "$.second.sealed_key", _MODELS),
)


def seal_anew(stores: Stores) -> int:
    """Encrypt everything with the newest key; returns how many. What somebody changed meanwhile
    stays as they left it. Raises `KeyMissing`."""
    count = 0
    for place in _PLACES:
        for key, sealed in _sealed(stores, place):
            stores.database.execute(
                f"UPDATE {place.table} SET {place.column} = {place.put} "
                f"WHERE {place.key} = ?1 AND {place.value} = ?3 AND {place.where}",
                (key, stores.keys.seal(stores.keys.open(sealed)), sealed),
            )
            count += 1
    return count


def drop_old_keys(stores: Stores) -> int:
    """Forget all keys but the newest, if it opens everything; returns how many went. Raises
    `KeyMissing` if it does not: something was encrypted meanwhile."""
    return stores.keys.drop_old_keys(
        lambda: [sealed for place in _PLACES for _, sealed in _sealed(stores, place)]
    )


def _sealed(stores: Stores, place: _Place) -> list[tuple[str, str]]:
    rows = stores.database.execute(
        f"SELECT {place.key} AS key, {place.value} AS sealed FROM {place.table} "
        f"WHERE {place.where} AND coalesce({place.value}, '') <> ''"
    )
    return [(row["key"], row["sealed"]) for row in rows]
