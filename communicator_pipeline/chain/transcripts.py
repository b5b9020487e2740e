"""Conversations read out of the lake, as of the end of each day on which they were active."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from communicator_pipeline.chain import conversations, raw_messages
from communicator_pipeline.messages import (
    LONGEST_TRANSCRIPT,
    Transcript,
    Turn,
    resolve_names,
)
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import directory, handles, load_account
from communicator_pipeline.storage.lake import Lake, end_of_day, newest_first, texts

_MEMBERS_OF_DAYS = """
SELECT conversation_id, strftime(sent_at, '%Y-%m-%d') AS day
FROM members GROUP BY ALL HAVING bool_or(kind = 'message')
"""

_ACTIVE_ON = """
SELECT conversation_id, strftime(sent_at, '%Y-%m-%d') AS day,
    bool_or(message_id = conversation_id) AS begins
FROM members SEMI JOIN active USING (conversation_id) GROUP BY ALL
"""

_TURNS = """
SELECT m.conversation_id, r.message_id, r.sent_at, r.author_id, r.author_name, r.author_is_bot,
    r.kind, r.text, r.mentions, r.reply_to, r.edited_at IS NOT NULL AS edited, r.deleted,
    list_transform(r.attachments, lambda a: a.name) AS attachments,
    r.channel_id, r.channel_kind
FROM (FROM members SEMI JOIN active USING (conversation_id)) AS m
JOIN raw AS r ON r.message_id = m.message_id AND r.latest
ORDER BY m.conversation_id, r.sent_at, r.message_id
"""


_DAYS = pa.schema([("conversation_id", pa.string()), ("day", pa.string())])


@dataclass
class _Conversation:
    channel_id: str
    channel_kind: str
    turns: list[Turn]
    times: list[datetime]


_ANSWERED = """
SELECT conversation_id FROM members JOIN (
    SELECT message_id, sent_at FROM raw
    WHERE latest AND NOT deleted AND author_id IN (SELECT person_id FROM me)
) AS mine USING (message_id)
GROUP BY conversation_id ORDER BY max(mine.sent_at) DESC, conversation_id LIMIT {most}
"""


def days_of(lake: Lake, active: pa.Table, members: Iterable[tuple[str, str]]) -> pa.Table:
    """On which days the conversations of `active` were so: conversation_id and day, once each.

    Looks back, in the (address, day) of membership, as far as they reach and no farther: a
    conversation begins with the message that it is named after. What a wrong clock puts before
    that, in an earlier month, is left out.
    """
    seeking = active.select(["conversation_id"])
    found = [pa.table({"conversation_id": [], "day": []}, schema=_DAYS)]
    for stretch in newest_first(members):
        if seeking.num_rows == 0:
            break
        rows = lake.query(
            _ACTIVE_ON, {"members": [address for address, _ in stretch], "active": seeking}
        )
        found.append(rows.select(_DAYS.names))
        begun = rows.filter(rows["begins"])["conversation_id"].combine_chunks()
        seeking = seeking.filter(pc.invert(pc.is_in(seeking["conversation_id"], value_set=begun)))
    return pa.concat_tables(found)


class Transcripts:
    """Conversations of one account, read out of the lake.

    Reads the days that are asked for and, of earlier ones, only those on which one of these
    conversations was active: the cost is that of the question, not of the history.
    """

    def __init__(self, stores: Stores, account: str, longest: int = LONGEST_TRANSCRIPT) -> None:
        self._longest = longest
        self.account = load_account(stores.database, account)
        self._lake = stores.lake
        self._names = directory(stores.database, account)
        known_handles = handles(stores.database, account)
        me = self.account.me
        # Whoever never spoke has no name here; on many platforms the id is what people type.
        spelled = [*(self._names.get(p, p) for p in me), *(known_handles.get(p, "") for p in me)]
        self._my_names = tuple(sorted({name for name in spelled if name}))
        self._active: dict[str, list[str]] = defaultdict(list)  # day → conversation ids
        self._conversations: dict[str, _Conversation] = {}

    @classmethod
    def of_days(
        cls,
        stores: Stores,
        account: str,
        days: Sequence[str],
        only: Iterable[str] | None = None,
        longest: int = LONGEST_TRANSCRIPT,
    ) -> Transcripts:
        """The conversations that were active on some days, up to the last of these; `only` some
        of them, if any are named; of each at most `longest` messages."""
        found, wanted = cls(stores, account, longest), set(days)
        files = stores.lake.day_files(conversations.ASSET, account, last=max(days, default=""))
        of_days = [address for address, day in files if day in wanted]
        if of_days:
            active = stores.lake.query(_MEMBERS_OF_DAYS, {"members": of_days})
            if only is not None:
                chosen = pa.array(sorted(only), pa.string())
                active = active.filter(pc.is_in(active["conversation_id"], chosen))
            for conversation_id, day in zip(
                texts(active["conversation_id"]), texts(active["day"]), strict=True
            ):
                found._active[day].append(conversation_id)
            for ids in found._active.values():
                ids.sort()
            found._read(active, files)
        return found

    @classmethod
    def answered(cls, stores: Stores, account: str, most: int) -> Iterator[Transcript]:
        """The conversations in which the owner said something, as they are now, oldest first;
        the newest ones if there are more than `most`."""
        found = cls(stores, account)
        if not found.account.me:
            return
        members = stores.lake.day_files(conversations.ASSET, account)
        raw = {day: file for file, day in stores.lake.day_files(raw_messages.ASSET, account)}
        me = pa.table({"person_id": sorted(found.account.me)})
        mine: dict[str, None] = {}  # newest first
        for stretch in newest_first(members):
            tables: dict[str, Sequence[str] | pa.Table] = {
                "members": [address for address, _ in stretch],
                "raw": [raw[day] for _, day in stretch if day in raw],
                "me": me,
            }
            if tables["raw"]:
                answered = stores.lake.query(_ANSWERED.format(most=int(most)), tables)
                mine |= dict.fromkeys(texts(answered["conversation_id"]))
            if len(mine) >= most:
                break
        newest = list(mine)[:most]
        found._read(pa.table({"conversation_id": pa.array(newest, pa.string())}), members)
        for conversation_id in reversed(newest):
            yield found._transcript(conversation_id, datetime.max.replace(tzinfo=UTC))

    @classmethod
    def of_conversations(
        cls,
        stores: Stores,
        account: str,
        conversation_ids: Iterable[str],
        longest: int = LONGEST_TRANSCRIPT,
    ) -> Transcripts:
        """These conversations whole, to be asked for by `before`; of each at most `longest`
        messages."""
        found = cls(stores, account, longest)
        members = stores.lake.day_files(conversations.ASSET, account)
        wanted = pa.table({"conversation_id": pa.array(sorted(set(conversation_ids)), pa.string())})
        if members and wanted.num_rows:
            found._read(wanted, members)
        return found

    def before(
        self, conversation_id: str, moment: datetime, without: Collection[str] = ()
    ) -> Transcript | None:
        """A conversation as it stood just before a moment (UTC), without some messages; None if
        nobody had said anything then, or it is not there any more.

        `without` are ids of what was sent then: a platform's clock may be behind ours."""
        if conversation_id not in self._conversations:
            return None
        found = self._transcript(conversation_id, moment)
        turns = tuple(turn for turn in found.turns if turn.message_id not in without)
        cut = replace(found, turns=turns)
        return cut if any(cut.people()) else None

    def of_day(self, day: str) -> Iterator[Transcript]:
        """Each conversation that was active on the day, as of the day's end, in order of id."""
        for conversation_id in self._active[day]:
            yield self._transcript(conversation_id, end_of_day(day))

    def _transcript(self, conversation_id: str, as_of: datetime) -> Transcript:
        conversation = self._conversations[conversation_id]
        turns = conversation.turns[: bisect_left(conversation.times, as_of)]
        left_out = max(0, len(turns) - self._longest)
        if left_out:
            turns = [turns[0], *turns[left_out + 1 :]]
        return Transcript(
            conversation_id,
            conversation.channel_id,
            self._names.get(conversation.channel_id, conversation.channel_id),
            conversation.channel_kind,
            as_of,
            tuple(turns),
            left_out,
            self.account.me,
            self._my_names,
        )

    def _read(self, active: pa.Table, members: Sequence[tuple[str, str]]) -> None:
        """Read whole the conversations of `active`, from the (address, day) of membership."""
        if active.num_rows == 0:
            return
        spread = set(texts(pc.unique(days_of(self._lake, active, members)["day"])))
        if not spread:
            return
        raw = self._lake.day_files(
            raw_messages.ASSET, self.account.account, min(spread), max(spread)
        )
        tables: dict[str, Sequence[str] | pa.Table] = {
            "members": [address for address, day in members if day in spread],
            "raw": [address for address, day in raw if day in spread],
            "active": active,
        }
        if not tables["raw"]:
            return
        for batch in self._lake.query(_TURNS, tables).to_batches(max_chunksize=20_000):
            self._take(batch)

    def _take(self, batch: pa.RecordBatch) -> None:
        me, names = self.account.me, self._names
        columns = [batch.column(name).to_pylist() for name in batch.schema.names]
        for (
            conversation_id,
            message_id,
            sent_at,
            author_id,
            author_name,
            is_bot,
            kind,
            text,
            mentions,
            reply_to,
            edited,
            deleted,
            attachments,
            channel_id,
            channel_kind,
        ) in zip(*columns, strict=True):
            conversation = self._conversations.get(conversation_id)
            if conversation is None:
                conversation = _Conversation(channel_id, channel_kind, [], [])
                self._conversations[conversation_id] = conversation
            conversation.times.append(sent_at)
            conversation.turns.append(
                Turn(
                    message_id,
                    sent_at,
                    author_id,
                    names.get(author_id) or author_name or author_id,
                    author_id in me,
                    resolve_names(text, names),
                    is_bot,
                    kind,
                    tuple(mentions or ()),
                    reply_to,
                    edited,
                    deleted,
                    tuple(attachments or ()),
                )
            )
