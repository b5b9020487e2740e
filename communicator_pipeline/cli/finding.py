"""What a check of the installation has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "failed"]


@dataclass
class Finding:
    """One line of `communicator doctor`, and what to do about it."""

    what: str
    state: State
    found: str
    advice: str = ""
