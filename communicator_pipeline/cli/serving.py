"""`communicator worker`, `backlog`, `serve` and `backfill`: what runs on, what fetches history."""

from __future__ import annotations

import logging
import os
import time
from datetime import UTC, date, datetime
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from communicator_pipeline.cli.output import (
    AsJson,
    AsUser,
    acting_user,
    err,
    errors_in_words,
    fail,
    for_user,
    out,
    owning_user,
    print_json,
    stores,
)
from communicator_pipeline.ingestion.pull import PullReport, fetch_missing, missing_history
from communicator_pipeline.platforms.protocol import Window
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, users
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.lake import FIRST_DAY, end_of_day, start_of_day
from communicator_pipeline.storage.sign_in import has_password, make_link


def worker() -> None:
    """Keep the inbox up to date: take pushes, poll the accounts, materialise what was touched,
    deliver approved replies.

    Runs until it is told to stop. Without it Dagster's sensor does the same, some seconds later.
    """
    _quiet()
    with errors_in_words():
        from communicator_pipeline import runs
        from communicator_pipeline.definitions import defs
        from communicator_pipeline.materialising import chosen_backlog
        from communicator_pipeline.worker import Worker

        opened = stores()
        with runs.open_instance() as instance:
            err.print("The worker is at work (Ctrl-C ends it)")
            Worker(opened, instance, defs, _say, chosen_backlog()).run()


def backlog() -> None:
    """Work off history that waits, newest first, until there is none: the worker starts it by
    itself, with what is left of the processor."""
    import threading

    from communicator_pipeline import runs
    from communicator_pipeline.definitions import defs
    from communicator_pipeline.materialising import (
        NICENESS,
        Materialiser,
        stop_with_parent,
        work_off_backlog,
    )

    _quiet()
    os.nice(NICENESS)
    stop = threading.Event()
    with errors_in_words():
        opened = stores()
        with runs.open_instance() as instance:
            materialiser = Materialiser(opened, instance, runs.chain_job(defs), _say)
            stop_with_parent(stop)
            # In the main thread Dagster takes a signal for itself and ends the run under way.
            working = threading.Thread(target=work_off_backlog, args=(materialiser, stop))
            working.start()
            working.join()


def serve(
    host: Annotated[str, typer.Option(help="Listen on this address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Listen on this port.", envvar="GATEWAY_PORT")] = 8700,
) -> None:
    """The inbox in the browser, the JSON API, and POST /push/PLATFORM/ACCOUNT for the platforms."""
    import uvicorn

    from communicator_pipeline.gateway.app import create_app

    _quiet()
    with errors_in_words():
        opened = stores()
    base = os.environ.get("COMMUNICATOR_URL", f"http://{_reached_at(host)}:{port}").rstrip("/")
    err.print(f"The inbox: {base}/inbox (Ctrl-C ends the gateway)", soft_wrap=True)
    if not has_password(opened.database):
        who = _administrator(opened)
        secret = make_link(opened.database, who, datetime.now(UTC))
        err.print(
            f"Set {who}'s password there first, once: {base}/welcome/{secret}", soft_wrap=True
        )
    uvicorn.run(
        create_app(opened),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        # An inbox that is open somewhere holds its event stream for ever.
        timeout_graceful_shutdown=3,
    )


def _reached_at(host: str) -> str:
    """Where this machine itself reaches a server on that address."""
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104


def _administrator(opened: Stores) -> str:
    """Who administers the installation: at the very first start, whoever is logged in here."""
    admins = [user.user_id for user in users(opened.database) if user.is_admin]
    return admins[0] if admins else owning_user(opened, None)


def backfill(
    account: Annotated[str, typer.Argument(help="The account's key.")],
    first: Annotated[str, typer.Option("--from", help="First day, YYYY-MM-DD.")],
    last: Annotated[
        str | None, typer.Option("--to", help="Last day, YYYY-MM-DD. Default: today.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Fetch also what has been fetched before.")
    ] = False,
    user: AsUser = None,
    as_json: AsJson = False,
) -> None:
    """Fetch an account's history from its platform, and bring it into the inbox.

    Obeys the platform's limits, however long that takes; can be ended at any time, and goes on
    where it was.
    """
    _quiet()
    with errors_in_words():
        from communicator_pipeline import runs
        from communicator_pipeline.definitions import defs

        start = _day(first, "--from")
        end = _day(last, "--to") if last else datetime.now(UTC).date().isoformat()
        if start > end:
            fail(f"--from {start} is later than --to {end}", 2)
        if start < FIRST_DAY:
            fail(
                f"the first partition is {FIRST_DAY}: begin there, or set COMMUNICATOR_FIRST_MONTH"
            )
        window = Window(start_of_day(start), end_of_day(end))
        opened = stores()
        whose = acting_user(opened, user)
        Accounts(opened.database, whose).get(account)
        connections = Connections(opened)
        connections.health(account)
        if again:
            connections.fetch_again(account, window)
        reports = _fetch(opened, account, window, quiet=as_json)
        trouble = [r for r in reports if r.state not in ("ok", "waiting", "busy")]
        kept = sum(report.kept for report in reports)
        with runs.open_instance() as instance:
            finished = runs.materialise_touched(
                opened, instance, runs.chain_job(defs), lambda run: None, accounts=[account]
            )
        missing = missing_history(opened, account, window)
    if as_json:
        print_json(
            {
                "account": account,
                "new": kept,
                "runs": len(finished),
                "complete": not missing,
                "trouble": [{"state": r.state, "words": r.words} for r in trouble],
                "cost_usd": sum(report.cost_usd for report in reports),
            }
        )
    else:
        cost = sum(report.cost_usd for report in reports)
        priced = f", ${cost:.2f}" if cost else ""
        out.print(f"{account}: {kept:,} new from {start} to {end}{priced}.")
        for notice in dict.fromkeys(n for report in reports for n in report.notices):
            err.print(f"  {notice}", markup=False, soft_wrap=True)
    if trouble:
        fail(trouble[-1].words)
    if not as_json:
        out.print(f"Look: communicator inbox --account {account}{for_user(opened, whose)}")


def _fetch(opened: Stores, account: str, window: Window, quiet: bool) -> list[PullReport]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[said]}"),
    )
    with Progress(*columns, console=err, transient=True, disable=quiet) as progress:
        task = progress.add_task(account, total=1.0, said="")

        def watch(report: PullReport) -> None:
            progress.update(
                task, completed=report.done or 0.0, said=f"{report.counts.read:,} messages"
            )

        def wait(until: datetime) -> bool:
            while (left := (until - datetime.now(UTC)).total_seconds()) > 0:
                progress.update(task, said=f"the platform's limit: {left:.0f} s")
                time.sleep(min(left, 1.0))
            return True

        return fetch_missing(opened, account, window, wait, watch)


def _quiet() -> None:
    """Requests are not logged: their addresses can hold tokens."""
    for name in ("httpx", "httpcore", "telethon", "nio", "slack_sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _say(words: str) -> None:
    err.print(f"{datetime.now(UTC):%H:%M:%S} {words}", markup=False, soft_wrap=True)


def _day(text: str, what: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        fail(f"{what} should be a day such as 2026-11-03, it is {text!r}", 2)
