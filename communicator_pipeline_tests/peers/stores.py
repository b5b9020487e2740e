"""Stores at Cloudflare for the tests that otherwise run on the embedded ones.

Belongs here: one workerd for all tests of a process, the environment that says so, an empty
database and an empty bucket for each test. Does not belong here: workerd itself (`workerd.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from communicator_pipeline.storage.database import Database, SqliteDatabase, migrate
from communicator_pipeline.storage.on_cloudflare import Cloudflare
from communicator_pipeline_tests.peers.workerd import Workerd, workerd


def environment(peer: Workerd) -> dict[str, str]:
    """What says that the data are in this workerd."""
    return {
        "COMMUNICATOR_BACKEND": "cloudflare",
        "COMMUNICATOR_KEYS": ",".join(peer.keys),
        "CLOUDFLARE_ACCOUNT_ID": peer.account_id,
        "CLOUDFLARE_API_TOKEN": "not-used-where-the-edge-serves-the-database",
        "COMMUNICATOR_D1_DATABASE": peer.database_id,
        "COMMUNICATOR_D1_URL": peer.url,
        "COMMUNICATOR_D1_TOKEN": peer.token,
        "COMMUNICATOR_R2_BUCKET": peer.buckets[0],
        "COMMUNICATOR_R2_ENDPOINT": peer.s3_url,
        "COMMUNICATOR_R2_KEY_ID": peer.access_key,
        "COMMUNICATOR_R2_SECRET": peer.secret_key,
    }


@contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """A workerd, and the environment for it."""
    with workerd(folder) as peer:
        yield environment(peer)


def empty(given: dict[str, str], folder: Path) -> None:
    """Take everything out of the database and the bucket."""
    configured = Cloudflare.of_environment(given)
    _empty(configured.database(folder))
    objects = configured.objects(folder)
    for info in list(objects.list("")):
        objects.delete(info.key)


def _empty(database: Database) -> None:
    migrate(database)
    # Tests take triggers away, and build faults in as triggers.
    question = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
    there = {row["name"]: row["sql"] for row in database.execute(question)}
    own = _triggers_of_the_schema(question)
    for name in there.keys() - own.keys():
        database.execute(f'DROP TRIGGER "{name}"')
    for name in own.keys() - there.keys():
        database.execute(own[name])
    names = [
        row["name"]
        for row in database.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '_cf_%' "
            "AND name NOT LIKE 'messages_fts%' AND name NOT IN ('d1_migrations', 'sqlite_sequence')"
        )
    ]
    database.batch(
        [
            ("PRAGMA defer_foreign_keys = ON", ()),
            *((f'DELETE FROM "{name}"', ()) for name in names),
            ("DELETE FROM sqlite_sequence WHERE name <> 'd1_migrations'", ()),
        ]
    )


@cache
def _triggers_of_the_schema(question: str) -> dict[str, str]:
    with TemporaryDirectory() as folder:
        fresh = SqliteDatabase(Path(folder, "fresh.db"))
        migrate(fresh)
        found = {row["name"]: row["sql"] for row in fresh.execute(question)}
        fresh.close()
    return found
