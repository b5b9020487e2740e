"""Example keeps the promises that every platform gives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from communicator_pipeline.platforms.contract import LiveContract, Peer
from communicator_pipeline.platforms.example.live import read_event
from communicator_pipeline.platforms.example.server import ExampleServer
from communicator_pipeline.storage.dead_letters import DeadLetter


class TestExample(LiveContract):
    platform = "example"

    @pytest.fixture
    def peer(self) -> Iterator[Peer]:
        with ExampleServer() as server:
            yield server


@given(st.binary() | st.just(b'{"sent_at": 5}') | st.just(b'{"sent_at": "2026-11-03"}'))
def test_whatever_is_pushed_is_read_or_becomes_a_dead_letter(body: bytes) -> None:
    assert all(isinstance(record, DeadLetter) for record in read_event(body, "push"))
