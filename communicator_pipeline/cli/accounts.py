"""`communicator accounts`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from communicator_pipeline.cli.imports import find_person
from communicator_pipeline.cli.output import (
    AsJson,
    AsUser,
    acting_user,
    errors_in_words,
    escaped,
    out,
    plain_table,
    print_json,
    stores,
)
from communicator_pipeline.ingestion.owner import set_owner
from communicator_pipeline.storage.accounts import Accounts

app = typer.Typer(help="Your accounts on the platforms.", no_args_is_help=True)


@app.command("list")
def list_accounts(user: AsUser = None, as_json: AsJson = False) -> None:
    """Every account of yours, and who you are there."""
    with errors_in_words():
        opened = stores()
        accounts = Accounts(opened.database, acting_user(opened, user))
        rows: list[dict[str, Any]] = []
        for account in accounts.all():
            names = {person.person_id: person.name for person in accounts.people(account.account)}
            rows.append(
                {
                    "account": account.account,
                    "platform": account.platform,
                    "me": [{"id": p, "name": names.get(p, "")} for p in sorted(account.me)],
                    "people": len(names),
                }
            )
    if as_json:
        print_json(rows)
        return
    table = plain_table("account", "platform", "you", "people")
    for row in rows:
        you = ", ".join(me["name"] or me["id"] for me in row["me"]) or "(not said)"
        table.add_row(*escaped([row["account"], row["platform"], you, row["people"]]))
    out.print(table)


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
