"""What models answered and what they took.

Belongs here: answers by digest, in the database or in KV; usage by user, account and day, which is
in the database always. Does not belong here: deciding what is asked (`model.py`).
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol
from weakref import WeakKeyDictionary

from pydantic import BaseModel, TypeAdapter, ValidationError

from communicator_pipeline.language_model.asking import Prompt, Usage, as_json, sent_schema
from communicator_pipeline.language_model.configuration import ModelConfig
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.cloudflare import CallsUsedUp
from communicator_pipeline.storage.database import (
    Database,
    MayGoOn,
    Row,
    Statement,
    carry_rows,
    delete_in_parts,
    for_ever,
    now_text,
    utc_text,
)
from communicator_pipeline.storage.kv import LARGEST_VALUE, KvFailed, KvStore

log = logging.getLogger("communicator.language_model")

KEPT_FOR = timedelta(days=90)
"""Days within which history is read anew at no cost; older questions are asked again."""

REST = 60.0
"""Seconds for which a KV that failed is not asked: each try may take most of a minute."""


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


class KeptAnswers(Protocol):
    """Where answers are kept, for `KEPT_FOR`."""

    def find(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], KeptAnswer]:
        """(account, digest) → the answer that is kept for it."""
        ...

    def note(self, answers: Iterable[KeptAnswer], spent: Iterable[Spent]) -> None:
        """Keep answers; count what was spent in the database, in one batch, whatever becomes of
        them."""
        ...

    def forget_account(self, account: str) -> int:
        """Delete what is kept for an account; returns how many answers went. Raises
        `NotForgotten`."""
        ...


class NotForgotten(Exception):
    """Answers of an account that is removed may still be there; the message says why."""


def answers_of(stores: Stores) -> KeptAnswers:
    """Where an installation keeps its answers."""
    if stores.cache is None:
        return AnswersInDatabase(stores.database)
    return AnswersInKv(stores.database, stores.cache)


class AnswersInDatabase:
    """In the table `model_answers`. An account's go with it; old ones by `forget_answers`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], KeptAnswer]:
        found: dict[tuple[str, str], KeptAnswer] = {}
        for statement in carry_rows(
            "SELECT a.account, a.digest, a.answer, a.model, a.purpose, a.calls, a.input_tokens, "
            "a.output_tokens, a.neurons, a.cost_usd FROM json_each(?) AS j "
            "JOIN model_answers AS a ON a.account = j.value ->> 0 AND a.digest = j.value ->> 1",
            sorted(set(wanted)),
        ):
            for row in self._database.execute(*statement):
                usage = Usage(
                    row["calls"],
                    row["input_tokens"],
                    row["output_tokens"],
                    row["neurons"],
                    row["cost_usd"],
                )
                key = (row["account"], row["digest"])
                found[key] = KeptAnswer(*key, row["answer"], row["model"], row["purpose"], usage)
        return found

    def note(self, answers: Iterable[KeptAnswer], spent: Iterable[Spent]) -> None:
        statements = [
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
            *_counting(spent),
        ]
        if statements:
            self._database.batch(statements)

    def forget_account(self, account: str) -> int:
        gone = self._database.execute(
            "DELETE FROM model_answers WHERE account = ? RETURNING 1", (account,)
        )
        return len(gone)


_VALUE = TypeAdapter(KeptAnswer)

_RESTING: WeakKeyDictionary[KvStore, float] = WeakKeyDictionary()
"""Until when a KV that failed is left alone, as `time.monotonic()` counts: for all who share it."""


class AnswersInKv:
    """In KV, as JSON under `answers/ACCOUNT/DIGEST`, which KV itself deletes after `KEPT_FOR`.

    It is a cache. A minute may pass until others see an answer; who asks within it asks the model
    again, and the later answer stands. Where KV fails, nothing is found and nothing is kept. What
    an account's last run writes while the account is removed, `clear_removed` finds later.
    """

    def __init__(self, database: Database, cache: KvStore) -> None:
        self._database = database
        self._cache = cache

    def find(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], KeptAnswer]:
        keys = {_key(*one): one for one in sorted(set(wanted))}
        if not self._may_be_asked():
            return {}
        try:
            values = self._cache.get_many(list(keys))
        except _failures() as error:
            self._leave_alone("Kept answers cannot be looked up, so models are asked", error)
            return {}
        found = {}
        for key, value in values.items():
            try:
                answer = _VALUE.validate_json(value)
            except ValidationError:
                log.warning("What KV has under %s is no kept answer: the model is asked again", key)
                continue
            found[keys[key]] = answer
        return found

    def note(self, answers: Iterable[KeptAnswer], spent: Iterable[Spent]) -> None:
        # First: what was spent is counted, whatever becomes of the answers.
        if statements := _counting(spent):
            self._database.batch(statements)
        values = {_key(one.account, one.digest): _VALUE.dump_json(one) for one in answers}
        for key in [key for key, value in values.items() if len(value) > LARGEST_VALUE]:
            log.warning("%s has %d bytes, too many to be kept in KV", key, len(values.pop(key)))
        if not values or not self._may_be_asked():
            return
        try:
            self._cache.put_many(values, int(KEPT_FOR.total_seconds()))
        except _failures() as error:
            self._leave_alone("Answers are not kept", error)

    def forget_account(self, account: str) -> int:
        if not self._may_be_asked():
            raise NotForgotten(f"what is kept for {account} stays: KV failed a moment ago")
        try:
            keys = list(self._cache.list(_key(account, "")))
            self._cache.delete_many(keys)
        except _failures() as error:
            self._leave_alone(f"What is kept for {account} cannot be deleted", error)
            raise NotForgotten(f"what is kept for {account} stays: {_words(error)}") from error
        return len(keys)

    def _may_be_asked(self) -> bool:
        return _RESTING.get(self._cache, 0.0) <= time.monotonic()

    def _leave_alone(self, what: str, error: Exception) -> None:
        _RESTING[self._cache] = time.monotonic() + REST
        log.warning("%s; KV is not asked for %d s: %s", what, REST, _words(error))


def _key(account: str, digest: str) -> str:
    return f"answers/{account}/{digest}"


def _failures() -> tuple[type[Exception], ...]:
    """What comes of a KV that cannot be reached, or does not do what it should."""
    # Not at the top: they take half a second, and who has no KV never needs them.
    import httpx
    from cloudflare import CloudflareError

    return KvFailed, CallsUsedUp, CloudflareError, httpx.HTTPError


def _words(error: Exception) -> str:
    """Why, without what a server may have quoted."""
    return str(error) if isinstance(error, KvFailed | CallsUsedUp) else type(error).__name__


def _counting(spent: Iterable[Spent]) -> list[Statement]:
    return list(
        carry_rows(
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
            datetime.now(UTC).strftime("%Y-%m-%d"),
        )
    )


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


def forget_answers(database: Database, before: datetime, may_go_on: MayGoOn = for_ever) -> int:
    """Delete from the database the answers that were given before a moment (UTC), also where they
    are kept in KV by now; returns how many. A re-run of what they were for asks the model again."""
    return delete_in_parts(
        database,
        "model_answers",
        "account, digest",
        "answered_at < ?",
        (utc_text(before),),
        may_go_on,
    )
