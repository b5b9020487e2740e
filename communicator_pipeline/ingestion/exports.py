"""Importing an export file: read, sort out what is known, land the rest, bury what is broken.

Memory is bounded by a batch; a kill costs at most the part of the export that was under way;
importing the same file again, or a newer one that overlaps, lands only what is new.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import xxhash

from communicator_pipeline.platforms import Export, Platform, Record, UnknownExport, recognise
from communicator_pipeline.platforms.archive import Archive, BrokenFile
from communicator_pipeline.storage.accounts import (
    Channel,
    Person,
    know_channels,
    know_people,
)
from communicator_pipeline.storage.database import Database, now_text
from communicator_pipeline.storage.dead_letters import DeadLetter, bury
from communicator_pipeline.storage.lake import FIRST_DAY, Lake
from communicator_pipeline.storage.landing import Envelope, Landing
from communicator_pipeline.storage.work import WorkQueue

BATCH_ROWS = 25_000
BATCH_BYTES = 48 * 2**20  # of payload: with its Arrow and Parquet copies some 200 MB at the peak
LARGEST_ATTACHMENT = 25 * 2**20  # bytes; larger ones stay in the export, and are named


@dataclass
class ImportCounts:
    """What became of an export's records."""

    read: int = 0
    kept: int = 0  # new messages
    updated: int = 0  # new versions of known messages, deletions included
    skipped: int = 0  # known already
    dead_lettered: int = 0
    broken_files: int = 0


@dataclass
class ImportProgress:
    """Where an import stands, for whoever watches it."""

    part: str
    parts_done: int
    parts: int
    counts: ImportCounts


Watch = Callable[[ImportProgress], None]


@dataclass
class OpenedExport:
    """An export that has been recognised and opened."""

    archive: Archive
    platform: Platform
    export: Export
    fingerprint: str = field(default="")


def open_export(path: Path, platform: Platform | None = None) -> OpenedExport:
    """Recognise and open an export; raises `UnknownExport` or `BrokenFile`."""
    archive = Archive(path)
    if platform is None:
        platform = recognise(archive)
    elif not platform.recognises(archive):
        raise UnknownExport(f"{path.name} does not look like an export of {platform.name}")
    return OpenedExport(archive, platform, platform.open_export(archive), _fingerprint(archive))


def import_export(
    opened: OpenedExport,
    account: str,
    database: Database,
    lake: Lake,
    watch: Watch = lambda progress: None,
) -> ImportCounts:
    """Land an export's envelopes for an account that exists.

    Counts what was read in this call and, if an earlier one was killed, before it. Everything
    that the counts name is durable when it returns.
    """
    work = WorkQueue(database)
    work.recover_landings(lake.objects)
    landing = Landing(lake, work, account)
    import_ = _Import(database, landing, account, opened.archive)
    done, counts = _resume(database, account, opened)
    for name, why in opened.archive.refused:
        bury(database, account, [DeadLetter("import", f"{opened.archive.path.name}: {name}", why)])
    counts.broken_files = max(counts.broken_files, len(opened.archive.refused))
    parts = opened.export.parts()
    first = parts.index(done) + 1 if done in parts else 0
    import_.counts = counts
    with _cycles_uncollected():
        for number, part in enumerate(parts[first:], start=first + 1):
            try:
                for record in opened.export.records(part):
                    import_.take(record)
                    if import_.counts.read % 5_000 == 0:
                        watch(ImportProgress(part, number - 1, len(parts), import_.counts))
            except BrokenFile as broken:
                import_.broken(part, broken)
            last = number == len(parts)
            if import_.is_full or last:
                import_.flush()
                _note(database, account, opened, part, import_.counts, finished=last)
            watch(ImportProgress(part, number, len(parts), import_.counts))
    return import_.counts


@contextmanager
def _cycles_uncollected() -> Iterator[None]:
    # A batch is 25,000 records of small objects without a cycle among them: looking for cycles
    # again and again cost 30 % of the time.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Import:
    """What has been read and not yet landed."""

    def __init__(
        self, database: Database, landing: Landing, account: str, archive: Archive
    ) -> None:
        self.database = database
        self.landing = landing
        self.account = account
        self.archive = archive
        self.counts = ImportCounts()
        self._envelopes: list[Envelope] = []
        self._bytes = 0
        self._letters: list[DeadLetter] = []
        self._people: list[Person] = []
        self._channels: list[Channel] = []
        self._last_day = datetime.now(UTC).date().isoformat()

    @property
    def is_full(self) -> bool:
        return len(self._envelopes) >= BATCH_ROWS // 2 or self._bytes >= BATCH_BYTES // 2

    def take(self, record: Record) -> None:
        if isinstance(record, Envelope):
            if not FIRST_DAY <= record.day <= self._last_day:
                self.take(_out_of_time(record))
                return
            self.counts.read += 1
            self._envelopes.append(record)
            self._bytes += len(record.payload)
            if len(self._envelopes) >= BATCH_ROWS or self._bytes >= BATCH_BYTES:
                self.flush()
        elif isinstance(record, Person):
            self._people.append(record)
        elif isinstance(record, Channel):
            self._channels.append(record)
        else:
            self.counts.read += 1
            self.counts.dead_lettered += 1
            self._letters.append(record)
            if len(self._letters) >= 1_000:
                self.flush()

    def broken(self, part: str, error: BrokenFile) -> None:
        self.counts.broken_files += 1
        self._letters.append(DeadLetter("import", part, str(error)))

    def flush(self) -> None:
        know_people(self.database, self.account, self._people)
        know_channels(self.database, self.account, self._channels)
        bury(self.database, self.account, self._letters)
        kept, updated = self.landing.land(self._with_files())
        self.counts.kept += kept - updated
        self.counts.updated += updated
        self.counts.skipped += len(self._envelopes) - kept
        self._envelopes, self._letters, self._people, self._channels = [], [], [], []
        self._bytes = 0

    def _with_files(self) -> list[Envelope]:
        """The envelopes with the content stored of the files that they name; of those that have
        landed before, it has been."""
        places = [i for i, envelope in enumerate(self._envelopes) if envelope.files]
        if not places:
            return self._envelopes
        named = [self._envelopes[place] for place in places]
        keys = [xxhash.xxh3_64_intdigest(envelope.message_id.encode()) for envelope in named]
        digests = [envelope.digest for envelope in named]
        new, _ = self.landing.index.sort_out(
            np.array(keys, dtype=np.uint64), np.array(digests, dtype=np.uint64)
        )
        for place, envelope, is_new in zip(places, named, new, strict=True):
            if is_new and envelope.files:
                stored = _store(self.archive, self.landing.lake, orjson.loads(envelope.files))
                files = orjson.dumps(stored).decode() if stored else None
                self._envelopes[place] = envelope._replace(files=files)
        return self._envelopes


def _out_of_time(envelope: Envelope) -> DeadLetter:
    when = "the future" if envelope.day > FIRST_DAY else f"before {FIRST_DAY}"
    return DeadLetter(
        "import",
        f"{envelope.origin}: {envelope.message_id}",
        f"the message is dated {envelope.day}, {when}, for which there is no partition: "
        "mend the time, or set COMMUNICATOR_FIRST_MONTH, and import again",
        envelope.payload.decode(errors="replace"),
    )


def _store(archive: Archive, lake: Lake, paths: Iterable[str]) -> dict[str, str]:
    """path in the export → SHA-256 of its content, without those that are too large or damaged:
    the message names them, and they stay in the export."""
    stored = {}
    for path in paths:
        if path in archive and archive.size(path) <= LARGEST_ATTACHMENT:
            with suppress(BrokenFile):
                stored[path] = lake.put_content(archive.read(path))
    return stored


def _resume(database: Database, account: str, opened: OpenedExport) -> tuple[str, ImportCounts]:
    """The last part that an unfinished import of the same file got through, and its counts."""
    rows = database.execute(
        "SELECT position, counts FROM imports WHERE account = ? AND fingerprint = ? "
        "AND finished_at IS NULL",
        (account, opened.fingerprint),
    )
    if not rows:
        return "", ImportCounts()
    return rows[0]["position"], ImportCounts(**orjson.loads(rows[0]["counts"]))


def _note(
    database: Database,
    account: str,
    opened: OpenedExport,
    part: str,
    counts: ImportCounts,
    finished: bool,
) -> None:
    now = now_text()
    database.execute(
        "INSERT INTO imports (account, fingerprint, source, position, counts, started_at, "
        "finished_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) "
        "ON CONFLICT (account, fingerprint) DO UPDATE SET position = excluded.position, "
        "counts = excluded.counts, finished_at = excluded.finished_at",
        (
            account,
            opened.fingerprint,
            opened.archive.path.name,
            part,
            orjson.dumps(asdict(counts)).decode(),
            now,
            now if finished else None,
        ),
    )


def _fingerprint(archive: Archive) -> str:
    """Of all that the archive holds: an unfinished import goes on only with the same files."""
    digest = hashlib.sha256()
    for name in archive.names:
        digest.update(
            f"{name}\0{archive.size(name)}\0{archive.stamp(name)}\0".encode(errors="surrogatepass")
        )
    return digest.hexdigest()
