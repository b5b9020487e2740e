"""Replies on their way, what asks for a person, notices, and the kill switch.

Belongs here: those routes. Does not belong here: approving (`conversations.py`), sending (the
worker).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from pydantic import Field

from communicator_pipeline.delivery import approving, recovery
from communicator_pipeline.delivery.dispatch import what_would_go
from communicator_pipeline.delivery.explaining import as_json, explain
from communicator_pipeline.delivery.states import State
from communicator_pipeline.gateway.api import answers
from communicator_pipeline.gateway.api.answers import Notice, Reply, Switch, Why
from communicator_pipeline.gateway.api.asking import (
    ApprovalId,
    Asked,
    DeliveryId,
    Limit,
    OnlyAccount,
    Plain,
    Short,
    must_see,
    note,
)
from communicator_pipeline.gateway.api.routing import api_routes
from communicator_pipeline.gateway.envelope import Answer
from communicator_pipeline.gateway.identity import Identity, Opened, Reader, Writer
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.outbox import Outbox, Outgoing

routes = api_routes()


@routes.get("/deliveries", tags=["deliveries"])
def list_deliveries(
    opened: Opened,
    identity: Reader,
    account: OnlyAccount = None,
    states: Annotated[
        list[State], Query(max_length=10, description="Only these states; all without any.")
    ] = [],  # noqa: B006  # FastAPI copies it
    limit: Limit = 100,
) -> Answer[list[Reply]]:
    """Replies on their way and over, the last changed first."""
    must_see(opened, identity, account)
    rows = Outbox(opened.database, identity.user_id).deliveries(account, states, limit)
    waits = waits_of(opened, rows)
    return Answer(data=[answers.reply(row, waits) for row in rows])


def waits_of(opened: Stores, rows: Sequence[Outgoing]) -> dict[str, str]:
    """What those of the deliveries that are approved wait for, in words."""
    now = datetime.now(UTC)
    accounts = {row.delivery.account for row in rows if row.delivery.state == "approved"}
    return {
        row.delivery.delivery_id: why
        for account in sorted(accounts)
        for row, why in what_would_go(opened.database, now, account)
    }


@routes.get("/deliveries/{delivery_id}", tags=["deliveries"])
def read_delivery(
    opened: Opened,
    identity: Reader,
    delivery_id: DeliveryId,
    run: Annotated[
        bool, Query(description="Also ask Dagster which run made the draft; it takes a while.")
    ] = False,
) -> Answer[Why]:
    """Why a reply went out, and what became of it: back to the messages that it rests on."""
    found = explain(opened.database, identity.user_id, delivery_id)
    run_id = None
    if run:
        from communicator_pipeline import runs  # Dagster takes seconds to import

        with runs.open_instance() as instance:
            run_id = runs.draft_run(
                instance,
                found.reply.delivery.account,
                found.approval["draft_day"],
                found.reply.approved_at,
            )
    return Answer(data=Why.model_validate(as_json(found, run_id)))


class ResolveAsked(Asked):
    """What a person says became of a delivery."""

    choice: recovery.Choice


@routes.post("/deliveries/{delivery_id}/resolve", tags=["deliveries"])
def resolve_delivery(
    opened: Opened, identity: Writer, delivery_id: DeliveryId, asked: ResolveAsked
) -> Answer[Reply]:
    """Decide about a reply of which nobody knows whether it arrived."""
    row = recovery.resolve(opened.database, identity.user_id, delivery_id, asked.choice)
    note(opened, identity, "resolved", row.delivery.account, row.conversation_id, asked.choice)
    return Answer(data=answers.reply(row, waits_of(opened, [row])))


class UndoAsked(Asked):
    """What is to be taken back."""

    rest: Annotated[
        bool, Field(description="What has not left of a reply of which a part has.")
    ] = False


@routes.post("/approvals/{approval_id}/undo", tags=["replies"])
def undo(
    opened: Opened,
    identity: Writer,
    approval_id: ApprovalId,
    asked: UndoAsked | None = None,
) -> Answer[list[Reply]]:
    """Take an approval back before it has left; what was taken back."""
    rest = asked.rest if asked else False
    rows = approving.undo(opened.database, identity.user_id, approval_id, rest=rest)
    first = rows[0]
    note(
        opened, identity, "took back", first.delivery.account, first.conversation_id,
        first.delivery.approval_id,
    )  # fmt: skip
    return Answer(data=[answers.reply(row, {}) for row in rows])


# --- notices ---------------------------------------------------------------------------------


@routes.get("/notices", tags=["notices"])
def list_notices(
    opened: Opened, identity: Reader, account: OnlyAccount = None
) -> Answer[list[Notice]]:
    """What came too late to void a reply and nobody has read, the newest first."""
    must_see(opened, identity, account)
    rows = Outbox(opened.database, identity.user_id).notices(account)
    return Answer(data=[Notice.model_validate(row) for row in rows])


@routes.post("/notices/{approval_id}/read", tags=["notices"])
def read_notices(opened: Opened, identity: Writer, approval_id: ApprovalId) -> Answer[list[Notice]]:
    """Take an approval's notices out of the inbox; those that are left."""
    outbox = Outbox(opened.database, identity.user_id)
    first = outbox.parts(approval_id)[0]
    if outbox.read_notices(first.delivery.approval_id, datetime.now(UTC)):
        note(
            opened, identity, "read notices", first.delivery.account, first.conversation_id,
            first.delivery.approval_id,
        )  # fmt: skip
    return Answer(data=[Notice.model_validate(row) for row in outbox.notices()])


# --- the kill switch -------------------------------------------------------------------------


class ResumeAsked(Asked):
    """Which switch: an account's, or (null) the installation's."""

    account: Annotated[str | None, Field(max_length=63), Plain] = None


class StopAsked(ResumeAsked):
    """Why everything stops."""

    why: Short = ""


@routes.get("/sending", tags=["sending"])
def read_sending(opened: Opened, identity: Reader) -> Answer[list[Switch]]:
    """The kill switches that are thrown, as far as they concern the user."""
    return Answer(data=_switches(opened, identity))


@routes.post("/sending/stop", tags=["sending"])
def stop_sending(opened: Opened, identity: Writer, asked: StopAsked) -> Answer[list[Switch]]:
    """The kill switch: nothing leaves any more, what is approved waits. Of the installation: for
    an administrator."""
    Outbox(opened.database, identity.user_id).stop_sending(
        asked.account, asked.why, datetime.now(UTC)
    )
    note(opened, identity, "stopped sending", asked.account, asked.account or "", asked.why)
    return Answer(data=_switches(opened, identity))


@routes.post("/sending/resume", tags=["sending"])
def resume_sending(opened: Opened, identity: Writer, asked: ResumeAsked) -> Answer[list[Switch]]:
    """Take the kill switch back."""
    Outbox(opened.database, identity.user_id).resume_sending(asked.account)
    note(opened, identity, "resumed sending", asked.account, asked.account or "")
    return Answer(data=_switches(opened, identity))


def _switches(opened: Stores, identity: Identity) -> list[Switch]:
    rows = Outbox(opened.database, identity.user_id).switches()
    return [Switch.model_validate(row) for row in rows]
