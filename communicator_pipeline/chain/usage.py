"""`usage`: what an account took of Cloudflare's services on a day, and what it costs.

Belongs here: the asset's rows, and the days that cost more than expected. Does not belong here:
counting (`storage/metering.py`), prices (`storage/cloudflare_prices.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pyarrow as pa

from communicator_pipeline.messages import table_schema
from communicator_pipeline.storage import Stores, metering
from communicator_pipeline.storage.cloudflare_prices import AS_OF, Priced, priced
from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.metering import Used
from communicator_pipeline.storage.settings import Settings

ASSET = "usage"
ALERT_SETTING = "usage_alert_usd"

SCHEMA = table_schema(
    [
        ("account", pa.string()),
        ("day", pa.string()),
        ("service", pa.string()),
        ("what", pa.string()),
        ("count", pa.float64()),
        ("usd", pa.float64()),
        ("prices_of", pa.string()),
    ]
)


def materialise(stores: Stores, account: str, day: str) -> list[Priced]:
    """Write what the account used on the day (UTC), at list prices; returns it. Machines that have
    not handed over their counts yet are missing: a later run has them."""
    rows = priced(used(stores.database, day, account))
    columns = {
        name: [getattr(row, name) for row in rows]
        for name in ("account", "day", "service", "what", "count", "usd")
    }
    table = pa.table({**columns, "prices_of": [AS_OF] * len(rows)}, schema=SCHEMA)
    stores.lake.update(ASSET, AccountMonth(account, day[:7]), lambda _: {day: table})
    return rows


def hand_over(stores: Stores) -> None:
    """Bring this machine's counts into the database."""
    metering.hand_over(stores.database, datetime.now(UTC))


def used(database: Database, day: str, account: str | None = None) -> list[Used]:
    """What was used on a day, neurons of the language model among it; of an account or of all."""
    neurons = database.execute(
        "SELECT account, sum(neurons) AS count FROM model_usage WHERE day = ?1 "
        "AND (?2 IS NULL OR account = ?2) GROUP BY account HAVING sum(neurons) > 0 "
        "ORDER BY account",
        (day, account),
    )
    return [
        *metering.usage(database, day, day, account),
        *(Used(day, row["account"], "workers ai", "neurons", row["count"]) for row in neurons),
    ]


def accounts_with_usage(database: Database, day: str) -> set[str]:
    """Those for which something was used on the day."""
    return {one.account for one in used(database, day) if one.account}


def costly_days(stores: Stores, days: Iterable[str]) -> dict[str, float]:
    """The days on which the whole installation cost more than `usage_alert_usd` at list prices,
    and how much; none if that is not set."""
    most = Settings(stores.database, None).get(ALERT_SETTING)
    if most is None:
        return {}
    cost = {
        day: sum(row.usd for row in priced(used(stores.database, day))) for day in sorted(set(days))
    }
    return {day: usd for day, usd in cost.items() if usd > most}
