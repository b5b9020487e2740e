"""What grows in a year: the records of Dagster, the lake, the database, month by month.

The year is simulated: the clock is set, all else is real. Each day messages of every account are
pushed, the worker's runs, the digests, replies and learning follow, and the night's housekeeping
(`communicator_pipeline_tests/end_to_end/simulated_year.py`, which `test_year.py` holds to bounds).
Two processes share the accounts. A day of ten took 20 to 30 s of processor time in one: a year is
left to run alone.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

from benchmarks.measure import machine
from communicator_pipeline_tests.end_to_end.simulated_year import Size, live_through, simulated

COLUMNS = (
    "minutes",
    "until",
    "Dagster KiB",
    "its files KiB",
    "runs",
    "events",
    "lake files",
    "landing files",
    "database KiB",
    "rows of messages",
    "other rows",
    "housekeeping s",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.year", description=__doc__)
    parser.add_argument("--accounts", type=int, default=10)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--every", type=int, default=1, help="live every so many days only")
    options = parser.parse_args()
    print(machine())
    began = time.monotonic()
    print(" | ".join(COLUMNS), flush=True)

    def say(size: Size) -> None:
        cells = (
            f"{(time.monotonic() - began) / 60:.1f}",
            size.day,
            f"{size.dagster_bytes / 1024:,.0f}",
            f"{size.dagster_file_bytes / 1024:,.0f}",
            f"{size.runs:,}",
            f"{size.events:,}",
            f"{size.lake_files:,}",
            f"{size.landing_files:,}",
            f"{size.database_bytes / 1024:,.0f}",
            f"{size.rows_of_messages:,}",
            f"{size.other_rows:,}",
            f"{size.seconds:.1f}",
        )
        line = " | ".join(cell.rjust(len(name)) for cell, name in zip(cells, COLUMNS, strict=True))
        print(line, flush=True)  # each month as it ends: the whole takes long

    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"COMMUNICATOR_HOME": folder, "DAGSTER_HOME": ""}
        with simulated(options.accounts) as (year, clock):
            sizes = live_through(year, clock, options.every, options.days, say)
            began_again = time.monotonic()
            before = year.inbox(sizes[0].day[:7])
            year.rebuild(sizes[0].day[:7])
            same = year.inbox(sizes[0].day[:7]) == before
            seconds = time.monotonic() - began_again
    print(f"the first month made again in {seconds:.1f} s: {'the same' if same else 'DIFFERENT'}")
    for title, rows in (("Dagster's rows", sizes[-1].dagster_rows), ("our rows", sizes[-1].rows)):
        held = ", ".join(f"{table} {count:,}" for table, count in rows.items() if count)
        print(f"{title} at the end: {held}")


if __name__ == "__main__":
    main()
