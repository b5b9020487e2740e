"""`communicator dead-letters`."""

from __future__ import annotations

from typing import Annotated

import typer

from communicator_pipeline.cli.output import (
    AsJson,
    AsUser,
    acting_user,
    errors_in_words,
    out,
    print_json,
    stores,
)
from communicator_pipeline.ingestion.push import retry_push
from communicator_pipeline.storage.dead_letters import DeadLetters

app = typer.Typer(help="What could not be read, and why.", no_args_is_help=True)


@app.command("list")
def list_letters(
    account: Annotated[str | None, typer.Option(help="Only this account.")] = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Everything that could not be read, newest first."""
    with errors_in_words():
        opened = stores()
        rows = DeadLetters(opened.database, acting_user(opened, user)).list(account)
    if as_json:
        print_json(rows)
        return
    if not rows:
        out.print("No dead letters.")
    for row in rows:
        out.print(f"[bold]{row['dead_letter_id']}[/bold] {row['account']}, {row['stage']}")
        out.print(f"    {row['source']}", markup=False, soft_wrap=True)
        out.print(f"    {row['reason']}", markup=False, soft_wrap=True, style="yellow")


@app.command("show")
def show_letter(
    dead_letter: Annotated[str, typer.Argument(help="Its id, from the list.")],
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """One dead letter with what arrived."""
    with errors_in_words():
        opened = stores()
        row = DeadLetters(opened.database, acting_user(opened, user)).get(dead_letter)
    if as_json:
        print_json(row)
        return
    for name, value in row.items():
        if value is not None:
            out.print(f"{name:<15} {value}", markup=False, soft_wrap=True)


@app.command("retry")
def retry_letter(
    dead_letter: Annotated[str, typer.Argument(help="Its id, from the list.")],
    user: AsUser = None,
) -> None:
    """Try again: have its day materialised again, or say how an import is repeated."""
    with errors_in_words():
        opened = stores()
        letters = DeadLetters(opened.database, acting_user(opened, user))
        row = letters.get(dead_letter)
        day = letters.retry_day(dead_letter)
        if day is not None:
            out.print(f"{row['account']} {day} will be done again: communicator materialize")
            return
        letters.resolve(dead_letter)
        if row["stage"] == "push" and retry_push(opened, row["account"], row["source"]):
            out.print(
                f"The push is tried again by `communicator worker` (account {row['account']})"
            )
            return
    if row["stage"] in ("pull", "push"):
        out.print(
            "Closed. The platform is asked for it again with the account's history: communicator "
            f"backfill {row['account']} --from DAY --to DAY --again",
            markup=False,
            soft_wrap=True,
        )
        return
    out.print(
        f"Closed. What an import could not read is in the export only: mend {row['source']} and "
        f"import it again into {row['account']}; what is still broken comes back here.",
        markup=False,
        soft_wrap=True,
    )
