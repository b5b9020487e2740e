"""Asset checks: what must hold after a run, and stops what stands on it when it does not.

Belongs here: the rules of `chain/checks.py` as Dagster's blocking checks. A run covers many
partitions and a check is evaluated once per run, so each goes through them and names the days. How
the connected accounts are is a warning: what has landed is right all the same.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from communicator_pipeline.assets import (
    analyses,
    conversations,
    drafted_replies,
    label_models,
    raw_messages,
    reply_memory,
    usage,
)
from communicator_pipeline.chain import checks, label_checks, memory_checks
from communicator_pipeline.chain.checks import Problem, quiet_accounts
from communicator_pipeline.chain.usage import costly_days
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.partitions import account_month
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import account_keys
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.lake import AccountMonth

Rule = Callable[[Stores, AccountMonth, frozenset[str]], list[Problem]]


def _check(asset: dg.AssetsDefinition, name: str, rule: Rule) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset, name=name, blocking=True, op_tags=on_queue("checks"), description=rule.__doc__
    )
    def check(
        context: dg.AssetCheckExecutionContext, stores: StoresResource
    ) -> dg.AssetCheckResult:
        opened = stores.open()
        scope = _days_of_run(context)
        problems = [
            {"account": partition.account, **problem}
            for partition in _partitions(context, opened, asset.key.to_user_string())
            for problem in rule(opened, partition, scope)
        ]
        days = sorted({str(problem.get("day")) for problem in problems})
        return dg.AssetCheckResult(
            passed=not problems,
            metadata={"problems": len(problems), "days": days, "first": problems[:20]},
        )

    return check


def _account_check(
    asset: dg.AssetsDefinition, name: str, rule: Callable[[Stores, str], list[Problem]]
) -> dg.AssetChecksDefinition:
    """The same of an asset that is partitioned by account alone."""

    @dg.asset_check(
        asset=asset, name=name, blocking=True, op_tags=on_queue("checks"), description=rule.__doc__
    )
    def check(
        context: dg.AssetCheckExecutionContext, stores: StoresResource
    ) -> dg.AssetCheckResult:
        opened = stores.open()
        op = context.op_execution_context
        of_run = op.has_partition_key or op.has_partition_key_range
        problems = [
            {"account": account, **problem}
            for account in (sorted(op.partition_keys) if of_run else account_keys(opened.database))
            for problem in rule(opened, account)
        ]
        return dg.AssetCheckResult(
            passed=not problems, metadata={"problems": len(problems), "first": problems[:20]}
        )

    return check


def _days_of_run(context: dg.AssetCheckExecutionContext) -> frozenset[str]:
    """The days that the run was told to work on; none: all."""
    config_of_run: Mapping[str, Any] = context.op_execution_context.run.run_config
    ops = config_of_run.get("ops", {})
    config = ops.get("conversations", {}).get("config", {})
    return frozenset(config.get("days", ()))


def _partitions(
    context: dg.AssetCheckExecutionContext, stores: Stores, asset: str
) -> list[AccountMonth]:
    """The run's partitions; of a check that is run by itself, all."""
    op = context.op_execution_context
    if op.has_partition_key or op.has_partition_key_range:
        return sorted(account_month(key) for key in op.partition_keys)
    return [
        AccountMonth(account, month)
        for account in account_keys(stores.database)
        for month in stores.lake.months(asset, account)
    ]


@dg.asset_check(
    asset=raw_messages,
    op_tags=on_queue("checks"),
    description="Every connected account can be pulled; else which command repairs it.",
)
def accounts_can_be_pulled(stores: StoresResource) -> dg.AssetCheckResult:
    sick = [health for health in Connections(stores.open()).healths() if health.trouble_kind]
    return dg.AssetCheckResult(
        passed=not sick,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "accounts": [f"{h.account}: {h.trouble_kind}; {h.repair}" for h in sick],
        },
    )


@dg.asset_check(
    asset=raw_messages,
    op_tags=on_queue("checks"),
    description="Direct messages that used to come on X still do: X Chat is encrypted and cannot "
    "be read, so an account that moves there falls silent.",
)
def direct_messages_still_come(stores: StoresResource) -> dg.AssetCheckResult:
    silent = quiet_accounts(stores.open(), datetime.now(UTC).date())
    return dg.AssetCheckResult(
        passed=not silent,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"accounts": [f"{account}: {words}" for account, words in silent.items()]},
    )


@dg.asset_check(
    asset=usage,
    op_tags=on_queue("checks"),
    description="No day cost more than the setting usage_alert_usd says: the whole installation, "
    "at list prices.",
)
def a_day_costs_what_is_expected(
    context: dg.AssetCheckExecutionContext, stores: StoresResource
) -> dg.AssetCheckResult:
    op = context.op_execution_context
    of_run = op.has_partition_key or op.has_partition_key_range
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    days = {key.split("|")[1] for key in op.partition_keys} if of_run else {yesterday}
    costly = costly_days(stores.open(), days)
    return dg.AssetCheckResult(
        passed=not costly,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"days": [f"{day}: ${usd:.4f}" for day, usd in costly.items()]},
    )


CONNECTION_CHECKS = [accounts_can_be_pulled, direct_messages_still_come]

CHECKS = [
    *CONNECTION_CHECKS,
    a_day_costs_what_is_expected,
    _check(raw_messages, "message_ids_are_unique", checks.repeated_messages),
    _check(conversations, "every_message_is_in_one_conversation", checks.misplaced_messages),
    _check(conversations, "conversation_ids_are_stable", checks.unstable_conversations),
    _check(analyses, "categories_are_in_the_taxonomy", checks.unknown_categories),
    _check(drafted_replies, "no_draft_to_oneself", checks.drafts_to_oneself),
    _check(drafted_replies, "nothing_drafted_that_was_answered", checks.drafts_already_answered),
    _account_check(
        reply_memory, "an_edit_teaches_three_at_most", memory_checks.edits_that_taught_too_much
    ),
    _account_check(
        reply_memory, "every_memory_has_a_source", memory_checks.memories_without_a_source
    ),
    _account_check(
        reply_memory, "memories_are_in_the_users_words", memory_checks.memories_in_others_words
    ),
    _account_check(label_models, "no_worse_than_untrained", label_checks.worse_than_untrained),
]
