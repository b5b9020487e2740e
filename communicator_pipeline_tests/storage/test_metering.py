"""What is used is counted once: over threads, processes, forks, kills and machines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from communicator_pipeline.storage import metering
from communicator_pipeline.storage.database import (
    Database,
    OutcomeUnknown,
    Row,
    SqliteDatabase,
    Statement,
    Value,
    migrate,
)
from communicator_pipeline.storage.metering import (
    FILE,
    Meter,
    Used,
    account_of_object,
    on_behalf_of,
    usage,
)


@pytest.fixture
def database(tmp_path: Path) -> SqliteDatabase:
    opened = SqliteDatabase(tmp_path / "communicator.db")
    migrate(opened)
    return opened


def now() -> datetime:
    return datetime.now(UTC)


def total(database: Database, what: str = "rows read", account: str | None = None) -> int:
    found = usage(database, "2000-01-01", "2100-01-01", account)
    return sum(one.count for one in found if one.what == what)


class Losing:
    """Answers get lost after the write took effect; or the process dies before it."""

    def __init__(self, database: Database) -> None:
        self.database, self.calls, self.takes_effect = database, 0, True

    def execute(self, sql: str, params: Sequence[Value] = ()) -> list[Row]:
        return self.batch([(sql, params)])[0]

    def batch(self, statements: Sequence[Statement]) -> list[list[Row]]:
        self.calls += 1
        if self.takes_effect:
            self.database.batch(statements)
        raise OutcomeUnknown("the answer is lost")


def test_counts_are_by_day_and_account_and_service(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    meter = Meter(tmp_path / FILE)
    meter.count("d1 rows read", 5)
    with on_behalf_of("ana-slack"):
        meter.count("d1 rows read", 7)
        with on_behalf_of("ben-x"):
            meter.count("r2 class a", 1)
        meter.count("d1 rows read", 1, "ben-x")
        meter.count("d1 rows written", 0)
    meter.count("d1 rows read", 2)
    assert meter.hand_over(database, now()) == 4
    day = now().date().isoformat()
    assert usage(database, day, day) == [
        Used(day, "", "d1", "rows read", 7),
        Used(day, "ana-slack", "d1", "rows read", 7),
        Used(day, "ben-x", "d1", "rows read", 1),
        Used(day, "ben-x", "r2", "class a", 1),
    ]
    assert usage(database, day, day, "ana-slack") == [Used(day, "ana-slack", "d1", "rows read", 7)]
    assert usage(database, "2000-01-01", "2000-01-02") == []


@pytest.mark.parametrize("takes_effect", [True, False])
def test_what_is_handed_over_again_counts_once(
    database: SqliteDatabase, tmp_path: Path, takes_effect: bool
) -> None:
    meter = Meter(tmp_path / FILE)
    losing = Losing(database)
    losing.takes_effect = takes_effect
    for _ in range(3):
        meter.count("d1 rows read", 10)
        with pytest.raises(OutcomeUnknown):
            meter.hand_over(losing, now())
    assert losing.calls == 3  # one call each
    assert meter.hand_over(database, now()) == 1
    assert meter.hand_over(database, now()) == 0
    assert total(database) == 30
    meter.count("d1 rows read", 1)
    assert meter.hand_over(database, now()) == 1
    assert total(database) == 31


def test_an_older_total_that_comes_late_changes_nothing(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    meter = Meter(tmp_path / FILE)
    meter.count("d1 rows read", 10)

    class Overtaken(Losing):
        def batch(self, statements: Sequence[Statement]) -> list[list[Row]]:
            meter.count("d1 rows read", 5)
            meter.hand_over(self.database, now())  # another process, meanwhile
            return self.database.batch(statements)

    assert meter.hand_over(Overtaken(database), now()) == 1
    assert total(database) == 15
    assert meter.hand_over(database, now()) == 0


def test_machines_add_up(database: SqliteDatabase, tmp_path: Path) -> None:
    for machine in ("one", "two"):
        meter = Meter(tmp_path / machine / FILE)
        meter.count("d1 rows read", 10)
        meter.hand_over(database, now())
    assert total(database) == 20


def test_threads_and_processes_share_the_file(database: SqliteDatabase, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from communicator_pipeline.storage import metering\n"
        "metering.measure(Path(sys.argv[1]))\n"
        "for _ in range(500): metering.count('d1 rows read', 2)\n"
    )
    others = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(3)]
    meter = Meter(tmp_path / FILE)

    def some() -> None:
        for _ in range(500):
            meter.count("d1 rows read", 1)
            if _ % 100 == 0:
                meter.flush()

    threads = [threading.Thread(target=some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait(60) for other in others] == [0, 0, 0]
    meter.hand_over(database, now())
    assert total(database) == 3 * 1_000 + 4 * 500


def test_a_fork_does_not_count_again_what_its_parent_has(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    meter = Meter(tmp_path / FILE)
    meter.count("d1 rows read", 100)
    child = os.fork()
    if child == 0:
        meter.flush()
        meter.count("d1 rows read", 1)
        meter.flush()
        os._exit(0)
    os.waitpid(child, 0)
    meter.hand_over(database, now())
    assert total(database) == 101


def test_who_is_killed_loses_seconds_at_most(database: SqliteDatabase, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from communicator_pipeline.storage import metering\n"
        "metering.FLUSH_EVERY = 0.1\n"
        "metering.measure(Path(sys.argv[1]))\n"
        "metering.count('d1 rows read', 9); print('counted', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        until = time.monotonic() + 20
        while not (tmp_path / FILE).exists() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGKILL)
    Meter(tmp_path / FILE).hand_over(database, now())
    assert total(database) == 9


def test_old_totals_go_from_the_file_and_not_from_the_database(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    meter = Meter(tmp_path / FILE)
    meter.count("d1 rows read", 3)
    later = now() + timedelta(days=50)
    meter.hand_over(database, later)
    meter.hand_over(database, later)
    assert total(database) == 3


def test_where_nothing_measures_nothing_is_kept(
    database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metering, "_meter", None)
    metering.count("d1 rows read", 3)
    assert metering.hand_over(database, now()) == 0
    assert total(database) == 0
    assert not (tmp_path / FILE).exists()


def test_keys_say_whose_an_object_is() -> None:
    assert account_of_object("lake/analyses/ana-slack/2026-11/manifest.json") == "ana-slack"
    assert account_of_object("landing/ana-slack/2026-11/x.parquet") == "ana-slack"
    assert account_of_object("digests/ana-slack/2026-11-01.md") == "ana-slack"
    assert account_of_object("attachments/ab/abcd") is None
    assert account_of_object("lake/analyses") is None
    assert account_of_object("") is None
