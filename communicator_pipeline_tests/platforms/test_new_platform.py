"""A platform that `communicator new-platform` begins passes the contract as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from communicator_pipeline.cli.scaffolding import written


def test_a_new_platform_is_found_and_keeps_every_promise(tmp_path: Path) -> None:
    for path, text in written("pigeon_post").items():
        (tmp_path / "new" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "new" / path).write_text(text)
        assert "xample" not in text.replace("example.com", "")
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "--target", str(site), str(tmp_path / "new")],
        check=True,
    )  # fmt: skip
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "new")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(site)},
        cwd=tmp_path,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert " passed" in found.stdout
    assert "skipped" not in found.stdout
