"""Objects in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from communicator_pipeline_tests.storage.objects_contract import (
    LocalOpener,
    ObjectsContract,
    in_order,
)


class TestLocalObjects(ObjectsContract):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> LocalOpener:
        return LocalOpener(tmp_path / "objects")

    def test_a_listing_over_folders_is_in_order(self, opener: LocalOpener) -> None:
        assert in_order(opener())
