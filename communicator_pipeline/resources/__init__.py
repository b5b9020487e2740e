"""Dagster's resources: thin, each yields a plain object of the domain.

Belongs here: what is configured. Does not belong here: behaviour (`storage/`).
"""

from functools import cache
from pathlib import Path

import dagster as dg

from communicator_pipeline.abandoned_runs import claim_run
from communicator_pipeline.engines.executor import EXECUTOR
from communicator_pipeline.storage import Stores, home, open_stores


class StoresResource(dg.ConfigurableResource[Stores]):
    """The installation's stores: embedded, or at Cloudflare, as `COMMUNICATOR_BACKEND` says."""

    folder: str = ""
    """Where this machine keeps what it has; empty: as `COMMUNICATOR_HOME` says."""

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Every run goes through here in the process that executes it: the one place to say so.
        Steps that others execute are not the run, which its own process claims then."""
        if EXECUTOR is not dg.in_process_executor:
            return
        if context.run is not None and context.instance is not None:
            claim_run(context.instance, context.run)

    def open(self) -> Stores:
        """The lake and the database, made on first use."""
        return _opened(Path(self.folder) if self.folder else home())


@cache
def _opened(folder: Path) -> Stores:
    return open_stores(folder)
