"""The one Definitions object.

Belongs here: putting together what the other modules define. Tests, the command line and
production use the same factory with other resources.
"""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from communicator_pipeline.asset_checks import CHECKS
from communicator_pipeline.assets import (
    CHAIN,
    COMPARING,
    LEARNING,
    daily_digest,
    deliveries,
    usage,
)
from communicator_pipeline.engines.executor import EXECUTOR
from communicator_pipeline.jobs import JOBS
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.schedules import SCHEDULES
from communicator_pipeline.sensors import SENSORS


def build_definitions(resources: Mapping[str, object] | None = None) -> dg.Definitions:
    """Everything that Communicator is to Dagster; `resources` replace those of the same name."""
    return dg.Definitions(
        assets=[*CHAIN, *LEARNING, *COMPARING, daily_digest, deliveries, usage],
        asset_checks=CHECKS,
        jobs=JOBS,
        schedules=SCHEDULES,
        sensors=SENSORS,
        resources={"stores": StoresResource(), **(resources or {})},
        executor=EXECUTOR,
    )


defs = build_definitions()
