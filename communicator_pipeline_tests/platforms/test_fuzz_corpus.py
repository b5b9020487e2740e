"""What a coverage-guided fuzzer (atheris) found its way into the push parsers with.

Each line of `corpus/<platform>.txt` is one body in base64. No exception may leave a parser.
"""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import pytest

from communicator_pipeline.platforms import live_side
from communicator_pipeline.platforms.protocol import Connection

CORPUS = Path(__file__).parent / "corpus"
CONNECTION = Connection(
    "ana-test", frozenset({"U1", "1", "user1"}), {"kind": "bot"}, {"token": "t", "bot_token": "b"}
)


@pytest.mark.parametrize("name", ["generic", "slack", "telegram", "x"])
def test_what_a_fuzzer_found_leaves_no_exception(name: str) -> None:
    bodies = (CORPUS / f"{name}.txt").read_text().split()
    assert len(bodies) > 10
    for body in bodies:
        list(live_side(name).events(b64decode(body), CONNECTION))
