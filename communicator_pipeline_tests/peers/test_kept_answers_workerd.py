"""Kept answers in KV as workerd has it. What that does differently: `test_kv_workerd.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.cloudflare import CloudflareAccount
from communicator_pipeline.storage.kv import KvStore
from communicator_pipeline_tests.language_model.answers_contract import AnswersContract, model
from communicator_pipeline_tests.peers.node import needs_peers
from communicator_pipeline_tests.peers.workerd import without_accounts, workerd

__all__ = ["model"]  # a fixture

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KvStore]:
    needs_peers()
    folder = tmp_path_factory.mktemp("workerd")
    with workerd(folder) as peer, without_accounts(peer.explorer_url) as url:
        yield KvStore(CloudflareAccount("acc", "token", None, url, 60.0), peer.kv_id)


class TestInWorkerd(AnswersContract):
    @pytest.fixture
    def box(self, stores: Stores, cache: KvStore) -> Stores:
        cache.delete_many(list(cache.list()))
        return replace(stores, cache=cache)
