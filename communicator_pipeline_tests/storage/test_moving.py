"""An installation moves to Cloudflare and back, and is row for row and object for object what it
was: against doubles of D1 and R2."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import random
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any
from uuid import uuid4

import apsw
import boto3
import pyarrow as pa
import pytest
from cryptography.fernet import Fernet
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from typer.testing import CliRunner
from werkzeug.serving import make_server

from communicator_pipeline.cli.app import app
from communicator_pipeline.delivery.approving import approve
from communicator_pipeline.delivery.clock import Instant, read_clock
from communicator_pipeline.delivery.dispatch import due, take, transmit
from communicator_pipeline.delivery.senders import Sender
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.storage import Stores, backup, database, moving, open_local
from communicator_pipeline.storage.backup import BackupRefused, back_up, restore
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.credentials import KeyMissing
from communicator_pipeline.storage.database import Database, DatabaseFailed, SqliteDatabase
from communicator_pipeline.storage.moving import back_up_cloudflare, restore_to_cloudflare
from communicator_pipeline.storage.objects import LocalObjects
from communicator_pipeline.storage.on_cloudflare import Cloudflare, open_cloudflare
from communicator_pipeline.storage.workers import Workers
from communicator_pipeline_tests.chain.test_chain import settle
from communicator_pipeline_tests.conftest import Fill, line
from communicator_pipeline_tests.delivery.world import PROMISES, FakeClock, Platform, add_box, say
from communicator_pipeline_tests.storage.d1_server import TOKEN, D1Server, Fault, d1_server

SECRET = "a-push-key-of-the-tests-that-is-secret"
FOLDERS = ("landing", "joined", "lake", "attachments", "digests")
NOT_MOVED = ("d1_migrations", "write_fences", "workers")

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


# --- what is there ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Contents:
    rows: dict[str, list[str]]
    schema: list[tuple[str, str]]
    found: list[Any]
    """Ids of the messages with some words, as the search finds them."""

    objects: dict[str, str]


def contents(database: Path, objects: Any) -> Contents:
    """Everything in a SQLite file and an object store, read without the code under test."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        names = [
            str(name)
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
                "AND name NOT LIKE 'messages_fts%' ORDER BY name"
            )
        ]
        rows = {
            name: sorted(
                json.dumps([(type(value).__name__, value) for value in row])
                for row in connection.execute(f'SELECT * FROM "{name}"')
            )
            for name in names
            if name not in NOT_MOVED
        }
        schema = [
            (str(name), str(sql))
            for name, sql in connection.execute(
                "SELECT name, sql FROM sqlite_schema WHERE type IN ('trigger', 'view', 'index') "
                "AND sql IS NOT NULL ORDER BY name"
            )
        ]
        found = connection.execute(
            "SELECT rowid FROM messages_fts WHERE messages_fts MATCH 'meet OR hall' ORDER BY rowid"
        ).fetchall()
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()
    hashed = {
        info.key: hashlib.sha256(objects.get(info.key)[0]).hexdigest()
        for folder in FOLDERS
        for info in objects.list(f"{folder}/")
    }
    return Contents(rows, schema, found, hashed)


def at_home(home: Path) -> Contents:
    return contents(home / "communicator.db", LocalObjects(home))


def in_the_file(file: Path, into: Path) -> Contents:
    """What a backup holds, without what a restore makes of it."""
    into.mkdir()
    backup._unpack(file, into)
    with (
        pa.input_stream(str(into / "communicator.db.zst"), compression="zstd") as source,
        (into / "communicator.db").open("wb") as target,
    ):
        shutil.copyfileobj(source, target)
    return at_home(into)


def without_now(found: Contents, since: str) -> Contents:
    """A restore writes when it distrusted a delivery: two of them differ in nothing else."""

    def blurred(match: re.Match[str]) -> str:
        return "NOW" if match.group() >= since else match.group()

    time_text = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    rows = {
        table: sorted(
            re.sub(r"[0-9a-f-]{36}/[\d.]+", "STEADY", re.sub(time_text, blurred, row))
            for row in of_table
        )
        for table, of_table in found.rows.items()
    }
    return Contents(rows, found.schema, found.found, found.objects)


def must_be_same(one: Contents, other: Contents) -> None:
    assert one.rows.keys() == other.rows.keys()
    for table, rows in one.rows.items():
        assert rows == other.rows[table], table
    assert one.schema == other.schema
    assert one.found == other.found
    assert one.objects == other.objects


# --- Cloudflare ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    served = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def locked(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with one_at_a_time:
            return list(served(environ, start))

    server = make_server("127.0.0.1", 0, locked, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@dataclass(frozen=True)
class There:
    """A database and a bucket, and what says where they are."""

    d1: D1Server
    given: dict[str, str]
    folder: Path
    """What a machine has for itself."""

    def contents(self) -> Contents:
        return contents(self.d1.file, Cloudflare.of_environment(self.given).objects(self.folder))


@contextmanager
def a_place(s3: str, folder: Path) -> Iterator[There]:
    bucket = f"bucket-{uuid4().hex[:12]}"
    boto3.session.Session().client(
        "s3",
        endpoint_url=s3,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="made-up",
    ).create_bucket(Bucket=bucket)
    folder.mkdir()
    with d1_server(folder / "d1.db") as d1:
        given = {
            "COMMUNICATOR_BACKEND": "cloudflare",
            "CLOUDFLARE_ACCOUNT_ID": "acc",
            "CLOUDFLARE_API_TOKEN": TOKEN,
            "CLOUDFLARE_BASE_URL": d1.url,
            "COMMUNICATOR_D1_DATABASE": "db",
            "COMMUNICATOR_R2_BUCKET": bucket,
            "COMMUNICATOR_R2_ENDPOINT": s3,
            "COMMUNICATOR_R2_KEY_ID": "key",
            "COMMUNICATOR_R2_SECRET": "made-up",
        }
        yield There(d1, given, folder / "machine")


@pytest.fixture
def there(s3: str, tmp_path: Path) -> Iterator[There]:
    with a_place(s3, tmp_path / "there") as place:
        yield place


# --- an installation with something everywhere -----------------------------------------------


def _in_an_hour() -> Instant:
    now = read_clock()
    return Instant(now.wall + timedelta(hours=1), now.boot, now.steady + 3_600)


@pytest.fixture
def home(stores: Stores, fill: Fill, tmp_path: Path) -> Path:
    """Messages, a reply that was sent, one that was being sent and one that waits, credentials,
    files, and a row in each other table."""
    fill(
        *(
            line(
                n, f"2026-11-0{n % 5 + 1}T09:{n:02}:00Z", "bo", f"who has the key of hall {n}? é🙂"
            )
            for n in range(60)
        )
    )
    settle(stores)
    add_box(stores)
    values = {"me": "ana", "push_key": SECRET}
    add_account(stores, "ana", "ana-crm", "generic", values, lambda field: "")
    promise = PROMISES["look-up"]
    for number in "123":
        told: dict[str, Any] = {"number": number, "channel": number, "conversation": f"c{number}"}
        told["at"] = datetime.now(UTC) - timedelta(minutes=5)
        say(stores, "shall we meet?", draft="Yes, at nine.", **told)
        approve(stores.database, "ana", "ana-box", f"c{number}", promise)
    rows = {row.conversation_id: row for row in due(stores.database, _in_an_hour().wall)}
    for conversation in ("c1", "c2"):
        taken = take(stores.database, rows[conversation], promise, _in_an_hour(), False)
        assert taken is not None
        if conversation == "c1":
            transmit(taken, Sender(Platform(promise, FakeClock()), promise), _in_an_hour)
    folder = tmp_path / "home"
    content = random.Random(1).randbytes(40_000)
    for size in range(0, 40_000, 1_000):
        stores.lake.objects.put(f"attachments/ab/{size}", content[:size])
    stores.lake.objects.put("digests/ana-chat/ana/2026-11-03.json", b"{}")
    close(stores)
    fill_every_table(folder / "communicator.db")
    return folder


def close(stores: Stores) -> None:
    assert isinstance(stores.database, SqliteDatabase)
    stores.database.close()


def fill_every_table(path: Path) -> None:
    """A few rows in each table that has none, as the schema lets them be."""
    connection = apsw.Connection(str(path))
    triggers = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name <> 'messages'"
    ).fetchall()
    with connection:
        for name, _ in triggers:
            connection.execute(f'DROP TRIGGER "{name}"')
        tables = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'table' "
            "AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'messages_fts%'"
        ).fetchall()
        for table, sql in tables:
            (count,) = connection.execute(f'SELECT count(*) FROM "{table}"').fetchall()[0]
            if count or table in NOT_MOVED or table == "landing_intents":
                continue
            for number in (1, 2):
                row = _row(connection, str(table), str(sql), number)
                marks = ", ".join("?" * len(row))
                names = ", ".join(f'"{name}"' for name in row)
                connection.execute(
                    f'INSERT INTO "{table}" ({names}) VALUES ({marks})', tuple(row.values())
                )
        for _, sql in triggers:
            connection.execute(str(sql))
    connection.close()


_KNOWN = {"account": ("ana-chat", "ana-box"), "user_id": ("ana", "bo"), "scope": ("ana", "bo")}


def _row(connection: apsw.Connection, table: str, sql: str, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    columns = connection.execute(f'SELECT name, type FROM pragma_table_info("{table}")').fetchall()
    for name, kind in columns:
        allowed = re.search(rf"CHECK \({name} IN \('([^']*)'", sql)
        if allowed:
            row[str(name)] = allowed.group(1)
        elif name in _KNOWN:
            row[str(name)] = _KNOWN[str(name)][number - 1]
        elif name == "approval_id":
            found = connection.execute("SELECT approval_id FROM approvals").fetchall()
            row[str(name)] = found[number][0]
        elif kind == "INTEGER":
            row[str(name)] = number
        elif kind == "REAL":
            row[str(name)] = number / 10
        else:
            row[str(name)] = json.dumps(f"a '{name}' é ?1 {number}")
    return row


# --- there and back --------------------------------------------------------------------------


def test_it_comes_back_as_it_was(there: There, home: Path, tmp_path: Path) -> None:
    more_than_a_part = random.Random(1).randbytes(17 * 2**20)
    LocalObjects(home).put("attachments/ab/large", more_than_a_part)
    before = at_home(home)
    assert all(before.rows[table] for table in before.rows if table != "landing_intents")
    assert len(before.found) == 63
    since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    first = back_up(home, tmp_path / "first.tar").file
    restored, moved = restore_to_cloudflare(first, there.folder, environment=there.given)
    arrived = there.contents()
    restore(first, tmp_path / "beside")
    must_be_same(without_now(arrived, since), without_now(at_home(tmp_path / "beside"), since))
    assert arrived.objects == before.objects
    assert arrived.rows["messages"] == before.rows["messages"]
    assert len(arrived.rows["delivery_log"]) == len(before.rows["delivery_log"]) + 3  # distrusted
    assert {name: one.count for name, one in moved.tables.items()} == {
        name: len(rows) for name, rows in arrived.rows.items()
    }
    assert sum(one.count for one in moved.objects.values()) == len(arrived.objects) > 50
    assert len(restored.unknown) == 3
    assert not list((there.folder / "moving").iterdir())

    second = tmp_path / "second.tar"
    done, _ = back_up_cloudflare(there.folder, second, environment=there.given)
    assert done.summary.counts == restored.summary.counts
    assert there.contents() == arrived
    must_be_same(in_the_file(second, tmp_path / "unpacked"), arrived)
    restore(second, tmp_path / "back")
    must_be_same(without_now(at_home(tmp_path / "back"), since), without_now(arrived, since))
    assert not list((there.folder / "moving").iterdir())
    # What the triggers are for, they do again.
    database = Cloudflare.of_environment(there.given).database(there.folder)
    with pytest.raises(DatabaseFailed, match="does not change"):
        database.execute("UPDATE approvals SET text = 'x'")


def test_the_fewest_calls(there: There, home: Path, tmp_path: Path) -> None:
    file = back_up(home, tmp_path / "first.tar").file
    restore_to_cloudflare(file, there.folder, environment=there.given)
    tables = len(there.contents().rows)
    assert len(there.d1.requests) < 30
    assert tables > 50
    there.d1.requests.clear()
    back_up_cloudflare(there.folder, tmp_path / "second.tar", environment=there.given)
    assert len(there.d1.requests) < 5


def in_many_calls() -> None:
    """As if the installation were a thousand times as large."""
    moving.FIRST_PAGE, moving.PAGE, moving.MOST_ROWS, moving.BATCH = 1_000, 3_000, 7, 1


@pytest.fixture
def many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_PAGE", "PAGE", "MOST_ROWS", "BATCH"):
        monkeypatch.setattr(moving, name, getattr(moving, name))  # so that it is put back
    in_many_calls()


@pytest.mark.usefixtures("many_calls")
def test_pages_miss_no_row_and_double_none(there: There, home: Path, tmp_path: Path) -> None:
    file = back_up(home, tmp_path / "first.tar").file
    restore_to_cloudflare(file, there.folder, environment=there.given)
    second = tmp_path / "second.tar"
    back_up_cloudflare(there.folder, second, environment=there.given)
    restore(second, tmp_path / "back")
    assert at_home(tmp_path / "back").rows["messages"] == at_home(home).rows["messages"]


FAULTS: tuple[Fault, ...] = ("429", "5xx before", "5xx after", "cut before", "cut after")


@pytest.mark.usefixtures("many_calls")
def test_what_goes_wrong_on_the_way_changes_nothing(
    there: There, home: Path, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    last: list[Fault] = [""]

    def faults() -> Fault:
        # Never twice in a row, so that it comes through in the end.
        last.append(chance.choice(FAULTS) if not last[-1] and chance.random() < 0.4 else "")
        return last[-1]

    there.d1.faults = faults
    file = back_up(home, tmp_path / "first.tar").file
    restore_to_cloudflare(file, there.folder, environment=there.given)
    back_up_cloudflare(there.folder, tmp_path / "second.tar", environment=there.given)
    assert sum(map(bool, last)) > 15
    restore(tmp_path / "second.tar", tmp_path / "back")
    before, back = at_home(home), at_home(tmp_path / "back")
    assert back.rows["messages"] == before.rows["messages"]
    assert back.objects == before.objects
    assert back.schema == before.schema
    assert len(back.rows["delivery_log"]) == len(before.rows["delivery_log"]) + 3


# --- one moment ------------------------------------------------------------------------------


def _write(d1: D1Server, number: int) -> None:
    """What any batch of the pipeline leaves: a change, and its fence."""
    connection = apsw.Connection(str(d1.file))
    with connection:
        connection.execute(
            "INSERT INTO users (user_id, name, created_at) VALUES (?, 'x', '')", (f"u{number}",)
        )
        connection.execute("INSERT INTO write_fences VALUES (?, ?)", (f"f{number}", "2026-11-29"))
        connection.execute("UPDATE messages SET channel_id = ?", (str(number),))
    connection.close()


@pytest.fixture
def filled(there: There, home: Path, tmp_path: Path) -> There:
    file = back_up(home, tmp_path / "first.tar").file
    restore_to_cloudflare(file, there.folder, environment=there.given)
    return there


@pytest.mark.parametrize("where", ["database", "bucket"])
def test_a_moment_is_sought_at_which_nothing_moves(
    where: str, filled: There, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "LOOK_AGAIN", 0.01)
    monkeypatch.setattr(moving, "FIRST_PAGE", 2_000)
    monkeypatch.setattr(moving, "PAGE", 9_000)
    bucket = Cloudflare.of_environment(filled.given).objects(filled.folder)
    asked = 0
    stops_at: float = 8

    def write() -> Fault:
        nonlocal asked
        asked += 1
        if asked < stops_at:
            if where == "database":
                _write(filled.d1, asked)
            else:
                bucket.put(f"landing/ana-chat/2026-11/{asked}", b"x" * asked)
        return ""

    filled.d1.faults = write
    if where == "bucket":
        stops_at = 3
    back_up_cloudflare(filled.folder, tmp_path / "second.tar", environment=filled.given)
    filled.d1.faults = lambda: ""
    restore(tmp_path / "second.tar", tmp_path / "back")
    back, found = at_home(tmp_path / "back"), filled.contents()
    for table in ("users", "messages", "deliveries", "delivery_log", "approvals"):
        assert back.rows[table] == found.rows[table]
    if where == "bucket":
        assert back.objects == found.objects

    stops_at = 10**9
    filled.d1.faults = write
    with pytest.raises(BackupRefused, match="stop the worker"):
        back_up_cloudflare(filled.folder, tmp_path / "third.tar", environment=filled.given)
    assert not (tmp_path / "third.tar").exists()
    filled.d1.faults = lambda: ""
    # What was copied for it and has changed since is copied again; what is gone, goes.
    bucket.put("digests/ana-chat/ana/2026-11-03.json", b"[]")
    bucket.delete("attachments/ab/7000")
    back_up_cloudflare(filled.folder, tmp_path / "third.tar", environment=filled.given)
    assert in_the_file(tmp_path / "third.tar", tmp_path / "third").objects == (
        filled.contents().objects
    )


def test_a_small_installation_is_saved_while_a_worker_lives(filled: There, tmp_path: Path) -> None:
    """Its tables are read in one batch: what is written between two calls does no harm."""
    count = 0

    def write() -> Fault:
        nonlocal count
        count += 1
        _write(filled.d1, count)
        return ""

    filled.d1.faults = write
    back_up_cloudflare(filled.folder, tmp_path / "second.tar", environment=filled.given)
    restore(tmp_path / "second.tar", tmp_path / "back")
    channels = {json.loads(row)[4][1] for row in at_home(tmp_path / "back").rows["messages"]}
    assert len(channels) == 1


# --- a target that is not empty, or not whole ------------------------------------------------


def test_what_is_there_is_saved_before_it_is_replaced(
    filled: There, stores: Stores, tmp_path: Path
) -> None:
    before = filled.contents()
    stores.database.execute("UPDATE users SET name = 'Other' WHERE user_id = 'ana'")
    stores.lake.objects.delete("attachments/ab/7000")
    other = back_up(tmp_path / "home", tmp_path / "other.tar").file
    with pytest.raises(BackupRefused, match=r"not empty.*users.*--replace"):
        restore_to_cloudflare(other, filled.folder, environment=filled.given)
    assert filled.contents() == before

    database = Cloudflare.of_environment(filled.given).database(filled.folder)
    workers = Workers(database)
    workers.beat(datetime.now(UTC))
    with pytest.raises(BackupRefused, match="a worker lives"):
        restore_to_cloudflare(other, filled.folder, True, environment=filled.given)
    workers.leave()
    assert filled.contents() == before

    restored, _ = restore_to_cloudflare(other, filled.folder, True, environment=filled.given)
    now = filled.contents()
    assert '["str", "Other"]' in "".join(now.rows["users"])
    assert before.objects.keys() - now.objects.keys() == {"attachments/ab/7000"}
    assert now.schema == before.schema
    assert restored.moved_aside is not None
    restore(restored.moved_aside, tmp_path / "old")
    assert at_home(tmp_path / "old").objects == before.objects
    assert at_home(tmp_path / "old").rows["users"] == before.rows["users"]


def _restore(begun: Event, file: str, folder: str, given: dict[str, str]) -> None:
    in_many_calls()
    begun.set()
    restore_to_cloudflare(Path(file), Path(folder), environment=given)


def _process(file: Path, folder: Path, given: dict[str, str]) -> BaseProcess:
    """A process that has all its imports behind it, and begins with the restore now."""
    begun = _CONTEXT.Event()
    process = _CONTEXT.Process(target=_restore, args=(begun, str(file), str(folder), given))
    process.start()
    begun.wait()
    return process


def usual_seconds(file: Path, folder: Path, given: dict[str, str]) -> float:
    process = _process(file, folder, given)
    began = time.monotonic()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began


def kill_restores(
    kills: int, chance: random.Random, file: Path, place: tuple[Path, dict[str, str]], usual: float
) -> int:
    """Kill a restore so often, if it is not done before, and let it come to its end; returns how
    often it was killed."""
    for killed in range(kills):
        process = _process(file, *place)
        process.join(chance.uniform(0.05, 0.6) * usual)
        if not process.is_alive():
            assert process.exitcode == 0
            return killed
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    usual_seconds(file, *place)
    return kills


def test_a_killed_restore_goes_on_where_it_was(
    s3: str, there: There, home: Path, tmp_path: Path
) -> None:
    file = back_up(home, tmp_path / "first.tar").file
    with a_place(s3, tmp_path / "measured") as measured:
        usual = usual_seconds(file, measured.folder, measured.given)
        expected = measured.contents()
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    place = (there.folder, there.given)
    assert kill_restores(3, random.Random(seed), file, place, usual) > 0
    since = "2026-11-20"
    must_be_same(without_now(there.contents(), since), without_now(expected, since))


class _BrokenOff(Exception):
    pass


def test_a_kill_behind_the_last_step_costs_nothing(
    there: There, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = back_up(home, tmp_path / "first.tar").file
    end = moving._end

    def end_and_break_off(*given: Any) -> None:
        end(*given)
        raise _BrokenOff

    with monkeypatch.context() as patched:
        patched.setattr(moving, "_end", end_and_break_off)
        with pytest.raises(_BrokenOff):
            restore_to_cloudflare(file, there.folder, environment=there.given)
    arrived = there.contents()
    restored, _ = restore_to_cloudflare(file, there.folder, environment=there.given)
    assert len(restored.unknown) == 3
    assert there.contents() == arrived
    assert not list((there.folder / "moving").iterdir())


def test_a_kill_amid_the_targets_migrations_is_made_good(
    there: There, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = back_up(home, tmp_path / "first.tar").file

    def begin_and_break_off(target: Database) -> None:
        some = database._migrations()[:5]
        with monkeypatch.context() as cut_short:
            cut_short.setattr(database, "_migrations", lambda: some)
            database.migrate(target)
        raise _BrokenOff

    with monkeypatch.context() as patched:
        patched.setattr(moving, "_migrate", begin_and_break_off)
        with pytest.raises(_BrokenOff):
            restore_to_cloudflare(file, there.folder, environment=there.given)
    restore_to_cloudflare(file, there.folder, environment=there.given)
    assert there.contents().rows["messages"] == at_home(home).rows["messages"]


@pytest.fixture
def half(there: There, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose restore broke off amid the messages; returns it."""
    file = back_up(home, tmp_path / "first.tar").file
    insert, pages = moving._insert, 0

    def break_off(table: Any) -> str:
        nonlocal pages
        pages += table.name == "messages"
        if pages > 4:
            raise _BrokenOff
        return insert(table)

    with monkeypatch.context() as patched:
        patched.setattr(moving, "BATCH", 1)
        patched.setattr(moving, "MOST_ROWS", 7)
        patched.setattr(moving, "_insert", break_off)
        with pytest.raises(_BrokenOff):
            restore_to_cloudflare(file, there.folder, environment=there.given)
    return file


def test_nothing_works_on_a_half_filled_target(
    half: Path, there: There, s3: str, tmp_path: Path
) -> None:
    with pytest.raises(DatabaseFailed, match="restore"):
        open_cloudflare(there.folder, there.given)
    with pytest.raises(BackupRefused, match="broken off"):
        back_up_cloudflare(there.folder, tmp_path / "b.tar", environment=there.given)
    restore_to_cloudflare(half, there.folder, environment=there.given)
    open_cloudflare(there.folder, there.given)


def test_another_machine_does_not_mix_its_rows_in(half: Path, there: There, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other machine"
    before = there.contents()
    assert len(before.rows["messages"]) == 21
    with pytest.raises(BackupRefused, match=r"unfinished restore.*--replace"):
        restore_to_cloudflare(half, elsewhere, environment=there.given)
    assert there.contents() == before
    restored, _ = restore_to_cloudflare(half, elsewhere, True, environment=there.given)
    assert restored.moved_aside is None  # half a restore is not worth saving
    whole = there.contents()
    with pytest.raises(BackupRefused, match="not empty"):
        restore_to_cloudflare(half, there.folder, environment=there.given)
    assert there.contents() == whole


def test_what_arrives_otherwise_is_noticed(half: Path, there: There) -> None:
    connection = apsw.Connection(str(there.d1.file))
    connection.execute("UPDATE users SET name = 'changed' WHERE user_id = 'ana'")
    connection.close()
    with pytest.raises(BackupRefused, match=r"^users: .*not as they were"):
        restore_to_cloudflare(half, there.folder, environment=there.given)
    bucket = Cloudflare.of_environment(there.given).objects(there.folder)
    restore_to_cloudflare(half, there.folder, True, environment=there.given)
    assert bucket.exists("attachments/ab/7000")


def test_an_object_that_is_another_is_noticed(half: Path, there: There) -> None:
    bucket = Cloudflare.of_environment(there.given).objects(there.folder)
    bucket.put("attachments/ab/7000", b"x" * 7_000)
    with pytest.raises(BackupRefused, match=r"^attachments: .*not as they were"):
        restore_to_cloudflare(half, there.folder, environment=there.given)


# --- keys ------------------------------------------------------------------------------------


def test_credentials_are_sealed_with_the_keys_of_the_target(
    there: There, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = back_up(home, tmp_path / "with.tar", with_key=True).file
    key = (home / "credentials.key").read_text().strip()
    secrets = Connections(open_local(home)).load("ana-crm").secrets
    monkeypatch.setenv("COMMUNICATOR_KEYS", Fernet.generate_key().decode())
    restored, _ = restore_to_cloudflare(file, there.folder, environment=there.given)
    assert restored.key == "from the environment"
    opened = open_cloudflare(there.folder, there.given)
    assert Connections(opened).load("ana-crm").secrets == secrets
    # The made-up row of the other table opens with no key, and has stayed as it was.
    before, after = at_home(home).rows, there.contents().rows
    assert after["notification_targets"] == before["notification_targets"]
    assert after["connections"] != before["connections"]
    assert not (there.folder / "credentials.key").exists()
    left = [p for p in there.folder.rglob("*") if p.is_file() and key.encode() in p.read_bytes()]
    assert left == []


def test_a_wrong_key_is_said_and_nothing_secret_with_it(
    there: There, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = back_up(home, tmp_path / "without.tar").file
    wrong = Fernet.generate_key().decode()
    for name, value in {**there.given, "COMMUNICATOR_KEYS": wrong}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COMMUNICATOR_HOME", str(there.folder))
    told = CliRunner().invoke(app, ["restore", str(file)])
    assert told.exit_code == 0, told.output
    assert "communicator accounts login ana-crm" in told.output
    assert "messages: 63 rows" in told.output
    assert re.search(r"[0-9a-f]{12}  attachments: 40 objects", told.output)
    sealed = [row for row in at_home(home).rows["connections"] if "ana-crm" in row]
    assert sealed[0] in there.contents().rows["connections"]
    with pytest.raises(KeyMissing):
        Connections(open_cloudflare(there.folder, there.given)).load("ana-crm")
    again = CliRunner().invoke(app, ["backup", str(tmp_path), "--json"])
    assert json.loads(again.stdout)["compared"]["tables"]["messages"]["count"] == 63
    for words in (told.output, again.output):
        assert SECRET not in words
        assert wrong not in words


def test_a_file_that_is_no_backup_is_refused_before_anything_is_touched(
    there: There, home: Path, tmp_path: Path
) -> None:
    file = back_up(home, tmp_path / "first.tar").file
    file.write_bytes(file.read_bytes()[:-20_000])
    with pytest.raises(BackupRefused, match="damaged"):
        restore_to_cloudflare(file, there.folder, environment=there.given)
    with pytest.raises(BackupRefused, match="does not exist"):
        restore_to_cloudflare(tmp_path / "none", there.folder, environment=there.given)
    assert there.d1.requests == []
    assert not list((there.folder / "moving").iterdir())
    shutil.rmtree(there.folder)
