"""`communicator memories`: what was learnt from you.

Belongs here: listing, writing, changing and deleting memories, and learning now. Does not belong
here: what can be kept (`storage/memories.py`), how it is learnt (`drafting/learning.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from communicator_pipeline.cli.output import (
    AsJson,
    AsUser,
    acting_user,
    errors_in_words,
    escaped,
    fail,
    out,
    plain_table,
    print_json,
    stores,
)
from communicator_pipeline.drafting.learnt import EVERYONE, KINDS, Do
from communicator_pipeline.storage import audit
from communicator_pipeline.storage.database import Database
from communicator_pipeline.storage.memories import KeptMemory, Memories

app = typer.Typer(
    help="What was learnt from you: read it, change it, delete it.", no_args_is_help=True
)

OfAccount = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's key.")]
OfMemory = Annotated[
    str, typer.Argument(metavar="ID", help="As `communicator memories list` says.")
]
Scope = Annotated[
    str | None,
    typer.Option("--for", help="everyone, contact:PERSON-ID or category:NAME."),
]
WRITTEN: tuple[Do, ...] = tuple(do for do in KINDS if do != "shorten")


@app.command("list")
def list_memories(
    account: Annotated[str | None, typer.Option("--account", help="Only this account's.")] = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """What counts for your drafts, the widest first."""
    with errors_in_words():
        opened = stores()
        rows = Memories(opened.database, acting_user(opened, user)).list(account)
    if as_json:
        print_json([_as_json(row) for row in rows])
        return
    if not rows:
        out.print("Nothing was learnt yet: edit drafts before you approve them.")
        return
    table = plain_table("id", "account", "for", "what", "from")
    for row in rows:
        origin = f"{len(row.conversations)} conversations" if row.learnt else row.edited_by
        if row.learnt and row.edited_by:
            origin += f", changed by {row.edited_by}"
        table.add_row(
            *escaped([row.memory.memory_id, row.account, row.memory.scope, row.text, origin])
        )
    out.print(table)


@app.command("add")
def add(
    account: OfAccount,
    do: Annotated[str, typer.Argument(help=", ".join(WRITTEN))],
    words: Annotated[
        str, typer.Argument(help="With which words; {name} stands for the reader's first name.")
    ] = "",
    scope: Scope = None,
    language: Annotated[str, typer.Option(help="Only in this language, such as en.")] = "",
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Write a memory of your own."""
    if do not in WRITTEN:
        fail(f"{do!r} is nothing that a memory can do (it can: {', '.join(WRITTEN)})", 2)
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        found: Do = next(one for one in WRITTEN if one == do)
        kept = Memories(opened.database, whose).add(
            account, found, words, scope or EVERYONE, language, datetime.now(UTC)
        )
        _note(opened.database, whose, "wrote a memory", kept)
    _told(kept, as_json)


@app.command("edit")
def edit(
    account: OfAccount,
    memory: OfMemory,
    words: Annotated[str | None, typer.Argument(help="What it is to say.")] = None,
    scope: Scope = None,
    about: Annotated[
        list[str] | None, typer.Option(help="A word that a message must name; may be repeated.")
    ] = None,
    most: Annotated[int | None, typer.Option(help="Words that a reply may have.")] = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Change a memory. It stays so, whatever is learnt later."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        kept = Memories(opened.database, whose).edit(
            account, memory, datetime.now(UTC), words=words, scope=scope, about=about, most=most
        )
        _note(opened.database, whose, "changed a memory", kept)
    _told(kept, as_json)


@app.command("delete")
def delete(account: OfAccount, memory: OfMemory, user: AsUser = None) -> None:
    """Forget a memory. It is not learnt again from the same replies."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        kept = Memories(opened.database, whose).get(account, memory)
        Memories(opened.database, whose).delete(account, memory, datetime.now(UTC))
        _note(opened.database, whose, "deleted a memory", kept)
    out.print(f"Deleted: {kept.text}", markup=False, soft_wrap=True)


@app.command("learn")
def learn() -> None:
    """Learn from what is new now; while `make dev` runs, the worker does."""
    with errors_in_words():
        opened = stores()
        from communicator_pipeline import runs  # Dagster takes seconds to import
        from communicator_pipeline.definitions import defs

        with runs.open_instance() as instance:
            try:
                done = runs.learn_what_is_new(opened, instance, runs.learning_job(defs))
            except runs.RunFailed as failed:
                raise ValueError(str(failed)) from None
    for run in done:
        out.print(f"{run.account}: learnt in {run.seconds:.1f} s", markup=False)
    if not done:
        out.print("There is nothing new to learn from.")


def _told(kept: KeptMemory, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(kept))
        return
    out.print(f"{kept.memory.memory_id}: {kept.text}", markup=False, soft_wrap=True)


def _as_json(kept: KeptMemory) -> dict[str, Any]:
    memory = kept.memory
    return {
        "memory_id": memory.memory_id,
        "account": kept.account,
        "for": memory.scope,
        "kind": memory.kind,
        "language": memory.language,
        "text": kept.text,
        "do": memory.rule.do,
        "words": memory.rule.words,
        "about": memory.rule.about,
        "most": memory.rule.most,
        "learnt": kept.learnt,
        "edited_by": kept.edited_by or None,
        "conversations": kept.conversations,
    }


def _note(database: Database, user_id: str, action: str, kept: KeptMemory) -> None:
    audit.note(
        database,
        user_id,
        action,
        datetime.now(UTC),
        account=kept.account,
        target=kept.memory.memory_id,
        via="command",
    )
