"""Conversations read out of the lake: whole, however far back they reach, and no farther."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pytest

from communicator_pipeline.chain.transcripts import Transcripts
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.lake import Lake
from communicator_pipeline_tests.chain.test_chain import settle
from communicator_pipeline_tests.conftest import Fill, line

MONTHS = ("2025-12", "2026-02", "2026-05", "2026-08", "2026-10", "2026-11")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that are read from now on."""
    addresses: list[str] = []
    query = Lake.query

    def noting(lake: Lake, sql: str, tables: Mapping[str, Sequence[str] | pa.Table]) -> pa.Table:
        for source in tables.values():
            if not isinstance(source, pa.Table):
                addresses.extend(source)
        return query(lake, sql, tables)

    monkeypatch.setattr(Lake, "query", noting)
    return addresses


def _told(stores: Stores, day: str) -> dict[str, list[str]]:
    found = Transcripts.of_days(stores, "ana-chat", [day])
    return {
        transcript.conversation_id: [turn.message_id for turn in transcript.turns]
        for transcript in found.of_day(day)
    }


def test_a_conversation_is_read_whole_however_far_back_it_began(stores: Stores, fill: Fill) -> None:
    fill(
        *(
            line(
                number,
                f"{month}-10T09:00:00Z",
                "ben",
                f"about the invoice, part {number}",
                **({"reply_to": f"m{number - 1}"} if number else {}),
            )
            for number, month in enumerate(MONTHS)
        )
    )
    settle(stores)
    assert _told(stores, "2026-11-10") == {"c1:m0": [f"c1:m{n}" for n in range(len(MONTHS))]}
    assert _told(stores, "2026-05-10") == {"c1:m0": ["c1:m0", "c1:m1", "c1:m2"]}


def test_no_month_before_its_beginning_is_read(stores: Stores, fill: Fill, read: list[str]) -> None:
    for number, month in enumerate(MONTHS[:-1]):
        fill(
            line(number, f"{month}-10T09:00:00Z", "ben", "that was long ago"), name=f"{month}.jsonl"
        )
    fill(
        line(20, "2026-11-03T09:00:00Z", "ben", "a new matter: can you send me the plan?"),
        line(21, "2026-11-04T09:00:00Z", "ben", "any news of it?", reply_to="m20"),
        name="new.jsonl",
    )
    settle(stores)
    read.clear()
    assert _told(stores, "2026-11-04") == {"c1:m20": ["c1:m20", "c1:m21"]}
    assert read
    assert {address.split("/")[-2] for address in read} == {"2026-11"}


def test_where_the_beginning_is_missing_all_that_hangs_on_it_is_found(
    stores: Stores, fill: Fill
) -> None:
    fill(
        line(1, "2026-01-10T09:00:00Z", "ben", "yes, that one", reply_to="m0"),
        line(2, "2026-06-10T09:00:00Z", "eva", "is it done?", reply_to="m0"),
        line(3, "2026-11-04T09:00:00Z", "ben", "not yet, sorry", reply_to="m0"),
    )
    settle(stores)
    assert _told(stores, "2026-11-04") == {"c1:m0": ["c1:m1", "c1:m2", "c1:m3"]}


def test_what_the_owner_answered_is_the_newest_wherever_it_stands(
    stores: Stores, fill: Fill, read: list[str]
) -> None:
    for number, month in enumerate(MONTHS):
        fill(
            line(2 * number, f"{month}-10T09:00:00Z", "ben", f"where is part {number}?"),
            line(2 * number + 1, f"{month}-10T09:05:00Z", "ana", "here", reply_to=f"m{2 * number}"),
            name=f"{month}.jsonl",
        )
    settle(stores)

    def answered(most: int) -> list[str]:
        return [t.conversation_id for t in Transcripts.answered(stores, "ana-chat", most)]

    every = [f"c1:m{2 * number}" for number in range(len(MONTHS))]
    assert answered(100) == every  # oldest first
    assert answered(3) == every[-3:]
    read.clear()
    assert answered(1) == every[-1:]
    assert {address.split("/")[-2] for address in read} == {"2026-11"}
