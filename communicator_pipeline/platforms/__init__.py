"""The platforms: one package each, found by entry point.

Belongs here: what a platform is to the rest of the project, and finding those installed. Does
not belong here: anything that only one platform needs (its own package).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import Any, NamedTuple, Protocol

from communicator_pipeline.messages import Message
from communicator_pipeline.platforms.archive import Archive
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope

Record = Envelope | DeadLetter | Person | Channel
"""What an export yields. One broken record is a DeadLetter in its place; the rest goes on."""


class UnknownExport(ValueError):
    """No platform recognises the file; the message says which kinds there are."""


class Arrived(NamedTuple):
    """An envelope with its payload parsed: what `normalise` is given."""

    message_id: str
    channel_id: str
    channel_kind: str
    kind: str
    payload: Any
    files: dict[str, str]  # path in the export → SHA-256 of the stored content


class Export(Protocol):
    """An export file that is open for reading."""

    title: str
    """A few words for the progress bar and for the account's name."""

    account_hint: str
    """What the account could be called, a slug: `acme` gives `ana-slack-acme`."""

    me: frozenset[str]
    """The owner's person ids, if the export says who that is."""

    def parts(self) -> Sequence[str]:
        """The pieces in which it is read, in an order that is always the same.

        A kill costs at most the piece that was under way: finished pieces are not read again.
        """

    def records(self, part: str) -> Iterator[Record]:
        """Everything in one piece, streaming. Raises `BrokenFile` for a file that cannot be
        read (on), after all that could be read of it."""


class Platform(Protocol):
    """What a platform's package offers, as `PLATFORM` in its `__init__`."""

    name: str

    def recognises(self, archive: Archive) -> bool:
        """Whether this looks like one of the platform's exports: a quick look at the names."""

    def open_export(self, archive: Archive) -> Export:
        """Open it; raises `BrokenFile` with what is missing."""

    def normalise(self, arrived: Arrived) -> Message:
        """The message that the payload is; any exception makes a dead letter of it."""


@cache
def platforms() -> dict[str, Platform]:
    """Every platform that is installed, by name."""
    found = entry_points(group="communicator.platforms")
    return {entry.name: entry.load() for entry in sorted(found, key=lambda entry: entry.name)}


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
