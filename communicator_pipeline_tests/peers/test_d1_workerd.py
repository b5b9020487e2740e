"""D1 as workerd has it, through the edge Worker, and as a second opinion through its explorer.

What they do otherwise than Cloudflare: see `workerd.py`. The explorer answers with 500 what SQLite
refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from communicator_pipeline.storage.cloudflare import CloudflareAccount
from communicator_pipeline.storage.d1 import D1Database
from communicator_pipeline.storage.on_cloudflare import Cloudflare
from communicator_pipeline_tests.peers.node import needs_peers
from communicator_pipeline_tests.peers.stores import empty, environment
from communicator_pipeline_tests.peers.workerd import Workerd, without_accounts, workerd
from communicator_pipeline_tests.storage.d1_contract import TABLE, D1Contract

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workerd]:
    needs_peers()
    with workerd(tmp_path_factory.mktemp("workerd")) as running:
        yield running


@pytest.fixture(scope="module")
def explorer(peer: Workerd) -> Iterator[CloudflareAccount]:
    with without_accounts(peer.explorer_url) as url:
        yield CloudflareAccount("acc", "not asked for", None, url)


@pytest.fixture
def edge(peer: Workerd, tmp_path: Path) -> Iterator[D1Database]:
    """The database, empty but for the schema and `TABLE`."""
    given = environment(peer)
    empty(given, tmp_path)
    opened = Cloudflare.of_environment(given).database(tmp_path)
    opened.execute(TABLE)
    yield opened
    opened.execute("DROP TABLE t")


class TestD1ThroughTheEdge(D1Contract):
    @pytest.fixture
    def database(self, edge: D1Database) -> D1Database:
        return edge


class TestD1ThroughTheExplorer(D1Contract):
    @pytest.fixture
    def database(self, edge: D1Database, explorer: CloudflareAccount, peer: Workerd) -> D1Database:
        return D1Database(explorer, peer.database_id)


def test_two_ways_to_one_database_see_the_same(
    edge: D1Database, explorer: CloudflareAccount, peer: Workerd
) -> None:
    edge.execute("INSERT INTO t (name, n) VALUES ('a', 1.5)")
    other = D1Database(explorer, peer.database_id)
    assert other.execute("SELECT name, n FROM t") == [{"name": "a", "n": 1.5}]
