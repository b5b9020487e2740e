"""Backup and restore of an installation in a folder: one file, which is of one moment.

Belongs here: what is in the file, in which order it is taken while everything runs, and putting it
back so that nothing is lost, half there or sent twice. Does not belong here: words on the screen
(`cli/backups.py`), what is done about deliveries (`delivery/recovery.py`), an installation at
Cloudflare, which goes through such a folder (`moving.py`).

**The order.** Files that are never changed are copied first, for as long as it takes. Then comes
the moment: the manifests are read, a read transaction fixes the state of the database, the
manifests are looked at again. If none has moved, database and manifests are of that one moment, as
if everything had been killed then, and that is a state that everything recovers from. If some have,
it is tried again for some seconds; then the manifests are taken that are newer than the database,
and the backup names their accounts, all of whose days are done again after a restore. After the
moment come the database (SQLite's online backup, within the same transaction) and what the moment
needs and is not there yet. Whatever the database says has landed is in a file that was there before
the moment, so it is in the backup.

**Files that vanish** while they are copied: small landing files were joined, so the folder is
listed again, and the joined file is in the new list; a file of the lake was replaced and collected,
so its manifest is read again, and its account named as above. A landing file that was not copied
before the moment may be unknown to the database: it is marked `late`, its days are done again, and
the names of its account's people and channels are taken again behind it.

**The file** is a tar. First a member that says what it is, last the list of the others with their
SHA-256, and that list's own. Databases are compressed with zstd, the rest is compressed already.
Each backup is whole: there are no incremental ones.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import io
import itertools
import os
import shutil
import tarfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

import apsw
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from communicator_pipeline.delivery.recovery import distrust_everything
from communicator_pipeline.platforms.sandbox.chat import FILE as SANDBOX
from communicator_pipeline.storage.accounts import (
    Channel,
    Person,
    account_keys,
    know_channels,
    know_people,
)
from communicator_pipeline.storage.credentials import KEYS_VARIABLE, KeyMissing, Keyring
from communicator_pipeline.storage.database import (
    Database,
    DatabaseFailed,
    SqliteDatabase,
    from_utc_text,
    migrate,
    now_text,
    utc_text,
)
from communicator_pipeline.storage.lake import AccountMonth, Lake
from communicator_pipeline.storage.landing import landed_months, read_landing
from communicator_pipeline.storage.objects import LocalObjects
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline.storage.workers import DEAD_AFTER, Workers

FORMAT = 1

DATABASE = "communicator.db"
KEY = "credentials.key"

HEADER = "communicator-backup.json"
NAMES = "names.jsonl"
CONTENTS = "contents.jsonl"
CONTENTS_DIGEST = "contents.jsonl.sha256"

IMMUTABLE = ("attachments", "landing", "joined")
"""Folders whose files are never changed, in the order in which they are copied: a landing file
names attachments that were there before it, so after the moment it is the other way round."""

FOLDERS = ("landing", "joined", "lake", "attachments", "digests")

SETTLE_SECONDS = 5.0
"""For so long a moment is sought at which no manifest moves."""

LOOK_AGAIN = 0.02  # seconds
MOST_LISTINGS = 100
FEW_LISTINGS = 3
"""Of a folder to which others add all the time: whatever was there before the first is in these."""

PAGES = 1_000  # of the database, copied at a time
PIECE = 2**20  # bytes
LONGEST_LINE = 16 * 2**20  # bytes, of the list

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_EXCHANGE = 2  # RENAME_EXCHANGE, see renameat2(2)
_HERE = -100  # AT_FDCWD


class BackupRefused(ValueError):
    """It cannot be done, and nothing was changed; the message says why and what to do."""


@dataclass(frozen=True)
class Summary:
    """What a backup says of itself."""

    format: int
    communicator: str  # the version that made it
    made_at: str  # the moment that it is of, as `utc_text` spells it
    migrations: list[str]
    accounts: int
    counts: dict[str, int]  # files by folder
    members: int
    bytes: int
    has_key: bool
    has_sandbox: bool
    unsettled: list[str]  # accounts whose days are to be done again


@dataclass(frozen=True)
class BackedUp:
    file: Path
    summary: Summary
    size: int  # bytes, of the file
    seconds: float
    keys_from_environment: bool


@dataclass
class Restored:
    home: Path
    summary: Summary
    moved_aside: Path | None = None
    key: str = "missing"  # 'in the backup', 'kept', 'from the environment' or 'missing'
    log_in: list[str] = field(default_factory=list)  # accounts whose credentials do not open
    unknown: list[str] = field(default_factory=list)  # deliveries
    policies_revoked: int = 0
    marked_days: int = 0  # by the restore
    touched_days: int = 0  # all that wait for `materialize`
    seconds: float = 0.0


# --- backup ----------------------------------------------------------------------------------


def back_up(home: Path, target: Path, with_key: bool = False) -> BackedUp:
    """Write a backup of the installation in `home` to `target`, a file that is not there yet or a
    folder that is; everything may go on meanwhile. Raises `BackupRefused`, `OSError`.

    The key to the credentials is left out unless it is asked for.
    """
    began = time.monotonic()
    home = home.resolve()
    if not (home / DATABASE).is_file():
        raise BackupRefused(f"there is nothing to back up: {home / DATABASE} does not exist")
    key = home / KEY
    if with_key and not key.is_file():
        where = f"they come from {KEYS_VARIABLE}" if os.environ.get(KEYS_VARIABLE) else str(key)
        raise BackupRefused(f"there is no file with keys to put in ({where}): leave --with-key off")
    final = _name_of(target)
    place = final.parent / ".communicator-backup"
    with _in_words(final.parent), _workplace(place, f"another backup to {final.parent}") as folder:
        with _Archive(folder) as archive:
            summary = _fill(archive, home, folder, with_key)
        if final.exists():
            raise BackupRefused(_EXISTS.format(final))
        os.rename(archive.path, final)
        _sync_folder(final.parent)
    return BackedUp(
        final,
        summary,
        final.stat().st_size,
        time.monotonic() - began,
        bool(os.environ.get(KEYS_VARIABLE)),
    )


_EXISTS = "{} exists already: give another name, or a folder, and the file is named by the time"


def _name_of(target: Path) -> Path:
    target = target.expanduser().absolute()
    if target.is_dir():
        target = target / f"communicator-{stamp()}.tar"
    if target.exists():
        raise BackupRefused(_EXISTS.format(target))
    if not target.parent.is_dir():
        raise BackupRefused(f"there is no folder {target.parent}: make it first")
    return target


def _fill(archive: _Archive, home: Path, folder: Path, with_key: bool) -> Summary:
    manifests = _Manifests(home, folder / "manifests")
    archive.add_bytes(HEADER, orjson.dumps({"communicator backup": FORMAT}) + b"\n")
    manifests.look()
    for key in list(manifests):
        for name in _files_of(key, manifests.content(key)):
            archive.add_if_new(name, home / name)
    for store in IMMUTABLE:
        _copy_new(archive, home, store)

    source = apsw.Connection(str(home / DATABASE), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        source.set_busy_timeout(30_000)
        unsettled = _fix_the_moment(source, archive, home, manifests)
        made_at = now_text()
        archive.moment_has_passed = True
        copied = folder / DATABASE
        _copy_database(source, copied)
    finally:
        source.close()
    migrations, accounts = _look_into(copied)
    _add_compressed(archive, copied)

    for store in reversed(IMMUTABLE):
        _copy_new(archive, home, store)
    if archive.late:
        _add_names(archive, home, folder / NAMES)
    unsettled |= _copy_lake(archive, home, manifests)
    _copy_new(archive, home, "digests")
    has_sandbox = (home / SANDBOX).is_file()
    if has_sandbox:
        copied = folder / SANDBOX
        copy_sandbox(home, copied)
        _add_compressed(archive, copied)
    if with_key:
        archive.add_file(KEY, home / KEY)
    summary = Summary(
        FORMAT,
        version("communicator-pipeline"),
        made_at,
        migrations,
        accounts,
        {store: archive.counts[store] for store in FOLDERS},
        len(archive.names),
        archive.bytes,
        with_key,
        has_sandbox,
        sorted(unsettled),
    )
    archive.finish(summary)
    return summary


def _fix_the_moment(
    source: apsw.Connection, archive: _Archive, home: Path, manifests: _Manifests
) -> set[str]:
    """Leave `source` in a read transaction, with manifests of the same moment; returns the accounts
    of which some are newer."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        _copy_new(archive, home, "landing")
        manifests.look()
        _begin_snapshot(source)
        moved = manifests.look()
        if not moved or time.monotonic() >= deadline:
            return {_account_of(key) for key in moved}
        source.execute("ROLLBACK")
        time.sleep(LOOK_AGAIN)


def _begin_snapshot(source: apsw.Connection) -> None:
    source.execute("BEGIN")
    source.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # BEGIN alone reads nothing


def _copy_database(source: apsw.Connection, into: Path) -> None:
    """SQLite's online backup of what the source's transaction sees. Writers are not kept from
    writing; the WAL grows until it is done."""
    copy = apsw.Connection(str(into))
    try:
        copy.execute("PRAGMA synchronous=OFF")  # a copy that a power cut spoils is never used
        with copy.backup("main", source, "main") as under_way:
            while not under_way.done:
                under_way.step(PAGES)
    finally:
        copy.close()


def copy_sandbox(home: Path, into: Path) -> None:
    """The sandbox's chats of one moment, while it serves them."""
    other = apsw.Connection(str(home / SANDBOX), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        other.set_busy_timeout(30_000)
        _begin_snapshot(other)
        _copy_database(other, into)
    finally:
        other.close()


def _look_into(database: Path) -> tuple[list[str], int]:
    """Which migrations a copy has, and how many accounts; refuses one that is damaged."""
    connection = apsw.Connection(str(database))
    try:
        found = connection.execute("PRAGMA integrity_check").fetchall()
        if found != [("ok",)]:
            raise BackupRefused(
                f"the database is damaged ({found[0][0]}): a backup of it would be no better. Stop "
                "everything, keep a copy of the whole folder, and restore the last good backup"
            )
        rows = connection.execute("SELECT name FROM d1_migrations ORDER BY name").fetchall()
        accounts = connection.execute("SELECT count(*) FROM accounts").fetchall()[0][0]
    finally:
        connection.close()
    return [str(row[0]) for row in rows], int(str(accounts))


def _add_compressed(archive: _Archive, path: Path) -> None:
    packed = path.with_name(f"{path.name}.zst")
    with (
        path.open("rb") as source,
        pa.output_stream(str(packed), compression="zstd") as target,
    ):
        shutil.copyfileobj(source, target, PIECE)
    path.unlink()
    archive.add_file(packed.name, packed)
    packed.unlink()


def _add_names(archive: _Archive, home: Path, spool: Path) -> None:
    """Who wrote where in the late files: names are in the database before what they wrote lands."""
    source = apsw.Connection(str(home / DATABASE), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        source.set_busy_timeout(30_000)
        with spool.open("wb") as file:
            for account in sorted(archive.late):
                for kind, columns in _NAMED.items():
                    sql = f"SELECT {columns} FROM {kind} WHERE account = ?"
                    for row in source.execute(sql, (account,)):
                        file.write(orjson.dumps([kind, account, *row]) + b"\n")
    finally:
        source.close()
    archive.add_file(NAMES, spool)


_NAMED = {
    "people": "person_id, name, seen_at, handle, is_bot",
    "channels": "channel_id, name, kind, seen_at",
}


def _copy_new(archive: _Archive, home: Path, store: str) -> None:
    """Copy what a folder holds and the archive does not. Listed until a listing brings nothing new:
    a file that is joined into another while the folder is read may be missed, and the other too."""
    objects = LocalObjects(home)
    for listing in range(1, MOST_LISTINGS + 1):
        new = vanished = False
        for info in objects.list(f"{store}/"):
            if info.key not in archive.names:
                new = True
                vanished |= not archive.add_if_new(info.key, home / info.key)
        if not new or (listing >= FEW_LISTINGS and not vanished):
            return
    raise BackupRefused(
        f"files in {home / store} vanish as fast as they are copied: try again in a while"
    )


def _copy_lake(archive: _Archive, home: Path, manifests: _Manifests) -> set[str]:
    """Copy the manifests and what of their files is not there yet; returns the accounts of those
    that had to be read again."""
    again = set()
    for key in list(manifests):
        for _ in range(MOST_LISTINGS):
            content = manifests.content(key)
            if content is None:  # gone with its account
                break
            copied = [archive.add_if_new(n, home / n) for n in _files_of(key, content)]
            if all(copied):
                archive.add_bytes(key, content)
                break
            again.add(_account_of(key))
            manifests.read(key)
        else:
            raise BackupRefused(f"files of {key} vanish as fast as they are copied: try again")
    return again


class _Manifests:
    """The lake's manifests as they were when they were last looked at, kept in a file."""

    def __init__(self, home: Path, spool: Path) -> None:
        self._home = home
        self._spool = spool.open("w+b")
        self._held: dict[str, tuple[tuple[int, int, int], int, int]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._held))

    def look(self) -> set[str]:
        """Read those that are new or were replaced; returns which these are, and which are gone."""
        paths = self._home.glob("lake/*/*/*/manifest.json")
        there = {path.relative_to(self._home).as_posix() for path in paths}
        return {key for key in there | self._held.keys() if self.read(key)}

    def read(self, key: str) -> bool:
        """Read one again; returns whether it is another one than before."""
        before = self._held.get(key)
        try:
            # A manifest is replaced, never written to: what is open is of one piece.
            with (self._home / key).open("rb") as file:
                stat = os.fstat(file.fileno())
                mark = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if before is not None and before[0] == mark:
                    return False
                content = file.read()
        except FileNotFoundError:
            self._held.pop(key, None)
            return before is not None
        start = self._spool.seek(0, os.SEEK_END)
        self._spool.write(content)
        self._held[key] = (mark, start, len(content))
        return True

    def content(self, key: str) -> bytes | None:
        if key not in self._held:
            return None
        _, start, length = self._held[key]
        self._spool.seek(start)
        return self._spool.read(length)


def _files_of(key: str, content: bytes | None) -> list[str]:
    """The files that a manifest names, as keys."""
    if content is None:
        return []
    folder = key.rpartition("/")[0]
    return [f"{folder}/{entry['file']}" for entry in orjson.loads(content)["entries"].values()]


def _account_of(key: str) -> str:
    """`lake/<asset>/<account>/…` and `landing/<account>/…` give the account."""
    parts = key.split("/")
    return parts[2] if parts[0] == "lake" else parts[1]


class _Archive:
    """A tar that is being written, and the list of what is in it.

    Memory: some 150 bytes for each file's name, whatever the sizes.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "archive"
        self.names: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.bytes = 0
        self.moment_has_passed = False
        self.late: set[str] = set()  # accounts of landing files that came after the moment
        self._now = time.time()
        self._file = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600), "wb", PIECE)
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)
        self._contents = (folder / CONTENTS).open("w+b")

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._contents.close()
        with suppress(OSError):  # a full disk has been told of already
            self._file.close()

    def add_if_new(self, name: str, path: Path) -> bool:
        """Add a file unless it is there; False if it is gone."""
        try:
            if name not in self.names:
                self.add_file(name, path)
        except FileNotFoundError:
            return False
        return True

    def add_file(self, name: str, path: Path) -> None:
        with path.open("rb") as source:
            self._add(name, source, os.fstat(source.fileno()))

    def add_bytes(self, name: str, content: bytes) -> None:
        self._add(name, io.BytesIO(content), None, len(content))

    def finish(self, summary: Summary) -> None:
        """Write the list, and have everything on the disk."""
        first = orjson.dumps(asdict(summary)) + b"\n"
        size = len(first) + self._contents.tell()
        self._contents.seek(0)
        listed = _Chained(first, self._contents)
        digest = self._write(CONTENTS, listed, size)
        line = f"{digest}  {CONTENTS}\n".encode()  # as sha256sum --check reads it
        self._write(CONTENTS_DIGEST, io.BytesIO(line), len(line))
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _add(self, name: str, source: BinaryIO, stat: os.stat_result | None, size: int = 0) -> None:
        size = size if stat is None else stat.st_size
        digest = self._write(name, source, size, None if stat is None else stat.st_mtime)
        line: dict[str, Any] = {"name": name, "bytes": size, "sha256": digest}
        folder = name.split("/")[0]
        if folder == "landing" and self.moment_has_passed:
            line["late"] = True
            self.late.add(_account_of(name))
        self._contents.write(orjson.dumps(line) + b"\n")
        self.names.add(name)
        self.counts[folder] += 1
        self.bytes += size

    def _write(
        self, name: str, source: BinaryIO | _Chained, size: int, modified: float | None = None
    ) -> str:
        member = tarfile.TarInfo(name)
        member.size = size
        member.mode = 0o600
        member.mtime = int(self._now if modified is None else modified)
        hashing = _Hashing(source)
        self._tar.addfile(member, hashing)  # type: ignore[arg-type]
        self._tar.members.clear()  # type: ignore[attr-defined]  # it would keep each one
        return hashing.digest.hexdigest()


class _Hashing:
    """What is read through it, with its SHA-256."""

    def __init__(self, source: BinaryIO | _Chained) -> None:
        self.digest = hashlib.sha256()
        self._source = source

    def read(self, size: int) -> bytes:
        piece = self._source.read(size)
        self.digest.update(piece)
        return piece


class _Chained:
    """Some bytes, and behind them a file."""

    def __init__(self, first: bytes, then: BinaryIO) -> None:
        self._first = first
        self._then = then

    def read(self, size: int) -> bytes:
        piece, self._first = self._first[:size], self._first[size:]
        return piece + self._then.read(size - len(piece))


# --- reading a backup ------------------------------------------------------------------------


def read_summary(file: Path) -> Summary:
    """What a backup says of itself; raises `BackupRefused` for a file that is none, is not whole,
    or is newer than this code. Its members' content is not read: `restore` does that."""
    contents, _ = _list_of(file)
    with file.open("rb") as source:
        source.seek(contents.offset_data)
        line = source.readline(min(contents.size, LONGEST_LINE))
    try:
        said = orjson.loads(line)
        newer = said["format"] > FORMAT
    except (ValueError, KeyError, TypeError):
        raise _damaged(file, CONTENTS) from None
    if newer:
        raise BackupRefused(
            f"{file} is a backup of a newer kind ({said['format']}, this Communicator knows "
            f"{FORMAT}): it was made by {said.get('communicator')}, install that version or a newer"
        )
    try:
        summary = Summary(**said)
    except TypeError:
        raise _damaged(file, CONTENTS) from None
    unknown = sorted(set(summary.migrations) - _known_migrations())
    if unknown:
        raise BackupRefused(
            f"{file} was made by a newer Communicator ({summary.communicator}): its database has "
            f"{', '.join(unknown)}, which this one does not know. Install that version or a newer"
        )
    return summary


def _known_migrations() -> set[str]:
    return {file.name for file in (files("communicator_pipeline.storage") / "schema").iterdir()}


def _list_of(file: Path) -> tuple[tarfile.TarInfo, tarfile.TarInfo]:
    """The members with the list of the others, and with its digest; raises `BackupRefused` if the
    file is no backup, or not whole."""
    last: list[tarfile.TarInfo] = []
    try:
        with tarfile.open(file, "r:") as tar:
            for member in _members(tar):
                if not last and member.name != HEADER:
                    raise BackupRefused(_NOT_ONE.format(file))
                last = [*last[-1:], member]
    except FileNotFoundError:
        raise BackupRefused(f"{file} does not exist") from None
    except IsADirectoryError:
        raise BackupRefused(f"{file} is a folder: name the file in it") from None
    except tarfile.TarError:
        if not last:
            raise BackupRefused(_NOT_ONE.format(file)) from None
    if [member.name for member in last] != [CONTENTS, CONTENTS_DIGEST]:
        raise BackupRefused(
            f"{file} is damaged or breaks off after {last[-1].name}: nothing was changed. Copy it "
            "again from where it comes from, or take another backup"
        )
    return last[0], last[1]


_NOT_ONE = "{} is not a backup that `communicator backup` made"


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        yield member
        tar.members.clear()  # type: ignore[attr-defined]  # it would keep each one


def _damaged(file: Path, name: str) -> BackupRefused:
    return BackupRefused(
        f"{file} is damaged: {name} is not what was put in. Nothing was changed; copy the file "
        "again from where it comes from, or take another backup"
    )


def _unpack(file: Path, into: Path) -> list[str]:
    """Write every member below `into`, each checked against the list; returns the late ones."""
    contents, said = _list_of(file)
    _check_list(file, contents, said)
    late = []
    seen: set[str] = set()
    with file.open("rb") as list_source, tarfile.open(file, "r:") as tar:
        list_source.seek(contents.offset_data)
        end = contents.offset_data + contents.size
        list_source.readline()  # the summary
        for member in _members(tar):
            if member.name == CONTENTS:
                break
            if list_source.tell() >= end:
                raise _damaged(file, member.name)
            try:
                line = orjson.loads(list_source.readline())
            except ValueError:
                raise _damaged(file, CONTENTS) from None
            name = line["name"]
            if (member.name, member.size) != (name, line["bytes"]) or not member.isreg():
                raise _damaged(file, name)
            if name in seen or not _may_be_in(name):
                raise BackupRefused(f"{file} is no backup: it has {name}, which none has")
            seen.add(name)
            source = tar.extractfile(member)
            if source is None or _write_out(source, into / name) != line["sha256"]:
                raise _damaged(file, name)
            if line.get("late"):
                late.append(name)
        if list_source.tell() != end:
            raise _damaged(file, CONTENTS)
    (into / HEADER).unlink()
    return late


def _check_list(file: Path, contents: tarfile.TarInfo, said: tarfile.TarInfo) -> None:
    hashing = hashlib.sha256()
    with file.open("rb") as source:
        source.seek(contents.offset_data)
        left = contents.size
        while left and (piece := source.read(min(left, PIECE))):
            hashing.update(piece)
            left -= len(piece)
        source.seek(said.offset_data)
        line = source.read(said.size)
    if line != f"{hashing.hexdigest()}  {CONTENTS}\n".encode():
        raise _damaged(file, CONTENTS)


def _may_be_in(name: str) -> bool:
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        return False
    if len(parts) == 1:
        return name in (HEADER, NAMES, f"{DATABASE}.zst", f"{SANDBOX}.zst", KEY)
    return parts[0] in FOLDERS


def _write_out(source: Any, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    hashing = _Hashing(source)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    mode = 0o600 if path.name == KEY else 0o666
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        while piece := hashing.read(PIECE):
            file.write(piece)
    return hashing.digest.hexdigest()


# --- restore ---------------------------------------------------------------------------------


def restore(file: Path, home: Path, replace: bool = False) -> Restored:
    """Put a backup into `home`, which is empty or, with `replace`, is moved aside whole.

    Everything is unpacked, verified and made ready beside the home, which nobody sees before it is
    complete. Raises `BackupRefused`, `OSError`; the home is as it was then, and also if this is
    killed. Only where the system cannot exchange two folders in one step, a kill at that very step
    leaves the old home beside its place.
    """
    began = time.monotonic()
    file, home = file.expanduser().absolute(), home.resolve()
    summary = read_summary(file)
    _check_home(home, replace)
    home.parent.mkdir(parents=True, exist_ok=True)
    place = home.with_name(f"{home.name}.restoring")
    with _in_words(home.parent), _workplace(place, f"another restore of {home}", 0o777) as building:
        if home.exists():
            shutil.copymode(home, building)
        late = _unpack(file, building)
        restored = Restored(home, summary)
        _make_ready(building, home, late, restored)
        os.sync()
        _check_home(home, replace)
        restored.moved_aside = _put_in_place(building, home)
        _sync_folder(home.parent)
    restored.seconds = time.monotonic() - began
    return restored


def _check_home(home: Path, replace: bool) -> None:
    """Refuse a home that is not to be replaced, or at which somebody is at work."""
    if not home.exists():
        return
    if not home.is_dir():
        raise BackupRefused(f"{home} is not a folder")
    if not replace and any(home.iterdir()):
        raise BackupRefused(
            f"{home} is not empty: with --replace it is moved aside (nothing of it is deleted), or "
            "set COMMUNICATOR_HOME to an empty folder"
        )
    if os.path.ismount(home):
        raise BackupRefused(
            f"{home} is the root of a file system and cannot be exchanged: restore into an empty "
            "folder in it, and set COMMUNICATOR_HOME to that"
        )
    for name in (DATABASE, SANDBOX):
        if (home / name).is_file():
            check_nobody_is_there(home / name)


def check_nobody_is_there(path: Path) -> None:
    if path.name == DATABASE:
        database = SqliteDatabase(path)
        # A database that cannot be read is a reason to restore, and nobody works on it.
        living: list[str] = []
        with suppress(DatabaseFailed):
            living = Workers(database).living(datetime.now(UTC))
        database.close()
        if living:
            raise BackupRefused(
                f"a worker lives at {path.parent} ({', '.join(living)}): stop it first. If it was "
                f"killed, it counts as dead after {DEAD_AFTER.total_seconds():.0f} seconds"
            )
    # Whoever has a WAL database open holds a shared lock on it: the gateway, Dagster, a command.
    with suppress(apsw.NotADBError, apsw.CorruptError, apsw.IOError, apsw.CantOpenError):
        probe = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            probe.set_busy_timeout(1_000)
            probe.execute("PRAGMA locking_mode=EXCLUSIVE")
            probe.execute("BEGIN EXCLUSIVE")
            probe.execute("ROLLBACK")
        except apsw.BusyError:
            raise BackupRefused(
                f"something has {path} open: stop the worker, the gateway, Dagster, the sandbox "
                "and every command that runs there, for what they write would go to the old home"
            ) from None
        finally:
            probe.close()


def _make_ready(building: Path, home: Path, late: list[str], restored: Restored) -> None:
    """Turn what was unpacked into an installation that may begin to work."""
    for name in (DATABASE, SANDBOX):
        packed = building / f"{name}.zst"
        if packed.exists():
            with (
                pa.input_stream(str(packed), compression="zstd") as source,
                (building / name).open("wb") as target,
            ):
                shutil.copyfileobj(source, target, PIECE)
            packed.unlink()
    if not (building / DATABASE).is_file():
        raise BackupRefused("there is no database in the backup: it is no backup of Communicator")
    database = SqliteDatabase(building / DATABASE)
    try:
        migrate(database)
        database.execute("DELETE FROM workers")  # those that lived when the backup was made
        restored.unknown = distrust_everything(database)
        restored.policies_revoked = _revoke_policies(database)
        _forget_strangers(building, database)
        _know_names(building / NAMES, database)
        restored.marked_days = _mark(building, database, late, restored.summary.unsettled)
        # Whoever was landing a file at the moment of the backup is not here to mark its days.
        WorkQueue(database).recover_landings(LocalObjects(building))
        restored.touched_days = len(WorkQueue(database).dirty())
        restored.key = _find_key(building, home)
        restored.log_in = locked_out(Keyring(building / KEY), database)
    finally:
        database.close()


def _revoke_policies(database: Database) -> int:
    """A draft that was approved and sent without a person after the backup is there again, not
    approved: a person looks at each until somebody opens the policies anew."""
    rows = database.execute(
        "UPDATE sending_policies SET revoked_at = ?, revoked_why = ? WHERE revoked_at IS NULL "
        "RETURNING account",
        (
            utc_text(datetime.now(UTC)),
            "a backup was restored: what went out after it was made is not known here",
        ),
    )
    return len(rows)


def _forget_strangers(building: Path, database: Database) -> None:
    """Take away files of accounts that the database does not know: they were removed, or added, or
    half of either, while the backup was made. A later account of the same name would inherit them.
    """
    known = set(account_keys(database))
    for pattern in ("landing/*", "joined/*", "lake/*/*", "digests/*"):
        for folder in list(building.glob(pattern)):
            if folder.name not in known:
                shutil.rmtree(folder)


def _know_names(file: Path, database: Database) -> None:
    """The names that came with late files, if any did."""
    if not file.exists():
        return
    people: dict[str, list[Person]] = defaultdict(list)
    channels: dict[str, list[Channel]] = defaultdict(list)
    known = set(account_keys(database))
    with file.open("rb") as lines:
        for kind, account, *row in map(orjson.loads, lines):
            if account not in known:
                continue
            if kind == "people":
                key, name, seen_at, handle, is_bot = row
                seen = from_utc_text(seen_at)
                people[account].append(Person(key, name, seen, handle, bool(is_bot)))
            else:
                key, name, of, seen_at = row
                channels[account].append(Channel(key, name, of, from_utc_text(seen_at)))
    for account, of_account in people.items():
        know_people(database, account, of_account)
    for account, places in channels.items():
        know_channels(database, account, places)
    file.unlink()


def _mark(building: Path, database: Database, late: list[str], unsettled: Iterable[str]) -> int:
    """Have the days done again of which the database may know less than the lake."""
    lake = Lake(LocalObjects(building))
    known = set(account_keys(database))
    days: dict[str, set[str]] = defaultdict(set)
    for name in late:
        if _account_of(name) in known:
            table = pq.read_table(str(building / name), columns=["day"], partitioning=None)
            days[_account_of(name)].update(_different(table))
    for account in known.intersection(unsettled):
        for month in landed_months(lake, account):
            table = read_landing(lake, AccountMonth(account, month), None, ["day"])
            days[account].update(_different(table))
        rows = database.execute("SELECT day FROM published_days WHERE account = ?", (account,))
        days[account].update(row["day"] for row in rows)
    for account, of_account in days.items():
        WorkQueue(database).mark(account, of_account, "a backup was restored")
    return sum(map(len, days.values()))


def _different(table: pa.Table) -> list[str]:
    values: list[str] = table["day"].unique().to_pylist()  # type: ignore[assignment]
    return values


def _find_key(building: Path, home: Path) -> str:
    if (building / KEY).is_file():
        return "in the backup"
    if os.environ.get(KEYS_VARIABLE):
        return "from the environment"
    if (home / KEY).is_file():
        shutil.copy2(home / KEY, building / KEY)
        return "kept"
    return "missing"


def locked_out(keys: Keyring, database: Database) -> list[str]:
    """The connected accounts whose credentials do not open with the keys."""
    locked = []
    for row in database.execute("SELECT account, secrets FROM connections ORDER BY account"):
        try:
            keys.open(row["secrets"])
        except KeyMissing:
            locked.append(row["account"])
    return locked


def _put_in_place(building: Path, home: Path) -> Path | None:
    """Let `building` be the home; returns where the old one is, if there was something in it."""
    if not home.exists() or not any(home.iterdir()):
        os.rename(building, home)
        return None
    aside = _free_name(home.with_name(f"{home.name}.before-restore-{stamp()}"))
    # Under the name that the old home is to have, so that the exchange is the last step: the old
    # content never lies under the name of something that may be cleared away.
    os.rename(building, aside)
    if _exchange(aside, home):
        return aside
    os.rename(aside, building)
    os.rename(home, aside)
    try:
        os.rename(building, home)
    except BaseException:
        os.rename(aside, home)
        raise
    return aside


def stamp() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return path if not path.exists() else next(name for name in names if not name.exists())


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the system or the file system cannot."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    return bool(call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


# --- both ------------------------------------------------------------------------------------


@contextmanager
def _workplace(place: Path, who: str, mode: int = 0o700) -> Iterator[Path]:
    """An empty folder of our own, locked, and gone in the end unless it was renamed. What a killed
    process left in it is cleared away."""
    lock = _lock(place, who, mode)
    try:
        for left in list(place.iterdir()):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
        yield place
    finally:
        if _is(lock, place):
            shutil.rmtree(place, ignore_errors=True)
        os.close(lock)


@contextmanager
def locked(place: Path, who: str) -> Iterator[None]:
    """A folder of our own, made if need be, in which nobody else is at work."""
    lock = _lock(place, who, 0o700)
    try:
        yield
    finally:
        os.close(lock)


def _lock(place: Path, who: str, mode: int) -> int:
    while True:
        place.mkdir(mode, exist_ok=True)
        lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise BackupRefused(f"{who} is under way: wait until it is done") from None
        if _is(lock, place):  # and not renamed or removed before we had the lock
            return lock
        os.close(lock)


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


@contextmanager
def _in_words(place: Path) -> Iterator[None]:
    """A full disk, and a folder that may not be written to, in words."""
    try:
        yield
    except (apsw.FullError, apsw.IOError, DatabaseFailed) as error:
        cause = error.__cause__ if isinstance(error, DatabaseFailed) else error
        if isinstance(cause, apsw.FullError):
            raise BackupRefused(_full(place)) from None
        if not isinstance(cause, apsw.IOError):
            raise
        raise BackupRefused(
            f"reading or writing a database went wrong ({cause}), in the home or in {place}: "
            "nothing was changed. Look at the disks, and at the limits of this process"
        ) from None
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise BackupRefused(_full(place)) from None
        if error.errno == errno.EFBIG:
            raise BackupRefused(
                f"a file in {place} may not become so large (a limit of this process or of the "
                "file system): nothing was changed"
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise BackupRefused(
                f"{error.strerror}: {error.filename or place}. Everything is first written to "
                f"{place}, where this user must be allowed to write; nothing was changed"
            ) from None
        raise


def _full(place: Path) -> str:
    return f"no room is left on the disk of {place}: nothing was changed. Make room and try again"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
