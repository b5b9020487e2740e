"""The stores of an installation that keeps its data at Cloudflare, out of the environment.

Belongs here: which variables say where the data are, and opening the stores on them. Does not
belong here: how each of them works (`d1.py`, `r2.py`, `kv.py`, `cloudflare.py`).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.cloudflare import (
    BASE_URL,
    MOST_CALLS,
    PATIENCE,
    CallBudget,
    CloudflareAccount,
    EdgeQueue,
)
from communicator_pipeline.storage.credentials import Keyring
from communicator_pipeline.storage.d1 import D1Database
from communicator_pipeline.storage.database import migrate
from communicator_pipeline.storage.kv import KvStore
from communicator_pipeline.storage.lake import Lake
from communicator_pipeline.storage.metering import count, measure
from communicator_pipeline.storage.r2 import R2Objects

REQUIRED = {
    "CLOUDFLARE_ACCOUNT_ID": "the account's id, on the dashboard's first page",
    "CLOUDFLARE_API_TOKEN": "a token for D1, KV, Queues and Workers AI",
    "COMMUNICATOR_D1_DATABASE": "the id of the D1 database",
    "COMMUNICATOR_R2_BUCKET": "the name of the R2 bucket",
    "COMMUNICATOR_R2_KEY_ID": "the id of an R2 key for that bucket",
    "COMMUNICATOR_R2_SECRET": "the secret of that key",
}
"""What must be set, and what it is. `infra/cloudflare` writes all of them."""

FOR_THE_DATABASE = ("CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_TOKEN", "COMMUNICATOR_D1_DATABASE")


REMEMBER, CACHE_TIMEOUT = 60.0, 10.0
"""Seconds for which a process knows what it read or wrote in KV, as KV itself does, and after which
a cache is slower than doing without."""

EDGE_LOOK_EVERY, REST_LOOK_EVERY = 1.0, 10.0  # seconds


class NotConfigured(ValueError):
    """The environment does not say where the data are; the message says what is missing."""


class _CountedBudget(CallBudget):
    def take(self, patience: float = PATIENCE) -> None:
        super().take(patience)
        count("api calls", 1)


@dataclass(frozen=True)
class Cloudflare:
    """Where an installation's data are."""

    account_id: str
    api_token: str = field(repr=False)
    d1_database: str
    r2_bucket: str
    r2_endpoint: str
    r2_key_id: str
    r2_secret: str = field(repr=False)
    api_url: str = BASE_URL
    d1_url: str = ""
    """The edge Worker, which serves the database without counting calls; "": the REST API."""

    d1_token: str = field(default="", repr=False)
    queue: str = ""  # id of the edge's ingestion queue; "": the edge takes no pushes
    dead_queue: str = ""
    kv_namespace: str = ""  # id; "": what is cached is in the database
    most_calls: int = MOST_CALLS

    @classmethod
    def of_environment(
        cls, environment: Mapping[str, str] = os.environ, needed: Collection[str] = tuple(REQUIRED)
    ) -> Cloudflare:
        """Raises `NotConfigured` if one of `needed` is not set, or something is no good."""
        missing = [name for name in needed if not environment.get(name)]
        if missing:
            raise NotConfigured(
                "COMMUNICATOR_BACKEND=cloudflare needs "
                + "; ".join(f"{name} ({REQUIRED[name]})" for name in missing)
                + ". `make -C infra/cloudflare environment ENV=dev` writes all of them"
            )
        given = environment.get
        if given("COMMUNICATOR_D1_URL") and not given("COMMUNICATOR_D1_TOKEN"):
            raise NotConfigured(
                "COMMUNICATOR_D1_URL is set: set COMMUNICATOR_D1_TOKEN to the edge Worker's token"
            )
        calls = given("COMMUNICATOR_CLOUDFLARE_CALLS", "")
        if calls and not (calls.isdecimal() and 1 <= int(calls) <= MOST_CALLS):
            raise NotConfigured(
                f"COMMUNICATOR_CLOUDFLARE_CALLS should be a number from 1 to {MOST_CALLS}: how "
                "many calls in five minutes are this machine's"
            )
        account_id = environment["CLOUDFLARE_ACCOUNT_ID"]
        return cls(
            account_id=account_id,
            api_token=environment["CLOUDFLARE_API_TOKEN"],
            d1_database=environment["COMMUNICATOR_D1_DATABASE"],
            r2_bucket=given("COMMUNICATOR_R2_BUCKET") or "",
            r2_endpoint=given("COMMUNICATOR_R2_ENDPOINT")
            or f"https://{account_id}.r2.cloudflarestorage.com",
            r2_key_id=given("COMMUNICATOR_R2_KEY_ID") or "",
            r2_secret=given("COMMUNICATOR_R2_SECRET") or "",
            api_url=(given("CLOUDFLARE_BASE_URL") or BASE_URL).rstrip("/"),
            d1_url=(given("COMMUNICATOR_D1_URL") or "").rstrip("/"),
            d1_token=given("COMMUNICATOR_D1_TOKEN") or "",
            queue=given("COMMUNICATOR_QUEUE") or "",
            dead_queue=given("COMMUNICATOR_QUEUE_DEAD") or "",
            kv_namespace=given("COMMUNICATOR_KV_NAMESPACE") or "",
            most_calls=int(calls or MOST_CALLS),
        )

    def api(self, folder: Path) -> CloudflareAccount:
        """The REST API, its calls counted in the folder."""
        budget = _CountedBudget(folder / "cloudflare-calls.db", self.most_calls)
        return CloudflareAccount(self.account_id, self.api_token, budget, self.api_url)

    def database(self, folder: Path) -> D1Database:
        """The database, over the edge Worker if there is one, else over the REST API."""
        if not self.d1_url:
            return D1Database(self.api(folder), self.d1_database, count)
        edge = CloudflareAccount(self.account_id, self.d1_token, None, f"{self.d1_url}/client/v4")
        return D1Database(edge, self.d1_database, count)

    def objects(self, folder: Path) -> R2Objects:
        """The lake's objects; files that DuckDB reads are kept in the folder for a while."""
        return R2Objects(
            self.r2_endpoint,
            self.r2_bucket,
            self.r2_key_id,
            self.r2_secret,
            folder / "cache" / "r2",
            meter=count,
        )

    def cache(self, folder: Path) -> KvStore | None:
        """KV, if there is a namespace."""
        if not self.kv_namespace:
            return None
        return KvStore(
            replace(self.api(folder), timeout=CACHE_TIMEOUT), self.kv_namespace, REMEMBER
        )


def open_cloudflare(folder: Path, environment: Mapping[str, str] = os.environ) -> Stores:
    """The stores at Cloudflare, schema brought up to date. The folder holds what one machine has
    for itself: copies of lake files, the count of calls, and the keys if `COMMUNICATOR_KEYS` does
    not give them. Raises `NotConfigured`."""
    configured = Cloudflare.of_environment(environment)
    measure(folder)
    database = configured.database(folder)
    migrate(database)

    def exists(account: str) -> bool:
        return bool(database.execute("SELECT 1 FROM accounts WHERE account = ?", (account,)))

    lake = Lake(configured.objects(folder), exists)
    # A worker looks for six things at a time: every ten seconds that is a seventh of all calls.
    look_every = EDGE_LOOK_EVERY if configured.d1_url else REST_LOOK_EVERY
    edge = None
    if configured.queue:
        edge = EdgeQueue(configured.api(folder), configured.queue, configured.dead_queue)
    keys = Keyring(folder / "credentials.key")
    return Stores(lake, database, keys, look_every, edge, configured.cache(folder))
