"""Every check finds the fault that it is for: a check that cannot fail checks nothing."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from communicator_pipeline.chain import checks
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.lake import Manifest, NewDays
from communicator_pipeline_tests.chain.test_chain import NOVEMBER, TALK, run
from communicator_pipeline_tests.conftest import Fill, line

DAY = "2026-11-03"


@pytest.fixture
def filled(stores: Stores, fill: Fill) -> Stores:
    fill(*TALK)
    run(stores)
    return stores


def _spoil(stores: Stores, asset: str, spoiled: pa.Table) -> None:
    def change(_: Manifest) -> NewDays:
        return {DAY: spoiled}

    stores.lake.update(asset, NOVEMBER, change)


def _day(stores: Stores, asset: str) -> pa.Table:
    manifest = stores.lake.manifest(asset, NOVEMBER)
    return stores.lake.read_day(asset, NOVEMBER, manifest.days[DAY])


def _with(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(
        place, table.schema.field(name), pa.array(values, table.schema.field(name).type)
    )


def test_all_checks_pass_on_a_sound_lake(filled: Stores) -> None:
    for rule in (
        checks.repeated_messages,
        checks.misplaced_messages,
        checks.unstable_conversations,
        checks.unknown_categories,
        checks.drafts_to_oneself,
        checks.drafts_already_answered,
    ):
        assert rule(filled, NOVEMBER) == [], rule.__name__


def test_a_message_with_two_latest_versions_is_found(filled: Stores) -> None:
    table = _day(filled, "raw_messages")
    _spoil(filled, "raw_messages", pa.concat_tables([table, table.slice(0, 1)]))
    assert [p["latest_versions"] for p in checks.repeated_messages(filled, NOVEMBER)] == [2]


def test_a_message_without_a_conversation_is_found(filled: Stores) -> None:
    _spoil(filled, "conversations", _day(filled, "conversations").slice(1))
    assert [p["conversations"] for p in checks.misplaced_messages(filled, NOVEMBER)] == [0]


def test_a_conversation_id_that_would_change_is_found(filled: Stores) -> None:
    table = _day(filled, "conversations")
    _spoil(filled, "conversations", _with(table, "conversation_id", ["c1:zz"] * table.num_rows))
    assert len(checks.unstable_conversations(filled, NOVEMBER)) == table.num_rows


def test_a_category_outside_the_taxonomy_is_found(filled: Stores) -> None:
    table = _day(filled, "analyses")
    _spoil(filled, "analyses", _with(table, "category", ["gossip"] * table.num_rows))
    problems = checks.unknown_categories(filled, NOVEMBER)
    assert [(p["day"], p["category"]) for p in problems] == [(DAY, "gossip")]


@pytest.mark.parametrize("rule", [checks.drafts_to_oneself, checks.drafts_already_answered])
def test_a_draft_where_only_the_user_spoke_is_found(filled: Stores, rule: object) -> None:
    table = _day(filled, "raw_messages")
    _spoil(filled, "raw_messages", _with(table, "author_id", ["ana"] * table.num_rows))
    assert pc.sum(pc.not_equal(_day(filled, "drafted_replies")["outcome"], "no_reply")).as_py() > 0
    assert rule(filled, NOVEMBER)  # type: ignore[operator]


def test_a_word_to_somebody_else_is_no_answer(stores: Stores, fill: Fill) -> None:
    """The account would be stuck: nothing that is done again changes what was said."""
    fill(
        line(1, f"{DAY}T09:00:00Z", "joe", "<@ana> can you send me the invoice?", mentions=["ana"]),
        line(2, f"{DAY}T09:01:00Z", "ana", "<@kim> the printer works again", mentions=["kim"]),
    )
    run(stores)
    assert len(set(_day(stores, "conversations")["conversation_id"].to_pylist())) == 1
    [draft] = _day(stores, "drafted_replies").to_pylist()
    assert draft["outcome"] != "no_reply"
    assert checks.drafts_already_answered(stores, NOVEMBER) == []
