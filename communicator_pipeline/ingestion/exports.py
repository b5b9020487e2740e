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
from pathlib import Path

import numpy as np
import orjson
import xxhash

from communicator_pipeline.ingestion.intake import Counts, Intake
from communicator_pipeline.platforms import Export, Platform, UnknownExport, recognise
from communicator_pipeline.platforms.archive import Archive, BrokenFile
from communicator_pipeline.storage.database import Database, now_text
from communicator_pipeline.storage.dead_letters import DeadLetter, bury
from communicator_pipeline.storage.lake import LARGEST_ATTACHMENT, Lake
from communicator_pipeline.storage.landing import Envelope, Landing
from communicator_pipeline.storage.work import WorkQueue


@dataclass
class ImportCounts(Counts):
    """What became of an export's records."""

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
    done, counts = _resume(database, account, opened)
    intake = Intake(
        database,
        landing,
        counts,
        "import",
        prepare=lambda envelopes: _with_files(opened.archive, landing, envelopes),
    )
    for name, why in opened.archive.refused:
        bury(database, account, [DeadLetter("import", f"{opened.archive.path.name}: {name}", why)])
    counts.broken_files = max(counts.broken_files, len(opened.archive.refused))
    parts = opened.export.parts()
    first = parts.index(done) + 1 if done in parts else 0
    with _cycles_uncollected():
        for number, part in enumerate(parts[first:], start=first + 1):
            try:
                for record in opened.export.records(part):
                    intake.take(record)
                    if counts.read % 5_000 == 0:
                        watch(ImportProgress(part, number - 1, len(parts), counts))
            except BrokenFile as broken:
                counts.broken_files += 1
                intake.bury(DeadLetter("import", part, str(broken)))
            last = number == len(parts)
            if intake.is_full or last:
                intake.flush()
                _note(database, account, opened, part, counts, finished=last)
            watch(ImportProgress(part, number, len(parts), counts))
    return counts


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


def _with_files(archive: Archive, landing: Landing, envelopes: list[Envelope]) -> list[Envelope]:
    """The envelopes with the content stored of the files that they name; of those that have
    landed before, it has been."""
    places = [i for i, envelope in enumerate(envelopes) if envelope.files]
    if not places:
        return envelopes
    named = [envelopes[place] for place in places]
    keys = [xxhash.xxh3_64_intdigest(envelope.message_id.encode()) for envelope in named]
    digests = [envelope.digest for envelope in named]
    new, _ = landing.index.sort_out(
        np.array(keys, dtype=np.uint64), np.array(digests, dtype=np.uint64)
    )
    for place, envelope, is_new in zip(places, named, new, strict=True):
        if is_new and envelope.files:
            stored = _store(archive, landing.lake, orjson.loads(envelope.files))
            files = orjson.dumps(stored).decode() if stored else None
            envelopes[place] = envelope._replace(files=files)
    return envelopes


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
