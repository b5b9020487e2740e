"""`GET /metrics`: what waits, what is in trouble and how long requests take, for Prometheus.

Belongs here: reading those figures when they are asked for, timing requests, who may read them.
Does not belong here: what to do about them (`docs/`), what one user sees of them (`api/`).

No label names an account, a person or a path that somebody typed: labels are kinds, states, stages,
platforms and the routes' templates. Each application has a registry of its own.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hmac import compare_digest

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.database import Row, from_utc_text, utc_text
from communicator_pipeline.storage.workers import DEAD_AFTER

TOKEN_VARIABLE = "COMMUNICATOR_METRICS_TOKEN"  # noqa: S105

WATCHED = ("approved", "unknown", "needs_human")
"""The states in which a delivery waits for somebody."""

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "cf-connecting-ip")
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)

# One call of the database, and one moment.
_FIGURES = """
SELECT
    (SELECT count(*) FROM pushes WHERE state = 'waiting') AS pushes_waiting,
    (SELECT min(received_at) FROM pushes WHERE state = 'waiting') AS oldest_push,
    (SELECT count(*) FROM pushes WHERE state = 'dead') AS pushes_dead,
    (SELECT json_group_object(stage, n) FROM (SELECT stage, count(*) AS n FROM dead_letters
        WHERE state = 'open' GROUP BY stage)) AS dead_letters,
    (SELECT json_group_object(state, n) FROM (SELECT state, count(*) AS n FROM deliveries
        GROUP BY state)) AS deliveries,
    -- When it came into its state, or when it was to leave, if that is later.
    (SELECT json_group_object(state, since) FROM (SELECT d.state, min(max(coalesce(
            (SELECT max(l.at) FROM delivery_log AS l WHERE l.delivery_id = d.delivery_id
                AND l.after = d.state AND l.before <> l.after), d.changed_at),
            iif(d.state = 'approved', a.send_at, ''))) AS since
        FROM deliveries AS d JOIN approvals AS a USING (approval_id)
        WHERE d.state IN ('approved', 'unknown', 'needs_human') GROUP BY d.state))
        AS deliveries_since,
    (SELECT count(*) FROM dirty_days WHERE mark > done_mark AND day <= ?1) AS dirty_days,
    (SELECT min(since) FROM dirty_days WHERE mark > done_mark AND day <= ?1) AS oldest_day,
    (SELECT count(*) FROM workers WHERE beat_at > ?2) AS workers,
    (SELECT max(beat_at) FROM workers) AS last_beat,
    (SELECT json_group_object(platform, usd) FROM (SELECT a.platform, sum(p.usd) AS usd
        FROM platform_costs AS p JOIN accounts AS a USING (account) WHERE p.day >= ?3
        GROUP BY a.platform)) AS spent,
    (SELECT json_group_object(model, usd) FROM (SELECT model, sum(cost_usd) AS usd
        FROM model_usage WHERE day >= ?3 GROUP BY model)) AS model_spent,
    (SELECT count(*) FROM model_retries) AS model_retries,
    (SELECT value FROM settings WHERE scope = 'installation' AND key = 'edge_queue') AS edge_queue
"""


def add_metrics(app: FastAPI, stores: Stores) -> None:
    """Give the application its `/metrics` and time its requests. Call it after the other
    middlewares are there: the time counts what they take, too."""
    registry = CollectorRegistry()
    registry.register(StoredFigures(stores))
    app.add_middleware(
        Timing,
        histogram=Histogram(
            "communicator_request_seconds",
            "How long requests took, by the route's template; event streams are left out",
            ("method", "route", "status"),
            registry=registry,
            buckets=_BUCKETS,
        ),
    )
    routes = APIRouter()
    token = os.environ.get(TOKEN_VARIABLE, "")

    @routes.get("/metrics", include_in_schema=False)
    def metrics(request: Request) -> Response:
        if not may_read(request, token):
            raise PermissionError(
                "metrics are for this machine itself, or for whoever sends `Authorization: Bearer` "
                f"with what {TOKEN_VARIABLE} is set to"
            )
        return Response(
            generate_latest(registry),
            headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store"},
        )

    app.include_router(routes)


def may_read(request: Request, token: str) -> bool:
    """Whether the request comes from this machine itself, or brings the token."""
    scheme, _, brought = request.headers.get("authorization", "").partition(" ")
    if token and scheme.casefold() == "bearer":
        return compare_digest(brought.strip().encode(), token.encode())
    # A proxy on this machine passes on what comes from elsewhere.
    if any(name in request.headers for name in _FORWARDED):
        return False
    return request.client is not None and _is_loopback(request.client.host)


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


class StoredFigures(Collector):
    """Reads the figures from the database whenever they are asked for, in two calls."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def collect(self) -> Iterable[GaugeMetricFamily]:
        now = datetime.now(UTC)
        today = now.date().isoformat()
        row = self._stores.database.execute(
            _FIGURES, (today, utc_text(now - DEAD_AFTER), f"{today[:7]}-01")
        )[0]
        yield from _of_stores(row, now)
        troubles: Counter[str] = Counter(
            health.trouble_kind
            for health in Connections(self._stores).healths()
            if health.trouble_kind
        )
        yield _by(
            "communicator_accounts_in_trouble", "Accounts in trouble, by its kind", "kind", troubles
        )


def _of_stores(row: Row, now: datetime) -> Iterable[GaugeMetricFamily]:
    queue = "communicator_ingestion_queue"
    yield _one(queue, "Pushes that have not landed yet", row["pushes_waiting"])
    yield _one(f"{queue}_oldest_age_seconds", "Age of the oldest", _age(row["oldest_push"], now))
    yield _one("communicator_dead_pushes", "Pushes that are not tried again", row["pushes_dead"])
    if row["edge_queue"]:
        edge = orjson.loads(row["edge_queue"])
        name = "communicator_edge_queue"
        yield _one(name, "Pushes that wait at the edge", edge["waiting"])
        yield _one(f"{name}_oldest_age_seconds", "Age of the oldest", _age(edge["oldest"], now))
        yield _one("communicator_edge_dead_queue", "Pushes that nobody could take", edge["dead"])
    yield _by(
        "communicator_dead_letters_open",
        "Dead letters that nobody has closed, by stage",
        "stage",
        orjson.loads(row["dead_letters"]),
    )
    yield _by(
        "communicator_deliveries",
        "Deliveries, by state",
        "state",
        orjson.loads(row["deliveries"]),
    )
    since = orjson.loads(row["deliveries_since"])
    yield _by(
        "communicator_deliveries_oldest_age_seconds",
        "For how long the oldest has waited in its state, and was to leave",
        "state",
        {state: _age(since.get(state), now) for state in WATCHED},
    )
    yield _one("communicator_dirty_days", "Days that want to be materialised", row["dirty_days"])
    yield _one(
        "communicator_dirty_days_oldest_age_seconds",
        "Age of the oldest",
        _age(row["oldest_day"], now),
    )
    yield _by(
        "communicator_platform_spend_usd",
        "What a platform's reads have cost since the month began (UTC)",
        "platform",
        orjson.loads(row["spent"]),
    )
    yield _by(
        "communicator_model_spend_usd",
        "What language models have cost since the month began (UTC)",
        "model",
        orjson.loads(row["model_spent"]),
    )
    yield _one(
        "communicator_days_without_their_model",
        "Days on which something stood in for a language model, to be tried again",
        row["model_retries"],
    )
    yield _one("communicator_workers", "Workers that live", row["workers"])
    if row["last_beat"] is not None:  # no worker has no age: alert on communicator_workers == 0
        yield _one(
            "communicator_worker_beat_age_seconds",
            "Since a worker was last heard of",
            _age(row["last_beat"], now),
        )


def _age(since: str | None, now: datetime) -> float:
    """Seconds; 0 where nothing waits, and for what a clock ahead of ours has dated."""
    return max(0.0, (now - from_utc_text(since)).total_seconds()) if since else 0.0


def _one(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, value=value)


def _by(name: str, help_text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=(label,))
    for key, value in sorted(values.items()):
        family.add_metric((key,), value)
    return family


class Timing:
    """Times requests. Plain ASGI: Starlette's `BaseHTTPMiddleware` holds streams back."""

    def __init__(self, app: ASGIApp, histogram: Histogram) -> None:
        self._app = app
        self._histogram = histogram

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0
        streams = False

        async def noting(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                streams = any(
                    name.lower() == b"content-type" and value.startswith(b"text/event-stream")
                    for name, value in message.get("headers", ())
                )
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            status = status or 500
            raise
        finally:
            if status and not streams:
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._histogram.labels(method, _template(scope), str(status)).observe(
                    time.perf_counter() - began
                )


def _template(scope: Scope) -> str:
    """The path of the route as it was written, or that none was found."""
    # The route itself does not know the prefix of the router that it was included with.
    included = scope.get("fastapi", {}).get("effective_route_context")
    return str(getattr(included or scope.get("route"), "path", "none"))
