"""The platforms: one package each, found by entry point.

Belongs here: finding those that are installed. Does not belong here: what a platform is
(`protocol.py`), anything that only one platform needs (its own package).
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from communicator_pipeline.platforms.archive import Archive
from communicator_pipeline.platforms.protocol import Arrived, Export, Live, Platform, Record

__all__ = [
    "Arrived",
    "Export",
    "Live",
    "Platform",
    "Record",
    "UnknownExport",
    "UnknownPlatform",
    "live_side",
    "platforms",
    "recognise",
]


class UnknownExport(ValueError):
    """No platform recognises the file; the message says which kinds there are."""


class UnknownPlatform(ValueError):
    """There is no such platform, or it has no live side; the message says which there are."""


@cache
def platforms() -> dict[str, Platform]:
    """Every platform that is installed, by name."""
    found = entry_points(group="communicator.platforms")
    return {entry.name: entry.load() for entry in sorted(found, key=lambda entry: entry.name)}


def live_side(name: str) -> Live:
    """The live side of a platform; raises `UnknownPlatform`."""
    found = platforms().get(name)
    if found is None or found.live is None:
        having = ", ".join(key for key, platform in platforms().items() if platform.live)
        what = f"there is no platform {name!r}" if found is None else f"{name} has no live side"
        raise UnknownPlatform(f"{what} (accounts can be added on: {having})")
    return found.live


def recognise(archive: Archive) -> Platform:
    """The platform whose export this is; raises `UnknownExport`."""
    for platform in platforms().values():
        if platform.recognises(archive):
            return platform
    raise UnknownExport(
        f"{archive.path.name} is not an export that Communicator knows. It reads: a Slack export "
        "(ZIP or folder with users.json and channels.json), a Telegram Desktop export "
        "(result.json, or its folder), an X archive (ZIP with data/tweets.js), a JSONL file with "
        "one message per line (docs/jsonl.md), a text log of a chat (.log or .txt)."
    )
