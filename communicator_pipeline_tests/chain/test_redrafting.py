"""A draft made anew on request: by the model's double on a socket, and by the offline drafter."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from dagster import AssetKey, DagsterInstance

from communicator_pipeline import runs
from communicator_pipeline.chain.redrafting import NotRedrafted, redraft
from communicator_pipeline.chain.reply_memory import materialise as learn
from communicator_pipeline.delivery import approving
from communicator_pipeline.language_model.configuration import (
    ModelConfig,
    ModelsConfig,
    keep_configuration,
)
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, NotFound, add_user
from communicator_pipeline.storage.draft_versions import versions
from communicator_pipeline.storage.feedback import feedback_of_account
from communicator_pipeline_tests.chain.test_chain import run
from communicator_pipeline_tests.conftest import Fill, line
from communicator_pipeline_tests.language_model.model_server import (
    Call,
    ModelServer,
    chat_completion,
    model_server,
    reply_of,
    sensible,
)

CONVERSATION = "c1:m1"


def wishful(call: Call) -> Any:
    """Drafts what the instruction says."""
    if "used_memories" not in call.schema.get("properties", {}):
        return sensible(call)
    instructions = call.body["messages"][0]["content"]
    wish = instructions.partition("with these words: ")[2].partition("\n")[0]
    text = f"As you wish: {orjson.loads(wish)}" if wish else "The first draft."
    return chat_completion(reply_of(call.data, text=text))


@pytest.fixture
def asked(stores: Stores, fill: Fill) -> Stores:
    """ana's chat with one question that waits."""
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "ana: can you send me the invoice for the rack?"))
    return stores


@pytest.fixture
def server(asked: Stores) -> Iterator[ModelServer]:
    with model_server(wishful) as running:
        config = ModelConfig(kind="openai", model="double", base_url=f"{running.url}/v1", timeout=5)
        keep_configuration(asked, ModelsConfig(first=config))
        yield running


def proposal(stores: Stores) -> approving.Proposal:
    return approving.propose(stores.database, "ana", "ana-chat", CONVERSATION)


def test_a_new_draft_follows_the_instruction_and_the_old_one_stays_as_a_version(
    asked: Stores, server: ModelServer
) -> None:
    run(asked)
    assert proposal(asked).text == "The first draft."
    before = proposal(asked).source_version
    redraft(asked, "ana", "ana-chat", CONVERSATION, "say no politely")
    found = proposal(asked)
    assert found.text == "As you wish: say no politely"
    assert found.redraft == 2
    assert found.source_version != before
    assert [(v["number"], v["made_by"], v["text"]) for v in versions_of(asked)] == [
        (2, "redraft", "As you wish: say no politely"),
        (1, "pipeline", "The first draft."),
    ]
    told = [f for f in feedback_of_account(asked.database, "ana-chat") if f.kind == "instructed"]
    assert [(f.note, f.draft_text) for f in told] == [("say no politely", "The first draft.")]


def versions_of(stores: Stores) -> list[dict[str, Any]]:
    return versions(stores.database, "ana", "ana-chat", CONVERSATION)


def test_the_model_is_told_what_was_there_before(asked: Stores, server: ModelServer) -> None:
    run(asked)
    redraft(asked, "ana", "ana-chat", CONVERSATION, "warmer")
    redraft(asked, "ana", "ana-chat", CONVERSATION, "even warmer")
    assert '"As you wish: warmer"' in server.bodies[-1]["messages"][0]["content"]
    assert [v["number"] for v in versions_of(asked)] == [3, 2, 1]


def test_who_looked_before_a_redraft_does_not_approve_it_unseen(
    asked: Stores, server: ModelServer
) -> None:
    run(asked)
    seen = proposal(asked).source_version
    redraft(asked, "ana", "ana-chat", CONVERSATION, "warmer")
    with pytest.raises(approving.SourceChanged):
        approving.approve(asked.database, "ana", "ana-chat", CONVERSATION, None, seen=seen)


def test_an_approved_redraft_counts_as_unedited(asked: Stores, server: ModelServer) -> None:
    run(asked)
    redraft(asked, "ana", "ana-chat", CONVERSATION, "warmer")
    approving.approve(asked.database, "ana", "ana-chat", CONVERSATION, None)
    told = feedback_of_account(asked.database, "ana-chat")
    assert [f.kind for f in told] == ["instructed", "approved"]
    assert told[1].draft_text == told[1].final_text == "As you wish: warmer"
    with pytest.raises(NotRedrafted, match="on its way"):
        redraft(asked, "ana", "ana-chat", CONVERSATION, "colder")


def test_what_somebody_had_edited_stays_as_a_version(asked: Stores, server: ModelServer) -> None:
    run(asked)
    approving.edit(asked.database, "ana", "ana-chat", CONVERSATION, "My own words.")
    redraft(asked, "ana", "ana-chat", CONVERSATION, "warmer")
    assert proposal(asked).text == "As you wish: warmer"
    assert [(v["made_by"], v["user_id"], v["text"]) for v in versions_of(asked)][1] == (
        "user",
        "ana",
        "My own words.",
    )


def test_a_redraft_is_over_when_the_conversation_goes_on(
    asked: Stores, server: ModelServer, fill: Fill
) -> None:
    run(asked)
    redraft(asked, "ana", "ana-chat", CONVERSATION, "warmer")
    fill(line(2, "2026-11-03T10:00:00Z", "ben", "ana: and by when?", reply_to="m1"), name="2.jsonl")
    run(asked)
    assert proposal(asked).redraft is None
    assert proposal(asked).text == "The first draft."
    assert len(versions_of(asked)) == 2  # and stays among the versions


def test_the_pipeline_made_again_keeps_the_redraft(asked: Stores, server: ModelServer) -> None:
    run(asked)
    redraft(asked, "ana", "ana-chat", CONVERSATION, "warmer")
    run(asked)
    assert proposal(asked).text == "As you wish: warmer"


def test_a_reply_can_be_asked_for_where_none_was_drafted(stores: Stores, fill: Fill) -> None:
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "ana: thanks, all is well now"))
    with model_server(wishful) as running:
        config = ModelConfig(kind="openai", model="double", base_url=f"{running.url}/v1")
        keep_configuration(stores, ModelsConfig(first=config))
        run(stores)
        assert proposal(stores).text == ""
        redraft(stores, "ana", "ana-chat", CONVERSATION, "wish a good day")
    assert proposal(stores).text == "As you wish: wish a good day"
    assert proposal(stores).draft_day is None


def test_the_offline_drafter_follows_what_needs_no_understanding(asked: Stores) -> None:
    run(asked)
    before = proposal(asked).text
    redraft(asked, "ana", "ana-chat", CONVERSATION, "say: The invoice is in the portal.")
    assert proposal(asked).text == f"{before} The invoice is in the portal."
    redraft(asked, "ana", "ana-chat", CONVERSATION, "shorter, please")
    assert len(proposal(asked).text) < len(before) + 10


def test_the_offline_drafter_says_what_it_cannot_follow(asked: Stores) -> None:
    run(asked)
    before = proposal(asked)
    with pytest.raises(NotRedrafted, match=r"no language model is set.*shorter"):
        redraft(asked, "ana", "ana-chat", CONVERSATION, "with the charm of a diplomat")
    assert proposal(asked) == before
    assert not versions_of(asked)


def test_a_model_that_does_not_answer_is_named(asked: Stores, server: ModelServer) -> None:
    run(asked)
    server.answer = lambda call: chat_completion("no json")
    with pytest.raises(NotRedrafted, match="not of the shape"):
        redraft(asked, "ana", "ana-chat", CONVERSATION, "with charm")


def test_strangers_and_viewers_get_no_new_draft(asked: Stores, server: ModelServer) -> None:
    run(asked)
    add_user(asked.database, "bo", "Bo")
    with pytest.raises(NotFound):
        redraft(asked, "bo", "ana-chat", CONVERSATION, "warmer")
    Accounts(asked.database, "ana").set_member("ana-chat", "bo", "viewer")
    with pytest.raises(PermissionError):
        redraft(asked, "bo", "ana-chat", CONVERSATION, "warmer")
    with pytest.raises(NotFound):
        redraft(asked, "ana", "ana-chat", "c1:nothing", "warmer")
    assert not versions_of(asked)


def test_what_was_asked_for_again_and_again_is_learnt(asked: Stores) -> None:
    """The wish "shorter" of one draft is feedback like an edit."""
    run(asked)
    redraft(asked, "ana", "ana-chat", CONVERSATION, "shorter")
    report = learn(asked, "ana-chat", proposal(asked).messages[0].sent_at + timedelta(days=1))
    assert report.learnt_from == 1


def test_a_redraft_is_noted_with_its_partition(asked: Stores, server: ModelServer) -> None:
    run(asked)
    made = redraft(asked, "ana", "ana-chat", CONVERSATION, "warmer")
    with DagsterInstance.ephemeral() as instance:
        runs.note_redraft(instance, "ana-chat", CONVERSATION, made)
        found = instance.fetch_observations(AssetKey("drafted_replies"), limit=1).records[0]
        assert found.partition_key == "ana-chat|2026-11"
        metadata = found.asset_observation.metadata  # type: ignore[union-attr]
        assert metadata["version"].value == 2
        assert "warmer" not in str(metadata)
