"""The two stores, and where they are.

Belongs here: the lake (history, recomputable), the database (what people and runs act on), and
opening both. Does not belong here: thinking about what they hold.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from communicator_pipeline.storage.cloudflare import EdgeQueue
from communicator_pipeline.storage.credentials import Keyring
from communicator_pipeline.storage.database import Database, SqliteDatabase, migrate
from communicator_pipeline.storage.kv import KvStore
from communicator_pipeline.storage.lake import Lake
from communicator_pipeline.storage.objects import LocalObjects

HOME_VARIABLE = "COMMUNICATOR_HOME"
BACKEND_VARIABLE = "COMMUNICATOR_BACKEND"


@dataclass(frozen=True)
class Stores:
    """What every stage reads and writes."""

    lake: Lake
    database: Database
    keys: Keyring
    look_every: float = 0.1
    """Seconds between two looks for news that the database bears from whoever waits for some. For
    the embedded one a look is a read of a file."""

    edge: EdgeQueue | None = None
    """Where pushes wait that were taken at the edge; None: all come to the gateway."""

    cache: KvStore | None = None
    """Where is kept what may be a minute old, and may be gone; None: in the database."""


def home() -> Path:
    """The folder that holds everything: `$COMMUNICATOR_HOME`, else `.communicator` in the clone
    that this package runs from, else `~/.communicator`."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    clone = Path(__file__).resolve().parents[2]
    if (clone / "workspace.yaml").is_file():
        return clone / ".communicator"
    return Path.home() / ".communicator"


def open_local(folder: Path) -> Stores:
    """The embedded stores in a folder: made on first use, schema brought up to date."""
    database = SqliteDatabase(folder / "communicator.db")
    migrate(database)

    def exists(account: str) -> bool:
        return bool(database.execute("SELECT 1 FROM accounts WHERE account = ?", (account,)))

    lake = Lake(LocalObjects(folder), exists)
    return Stores(lake, database, Keyring(folder / "credentials.key"))


def open_stores(folder: Path) -> Stores:
    """The stores that `$COMMUNICATOR_BACKEND` names: `local` (the default: all in the folder) or
    `cloudflare` (the folder holds only what this machine has for itself). Raises ValueError if
    something is not set that must be."""
    if not is_cloudflare():
        return open_local(folder)
    # Not at the top: its libraries take half a second, and most never need them.
    from communicator_pipeline.storage.on_cloudflare import open_cloudflare

    return open_cloudflare(folder)


def migrate_database(folder: Path) -> list[str]:
    """Bring the schema of the database up to date, before anything opens the stores; returns the
    names of the migrations that were applied. Raises as `open_stores` does."""
    if not is_cloudflare():
        return migrate(SqliteDatabase(folder / "communicator.db"))
    from communicator_pipeline.storage.on_cloudflare import FOR_THE_DATABASE, Cloudflare

    return migrate(Cloudflare.of_environment(needed=FOR_THE_DATABASE).database(folder))


def is_cloudflare() -> bool:
    """Whether the data are at Cloudflare. For opening and moving them; nothing else should ask."""
    backend = os.environ.get(BACKEND_VARIABLE, "local")
    if backend not in ("local", "cloudflare"):
        raise ValueError(f"{BACKEND_VARIABLE} is {backend!r}: it can be local or cloudflare")
    return backend == "cloudflare"
