"""How much waits where, since when, and how long the stages take."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.compute as pc

from communicator_pipeline.chain import analyses, conversations, raw_messages
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.database import Row
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.landing import read_landing
from communicator_pipeline.storage.queue import IngestionQueue
from communicator_pipeline.storage.work import DirtyDay, WorkQueue


@dataclass(frozen=True)
class Depth:
    """What waits before a stage of an account."""

    account: str
    waiting: str  # what it waits for
    depth: int
    unit: str
    oldest: str | None  # since when, UTC as the database spells it; None if nothing waits


def depths(stores: Stores, account: str) -> list[Depth]:
    """What was pushed and has not landed, has landed and is not merged, has changed and is not
    analysed, needs a reply and has no draft."""
    dirty = WorkQueue(stores.database).dirty(account)
    unmerged, unanalysed = 0, []
    unmerged_since: list[str] = []
    for day in dirty:
        landed = _unmerged(stores, day)
        unmerged += landed
        if landed:
            unmerged_since.append(day.since)
        else:
            unanalysed.append(day.since)
    undrafted = stores.database.execute(
        "SELECT count(*) AS depth, min(a.waiting_since) AS oldest FROM conversations AS c "
        "JOIN analyses AS a USING (account, conversation_id, day) LEFT JOIN drafts AS d "
        "USING (account, conversation_id, day) "
        "WHERE c.account = ? AND c.needs_reply AND d.version IS NULL",
        (account,),
    )[0]
    behind = _days_behind(stores, account)
    queue = IngestionQueue(stores.database).depth(account)
    return [
        Depth(account, "pushed, not landed", queue.waiting, "pushes", queue.oldest),
        Depth(
            account, "landed, not merged", unmerged, "messages", min(unmerged_since, default=None)
        ),
        Depth(
            account,
            "changed, not analysed",
            max(len(unanalysed), behind),
            "days",
            min(unanalysed, default=None),
        ),
        Depth(
            account,
            "needs a reply, not drafted",
            undrafted["depth"],
            "conversations",
            undrafted["oldest"],
        ),
    ]


def timings(stores: Stores, account: str) -> list[Row]:
    """stage, rows, seconds, finished_at of each stage's newest runs over the account's months."""
    return stores.database.execute(
        "SELECT stage, sum(item_count) AS item_count, sum(seconds) AS seconds, "
        "max(finished_at) AS finished_at FROM stage_timings WHERE account = ? "
        "GROUP BY stage ORDER BY min(finished_at)",
        (account,),
    )


def _unmerged(stores: Stores, day: DirtyDay) -> int:
    """Messages of a touched day that have landed and are not in `raw_messages`."""
    partition = AccountMonth(day.account, day.day[:7])
    landed = pc.count_distinct(read_landing(stores.lake, partition, [day.day])["message_id"])
    merged = stores.lake.manifest(raw_messages.ASSET, partition).days.get(day.day)
    if merged is None:
        return int(landed.as_py())
    table = stores.lake.read_day(raw_messages.ASSET, partition, merged)
    return max(0, int(landed.as_py()) - int(pc.sum(table["latest"]).as_py() or 0))


def _days_behind(stores: Stores, account: str) -> int:
    """Days with messages that have never been grouped, or grouped and never analysed."""
    behind = 0
    for month in stores.lake.months(raw_messages.ASSET, account):
        partition = AccountMonth(account, month)
        merged = stores.lake.manifest(raw_messages.ASSET, partition).days
        grouped = stores.lake.manifest(conversations.ASSET, partition).days
        behind += len(set(merged) - set(grouped))
        if grouped and not stores.lake.manifest(analyses.ASSET, partition).entries:
            behind += len(grouped)
    return behind
