"""What the assets of a comparison are told.

Belongs here: their config. Does not belong here: what it stands for (`chain/shadows.py`).
"""

from collections.abc import Callable
from typing import Any

import dagster as dg
from pydantic import Field

from communicator_pipeline.assets.partition_runs import RunScope, each_month
from communicator_pipeline.chain.scope import MonthReport, Scope
from communicator_pipeline.chain.shadows import Shadow
from communicator_pipeline.language_model.configuration import ModelsConfig
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.lake import AccountMonth

Materialise = Callable[[Stores, AccountMonth, Scope, Shadow], MonthReport]


class ShadowScope(RunScope):
    """A comparison's name, what differs, and the days; `communicator compare` writes it."""

    name: str  # part of the side partitions' folders; small letters, digits, dashes
    changes: str = ""  # what differs from the live way, in words
    prompts: dict[str, str] = Field(default_factory=dict)  # purpose → version, of every purpose
    models: dict[str, Any] | None = None  # as of `communicator model`, without keys; none: as live
    memories: bool = True  # whether drafts follow what was learnt

    def shadow(self) -> Shadow:
        """What is compared; raises `ValueError` for what is none."""
        return Shadow(
            name=self.name,
            changes=self.changes,
            prompts=self.prompts,
            models=None if self.models is None else ModelsConfig.model_validate(self.models),
            memories=self.memories,
        )


def each_month_of(
    context: dg.AssetExecutionContext,
    config: ShadowScope,
    stores: Stores,
    materialise: Materialise,
) -> dg.MaterializeResult[Any]:
    """Materialise the run's partitions as the comparison wants them."""
    shadow = config.shadow()
    return each_month(
        context,
        config,
        stores,
        lambda opened, partition, scope: materialise(opened, partition, scope, shadow),
    )
