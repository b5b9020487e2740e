"""Writes the demo's export files, and says what a person would have made of their messages.

Belongs here: which accounts there are and how their files are packed. Does not belong here: the
words (`script/`) or a platform's spelling (`slack.py`, `telegram.py`, `x.py`).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pandas as pd

from communicator_pipeline.demo.script import Line, Script, load
from communicator_pipeline.demo.slack import compile_slack, slack_ids
from communicator_pipeline.demo.telegram import compile_telegram, telegram_ids
from communicator_pipeline.demo.x import compile_x, x_ids

AS_OF = datetime(2026, 11, 4, 18, 0, tzinfo=UTC)
"""The moment after the last message: what `needs_reply` refers to."""

ACCOUNTS: Mapping[str, tuple[str, Literal["slack", "telegram", "x"]]] = {
    "ana-slack-harbor": ("ana", "slack"),
    "ana-x": ("ana", "x"),
    "ben-telegram": ("ben", "telegram"),
    "ben-slack-workshop": ("ben", "slack"),
}

GOLD_COLUMNS = ["account", "message_id", "conversation", "category", "needs_reply", "style"]


@dataclass(slots=True, frozen=True)
class DemoExport:
    """One account's export: `path` is a ZIP, for Telegram a folder with `result.json`."""

    user: str
    account: str
    platform: Literal["slack", "telegram", "x"]
    path: Path
    me: str  # the owner's person id as the export spells it


def write_exports(folder: Path) -> list[DemoExport]:
    """Writes all four exports into the folder; the same bytes on each run."""
    folder.mkdir(parents=True, exist_ok=True)
    exports = []
    for account, (user, platform) in ACCOUNTS.items():
        script = load(account)
        files = compiled(script)
        if platform == "telegram":
            path = folder / account
            _write_folder(path, files)
        else:
            path = folder / f"{account}.zip"
            _write_zip(path, files)
        me = f"user{script.me.id}" if platform == "telegram" else script.me.id
        exports.append(DemoExport(user, account, platform, path, me))
    return exports


def compiled(script: Script) -> dict[str, bytes]:
    """The account's export as file contents by path."""
    platform = ACCOUNTS[script.account][1]
    if platform == "slack":
        return compile_slack(script)
    return compile_telegram(script) if platform == "telegram" else compile_x(script)


def message_ids(script: Script) -> list[tuple[Line, str]]:
    """Each line of the script that an import can find, with its message id."""
    platform = ACCOUNTS[script.account][1]
    ids = {"slack": slack_ids, "telegram": telegram_ids, "x": x_ids}[platform]
    return ids(script)


def gold() -> pd.DataFrame:
    """A person's view of each message: its conversation, and that conversation's properties.

    `needs_reply` is the conversation's, as of `AS_OF`, and true only if the owner should still
    answer. Lines of the platform itself (a join, a rename) have the style `system` and one
    conversation per channel: leave them out where grouping is judged. An edited post on X has a
    row for each of its ids. Broken records and events without an id have none.
    """
    rows = []
    for account in ACCOUNTS:
        script = load(account)
        for line, message_id in message_ids(script):
            talk = script.conversation(line)
            rows.append(
                (account, message_id, talk.label, talk.category, talk.needs_reply, talk.style)
            )
    return pd.DataFrame(rows, columns=GOLD_COLUMNS)


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(2026, 11, 5, 6, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, files[name])
