"""R2 over its S3 API, against moto's S3 server.

What it does differently from R2 (5.2.5, seen 2026-11):

- Two conditional puts at once may both win: it looks and writes without a lock. So here it answers
  one request at a time.
- A put that is bound to an etag, of an object that is not there, is a 404 and not a 412.
- Any key may do anything: a wrong secret is tested against workerd.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from communicator_pipeline.storage import r2
from communicator_pipeline.storage.objects import LostRace
from communicator_pipeline.storage.r2 import PART, ObjectsUnavailable, R2Objects
from communicator_pipeline_tests.storage.objects_contract import R2Contract, R2Opener, in_order

SECRET = "made-up-secret-of-the-tests"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def locked(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with one_at_a_time:
            return list(app(environ, start))

    server = make_server("127.0.0.1", 0, locked, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def opener(endpoint: str, tmp_path: Path) -> R2Opener:
    opened = R2Opener(endpoint, f"bucket-{uuid4().hex[:12]}", "key", SECRET, tmp_path / "cache")
    # Moto wants to know where: R2's only region is no place of AWS's.
    maker = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key=SECRET,
    )
    maker.create_bucket(Bucket=opened.bucket)
    return opened


class TestR2Objects(R2Contract):
    rounds = 20  # fifty of them against workerd


def test_a_listing_over_folders_is_in_order(opener: R2Opener) -> None:
    assert in_order(opener())


def test_parts_are_equal_but_for_the_last(opener: R2Opener) -> None:
    objects = opener()
    for size, parts in ((PART, None), (PART + 1, 2), (2 * PART, 2), (2 * PART + 1, 3)):
        etag = objects.put("k", bytes(size))
        assert etag.strip('"').partition("-")[2] == ("" if parts is None else str(parts))
        assert r2._may_be(bytes(size), etag)
        assert not r2._may_be(bytes(size - 1) + b"x", etag)


def test_the_size_of_the_cache_is_told_by_the_environment(
    opener: R2Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened() -> R2Objects:
        return R2Objects(opener.endpoint, opener.bucket, "key", SECRET, tmp_path)

    assert opened()._copies._most == 5 * 2**30
    monkeypatch.setenv("COMMUNICATOR_R2_CACHE_BYTES", "1000000")
    assert opened()._copies._most == 1_000_000
    monkeypatch.setenv("COMMUNICATOR_R2_CACHE_BYTES", "5 GiB")
    with pytest.raises(ValueError, match="COMMUNICATOR_R2_CACHE_BYTES"):
        opened()


def test_the_secret_is_in_no_representation(opener: R2Opener) -> None:
    assert SECRET not in repr(opener())


# --- answers that moto does not give ---------------------------------------------------------


class _Answers:
    """A server that gives what it is told to, one answer a request."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[str] = []
        self.next: list[tuple[int, dict[str, str], bytes]] = []


@pytest.fixture
def answers() -> Iterator[_Answers]:
    state = _Answers()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            state.requests.append(self.command)
            status, headers, body = state.next.pop(0)
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


def _error(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{SECRET}</Message></Error>"
    return status, {"content-type": "application/xml"}, body.encode()


def test_what_is_put_off_is_asked_again(
    opener: R2Opener, answers: _Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(r2.time, "sleep", lambda _: None)
    objects = replace(opener, endpoint=answers.url)()
    answers.next = [_error(429, "TooManyRequests")] * 2 + [(200, {"etag": '"e"'}, b"")]
    assert objects.put("k", b"x", '"before"') == '"e"'
    answers.next = [_error(429, "TooManyRequests")] * 100  # the client itself tries again too
    with pytest.raises(ObjectsUnavailable, match="TooManyRequests"):
        objects.put("k", b"x", '"before"')
    assert len(answers.requests) >= 3 + r2.MOST_TRIES
    assert set(answers.requests) == {"PUT"}


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "PreconditionFailed"])
def test_a_conflict_is_a_lost_race(opener: R2Opener, answers: _Answers, code: str) -> None:
    objects = replace(opener, endpoint=answers.url)()
    status = 409 if code.startswith("Conditional") else 412
    answers.next = [_error(status, code), (200, {"etag": '"x"', "x-amz-meta-write": "other"}, b"")]
    with pytest.raises(LostRace):
        objects.put("k", b"x", '"before"')


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_said_without_the_answers_words(
    opener: R2Opener, answers: _Answers, status: int
) -> None:
    objects = replace(opener, endpoint=answers.url)()
    answers.next = [_error(status, "SignatureDoesNotMatch")]
    with pytest.raises(ObjectsUnavailable, match="COMMUNICATOR_R2_SECRET") as told:
        objects.put("k", b"x")
    assert SECRET not in str(told.value)


def test_content_that_is_not_what_its_etag_says_is_asked_for_again(
    opener: R2Opener, answers: _Answers
) -> None:
    objects = replace(opener, endpoint=answers.url)()
    good = '"9dd4e461268c8034f5c8564e155c67a6"'  # of b"x"
    answers.next = [(200, {"etag": good}, b"y"), (200, {"etag": good}, b"x")]
    assert objects.get("k") == (b"x", good)
    answers.next = [(200, {"etag": good}, b"y")] * r2.MOST_TRIES
    with pytest.raises(ObjectsUnavailable, match="etag"):
        objects.addresses(["k"])
