"""Messages that try to take over whoever reads them.

Belongs here: the messages, by hand, and what carries each. Does not belong here: what must not
come of them (`test_injections.py`).

`injections.txt` holds one a line, under headings `= kind [language] [@carrier]`; backslashes as in
Python's texts, so that what shows nothing can be seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast

Carrier = Literal["text", "file", "author", "channel", "quoted"]

_TEXT: Carrier = "text"
_HEADING = re.compile(r"= (?P<kind>\w+)(?: (?P<language>\w+))?(?: @(?P<carrier>\w+))?")
_ESCAPE = re.compile(r"\\(?:n|\\|u[0-9a-f]{4}|U[0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Injection:
    """One attempt: what is said, and whether it stands in a message's text or beside it."""

    kind: str
    text: str
    carrier: Carrier


@cache
def injections() -> tuple[Injection, ...]:
    """All of them, each once."""
    found: list[Injection] = []
    kind, carrier = "", _TEXT
    # Not `splitlines`: some of the messages hold the line separators that it knows.
    for line in Path(__file__).with_suffix(".txt").read_text("utf-8").rstrip("\n").split("\n"):
        heading = _HEADING.fullmatch(line)
        if heading:
            kind, carrier = heading["kind"], cast(Carrier, heading["carrier"] or _TEXT)
        else:
            found.append(Injection(kind, _ESCAPE.sub(_meant, line), carrier))
    return tuple(dict.fromkeys(found))


def _meant(escape: re.Match[str]) -> str:
    if escape[0] in ("\\n", "\\\\"):
        return "\n" if escape[0] == "\\n" else "\\"
    return chr(int(escape[0][2:], 16))
