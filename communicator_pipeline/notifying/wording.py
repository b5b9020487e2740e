"""How notifications read. Pure.

Belongs here: titles and texts. Does not belong here: what is told, and to whom.

They leave the installation for somebody else's service: of a conversation they hold who wrote
where, the summary line and a link, and no more of any message.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from communicator_pipeline.storage.notifications import Kind

LONGEST_LINE = 200
LONGEST_TEXT = 3_500
"""Characters: the shortest message that the usual chats take is of 4 000."""

MOST_LINES = 10

DEFAULT_URL = "http://127.0.0.1:8700"

_TROUBLE: Mapping[Kind, str] = {
    "failed_runs": "runs failed",
    "dead_letters": "new dead letters",
    "dead_tokens": "accounts need somebody",
}
_WHAT_TO_DO: Mapping[Kind, str] = {
    "failed_runs": "Dagster's page of runs says why; `communicator status` shows what waits.",
    "dead_letters": "`communicator dead-letters list` says why.",
    "dead_tokens": "`communicator accounts list` says more.",
}


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: plain text."""

    title: str
    text: str


def link_to(public_url: str, account: str, conversation_id: str) -> str:
    """Where a conversation is read."""
    ids = f"of={quote(account, safe='')}&conversation={quote(conversation_id, safe='')}"
    return f"{public_url.rstrip('/')}/inbox?{ids}"


def urgent_message(rows: Sequence[Mapping[str, Any]], public_url: str) -> Message:
    """Of conversations (`Inbox.conversations`) that are urgent, the first ones in the list."""
    shown = rows[:MOST_LINES]
    parts = [
        f"{row['priority']} · {_place(row)}: {_line(row['summary'])}\n"
        f"{link_to(public_url, row['account'], row['conversation_id'])}"
        for row in shown
    ]
    if len(rows) > len(shown):
        more = f"{public_url.rstrip('/')}/inbox?view=high_priority"
        parts.append(f"and {len(rows) - len(shown)} more: {more}")
    title = (
        f"{_place(rows[0])} waits for your reply"
        if len(rows) == 1
        else f"{len(rows)} conversations wait for your reply"
    )
    return Message(title, "\n\n".join(parts))


def digest_message(digests: Mapping[str, Sequence[str]], public_url: str) -> Message:
    """Of the digests of some days: day → the accounts' (Markdown). Drafts, which quote what was
    said, are left out."""
    days = sorted(digests)
    lines = [
        _line(line.lstrip("# ") if line.startswith("#") else line.replace("**", ""))
        for day in days
        for markdown in digests[day]
        for line in [*markdown.splitlines(), ""]
        if not line.startswith("  - draft:")
    ]
    text = "\n".join(lines).strip()
    if len(text) > LONGEST_TEXT:
        text = text[:LONGEST_TEXT].rsplit("\n", 1)[0] + "\n…"
    links = "\n".join(f"{public_url.rstrip('/')}/digest?day={day}" for day in days)
    whole = f"{days[0]} to {days[-1]}" if len(days) > 1 else days[0]
    return Message(f"Digest of {whole}", f"{text}\n\n{links}")


def trouble_message(kind: Kind, lines: Sequence[str]) -> Message:
    """Of what is wrong in the installation."""
    shown = [_line(line) for line in lines[:MOST_LINES]]
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} more")
    shown.append(_WHAT_TO_DO[kind])
    return Message(f"Communicator: {len(lines)} {_TROUBLE[kind]}", "\n".join(shown))


def trial_message(name: str, public_url: str) -> Message:
    """What somebody asks for to see that a target works."""
    return Message(
        "Communicator can reach you here",
        f"This is the test message for {_line(name)}. {public_url.rstrip('/')}/settings",
    )


def _place(row: Mapping[str, Any]) -> str:
    return _line(row["channel"] or row["last_author"] or row["account"])


def _line(text: str) -> str:
    """A stranger's text as one short line, without signs that steer what shows it."""
    plain = "".join(
        " " if unicodedata.category(sign) in ("Cc", "Zl", "Zp") else sign
        for sign in text
        if unicodedata.category(sign) not in ("Cf", "Cs", "Co")
    )
    one = " ".join(plain.split())
    return one if len(one) <= LONGEST_LINE else one[: LONGEST_LINE - 1] + "…"
