"""`communicator backup` and `communicator restore`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from communicator_pipeline.cli.output import AsJson, err, errors_in_words, out, print_json
from communicator_pipeline.storage import home, is_cloudflare
from communicator_pipeline.storage.backup import BackedUp, Restored, back_up
from communicator_pipeline.storage.backup import restore as put_back
from communicator_pipeline.storage.database import from_utc_text

if TYPE_CHECKING:
    from communicator_pipeline.storage.moving import Moved


def backup(
    target: Annotated[
        Path, typer.Argument(metavar="FILE_OR_FOLDER", help="A new file, or a folder for it.")
    ],
    with_key: Annotated[
        bool,
        typer.Option(
            "--with-key",
            help="Put credentials.key in too: then whoever has the backup can log in as you.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Save the whole installation in one file, while everything goes on.

    Not in it: credentials.key (keep it in another place, or use --with-key), Dagster's records,
    and the export files that were imported. Every backup is whole; there are no incremental ones.
    """
    moved = None
    with errors_in_words():
        if is_cloudflare():
            # Not at the top: its libraries take half a second.
            from communicator_pipeline.storage.moving import back_up_cloudflare

            done, moved = back_up_cloudflare(home(), target, with_key)
        else:
            done = back_up(home(), target, with_key)
    if as_json:
        print_json(
            {
                "file": str(done.file),
                "bytes": done.size,
                "seconds": round(done.seconds, 3),
                **asdict(done.summary),
                **_sums(moved),
            }
        )
        return
    said = done.summary
    out.print(f"{done.file}", markup=False, soft_wrap=True)
    out.print(
        f"    {said.accounts} accounts, {said.members} files, {_size(done.size)}, in "
        f"{done.seconds:.1f} s; as of {from_utc_text(said.made_at):%Y-%m-%d %H:%M:%S} UTC",
        markup=False,
        soft_wrap=True,
    )
    _print_sums(moved)
    out.print(_about_the_key(done), markup=False, soft_wrap=True)


def restore(
    file: Annotated[Path, typer.Argument(help="What `communicator backup` made.")],
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Move what is there now aside; nothing of it is deleted. At Cloudflare it is "
            "saved in a backup first.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup back. Stop the worker, the gateway and Dagster first.

    Everything in the file is verified before anything is touched. What was on its way out when the
    backup was made is not sent again: it is looked for on the platform, or a person is asked.
    """
    moved = None
    with errors_in_words():
        if is_cloudflare():
            from communicator_pipeline.storage.moving import restore_to_cloudflare

            done, moved = restore_to_cloudflare(file, home(), replace)
        else:
            done = put_back(file, home(), replace)
    steps = _next_steps(done)
    if as_json:
        commands = [command for command, _ in steps if command]
        print_json({**_as_json(done, commands), **_sums(moved)})
        return
    place = done.home if moved is None else "The installation at Cloudflare"
    out.print(
        f"{place} is as of {from_utc_text(done.summary.made_at):%Y-%m-%d %H:%M:%S} UTC "
        f"({done.summary.accounts} accounts, {done.summary.members} files, {done.seconds:.1f} s).",
        markup=False,
        soft_wrap=True,
    )
    _print_sums(moved)
    if done.moved_aside is not None:
        out.print(f"What was there is in {done.moved_aside}", markup=False, soft_wrap=True)
    for told in _told(done):
        err.print(told, markup=False, soft_wrap=True)
    out.print("What to do now:")
    for command, why in steps:
        out.print(f"  {command}" if command else f"  {why}", markup=False, soft_wrap=True)
        if command:
            out.print(f"      {why}", style="dim", markup=False, soft_wrap=True)


def _print_sums(moved: Moved | None) -> None:
    """What was read back from where it arrived, and is what was sent."""
    if moved is None:
        return
    out.print("Compared with what was sent, and the same:")
    for name, one in {**moved.tables, **moved.objects}.items():
        if one.count:
            kind = "objects" if name in moved.objects else "rows"
            told = f"    {one.digest[:12]}  {name}: {one.count} {kind}"
            out.print(told, markup=False, soft_wrap=True)


def _sums(moved: Moved | None) -> dict[str, Any]:
    return {} if moved is None else {"compared": asdict(moved)}


def _about_the_key(done: BackedUp) -> str:
    if done.summary.has_key:
        return (
            "credentials.key is in it: whoever has this file can log in to your accounts. Keep it "
            "as you keep a password."
        )
    kept = "COMMUNICATOR_KEYS" if done.keys_from_environment else "credentials.key"
    return (
        f"{kept} is not in it, so that nobody can log in with this file alone. Keep a copy of the "
        "key in another place: without it every account has to log in again."
    )


def _told(done: Restored) -> list[str]:
    """What the restore has changed, beside putting things back."""
    told = []
    if done.unknown:
        told.append(
            f"{len(done.unknown)} replies were on their way when the backup was made. Nobody knows "
            "whether they went out since, so they are not sent: each is looked for on the "
            "platform, or you are asked."
        )
    if done.policies_revoked:
        told.append(
            f"{done.policies_revoked} automatic approvals are off: a draft that was answered after "
            "the backup would be answered again. Open them anew when the accounts are up to date."
        )
    if done.key == "kept":
        told.append("credentials.key was not in the backup; the one that was here is used.")
    return told


def _next_steps(done: Restored) -> list[tuple[str, str]]:
    steps = [("communicator doctor", "looks at the whole installation")]
    why = "log in again: the key that opens its credentials is not here"
    if done.log_in and done.key == "missing":
        words = f"or put credentials.key back into {done.home}; else log in again, as follows"
        steps.append(("", words))
    steps += [(f"communicator accounts login {account}", why) for account in done.log_in]
    steps.append(
        (
            "communicator materialize",
            f"does the {done.touched_days} touched days, and asks the accounts for what came since",
        )
    )
    if done.unknown:
        steps.append(("communicator outbox", "shows what became of the replies"))
    steps.append(("", "Then start the worker, the gateway and Dagster again."))
    return steps


def _as_json(done: Restored, commands: list[str]) -> dict[str, Any]:
    return {
        **asdict(done),
        "home": str(done.home),
        "moved_aside": None if done.moved_aside is None else str(done.moved_aside),
        "seconds": round(done.seconds, 3),
        "next": commands,
    }


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
