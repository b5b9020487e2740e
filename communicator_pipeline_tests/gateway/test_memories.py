"""What was learnt, in the browser, by the API and by the command."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import orjson
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from communicator_pipeline.chain import reply_memory
from communicator_pipeline.cli import app
from communicator_pipeline.delivery.approving import approve
from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.storage import Stores, home, open_local
from communicator_pipeline.storage.accounts import Accounts, add_user
from communicator_pipeline.storage.audit import audit_log
from communicator_pipeline.storage.memories import Memories
from communicator_pipeline_tests.delivery.world import ACCOUNT, say
from communicator_pipeline_tests.gateway.api_world import api_of
from communicator_pipeline_tests.gateway.conftest import BOS_ACCOUNT, SignIn

EVIL = "<script>alert(1)</script>\"'&"


def taught(stores: Stores) -> str:
    """ana's edit of one draft, and what was learnt from it: the memory's id."""
    say(stores, "Is it blue?", number="q1", conversation="d1", draft="Dear Mr Kim, it is blue.")
    approve(stores.database, "ana", ACCOUNT, "d1", None, text="Hi, it is blue.")
    reply_memory.materialise(stores, ACCOUNT)
    (one,) = Memories(stores.database, "ana").list()
    return one.memory.memory_id


def test_the_page_shows_each_memory_with_its_conversations(box: Stores, sign_in: SignIn) -> None:
    taught(box)
    shown = sign_in("ana").get("/inbox/memories").text
    assert "Begin with “Hi,”" in shown
    assert f"/inbox?view=all&amp;of={ACCOUNT}&amp;conversation=d1" in shown
    assert "Begin with" not in re.sub(
        "<option.*?</option>", "", sign_in("bo").get("/inbox/memories").text
    )


def test_on_the_page_one_changes_deletes_and_writes(box: Stores, sign_in: SignIn) -> None:
    key, ana = taught(box), sign_in("ana")
    where = {"of": ACCOUNT, "memory": key}
    changed = ana.post("/inbox/memories/edit", params=where, data={"words": EVIL})
    assert changed.status_code == 200
    assert EVIL not in changed.text
    assert Memories(box.database, "ana").get(ACCOUNT, key).memory.rule.words == EVIL
    refused = ana.post("/inbox/memories/add", data={"of": ACCOUNT, "do": "say", "words": " "})
    assert refused.status_code == 422
    assert "it is empty" in refused.text
    added = ana.post("/inbox/memories/add", data={"of": ACCOUNT, "do": "say", "words": "We close."})
    assert "Say “We close.”" in added.text
    assert ana.post("/inbox/memories/delete", params=where).status_code == 200
    assert [one.text for one in Memories(box.database, "ana").list()] == ["Say “We close.”"]
    done = [row["action"] for row in audit_log(box.database, "ana", None, 3)]
    assert done == ["deleted a memory", "wrote a memory", "changed a memory"]


def test_another_users_memory_is_not_there_on_the_page(box: Stores, sign_in: SignIn) -> None:
    key, bo = taught(box), sign_in("bo")
    for ask in ("edit", "delete"):
        answer = bo.post(f"/inbox/memories/{ask}", params={"of": ACCOUNT, "memory": key})
        assert answer.status_code == 404
    assert (
        bo.post("/inbox/memories/add", data={"of": ACCOUNT, "do": "say", "words": "x"}).status_code
        == 404
    )
    assert BOS_ACCOUNT != ACCOUNT


def test_by_the_api_one_reads_changes_and_deletes(box: Stores) -> None:
    key = taught(box)
    ana = api_of(box, "ana", client=TestClient(create_app(box)))
    (memory,) = ana.data("GET", "/memories")
    assert (memory["text"], memory["conversations"]) == ("Begin with “Hi,”", ["d1"])
    assert memory["edited_by"] is None
    path = f"/memories/{ACCOUNT}/{key}"
    changed = ana.data("PATCH", path, json={"words": "Hey,", "holds_for": "everyone"})
    assert (changed["text"], changed["edited_by"]) == ("Begin with “Hey,”", "ana")
    assert "no scope" in ana.refused(422, "PATCH", path, json={"holds_for": "all"})
    assert ana.data("DELETE", path) == {"memory_id": key}
    ana.refused(404, "GET", path)
    (event,) = ana.data("GET", "/feedback", params={"kind": "edited"})
    assert event["diff"][0] == {"was": "Dear Mr Kim", "now": "Hi"}
    assert ana.data("GET", "/feedback", params={"kind": "rejected"}) == []


def test_by_the_command_one_writes_lists_changes_and_deletes() -> None:
    opened = open_local(home())
    add_user(opened.database, "ana", "Ana")
    Accounts(opened.database, "ana").add("ana-chat", "generic", "Chat")

    def run(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["memories", *words])
        assert result.exit_code == code, result.output
        return result.output

    assert "Nothing was learnt yet" in run("list")
    run("add", "ana-chat", "sign", "Best, Ana")
    (found,) = orjson.loads(run("list", "--json"))
    assert (found["text"], found["for"]) == ("End with “Best, Ana”", "everyone")
    run("edit", "ana-chat", found["memory_id"], "Ana", "--for", "category:sales")
    assert "category:sales" in run("list")
    assert "no scope" in run("edit", "ana-chat", found["memory_id"], "--for", "all", code=1)
    assert "Deleted" in run("delete", "ana-chat", found["memory_id"])
    assert "no memory" in run("delete", "ana-chat", found["memory_id"], code=1)
    rows = audit_log(opened.database, "ana", None, 10)
    assert {row["via"] for row in rows if "memory" in row["action"]} == {"command"}
    assert datetime.now(UTC) > datetime.fromisoformat(rows[0]["at"])
