"""What `communicator doctor` looks at."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime

import apsw

from communicator_pipeline.cli.finding import Finding
from communicator_pipeline.language_model.configuration import read_configuration
from communicator_pipeline.language_model.limits import trouble_with
from communicator_pipeline.platforms import platforms
from communicator_pipeline.storage import BACKEND_VARIABLE, Stores, home, is_cloudflare, open_stores
from communicator_pipeline.storage.accounts import account_keys, load_account, users
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.notifications import troubled_targets
from communicator_pipeline.storage.queue import IngestionQueue
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline.storage.workers import Workers

LITTLE_DISK = 2 * 2**30  # bytes


def checkup() -> list[Finding]:
    """Every finding; a check that breaks is a finding too."""
    findings = [_python(), _sqlite(), _home(), _disk()]
    if findings[2].state == "failed":
        return findings
    try:
        at_cloudflare = is_cloudflare()
    except ValueError as error:
        findings.append(Finding("backend", "failed", str(error), f"set {BACKEND_VARIABLE} right"))
        return findings
    if at_cloudflare:
        # Not at the top: its libraries take half a second, and most never need them.
        from communicator_pipeline.cli.cloudflare_checkup import cloudflare_findings

        findings += cloudflare_findings(home())
    try:
        stores = open_stores(home())
    except Exception as error:
        advice = f"move {home() / 'communicator.db'} aside and restore it from a backup"
        if at_cloudflare:
            advice = "see what the findings on Cloudflare say"
        findings.append(Finding("database", "failed", str(error), advice))
        return findings
    checks: list[Callable[[Stores], Finding]] = [
        _integrity,
        _platforms,
        _dagster,
        _accounts,
        _owners,
        _connections,
        _worker,
        _pushes,
        _work,
        _letters,
        _notifications,
        _language_model,
    ]
    for check in checks:
        try:
            findings.append(check(stores))
        except Exception as error:
            name = check.__name__.strip("_")
            findings.append(Finding(name, "failed", f"{type(error).__name__}: {error}"))
    return findings


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return Finding("python", "ok" if good else "failed", version, "" if good else "use 3.11+")


def _sqlite() -> Finding:
    # 3.7.0 to 3.51.2 can lose or corrupt a WAL database that several connections write.
    version = apsw.sqlite_lib_version()
    good = tuple(map(int, version.split("."))) >= (3, 51, 3)
    return Finding(
        "sqlite",
        "ok" if good else "failed",
        f"{version}, brought along by apsw",
        "" if good else "make install: the lock file has an apsw whose SQLite is safe",
    )


def _home() -> Finding:
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            os.fsync(file.fileno())
    except OSError as error:
        return Finding(
            "home", "failed", f"{folder}: {error}", "set COMMUNICATOR_HOME to a folder of yours"
        )
    return Finding("home", "ok", str(folder))


def _disk() -> Finding:
    place = home()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    few = free < LITTLE_DISK
    return Finding(
        "disk",
        "warning" if few else "ok",
        f"{free / 2**30:.1f} GiB free",
        "make room: a landing that cannot be written is refused, not lost" if few else "",
    )


def _integrity(stores: Stores) -> Finding:
    rows = stores.database.execute("SELECT count(*) AS n FROM d1_migrations")
    return Finding("database", "ok", f"opens, {rows[0]['n']} migrations applied")


def _platforms(stores: Stores) -> Finding:
    return Finding("platforms", "ok", ", ".join(platforms()))


def _dagster(stores: Stores) -> Finding:
    from communicator_pipeline.dagster_records.database import postgres_address
    from communicator_pipeline.runs import open_instance

    with open_instance() as instance:
        runs = instance.get_runs_count()
    address = postgres_address()
    folder = os.environ.get("DAGSTER_HOME") or str(home() / "dagster")
    where = f"Postgres, {address.database} on {address.host}" if address else folder
    return Finding("dagster", "ok", f"{runs} runs in {where}")


def _accounts(stores: Stores) -> Finding:
    people = ", ".join(user.user_id for user in users(stores.database))
    accounts = account_keys(stores.database)
    if not accounts:
        return Finding(
            "accounts", "warning", "none yet", "communicator import FILE brings in an export"
        )
    return Finding("accounts", "ok", f"{len(accounts)} of {people}")


def _owners(stores: Stores) -> Finding:
    unknown = [
        key for key in account_keys(stores.database) if not load_account(stores.database, key).me
    ]
    if unknown:
        return Finding(
            "owners",
            "warning",
            f"nobody is you in {', '.join(unknown)}",
            f"communicator accounts me {unknown[0]} NAME",
        )
    return Finding("owners", "ok", "every account knows who you are")


def _connections(stores: Stores) -> Finding:
    healths = Connections(stores).healths()
    sick = [health for health in healths if health.trouble_kind]
    if sick:
        told = "; ".join(f"{health.account}: {health.trouble}" for health in sick)
        return Finding("connections", "warning", told, sick[0].repair)
    for health in healths:
        Connections(stores).load(health.account)  # raises if the key is not here
    return Finding("connections", "ok", f"{len(healths)} accounts are connected, all are well")


def _worker(stores: Stores) -> Finding:
    living = Workers(stores.database).living(datetime.now(UTC))
    if living or not Connections(stores).healths():
        return Finding("worker", "ok", ", ".join(living) or "none, and none is needed")
    return Finding(
        "worker",
        "warning",
        "none lives: pushes and polls wait for Dagster's daemon",
        "communicator worker, or make dev",
    )


def _pushes(stores: Stores) -> Finding:
    depth = IngestionQueue(stores.database).depth()
    found = f"{depth.waiting} pushes wait"
    if depth.oldest:
        found += f", the oldest since {depth.oldest[:19]} UTC"
    if depth.dead:
        found += f"; {depth.dead} could not be landed"
    advice = "communicator dead-letters list says why" if depth.dead else ""
    return Finding("ingestion queue", "warning" if depth.dead else "ok", found, advice)


def _work(stores: Stores) -> Finding:
    dirty = WorkQueue(stores.database).dirty()
    if not dirty:
        return Finding("work", "ok", "everything that has landed is in the inbox")
    return Finding(
        "work",
        "warning",
        f"{len(dirty)} touched days, the oldest since {min(d.since for d in dirty)[:16]}",
        "communicator materialize does them now; `make dev` does them as they come",
    )


def _letters(stores: Stores) -> Finding:
    rows = stores.database.execute("SELECT count(*) AS n FROM dead_letters WHERE state = 'open'")
    count = rows[0]["n"]
    advice = "communicator dead-letters list says why" if count else ""
    return Finding("dead letters", "warning" if count else "ok", str(count), advice)


def _notifications(stores: Stores) -> Finding:
    troubled = troubled_targets(stores.database)
    if not troubled:
        return Finding("notifications", "ok", "every target took its last message")
    told = "; ".join(
        f"{row['name']} of {row['user_id']}, since {row['trouble_since'][:16]}: {row['trouble']}"
        for row in troubled
    )
    first = troubled[0]
    advice = shlex.join(
        ["communicator", "notify", "test", first["name"], "--user", first["user_id"]]
    )
    return Finding("notifications", "warning", told, advice)


def _language_model(stores: Stores) -> Finding:
    models = read_configuration(stores)
    if models is None:
        return Finding("language model", "ok", "none is set: the offline analyser does everything")
    configured = [one for one in (models.first, models.second) if one is not None]
    troubles = [
        f"{one.model}: {trouble[1]} (asked again after {trouble[0]:%Y-%m-%d %H:%M} UTC)"
        for one in configured
        if (trouble := trouble_with(stores.database, one.endpoint)) is not None
    ]
    if troubles:
        return Finding("language model", "warning", "; ".join(troubles), "communicator model test")
    return Finding("language model", "ok", ", ".join(one.model for one in configured))
