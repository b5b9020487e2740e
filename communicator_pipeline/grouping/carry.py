"""What one stretch of an account hands over to the next.

Belongs here: the shape, the bounds and the order of the carry-over. Does not belong here: what
is done with it (`links.py`).

The carry-over holds, per channel, the newest `WINDOW` messages that are at most `HORIZON` older
than the account's newest message. No linker looks further back, so nothing more is needed; and
because nothing else goes into it, two histories that differ only in what lies before it hand
over the same, and a change in an old day stops rippling there. A channel that has been silent
for longer than the horizon drops out.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from communicator_pipeline.grouping.arrow import Column, Table, pa, pc
from communicator_pipeline.grouping.flow import (
    HORIZON,
    NOBODY,
    READ_CHARACTERS,
    WINDOW,
    Flow,
    Ints,
    positions_from_end,
)
from communicator_pipeline.messages import TIME

CARRY_SCHEMA: Final = pa.schema(
    [
        ("message_id", pa.string()),
        ("channel_id", pa.string()),
        ("channel_kind", pa.string()),
        ("sent_at", TIME),
        ("author_id", pa.string()),
        ("author_name", pa.string()),
        ("text", pa.string()),  # its first READ_CHARACTERS characters
        ("conversation_id", pa.string()),
        ("addressed", pa.list_(pa.string())),  # author ids, as found in the message's own day
        ("clarity", pa.list_(pa.uint8())),  # how clearly each of them was addressed
    ]
)


def carried_table(carry: pd.DataFrame | None) -> Table:
    """The carry-over as a table; an empty one at the beginning of a history."""
    if carry is None:
        return CARRY_SCHEMA.empty_table()
    return pa.Table.from_pandas(carry, schema=CARRY_SCHEMA, preserve_index=False)


def hand_over(table: Table, in_flow: Ints, flow: Flow, conversation: Column) -> pd.DataFrame:
    """The part of the flow that a later message may still look back upon.

    `table` and `conversation` have a row per message, ordered by (channel_id, sent_at,
    message_id); `in_flow` are the rows that `flow` describes.
    """
    from_end = positions_from_end(flow.channel)
    newest = flow.time.max() if len(flow) else 0
    kept = np.flatnonzero((flow.time >= newest - HORIZON) & (from_end < WINDOW))
    rows = pa.array(in_flow[kept])
    columns = {
        field.name: table[field.name].take(rows)
        for field in CARRY_SCHEMA
        if field.name not in ("text", "conversation_id", "addressed", "clarity")
    }
    person, clarity = flow.addressed[kept], flow.clarity[kept]
    addressed = flow.person_ids.take(pa.array(person[person != NOBODY]))
    counts = (person != NOBODY).sum(axis=1)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    columns["text"] = pc.utf8_slice_codeunits(table["text"].take(rows), 0, READ_CHARACTERS)
    columns["conversation_id"] = conversation.take(rows)
    columns["addressed"] = pa.ListArray.from_arrays(offsets, addressed)
    columns["clarity"] = pa.ListArray.from_arrays(offsets, pa.array(clarity[person != NOBODY]))
    ordered = pa.table(columns).select(CARRY_SCHEMA.names).cast(CARRY_SCHEMA)
    return pd.DataFrame(ordered.to_pandas())
