"""The language model: one seam, `complete(prompt, schema)`, and what stands behind it.

Belongs here: asking a model for a typed value, within limits and a budget, and keeping what it
answered. Does not belong here: what it is asked for (`analysis/`, `drafting/`), the prompts'
texts (`prompts/`).
"""

from communicator_pipeline.language_model.asking import (
    Answer,
    NoAnswer,
    Prompt,
    Request,
    Trouble,
    Usage,
)
from communicator_pipeline.language_model.model import LanguageModel, open_model

__all__ = [
    "Answer",
    "LanguageModel",
    "NoAnswer",
    "Prompt",
    "Request",
    "Trouble",
    "Usage",
    "open_model",
]
