"""Reading export files that strangers may have made: ZIP, folder or single file.

Belongs here: opening them and refusing what is dangerous, and reading JSON out of them that may
be larger than memory, cut off or nested without end. Does not belong here: what the JSON means.

Nothing is ever unpacked to disk, so `../` cannot escape; such entries are refused by name all
the same, for whoever wrote them meant harm.
"""

from __future__ import annotations

import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

import ijson
import orjson

MOST_ENTRIES = 1_000_000
MOST_BYTES = 200 * 2**30  # unpacked, all together
HIGHEST_RATIO = 100  # JSON and media pack 20 : 1 at the very best; a bomb needs 1,000
SMALL_ENTRY = 2**20  # bytes: below it no ratio can hurt
WHOLE_FILE = 16 * 2**20  # bytes: up to here a JSON file is parsed at once, above it in a stream

_CHUNK = 64 * 2**10
_HEX_ESCAPE = re.compile(rb"(?<!\\)((?:\\\\)*)\\x([0-9A-Fa-f]{2})")

DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)
"""What reading a damaged file raises."""

_IGNORED = re.compile(r"(^|/)(__MACOSX/|\.DS_Store$|\._)")


Events = Iterator[tuple[str, Any]]
"""ijson's: ("start_map", None), ("map_key", "id"), ("number", 17), …"""


class BrokenFile(ValueError):
    """A file that cannot be read (any further): what is wrong with it and what to do."""


class Archive:
    """An export as a set of named files, safe to read.

    `names` are the files, sorted, without a common top folder; `refused` says which entries
    are not among them and why.
    """

    def __init__(self, path: Path) -> None:
        """Raises `BrokenFile` when the path cannot be read as an export at all."""
        self.path = path
        self.refused: list[tuple[str, str]] = []
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            self._places: dict[str, Any] = dict(self._walk(path))
        elif not path.is_file():
            raise BrokenFile(f"{path} does not exist")
        elif zipfile.is_zipfile(path) or path.suffix.lower() == ".zip":
            self._zip = _open_zip(path)
            self._places = dict(self._entries(self._zip))
        else:
            self._places = {path.name: path}
        self._places = _without_top_folder(self._places)
        self.names = sorted(self._places)

    @property
    def is_single_file(self) -> bool:
        return self.path.is_file() and self._zip is None

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def size(self, name: str) -> int:
        """Bytes, unpacked."""
        place = self._places[name]
        size = place.file_size if isinstance(place, zipfile.ZipInfo) else place.stat().st_size
        return int(size)

    def stamp(self, name: str) -> int:
        """What tells another content of the same size: the checksum, or the time of change."""
        place = self._places[name]
        return int(place.CRC if isinstance(place, zipfile.ZipInfo) else place.stat().st_mtime_ns)

    def open(self, name: str) -> IO[bytes]:
        """The file's bytes as a stream; raises `BrokenFile` for one that cannot be opened."""
        place = self._places[name]
        try:
            if isinstance(place, zipfile.ZipInfo):
                assert self._zip is not None
                return self._zip.open(place)
            return open(place, "rb")
        except (*DAMAGE, NotImplementedError, ValueError, struct.error) as error:
            raise BrokenFile(f"{name} cannot be read: {error}") from error
        except RuntimeError as error:  # zipfile's word for an encrypted entry
            raise BrokenFile(f"{name} is encrypted: export again without a password") from error

    def read(self, name: str) -> bytes:
        """The whole file; raises `BrokenFile`."""
        try:
            with self.open(name) as stream:
                return stream.read()
        except DAMAGE as error:
            raise BrokenFile(f"{name} is damaged: {error}; export it again") from error

    def close(self) -> None:
        if self._zip is not None:
            self._zip.close()

    def _walk(self, root: Path) -> Iterator[tuple[str, Path]]:
        entries = 0
        for folder, folders, files in os.walk(root):
            for name in [*folders, *files]:
                path = Path(folder, name)
                relative = path.relative_to(root).as_posix()
                entries += 1
                if entries > MOST_ENTRIES:
                    raise BrokenFile(f"{root} has more than {MOST_ENTRIES:,} files")
                if path.is_symlink():
                    self.refused.append((relative, "a symbolic link: it could lead anywhere"))
                elif path.is_file() and not _IGNORED.search(relative):
                    yield relative, path
            folders[:] = [name for name in folders if not Path(folder, name).is_symlink()]

    def _entries(self, opened: zipfile.ZipFile) -> Iterator[tuple[str, zipfile.ZipInfo]]:
        infos = opened.infolist()
        unpacked = sum(info.file_size for info in infos)
        packed = self.path.stat().st_size
        if len(infos) > MOST_ENTRIES:
            raise BrokenFile(f"{self.path.name} has {len(infos):,} entries: a bomb, not an export")
        if unpacked > MOST_BYTES or (
            unpacked > SMALL_ENTRY and unpacked > HIGHEST_RATIO * max(packed, 1)
        ):
            raise BrokenFile(
                f"{self.path.name} unpacks from {packed:,} to {unpacked:,} bytes: "
                "a bomb, not an export"
            )
        for info in infos:
            name = info.filename
            if info.is_dir() or _IGNORED.search(name):
                continue
            if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or ":" in name[:3]:
                self.refused.append((name, "its path leads out of the archive"))
            elif stat.S_ISLNK(info.external_attr >> 16):
                self.refused.append((name, "a symbolic link: it could lead anywhere"))
            elif info.file_size > max(SMALL_ENTRY, HIGHEST_RATIO * info.compress_size):
                self.refused.append(
                    (name, f"unpacks {info.compress_size:,} to {info.file_size:,} bytes: a bomb")
                )
            else:
                yield name, info


def read_json(archive: Archive, name: str) -> Any:
    """A small JSON file as a value; raises `BrokenFile` saying where it breaks."""
    content = archive.read(name)
    try:
        return orjson.loads(content.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise BrokenFile(_what_is_wrong(name, content, error)) from error


def read_items(archive: Archive, name: str) -> Iterator[Any]:
    """The elements of a JSON file that holds a list, in order, whatever its size.

    Raises `BrokenFile` at the place where the file breaks, after everything before it was
    yielded. An assignment in front of the JSON (`window.YTD.tweets.part0 = […]`, in X archives)
    is skipped.
    """
    if archive.size(name) <= WHOLE_FILE:
        content = archive.read(name)
        try:
            values = orjson.loads(_after_assignment(content.removeprefix(b"\xef\xbb\xbf")))
        except orjson.JSONDecodeError:
            pass  # read on below, for what stands before the fault
        else:
            if not isinstance(values, list):
                raise BrokenFile(f"{name} should hold a JSON list, it holds {_kind(values)}")
            yield from values
            return
    events = read_events(archive, name)
    event, value = next(events)
    if event != "start_array":
        held = {} if event == "start_map" else value
        raise BrokenFile(f"{name} should hold a JSON list, it holds {_kind(held)}")
    for event, value in events:
        if event == "end_array":
            return
        yield build(events, event, value)


def read_events(archive: Archive, name: str) -> Events:
    """The ijson events of a JSON file, whatever its size: ("map_key", "chats"), …

    Raises `BrokenFile` at the place where the file breaks, as `read_items` does.
    """
    found = ijson.sendable_list()
    return chain.from_iterable(_parsed(archive, name, ijson.basic_parse_coro(found), found))


def build(events: Events, event: str, value: Any) -> Any:
    """The value that begins with the event, however deep it nests.

    (ijson's own `items` ends the process at a million brackets.)
    """
    if event == "start_map":
        whole: Any = {}
    elif event == "start_array":
        whole = []
    else:
        return float(value) if event == "number" and type(value) is not int else value
    stack: list[tuple[Any, Any]] = []
    inner, key = whole, None
    for event, value in events:
        if event == "map_key":
            key = value
            continue
        if event == "end_map" or event == "end_array":
            if not stack:
                return whole
            inner, key = stack.pop()
            continue
        is_open = event == "start_map" or event == "start_array"
        if is_open:
            value = {} if event == "start_map" else []
        elif event == "number" and type(value) is not int:
            value = float(value)  # a Decimal
        if type(inner) is dict:
            inner[key] = value
        else:
            inner.append(value)
        if is_open:
            stack.append((inner, key))
            inner = value
    return whole


def _parsed(archive: Archive, name: str, parser: Any, found: list[Any]) -> Iterator[list[Any]]:
    """What the parser puts into `found`, chunk by chunk, up to the place where the file breaks.

    (ijson's own generators lose what stood in the same 64 KB before a fault.)
    """
    with archive.open(name) as stream:
        chunks = _json_chunks(stream)
        more = True
        while more:
            broken: BrokenFile | None = None
            try:
                chunk = next(chunks, b"")
                more = bool(chunk)
                if chunk:
                    parser.send(chunk)
                else:
                    parser.close()
            except (ijson.JSONError, UnicodeDecodeError, ValueError) as error:
                broken = BrokenFile(
                    f"{name} breaks off or is damaged ({_first_line(error)}): "
                    "what stood before was imported; export it again for the rest"
                )
            except DAMAGE as error:
                broken = BrokenFile(f"{name} is damaged: {error}; export it again")
            yield list(found)
            found.clear()
            if broken is not None:
                raise broken


def _json_chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """The file behind a byte order mark and an assignment, `\\xNN` made `\\u00NN`.

    Telegram Desktop writes control characters as `\\x1F`, which JSON does not know.
    """
    chunk = stream.read(_CHUNK).removeprefix(b"\xef\xbb\xbf")
    if chunk[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError("it is encoded as UTF-16: save it as UTF-8")
    chunk = _after_assignment(chunk)
    while chunk:
        for _ in range(16):  # an escape is not torn in two; a file of backslashes is no export
            if b"\\" not in chunk[-4:]:
                break
            more = stream.read(_CHUNK)
            chunk += more
            if not more:
                break
        yield _HEX_ESCAPE.sub(rb"\1\\u00\2", chunk) if b"\\x" in chunk else chunk
        chunk = stream.read(_CHUNK)


def _after_assignment(content: bytes) -> bytes:
    if content[:512].lstrip()[:1] in (b"[", b"{"):
        return content
    head, equals, _ = content[:512].partition(b"=")
    return content[len(head) + 1 :] if equals else content


def _what_is_wrong(name: str, content: bytes, error: orjson.JSONDecodeError) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return f"{name} is encoded as UTF-16: save it as UTF-8"
    try:
        content.decode()
    except UnicodeDecodeError as wrong:
        return f"{name} is not UTF-8 (byte {wrong.start:,}): save it as UTF-8"
    return f"{name} is not valid JSON ({_first_line(error)}): export it again"


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (*DAMAGE, NotImplementedError, ValueError, struct.error) as error:
        with path.open("rb") as stream:
            head = stream.read(4)
        why = (
            "it is cut off: download it again"
            if head == b"PK\x03\x04"
            else f"it is not a ZIP file ({error})"
        )
        raise BrokenFile(f"{path.name} cannot be opened: {why}") from error


def _without_top_folder(places: dict[str, Any]) -> dict[str, Any]:
    tops = {name.split("/")[0] for name in places}
    if len(tops) != 1 or any("/" not in name for name in places):
        return places
    if tops <= {"data", "assets"}:  # an X archive's own folders
        return places
    return {name.split("/", 1)[1]: place for name, place in places.items()}


def _kind(value: Any) -> str:
    return {dict: "an object", str: "a text", type(None): "null"}.get(type(value), "a number")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
