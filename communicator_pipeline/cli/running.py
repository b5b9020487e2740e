"""`communicator materialize`, `digest`, `status` and `doctor`."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

import typer
from rich.markdown import Markdown

from communicator_pipeline.chain import status as chain_status
from communicator_pipeline.chain.daily_digest import digest_key
from communicator_pipeline.cli.checkup import checkup
from communicator_pipeline.cli.output import (
    AsJson,
    AsUser,
    acting_user,
    ago,
    err,
    errors_in_words,
    escaped,
    fail,
    for_user,
    out,
    plain_table,
    print_json,
    stores,
)
from communicator_pipeline.ingestion.pull import pull_new
from communicator_pipeline.ingestion.push import drain
from communicator_pipeline.storage import Stores, home, migrate_database
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.lake import FIRST_DAY

Day = Annotated[str | None, typer.Option(metavar="YYYY-MM-DD")]


def materialize(
    account: Annotated[
        list[str] | None, typer.Option(help="This account; may be given again. Default: all.")
    ] = None,
    first: Annotated[str | None, typer.Option("--from", help="First day, YYYY-MM-DD.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day, YYYY-MM-DD.")] = None,
    pull: Annotated[
        bool, typer.Option("--pull/--no-pull", help="Ask connected accounts for what is new first.")
    ] = True,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Bring the inbox up to date; or do a range of days again.

    Without days: what is new in connected accounts, and whatever was touched since the last time.
    With days: those days of these accounts, whether touched or not, and what that changes in later
    ones; `communicator backfill` fetches what was never here.
    """
    with errors_in_words():
        from communicator_pipeline import runs
        from communicator_pipeline.definitions import defs

        start, end = _day(first, "--from"), _day(last, "--to")
        if start and end and start > end:
            fail(f"--from {start} is later than --to {end}", 2)
        opened = stores()
        whose = acting_user(opened, user)
        mine = Accounts(opened.database, whose)
        chosen = [mine.get(key).account for key in account or []] or [a.account for a in mine.all()]
        finished: list[runs.FinishedRun] = []
        if pull and not (start or end):
            _fetch_news(opened, chosen)
        try:
            with runs.open_instance() as instance:
                job = runs.chain_job(defs)
                if start or end:
                    finished = runs.materialise_range(
                        opened,
                        instance,
                        job,
                        chosen,
                        start or "0001-01-01",
                        end or "9999-12-31",
                        _say if not as_json else _nothing,
                    )
                else:
                    finished = runs.materialise_touched(
                        opened, instance, job, _say if not as_json else _nothing, accounts=chosen
                    )
        except runs.RunFailed as failed:
            fail(str(failed))
    if as_json:
        print_json([vars(run) for run in finished])
    elif not finished:
        out.print("Nothing was touched since the last time.")
    else:
        out.print(f"Look: communicator inbox{for_user(opened, whose)}")


def _fetch_news(opened: Stores, accounts: list[str]) -> None:
    """Take what was pushed, and ask the platforms; what goes wrong is said and stops nothing."""
    while drain(opened).taken:
        pass
    for account in accounts:
        if not Connections(opened).exists(account):
            continue
        report = pull_new(opened, account)
        if report.state not in ("ok", "paused", "not supported"):
            err.print(f"{account}: {report.state}: {report.words}", markup=False, soft_wrap=True)


def digest(
    day: Annotated[
        str | None, typer.Argument(metavar="[YYYY-MM-DD]", help="Default: today.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Only this account.")] = None,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """What came on a day, what matters, what waits."""
    with errors_in_words():
        from communicator_pipeline import runs
        from communicator_pipeline.definitions import defs

        today = datetime.now(UTC).date().isoformat()
        which = _day(day, "the day") or today
        if not FIRST_DAY <= which <= today:
            fail(f"digests are made of the days from {FIRST_DAY} to {today}", 2)
        opened = stores()
        mine = Accounts(opened.database, acting_user(opened, user))
        keys = [mine.get(account).account] if account else [a.account for a in mine.all()]
        digests = {}
        try:
            with runs.open_instance() as instance:
                for key in keys:
                    runs.digest_days(opened, instance, runs.digest_job(defs), key, which, which)
                    digests[key] = opened.lake.objects.get(digest_key(key, which))[0].decode()
        except runs.RunFailed as failed:
            fail(str(failed))
    if as_json:
        print_json(digests)
        return
    for markdown in digests.values():
        out.print(Markdown(markdown))
        out.print()


def status(user: AsUser = None, as_json: AsJson = False) -> None:
    """What waits before each stage, since when, and how long the stages take."""
    with errors_in_words():
        opened = stores()
        accounts = Accounts(opened.database, acting_user(opened, user)).all()
        report = {
            found.account: {
                "waiting": [vars_of(d) for d in chain_status.depths(opened, found.account)],
                "stages": chain_status.timings(opened, found.account),
            }
            for found in accounts
        }
    if as_json:
        print_json(report)
        return
    for key, parts in report.items():
        out.print(f"[bold]{key}[/bold]")
        table = plain_table("waiting", "depth", "", "oldest")
        for depth in parts["waiting"]:
            cells = [depth["waiting"], depth["depth"], depth["unit"], ago(depth["oldest"])]
            table.add_row(*escaped(cells))
        out.print(table)
        times = plain_table("stage", "rows", "seconds", "rows/s", "finished")
        for row in parts["stages"]:
            rate = f"{row['item_count'] / row['seconds']:,.0f}" if row["seconds"] else ""
            times.add_row(
                row["stage"],
                f"{row['item_count']:,}",
                f"{row['seconds']:.2f}",
                rate,
                f"{ago(row['finished_at'])} ago",
            )
        out.print(times)
        out.print()


def vars_of(depth: chain_status.Depth) -> dict[str, object]:
    return {
        "waiting": depth.waiting,
        "depth": depth.depth,
        "unit": depth.unit,
        "oldest": depth.oldest,
    }


def migrate(as_json: AsJson = False) -> None:
    """Bring the database's schema up to date, before a new version is started.

    Every command does so by itself; a deployment does it first, for the edge reads the database
    too.
    """
    with errors_in_words():
        applied = migrate_database(home())
    if as_json:
        print_json(applied)
    else:
        out.print("\n".join(applied) if applied else "The schema is up to date.", markup=False)


def doctor(as_json: AsJson = False) -> None:
    """Check the installation, and say what to do about what is wrong."""
    findings = checkup()
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            sign = {"ok": "[green]ok  [/green]", "warning": "[yellow]warn[/yellow]"}.get(
                finding.state, "[red]FAIL[/red]"
            )
            out.print(f"{sign} {finding.what}: ", end="")
            out.print(finding.found, markup=False, soft_wrap=True)
            if finding.advice:
                out.print(f"     {finding.advice}", markup=False, soft_wrap=True)
    if any(finding.state == "failed" for finding in findings):
        raise typer.Exit(1)


def _say(run: object) -> None:
    from communicator_pipeline.runs import FinishedRun

    assert isinstance(run, FinishedRun)
    span = run.first if run.first == run.last else f"{run.first} to {run.last}"
    err.print(
        f"{run.account} {span}: {run.materialisations} materialisations in {run.seconds:.1f} s",
        markup=False,
    )


def _nothing(run: object) -> None:
    pass


def _day(text: str | None, what: str) -> str | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        fail(f"{what} should be a day such as 2026-11-03, it is {text!r}", 2)
