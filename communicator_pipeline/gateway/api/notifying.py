"""Where the user is told of what cannot wait, what they were told of; digests; taking one's data.

Belongs here: those routes. Does not belong here: what is told and when (`notifying/`), what an
export holds (`storage/export.py`).
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Literal

from fastapi import Path, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from communicator_pipeline.chain.daily_digest import digest_key
from communicator_pipeline.gateway.api.answers import MaybeUtc, Utc
from communicator_pipeline.gateway.api.asking import AccountPath, Asked, Limit, OnlyAccount, Plain
from communicator_pipeline.gateway.api.asking import note as note_change
from communicator_pipeline.gateway.api.routing import api_routes
from communicator_pipeline.gateway.envelope import Answer, Page
from communicator_pipeline.gateway.identity import Opened, Reader, Writer
from communicator_pipeline.notifying.addresses import LONGEST_ADDRESS
from communicator_pipeline.notifying.targets import add_target
from communicator_pipeline.notifying.telling import try_target
from communicator_pipeline.storage.accounts import Accounts, NotFound
from communicator_pipeline.storage.database import LARGEST_INTEGER
from communicator_pipeline.storage.export import export, export_name
from communicator_pipeline.storage.notifications import Kind, Targets, Told

routes = api_routes()


class TargetAnswer(BaseModel):
    """A notification target, without its address."""

    target_id: str
    name: str
    shown: str  # the service, and its host where that is no secret
    operators: bool
    created_at: Utc
    told_at: MaybeUtc  # when it last took a message
    trouble: str  # why it did not take the last one
    trouble_since: MaybeUtc


class Notification(BaseModel):
    """Something that the user was told of, is to be, or was not."""

    id: int
    kind: Kind
    account: str | None
    conversation_id: str | None
    line: str  # what administrators are told; of a digest, its days
    state: Literal["waiting", "sending", "told", "not_told", "over"]
    noticed_at: Utc
    ended_at: MaybeUtc
    why: str  # it was not told


class Tried(BaseModel):
    """What became of a test message."""

    taken: bool
    trouble: str  # why it was not


class DigestDay(BaseModel):
    """A digest that has been made."""

    account: str
    day: date  # UTC


class Digest(DigestDay):
    """The same with its text."""

    markdown: str


class TargetAsked(Asked):
    """A target that is to be added."""

    name: Annotated[str, Field(min_length=1, max_length=100), Plain]
    url: Annotated[
        str,
        Field(
            min_length=1,
            max_length=LONGEST_ADDRESS,
            description="An address of Apprise: https://github.com/caronc/apprise/wiki. It is kept "
            "encrypted and not shown again.",
        ),
        Plain,
    ]
    operators: Annotated[
        bool,
        Field(description="Also what concerns the installation; for administrators."),
    ] = False


TargetId = Annotated[str, Path(max_length=200, description="The target's id."), Plain]
Day = Annotated[date, Path(description="A day (UTC), YYYY-MM-DD.")]


@routes.get("/notifications", tags=["notifications"])
def list_notifications(
    opened: Opened,
    identity: Reader,
    limit: Limit = 100,
    cursor: Annotated[
        int | None, Query(ge=1, le=LARGEST_INTEGER, description="`next` of the page before.")
    ] = None,
) -> Answer[Page[Notification]]:
    """What the user was told of, is to be, or was not, the newest first."""
    rows = Told(opened.database, identity.user_id).log(cursor, limit + 1)
    items = [Notification.model_validate(row) for row in rows[:limit]]
    more = str(items[-1].id) if len(rows) > limit else None
    return Answer(data=Page(items=items, next=more))


@routes.get("/notifications/targets", tags=["notifications"])
def list_targets(opened: Opened, identity: Reader) -> Answer[list[TargetAnswer]]:
    """Where the user is told."""
    rows = Targets(opened.database, identity.user_id).all()
    return Answer(data=[TargetAnswer.model_validate(row) for row in rows])


@routes.post("/notifications/targets", tags=["notifications"])
def new_target(opened: Opened, identity: Writer, asked: TargetAsked) -> Answer[list[TargetAnswer]]:
    """Add a target; all of them after it. Nothing is sent: ask for a test message."""
    target_id = add_target(
        opened, identity.user_id, asked.name, asked.url, asked.operators, datetime.now(UTC)
    )
    note_change(opened, identity, "added a notification target", target=target_id)
    return list_targets(opened, identity)


@routes.post("/notifications/targets/{target_id}/test", tags=["notifications"])
def try_one(opened: Opened, identity: Writer, target_id: TargetId) -> Answer[Tried]:
    """Send a test message. It takes up to half a minute."""
    trouble = try_target(opened, identity.user_id, target_id, datetime.now(UTC))
    note_change(opened, identity, "tried a notification target", target=target_id)
    return Answer(data=Tried(taken=not trouble, trouble=trouble))


@routes.delete("/notifications/targets/{target_id}", tags=["notifications"])
def remove_target(
    opened: Opened, identity: Writer, target_id: TargetId
) -> Answer[list[TargetAnswer]]:
    """Forget a target; those that are left."""
    Targets(opened.database, identity.user_id).remove(target_id)
    note_change(opened, identity, "removed a notification target", target=target_id)
    return list_targets(opened, identity)


# --- digests ---------------------------------------------------------------------------------


@routes.get("/digests", tags=["digests"])
def list_digests(
    opened: Opened,
    identity: Reader,
    account: OnlyAccount = None,
    limit: Limit = 100,
    cursor: Annotated[
        str | None, Query(max_length=200, description="`next` of the page before."), Plain
    ] = None,
) -> Answer[Page[DigestDay]]:
    """The digests that have been made, the newest day first."""
    mine = Accounts(opened.database, identity.user_id)
    accounts = [mine.get(account)] if account is not None else mine.all()
    made = sorted(
        (
            (found.key.rsplit("/", 1)[1].removesuffix(".md"), one.account)
            for one in accounts
            for found in opened.lake.objects.list(f"digests/{one.account}/")
        ),
        reverse=True,
    )
    if cursor is not None:
        day, _, of = cursor.partition(" ")
        made = [one for one in made if one < (day, of)]
    items = [DigestDay(account=of, day=date.fromisoformat(day)) for day, of in made[:limit]]
    more = " ".join(made[limit - 1]) if len(made) > limit else None
    return Answer(data=Page(items=items, next=more))


@routes.get("/digests/{account}/{day}", tags=["digests"])
def read_digest(opened: Opened, identity: Reader, account: AccountPath, day: Day) -> Answer[Digest]:
    """A day's digest, as Markdown."""
    Accounts(opened.database, identity.user_id).get(account)
    try:
        content, _ = opened.lake.objects.get(digest_key(account, day.isoformat()))
    except FileNotFoundError:
        raise NotFound(
            f"no digest of {account} for {day} has been made: "
            f"`communicator digest {day} --account {account}` makes it"
        ) from None
    return Answer(data=Digest(account=account, day=day, markdown=content.decode()))


# --- taking one's data -----------------------------------------------------------------------


@routes.get(
    "/export",
    tags=["people"],
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "JSON Lines: each line an object whose `what` says what it is; the last "
            "one is `end` and says how many lines there are before it.",
            "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
        }
    },
)
def export_own_data(opened: Opened, identity: Reader) -> StreamingResponse:
    """All that is the user's: profile, settings, accounts, messages, conversations, analyses,
    drafts, replies, notifications, audit log. No secrets."""
    return StreamingResponse(
        export(opened.database, identity.user_id),
        media_type="application/x-ndjson",
        headers={
            "Content-Disposition": f'attachment; filename="{export_name(identity.user_id)}"',
            "X-Content-Type-Options": "nosniff",
        },
    )
