"""`communicator sorting`: what relabels taught, and forgetting it.

Belongs here: showing it and having it forgotten. Does not belong here: learning
(`analysis/train_label_model.py`; `communicator memories learn` does it now).
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from communicator_pipeline.chain.learnt_labels import stored
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
from communicator_pipeline.storage import audit
from communicator_pipeline.storage.label_models import LabelModels

app = typer.Typer(
    help="What your relabels taught the offline analyser: see it, forget it.",
    no_args_is_help=True,
)


@app.command("list")
def list_models(user: AsUser = None, as_json: AsJson = False) -> None:
    """What was learnt, and how it does on conversations that it had not seen."""
    with errors_in_words():
        opened = stores()
        accounts = LabelModels(opened.database, acting_user(opened, user)).accounts()
        found = [(account, stored(opened, account)[0]) for account in accounts]
    if as_json:
        print_json(
            [
                {
                    "account": account,
                    "category": asdict(kept.category),
                    "priority": asdict(kept.priority),
                }
                for account, kept in found
            ]
        )
        return
    if not found:
        out.print("Nothing was relabelled yet: `communicator relabel` sets category and priority.")
        return
    table = plain_table("account", "of", "corrections", "before", "after", "")
    for account, kept in found:
        for what, scores in (("category", kept.category), ("priority", kept.priority)):
            before, after = (_in_words(what, one) for one in (scores.before, scores.after))
            table.add_row(
                *escaped([account, what, str(scores.corrections), before, after, scores.verdict])
            )
    out.print(table)


@app.command("forget")
def forget(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's key.")],
    user: AsUser = None,
) -> None:
    """What you set up to now teaches nothing any more. It stays set."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        now = datetime.now(UTC)
        LabelModels(opened.database, whose).forget(account, now)
        audit.note(
            opened.database, whose, "forgot what relabels taught", now,
            account=account, via="command",
        )  # fmt: skip
    out.print(
        "It is forgotten once it was learnt anew: with a worker in half a minute, else with "
        "`communicator memories learn`. What you set stays set.",
        soft_wrap=True,
    )


def _in_words(what: str, score: float | None) -> str:
    if score is None:
        return "–"
    return f"{score:.0%} right" if what == "category" else f"{score:.0f} points off"
