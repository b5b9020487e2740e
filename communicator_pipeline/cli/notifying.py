"""`communicator notify`: where you are told of what cannot wait, and what you were told of."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from communicator_pipeline.cli.output import (
    AsJson,
    AsUser,
    acting_user,
    ago,
    errors_in_words,
    escaped,
    fail,
    out,
    plain_table,
    print_json,
    stores,
)
from communicator_pipeline.notifying.targets import add_target
from communicator_pipeline.notifying.telling import try_target
from communicator_pipeline.storage import Stores, audit
from communicator_pipeline.storage.notifications import Targets, Told

app = typer.Typer(
    help="Where you are told of urgent conversations, and of your digest.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="What you call the target.")]


@app.command("list")
def list_targets(user: AsUser = None, as_json: AsJson = False) -> None:
    """Your targets, and whether they took the last message."""
    with errors_in_words():
        opened = stores()
        rows = Targets(opened.database, acting_user(opened, user)).all()
    if as_json:
        print_json(rows)
        return
    if not rows:
        out.print("You are told nowhere yet: communicator notify add NAME")
        return
    table = plain_table("name", "service", "installation", "last message", "trouble")
    for row in rows:
        last = f"{ago(row['told_at'])} ago" if row["told_at"] else "none yet"
        operators = "told of, too" if row["operators"] else ""
        table.add_row(*escaped([row["name"], row["shown"], operators, last, row["trouble"]]))
    out.print(table)


@app.command("add")
def add(
    name: Name,
    operators: Annotated[
        bool,
        typer.Option(
            "--operators",
            help="Also failed runs, dead letters and accounts that need somebody; for "
            "administrators.",
        ),
    ] = False,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Add a target. Its address is asked for, or read from standard input: it holds secrets, and
    the words of a command are seen by others. https://github.com/caronc/apprise/wiki says how
    each service spells its own."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        url = (
            typer.prompt("Address (it is not shown)", hide_input=True)
            if sys.stdin.isatty()
            else sys.stdin.readline()
        )
        target_id = add_target(opened, whose, name, str(url), operators, datetime.now(UTC))
        _note(opened, whose, "added a notification target", target_id)
    if as_json:
        print_json({"target_id": target_id, "name": name})
        return
    out.print(f"{name} is added. Try it: communicator notify test {name}", markup=False)


@app.command("test")
def try_one(name: Name, user: AsUser = None) -> None:
    """Send a test message."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        target_id = Targets(opened.database, whose).called(name)
        trouble = try_target(opened, whose, target_id, datetime.now(UTC))
    if trouble:
        fail(f"{name} did not take the message: {trouble}")
    out.print(f"{name} took the message.", markup=False)


@app.command("remove")
def remove(name: Name, user: AsUser = None) -> None:
    """Forget a target."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        targets = Targets(opened.database, whose)
        target_id = targets.called(name)
        targets.remove(target_id)
        _note(opened, whose, "removed a notification target", target_id)
    out.print(f"{name} is removed.", markup=False)


@app.command("log")
def log(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 30,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """What you were told of, are to be, or were not, and why."""
    with errors_in_words():
        opened = stores()
        rows = Told(opened.database, acting_user(opened, user)).log(None, limit)
    if as_json:
        print_json(rows)
        return
    if not rows:
        out.print("You have not been told of anything yet.")
        return
    table = plain_table("noticed (UTC)", "what", "about", "state", "why")
    for row in rows:
        about = " ".join(part for part in (row["account"], row["conversation_id"]) if part)
        at = row["noticed_at"][:19].replace("T", " ")
        what, state = (row[name].replace("_", " ") for name in ("kind", "state"))
        table.add_row(*escaped([at, what, about or row["line"], state, row["why"]]))
    out.print(table)


def _note(opened: Stores, whose: str, action: str, target_id: str) -> None:
    audit.note(opened.database, whose, action, datetime.now(UTC), target=target_id, via="command")
