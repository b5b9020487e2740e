"""`communicator import`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from communicator_pipeline.cli.output import (
    DEAD_LETTERED,
    AsJson,
    AsUser,
    err,
    errors_in_words,
    fail,
    for_user,
    interactive,
    out,
    owning_user,
    print_json,
    stores,
)
from communicator_pipeline.ingestion.connecting import account_key
from communicator_pipeline.ingestion.exports import (
    ImportCounts,
    ImportProgress,
    OpenedExport,
    import_export,
    open_export,
)
from communicator_pipeline.ingestion.owner import set_owner
from communicator_pipeline.platforms import platforms
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Account, Accounts, Person


def import_file(
    file: Annotated[Path, typer.Argument(help="The export: a ZIP, a folder or a file.")],
    account: Annotated[
        str | None, typer.Option(help="The account's key, such as ana-slack-acme.")
    ] = None,
    me: Annotated[
        list[str] | None,
        typer.Option(help="Who you are there: name, handle or id. May be given again."),
    ] = None,
    platform: Annotated[
        str | None, typer.Option(help="Read it as this platform's, instead of guessing.")
    ] = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Import an export file of Slack, Telegram or X, a JSONL file or a text log.

    Importing it again, or a newer one that overlaps, changes nothing that is there already.
    """
    with errors_in_words():
        chosen = None
        if platform is not None:
            if platform not in platforms():
                fail(f"there is no platform {platform!r} (there are: {', '.join(platforms())})", 2)
            chosen = platforms()[platform]
        export = open_export(file, chosen)
        opened = stores()
        whose = owning_user(opened, user)
        accounts = Accounts(opened.database, whose)
        key = account or account_key(whose, export.platform.name, export.export.account_hint)
        found = accounts.add(key, export.platform.name, export.export.title)
        if found.me and export.export.me and found.me.isdisjoint(export.export.me):
            fail(
                f"this is the export of {', '.join(export.export.me)}, and {key} belongs to "
                f"{', '.join(sorted(found.me))}: give it a key of its own with --account"
            )
        counts, seconds = _import(opened, export, key, quiet=as_json)
        settle_owner(opened, accounts, found, export, me or [])
        if as_json:
            print_json({"account": key, "seconds": round(seconds, 3), **asdict(counts)})
        else:
            out.print(said(key, counts, seconds), soft_wrap=True)
            if counts.kept or counts.updated:
                then = f"communicator materialize --account {key}{for_user(opened, whose)}"
                out.print(f"Now: {then}", soft_wrap=True)
            _say_dead_letters(counts, for_user(opened, whose))
    if counts.dead_lettered or counts.broken_files:
        raise typer.Exit(DEAD_LETTERED)


def said(account: str, counts: ImportCounts, seconds: float) -> str:
    """An import in a line."""
    told = [f"{counts.read:,} read", f"{counts.kept:,} kept"]
    for number, what in (
        (counts.updated, "updated"),
        (counts.skipped, "skipped"),
        (counts.dead_lettered, "dead-lettered"),
        (counts.broken_files, "files broken"),
    ):
        if number:
            told.append(f"{number:,} {what}")
    rate = f" ({counts.read / seconds:,.0f} messages/s)" if seconds > 0.5 else ""
    return f"{account}: {', '.join(told)} in {seconds:.1f} s{rate}"


def settle_owner(
    opened: Stores, accounts: Accounts, account: Account, export: OpenedExport, asked: list[str]
) -> None:
    """Who "me" is: as asked, as the export says, or as the person at the terminal says."""
    if asked:
        ids = [find_person(accounts.people(account.account), name).person_id for name in asked]
        set_owner(opened, accounts, account, ids)
        return
    if account.me:
        return
    if export.export.me:
        set_owner(opened, accounts, account, export.export.me)
        return
    people = [person for person in accounts.people(account.account) if not person.is_bot]
    if people and interactive():
        out.print(f"Who are you in {account.account}? Type a part of your name:")
        while True:
            try:
                person = find_person(people, typer.prompt("name"))
            except ValueError as wrong:
                out.print(str(wrong), markup=False)
                continue
            set_owner(opened, accounts, account, [person.person_id])
            return
    err.print(
        f"Nobody is you in {account.account} yet, so nothing can need your reply. Say who: "
        f"communicator accounts me {account.account} NAME",
        markup=False,
        soft_wrap=True,
    )


def find_person(people: list[Person], name: str) -> Person:
    """The person whom a name, handle or id means; raises ValueError if none or several."""
    wanted = name.strip().lstrip("@").casefold()
    if not wanted:
        raise ValueError("the name is empty: give a name, a handle or an id")
    by_id = [person for person in people if wanted == person.person_id.casefold()]
    called = [p for p in people if wanted in (p.name.casefold(), p.handle.casefold())]
    for exact in (by_id, called):
        if len(exact) == 1:
            return exact[0]
    partly = [p for p in people if wanted and wanted in f"{p.name} {p.handle}".casefold()]
    if len(partly) == 1:
        return partly[0]
    if not partly:
        some = ", ".join(person.name for person in people[:8])
        raise ValueError(f"nobody is called {name!r} (there are: {some or 'no people yet'} …)")
    listed = ", ".join(f"{person.name} ({person.person_id})" for person in partly[:8])
    raise ValueError(f"{name!r} could be several people: {listed}")


def _import(
    opened: Stores, export: OpenedExport, account: str, quiet: bool
) -> tuple[ImportCounts, float]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[counts]}"),
    )
    with Progress(*columns, console=err, transient=True, disable=quiet) as progress:
        task = progress.add_task(export.export.title[:30], total=None, counts="")

        def watch(now: ImportProgress) -> None:
            rate = now.counts.read / max(progress.tasks[0].elapsed or 0, 0.001)
            progress.update(
                task,
                total=now.parts,
                completed=now.parts_done,
                counts=f"{now.counts.read:,} messages, {rate:,.0f}/s",
            )

        counts = import_export(export, account, opened.database, opened.lake, watch)
        seconds = progress.tasks[0].elapsed or 0.0
    return counts, seconds


def _say_dead_letters(counts: ImportCounts, suffix: str) -> None:
    broken = counts.dead_lettered + counts.broken_files
    if broken:
        err.print(
            f"{broken} could not be read: communicator dead-letters list{suffix} says why",
            soft_wrap=True,
        )
