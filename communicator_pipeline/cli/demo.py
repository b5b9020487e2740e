"""`communicator demo`: the whole way on made-up exports, in a minute."""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

from rich.rule import Rule
from rich.text import Text

from communicator_pipeline.cli.demo_reply import ACCOUNT as SANDBOX_ACCOUNT
from communicator_pipeline.cli.demo_reply import show_a_reply
from communicator_pipeline.cli.imports import said
from communicator_pipeline.cli.output import errors_in_words, fail, one_line, out, stores
from communicator_pipeline.cli.reading import print_conversation
from communicator_pipeline.demo import DemoExport, write_exports
from communicator_pipeline.ingestion.exports import ImportCounts, import_export, open_export
from communicator_pipeline.ingestion.owner import set_owner
from communicator_pipeline.storage import Stores, home
from communicator_pipeline.storage.accounts import Accounts, add_user
from communicator_pipeline.storage.database import Row
from communicator_pipeline.storage.dead_letters import DeadLetters
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.lake import end_of_day
from communicator_pipeline.storage.preview import DEMO_ACCOUNTS
from communicator_pipeline.storage.settings import Settings

NAMES = {"ana": "Ana Duarte", "ben": "Ben Okafor"}
FIRST_DAY, LAST_DAY = "2026-10-26", "2026-11-04"
NOW = end_of_day(LAST_DAY)
"""The demo's evening: what waits has waited as long as its analysis says."""


def demo() -> None:
    """Import made-up exports of two people, materialise everything, show the inbox."""
    with errors_in_words():
        from communicator_pipeline import runs
        from communicator_pipeline.definitions import defs

        opened = stores()
        exports = write_exports(home() / "demo")
        _title("Four export files, as Slack, Telegram and X give them")
        _settle(opened, exports)
        for export in exports:
            counts, seconds = _import(opened, export)
            out.print(said(export.account, counts, seconds), soft_wrap=True)
            out.print(f"    {_shown(export.path)}", style="dim", soft_wrap=True)
        again = [_import(opened, export)[0] for export in exports]
        changed = sum(counts.kept + counts.updated for counts in again)
        out.print(f"The same four again: {changed} changed.")

        _title("Two records were broken; the rest is in")
        for user in NAMES:
            for letter in DeadLetters(opened.database, user).list():
                out.print(Text(f"{letter['account']}: {letter['source']}", style="bold"))
                out.print(Text(f"    {letter['reason']}", style="yellow"), soft_wrap=True)

        _title("Every asset, every partition")
        began = time.monotonic()
        finished: list[runs.FinishedRun] = []
        try:
            with runs.open_instance() as instance:
                out.print("materialising …", style="dim")
                finished += runs.materialise_range(
                    opened,
                    instance,
                    runs.chain_job(defs),
                    [export.account for export in exports],
                    FIRST_DAY[:7] + "-01",
                    LAST_DAY[:7] + "-31",
                    lambda run: None,
                    preview=True,
                )
                out.print(
                    f"6 assets × {len(exports)} accounts × 2 months: "
                    f"{sum(run.materialisations for run in finished)} materialisations in "
                    f"{len(finished)} runs."
                )
                for export in exports:
                    job = runs.digest_job(defs)
                    runs.digest_days(
                        opened, instance, job, export.account, FIRST_DAY, LAST_DAY, preview=True
                    )
        except runs.RunFailed as failed:
            fail(str(failed))
        out.print(
            f"{len(exports)} × 10 daily digests. {time.monotonic() - began:.1f} s in all. "
            "All asset checks passed."
        )

        _title("Ana's inbox, the first eight")
        ana = Inbox(opened.database, "ana")
        for row in ana.conversations(view="needs_reply", limit=8):
            print_conversation(row, now=NOW)
        _interleaved(ana)
        _injection(opened)

        _title("And out again: a reply, sent once, though its sender was killed")
        show_a_reply(opened)

        _title("Where to look next")
        for command, what in (
            ("make dev", "everything at once: Dagster's UI, the worker, the gateway, the sandbox"),
            ('communicator sandbox say "…"', "somebody else writes to Ana"),
            ("communicator drafts --user ana", "what waits for her yes or no"),
            ("communicator inbox --user ben", "the other person's inbox"),
            ("communicator search --user ana 发票", "search, in any language"),
            ("communicator status --user ana", "what waits before which stage"),
            ("communicator import FILE", "your own export"),
        ):
            out.print(f"  {_command(command)}")
            out.print(f"      {what}", style="dim")


def _settle(opened: Stores, exports: list[DemoExport]) -> None:
    for user, name in NAMES.items():
        add_user(opened.database, user, name)
    for export in exports:
        accounts = Accounts(opened.database, export.user)
        account = accounts.add(export.account, export.platform, f"Demo {export.platform}")
        if not account.me:
            set_owner(opened, accounts, account, [export.me])
    accounts_of_demo = sorted([SANDBOX_ACCOUNT, *(export.account for export in exports)])
    Settings(opened.database, None).set(DEMO_ACCOUNTS, accounts_of_demo)


def _import(opened: Stores, export: DemoExport) -> tuple[ImportCounts, float]:
    began = time.monotonic()
    counts = import_export(open_export(export.path), export.account, opened.database, opened.lake)
    return counts, time.monotonic() - began


def _interleaved(inbox: Inbox) -> None:
    """The stretch of #ops in which most conversations run through one another."""
    account = "ana-slack-harbor"
    channel = next(
        row["channel_id"]
        for row in inbox.conversations(account, limit=1000)
        if row["channel"] == "ops"
    )
    messages = [
        message
        for message in inbox.channel_messages(account, channel, FIRST_DAY, "9999")
        if message["kind"] == "message" and message["link_reason"] != "thread"
    ]
    stretch = _most_interleaved(messages, 11)
    letters: dict[str, str] = {}
    _title("One channel, several conversations at once: #ops pulled apart")
    for message in stretch:
        letter = letters.setdefault(message["conversation_id"], "ABCDEFGHIJ"[len(letters)])
        colour = ("cyan", "magenta", "green", "yellow", "blue", "red")[ord(letter) % 6]
        line = Text(f"{letter} ", style=f"bold {colour}")
        line.append(message["sent_at"][11:16] + " ", style="dim")
        line.append(f"{message['author']}: ", style="bold")
        line.append(one_line(message["text"]))
        out.print(line, overflow="ellipsis", no_wrap=True)
        why = Text(f"        {message['link_reason']}: {message['link_why']}", style="dim")
        out.print(why, overflow="ellipsis", no_wrap=True)


def _most_interleaved(messages: list[Row], length: int) -> list[Row]:
    def switches(start: int) -> int:
        stretch = messages[start : start + length]
        if stretch[0]["sent_at"][:10] != stretch[-1]["sent_at"][:10]:
            return 0
        keys: list[str] = [row["conversation_id"] for row in stretch]
        repeated = {key for key, count in Counter(keys).items() if count > 1}
        turns = sum(before != after and after in repeated for before, after in pairwise(keys))
        return turns + len(repeated)

    best = max(range(max(1, len(messages) - length + 1)), key=switches)
    return messages[best : best + length]


def _injection(opened: Stores) -> None:
    _title("A message that gives orders to the assistant: flagged, not obeyed")
    for user in NAMES:
        for row in Inbox(opened.database, user).conversations(limit=1000):
            if "injection" in row["flags"]:
                print_conversation(row, now=NOW)


def _title(text: str) -> None:
    out.print()
    out.print(Rule(text, align="left", style="dim"))


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _command(command: str) -> str:
    return command if command.startswith("make") else f".venv/bin/{command}"
