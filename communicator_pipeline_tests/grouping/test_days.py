"""Day by day equals all at once; changes stop rippling; order does not matter."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from communicator_pipeline.grouping import Linker, RuleLinker, explicit_parents, group
from communicator_pipeline.grouping import features as features_module
from communicator_pipeline.grouping.flow import HORIZON, WINDOW
from communicator_pipeline_tests.grouping.chats import MIDNIGHT, Said, frame

LINKERS = pytest.mark.parametrize("linker", [None, RuleLinker()], ids=["default", "rule"])
WORDS = [
    *("maya", "ben", "priya:", "@tom", "yes", "no", "thanks", "what", "why?", "printer", "server"),
    *("deploy", "ok", "the", "a", "lunch", "好", "да,", "http://x.example", "retry", "budget"),
]


def chatter(seed: int, days: int = 6, per_day: int = 60) -> pd.DataFrame:
    """Several channels over several days, more talk around midnight than at noon."""
    random = np.random.default_rng(seed)
    people = ["maya", "ben", "priya", "tom"]
    kinds = ["channel", "group", "dm", "feed", "channel"]
    said: list[Said] = []
    for day in range(days):
        for minute in np.sort(random.normal(0, 120, per_day)):
            channel = int(random.integers(len(kinds)))
            number = len(said)
            earlier = [s.id for s in said[-100:] if s.channel == f"k{channel}"]
            link = str(random.choice(earlier)) if earlier and random.random() < 0.15 else None
            said.append(
                Said(
                    round((day * 24 * 60 + minute) * 4) / 4,
                    str(random.choice(people)),
                    " ".join(random.choice(WORDS, random.integers(1, 8))),
                    f"k{channel}:{number:05d}",
                    f"k{channel}",
                    kinds[channel],
                    thread=link if random.random() < 0.5 else None,
                    reply=link if random.random() < 0.7 else None,
                    mentions=("tom",) if random.random() < 0.1 else (),
                    system=bool(random.random() < 0.05),
                )
            )
    return frame(said)


def by_day(
    messages: pd.DataFrame, linker: Linker | None = None
) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """Membership and each day's carry-over, handed on through Parquet types."""
    carry: pd.DataFrame | None = None
    conversations: dict[str, str] = {}
    parts, carries = [], []
    for _, day in messages.groupby(messages["sent_at"].dt.floor("D")):
        asked = explicit_parents(day)
        known = {id_: conversations[id_] for id_ in asked if id_ in conversations}
        membership, carry = group(day, carry, known, linker)
        conversations |= dict(
            zip(membership["message_id"], membership["conversation_id"], strict=True)
        )
        parts.append(membership)
        carries.append(carry)
    return pd.concat(parts, ignore_index=True), carries


@LINKERS
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_day_by_day_gives_the_same_as_all_at_once(seed: int, linker: Linker | None) -> None:
    messages = chatter(seed)
    at_once, carry_at_once = group(messages, None, {}, linker)
    daily, carries = by_day(messages, linker)
    # Sentences may name an author less: the day of an old parent is no longer at hand.
    columns = ["message_id", "conversation_id", "parent_message_id", "link_reason", "link_score"]
    pd.testing.assert_frame_equal(at_once[columns], daily[columns])
    pd.testing.assert_frame_equal(carry_at_once, carries[-1])


@LINKERS
def test_the_order_of_the_rows_does_not_matter(linker: Linker | None) -> None:
    messages = chatter(4, days=2)
    expected = group(messages, None, {}, linker)
    for seed in range(3):
        shuffled = messages.sample(frac=1, random_state=seed)
        membership, carry = group(shuffled, None, {}, linker)
        pd.testing.assert_frame_equal(membership, expected[0])
        pd.testing.assert_frame_equal(carry, expected[1])


def test_a_talk_across_midnight_stays_together() -> None:
    said = [
        Said(1438, "ana", "ben: can you restart the import?", "c:1"),
        Said(1439, "ben", "ana: doing it now", "c:2"),
        Said(1441, "ana", "ben: thanks, works", "c:3"),
    ]
    daily, _ = by_day(frame(said))
    assert daily["conversation_id"].tolist() == ["c:1"] * 3


def test_a_change_in_an_old_day_stops_rippling() -> None:
    messages = chatter(5, days=12, per_day=90)
    changed = messages.copy()
    first_day = changed["sent_at"] < MIDNIGHT
    changed.loc[first_day, "text"] = "maya: something else altogether"
    changed = changed.drop(index=changed.index[first_day][::3])
    _, before = by_day(messages)
    _, after = by_day(changed)
    same = [a.equals(b) for a, b in zip(before[1:], after[1:], strict=False)]
    assert same[-1], "the carry-overs should be equal again after some days"
    assert same[same.index(True) :] == [True] * (len(same) - same.index(True))


def test_the_carry_over_is_bounded_and_forgets_idle_channels() -> None:
    busy = [Said(i / 10, f"p{i % 7}", f"word{i}", f"b:{i:04d}", "b") for i in range(500)]
    idle = [Said(0, "ana", "hello", "i:1", "i")]
    _, carry = group(frame(busy + idle), None, {})
    assert carry["channel_id"].value_counts().to_dict() == {"b": WINDOW, "i": 1}
    later = [Said(HORIZON / 60e6 + 60, "ben", "good morning", "b:9999", "b")]
    _, carry = group(frame(later), carry, {})
    assert carry["message_id"].tolist() == ["b:9999"]


def test_the_carry_over_survives_parquet(tmp_path: Path) -> None:
    messages = chatter(6, days=2)
    days = [day for _, day in messages.groupby(messages["sent_at"].dt.floor("D"))]
    _, carry = group(days[0], None, {})
    pq.write_table(pa.Table.from_pandas(carry, preserve_index=False), tmp_path / "carry.parquet")
    read = pq.read_table(tmp_path / "carry.parquet").to_pandas()
    expected = group(days[1], carry, {})
    found = group(days[1], read, {})
    pd.testing.assert_frame_equal(found[0], expected[0])
    pd.testing.assert_frame_equal(found[1], expected[1])


def test_a_message_that_was_carried_and_comes_again_is_listed_once() -> None:
    first = frame([Said(0, "ana", "helo", "c:1"), Said(1, "ben", "hi", "c:2")])
    _, carry = group(first, None, {})
    again = frame([Said(1, "ben", "hi ana", "c:2"), Said(2, "ana", "how are you?", "c:3")])
    membership, handed = group(again, carry, {})
    assert membership["message_id"].tolist() == ["c:2", "c:3"]
    assert handed["message_id"].tolist() == ["c:1", "c:2", "c:3"]


_said = st.builds(
    Said,
    minute=st.integers(0, 5000).map(lambda n: n / 2),
    author=st.sampled_from(["maya", "ben", "", "Priya Nair"]),
    text=st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join) | st.text(max_size=20),
    channel=st.sampled_from(["a", "b"]),
    kind=st.sampled_from(["channel", "group", "dm", "feed"]),
    thread=st.sampled_from([None, None, "a:000", "b:001", "a:004", "a:gone", "b:gone"]),
    reply=st.sampled_from([None, None, "a:001", "b:002", "a:003", "b:gone", ""]),
    mentions=st.sampled_from([(), ("maya",), ("ben", "maya", "maya", "nobody")]),
    system=st.booleans(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_said, min_size=1, max_size=12))
def test_every_message_is_in_exactly_one_conversation(said: list[Said]) -> None:
    messages = frame(said)
    membership, _ = group(messages, None, {})
    assert Counter(membership["message_id"]) == Counter(messages["message_id"])
    at = dict(zip(messages["message_id"], messages["sent_at"], strict=True))
    order = [(at[m], m) for m in membership["message_id"]]
    assert order == sorted(order)
    assert membership["link_score"].between(0, 1).all()
    assert membership["link_why"].str.len().gt(0).all()
    of = dict(zip(membership["message_id"], membership["conversation_id"], strict=True))
    for row in membership.itertuples():
        parent = row.parent_message_id
        if not isinstance(parent, str):
            assert row.conversation_id == row.message_id
        elif parent in of and (at[parent], parent) < (at[row.message_id], row.message_id):
            assert of[parent] == row.conversation_id


def test_work_grows_with_the_messages_and_not_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    def pairs_looked_at(count: int) -> int:
        seen = 0
        describe = features_module._describe

        def counted(*arguments: object) -> features_module.Pairs:
            nonlocal seen
            found = describe(*arguments)  # type: ignore[arg-type]
            seen += found.features.size
            return found

        with monkeypatch.context() as patched:
            patched.setattr(features_module, "_describe", counted)
            said = [Said(i / 7, f"p{i % 9}", f"maya: word{i % 50}") for i in range(count)]
            group(frame(said), None, {})
        return seen

    once, twice = pairs_looked_at(1500), pairs_looked_at(3000)
    assert once > 0
    assert twice <= 2 * once
