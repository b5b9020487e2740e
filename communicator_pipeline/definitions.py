"""The one Definitions object.

Belongs here: putting together what the other modules define. Tests, the command line and
production use the same factory with other resources.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import dagster as dg

# `backfill_policy` and MultiPartitionMapping are marked beta; the pin in pyproject.toml is what
# keeps them from changing under us, so the warning on every start tells nobody anything.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

from communicator_pipeline.asset_checks import CHECKS  # noqa: E402
from communicator_pipeline.assets import CHAIN, daily_digest  # noqa: E402
from communicator_pipeline.jobs import JOBS  # noqa: E402
from communicator_pipeline.resources import LocalStores  # noqa: E402
from communicator_pipeline.schedules import SCHEDULES  # noqa: E402
from communicator_pipeline.sensors import SENSORS  # noqa: E402


def build_definitions(resources: Mapping[str, object] | None = None) -> dg.Definitions:
    """Everything that Communicator is to Dagster; `resources` replace those of the same name."""
    return dg.Definitions(
        assets=[*CHAIN, daily_digest],
        asset_checks=CHECKS,
        jobs=JOBS,
        schedules=SCHEDULES,
        sensors=SENSORS,
        resources={"stores": LocalStores(), **(resources or {})},
        executor=dg.in_process_executor,
    )


defs = build_definitions()
