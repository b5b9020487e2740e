"""Pulling from a homeserver: `/sync` for what is new, `/messages` for what it left out.

Belongs here: cursors, gaps, windows of history. Does not belong here: what an event is
(`events.py`), HTTP (`homeserver.py`).

Cursors of what is new: `sync` is the token of the last /sync; `room:<id>` is what is known of a
room; `direct` are the owner's direct rooms; `gap:<id>:<digest>` is a stretch that /sync left out
(its timelines are cut to the newest events) and how far back it has been filled. A gap is kept
together with the token that makes it one, so a kill, or a limit, only puts the filling off.

A gap is filled backwards until the event that the last /sync ended with. Those that arrived late
from another homeserver stand further back in it than they came; /sync brings these by itself.

Cursors of a window: `walk:<id>` is where the reading of a room has come to.

https://spec.matrix.org/v1.16/client-server-api/#syncing (read 2026-11)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import xxhash

from communicator_pipeline.platforms.instants import micros_of
from communicator_pipeline.platforms.matrix.events import (
    Reading,
    broken,
    member,
    read_events,
    sent_micros,
)
from communicator_pipeline.platforms.matrix.homeserver import (
    FIRST_SYNC_TIMEOUT,
    TIMEOUT,
    Declined,
    Homeserver,
    room_path,
    segment,
)
from communicator_pipeline.platforms.matrix.rooms import Room, direct_rooms, sayable
from communicator_pipeline.platforms.protocol import (
    Page,
    PlatformError,
    PullRequest,
    Record,
    Unreachable,
    Window,
)
from communicator_pipeline.storage.accounts import Channel

TIMELINE = 50
"""Events of a room that one /sync brings; the others are a gap."""

PAGE = 100
MOST_GAP_PAGES = 300
"""Requests for gaps in one pull; the next one goes on."""

LARGEST_PAGE = 1_000  # records: what is yielded at once

_LATE = timedelta(days=1)
"""A clock of another homeserver may be wrong by so much before it cuts a gap short."""

_BEGIN, _DONE = "begin", "done"


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of a room that is to be read backwards from `token`."""

    room_id: str
    token: str
    until: str = ""  # event id that ends it
    floor_ms: int = 0  # what is older ends it too
    wants_from_ms: int = 0  # what is older is not wanted

    @classmethod
    def load(cls, position: str) -> Gap | None:
        try:
            room_id, token, until, floor, wants = orjson.loads(position)
            return cls(str(room_id), str(token), str(until), int(floor), int(wants))
        except (ValueError, TypeError):
            return None

    def dump(self) -> str:
        parts = [self.room_id, self.token, self.until, self.floor_ms, self.wants_from_ms]
        return orjson.dumps(parts).decode()


class Puller:
    """One pull."""

    def __init__(self, server: Homeserver, request: PullRequest) -> None:
        self._server = server
        self._request = request
        self._rooms: dict[str, Room] = {}
        self._direct = frozenset(_list(request.cursors.get("direct", "")))
        self._looked_up: dict[tuple[str, str], Mapping[str, Any] | None] = {}

    def pages(self) -> Iterator[Page]:
        window = self._request.window
        return self._news() if window is None else self._window(window)

    # --- what is new

    def _news(self) -> Iterator[Page]:
        gaps = {
            stream: gap
            for stream, position in self._request.cursors.items()
            if stream.startswith("gap:") and (gap := Gap.load(position)) is not None
        }
        for page in self._sync():
            for stream, position in page.cursors.items():
                if stream.startswith("gap:") and (gap := Gap.load(position)) is not None:
                    gaps[stream] = gap
            yield page
        left = MOST_GAP_PAGES
        for stream, gap in gaps.items():
            for page in self._fill(stream, gap, left):
                left -= 1
                yield page
            if left <= 0:
                yield Page(notices=["older messages are still being read: the next pull goes on"])
                return

    def _sync(self) -> Iterator[Page]:
        """One /sync: what it brings, and the gaps that it leaves."""
        since = self._request.cursors.get("sync", "")
        try:
            answer = self._ask_sync(since, TIMELINE)
        except Declined as declined:
            if not since or declined.status != 400:
                raise Unreachable(str(declined)) from None
            # The homeserver does not know its own token any more: begin anew, up to what is known.
            answer = self._ask_sync("", TIMELINE)
            since = ""
        token = answer.get("next_batch")
        if not isinstance(token, str) or not token:
            raise Unreachable(f"{self._server.host} answered /sync without a next_batch")
        cursors: dict[str, str] = {"sync": token}
        records: list[Record] = []
        notices: list[str] = []
        changed = self._take_direct(answer, cursors)
        rooms = _object(answer.get("rooms"))
        for room_id, told in _object(rooms.get("join")).items():
            try:
                records += self._joined(room_id, told, cursors, notices)
                changed.discard(room_id)
            except PlatformError:
                raise
            except Exception as error:  # whatever a broken room does to a parser
                records.append(broken(error, told, room_id))
            if len(records) >= LARGEST_PAGE:
                yield Page(records)
                records = []
        for room_id, told in _object(rooms.get("leave")).items():
            timeline = _object(_object(told).get("timeline"))
            if since and self._request.chats.wants(room_id):
                records += self._read(self._room(room_id), _events(timeline), notices)
            cursors[f"room:{room_id}"] = ""
        for room_id in changed:
            if f"room:{room_id}" in self._request.cursors:
                records.append(self._channel(self._room(room_id)))
        notices += _invitations(_object(rooms.get("invite")))
        yield Page(records, cursors, notices=[sayable(notice) for notice in notices])

    def _ask_sync(self, since: str, most: int) -> dict[str, Any]:
        room = {
            "timeline": {"limit": most, "lazy_load_members": True},
            "state": {"lazy_load_members": True},
            "ephemeral": {"types": []},
            "account_data": {"types": []},
        }
        wanted = {
            "room": room,
            "presence": {"types": []},
            "account_data": {"types": ["m.direct"]},
        }
        parameters = {
            "filter": orjson.dumps(wanted).decode(),
            "timeout": "0",
            "set_presence": "offline",  # reading does not make the owner look present
        }
        if since:
            parameters["since"] = since
        timeout = TIMEOUT if since else FIRST_SYNC_TIMEOUT
        return self._server.get("/_matrix/client/v3/sync", parameters, timeout)

    def _take_direct(self, answer: Mapping[str, Any], cursors: dict[str, str]) -> set[str]:
        """Learn which rooms are direct; returns those for which that has changed."""
        for event in _list_of(_object(answer.get("account_data")).get("events")):
            if isinstance(event, dict) and event.get("type") == "m.direct":
                now = direct_rooms(event.get("content"))
                changed = now ^ self._direct
                self._direct = now
                cursors["direct"] = orjson.dumps(sorted(now)).decode()
                return set(changed)
        return set()

    def _joined(
        self,
        room_id: str,
        told: Any,
        cursors: dict[str, str],
        notices: list[str],
    ) -> list[Record]:
        """What /sync says of a room: its records; its cursor and its gap go into `cursors`."""
        if not isinstance(told, dict):
            raise TypeError(f"a room should be an object, it is {type(told).__name__}")
        room_id.encode()
        room = self._room(room_id)
        before = (room.title(), room.kind(room_id in self._direct))
        is_new = not room.last
        known, known_ms = room.last, room.last_ms
        timeline = _object(told.get("timeline"))
        events = _events(timeline)
        records = self._take_room(room, told, events)
        channel = self._channel(room)
        if is_new or (channel.name, channel.kind) != before:
            records.append(channel)
        since_ms = _millis(self._request.since)
        if self._request.chats.wants(room_id):
            wants_from = since_ms if is_new else 0
            records += self._read(room, events, notices, wants_from)
            token = timeline.get("prev_batch")
            is_through = is_new and _all_before(events, since_ms)
            if timeline.get("limited") is True and isinstance(token, str) and token:
                # A room that was joined meanwhile begins at `since`, too.
                floor = since_ms if is_new else known_ms - _millis_of(_LATE)
                gap = Gap(room_id, token, known, floor, wants_from)
                if not is_through:
                    cursors[f"gap:{room_id}:{_digest(token)}"] = gap.dump()
        _note_newest(room, events)
        cursors[f"room:{room_id}"] = room.dump()
        return records

    def _take_room(
        self, room: Room, told: Mapping[str, Any], events: Sequence[Any]
    ) -> list[Record]:
        """Learn the room's state, as it is before its timeline; returns the people in it."""
        now = datetime.now(UTC)
        state = _list_of(_object(told.get("state")).get("events"))
        people = [p for e in state if isinstance(e, dict) and (p := member(e, now)) is not None]
        room.take_summary(told.get("summary"), {p.person_id: p.name for p in people})
        for event in [*state, *events]:
            if isinstance(event, dict):
                room.take_state(event)
        return list(people)

    def _fill(self, stream: str, gap: Gap, most: int) -> Iterator[Page]:
        """Read a gap backwards, a page at a time."""
        room = self._room(gap.room_id)
        for _ in range(most):
            try:
                answer = self._messages(gap.room_id, gap.token)
            except Declined as declined:
                words = f"older messages in {room.title()} cannot be read: {declined}"
                yield Page(cursors={stream: ""}, notices=[words])
                return
            events = _list_of(answer.get("chunk"))
            notices: list[str] = []
            records: list[Record] = self._people(answer)
            records += self._read(room, events, notices, gap.wants_from_ms, is_newest=False)
            token = answer.get("end")
            over = (
                not isinstance(token, str)
                or token in ("", gap.token)
                or any(isinstance(e, dict) and e.get("event_id") == gap.until for e in events)
                or (bool(events) and _all_before(events, gap.floor_ms))
            )
            if not over:
                gap = replace(gap, token=str(token))
            cursors = {stream: "" if over else gap.dump()}
            if room.last:
                cursors[f"room:{gap.room_id}"] = room.dump()
            yield Page(records, cursors, notices=[sayable(notice) for notice in notices])
            if over:
                return

    # --- a window of history

    def _window(self, window: Window) -> Iterator[Page]:
        walks = {
            stream.removeprefix("walk:"): position
            for stream, position in self._request.cursors.items()
            if stream.startswith("walk:")
        }
        if not walks:
            page, walks = self._begin_window()
            yield page
        for number, (room_id, position) in enumerate(walks.items()):
            if position != _DONE:
                yield from self._walk(room_id, position, window, number, len(walks))
        yield Page(cursors=dict.fromkeys((*self._request.cursors, *_names(walks)), ""), done=1.0)

    def _begin_window(self) -> tuple[Page, dict[str, str]]:
        """The rooms as they are now, and where each is read back from."""
        try:
            answer = self._ask_sync("", 1)
        except Declined as declined:
            raise Unreachable(str(declined)) from None
        cursors: dict[str, str] = {}
        records: list[Record] = []
        walks: dict[str, str] = {}
        self._take_direct(answer, cursors)
        for room_id, told in _object(_object(answer.get("rooms")).get("join")).items():
            if not isinstance(told, dict):
                continue
            room = self._room(room_id)
            timeline = _object(told.get("timeline"))
            records += self._take_room(room, told, _events(timeline))
            records.append(self._channel(room))
            if self._request.chats.wants(room_id):
                walks[room_id] = cursors[f"walk:{room_id}"] = _BEGIN
                cursors[f"room:{room_id}"] = room.dump()
        return Page(records, cursors, done=0.0), walks

    def _walk(
        self, room_id: str, token: str, window: Window, number: int, rooms: int
    ) -> Iterator[Page]:
        """Read a room back to the window's beginning."""
        room = self._room(room_id)
        stream = f"walk:{room_id}"
        first, last = micros_of(window.first), micros_of(window.last)
        if token == _BEGIN:
            is_old = window.last < datetime.now(UTC) - _LATE
            token = self._near(room_id, window.last) if is_old else ""
        while True:
            try:
                answer = self._messages(room_id, token)
            except Declined as declined:
                words = f"history of {room.title()} cannot be read: {declined}"
                yield Page(cursors={stream: _DONE}, notices=[words], done=(number + 1) / rooms)
                return
            events = _list_of(answer.get("chunk"))
            notices: list[str] = []
            reading = self._reading(
                room, lambda micros: first <= micros < last, follows=False, is_newest=False
            )
            records = self._people(answer) + self._stretch(room, events, reading, notices)
            end = answer.get("end")
            over = (
                not isinstance(end, str)
                or end in ("", token)
                or (bool(events) and _all_before(events, first // 1_000))
            )
            done = (number + (1.0 if over else 0.5)) / rooms
            said = [sayable(notice) for notice in notices]
            yield Page(records, {stream: _DONE if over else str(end)}, done, said)
            if over:
                return
            token = str(end)

    def _near(self, room_id: str, when: datetime) -> str:
        """The token from which a room is read back from a moment; "" (from now) if there is none.

        https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event
        """
        path = f"/_matrix/client/v1/rooms/{segment(room_id)}/timestamp_to_event"
        try:
            found = self._server.get(path, {"ts": str(_millis(when)), "dir": "b"})
            event_id = found.get("event_id")
            if not isinstance(event_id, str):
                return ""
            around = room_path(room_id, f"context/{segment(event_id)}")
            token = self._server.get(around, {"limit": "0"}).get("end")
        except Declined:
            return ""
        return token if isinstance(token, str) else ""

    # --- both

    def _messages(self, room_id: str, token: str) -> dict[str, Any]:
        parameters = {"dir": "b", "limit": str(PAGE), "filter": '{"lazy_load_members":true}'}
        if token:
            parameters["from"] = token
        return self._server.get(room_path(room_id, "messages"), parameters)

    def _people(self, answer: Mapping[str, Any]) -> list[Record]:
        now = datetime.now(UTC)
        state = _list_of(answer.get("state"))
        return [p for e in state if isinstance(e, dict) and (p := member(e, now)) is not None]

    def _read(
        self,
        room: Room,
        events: Sequence[Any],
        notices: list[str],
        wants_from_ms: int = 0,
        is_newest: bool = True,
    ) -> list[Record]:
        reading = self._reading(
            room, lambda micros: micros >= wants_from_ms * 1_000, is_newest=is_newest
        )
        return self._stretch(room, events, reading, notices)

    def _reading(
        self, room: Room, wants: Any, follows: bool = True, is_newest: bool = True
    ) -> Reading:
        return Reading(
            room,
            room.kind(room.room_id in self._direct),
            datetime.now(UTC),
            lambda event_id: self._look_up(room.room_id, event_id),
            wants,
            follows,
            is_newest,
        )

    def _stretch(
        self, room: Room, events: Sequence[Any], reading: Reading, notices: list[str]
    ) -> list[Record]:
        for event in events:
            if isinstance(event, dict) and isinstance(event.get("event_id"), str):
                self._looked_up[room.room_id, event["event_id"]] = event
        stretch = read_events(events, reading)
        self._looked_up.clear()
        if stretch.encrypted:
            notices.append(
                f"messages in {room.title()} are encrypted: Communicator cannot read them; "
                "talk in a room without encryption, or leave it out of what is read"
            )
        if stretch.replaced_by:
            notices.append(
                f"{room.title()} goes on in another room ({stretch.replaced_by}): join that one"
            )
        return stretch.records

    def _look_up(self, room_id: str, event_id: str) -> Mapping[str, Any] | None:
        """An event of the room as it is now; None if it is gone, or not to be seen."""
        key = room_id, event_id
        if key not in self._looked_up:
            try:
                found = self._server.get(room_path(room_id, f"event/{segment(event_id)}"))
            except Declined:
                found = {}
            self._looked_up[key] = found or None
        return self._looked_up[key]

    def _room(self, room_id: str) -> Room:
        if room_id not in self._rooms:
            position = self._request.cursors.get(f"room:{room_id}", "")
            self._rooms[room_id] = Room.load(room_id, position)
        return self._rooms[room_id]

    def _channel(self, room: Room) -> Channel:
        kind = room.kind(room.room_id in self._direct)
        return Channel(room.room_id, room.title(), kind, datetime.now(UTC))


def _invitations(invited: Mapping[str, Any]) -> Iterator[str]:
    """What to tell of rooms that wait for the owner's yes: joining is the owner's to do."""
    for room_id, told in invited.items():
        state = _list_of(_object(_object(told).get("invite_state")).get("events"))
        events = [event for event in state if isinstance(event, dict)]
        names = (
            _object(e.get("content")).get("name") for e in events if e.get("type") == "m.room.name"
        )
        name = next((name for name in names if isinstance(name, str) and name), room_id)
        senders = (
            e.get("sender")
            for e in events
            if e.get("type") == "m.room.member"
            and _object(e.get("content")).get("membership") == "invite"
        )
        sender = next((who for who in senders if isinstance(who, str)), "somebody")
        yield f"{sender} invites you to {name}: join it in your Matrix client to have it read"[:500]


def _note_newest(room: Room, events: Sequence[Any]) -> None:
    for event in reversed(events):
        if isinstance(event, dict) and sayable(str(event.get("event_id"))) == event.get("event_id"):
            room.last = event["event_id"]
            room.last_ms = _event_millis(event)
            return
    room.last = room.last or "-"  # known, and nothing was said in it


def _event_millis(event: Mapping[str, Any]) -> int:
    try:
        return sent_micros(event, datetime.now(UTC)) // 1_000
    except ValueError:
        return 0


def _all_before(events: Sequence[Any], floor_ms: int) -> bool:
    """Whether every event says that it is older; one clock that is wrong proves nothing."""
    return all(isinstance(e, dict) and _event_millis(e) < floor_ms for e in events)


def _events(timeline: Mapping[str, Any]) -> list[Any]:
    return _list_of(timeline.get("events"))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _list(position: str) -> list[str]:
    try:
        found = orjson.loads(position) if position else []
    except orjson.JSONDecodeError:
        return []
    return [entry for entry in _list_of(found) if isinstance(entry, str)]


def _names(walks: Mapping[str, str]) -> Iterator[str]:
    for room_id in walks:
        yield f"walk:{room_id}"
        yield f"room:{room_id}"


def _digest(token: str) -> str:
    return xxhash.xxh3_64_hexdigest(token.encode())


def _millis(when: datetime) -> int:
    return micros_of(when) // 1_000


def _millis_of(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
