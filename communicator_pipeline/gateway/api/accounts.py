"""Accounts: how they are, what goes out of them without a person, what waits, what was unreadable.

Belongs here: those routes. Does not belong here: connecting an account, which asks for secrets (the
command line).
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from communicator_pipeline.gateway.api import answers
from communicator_pipeline.gateway.api.answers import (
    AccountDetail,
    Letter,
    LetterDetail,
    MemberDetail,
    PolicyDetail,
    Queue,
    Retried,
)
from communicator_pipeline.gateway.api.asking import (
    AccountPath,
    Asked,
    CategoryName,
    DeadLetterId,
    Limit,
    OnlyAccount,
    UserId,
    must_see,
    note,
)
from communicator_pipeline.gateway.api.people import own_accounts
from communicator_pipeline.gateway.api.routing import api_routes
from communicator_pipeline.gateway.envelope import Answer
from communicator_pipeline.gateway.identity import Identity, Opened, Reader, Writer
from communicator_pipeline.ingestion.push import retry_push
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, NotFound
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.dead_letters import DeadLetters
from communicator_pipeline.storage.outbox import Outbox
from communicator_pipeline.storage.queue import IngestionQueue

routes = api_routes()

_MOST_COUNTED = 10_000  # deliveries that are not over, in an account


@routes.get("/accounts", tags=["accounts"])
def list_accounts(opened: Opened, identity: Reader) -> Answer[list[AccountDetail]]:
    """The user's accounts, and how their connections are."""
    mine = own_accounts(opened, identity)
    me = {a.account: a.me for a in Accounts(opened.database, identity.user_id).all()}
    healths = {h.account: h for h in Connections(opened).healths(me)}
    return Answer(
        data=[
            AccountDetail(
                **own.model_dump(),
                me=sorted(me[own.account]),
                connection=answers.health(healths[own.account]) if own.account in healths else None,
            )
            for own in mine
            if own.account in me
        ]
    )


@routes.get("/queues", tags=["accounts"])
def list_queues(opened: Opened, identity: Reader) -> Answer[list[Queue]]:
    """What waits in each of the user's accounts: pushes to be landed, replies on their way."""
    outbox = Outbox(opened.database, identity.user_id)
    found = []
    for account in Accounts(opened.database, identity.user_id).all():
        depth = IngestionQueue(opened.database).depth(account.account)
        rows = outbox.deliveries(account.account, answers.NOT_OVER, _MOST_COUNTED)
        counts = Counter(row.delivery.state for row in rows)
        found.append(
            Queue(
                account=account.account,
                pushes_waiting=depth.waiting,
                oldest_push=depth.oldest,  # type: ignore[arg-type]  # as the database spells it
                pushes_dead=depth.dead,
                deliveries={state: counts[state] for state in answers.NOT_OVER},
            )
        )
    return Answer(data=found)


# --- members ---------------------------------------------------------------------------------


class MemberAsked(Asked):
    """What a member may do."""

    role: answers.Role


@routes.get("/accounts/{account}/members", tags=["members"])
def list_members(
    opened: Opened, identity: Reader, account: AccountPath
) -> Answer[list[MemberDetail]]:
    """Everybody who may see the account."""
    return Answer(data=_members(opened, identity, account))


@routes.put("/accounts/{account}/members", tags=["members"])
def set_member(
    opened: Opened, identity: Writer, account: AccountPath, user_id: UserId, asked: MemberAsked
) -> Answer[list[MemberDetail]]:
    """Make a user a member, or give a member another role; for an owner."""
    Accounts(opened.database, identity.user_id).set_member(account, user_id, asked.role)
    note(opened, identity, "set a member", account, user_id, asked.role)
    return Answer(data=_members(opened, identity, account))


@routes.delete("/accounts/{account}/members", tags=["members"])
def remove_member(
    opened: Opened, identity: Writer, account: AccountPath, user_id: UserId
) -> Answer[list[MemberDetail]]:
    """Take the account from a user; for an owner. Not from the last owner."""
    Accounts(opened.database, identity.user_id).remove_member(account, user_id)
    note(opened, identity, "removed a member", account, user_id)
    left = [] if user_id == identity.user_id else _members(opened, identity, account)
    return Answer(data=left)


def _members(opened: Stores, identity: Identity, account: str) -> list[MemberDetail]:
    members = Accounts(opened.database, identity.user_id).members(account)
    return [MemberDetail.model_validate(member) for member in members]


# --- policies --------------------------------------------------------------------------------


class PolicyAsked(Asked):
    """When drafts of a category go out without a person."""

    threshold: Annotated[
        float,
        Field(ge=0.5, le=1, allow_inf_nan=False, description="A draft's confidence must reach it."),
    ] = 0.9
    daily_cap: Annotated[int, Field(ge=1, le=100, description="So many a day at most.")] = 5


@routes.get("/accounts/{account}/policies", tags=["policies"])
def list_policies(
    opened: Opened, identity: Reader, account: AccountPath
) -> Answer[list[PolicyDetail]]:
    """Under what the account's drafts go out without a person; revoked policies too."""
    return Answer(data=_policies(opened, identity, account))


@routes.put("/accounts/{account}/policies", tags=["policies"])
def open_policy(
    opened: Opened,
    identity: Writer,
    account: AccountPath,
    category: CategoryName,
    asked: PolicyAsked,
) -> Answer[list[PolicyDetail]]:
    """Let drafts of a category go out without a person. For an owner of the account."""
    Outbox(opened.database, identity.user_id).open_policy(
        account, category, asked.threshold, asked.daily_cap, datetime.now(UTC)
    )
    terms = f"from {asked.threshold}, {asked.daily_cap} a day"
    note(opened, identity, "opened a policy", account, category, terms)
    return Answer(data=_policies(opened, identity, account))


@routes.delete("/accounts/{account}/policies", tags=["policies"])
def revoke_policy(
    opened: Opened, identity: Writer, account: AccountPath, category: CategoryName
) -> Answer[list[PolicyDetail]]:
    """Have a person approve from now on."""
    outbox = Outbox(opened.database, identity.user_id)
    if not outbox.revoke_policy(account, category, "closed by hand", datetime.now(UTC)):
        raise NotFound(f"there is no open policy for {category!r} in {account}")
    note(opened, identity, "revoked a policy", account, category)
    return Answer(data=_policies(opened, identity, account))


def _policies(opened: Stores, identity: Identity, account: str) -> list[PolicyDetail]:
    outbox = Outbox(opened.database, identity.user_id)
    return [answers.policy(p) for p in outbox.policies(account, datetime.now(UTC)).values()]


# --- dead letters ----------------------------------------------------------------------------


@routes.get("/dead-letters", tags=["dead letters"])
def list_dead_letters(
    opened: Opened, identity: Reader, account: OnlyAccount = None, limit: Limit = 100
) -> Answer[list[Letter]]:
    """What could not be read, the newest first."""
    must_see(opened, identity, account)
    rows = DeadLetters(opened.database, identity.user_id).list(account)
    return Answer(data=[Letter.model_validate(row) for row in rows[:limit]])


@routes.get("/dead-letters/{dead_letter_id}", tags=["dead letters"])
def read_dead_letter(
    opened: Opened, identity: Reader, dead_letter_id: DeadLetterId
) -> Answer[LetterDetail]:
    """One of them, with what arrived."""
    row = DeadLetters(opened.database, identity.user_id).get(dead_letter_id)
    return Answer(data=LetterDetail.model_validate(row))


@routes.post("/dead-letters/{dead_letter_id}/resolve", tags=["dead letters"])
def resolve_dead_letter(
    opened: Opened, identity: Writer, dead_letter_id: DeadLetterId
) -> Answer[LetterDetail]:
    """Close it."""
    letters = DeadLetters(opened.database, identity.user_id)
    account = letters.get(dead_letter_id)["account"]
    letters.resolve(dead_letter_id)
    note(opened, identity, "closed a dead letter", account, dead_letter_id)
    return Answer(data=LetterDetail.model_validate(letters.get(dead_letter_id)))


@routes.post("/dead-letters/{dead_letter_id}/retry", tags=["dead letters"])
def retry_dead_letter(
    opened: Opened, identity: Writer, dead_letter_id: DeadLetterId
) -> Answer[Retried]:
    """Try again: mark its day, or its push; what an import left is closed, with words about how
    the import is repeated."""
    letters = DeadLetters(opened.database, identity.user_id)
    row = letters.get(dead_letter_id)
    account = row["account"]
    day = letters.retry_day(dead_letter_id)
    if day is not None:
        found = Retried(outcome="day marked", message=f"{account} {day} will be done again")
    else:
        letters.resolve(dead_letter_id)
        if row["stage"] == "push" and retry_push(opened, account, row["source"]):
            found = Retried(outcome="push waits", message="the worker tries the push again")
        elif row["stage"] in ("pull", "push"):
            found = Retried(
                outcome="closed",
                message="the platform is asked for it again with the account's history: "
                f"communicator backfill {account} --from DAY --to DAY --again",
            )
        else:
            found = Retried(
                outcome="closed",
                message="what an import could not read is in the export only: mend "
                f"{row['source']} and import it again into {account}",
            )
    note(opened, identity, "retried a dead letter", account, dead_letter_id, found.outcome)
    return Answer(data=found)
