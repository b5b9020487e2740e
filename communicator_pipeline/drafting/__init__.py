"""Proposing a reply to a conversation that waits for one, without any account.

Belongs here: drafts, and the memory of what the owner answered before. Does not belong here:
whether a reply is needed (`analysis/`), sending one (`delivery/`).
"""

from communicator_pipeline.drafting.draft import Draft, Outcome
from communicator_pipeline.drafting.memory import Match, ReplyMemory, ReplyPair
from communicator_pipeline.drafting.offline import OfflineDrafter

__all__ = ["Draft", "Match", "OfflineDrafter", "Outcome", "ReplyMemory", "ReplyPair"]
