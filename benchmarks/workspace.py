"""An installation in a folder with one Slack account, as every benchmark here needs it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.generate import DAYS, ME, write_export
from communicator_pipeline.ingestion.exports import import_export, open_export
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.accounts import Accounts, add_user

USER = "bench"
ACCOUNT = "bench-slack"


def export_of(folder: Path, messages: int, days: int = DAYS) -> Path:
    """The generated export of that size in the folder, written unless it is there."""
    path = folder / f"slack-{messages}-{days}.zip"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_export(path, messages, days=days)
    return path


def prepare(home: Path, account: str = ACCOUNT, platform: str = "slack") -> Stores:
    """The stores in a folder, with the user, and an account whose owner is known."""
    stores = open_local(home)
    add_user(stores.database, USER, "Bench")
    accounts = Accounts(stores.database, USER)
    accounts.add(account, platform, "Bench")
    accounts.set_me(account, [ME])
    return stores


def import_into(home: str, export: str) -> dict[str, Any]:
    """Import an export into the landing zone; returns the counts."""
    stores = prepare(Path(home))
    counts = import_export(open_export(Path(export)), ACCOUNT, stores.database, stores.lake)
    return asdict(counts)
