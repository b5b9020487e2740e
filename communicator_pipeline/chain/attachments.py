"""`attachments`: the files of the messages, where they are and why not where they are not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pyarrow as pa

from communicator_pipeline.chain import raw_messages
from communicator_pipeline.chain.scope import MonthReport, Scope
from communicator_pipeline.messages import table_schema
from communicator_pipeline.platforms import live_side
from communicator_pipeline.platforms.protocol import Client
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import NotFound, load_account
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.credentials import KeyMissing
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.lake import (
    LARGEST_ATTACHMENT,
    AccountMonth,
    Manifest,
    NewDays,
    attachment_key,
)
from communicator_pipeline.storage.work import WorkQueue

ASSET = "attachments"

LONGEST_FETCH = timedelta(seconds=10)
"""A run fetches for so long: whoever waits for a draft waits for it."""

ATTACHMENT_SCHEMA = table_schema(
    [
        ("message_id", pa.string()),
        ("position", pa.int32()),  # 0, 1, … within the message
        ("name", pa.string()),
        ("mime", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        # 'stored'; 'remote': at `url`, not fetched (yet); 'too large' or 'gone', as the platform
        # said; 'missing': nowhere that we know
        ("state", pa.string()),
        ("url", pa.string()),
    ]
)


def materialise(stores: Stores, partition: AccountMonth, scope: Scope) -> MonthReport:
    """List the attachments of the latest versions, and fetch those that a connected account's
    platform still has: addresses expire. Contents are kept under their SHA-256; an export's were
    stored when it was imported, for the user may delete it."""
    counts: Counter[str] = Counter()
    processed: list[str] = []
    with _fetching(stores, partition.account) as fetch:

        def list_files(manifest: Manifest) -> NewDays:
            raw = stores.lake.manifest(raw_messages.ASSET, partition)
            processed[:] = scope.chosen(raw.days)
            counts.clear()
            tables = {}
            for day in processed:
                messages = stores.lake.read_day(raw_messages.ASSET, partition, raw.days[day])
                known = _known(stores, partition, manifest, day)
                some = messages.select(["message_id", "attachments", "latest"])
                rows = [fetch.fetched(row, known) for row in _rows(stores, some)]
                counts.update(row["state"] for row in rows)
                tables[day] = pa.Table.from_pylist(rows, schema=ATTACHMENT_SCHEMA)
            return tables

        manifest, changed = stores.lake.update(ASSET, partition, list_files)
        if fetch.is_out_of_time and fetch.count:
            # Each run brings some more, so this comes to an end.
            WorkQueue(stores.database).mark(partition.account, changed, "files are to be fetched")
    return MonthReport(partition, manifest, processed, changed, dict(counts))


Place = tuple[str, int]  # message_id, position


def contents(
    stores: Stores, partition: AccountMonth, manifest: Manifest, day: str
) -> dict[Place, str]:
    """Which stored content a day's attachments have: (message_id, position) → SHA-256."""
    known = _known(stores, partition, manifest, day)
    return {place: row["sha256"] for place, row in known.items() if row["sha256"]}


def _known(
    stores: Stores, partition: AccountMonth, manifest: Manifest, day: str
) -> dict[Place, dict[str, Any]]:
    if day not in manifest.days:
        return {}
    rows = stores.lake.read_day(ASSET, partition, manifest.days[day]).to_pylist()
    return {(row["message_id"], row["position"]): row for row in rows}


_ABSENT = {
    "remote": "the file has not been fetched from the platform yet: try again in a few minutes",
    "too large": f"the file is larger than {LARGEST_ATTACHMENT // 1_000_000} MB: open it there",
    "gone": "the platform does not have the file any more",
    "missing": "the export did not hold the file",
}


def find_file(
    stores: Stores, user_id: str, account: str, message_id: str, position: int
) -> tuple[str, str]:
    """Name of a file, and the key of the object that holds it, for a member of the account.

    Raises `NotFound`, in words, if it is nowhere, or not theirs."""
    found = Inbox(stores.database, user_id).message(account, message_id)
    files = found["attachments"] or []
    if not 0 <= position < len(files):
        raise NotFound("that message has no such file (any more)")
    file = files[position]
    partition = AccountMonth(account, found["day"][:7])
    known = _known(stores, partition, stores.lake.manifest(ASSET, partition), found["day"])
    row = known.get((message_id, position)) or {}
    sha256 = file.get("sha256") or row.get("sha256")
    if sha256 and stores.lake.objects.exists(attachment_key(sha256)):
        return file.get("name") or "file", attachment_key(sha256)
    state = row.get("state") or ("remote" if file.get("url") else "missing")
    raise NotFound(_ABSENT.get(state, _ABSENT["missing"]))


class _Fetching:
    """Fetches for one run. Stops at the first limit or failure, and when its time is over: the
    rest stays 'remote' until the day is materialised again."""

    def __init__(self, stores: Stores, client: Client | None) -> None:
        self.count = 0
        self.is_out_of_time = False
        self._stores = stores
        self._client = client
        self._until = time.monotonic() + LONGEST_FETCH.total_seconds()

    def fetched(
        self, row: dict[str, Any], known: Mapping[Place, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """The row, with its content if that was or can be had."""
        if row["state"] != "remote":
            return row
        before = known.get((row["message_id"], row["position"]))
        if before is not None and before["url"] == row["url"] and before["state"] != "remote":
            return row | {"sha256": before["sha256"], "state": before["state"]}
        if self._client is None:
            return row
        if time.monotonic() > self._until:
            self.is_out_of_time = True
            return row
        try:
            content = self._client.download(row["url"], LARGEST_ATTACHMENT)
        except FileNotFoundError:
            return row | {"state": "gone"}
        except ValueError:
            return row | {"state": "too large"}
        except Exception:  # a limit, no answer, a dead token: pulling says which
            self._client = None
            return row
        self.count += 1
        return row | {"sha256": self._stores.lake.put_content(content), "state": "stored"}


@contextmanager
def _fetching(stores: Stores, account: str) -> Iterator[_Fetching]:
    connections = Connections(stores)
    if not connections.exists(account) or connections.health(account).state == "paused":
        yield _Fetching(stores, None)
        return
    live = live_side(load_account(stores.database, account).platform)
    try:
        connection = connections.load(account)
    except KeyMissing:
        yield _Fetching(stores, None)
        return
    with live.connect(connection) as client:
        yield _Fetching(stores, client)


def _rows(stores: Stores, messages: pa.Table) -> list[dict[str, Any]]:
    rows = []
    for message in messages.filter(messages["latest"]).to_pylist():
        for position, file in enumerate(message["attachments"] or ()):
            stored = file["sha256"] and stores.lake.objects.exists(attachment_key(file["sha256"]))
            state = "stored" if stored else "remote" if file["url"] else "missing"
            where = {"message_id": message["message_id"], "position": position, "state": state}
            rows.append(file | where)
    return rows
