"""What every object store must do, on a folder, on a double of S3 and on the real R2 of workerd.

Belongs here: the tests that are the same for all, those that are the same for every S3 server, and
the bad network between. Does not belong here: starting the servers (the modules that subclass).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from communicator_pipeline.storage.lake import AccountMonth, Lake, Manifest, NewDays, parquet_bytes
from communicator_pipeline.storage.objects import ABSENT, LocalObjects, LostRace, ObjectStore
from communicator_pipeline.storage.r2 import (
    IN_USE,
    PART,
    UNUSED,
    ObjectsUnavailable,
    R2Objects,
)

PARTITION = AccountMonth("ana", "2026-11")
DAY = "2026-11-03"
SPAWN = multiprocessing.get_context("spawn")

Opener = Callable[[], ObjectStore]
"""Opens the store; can be pickled, so that other processes open the same one."""

ODD_KEYS = [
    "a b/c d.txt",
    "a+b/c%20d/100%.txt",
    "ünï/日本/🙂.txt",
    "q?x=1&y=2/#frag;v",
    "it's/(a)/[b]/~c*.txt",
    'quo"te/<a>/back\\slash',
]


@dataclass(frozen=True)
class LocalOpener:
    folder: Path

    def __call__(self) -> LocalObjects:
        return LocalObjects(self.folder)


@dataclass(frozen=True)
class R2Opener:
    """Where a bucket is, and a folder for copies of its objects."""

    endpoint: str
    bucket: str
    key_id: str
    secret: str
    cache: Path
    most_cached: int = 2**30

    def __call__(self) -> R2Objects:
        return R2Objects(
            self.endpoint, self.bucket, self.key_id, self.secret, self.cache, self.most_cached
        )


def add_row(lake: Lake, value: int) -> None:
    """Merge one row into the day, from the manifest that is given."""

    def change(manifest: Manifest) -> NewDays:
        old = manifest.days.get(DAY)
        have = [] if old is None else lake.read_day("t", PARTITION, old)["value"].to_pylist()
        return {DAY: pa.table({"value": sorted({*have, value})})}

    lake.update("t", PARTITION, change)


def add_rows(opener: Opener, worker: int, rows: int) -> None:
    lake = Lake(opener())
    for number in range(rows):
        add_row(lake, worker * 1_000 + number)


def count_up(opener: Opener, key: str, times: int) -> None:
    objects = opener()
    for _ in range(times):
        while True:
            content, etag = objects.get(key)
            try:
                objects.put(key, str(int(content) + 1).encode(), if_match=etag)
                break
            except LostRace:
                continue


class ObjectsContract:
    """Subclasses give a fixture `opener`."""

    rounds = 50
    """Updates of the lake by each of four processes."""

    @pytest.fixture
    def objects(self, opener: Opener) -> ObjectStore:
        return opener()

    def test_what_was_put_is_got_with_the_same_etag(self, objects: ObjectStore) -> None:
        for content in (b"one", b"", b"\x00\xff" * 1_000):
            etag = objects.put("a/b", content)
            assert objects.get("a/b") == (content, etag)

    def test_the_etag_is_another_when_the_content_is(self, objects: ObjectStore) -> None:
        assert objects.put("a", b"1") != objects.put("a", b"2")

    def test_an_object_that_is_not_there(self, objects: ObjectStore) -> None:
        with pytest.raises(FileNotFoundError):
            objects.get("no/such")
        assert not objects.exists("no/such")
        objects.delete("no/such")

    def test_a_deleted_object_is_gone(self, objects: ObjectStore) -> None:
        objects.put("a/b", b"x")
        assert objects.exists("a/b")
        objects.delete("a/b")
        assert not objects.exists("a/b")
        assert list(objects.list("a/")) == []

    def test_a_conditional_put_refuses_whoever_comes_late(self, objects: ObjectStore) -> None:
        etag = objects.put("a/b", b"one", if_match=ABSENT)
        second = objects.put("a/b", b"two", if_match=etag)
        for late in (etag, ABSENT):
            with pytest.raises(LostRace):
                objects.put("a/b", b"three", if_match=late)
        assert objects.get("a/b") == (b"two", second)
        objects.delete("a/b")
        with pytest.raises(LostRace):
            objects.put("a/b", b"four", if_match=second)
        assert not objects.exists("a/b")

    @pytest.mark.parametrize("key", ["../x", "a//b", "a/../b", "/etc/passwd", "", "a/", "./a"])
    def test_what_is_no_key_is_refused(self, objects: ObjectStore, key: str) -> None:
        for do in (lambda: objects.put(key, b""), lambda: objects.get(key)):
            with pytest.raises(ValueError, match="is not an object key"):
                do()

    @pytest.mark.parametrize("key", ODD_KEYS)
    def test_odd_keys(self, objects: ObjectStore, key: str) -> None:
        etag = objects.put(key, key.encode(), if_match=ABSENT)
        assert objects.get(key) == (key.encode(), etag)
        assert objects.exists(key)
        prefix = key.split("/")[0] + "/"
        assert [info.key for info in objects.list(prefix)] == [key]
        assert Path(objects.addresses([key])[0]).read_bytes() == key.encode()
        objects.delete(key)
        assert not objects.exists(key)

    def test_a_long_listing_is_whole_and_in_order(self, objects: ObjectStore) -> None:
        keys = [f"many/{number:04d}-{'ö' if number % 2 else 'z'}" for number in range(1_050)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: objects.put(key, key.encode()), reversed(keys)))
        objects.put("man", b"")
        objects.put("many-more", b"")
        found = list(objects.list("many/"))
        assert [info.key for info in found] == keys
        assert [info.size for info in found] == [len(key.encode()) for key in keys]
        now = datetime.now(UTC)
        assert all(abs(now - info.modified_at) < timedelta(minutes=5) for info in found)
        assert [info.key for info in objects.list("many/000")] == keys[:10]
        assert len(list(objects.list("many"))) == 1_051

    def test_a_large_object_is_whole(self, objects: ObjectStore) -> None:
        content = os.urandom(2 * PART + 12_345)
        etag = objects.put("large", content)
        assert objects.get("large") == (content, etag)
        again = objects.put("large", content[:-1], if_match=etag)
        assert objects.get("large") == (content[:-1], again)

    def test_of_many_threads_one_wins_each_round(self, objects: ObjectStore) -> None:
        etag = ABSENT
        for number in range(15):
            names = [f"{number}-{name}".encode() for name in "abcdef"]
            at_once = threading.Barrier(len(names))

            def write(name: bytes, before: str = etag, go: threading.Barrier = at_once) -> str:
                go.wait()
                try:
                    return objects.put("raced", name, if_match=before)
                except LostRace:
                    return ""

            with ThreadPoolExecutor(len(names)) as pool:
                won = dict(zip(names, pool.map(write, names), strict=True))
            assert sum(map(bool, won.values())) == 1
            content, etag = objects.get("raced")
            assert won[content] == etag

    def test_processes_that_count_together_lose_nothing(self, opener: Opener) -> None:
        opener().put("count", b"0")
        run_all([(count_up, (opener, "count", 40))] * 3)
        assert opener().get("count")[0] == b"120"

    def test_a_reader_sees_the_old_or_the_new(self, objects: ObjectStore) -> None:
        contents = [bytes([letter]) * 200_000 for letter in b"abcd"]
        objects.put("seen", contents[0])
        is_over = threading.Event()

        def write() -> None:
            for number in range(40):
                objects.put("seen", contents[number % 4])
            is_over.set()

        reads = 0
        writer = threading.Thread(target=write)
        writer.start()
        while not is_over.is_set():
            assert objects.get("seen")[0] in contents
            reads += 1
        writer.join()
        assert reads > 3

    def test_processes_that_update_the_lake_lose_nothing(self, opener: Opener) -> None:
        run_all([(add_rows, (opener, worker, self.rounds)) for worker in range(4)])
        lake = Lake(opener())
        files = [address for address, _ in lake.day_files("t", "ana")]
        values = lake.query("SELECT value FROM t ORDER BY value", {"t": files})["value"]
        expected = [worker * 1_000 + number for worker in range(4) for number in range(self.rounds)]
        assert values.to_pylist() == expected

    def test_a_query_gives_the_same_as_on_a_folder(self, opener: Opener, tmp_path: Path) -> None:
        answers = []
        for lake in (Lake(opener()), Lake(LocalObjects(tmp_path / "beside"))):
            for month in ("2026-10", "2026-11"):
                days = {
                    f"{month}-{day:02d}": pa.table({"n": [day, day * 2], "m": [month, "ü"]})
                    for day in range(1, 29)
                }
                lake.update("t", AccountMonth("ana", month), lambda _, days=days: days)  # type: ignore[misc]
            found = lake.day_files("t", "ana", "2026-10-05", "2026-11-20")
            assert [day for _, day in found] == sorted(day for _, day in found)
            answers.append(
                lake.query(
                    "SELECT m, sum(n) AS s, count(*) AS c FROM t GROUP BY m ORDER BY m",
                    {"t": [address for address, _ in found]},
                ).to_pylist()
            )
        assert answers[0] == answers[1]
        assert sum(row["c"] for row in answers[0]) == 2 * (24 + 20)


class R2Contract(ObjectsContract):
    """Subclasses give a fixture `opener` that is an `R2Opener`."""

    lists_uploads = True
    """Whether the server says which uploads in parts have begun."""

    names_downloads = True
    """Whether the server heeds what a link says of name and type."""

    @pytest.fixture
    def proxied(self, opener: R2Opener) -> Iterator[tuple[Proxy, R2Objects]]:
        with proxy(opener.endpoint) as between:
            yield between, replace(opener, endpoint=between.url)()

    @pytest.mark.parametrize("condition", ["none", "absent", "etag"])
    @pytest.mark.parametrize("cuts", [1, 4])
    def test_a_put_whose_answer_is_lost_was_written(
        self, opener: R2Opener, proxied: tuple[Proxy, R2Objects], condition: str, cuts: int
    ) -> None:
        """Four: as often as the client tries; then it must look for itself."""
        between, far = proxied
        near = opener()
        if_match = {"none": None, "absent": ABSENT}.get(condition) or (
            near.put("k", b"old") if condition == "etag" else None
        )
        between.cut(b"PUT", cuts)
        etag = far.put("k", b"mine", if_match)
        # A connection that the server has closed meanwhile takes one of the client's tries.
        assert between.cuts < cuts
        assert near.get("k") == (b"mine", etag)

    def test_a_put_whose_answer_is_lost_and_that_was_overtaken_is_a_lost_race(
        self, opener: R2Opener, proxied: tuple[Proxy, R2Objects]
    ) -> None:
        between, far = proxied
        near = opener()
        between.cut(b"PUT", 1, meanwhile=lambda: near.put("k", b"theirs"))
        with pytest.raises(LostRace):
            far.put("k", b"mine", ABSENT)
        assert near.get("k")[0] == b"theirs"

    def test_the_same_content_of_somebody_else_is_not_ones_own(
        self, opener: R2Opener, proxied: tuple[Proxy, R2Objects]
    ) -> None:
        between, far = proxied
        near = opener()
        near.put("k", b"same", ABSENT)
        between.cut(b"PUT", 1)
        with pytest.raises(LostRace):
            far.put("k", b"same", ABSENT)

    def test_large_objects_arrive_over_a_bad_network(
        self, opener: R2Opener, proxied: tuple[Proxy, R2Objects]
    ) -> None:
        between, far = proxied
        content = os.urandom(PART + 5)
        for method in (b"PUT", b"POST"):  # a part, and the beginning or the end of the upload
            between.cut(method, 1)
            far.put("large", content)
            assert opener().get("large")[0] == content
        between.cut(b"POST", 1, skip=1)
        far.put("large", content + b"!")
        assert opener().get("large")[0] == content + b"!"

    def test_an_upload_that_fails_is_aborted(
        self, opener: R2Opener, proxied: tuple[Proxy, R2Objects]
    ) -> None:
        between, far = proxied
        between.cut(b"PUT", 1_000)
        with pytest.raises(ObjectsUnavailable):
            far.put("large", bytes(PART + 1))
        assert not opener().exists("large")
        if self.lists_uploads:
            uploads = opener()._client().list_multipart_uploads(Bucket=opener.bucket)
            assert uploads.get("Uploads", []) == []

    def test_a_download_that_breaks_off_is_begun_again(
        self, opener: R2Opener, proxied: tuple[Proxy, R2Objects]
    ) -> None:
        between, far = proxied
        content = os.urandom(500_000)
        opener().put("k", content)
        between.cut(b"GET", 2, after=100_000)
        assert far.get("k")[0] == content
        assert between.cuts == 0
        between.cut(b"GET", 1_000, after=100_000)
        with pytest.raises(ObjectsUnavailable, match="breaks off"):
            far.addresses(["k"])
        assert not _files(opener.cache)

    def test_a_killed_download_leaves_no_half_file(
        self, opener: R2Opener, proxied: tuple[Proxy, R2Objects]
    ) -> None:
        between, _ = proxied
        content = os.urandom(3_000_000)
        opener().put("k", content)
        between.stall(b"GET", after=1_000_000)
        downloader = SPAWN.Process(
            target=_download, args=(replace(opener, endpoint=between.url), "k")
        )
        downloader.start()
        assert between.stalled.wait(30)
        assert downloader.pid is not None
        os.kill(downloader.pid, signal.SIGKILL)
        downloader.join()
        assert not _files(opener.cache)
        assert Path(opener().addresses(["k"])[0]).read_bytes() == content

    def test_a_copy_is_downloaded_once_by_many(
        self, opener: R2Opener, proxied: tuple[Proxy, R2Objects]
    ) -> None:
        between, far = proxied
        keys = [f"lake/{number}.parquet" for number in range(40)]
        near = opener()
        for key in keys:
            near.put(key, key.encode())
        with ThreadPoolExecutor(4) as pool:
            for addresses in pool.map(far.addresses, [keys] * 4):
                assert [Path(a).read_bytes() for a in addresses] == [k.encode() for k in keys]
        before = between.requests
        assert [Path(a).read_bytes() for a in far.addresses(keys)] == [k.encode() for k in keys]
        assert between.requests == before
        assert not [file for file in _files(opener.cache) if file.name.startswith(".")]

    def test_an_address_of_what_is_not_there(self, opener: R2Opener) -> None:
        objects = opener()
        objects.put("here", b"x")
        for keys in (["gone"], ["here", "gone"]):
            with pytest.raises(FileNotFoundError):
                objects.addresses(keys)

    def test_the_oldest_copies_go_first_and_none_that_is_in_use(self, opener: R2Opener) -> None:
        small = replace(opener, most_cached=200_000)()
        keys = [f"lake/{number:02d}.parquet" for number in range(30)]
        for key in keys:
            small.put(key, bytes(10_000))
        paths = [Path(small.addresses([key])[0]) for key in keys[:25]]
        assert all(path.exists() for path in paths)  # 250,000 bytes, all of the last hour
        now = time.time()
        for place, path in enumerate(paths):
            os.utime(path, (now - IN_USE - 1_000 + place,) * 2)
        small.addresses(keys[:5])  # in use again: the oldest are now those from 5 on
        for key in keys[25:]:
            small.addresses([key])
        left = {path.name for path in paths if path.exists()}
        assert {path.name for path in paths[:5]} <= left
        assert all(Path(small.addresses([key])[0]).exists() for key in keys[25:])
        there = [path.exists() for path in paths[5:]]
        assert there == sorted(there)
        assert not there[0]
        assert there[-1]
        assert Path(small.addresses([keys[5]])[0]).read_bytes() == bytes(10_000)

    def test_copies_that_nobody_used_for_a_week_and_left_overs_go(self, opener: R2Opener) -> None:
        objects = opener()
        for key in ("a", "b", "c"):
            objects.put(key, b"x")
        old, left_over = Path(objects.addresses(["a"])[0]), Path(objects.addresses(["b"])[0])
        left_over = left_over.rename(left_over.with_name(".b.0a0a0a"))
        long_ago = time.time() - UNUSED - 1
        os.utime(old, (long_ago, long_ago))
        os.utime(left_over, (long_ago, long_ago))
        note = next(file for file in opener.cache.rglob(".downloaded"))
        note.write_text(f"{int(long_ago)} 0")
        objects.addresses(["c"])
        assert not old.exists()
        assert not left_over.exists()
        assert Path(objects.addresses(["c"])[0]).exists()

    def test_a_deleted_object_has_no_copy(self, opener: R2Opener) -> None:
        objects = opener()
        objects.put("k", b"x")
        copy = Path(objects.addresses(["k"])[0])
        objects.delete("k")
        assert not copy.exists()

    def test_parquet_is_read_from_a_copy(self, opener: R2Opener) -> None:
        objects = opener()
        table = pa.table({"n": list(range(1_000))})
        objects.put("lake/t/x.parquet", parquet_bytes(table))
        assert pq.read_table(objects.addresses(["lake/t/x.parquet"])[0], partitioning=None) == table

    def test_a_link_downloads_in_parts_and_under_its_name(self, opener: R2Opener) -> None:
        objects = opener()
        content = bytes(range(256)) * 100
        objects.put("attachments/ab/abcd", content)
        url = objects.download_url("attachments/ab/abcd", "Räder & co.pdf")
        assert opener.secret not in url
        whole = httpx.get(url)
        assert (whole.status_code, whole.content) == (200, content)
        if self.names_downloads:
            assert whole.headers["content-type"] == "application/octet-stream"
            disposition = whole.headers["content-disposition"]
            assert disposition == "attachment; filename*=UTF-8''R%C3%A4der%20%26%20co.pdf"
        part = httpx.get(url, headers={"Range": "bytes=100-299"})
        assert (part.status_code, part.content) == (206, content[100:300])
        assert part.headers["content-range"] == f"bytes 100-299/{len(content)}"

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"bucket": "no-such-bucket-there"}, "COMMUNICATOR_R2_BUCKET"),
            ({"endpoint": "http://127.0.0.1:1"}, "COMMUNICATOR_R2_ENDPOINT"),
        ],
    )
    def test_what_is_wrong_is_said_in_words(
        self, opener: R2Opener, change: dict[str, str], says: str
    ) -> None:
        objects = replace(opener, **change)()  # type: ignore[arg-type]
        for ask in (
            lambda: objects.get("k"),
            lambda: objects.put("k", b""),
            lambda: objects.put("k", b"", ABSENT),
            lambda: objects.exists("k"),
            lambda: list(objects.list("k")),
            lambda: objects.addresses(["k"]),
        ):
            with pytest.raises(ObjectsUnavailable, match=says) as told:
                ask()
            assert opener.secret not in f"{told.value!r}"

    def test_a_forked_process_has_a_connection_of_its_own(self, opener: R2Opener) -> None:
        objects = opener()
        objects.put("k", b"x" * 1_000)
        children = [
            multiprocessing.get_context("fork").Process(target=_read_often, args=(objects,))
            for _ in range(2)
        ]
        for child in children:
            child.start()
        _read_often(objects)
        for child in children:
            child.join(60)
        assert [child.exitcode for child in children] == [0, 0]


def run_all(jobs: list[tuple[Callable[..., None], tuple[object, ...]]]) -> None:
    """Each in a process of its own, all at once; none may fail."""
    processes = [SPAWN.Process(target=target, args=arguments) for target, arguments in jobs]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)


def in_order(objects: ObjectStore) -> bool:
    """Whether a listing over several folders is in order of the keys."""
    for key in ("t/b.json", "t/a/x", "t/a-b/x", "t/z", "t/é/x"):
        objects.put(key, b"")
    keys = [info.key for info in objects.list("t/")]
    return len(keys) == 5 and all(before < after for before, after in pairwise(keys))


def _read_often(objects: R2Objects) -> None:
    for _ in range(20):
        assert objects.get("k")[0] == b"x" * 1_000
    assert os.getpid() in objects._clients


def _download(opener: R2Opener, key: str) -> None:
    opener().addresses([key])


def _files(cache: Path) -> list[Path]:
    return [f for f in cache.rglob("*") if f.is_file() and f.name not in (".lock", ".downloaded")]


# --- a bad network ---------------------------------------------------------------------------


class Proxy:
    """Passes HTTP through between the client and one server, and loses answers on demand."""

    def __init__(self, server: tuple[str, int], path: str) -> None:
        self.server = server
        self.url = path
        self.latency = 0.0  # seconds before an answer is passed on
        self.requests = 0
        self.cuts = 0
        self.stalled = threading.Event()
        self._method = b""
        self._skip = 0
        self._after = 0
        self._stall = False
        self._meanwhile: Callable[[], object] = lambda: None
        self._lock = threading.Lock()

    def cut(
        self,
        method: bytes,
        times: int,
        after: int = 0,
        skip: int = 0,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        """Close the connection instead of passing on the next answers to this method, or `after`
        so many bytes of each, but for the first `skip`. The server has done its work then."""
        self._method, self._after, self._skip, self._meanwhile = method, after, skip, meanwhile
        self._stall, self.cuts = False, times

    def stall(self, method: bytes, after: int) -> None:
        """Pass on so many bytes of the next answer to this method, and then nothing."""
        self.cut(method, 1, after)
        self._stall = True

    def fate(self, method: bytes) -> tuple[str, int]:
        """What becomes of an answer: 'pass', 'cut' or 'stall', and after how many bytes."""
        with self._lock:
            self.requests += 1
            if self.cuts and method == self._method:
                if self._skip:
                    self._skip -= 1
                    return "pass", 0
                self.cuts -= 1
                return ("stall" if self._stall else "cut"), self._after
            return "pass", 0

    def passing(self, client: socket.socket) -> None:
        with socket.create_connection(self.server) as server:
            methods: list[bytes] = []

            def there() -> None:
                with suppress(OSError):
                    while data := client.recv(2**16):
                        word = data.split(b" ", 1)[0]
                        if word in (b"GET", b"PUT", b"POST", b"HEAD", b"DELETE"):
                            methods.append(word)
                        server.sendall(data)

            threading.Thread(target=there, daemon=True).start()
            fate, left = "", 0
            with suppress(OSError):
                while data := server.recv(2**16):
                    if data.startswith(b"HTTP/1.1 100"):
                        client.sendall(data)
                        continue
                    if methods:
                        fate, left = self.fate(methods.pop(0))
                        time.sleep(self.latency)
                    if fate != "pass" and len(data) >= left:
                        client.sendall(data[:left])
                        if fate == "stall":
                            self.stalled.set()
                            time.sleep(120)
                        self._meanwhile()
                        with suppress(OSError):
                            client.shutdown(socket.SHUT_RDWR)
                        return
                    left -= len(data)
                    client.sendall(data)


@contextmanager
def proxy(endpoint: str) -> Iterator[Proxy]:
    """A `Proxy` before an HTTP endpoint, whose path stays."""
    parts = urlsplit(endpoint)
    assert parts.hostname
    assert parts.port
    between = Proxy((parts.hostname, parts.port), "")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            between.passing(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        between.url = f"http://127.0.0.1:{server.server_address[1]}{parts.path}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield between
        finally:
            server.shutdown()
