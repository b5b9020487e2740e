"""Every row of an installation that people or later runs act on, to be compared with another's.

Belongs here: what lake, landing zone and database hold of accounts, as lines. Does not belong here:
what made it (the kill tests, the backfills), what one store does (`storage/`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.landing import landed_months, read_landing
from communicator_pipeline.storage.work import WorkQueue

TABLES = {
    "accounts": "account, platform, name, me",
    "people": "account, person_id, name, handle, is_bot, seen_at",
    "channels": "account, channel_id, name, kind, seen_at",
    "dead_letters": "dead_letter_id, account, stage, source, reason, payload, day, state",
    "messages": (
        "account, message_id, day, channel_id, sent_at, author_id, author_name, kind, text, "
        "search_text, thread_id, reply_to, attachments, reactions, edited_at, deleted, version, "
        "conversation_id, parent_message_id, link_reason, link_score, link_why"
    ),
    "analyses": "*",
    "drafts": "*",
    "conversations": "*",
    "published_days": "account, day, digest",
    "landing_intents": "account, days",
    "touched_conversations": "*",
}
"""Their columns; each has an `account`. Left out: when something was first seen."""

ASSETS = ("raw_messages", "attachments", "conversations", "analyses", "drafted_replies")


def rows_of(folder: Path, accounts: Sequence[str]) -> dict[str, list[str]]:
    """Everything in the lake and the database that is these accounts', as sorted lines; and the
    days that are still to be done, of any account."""
    stores = open_local(folder)
    found = {
        name: sorted(
            str(row)
            for row in stores.database.execute(f"SELECT {columns} FROM {name}")
            if row["account"] in accounts
        )
        for name, columns in TABLES.items()
    }
    found["dirty days"] = [str(day) for day in WorkQueue(stores.database).dirty()]
    found["search"] = [
        str(row)
        for row in stores.database.execute(
            "SELECT g.account, g.message_id "
            "FROM messages_fts JOIN messages AS g ON g.id = messages_fts.rowid "
            "WHERE messages_fts MATCH 'a* OR e* OR t*' ORDER BY 1, 2"
        )
        if row["account"] in accounts
    ]
    for account in accounts:
        for asset in ASSETS:
            found[f"{account} {asset}"] = sorted(_lake_rows(stores, asset, account))
        found[f"{account} landing"] = sorted(set(_landed(stores, account)))
    return found


def _lake_rows(stores: Stores, asset: str, account: str) -> Iterator[str]:
    for month in stores.lake.months(asset, account):
        partition = AccountMonth(account, month)
        for day, entry in stores.lake.manifest(asset, partition).entries.items():
            for row in stores.lake.read_day(asset, partition, entry).to_pylist():
                yield f"{day} {row}"


def _landed(stores: Stores, account: str) -> Iterator[str]:
    for month in landed_months(stores.lake, account):
        for row in read_landing(stores.lake, AccountMonth(account, month), None).to_pylist():
            yield str({name: row[name] for name in ("message_id", "kind", "digest", "payload")})
