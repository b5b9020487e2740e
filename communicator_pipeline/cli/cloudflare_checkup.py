"""What `communicator doctor` looks at where the data are at Cloudflare.

Belongs here: questions that change nothing there (but for one object that is put and deleted
again), and what to do about the answers. Does not belong here: what every installation is asked
(`checkup.py`).

A right can only be seen by using the token that should have it: so each question goes out with the
token whose right it is. What is only read beside that (who consumes the queue) is asked with
`CLOUDFLARE_ANALYTICS_TOKEN` where it is given, which may do nothing else.
No finding holds a token, a key or what was stored: only codes, numbers and names.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import orjson
from cloudflare import APIConnectionError, APIError, APIStatusError

from communicator_pipeline.cli.finding import Finding
from communicator_pipeline.storage.cloudflare import WINDOW, CallsUsedUp, CloudflareAccount
from communicator_pipeline.storage.credentials import KEYS_VARIABLE
from communicator_pipeline.storage.kv import KvFailed, KvStore
from communicator_pipeline.storage.on_cloudflare import Cloudflare, NotConfigured

ANALYTICS_VARIABLE = "CLOUDFLARE_ANALYTICS_TOKEN"
KV_VARIABLE = "COMMUNICATOR_KV_NAMESPACE"

LARGEST_DATABASE = 10 * 10**9
"""Bytes: https://developers.cloudflare.com/d1/platform/limits/ (read 2026-11)."""

NEARLY = 0.8  # of a limit: time to do something about it

SKEW, TOO_MUCH_SKEW = 30.0, 300.0
"""Seconds between this machine's clock and Cloudflare's. A Slack or an S3 signature is refused
after some minutes: 5 at Slack (https://docs.slack.dev/authentication/verifying-requests-from-slack/,
read 2026-11)."""

EXPIRES_SOON = timedelta(days=14)
ENVIRONMENT = "`make -C infra/cloudflare environment ENV=…` writes every variable anew"
RIGHTS = (
    f"deploy again: infra/cloudflare/tokens.py lists the rights that it needs; then {ENVIRONMENT}"
)


def cloudflare_findings(folder: Path, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Every finding; a check that breaks is a finding too. The folder counts the calls."""
    try:
        configured = Cloudflare.of_environment(environment)
    except NotConfigured as error:
        return [Finding("cloudflare", "failed", str(error), ENVIRONMENT)]
    account = configured.api(folder)
    checks: dict[str, Callable[[], Finding | list[Finding]]] = {
        "api token": lambda: _token(account, "api token", "CLOUDFLARE_API_TOKEN"),
        "analytics token": lambda: _analytics_token(account, environment),
        "clock": lambda: _clock(configured),
        "d1 by the api": lambda: _d1(account, configured.d1_database),
        "edge": lambda: _edge(configured),
        "kv": lambda: _kv(account, environment.get(KV_VARIABLE, "")),
        "queue": lambda: _queue(account, configured.queue, environment),
        "workers ai": lambda: _workers_ai(account),
        "r2": lambda: _bucket(configured, folder),
        "keys": lambda: _keys(environment),
        "api calls": lambda: _calls(account),
    }
    findings: list[Finding] = []
    for name, check in checks.items():
        try:
            found = check()
        except CallsUsedUp as error:
            found = Finding(name, "warning", str(error), "ask again then")
        except APIError as error:
            found = _refused(name, error)
        except Exception as error:
            found = Finding(name, "failed", f"{type(error).__name__}: {error}")
        findings += found if isinstance(found, list) else [found]
    return findings


def _token(account: CloudflareAccount, what: str, variable: str) -> Finding:
    """Whether the token is one, of the account or of a user: each is verified elsewhere
    (https://developers.cloudflare.com/api/resources/accounts/subresources/tokens/methods/verify/,
    read 2026-11)."""
    client = account.client()
    try:
        verified: Any = account.call(
            lambda: client.accounts.tokens.verify(account_id=account.account_id), True
        )
    except APIStatusError as of_account:
        if of_account.status_code not in (400, 401, 403, 404):
            raise
        try:
            verified = account.call(lambda: client.user.tokens.verify(), True)
        except APIStatusError as of_user:
            if of_user.status_code not in (400, 401, 403, 404):
                raise
            return Finding(
                what,
                "failed",
                f"Cloudflare knows no such token (HTTP {of_account.status_code})",
                f"check {variable} and CLOUDFLARE_ACCOUNT_ID; {ENVIRONMENT}",
            )
    if verified is None or verified.status != "active":
        status = verified.status if verified else "unknown"
        return Finding(what, "failed", f"the token is {status}", f"make a new one: {ENVIRONMENT}")
    if verified.expires_on and verified.expires_on - datetime.now(UTC) < EXPIRES_SOON:
        return Finding(
            what,
            "warning",
            f"active, until {verified.expires_on:%Y-%m-%d %H:%M} UTC",
            "make the next generation of tokens before that: docs/deploying.md",
        )
    return Finding(what, "ok", "active")


def _analytics_token(
    account: CloudflareAccount, environment: Mapping[str, str]
) -> Finding | list[Finding]:
    given = environment.get(ANALYTICS_VARIABLE, "")
    if not given:
        return []
    return _token(replace(account, api_token=given), "analytics token", ANALYTICS_VARIABLE)


def _clock(configured: Cloudflare) -> Finding:
    """How far this machine's clock is from Cloudflare's, by the Date of an answer that no token is
    needed for: it has whole seconds."""
    before = time.time()
    answer = httpx.get(f"{configured.api_url}/ips", timeout=20.0)
    after = time.time()
    try:
        there = parsedate_to_datetime(answer.headers["date"]).timestamp() + 0.5
    except (KeyError, ValueError):
        return Finding("clock", "warning", "Cloudflare's answer had no date", "look again later")
    away = (before + after) / 2 - there
    if abs(away) < SKEW:
        return Finding("clock", "ok", "as Cloudflare's, to some seconds")
    return Finding(
        "clock",
        "failed" if abs(away) > TOO_MUCH_SKEW else "warning",
        f"{abs(away):.0f} s {'ahead of' if away > 0 else 'behind'} Cloudflare's: signatures of "
        f"pushes and of R2 are refused beyond {TOO_MUCH_SKEW:.0f} s",
        "let the machine keep its time: timedatectl set-ntp true",
    )


def _d1(account: CloudflareAccount, database_id: str) -> list[Finding]:
    return _database(account, database_id, "d1 by the api", RIGHTS)


def _edge(configured: Cloudflare) -> list[Finding]:
    """The edge Worker: whether it is up, and whether it serves the database for its token."""
    if not configured.d1_url:
        return [
            Finding(
                "edge",
                "warning",
                "COMMUNICATOR_D1_URL is not set: every look at the database is one of the "
                "1,200 calls that Cloudflare takes in 5 minutes",
                "deploy the edge Worker (docs/deploying.md), and set it and COMMUNICATOR_D1_TOKEN",
            )
        ]
    try:
        answer = httpx.get(f"{configured.d1_url}/healthz", timeout=20.0)
    except httpx.HTTPError as error:
        return [
            Finding(
                "edge",
                "failed",
                f"{configured.d1_url} does not answer ({type(error).__name__})",
                "check COMMUNICATOR_D1_URL and the Worker's deployment",
            )
        ]
    if answer.status_code != 200:
        return [
            Finding(
                "edge",
                "failed",
                f"{configured.d1_url}/healthz answers HTTP {answer.status_code}",
                "check COMMUNICATOR_D1_URL, and deploy the Worker again",
            )
        ]
    edge = CloudflareAccount(
        configured.account_id, configured.d1_token, None, f"{configured.d1_url}/client/v4"
    )
    advice = (
        "give the Worker and this machine the same COMMUNICATOR_D1_TOKEN, account and database: "
        "deploy again"
    )
    try:
        found = _database(edge, configured.d1_database, "database at the edge", advice)
    except APIError as error:
        found = [_refused("database at the edge", error, advice)]
    return [Finding("edge", "ok", "answers"), *found]


def _database(
    account: CloudflareAccount, database_id: str, what: str, advice: str
) -> list[Finding]:
    """Whether it can be read, how large it is, and which migrations it lacks: one call."""
    client = account.client()
    try:
        response = account.call(
            lambda: client.d1.database.with_raw_response.raw(
                database_id,
                account_id=account.account_id,
                batch=[
                    {"sql": "SELECT count(*) AS n FROM sqlite_schema WHERE name = 'd1_migrations'"}
                ],
            ),
            True,
        )
    except APIStatusError as error:
        return [_refused(what, error, advice)]
    (result,) = orjson.loads(response.http_response.content)["result"]
    size = int((result.get("meta") or {}).get("size_after") or 0)
    has_migrations = bool(result["results"]["rows"][0][0])
    applied: set[str] = set()
    if has_migrations:
        response = account.call(
            lambda: client.d1.database.with_raw_response.raw(
                database_id,
                account_id=account.account_id,
                batch=[{"sql": "SELECT name FROM d1_migrations"}],
            ),
            True,
        )
        (result,) = orjson.loads(response.http_response.content)["result"]
        applied = {row[0] for row in result["results"]["rows"]}
    return [
        Finding(what, "ok", "takes statements"),
        _migrations(what, applied),
        _size(what, size),
    ]


def _migrations(what: str, applied: set[str]) -> Finding:
    schema = files("communicator_pipeline.storage") / "schema"
    wanted = {file.name for file in schema.iterdir() if file.name.endswith(".sql")}
    missing, unknown = sorted(wanted - applied), sorted(applied - wanted)
    name = f"{what}: schema"
    if missing:
        return Finding(
            name,
            "warning",
            f"{len(missing)} of {len(wanted)} migrations are not applied, from {missing[0]} on",
            "the next command that opens the stores applies them",
        )
    if unknown:
        return Finding(
            name,
            "failed",
            f"the database is newer than this program: {', '.join(unknown)}",
            "run the version of the program that applied them, or a newer one",
        )
    return Finding(name, "ok", f"all {len(wanted)} migrations are applied")


def _size(what: str, size: int) -> Finding:
    name = f"{what}: size"
    share = size / LARGEST_DATABASE
    found = f"{size / 1e6:,.1f} MB, {share:.1%} of the {LARGEST_DATABASE // 10**9} GB of a database"
    if share < NEARLY:
        return Finding(name, "ok", found)
    return Finding(
        name,
        "failed" if share >= 1 else "warning",
        found,
        "move accounts to another database, or remove some: docs/operations.md",
    )


def _kv(account: CloudflareAccount, namespace: str) -> Finding:
    if not namespace:
        return Finding(
            "kv", "ok", f"{KV_VARIABLE} is not set: what models answered is kept in the database"
        )
    try:
        KvStore(account, namespace).get("doctor")  # an absence is an answer
    except KvFailed as error:
        return Finding("kv", "failed", str(error), ENVIRONMENT)
    return Finding("kv", "ok", "can be read")


def _queue(account: CloudflareAccount, queue_id: str, environment: Mapping[str, str]) -> Finding:
    """Reading about it needs the same right as pulling from it. It is not pulled from: what is
    pulled is kept from the worker for a while."""
    if not queue_id:
        return Finding("queue", "ok", "COMMUNICATOR_QUEUE is not set: pushes go to the gateway")
    client = account.client()
    queue: Any = account.call(
        lambda: client.queues.get(queue_id, account_id=account.account_id), True
    )
    analytics = environment.get(ANALYTICS_VARIABLE, "")
    if analytics:
        reader = replace(account, api_token=analytics)
        own = reader.client()
        queue = account.call(lambda: own.queues.get(queue_id, account_id=account.account_id), True)
    kinds = [getattr(one, "type", "") for one in (queue and queue.consumers) or ()]
    if "http_pull" not in kinds:
        return Finding(
            "queue",
            "failed",
            "nobody may pull from it: what is pushed at the edge stays there",
            "give it a consumer of the type http_pull: deploy again (infra/cloudflare/queues.py)",
        )
    return Finding("queue", "ok", "is there, and can be pulled from")


def _workers_ai(account: CloudflareAccount) -> Finding:
    client = account.client()
    account.call(lambda: client.ai.models.list(account_id=account.account_id, per_page=1), True)
    return Finding("workers ai", "ok", "models may be asked")


def _bucket(configured: Cloudflare, folder: Path) -> list[Finding]:
    """Puts one object, finds it, reads it and deletes it again."""
    objects = configured.objects(folder)
    key, content = f"doctor/{secrets.token_hex(8)}", secrets.token_bytes(32)
    step = "put"
    try:
        objects.put(key, content)
        try:
            step = "list"
            listed = [one.key for one in objects.list("doctor/")]
            step = "get"
            same = objects.get(key)[0] == content
        finally:
            was = step
            step = "delete"
            objects.delete(key)
            step = was
    except OSError as error:
        return [Finding("r2", "failed", f"the key cannot {step} an object: {error}", RIGHTS)]
    if key not in listed or not same:
        return [
            Finding(
                "r2",
                "failed",
                "what was put was not there at once, or was something else",
                "COMMUNICATOR_R2_ENDPOINT should lead to R2 itself, without a cache before it",
            )
        ]
    findings = [Finding("r2", "ok", f"objects of {configured.r2_bucket} can be put, listed, read")]
    with suppress(OSError):
        if objects.may_list_buckets():
            findings.append(
                Finding(
                    "r2 key",
                    "warning",
                    "the key may list all buckets of the account: it is wider than it need be",
                    f"take a key for {configured.r2_bucket} alone: {RIGHTS}",
                )
            )
        else:
            findings.append(Finding("r2 key", "ok", "the key sees no other bucket"))
    return findings


def _keys(environment: Mapping[str, str]) -> Finding:
    if environment.get(KEYS_VARIABLE):
        return Finding("keys", "ok", f"{KEYS_VARIABLE} gives them")
    return Finding(
        "keys",
        "warning",
        "the keys to the credentials are in a file of this machine alone: with it all of them "
        "are lost, and no other machine can open them",
        f"set {KEYS_VARIABLE} to what is in credentials.key, and keep it where secrets are kept",
    )


def _calls(account: CloudflareAccount) -> Finding:
    budget = account.budget
    if budget is None:
        return Finding("api calls", "ok", "are not counted")
    used, most = budget.used(), budget.most
    found = f"{used} of {most} in the last {WINDOW / 60:.0f} minutes, on this machine"
    until = budget.blocked_until()
    if until > time.time():
        return Finding(
            "api calls",
            "failed",
            f"{found}; Cloudflare takes none until {datetime.fromtimestamp(until, UTC):%H:%M:%S} "
            "UTC",
            "wait; set COMMUNICATOR_D1_URL, and COMMUNICATOR_CLOUDFLARE_CALLS where there are "
            "several machines",
        )
    if used < NEARLY * most:
        return Finding("api calls", "ok", found)
    return Finding(
        "api calls",
        "warning",
        found,
        "reach the database through the edge Worker (COMMUNICATOR_D1_URL), which does not count",
    )


def _refused(what: str, error: APIError, advice: str = RIGHTS) -> Finding:
    """What Cloudflare said: its codes and not its words, which may repeat what was asked."""
    if isinstance(error, APIConnectionError) or not isinstance(error, APIStatusError):
        return Finding(
            what,
            "failed",
            f"Cloudflare could not be reached ({type(error.__cause__ or error).__name__})",
            "check the network; https://www.cloudflarestatus.com says whether it is theirs",
        )
    body = error.body if isinstance(error.body, dict) else {}
    codes = ", ".join(
        str(one.get("code")) for one in body.get("errors") or () if isinstance(one, dict)
    )
    found = f"HTTP {error.status_code}" + (f", code {codes}" if codes else "")
    if error.status_code in (401, 403):
        return Finding(what, "failed", f"the token may not do it ({found})", advice)
    if error.status_code == 404:
        return Finding(what, "failed", f"there is none by this id ({found})", ENVIRONMENT)
    return Finding(what, "failed", f"Cloudflare could not do it ({found})", "ask again in a while")
