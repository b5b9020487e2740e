"""What is asked again and again goes by an index as far as there is one: no statement of the chain
or of a page reads all that an account has ever had."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import apsw
import pytest

from communicator_pipeline.storage import Stores, corrections
from communicator_pipeline.storage.database import SqliteDatabase, Statement
from communicator_pipeline.storage.feedback import (
    days_to_draft_anew,
    feedback_of_ids,
    feedback_of_month,
)
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.statistics import Statistics
from communicator_pipeline_tests.chain.test_chain import TALK, run
from communicator_pipeline_tests.conftest import Fill

pytestmark = pytest.mark.embedded

ALL_OF_AN_ACCOUNT = re.compile(
    r"SCAN (analyses|drafts|feedback|messages)$"
    r"|SEARCH (analyses|a|drafts|d|feedback|f|messages|g) USING .*\(account=\?\)( LEFT-JOIN)?$"
)

ON_PURPOSE = "SELECT DISTINCT conversation_id, draft_day, draft_version FROM feedback"
"""All that people ever did with drafts: what they did by hand, and without its texts."""


def test_nothing_reads_all_of_an_account(
    stores: Stores, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(stores.database, SqliteDatabase)
    fill(*TALK)
    asked: dict[str, Statement] = {}
    really = SqliteDatabase._run

    def noting(self: SqliteDatabase, statements: list[Statement]) -> list[list[dict[str, object]]]:
        asked.update((sql, (sql, params)) for sql, params in statements)
        return really(self, statements)

    monkeypatch.setattr(SqliteDatabase, "_run", noting)
    run(stores)
    Inbox(stores.database, "ana").conversations(view="needs_reply")
    Statistics(stores.database, "ana").model_state()
    days_to_draft_anew(stores.database, "ana-chat", "2026-11-01")
    feedback_of_ids(stores.database, "ana-chat", ["one", "two"])
    feedback_of_month(stores.database, "ana-chat", "2026-11")
    stores.database.batch(
        [corrections._mark_days("ana-chat", ["c1"], "m1", datetime.now(UTC), "a test")]
    )
    assert any("DELETE FROM analyses" in sql for sql in asked)
    connection = apsw.Connection(str(stores.database.path))
    slow = {
        f"{plan[3]}: {' '.join(sql.split())}"
        for sql, params in asked.values()
        for plan in connection.execute(f"EXPLAIN QUERY PLAN {sql}", tuple(params))
        if ALL_OF_AN_ACCOUNT.match(plan[3]) and not sql.startswith(ON_PURPOSE)
    }
    connection.close()
    assert slow == set()
