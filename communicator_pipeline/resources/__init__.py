"""Dagster's resources: thin, each yields a plain object of the domain.

Belongs here: what is configured. Does not belong here: behaviour (`storage/`).
"""

from functools import cache
from pathlib import Path

import dagster as dg

from communicator_pipeline.storage import Stores, home, open_local


class LocalStores(dg.ConfigurableResource[Stores]):
    """The embedded stores: SQLite and a folder. No account, no server."""

    folder: str = ""
    """Where they are; empty: as `COMMUNICATOR_HOME` says."""

    def open(self) -> Stores:
        """The lake and the database, made on first use."""
        return _opened(Path(self.folder) if self.folder else home())


@cache
def _opened(folder: Path) -> Stores:
    return open_local(folder)
