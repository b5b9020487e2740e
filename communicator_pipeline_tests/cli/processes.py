"""The command in a real process that need not import everything first.

Belongs here: starting it, and its exit code and words. A server that has imported what commands
stand on forks for each of them, which saves one and a half seconds each time.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
# Not the command's own modules: what they print on is as wide as their environment says.
_SERVER.set_forkserver_preload(
    ["communicator_pipeline.definitions", "communicator_pipeline.worker"]
)


def _run(words: Sequence[str], environment: Mapping[str, str], place: str, folder: str) -> None:
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(file, descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(place)
    sys.argv = ["communicator", *words]
    runpy.run_module("communicator_pipeline.cli", run_name="__main__")


def run_command(
    words: Sequence[str], environment: Mapping[str, str], timeout: float = 180
) -> subprocess.CompletedProcess[str]:
    """What `communicator WORDS` answers in this environment; standard input is empty."""
    with tempfile.TemporaryDirectory() as folder:
        process = _SERVER.Process(
            target=_run, args=(list(words), dict(environment), os.getcwd(), folder)
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"communicator {' '.join(words)} took longer than {timeout:.0f} s")
        said = [Path(folder, name).read_text() for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(list(words), process.exitcode, *said)
