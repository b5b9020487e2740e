"""`communicator prompts`: which prompt versions there are, and which one is used.

Belongs here: listing, showing, checking and promoting them. Does not belong here: trying one
without using it (`comparing.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from communicator_pipeline.chain import analyses, drafted_replies
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
from communicator_pipeline.prompts import (
    SHIPPED,
    NoSuchPrompt,
    current,
    go_back,
    history,
    load,
    versions,
)
from communicator_pipeline.prompts import promote as promote_version
from communicator_pipeline.prompts.checking import problems, schema_file
from communicator_pipeline.storage import Stores, audit
from communicator_pipeline.storage.accounts import account_keys, get_user, users

app = typer.Typer(
    help="What the language model is told: versions, and which one is used.", no_args_is_help=True
)

Purpose = Annotated[str, typer.Argument(metavar="PURPOSE", help=", ".join(SHIPPED))]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="As `prompts list` says.")]


@contextmanager
def _errors() -> Iterator[None]:
    with errors_in_words():
        try:
            yield
        except NoSuchPrompt as error:
            fail(str(error), 2)


@app.command("list")
def list_versions(as_json: AsJson = False) -> None:
    """Every version, which one is used, and which one was before."""
    with _errors():
        opened = stores()
        rows: list[dict[str, Any]] = []
        for purpose, shipped in SHIPPED.items():
            used = history(opened.database, purpose)
            rows += [
                {
                    "purpose": purpose,
                    "version": version,
                    "used": version == used[-1],
                    "used_before": version in used[-2:-1],
                    "default": version == shipped,
                }
                for version in versions(purpose)
            ]
    if as_json:
        print_json(rows)
        return
    table = plain_table("version", "", "")
    for row in rows:
        state = "in use" if row["used"] else "the one before" if row["used_before"] else ""
        table.add_row(
            *escaped([f"{row['purpose']}/{row['version']}", state]),
            "default" if row["default"] else "",
        )
    out.print(table)


@app.command("show")
def show(
    purpose: Purpose,
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="Default: the one in use.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A version's instructions, its examples, and the shape of the answer."""
    import orjson

    with _errors():
        opened = stores()
        _must_be(purpose)
        found = load(purpose, version) if version else current(opened.database, purpose)
    examples = [
        {"data": orjson.loads(data), "answer": orjson.loads(answer)}
        for data, answer in found.examples
    ]
    if as_json:
        told = {"purpose": purpose, "version": found.version, "instructions": found.instructions}
        print_json(told | {"examples": examples, "schema": orjson.loads(schema_file(purpose))})
        return
    typer.echo(found.instructions.rstrip())
    for number, example in enumerate(examples, 1):
        text = orjson.dumps(example, option=orjson.OPT_INDENT_2).decode()
        typer.echo(f"\nExample {number}\n{text}")


@app.command("check")
def check(purpose: Purpose, version: Version, as_json: AsJson = False) -> None:
    """Whether a version can be used: it renders, and its examples are valid answers."""
    with _errors():
        _must_be(purpose)
        found = problems(load(purpose, version))
    if as_json:
        print_json({"version": f"{purpose}/{version}", "problems": found})
    elif found:
        for problem in found:
            out.print(f"{purpose}/{version}: {problem}", markup=False, soft_wrap=True)
    else:
        out.print(f"{purpose}/{version} can be used.", markup=False)
    if found:
        raise typer.Exit(1)


@app.command("promote")
def promote(
    purpose: Purpose,
    version: Version,
    user: Annotated[str | None, typer.Option("--user", help="Who promotes it.")] = None,
) -> None:
    """Use a version from now on. What is here already stays as it was understood."""
    with _errors():
        opened = stores()
        _must_be(purpose)
        wrong = problems(load(purpose, version))
        if wrong:
            fail(f"{purpose}/{version} cannot be used: {'; '.join(wrong)}", 2)
        who = _administrator(opened, user)
        before = history(opened.database, purpose)[-1]
        if not promote_version(opened.database, purpose, version):
            out.print(f"{purpose}/{version} is in use already.", markup=False)
            return
        _note(opened, who, "promoted a prompt", f"{purpose}/{version}", before)
    _told(opened, purpose, version)
    out.print(f"To go back to {before}: communicator prompts back {purpose}", markup=False)


@app.command("back")
def back(purpose: Purpose, user: AsUser = None) -> None:
    """Use the version from before the current one again."""
    with _errors():
        opened = stores()
        _must_be(purpose)
        who = _administrator(opened, user)
        before = history(opened.database, purpose)[-1]
        version = go_back(opened.database, purpose)
        _note(opened, who, "went back to a prompt", f"{purpose}/{version}", before)
    _told(opened, purpose, version)


def _must_be(purpose: str) -> None:
    if purpose not in SHIPPED:
        raise NoSuchPrompt(
            f"there are no prompts for {purpose!r} (there are: {', '.join(SHIPPED)})"
        )


def _administrator(opened: Stores, asked: str | None) -> str:
    """Who changes it: prompts are the installation's, so an administrator; "" while there is
    nobody yet."""
    if asked is None and not users(opened.database):
        return ""
    who = acting_user(opened, asked)
    if not get_user(opened.database, who).is_admin:
        fail(
            f"{who} is no administrator, and a prompt is used for everybody: "
            "`communicator users list` says who is (--user)",
            2,
        )
    return who


def _note(opened: Stores, who: str, action: str, target: str, before: str) -> None:
    audit.note(
        opened.database,
        who,
        action,
        datetime.now(UTC),
        target=target,
        detail=f"before: {before}",
        via="command",
    )


def _told(opened: Stores, purpose: str, version: str) -> None:
    """What is used now, and what it would take to have everything understood with it."""
    asset = drafted_replies.ASSET if purpose == "draft" else analyses.ASSET
    days = sorted(
        day
        for account in account_keys(opened.database)
        for _, day in opened.lake.day_files(asset, account)
    )
    out.print(f"{purpose}/{version} is used from now on.", markup=False)
    if days:
        verb = "drafted" if purpose == "draft" else "understood"
        out.print(
            f"What is here stays as it is, until its day is touched. {len(days)} days would be "
            f"{verb} anew by: communicator materialize --from {days[0]} --to {days[-1]} "
            "(a later --from is cheaper; each user for their own accounts)",
            markup=False,
            soft_wrap=True,
        )
