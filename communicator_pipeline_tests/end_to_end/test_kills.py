"""Kill -9 at random moments of import and materialisation: after a re-run nothing differs.

The work is done by a real process with real stores and a real Dagster instance. It is killed
again and again until it gets through; then lake and database must be equal, row for row, to
those of an undisturbed run. `make test` kills 4 times, `make test-faults` 100 times.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from communicator_pipeline.demo import write_exports
from communicator_pipeline.storage import open_local
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline_tests.conftest import FaultSizes
from communicator_pipeline_tests.stored_rows import rows_of

USER, ACCOUNTS = "ben", ("ben-telegram", "ben-slack-workshop")


def work(folder: str, exports: str) -> None:
    """What a person does: import the exports, materialise everything."""
    os.environ["COMMUNICATOR_HOME"] = folder
    os.environ.pop("DAGSTER_HOME", None)
    from communicator_pipeline import runs
    from communicator_pipeline.definitions import build_definitions
    from communicator_pipeline.ingestion.exports import import_export, open_export
    from communicator_pipeline.resources import StoresResource
    from communicator_pipeline.storage.accounts import Accounts, add_user

    stores = open_local(Path(folder))
    add_user(stores.database, USER, "Ben")
    accounts = Accounts(stores.database, USER)
    for export in write_exports(Path(exports)):
        if export.account in ACCOUNTS:
            accounts.add(export.account, export.platform, export.account)
            accounts.set_me(export.account, [export.me])
            opened = open_export(export.path)
            import_export(opened, export.account, stores.database, stores.lake)
    definitions = build_definitions({"stores": StoresResource(folder=folder)})
    with runs.open_instance() as instance:
        runs.materialise_touched(stores, instance, runs.chain_job(definitions), lambda run: None)


def _process(context: ForkServerContext, *folders: Path) -> Any:
    process = context.Process(target=work, args=tuple(map(str, folders)))
    process.start()
    return process


def _between_lake_and_database(folder: Path, expected_days: int) -> bool:
    """Whether something has landed and not all of it has reached the database."""
    if not any((folder / "landing").rglob("*.parquet")):
        return False
    database = open_local(folder).database
    published = database.execute("SELECT count(*) AS n FROM published_days")[0]["n"]
    return published < expected_days or bool(WorkQueue(database).dirty())


def kill_until(kills: int, between_stores: int, seed: int, tmp_path: Path) -> int:
    """Kill so often, over as many rounds as it takes, and go on until so many kills have landed
    between the first write to the lake and the last one to the database (at most thrice as
    often). Returns how many these were: a kill elsewhere tests nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["communicator_pipeline.definitions", "communicator_pipeline.runs"]
    )
    exports = tmp_path / "exports"
    undisturbed = tmp_path / "undisturbed"
    _process(context, tmp_path / "warm", exports).join()  # the server's own imports
    began = time.monotonic()
    process = _process(context, undisturbed, exports)
    process.join()
    usual = time.monotonic() - began
    assert process.exitcode == 0
    expected = rows_of(undisturbed, ACCOUNTS)
    days = len(expected["published_days"])
    chance = random.Random(seed)
    done = between = rounds = 0

    def goes_on() -> bool:
        return done < kills or (between < between_stores and done < 3 * kills)

    while goes_on():
        folder = tmp_path / f"round{rounds}"
        rounds += 1
        finished = False
        while not finished:
            process = _process(context, folder, exports)
            process.join(chance.uniform(0.02, 0.8) * usual if goes_on() else 120)
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                process.join()
                done += 1
                between += _between_lake_and_database(folder, days)
            else:
                assert process.exitcode == 0, f"seed {seed}: the re-run failed"
                finished = True
        found = rows_of(folder, ACCOUNTS)
        for name, rows in expected.items():
            assert found[name] == rows, f"seed {seed}, after {done} kills: {name} differs"
    print(f"seed {seed}: {done} kills in {rounds} rounds, {between} of them between the stores")
    return between


def test_four_kills_leave_lake_and_database_as_an_undisturbed_run_does(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    assert kill_until(4, 1, seed, tmp_path) >= 1


@pytest.mark.faults
def test_a_hundred_kills_leave_lake_and_database_as_an_undisturbed_run_does(
    tmp_path: Path, sizes: FaultSizes
) -> None:
    kills = sizes.count(100, at_least=20)
    between = kills * 3 // 10
    assert kill_until(kills, between, sizes.seed, tmp_path) >= between
