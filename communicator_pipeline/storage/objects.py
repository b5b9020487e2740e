"""Objects: bytes under a key, with conditional put. What R2 gives, on a local folder.

Belongs here: putting, getting, listing and deleting whole objects. Does not belong here: what
is in them (`lake.py`, `landing.py`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

ABSENT = "absent"
"""The etag of an object that is not there: `put(…, if_match=ABSENT)` only creates."""


class LostRace(Exception):
    """The object is not what the writer believed: somebody else was first. Read again."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    size: int  # bytes
    modified_at: datetime  # UTC
    version: str  # another one whenever the object was put anew; no etag


class ObjectStore(Protocol):
    """What R2 can do, and all that the lake may ask of it."""

    def put(self, key: str, content: bytes, if_match: str | None = None) -> str:
        """Write an object whole and durably; returns its etag.

        With `if_match` only while the object still has that etag (or is `ABSENT`); raises
        `LostRace` otherwise. Readers see the old content or the new, never a part.
        """

    def get(self, key: str) -> tuple[bytes, str]:
        """Content and etag; raises `FileNotFoundError`."""

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key begins with `prefix`, in order of their keys."""

    def delete(self, key: str) -> None:
        """Remove the object; no error if it is gone already."""

    def addresses(self, keys: Sequence[str]) -> Sequence[str]:
        """What DuckDB and pyarrow open to read the objects, which are such as never change.

        Where they have to be brought here first, raises `FileNotFoundError` if one is gone."""

    def download_url(self, key: str, filename: str) -> str | None:
        """A link from which a browser downloads the object under this name, for some minutes.
        None: there is none, whoever serves it reads it."""


def etag_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class LocalObjects:
    """Objects in a folder. A put is a synced temporary file and a rename."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, content: bytes, if_match: str | None = None) -> str:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if if_match is None:
            replace_file(path, content)
        else:
            with self._locked(path):
                if self._etag(path) != if_match:
                    raise LostRace(f"{key} was changed by somebody else")
                replace_file(path, content)
        return etag_of(content)

    def get(self, key: str) -> tuple[bytes, str]:
        content = self._path(key).read_bytes()
        return content, etag_of(content)

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folder = self.root / prefix[: prefix.rfind("/") + 1]
        keys = []
        for place, folders, names in os.walk(folder):
            within = Path(place).relative_to(self.root).as_posix()
            inside = "" if within == "." else f"{within}/"
            folders[:] = [f for f in folders if _may_hold(f"{inside}{f}/", prefix)]
            keys += [
                inside + name
                for name in names
                if (inside + name).startswith(prefix) and not name.startswith(".")
            ]
        for key in sorted(keys):
            try:
                stat = self._path(key).stat()
            except FileNotFoundError:  # deleted while we walked
                continue
            modified_at = datetime.fromtimestamp(stat.st_mtime, UTC)
            yield ObjectInfo(key, stat.st_size, modified_at, f"{stat.st_ino}-{stat.st_mtime_ns}")

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def addresses(self, keys: Sequence[str]) -> Sequence[str]:
        return [str(self._path(key)) for key in keys]

    def download_url(self, key: str, filename: str) -> str | None:
        return None

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{key!r} is not an object key")
        return self.root.joinpath(*parts)

    def _etag(self, path: Path) -> str:
        try:
            return etag_of(path.read_bytes())
        except FileNotFoundError:
            return ABSENT

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        # flock dies with its process, so a killed writer blocks nobody. The lock file stays:
        # removing it would let two writers lock two different files of the same name.
        with path.with_name(f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole and durably: readers see what was there before, or all of this."""
    # Hidden while it is written: list() and a reader's glob must not meet a half file.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _may_hold(folder: str, prefix: str) -> bool:
    """Whether a folder can hold a key that begins with the prefix."""
    return folder.startswith(prefix) or prefix.startswith(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
