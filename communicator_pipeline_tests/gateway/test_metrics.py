"""What Prometheus reads of real stores, who may read it, and how requests are timed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.gateway.metrics import TOKEN_VARIABLE, Timing
from communicator_pipeline.language_model import Usage
from communicator_pipeline.language_model.keeping import AnswersInDatabase, Spent
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.database import utc_text
from communicator_pipeline.storage.model_retries import retry_later
from communicator_pipeline.storage.queue import IngestionQueue, QueuedPush
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline.storage.workers import Workers
from communicator_pipeline_tests.gateway.api_world import furnish

Values = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]

TOKEN = "a token of some length"


def here(stores: Stores, host: str = "127.0.0.1") -> TestClient:
    return TestClient(create_app(stores), client=(host, 50_000), raise_server_exceptions=False)


def values_of(client: TestClient) -> Values:
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(values: Values, name: str, **labels: str) -> float:
    return values[f"communicator_{name}", tuple(sorted(labels.items()))]


def timed(values: Values, route: str, status: int, method: str = "GET") -> float:
    labels = {"route": route, "status": str(status), "method": method}
    return values.get(("communicator_request_seconds_count", tuple(sorted(labels.items()))), 0.0)


# --- figures ---------------------------------------------------------------------------------


def test_stores_with_nothing_in_them_have_zeros(stores: Stores) -> None:
    values = values_of(here(stores))
    for name in (
        "ingestion_queue", "ingestion_queue_oldest_age_seconds", "dead_pushes", "dirty_days",
        "dirty_days_oldest_age_seconds", "workers",
    ):  # fmt: skip
        assert value(values, name) == 0.0, name
    for state in ("approved", "unknown", "needs_human"):
        assert value(values, "deliveries_oldest_age_seconds", state=state) == 0.0
    assert not any(name == "communicator_worker_beat_age_seconds" for name, _ in values)


def test_the_figures_are_those_of_the_stores(stores: Stores) -> None:
    database, now = stores.database, datetime.now(UTC)
    for user, mark in (("ana", "quokka"), ("bo", "numbat")):
        account = furnish(stores, user, mark).ids["account"]
        Connections(stores).note_cost(account, 10, 0.75)
    database.execute(
        "INSERT INTO platform_costs (account, day, reads, usd) VALUES (?, ?, 1, 100)",
        (account, f"{now - timedelta(days=40):%Y-%m-%d}"),
    )
    queue = IngestionQueue(database)
    queue.put([QueuedPush(account, f"p{n}", "{}") for n in range(4)])
    landed, dead = queue.lease()[:2]
    queue.acknowledge([landed.push_id])
    assert queue.bury(dead)
    an_hour_ago = utc_text(now - timedelta(hours=1))
    database.execute("UPDATE pushes SET received_at = ? WHERE push_key = 'p3'", (an_hour_ago,))
    work = WorkQueue(database)
    before = value(values_of(here(stores)), "dirty_days")
    work.mark(account, ["2026-01-02", "2026-01-03", f"{now + timedelta(days=9):%F}"], "why")
    database.execute("UPDATE dirty_days SET since = ? WHERE day = '2026-01-02'", (an_hour_ago,))
    usage = Usage(calls=1, cost_usd=0.75)
    AnswersInDatabase(database).note((), [Spent("ana", account, "draft", "some-model", usage)])
    retry_later(database, account, {"2026-01-02": "busy"}, ())
    Workers(database).beat(now - timedelta(seconds=5))

    values = values_of(here(stores))

    assert value(values, "ingestion_queue") == 4.0  # 2 furnished and 4 of ours, less 2
    assert value(values, "ingestion_queue_oldest_age_seconds") == pytest.approx(3600, abs=60)
    assert value(values, "dead_pushes") == 1.0
    letters = database.execute("SELECT stage FROM dead_letters WHERE state = 'open'")
    assert value(values, "dead_letters_open", stage="import") == [
        row["stage"] for row in letters
    ].count("import")
    assert value(values, "deliveries", state="approved") == 2.0
    assert value(values, "deliveries", state="needs_human") == 2.0
    assert value(values, "deliveries", state="canceled") == 2.0
    assert value(values, "dirty_days") == before + 2.0  # not the one of next week
    assert value(values, "dirty_days_oldest_age_seconds") == pytest.approx(3600, abs=60)
    assert value(values, "accounts_in_trouble", kind="fault") == 2.0
    assert value(values, "platform_spend_usd", platform="generic") == pytest.approx(1.5)
    assert value(values, "model_spend_usd", model="some-model") == pytest.approx(0.75)
    assert value(values, "days_without_their_model") == 1.0
    assert value(values, "workers") == 1.0
    assert value(values, "worker_beat_age_seconds") == pytest.approx(5, abs=55)


def test_a_delivery_waits_since_it_came_into_its_state_and_was_to_leave(stores: Stores) -> None:
    database, now = stores.database, datetime.now(UTC)
    furnish(stores, "ana", "quokka")
    approval = furnish(stores, "bo", "numbat").ids["approval_id"]
    change = (
        "UPDATE deliveries SET state = 'unknown', ambiguous = 1, fence = fence + 1, "
        "changed_at = ? WHERE approval_id = ?"
    )
    database.execute(change, (utc_text(now), approval))
    for hours, after in ((4, "unknown"), (3, "needs_human"), (2, "approved")):
        database.execute(
            "UPDATE delivery_log SET at = ? WHERE after = ?",
            (utc_text(now - timedelta(hours=hours)), after),
        )
    # A look at it that leaves it as it was does not make it younger.
    database.execute(change, (utc_text(now), approval))
    values = values_of(here(stores))
    oldest = "deliveries_oldest_age_seconds"
    assert value(values, oldest, state="unknown") == pytest.approx(4 * 3600, abs=60)
    assert value(values, oldest, state="needs_human") == pytest.approx(3 * 3600, abs=60)
    assert value(values, oldest, state="approved") < 60  # its undo window ends about now


def test_nothing_of_anybody_stands_in_it(stores: Stores) -> None:
    furnish(stores, "ana", "quokka")
    client = here(stores)
    for path in ("/inbox?q=quokka", "/push/generic/ana-quokka", "/quokka", "/static/quokka/a.js"):
        client.get(path)
    text = client.get("/metrics").text
    assert "quokka" not in text.replace("question-quokka", "quokka")
    assert "ana" not in text


def test_a_scrape_takes_no_more_than_three_calls(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    batch = type(stores.database).batch

    def counted(self: Any, statements: Any) -> Any:
        calls.append(statements)
        return batch(self, statements)

    client = here(stores)
    monkeypatch.setattr(type(stores.database), "batch", counted)
    values_of(client)
    assert 1 <= len(calls) <= 3
    # More than one statement in a call takes the lock that writers need.
    assert all(len(statements) == 1 for statements in calls)


# --- who may read ----------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may_read_without_a_token(stores: Stores, host: str) -> None:
    assert here(stores, host).get("/metrics").status_code == 200


@pytest.mark.parametrize("host", ["10.0.0.7", "2001:db8::1", "::ffff:10.0.0.7", "testclient"])
def test_another_machine_may_not_and_is_told_why(stores: Stores, host: str) -> None:
    answer = here(stores, host).get("/metrics")
    assert answer.status_code == 403
    assert TOKEN_VARIABLE in answer.json()["error"]["message"]
    assert "communicator_" not in answer.text


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "CF-Connecting-IP"])
def test_what_a_proxy_on_this_machine_passes_on_is_not_from_this_machine(
    stores: Stores, header: str
) -> None:
    assert here(stores).get("/metrics", headers={header: "127.0.0.1"}).status_code == 403


def test_the_token_opens_it_from_anywhere(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    client = here(stores, "10.0.0.7")
    good = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/metrics", headers=good).status_code == 200
    assert client.get("/metrics", headers=good | {"X-Forwarded-For": "9.9.9.9"}).status_code == 200
    for wrong in (f"Bearer {TOKEN}x", "Bearer ", f"Basic {TOKEN}", "Bearer \u00e9"):
        headers = {"Authorization": wrong.encode("latin-1")}
        assert client.get("/metrics", headers=headers).status_code == 403, wrong
    assert TOKEN not in client.get("/metrics", headers=good).text


def test_an_empty_token_opens_nothing(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    client = here(stores, "10.0.0.7")
    assert client.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 403


# --- requests --------------------------------------------------------------------------------


def test_requests_are_counted_by_the_routes_template_and_status(stores: Stores) -> None:
    client = here(stores)
    for account in ("one", "two", "three"):
        client.get(f"/api/v1/conversations/{account}/detail", params={"conversation_id": "c"})
    client.get("/healthz")
    client.get("/nowhere/at/all")
    client.request("BREW", "/healthz")
    values = values_of(client)
    assert timed(values, "/api/v1/conversations/{account}/detail", 401) == 3.0
    assert timed(values, "/healthz", 200) == 1.0
    assert timed(values, "none", 404) == 1.0
    assert timed(values, "/healthz", 405, "other") == 1.0


def test_a_request_that_fails_is_counted_too(stores: Stores) -> None:
    app = create_app(stores)

    @app.get("/breaks")
    def breaks() -> None:
        raise RuntimeError

    client = TestClient(app, client=("127.0.0.1", 1), raise_server_exceptions=False)
    assert client.get("/breaks").status_code == 500
    assert timed(values_of(client), "/breaks", 500) == 1.0


def test_two_applications_in_a_process_count_for_themselves(stores: Stores) -> None:
    one, other = here(stores), here(stores)
    one.get("/healthz")
    assert timed(values_of(one), "/healthz", 200) == 1.0
    assert timed(values_of(other), "/healthz", 200) == 0.0


def test_an_event_stream_passes_at_once_and_is_not_timed() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("t", "t", ("method", "route", "status"), registry=registry)
    sent: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def events() -> Any:
            yield b"data: 1\n\n"
            assert b"data: 1\n\n" in sent  # it went out before the next one is made
            yield b"data: 2\n\n"

        await StreamingResponse(events(), media_type="text/event-stream")(scope, receive, send)

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    async def receive() -> Message:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/", "asgi": {"spec_version": "2.4"}}
    asyncio.run(Timing(app, histogram)(scope, receive, send))
    assert sent[1:3] == [b"data: 1\n\n", b"data: 2\n\n"]
    assert not [s for m in registry.collect() for s in m.samples if s.name == "t_count"]
