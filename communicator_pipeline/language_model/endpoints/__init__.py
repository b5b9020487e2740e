"""The servers that answer: Workers AI's own door, and everything that speaks as OpenAI does.

Belongs here: one call, its answer and its errors. Does not belong here: trying again, limits,
budgets (`model.py`).
"""

from communicator_pipeline.language_model.configuration import ModelConfig
from communicator_pipeline.language_model.endpoints.endpoint import Endpoint
from communicator_pipeline.language_model.endpoints.openai_compatible import OpenAiCompatible
from communicator_pipeline.language_model.endpoints.workers_ai import WorkersAi

__all__ = ["Endpoint", "OpenAiCompatible", "WorkersAi", "connect"]


def connect(config: ModelConfig, key: str) -> Endpoint:
    """The endpoint of a configuration."""
    return WorkersAi(config, key) if config.kind == "workers_ai" else OpenAiCompatible(config, key)
