"""The demo on D1 and R2 in the real workerd is the demo on the embedded stores, row for row."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.on_cloudflare import open_cloudflare
from communicator_pipeline_tests.peers.node import needs_peers
from communicator_pipeline_tests.peers.stores import running

pytestmark = pytest.mark.peers

ASSETS = ("raw_messages", "attachments", "conversations", "analyses", "drafted_replies")
NOT_THE_SANDBOX = "WHERE account <> 'ana-sandbox'"  # its messages come when the demo runs
TABLES = {
    "users": ("user_id, name", ""),
    "accounts": ("account, platform, name, me", NOT_THE_SANDBOX),
    "account_members": ("*", NOT_THE_SANDBOX),
    "channels": ("*", NOT_THE_SANDBOX),
    "messages": ("*", NOT_THE_SANDBOX),
    "analyses": ("*", NOT_THE_SANDBOX),
    "conversations": ("*", NOT_THE_SANDBOX),
    "drafts": ("*", NOT_THE_SANDBOX),
    "published_days": ("account, day, digest", NOT_THE_SANDBOX),
    "dead_letters": ("account, stage, source, reason, state", NOT_THE_SANDBOX),
    "deliveries": ("state, attempts, text", ""),
    "delivery_log": ("before, after", ""),
}


def demo(home: Path, given: dict[str, str]) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER", "COMMUNICATOR"))}
    done = subprocess.run(
        [sys.executable, "-m", "communicator_pipeline.cli", "demo"],
        env={**kept, **given, "COMMUNICATOR_HOME": str(home), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr
    return done.stdout


def rows(stores: Stores, table: str) -> list[dict[str, Any]]:
    columns, where = TABLES[table]
    found = stores.database.execute(f"SELECT {columns} FROM {table} {where}")
    # JSON has one kind of number: 80.0 comes from D1 as 80, which is the same to Python.
    return sorted(found, key=lambda row: repr(sorted((k, str(v)) for k, v in row.items())))


def days(stores: Stores) -> dict[tuple[str, ...], str]:
    """(asset, account, month, day) → the digest of the day's rows."""
    return {
        (asset, account, month, day): entry.digest
        for asset in ASSETS
        for account in ("ana-slack-harbor", "ana-x", "ben-slack-workshop", "ben-telegram")
        for month in stores.lake.months(asset, account)
        for day, entry in stores.lake.manifest(asset, AccountMonth(account, month)).entries.items()
    }


def test_it_is_the_same_row_for_row(tmp_path: Path) -> None:
    needs_peers()
    said = demo(tmp_path / "local", {})
    local = open_local(tmp_path / "local")
    with running(tmp_path / "workerd") as given:
        said_there = demo(tmp_path / "machine", given)
        # A second machine, which has nothing of the first but the addresses.
        there = open_cloudflare(tmp_path / "other machine", given)
        for table in TABLES:
            assert rows(there, table) == rows(local, table), table
        assert len(rows(there, "messages")) > 500
        assert days(there) == days(local)
        assert len(days(there)) > 100
        partition = AccountMonth(
            "ana-slack-harbor", there.lake.months(ASSETS[0], "ana-slack-harbor")[0]
        )
        for day in there.lake.manifest(ASSETS[0], partition).days.values():
            assert there.lake.read_day(ASSETS[0], partition, day).num_rows == day.rows
    assert "(arrived 1×)" in said
    assert "(arrived 1×)" in said_there
    # The machine that worked keeps nothing of what was said but copies of lake files.
    left = {path.name for path in (tmp_path / "machine").iterdir()}
    assert "communicator.db" not in left
    assert "lake" not in left
