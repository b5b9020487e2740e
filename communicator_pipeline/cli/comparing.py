"""`communicator compare`: another prompt, model or memory set beside the live one.

Belongs here: what is asked for, and the figures in the terminal. Does not belong here: making the
comparison (`shadow_runs.py`), the figures (`comparing/`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from communicator_pipeline.chain import shadows
from communicator_pipeline.chain.comparison import comparison_of
from communicator_pipeline.cli.output import (
    AsJson,
    AsUser,
    acting_user,
    err,
    errors_in_words,
    escaped,
    fail,
    out,
    plain_table,
    print_json,
    stores,
)
from communicator_pipeline.comparing.report import flips, rows, verdict
from communicator_pipeline.prompts import NoSuchPrompt
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts


def compare(
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", help="A version such as draft/2; may be given again."),
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", help="A JSON file, or another model's name at the same server."),
    ] = "",
    memories: Annotated[
        bool, typer.Option("--memories/--no-memories", help="Draft by what was learnt, or not.")
    ] = True,
    days: Annotated[int, typer.Option("--days", min=1, max=3_660, help="The last days.")] = 30,
    account: Annotated[
        list[str] | None, typer.Option(help="This account; may be given again. Default: all.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Default: from what differs.")] = "",
    list_them: Annotated[bool, typer.Option("--list", help="Which comparisons there are.")] = False,
    show: Annotated[
        str, typer.Option("--show", metavar="NAME", help="The figures of one that was made.")
    ] = "",
    forget: Annotated[
        str, typer.Option("--forget", metavar="NAME", help="Delete all that one has made.")
    ] = "",
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Try another prompt, model or memory set on the last days, and see what would differ.

    Nothing of what is live changes: it analyses and drafts into partitions of its own, and holds
    both ways against what you sent. It asks the model, within the same budget and limits.
    """
    if sum(map(bool, (list_them, show, forget))) > 1:
        fail("--list, --show and --forget go one at a time", 2)
    with errors_in_words():
        opened = stores()
        mine = Accounts(opened.database, acting_user(opened, user))
        keys = [mine.get(key).account for key in account or []] or [a.account for a in mine.all()]
        try:
            if list_them:
                _list(opened, keys, as_json)
            elif forget:
                _forget(opened, keys, forget, as_json)
            else:
                if not show:
                    shadow = shadows.shadow_of(opened, prompt or (), model, memories, name)
                    _run(opened, mine.user_id, keys, shadow, days, as_json)
                    show = shadow.name
                _show(opened, keys, show, as_json)
        except (NoSuchPrompt, shadows.NoSuchComparison) as error:
            fail(str(error), 2)


def _run(
    opened: Stores,
    user_id: str,
    keys: list[str],
    shadow: shadows.Shadow,
    days: int,
    as_json: bool,
) -> None:
    from communicator_pipeline import runs, shadow_runs  # Dagster takes seconds to import
    from communicator_pipeline.definitions import defs

    shadow.variant(opened)  # what is wrong with it is said before anything is kept
    for key in keys:
        shadows.begin(opened, key, shadow, user_id)
    range_of_days = shadow_runs.days_back(datetime.now(UTC).date(), days)
    try:
        with runs.open_instance() as instance:
            shadow_runs.run_comparison(
                opened,
                instance,
                shadow_runs.compare_job(defs),
                keys,
                shadow,
                range_of_days,
                _nothing if as_json else _say,
            )
    except runs.RunFailed as failed:
        fail(f"{failed}. What was done is kept: the same command goes on from there")


def _show(opened: Stores, keys: list[str], name: str, as_json: bool) -> None:
    found = _known(opened, keys, name)
    comparison = comparison_of(opened, sorted(found), name)
    shadow = next(iter(found.values()))
    if as_json:
        told = {
            "name": name,
            "changes": shadow.changes,
            "accounts": sorted(found),
            "verdict": verdict(comparison.held_out),
        }
        print_json(told | comparison.as_json())
        return
    span = f"{comparison.first_day} to {comparison.last_day}" if comparison.first_day else "no days"
    out.print(f"{name}: {shadow.changes}; {', '.join(sorted(found))}; {span}", markup=False)
    table = plain_table("", "held out", "the rest")
    table.columns[0].no_wrap = True
    for what, held_out, rest in rows(comparison):
        table.add_row(*escaped([what, held_out, rest]))
    out.print(table)
    for title, side in (("held out", comparison.held_out), ("the rest", comparison.rest)):
        for what, those in (
            ("category", side.changes.category_flips),
            ("drafting", side.changes.outcome_flips),
        ):
            for flip in flips(those):
                out.print(f"{what}, {title}: {flip}", markup=False)
    out.print(f"\n{verdict(comparison.held_out)}", markup=False, soft_wrap=True)
    out.print(
        "Decide on what was held out. To switch: communicator prompts promote --help",
        soft_wrap=True,
    )


def _list(opened: Stores, keys: list[str], as_json: bool) -> None:
    found = shadows.comparisons(opened, keys)
    told: list[dict[str, Any]] = []
    for name, by_account in found.items():
        first = min(by_account.values(), key=lambda shadow: shadow.begun_at)
        told.append(
            {
                "name": name,
                "changes": first.changes,
                "accounts": sorted(by_account),
                "begun_at": first.begun_at,
                "begun_by": first.begun_by,
            }
        )
    if as_json:
        print_json(told)
        return
    if not told:
        out.print("Nothing was compared yet.")
        return
    table = plain_table("name", "what differs", "accounts", "begun")
    for row in told:
        begun = f"{row['begun_at'][:16]} by {row['begun_by']}"
        table.add_row(*escaped([row["name"], row["changes"], ", ".join(row["accounts"]), begun]))
    out.print(table)


def _forget(opened: Stores, keys: list[str], name: str, as_json: bool) -> None:
    gone = sum(shadows.forget(opened, key, name) for key in keys)
    if not gone:
        raise shadows.NoSuchComparison(_none_of(opened, keys, name))
    if as_json:
        print_json({"name": name, "files": gone})
    else:
        out.print(f"{name} is forgotten: {gone} files.", markup=False)


def _known(opened: Stores, keys: list[str], name: str) -> dict[str, shadows.Shadow]:
    found = shadows.comparisons(opened, keys).get(name)
    if not found:
        raise shadows.NoSuchComparison(_none_of(opened, keys, name))
    return found


def _none_of(opened: Stores, keys: list[str], name: str) -> str:
    there = ", ".join(shadows.comparisons(opened, keys)) or "none yet"
    return f"there is no comparison {name!r} (there are: {there})"


def _say(run: object) -> None:
    from communicator_pipeline.runs import FinishedRun

    assert isinstance(run, FinishedRun)
    span = run.first if run.first == run.last else f"{run.first} to {run.last}"
    err.print(f"{run.account} {span}: compared in {run.seconds:.1f} s", markup=False)


def _nothing(run: object) -> None:
    pass
