"""Reads an export as an import does, without a lake: what came out, and how it is understood."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from communicator_pipeline.ingestion.exports import ImportCounts, import_export, open_export
from communicator_pipeline.ingestion.merge import message_versions
from communicator_pipeline.platforms import Export, Platform, platforms
from communicator_pipeline.platforms.archive import Archive, BrokenFile
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.accounts import Accounts, Channel, Person, add_user
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import ENVELOPE_SCHEMA, Envelope

ACCOUNT = "ana-test"


@dataclass
class Reading:
    """All that an export yields."""

    platform: Platform
    export: Export
    envelopes: list[Envelope] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    people: dict[str, Person] = field(default_factory=dict)
    channels: dict[str, Channel] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def versions(self) -> list[dict[str, Any]]:
        """Every row of `raw_messages`, in order of time; nothing may be misunderstood."""
        rows, letters = understood(self.envelopes, self.platform)
        assert letters == []
        return rows

    def messages(self) -> dict[str, dict[str, Any]]:
        """The latest version of each message, by the part of its id behind the channel."""
        rows = [row for row in self.versions() if row["latest"]]
        return {row["message_id"].removeprefix(row["channel_id"] + ":"): row for row in rows}

    @property
    def reasons(self) -> list[str]:
        return [letter.reason for letter in self.letters]


def understood(
    envelopes: list[Envelope], platform: Platform
) -> tuple[list[dict[str, Any]], list[DeadLetter]]:
    """The rows that the envelopes become, and what was not understood."""
    schema = pa.schema(list(ENVELOPE_SCHEMA)[: len(Envelope._fields)])
    columns = zip(*envelopes, strict=True) if envelopes else [()] * len(schema)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    tables, letters = message_versions(pa.table(arrays, schema=schema), platform.normalise)
    return [row for table in tables.values() for row in table.to_pylist()], letters


def read(path: Path, platform: str | None = None) -> Reading:
    """Everything in an export; of a named platform, or of the one that recognises it."""
    opened = open_export(path, platforms()[platform] if platform else None)
    reading = Reading(opened.platform, opened.export)
    for part in opened.export.parts():
        try:
            for record in opened.export.records(part):
                if isinstance(record, Envelope):
                    reading.envelopes.append(record)
                elif isinstance(record, DeadLetter):
                    reading.letters.append(record)
                elif isinstance(record, Person):
                    reading.people[record.person_id] = record
                else:
                    reading.channels[record.channel_id] = record
        except BrokenFile as broken:
            reading.broken.append(str(broken))
    return reading


def stores_with_account(folder: Path, platform: str) -> Stores:
    stores = open_local(folder)
    add_user(stores.database, "ana", "Ana")
    Accounts(stores.database, "ana").add(ACCOUNT, platform, "Test")
    return stores


def imported(stores: Stores, path: Path) -> ImportCounts:
    """What the real engine makes of the export."""
    return import_export(open_export(path), ACCOUNT, stores.database, stores.lake)


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def write_zip(path: Path, files: Mapping[str, Any]) -> Path:
    """A ZIP; values that are neither bytes nor text are written as JSON."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            raw = content if isinstance(content, bytes | str) else json.dumps(content)
            archive.writestr(name, raw)
    return path


def cut(path: Path, by: int) -> Path:
    """The file without its last bytes, as after a broken download."""
    path.write_bytes(path.read_bytes()[:-by])
    return path


__all__ = [
    "ACCOUNT",
    "Archive",
    "Reading",
    "cut",
    "imported",
    "read",
    "stores_with_account",
    "understood",
    "write_json",
    "write_zip",
]
