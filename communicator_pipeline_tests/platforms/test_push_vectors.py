"""What the gateway says to each of the push vectors; `peers/test_edge.py` asks the edge Worker."""

from __future__ import annotations

import time

import pytest
from fastapi.testclient import TestClient

from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.ingestion.push import Reply, judge
from communicator_pipeline.platforms import live_side
from communicator_pipeline.platforms.protocol import Connection, Push
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.queue import IngestionQueue, QueuedPush
from communicator_pipeline_tests.platforms.push_vectors import (
    REFUSED,
    Vector,
    account_of,
    add_accounts,
    connections,
    path_of,
    request_of,
    vectors,
)


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["name"])
def test_the_gateway_answers_as_agreed(vector: Vector) -> None:
    told = connections()[vector["connection"]]
    connection = Connection("ana-1", frozenset(), told["settings"], told["secrets"])
    request = request_of(vector, time.time())
    headers = {name: value.decode("latin-1") for name, value in request.headers.items()}
    push = Push(request.method, headers, dict(request.query), request.body)

    verdict = judge(live_side(told["platform"]), connection, "ana-1", push)

    expected = vector["expected"]
    if "key" in expected:
        assert verdict == QueuedPush("ana-1", expected["key"], request.body.decode())
    elif request.method == "GET" and isinstance(verdict, QueuedPush):
        assert expected == {"status": 401}  # the route says so: a question is never queued
    else:
        assert isinstance(verdict, Reply)
        assert verdict.status == expected["status"]
        assert verdict.body == expected.get("body", verdict.body.decode()).encode()


def test_the_gateway_answers_so_over_http_and_queues_what_it_took(stores: Stores) -> None:
    add_accounts(stores)
    wrong, queued = [], set()
    with TestClient(create_app(stores)) as client:
        for vector in vectors():
            request, expected = request_of(vector, time.time()), vector["expected"]
            answer = client.request(
                request.method,
                path_of(vector),
                params=list(request.query),
                headers=[(name.encode(), value) for name, value in request.headers.items()],
                content=request.body or None,
            )
            status, said = expected.get("status", 200), expected.get("body", "{}")
            if "key" in expected:
                queued.add((account_of(vector["connection"]), expected["key"]))
            if status == 401:
                said = answer.text if request.method == "GET" else REFUSED
            if (answer.status_code, answer.text) != (status, said):
                wrong.append((vector["name"], answer.status_code, answer.text[:80]))
    assert wrong == []
    waiting = IngestionQueue(stores.database).lease(len(vectors()))
    assert {(push.account, push.key) for push in waiting} == queued


def test_no_vector_is_there_twice() -> None:
    names = [vector["name"] for vector in vectors()]

    assert len(names) == len(set(names))
