"""The landing zone: what arrived, as it arrived, append-only.

Belongs here: envelopes, writing them durably, reading them back, and knowing which are there
already. Does not belong here: what a payload says (`platforms/`), what becomes of it
(`ingestion/`).

A file lies under `landing/<account>/<month of the messages>/` and is never changed. Before it
is written, the intent is noted in the database; after it, the days are marked dirty and the
intent is taken back in one batch. A writer that is killed in between is cleared up after by
`WorkQueue.recover_landings`, so nothing that has landed stays unmerged.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from communicator_pipeline.messages import TIME, table_schema
from communicator_pipeline.storage.lake import (
    JOIN_AFTER,
    JOIN_UNCHANGED,
    LARGEST_JOINED,
    AccountMonth,
    Lake,
    end_of_day,
    last_day_of,
    parquet_bytes,
    texts,
)
from communicator_pipeline.storage.objects import ObjectInfo
from communicator_pipeline.storage.work import WorkQueue


class Envelope(NamedTuple):
    """One thing that arrived: a version of a message, or word of its deletion."""

    day: str  # UTC day on which the message was sent, as its first version to land says
    message_id: str
    channel_id: str
    channel_kind: str
    kind: str  # 'message', or 'deletion': the payload then says what was deleted
    version_at: int  # microseconds since 1970 UTC: when it was sent, edited or deleted
    digest: int  # 64 bits over what makes this version differ from another one
    payload: bytes  # JSON, as the platform gave it
    files: str | None = None  # JSON: path in the export → SHA-256 of the stored content
    origin: str = ""  # where it came from, for people


ENVELOPE_SCHEMA = table_schema(
    [
        ("day", pa.string()),
        ("message_id", pa.string()),
        ("channel_id", pa.string()),
        ("channel_kind", pa.string()),
        ("kind", pa.string()),
        ("version_at", TIME),
        ("digest", pa.uint64()),
        ("payload", pa.binary()),
        ("files", pa.string()),
        ("origin", pa.string()),
        ("key_hash", pa.uint64()),  # xxh3 of message_id: the index is built without the ids
    ]
)

_MOST_NAMED_DAYS = 8
_SMALL = 2**20  # bytes: files below are joined,
_JOINED = 8 * 2**20  # into files of so many bytes at most,
_SETTLED = timedelta(hours=2)  # and nobody's intent stands any more; see ABANDONED_LANDING
_FEW = 8  # unless there are fewer of them next to one another.
# A month that is over and into which nothing comes any more ends as one file, if it is not large.
_FEW_OF_OLD_MONTH = 2

REPLACED_KEPT = timedelta(hours=1)
"""How long the files that were joined stay beside the joined one: longer than any reader takes from
its listing to its last file, so that whoever has listed one of them finds it, and whoever has not
has listed the joined one. Until then their rows are there twice, which changes nothing."""

Hashes = npt.NDArray[np.uint64]
Days = npt.NDArray[np.int32]  # days since 1970-01-01


class LandedIndex:
    """Which envelopes of an account have landed: 20 bytes each, whatever their size.

    Kept as sorted runs whose lengths grow geometrically, so that adding n envelopes costs
    n log n. Two different envelopes meet in one 64-bit hash once in some 3 million accounts
    of 10 million messages (birthday bound n²/2⁶⁵).
    """

    def __init__(self) -> None:
        self._days = _SortedHashes()  # message → the day that its first version landed on
        self._versions = _SortedHashes()
        self._read: set[str] = set()  # names of the files that are in it

    def refresh(self, lake: Lake, account: str) -> None:
        """Take in what the account's landing zone holds and this index does not."""
        there = {_name(info): info for info in lake.objects.list(f"landing/{account}/")}
        # Of an index that is kept for weeks nearly all new files are joined ones: what is in them
        # is known, and is not added once more with each joining.
        is_kept = bool(self._read)
        self._read &= there.keys()
        files = [info for name, info in sorted(there.items()) if name not in self._read]
        try:
            addresses = lake.objects.addresses([info.key for info in files])
        except FileNotFoundError:  # joined an hour ago: its rows are in another file
            return self.refresh(lake, account)
        for info, address in zip(files, addresses, strict=True):
            try:
                table = pq.read_table(
                    address, columns=["key_hash", "digest", "day"], partitioning=None
                )
            except FileNotFoundError:
                return self.refresh(lake, account)
            keys, digests = _hashes(table["key_hash"]), _hashes(table["digest"])
            days = _day_numbers(table["day"])
            if is_kept:
                new, _ = self.sort_out(keys, digests)
                keys, digests, days = keys[new], digests[new], days[new]
            if len(keys):
                self.add(keys, digests, days)
            self._read.add(_name(info))
        return None

    def written(self, name: str) -> None:
        """What the file of this name holds is in the index."""
        self._read.add(name)

    def add(self, keys: Hashes, digests: Hashes, days: Days) -> None:
        self._days.add(keys, days)
        self._versions.add(_version_hashes(keys, digests), days)

    def sort_out(self, keys: Hashes, digests: Hashes) -> tuple[npt.NDArray[np.bool_], int]:
        """Which envelopes of a batch are new (mask), and how many of these update a message.

        Repeats within the batch count as known from the second one on.
        """
        versions = _version_hashes(keys, digests)
        new = ~(pd.Series(versions).duplicated().to_numpy() | self._versions.find(versions)[0])
        known = pd.Series(keys).duplicated().to_numpy() | self._days.find(keys)[0]
        return new, int((new & known).sum())

    def first_days(self, keys: Hashes, days: Days) -> Days:
        """The day of each message: that of its first version to land, else of the first in the
        batch. A later word on when it was sent does not move it, for then it would be twice."""
        first = pd.Series(days).groupby(keys, sort=False).transform("first").to_numpy()
        known, landed_on = self._days.find(keys)
        return np.where(known, landed_on, first).astype(np.int32)


class _SortedHashes:
    """Hashes, each with a number; the first one added to a hash stays."""

    def __init__(self) -> None:
        self._runs: list[tuple[Hashes, Days]] = []

    def add(self, values: Hashes, numbers: Days) -> None:
        run = _sorted(values, numbers)
        while self._runs and len(self._runs[-1][0]) < 2 * len(run[0]):
            older = self._runs.pop()
            run = _sorted(np.concatenate([older[0], run[0]]), np.concatenate([older[1], run[1]]))
        self._runs.append(run)

    def find(self, values: Hashes) -> tuple[npt.NDArray[np.bool_], Days]:
        """Which of the values are there, and their numbers (0 for the others)."""
        found = np.zeros(len(values), dtype=bool)
        numbers = np.zeros(len(values), dtype=np.int32)
        for known, of_known in self._runs:  # the oldest run first
            if len(known):
                places = np.minimum(np.searchsorted(known, values), len(known) - 1)
                here = (known[places] == values) & ~found
                numbers[here] = of_known[places[here]]
                found |= here
        return found, numbers


def _sorted(values: Hashes, numbers: Days) -> tuple[Hashes, Days]:
    order = np.argsort(values, kind="stable")
    return values[order], numbers[order]


class Landing:
    """The landing zone of one account, for one writer."""

    def __init__(self, lake: Lake, work: WorkQueue, account: str) -> None:
        self.lake = lake
        self.work = work
        self.account = account
        self.index = LandedIndex()
        self.index.refresh(lake, account)

    def refresh(self) -> None:
        """Learn what others have landed since."""
        self.index.refresh(self.lake, self.account)

    def land(self, envelopes: Sequence[Envelope]) -> tuple[int, int]:
        """Keep the envelopes that are not there yet; returns how many were kept, and how many
        of these are new versions of a message that was known. Durable when it returns."""
        if not envelopes:
            return 0, 0
        columns = list(zip(*envelopes, strict=True))
        keys = np.fromiter(
            (xxhash.xxh3_64_intdigest(key.encode()) for key in columns[1]),
            np.uint64,
            len(envelopes),
        )
        digests = np.fromiter(columns[6], np.uint64, len(envelopes))
        new, updates = self.index.sort_out(keys, digests)
        if new.any():
            arrays = [
                pa.array(column, field.type)
                for column, field in zip(columns, ENVELOPE_SCHEMA, strict=False)
            ]
            days = self.index.first_days(keys, _day_numbers(arrays[0]))
            arrays[0] = pc.strftime(pa.array(days, pa.date32()), format="%Y-%m-%d")
            table = pa.table([*arrays, pa.array(keys)], schema=ENVELOPE_SCHEMA)
            self._write(table.filter(pa.array(new)))
            self.index.add(keys[new], digests[new], days[new])
        return int(new.sum()), updates

    def _write(self, table: pa.Table) -> None:
        # The order of arrival breaks ties between versions: stable within a day, and the
        # file's name carries the time between files.
        table = table.take(pc.sort_indices(table["day"]))
        months = pc.utf8_slice_codeunits(table["day"], 0, 7)
        landed_at = int(datetime.now(UTC).timestamp() * 1e6)
        parts: dict[str, tuple[pa.Table, list[str]]] = {}
        for month in texts(pc.unique(months)):
            part = table.filter(pc.equal(months, pa.scalar(month)))
            days_of_part = texts(pc.unique(part["day"]))
            name = _file_name(f"{landed_at:016d}", days_of_part, secrets.token_hex(6))
            key = f"landing/{self.account}/{month}/{name}"
            self.index.written(name)
            parts[key] = part, days_of_part
        days = {key: days for key, (_, days) in parts.items()}
        self.work.intend_landing(self.account, days)
        for key, (part, _) in parts.items():
            self.lake.objects.put(key, parquet_bytes(part))
        self.work.landed(self.account, days)


def read_landing(
    lake: Lake,
    partition: AccountMonth,
    days: Sequence[str] | None,
    columns: Sequence[str] = ENVELOPE_SCHEMA.names,
) -> pa.Table:
    """Envelopes of a month (ENVELOPE_SCHEMA), or of some of its days, in order of arrival."""
    while True:
        # See REPLACED_KEPT for why no row is missing, whatever is joined meanwhile.
        listed = list(lake.objects.list(f"landing/{partition.account}/{partition.month}/"))
        wanted = [
            info.key
            for info in listed
            if days is None or not {*_days_in(info)}.isdisjoint({"", *days})
        ]
        try:
            tables = [
                pq.read_table(
                    address,
                    schema=ENVELOPE_SCHEMA,
                    columns=list(columns),
                    filters=None if days is None else [("day", "in", list(days))],
                    partitioning=None,
                )
                for address in lake.objects.addresses(wanted)
            ]
        except FileNotFoundError:  # joined an hour ago: its rows are in another file
            continue
        if not tables:
            return ENVELOPE_SCHEMA.empty_table().select(list(columns))
        return pa.concat_tables(tables)


def compact(lake: Lake, account: str, month: str, now: datetime) -> int:
    """Join runs of small files of a month that landed a while ago, and delete those that were
    joined an hour ago; returns how many were joined.

    What is joined stands next to one another in the order of arrival, and takes the first one's
    place in it. Which files a joined one replaces is noted before it is written, and its name
    follows from theirs: killed half-way, or done by two at once, it is the same file again.
    """
    busy = _clear_replaced(lake, account, month, now)
    joined = 0
    settled = f"{int((now - _SETTLED).timestamp() * 1e6):016d}"
    listed = list(lake.objects.list(f"landing/{account}/{month}/"))
    busy |= {_name(info) for info in listed if _name(info) >= settled}
    if _is_over(month, (_name(info) for info in listed), now):
        runs = _small_runs(listed, busy, LARGEST_JOINED, LARGEST_JOINED, _FEW_OF_OLD_MONTH)
    else:
        runs = _small_runs(listed, busy, _SMALL, _JOINED, _FEW)
    for run in runs:
        try:
            tables = [
                pq.read_table(address, schema=ENVELOPE_SCHEMA, partitioning=None)
                for address in lake.objects.addresses([info.key for info in run])
            ]
        except FileNotFoundError:  # another process has cleared it away
            continue
        table = pa.concat_tables(tables)
        table = table.take(pc.sort_indices(table["day"]))
        replaced = [_name(info) for info in run]
        token = hashlib.sha256("\n".join(replaced).encode()).hexdigest()[:12]
        name = _file_name(replaced[0][:16], texts(pc.unique(table["day"])), token)
        note = orjson.dumps({"joined": name, "replaced": replaced})
        lake.objects.put(f"{notes_of_joining(account)}{month}/{name}.json", note)
        lake.objects.put(f"landing/{account}/{month}/{name}", parquet_bytes(table))
        joined += len(run)
    return joined


def notes_of_joining(account: str) -> str:
    """Under which prefix it is noted which files a joined one replaces."""
    return f"joined/{account}/"


def _clear_replaced(lake: Lake, account: str, month: str, now: datetime) -> set[str]:
    """Delete what was joined long enough ago; returns the names of the files whose hour is not
    over yet: those are not joined again."""
    folder = f"landing/{account}/{month}/"
    written = {_name(info): info.modified_at for info in lake.objects.list(folder)}
    busy: set[str] = set()
    for note in list(lake.objects.list(f"{notes_of_joining(account)}{month}/")):
        try:
            held = orjson.loads(lake.objects.get(note.key)[0])
        except FileNotFoundError:  # another process has cleared it away
            continue
        name, replaced = held["joined"], held["replaced"]
        if name not in written:  # not yet, or its writer died: they are joined again
            if now - note.modified_at > REPLACED_KEPT:
                lake.objects.delete(note.key)
            continue
        if now - written[name] < REPLACED_KEPT:
            busy |= {name, *replaced}
            continue
        for old in replaced:
            lake.objects.delete(folder + old)
        lake.objects.delete(note.key)
    return busy


def _is_over(month: str, names: Iterable[str], now: datetime) -> bool:
    """Whether a month is over, and nothing has come into it for a while."""
    unchanged = f"{int((now - JOIN_UNCHANGED).timestamp() * 1e6):016d}"
    is_past = now >= end_of_day(last_day_of(month)) + JOIN_AFTER
    return is_past and max(names, default="") < unchanged


def _small_runs(
    files: list[ObjectInfo], busy: Collection[str], small: int, most: int, few: int
) -> list[list[ObjectInfo]]:
    """Files in order of arrival, cut into runs that are worth joining: of at least `few` files that
    are `small`, and `most` in all (bytes). A run goes over no file that is busy or not small: what
    arrived before it would come after it then, or the other way round."""
    runs: list[list[ObjectInfo]] = [[]]
    size = 0
    for info in sorted(files, key=_name):
        may_be_joined = info.size <= small and _name(info) not in busy
        if not may_be_joined or size + info.size > most:
            runs.append([])
            size = 0
        if may_be_joined:
            runs[-1].append(info)
            size += info.size
    return [run for run in runs if len(run) >= few]


def landed_months(lake: Lake, account: str) -> list[str]:
    """The months for which something has landed, in order."""
    prefix = f"landing/{account}/"
    return sorted({i.key.removeprefix(prefix).split("/")[0] for i in lake.objects.list(prefix)})


def crowded_months(lake: Lake, account: str) -> list[str]:
    """The months for which `compact` may have something to do, in order."""
    files = Counter(info.key.split("/")[2] for info in lake.objects.list(f"landing/{account}/"))
    noted = {info.key.split("/")[2] for info in lake.objects.list(notes_of_joining(account))}
    return sorted(noted | {month for month, count in files.items() if count > 1})


def _version_hashes(keys: Hashes, digests: Hashes) -> Hashes:
    with np.errstate(over="ignore"):
        return keys * np.uint64(0x9E3779B97F4A7C15) ^ digests  # 2^64 / golden ratio: spreads bits


def _file_name(landed_at: str, days: Sequence[str], token: str) -> str:
    """A landing file's name: when it landed, the days of the month that it holds (if they are
    few), and something to tell it from others. Who reads a day need not open the other files."""
    numbers = "_".join(day[8:] for day in days) if len(days) <= _MOST_NAMED_DAYS else ""
    return f"{landed_at}-{numbers}-{token}.parquet"


def _days_in(info: ObjectInfo) -> Iterator[str]:
    """The days that a file's name tells; "" if it does not."""
    month = info.key.rsplit("/", 2)[1]
    parts = _name(info).split("-")
    numbers = parts[1] if len(parts) == 3 else ""
    yield from (f"{month}-{number}" if number else "" for number in numbers.split("_"))


def _name(info: ObjectInfo) -> str:
    return info.key.rsplit("/", 1)[1]  # it begins with the time: names are in order of arrival


def _day_numbers(days: pa.Array[Any] | pa.ChunkedArray[Any]) -> Days:
    numbers = pc.cast(pc.cast(days, pa.date32()), pa.int32())
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.int32)


def _hashes(column: pa.ChunkedArray[Any]) -> Hashes:
    return np.asarray(column.to_numpy(), dtype=np.uint64)
