"""Days on which something stood in for a language model, to be tried again when it may answer.

Belongs here: noting the days, having them materialised again. Does not belong here: why a model
did not answer (`language_model/`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

from communicator_pipeline.storage.database import Database, carry_rows, utc_text
from communicator_pipeline.storage.work import WorkQueue

TRIED_AGAIN_AFTER = timedelta(minutes=10)


def retry_later(
    database: Database, account: str, again: Mapping[str, str], processed: Collection[str]
) -> None:
    """Have some days (day → why) tried again in a while; the others of the processed are done."""
    at = utc_text(datetime.now(UTC) + TRIED_AGAIN_AFTER)
    statements = [
        *carry_rows(
            "INSERT OR REPLACE INTO model_retries (account, day, why, retry_at) "
            "SELECT ?2, value ->> 0, value ->> 1, ?3 FROM json_each(?1) "
            "WHERE EXISTS (SELECT 1 FROM accounts WHERE account = ?2)",
            sorted(again.items()),
            account,
            at,
        ),
        *carry_rows(
            "DELETE FROM model_retries WHERE account = ?2 "
            "AND day IN (SELECT value FROM json_each(?1))",
            sorted(set(processed) - set(again)),
            account,
        ),
    ]
    if statements and (again or _any(database, account)):
        database.batch(statements)


def mark_due(database: Database, now: datetime) -> int:
    """Mark the days whose time has come; returns how many. A day that fails again notes itself
    again."""
    rows = database.execute(
        "SELECT account, day, why FROM model_retries WHERE retry_at <= ? ORDER BY account, day",
        (utc_text(now),),
    )
    work = WorkQueue(database)
    for account in sorted({row["account"] for row in rows}):
        days = [row["day"] for row in rows if row["account"] == account]
        work.mark(account, days, "a language model may answer now")
        database.batch(
            list(
                carry_rows(
                    "DELETE FROM model_retries WHERE account = ?2 AND retry_at <= ?3 "
                    "AND day IN (SELECT value FROM json_each(?1))",
                    days,
                    account,
                    utc_text(now),
                )
            )
        )
    return len(rows)


def _any(database: Database, account: str) -> bool:
    return bool(
        database.execute("SELECT 1 FROM model_retries WHERE account = ? LIMIT 1", (account,))
    )
