"""`communicator move-dagster`."""

from __future__ import annotations

from datetime import UTC, datetime

from communicator_pipeline.cli.output import AsJson, errors_in_words, fail, out, print_json, stores
from communicator_pipeline.dagster_records.database import VARIABLE, postgres_address, sqlite_folder
from communicator_pipeline.storage.workers import Workers


def move_dagster(as_json: AsJson = False) -> None:
    """Move Dagster's records from SQLite to the Postgres that COMMUNICATOR_DAGSTER_DATABASE names.

    Stop the worker, the gateway and Dagster first. The database must be there and empty. All is
    moved, or nothing; the SQLite files stay. Called again, it changes nothing.
    """
    with errors_in_words():
        address = postgres_address()
        if address is None:
            fail(f"set {VARIABLE}=postgresql://USER:PASSWORD@HOST:PORT/NAME first", 2)
        living = Workers(stores().database).living(datetime.now(UTC))
        if living:
            fail(f"a worker is at work ({living[0]}): stop it first")
        # Not at the top: Dagster takes a second.
        from communicator_pipeline.dagster_records.moving import move

        moved = move(sqlite_folder(), address)
    if as_json:
        print_json(
            {
                "moved_now": moved.now,
                "at": moved.at,
                "rows": dict(moved.rows),
                "left": moved.left,
                "seconds": round(moved.seconds, 3),
            }
        )
        return
    rows = moved.rows
    what = f"{rows['runs']} runs, {rows['event_logs']} events, {sum(rows.values())} rows in all"
    if moved.now:
        out.print(f"Moved in {moved.seconds:.1f} s: {what}. Counted on both sides: the same.")
    else:
        out.print(f"Nothing to do: moved on {moved.at:%Y-%m-%d %H:%M:%S} UTC ({what}).")
    if moved.left:
        out.print(f"    {moved.left} rows of runs that were deleted long ago were left behind.")
    out.print(
        f"What to do now: keep {VARIABLE} set for everything that starts, and start it.\n"
        f"The old records stay in {sqlite_folder()}; nothing reads them while it is set.",
        soft_wrap=True,
        markup=False,
    )
