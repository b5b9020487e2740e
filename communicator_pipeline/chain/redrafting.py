"""A draft made anew because a person asked for it, within seconds.

Belongs here: the same drafter as the pipeline's, for one conversation as it is now. Does not
belong here: the pipeline's drafts (`drafted_replies.py`), keeping versions (`storage/`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from communicator_pipeline.analysis import Analysis
from communicator_pipeline.chain import analyses
from communicator_pipeline.chain.drafted_replies import memories_for
from communicator_pipeline.chain.transcripts import Transcripts
from communicator_pipeline.chain.variants import drafter_of
from communicator_pipeline.delivery.approving import Proposal, feedback_on, propose
from communicator_pipeline.drafting.by_model import Drafted, Wish
from communicator_pipeline.drafting.learning import wished
from communicator_pipeline.drafting.learnt import Chosen, Memory
from communicator_pipeline.messages import LONGEST_TRANSCRIPT, Transcript
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.draft_versions import DraftVersion, keep_redraft
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.memories import active_memories
from communicator_pipeline.storage.outbox import Outbox, alive

LONGEST_INSTRUCTION = 1_000  # characters


class NotRedrafted(ValueError):
    """There is no new draft; the message says why, and what to do."""


@dataclass(frozen=True)
class Redrafted:
    """A new draft, kept."""

    number: int
    day: str  # whose partition of `drafted_replies` it belongs to
    drafted: Drafted


def redraft(
    stores: Stores,
    user_id: str,
    account: str,
    conversation_id: str,
    instruction: str,
    now: datetime | None = None,
) -> Redrafted:
    """Draft the reply to a conversation anew, as `instruction` wants it ("shorter", "say no
    politely"), and keep it as the newest version beside what was there before.

    Raises `NotRedrafted`, `PermissionError` for a viewer, and `NotFound`.
    """
    moment = now or datetime.now(UTC)
    words = instruction.strip()
    if len(words) > LONGEST_INSTRUCTION:
        raise NotRedrafted(
            f"the instruction has {len(words)} characters, {LONGEST_INSTRUCTION} are read"
        )
    outbox = Outbox(stores.database, user_id)
    outbox.must_approve(account)
    proposal = propose(stores.database, user_id, account, conversation_id)
    if alive(stores.database, account, conversation_id) is not None:
        raise NotRedrafted("a reply to it is on its way: undo that one first")
    drafter = drafter_of(stores, account)
    transcript, analysis, day = _as_it_is(
        stores, account, conversation_id, drafter.longest or LONGEST_TRANSCRIPT
    )
    wishes = _asked_for(words, proposal, moment)
    chosen = (
        *wishes,
        *memories_for(active_memories(stores.database, account), transcript, analysis),
    )
    drafted = drafter.draft(
        [(transcript, analysis)],
        {conversation_id: chosen},
        Wish(words, proposal.text),
    )[0]
    if not drafted.draft.text:
        raise NotRedrafted(f"there is nothing to draft: {drafted.draft.reason}")
    if words and not drafted.made.prompt and not wishes:
        raise NotRedrafted(
            f"{drafted.made.stood_in or 'no language model is set'}; the offline drafter follows "
            'but a few wishes: "shorter", "no emoji", and "say: " with the words'
        )
    told = feedback_on(proposal, "instructed", user_id, moment, note=words) if words else None
    number = keep_redraft(
        stores.database,
        user_id,
        _before(proposal, moment),
        _version(proposal, drafted, user_id, words, moment),
        told,
    )
    return Redrafted(number, day, drafted)


def _asked_for(instruction: str, proposal: Proposal, now: datetime) -> tuple[Chosen, ...]:
    """The few wishes that need no understanding, as the memories that they would become: so the
    offline drafter can follow them at once."""
    rules = wished(instruction, proposal.draft_text or proposal.text, proposal.language)
    return tuple(
        Chosen(Memory(f"wish-{place}", "everyone", "", rule, (), now), "you asked for it")
        for place, rule in enumerate(rules)
    )


def _as_it_is(
    stores: Stores, account: str, conversation_id: str, longest: int
) -> tuple[Transcript, Analysis, str]:
    """The conversation as it is now, its newest analysis, and the day of that."""
    rows = stores.database.execute(
        "SELECT day FROM conversations WHERE account = ?1 AND conversation_id = ?2",
        (account, conversation_id),
    )
    if not rows:
        raise NotFound(f"there is no conversation {conversation_id!r} in {account}")
    day = rows[0]["day"]
    partition = AccountMonth(account, day[:7])
    manifest = stores.lake.manifest(analyses.ASSET, partition)
    row = stores.lake.rows_by("conversation_id", analyses.ASSET, partition, manifest, day).get(
        conversation_id
    )
    transcripts = Transcripts.of_days(stores, account, [day], [conversation_id], longest)
    found = [t for t in transcripts.of_day(day) if t.conversation_id == conversation_id]
    if row is None or not found:
        raise NotRedrafted(
            "the conversation is being made again just now: try again in a few seconds"
        )
    analysis = Analysis(**{name: row[name] for name in Analysis.__slots__})
    # Somebody asks for a reply, so there is to be one, whatever was thought of the need for it.
    return found[0], replace(analysis, needs_reply=True), day


def _before(proposal: Proposal, now: datetime) -> DraftVersion | None:
    """What stood there until now; None if that was nothing, or a redraft, which is kept."""
    if not proposal.text or (proposal.redraft is not None and proposal.edited_by is None):
        return None
    return DraftVersion(
        proposal.account,
        proposal.conversation_id,
        proposal.base_version,
        proposal.text,
        proposal.draft_outcome or "ready",
        "user" if proposal.edited_by else "pipeline",
        proposal.edited_by,
        now,
        proposal.language,
        proposal.draft_reason,
        gaps=proposal.draft_gaps,
        rests_on=proposal.draft_rests_on,
        flags=proposal.draft_flags,
        model=proposal.draft_model,
    )


def _version(
    proposal: Proposal, drafted: Drafted, user_id: str, instruction: str, now: datetime
) -> DraftVersion:
    draft = drafted.draft
    return DraftVersion(
        proposal.account,
        proposal.conversation_id,
        proposal.base_version,
        draft.text,
        draft.outcome,
        "redraft",
        user_id,
        now,
        draft.language,
        draft.reason,
        instruction,
        draft.gaps,
        draft.rests_on,
        draft.flags,
        draft.confidence,
        drafted.made.model,
        drafted.made.prompt,
        drafted.made.stood_in,
    )
