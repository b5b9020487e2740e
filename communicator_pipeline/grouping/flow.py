"""A channel's flow as arrays: who spoke when, to whom, and in what shape.

Belongs here: cutting texts into tokens, resolving who is addressed, the recent window and pace.
Does not belong here: choosing a parent (`linker.py`) or anything about native threads
(`links.py`): replies inside a native thread are not part of the flow.

Everything said about a message depends on its *window* only: the `WINDOW` messages before it in
its channel that are at most `HORIZON` old. That is what makes day-by-day processing equal to
processing at once, and what lets a change in an old day stop rippling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from communicator_pipeline.grouping import cues
from communicator_pipeline.grouping.arrow import Column, Table, pa, pc

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

Array = npt.NDArray[Any]
"""Numbers of a type that the values decide."""

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

WINDOW: Final = 64
"""Messages looked back upon. In the training data 99 of 100 answers are nearer than that."""

HORIZON: Final = 3 * DAY
"""How old they may be, µs: a question on Friday evening may be taken up on Monday morning."""

READ_CHARACTERS: Final = 400
"""A text is read no further: it bounds the work, and what a turn answers stands at its front."""

PACE_GAPS: Final = 16
PACE_PRIOR_GAPS: Final = 2
PACE_PRIOR: Final = 2 * MINUTE
PACE_FLOOR: Final = 1 * SECOND
"""Pace is the geometric mean of the last 16 gaps and 2 imagined ones of two minutes, so that the
first messages of a channel have a pace and a night does not count more than its logarithm."""

LOG_UNITS: Final = 256
"""Logarithms are summed as integers of 1/256 of an octave: sums are then exact in any order."""

KINDS: Final = ("channel", "group", "dm", "feed")
CHANNEL, GROUP, DM, FEED = range(len(KINDS))

NOBODY: Final = -1
MENTIONED, CALLED, NAMED_AT_EDGE, NAMED = 4, 3, 2, 1
"""How clearly a message addresses a person: an @mention that the platform resolved; 'maya: ...'
or '@maya'; the name as first or last word; the name somewhere."""

_WORD_BREAK: Final = r"[^\p{L}\p{N}_]+"
_CALL: Final = r"^\s*(?:@\s*)?[^\s:,>]{1,32}(?:\s*[:,>])|^\s*@"
_AT: Final = r"(?:^|[^\p{L}\p{N}_])@(?P<at>[\p{L}\p{N}_]+)"
_IDEOGRAPH: Final = r"([\p{Han}\p{Hiragana}\p{Katakana}])"


@dataclass(slots=True, frozen=True)
class Flow:
    """n messages, ordered by (channel, sent_at, message_id); codes are local to one call.

    Arrays have length n unless said otherwise. Tokens are int32 codes, -1 for none.
    """

    time: Ints  # µs since 1970, UTC
    channel: Ints
    kind: Bytes  # index into KINDS
    author: Codes
    first: Ints  # index of the first message of its window; equal to its own index if alone
    addressed: Codes  # (n, 2): person codes, the clearest first, NOBODY for none
    clarity: Bytes  # (n, 2): MENTIONED … NAMED, 0 for none
    call: Codes  # token that calls someone ('maya' in 'maya: hi'), whether or not known
    name: Codes  # first token of the author's name
    token: Codes  # (t,): all tokens of all messages, in order
    token_bytes: Codes  # (t,): their length in UTF-8
    token_offset: Ints  # (n + 1,)
    length: Codes  # characters
    question: Flags  # carries a question mark
    link: Flags  # carries a URL
    cue: Bytes  # bit set of first-tokens' cues, see CUE_*
    pace: npt.NDArray[np.float64]  # µs
    person_ids: Column  # what the person codes stand for

    def __len__(self) -> int:
        return len(self.time)


CUE_GREETING, CUE_THANKS, CUE_ASSENT, CUE_QUESTION, CUE_CONNECTIVE = 1, 2, 4, 8, 16
_CUES: Final = (
    (CUE_GREETING, cues.GREETING),
    (CUE_THANKS, cues.THANKS),
    (CUE_ASSENT, cues.ASSENT),
    (CUE_QUESTION, cues.QUESTION),
    (CUE_CONNECTIVE, cues.CONNECTIVE),
)
_CUE_TOKENS: Final = 3
"""Function cues are looked for among the first three tokens: later they are just grammar."""


FLOW_SCHEMA: Final = (
    "message_id",
    "channel_id",
    "channel_kind",
    "sent_at",
    "author_id",
    "author_name",
    "text",
    "mentions",
    "addressed",
    "clarity",
)
"""Columns that `read_flow` reads; `addressed` and `clarity` are null except in carried rows."""


def flags(values: Column) -> Flags:
    """Booleans as a numpy array, null as false."""
    whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return np.asarray(pc.fill_null(whole, False).to_numpy(zero_copy_only=False))


def times(table: Table) -> Ints:
    """`sent_at` as µs since 1970, UTC."""
    return np.asarray(table["sent_at"].cast(pa.int64()).to_numpy())


def _rank(ids: Column) -> Ints:
    """Rank of each string among all of them, in order of code points."""
    rank = np.empty(len(ids), np.int64)
    rank[pc.sort_indices(ids).to_numpy()] = np.arange(len(ids))
    return rank


def channel_codes(table: Table) -> Ints:
    """Channels as integers, in the order of their ids."""
    encoded = table["channel_id"].combine_chunks().dictionary_encode()
    return np.asarray(_rank(encoded.dictionary)[encoded.indices.to_numpy()])


def order_of(table: Table) -> tuple[Ints, Ints]:
    """Rank of each row by (sent_at, message_id), and the order by (channel_id, that rank)."""
    place = np.empty(len(table), np.int64)
    place[np.lexsort((_rank(table["message_id"]), times(table)))] = np.arange(len(table))
    return place, np.lexsort((place, channel_codes(table)))


def positions_from_end(channel: Ints) -> Ints:
    """How many messages of its channel follow each message; rows are ordered by channel."""
    last = np.searchsorted(channel, channel, side="right") - 1
    return np.asarray(last - np.arange(len(channel)))


def windows(time: Ints, channel: Ints) -> Ints:
    """First index of each message's window; messages are ordered by (channel, time)."""
    n = len(time)
    index = np.arange(n)
    if n == 0:
        return index
    starts = np.flatnonzero(np.diff(channel, prepend=channel[0] - 1))
    channel_start = np.repeat(starts, np.diff(starts, append=n))
    first = np.maximum(channel_start, index - WINDOW)
    # A bounded number of vectorised steps forward replaces a search per message.
    while True:
        stale = (first < index) & (time - time[first] > HORIZON)
        if not stale.any():
            return first
        first = first + stale


def paces(time: Ints, first: Ints) -> npt.NDArray[np.float64]:
    """Geometric mean of the recent gaps of each message's window, µs."""
    n = len(time)
    gap = np.diff(time, prepend=time[:1]) if n else time
    # Before message i only the gaps among its predecessors are known, never its own.
    octaves = np.rint(np.log2(np.maximum(gap, PACE_FLOOR)) * LOG_UNITS).astype(np.int64)
    total = np.concatenate([[0], np.cumsum(octaves)])
    index = np.arange(n)
    oldest = np.minimum(np.maximum(first + 1, index - PACE_GAPS), index)
    count = index - oldest
    prior = round(np.log2(PACE_PRIOR) * LOG_UNITS) * PACE_PRIOR_GAPS
    mean = (total[index] - total[oldest] + prior) / (count + PACE_PRIOR_GAPS)
    return np.asarray(np.exp2(mean / LOG_UNITS))


def behind(values: Array, fill: int) -> Array:
    """(n, WINDOW) view: column k of row i is `values[i - WINDOW + k]`, so nearest is last."""
    padded = np.concatenate([np.full(WINDOW, fill, values.dtype), values])
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[: len(values)]


def _text(rows: Table, column: str) -> Column:
    """A column of strings without nulls."""
    return pc.fill_null(rows[column], "").combine_chunks()


def _cut(texts: Column) -> Column:
    """Lower-case texts as lists of tokens; an ideograph is a token of its own."""
    if pc.any(pc.match_substring_regex(texts, _IDEOGRAPH)).as_py():
        texts = pc.replace_substring_regex(texts, _IDEOGRAPH, r" \1 ")
    return pc.split_pattern_regex(texts, _WORD_BREAK)


def _tokens(texts: Column) -> tuple[Column, Ints]:
    """All non-empty tokens in order, and where each text's begin: (t,), (n + 1,)."""
    lists = _cut(texts)
    values = lists.flatten()
    offsets = lists.offsets.to_numpy().astype(np.int64)
    offsets = offsets - offsets[0]
    keep = pc.not_equal(values, "").to_numpy(zero_copy_only=False)
    kept = np.concatenate([[0], np.cumsum(keep)])
    return values.filter(pa.array(keep)), kept[offsets]


def _at(tokens: Codes, offsets: Ints, position: int) -> Codes:
    """The token at a position of each text (negative from its end), -1 where there is none."""
    start, stop = offsets[:-1], offsets[1:]
    where = start + position if position >= 0 else stop + position
    there = (where >= start) & (where < stop)
    found = np.full(len(start), -1, np.int32)
    found[there] = tokens[where[there]]
    return found


def _cue_bits(tokens: Codes, offsets: Ints, dictionary: Column) -> Bytes:
    """Which function cues stand at the front of each text."""
    bits = np.zeros(len(dictionary) + 1, np.uint8)  # the last entry serves token -1
    for bit, words in _CUES:
        hit = pc.is_in(dictionary, value_set=pa.array(sorted(words)))
        bits[:-1] |= hit.to_numpy(zero_copy_only=False).astype(np.uint8) * np.uint8(bit)
    found = np.zeros(len(offsets) - 1, np.uint8)
    for position in range(_CUE_TOKENS):
        found |= bits[_at(tokens, offsets, position)]
    return found


def _mentioned(mentions: Column, person_ids: Column, author: Codes) -> tuple[Codes, Bytes]:
    """The first two persons a message @mentions, other than its author."""
    n = len(author)
    addressed = np.full((n, 2), NOBODY, np.int32)
    flat = mentions.flatten()
    if len(flat) == 0:
        return addressed, np.zeros((n, 2), np.uint8)
    rows = pc.list_parent_indices(mentions).to_numpy()
    codes = pc.fill_null(pc.index_in(flat, value_set=person_ids), NOBODY).to_numpy()
    fine = (codes != NOBODY) & (codes != author[rows])
    rows, codes = rows[fine], codes[fine]
    once = np.sort(np.unique(rows * len(person_ids) + codes, return_index=True)[1])
    rows, codes = rows[once], codes[once]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    fine = rank < 2
    addressed[rows[fine], rank[fine]] = codes[fine]
    return addressed, np.where(addressed != NOBODY, MENTIONED, 0).astype(np.uint8)


@dataclass(slots=True, frozen=True)
class _Names:
    """Tokens of the authors' names and of the places where a text may name one; each (n,)."""

    first: Codes
    second: Codes
    call: Codes
    front: Codes
    back: Codes


_ROWS_AT_ONCE: Final = 16_384
"""Rows × WINDOW bytes of a chunk stay within the processor's cache."""


def _named(
    names: _Names, author: Codes, start: Ints, tokens: Codes, offsets: Ints, name_tokens: Flags
) -> tuple[Codes, Bytes]:
    """The two persons of its window that each message names most clearly, nearest first."""
    n = len(author)
    addressed = np.full((n, 2), NOBODY, np.int32)
    clarity = np.zeros((n, 2), np.uint8)
    rows = np.repeat(np.arange(n), np.diff(offsets))
    spoken = np.flatnonzero(name_tokens[tokens])
    rows, said = rows[spoken], tokens[spoken]
    # Only messages with a word that is somebody's name can name anybody.
    candidates = np.unique(rows)
    first_back, second_back = behind(names.first, -2), behind(names.second, -2)
    author_back = behind(author, -2)
    for lo in range(0, len(candidates), _ROWS_AT_ONCE):
        part = candidates[lo : lo + _ROWS_AT_ONCE]
        level = np.zeros((len(part), WINDOW), np.uint8)
        said_lo, said_hi = np.searchsorted(rows, [part[0], part[-1] + 1])
        part_rows = np.searchsorted(part, rows[said_lo:said_hi])
        word = said[said_lo:said_hi, None]
        at_row = rows[said_lo:said_hi]
        hit, column = np.nonzero((first_back[at_row] == word) | (second_back[at_row] == word))
        level[part_rows[hit], column] = NAMED
        near = first_back[part]
        for token, value in (
            (names.front, NAMED_AT_EDGE),
            (names.back, NAMED_AT_EDGE),
            (names.call, CALLED),
        ):
            level[near == token[part, None]] = value
        who = author_back[part]
        reach = np.arange(WINDOW)[None, :] >= (WINDOW - (part - start[part]))[:, None]
        level[~reach | (who == author[part, None])] = 0
        for slot in range(2):
            # Nearest is last, so the reversed argmax takes the nearest among the clearest.
            best = WINDOW - 1 - np.argmax(level[:, ::-1], axis=1)
            line = np.arange(len(part))
            top = level[line, best]
            person = np.where(top > 0, who[line, best], NOBODY)
            addressed[part, slot], clarity[part, slot] = person, top
            level[who == person[:, None]] = 0
    return addressed, clarity


def _merge(mentioned: tuple[Codes, Bytes], named: tuple[Codes, Bytes]) -> tuple[Codes, Bytes]:
    """Mentions first, then names of other persons, two in all."""
    person = np.concatenate([mentioned[0], named[0]], axis=1)
    clarity = np.concatenate([mentioned[1], named[1]], axis=1)
    for slot in (2, 3):
        repeated = (person[:, :2] == person[:, slot, None]).any(axis=1)
        clarity[repeated, slot] = 0
    order = np.argsort(-clarity.astype(np.int16), axis=1, kind="stable")[:, :2]
    clarity = np.take_along_axis(clarity, order, axis=1)
    person = np.where(clarity > 0, np.take_along_axis(person, order, axis=1), NOBODY)
    return person.astype(np.int32), clarity


def read_flow(rows: Table) -> Flow:
    """Arrays for messages (FLOW_SCHEMA) already ordered by (channel_id, sent_at, message_id)."""
    n = len(rows)
    text = pc.utf8_slice_codeunits(_text(rows, "text"), 0, READ_CHARACTERS)
    lower = pc.utf8_lower(text)
    time = times(rows)
    channel = channel_codes(rows)
    first = windows(time, channel)

    author_ids = _text(rows, "author_id")
    # Without an author nobody is the same author as anybody.
    nameless = pc.binary_join_element_wise("\0", _text(rows, "message_id"), "")
    author_ids = pc.if_else(pc.equal(author_ids, ""), nameless, author_ids)
    mentions = rows["mentions"].combine_chunks()
    settled = rows["addressed"].combine_chunks()
    people = pa.concat_arrays([author_ids, mentions.flatten(), settled.flatten()])
    encoded = people.dictionary_encode()
    author = encoded.indices.to_numpy()[:n].astype(np.int32)

    tokens, offsets = _tokens(lower)
    names, name_offsets = _tokens(pc.utf8_lower(_text(rows, "author_name")))
    at = pc.fill_null(pc.struct_field(pc.extract_regex(lower, _AT), "at"), "")
    words = pa.concat_arrays([tokens, names, at]).dictionary_encode()
    codes = words.indices.to_numpy().astype(np.int32)
    token = codes[: len(tokens)]
    name_code = codes[len(tokens) : len(tokens) + len(names)]
    at_code = np.where(
        pc.equal(at, "").to_numpy(zero_copy_only=False), -1, codes[len(tokens) + len(names) :]
    )
    called = pc.match_substring_regex(lower, _CALL).to_numpy(zero_copy_only=False)
    front = _at(token, offsets, 0)
    call = np.where(at_code >= 0, at_code, np.where(called, front, -1)).astype(np.int32)
    name = _at(name_code, name_offsets, 0)
    second = _at(name_code, name_offsets, 1)
    name_tokens = np.zeros(len(words.dictionary) + 1, np.bool_)
    name_tokens[name] = True
    name_tokens[second] = True
    name_tokens[-1] = False
    width = pc.binary_length(words.dictionary).to_numpy().astype(np.int32)
    # A name of one letter is a word in some language.
    name_tokens[:-1] &= width >= 2

    # A missing name must not equal a missing word.
    known_name = np.where(name < 0, -3, name).astype(np.int32)
    known_second = np.where(second < 0, -3, second).astype(np.int32)
    name_known = _Names(known_name, known_second, call, front, _at(token, offsets, -1))
    addressed, clarity = _merge(
        _mentioned(mentions, encoded.dictionary, author),
        _named(name_known, author, first, token, offsets, name_tokens),
    )
    _settle(addressed, clarity, settled, rows["clarity"].combine_chunks(), encoded.dictionary)
    return Flow(
        time=time,
        channel=channel,
        kind=pc.fill_null(pc.index_in(rows["channel_kind"], value_set=pa.array(KINDS)), 0)
        .to_numpy()
        .astype(np.uint8),
        author=author,
        first=first,
        addressed=addressed,
        clarity=clarity,
        call=call,
        name=name,
        token=token,
        token_bytes=width[token],
        token_offset=offsets,
        length=pc.utf8_length(text).to_numpy().astype(np.int32),
        question=pc.match_substring_regex(lower, cues.QUESTION_MARK).to_numpy(zero_copy_only=False),
        link=pc.match_substring(lower, "://").to_numpy(zero_copy_only=False),
        cue=_cue_bits(token, offsets, words.dictionary),
        pace=paces(time, first),
        person_ids=encoded.dictionary,
    )


def _settle(
    addressed: Codes, clarity: Bytes, settled: Column, levels: Column, person_ids: Column
) -> None:
    """Takes over, in place, whom carried messages were found to address in their own day.

    Their own windows are no longer at hand, so resolving them anew could differ.
    """
    known = settled.is_valid().to_numpy(zero_copy_only=False)
    if not known.any():
        return
    addressed[known] = NOBODY
    clarity[known] = 0
    row = pc.list_parent_indices(settled).to_numpy()
    slot = np.arange(len(row)) - np.searchsorted(row, row)
    codes = pc.index_in(settled.flatten(), value_set=person_ids).to_numpy()
    addressed[row, slot] = codes.astype(np.int32)
    clarity[row, slot] = levels.flatten().to_numpy()
