"""Messages for the tests: short spellings, and the labelled chats in `labelled/`.

Belongs here: building the frames that `group` takes. Does not belong here: assertions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

CHATS = Path(__file__).with_name("labelled")
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Said:
    """One message; `minute` counts from midnight of 2 March 2026."""

    minute: float
    author: str
    text: str
    id: str = ""
    channel: str = "c"
    kind: str = "channel"
    thread: str | None = None
    reply: str | None = None
    mentions: tuple[str, ...] = ()
    system: bool = False


def frame(said: Sequence[Said]) -> pd.DataFrame:
    """The frame that `group` takes; ids default to 'c:000', 'c:001', …"""
    rows = [
        {
            "message_id": s.id or f"{s.channel}:{number:03d}",
            "channel_id": s.channel,
            "channel_kind": s.kind,
            "sent_at": MIDNIGHT + timedelta(minutes=s.minute),
            "author_id": s.author,
            "author_name": s.author,
            "kind": "system" if s.system else "message",
            "text": s.text,
            "thread_id": s.thread,
            "reply_to": s.reply,
            "mentions": list(s.mentions),
        }
        for number, s in enumerate(said)
    ]
    table = pd.DataFrame(rows)
    table["sent_at"] = pd.to_datetime(table["sent_at"], utc=True).astype("datetime64[us, UTC]")
    return table


def labelled(style: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """A chat of `labelled/` and the talk that each of its messages belongs to.

    The first line names the channel's kind; every other is 'time | talk | author | text'.
    """
    head, *lines = (CHATS / f"{style}.txt").read_text(encoding="utf-8").splitlines()
    kind = head.lstrip("# ").split("|")[0].strip()
    cells = [[cell.strip() for cell in line.split("|", 3)] for line in lines]
    authors = {author for _, _, author, _ in cells}
    said = [
        Said(
            minute=(datetime.fromisoformat(at).replace(tzinfo=UTC) - MIDNIGHT).total_seconds() / 60,
            author=author,
            text=text,
            kind=kind,
            mentions=tuple(sorted(name for name in authors if f"@{name}" in text)),
        )
        for at, _, author, text in cells
    ]
    messages = frame(said)
    talks = [talk for _, talk, _, _ in cells]
    return messages, dict(zip(messages["message_id"], talks, strict=True))
