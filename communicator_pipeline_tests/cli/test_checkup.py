"""What `communicator doctor` finds wrong with notifications and language models."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from communicator_pipeline.cli.checkup import checkup
from communicator_pipeline.cli.finding import Finding
from communicator_pipeline.language_model.configuration import (
    ModelConfig,
    ModelsConfig,
    keep_configuration,
)
from communicator_pipeline.language_model.limits import block, unblock
from communicator_pipeline.storage import Stores, home, open_local
from communicator_pipeline.storage.accounts import add_user
from communicator_pipeline.storage.notifications import Targets, note_result

NOW = datetime(2026, 11, 3, 9, tzinfo=UTC)


@pytest.fixture
def here() -> Stores:
    stores = open_local(home())
    add_user(stores.database, "ana", "Ana")
    return stores


def finding(what: str) -> Finding:
    (found,) = [one for one in checkup() if one.what == what]
    return found


def test_a_target_that_did_not_take_its_last_message_is_found(here: Stores) -> None:
    target = Targets(here.database, "ana").add(
        here.keys, "Ana's phone", "json://127.0.0.1:9/sesame", "json: JSON", False, NOW
    )
    assert finding("notifications").state == "ok"
    note_result(here.database, target, "the service answered 503", NOW)
    found = finding("notifications")
    assert (found.state, found.found) == (
        "warning",
        "Ana's phone of ana, since 2026-11-03T09:00: the service answered 503",
    )
    assert found.advice == """communicator notify test 'Ana'"'"'s phone' --user ana"""
    assert "sesame" not in str(checkup())
    note_result(here.database, target, "", NOW)
    assert finding("notifications").state == "ok"


def test_a_model_that_does_not_answer_is_found_whichever_it_is(here: Stores) -> None:
    assert "offline analyser" in finding("language model").found
    first = ModelConfig(kind="openai", model="one", base_url="http://127.0.0.1:9/v1")
    second = first.model_copy(update={"model": "two"})
    keep_configuration(here, ModelsConfig(first=first, second=second))
    assert (finding("language model").state, finding("language model").found) == ("ok", "one, two")
    block(here.database, second.endpoint, datetime.now(UTC) + timedelta(minutes=5), "no such key")
    found = finding("language model")
    assert (found.state, found.advice) == ("warning", "communicator model test")
    assert found.found.startswith("two: no such key (asked again after ")
    unblock(here.database, second.endpoint)
    assert finding("language model").state == "ok"
