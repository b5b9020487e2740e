"""How long is kept what may go: the setting `retention` of the installation.

Belongs here: the periods with their defaults and bounds, reading them. Does not belong here: what
goes (`retention.py`, `dagster_records/`), checking what somebody sets (`user_settings.py`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.settings import Settings

RETENTION_SETTING = "retention"


class Retention(BaseModel):
    """Days, but for the last. What is for ever (messages, drafts, replies) is not here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    superseded_runs_days: Annotated[int, Field(ge=1, le=3_650)] = 1
    """Successful runs of which everything was made again: for whoever wants to see what happened.
    One day at least, for a run that ends while its successor begins is looked at a night later."""

    failed_runs_days: Annotated[int, Field(ge=1, le=3_650)] = 14

    runs_days: Annotated[int, Field(ge=2, le=3_650)] = 30
    """Runs that hold a partition's newest materialisation. Of older ones only that one stays."""

    backfills_days: Annotated[int, Field(ge=1, le=3_650)] = 90

    audit_days: Annotated[int, Field(ge=90, le=3_650)] = 730
    """What was done by whom. Ninety days at least: it is looked at after something went wrong."""

    usage_days: Annotated[int, Field(ge=62, le=3_650)] = 400
    """Counts by day of models, platforms and Cloudflare's services: a year can be compared with the
    one before it. Two months at least, for a month is paid after its end. What Cloudflare's cost
    stays in the asset `usage`."""

    dead_letters_days: Annotated[int, Field(ge=8, le=3_650)] = 90
    """Those that are closed. Longer than the push of one is known by its key (eight days)."""

    keys_days: Annotated[int, Field(ge=1, le=3_650)] = 365
    """API keys that were revoked: the audit log names them."""

    notices_days: Annotated[int, Field(ge=1, le=3_650)] = 90
    """Notices beside a reply that somebody has read."""

    minutes_a_night: Annotated[int, Field(ge=1, le=480)] = 20
    """Minutes that a night's housekeeping may take; it goes on the next night where it ended."""

    def days(self, name: str) -> timedelta:
        """One of the periods above by its name without `_days`."""
        return timedelta(days=getattr(self, f"{name}_days"))


def read_retention(database: Database) -> Retention:
    """What is set, the rest by default."""
    return Retention.model_validate(Settings(database, None).get(RETENTION_SETTING) or {})
