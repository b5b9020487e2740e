"""The push endpoint over a real socket: what is acknowledged is on the disk."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest
import uvicorn

from communicator_pipeline.gateway import pushes
from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.ingestion.connecting import add_account
from communicator_pipeline.ingestion.push import drain
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.landing import landed_months, read_landing
from communicator_pipeline.storage.queue import LARGEST_BODY, IngestionQueue, QueuedPush
from communicator_pipeline_tests.ingestion.test_push import ACCOUNT, KEY, message

URL = f"/push/generic/{ACCOUNT}"
HEADERS = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def connected(stores: Stores) -> Stores:
    add_account(stores, "ana", ACCOUNT, "generic", {"me": "ana", "push_key": KEY}, lambda f: "")
    return stores


@pytest.fixture
def address(connected: Stores) -> Iterator[str]:
    config = uvicorn.Config(create_app(connected), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def line(number: int) -> bytes:
    return orjson.dumps(message(number))


def test_a_push_is_on_the_disk_when_it_is_acknowledged(connected: Stores, address: str) -> None:
    answer = httpx.post(address + URL, content=line(1), headers=HEADERS)
    assert (answer.status_code, answer.json()) == (200, {})
    assert IngestionQueue(connected.database).depth(ACCOUNT).waiting == 1


def test_what_is_not_verified_is_refused_alike(connected: Stores, address: str) -> None:
    asked: list[dict[str, Any]] = [
        {"url": URL},
        {"url": URL, "headers": {"authorization": "Bearer wrong"}},
        {"url": "/push/generic/nobody", "headers": HEADERS},
        {"url": "/push/nonsense/nobody", "headers": HEADERS},
        {"url": f"/push/slack/{ACCOUNT}", "headers": HEADERS},
    ]
    answers = {
        (answer.status_code, answer.content)
        for answer in (httpx.post(address + a.pop("url"), content=line(1), **a) for a in asked)
    }
    assert len(answers) == 1
    assert answers.pop()[0] == 401
    assert httpx.get(address + URL, headers=HEADERS).status_code == 401
    assert IngestionQueue(connected.database).depth().waiting == 0


def test_a_body_over_the_cap_is_not_read_to_its_end(connected: Stores, address: str) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * 2**16

    assert httpx.post(address + URL, content=endless(), headers=HEADERS).status_code == 413
    largest = b" " * (LARGEST_BODY - len(line(1))) + line(1)
    assert httpx.post(address + URL, content=largest, headers=HEADERS).status_code == 200


def test_bytes_that_are_no_text_are_refused(connected: Stores, address: str) -> None:
    answer = httpx.post(address + URL, content=b"\xff\xfe", headers=HEADERS)
    assert answer.status_code == 401


def test_a_fault_of_ours_before_the_acknowledgement_is_no_refusal(
    connected: Stores, address: str
) -> None:
    connected.keys.path.rename(connected.keys.path.with_name("away"))
    answer = httpx.post(address + URL, content=line(1), headers=HEADERS)
    assert answer.status_code == 503
    assert httpx.get(address + URL, headers=HEADERS).status_code == 503


def test_an_account_that_goes_fails_none_of_the_pushes_beside_it(connected: Stores) -> None:
    queue = IngestionQueue(connected.database)
    queue.put([QueuedPush(ACCOUNT, "1", "{}"), QueuedPush("ana-gone", "2", "{}")])
    assert queue.depth().waiting == 1


def test_a_strangers_body_is_not_read_and_a_slow_one_not_for_long(
    connected: Stores, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushes, "LONGEST_BODY", 0.2)
    host, port = address.removeprefix("http://").split(":")

    def answered(account: str) -> bytes:
        with socket.create_connection((host, int(port)), timeout=10) as stranger:
            stranger.sendall(
                f"POST /push/generic/{account} HTTP/1.1\r\nhost: x\r\n"
                "content-length: 1000000\r\n\r\nthe beginning".encode()
            )
            return stranger.recv(100).split(b"\r\n")[0]

    assert b" 401 " in answered("nobody")
    assert b" 408 " in answered(ACCOUNT)


def test_a_write_that_fails_is_not_acknowledged(
    connected: Stores, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(IngestionQueue, "put", full)
        assert httpx.post(address + URL, content=line(1), headers=HEADERS).status_code == 503
    assert httpx.post(address + URL, content=line(1), headers=HEADERS).status_code == 200


def test_shuffled_repeats_from_many_clients_are_one_row_each(
    connected: Stores, address: str
) -> None:
    """500 deliveries of 200 events here; `benchmarks/push.py` has 10,000 of 4,000."""
    deliveries = [line(n) for n in range(200)] + [line(n % 200) for n in range(300)]
    random.Random(5).shuffle(deliveries)

    async def all_of_them() -> list[int]:
        limits = httpx.Limits(max_connections=20)
        async with httpx.AsyncClient(base_url=address, headers=HEADERS, limits=limits) as client:
            answers = await asyncio.gather(*(client.post(URL, content=d) for d in deliveries))
        return [answer.status_code for answer in answers]

    assert set(asyncio.run(all_of_them())) == {200}
    rows = connected.database.execute("SELECT count(*) AS n FROM pushes")
    assert rows[0]["n"] == 200
    drain(connected)
    assert (
        sum(
            read_landing(connected.lake, AccountMonth(ACCOUNT, month), None).num_rows
            for month in landed_months(connected.lake, ACCOUNT)
        )
        == 200
    )


def test_the_service_says_what_it_is_and_what_waits(connected: Stores, address: str) -> None:
    assert httpx.get(address).json()["data"]["service"] == "communicator"
    assert httpx.get(address + "/healthz").json() == {"status": "ok"}
    httpx.post(address + URL, content=line(1), headers=HEADERS)
    ready = httpx.get(address + "/readyz")
    assert ready.status_code == 200
    assert ready.json()["ingestion_queue"]["waiting"] == 1
    assert httpx.get(address + "/openapi.json").json()["paths"]["/push/{platform}/{account}"]


def test_a_platform_is_put_off_while_too_much_of_its_account_waits(
    connected: Stores, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("communicator_pipeline.storage.queue.MOST_WAITING", 2)
    monkeypatch.setattr(pushes, "FULL_LOOKED_UP_EVERY", 0.0)
    answers = [
        httpx.post(address + URL, content=line(number), headers=HEADERS) for number in range(3)
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 503]
    assert answers[-1].headers["retry-after"] == "60"
    assert "wait" in answers[-1].json()["error"]
    assert IngestionQueue(connected.database).depth(ACCOUNT).waiting == 2
    drain(connected)
    again = httpx.post(address + URL, content=line(2), headers=HEADERS)
    assert again.status_code == 200
