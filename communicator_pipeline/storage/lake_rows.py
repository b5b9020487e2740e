"""Where the rows of days are in the lake's files, and how SQL reads them.

Belongs here: addresses of rows in files that are never changed, as a source for DuckDB. Does not
belong here: which files there are and what they are called (`lake.py`).

Small files are read once by a process and kept: a run asks some twenty-five questions of the same
few days, and DuckDB opens every file for each of them, which takes longer than the answer.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

SMALL_FILE = 64 * 2**10
"""Bytes: some hundred messages. Of larger files DuckDB reads only the columns that it needs."""

FEW_FILES = 100

_FILES_KEPT = 256
"""What a run of one account looks at: four assets, days of two months or three. Some 100 MB if
every file is as large as may be; a day of four messages takes 1 KB."""

_ROWS_OF_FILE = re.compile(r"(.*)#rows=(\d+)-(\d+)/(\d+)", re.DOTALL)


def address_of_rows(file: str, first_row: int, rows: int, file_rows: int) -> str:
    """Where some rows are of a file that holds several days:
    `<file>#rows=<first>-<last>/<rows of the file>`. Of any other the address is the file."""
    return f"{file}#rows={first_row}-{first_row + rows - 1}/{file_rows}"


def rows_of_file(file: str) -> pa.Table:
    """All rows of a file, as written."""
    if os.stat(file).st_size > SMALL_FILE:
        return _read(file)
    return _kept(file)


def rows_in_memory(addresses: Sequence[str]) -> pa.Table | None:
    """The rows at these addresses; None if there are too many files, or a large one among them."""
    if len(addresses) > FEW_FILES:
        return None
    tables = []
    for address in addresses:
        shared = _ROWS_OF_FILE.fullmatch(address)
        file = shared[1] if shared else address
        if os.stat(file).st_size > SMALL_FILE:
            return None
        table = _kept(file)
        if shared:
            first, last = int(shared[2]), int(shared[3])
            table = table.slice(first, last - first + 1)
        tables.append(table)
    return pa.concat_tables(tables, promote_options="permissive")


@lru_cache(maxsize=_FILES_KEPT)
def _kept(file: str) -> pa.Table:
    return _read(file)


def _read(file: str) -> pa.Table:
    with pq.ParquetFile(file) as opened:
        return opened.read()


def rows_in_files(addresses: Iterable[str]) -> str:
    """SQL for the rows at these addresses. Days that lie one behind the other are one range, and
    a file of which all is wanted none: a scan for each day of a long history is slow."""
    alone: list[str] = []
    ranges: dict[str, list[tuple[int, int]]] = defaultdict(list)
    rows_of: dict[str, int] = {}
    for address in addresses:
        if shared := _ROWS_OF_FILE.fullmatch(address):
            file, first, last, rows = shared.groups()
            ranges[file].append((int(first), int(last)))
            rows_of[file] = int(rows)
        else:
            alone.append(address)
    merged = {file: _merged(of_file) for file, of_file in ranges.items()}
    whole = [file for file, found in merged.items() if found == [(0, rows_of[file] - 1)]]
    for file in whole:
        del merged[file]
    selects = [
        f"SELECT * FROM read_parquet([{', '.join(map(_literal, files))}])"
        for files in (alone, whole)  # not of the same schema, perhaps
        if files
    ]
    for file, found in merged.items():
        wanted = " OR ".join(f"file_row_number BETWEEN {a} AND {b}" for a, b in found)
        selects.append(
            f"SELECT * EXCLUDE (file_row_number) FROM read_parquet({_literal(file)}, "
            f"file_row_number = true) WHERE {wanted}"
        )
    return " UNION ALL BY NAME ".join(selects)


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges (first, last), in order, where one that begins behind another one is part of it."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
