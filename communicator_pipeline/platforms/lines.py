"""Files that are read line by line, whatever their size: JSONL and text logs.

Belongs here: getting lines out of an archive's file safely. Does not belong here: what a line
says.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import IO, cast

from communicator_pipeline.platforms.archive import (
    DAMAGE,
    HIGHEST_RATIO,
    SMALL_ENTRY,
    Archive,
    BrokenFile,
)

LONGEST_LINE = 10 * 2**20  # bytes


def read_lines(archive: Archive, name: str) -> Iterator[tuple[int, bytes | None]]:
    """(number from 1, line without its end); None for a line longer than `LONGEST_LINE`.

    A name that ends in `.gz` is unpacked on the way. Raises `BrokenFile` where the file breaks,
    after everything before it was yielded.
    """
    number, unpacked = 0, 0
    is_packed = name.lower().endswith(".gz")
    most = max(SMALL_ENTRY, HIGHEST_RATIO * archive.size(name))
    with archive.open(name) as raw:
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if is_packed else raw
        while True:
            try:
                line = stream.readline(LONGEST_LINE + 1)
                if not line:
                    return
                is_whole = len(line) <= LONGEST_LINE
                unpacked += len(line)
                while not is_whole and line[-1:] not in (b"\n", b"") and unpacked <= most:
                    line = stream.readline(LONGEST_LINE)
                    unpacked += len(line)
            except DAMAGE as error:
                raise BrokenFile(
                    f"{name} is damaged behind line {number:,} ({error}): "
                    "what stood before was imported; export it again for the rest"
                ) from error
            if is_packed and unpacked > most:
                raise BrokenFile(f"{name} unpacks to more than {most:,} bytes: a bomb")
            number += 1
            if number == 1:
                if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    raise BrokenFile(f"{name} is encoded as UTF-16: save it as UTF-8")
                line = line.removeprefix(b"\xef\xbb\xbf")
            yield number, line.rstrip(b"\r\n") if is_whole else None
