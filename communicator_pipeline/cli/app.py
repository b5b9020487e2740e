"""The command's own options, and its subcommands put together."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from communicator_pipeline.cli import (
    accounts,
    backups,
    comparing,
    contacts,
    correcting,
    dagster_moving,
    dead_letters,
    delivering,
    demo,
    exporting,
    imports,
    label_models,
    memories,
    model,
    notifying,
    people,
    prompts,
    reading,
    running,
    sandbox,
    scaffolding,
    serving,
    settings,
    trying,
)

app = typer.Typer(
    name="communicator",
    help="Your messages from everywhere, as one prioritised inbox.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals hold messages, and could hold secrets
    rich_markup_mode="rich",
    add_completion=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(version("communicator-pipeline"))
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and end.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Your messages from everywhere, as one prioritised inbox."""


app.command("import")(imports.import_file)
app.command("inbox")(reading.inbox)
app.command("show")(reading.show)
app.command("search")(reading.search)
app.command("drafts")(delivering.drafts)
app.command("approve")(delivering.approve)
app.command("edit")(delivering.edit)
app.command("reject")(delivering.reject)
app.command("redraft")(delivering.redraft)
app.command("undo")(delivering.undo)
app.command("outbox")(delivering.outbox)
app.command("resolve")(delivering.resolve)
app.command("why")(delivering.why)
app.command("done")(people.done)
app.command("snooze")(people.snooze)
app.command("reopen")(people.reopen)
app.command("assign")(people.assign)
app.command("merge")(correcting.merge)
app.command("split")(correcting.split)
app.command("relabel")(correcting.relabel)
app.command("audit")(people.audit)
app.add_typer(delivering.sending, name="sending")
app.add_typer(accounts.app, name="accounts")
app.add_typer(people.users, name="users")
app.add_typer(people.members, name="members")
app.add_typer(people.keys, name="keys")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(settings.app, name="settings")
app.add_typer(memories.app, name="memories")
app.add_typer(label_models.app, name="sorting")
app.add_typer(contacts.app, name="contacts")
app.add_typer(model.app, name="model")
app.add_typer(prompts.app, name="prompts")
app.command("compare")(comparing.compare)
app.add_typer(notifying.app, name="notify")
app.add_typer(sandbox.app, name="sandbox")
app.command("materialize")(running.materialize)
app.command("digest")(running.digest)
app.command("status")(running.status)
app.command("backfill")(serving.backfill)
app.command("export")(exporting.export_data)
app.command("backup")(backups.backup)
app.command("restore")(backups.restore)
app.command("worker")(serving.worker)
app.command("backlog")(serving.backlog)
app.command("serve")(serving.serve)
app.command("group")(trying.group_file)
app.command("analyze")(trying.analyze_file)
app.command("migrate")(running.migrate)
app.command("move-dagster")(dagster_moving.move_dagster)
app.command("doctor")(running.doctor)
app.command("new-platform")(scaffolding.new_platform)
app.command("demo")(demo.demo)
