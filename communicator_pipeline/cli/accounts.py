"""`communicator accounts`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from communicator_pipeline.cli import connecting
from communicator_pipeline.cli.imports import find_person
from communicator_pipeline.cli.output import (
    AsJson,
    AsUser,
    acting_user,
    ago,
    errors_in_words,
    escaped,
    out,
    plain_table,
    print_json,
    print_troubles,
    stores,
)
from communicator_pipeline.ingestion.owner import set_owner
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.connections import Connections

app = typer.Typer(help="Your accounts on the platforms.", no_args_is_help=True)
app.command("add")(connecting.add)
app.command("login")(connecting.login)
app.command("test")(connecting.try_login)
app.command("chats")(connecting.chats)
app.command("set")(connecting.set_setting)
app.command("pause")(connecting.pause)
app.command("resume")(connecting.resume)
app.command("remove")(connecting.remove)
app.command("rotate-keys")(connecting.rotate_keys)


@app.command("list")
def list_accounts(user: AsUser = None, as_json: AsJson = False) -> None:
    """Every account of yours, who you are there, and how its connection is."""
    with errors_in_words():
        opened = stores()
        accounts = Accounts(opened.database, acting_user(opened, user))
        healths = {h.account: h for h in Connections(opened).healths()}
        rows: list[dict[str, Any]] = []
        for account in accounts.all():
            names = {person.person_id: person.name for person in accounts.people(account.account)}
            rows.append(
                {
                    "account": account.account,
                    "platform": account.platform,
                    "me": [{"id": p, "name": names.get(p, "")} for p in sorted(account.me)],
                    "people": len(names),
                    "connection": None
                    if account.account not in healths
                    else asdict(healths[account.account]),
                }
            )
    if as_json:
        print_json(rows)
        return
    table = plain_table("account", "platform", "you", "people", "connection")
    for row in rows:
        you = ", ".join(me["name"] or me["id"] for me in row["me"]) or "(not said)"
        cells = [row["account"], row["platform"], you, row["people"]]
        table.add_row(*escaped([*cells, connection_in_words(row["connection"])]))
    out.print(table)
    print_troubles([h for key, h in healths.items() if key in {row["account"] for row in rows}])


def connection_in_words(health: dict[str, Any] | None) -> str:
    """How a connection is, in a few words."""
    if health is None:
        return "imported"
    if health["state"] == "paused":
        return "paused"
    if health["trouble_kind"]:
        return str(health["trouble_kind"])
    if health["waits_until"]:
        return f"waits until {health['waits_until'][11:16]} UTC"
    return f"pulled {ago(health['pulled_at'])} ago" if health["pulled_at"] else "new"


@app.command("me")
def set_me(
    account: Annotated[str, typer.Argument(help="The account's key.")],
    names: Annotated[list[str], typer.Argument(help="Who you are there: name, handle or id.")],
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Say, or correct, who you are in an account. Everything in it is understood anew."""
    with errors_in_words():
        opened = stores()
        accounts = Accounts(opened.database, acting_user(opened, user))
        found = accounts.get(account)
        people = accounts.people(account)
        ids = [find_person(people, name).person_id for name in names]
        changed, days = set_owner(opened, accounts, found, ids)
    if as_json:
        print_json({"account": account, "me": sorted(changed.me), "days_to_materialize": days})
        return
    out.print(f"You are {', '.join(names)} in {account}.", markup=False)
    if days:
        out.print(f"{days} days are to be understood anew: communicator materialize")
