"""What the language model took, and what is left of the day's budget.

Belongs here: that route. Does not belong here: counting (`storage/statistics.py`), asking a model.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict

from communicator_pipeline.gateway.api.asking import OnlyAccount, must_see
from communicator_pipeline.gateway.api.routing import api_routes
from communicator_pipeline.gateway.envelope import Answer
from communicator_pipeline.gateway.identity import Opened, Reader
from communicator_pipeline.storage.statistics import Statistics

routes = api_routes()


class UsageRow(BaseModel):
    """What a model took on a day (UTC), for an account, to a purpose."""

    model_config = ConfigDict(from_attributes=True)

    user_id: str  # who pays
    day: str
    account: str
    purpose: str
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    neurons: float
    cost_usd: float


class UsageDetail(BaseModel):
    """What models took, and how it stands with the budget today (UTC); USD."""

    rows: list[UsageRow]
    budget_usd: float | None  # of the user, a day; null: no limit
    spent_usd: float
    left_usd: float | None
    message: str  # what the user should know; empty if all is well


@routes.get("/usage", tags=["usage"])
def read_usage(
    opened: Opened,
    identity: Reader,
    account: OnlyAccount = None,
    days: Annotated[int, Query(ge=1, le=366, description="How many days, today among them.")] = 30,
    everybody: Annotated[
        bool, Query(description="Of all users: for an administrator. The budget is one's own.")
    ] = False,
) -> Answer[UsageDetail]:
    """Calls, tokens and cost by day, account, purpose and model, the newest day first."""
    if everybody and not identity.is_admin:
        raise PermissionError("only an administrator sees what everybody's models took")
    if not everybody:
        must_see(opened, identity, account)
    statistics = Statistics(opened.database, identity.user_id)
    state = statistics.model_state()
    rows = statistics.usage(days, account, everybody)
    return Answer(
        data=UsageDetail(
            rows=[UsageRow.model_validate(row) for row in rows],
            budget_usd=state.budget_usd,
            spent_usd=state.spent_usd,
            left_usd=state.left_usd,
            message=state.words,
        )
    )
