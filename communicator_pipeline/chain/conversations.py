"""`conversations`: which conversation each message belongs to, and why."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Mapping
from itertools import pairwise

import pandas as pd
import pyarrow as pa

from communicator_pipeline.chain import raw_messages
from communicator_pipeline.chain.ripples import mark_all, mark_later_days
from communicator_pipeline.chain.scope import MonthReport, Scope
from communicator_pipeline.grouping import Placed, explicit_parents, group
from communicator_pipeline.messages import Directory, resolve_names, table_schema
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import directory
from communicator_pipeline.storage.corrections import placements
from communicator_pipeline.storage.lake import (
    AccountMonth,
    Manifest,
    NewDays,
    carry_of,
    newest_first,
    parquet_digest,
    texts,
)

ASSET = "conversations"

MEMBERSHIP_SCHEMA = table_schema(
    [
        ("message_id", pa.string()),
        ("conversation_id", pa.string()),  # the message_id of its root
        ("parent_message_id", pa.string()),  # null for a root
        ("link_reason", pa.string()),  # one of `grouping.LinkReason`
        ("link_score", pa.float64()),  # 0…1
        ("link_why", pa.string()),  # the reason in words
        ("sent_at", pa.timestamp("us", tz="UTC")),
        ("kind", pa.string()),
    ]
)

_READ = (
    "message_id channel_id channel_kind sent_at author_id author_name kind text thread_id reply_to "
    "mentions latest deleted"
).split()


def materialise(stores: Stores, partition: AccountMonth, scope: Scope) -> MonthReport:
    """Group the month's days in order, each with what the day before hands over.

    Where what is handed over changes, the next day with data is marked dirty, unless this run
    comes to it anyway; where a message changes its conversation, so are the days whose threads
    and replies hang on it, and those on which a conversation ends now. What people merged and
    split goes before what is read out of the messages.
    """
    numbers: Counter[str] = Counter()
    processed: list[str] = []
    told: dict[str, str] = {}

    def group_days(manifest: Manifest) -> NewDays:
        raw = stores.lake.manifest(raw_messages.ASSET, partition)
        processed[:] = scope.chosen(raw.days)
        numbers.clear()
        told.clear()
        return _group_days(stores, partition, scope, manifest, raw, processed, numbers, told)

    manifest, changed = stores.lake.update(ASSET, partition, group_days)
    mark_all(stores, partition, told)
    return MonthReport(
        partition, manifest, processed, [day for day in changed if "." not in day], dict(numbers)
    )


def grouped_again(stores: Stores, partition: AccountMonth, day: str) -> pa.Table:
    """The day grouped anew from what is stored, without writing: message_id, conversation_id."""
    raw = stores.lake.manifest(raw_messages.ASSET, partition)
    if day not in raw.days:
        return pa.table({"message_id": [], "conversation_id": []})
    names = directory(stores.database, partition.account)
    messages = readable_messages(
        stores.lake.read_day(raw_messages.ASSET, partition, raw.days[day]), names
    )
    manifest = stores.lake.manifest(ASSET, partition)
    carry = _carry_before(stores, partition, manifest, raw, {}, day)
    placed = placements(stores.database, partition.account)
    known = _known_parents(stores, partition, {day: messages}, placed)
    membership, _ = group(messages, carry, known, placed=placed)
    return pa.Table.from_pandas(membership[["message_id", "conversation_id"]], preserve_index=False)


def _group_days(
    stores: Stores,
    partition: AccountMonth,
    scope: Scope,
    manifest: Manifest,
    raw: Manifest,
    days: list[str],
    numbers: Counter[str],
    told: dict[str, str],
) -> NewDays:
    """The chosen days, and those behind them that are handed something else than before.

    `days` grows by the latter: they are marked too, for what stands on them is redone by the
    run that takes the mark. So a change travels through a month in one go.
    """
    names = directory(stores.database, partition.account)

    def read(day: str) -> pd.DataFrame:
        return readable_messages(
            stores.lake.read_day(raw_messages.ASSET, partition, raw.days[day]), names
        )

    placed = placements(stores.database, partition.account)
    messages = {day: read(day) for day in days}
    known = _known_parents(stores, partition, messages, placed)
    fresh: dict[str, str] = {}
    written: dict[str, pa.Table | None] = {}
    moved: set[str] = set()
    left: dict[str, set[str]] = {}
    for day, following in pairwise([*raw.days, None]):
        if day not in messages or day is None:
            continue
        carry = _carry_before(stores, partition, manifest, raw, written, day)
        frame = messages.pop(day)
        membership, handed_over = group(frame, carry, ChainMap(fresh, known), placed=placed)
        membership = membership.merge(frame[["message_id", "sent_at", "kind"]], how="left")
        table = pa.Table.from_pandas(membership, schema=MEMBERSHIP_SCHEMA, preserve_index=False)
        fresh |= _conversation_of(table)
        written[day] = table
        handed = pa.Table.from_pandas(handed_over, preserve_index=False)
        written[carry_of(day)] = handed
        numbers["messages"] += table.num_rows
        numbers["conversations begun"] += int(membership["parent_message_id"].isna().sum())
        for reason, count in membership["link_reason"].value_counts().items():
            numbers[f"linked by {reason}"] += int(count)
        before, now = _before(stores, partition, manifest, day), _conversation_of(table)
        moved |= {message for message, of in now.items() if before.get(message) != of}
        left[day] = set(before.values()) - set(now.values())
        if not _hands_over_something_else(manifest, day, handed):
            continue
        if following is None:
            told |= _tell_next_month(stores, partition, scope, day)
        elif following not in messages:
            messages[following] = read(following)
            known |= _known_parents(stores, partition, {following: messages[following]}, placed)
            days.append(following)
            told |= _mark(stores, partition, following, day)
    told |= mark_later_days(
        stores,
        partition,
        scope,
        days,
        raw_messages.ASSET,
        "latest AND (thread_id IN (FROM changed) OR reply_to IN (FROM changed))",
        moved,
        "a message that is answered there has moved",
    )
    told |= mark_later_days(
        stores,
        partition,
        scope,
        days,
        raw_messages.ASSET,
        "latest AND (message_id IN (FROM changed) OR thread_id IN (FROM changed) "
        "OR reply_to IN (FROM changed))",
        {child for child, parent in placed.items() if parent in moved},
        "what a person said that it continues has moved",
    )
    told |= _mark_new_ends(stores, partition, scope, left)
    return written


def readable_messages(versions: pa.Table, names: Directory) -> pd.DataFrame:
    """The latest versions as `group` takes them, with names and mentions spelled out."""
    latest = versions.select(_READ).filter(versions["latest"]).drop_columns(["latest"])
    frame = latest.to_pandas()
    named = frame["author_id"].map(names)
    frame["author_name"] = named.where(named.notna(), frame["author_name"])
    marked = frame["text"].str.contains("<", regex=False)
    frame.loc[marked, "text"] = [resolve_names(t, names) for t in frame.loc[marked, "text"]]
    frame["mentions"] = [list(ids) if ids is not None else [] for ids in frame["mentions"]]
    return frame


def _known_parents(
    stores: Stores, partition: AccountMonth, messages: dict[str, pd.DataFrame], placed: Placed
) -> dict[str, str]:
    """message_id → conversation_id for the explicit parents that stand in other days."""
    wanted: set[str] = set()
    for frame in messages.values():
        wanted |= explicit_parents(frame, placed)
    for frame in messages.values():
        wanted -= set(frame.loc[frame["message_id"].isin(wanted), "message_id"])
    if not wanted:
        return {}
    last = max(messages, default="")
    files = stores.lake.day_files(ASSET, partition.account, last=last)
    found: dict[str, str] = {}
    for stretch in newest_first(file for file in files if file[1] not in messages):
        rows = stores.lake.query(
            "SELECT message_id, conversation_id FROM members SEMI JOIN wanted USING (message_id)",
            {
                "members": [address for address, _ in stretch],
                "wanted": pa.table({"message_id": sorted(wanted - found.keys())}),
            },
        )
        found |= _conversation_of(rows)
        if wanted <= found.keys():
            break
    return found


def _carry_before(
    stores: Stores,
    partition: AccountMonth,
    manifest: Manifest,
    raw: Manifest,
    written: dict[str, pa.Table | None],
    day: str,
) -> pd.DataFrame | None:
    """What the day with data before this one handed over; None if there is no such day."""
    earlier = [d for d in raw.days if d < day]
    if earlier:
        entry = carry_of(earlier[-1])
        fresh = written.get(entry)
        if fresh is not None:
            return fresh.to_pandas()
        if entry in manifest.entries:
            return stores.lake.read_day(ASSET, partition, manifest.entries[entry]).to_pandas()
        return None
    months = [m for m in stores.lake.months(ASSET, partition.account) if m < partition.month]
    for month in reversed(months):
        before = AccountMonth(partition.account, month)
        held = stores.lake.manifest(ASSET, before)
        if held.days:
            entry = carry_of(max(held.days))
            if entry in held.entries:
                return stores.lake.read_day(ASSET, before, held.entries[entry]).to_pandas()
            return None
    return None


def _hands_over_something_else(manifest: Manifest, day: str, carry: pa.Table) -> bool:
    old = manifest.entries.get(carry_of(day))
    return carry.num_rows > 0 if old is None else old.digest != parquet_digest(carry)


def _tell_next_month(
    stores: Stores, partition: AccountMonth, scope: Scope, day: str
) -> dict[str, str]:
    months = stores.lake.months(raw_messages.ASSET, partition.account)
    month = next((m for m in months if m > partition.month), None)
    if month is None:
        return {}
    later = stores.lake.manifest(raw_messages.ASSET, AccountMonth(partition.account, month))
    following = min(later.days, default=None)
    if following is None or scope.covers(partition.account, following):
        return {}
    return _mark(stores, partition, following, day)


def _mark(stores: Stores, partition: AccountMonth, following: str, day: str) -> dict[str, str]:
    told = {following: f"{day} hands over something else"}
    mark_all(stores, partition, told)
    return told


def _mark_new_ends(
    stores: Stores, partition: AccountMonth, scope: Scope, left: Mapping[str, set[str]]
) -> dict[str, str]:
    """Mark the earlier days of conversations that went on on a day and do so no more: the last of
    them is their newest now, and drafts stand there."""
    gone = set().union(*left.values())
    if not gone:
        return {}
    last = max(day for day, ids in left.items() if ids)
    earlier = [
        address
        for address, day in stores.lake.day_files(ASSET, partition.account, last=last)
        if day < last and not scope.covers(partition.account, day)
    ]
    if not earlier:
        return {}
    found = stores.lake.query(
        "SELECT DISTINCT strftime(sent_at, '%Y-%m-%d') AS day FROM earlier "
        "WHERE conversation_id IN (FROM gone) ORDER BY day",
        {"earlier": earlier, "gone": pa.table({"id": sorted(gone)})},
    )
    told = dict.fromkeys(texts(found["day"]), "a conversation does not go on from there any more")
    mark_all(stores, partition, told)
    return told


def _before(
    stores: Stores, partition: AccountMonth, manifest: Manifest, day: str
) -> dict[str, str]:
    """message_id → conversation_id of a day as it was grouped before."""
    if day not in manifest.entries:
        return {}
    return _conversation_of(stores.lake.read_day(ASSET, partition, manifest.entries[day]))


def _conversation_of(membership: pa.Table) -> dict[str, str]:
    return dict(
        zip(texts(membership["message_id"]), texts(membership["conversation_id"]), strict=True)
    )
