"""`communicator settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from pydantic import TypeAdapter

from communicator_pipeline.analysis import DEFAULT_TAXONOMY, Taxonomy
from communicator_pipeline.chain.analyses import taxonomy_of
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
from communicator_pipeline.delivery.approving import timing_of
from communicator_pipeline.delivery.hours import read_hours
from communicator_pipeline.ingestion.owner import touch_everything
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.settings import Settings

app = typer.Typer(help="What you can change: categories, people, signature.", no_args_is_help=True)

_KINDS: dict[str, tuple[TypeAdapter[Any], str]] = {
    "taxonomy": (TypeAdapter(Taxonomy), "the categories, as `settings show taxonomy` prints them"),
    "priority_people": (TypeAdapter(list[str]), "a list of person ids whose messages count more"),
    "signature": (TypeAdapter(str), "what drafts end with"),
    "undo_seconds": (TypeAdapter(float), "how long an approval can be taken back"),
    "approval_hours": (TypeAdapter(float), "how long an approval holds"),
    "sending_hours": (
        TypeAdapter(dict[str, Any]),
        'when replies go out, {"zone": "Europe/Berlin", "from": "08:00", "to": "18:00", '
        '"days": ["mon", "tue"]}',
    ),
}


_UNDERSTOOD_WITH = ("taxonomy", "priority_people", "signature")


@app.command("show")
def show(
    key: Annotated[str | None, typer.Argument(help="One setting only.")] = None,
    user: AsUser = None,
) -> None:
    """Your settings as JSON, defaults included."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        settings, timing = Settings(opened.database, whose), timing_of(opened.database, whose)
        values = {
            "taxonomy": taxonomy_of(settings).model_dump(),
            "priority_people": sorted(settings.priority_people()),
            "signature": settings.signature() or "",
            "undo_seconds": timing.undo_window.total_seconds(),
            "approval_hours": timing.expires_after.total_seconds() / 3600,
            "sending_hours": settings.get("sending_hours"),
        }
    if key is not None and key not in values:
        fail(f"there is no setting {key!r} (there are: {', '.join(values)})", 2)
    print_json(values if key is None else values[key])


@app.command("set")
def set_value(
    key: Annotated[str, typer.Argument(help=", ".join(_KINDS))],
    value: Annotated[str, typer.Argument(help="JSON, or the name of a file that holds it.")],
    user: AsUser = None,
) -> None:
    """Change a setting. Your conversations are understood anew with it."""
    if key not in _KINDS:
        fail(f"there is no setting {key!r} (there are: {', '.join(_KINDS)})", 2)
    kind, words = _KINDS[key]
    with errors_in_words():
        text = Path(value).read_bytes() if Path(value).is_file() else value.encode()
        try:
            checked = kind.validate_python(orjson.loads(text))
        except ValueError as error:
            fail(f"{key} should be JSON: {words}. {error}", 2)
        if key == "sending_hours":
            read_hours(checked)
        opened = stores()
        whose = acting_user(opened, user)
        days = sum(
            touch_everything(opened, account.account, f"the setting {key} was changed")
            for account in Accounts(opened.database, whose).all()
            if key in _UNDERSTOOD_WITH
        )
        Settings(opened.database, whose).set(key, kind.dump_python(checked))
    if key not in _UNDERSTOOD_WITH:
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
