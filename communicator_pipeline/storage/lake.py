"""The lake: immutable Parquet files behind a manifest per asset partition.

Belongs here: reading a partition's days and replacing some of them so that no reader sees a
half-written or missing file and no writer loses another's rows. Does not belong here: what the
rows mean.

A day's file has a name of its own and is never changed. The manifest (day → file) is the only
thing that is replaced, by compare-and-swap; whoever loses the race reads it again. Files that
no manifest names are collected an hour later, so that a reader who holds an older manifest can
finish.

Days that have been over for a while are joined into one file for each month, a row group each. They
are read by day as before, and their digests stay: no day has changed. One that changes all the same
gets a file of its own again, until the month is joined once more.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
from calendar import monthrange
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from communicator_pipeline.storage.lake_rows import (
    address_of_rows,
    rows_in_files,
    rows_in_memory,
    rows_of_file,
)
from communicator_pipeline.storage.objects import ABSENT, LostRace, ObjectInfo, ObjectStore

FIRST_MONTH = os.environ.get("COMMUNICATOR_FIRST_MONTH", "2006-03")
"""The first partition. Nothing is older than the first tweet (2006-03-21); fewer months make a
tidier web UI."""

FIRST_DAY = f"{FIRST_MONTH}-01"

LARGEST_ATTACHMENT = 25 * 2**20
"""Bytes. Larger ones stay where they are, and are named."""

COLLECT_AFTER = timedelta(hours=1)

JOIN_AFTER = timedelta(days=14)
"""Days are joined that have been over for so long: late messages and edits mostly have come,"""

JOIN_AT_ONCE = 7
"""so many of them, while their month is under way; what is left when the month is over as well,"""

JOIN_UNCHANGED = timedelta(days=2)
"""once nothing in it has changed for so long. Rows that were replaced in a joined file go then."""

LARGEST_JOINED = 32 * 2**20
"""Bytes. A month of more becomes several files; one is held in memory while it is written."""

_MOST_KNOWN = 2_000  # manifests that a process keeps, some 10 KB each
_SETTLED = timedelta(seconds=2)  # two puts within a tick of the file system may look alike
_MOST_TRIES = 1_000  # each lost race is another writer's success: this many means a fault

ACCOUNT_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""An account key: a slug, for it is a partition key (`|` breaks those), a folder and a URL."""


@dataclass(frozen=True, slots=True, order=True)
class AccountMonth:
    """A partition of the chain: one account, one UTC month such as `2026-11`."""

    account: str
    month: str

    @property
    def key(self) -> str:
        """The multi-partition key, dimensions in alphabetical order as Dagster writes them."""
        return f"{self.account}|{self.month}"


@dataclass(frozen=True, slots=True)
class DayFile:
    """One day's rows: where they are and what they amount to."""

    file: str
    rows: int
    bytes: int  # that a file of these rows alone has
    digest: str  # of such a file
    first_row: int | None = None  # in a file that holds several days: where this one's begin,
    file_rows: int | None = None  # and how many there are in all

    @property
    def is_joined(self) -> bool:
        return self.first_row is not None


@dataclass(frozen=True)
class Manifest:
    """What a partition holds as of one moment.

    `entries`: day (`2026-11-03`) → file, and beside it, where an asset hands something over to
    the next day, `2026-11-03.carry` → file. `generation` grows with every swap, and is never
    below the time in milliseconds: a lake that begins anew is newer than the one that was lost.
    """

    entries: Mapping[str, DayFile]
    etag: str
    generation: int = 0
    replaced: Mapping[str, str] = field(default_factory=dict)  # file → when, for an hour

    @property
    def days(self) -> dict[str, DayFile]:
        """The days that have rows, in order."""
        return {day: entry for day, entry in self.entries.items() if "." not in day}

    @property
    def rows(self) -> int:
        return sum(day.rows for day in self.days.values())

    @property
    def bytes(self) -> int:
        return sum(day.bytes for day in self.days.values())


@dataclass(frozen=True, slots=True)
class MonthFiles:
    """The objects of a partition."""

    last_write: datetime  # UTC, of a file or the manifest
    rows: int  # files of rows
    handed_over: int  # files of what days hand over


class AccountGone(LookupError):
    """The account that is written to was removed meanwhile."""


NewDays = Mapping[str, pa.Table | None]
"""What a change wants: day → its rows, sorted; None or an empty table takes the day out."""


def carry_of(day: str) -> str:
    """The manifest's entry for what the day hands over to the next one."""
    return f"{day}.carry"


class Lake:
    """The lake of one installation."""

    def __init__(
        self, objects: ObjectStore, exists: Callable[[str], bool] = lambda account: True
    ) -> None:
        self.objects = objects
        self._exists = exists  # whether there is such an account (still)
        self._known: dict[str, tuple[str, Manifest]] = {}  # by key; with the version listed

    def manifest(self, asset: str, partition: AccountMonth) -> Manifest:
        """The partition's manifest; an empty one if nothing was written yet."""
        try:
            content, etag = self.objects.get(_manifest_key(asset, partition))
        except FileNotFoundError:
            return Manifest({}, ABSENT)
        held = orjson.loads(content)
        entries = {day: DayFile(**entry) for day, entry in held["entries"].items()}
        return Manifest(entries, etag, held["generation"], held["replaced"])

    def months(self, asset: str, account: str) -> list[str]:
        """The months for which the asset has a manifest, in order."""
        return [month for month, _ in self._listed(asset, account)]

    def month_files(self, asset: str, account: str) -> dict[str, MonthFiles]:
        """Month → what lies there of the asset, in order; by one listing."""
        prefix = f"lake/{asset}/{account}/"
        listed: dict[str, list[ObjectInfo]] = defaultdict(list)
        for info in self.objects.list(prefix):
            listed[info.key.removeprefix(prefix).split("/")[0]].append(info)
        return {month: _month_files(infos) for month, infos in sorted(listed.items())}

    def _listed(self, asset: str, account: str) -> list[tuple[str, ObjectInfo]]:
        prefix = f"lake/{asset}/{account}/"
        return [
            (info.key.removeprefix(prefix).split("/")[0], info)
            for info in self.objects.list(prefix)
            if info.key.endswith("/manifest.json")
        ]

    def _as_listed(self, asset: str, partition: AccountMonth, info: ObjectInfo) -> Manifest:
        """The manifest as a listing has it, or newer. Most of a long history has not changed since
        it was last read here: at R2 reading it again would be a call for each month."""
        version, known = self._known.get(info.key, ("", None))
        if known is not None and version == info.version:
            return known
        manifest = self.manifest(asset, partition)
        if info.modified_at < datetime.now(UTC) - _SETTLED:
            self._known[info.key] = info.version, manifest
            if len(self._known) > _MOST_KNOWN:
                self._known.clear()
        return manifest

    def update(
        self,
        asset: str,
        partition: AccountMonth,
        change: Callable[[Manifest], NewDays],
    ) -> tuple[Manifest, list[str]]:
        """Replace some days of a partition whole, or nothing at all.

        `change` sees the manifest and gives the days to write; it is called again when another
        writer was first, so it must derive everything from what it is given. Returns the
        manifest now in force and the days whose content differs from before.
        """
        for _ in range(_MOST_TRIES):
            before = self.manifest(asset, partition)
            entries = dict(before.entries)
            changed = []
            for day, table in change(before).items():
                if table is None or table.num_rows == 0:
                    if entries.pop(day, None) is not None:
                        changed.append(day)
                    continue
                content = parquet_bytes(table)
                digest = hashlib.sha256(content).hexdigest()
                if day in entries and entries[day].digest == digest:
                    continue
                name = f"{day}-{secrets.token_hex(8)}.parquet"
                self.objects.put(_file_key(asset, partition, name), content)
                entries[day] = DayFile(name, table.num_rows, len(content), digest)
                changed.append(day)
            if not changed:
                return before, []
            try:
                return self._swap(asset, partition, before, entries), sorted(changed)
            except LostRace:
                continue
        raise RuntimeError(f"{asset} {partition.key}: lost {_MOST_TRIES} races for the manifest")

    def read_day(self, asset: str, partition: AccountMonth, day: DayFile) -> pa.Table:
        """One day's rows, as written."""
        [address] = self.objects.addresses([_file_key(asset, partition, day.file)])
        if day.first_row is None:
            return rows_of_file(address)
        with pq.ParquetFile(address) as file:
            return file.read_row_group(_row_group_at(file.metadata, day.first_row))

    def rows_by(
        self, column: str, asset: str, partition: AccountMonth, manifest: Manifest, day: str
    ) -> dict[str, dict[str, Any]]:
        """A day's rows by the value of a column that is unique; none for a day without rows."""
        if day not in manifest.entries:
            return {}
        rows = self.read_day(asset, partition, manifest.entries[day]).to_pylist()
        return {row[column]: row for row in rows}

    def day_files(
        self, asset: str, account: str, first: str = "", last: str = "9999-12-31"
    ) -> list[tuple[str, str]]:
        """(address, day) of the asset's rows for the days from `first` to `last`, in order.

        An address is for `query`: it says which rows are meant of a file that holds several days.
        """
        found: list[tuple[str, str, DayFile]] = []
        for month, info in self._listed(asset, account):
            if not first[:7] <= month <= last[:7]:
                continue
            partition = AccountMonth(account, month)
            found += [
                (_file_key(asset, partition, entry.file), day, entry)
                for day, entry in self._as_listed(asset, partition, info).days.items()
                if first <= day <= last
            ]
        keys = list(dict.fromkeys(key for key, _, _ in found))
        addresses = dict(zip(keys, self.objects.addresses(keys), strict=True))
        return [(_address(addresses[key], entry), day) for key, day, entry in found]

    def query(self, sql: str, tables: Mapping[str, Sequence[str] | pa.Table]) -> pa.Table:
        """Run SQL over rows of the lake (lists of addresses) and tables in memory, by name.

        An empty list of files cannot be queried: the caller knows then that there is nothing.
        """
        with _engine(os.getpid()).cursor() as connection:
            for name, source in tables.items():
                if isinstance(source, pa.Table):
                    connection.register(name, source)
                elif (held := rows_in_memory(source)) is not None:
                    connection.register(name, held)
                else:
                    connection.execute(f"CREATE TEMP VIEW {name} AS {rows_in_files(source)}")
            answer: pa.Table = connection.sql(sql).to_arrow_table()
            return answer

    def collect_garbage(self, asset: str, partition: AccountMonth, now: datetime) -> int:
        """Delete the partition's files that no manifest has named for an hour; returns how many."""
        prefix = _folder(asset, partition)
        old = [
            info
            for info in self.objects.list(prefix)
            if info.key.endswith(".parquet") and info.modified_at < now - COLLECT_AFTER
        ]
        manifest = self.manifest(asset, partition)  # after the listing: it names all that is new
        kept = {entry.file for entry in manifest.entries.values()}
        kept |= set(_replaced_within_the_hour(manifest.replaced, now))
        garbage = [info for info in old if info.key.removeprefix(prefix) not in kept]
        for info in garbage:
            self.objects.delete(info.key)
        return len(garbage)

    def join(self, asset: str, partition: AccountMonth, now: datetime) -> int:
        """Join the files of days that are over for a while, and likewise what they hand over;
        returns how many files are replaced by fewer.

        Killed half-way it leaves a file that no manifest names; done by two at once, one of them
        has joined for nothing. A day that somebody replaces meanwhile stays replaced.
        """
        before = self.manifest(asset, partition)
        is_over = now >= end_of_day(last_day_of(partition.month)) + JOIN_AFTER
        if is_over and now < _last_swap(before) + JOIN_UNCHANGED:
            return 0
        old = {n: e for n, e in before.entries.items() if now >= end_of_day(n[:10]) + JOIN_AFTER}
        days = {name: entry for name, entry in old.items() if "." not in name}
        handed_over = {name: entry for name, entry in old.items() if name not in days}
        joined: dict[str, DayFile] = {}
        for entries in (days, handed_over):
            if _is_worth_joining(entries.values(), 1 if is_over else JOIN_AT_ONCE):
                for part in self._joinable(asset, partition, entries):
                    joined |= self._write_joined(asset, partition, part)
        if not joined:
            return 0
        for _ in range(_MOST_TRIES):
            held = self.manifest(asset, partition)
            still = {n: e for n, e in joined.items() if held.entries.get(n) == before.entries[n]}
            if not still:
                return 0
            try:
                self._swap(asset, partition, held, {**held.entries, **still})
            except LostRace:
                continue
            gone = {before.entries[name].file for name in still}
            return len(gone) - len({entry.file for entry in still.values()})
        raise RuntimeError(f"{asset} {partition.key}: lost {_MOST_TRIES} races for the manifest")

    def _joinable(
        self, asset: str, partition: AccountMonth, entries: Mapping[str, DayFile]
    ) -> list[dict[str, DayFile]]:
        """The entries cut into those that can be in one file: of one schema, and not too much."""
        keys = {name: _file_key(asset, partition, entry.file) for name, entry in entries.items()}
        files = sorted(set(keys.values()))
        addresses = dict(zip(files, self.objects.addresses(files), strict=True))
        schemas = {key: pq.read_schema(address) for key, address in addresses.items()}
        parts: dict[bytes, list[dict[str, DayFile]]] = defaultdict(lambda: [{}])
        for name, entry in sorted(entries.items()):
            of_schema = parts[schemas[keys[name]].serialize().to_pybytes()]
            size = sum(held.bytes for held in of_schema[-1].values())
            if of_schema[-1] and size + entry.bytes > LARGEST_JOINED:
                of_schema.append({})
            of_schema[-1][name] = entry
        return [part for of_schema in parts.values() for part in of_schema]

    def _write_joined(
        self, asset: str, partition: AccountMonth, entries: Mapping[str, DayFile]
    ) -> dict[str, DayFile]:
        """One file of these entries' rows, a row group each; returns where they are in it."""
        sink = io.BytesIO()
        file = f"{min(entries)}-{secrets.token_hex(8)}.parquet"
        rows = sum(entry.rows for entry in entries.values())
        joined: dict[str, DayFile] = {}
        writer: pq.ParquetWriter | None = None
        first_row = 0
        for name, entry in entries.items():
            table = self.read_day(asset, partition, entry).combine_chunks()
            writer = writer or pq.ParquetWriter(sink, table.schema, **_COMPRESSION)
            writer.write_table(table, row_group_size=entry.rows)
            joined[name] = replace(entry, file=file, first_row=first_row, file_rows=rows)
            first_row += entry.rows
        if writer is not None:
            writer.close()
            self.objects.put(_file_key(asset, partition, file), sink.getvalue())
        return joined

    def put_content(self, content: bytes) -> str:
        """Keep an attachment under the SHA-256 of its content, which it returns."""
        digest = hashlib.sha256(content).hexdigest()
        key = attachment_key(digest)
        if not self.objects.exists(key):
            self.objects.put(key, content)
        return digest

    def _swap(
        self, asset: str, partition: AccountMonth, before: Manifest, entries: Mapping[str, DayFile]
    ) -> Manifest:
        now = datetime.now(UTC)
        kept = {entry.file for entry in entries.values()}
        replaced = _replaced_within_the_hour(before.replaced, now)
        replaced |= {e.file: now.isoformat() for e in before.entries.values() if e.file not in kept}
        generation = max(before.generation + 1, int(now.timestamp() * 1000))
        held = {
            "version": 1,
            "generation": generation,
            "entries": {day: _written(entry) for day, entry in sorted(entries.items())},
            "replaced": replaced,
        }
        content = orjson.dumps(held, option=orjson.OPT_INDENT_2)
        if not self._exists(partition.account):
            raise AccountGone(f"the account {partition.account!r} was removed meanwhile")
        etag = self.objects.put(_manifest_key(asset, partition), content, if_match=before.etag)
        return Manifest(dict(sorted(entries.items())), etag, generation, replaced)


def _month_files(infos: Sequence[ObjectInfo]) -> MonthFiles:
    names = [info.key.rsplit("/", 1)[1] for info in infos]
    files = [name for name in names if name.endswith(".parquet")]
    handed_over = sum(".carry" in name for name in files)
    return MonthFiles(
        max(info.modified_at for info in infos), len(files) - handed_over, handed_over
    )


def _written(entry: DayFile) -> dict[str, Any]:
    """An entry for the manifest; of a file of one day as it was before files were joined."""
    return {name: value for name, value in asdict(entry).items() if value is not None}


def _last_swap(manifest: Manifest) -> datetime:
    return datetime.fromtimestamp(manifest.generation / 1000, UTC)


def _is_worth_joining(entries: Iterable[DayFile], least: int) -> bool:
    """Whether there are several files and so many of them are not joined ones, or a joined one
    holds rows that were replaced."""
    held: dict[str, list[DayFile]] = defaultdict(list)
    for entry in entries:
        held[entry.file].append(entry)
    alone = sum(not entry.is_joined for of_file in held.values() for entry in of_file)
    return (alone >= least and len(held) > 1) or any(
        entries[0].is_joined and sum(e.rows for e in entries) < (entries[0].file_rows or 0)
        for entries in held.values()
    )


def _row_group_at(file: pq.FileMetaData, first_row: int) -> int:
    begins = 0
    for group in range(file.num_row_groups):
        if begins == first_row:
            return group
        begins += file.row_group(group).num_rows
    raise ValueError(f"no day begins at row {first_row} of this file: its manifest is of another")


def _address(file: str, day: DayFile) -> str:
    if day.first_row is None:
        return file
    return address_of_rows(file, day.first_row, day.rows, day.file_rows or day.rows)


@cache
def _engine(process: int) -> duckdb.DuckDBPyConnection:
    """DuckDB of this process, whose cursors are connections of their own: a new one costs 26 ms, a
    cursor none. Not inherited: what a fork copies of it does not work."""
    connection = duckdb.connect()
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    return connection


def _replaced_within_the_hour(replaced: Mapping[str, str], now: datetime) -> dict[str, str]:
    return {
        file: since
        for file, since in replaced.items()
        if datetime.fromisoformat(since) > now - COLLECT_AFTER
    }


def attachment_key(sha256: str) -> str:
    return f"attachments/{sha256[:2]}/{sha256}"


def texts(column: pa.ChunkedArray[Any]) -> list[str]:
    """The values of a text column that has no nulls."""
    values: list[str] = column.to_pylist()  # type: ignore[assignment]
    return values


def parquet_digest(table: pa.Table) -> str:
    """What the manifest would call the table's content."""
    return hashlib.sha256(parquet_bytes(table)).hexdigest()


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as a Parquet file: the same rows give the same bytes."""
    sink = io.BytesIO()
    pq.write_table(table.combine_chunks(), sink, **_COMPRESSION)
    return sink.getvalue()


_COMPRESSION: dict[str, Any] = {"compression": "zstd", "compression_level": 3}


def months_between(first: str, last: str) -> list[str]:
    """Every month from `first` to `last`, both included, as `2026-11`."""
    year, month = int(first[:4]), int(first[5:7])
    months = []
    while (name := f"{year:04d}-{month:02d}") <= last[:7]:
        months.append(name)
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    return months


def stretches(months: Iterable[str]) -> list[tuple[str, str]]:
    """Months as ranges without gaps: (first, last) of each. A run covers a range, and every
    month in it is marked materialised, so months without data must not be in one."""
    ordered = sorted(set(months))
    if not ordered:
        return []
    breaks = [
        (before, after)
        for before, after in pairwise(ordered)
        if len(months_between(before, after)) > 2
    ]
    firsts = [ordered[0], *(after for _, after in breaks)]
    lasts = [*(before for before, _ in breaks), ordered[-1]]
    return list(zip(firsts, lasts, strict=True))


def start_of_day(day: str) -> datetime:
    """The moment at which the UTC day begins."""
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)


def newest_first(files: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """The (address, day) of a history from its end: the last month, the one before it, then each
    time as many as there were so far. Whoever finds what is sought stops."""
    months: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for address, day in files:
        months[day[:7]].append((address, day))
    newest = sorted(months, reverse=True)
    taken = 0
    while taken < len(newest):
        stretch = newest[taken : taken + max(taken, 1)]
        yield [file for month in reversed(stretch) for file in months[month]]
        taken += len(stretch)


def end_of_day(day: str) -> datetime:
    """The moment at which the UTC day is over."""
    return start_of_day(day) + timedelta(days=1)


def last_day_of(month: str) -> str:
    """`2026-02` gives `2026-02-28`."""
    year, number = int(month[:4]), int(month[5:7])
    return f"{month}-{monthrange(year, number)[1]:02d}"


def _folder(asset: str, partition: AccountMonth) -> str:
    return f"lake/{asset}/{partition.account}/{partition.month}/"


def _manifest_key(asset: str, partition: AccountMonth) -> str:
    return _folder(asset, partition) + "manifest.json"


def _file_key(asset: str, partition: AccountMonth, file: str) -> str:
    return _folder(asset, partition) + file
