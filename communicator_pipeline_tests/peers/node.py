"""Starts a Node program of this folder on a free port of 127.0.0.1, and ends it.

Belongs here: processes and readiness. Does not belong here: what a peer is asked (its tests).
The wheel's Node runs it: `emulate` needs 22.12 or newer, and the system's may be older.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

FOLDER = Path(__file__).parent
BIN = FOLDER / ".venv" / "bin"
NODE = BIN / "node"
PATIENCE = 60.0  # seconds until a peer answers; a busy machine needs some ten


def needs_peers() -> None:
    """Skip the test that calls this where the peers are not installed."""
    if not NODE.exists() or not (FOLDER / "node_modules" / ".installed").exists():
        pytest.skip("the peers are not installed: make -C communicator_pipeline_tests/peers")


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def node_program(arguments: Sequence[str], ready: str = "/") -> Iterator[str]:
    """Run `node ARGUMENTS` in this folder until the `with` ends; gives its base URL, without a
    slash at the end.

    `{port}` in an argument stands for the port. It is ready as soon as GET `ready` gets any HTTP
    answer at all. Raises RuntimeError with the end of its output if it ends or stays silent.
    """
    port = free_port()
    with program(
        [str(NODE), *(part.replace("{port}", str(port)) for part in arguments)]
    ) as answers:
        url = f"http://127.0.0.1:{port}"
        answers(url + ready)
        yield url


class _Running:
    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self._process, self._output = process, output

    def __call__(self, url: str) -> None:
        """Wait until the URL answers, with whatever status."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise RuntimeError(f"it ended with {self._process.returncode}: {self._end()}")
            try:
                urlopen(Request(url), timeout=5).close()
            except HTTPError:
                return
            except (URLError, OSError):
                time.sleep(0.05)
            else:
                return
        raise RuntimeError(f"it did not answer at {url} within {PATIENCE:.0f} s: {self._end()}")

    def _end(self) -> str:
        return self._output.read_text(errors="replace")[-2_000:]


@contextmanager
def program(command: Sequence[str], folder: Path = FOLDER) -> Iterator[_Running]:
    """Run any program until the `with` ends; what it gives waits for a URL to answer."""
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "output"
        with output.open("wb") as sink:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, "NO_COLOR": "1", "NODE_ENV": "test"},
            )
            try:
                yield _Running(process, output)
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
