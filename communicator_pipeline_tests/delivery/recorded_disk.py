"""A disk under SQLite that notes what is written to it, and that can be full.

Belongs here: SQLite's file system (an `apsw` VFS) with a log of its writes, and what a disk may
hold when the power goes at a place in that log. Does not belong here: what is done meanwhile (the
tests).

Whatever was synced is there. Of what was written since, each write is there or not, in any
combination, and the last one may be there in part, cut where a sector of 512 bytes ends
(https://www.sqlite.org/atomiccommit.html, section 2: hardware assumptions).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import apsw

SECTOR = 512  # bytes


class Entry(NamedTuple):
    """One thing that happened: a write, truncation, sync or deletion, or something told to the
    caller (`what` is `told`, `file` says what)."""

    what: str
    file: str
    offset: int = 0
    content: bytes = b""


class RecordedDisk(apsw.VFS):
    """The default file system, with a log. While `broken` is set, every write raises it."""

    def __init__(self, name: str = "recorded") -> None:
        self.log: list[Entry] = []
        self.broken: type[Exception] | None = None
        self.real = apsw.vfs_names()[0]
        super().__init__(name, self.real, makedefault=True)

    def tell(self, what: str) -> None:
        """Note that a caller has been told something: from here on it must be true."""
        self.log.append(Entry("told", what))

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        return _RecordedFile(self, path or "", name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.log.append(Entry("delete", Path(filename).name))


class _RecordedFile(apsw.VFSFile):
    def __init__(
        self,
        disk: RecordedDisk,
        path: str,
        name: str | apsw.URIFilename | None,
        flags: list[int],
    ) -> None:
        self._disk = disk
        self._name = Path(path).name
        super().__init__(disk.real, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._disk.broken is not None:
            raise self._disk.broken("the test says so")
        super().xWrite(data, offset)
        self._disk.log.append(Entry("write", self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._disk.log.append(Entry("truncate", self._name, newsize))

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._disk.log.append(Entry("sync", self._name))


@contextmanager
def recorded_disk() -> Iterator[RecordedDisk]:
    """SQLite files that are opened meanwhile lie on it."""
    disk = RecordedDisk()
    try:
        yield disk
    finally:
        disk.broken = None  # connections that a failed test has left are still to be closed
        disk.unregister()


def after_power_loss(
    base: dict[str, bytes], log: list[Entry], cut: int, chance: random.Random
) -> dict[str, bytes]:
    """File name → content, as the disk may hold it when the power goes behind `log[:cut]`."""
    held = {name: bytearray(content) for name, content in base.items()}
    pending: list[Entry] = []
    for entry in log[:cut]:
        if entry.what == "told":
            continue
        if entry.what == "sync":
            for written in [e for e in pending if e.file == entry.file]:
                _apply(held, written)
            pending = [e for e in pending if e.file != entry.file]
        elif entry.what == "delete":
            held.pop(entry.file, None)
            pending = [e for e in pending if e.file != entry.file]
        else:
            pending.append(entry)
    for entry in pending:
        if entry is pending[-1] and entry.what == "write":
            _apply(held, _torn(entry, chance))
        elif chance.random() < 0.5:
            _apply(held, entry)
    return {name: bytes(content) for name, content in held.items()}


def _torn(entry: Entry, chance: random.Random) -> Entry:
    """None of it, all of it, or what lies before the end of one of the file's sectors."""
    ends = range(-entry.offset % SECTOR, len(entry.content), SECTOR)
    return entry._replace(content=entry.content[: chance.choice([0, *ends, len(entry.content)])])


def _apply(held: dict[str, bytearray], entry: Entry) -> None:
    content = held.setdefault(entry.file, bytearray())
    if entry.what == "truncate":
        del content[entry.offset :]
        return
    end = entry.offset + len(entry.content)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[entry.offset : end] = entry.content
