"""`communicator sandbox`: a chat service on this machine, in which you are the others.

Everything but `serve` reads and writes the chat's file, and works whether a server runs or not.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

import typer

from communicator_pipeline.cli.output import (
    AsJson,
    ago,
    err,
    errors_in_words,
    escaped,
    fail,
    out,
    plain_table,
    print_json,
)
from communicator_pipeline.platforms.sandbox.chat import FILE, Chat, Line
from communicator_pipeline.platforms.sandbox.faults import KINDS, Fault
from communicator_pipeline.storage import home

app = typer.Typer(
    help="A chat service on this machine to try everything with: no account, nothing leaves.",
    no_args_is_help=True,
)

Which = Annotated[
    str | None, typer.Option("--message", help="Its id, as `show` prints it. Default: the last.")
]


@app.command("serve")
def serve(
    port: Annotated[int, typer.Option(help="Listen on this port.", envvar="SANDBOX_PORT")] = 8701,
) -> None:
    """Start the service, on 127.0.0.1. What is in it stays when it ends."""
    from communicator_pipeline.platforms.sandbox import server

    def ready() -> None:
        err.print(f"The sandbox listens on http://{server.HOST}:{port} (Ctrl-C ends it)")

    with errors_in_words(), suppress(KeyboardInterrupt):
        server.serve(home() / FILE, port, ready)


@app.command("say")
def say(
    text: Annotated[str, typer.Argument(help="What is said.")],
    name: Annotated[str, typer.Option("--as", help="Who says it.")] = "Ben",
    chat: Annotated[str | None, typer.Option(help="In this chat. Default: to you alone.")] = None,
    thread: Annotated[
        str | None, typer.Option(help="In the thread of this message (its id).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write to you, as somebody else."""
    with errors_in_words():
        said = _chat().say(text, name, chat, thread)
    if as_json:
        print_json({"message_id": said.message_id, "sent_at": said.sent_at})
        return
    out.print(f"{name} said it: {said.message_id}", markup=False, soft_wrap=True)


@app.command("edit")
def edit(
    text: Annotated[str, typer.Argument(help="What it says from now on.")],
    message: Which = None,
) -> None:
    """Change the last message of somebody else."""
    with errors_in_words():
        changed = _chat().edit(text, message)
    out.print(f"{changed} is changed.", markup=False)


@app.command("delete")
def delete(message: Which = None) -> None:
    """Delete the last message of somebody else."""
    with errors_in_words():
        deleted = _chat().delete(message)
    out.print(f"{deleted} is deleted.", markup=False)


@app.command("show")
def show(
    chat: Annotated[str | None, typer.Option(help="Only this chat.")] = None,
    last: Annotated[int, typer.Option(min=1, help="So many messages.")] = 50,
    as_json: AsJson = False,
) -> None:
    """The chats as the others see them, with how often each of your replies arrived."""
    with errors_in_words():
        lines = _chat().lines(chat, last)
    if as_json:
        print_json([asdict(line) for line in lines])
        return
    if not lines:
        out.print('Nothing has been said: communicator sandbox say "…"', markup=False)
        return
    table = plain_table("id", "chat", "", "who", "text", "arrived")
    for line in lines:
        place = line.channel_name if line.channel_kind == "dm" else f"#{line.channel_name}"
        when = ago(line.sent_at.isoformat())
        cells = [line.message_id, place, when, line.author_name, _words(line), _arrived(line)]
        table.add_row(*escaped(cells))
    out.print(table)


@app.command("fault")
def fault(
    kind: Annotated[str, typer.Argument(help=", ".join(KINDS))],
    times: Annotated[int, typer.Option(min=1, help="For so many requests.")] = 1,
    always: Annotated[bool, typer.Option("--always", help="Until it is cleared.")] = False,
    seconds: Annotated[float | None, typer.Option(min=0, help="Of limit, slow, late.")] = None,
    at: Annotated[
        int | None, typer.Option(min=0, help="Cut at this byte: refuse, reset, timeout, truncate.")
    ] = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Reads too, not only sends.")
    ] = False,
) -> None:
    """Let the next sends go wrong. What each kind does: communicator sandbox faults --kinds."""
    with errors_in_words():
        wanted = Fault(kind, None if always else times, at, seconds, everywhere)
        _chat().faults.add(wanted)
    out.print(f"{kind}: {KINDS[kind]}", markup=False, soft_wrap=True)


@app.command("faults")
def faults(
    clear: Annotated[bool, typer.Option("--clear", help="Take them all back.")] = False,
    kinds: Annotated[bool, typer.Option("--kinds", help="Which kinds there are.")] = False,
    as_json: AsJson = False,
) -> None:
    """What will go wrong, in this order."""
    if clear and kinds:
        fail("--clear or --kinds, not both", 2)
    with errors_in_words():
        queue = _chat().faults
        if clear:
            queue.clear()
        waiting = queue.all()
    if as_json:
        print_json(dict(KINDS) if kinds else [asdict(entry) for entry in waiting])
        return
    if kinds:
        for kind, words in KINDS.items():
            out.print(f"{kind:<13} {words}", markup=False, soft_wrap=True)
        return
    if not waiting:
        out.print("Nothing goes wrong.")
    for entry in waiting:
        often = "until it is cleared" if entry.times is None else f"{entry.times}×"
        where = ", reads too" if entry.everywhere else ""
        cut = "" if entry.at is None else f", at byte {entry.at}"
        long = "" if entry.seconds is None else f", {entry.seconds:g} s"
        out.print(f"{entry.kind}: {often}{cut}{long}{where}", markup=False)


def _chat() -> Chat:
    return Chat(home() / FILE)


def _words(line: Line) -> str:
    if line.deleted:
        return "(deleted)"
    return f"{line.text} (edited)" if line.edited else line.text


def _arrived(line: Line) -> str:
    if not line.yours:
        return ""
    asked = f", asked for {line.requests}×" if line.requests != line.copies else ""
    return f"{line.copies}×{asked}"
