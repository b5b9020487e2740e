"""What models answered and what they took, in the database.

Belongs here: answers by digest, usage by user, account and day. Does not belong here: deciding
what is asked (`model.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

from communicator_pipeline.language_model.asking import Prompt, Usage, as_json, sent_schema
from communicator_pipeline.language_model.configuration import ModelConfig
from communicator_pipeline.storage.database import (
    Database,
    Row,
    Statement,
    carry_rows,
    now_text,
    utc_text,
)


def answer_digest(config: ModelConfig, prompt: Prompt, schema: type[BaseModel]) -> str:
    """The digest of all that an answer depends on. Not the server's address: the same model
    behind a gateway answers the same."""
    asked = {
        "model": config.model,
        "temperature": config.temperature,
        "output_tokens": config.output_tokens,
        "json_mode": config.json_mode,
        "messages": prompt.messages(),
        "schema": sent_schema(schema),
    }
    return hashlib.sha256(as_json(asked).encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer as it is kept."""

    account: str
    digest: str
    answer: str  # JSON
    model: str
    purpose: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used, and by whom."""

    user_id: str
    account: str
    purpose: str
    model: str
    usage: Usage


def kept_answers(
    database: Database, wanted: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], KeptAnswer]:
    """(account, digest) → the answer that is kept for it."""
    found: dict[tuple[str, str], KeptAnswer] = {}
    for statement in carry_rows(
        "SELECT a.account, a.digest, a.answer, a.model, a.purpose, a.calls, a.input_tokens, "
        "a.output_tokens, a.neurons, a.cost_usd FROM json_each(?) AS j "
        "JOIN model_answers AS a ON a.account = j.value ->> 0 AND a.digest = j.value ->> 1",
        sorted(set(wanted)),
    ):
        for row in database.execute(*statement):
            usage = Usage(
                row["calls"],
                row["input_tokens"],
                row["output_tokens"],
                row["neurons"],
                row["cost_usd"],
            )
            found[row["account"], row["digest"]] = KeptAnswer(
                row["account"], row["digest"], row["answer"], row["model"], row["purpose"], usage
            )
    return found


def note(database: Database, answers: Iterable[KeptAnswer], spent: Iterable[Spent]) -> None:
    """Keep answers and count what they took, in one batch."""
    now = datetime.now(UTC)
    statements: list[Statement] = [
        *carry_rows(
            "INSERT OR IGNORE INTO model_answers (account, digest, answer, model, purpose, "
            "calls, input_tokens, output_tokens, neurons, cost_usd, answered_at) "
            "SELECT j.value ->> 'account', j.value ->> 'digest', j.value ->> 'answer', "
            "j.value ->> 'model', j.value ->> 'purpose', j.value ->> 'calls', "
            "j.value ->> 'input', j.value ->> 'output', j.value ->> 'neurons', "
            "j.value ->> 'cost', ?2 FROM json_each(?1) AS j "
            # An account that was removed a moment ago must not fail the others' answers.
            "WHERE EXISTS (SELECT 1 FROM accounts WHERE account = j.value ->> 'account')",
            (
                {
                    "account": kept.account,
                    "digest": kept.digest,
                    "answer": kept.answer,
                    "model": kept.model,
                    "purpose": kept.purpose,
                    **_numbers(kept.usage),
                }
                for kept in answers
            ),
            now_text(),
        ),
        *carry_rows(
            "INSERT INTO model_usage (user_id, account, day, purpose, model, calls, input_tokens, "
            "output_tokens, neurons, cost_usd) "
            "SELECT j.value ->> 'user', j.value ->> 'account', ?2, j.value ->> 'purpose', "
            "j.value ->> 'model', j.value ->> 'calls', j.value ->> 'input', "
            "j.value ->> 'output', j.value ->> 'neurons', j.value ->> 'cost' "
            "FROM json_each(?1) AS j WHERE true "
            "ON CONFLICT (user_id, day, account, purpose, model) DO UPDATE SET "
            "calls = calls + excluded.calls, "
            "input_tokens = input_tokens + excluded.input_tokens, "
            "output_tokens = output_tokens + excluded.output_tokens, "
            "neurons = neurons + excluded.neurons, cost_usd = cost_usd + excluded.cost_usd",
            _summed(spent),
            now.strftime("%Y-%m-%d"),
        ),
    ]
    if statements:
        database.batch(statements)


def _summed(spent: Iterable[Spent]) -> list[Mapping[str, Any]]:
    sums: dict[tuple[str, str, str, str], Usage] = {}
    for one in spent:
        key = (one.user_id, one.account, one.purpose, one.model)
        sums[key] = sums.get(key, Usage()) + one.usage
    return [
        {
            "user": user_id,
            "account": account,
            "purpose": purpose,
            "model": model,
            **_numbers(usage),
        }
        for (user_id, account, purpose, model), usage in sorted(sums.items())
        if usage.calls
    ]


def _numbers(usage: Usage) -> dict[str, int | float]:
    return {
        "calls": usage.calls,
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "neurons": usage.neurons,
        "cost": usage.cost_usd,
    }


def spent_today(database: Database, user_id: str) -> float:
    """USD that a user has spent since 00:00 UTC."""
    rows = database.execute(
        "SELECT coalesce(sum(cost_usd), 0) AS cost FROM model_usage WHERE user_id = ? AND day = ?",
        (user_id, datetime.now(UTC).strftime("%Y-%m-%d")),
    )
    return float(rows[0]["cost"])


def usage_since(
    database: Database,
    first_day: str,
    by: Literal["day", "user_id", "account", "purpose", "model"],
) -> list[Row]:
    """Calls, tokens, neurons and USD from a UTC day on, summed by a column, in its order."""
    return database.execute(
        f"SELECT {by}, sum(calls) AS calls, sum(input_tokens) AS input_tokens, "
        "sum(output_tokens) AS output_tokens, sum(neurons) AS neurons, sum(cost_usd) AS cost_usd "
        f"FROM model_usage WHERE day >= ? GROUP BY {by} ORDER BY {by}",
        (first_day,),
    )


def forget_answers(database: Database, before: datetime) -> int:
    """Delete the answers that were given before a moment (UTC); returns how many. A re-run of
    what they were for asks the model again."""
    gone = database.execute(
        "DELETE FROM model_answers WHERE answered_at < ? RETURNING 1", (utc_text(before),)
    )
    return len(gone)
