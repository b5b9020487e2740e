"""`python environment.py STACK FILE`: the pipeline's variables, out of the stack's outputs.

Belongs here: writing the file. Does not belong here: which variables there are (`__main__.py`).

The file holds secrets: only its owner may read it, and it is replaced whole. Docker, a shell
(`set -a; . FILE`) and systemd (`EnvironmentFile=`) read it alike, because no value needs quotes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_PLAIN = re.compile(r"[A-Za-z0-9._~+/=,:@-]+")


def env_lines(outputs: Mapping[str, object]) -> str:
    """A line for each output that is a variable. Raises ValueError for a value that would need
    quotes; the message does not hold it."""
    lines = []
    for name, value in sorted(outputs.items()):
        if not _VARIABLE.fullmatch(name):
            continue
        if not isinstance(value, str) or not _PLAIN.fullmatch(value):
            raise ValueError(
                f"{name} cannot stand in a file of variables: it is empty or holds characters "
                "that need quotes; set it to letters, digits and ._~+/=,:@-"
            )
        lines.append(f"{name}={value}\n")
    if not lines:
        raise ValueError("the stack has no outputs yet: deploy it first (make deploy ENV=…)")
    return "".join(lines)


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read."""
    descriptor, name = tempfile.mkstemp(dir=path.absolute().parent)  # made with mode 600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("Usage: python environment.py STACK FILE", file=sys.stderr)
        return 2
    stack, file = arguments
    asked = subprocess.run(  # noqa: S603
        ["pulumi", "stack", "output", "--stack", stack, "--show-secrets", "--json"],  # noqa: S607
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        check=False,
    )
    if asked.returncode:
        return asked.returncode  # Pulumi has said why
    try:
        text = env_lines(json.loads(asked.stdout))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    write_private(Path(file), text)
    print(f"{file}: {text.count(chr(10))} variables, only you may read it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
