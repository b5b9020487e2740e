"""What each setting takes, and that it can be unset."""

from __future__ import annotations

from typing import Any

import pytest

from communicator_pipeline import user_settings
from communicator_pipeline.retention_settings import Retention
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline.user_settings import (
    NotAValue,
    change,
    change_installation,
    check,
    installation_values,
    unset,
    unset_installation,
    values,
)
from communicator_pipeline_tests.chain.test_chain import TALK, run, settle
from communicator_pipeline_tests.conftest import Fill

QUIET = {"from": "22:00", "to": "07:00", "days": ["mon"]}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("zone", "Europe/Berlin"),
        ("languages", ["en", "de"]),
        ("tone", "short, friendly, first names"),
        ("never_draft", [{"category": "newsletter"}, {"account": "a", "person_id": "U1"}]),
        ("digest_at", "08:00"),
        ("digest_at", ""),
        ("notify", []),
        ("quiet_hours", QUIET),
        ("urgent_priority", 0.0),
    ],
)
def test_a_setting_is_kept_as_it_was_given_and_unset_again(
    stores: Stores, key: str, value: Any
) -> None:
    before = values(stores, "ana")
    change(stores, "ana", key, value)
    assert values(stores, "ana")[key] == value
    unset(stores, "ana", key)
    unset(stores, "ana", key)
    assert values(stores, "ana") == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("zone", "Berlin"),
        ("zone", "../../etc/passwd"),
        ("languages", ["english"]),
        ("languages", "en"),
        ("tone", "x" * 301),
        ("never_draft", [{}]),
        ("never_draft", [{"colour": "red"}]),
        ("never_draft", [{"category": ""}]),
        ("digest_at", "8 o'clock"),
        ("digest_at", "24:00"),
        ("notify", [""]),
        ("quiet_hours", {"from": "22:00"}),
        ("quiet_hours", {"from": "22:00", "to": "22:00"}),
        ("urgent_priority", 101),
        ("urgent_priority", float("nan")),
    ],
)
def test_what_is_no_value_is_refused_in_words(key: str, value: Any) -> None:
    with pytest.raises(NotAValue, match=f"{key} should be JSON"):
        check(key, value)


def test_a_setting_that_there_is_not_cannot_be_unset(stores: Stores) -> None:
    with pytest.raises(NotFound):
        unset(stores, "ana", "public_url")
    with pytest.raises(NotFound):
        unset_installation(stores, "signature")


def test_what_holds_for_everybody_is_set_for_everybody(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMMUNICATOR_URL", raising=False)
    assert installation_values(stores) == {
        "public_url": "http://127.0.0.1:8700",
        "private_targets": True,
        "quiet_seconds": 120.0,
        "model_budget_usd": None,
        "usage_alert_usd": None,
        "retention": Retention().model_dump(),
    }
    change_installation(stores, "public_url", "https://inbox.example.org")
    change_installation(stores, "private_targets", False)
    assert installation_values(stores) == {
        "public_url": "https://inbox.example.org",
        "private_targets": False,
        "quiet_seconds": 120.0,
        "model_budget_usd": None,
        "usage_alert_usd": None,
        "retention": Retention().model_dump(),
    }
    for wrong in ("inbox.example.org", "javascript:alert(1)", "https://", "https://a b"):
        with pytest.raises(NotAValue):
            change_installation(stores, "public_url", wrong)
    unset_installation(stores, "public_url")
    assert installation_values(stores)["public_url"] == "http://127.0.0.1:8700"


@pytest.mark.parametrize("key", ["tone", "languages", "never_draft", "signature"])
def test_what_drafts_are_made_with_marks_the_days(stores: Stores, fill: Fill, key: str) -> None:
    given: dict[str, Any] = {"languages": ["en"], "never_draft": [{"category": "x"}]}
    fill(*TALK)
    settle(stores)
    assert change(stores, "ana", key, given.get(key, "kind")) == 1
    assert [day.day for day in WorkQueue(stores.database).dirty()] == ["2026-11-03"]
    settle(stores)
    assert unset(stores, "ana", key) == 1
    assert len(WorkQueue(stores.database).dirty()) == 1
    settle(stores)
    assert unset(stores, "ana", key) == 0


def draft(stores: Stores) -> dict[str, Any]:
    (row,) = stores.database.execute(
        "SELECT outcome, text, reason FROM drafts WHERE conversation_id = 'c1:m1'"
    )
    return row


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"account": "ana-chat"}, "you want no drafts in the account ana-chat"),
        ({"channel_id": "c1"}, "you want no drafts in this chat"),
        ({"person_id": "ben"}, "you want no drafts with this person"),
        (
            {"person_id": "ben", "account": "ana-chat"},
            "you want no drafts in the account ana-chat and with this person",
        ),
        ({"person_id": "dan"}, ""),
        ({"person_id": "ben", "account": "another"}, ""),
        ({"category": "no such"}, ""),
    ],
)
def test_conversations_that_a_rule_names_get_no_draft(
    stores: Stores, fill: Fill, rule: dict[str, str], words: str
) -> None:
    fill(*TALK)
    run(stores)
    drafted = draft(stores)
    assert drafted["text"]
    change(stores, "ana", "never_draft", [rule])
    settle(stores)
    if not words:
        assert draft(stores) == drafted
        return
    assert draft(stores) == {"outcome": "no_reply", "text": "", "reason": words}
    unset(stores, "ana", "never_draft")
    settle(stores)
    assert draft(stores) == drafted


def test_every_setting_has_a_value_and_words(stores: Stores) -> None:
    assert set(values(stores, "ana")) == set(user_settings.KINDS)
    assert set(installation_values(stores)) == set(user_settings.INSTALLATION)
    assert Settings(stores.database, "ana").zone() == "UTC"
