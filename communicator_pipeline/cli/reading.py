"""`communicator inbox`, `show` and `search`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from communicator_pipeline.cli.output import (
    AsJson,
    AsUser,
    acting_user,
    ago,
    errors_in_words,
    one_line,
    out,
    print_json,
    print_troubles,
    stores,
)
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.inbox import Inbox


def inbox(
    account: Annotated[str | None, typer.Option(help="Only this account.")] = None,
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    waiting: Annotated[bool, typer.Option(help="Only what waits for your reply.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Conversations by priority, those that wait for you first."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        if account is not None:
            Accounts(opened.database, whose).get(account)
        reader = Inbox(opened.database, whose)
        rows = reader.conversations(account, category, "needs_reply" if waiting else "open", limit)
        mine = [a.account for a in Accounts(opened.database, whose).all()]
        print_troubles(Connections(opened).healths(mine))
    if as_json:
        print_json(rows)
        return
    if not rows and (account or category or waiting):
        out.print("Nothing waits." if waiting else "Nothing matches.")
    elif not rows:
        out.print(
            "Nothing here. Import an export with `communicator import FILE` or connect an account "
            "with `communicator accounts add PLATFORM`, then `communicator materialize`.",
            soft_wrap=True,
        )
    for row in rows:
        print_conversation(row)


def print_conversation(row: dict[str, Any], now: datetime | None = None) -> None:
    """A conversation in three or four lines of 80 columns, as of now."""
    head = Text(f"{row['priority']:>3} ", style=_style(row["priority"]))
    head.append(place(row), style="bold")
    head.append(f" · {row['category']}", style="dim")
    if row["waiting_since"]:
        head.append(f" · waiting {ago(row['waiting_since'], now)}", style="yellow")
    if row["flags"]:
        head.append(f" · ⚑ {', '.join(row['flags'])}", style="red")
    out.print(head, overflow="ellipsis", no_wrap=True)
    out.print(_indented(one_line(row["summary"])), overflow="ellipsis", no_wrap=True)
    # How long it has waited stands in the head, as of now; the reason is as of the day's end.
    told = [r for r in row["priority_reasons"] if not r.startswith("+10 every")]
    why = ", ".join(reason for reason in told if " waiting " not in reason)
    out.print(_indented(f"why: {why}", "dim"), overflow="ellipsis", no_wrap=True)
    if row["draft"]:
        fill = " (fill the gaps)" if row["draft_outcome"] == "needs_fill" else ""
        draft = _indented(f"draft{fill}: {one_line(row['draft'])}", "green")
        out.print(draft, overflow="ellipsis", no_wrap=True)
    out.print(_indented(f"{row['account']} {row['conversation_id']}", "dim"), soft_wrap=True)


def show(
    conversation: Annotated[str, typer.Argument(help="The id that `communicator inbox` shows.")],
    account: Annotated[str | None, typer.Option(help="The account, if ids repeat.")] = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """One conversation: its messages, why they belong together, analysis and draft."""
    with errors_in_words():
        opened = stores()
        reader = Inbox(opened.database, acting_user(opened, user))
        row = reader.conversation(conversation, account)
        messages = reader.messages(row["account"], row["conversation_id"])
    if as_json:
        print_json(row | {"messages": messages})
        return
    print_conversation(row)
    out.print()
    for message in messages:
        when = message["sent_at"][:16].replace("T", " ")
        line = Text(f"{when} ", style="dim")
        line.append(message["author"], style="bold")
        if message["edited_at"]:
            line.append(" (edited)", style="dim")
        out.print(line)
        text = "(deleted)" if message["deleted"] else message["text"]
        out.print(Padding(Text(text), (0, 0, 0, 2)))
        for file in message["attachments"]:
            out.print(Text(f"  file: {file['name']}", style="dim"))
        out.print(Text(f"  {message['link_reason']}: {message['link_why']}", style="dim"))
    out.print()
    for title, lines in (
        ("priority", row["priority_reasons"]),
        ("category", [row["category_reason"]]),
        ("needs a reply" if row["needs_reply"] else "needs no reply", [row["needs_reply_reason"]]),
        ("draft", [row["draft"], row["draft_reason"]] if row["draft"] else []),
    ):
        for place_, line in enumerate(filter(None, lines)):
            out.print(Text(f"{title + ':' if place_ == 0 else '':<15} {line}"), soft_wrap=True)


def search(
    words: Annotated[list[str], typer.Argument(help="Words that the message must contain.")],
    account: Annotated[str | None, typer.Option(help="Only this account.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Messages that contain all the words, in any language."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        if account is not None:
            Accounts(opened.database, whose).get(account)
        reader = Inbox(opened.database, whose)
        rows = reader.search(" ".join(words), account, limit)
    if as_json:
        print_json(rows)
        return
    if not rows:
        out.print("No message contains that.")
    for row in rows:
        head = Text(f"{row['sent_at'][:16].replace('T', ' ')} ", style="dim")
        head.append(row["author"], style="bold")
        head.append(f" in {row['channel'] or '?'} ({row['account']})", style="dim")
        out.print(head, overflow="ellipsis", no_wrap=True)
        out.print(_indented(one_line(row["text"])), overflow="ellipsis", no_wrap=True)
        out.print(_indented(f"communicator show {row['conversation_id']}", "dim"), soft_wrap=True)


def place(row: dict[str, Any]) -> str:
    """Where a conversation takes place, as its reader would call it."""
    sign = "#" if row["channel_kind"] == "channel" else ""
    return f"{sign}{row['channel'] or row['channel_id']}"


def _indented(text: str, style: str = "") -> Text:
    return Text(f"    {text}", style=style)


def _style(priority: int) -> str:
    return "bold red" if priority >= 70 else "bold yellow" if priority >= 50 else "dim"
