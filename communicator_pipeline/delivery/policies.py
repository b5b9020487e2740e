"""Approval without a person: when, and never.

Belongs here: the decision, with its reasons, and approving what it allows. Does not belong here:
opening and revoking policies (`storage/outbox.py`), approval by a person (`approving.py`).

Off unless an owner has opened it for an account and a category, with a threshold of confidence and
a daily cap (days in UTC); the first draft of that category that a person changes revokes it. Never
on X, whose rules ask for the consent of whoever gets an automated reply
(https://help.x.com/en/rules-and-policies/x-automation, read 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from communicator_pipeline.analysis.suspicion import addresses_an_assistant, holds_a_secret
from communicator_pipeline.delivery.approving import (
    NotApproved,
    Proposal,
    approved,
    check_text,
    new_approval,
    propose,
    timing_of,
)
from communicator_pipeline.delivery.clock import Clock, read_clock
from communicator_pipeline.delivery.gates import gates_of
from communicator_pipeline.delivery.senders import promise_of
from communicator_pipeline.drafting.checking import TO_EVERYBODY, called
from communicator_pipeline.drafting.facts import GAP
from communicator_pipeline.platforms.protocol import Sending, Target
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.outbox import (
    Policy,
    SourceMessage,
    accounts_with_policies,
    drafts_to_judge,
    policies,
)

REFUSED_ON = frozenset({"x"})

_LINK = re.compile(
    r"(?:https?://|www\.)[^\s<>\"']+|(?<![\w@.])(?:[a-z0-9-]+\.)+[a-z]{2,}/[^\s<>\"']*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A draft that could be approved without a person, and all that speaks against it."""

    platform: str
    category: str
    outcome: str
    text: str
    confidence: float  # 0…1
    gaps: Sequence[str]
    flags: Sequence[str]  # of the draft and of its conversation
    target: Target
    messages: Sequence[SourceMessage]  # of the conversation, in order
    rejected: bool = False  # a person turned this very draft down
    edited: bool = False  # a person changed it
    redrafted: bool = False  # a person had it made anew
    by_model: bool = False  # a language model wrote it


def reasons_against(candidate: Candidate, policy: Policy | None) -> list[str]:
    """Why a person has to look at a draft, all of it; empty if nobody has to. Pure."""
    found = []
    if policy is None:
        found.append("nobody has opened automatic approval for this account and category")
    elif not policy.is_open:
        found.append(f"automatic approval was revoked: {policy.revoked_why}")
    else:
        if candidate.confidence < policy.threshold:
            found.append(
                f"the draft's confidence is {candidate.confidence:.2f}, "
                f"{policy.threshold:.2f} is asked for"
            )
        if policy.used_today >= policy.daily_cap:
            found.append(f"{policy.daily_cap} went out today without a person, the cap")
    if candidate.platform in REFUSED_ON:
        found.append("X asks for consent to automated replies: there a person approves each")
    if candidate.outcome != "ready" or candidate.gaps or GAP.search(candidate.text):
        found.append("the draft is not ready: it has gaps, or says that no reply is needed")
    if not candidate.text.strip():
        found.append("the draft is empty")
    if candidate.flags:
        found.append(f"it is flagged: {', '.join(dict.fromkeys(candidate.flags))}")
    if addresses_an_assistant(candidate.text):
        found.append("the draft speaks to software")
    if holds_a_secret(candidate.text):
        found.append("the draft holds something that looks like a secret")
    strange = links_from_elsewhere(candidate.text, candidate.messages)
    if strange:
        found.append(f"it holds links that nobody in the thread wrote: {', '.join(strange)}")
    found += _reaches_more(candidate)
    if candidate.rejected:
        found.append("a person turned this draft down")
    if candidate.edited:
        found.append("a person changed this draft and has not approved it")
    if candidate.by_model:
        # Its words, its confidence and its category are steered by whoever writes to it.
        found.append("a language model wrote it: what strangers write could have it say anything")
    if candidate.redrafted:
        found.append("a person asked for this draft and has not approved it")
    return found


def links_from_elsewhere(text: str, messages: Sequence[SourceMessage]) -> list[str]:
    """The links of a text that do not stand in the messages."""
    there = {_bare(link) for m in messages if not m.deleted for link in _LINK.findall(m.text)}
    return [link for link in _LINK.findall(text) if _bare(link) not in there]


def _reaches_more(candidate: Candidate) -> list[str]:
    """Whether more people would get it than have the thread."""
    found = []
    if not candidate.messages:
        return ["there is no thread that it answers"]
    channels = {m.channel_id for m in candidate.messages}
    if candidate.target.channel_id not in channels:
        found.append("it goes to another chat than the thread's")
    threads = {m.thread_id for m in candidate.messages if m.thread_id is not None}
    if threads and candidate.target.thread_id not in threads:
        found.append("it leaves the thread for the whole chat")
    people = {m.author_id for m in candidate.messages} | {m.author for m in candidate.messages}
    people |= {name for m in candidate.messages for name in called(m.text)}
    more = called(candidate.text) - (people - TO_EVERYBODY)
    if more:
        found.append(f"it calls people who are not in the thread: {', '.join(sorted(more))}")
    return found


def _bare(link: str) -> str:
    return link.rstrip(".,;:!?)]}…").removeprefix("https://").removeprefix("http://").rstrip("/")


# --- doing it --------------------------------------------------------------------------------


@dataclass
class Judged:
    """What became of the drafts that were looked at."""

    approved: list[str] = field(default_factory=list)  # approval ids
    left: dict[str, list[str]] = field(default_factory=dict)  # conversation → reasons


def approve_by_policy(
    stores: Stores,
    account: str | None = None,
    *,
    promise: Sending | None = None,
    environment_opens: bool | None = None,
    clock: Clock = read_clock,
) -> Judged:
    """Approve what the open policies allow: to be done when drafts came in. Nothing is approved
    where it could not leave: a policy makes no heap for the day on which the gates open."""
    judged = Judged()
    for name in accounts_with_policies(stores.database):
        if account is not None and name != account:
            continue
        means = promise or promise_of(stores, name)
        if gates_of(stores.database, name, means is not None, environment_opens):
            continue
        _approve_account(stores, name, means, clock, judged)
    return judged


def _approve_account(
    stores: Stores, account: str, promise: Sending | None, clock: Clock, judged: Judged
) -> None:
    for row in drafts_to_judge(stores.database, account):
        now = clock().wall
        policy = policies(stores.database, account, now).get(row["category"])
        if policy is None:
            continue
        conversation = row["conversation_id"]
        try:
            proposal = propose(stores.database, policy.opened_by, account, conversation)
        except NotFound:  # whoever opened it is no member any more
            continue
        reasons = reasons_against(_candidate(row["platform"], row, proposal), policy)
        if reasons:
            judged.left[conversation] = reasons
            continue
        try:
            check_text(proposal.text, proposal)
            new = new_approval(
                proposal,
                proposal.text.strip(),
                promise,
                policy.opened_by,
                now,
                timing_of(stores.database, policy.opened_by),
                automatic=True,
            )
            judged.approved.append(approved(stores.database, new, ()).approval_id)
        except NotApproved as error:
            judged.left[conversation] = [str(error)]


def _candidate(platform: str, row: dict[str, object], proposal: Proposal) -> Candidate:
    def listed(name: str) -> list[str]:
        value = row[name]
        return [str(item) for item in value] if isinstance(value, list) else []

    return Candidate(
        platform,
        str(row["category"]),
        str(row["outcome"]),
        proposal.text,
        float(str(row["confidence"])),
        listed("gaps"),
        # That others sent links is no reason; links in the draft are looked at by themselves.
        [*listed("flags"), *(f for f in listed("conversation_flags") if f != "links")],
        proposal.target,
        proposal.messages,
        proposal.rejected_by is not None,
        proposal.edited_by is not None,
        proposal.redraft is not None,
        bool(row["prompt"]),
    )
