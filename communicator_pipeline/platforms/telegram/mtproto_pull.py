"""Pulling over MTProto: what is new, and windows of history.

Belongs here: what is asked for in which order, and how far the cursors may move. Does not belong
here: how to ask (`mtproto_asking.py`), what the cursors say (`mtproto_places.py`), what a message
is (`mtproto_messages.py`), sending.

Facts that shape it (https://core.telegram.org/api/updates, read 2026-11):

- One `updates.getDifference` brings all that is new, changed or deleted in private chats and basic
  groups. Deletions there name no chat (`whereabouts.py`).
- Each supergroup and channel counts for itself. `messages.getPeerDialogs` tells for many at once
  how far they are; `updates.getChannelDifference` is asked of those only that have moved.
- Who was away for too long gets no difference: then history is read since the last known message,
  and what was changed or deleted in the gap stays unknown.
- A state is taken before history is read, so that nothing falls between the two.
- History comes newest first; a stretch is read downwards, and its cursor says what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from telethon.tl import functions, types  # type: ignore[import-untyped]

from communicator_pipeline.platforms.protocol import Page, PullRequest, Record, Wait
from communicator_pipeline.platforms.rejected import dead_letter
from communicator_pipeline.platforms.telegram.envelopes import (
    Chat,
    envelope,
    mark_albums,
    tombstone,
)
from communicator_pipeline.platforms.telegram.mtproto_asking import SaidNo
from communicator_pipeline.platforms.telegram.mtproto_messages import (
    Cast,
    bare,
    entity_kind,
    entity_name,
    exported,
    handles,
    peer_key,
    plain,
)
from communicator_pipeline.platforms.telegram.mtproto_places import (
    LISTED,
    STATE,
    TAKEOUT,
    Fill,
    Listed,
    Place,
    State,
    input_peer,
    read_listed,
    read_places,
    read_state,
    rules_digest,
    wanted,
    write,
)
from communicator_pipeline.platforms.telegram.whereabouts import Whereabouts
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.landing import Envelope

PAGE = 100  # what Telegram gives at once: of messages, of chats, of a channel's updates
LIST_EVERY = timedelta(hours=1)
STATE_KEPT = timedelta(hours=1)  # an unmoved state is written again after so long
CLOCKS_DIFFER = 60  # seconds
STAGE = "pull"
ORIGIN = "telegram"

_GONE = frozenset(
    "CHANNEL_INVALID CHANNEL_PRIVATE CHANNEL_PUBLIC_GROUP_NA CHAT_FORBIDDEN CHAT_ID_INVALID "
    "PEER_ID_INVALID USER_BANNED_IN_CHANNEL USER_NOT_PARTICIPANT".split()
)
_LOST_PLACE = frozenset("PERSISTENT_TIMESTAMP_EMPTY PERSISTENT_TIMESTAMP_INVALID".split())

Ask = Callable[[Any], Any]


class Dialog(NamedTuple):
    """A chat in the account's list."""

    key: str
    entity: Any
    pts: int
    newest: datetime | None  # when the newest message was sent
    became: str  # the number of the supergroup that a group has become


def dialogs(ask: Ask, cast: Cast) -> Iterator[list[Dialog]]:
    """The account's chats, in pages, the most recent first; archived ones too."""
    request = functions.messages.GetDialogsRequest(
        offset_date=None,
        offset_id=0,
        offset_peer=types.InputPeerEmpty(),
        limit=PAGE,
        hash=0,
    )
    seen: set[str] = set()
    while True:
        answer = ask(request)
        cast.learn(answer.users, answer.chats)
        tops = {(_space(m), m.id): m for m in answer.messages if hasattr(m, "date")}
        found = []
        last: Any = None
        for dialog in answer.dialogs:
            if not isinstance(dialog, types.Dialog):
                continue
            key = peer_key(dialog.peer)
            top = tops.get((key if key.startswith("channel") else "", dialog.top_message))
            last = top or last
            entity = cast.entities.get(key)
            if entity is None or key in seen:
                continue
            seen.add(key)
            newest = top.date if top is not None and _seconds(top.date) > 0 else None
            found.append(Dialog(key, entity, dialog.pts or 0, newest, _became(entity)))
        yield found
        more = isinstance(answer, types.messages.DialogsSlice) and len(answer.dialogs) >= PAGE
        if not more or not found or last is None:
            return
        request.exclude_pinned = True
        request.offset_id, request.offset_date = last.id, last.date
        request.offset_peer = input_peer(found[-1].key, access_hash(found[-1].entity))


def _became(entity: Any) -> str:
    """The number of the supergroup that a group has become; "" if it has not."""
    moved = getattr(entity, "migrated_to", None)
    return str(moved.channel_id) if isinstance(moved, types.InputChannel) else ""


def access_hash(entity: Any) -> int:
    """What requests must name a user or channel with; the account's own, and no secret."""
    if entity is None or getattr(entity, "min", False):
        return 0
    return getattr(entity, "access_hash", None) or 0


class Reader:
    """One pull. Use it once."""

    def __init__(self, ask: Ask, me: int, request: PullRequest, waits_by: str) -> None:
        self.ask = ask
        self.request = request
        self.waits_by = waits_by  # scope of the limits on history
        self.cast = Cast(me)
        self.places = read_places(request.cursors)
        self.numbers = {bare(key): key for key in self.places}  # whose messages a number means
        self.where = Whereabouts(request.cursors)
        self.named: set[str] = set()  # people and chats that this pull has told of
        # Number of a supergroup → of the group that it was.
        self.before = {bare(place.key): place.was for place in self.places.values() if place.was}
        self.absent = frozenset(read_listed(request.cursors).absent)
        self.relist = False
        self.asked_for: set[str] = set()  # chats that are wanted and have no place yet
        self.touched: set[str] = set()  # channels that are said to have moved
        self.again: dict[str, list[int]] = {}  # place → messages whose reactions changed

    def _learn(self, answer: Any) -> None:
        self.cast.learn(answer.users, answer.chats)
        self._learn_groups(answer.chats)

    def _learn_groups(self, entities: Iterable[Any]) -> None:
        for entity in entities:
            if became := _became(entity):
                self.before[became] = str(entity.id)

    # --- what is new

    def news(self) -> Iterator[Page]:
        state = read_state(self.request.cursors)
        listed = read_listed(self.request.cursors)
        if state is None:
            found = self.ask(functions.updates.GetStateRequest())
            state = State(found.pts, found.qts, _seconds(found.date))
            self.relist = True
            yield from self._listing(listed, {STATE: write(state)})
        else:
            yield self._forget_unwanted()
            yield from self._difference(state)
            due = self.request.now.timestamp() - listed.at >= LIST_EVERY.total_seconds()
            if due or listed.rules != rules_digest(self.request.chats) or self.relist:
                yield from self._listing(listed, {})
        yield from self._channels()
        yield from self._reread()
        for place in list(self.places.values()):
            if place.fill is not None:
                yield from self._fill(place)

    def _difference(self, state: State) -> Iterator[Page]:
        began = vars(state).copy()
        too_long = False
        while True:
            try:
                answer = self.ask(
                    functions.updates.GetDifferenceRequest(
                        pts=state.pts,
                        date=datetime.fromtimestamp(state.date, UTC),
                        qts=state.qts,
                    )
                )
            except SaidNo as no:
                if no.code not in _LOST_PLACE:
                    raise
                answer = None
            if answer is None or isinstance(answer, types.updates.DifferenceTooLong):
                yield self._lost_track(state, answer if not too_long else None)
                if too_long or answer is None:
                    return
                too_long = True
                continue
            if isinstance(answer, types.updates.DifferenceEmpty):
                state.date = _seconds(answer.date)
                waited = state.date - began["date"] >= STATE_KEPT.total_seconds()
                moved = waited or vars(state) | {"date": 0} != began | {"date": 0}
                yield Page(cursors={STATE: write(state)} if moved else {})
                return
            self._learn(answer)
            more = isinstance(answer, types.updates.DifferenceSlice)
            reached = answer.intermediate_state if more else answer.state
            state = State(reached.pts, reached.qts, _seconds(reached.date))
            records = self._updates(answer.new_messages, answer.other_updates)
            notices = self._unknown_deletions(answer.other_updates)
            yield Page(records, self._moved({STATE: write(state)}), notices=notices)
            if not more:
                return

    def _lost_track(self, state: State, answer: Any) -> Page:
        """The account was away for too long: history since then has to say what was new."""
        since = state.date - CLOCKS_DIFFER
        for place in self.places.values():
            if not place.is_channel:
                # From the newest down again: a stretch that was under way lacks what is above it.
                place.fill = Fill(min(since, place.fill.since) if place.fill else since)
        if answer is not None:
            state.pts = answer.pts
        else:
            found = self.ask(functions.updates.GetStateRequest())
            state.pts, state.qts, state.date = found.pts, found.qts, _seconds(found.date)
        self.relist = True
        told = datetime.fromtimestamp(since, UTC)
        notice = (
            f"Telegram keeps no list of changes back to {told:%Y-%m-%d %H:%M} UTC: new messages "
            "are read from history, edits and deletions since then stay unknown"
        )
        cursors = {place.stream: place.written() for place in self.places.values()}
        return Page(cursors={**cursors, STATE: write(state)}, notices=[notice])

    def _updates(self, new: Iterable[Any], updates: Iterable[Any]) -> list[Record]:
        """The records of an answer: messages first, then what became of them."""
        messages = list(new)
        gone: list[Record] = []
        for update in updates:
            match update:
                case (
                    types.UpdateNewMessage()
                    | types.UpdateNewChannelMessage()
                    | types.UpdateEditMessage()
                    | types.UpdateEditChannelMessage()
                ):
                    messages.append(update.message)
                case types.UpdateDeleteMessages():
                    gone += self._deleted(update.messages)
                case types.UpdateDeleteChannelMessages():
                    place = self.places.get(f"channel{update.channel_id}")
                    if place is not None:
                        gone += [self._tombstone(n, place.chat) for n in update.messages]
                case types.UpdateMessageReactions():
                    if (key := peer_key(update.peer)) in self.places:
                        self.again.setdefault(key, []).append(update.msg_id)
                case types.UpdateChannelTooLong() | types.UpdateChannel():
                    self._channel_moved(f"channel{update.channel_id}")
        return [*self._records(messages), *gone]

    def _channel_moved(self, key: str) -> None:
        if key in self.places:
            self.touched.add(key)
        elif (entity := self.cast.entities.get(key)) is not None and not getattr(
            entity, "left", False
        ):
            self._ask_for(key, entity_kind(entity))

    def _ask_for(self, key: str, kind: str) -> None:
        """A chat turns up that has no place: it is looked for in the list, if it is wanted."""
        if key not in self.absent and self._wants(key, kind):
            self.asked_for.add(key)
            self.relist = True

    def _wants(self, key: str, kind: str) -> bool:
        return wanted(self.request.chats, key, kind, self.before.get(bare(key), ""))

    def _records(self, messages: Iterable[Any]) -> list[Record]:
        """Messages of any chats, with the people and chats in them."""
        taken: list[tuple[dict[str, Any], Chat]] = []
        records: list[Record] = []
        for message in messages:
            if isinstance(message, types.MessageEmpty):
                continue
            try:
                place = self._place_of(message)
                if place is None:
                    continue
                item = exported(message, self.cast)
                taken.append((item, place.chat))
                records += self._told_of(place.key, place.chat)
                records += self._people(item)
            except Exception as error:  # whatever a stranger's message does to a parser
                records.append(_letter(error, message))
        mark_albums([item for item, _ in taken])
        for item, chat in taken:
            try:
                records.append(envelope(item, chat, ORIGIN))
            except Exception as error:  # the same
                records.append(_letter(error, item))
        return records

    def _place_of(self, message: Any) -> Place | None:
        """Where a message stands; None if its chat is not read."""
        key = peer_key(message.peer_id)
        place = self.places.get(key)
        entity = self.cast.entities.get(key)
        kind = place.kind if place is not None else entity_kind(entity) if entity else "dm"
        is_read = self._wants(_ruled_by(key, place.became if place else ""), kind)
        if not key.startswith("channel"):
            self.where.note(message.id, key if is_read else "")
        if not is_read:
            return None
        if place is None:
            if key.startswith("channel"):
                self._ask_for(key, kind)  # its own updates bring the message once it has a place
                return None
            if not self._owns_number(key):
                return None  # the list of chats will say it
            place = self.places[key] = Place(key, kind, access_hash(entity))
        if place.is_channel:
            place.top = max(place.top, message.id)
        return place

    def _owns_number(self, key: str) -> bool:
        """Whether no other chat that is read has the same number."""
        return self.numbers.setdefault(bare(key), key) == key

    def _deleted(self, numbers: Iterable[int]) -> Iterator[Envelope]:
        for number in numbers:
            key = self.where.find(number)
            place = self.places.get(key) if key else None
            if place is not None:
                yield self._tombstone(number, place.chat)

    def _tombstone(self, number: int, chat: Chat) -> Envelope:
        return tombstone(number, chat, self.request.now, ORIGIN)

    def _unknown_deletions(self, updates: Iterable[Any]) -> list[str]:
        count = sum(
            self.where.find(number) is None
            for update in updates
            if isinstance(update, types.UpdateDeleteMessages)
            for number in update.messages
        )
        if not count:
            return []
        return [
            f"{count} messages were deleted that stand in chats that are not read, or came before "
            "this account was connected, or long ago: Telegram does not say in which chats, so "
            "what is here of them stays"
        ]

    # --- which chats there are

    def _listing(self, listed: Listed, cursors: dict[str, str]) -> Iterator[Page]:
        """List the chats; those that are wanted and were not read begin at `since`."""
        found: list[Dialog] = []
        for page in dialogs(self.ask, self.cast):
            found += page
            chats = [self._channel(dialog.key, dialog.became) for dialog in page]
            people = [self._person(dialog.key) for dialog in page if dialog.key.startswith("user")]
            yield Page([*chats, *people])
        self._learn_groups(dialog.entity for dialog in found)
        notices = []
        for dialog in found:
            kind = entity_kind(dialog.entity)
            if not self._wants(_ruled_by(dialog.key, dialog.became), kind):
                continue
            if not self._owns_number(dialog.key):
                notices.append(_collision(dialog, self.numbers[bare(dialog.key)]))
                continue
            if dialog.key not in self.places:
                self.places[dialog.key] = self._new_place(dialog, kind)
            place = self.places[dialog.key]
            place.kind, place.was = kind, self.before.get(bare(dialog.key), "")
            place.access_hash = access_hash(dialog.entity) or place.access_hash
            cursors[place.stream] = place.written()
        known = {*self.places}
        absent = tuple(sorted(key for key in {*self.asked_for, *listed.absent} - known))[:PAGE]
        at = int(self.request.now.timestamp())
        cursors[LISTED] = write(Listed(at, rules_digest(self.request.chats), absent))
        self.relist = False
        yield Page(cursors=cursors, notices=notices)

    def _new_place(self, dialog: Dialog, kind: str) -> Place:
        place = Place(dialog.key, kind, access_hash(dialog.entity), dialog.pts)
        place.became = dialog.became
        since = math.floor(self.request.since.timestamp())
        if dialog.newest is None or dialog.newest.timestamp() >= since:
            place.fill = Fill(since)
        return place

    def _forget_unwanted(self) -> Page:
        """A chat that is excluded is forgotten; included again, it begins anew."""
        cursors = {}
        for key, place in list(self.places.items()):
            if not self._wants(_ruled_by(key, place.became), place.kind):
                cursors[place.stream] = ""
                del self.places[key], self.numbers[bare(key)]
        return Page(cursors=cursors)

    def _channel(self, key: str, became: str = "") -> Channel:
        self.named.add(key)
        entity = self.cast.entities.get(key)
        name = entity_name(entity)
        if key == self.cast.me:
            name = "Saved Messages"
        elif became:
            name = f"{name} (until it became a supergroup)"
        kind = entity_kind(entity)
        fallback = "Deleted Account" if kind == "dm" else bare(key)
        return Channel(bare(key), name or fallback, kind, self.request.now)

    def _person(self, key: str) -> Person:
        self.named.add(f"person {key}")
        entity = self.cast.entities.get(key)
        return Person(
            key,
            entity_name(entity) or "Deleted Account",
            self.request.now,
            next(handles(entity), ""),
            self.cast.is_bot(key),
        )

    def _told_of(self, key: str, chat: Chat) -> Iterator[Record]:
        if key not in self.named and key in self.cast.entities and not chat.shift:
            yield self._channel(key)

    def _people(self, item: dict[str, Any]) -> Iterator[Record]:
        key = item.get("from_id") or item.get("actor_id")
        if key and f"person {key}" not in self.named and self.cast.name(key):
            yield self._person(key)

    # --- channels and supergroups

    def _channels(self) -> Iterator[Page]:
        """The news of those that have any."""
        channels = [place for place in self.places.values() if place.is_channel]
        for first in range(0, len(channels), PAGE):
            some = channels[first : first + PAGE]
            for place in self._that_moved(some):
                yield from self._channel_news(place)

    def _that_moved(self, places: list[Place]) -> list[Place]:
        peers = [types.InputDialogPeer(place.peer) for place in places]
        try:
            answer = self.ask(functions.messages.GetPeerDialogsRequest(peers))
        except SaidNo:  # one of them is gone: each is asked for itself, and says so
            return places
        self._learn(answer)
        reached = {peer_key(d.peer): d.pts for d in answer.dialogs if isinstance(d, types.Dialog)}
        return [
            place
            for place in places
            if place.key in self.touched or reached.get(place.key) != place.pts
        ]

    def _channel_news(self, place: Place) -> Iterator[Page]:
        while True:
            try:
                answer = self.ask(
                    functions.updates.GetChannelDifferenceRequest(
                        channel=types.InputChannel(int(bare(place.key)), place.access_hash),
                        filter=types.ChannelMessagesFilterEmpty(),
                        pts=max(1, place.pts),
                        limit=PAGE,
                    )
                )
            except SaidNo as no:
                yield from self._channel_trouble(place, no)
                return
            if isinstance(answer, types.updates.ChannelDifferenceEmpty):
                place.pts = answer.pts
                yield Page(cursors={place.stream: place.written()})
                return
            self._learn(answer)
            if isinstance(answer, types.updates.ChannelDifferenceTooLong):
                yield self._channel_too_long(place, answer.dialog.pts or place.pts)
                return
            records = self._updates(answer.new_messages, answer.other_updates)
            stands = place.pts
            place.pts = answer.pts
            yield Page(records, self._moved({place.stream: place.written()}))
            if answer.final or answer.pts == stands:
                return

    def _channel_too_long(self, place: Place, pts: int) -> Page:
        floor = place.fill.floor if place.fill else place.top
        place.fill = Fill(int(self.request.since.timestamp()), floor)
        place.pts = pts
        notice = (
            f"{self._called(place)}: Telegram keeps no list of changes that far back: new messages "
            "are read from history, edits and deletions since the last pull stay unknown"
        )
        return Page(cursors={place.stream: place.written()}, notices=[notice])

    def _channel_trouble(self, place: Place, no: SaidNo) -> Iterator[Page]:
        if no.code in _LOST_PLACE:
            dialog = self.ask(
                functions.messages.GetPeerDialogsRequest([types.InputDialogPeer(place.peer)])
            ).dialogs[0]
            yield self._channel_too_long(place, dialog.pts or 1)
            return
        yield self._trouble(place, no)

    def _trouble(self, place: Place, no: SaidNo) -> Page:
        """A chat that cannot be read: said, and the others go on."""
        notice = f"{self._called(place)}: {no}"
        if no.code in _GONE:
            self.places.pop(place.key, None)
            return Page(cursors={place.stream: ""}, notices=[notice])
        return Page(notices=[notice])

    def _called(self, place: Place) -> str:
        return entity_name(self.cast.entities.get(place.key)) or f"chat {bare(place.key)}"

    def _reread(self) -> Iterator[Page]:
        """Messages whose reactions changed: the update does not hold the message."""
        for key, numbers in self.again.items():
            place = self.places.get(key)
            if place is None:
                continue
            wanted_ids = [types.InputMessageID(n) for n in dict.fromkeys(numbers)][:PAGE]
            try:
                answer = self.ask(get_messages(place.key, place.access_hash, wanted_ids))
            except SaidNo as no:
                yield self._trouble(place, no)
                continue
            self._learn(answer)
            yield Page(self._records(answer.messages))

    # --- history

    def _fill(self, place: Place) -> Iterator[Page]:
        """Read downwards what is still missing of a chat."""
        while (fill := place.fill) is not None:
            try:
                messages = self._history(place, fill.below, 0, fill.floor)
            except SaidNo as no:
                yield self._trouble(place, no)
                return
            kept, fill.below = _without_broken_album(messages)
            records = self._records(m for m in kept if _sent(m, fill.since) >= fill.since)
            if not kept or len(messages) < PAGE or _sent(kept[-1], fill.since) < fill.since:
                place.fill = None
            yield Page(records, self._moved({place.stream: place.written()}))

    def _history(self, place: Place, below: int, before: int, floor: int) -> list[Any]:
        """Messages, newest first: below an id, or sent before a moment."""
        answer = self.ask(
            functions.messages.GetHistoryRequest(
                peer=place.peer,
                offset_id=below,
                offset_date=datetime.fromtimestamp(before, UTC) if before else None,
                add_offset=0,
                limit=PAGE,
                max_id=0,
                min_id=floor,
                hash=0,
            )
        )
        self._learn(answer)
        return list(answer.messages)

    def window(self, takeout: bool) -> Iterator[Page]:
        """The messages that were sent in the request's window."""
        window = self.request.window
        if window is None:
            raise ValueError("this is no request for a window")
        until = self.request.waits.get(self.waits_by)
        if until is not None and until > self.request.now:
            raise Wait(until, "Telegram's limit on history", self.waits_by)
        plainly = self.ask
        try:
            if takeout:
                yield from self._takeout()
            # Telegram's times are whole seconds.
            first, last = (math.ceil(moment.timestamp()) for moment in window)
            yield from self._window(first, last)
            if takeout:
                self.ask(functions.account.FinishTakeoutSessionRequest(success=True))
                yield Page(cursors={TAKEOUT: ""})
        except Wait as wait:
            # What is new must not wait for history.
            raise Wait(wait.until, str(wait), self.waits_by) from None
        except SaidNo as no:
            if no.code != "TAKEOUT_INVALID":
                raise
            self.ask = plainly
            yield Page(cursors={TAKEOUT: ""}, notices=["the takeout has ended: it begins anew"])
            raise Wait(self.request.now, "the takeout begins anew", self.waits_by) from None

    def _takeout(self) -> Iterator[Page]:
        """Ask under a takeout session, whose limits are lower. One that is open goes on."""
        plainly = self.ask
        number = int(self.request.cursors.get(TAKEOUT) or 0)
        if not number:
            number = plainly(
                functions.account.InitTakeoutSessionRequest(
                    message_users=True,
                    message_chats=True,
                    message_megagroups=True,
                    message_channels=True,
                )
            ).id
            yield Page(cursors={TAKEOUT: str(number)})
        self.ask = lambda request: plainly(functions.InvokeWithTakeoutRequest(number, request))

    def _window(self, first: int, last: int) -> Iterator[Page]:
        listed: list[Dialog] = []
        for page in dialogs(self.ask, self.cast):
            listed += page
            yield Page([self._channel(dialog.key, dialog.became) for dialog in page])
        self._learn_groups(dialog.entity for dialog in listed)
        places = []
        for dialog in listed:
            kind = entity_kind(dialog.entity)
            if self._wants(_ruled_by(dialog.key, dialog.became), kind) and self._owns_number(
                dialog.key
            ):
                place = self.places.get(dialog.key) or self._new_place(dialog, kind)
                place.access_hash = access_hash(dialog.entity)
                place.done = place.done or place.fill is None  # nothing in it is so new
                places.append(place)
        self.places = {place.key: place for place in places}
        for number, place in enumerate(places):
            while not place.done:
                below = place.fill.below if place.fill else 0
                try:
                    messages = self._history(place, below, 0 if below else last + 1, 0)
                except SaidNo as no:
                    if no.code.startswith("TAKEOUT"):
                        raise
                    yield Page(notices=[f"{self._called(place)}: {no}"])
                    break
                kept, below = _without_broken_album(messages)
                place.fill = Fill(first, 0, below)
                place.done = not kept or len(messages) < PAGE or _sent(kept[-1], first) < first
                records = self._records(m for m in kept if first <= _sent(m, first) < last)
                yield Page(
                    records, {place.stream: place.written()}, (number + place.done) / len(places)
                )

    def _moved(self, cursors: dict[str, str]) -> dict[str, str]:
        """The cursors of a page that had messages: with those of the chats that it made."""
        for place in self.places.values():
            if place.stream not in self.request.cursors and place.stream not in cursors:
                cursors[place.stream] = place.written()
        return {**cursors, **self.where.moved()}


def get_messages(key: str, hash_: int, numbers: list[Any]) -> Any:
    """The request for single messages of a chat."""
    if key.startswith("channel"):
        channel = types.InputChannel(int(bare(key)), hash_)
        return functions.channels.GetMessagesRequest(channel, numbers)
    return functions.messages.GetMessagesRequest(numbers)


def _without_broken_album(messages: list[Any]) -> tuple[list[Any], int]:
    """A full answer without the album that it may have cut, and the id below which to go on."""
    kept = messages
    if len(messages) >= PAGE:
        album = getattr(messages[-1], "grouped_id", None)
        rest = [m for m in messages if getattr(m, "grouped_id", None) != album]
        if album and rest:
            kept = rest
    return kept, min((m.id for m in kept), default=0)


def _sent(message: Any, otherwise: float) -> float:
    """When it was sent; one without a date counts as wanted, so that it is said to be broken."""
    return _seconds(getattr(message, "date", None)) or otherwise


def _space(message: Any) -> str:
    """In which sequence a message's id counts."""
    peer = getattr(message, "peer_id", None)
    return f"channel{peer.channel_id}" if isinstance(peer, types.PeerChannel) else ""


def _ruled_by(key: str, became: str) -> str:
    """Whose rule holds: that of the supergroup, if a group had become one."""
    return f"channel{became}" if became else key


def _seconds(date: Any) -> int:
    return int(date.timestamp()) if isinstance(date, datetime) else 0


def _collision(dialog: Dialog, other: str) -> str:
    return (
        f"{entity_name(dialog.entity)}: its number is also that of {other}, and messages of both "
        "would be mixed: it is not read"
    )


def _letter(error: Exception, record: Any) -> Any:
    native = record.get("id") if isinstance(record, dict) else getattr(record, "id", "?")
    try:
        shown = plain(record)
    except Exception:  # it is broken, after all
        shown = type(record).__name__
    return dead_letter(error, f"{ORIGIN}: message {native}", shown, stage=STAGE)
