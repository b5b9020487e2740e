"""Cloudflare R2 behind the interface of `objects.py`, by its S3 API.

Belongs here: objects in a bucket, what a lost answer means, the copies on this machine that DuckDB
and pyarrow read, links for downloading. Does not belong here: what is in the objects (`lake.py`,
`landing.py`).

R2 is strongly consistent, and a put may be bound to an etag
(https://developers.cloudflare.com/r2/api/s3/conditional-operations/, read 2026-11). Every put
carries a random word in the object's metadata: whoever loses the answer reads it, and knows
whether the object that is there is the one that was sent.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from communicator_pipeline.storage.metering import account_of_object
from communicator_pipeline.storage.objects import ABSENT, LostRace, ObjectInfo, replace_file

T = TypeVar("T")

PART = 16 * 2**20
"""Bytes of a part of a larger object. All but the last must have the same size, at least 5 MiB
(https://developers.cloudflare.com/r2/objects/multipart-objects/, read 2026-11)."""

LONGEST_KEY = 1_024  # bytes: https://developers.cloudflare.com/r2/platform/limits/, read 2026-11

CACHE_VARIABLE = "COMMUNICATOR_R2_CACHE_BYTES"
MOST_CACHED = 5 * 2**30  # bytes

IN_USE = 3_600.0
"""Seconds for which a copy stays after it was asked for, however many there are: longer than any
query takes from learning its files to opening the last one."""

UNUSED = 7 * 86_400.0
"""Seconds after which a copy goes, however few there are: its account may be removed by now."""

SWEEP_EVERY = 86_400.0  # seconds, if little is downloaded; else see `_count`

TOGETHER = 16  # downloads side by side

MOST_TRIES = 6
"""Of what R2 puts off with 429: it takes one write a second of the same key
(https://developers.cloudflare.com/r2/platform/limits/, read 2026-11). Also of a download that
breaks off."""

_CLASS_B = {"GetObject", "HeadObject", "HeadBucket"}
_FREE = {"DeleteObject", "AbortMultipartUpload"}
"""All others are of class A: https://developers.cloudflare.com/r2/pricing/ (read 2026-11)."""

_LOST = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_GONE = {"NoSuchKey", "NotFound", "404"}
_MD5 = re.compile(r'"?([0-9a-f]{32})(?:-(\d+))?"?')
_WORD = "write"  # the name of the random word in an object's metadata


_MAKING = threading.Lock()  # a session makes one client at a time


class ObjectsUnavailable(OSError):
    """R2 did not do it, or it is not known whether it did; the message says what to check."""


class R2Objects:
    """The objects of a bucket. Safe for threads and processes, also ones that are forked."""

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        key_id: str,
        secret: str,
        cache: Path,
        most_cached: int | None = None,
        meter: Callable[[str, int, str | None], None] = lambda what, count, account: None,
    ) -> None:
        """`most_cached`: bytes of copies in the folder `cache`; if not given, what
        `$COMMUNICATOR_R2_CACHE_BYTES` says, else 5 GiB. `meter` is told every operation, and whose
        it was if the key says so. Raises ValueError if that is no number."""
        self._meter = meter
        self.endpoint = endpoint
        self.bucket = bucket
        self._key_id = key_id
        self._secret = secret
        self._copies = _Copies(
            cache / bucket, _most_cached() if most_cached is None else most_cached
        )
        self._clients: dict[int, Any] = {}
        self._bucket_was_there = False

    def put(self, key: str, content: bytes, if_match: str | None = None) -> str:
        """See `ObjectStore.put`. Raises `ObjectsUnavailable` as well: then it is not there, as
        far as can be known."""
        word = secrets.token_hex(16)
        where = {"Bucket": self.bucket, "Key": _checked(key)}
        try:
            if if_match is None and len(content) > PART:
                return self._put_in_parts(where, content, word)
            condition = (
                {}
                if if_match is None
                else {"IfNoneMatch": "*"}
                if if_match == ABSENT
                else {"IfMatch": if_match}
            )
            answer = _patiently(
                lambda: self._client().put_object(
                    **where, Body=content, Metadata={_WORD: word}, **condition
                )
            )
            return str(answer["ETag"])
        except (ClientError, BotoCoreError) as error:
            return self._settled(key, word, if_match, error)

    def get(self, key: str) -> tuple[bytes, str]:
        """See `ObjectStore.get`. Raises `ObjectsUnavailable` as well."""
        where = {"Bucket": self.bucket, "Key": _checked(key)}
        for _ in range(MOST_TRIES):
            try:
                answer = _patiently(lambda: self._client().get_object(**where))
            except (ClientError, BotoCoreError) as error:
                if _code(error) in _GONE:
                    raise FileNotFoundError(f"there is no object {key}") from None
                raise self._unavailable(error, f"read {key}") from error
            with suppress(BotoCoreError):  # it broke off: the client does not ask again by itself
                content = answer["Body"].read()
                if len(content) == answer["ContentLength"] and _may_be(content, answer["ETag"]):
                    return content, str(answer["ETag"])
        raise ObjectsUnavailable(
            f"{key} could not be read in {MOST_TRIES} tries: what comes breaks off or is not what "
            f"its etag says. Check the network between this machine and {self.endpoint}"
        )

    def exists(self, key: str) -> bool:
        return self._head(key) is not None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        pages = self._client().get_paginator("list_objects_v2")
        try:
            for page in pages.paginate(Bucket=self.bucket, Prefix=prefix):
                for one in page.get("Contents", ()):
                    yield ObjectInfo(one["Key"], one["Size"], one["LastModified"], one["ETag"])
        except (ClientError, BotoCoreError) as error:
            raise self._unavailable(error, f"list {prefix}") from error

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`. The copies of other machines go when they were not used for
        `UNUSED` seconds."""
        try:
            _patiently(lambda: self._client().delete_object(Bucket=self.bucket, Key=_checked(key)))
        except (ClientError, BotoCoreError) as error:
            raise self._unavailable(error, f"delete {key}") from error
        self._copies.forget(key)

    def addresses(self, keys: Sequence[str]) -> Sequence[str]:
        """The paths of copies on this machine; what is not here yet is downloaded side by side.

        Only for objects that are never changed: a copy that is there is not compared with the
        bucket. Raises `FileNotFoundError`."""
        missing = self._copies.missing(dict.fromkeys(map(_checked, keys)))
        if len(missing) == 1:
            self._copy(missing[0])
        elif missing:
            with ThreadPoolExecutor(min(TOGETHER, len(missing))) as pool:
                for _ in pool.map(self._copy, missing):
                    pass
        return [str(self._copies.path(key)) for key in keys]

    def download_url(self, key: str, filename: str, seconds: int = 300) -> str:
        """A link that lets whoever has it download the object for so long, under this name. Made
        without asking R2; it says nothing about whether the object is there."""
        url: str = self._client().generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self.bucket,
                "Key": _checked(key),
                "ResponseContentDisposition": (
                    f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
                ),
                "ResponseContentType": "application/octet-stream",  # never shown, always saved
            },
            ExpiresIn=seconds,
        )
        return url

    def may_list_buckets(self) -> bool:
        """Whether the key sees buckets beside this one, which it need not. Raises
        `ObjectsUnavailable`."""
        try:
            self._client().list_buckets()
        except ClientError as error:
            if _status(error) in (401, 403):
                return False
            raise self._unavailable(error, "list buckets") from error
        except BotoCoreError as error:
            raise self._unavailable(error, "list buckets") from error
        return True

    def _put_in_parts(self, where: Mapping[str, str], content: bytes, word: str) -> str:
        client = self._client()
        begun = {
            **where,
            "UploadId": _patiently(
                lambda: client.create_multipart_upload(**where, Metadata={_WORD: word})
            )["UploadId"],
        }

        def send(number: int) -> dict[str, Any]:
            # R2 takes two or three parts of an upload at once, and one after the other will do.
            part = content[(number - 1) * PART : number * PART]
            answer = _patiently(lambda: client.upload_part(**begun, PartNumber=number, Body=part))
            return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            parts = [send(number) for number in range(1, -(-len(content) // PART) + 1)]
            answer = _patiently(
                lambda: client.complete_multipart_upload(**begun, MultipartUpload={"Parts": parts})
            )
            return str(answer["ETag"])
        except BaseException:
            # If it was completed after all, or R2 is away, there is nothing to abort, or R2 does
            # it by itself after a week.
            with suppress(ClientError, BotoCoreError):
                client.abort_multipart_upload(**begun)
            raise

    def _settled(self, key: str, word: str, if_match: str | None, error: Exception) -> str:
        """The etag after all, if the object that is there is the one that was sent: the answer of
        a try was lost, and the next one was refused or lost too."""
        refused = _code(error) in _LOST or (if_match is not None and _code(error) in _GONE)
        if not refused and not _may_have_arrived(error):
            raise self._unavailable(error, f"write {key}") from error
        there = self._head(key)
        if there and there["Metadata"].get(_WORD) == word:
            return str(there["ETag"])
        etag = there["ETag"] if there else ABSENT
        if refused or (if_match is not None and etag != if_match):
            raise LostRace(f"{key} was changed by somebody else") from error
        raise self._unavailable(error, f"write {key}") from error

    def _head(self, key: str) -> Mapping[str, Any] | None:
        where = {"Bucket": self.bucket, "Key": _checked(key)}
        try:
            found: Mapping[str, Any] = _patiently(lambda: self._client().head_object(**where))
            return found
        except (ClientError, BotoCoreError) as error:
            if _code(error) not in _GONE:
                raise self._unavailable(error, f"look at {key}") from error
        self._must_be_there()
        return None

    def _must_be_there(self) -> None:
        """An object that is not there may also mean that the bucket is not: a HEAD says the same
        of both."""
        if self._bucket_was_there:
            return
        try:
            self._client().head_bucket(Bucket=self.bucket)
        except (ClientError, BotoCoreError) as error:
            if _code(error) in _GONE:
                raise self._no_bucket() from error
            raise self._unavailable(error, "look at the bucket") from error
        self._bucket_was_there = True

    def _copy(self, key: str) -> None:
        content, _ = self.get(key)
        self._copies.keep(key, content)

    def _client(self) -> Any:
        # One for each process: after a fork, two would talk through the same connection.
        process = os.getpid()
        if process not in self._clients:
            with _MAKING:
                if process not in self._clients:
                    self._clients[process] = self._new_client()
        return self._clients[process]

    def _new_client(self) -> Any:
        client = _session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self._key_id,
            aws_secret_access_key=self._secret,
            region_name="auto",
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                # R2 does not take all of the checksums that newer clients send unasked
                # (https://developers.cloudflare.com/r2/examples/aws/boto3/, read 2026-11).
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=5,
                read_timeout=30,
                retries={"mode": "standard", "total_max_attempts": 4},
                max_pool_connections=2 * TOGETHER,
            ),
        )
        client.meta.events.register("before-send.s3", self._note_request)
        client.meta.events.register("response-received.s3.GetObject", self._note_answer)
        return client

    def _note_request(self, request: Any, event_name: str, **_: Any) -> None:
        """Every request is an operation, also one that asks again."""
        operation = event_name.rsplit(".", 1)[-1]
        key = unquote(urlsplit(request.url).path).removeprefix(f"/{self.bucket}/")
        account = account_of_object(key)
        if operation not in _FREE:
            self._meter(f"r2 class {'b' if operation in _CLASS_B else 'a'}", 1, account)
        self._meter("r2 bytes up", int(request.headers.get("content-length") or 0), account)

    def _note_answer(self, response_dict: Any, context: Any, **_: Any) -> None:
        size = (response_dict or {}).get("headers", {}).get("content-length", 0)
        key = (context or {}).get("input_params", {}).get("Key", "")
        self._meter("r2 bytes down", int(size), account_of_object(key))

    def _unavailable(self, error: Exception, what: str) -> ObjectsUnavailable:
        code = _code(error)
        if code == "NoSuchBucket":
            return self._no_bucket()
        if isinstance(error, ClientError):
            if _status(error) in (401, 403):
                return ObjectsUnavailable(
                    f"R2 refused to {what} ({code}): check COMMUNICATOR_R2_KEY_ID, "
                    f"COMMUNICATOR_R2_SECRET, this machine's clock, and that the key may read and "
                    f"write the bucket {self.bucket}"
                )
            return ObjectsUnavailable(f"R2 could not {what} ({code}): try again in a while")
        return ObjectsUnavailable(
            f"R2 could not be reached at {self.endpoint} to {what} ({type(error).__name__}): check "
            "the network and COMMUNICATOR_R2_ENDPOINT"
        )

    def _no_bucket(self) -> ObjectsUnavailable:
        return ObjectsUnavailable(
            f"there is no bucket {self.bucket} at {self.endpoint}: check COMMUNICATOR_R2_BUCKET"
        )


class _Copies:
    """Copies of objects in a folder, at most so many bytes. Safe for threads and processes.

    When a copy was last asked for is its time of modification. It is set, and copies are removed,
    under a lock: what was just handed out is not removed, and what is removed is not handed out.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most

    def path(self, key: str) -> Path:
        return self._folder.joinpath(*key.split("/"))

    def missing(self, keys: Mapping[str, None]) -> list[str]:
        """Which of them are not here; those that are stay for `IN_USE` seconds."""
        missing = []
        with self._locked(fcntl.LOCK_SH):
            for key in keys:
                try:
                    os.utime(self.path(key))
                except FileNotFoundError:
                    missing.append(key)
        return missing

    def keep(self, key: str, content: bytes) -> None:
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whoever is killed leaves a hidden file, which `_sweep` takes. Synced, for a copy that a
        # power cut has emptied would stay.
        replace_file(path, content)
        if self._count(len(content)):
            self._sweep()

    def forget(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def _count(self, size: int) -> bool:
        """Count what was downloaded since the copies were last swept; True if it is time to do
        it again: then the count begins anew."""
        with self._locked(fcntl.LOCK_EX):
            note = self._folder / ".downloaded"
            try:
                swept_at, count = (int(word) for word in note.read_text().split())
            except (FileNotFoundError, ValueError):
                swept_at, count = int(time.time()), 0
            is_time = count + size > self._most // 20 or time.time() - swept_at > SWEEP_EVERY
            note.write_text(f"{int(time.time())} 0" if is_time else f"{swept_at} {count + size}")
            return is_time

    def _sweep(self) -> None:
        """Remove those that were not asked for the longest, until the rest is small enough."""
        found = sorted(self._found(), key=lambda one: one[1].st_mtime)
        size = sum(stat.st_size for _, stat in found)
        for path, stat in found:
            age = time.time() - stat.st_mtime
            is_left_over = path.name.startswith(".")
            if age < IN_USE or not (size > self._most or age > UNUSED or is_left_over):
                continue
            with self._locked(fcntl.LOCK_EX), suppress(FileNotFoundError):
                if path.stat().st_mtime == stat.st_mtime:
                    path.unlink()
                    size -= stat.st_size

    def _found(self) -> Iterator[tuple[Path, os.stat_result]]:
        for place, _, names in os.walk(self._folder):
            for name in names:
                if name not in (".downloaded", ".lock"):
                    path = Path(place, name)
                    with suppress(FileNotFoundError):
                        yield path, path.stat()

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, how)
            yield


@cache
def _session() -> Any:
    """What clients are made from: it reads the description of S3 only once."""
    return boto3.session.Session()


def _most_cached() -> int:
    given = os.environ.get(CACHE_VARIABLE, "")
    if given and not given.isdecimal():
        raise ValueError(f"{CACHE_VARIABLE} is {given!r}: it should be a number of bytes")
    return int(given or MOST_CACHED)


def _checked(key: str) -> str:
    if any(part in ("", ".", "..") for part in key.split("/")) or len(key.encode()) > LONGEST_KEY:
        raise ValueError(f"{key!r} is not an object key")
    return key


def _patiently(ask: Callable[[], T]) -> T:
    """What `ask` gives. What R2 puts off is asked again a little later: it did nothing."""
    for _ in range(MOST_TRIES - 1):
        try:
            return ask()
        except ClientError as error:
            if _status(error) != 429:
                raise
            time.sleep(random.uniform(0.5, 1.5))  # noqa: S311
    return ask()


def _may_be(content: bytes, etag: str) -> bool:
    """Whether the content is what the etag says. One that was put in parts of another size cannot
    be told."""
    found = _MD5.fullmatch(etag)
    if not found:
        return True
    sums = [
        hashlib.md5(content[at : at + PART], usedforsecurity=False).digest()
        for at in range(0, len(content), PART)
    ]
    whole, parts = found.groups()
    if parts is None:
        return whole == hashlib.md5(content, usedforsecurity=False).hexdigest()
    if int(parts) != len(sums):
        return True
    return whole == hashlib.md5(b"".join(sums), usedforsecurity=False).hexdigest()


def _code(error: Exception) -> str:
    return str(error.response["Error"].get("Code", "")) if isinstance(error, ClientError) else ""


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"].get("HTTPStatusCode", 0))


def _may_have_arrived(error: Exception) -> bool:
    """Whether what failed may have taken effect all the same, in this try or an earlier one."""
    if isinstance(error, ClientError):
        # The upload is gone: an earlier try has completed it.
        return _status(error) >= 500 or _code(error) == "NoSuchUpload"
    return True
