"""What messages cost at Cloudflare: calls, rows and operations, counted in workerd on this machine.

The same messages are imported and brought into the inbox twice, on the embedded stores and on D1
and R2 in workerd (`make -C communicator_pipeline_tests/peers` installs it). First a generated
export of three months, then a day of a few imports, as pulls bring it: each landed and brought
into the inbox before the next. Counts are those of the meter (`storage/metering.py`); rows are
D1's own count. Prices are the list's, nothing free. What a waiting worker asks is not among it.

The times say how the two compare on this machine, where D1 and R2 are a process away; they are no
figures of Cloudflare's.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from benchmarks.measure import machine, measured, table
from benchmarks.workspace import ACCOUNT, USER, export_of
from communicator_pipeline.storage import Stores, open_stores
from communicator_pipeline.storage.accounts import Accounts, add_user
from communicator_pipeline.storage.cloudflare_prices import DAYS, SUBSCRIPTION_USD, list_price
from communicator_pipeline.storage.d1 import D1Database
from communicator_pipeline.storage.database import Row, SqliteDatabase, Statement
from communicator_pipeline.storage.metering import Meter
from communicator_pipeline_tests.peers.stores import environment
from communicator_pipeline_tests.peers.workerd import workerd

DAY_ACCOUNT = "bench-day"
TODAY = datetime(2026, 11, 20, 7, tzinfo=UTC)
Figures = dict[str, Any]


def prepare(home: str) -> None:
    """The stores, with the user and two accounts."""
    from benchmarks.generate import ME

    stores = open_stores(Path(home))
    add_user(stores.database, USER, "Bench")
    accounts = Accounts(stores.database, USER)
    accounts.add(ACCOUNT, "slack", "Bench")
    accounts.set_me(ACCOUNT, [ME])
    accounts.add(DAY_ACCOUNT, "generic", "Bench's day")
    accounts.set_me(DAY_ACCOUNT, ["me"])


def bring_in(home: str, account: str, files: Sequence[str]) -> Figures:
    """Import each file and bring it into the inbox, as a worker does; what that took."""
    from communicator_pipeline import runs
    from communicator_pipeline.definitions import defs
    from communicator_pipeline.ingestion.exports import import_export, open_export

    os.environ["COMMUNICATOR_HOME"] = home
    stores = open_stores(Path(home))
    with runs.open_instance() as instance:
        job = runs.chain_job(defs)
        runs.register_accounts(stores, instance)
        used, calls = _listen()
        made = 0
        for file in files:
            import_export(open_export(Path(file)), account, stores.database, stores.lake)
            made += len(runs.materialise_touched(stores, instance, job, lambda _: None))
    taken = {name: number for name, number in used.items() if number}
    top = calls.most_common()
    rows = stores.database.execute(
        "SELECT count(*) AS n FROM messages WHERE account = ?", (account,)
    )
    return {
        "messages": rows[0]["n"],
        "runs": made,
        "used": taken,
        "calls": top,
        "stored": sum(one.size for one in stores.lake.objects.list("")),
        "database": _database_bytes(stores),
    }


def _listen() -> tuple[Counter[str], Counter[str]]:
    """From now on, of this process: what the meter counts, and how often each kind of batch is
    asked for, by its first statement."""
    used: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    meter, batch = Meter.count, D1Database.batch

    def counted(self: Meter, what: str, count: int, account: str | None = None) -> None:
        used[what] += count
        meter(self, what, count, account)

    def asked(self: D1Database, statements: Sequence[Statement]) -> list[list[Row]]:
        if statements:
            first = re.sub(r"\s+", " ", statements[0][0]).strip()[:90]
            calls[first + (f" … and {len(statements) - 1}" if len(statements) > 1 else "")] += 1
        return batch(self, statements)

    Meter.count = counted  # type: ignore[method-assign]
    D1Database.batch = asked  # type: ignore[method-assign]
    return used, calls


def _database_bytes(stores: Stores) -> int:
    if isinstance(stores.database, SqliteDatabase):
        return stores.database.path.stat().st_size
    assert isinstance(stores.database, D1Database)
    account = stores.database.account
    answer = account.client().d1.database.with_raw_response.raw(
        stores.database.database_id,
        account_id=account.account_id,
        batch=[{"sql": "SELECT 1"}],
    )
    (result,) = orjson.loads(answer.http_response.content)["result"]
    return int(result["meta"]["size_after"])


def days_of(folder: Path, messages: int, pulls: int) -> list[str]:
    """Files of generic JSONL with a day's messages, in as many parts as there are pulls."""
    files = []
    each = messages // pulls
    for pull in range(pulls):
        lines = [
            orjson.dumps(
                {
                    "id": f"m{number}",
                    "channel": f"c{number % 5}",
                    "sent_at": (TODAY + timedelta(minutes=3 * number)).isoformat(),
                    "author": f"p{number % 9}" if number % 4 else "me",
                    "text": f"Could you look at offer {number} before the meeting please?",
                }
            )
            for number in range(pull * each, (pull + 1) * each)
        ]
        path = folder / f"pull-{pull:03d}.jsonl"
        path.write_bytes(b"\n".join(lines) + b"\n")
        files.append(str(path))
    return files


def cost(used: dict[str, int]) -> float:
    """USD at list price."""
    return sum(_price(name, count) for name, count in used.items())


def _price(name: str, count: float) -> float:
    service, _, what = name.partition(" ")
    return list_price(service, what, count)


def report(what: str, here: Any, there: Any, top: int) -> float:
    """Prints the figures; returns the cost of 1,000 messages in USD."""
    figures, messages = there.value, there.value["messages"]
    assert here.value["messages"] == messages, (here.value["messages"], messages)
    thousands = messages / 1_000
    print(f"\n{what}: {messages:,} messages, {figures['runs']} runs")
    rows = [
        [name, f"{count:,}", f"{count / thousands:,.1f}", f"{_price(name, count) / thousands:.5f}"]
        for name, count in sorted(figures["used"].items())
    ]
    table(["", "counted", "per 1,000 messages", "USD per 1,000"], rows)
    usd: float = cost(figures["used"]) / thousands
    print(
        f"USD per 1,000 messages: {usd:.4f}; time {there.seconds:.1f} s, embedded "
        f"{here.seconds:.1f} s: {there.seconds / here.seconds:.1f}×"
    )
    print("the most frequent calls of the database:")
    for statement, count in figures["calls"][:top]:
        print(f"{count:6} {statement}")
    return usd


def main() -> None:
    options = argparse.ArgumentParser(prog="benchmarks.cloudflare", description=__doc__)
    options.add_argument("--messages", type=int, default=10_000, help="of the export")
    options.add_argument("--a-day", type=int, default=200, help="messages of a user's day")
    options.add_argument("--pulls", type=int, default=10, help="in which they come")
    options.add_argument("--top", type=int, default=12, help="statements to print")
    asked = options.parse_args()
    os.environ["WRANGLER_LOG"] = "warn"  # else a line for each request
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export = str(export_of(folder, asked.messages))
        day = days_of(folder, asked.a_day, asked.pulls)
        with workerd(folder / "workerd") as peer:
            there: dict[str, Any] = {**environment(peer)}
            here: dict[str, Any] = {"COMMUNICATOR_BACKEND": "local"}
            taken: dict[str, list[Any]] = {}
            for backend, given in (("here", here), ("there", there)):
                home = str(folder / backend)
                measured(prepare, home, **given)
                taken[backend] = [
                    measured(bring_in, home, ACCOUNT, [export], **given),
                    measured(bring_in, home, DAY_ACCOUNT, day, **given),
                ]
    (import_here, day_here), (import_there, day_there) = taken["here"], taken["there"]
    report("import", import_here, import_there, asked.top)
    usd = report(f"a day in {asked.pulls} pulls", day_here, day_there, asked.top)
    first = import_there.value
    lake, database = first["stored"] / asked.messages, first["database"] / asked.messages
    print(f"\nbytes of a message: {lake:,.0f} in R2, {database:,.0f} in D1")
    a_month = asked.a_day * DAYS
    kept = 12 * a_month  # messages of a year
    operations = usd * a_month / 1_000
    storage = list_price("r2", "GB-months", kept * lake / 1e9) + list_price(
        "d1", "GB-months", kept * database / 1e9
    )
    print(
        f"a user with {asked.a_day} messages a day: {operations:.4f} USD a month, and "
        f"{storage:.4f} for keeping a year of them; nothing free. The plan is "
        f"{SUBSCRIPTION_USD:.2f} a month"
    )


if __name__ == "__main__":
    main()
