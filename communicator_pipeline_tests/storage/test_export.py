"""What somebody takes along is theirs, whole, and holds no secret."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from communicator_pipeline.delivery import approving
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage import export as exporting
from communicator_pipeline.storage.accounts import NotFound
from communicator_pipeline.storage.corrections import Corrections
from communicator_pipeline.storage.export import export
from communicator_pipeline_tests.gateway.api_world import furnish


def lines(stores: Stores, user: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in export(stores.database, user)]


def test_everything_of_the_user_is_in_it_and_the_last_line_counts(stores: Stores) -> None:
    ana = furnish(stores, "ana", "quokka")
    found = lines(stores, "ana")
    by_kind = {kind: [row for row in found if row["what"] == kind] for kind in
               {row["what"] for row in found}}  # fmt: skip
    assert set(by_kind) >= {
        "export", "user", "setting", "key", "notification_target", "account", "message",
        "conversation", "analysis", "draft", "approval", "delivery", "notification", "audit", "end",
    }  # fmt: skip
    assert found[-1] == {"what": "end", "lines": len(found) - 1}
    assert by_kind["user"][0]["user_id"] == "ana"
    assert ana.ids["account"] in [row["account"] for row in by_kind["account"]]
    assert {"Can you come, quokka?"} == {row["text"] for row in by_kind["message"]}
    assert len(by_kind["message"]) == len(by_kind["conversation"]) == 3
    assert by_kind["message"][0]["attachments"] == []  # JSON, not text of JSON
    assert {row["value"] for row in by_kind["setting"] if row["key"] == "signature"} == {"quokka"}


def test_what_people_corrected_taught_and_said_of_contacts_is_in_it(stores: Stores) -> None:
    ana = furnish(stores, "ana", "quokka")
    account, conversation, now = ana.ids["account"], ana.ids["conversation_id"], datetime.now(UTC)
    corrections = Corrections(stores.database, "ana")
    corrections.relabel(account, ana.ids["other"], ["question-quokka"], now, priority=7, why="dull")
    approving.reject(stores.database, "ana", account, "quokka-canceled", "too short")
    found = lines(stores, "ana")

    def only(kind: str) -> dict[str, Any]:
        (row,) = [row for row in found if row["what"] == kind]
        return row

    contacts = {row["name"]: row["people"] for row in found if row["what"] == "contact"}
    assert contacts == {
        "Kim quokka": [[account, "kim-quokka"]],
        "Lee quokka": [["ana-quokka-2", "lee-quokka"]],
    }
    assert only("regrouping")["message_id"] == ana.ids["message_id"]
    assert (only("relabel")["priority"], only("relabel")["why"]) == (7, "dull")
    assert only("memory")["text"] == "Say “Ask quokka.”"
    assert isinstance(only("memory")["sources"], list)
    assert isinstance(only("memory")["rule"], dict)
    anew = [row for row in found if row["what"] == "draft_version" and row["made_by"] == "redraft"]
    assert [(row["conversation_id"], row["text"]) for row in anew] == [
        (conversation, "Anew quokka.")
    ]
    assert anew[0]["gaps"] == []
    feedback = [row for row in found if row["what"] == "feedback"]
    assert ("rejected", "too short") in [(row["kind"], row["note"]) for row in feedback]
    assert all(isinstance(row["about"], list) for row in feedback)


def test_nothing_of_anybody_else_and_no_secret_is_in_it(stores: Stores) -> None:
    furnish(stores, "ana", "quokka")
    furnish(stores, "bo", "wombat")
    mine, theirs = (b"".join(export(stores.database, user)) for user in ("ana", "bo"))
    assert b"wombat" not in mine  # though ana administers
    assert b"quokka" not in theirs
    secrets = [
        *(row["digest"] for row in stores.database.execute("SELECT digest FROM api_keys")),
        *(row["secrets"] for row in stores.database.execute("SELECT secrets FROM connections")),
        *(r["sealed"] for r in stores.database.execute("SELECT sealed FROM notification_targets")),
        *(row["token"] for row in stores.database.execute("SELECT token FROM deliveries")),
        "secret-of-the-platform",
        "127.0.0.1:9",
    ]
    for secret in filter(None, secrets):
        assert secret.encode() not in mine + theirs


def test_who_is_a_member_no_more_takes_nothing_of_the_account(stores: Stores) -> None:
    ana = furnish(stores, "ana", "quokka")
    stores.database.execute("DELETE FROM account_members WHERE account = ?", (ana.ids["account"],))
    assert not [row for row in lines(stores, "ana") if row["what"] in ("message", "draft")]


def test_nobody_has_nothing(stores: Stores) -> None:
    with pytest.raises(NotFound):
        list(export(stores.database, "nobody"))


@pytest.mark.embedded
def test_pages_leave_nothing_out_and_memory_does_not_grow_with_the_history(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = furnish(stores, "ana", "quokka")
    monkeypatch.setattr(exporting, "PAGE", 7)
    (row,) = stores.database.execute("SELECT * FROM messages LIMIT 1")
    names = [name for name in row if name != "id"]
    made = ", ".join(
        {"message_id": "'m' || j.value", "text": "? || j.value"}.get(name, f"g.{name}")
        for name in names
    )
    stores.database.execute(
        f"INSERT INTO messages ({', '.join(names)}) SELECT {made} FROM messages AS g, "
        "(SELECT value FROM json_each(?)) AS j WHERE g.id = ?",
        ("x" * 20_000, orjson.dumps(list(range(1_000))).decode(), row["id"]),
    )
    tracemalloc.start()
    seen = set()
    for line in export(stores.database, ana.user):
        found = orjson.loads(line)
        if found["what"] == "message":
            seen.add(found["message_id"])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(seen) == 1_003
    assert most < 5_000_000  # of 20 MB
