"""How the command talks: tables for people, JSON for programs, errors that say what to do."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.table import Table

from communicator_pipeline.ingestion.connecting import slug
from communicator_pipeline.platforms.protocol import PlatformError
from communicator_pipeline.storage import Stores, home, open_stores
from communicator_pipeline.storage.accounts import Accounts, NotFound, add_user, users
from communicator_pipeline.storage.connections import Health
from communicator_pipeline.storage.database import DatabaseFailed
from communicator_pipeline.storage.preview import DEMO_ACCOUNTS
from communicator_pipeline.storage.settings import Settings

out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False)

DEAD_LETTERED = 3

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
AsUser = Annotated[
    str | None,
    typer.Option("--user", envvar="COMMUNICATOR_USER", help="Whose inbox; needed if many."),
]


def print_json(value: Any) -> None:
    """A value as JSON on standard output, and nothing else there."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str) + b"\n")
    sys.stdout.flush()


def fail(message: str, code: int = 1) -> NoReturn:
    """Say what is wrong and what to do, and end."""
    err.print(f"[red]error:[/red] {_escaped(message)}", soft_wrap=True)
    raise typer.Exit(code)


@contextmanager
def errors_in_words() -> Iterator[None]:
    """Expected errors end the command with their message, without a traceback."""
    try:
        yield
    except (NotFound, ValueError, OSError, PlatformError) as error:
        fail(str(error))
    except DatabaseFailed as error:
        fail(f"the database: {error}; `communicator doctor` says more")


def stores() -> Stores:
    """The installation's stores."""
    return open_stores(home())


def real_users(opened: Stores) -> list[str]:
    """Everybody who has an account that is not the demo's."""
    demo = set(Settings(opened.database, None).get(DEMO_ACCOUNTS) or ())
    return [
        user.user_id
        for user in users(opened.database)
        if {found.account for found in Accounts(opened.database, user.user_id).all()} - demo
    ]


def only_user(opened: Stores) -> str | None:
    """The one person who uses the installation; those of the demo do not count beside them."""
    candidates = real_users(opened) or [user.user_id for user in users(opened.database)]
    return candidates[0] if len(candidates) == 1 else None


def for_user(opened: Stores, whose: str) -> str:
    """What a suggested command must end with, so that it works as it is shown."""
    return "" if only_user(opened) == whose else f" --user {whose}"


def acting_user(opened: Stores, asked: str | None) -> str:
    """Whose inbox it is: the one asked for, or the only one there is."""
    known = [user.user_id for user in users(opened.database)]
    if asked is not None:
        if asked not in known:
            fail(f"there is no user {asked!r} (there are: {', '.join(known) or 'none yet'})")
        return asked
    only = only_user(opened)
    if only is not None:
        return only
    if not known:
        fail("nothing is here yet: import an export with `communicator import FILE`")
    fail(f"there are {len(known)} users: say which with --user ({', '.join(known)})", 2)


def owning_user(opened: Stores, asked: str | None) -> str:
    """Whose a new account is: the one asked for, the only user, or whoever is logged in here."""
    real = real_users(opened)
    if asked is None and len(real) == 1:
        return real[0]
    if asked is None and real:
        fail(f"there are {len(real)} users: say whose it is with --user ({', '.join(real)})", 2)
    name = asked or getpass.getuser()
    return add_user(opened.database, slug(name) or "me", name).user_id


def plain_table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))


def ago(text: str | None, now: datetime | None = None) -> str:
    """How long ago a time in the database was, in its largest unit."""
    if not text:
        return ""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(text)).total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def print_troubles(healths: Iterable[Health]) -> None:
    """What is wrong with connections, and the command that mends each."""
    for health in healths:
        if health.trouble_kind:
            since = f" (since {ago(health.trouble_since)})" if health.trouble_since else ""
            err.print(
                f"[red]![/red] {health.account}{since}: {_escaped(health.trouble)}", soft_wrap=True
            )
            if health.repair:
                err.print(f"    {health.repair}", markup=False, soft_wrap=True)


def one_line(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def interactive() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not os.environ.get("CI")


def escaped(values: Sequence[Any]) -> list[str]:
    """Values as table cells: markup in a stranger's text is text."""
    return [_escaped(str(value)) for value in values]
