"""Backup and restore of an installation at Cloudflare, by way of a home on this machine.

Belongs here: bringing rows and objects from D1 and R2 into a folder and from a folder to there, and
why what arrives is of one moment and whole. Does not belong here: the file and its repairs
(`backup.py`, which works on the folder), words on the screen (`cli/backups.py`).

Everything lies in `<home>/moving` meanwhile. Whatever breaks off, the same command goes on with
what is there already.

**From Cloudflare: one moment.** D1 has no transaction that is held open, so a round is:

1. List the bucket, and copy what is not here yet.
2. Read the first page of every table in *one* batch, which is one transaction: the moment. Read the
   other pages of large tables, each in a batch with a look at `write_fences`. Every batch that
   writes leaves a fence there, so if none has come, nobody has written, and the pages are of that
   moment too: no delivery without its approval, no attempt without its delivery, no push that
   counts as landed before the file that it landed in is here.
3. List the bucket again. If it is as it was, it was so at the moment as well.

Anything else is another round. Reading the small tables alone is not enough: a delivery and the
message that it answers are in tables of both kinds. A worker writes every three seconds, so large
installations have to be stopped for it; `BackupRefused` says so after `MOST_ROUNDS`.

**To Cloudflare: rows as they were.** The schema's triggers would refuse deliveries that are under
way, log them once more, and mark what is to be learnt. So they are dropped, all but the one that
fills `messages_fts`, in the batch that notes an unfinished restore among the migrations; and made
again from the schema's own words in the batch that takes the note away. Rows go table by table, in
an order in which what others refer to comes first, within a table by its key, each statement whole
or not at all: how many there are says where to go on. The note goes when everything was read back
from there and is the same. It has the id of the folder that the rows come from: another machine, or
the same file unpacked once more, would mix rows of two restores.

What is replaced is first saved beside the home, as a backup of its own.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from communicator_pipeline.platforms.sandbox.chat import FILE as SANDBOX
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.backup import (
    DATABASE,
    FOLDERS,
    KEY,
    BackedUp,
    BackupRefused,
    Restored,
    Summary,
    back_up,
    check_nobody_is_there,
    copy_sandbox,
    locked,
    locked_out,
    restore,
    stamp,
)
from communicator_pipeline.storage.credentials import KEYS_VARIABLE, KeyMissing, Keyring
from communicator_pipeline.storage.database import (
    UNFINISHED,
    Database,
    DatabaseFailed,
    DatabaseUnavailable,
    OutcomeUnknown,
    Row,
    SqliteDatabase,
    Statement,
    Value,
    carry_rows,
    migrate,
)
from communicator_pipeline.storage.lake import Lake
from communicator_pipeline.storage.objects import LocalObjects, ObjectInfo, ObjectStore
from communicator_pipeline.storage.on_cloudflare import Cloudflare
from communicator_pipeline.storage.sealed import seal_anew
from communicator_pipeline.storage.workers import Workers

MOST_ROUNDS = 8
LOOK_AGAIN = 1.0  # seconds
FIRST_PAGE, PAGE = 200_000, 4_000_000  # bytes; of all tables together, the first are some 10 MB
MOST_ROWS = 5_000  # in a page
BATCH = 1_500_000  # characters of rows that go there in one call; a single statement may have more
TOGETHER = 16  # objects on their way side by side: as many as `R2Objects` keeps connections for
MOST_TRIES = 5

_LEFT_OUT = ("d1_migrations", "write_fences", "workers")
"""Tables that are of a database or of those that live, and not of the installation."""

_FILLS_SEARCH = "messages_inserted"

# A write adds one. Taking old ones away takes the oldest, and is a write.
_WRITES: Statement = ("SELECT count(*), min(written_at || fence) FROM write_fences", ())

_MIGRATIONS: Statement = ("SELECT name FROM d1_migrations ORDER BY name", ())

_BUSY = (
    "somebody writes to the database or the bucket all the time: stop the worker, the gateway and "
    "every command meanwhile, and try again. What was copied is kept"
)


@dataclass(frozen=True)
class Sum:
    """How much there is, and a digest of it."""

    count: int
    digest: str  # SHA-256


@dataclass(frozen=True)
class Moved:
    """What went from one place to the other, and is the same in both."""

    tables: dict[str, Sum]
    objects: dict[str, Sum]  # by folder


class _SomebodyWrote(Exception):
    """Between two pages, which are of two moments."""


class _Differs(BackupRefused):
    """What has arrived is not what was sent."""


@dataclass(frozen=True)
class _Table:
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


_Rows = tuple[_Table, list[list[Any]]]


# --- from Cloudflare -------------------------------------------------------------------------


def back_up_cloudflare(
    home: Path,
    target: Path,
    with_key: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> tuple[BackedUp, Moved]:
    """Write a backup of the installation at Cloudflare to `target`, as `back_up` does. Raises
    `BackupRefused`, `OSError`, `DatabaseFailed`; what was copied then is kept for the next time."""
    configured = Cloudflare.of_environment(environment)
    with _at_work(home) as place:
        return _back_up(configured, home, place, target, with_key)


def _back_up(
    configured: Cloudflare, home: Path, place: Path, target: Path, with_key: bool
) -> tuple[BackedUp, Moved]:
    database, bucket = configured.database(home), configured.objects(home)
    began = time.monotonic()
    if _unfinished(database):
        raise BackupRefused(
            "a restore to this database was broken off, so there is nothing whole to back up: "
            "run it again to its end"
        )
    staging = place / "backup"
    staging.mkdir(exist_ok=True)
    moved = _bring(database, bucket, staging)
    (staging / KEY).unlink(missing_ok=True)
    if (home / KEY).is_file():
        shutil.copy2(home / KEY, staging / KEY)
    (staging / SANDBOX).unlink(missing_ok=True)
    if (home / SANDBOX).is_file():
        copy_sandbox(home, staging / SANDBOX)
    done = back_up(staging, target, with_key)
    shutil.rmtree(staging)
    return replace(done, seconds=time.monotonic() - began), moved


def _bring(database: Database, bucket: ObjectStore, staging: Path) -> Moved:
    """Copy rows and objects as they were at one moment."""
    for _ in range(MOST_ROUNDS):
        listed = _listed(bucket)
        try:
            _bring_objects(bucket, listed, staging)
        except FileNotFoundError:  # joined into another, or collected
            continue
        sums = _bring_rows(database, staging / DATABASE)
        if sums is not None and _listed(bucket) == listed:
            return Moved(sums, _object_sums(LocalObjects(staging)))
        time.sleep(LOOK_AGAIN)
    raise BackupRefused(_BUSY)


def _listed(objects: ObjectStore) -> dict[str, ObjectInfo]:
    return {info.key: info for folder in FOLDERS for info in objects.list(f"{folder}/")}


def _bring_objects(bucket: ObjectStore, listed: Mapping[str, ObjectInfo], staging: Path) -> None:
    """Copy what is not here as it was last written there, which its time of modification says,
    and take away what is here and not there."""
    here = LocalObjects(staging)
    found = _listed(here)
    for key in found.keys() - listed.keys():
        here.delete(key)

    def bring(key: str) -> None:
        here.put(key, bucket.get(key)[0])
        modified = listed[key].modified_at.timestamp()
        os.utime(staging / key, (modified, modified))

    _side_by_side(bring, (key for key, info in listed.items() if found.get(key) != info))


def _bring_rows(source: Database, path: Path) -> dict[str, Sum] | None:
    """A database with the rows that are in `source` at one moment; None if somebody wrote."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    here = SqliteDatabase(path)
    try:
        migrate(here)
        tables, triggers = _tables(here), _triggers(here)
        sums: dict[str, Sum] = {}
        there: list[list[Row]] = []

        def see(looked: list[list[Row]]) -> None:
            there[:] = there or looked
            if looked != there:
                raise _SomebodyWrote

        here.batch(_without(triggers))
        for table, rows in _summed(_pages(source, tables, (_WRITES, _MIGRATIONS), see), sums):
            for statement in carry_rows(_insert(table), rows):
                here.execute(*statement)
        here.batch(_with(triggers))
        if there[1] != here.execute(*_MIGRATIONS):
            raise BackupRefused(
                "the database is of another version of Communicator than this one: install the "
                "version that works there, or start that command once to bring it up to date"
            )
        _must_be_equal(sums, _table_sums(here, tables))
        return sums
    except _SomebodyWrote:
        return None
    finally:
        here.close()


# --- to Cloudflare ---------------------------------------------------------------------------


def restore_to_cloudflare(
    file: Path,
    home: Path,
    replacing: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> tuple[Restored, Moved]:
    """Put a backup into the database and the bucket, which are empty or, with `replacing`, are
    saved in a backup beside the home and emptied. Raises `BackupRefused`, `OSError`,
    `DatabaseFailed`; called again with the same file it goes on where it was.

    What is sealed in the backup is sealed with this installation's keys, if the backup has its own.
    """
    began = time.monotonic()
    configured = Cloudflare.of_environment(environment)
    database, bucket = configured.database(home), configured.objects(home)
    file = file.expanduser().absolute()
    with _at_work(home) as place:
        staging = place / _digest_of(file)[:16]
        goes_on = staging.with_suffix(".json").exists()
        name, restored = _unpacked(file, staging, home)
        here = SqliteDatabase(staging / DATABASE)
        try:
            begun = name in _notes(database)
            moved = None
            if goes_on and not begun:  # killed before the first step, or behind the last one
                moved = _whole(here, staging, database, bucket)
            if moved is None:
                if not begun:
                    restored.moved_aside = _make_room(configured, home, place, here, replacing)
                    _begin(database, here, name)
                try:
                    _take(here, staging, database, bucket)
                    moved = _compared(here, staging, database, bucket)
                except _Differs:
                    staging.with_suffix(".json").unlink()  # going on would end here again
                    raise
                _put_sandbox(staging, home)
                _end(database, here, name)
        finally:
            here.close()
        # Copies of objects that were there before, which the same keys may name.
        shutil.rmtree(home / "cache" / "r2", ignore_errors=True)
        # First what says what was done: without it, whatever a kill leaves here is done anew.
        staging.with_suffix(".json").unlink()
        for left in list(place.iterdir()):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    restored.seconds = time.monotonic() - began
    return restored, moved


def _digest_of(file: Path) -> str:
    try:
        with file.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except FileNotFoundError:
        raise BackupRefused(f"{file} does not exist") from None
    except IsADirectoryError:
        raise BackupRefused(f"{file} is a folder: name the file in it") from None


def _unpacked(file: Path, staging: Path, home: Path) -> tuple[str, Restored]:
    """The name of the note in the database, and what restoring to `staging` came to; from before,
    if that was done already."""
    said = staging.with_suffix(".json")
    if said.exists():
        known = orjson.loads(said.read_bytes())
        known["restored"]["home"] = home
        known["restored"]["summary"] = Summary(**known["restored"]["summary"])
        return known["name"], Restored(**known["restored"])
    if staging.exists():
        shutil.rmtree(staging)  # without a word of what was done: nothing of it has left
    restored = restore(file, staging)
    restored.key, restored.log_in = _seal_for(home, staging)
    restored.home = home
    name = UNFINISHED + secrets.token_hex(8)
    LocalObjects(staging.parent).put(
        said.name, orjson.dumps({"name": name, "restored": asdict(restored)}, default=str)
    )
    return name, restored


def _seal_for(home: Path, staging: Path) -> tuple[str, list[str]]:
    """Seal what is sealed with the keys of this installation; returns where they come from, and
    the accounts whose credentials do not open."""
    archived = staging / KEY
    come_from = "missing"
    if os.environ.get(KEYS_VARIABLE):
        come_from = "from the environment"
    elif (home / KEY).is_file():
        come_from = "kept"
    with_archived = archived.is_file()
    if with_archived and come_from == "missing":
        shutil.copy2(archived, home / KEY)
        come_from = "in the backup"
    database = SqliteDatabase(staging / DATABASE)
    try:
        if with_archived and come_from != "in the backup":
            resealing = _Resealing(home / KEY, _only(archived))
            seal_anew(Stores(Lake(LocalObjects(staging)), database, resealing))
        archived.unlink(missing_ok=True)
        return come_from, locked_out(Keyring(home / KEY), database)
    finally:
        database.close()


def _only(path: Path) -> MultiFernet:
    """The keys in a file, whatever the environment says."""
    try:
        return MultiFernet([Fernet(key) for key in path.read_text().split()])
    except ValueError:
        raise KeyMissing("what the backup has for keys is not a list of Fernet keys") from None


class _Resealing(Keyring):
    """Opens with the backup's keys as well, and seals with those of this installation. What none
    opens goes through as it is."""

    _AS_IT_WAS = "\0sealed"

    def __init__(self, path: Path, archived: MultiFernet) -> None:
        super().__init__(path)
        self._archived = archived

    def open(self, sealed: str) -> dict[str, str]:
        try:
            values: dict[str, str] = orjson.loads(self._archived.decrypt(sealed.encode()))
        except InvalidToken:
            return {self._AS_IT_WAS: sealed}
        return values

    def seal(self, values: Mapping[str, str]) -> str:
        return values.get(self._AS_IT_WAS) or super().seal(values)


def _make_room(
    configured: Cloudflare, home: Path, place: Path, here: Database, replacing: bool
) -> Path | None:
    """Refuse a target that is not empty, or save it and empty it; returns the backup of it."""
    database, bucket = configured.database(home), configured.objects(home)
    unfinished = _unfinished(database)
    if not unfinished:
        _migrate(database)
    living = Workers(database).living(datetime.now(UTC))
    if living:
        raise BackupRefused(
            f"a worker lives on this database ({', '.join(living)}): stop it first, and the "
            "gateway too. If it was killed, it counts as dead after some seconds"
        )
    filled = unfinished or _filled(database, bucket, home, _tables(here))
    if not filled:
        return None
    if not replacing:
        raise BackupRefused(
            f"the target is not empty ({filled}): with --replace it is saved in a backup and then "
            "emptied, or name another database and bucket"
        )
    saved = None
    if not unfinished:
        saved = home / f"before-restore-{stamp()}.tar"
        _back_up(configured, home, place, saved, with_key=False)
    _settle(lambda: database.batch(_everything_dropped(database)), lambda: not _notes(database))
    _side_by_side(bucket.delete, _listed(bucket))
    _migrate(database)
    return saved


def _filled(database: Database, bucket: ObjectStore, home: Path, tables: Iterable[_Table]) -> str:
    """What is there already; "" if nothing is."""
    names = [table.name for table in tables]
    answers = database.batch(
        [(f'SELECT EXISTS (SELECT 1 FROM "{name}") AS some', ()) for name in names]
    )
    found = [name for name, rows in zip(names, answers, strict=True) if rows[0]["some"]]
    found += [f"{f}/" for f in FOLDERS if next(iter(bucket.list(f"{f}/")), None) is not None]
    if (home / SANDBOX).is_file():
        check_nobody_is_there(home / SANDBOX)
        found.append(SANDBOX)
    return ", ".join(found)


def _everything_dropped(database: Database) -> list[Statement]:
    rows = database.execute(
        "SELECT type, name FROM sqlite_schema WHERE type IN ('table', 'view') "
        "AND name NOT GLOB 'sqlite_*' AND name NOT GLOB '_cf_*' AND name NOT GLOB 'messages_fts_*' "
        "ORDER BY type = 'table', rowid DESC"
    )
    drops: list[Statement] = [(f'DROP {row["type"]} "{row["name"]}"', ()) for row in rows]
    return [("PRAGMA defer_foreign_keys = ON", ()), *drops]


def _begin(database: Database, here: Database, name: str) -> None:
    note: Statement = ("INSERT INTO d1_migrations (name) VALUES (?)", (name,))
    statements = [note, *_without(_triggers(here))]
    _settle(lambda: database.batch(statements), lambda: name in _notes(database))


def _take(here: Database, staging: Path, database: Database, bucket: ObjectStore) -> None:
    """Bring rows and objects there, as far as they are not there yet."""
    local = LocalObjects(staging)
    wanted, found = _listed(local), _listed(bucket)

    def take(key: str) -> None:
        bucket.put(key, local.get(key)[0])

    # Whatever is there with its size was brought by this restore, and is read back in the end.
    _side_by_side(
        take,
        (k for k, info in wanted.items() if k not in found or found[k].size != info.size),
    )
    tables = _tables(here)
    counts = database.batch([(f'SELECT count(*) AS n FROM "{t.name}"', ()) for t in tables])
    to_skip = {t.name: rows[0]["n"] for t, rows in zip(tables, counts, strict=True)}
    for batch in _batches(_still_to_go(_pages(here, tables), to_skip)):
        database.batch(batch)


def _compared(here: Database, staging: Path, database: Database, bucket: ObjectStore) -> Moved:
    """What is there, read back whole; raises `_Differs`."""
    tables = _tables(here)
    moved = Moved(_table_sums(here, tables), _object_sums(LocalObjects(staging)))
    _must_be_equal(moved.tables, _table_sums(database, tables))
    _must_be_equal(moved.objects, _object_sums(bucket))
    return moved


def _whole(here: Database, staging: Path, database: Database, bucket: ObjectStore) -> Moved | None:
    """What is there, if it is what is to be there, and nothing says that it is unfinished."""
    # Killed amid the target's migrations it lacks tables.
    if not _notes(here) <= _notes(database) or _unfinished(database):
        return None
    try:
        return _compared(here, staging, database, bucket)
    except _Differs:
        return None


def _still_to_go(pages: Iterable[_Rows], to_skip: dict[str, int]) -> Iterator[Statement]:
    for table, rows in pages:
        skipped = min(len(rows), to_skip[table.name])
        to_skip[table.name] -= skipped
        yield from carry_rows(_insert(table), rows[skipped:])


def _batches(statements: Iterable[Statement]) -> Iterator[list[Statement]]:
    """Few calls, none of them too large."""
    batch: list[Statement] = []
    size = 0
    for statement in statements:
        length = len(str(statement[1][0]))
        if batch and size + length > BATCH:
            yield batch
            batch, size = [], 0
        batch.append(statement)
        size += length
    if batch:
        yield batch


def _put_sandbox(staging: Path, home: Path) -> None:
    """The sandbox's chats, which are on this machine wherever the rest is."""
    ours, theirs = staging / SANDBOX, home / SANDBOX
    if not ours.is_file() or (theirs.is_file() and filecmp.cmp(ours, theirs, shallow=False)):
        return
    if theirs.is_file():
        os.rename(theirs, theirs.with_name(f"{SANDBOX}.before-restore-{stamp()}"))
    LocalObjects(home).put(SANDBOX, ours.read_bytes())


def _end(database: Database, here: Database, name: str) -> None:
    triggers = _triggers(here)
    statements: list[Statement] = [
        *_with(triggers),
        ("DELETE FROM d1_migrations WHERE name = ?", (name,)),
    ]
    _settle(lambda: database.batch(statements), lambda: name not in _notes(database))
    if _triggers(database) != triggers:
        raise BackupRefused(
            "the target's triggers are not those of this version: restore once more with --replace"
        )


def _settle(do: Callable[[], Any], is_done: Callable[[], bool]) -> None:
    """Do what leaves no fence, for it touches the migrations: whether it was done is read from
    them, and if not, it is tried again."""
    for tries in range(1, MOST_TRIES + 1):
        try:
            do()
        except DatabaseFailed as error:
            if is_done():
                return
            if tries == MOST_TRIES or not isinstance(error, OutcomeUnknown | DatabaseUnavailable):
                raise
            time.sleep(LOOK_AGAIN)
        else:
            return


def _migrate(database: Database) -> None:
    """Try as long as it goes on: the next try begins behind what the ones before have applied."""
    applied = 0
    while True:
        try:
            return _settle(lambda: migrate(database), lambda: False)
        except (OutcomeUnknown, DatabaseUnavailable):
            before, applied = applied, len(_notes(database))
            if applied <= before:
                raise


# --- both ------------------------------------------------------------------------------------


@contextmanager
def _at_work(home: Path) -> Iterator[Path]:
    home.mkdir(parents=True, exist_ok=True)
    place = home / "moving"
    with locked(place, f"another backup or restore at {home}"):
        yield place


def _notes(database: Database) -> set[str]:
    try:
        return {row["name"] for row in database.execute("SELECT name FROM d1_migrations")}
    except (DatabaseUnavailable, OutcomeUnknown):
        raise
    except DatabaseFailed:  # there is no such table yet
        return set()


def _unfinished(database: Database) -> str:
    return ", ".join(name for name in sorted(_notes(database)) if name.startswith(UNFINISHED))


def _tables(here: Database) -> list[_Table]:
    """The tables of an installation, those that others refer to first."""
    left_out = ", ".join(f"'{name}'" for name in _LEFT_OUT)
    columns = here.execute(
        "SELECT t.name AS name, c.name AS column, c.pk AS pk FROM sqlite_schema AS t, "
        "pragma_table_info(t.name) AS c WHERE t.type = 'table' AND t.name NOT GLOB 'sqlite_*' "
        f"AND t.name NOT GLOB 'messages_fts*' AND t.name NOT IN ({left_out}) "
        "ORDER BY t.name, c.cid"
    )
    found: dict[str, list[Row]] = {}
    for row in columns:
        found.setdefault(row["name"], []).append(row)
    refers: dict[str, set[str]] = {name: set() for name in found}
    for row in here.execute(
        'SELECT t.name AS name, f."table" AS parent FROM sqlite_schema AS t, '
        "pragma_foreign_key_list(t.name) AS f WHERE t.type = 'table'"
    ):
        refers[row["name"]].add(row["parent"])
    tables = []
    for name in TopologicalSorter(refers).static_order():
        key = [r["column"] for r in sorted(found[name], key=lambda r: r["pk"]) if r["pk"]]
        names = [r["column"] for r in found[name]]
        # A table without a key of its own is told by where its rows stand.
        given = ("rowid", *names) if not key else tuple(names)
        tables.append(_Table(name, given, tuple(key or ["rowid"])))
    return tables


def _triggers(database: Database) -> dict[str, str]:
    rows = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
    return {row["name"]: row["sql"] for row in rows}


def _without(triggers: Mapping[str, str]) -> list[Statement]:
    return [(f'DROP TRIGGER "{name}"', ()) for name in triggers if name != _FILLS_SEARCH]


def _with(triggers: Mapping[str, str]) -> list[Statement]:
    return [(sql, ()) for name, sql in triggers.items() if name != _FILLS_SEARCH]


def _page(table: _Table, after: Row | None, most: int) -> Statement:
    """The next rows, some `most` bytes: at least one row, and at most `MOST_ROWS`."""
    columns, key = _quoted(table.columns), _quoted(table.key)
    sizes = " + ".join(f"coalesce(octet_length({name}), 0) + 4" for name in columns.split(", "))
    where = ""
    values: list[Value] = []
    if after is not None:
        values = [after[name] for name in table.key]
        where = f"WHERE ({key}) > ({', '.join('?' * len(values))}) "
    return (
        f"SELECT {columns}, _found, row_number() OVER (ORDER BY {key}) AS _number FROM ("
        f"SELECT {columns}, _size, sum(_size) OVER (ORDER BY {key} ROWS UNBOUNDED PRECEDING) "
        "AS _upto, count(*) OVER () AS _found FROM ("
        f'SELECT {columns}, {sizes} AS _size FROM "{table.name}" {where}'
        f"ORDER BY {key} LIMIT {MOST_ROWS})) WHERE _upto - _size < {most} ORDER BY {key}",
        values,
    )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _goes_on(rows: Sequence[Row]) -> bool:
    """Whether there may be rows behind these."""
    return bool(rows) and (rows[-1]["_number"] < rows[-1]["_found"] or len(rows) == MOST_ROWS)


def _pages(
    source: Database,
    tables: Sequence[_Table],
    look: Sequence[Statement] = (),
    see: Callable[[list[list[Row]]], None] = lambda looked: None,
) -> Iterator[_Rows]:
    """The rows of each table in order of its key, page by page; the first pages come together.
    With each call goes `look`, and `see` is given what it answers."""
    firsts = [_page(table, None, FIRST_PAGE) for table in tables]
    answers = source.batch([*look, *firsts])
    see(answers[: len(look)])
    for table, first in zip(tables, answers[len(look) :], strict=True):
        rows = first
        while True:
            yield table, [[row[column] for column in table.columns] for row in rows]
            if not _goes_on(rows):
                break
            *looked, rows = source.batch([*look, _page(table, rows[-1], PAGE)])
            see(looked)


def _insert(table: _Table) -> str:
    values = ", ".join(f"value ->> {place}" for place in range(len(table.columns)))
    return (
        f'INSERT INTO "{table.name}" ({_quoted(table.columns)}) '
        f"SELECT {values} FROM json_each(?) WHERE true ON CONFLICT DO NOTHING"
    )


def _table_sums(database: Database, tables: Sequence[_Table]) -> dict[str, Sum]:
    sums: dict[str, Sum] = {}
    for _ in _summed(_pages(database, tables), sums):
        pass
    return sums


def _summed(pages: Iterable[_Rows], sums: dict[str, Sum]) -> Iterator[_Rows]:
    """The pages, and the tables' sums when they are through."""
    digests: dict[str, tuple[int, Any]] = {}
    for table, rows in pages:
        count, digest = digests.get(table.name, (0, hashlib.sha256()))
        for row in rows:
            digest.update(orjson.dumps([_number(value) for value in row]) + b"\n")
        digests[table.name] = (count + len(rows), digest)
        yield table, rows
    sums.update({name: Sum(n, digest.hexdigest()) for name, (n, digest) in digests.items()})


def _number(value: Any) -> Any:
    """JSON, in which D1 answers, has one kind of number: 80.0 is 80."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _object_sums(objects: ObjectStore) -> dict[str, Sum]:
    """What each folder holds, read whole."""
    sums = {}
    for folder in FOLDERS:
        keys = sorted(info.key for info in objects.list(f"{folder}/"))
        digest = hashlib.sha256()
        found = _side_by_side(lambda key: hashlib.sha256(objects.get(key)[0]).hexdigest(), keys)
        for key, content in zip(keys, found, strict=True):
            digest.update(f"{content}  {key}\n".encode())
        sums[folder] = Sum(len(keys), digest.hexdigest())
    return sums


def _side_by_side(do: Callable[[str], Any], keys: Iterable[str]) -> list[Any]:
    with ThreadPoolExecutor(TOGETHER) as pool:
        try:
            return list(pool.map(do, keys))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _must_be_equal(sent: Mapping[str, Sum], arrived: Mapping[str, Sum]) -> None:
    for name, one in sent.items():
        if arrived[name] != one:
            raise _Differs(
                f"{name}: {one.count} were sent and {arrived[name].count} have arrived, or not as "
                "they were. Nothing works on the target before it is whole: make sure that nothing "
                "else writes to it, and restore again with --replace"
            )
