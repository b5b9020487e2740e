"""The servers that answer: Workers AI's own door, and everything that speaks as OpenAI does.

Belongs here: one call, its answer and its errors. Does not belong here: trying again, limits,
budgets (`model.py`).
"""

from communicator_pipeline.language_model.configuration import ModelConfig
from communicator_pipeline.language_model.endpoints.endpoint import Endpoint

__all__ = ["Endpoint", "connect"]


def connect(config: ModelConfig, key: str) -> Endpoint:
    """The endpoint of a configuration. Its client is loaded only here: it takes a third of a
    second, and most installations and commands ask no model."""
    from communicator_pipeline.language_model.endpoints.openai_compatible import OpenAiCompatible
    from communicator_pipeline.language_model.endpoints.workers_ai import WorkersAi

    return WorkersAi(config, key) if config.kind == "workers_ai" else OpenAiCompatible(config, key)
