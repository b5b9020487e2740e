"""Importing a generated Slack export into the landing zone, beside dlt loading the same rows.

dlt is given the envelopes that the import has made of the export, as Python dicts (its default;
a part of them, for it is slow) and as Arrow tables: unlike the import it neither opens the ZIP
nor reads JSON, nor does it look whether a message is known already.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from benchmarks.dlt_load import load_arrow, load_dicts
from benchmarks.measure import ROOT, Measured, machine, measured, table
from benchmarks.workspace import export_of, import_into

DLT_PYTHON = ROOT / "benchmarks" / ".venv" / "bin" / "python"


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.importing", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--dicts", type=int, default=50_000, help="rows that dlt loads as dicts")
    parser.add_argument("--folder", type=Path, help="keep the files here")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        compare((options.folder or Path(temporary)).absolute(), options.messages, options.dicts)


def compare(folder: Path, messages: int, dicts: int) -> None:
    """Import, import again, load with dlt; prints a table and the ratios."""
    export = export_of(folder, messages)
    home = folder / f"imported-{messages}"
    shutil.rmtree(home, ignore_errors=True)
    ours = measured(import_into, home, export)
    again = measured(import_into, home, export)
    assert ours.value["kept"] == again.value["skipped"] == messages, (ours.value, again.value)
    rows = [_row("import", ours, messages), _row("the same again", again, messages)]
    if not DLT_PYTHON.exists():
        table(HEADINGS, rows)
        print("no dlt to compare with: `make -C benchmarks install`")
        return
    quiet = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
    dicts = min(dicts, messages)
    slow = measured(load_dicts, home, dicts, python=DLT_PYTHON, **quiet)
    fast = measured(load_arrow, home, messages, python=DLT_PYTHON, **quiet)
    assert (slow.value, fast.value) == (dicts, messages), (slow.value, fast.value)
    rows += [_row("dlt, dicts", slow, dicts), _row("dlt, Arrow", fast, messages)]
    table(HEADINGS, rows)
    speed = messages / ours.seconds
    print(
        f"import : dlt with dicts {speed / (dicts / slow.seconds):.1f}, "
        f"import : dlt with Arrow {speed / (messages / fast.seconds):.2f} (by CPU time "
        f"{messages / ours.cpu_seconds / (dicts / slow.cpu_seconds):.1f} and "
        f"{fast.cpu_seconds / ours.cpu_seconds:.2f})"
    )


HEADINGS = ["", "rows", "wall s", "CPU s", "rows/s", "peak MB"]


def _row(name: str, took: Measured, rows: int) -> list[str]:
    return [
        name,
        f"{rows:,}",
        f"{took.seconds:.1f}",
        f"{took.cpu_seconds:.1f}",
        f"{rows / took.seconds:,.0f}",
        f"{took.peak_mb:,.0f}",
    ]


if __name__ == "__main__":
    main()
