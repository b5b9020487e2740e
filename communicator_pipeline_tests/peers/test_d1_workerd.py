"""D1 as workerd has it, through the edge Worker. What it does otherwise: see `workerd.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from communicator_pipeline.storage.d1 import D1Database
from communicator_pipeline.storage.on_cloudflare import Cloudflare
from communicator_pipeline_tests.peers.node import needs_peers
from communicator_pipeline_tests.peers.stores import empty, running
from communicator_pipeline_tests.storage.d1_contract import TABLE, D1Contract

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    needs_peers()
    with running(tmp_path_factory.mktemp("workerd")) as environment:
        yield environment


@pytest.fixture
def database(given: dict[str, str], tmp_path: Path) -> Iterator[D1Database]:
    empty(given, tmp_path)
    opened = Cloudflare.of_environment(given).database(tmp_path)
    opened.execute(TABLE)
    yield opened
    opened.execute("DROP TABLE t")


class TestD1OfWorkerd(D1Contract):
    pass


def test_a_statement_that_takes_very_long_numbers_of_parameters_is_refused_as_by_sqlite(
    database: D1Database,
) -> None:
    """Numbers are written out, so only texts count."""
    numbers = ", ".join("?" * 100)
    [row] = database.execute(f"SELECT {numbers}", list(range(100)))
    assert list(row.values()) == list(range(100))
