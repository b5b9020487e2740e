"""The landing zone while its small files are joined."""

from __future__ import annotations

import multiprocessing
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import xxhash

from communicator_pipeline.storage import Stores, landing, open_stores
from communicator_pipeline.storage.lake import AccountMonth, Lake, parquet_bytes
from communicator_pipeline.storage.landing import (
    ENVELOPE_SCHEMA,
    REPLACED_KEPT,
    Envelope,
    Landing,
    compact,
    crowded_months,
    read_landing,
)
from communicator_pipeline.storage.objects import LocalObjects
from communicator_pipeline.storage.work import WorkQueue

MONTH = "2026-10"
LATER = timedelta(hours=3)
FILES = 60
KEPT = 1.0  # seconds instead of an hour: a read of 60 files takes a tenth of that


def envelope(number: int) -> Envelope:
    payload = orjson.dumps({"number": number})
    digest = xxhash.xxh3_64_intdigest(payload)
    return Envelope(
        f"{MONTH}-05", f"c:{number}", "c", "channel", "message", number, digest, payload
    )


def many_small_files(lake: Lake, account: str) -> None:
    """As many pulls leave them: landed long ago, a message each."""
    for number in range(FILES):
        columns = [*zip(envelope(number), strict=True), (number,)]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, ENVELOPE_SCHEMA, strict=True)]
        name = f"{1_700_000_000_000_000 + number:016d}-05-{number:012x}.parquet"
        content = parquet_bytes(pa.table(arrays, schema=ENVELOPE_SCHEMA))
        lake.objects.put(f"landing/{account}/{MONTH}/{name}", content)


def messages(lake: Lake, account: str) -> int:
    return pc.count_distinct(
        read_landing(lake, AccountMonth(account, MONTH), None)["message_id"]
    ).as_py()


def files(lake: Lake, account: str) -> int:
    return len(list(lake.objects.list(f"landing/{account}/")))


def _join_all(root: str, accounts: list[str], kept: float) -> None:
    landing.REPLACED_KEPT = timedelta(seconds=kept)
    lake = Lake(LocalObjects(Path(root)))
    for _ in range(2):
        for account in accounts:
            compact(lake, account, MONTH, datetime.now(UTC))
        time.sleep(kept)
    for account in accounts:
        compact(lake, account, MONTH, datetime.now(UTC))


def test_no_row_is_missing_while_another_process_joins_files(tmp_path: Path) -> None:
    lake = Lake(LocalObjects(tmp_path))
    accounts = [f"acc{number}" for number in range(8)]
    for account in accounts:
        many_small_files(lake, account)
    process = multiprocessing.get_context("spawn").Process(
        target=_join_all, args=(str(tmp_path), accounts, KEPT)
    )
    process.start()
    reads, slowest = 0, 0.0
    while process.is_alive():
        for account in accounts:
            began = time.monotonic()
            assert messages(lake, account) == FILES
            reads, slowest = reads + 1, max(slowest, time.monotonic() - began)
    process.join()
    assert process.exitcode == 0
    assert reads > 20
    assert slowest < KEPT
    assert {files(lake, account) for account in accounts} == {1}
    assert list(lake.objects.list("joined/")) == []


def test_joined_files_stay_for_an_hour_and_are_not_joined_again(tmp_path: Path) -> None:
    lake = Lake(LocalObjects(tmp_path))
    many_small_files(lake, "acc")
    now = datetime.now(UTC)
    assert compact(lake, "acc", MONTH, now) == FILES
    assert compact(lake, "acc", MONTH, now + REPLACED_KEPT / 2) == 0
    assert files(lake, "acc") == FILES + 1
    assert compact(lake, "acc", MONTH, now + 2 * REPLACED_KEPT) == 0
    assert (files(lake, "acc"), messages(lake, "acc")) == (1, FILES)


def test_what_is_joined_again_and_again_is_known_once(stores: Stores) -> None:
    """A worker's index lives for weeks, and a month's files are joined each time there are some."""
    lake = stores.lake
    kept = Landing(lake, WorkQueue(stores.database), "ana-chat")
    landed, now = 0, datetime.now(UTC)
    for _ in range(6):
        writer = Landing(lake, WorkQueue(stores.database), "ana-chat")
        for _ in range(10):
            assert writer.land([envelope(landed)]) == (1, 0)
            landed += 1
        for later in (LATER, LATER + REPLACED_KEPT * 2):
            kept.refresh()
            compact(lake, "ana-chat", MONTH, now + later)
    kept.refresh()
    index = kept.index
    for held in (index._days, index._versions):
        assert sum(len(values) for values, _ in held._runs) == landed
    assert len(index._read) == files(lake, "ana-chat") < 10
    assert kept.land([envelope(number) for number in range(landed)]) == (0, 0)


def test_files_are_not_joined_over_one_that_has_to_wait(tmp_path: Path) -> None:
    """What arrived in between would come after it then, and an older edit win over a newer one."""
    lake = Lake(LocalObjects(tmp_path))
    many_small_files(lake, "acc")
    listed = sorted(info.key for info in lake.objects.list("landing/acc/"))
    lake.objects.delete(listed[40])
    folder = f"landing/acc/{MONTH}/"
    busy = listed[30].removeprefix(folder)
    everything = list(lake.objects.list(folder))
    small, most = landing.LARGEST_JOINED, landing.LARGEST_JOINED
    runs = landing._small_runs(everything, {busy}, small, most, 2)
    assert [len(run) for run in runs] == [30, FILES - 32]
    assert not any(info.key.endswith(busy) for run in runs for info in run)


def test_joining_that_is_killed_or_done_twice_gives_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(LocalObjects(tmp_path))
    many_small_files(lake, "acc")
    now = datetime.now(UTC)
    real = LocalObjects.put

    def killed(self: LocalObjects, key: str, content: bytes, if_match: str | None = None) -> str:
        if key.startswith("landing/"):
            raise KeyboardInterrupt
        return real(self, key, content, if_match)

    with monkeypatch.context() as patched:
        patched.setattr(LocalObjects, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            compact(lake, "acc", MONTH, now)
    assert messages(lake, "acc") == FILES
    reading = landing.pq.read_table
    once = [True]

    def with_another(*arguments: object, **named: object) -> pa.Table:
        if once:
            once.clear()
            compact(lake, "acc", MONTH, now)
        return reading(*arguments, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(landing.pq, "read_table", with_another)
        compact(lake, "acc", MONTH, now)
    assert files(lake, "acc") == FILES + 1
    compact(lake, "acc", MONTH, now + 2 * REPLACED_KEPT)
    assert (files(lake, "acc"), messages(lake, "acc")) == (1, FILES)


def test_a_removed_account_cannot_be_written_to(stores: Stores, tmp_path: Path) -> None:
    writer = Landing(stores.lake, WorkQueue(stores.database), "ana-chat")
    other = open_stores(tmp_path / "home")
    other.database.execute("DELETE FROM accounts")
    with pytest.raises(Exception, match="FOREIGN KEY"):
        writer.land([envelope(1)])
    with pytest.raises(LookupError, match="removed meanwhile"):
        stores.lake.update(
            "raw_messages", AccountMonth("ana-chat", MONTH), lambda _: {"2026-10-05": _row()}
        )


def _row() -> pa.Table:
    return pa.table({"message_id": ["m"]})


@pytest.mark.parametrize(
    ("month", "joined"), [(MONTH, 3), (f"{datetime.now(UTC):%Y-%m}", 0)], ids=["over", "under way"]
)
def test_a_month_that_is_over_ends_as_one_file(tmp_path: Path, month: str, joined: int) -> None:
    lake = Lake(LocalObjects(tmp_path))
    for number in range(3):
        _land_one(lake, month, number, _micros(datetime.now(UTC) - timedelta(days=3)))
    assert crowded_months(lake, "acc") == [month]
    now = datetime.now(UTC)
    assert compact(lake, "acc", month, now) == joined
    compact(lake, "acc", month, now + 2 * REPLACED_KEPT)
    assert files(lake, "acc") == (1 if joined else 3)
    assert crowded_months(lake, "acc") == ([] if joined else [month])
    assert read_landing(lake, AccountMonth("acc", month), None).num_rows == 3


def test_into_an_old_month_something_may_still_come(tmp_path: Path) -> None:
    lake = Lake(LocalObjects(tmp_path))
    now = datetime.now(UTC)
    for number in range(3):
        _land_one(lake, MONTH, number, _micros(now - timedelta(days=9)))
    _land_one(lake, MONTH, 3, _micros(now - timedelta(hours=47)))
    assert compact(lake, "acc", MONTH, now) == 0
    assert compact(lake, "acc", MONTH, now + timedelta(hours=2)) == 4


def _micros(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6)


def _land_one(lake: Lake, month: str, number: int, landed_at: int) -> None:
    columns = [*zip(envelope(number), strict=True), (number,)]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, ENVELOPE_SCHEMA, strict=True)]
    name = f"{landed_at + number:016d}-05-{number:012x}.parquet"
    content = parquet_bytes(pa.table(arrays, schema=ENVELOPE_SCHEMA))
    lake.objects.put(f"landing/acc/{month}/{name}", content)
