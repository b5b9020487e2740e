"""What is thought about a conversation, without any account: the offline analyser.

Belongs here: category, priority, summary, needs-reply and language of a `Transcript`, and the
small models behind them. Does not belong here: proposing a reply (`drafting/`), storing anything.
"""

from communicator_pipeline.analysis.analysis import Analysis, AnalysisError
from communicator_pipeline.analysis.offline import OfflineAnalyser
from communicator_pipeline.analysis.priority import aged_priority
from communicator_pipeline.analysis.taxonomy import DEFAULT_TAXONOMY, Category, Taxonomy

__all__ = [
    "DEFAULT_TAXONOMY",
    "Analysis",
    "AnalysisError",
    "Category",
    "OfflineAnalyser",
    "Taxonomy",
    "aged_priority",
]
