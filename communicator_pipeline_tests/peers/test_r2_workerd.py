"""R2's S3 API as workerd serves it, which enforces what moto does not.

What it does differently from R2 (wrangler 4.164, seen 2026-11): nothing is put off with 429 however
fast one key is written; it does not say which uploads have begun; a link's `response-content-type`
and `response-content-disposition` are not heeded. Both of these are tested against moto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from communicator_pipeline.storage.objects import ABSENT
from communicator_pipeline.storage.r2 import ObjectsUnavailable
from communicator_pipeline_tests.peers.node import needs_peers
from communicator_pipeline_tests.peers.workerd import Workerd, workerd
from communicator_pipeline_tests.storage.objects_contract import R2Contract, R2Opener, in_order

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workerd]:
    needs_peers()
    with workerd(tmp_path_factory.mktemp("workerd")) as peer:
        yield peer


@pytest.fixture
def opener(running: Workerd, tmp_path: Path) -> R2Opener:
    """The bucket, empty."""
    opened = R2Opener(
        running.s3_url,
        running.buckets[-1],
        running.access_key,
        running.secret_key,
        tmp_path / "cache",
    )
    objects = opened()
    for info in list(objects.list("")):
        objects.delete(info.key)
    return opened


class TestR2OfWorkerd(R2Contract):
    lists_uploads = False
    names_downloads = False


def test_a_listing_over_folders_is_in_order(opener: R2Opener) -> None:
    assert in_order(opener())


@pytest.mark.parametrize("change", [{"secret": "wrong"}, {"key_id": "wrong"}])
def test_a_wrong_key_is_said_in_words(opener: R2Opener, change: dict[str, str]) -> None:
    objects = replace(opener, **change)()  # type: ignore[arg-type]
    for ask in (
        lambda: objects.get("k"),
        lambda: objects.put("k", b"", ABSENT),
        lambda: objects.exists("k"),
        lambda: list(objects.list("")),
    ):
        with pytest.raises(ObjectsUnavailable, match="COMMUNICATOR_R2_SECRET") as told:
            ask()
        assert "wrong" not in str(told.value)
