"""Runs a function in a process of its own and says what it took: time, processor time, memory.

Every stage gets a fresh process, so that its peak is its own. `python -m benchmarks.measure` is
how the child is called; nothing else calls it so.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MARK = "measured: "


@dataclass(frozen=True)
class Measured:
    value: Any  # what the function returned, by way of JSON
    seconds: float
    cpu_seconds: float  # of all threads and children
    peak_mb: float

    def speed(self, count: int) -> str:
        """`count` per second, by wall clock."""
        return f"{count / self.seconds:,.0f}/s"


def measured(
    function: Callable[..., Any], *args: Any, python: str | Path | None = None, **environment: str
) -> Measured:
    """Call a function of a module, by name, in a fresh Python; arguments travel as JSON. The
    time begins when the module has been imported."""
    module = function.__module__
    if module == "__main__":  # `python -m benchmarks.chain` is benchmarks.chain
        module = f"benchmarks.{Path(sys.argv[0]).stem}"
    ran = subprocess.run(
        [
            str(python or sys.executable),
            "-m",
            "benchmarks.measure",
            module,
            function.__qualname__,
            json.dumps(args, default=str),
        ],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer = next(x for x in reversed(ran.stdout.splitlines()) if x.startswith(MARK))
    return Measured(**json.loads(answer.removeprefix(MARK)))


def table(headings: list[str], rows: list[list[str]]) -> None:
    """Print rows in columns: the first to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    for row in [headings, *rows]:
        first, *others = (
            cell.ljust(w) if not i else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]).rstrip(), flush=True)


def machine() -> str:
    """Processor, cores and load, for the head of every report."""
    name = "unknown processor"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    load = os.getloadavg()[0]
    return f"{name}, {os.cpu_count()} cores, load {load:.1f} at the start; {time.strftime('%F')}"


def folder_bytes(folder: Path) -> int:
    """What the files below a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _peak_mb() -> float:
    # Linux: ru_maxrss of a child includes what its parent had when it forked, VmHWM does not.
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return int(next(x for x in lines if x.startswith("VmHWM")).split()[1]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 1024


def _cpu_seconds() -> float:
    of = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in of)


def _child(module: str, name: str, arguments: str) -> None:
    function = getattr(importlib.import_module(module), name)
    began, cpu = time.perf_counter(), _cpu_seconds()
    value = function(*json.loads(arguments))
    took = {
        "value": value,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": _cpu_seconds() - cpu,
        "peak_mb": _peak_mb(),
    }
    print(MARK + json.dumps(took), flush=True)


if __name__ == "__main__":
    _child(*sys.argv[1:])
