"""How far an installation grows: from one account to a million, what it needs, which limits are met
in which order, and what to turn then.

The figures of one account are measured (`--measure` runs small installations on this machine and
writes `capacity.json` beside this file); those of many are reckoned from them
(`capacity_arithmetic.py`). `--check 1` and `--check 10` live through an installation of so many
accounts, of another shape than the measured ones, and hold the formulas against it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import orjson

from benchmarks.capacity_arithmetic import (
    FIGURES,
    Costs,
    Figure,
    Load,
    checked,
    costs_of,
    demand,
    met,
)
from benchmarks.capacity_runs import Home, lived, measure
from benchmarks.measure import machine, table

MEASUREMENTS = Path(__file__).with_suffix(".json")

ACCOUNTS = (1, 10, 100, 1_000, 4_000, 10_000, 100_000, 1_000_000)

TOLERATED = 0.25
"""So far a countable figure of a check may be off, of the measured one."""

CHECKS = {
    1: Home(accounts=1, days=70, messages_a_day=40, pulls=6),
    10: Home(accounts=10, days=20, messages_a_day=20, pulls=2),
}

UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def short(number: float, unit: str = "") -> str:
    """Three digits and a prefix: 1,234,567 is 1.23M."""
    for size, prefix in UNITS:
        if number >= size * 0.9995:
            text = f"{number / size:.3g}"
            # `g` writes what rounds to a thousand as 1e+03
            return f"{float(text):g}{prefix}{unit}"
    return f"{number:.3g}{unit}"


def costs_measured(path: Path = MEASUREMENTS) -> Costs:
    """What has been measured. Ends the command if there is nothing."""
    if not path.exists():
        raise SystemExit(f"{path} is not there: run `python -m benchmarks.capacity --measure`")
    return costs_of(orjson.loads(path.read_bytes()))


def show(load: Load, costs: Costs) -> None:
    """The table, and where each limit is met."""
    by_accounts = {n: demand(load, costs, n) for n in ACCOUNTS}
    for group in dict.fromkeys(figure.group for figure in FIGURES):
        print(f"\n{group}")
        rows = [
            [figure.name, *(_cell(figure, by_accounts[n][figure.key]) for n in ACCOUNTS)]
            for figure in FIGURES
            if figure.group == group
        ]
        table(["accounts", *(f"{n:,}" for n in ACCOUNTS)], rows)
    print("\nWhere limits are met, and what to turn then (-> exists, !! would have to be built)")
    for one in met(load, costs):
        accounts = "never" if one.accounts is None else f"{one.accounts:,}"
        print(f"{accounts:>10}  {one.limit.name}")
        for turn in one.limit.turns:
            print(f"{'':>12}{'->' if turn.exists else '!!'} {turn.words}")
    print(
        "\nMeasured: one account of 10 and one of 80 messages a day. Many are reckoned as many "
        "times one, and nobody has run them: SQLite, Postgres, D1 and Dagster's UI can each "
        "be too slow long before a limit that is known by a number."
    )


def _cell(figure: Figure, number: float) -> str:
    return f"${short(number)}" if figure.unit == "$" else short(number, figure.unit)


def check(accounts: int, costs: Costs) -> bool:
    """Live through it, print predicted beside measured; False if a count is too far off."""
    home = CHECKS[accounts]
    with tempfile.TemporaryDirectory() as folder:
        found = checked(costs, home, lived(Path(folder, "home"), home))
    print(
        f"\n{home.accounts} accounts, {home.days} days of history, {home.messages_a_day} messages "
        f"a day, a live day in {home.pulls} pulls"
    )
    rows, is_good = [], True
    for one in found:
        is_off = one.is_countable and abs(one.ratio - 1) > TOLERATED
        is_good = is_good and not is_off
        mark = "TOO FAR OFF" if is_off else "" if one.is_countable else "not held against it"
        rows.append([one.name, short(one.predicted), short(one.measured), f"{one.ratio:.2f}", mark])
    table(["", "predicted", "measured", "ratio", ""], rows)
    return is_good


def positive(text: str) -> float:
    """A number above 0, for argparse."""
    number = float(text)
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and below a thousand million")
    return number


def main() -> None:
    options = argparse.ArgumentParser(prog="benchmarks.capacity", description=__doc__)
    load = Load()
    options.add_argument("--messages-a-day", type=positive, default=load.messages_a_day)
    options.add_argument("--runs-a-day", type=positive, default=load.runs_a_day, help="live runs")
    options.add_argument("--backlog-years", type=float, default=load.backlog_years)
    options.add_argument("--years-of-use", type=positive, default=load.years_of_use)
    options.add_argument("--cadence", type=positive, default=load.cadence, help="seconds of a poll")
    options.add_argument("--peak", type=positive, default=load.peak, help="busiest hour : average")
    options.add_argument("--model", choices=("offline", "workers_ai"), default=load.model)
    options.add_argument("--cores", type=positive, default=load.cores, help="of one machine")
    options.add_argument("--memory-gb", type=positive, default=load.memory_gb, help="of a worker")
    options.add_argument("--disk-gb", type=positive, default=load.disk_gb)
    options.add_argument("--first-month", default=load.first_month, metavar="YYYY-MM")
    options.add_argument("--digest-months", type=int, default=load.digest_months)
    options.add_argument("--measure", action="store_true", help="measure anew: some minutes")
    options.add_argument("--check", type=int, choices=sorted(CHECKS), help="against real runs")
    asked = options.parse_args()
    if asked.measure:
        print(machine())
        with tempfile.TemporaryDirectory() as folder:
            found = {"measured_on": f"{datetime.now(UTC):%F}", **measure(Path(folder))}
        MEASUREMENTS.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
        print(f"written: {MEASUREMENTS}")
    elif asked.check:
        print(machine())
        if not check(asked.check, costs_measured()):
            sys.exit(1)
    else:
        given = {name: value for name, value in vars(asked).items() if name in vars(load)}
        show(Load(**given, today=datetime.now(UTC).date()), costs_measured())


if __name__ == "__main__":
    main()
