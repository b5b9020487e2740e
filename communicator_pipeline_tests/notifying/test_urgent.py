"""What is urgent, and what of it is news."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from communicator_pipeline.notifying.urgent import news, urgent
from communicator_pipeline.storage.database import utc_text

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)


def row(minutes: float = 5, **more: Any) -> dict[str, Any]:
    return {
        "account": "a",
        "conversation_id": "c",
        "needs_reply": 1,
        "priority": 80,
        "assigned_to": "",
        "last_message_at": utc_text(NOW - timedelta(minutes=minutes)),
        **more,
    }


@pytest.mark.parametrize(
    ("one", "is_urgent"),
    [
        (row(), True),
        (row(priority=79), False),
        (row(needs_reply=0), False),
        (row(assigned_to="ana"), True),
        (row(assigned_to="bo"), False),
        (row(minutes=24 * 60 - 1), True),
        (row(minutes=24 * 60), False),
    ],
)
def test_urgent_is_what_needs_a_reply_is_high_and_fresh_and_nobody_elses(
    one: dict[str, Any], is_urgent: bool
) -> None:
    assert bool(urgent([one], "ana", 80, NOW)) is is_urgent


@pytest.mark.parametrize(
    ("noticed_minutes_ago", "is_news"), [(None, True), (59, False), (60, True), (600, True)]
)
def test_a_conversation_that_goes_on_is_news_again_after_an_hour(
    noticed_minutes_ago: int | None, is_news: bool
) -> None:
    noticed = {}
    if noticed_minutes_ago is not None:
        noticed = {("a", "c"): utc_text(NOW - timedelta(minutes=noticed_minutes_ago))}
    assert bool(news([row()], noticed, NOW)) is is_news


def test_the_cause_changes_with_the_last_message_alone() -> None:
    first, same, later = (
        news([one], {}, NOW)[0].cause for one in (row(), row(priority=99), row(minutes=4))
    )
    assert first == same
    assert first != later
