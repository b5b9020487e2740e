"""`communicator export`: your data in a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from communicator_pipeline.cli.output import AsUser, acting_user, errors_in_words, out, stores
from communicator_pipeline.storage.export import export


def export_data(
    file: Annotated[Path, typer.Argument(help="Where to write it: JSON Lines.")],
    user: AsUser = None,
) -> None:
    """All that is yours, to take along: messages, conversations, drafts, replies, settings. No
    secrets. Of attachments the names, not the contents."""
    with errors_in_words():
        opened = stores()
        whose = acting_user(opened, user)
        unfinished = file.with_name(f".{file.name}.{os.getpid()}")
        lines = 0
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(unfinished, flags, 0o600), "wb") as f:
                for line in export(opened.database, whose):
                    f.write(line)
                    lines += 1
                f.flush()
                os.fsync(f.fileno())
            os.replace(unfinished, file)
        finally:
            unfinished.unlink(missing_ok=True)
    out.print(f"{lines - 1} things are in {file}.", markup=False, soft_wrap=True)
