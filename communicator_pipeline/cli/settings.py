"""`communicator settings`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

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
from communicator_pipeline.user_settings import (
    INSTALLATION,
    KINDS,
    UNDERSTOOD_WITH,
    NotAValue,
    change,
    change_installation,
    installation_values,
    unset,
    unset_installation,
    values,
)

app = typer.Typer(
    help="What you can change: categories, people, signature, notifications.", no_args_is_help=True
)

OfInstallation = Annotated[
    bool,
    typer.Option("--installation", help=f"What holds for everybody: {', '.join(INSTALLATION)}."),
]


@app.command("show")
def show(
    key: Annotated[str | None, typer.Argument(help="One setting only.")] = None,
    user: AsUser = None,
    installation: OfInstallation = False,
) -> None:
    """Your settings as JSON, defaults included."""
    with errors_in_words():
        opened = stores()
        found = (
            installation_values(opened)
            if installation
            else values(opened, acting_user(opened, user))
        )
    if key is not None and key not in found:
        fail(f"there is no setting {key!r} (there are: {', '.join(found)})", 2)
    print_json(found if key is None else found[key])


@app.command("set")
def set_value(
    key: Annotated[str, typer.Argument(help=", ".join(KINDS))],
    value: Annotated[str, typer.Argument(help="JSON, or the name of a file that holds it.")],
    user: AsUser = None,
    installation: OfInstallation = False,
) -> None:
    """Change a setting. Your conversations are understood anew with it."""
    kinds = _kinds(key, installation)
    with errors_in_words():
        text = Path(value).read_bytes() if Path(value).is_file() else value.encode()
        try:
            given = orjson.loads(text)
        except ValueError as error:
            fail(f"{key} should be JSON: {kinds[key][1]}. {error}", 2)
        opened = stores()
        try:
            if installation:
                change_installation(opened, key, given)
                out.print(f"{key} is set.")
                return
            whose = acting_user(opened, user)
            days = change(opened, whose, key, given)
        except NotAValue as error:
            fail(str(error), 2)
    _say(f"{key} is set.", key, days, for_user(opened, whose))


@app.command("unset")
def unset_value(
    key: Annotated[str, typer.Argument(help=", ".join(KINDS))],
    user: AsUser = None,
    installation: OfInstallation = False,
) -> None:
    """Go back to a setting's default."""
    _kinds(key, installation)
    with errors_in_words():
        opened = stores()
        if installation:
            unset_installation(opened, key)
            out.print(f"{key} is as it was at first.")
            return
        whose = acting_user(opened, user)
        days = unset(opened, whose, key)
    _say(f"{key} is as it was at first.", key, days, for_user(opened, whose))


@app.command("reset")
def reset(key: Annotated[str, typer.Argument(help="taxonomy")], user: AsUser = None) -> None:
    """Go back to the categories that Communicator comes with."""
    if key != "taxonomy":
        fail(f"only the taxonomy is reset: communicator settings unset {key}", 2)
    set_value(key, DEFAULT_TAXONOMY.model_dump_json(), user)


def _kinds(key: str, installation: bool) -> Mapping[str, tuple[Any, str]]:
    kinds = INSTALLATION if installation else KINDS
    if key not in kinds:
        fail(f"there is no setting {key!r} (there are: {', '.join(kinds)})", 2)
    return kinds


def _say(done: str, key: str, days: int, suffix: str) -> None:
    if key not in UNDERSTOOD_WITH:
        out.print(done)
        return
    out.print(
        f"{done} {days} days are to be understood anew: communicator materialize{suffix}",
        soft_wrap=True,
    )
