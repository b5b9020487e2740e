"""`communicator settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

from communicator_pipeline.analysis import DEFAULT_TAXONOMY
from communicator_pipeline.cli.output import (
    AsUser,
    acting_user,
    errors_in_words,
    fail,
    for_user,
    out,
    print_json,
    stores,
)
from communicator_pipeline.user_settings import KINDS, UNDERSTOOD_WITH, NotAValue, change, values

app = typer.Typer(help="What you can change: categories, people, signature.", no_args_is_help=True)


@app.command("show")
def show(
    key: Annotated[str | None, typer.Argument(help="One setting only.")] = None,
    user: AsUser = None,
) -> None:
    """Your settings as JSON, defaults included."""
    with errors_in_words():
        opened = stores()
        found = values(opened, acting_user(opened, user))
    if key is not None and key not in found:
        fail(f"there is no setting {key!r} (there are: {', '.join(found)})", 2)
    print_json(found if key is None else found[key])


@app.command("set")
def set_value(
    key: Annotated[str, typer.Argument(help=", ".join(KINDS))],
    value: Annotated[str, typer.Argument(help="JSON, or the name of a file that holds it.")],
    user: AsUser = None,
) -> None:
    """Change a setting. Your conversations are understood anew with it."""
    if key not in KINDS:
        fail(f"there is no setting {key!r} (there are: {', '.join(KINDS)})", 2)
    with errors_in_words():
        text = Path(value).read_bytes() if Path(value).is_file() else value.encode()
        try:
            given = orjson.loads(text)
        except ValueError as error:
            fail(f"{key} should be JSON: {KINDS[key][1]}. {error}", 2)
        opened = stores()
        whose = acting_user(opened, user)
        try:
            days = change(opened, whose, key, given)
        except NotAValue as error:
            fail(str(error), 2)
    if key not in UNDERSTOOD_WITH:
        out.print(f"{key} is set.")
        return
    out.print(
        f"{key} is set. {days} days are to be understood anew: "
        f"communicator materialize{for_user(opened, whose)}",
        soft_wrap=True,
    )


@app.command("reset")
def reset(key: Annotated[str, typer.Argument(help="taxonomy")], user: AsUser = None) -> None:
    """Go back to the categories that Communicator comes with."""
    if key != "taxonomy":
        fail("only the taxonomy has a default to go back to", 2)
    set_value(key, DEFAULT_TAXONOMY.model_dump_json(), user)
