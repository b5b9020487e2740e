"""What must hold in the lake, as questions that name what breaks it.

Belongs here: one function per rule; each gives the days (or the rows) that break it, none if
all is well. Does not belong here: what happens then (`asset_checks.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from communicator_pipeline.chain import analyses, conversations, drafted_replies, raw_messages
from communicator_pipeline.chain.variants import taxonomy_of
from communicator_pipeline.platforms.x.quiet import direct_messages_went_quiet
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import account_owner, load_account
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.settings import Settings

LOOKED_BACK = 90
"""Days over which an account's direct messages are looked at."""

Problem = Mapping[str, Any]
"""What is wrong where: `day` and whatever else helps to find it; ids and counts, no text."""


def repeated_messages(
    stores: Stores, partition: AccountMonth, scope: frozenset[str] = frozenset()
) -> list[Problem]:
    """Message ids with more or less than one latest version in the month."""
    return _ask(
        stores,
        partition,
        "SELECT strftime(min(sent_at), '%Y-%m-%d') AS day, message_id, "
        "count(*) FILTER (latest) AS latest_versions FROM raw_messages "
        "GROUP BY message_id HAVING latest_versions <> 1 LIMIT 20",
        raw_messages.ASSET,
    )


def misplaced_messages(
    stores: Stores, partition: AccountMonth, scope: frozenset[str] = frozenset()
) -> list[Problem]:
    """Messages that are in no conversation, or in two; days that were not grouped yet do not
    count, for their run is still to come."""
    return _ask(
        stores,
        partition,
        "SELECT strftime(r.sent_at, '%Y-%m-%d') AS day, r.message_id, "
        "count(c.conversation_id) AS conversations "
        "FROM raw_messages AS r LEFT JOIN conversations AS c USING (message_id) WHERE r.latest "
        "AND strftime(r.sent_at, '%Y-%m-%d') IN (SELECT strftime(sent_at, '%Y-%m-%d') "
        "FROM conversations) GROUP BY ALL HAVING conversations <> 1 LIMIT 20",
        raw_messages.ASSET,
        conversations.ASSET,
    )


def unstable_conversations(
    stores: Stores, partition: AccountMonth, scope: frozenset[str] = frozenset()
) -> list[Problem]:
    """Messages that would get another conversation id if their day were grouped again now.

    Looks at the first and the last day of those that the run worked on (none named: of the
    month): that is where a hand-over goes wrong. Not at others: a person who was renamed since
    may rightly be understood otherwise today.
    """
    manifest = stores.lake.manifest(conversations.ASSET, partition)
    days = [day for day in manifest.days if not scope or day in scope]
    problems: list[Problem] = []
    for day in sorted({*days[:1], *days[-1:]}):
        stored = stores.lake.read_day(conversations.ASSET, partition, manifest.days[day])
        again = conversations.grouped_again(stores, partition, day)
        before, now = (
            dict(zip(t["message_id"].to_pylist(), t["conversation_id"].to_pylist(), strict=True))
            for t in (stored, again)
        )
        problems += [
            {"day": day, "message_id": message, "was": before[message], "is": now.get(message)}
            for message in before
            if before[message] != now.get(message)
        ]
    return problems[:20]


def unknown_categories(
    stores: Stores, partition: AccountMonth, scope: frozenset[str] = frozenset()
) -> list[Problem]:
    """Analyses whose category the user's taxonomy does not have."""
    settings = Settings(stores.database, account_owner(stores.database, partition.account))
    known = [category.name for category in taxonomy_of(settings).categories]
    return _ask(
        stores,
        partition,
        "SELECT strftime(as_of - INTERVAL 1 DAY, '%Y-%m-%d') AS day, category, "
        "count(*) AS conversations FROM analyses "
        "WHERE category NOT IN (SELECT name FROM known) GROUP BY ALL ORDER BY ALL",
        analyses.ASSET,
        known=pa.table({"name": known}),
    )


def drafts_to_oneself(
    stores: Stores, partition: AccountMonth, scope: frozenset[str] = frozenset()
) -> list[Problem]:
    """Drafts in conversations in which nobody but the user has said anything."""
    return _drafts_where(stores, partition, "bool_and(r.author_id IN (SELECT person_id FROM me))")


def drafts_already_answered(
    stores: Stores, partition: AccountMonth, scope: frozenset[str] = frozenset()
) -> list[Problem]:
    """Drafts in conversations in which the user had the last word.

    Elsewhere than in a direct message a word to somebody else leaves a question open: one that
    replies to a message, or mentions people (`analysis/needs_reply.py`).
    """
    return _drafts_where(
        stores,
        partition,
        "arg_max(r.author_id IN (SELECT person_id FROM me) AND (r.channel_kind = 'dm' "
        "OR (r.reply_to IS NULL AND coalesce(len(r.mentions), 0) = 0)), "
        "(r.sent_at, r.message_id))",
    )


def _drafts_where(stores: Stores, partition: AccountMonth, broken: str) -> list[Problem]:
    me = sorted(load_account(stores.database, partition.account).me)
    return _ask(
        stores,
        partition,
        "SELECT strftime(max(r.sent_at), '%Y-%m-%d') AS day, d.conversation_id "
        "FROM drafted_replies AS d JOIN conversations AS c USING (conversation_id) "
        "JOIN raw_messages AS r ON r.message_id = c.message_id AND r.latest "
        "WHERE d.outcome <> 'no_reply' AND r.kind = 'message' AND NOT r.deleted "
        f"GROUP BY d.conversation_id HAVING {broken} LIMIT 20",
        drafted_replies.ASSET,
        conversations.ASSET,
        raw_messages.ASSET,
        me=pa.table({"person_id": pa.array(me, pa.string())}),
    )


def _ask(
    stores: Stores, partition: AccountMonth, sql: str, *assets: str, **tables: pa.Table
) -> list[Problem]:
    sources: dict[str, Any] = dict(tables)
    first, last = f"{partition.month}-01", f"{partition.month}-31"
    for asset in assets:
        files = stores.lake.day_files(asset, partition.account, first, last)
        if not files:
            return []
        sources[asset] = [address for address, _ in files]
    return list(stores.lake.query(sql, sources).to_pylist())


def quiet_accounts(stores: Stores, today: date) -> dict[str, str]:
    """account → what its silence means, of connected accounts on X."""
    found = {}
    for health in Connections(stores).healths():
        if health.platform != "x":
            continue
        first = (today - timedelta(days=LOOKED_BACK)).isoformat()
        files = stores.lake.day_files(raw_messages.ASSET, health.account, first=first)
        if not files:
            continue
        days = stores.lake.query(
            "SELECT DISTINCT CAST(sent_at AS DATE) AS day FROM raw "
            "WHERE channel_kind IN ('dm', 'group') ORDER BY day",
            {"raw": [address for address, _ in files]},
        )
        came = [day for day in days["day"].to_pylist() if day is not None]
        if words := direct_messages_went_quiet(came, today):
            found[health.account] = words
    return found
