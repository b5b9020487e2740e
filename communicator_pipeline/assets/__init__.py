"""The assets: one module each, thin. They loop over a run's partitions, call `chain/`, and say
what happened.

Belongs here: what Dagster wants to know. Does not belong here: how a partition is made.
"""

from communicator_pipeline.assets.analyses import analyses
from communicator_pipeline.assets.attachments import attachments
from communicator_pipeline.assets.comparison import comparison
from communicator_pipeline.assets.conversations import conversations
from communicator_pipeline.assets.daily_digest import daily_digest
from communicator_pipeline.assets.deliveries import deliveries
from communicator_pipeline.assets.drafted_replies import drafted_replies
from communicator_pipeline.assets.feedback import feedback
from communicator_pipeline.assets.inbox import inbox
from communicator_pipeline.assets.label_models import label_models
from communicator_pipeline.assets.raw_messages import raw_messages
from communicator_pipeline.assets.reply_memory import reply_memory
from communicator_pipeline.assets.shadow_analyses import shadow_analyses
from communicator_pipeline.assets.shadow_drafts import shadow_drafts
from communicator_pipeline.assets.usage import usage

CHAIN = [raw_messages, attachments, conversations, analyses, drafted_replies, inbox]
"""What one message goes through: one job, one run."""

LEARNING = [feedback, reply_memory, label_models]
"""What is learnt from people, by account: one job, one run."""

COMPARING = [shadow_analyses, shadow_drafts, comparison]
"""Another way to analyse and draft beside the live one: one job, one run."""

__all__ = [
    "CHAIN",
    "COMPARING",
    "LEARNING",
    "analyses",
    "attachments",
    "comparison",
    "conversations",
    "daily_digest",
    "deliveries",
    "drafted_replies",
    "feedback",
    "inbox",
    "label_models",
    "raw_messages",
    "reply_memory",
    "shadow_analyses",
    "shadow_drafts",
    "usage",
]
