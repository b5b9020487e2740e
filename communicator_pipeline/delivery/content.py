"""What an approval binds: pure.

Belongs here: the digest of a message as it was seen, the version of a source, the hash over all
that goes out. Does not belong here: asking anybody (`approving.py`), comparing later
(`voiding.py`).

The *source version* stands for what the approver had before them: the newest `MOST_SEEN` messages
of the conversation, each by its id and by a digest of what it says, and the draft by its day and
version. A reaction changes none of these; a new, edited or deleted message does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from communicator_pipeline.messages import LONGEST_TRANSCRIPT
from communicator_pipeline.platforms.protocol import Target
from communicator_pipeline.storage.outbox import Outgoing, SourceMessage

MOST_SEEN = LONGEST_TRANSCRIPT
"""Messages, the newest: what is shown of a conversation, and read for a draft."""


def digest_of(message: SourceMessage) -> str:
    """What a message says: its text, its files, whether it is still there."""
    return _hash([message.text, message.attachments, message.deleted])[:16]


def source_version(messages: Iterable[SourceMessage], draft: tuple[str, int] | None) -> str:
    """The version of what is answered; `draft` is its day and version."""
    said = sorted((m.message_id, digest_of(m)) for m in messages)
    return _hash([said, list(draft) if draft else None])


def content_hash(
    account: str,
    target: Target,
    text: str,
    parts: Sequence[str],
    attachments: Sequence[Any],
    version: str,
) -> str:
    """SHA-256 over the recipient, the thread, all that is said, and what it answers."""
    return _hash(
        [
            account,
            target.channel_id,
            target.thread_id,
            target.reply_to,
            text,
            list(parts),
            list(attachments),
            version,
        ]
    )


def is_as_approved(reply: Outgoing) -> bool:
    """Whether what would go out is, to the last byte, what was approved."""
    delivery = reply.delivery
    if not 1 <= delivery.number <= len(reply.parts) == delivery.of:
        return False
    return (
        reply.parts[delivery.number - 1] == delivery.text
        and content_hash(
            delivery.account,
            target_of(reply),
            reply.whole_text,
            reply.parts,
            reply.attachments,
            reply.source_version,
        )
        == reply.content_hash
    )


def target_of(reply: Outgoing) -> Target:
    """Where it goes."""
    return Target(reply.channel_id, reply.thread_id, reply.reply_to)


def _hash(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value)).hexdigest()
