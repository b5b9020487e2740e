"""From messages to membership: explicit links first, inferred ones for the rest.

Belongs here: resolving native threads, replies and what people said by hand, inheriting
conversations, the two tables that `group` returns. Does not belong here: how an inferred parent is
chosen (`linker.py`).

A conversation is named after its root message, so it has the same name whoever computes it and
whenever. A message links to at most one message before it, in the order of (sent_at, message_id).
An explicit parent that is not among the earlier messages at hand is looked up in `known`; one
that is not known either lends its id to the conversation, so that siblings still come together.

What a person said by hand goes before everything else, within the same rule: the parent that they
named is ignored where it is at hand and came later. Where what they placed is not at hand itself
(a thread's root from before the history that we have), it counts for what hangs on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd

from communicator_pipeline.grouping import reasons
from communicator_pipeline.grouping.arrow import Column, Table, pa, pc
from communicator_pipeline.grouping.carry import carried_table, hand_over
from communicator_pipeline.grouping.flow import (
    FEED,
    FLOW_SCHEMA,
    KINDS,
    Flags,
    Flow,
    Ints,
    flags,
    order_of,
    read_flow,
    times,
)
from communicator_pipeline.grouping.linker import Linker, Links, default_linker
from communicator_pipeline.messages import TIME

MEMBERSHIP_COLUMNS: Final = (
    "message_id",
    "conversation_id",
    "parent_message_id",
    "link_reason",
    "link_score",
    "link_why",
)


Placed = Mapping[str, str | None]
"""What people said by hand: message id → the earlier message of its channel that it continues, or
None where a conversation begins with it."""

NOTHING_PLACED: Final[Placed] = MappingProxyType({})


def explicit_parents(messages: pd.DataFrame, placed: Placed = NOTHING_PLACED) -> set[str]:
    """Ids that these messages, or people about them, name as parents and that are not among them.

    The caller looks up their conversations and hands what it finds to `group` as `known`.
    """
    named: set[str] = set()
    for column in ("thread_id", "reply_to"):
        named.update(messages[column].dropna().unique())
    own = set(messages["message_id"])
    by_hand = {parent for child in placed.keys() & (named | own) if (parent := placed[child])}
    return (named | by_hand) - own - {""}


def group(
    messages: pd.DataFrame,
    carry: pd.DataFrame | None,
    known: Mapping[str, str],
    linker: Linker | None = None,
    placed: Placed = NOTHING_PLACED,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Which conversation each message of a stretch belongs to, and what to hand to the next.

    `messages`: one stretch of an account in any row order, columns as in `messages.MESSAGE_SCHEMA`
    (latest versions, names resolved). `carry`: what the stretch before handed over, None at the
    beginning. `known`: conversations of explicit parents older than both. `placed`: what people
    said by hand. Returns the membership (MEMBERSHIP_COLUMNS, every message once, ordered by sent_at
    and message_id) and the carry-over (CARRY_SCHEMA).
    """
    linker = linker or default_linker()
    rows = _in_order(messages, carry)
    explicit = _explicit(rows, known, placed)
    in_flow = np.flatnonzero(_speaks_in_flow(rows))
    flow = read_flow(rows.table.take(pa.array(in_flow)).select(FLOW_SCHEMA))
    free = np.flatnonzero(rows.new[in_flow] & ~explicit.given[in_flow])
    links = linker.link(flow, free)
    source = explicit.source.copy()
    source[in_flow[free]] = np.where(links.parent >= 0, in_flow[links.parent], -1)
    conversation = explicit.base.take(pa.array(_roots(source)))
    membership = _membership(rows, explicit, source, conversation, in_flow[free], links)
    return membership, hand_over(rows.table, in_flow, flow, conversation)


MESSAGE_COLUMNS: Final = pa.schema(
    [
        ("message_id", pa.string()),
        ("channel_id", pa.string()),
        ("channel_kind", pa.string()),
        ("sent_at", TIME),
        ("author_id", pa.string()),
        ("author_name", pa.string()),
        ("kind", pa.string()),
        ("text", pa.string()),
        ("thread_id", pa.string()),
        ("reply_to", pa.string()),
        ("mentions", pa.list_(pa.string())),
    ]
)
"""What grouping reads of a message."""


@dataclass(slots=True, frozen=True)
class _Rows:
    """Carried and new messages, ordered by (channel_id, sent_at, message_id)."""

    table: Table  # FLOW_SCHEMA and the columns of explicit links
    place: Ints  # rank by (sent_at, message_id) over all channels
    new: Flags  # not carried


def _column(values: pd.Series, type_: Any) -> Column:
    # A column of nothing but None has no type of its own; times may come finer than µs.
    array = pa.array(values, from_pandas=True)
    return (
        pa.nulls(len(array), type_)
        if array.null_count == len(array)
        else array.cast(type_, safe=False)
    )


def _in_order(messages: pd.DataFrame, carry: pd.DataFrame | None) -> _Rows:
    fresh = pa.table(
        {field.name: _column(messages[field.name], field.type) for field in MESSAGE_COLUMNS}
    )
    old = carried_table(carry)
    # A carried message that comes again is the new one: its text may have been edited.
    again = pc.is_in(old["message_id"], value_set=fresh["message_id"].combine_chunks())
    old = old.filter(pc.invert(again))
    table = pa.concat_tables([old, fresh], promote_options="default").combine_chunks()
    place, order = order_of(table)
    new = np.arange(len(table)) >= len(old)
    return _Rows(table.take(pa.array(order)), place[order], new[order])


def _speaks_in_flow(rows: _Rows) -> Flags:
    """What people say in the open: no system messages, nothing inside a native thread."""
    inside = pc.and_(
        pc.is_valid(rows.table["thread_id"]),
        pc.not_equal(rows.table["thread_id"], rows.table["message_id"]),
    )
    return ~(flags(inside) | flags(pc.equal(rows.table["kind"], "system")))


def flow_of(messages: pd.DataFrame) -> tuple[Flow, list[str]]:
    """The flow of some messages without a carry-over, and the ids of its rows; for training."""
    rows = _in_order(messages, None)
    spoken = rows.table.take(pa.array(np.flatnonzero(_speaks_in_flow(rows))))
    return read_flow(spoken.select(FLOW_SCHEMA)), spoken["message_id"].to_pylist()


@dataclass(slots=True, frozen=True)
class _Explicit:
    """What the platform itself says, or a person by hand, per row."""

    given: Flags  # there is nothing to infer
    by_hand: Flags  # a person said it
    named: Column  # the parent's id, null where there is none
    in_thread: Flags  # that parent is a thread's root
    stood_in: Flags  # it is not at hand; what a person said that it continues stands in for it
    source: Ints  # row whose conversation is inherited, -1 where the row has a base of its own
    base: Column  # conversation of a row that inherits from none
    reply: Ints  # row of reply_to, -1 where it is not among the earlier messages at hand
    reply_known: Column  # conversation of reply_to by `known`, null where unknown


def _explicit(rows: _Rows, known: Mapping[str, str], placed: Placed) -> _Explicit:
    own = rows.table["message_id"].combine_chunks()
    by_hand, onto = _said_by_hand(rows, placed)
    hand = pa.array(by_hand)
    thread = pc.if_else(hand, None, _parent_of(rows, "thread_id"))
    reply = pc.if_else(hand, onto, _parent_of(rows, "reply_to"))
    thread_row = _earlier(rows, thread)
    reply_row = _earlier(rows, reply)
    in_thread = flags(pc.is_valid(thread))
    given = in_thread | flags(pc.is_valid(reply)) | by_hand
    named = pc.coalesce(thread, reply)
    anchor = _anchors(own, named, known, placed)
    source = np.where(in_thread, thread_row, reply_row)
    source = np.where(source >= 0, source, _earlier(rows, anchor))
    carried = rows.table["conversation_id"].combine_chunks()
    base = pc.coalesce(
        carried, _conversation_by(known, named), _conversation_by(known, anchor), anchor, named, own
    )
    of_reply = _conversation_by(known, reply)
    stood_in = flags(pc.is_valid(anchor))
    return _Explicit(given, by_hand, named, in_thread, stood_in, source, base, reply_row, of_reply)


def _said_by_hand(rows: _Rows, placed: Placed) -> tuple[Flags, Column]:
    """The new rows that a person placed, and the ids of the parents that they named."""
    own = rows.table["message_id"].combine_chunks()
    by_hand = np.zeros(len(own), np.bool_)
    onto: list[str | None] = [None] * len(own)
    if placed:
        there = flags(pc.is_in(own, value_set=pa.array(sorted(placed), pa.string())))
        chosen = np.flatnonzero(there & rows.new)
        ids = own.take(pa.array(chosen)).to_pylist()
        parents = pa.array([placed[id_] for id_ in ids], pa.string())
        found = pc.fill_null(pc.index_in(parents, value_set=own), -1).to_numpy()
        for row, parent, at in zip(chosen.tolist(), parents.to_pylist(), found, strict=True):
            by_hand[row] = parent is None or at < 0 or rows.place[at] < rows.place[row]
            onto[row] = parent if by_hand[row] else None
    return by_hand, pa.array(onto, pa.string())


def _anchors(own: Column, named: Column, known: Mapping[str, str], placed: Placed) -> Column:
    """Where a person placed a parent that is not at hand: what that continues; elsewhere null."""
    anchors: list[str | None] = [None] * len(own)
    if placed:
        moved = pa.array(sorted(id_ for id_, onto in placed.items() if onto), pa.string())
        absent = pc.invert(pc.is_in(named, value_set=own))
        rows = np.flatnonzero(flags(pc.and_(pc.is_in(named, value_set=moved), absent)))
        for row, parent in zip(rows.tolist(), named.take(pa.array(rows)).to_pylist(), strict=True):
            if parent not in known:
                anchors[row] = placed[parent]
    return pa.array(anchors, pa.string())


def _parent_of(rows: _Rows, column: str) -> Column:
    """The ids a column names, null where it names none, the message itself or another channel.

    Message ids begin with their channel's (see `messages.MESSAGE_SCHEMA`); where they do not,
    any named parent counts.
    """
    table = rows.table
    own, channel = table["message_id"], table["channel_id"]
    named = table[column]
    valid = np.flatnonzero(flags(pc.is_valid(named)) & rows.new)
    fine = np.zeros(len(table), np.bool_)
    for row, parent, mine, place in zip(
        valid.tolist(),
        named.take(pa.array(valid)).to_pylist(),
        own.take(pa.array(valid)).to_pylist(),
        channel.take(pa.array(valid)).to_pylist(),
        strict=True,
    ):
        prefix = f"{place}:"
        elsewhere = mine.startswith(prefix) and not parent.startswith(prefix)
        fine[row] = parent not in ("", mine) and not elsewhere
    return pc.if_else(pa.array(fine), named, None).combine_chunks()


def _earlier(rows: _Rows, named: Column) -> Ints:
    """Row of each named message if it is at hand and came before, else -1."""
    found = pc.index_in(named, value_set=rows.table["message_id"].combine_chunks())
    row = pc.fill_null(found, -1).to_numpy().astype(np.int64)
    return np.where((row >= 0) & (rows.place[row] < rows.place), row, -1)


def _conversation_by(known: Mapping[str, str], ids: Column) -> Column:
    if ids.null_count == len(ids) or not known:
        return pa.nulls(len(ids), pa.string())
    return pa.array([None if i is None else known.get(i) for i in ids.to_pylist()], pa.string())


def _roots(source: Ints) -> Ints:
    """Where each row's chain of sources ends; every chain halves per step."""
    root = np.where(source >= 0, source, np.arange(len(source)))
    while True:
        further = root[root]
        if np.array_equal(further, root):
            return root
        root = further


def _membership(
    rows: _Rows,
    explicit: _Explicit,
    source: Ints,
    conversation: Column,
    free: Ints,
    links: Links,
) -> pd.DataFrame:
    n = len(rows.table)
    own = rows.table["message_id"].combine_chunks()
    code = np.full(n, reasons.ROOT, np.uint8)
    score = np.ones(n)
    code[free], score[free] = links.reason, links.score
    parent = own.take(pa.array(source, mask=source < 0))
    parent = pc.if_else(pa.array(explicit.given), explicit.named, parent)
    in_same = _reply_in_conversation(rows, explicit, conversation)
    parent = pc.if_else(pa.array(in_same), rows.table["reply_to"], parent)

    reason = pa.array(reasons.INFERRED).take(pa.array(code))
    system = flags(pc.equal(rows.table["kind"], "system"))
    reason = pc.if_else(pa.array(system), "system", reason)
    reason = pc.if_else(pa.array(explicit.given), "reply", reason)
    reason = pc.if_else(pa.array(explicit.in_thread), "thread", reason)
    word = pc.if_else(pc.is_valid(explicit.named), "merged", "split")
    reason = pc.if_else(pa.array(explicit.by_hand), word, reason)

    whys = pa.array(_whys(rows, explicit, source, code, system), pa.string())
    out = np.flatnonzero(rows.new)
    out = out[np.argsort(rows.place[out])]
    picked = pa.array(out)
    return pd.DataFrame(
        {
            "message_id": own.take(picked).to_pandas(),
            "conversation_id": conversation.take(picked).to_pandas(),
            "parent_message_id": parent.take(picked).to_pandas(),
            "link_reason": reason.take(picked).to_pandas(),
            "link_score": score[out],
            "link_why": whys.take(picked).to_pandas(),
        }
    )


def _reply_in_conversation(rows: _Rows, explicit: _Explicit, conversation: Column) -> Flags:
    """Where reply_to is of the conversation that the row was put into.

    Asked of conversations, not of threads, because that is also known of older days.
    """
    at_hand = conversation.take(pa.array(explicit.reply, mask=explicit.reply < 0))
    of_reply = pc.coalesce(at_hand, explicit.reply_known)
    same = flags(pc.fill_null(pc.equal(of_reply, conversation), False))
    return same & explicit.given & ~explicit.by_hand


def _whys(
    rows: _Rows, explicit: _Explicit, source: Ints, code: np.ndarray, system: Flags
) -> list[str]:
    names = rows.table["author_name"].to_pylist()
    kinds = rows.table["channel_kind"].to_pylist()
    time = times(rows.table)
    gaps = np.where(source >= 0, time - time[source], 0).tolist()
    seen = np.where(explicit.stood_in, -1, source)
    feed = KINDS[FEED]
    whys: list[str] = []
    for row, (parent, reason, by_hand, named, given, thread, is_system) in enumerate(
        zip(
            seen.tolist(),
            code.tolist(),
            explicit.by_hand.tolist(),
            flags(pc.is_valid(explicit.named)).tolist(),
            explicit.given.tolist(),
            explicit.in_thread.tolist(),
            system.tolist(),
            strict=True,
        )
    ):
        if by_hand and not named:
            whys.append(reasons.SPLIT_WHY)
        elif by_hand:
            whys.append(reasons.merged_why(names[parent] if parent >= 0 else "", gaps[row]))
        elif given:
            whys.append(
                reasons.explicit_why(thread, names[parent] if parent >= 0 else "", gaps[row])
            )
        elif is_system:
            whys.append(reasons.SYSTEM_WHY)
        elif parent < 0:
            whys.append(reasons.FEED_WHY if kinds[row] == feed else reasons.ROOT_WHY)
        else:
            whys.append(reasons.inferred_why(reason, names[row], names[parent], gaps[row]))
    return whys
