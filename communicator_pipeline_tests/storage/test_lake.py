"""No reader sees half a partition, and no writer loses another's rows."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import orjson
import pyarrow as pa
import pytest

from communicator_pipeline.storage import lake as lake_module
from communicator_pipeline.storage import lake_rows
from communicator_pipeline.storage.lake import (
    AccountMonth,
    Lake,
    Manifest,
    NewDays,
    carry_of,
    newest_first,
    parquet_digest,
)
from communicator_pipeline.storage.lake_rows import rows_in_files
from communicator_pipeline.storage.objects import ABSENT, LocalObjects, LostRace

PARTITION = AccountMonth("ana", "2026-11")
DAY = "2026-11-03"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(LocalObjects(tmp_path))


def _table(*values: int) -> pa.Table:
    return pa.table({"value": sorted(values)})


def _add(lake: Lake, value: int, day: str = DAY) -> None:
    """Merge one row into the day, as every asset does it: from the manifest it is given."""

    def change(manifest: Manifest) -> NewDays:
        old = manifest.days.get(day)
        have = [] if old is None else lake.read_day("t", PARTITION, old)["value"].to_pylist()
        return {day: _table(*{*have, value})}

    lake.update("t", PARTITION, change)


def test_a_day_is_read_as_it_was_written(lake: Lake) -> None:
    manifest, changed = lake.update("t", PARTITION, lambda _: {DAY: _table(1, 2)})
    assert changed == [DAY]
    assert lake.read_day("t", PARTITION, manifest.days[DAY])["value"].to_pylist() == [1, 2]


def test_the_same_rows_again_write_nothing(lake: Lake) -> None:
    first, _ = lake.update("t", PARTITION, lambda _: {DAY: _table(1)})
    second, changed = lake.update("t", PARTITION, lambda _: {DAY: _table(1)})
    assert changed == []
    assert second == first


def test_a_day_without_rows_leaves_the_manifest(lake: Lake) -> None:
    lake.update("t", PARTITION, lambda _: {DAY: _table(1), "2026-11-04": _table(2)})
    manifest, _ = lake.update("t", PARTITION, lambda _: {DAY: None})
    assert list(manifest.days) == ["2026-11-04"]


def test_what_a_day_hands_over_is_no_day(lake: Lake) -> None:
    manifest, _ = lake.update("t", PARTITION, lambda _: {DAY: _table(1), carry_of(DAY): _table(9)})
    assert list(manifest.days) == [DAY]
    assert [day for _, day in lake.day_files("t", "ana")] == [DAY]


def test_a_change_is_made_again_when_another_writer_was_first(lake: Lake) -> None:
    seen: list[int] = []

    def change(manifest: Manifest) -> NewDays:
        seen.append(manifest.generation)
        if len(seen) == 1:
            _add(lake, 7)
        old = manifest.days.get(DAY)
        have = [] if old is None else lake.read_day("t", PARTITION, old)["value"].to_pylist()
        return {DAY: _table(*have, 1)}

    manifest, _ = lake.update("t", PARTITION, change)
    assert len(seen) == 2
    assert seen[0] < seen[1]
    assert lake.read_day("t", PARTITION, manifest.days[DAY])["value"].to_pylist() == [1, 7]


def test_a_conditional_put_refuses_whoever_comes_late(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    etag = objects.put("a/b", b"one", if_match=ABSENT)
    objects.put("a/b", b"two", if_match=etag)
    with pytest.raises(LostRace):
        objects.put("a/b", b"three", if_match=etag)
    with pytest.raises(LostRace):
        objects.put("a/b", b"three", if_match=ABSENT)
    assert objects.get("a/b")[0] == b"two"


@pytest.mark.parametrize("key", ["../x", "a//b", "a/../b", "/etc/passwd", ""])
def test_a_key_cannot_leave_the_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="is not an object key"):
        LocalObjects(tmp_path).put(key, b"")


def test_files_that_were_replaced_stay_for_an_hour(lake: Lake) -> None:
    """A reader that holds an older manifest must be able to finish."""
    _add(lake, 1)
    old = lake.day_files("t", "ana")[0][0]
    _add(lake, 2)
    now = datetime.now(UTC)
    long_ago = (now - timedelta(hours=2)).timestamp()
    os.utime(old, (long_ago, long_ago))
    assert lake.collect_garbage("t", PARTITION, now) == 0
    assert Path(old).exists()
    assert lake.collect_garbage("t", PARTITION, now + timedelta(hours=2)) == 1
    assert not Path(old).exists()
    assert lake.day_files("t", "ana")


def test_files_of_writers_that_died_are_collected(lake: Lake) -> None:
    _add(lake, 1)
    orphan = lake.objects.addresses(["lake/t/ana/2026-11/2026-11-03-dead.parquet"])[0]
    Path(orphan).write_bytes(b"half")
    assert lake.collect_garbage("t", PARTITION, datetime.now(UTC)) == 0
    assert lake.collect_garbage("t", PARTITION, datetime.now(UTC) + timedelta(hours=2)) == 1
    assert not Path(orphan).exists()


def _write_many(root: str, worker: int, rows: int) -> None:
    lake = Lake(LocalObjects(Path(root)))
    for number in range(rows):
        _add(lake, worker * 1_000 + number)


def test_eight_writers_lose_nothing_while_duckdb_reads(tmp_path: Path) -> None:
    """Hard-linked versions with pruning lost 8 of 800 rows; manifests under a lock none."""
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write_many, args=(str(tmp_path), worker, 12)) for worker in range(8)
    ]
    for writer in writers:
        writer.start()
    lake = Lake(LocalObjects(tmp_path))
    reads = 0
    while any(writer.is_alive() for writer in writers):
        files = [address for address, _ in lake.day_files("t", "ana")]
        if files:
            count = lake.query("SELECT count(*) AS n FROM t", {"t": files})["n"][0].as_py()
            assert count > 0
            reads += 1
    assert [writer.exitcode for writer in writers] == [0] * 8
    values = lake.query(
        "SELECT value FROM t ORDER BY value",
        {"t": [address for address, _ in lake.day_files("t", "ana")]},
    )["value"].to_pylist()
    assert values == sorted(worker * 1_000 + number for worker in range(8) for number in range(12))
    assert reads > 5


def test_a_killed_writer_blocks_nobody_and_tears_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=_write_many, args=(str(tmp_path), 1, 10_000))
    writer.start()
    lake = Lake(LocalObjects(tmp_path))
    while not lake.day_files("t", "ana"):
        time.sleep(0.01)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    before = lake.manifest("t", PARTITION).days[DAY].rows
    _add(lake, 5)
    assert lake.manifest("t", PARTITION).days[DAY].rows == before + 1


# --- months that are over are joined --------------------------------------------------------------

LATER = datetime.now(UTC) + timedelta(days=400)
"""When November 2026 is over, and nothing in it has changed for long."""


def _month(lake: Lake, days: int = 9) -> Manifest:
    """A month of days that each hand something over."""
    tables: dict[str, pa.Table | None] = {}
    for number in range(1, days + 1):
        day = f"2026-11-{number:02d}"
        tables[day] = pa.table({"day": [day] * number, "value": list(range(number))})
        tables[carry_of(day)] = pa.table({"left": [number]})
    return lake.update("t", PARTITION, lambda manifest: tables)[0]


def _rows(lake: Lake, first: str = "", last: str = "9999-12-31") -> list[tuple[str, int]]:
    files = [address for address, _ in lake.day_files("t", "ana", first, last)]
    found, in_files = (_asked(lake, files, few) for few in (lake_rows.FEW_FILES, 0))
    assert found.equals(in_files)  # whether they are held in memory or not
    return [(row["day"], row["value"]) for row in found.to_pylist()]


def _files(lake: Lake) -> list[str]:
    listed = [info.key for info in lake.objects.list("lake/t/ana/2026-11/")]
    return [key for key in listed if key.endswith(".parquet")]


def _asked(lake: Lake, files: list[str], few: int) -> pa.Table:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lake_rows, "FEW_FILES", few)
        return lake.query("SELECT day, value FROM t ORDER BY day, value", {"t": files})


def _tidy(lake: Lake, now: datetime = LATER) -> None:
    lake.join("t", PARTITION, now)
    lake.collect_garbage("t", PARTITION, now + timedelta(hours=2))


def test_a_month_that_is_over_becomes_a_file_and_is_read_as_before(lake: Lake) -> None:
    before = _month(lake)
    rows, some = _rows(lake), _rows(lake, "2026-11-04", "2026-11-06")
    assert lake.join("t", PARTITION, LATER) == 16
    lake.collect_garbage("t", PARTITION, LATER + timedelta(hours=2))
    assert len(_files(lake)) == 2  # the days, and what they hand over
    after = lake.manifest("t", PARTITION)
    assert _rows(lake) == rows
    assert _rows(lake, "2026-11-04", "2026-11-06") == some
    assert {name: e.digest for name, e in after.entries.items()} == {
        name: e.digest for name, e in before.entries.items()
    }
    assert (after.rows, after.bytes) == (before.rows, before.bytes)
    for name, entry in after.entries.items():
        assert parquet_digest(lake.read_day("t", PARTITION, entry)) == entry.digest, name
    assert lake.rows_by("value", "t", PARTITION, after, "2026-11-03").keys() == {0, 1, 2}
    assert lake.join("t", PARTITION, LATER + timedelta(days=9)) == 0


def test_a_history_is_looked_through_from_its_end_in_ever_longer_stretches() -> None:
    days = [f"2026-{month:02d}-{day:02d}" for month in range(1, 10) for day in (3, 7)]
    stretches = list(newest_first((f"at {day}", day) for day in days))
    assert [sorted({day[5:7] for _, day in stretch}) for stretch in stretches] == [
        ["09"], ["08"], ["06", "07"], ["02", "03", "04", "05"], ["01"],
    ]  # fmt: skip
    assert [file for stretch in reversed(stretches) for file in stretch] == [
        (f"at {day}", day) for day in days
    ]
    assert list(newest_first([])) == []


def test_neighbouring_days_of_a_file_are_one_range_and_all_of_it_none(lake: Lake) -> None:
    _month(lake)
    _tidy(lake)
    addresses = [address for address, _ in lake.day_files("t", "ana")]
    whole = rows_in_files(addresses)
    assert "file_row_number" not in whole
    assert whole.count(".parquet") == 1
    some = rows_in_files([*addresses[1:3], addresses[5]])
    assert some.count("BETWEEN") == 2


class _CountedObjects(LocalObjects):
    read: ClassVar[list[str]] = []

    def get(self, key: str) -> tuple[bytes, str]:
        self.read.append(key)
        return super().get(key)


def test_a_manifest_is_read_again_only_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(_CountedObjects(tmp_path))
    _add(lake, 1)

    def rows_read() -> tuple[list[int], int]:
        _CountedObjects.read.clear()
        files = [address for address, _ in lake.day_files("t", "ana")]
        rows = lake.query("SELECT value FROM t ORDER BY value", {"t": files})["value"].to_pylist()
        return rows, len(_CountedObjects.read)

    assert [rows_read() for _ in range(2)] == [([1], 1)] * 2  # so new that it may change unseen
    monkeypatch.setattr(lake_module, "_SETTLED", timedelta(0))
    assert [rows_read() for _ in range(3)] == [([1], 1), ([1], 0), ([1], 0)]
    _add(Lake(LocalObjects(tmp_path)), 2)  # another process
    assert [rows_read() for _ in range(2)] == [([1, 2], 1), ([1, 2], 0)]
    monkeypatch.setattr(lake_module, "_MOST_KNOWN", 0)
    _add(lake, 3)
    assert [rows_read() for _ in range(2)] == [([1, 2, 3], 1)] * 2


def test_a_month_under_way_or_just_changed_is_left_alone(lake: Lake) -> None:
    _month(lake)
    over = datetime(2026, 11, 8, tzinfo=UTC)  # the seventh of the nine days
    assert lake.join("t", PARTITION, over + timedelta(days=13, hours=23)) == 0
    changed = datetime.fromtimestamp(lake.manifest("t", PARTITION).generation / 1000, UTC)
    assert lake.join("t", AccountMonth("ana", "2020-01"), changed) == 0
    past = AccountMonth("ana", "2020-01")
    for day in ("2020-01-01", "2020-01-02"):
        lake.update("t", past, lambda _, day=day: {day: _table(1)})  # type: ignore[misc]
    changed = datetime.fromtimestamp(lake.manifest("t", past).generation / 1000, UTC)
    assert lake.join("t", past, changed + timedelta(days=1, hours=23)) == 0
    assert lake.join("t", past, changed + timedelta(days=2)) == 1


def test_old_days_of_a_month_under_way_are_joined_seven_at_a_time(lake: Lake) -> None:
    _month(lake, days=16)
    rows = _rows(lake)
    after = timedelta(days=14)
    assert lake.join("t", PARTITION, datetime(2026, 11, 8, tzinfo=UTC) + after) == 12  # of 14
    assert lake.join("t", PARTITION, datetime(2026, 11, 14, tzinfo=UTC) + after) == 0  # six more
    assert _rows(lake) == rows
    assert lake.join("t", PARTITION, datetime(2026, 11, 15, tzinfo=UTC) + after) == 14
    lake.collect_garbage("t", PARTITION, LATER)
    assert len(_files(lake)) == 2 + 2 * 2  # the fourteen days, and two of which each has its own
    assert _rows(lake) == rows
    new = pa.table({"day": ["2026-11-02"], "value": [77]})
    lake.update("t", PARTITION, lambda manifest: {"2026-11-02": new})
    lake.join("t", PARTITION, datetime(2026, 11, 15, tzinfo=UTC) + after)  # what was there goes
    lake.collect_garbage("t", PARTITION, LATER)
    assert len(_files(lake)) == 2 + 2 * 2
    assert ("2026-11-02", 77) in _rows(lake)


def test_what_is_written_again_unchanged_changes_nothing(lake: Lake) -> None:
    _month(lake)
    _tidy(lake)
    before = lake.manifest("t", PARTITION)
    assert _month(lake) == before


def test_a_day_that_changes_gets_a_file_of_its_own_and_is_joined_again(lake: Lake) -> None:
    _month(lake)
    _tidy(lake)
    new = pa.table({"day": ["2026-11-02"], "value": [77]})
    lake.update("t", PARTITION, lambda manifest: {"2026-11-02": new})
    assert len(_files(lake)) == 3
    rows = _rows(lake)
    assert ("2026-11-02", 77) in rows
    assert ("2026-11-02", 0) not in rows
    _tidy(lake)
    assert len(_files(lake)) == 2
    assert _rows(lake) == rows


def test_rows_that_were_taken_out_do_not_stay_in_the_file(lake: Lake) -> None:
    _month(lake)
    _tidy(lake)
    lake.update("t", PARTITION, lambda manifest: {"2026-11-09": None})
    rows = _rows(lake)
    _tidy(lake)
    files = [f for f in _files(lake) if "carry" not in f]
    whole = lake.query("SELECT count(*) AS n FROM t", {"t": lake.objects.addresses(files)})["n"][
        0
    ].as_py()
    assert whole == len(rows) == sum(range(1, 9))


def test_whoever_holds_an_older_manifest_reads_on_for_an_hour(lake: Lake) -> None:
    before = _month(lake)
    held = lake.day_files("t", "ana")
    now = datetime.now(UTC)
    with_old = pytest.MonkeyPatch()
    with_old.setattr(lake_module, "JOIN_AFTER", timedelta(days=-400))
    with_old.setattr(lake_module, "JOIN_UNCHANGED", timedelta(0))
    try:
        assert lake.join("t", PARTITION, now) == 16
    finally:
        with_old.undo()
    assert lake.collect_garbage("t", PARTITION, now + timedelta(minutes=59)) == 0
    for entry in before.entries.values():
        lake.read_day("t", PARTITION, entry)
    files = [address for address, _ in held]
    assert lake.query("SELECT count(*) AS n FROM t", {"t": files})["n"][0].as_py() == 45
    assert lake.collect_garbage("t", PARTITION, now + timedelta(hours=2)) == 18


def test_a_day_that_is_replaced_while_the_month_is_joined_stays_replaced(lake: Lake) -> None:
    _month(lake)
    swap = lake._swap
    new = pa.table({"day": ["2026-11-05"], "value": [99]})

    def late(*given: object) -> Manifest:
        lake._swap = swap  # type: ignore[method-assign]
        lake.update("t", PARTITION, lambda manifest: {"2026-11-05": new})
        return swap(*given)  # type: ignore[arg-type]

    lake._swap = late  # type: ignore[method-assign]
    assert lake.join("t", PARTITION, LATER) == 15
    assert [value for day, value in _rows(lake) if day == "2026-11-05"] == [99]
    _tidy(lake)
    assert len(_files(lake)) == 2
    assert [value for day, value in _rows(lake) if day == "2026-11-05"] == [99]


def test_a_killed_joiner_leaves_a_file_that_is_collected(lake: Lake) -> None:
    _month(lake)
    rows = _rows(lake)
    swap = lake._swap

    def killed(*given: object) -> Manifest:
        raise KeyboardInterrupt

    lake._swap = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        lake.join("t", PARTITION, LATER)
    lake._swap = swap  # type: ignore[method-assign]
    assert len(_files(lake)) == 20
    assert _rows(lake) == rows
    assert lake.collect_garbage("t", PARTITION, LATER) == 2
    assert _rows(lake) == rows


def test_files_of_two_schemas_are_not_mixed(lake: Lake) -> None:
    old = {f"2026-11-{n:02d}": pa.table({"value": [n]}) for n in (1, 2)}
    new = {f"2026-11-{n:02d}": pa.table({"value": [n], "more": ["x"]}) for n in (3, 4)}
    lake.update("t", PARTITION, lambda manifest: {**old, **new})
    _tidy(lake)
    assert len(_files(lake)) == 2
    entries = lake.manifest("t", PARTITION).entries
    assert lake.read_day("t", PARTITION, entries["2026-11-02"]) == old["2026-11-02"]
    assert lake.read_day("t", PARTITION, entries["2026-11-04"]) == new["2026-11-04"]
    assert lake.join("t", PARTITION, LATER + timedelta(days=9)) == 0


def test_a_large_month_becomes_several_files(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _month(lake)
    rows = _rows(lake)
    monkeypatch.setattr(
        lake_module, "LARGEST_JOINED", 3 * max(e.bytes for e in before.days.values())
    )
    _tidy(lake)
    assert 3 < len(_files(lake)) <= 6
    assert _rows(lake) == rows


def test_a_manifest_written_before_files_were_joined_is_read(lake: Lake) -> None:
    before = _month(lake)
    content = lake.objects.get("lake/t/ana/2026-11/manifest.json")[0]
    assert set(orjson.loads(content)["entries"]["2026-11-01"]) == {
        "file",
        "rows",
        "bytes",
        "digest",
    }
    assert lake.manifest("t", PARTITION) == before


def _join_often(root: str) -> None:
    lake = Lake(LocalObjects(Path(root)))
    for _ in range(60):
        lake.join("t", PARTITION, LATER)


def test_joiners_and_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    lake = Lake(LocalObjects(tmp_path))
    _month(lake)
    context = multiprocessing.get_context("spawn")
    joiners = [context.Process(target=_join_often, args=(str(tmp_path),)) for _ in range(2)]
    for joiner in joiners:
        joiner.start()
    written = 0
    while any(joiner.is_alive() for joiner in joiners) or written < 20:
        day = f"2026-11-{written % 9 + 1:02d}"
        table = pa.table({"day": [day], "value": [1000 + written]})
        lake.update("t", PARTITION, lambda _, day=day, table=table: {day: table})  # type: ignore[misc]
        files = [address for address, _ in lake.day_files("t", "ana")]
        assert (
            lake.query("SELECT count(DISTINCT day) AS n FROM t", {"t": files})["n"][0].as_py() == 9
        )
        written += 1
    assert [joiner.exitcode for joiner in joiners] == [0, 0]
    assert max(value for _, value in _rows(lake)) == 1000 + written - 1
