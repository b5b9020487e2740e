"""`communicator new-platform`."""

from __future__ import annotations

import re
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from communicator_pipeline.cli.output import errors_in_words, fail, out
from communicator_pipeline.platforms import platforms

_NAME = re.compile(r"[a-z][a-z0-9_]{1,30}")

_PROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "communicator-{name}"
version = "0.1.0"
description = "{title} for Communicator."
requires-python = ">=3.11"
dependencies = ["communicator-pipeline>={version}"]

[project.entry-points."communicator.platforms"]
{name} = "communicator_{name}:PLATFORM"

[project.optional-dependencies]
dev = ["hypothesis", "pytest"]

[tool.hatch.build.targets.wheel]
packages = ["communicator_{name}"]

[tool.pytest.ini_options]
testpaths = ["tests"]
"""

_README = """\
# {title} for Communicator

A platform as a package of its own. It was made as a copy of a small made-up one that works against
the server in `tests/server.py`: change the server until it answers as {title} does, then the
package until the tests pass.

```sh
pip install -e '.[dev]'         # beside Communicator, or it is not found
pytest                          # the contract that every platform keeps
communicator accounts add {name}
```

- `communicator_{name}/live.py`: logging in, pulling, being pushed to, sending
- `communicator_{name}/normalise.py`: what a payload says
- `tests/server.py`: {title}'s stand-in; better is a server that others wrote
- `tests/test_contract.py`: the promises. The contract is in
  `communicator_pipeline/platforms/protocol.py`, its tests in `contract.py` beside it.
"""


def new_platform(
    name: Annotated[str, typer.Argument(help="A slug, such as mattermost.")],
    folder: Annotated[
        Path | None, typer.Option(help="Where to put it. Default: communicator-NAME.")
    ] = None,
) -> None:
    """Begin a platform: a package of its own with tests that pass, to be changed into yours."""
    with errors_in_words():
        if not _NAME.fullmatch(name):
            fail(f"{name!r} is no name for a platform: use a-z, 0-9 and _, such as mattermost", 2)
        if name in platforms():
            fail(f"there is a platform {name} already")
        root = folder or Path(f"communicator-{name}")
        if root.exists() and any(root.iterdir()):
            fail(f"{root} is there already and not empty: choose another with --folder")
        for path, text in written(name).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
    out.print(f"{root} has a platform that works. Now:", markup=False)
    out.print(f"  pip install -e '{root}[dev]'", markup=False)
    out.print(f"  pytest {root}", markup=False)


def written(name: str) -> dict[str, str]:
    """The files of a new platform, by path."""
    title = name.replace("_", " ").title().replace(" ", "")
    words = {"name": name, "title": title, "version": version("communicator-pipeline")}
    package = f"communicator_{name}"

    def copied(file: str) -> str:
        text = (files("communicator_pipeline.platforms.example") / file).read_text()
        text = text.replace("communicator_pipeline.platforms.example.server", "server")
        text = text.replace("communicator_pipeline.platforms.example", package)
        text = re.sub(r"\bexample\b(?!\.com)", name, text)
        return re.sub(r"Example", title, text)

    return {
        "pyproject.toml": _PROJECT.format(**words),
        "README.md": _README.format(**words),
        f"{package}/__init__.py": copied("__init__.py"),
        f"{package}/live.py": copied("live.py"),
        f"{package}/normalise.py": copied("normalise.py"),
        "tests/server.py": copied("server.py"),
        "tests/test_contract.py": copied("contract_test.py"),
    }
