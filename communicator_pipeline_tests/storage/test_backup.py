"""A backup is of one moment; a restore loses nothing, half-does nothing and sends nothing twice."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import apsw
import orjson
import pytest
import typer
from typer.testing import CliRunner

from communicator_pipeline.cli import backups, running
from communicator_pipeline.delivery.approving import approve
from communicator_pipeline.delivery.clock import Instant, read_clock
from communicator_pipeline.delivery.dispatch import deliver_due, due, take, transmit
from communicator_pipeline.delivery.recovery import recover
from communicator_pipeline.delivery.senders import Sender
from communicator_pipeline.delivery.states import State
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.ingestion.exports import import_export, open_export
from communicator_pipeline.platforms.sandbox.chat import Chat
from communicator_pipeline.retention import LAKE_ASSETS
from communicator_pipeline.storage import Stores, backup, open_local
from communicator_pipeline.storage.accounts import Accounts, add_user
from communicator_pipeline.storage.backup import BackupRefused, back_up, restore
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.database import SqliteDatabase
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.landing import compact, landed_months, read_landing
from communicator_pipeline.storage.outbox import Outbox, Outgoing, in_state
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline.storage.workers import Workers
from communicator_pipeline_tests.chain.test_chain import settle
from communicator_pipeline_tests.conftest import FaultSizes, Fill, Line, line
from communicator_pipeline_tests.delivery.world import (
    PROMISES,
    FakeClock,
    Network,
    Platform,
    add_box,
    say,
)
from communicator_pipeline_tests.stored_rows import TABLES

ACCOUNT = "ana-chat"

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


# --- while everything runs -------------------------------------------------------------------


def _lines(seed: int, batches: int) -> list[list[Line]]:
    """A talk over six days in two months, in no order: replies across midnight and the month's
    end, edits and deletions, so that what comes late changes what stands on other days."""
    chance = random.Random(seed)
    start = datetime(2026, 10, 29, tzinfo=UTC)
    words = "who has the key of the hall|can you send me the invoice?|it is behind the door|thanks"
    told: list[Line] = []
    for number in range(batches * 5):
        at = start + timedelta(minutes=chance.randrange(6 * 24 * 60))
        more: dict[str, object] = {}
        if told and chance.random() < 0.4:
            before = chance.choice(told)
            at = datetime.fromisoformat(str(before["sent_at"])) + timedelta(
                minutes=chance.randrange(1, 300)
            )
            more = {"reply_to": before["id"], "channel": before["channel"]}
        more.setdefault("channel", chance.choice(["c1", "c2"]))
        text = f"{chance.choice(words.split('|'))} {number}"
        author = chance.choice(["ana", "ben", "cat"])
        told.append(line(number, at.isoformat(), author, text, author_name=author.title(), **more))
    for number in range(0, len(told), 9):
        later = datetime.fromisoformat(str(told[number]["sent_at"])) + timedelta(hours=1)
        told.append({**told[number], "edited_at": later.isoformat(), "text": f"edited {number}"})
    for number in range(4, len(told), 23):
        told.append({"deleted": True, **{k: told[number][k] for k in ("id", "channel", "sent_at")}})
    chance.shuffle(told)
    # Everybody is known from the beginning: a name that comes later does not have days done again,
    # so that what stands on them would depend on which came first.
    known: list[Line] = [
        {
            "id": f"{who}-{place}",
            "channel": place,
            "sent_at": "2026-10-29T00:00:00Z",
            "author": who,
            "author_name": who.title(),
            "text": "hi",
        }
        for who in ("ana", "ben", "cat")
        for place in ("c1", "c2")
    ]
    return [(known if start == 0 else []) + told[start::batches] for start in range(batches)]


def _open(home: Path) -> Stores:
    stores = open_local(home)
    add_user(stores.database, "ana", "Ana")
    accounts = Accounts(stores.database, "ana")
    accounts.add(ACCOUNT, "generic", "Chat")
    accounts.set_me(ACCOUNT, ["ana"])
    return stores


def _import(stores: Stores, file: Path) -> None:
    import_export(open_export(file), ACCOUNT, stores.database, stores.lake)


def live(home: str, exports: str, acknowledged: str) -> None:
    """What an installation does, as if hours lay between any two steps: import, materialise, join
    small landing files, collect garbage."""
    stores = _open(Path(home))
    for number, file in enumerate(sorted(Path(exports).iterdir())):
        _import(stores, file)
        with Path(acknowledged).open("a") as told:
            told.write(f"{file.name}\n")
        if number % 3:
            settle(stores)
        later = datetime.now(UTC) + timedelta(hours=2 + number)
        for month in landed_months(stores.lake, ACCOUNT):
            compact(stores.lake, ACCOUNT, month, later)
        for asset in LAKE_ASSETS:
            for month in stores.lake.months(asset, ACCOUNT):
                stores.lake.collect_garbage(asset, AccountMonth(ACCOUNT, month), later)
    settle(stores)


def _rows(stores: Stores) -> dict[str, list[str]]:
    """All that people and later runs act on, in database and lake."""
    found = {
        name: sorted(
            # A draft's version counts how often it was drafted, which depends on what came when.
            str([value for key, value in row.items() if (name, key) != ("drafts", "version")])
            for row in stores.database.execute(f"SELECT {columns} FROM {name}")
        )
        for name, columns in TABLES.items()
        if name not in ("published_days", "landing_intents")
    }
    for asset in LAKE_ASSETS:
        rows: list[str] = []
        for month in stores.lake.months(asset, ACCOUNT):
            partition = AccountMonth(ACCOUNT, month)
            for day, entry in stores.lake.manifest(asset, partition).entries.items():
                table = stores.lake.read_day(asset, partition, entry)
                if asset == "drafted_replies":
                    table = table.drop_columns(["version"])
                rows += [f"{day} {row}" for row in map(str, table.to_pylist())]
        found[f"lake {asset}"] = sorted(rows)
    found["landing"] = sorted(_landed(stores))
    return found


def _landed(stores: Stores) -> set[str]:
    return {
        f"{row['message_id']} {row['kind']} {row['digest']}"
        for month in landed_months(stores.lake, ACCOUNT)
        for row in read_landing(stores.lake, AccountMonth(ACCOUNT, month), None).to_pylist()
    }


def _check_files(home: Path) -> int:
    """Every file that a manifest names is there and is what the manifest says; how many."""
    checked = 0
    for manifest in home.glob("lake/*/*/*/manifest.json"):
        for entry in orjson.loads(manifest.read_bytes())["entries"].values():
            content = (manifest.parent / entry["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == entry["digest"]
            checked += 1
    for file in (home / "attachments").glob("*/*"):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name
    return checked


def _check_database(path: Path) -> None:
    connection = apsw.Connection(str(path))
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


def _landed_by(folder: Path, files: list[Path]) -> set[str]:
    """What a file's import lands, learnt in an installation of its own."""
    stores = _open(folder)
    for file in files:
        _import(stores, file)
    return _landed(stores)


def _from_landing_alone(stores: Stores, home: Path, into: Path) -> Stores:
    """An installation with the same landing zone and names, in which nothing has been done yet."""
    fresh = _open(into)
    for table in ("people", "channels"):
        for row in stores.database.execute(f"SELECT * FROM {table}"):
            marks = ", ".join("?" * len(row))
            fresh.database.execute(f"INSERT INTO {table} VALUES ({marks})", list(row.values()))
    shutil.copytree(home / "landing", into / "landing")
    for month in landed_months(stores.lake, ACCOUNT):
        days = read_landing(stores.lake, AccountMonth(ACCOUNT, month), None, ["day"])
        WorkQueue(fresh.database).mark(ACCOUNT, {str(day) for day in days["day"].to_pylist()}, "")
    return fresh


def back_up_while_it_lives(
    batches: int, most: int, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, int]:
    """Take backups while another process works, restore each, and compare."""
    tmp_path.mkdir(exist_ok=True)
    exports, acknowledged = tmp_path / "exports", tmp_path / "acknowledged"
    exports.mkdir()
    acknowledged.touch()
    for number, lines in enumerate(_lines(seed, batches)):
        content = b"".join(orjson.dumps(one) + b"\n" for one in lines)
        (exports / f"{number:03d}.jsonl").write_bytes(content)
    home, kept = tmp_path / "live", tmp_path / "backups"
    kept.mkdir()
    _open(home)
    process = _CONTEXT.Process(target=live, args=(str(home), str(exports), str(acknowledged)))
    process.start()
    while process.is_alive() and not acknowledged.read_text():
        time.sleep(0.01)
    taken: list[tuple[bool, Path, list[str]]] = []
    numbers = dict.fromkeys(("taken", "restored", "unsettled", "late", "files"), 0)
    while process.is_alive():
        # Every other one takes the first moment that comes, settled or not.
        monkeypatch.setattr(backup, "SETTLE_SECONDS", 5.0 if numbers["taken"] % 2 else 0.0)
        before = acknowledged.read_text().split()
        done = back_up(home, kept / f"{numbers['taken']}.tar")
        numbers["taken"] += 1
        late = b'"late":true' in done.file.read_bytes()
        numbers["late"] += late
        numbers["unsettled"] += bool(done.summary.unsettled)
        odd_one = late or bool(done.summary.unsettled)
        if odd_one or numbers["taken"] % 10 == 1:
            taken.append((odd_one, done.file, before))
        else:
            done.file.unlink()
    process.join()
    assert process.exitcode == 0, f"seed {seed}"
    expected = _rows(open_local(home))
    odd = [one for one in taken if one[0]]
    chosen = random.Random(seed).sample(odd, min(len(odd), most // 2))
    rest = [one for one in taken if one not in chosen]
    chosen += random.Random(seed).sample(rest, min(len(rest), most - len(chosen)))
    for _, file, before in chosen:
        fresh = tmp_path / "restored" / file.stem
        restore(file, fresh)
        numbers["restored"] += 1
        _check_database(fresh / "communicator.db")
        numbers["files"] += _check_files(fresh)
        stores = open_local(fresh)
        files = [exports / name for name in before]
        missing = _landed_by(tmp_path / "learnt" / file.stem, files) - _landed(stores)
        assert not missing, f"seed {seed}, {file.name}: {len(missing)} acknowledged are missing"

        settle(stores)
        undisturbed = _from_landing_alone(stores, fresh, tmp_path / "undisturbed" / file.stem)
        settle(undisturbed)
        _compare(_rows(stores), _rows(undisturbed), f"seed {seed}, {file.name}")

        for export in sorted(exports.iterdir()):
            _import(stores, export)
        settle(stores)
        _compare(_rows(stores), expected, f"seed {seed}, {file.name}, completed")
    return numbers


def _compare(found: dict[str, list[str]], expected: dict[str, list[str]], where: str) -> None:
    for name, rows in expected.items():
        assert found[name] == rows, f"{where}: {name} differs"


def test_backups_taken_while_everything_runs_converge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    numbers = back_up_while_it_lives(8, 4, seed, tmp_path, monkeypatch)
    print(f"seed {seed}: {numbers}")
    assert numbers["restored"] == 4


@pytest.mark.faults
def test_many_backups_taken_while_everything_runs_converge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: FaultSizes
) -> None:
    for seed in random.Random(sizes.seed).sample(range(10**6), sizes.count(2)):
        numbers = back_up_while_it_lives(
            sizes.count(40, 8), sizes.count(12, 4), seed, tmp_path / str(seed), monkeypatch
        )
        print(f"seed {seed}: {numbers}")
        if sizes.share >= 1:  # in a small one nothing may have moved
            assert numbers["unsettled"] > 0
            assert numbers["late"] > 0


def _stage(stores: Stores, folder: Path, seed: int) -> list[Callable[[], None]]:
    """Two steps of an installation's life, for where a backup would rather have quiet: each
    imports, materialises, and collects garbage as if hours had passed."""

    def step(number: int, lines: list[Line]) -> None:
        file = folder / f"step{number}.jsonl"
        file.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in lines))
        _import(stores, file)
        settle(stores)
        later = datetime.now(UTC) + timedelta(hours=3 + 3 * number)
        for month in landed_months(stores.lake, ACCOUNT):
            compact(stores.lake, ACCOUNT, month, later)
        for asset in LAKE_ASSETS:
            for month in stores.lake.months(asset, ACCOUNT):
                stores.lake.collect_garbage(asset, AccountMonth(ACCOUNT, month), later)

    batches = [lines[:8] for lines in _lines(seed, 4)]
    step(0, batches[0])
    step(1, batches[1])
    return [lambda: step(2, batches[2]), lambda: step(3, batches[3])]


@pytest.mark.parametrize("place", ["at it", "behind it", "at it and behind"])
def test_what_happens_meanwhile_is_done_again_after_a_restore(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps are taken at the very places, where they hurt most."""
    stores = _open(tmp_path / "live")
    steps = _stage(stores, tmp_path, 7)
    look, copy_database = backup._Manifests.look, backup._copy_database
    looks = 0

    def looking(manifests: backup._Manifests) -> set[str]:
        nonlocal looks
        looks += 1
        # Between the read transaction's beginning and the look behind it.
        if looks == 3 and "at it" in place:
            steps.pop(0)()
        return look(manifests)

    def copying(source: apsw.Connection, into: Path) -> None:
        copy_database(source, into)
        if "behind" in place:
            steps.pop(0)()

    monkeypatch.setattr(backup._Manifests, "look", looking)
    monkeypatch.setattr(backup, "_copy_database", copying)
    monkeypatch.setattr(backup, "SETTLE_SECONDS", 0.0)
    done = back_up(tmp_path / "live", tmp_path / "backup.tar")
    assert done.summary.unsettled == ([ACCOUNT] if "at it" in place else [])
    expected = _rows(stores)
    restored = restore(done.file, tmp_path / "restored")
    assert restored.marked_days > 0
    _check_files(tmp_path / "restored")
    again = open_local(tmp_path / "restored")
    settle(again)
    _compare(_rows(again), expected, place)


def test_whoever_writes_for_the_first_time_behind_the_moment_has_a_name(
    stores: Stores, fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "hello", author_name="Ben"))
    copy_database = backup._copy_database

    def copying(source: apsw.Connection, into: Path) -> None:
        copy_database(source, into)
        told = line(2, "2026-11-03T09:01:00Z", "eve", "hi <@ben>", channel="c9", author_name="Eve")
        fill(told, name="late.jsonl")

    monkeypatch.setattr(backup, "_copy_database", copying)
    restore(back_up(tmp_path / "home", tmp_path / "backup.tar").file, tmp_path / "restored")
    again = open_local(tmp_path / "restored")
    settle(again)
    settle(stores)
    assert _rows(again) == _rows(stores)
    assert not (tmp_path / "restored" / "names.jsonl").exists()


def test_a_run_at_the_moment_leaves_no_day_behind(
    stores: Stores, fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run changes a day of another month that nothing landed on; its mark came after the
    database was fixed, its files before the manifests were taken: nothing but the account's name in
    the backup tells."""
    fill(line(2, "2026-11-01T00:01:00Z", "ben", "and which colour?", reply_to="m1"))
    settle(stores)
    fill(
        line(0, "2026-10-31T23:58:00Z", "ana", "who wants the new bell?"),
        line(1, "2026-10-31T23:59:00Z", "ben", "I would like one", reply_to="m0"),
        name="older.jsonl",
    )
    look = backup._Manifests.look
    looks = 0

    def looking(manifests: backup._Manifests) -> set[str]:
        nonlocal looks
        looks += 1
        if looks == 3:
            settle(stores)
        return look(manifests)

    monkeypatch.setattr(backup._Manifests, "look", looking)
    monkeypatch.setattr(backup, "SETTLE_SECONDS", 0.0)
    done = back_up(tmp_path / "home", tmp_path / "backup.tar")
    assert done.summary.unsettled == [ACCOUNT]
    restore(done.file, tmp_path / "restored")
    again = open_local(tmp_path / "restored")
    settle(again)
    _compare(_rows(again), _rows(stores), "restored")


def test_days_whose_file_was_just_landing_are_done_again(
    stores: Stores, fill: Fill, tmp_path: Path
) -> None:
    """The file was there at the moment of the backup, its days not marked yet: only the intent."""
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "hello"))
    settle(stores)
    file = next((tmp_path / "home").glob("landing/*/*/*.parquet"))
    stores.database.execute(
        "INSERT INTO landing_intents (object_key, account, days, created_at) VALUES (?, ?, ?, ?)",
        (
            str(file.relative_to(tmp_path / "home")),
            ACCOUNT,
            '["2026-11-03"]',
            "2026-11-03T09:00:00.000000Z",
        ),
    )
    done = back_up(tmp_path / "home", tmp_path / "backup.tar")
    restored = restore(done.file, tmp_path / "fresh")
    assert restored.touched_days == 1
    assert [d.day for d in WorkQueue(open_local(tmp_path / "fresh").database).dirty()] == [
        "2026-11-03"
    ]


def test_a_moment_is_sought_at_which_nothing_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = _open(tmp_path / "live")
    steps = _stage(stores, tmp_path, 8)
    look = backup._Manifests.look
    looks = 0

    def looking(manifests: backup._Manifests) -> set[str]:
        nonlocal looks
        looks += 1
        if looks == 3:
            steps.pop(0)()
        return look(manifests)

    monkeypatch.setattr(backup._Manifests, "look", looking)
    done = back_up(tmp_path / "live", tmp_path / "backup.tar")
    assert looks == 5
    assert done.summary.unsettled == []
    assert restore(done.file, tmp_path / "restored").touched_days == 0
    assert _rows(open_local(tmp_path / "restored")) == _rows(stores)


def test_landing_files_that_are_joined_while_they_are_copied_are_all_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = _open(tmp_path / "live")
    for number in range(10):
        file = tmp_path / f"{number}.jsonl"
        told = line(number, f"2026-11-03T09:0{number}:00Z", "ben", f"part {number} of it")
        file.write_bytes(orjson.dumps(told) + b"\n")
        _import(stores, file)
    add_if_new = backup._Archive.add_if_new
    joined: list[int] = []

    def adding(archive: backup._Archive, name: str, path: Path) -> bool:
        if name.startswith("landing/") and not joined:
            for hours in (3, 6):
                later = datetime.now(UTC) + timedelta(hours=hours)
                joined.append(compact(stores.lake, ACCOUNT, "2026-11", later))
            assert len(list((tmp_path / "live" / "landing").rglob("*.parquet"))) == 1
        return add_if_new(archive, name, path)

    monkeypatch.setattr(backup._Archive, "add_if_new", adding)
    done = back_up(tmp_path / "live", tmp_path / "backup.tar")
    assert joined[0] == 10
    restore(done.file, tmp_path / "restored")
    again = open_local(tmp_path / "restored")
    assert _landed(again) == _landed(stores)
    settle(again)
    settle(stores)
    assert _rows(again) == _rows(stores)


# --- nothing goes out twice ------------------------------------------------------------------


def _in_an_hour() -> Instant:
    now = read_clock()
    return Instant(now.wall + timedelta(hours=1), now.boot, now.steady + 3_600)


@pytest.mark.parametrize("promise", ["look-up", "neither"])
def test_what_was_on_its_way_is_not_sent_again(
    promise: str, stores: Stores, tmp_path: Path
) -> None:
    """One reply is sent after the backup, one was being sent, one never leaves."""
    add_box(stores)
    sent_at = datetime.now(UTC) - timedelta(minutes=5)
    for number in "123":
        told: dict[str, Any] = {"number": number, "channel": number, "at": sent_at}
        told["conversation"] = f"c{number}"
        say(stores, "shall we meet?", draft="Yes, at nine.", **told)
        approve(stores.database, "ana", "ana-box", f"c{number}", PROMISES[promise])
    platform = Platform(PROMISES[promise], FakeClock())
    network = Network({"ana-box": platform})
    sender = Sender(platform, PROMISES[promise])
    rows = {row.conversation_id: row for row in due(stores.database, _in_an_hour().wall)}
    under_way = take(stores.database, rows["c1"], PROMISES[promise], _in_an_hour(), False)
    assert under_way is not None
    file = back_up(tmp_path / "home", tmp_path / "backup.tar").file
    transmit(under_way, sender, _in_an_hour)
    later = take(stores.database, rows["c2"], PROMISES[promise], _in_an_hour(), False)
    assert later is not None
    transmit(later, sender, _in_an_hour)
    assert len(platform.arrivals) == 2

    restored = restore(file, tmp_path / "restored")
    assert len(restored.unknown) == 3
    again = open_local(tmp_path / "restored")
    assert not due(again.database, _in_an_hour().wall)
    recover(again, senders=network, quiet=timedelta(0), clock=_in_an_hour)
    deliver_due(again, senders=network, clock=_in_an_hour)
    states = {r.conversation_id: r.delivery.state for r in _deliveries(again)}
    if promise == "look-up":
        assert states == {"c1": "sent", "c2": "sent", "c3": "sent"}
        assert sorted(platform.counts().values()) == [1, 1, 1]
    else:
        assert set(states.values()) == {"needs_human"}
        assert len(platform.requests) == 2


def _deliveries(stores: Stores) -> list[Outgoing]:
    states: tuple[State, ...] = ("approved", "sending", "unknown", "needs_human", "sent")
    return [row for state in states for row in in_state(stores.database, state)]


def test_no_draft_is_approved_without_a_person_after_a_restore(
    stores: Stores, tmp_path: Path
) -> None:
    """What a policy approved after the backup is a draft again: it would be approved once more."""
    add_box(stores)
    Outbox(stores.database, "ana").open_policy("ana-box", "question", 0.5, 9, datetime.now(UTC))
    file = back_up(tmp_path / "home", tmp_path / "backup.tar").file
    assert restore(file, tmp_path / "restored").policies_revoked == 1
    again = Outbox(open_local(tmp_path / "restored").database, "ana")
    policy = again.policies("ana-box", datetime.now(UTC))["question"]
    assert not policy.is_open
    assert "restored" in policy.revoked_why


# --- what is in it ---------------------------------------------------------------------------


def test_the_key_is_left_out_unless_it_is_asked_for(stores: Stores, tmp_path: Path) -> None:
    values = {"me": "ana", "push_key": "a-key-of-more-than-20-characters"}
    add_account(stores, "ana", "ana-crm", "generic", values, lambda field: "")
    home = tmp_path / "home"
    without = back_up(home, tmp_path / "without.tar").file
    key = (home / "credentials.key").read_bytes().strip()
    assert key not in without.read_bytes()
    restored = restore(without, tmp_path / "elsewhere")
    assert (restored.key, restored.log_in) == ("missing", ["ana-crm"])

    with_it = back_up(home, tmp_path / "with.tar", with_key=True).file
    restored = restore(with_it, tmp_path / "other")
    assert (restored.key, restored.log_in) == ("in the backup", [])
    assert (tmp_path / "other" / "credentials.key").stat().st_mode & 0o777 == 0o600
    opened = Connections(open_local(tmp_path / "other")).load("ana-crm")
    assert opened.secrets == Connections(stores).load("ana-crm").secrets

    _close(stores)
    restored = restore(without, home, replace=True)
    assert (restored.key, restored.log_in) == ("kept", [])


def _close(stores: Stores) -> None:
    assert isinstance(stores.database, SqliteDatabase)
    stores.database.close()


def test_the_sandbox_is_in_it_and_dagsters_records_are_not(stores: Stores, tmp_path: Path) -> None:
    home = tmp_path / "home"
    said = Chat(home / "sandbox.db").say("hello", "Ben", None, None)
    (home / "dagster").mkdir()
    (home / "dagster" / "runs.db").write_bytes(b"x")
    done = back_up(home, tmp_path)
    assert done.summary.has_sandbox
    assert done.file.name.startswith("communicator-20")
    assert done.file.stat().st_mode & 0o777 == 0o600
    restore(done.file, tmp_path / "restored")
    lines = Chat(tmp_path / "restored" / "sandbox.db").lines(None, 10)
    assert [line.message_id for line in lines] == [said.message_id]
    assert not (tmp_path / "restored" / "dagster").exists()


def test_files_of_an_account_that_the_database_does_not_know_do_not_come_back(
    stores: Stores, fill: Fill, tmp_path: Path
) -> None:
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "hello"))
    stray = tmp_path / "home" / "landing" / "gone" / "2026-11"
    stray.mkdir(parents=True)
    (stray / "x.parquet").write_bytes(b"x")
    file = back_up(tmp_path / "home", tmp_path / "backup.tar").file
    restore(file, tmp_path / "restored")
    assert [f.name for f in (tmp_path / "restored" / "landing").iterdir()] == [ACCOUNT]


def test_every_mark_stays(stores: Stores, fill: Fill, tmp_path: Path) -> None:
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "hello"))
    marks = WorkQueue(stores.database).dirty()
    file = back_up(tmp_path / "home", tmp_path / "backup.tar").file
    assert restore(file, tmp_path / "restored").touched_days == 1
    assert WorkQueue(open_local(tmp_path / "restored").database).dirty() == marks


# --- what is refused -------------------------------------------------------------------------


@pytest.fixture
def saved(stores: Stores, fill: Fill, tmp_path: Path) -> Path:
    """A backup of an installation with a message in it; everything there is closed."""
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "hello"))
    settle(stores)
    file = back_up(tmp_path / "home", tmp_path / "backup.tar").file
    _close(stores)
    return file


def _rewritten(file: Path, change: Callable[[str, bytes], tuple[str, bytes]]) -> Path:
    """The backup with other members, and a list that fits them."""
    into = file.with_name("rewritten.tar")
    lines: list[dict[str, object]] = []
    with tarfile.open(file) as old, tarfile.open(into, "w") as new:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))

        for member in old:
            source = old.extractfile(member)
            assert source is not None
            content = source.read()
            if member.name == "contents.jsonl":
                first = change("summary", content.splitlines()[0])[1]
                content = first + b"\n" + b"".join(orjson.dumps(one) + b"\n" for one in lines)
                digest = hashlib.sha256(content).hexdigest()
            elif member.name == "contents.jsonl.sha256":
                content = f"{digest}  contents.jsonl\n".encode()
            else:
                member.name, content = change(member.name, content)
                sha256 = hashlib.sha256(content).hexdigest()
                lines.append({"name": member.name, "bytes": len(content), "sha256": sha256})
            add(member.name, content)
    return into


def _refusal(file: Path, home: Path, replace: bool = False) -> str:
    there = sorted(str(path) for path in home.rglob("*")) if home.exists() else None
    with pytest.raises(BackupRefused) as refused:
        restore(file, home, replace)
    assert there == (sorted(str(path) for path in home.rglob("*")) if home.exists() else None)
    assert not home.with_name(f"{home.name}.restoring").exists()
    return str(refused.value)


def test_what_is_not_a_backup_is_refused_in_words(saved: Path, tmp_path: Path) -> None:
    home = tmp_path / "new"
    (tmp_path / "text").write_text("hello " * 1_000)
    (tmp_path / "empty").touch()
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        tar.add(tmp_path / "text", "text")
    for name in ("text", "empty", "other.tar"):
        assert "is not a backup" in _refusal(tmp_path / name, home)
    assert "does not exist" in _refusal(tmp_path / "nothing", home)
    assert "is a folder" in _refusal(tmp_path, home)


def test_a_backup_that_breaks_off_is_refused_wherever_it_does(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    cut = tmp_path / "cut.tar"
    chance = random.Random(1)
    for size in [*(chance.randrange(1_100, len(whole) - 10_240) for _ in range(60)), 600]:
        cut.write_bytes(whole[:size])
        words = _refusal(cut, tmp_path / "new")
        assert "breaks off" in words or "is not a backup" in words


def test_a_damaged_member_is_named(saved: Path, tmp_path: Path) -> None:
    whole = bytearray(saved.read_bytes())
    with tarfile.open(saved) as tar:
        members = [(member.name, member.offset_data, member.size) for member in tar]
    broken = tmp_path / "broken.tar"
    for name, start, size in members:
        damaged = bytearray(whole)
        damaged[start + size // 2] ^= 4
        broken.write_bytes(damaged)
        words = _refusal(broken, tmp_path / "new")
        said = "contents.jsonl" if name.startswith("contents.jsonl") else name
        assert f"{said} is not what was put in" in words or "is damaged" in words
        assert said in words


def test_no_damage_to_any_byte_goes_unnoticed(saved: Path, tmp_path: Path) -> None:
    """But for the bytes that say nothing: padding, and a header's owner and times."""
    whole = saved.read_bytes()
    broken, home = tmp_path / "broken.tar", tmp_path / "new"
    expected = restore(saved, tmp_path / "expected").summary
    chance = random.Random(2)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        broken.write_bytes(damaged)
        try:
            assert restore(broken, home).summary == expected
        except BackupRefused:
            continue
        for path in (tmp_path / "expected").rglob("*.parquet"):
            other = home / path.relative_to(tmp_path / "expected")
            assert path.read_bytes() == other.read_bytes()
        shutil.rmtree(home)


def test_newer_kinds_and_newer_schemas_are_refused(saved: Path, tmp_path: Path) -> None:
    def newer(**values: object) -> Path:
        def change(name: str, content: bytes) -> tuple[str, bytes]:
            if name == "summary":
                content = orjson.dumps({**orjson.loads(content), **values})
            return name, content

        return _rewritten(saved, change)

    known = orjson.loads(_first_line(saved))["migrations"]
    assert "newer kind (2" in _refusal(newer(format=2, more=1), tmp_path / "new")
    words = _refusal(newer(migrations=[*known, "9999_new.sql"]), tmp_path / "new")
    assert "9999_new.sql" in words
    assert "newer" in words
    older = restore(newer(migrations=known[:1]), tmp_path / "new")
    assert older.summary.migrations == known[:1]


def _first_line(file: Path) -> bytes:
    with tarfile.open(file) as tar:
        source = tar.extractfile("contents.jsonl")
        assert source is not None
        return source.readline()


@pytest.mark.parametrize(
    "name", ["../outside", "/outside", "lake/../../outside", "landing//x", "dagster/x", "x"]
)
def test_no_member_can_lie_outside(name: str, saved: Path, tmp_path: Path) -> None:
    def change(member: str, content: bytes) -> tuple[str, bytes]:
        return (name if member.endswith("manifest.json") else member), content

    words = _refusal(_rewritten(saved, change), tmp_path / "new")
    assert "no backup" in words or "damaged" in words
    assert not (tmp_path / "outside").exists()


def test_a_home_that_is_not_empty_is_kept_unless_it_is_to_be_replaced(
    saved: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / "mine").write_text("x")
    assert "--replace" in _refusal(saved, home)
    restored = restore(saved, home, replace=True)
    assert restored.moved_aside is not None
    assert restored.moved_aside.name.startswith("home.before-restore-")
    assert (restored.moved_aside / "mine").read_text() == "x"
    assert not (home / "mine").exists()
    (tmp_path / "there").mkdir()
    assert restore(saved, tmp_path / "there").moved_aside is None


def test_the_old_home_is_moved_aside_where_two_folders_cannot_be_exchanged(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_exchange", lambda one, other: False)
    (tmp_path / "home" / "mine").write_text("x")
    aside = restore(saved, tmp_path / "home", replace=True).moved_aside
    assert aside is not None
    assert (aside / "mine").read_text() == "x"
    _check_database(tmp_path / "home" / "communicator.db")


def test_nothing_is_restored_where_a_worker_lives(saved: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    stores = open_local(home)
    Workers(stores.database).beat(datetime.now(UTC))
    _close(stores)
    assert "a worker lives" in _refusal(saved, home, replace=True)
    Workers(stores.database).leave()
    assert "has" in _refusal(saved, home, replace=True)  # this very connection
    _close(stores)
    restore(saved, home, replace=True)


def test_a_damaged_home_can_be_replaced(saved: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "communicator.db").write_bytes(b"no database" * 1_000)
    aside = restore(saved, home, replace=True).moved_aside
    assert aside is not None
    assert (aside / "communicator.db").read_bytes().startswith(b"no database")
    _check_database(home / "communicator.db")


def test_a_damaged_database_is_not_backed_up_as_if_it_were_none(
    saved: Path, tmp_path: Path
) -> None:
    path = tmp_path / "home" / "communicator.db"
    content = bytearray(path.read_bytes())
    for start in range(8_192, len(content), 4_096):
        content[start : start + 64] = os.urandom(64)
    path.write_bytes(content)
    with pytest.raises((BackupRefused, apsw.Error)):
        back_up(tmp_path / "home", tmp_path / "again.tar")
    assert not (tmp_path / "again.tar").exists()


def test_a_file_that_is_there_is_not_overwritten(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupRefused, match="exists already"):
        back_up(tmp_path / "home", saved)
    with pytest.raises(BackupRefused, match="there is no folder"):
        back_up(tmp_path / "home", tmp_path / "none" / "backup.tar")
    with pytest.raises(BackupRefused, match="nothing to back up"):
        back_up(tmp_path / "elsewhere", tmp_path / "new.tar")


_BY_ITSELF = """
import resource, sys
from pathlib import Path
from communicator_pipeline.storage.backup import BackupRefused, back_up, restore
what, one, two = sys.argv[1:]
try:
    {"back_up": back_up, "restore": restore}[what](Path(one), Path(two))
except BackupRefused as refused:
    print(refused)
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
"""A process with a disk, limits or memory of its own."""

# --- full disks ------------------------------------------------------------------------------


def _on_a_small_disk(kib: int, disk: Path, *words: str) -> str:
    """Run the command with a file system of that size at `disk`, in a mount namespace of its own;
    returns what it says, and what is on the disk behind it."""
    disk.mkdir(exist_ok=True)
    run = shlex.join([sys.executable, "-c", _BY_ITSELF, *words])
    script = f"mount -t tmpfs -o size={kib}k tmpfs {disk} && {{ {run}; ls -A {disk}; }}"
    answer = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "unshare" in answer.stderr or "mount" in answer.stderr:
        pytest.skip(f"no file system of our own here: {answer.stderr}")
    return answer.stdout + answer.stderr


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs Linux's unshare")
@pytest.mark.parametrize("spare", [100, 500])
def test_a_full_disk_is_said_in_words_and_leaves_nothing(
    spare: int, saved: Path, tmp_path: Path
) -> None:
    home, disk = tmp_path / "home", tmp_path / "disk"
    (home / "attachments" / "aa").mkdir(parents=True)
    (home / "attachments" / "aa" / "big").write_bytes(os.urandom(700_000))
    target = disk / "backup.tar"
    shown = _on_a_small_disk(spare, disk, "back_up", str(home), str(target))
    assert "no room is left" in shown, shown
    assert "backup.tar" not in shown.splitlines()
    assert ".communicator-backup" not in shown

    file = back_up(home, tmp_path / "big.tar").file
    shown = _on_a_small_disk(spare, disk, "restore", str(file), str(disk / "new"))
    assert "no room is left" in shown, shown
    assert "new" not in shown.splitlines()
    assert "new.restoring" not in shown


@pytest.mark.parametrize(("most", "words"), [(150_000, "went wrong"), (600_000, "so large")])
def test_a_limit_on_the_size_of_files_is_said_in_words(
    most: int, words: str, saved: Path, tmp_path: Path
) -> None:
    (tmp_path / "home" / "attachments" / "aa").mkdir(parents=True)
    (tmp_path / "home" / "attachments" / "aa" / "big").write_bytes(os.urandom(700_000))
    answer = subprocess.run(
        [sys.executable, "-c", _BY_ITSELF, "back_up", str(tmp_path / "home"), str(tmp_path / "b")],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
    )
    assert words in answer.stdout, answer.stderr
    assert not (tmp_path / "b").exists()


# --- kills -----------------------------------------------------------------------------------


def _back_up(home: str, target: str) -> None:
    back_up(Path(home), Path(target))


def _restore(file: str, home: str) -> None:
    restore(Path(file), Path(home), replace=True)


def _begin(begun: Event, target: Callable[..., None], *words: str) -> None:
    begun.set()
    target(*words)


def _begun(target: Callable[..., None], *words: Path) -> BaseProcess:
    """A process that has all its imports behind it, and begins with the work now."""
    begun = _CONTEXT.Event()
    process = _CONTEXT.Process(target=_begin, args=(begun, target, *map(str, words)))
    process.start()
    begun.wait()
    return process


def _kill_after(seconds: float, target: Callable[..., None], *words: Path) -> bool:
    """Whether it was killed before it was done."""
    process = _begun(target, *words)
    process.join(seconds)
    if not process.is_alive():
        assert process.exitcode == 0
        return False
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return True


def _usual(target: Callable[..., None], *words: Path) -> float:
    process = _begun(target, *words)
    began = time.monotonic()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began


def _weighty(home: Path) -> None:
    """Enough files that a kill finds the work half done."""
    for number in range(300):
        content = number.to_bytes(4, "big") * 5_000
        digest = hashlib.sha256(content).hexdigest()
        file = home / "attachments" / digest[:2] / digest
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def kill_backups(kills: int, seed: int, home: Path, folder: Path) -> int:
    """Returns how many kills found a backup half done."""
    folder.mkdir()
    chance = random.Random(seed)
    usual = _usual(_back_up, home, folder / "usual.tar")
    done = half = 0
    while done < kills:
        file = folder / f"{done}.tar"
        if _kill_after(chance.uniform(0.2, 1) * usual, _back_up, home, file):
            done += 1
            half += (folder / ".communicator-backup").exists()
        if file.exists():  # then it is whole
            backup._unpack(file, folder / "unpacked")
            shutil.rmtree(folder / "unpacked")
            file.unlink()
    back_up(home, folder / "last.tar")
    assert sorted(path.name for path in folder.iterdir()) == ["last.tar", "usual.tar"]
    return half


def test_a_killed_backup_leaves_no_half_file_and_does_not_stop_the_next(
    saved: Path, tmp_path: Path
) -> None:
    _weighty(tmp_path / "home")
    seed = random.SystemRandom().randrange(10**6)
    half = kill_backups(8, seed, tmp_path / "home", tmp_path / "kept")
    print(f"seed {seed}: {half} of 8 kills found a backup half done")
    assert half > 2


def kill_restores(kills: int, seed: int, file: Path, folder: Path) -> tuple[int, int]:
    """Kill restores into a home with something else in it; after each kill the home is the old one
    or the new one, whole. Returns how often the work was half done, and how often it was new."""
    folder.mkdir()
    home, template = folder / "home", folder / "template"
    stores = open_local(template)
    add_user(stores.database, "old", "Old")
    _close(stores)
    (template / "mine").write_text("x")
    shutil.copytree(template, home)
    chance = random.Random(seed)
    usual = _usual(_restore, file, home)
    done = half = new = 0
    shutil.rmtree(home)
    shutil.copytree(template, home)
    while done < kills:
        for aside in folder.glob("home.before-restore-*"):
            shutil.rmtree(aside)
        if _kill_after(chance.uniform(0.2, 1.05) * usual, _restore, file, home):
            done += 1
            half += (folder / "home.restoring").exists()
        again = open_local(home)
        users = [row["user_id"] for row in again.database.execute("SELECT user_id FROM users")]
        _close(again)
        _check_database(home / "communicator.db")
        if users == ["old"]:
            assert (home / "mine").read_text() == "x"
            continue
        new += 1
        assert users == ["ana"], f"seed {seed}"
        assert len(list((home / "attachments").rglob("*"))) > 300
        asides = list(folder.glob("home.before-restore-*"))
        assert [(aside / "mine").read_text() for aside in asides] == ["x"], f"seed {seed}"
        shutil.rmtree(home)
        shutil.copytree(template, home)
    return half, new


def test_a_killed_restore_leaves_the_old_home_or_the_new_one(saved: Path, tmp_path: Path) -> None:
    _weighty(tmp_path / "home")
    file = back_up(tmp_path / "home", tmp_path / "weighty.tar").file
    seed = random.SystemRandom().randrange(10**6)
    half, new = kill_restores(8, seed, file, tmp_path / "kept")
    print(f"seed {seed}: {half} of 8 kills found a restore half done, {new} homes were new")
    assert half > 2


def _restore_and_die(file: str, home: str, when: str) -> None:
    exchange = backup._exchange

    def dying(one: Path, other: Path) -> bool:
        if when == "after":
            exchange(one, other)
        os.kill(os.getpid(), signal.SIGKILL)
        return False

    backup._exchange = dying  # in a process of its own
    _restore(file, home)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_the_very_exchange_costs_nothing(when: str, saved: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "mine").write_text("x")
    words = (str(saved), str(home), when)
    process = _CONTEXT.Process(target=_restore_and_die, args=words)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (home / "mine").exists() == (when == "before")
    _check_database(home / "communicator.db")
    restore(saved, home, replace=True)
    olds = [path for path in tmp_path.glob("home.before-restore-*") if (path / "mine").exists()]
    assert len(olds) == 1


@pytest.mark.faults
def test_two_hundred_kills_of_backups_and_restores(
    saved: Path, tmp_path: Path, sizes: FaultSizes
) -> None:
    _weighty(tmp_path / "home")
    file = back_up(tmp_path / "home", tmp_path / "weighty.tar").file
    seed, kills = sizes.seed, sizes.count(100)
    half = kill_backups(kills, seed, tmp_path / "home", tmp_path / "backups")
    restores = kill_restores(kills, seed, file, tmp_path / "restores")
    print(f"seed {seed}: {half} backups half done; restores half done, homes new: {restores}")
    assert half > 0.3 * kills or sizes.share < 1
    assert restores[0] > 0.3 * kills or sizes.share < 1


def test_two_backups_to_one_folder_do_not_meet(saved: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with backup._workplace(tmp_path / ".communicator-backup", "another", 0o700):
        with pytest.raises(BackupRefused, match="is under way"):
            back_up(home, tmp_path / "second.tar")
        assert (tmp_path / ".communicator-backup").exists()
    back_up(home, tmp_path / "second.tar")


def test_memory_does_not_grow_with_the_installation(saved: Path, tmp_path: Path) -> None:
    """A file of 150 MB costs no more memory than none, on the way out and on the way back."""

    def peak(what: str, one: Path, two: Path) -> int:
        words = [sys.executable, "-c", _BY_ITSELF, what, str(one), str(two)]
        return int(subprocess.check_output(words, text=True).split()[-1])  # KiB

    small = peak("back_up", tmp_path / "home", tmp_path / "small.tar")
    place = tmp_path / "home" / "attachments" / "aa"
    place.mkdir(parents=True)
    with (place / "large").open("wb") as file:
        file.truncate(150 * 2**20)
    assert peak("back_up", tmp_path / "home", tmp_path / "large.tar") - small < 20 * 1024
    assert peak("restore", tmp_path / "large.tar", tmp_path / "new") - small < 60 * 1024


# --- the command -----------------------------------------------------------------------------

_APP = typer.Typer()
_APP.command("backup")(backups.backup)
_APP.command("restore")(backups.restore)
_APP.command("materialize")(running.materialize)


def _command(home: Path, *words: str, code: int = 0) -> Any:
    answer = CliRunner().invoke(_APP, words, env={"COMMUNICATOR_HOME": str(home)})
    assert answer.exit_code == code, answer.output
    return json.loads(answer.stdout) if "--json" in words and code == 0 else answer.output


def test_the_commands_speak_to_people_and_to_programs(
    stores: Stores, fill: Fill, tmp_path: Path
) -> None:
    fill(line(1, "2026-11-03T09:00:00Z", "ben", "can you send me the invoice?"))
    home, new = tmp_path / "home", tmp_path / "new"
    _close(stores)
    said = _command(home, "backup", str(tmp_path / "one.tar"), "--json")
    assert said["file"] == str(tmp_path / "one.tar")
    assert said["counts"]["landing"] == 1
    shown = _command(home, "backup", str(tmp_path / "two.tar"))
    assert "credentials.key is not in it" in shown
    assert "exists already" in _command(home, "backup", str(tmp_path / "two.tar"), code=1)
    shown = _command(new, "restore", str(tmp_path / "one.tar"))
    for words in ("communicator doctor", "communicator materialize", "1 touched days"):
        assert words in shown
    assert "--replace" in _command(new, "restore", str(tmp_path / "one.tar"), code=1)
    said = _command(new, "restore", str(tmp_path / "one.tar"), "--replace", "--json")
    assert said["touched_days"] == 1
    assert Path(said["moved_aside"]).is_dir()
    assert said["next"] == ["communicator doctor", "communicator materialize"]
    runs = _command(new, "materialize", "--no-pull", "--json")
    assert [run["account"] for run in runs] == [ACCOUNT]
    settle(stores)
    assert _rows(open_local(new)) == _rows(stores)
