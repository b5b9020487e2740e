"""Pulling: channels, their threads, and who the people are.

Belongs here: what is asked for in which order, and how far the cursors may move. Does not belong
here: how to ask (`asking.py`), what the cursors say (`places.py`), sending.

Facts that shape it (https://docs.slack.dev/reference/methods/conversations.history, read 2026-11):

- History comes newest first. A stretch that is not read to its end leaves a gap below; the cursor
  keeps where it is, and `done` moves only when the gap is closed.
- History holds no replies; they land on threads of any age. A parent tells of them
  (`latest_reply`), so each answer is looked through for that, and the look-back is read again.
- `conversations.replies` comes oldest first, and the parent stands on every page.
- The same call shows edits, and what is not there any more. A message counts as deleted when it
  is missing in a stretch that was read completely, and a second question for it alone finds
  nothing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from communicator_pipeline.platforms.protocol import Connection, Page, PullRequest, Record, Wait
from communicator_pipeline.platforms.slack.asking import Api, SaidNo
from communicator_pipeline.platforms.slack.moments import is_ts, micros, ts_of
from communicator_pipeline.platforms.slack.payloads import (
    BROKEN,
    channel,
    channel_kind,
    conversation_type,
    handles,
    person,
    reason,
    record,
    shown,
)
from communicator_pipeline.platforms.slack.places import (
    INTERNAL,
    PACE,
    PEOPLE,
    REREAD_EVERY,
    RESTRICTED,
    Pace,
    People,
    Place,
    Thread,
    chosen,
    due_threads,
    is_after,
    later,
    missing,
    places,
    read_state,
    still_held,
    threads,
    write_state,
)
from communicator_pipeline.platforms.slack.scopes import (
    ABILITIES,
    readable,
    split_scopes,
    unreadable,
)
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope

HISTORY, REPLIES = "conversations.history", "conversations.replies"
STAGE = "pull"

CLOCKS_DIFFER = timedelta(minutes=1)  # Slack's clock may be so far ahead of ours
DIRECTORY_EVERY = timedelta(days=1)
LIST_PAGE = 200  # conversations and people in one answer: what Slack advises
MOST_LISTED = 5_000  # people; in larger workspaces the others are looked up when they speak
LOOKED_UP = 50  # people in one pull
DEEPER_PAGES = 5  # of one channel's look-back in one pull
CONFIRMED = 20  # deletions in one answer; a hundred at once would rather be Slack's fault
_PERSON = re.compile(r"[UW][A-Z0-9]{2,}")
_MENTION = re.compile(r"<@([UW][A-Z0-9]{2,})")


class _Stop(Exception):
    """The calls of this pull are used up."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.method = method


class _Answer(NamedTuple):
    messages: list[Any]
    stamps: list[str]  # the ts of those that have one
    cursor: str
    is_last: bool


class Reader:
    """One pull. Use it once."""

    def __init__(self, api: Api, connection: Connection, request: PullRequest) -> None:
        self.api = api
        self.request = request
        api.waits = request.waits
        self.restricted = connection.setting("limits") == "restricted"
        self.limits = RESTRICTED if self.restricted else INTERNAL
        self.look_back = timedelta(days=_number(connection, "look_back_days", 7, 90))
        reread = timedelta(hours=_number(connection, "reread_hours", 24, 168))
        self.stretch = min(reread, self.look_back)
        self.window = request.window
        first = self.window.first if self.window else request.since
        self.since, self.before = ts_of(first), ts_of(first - timedelta(microseconds=1))
        self.until = ts_of(self.window.last if self.window else request.now + CLOCKS_DIFFER)
        self.pace = read_state(request.cursors.get(PACE), Pace)
        self.places = places(request.cursors)
        self.threads = threads(request.cursors)
        self.people = read_state(request.cursors.get(PEOPLE), People)
        self.calls: dict[str, int] = {}
        self.kinds: dict[str, str] = {}
        self.unknown: dict[str, None] = {}  # people who spoke or were named, in order
        self.names: dict[str, str] = {}  # id → name, @handle → name: as far as this pull learned

    def pages(self) -> Iterator[Page]:
        listed: dict[str, dict[str, Any]] = {}
        for answer, notices in self._conversations():
            letters: list[Record] = []
            for entry in answer:
                try:
                    channel(entry, {}, self.request.now)
                    listed[entry["id"]] = entry
                except BROKEN as error:
                    why = reason(error, "channel")
                    letters.append(DeadLetter(STAGE, "users.conversations", why, shown(entry)))
            yield Page(letters, notices=notices)
        self.kinds = {key: channel_kind(entry) for key, entry in listed.items()}
        open_types = {a.conversations for a in readable(split_scopes(self.api.scopes))}
        wanted = [
            key
            for key, entry in sorted(listed.items())
            if conversation_type(entry) in open_types and self.request.chats.wants(key)
        ]
        known = {key: self.places.setdefault(key, Place()) for key in wanted}
        yield from self._window(known) if self.window else self._news(known)
        troubled = [(key, place.trouble) for key, place in known.items() if place.trouble]
        yield Page(notices=[f"{self._called(key)}: {why}" for key, why in troubled])
        yield from self._directory(list(listed.values()))

    # --- what is new

    def _news(self, known: dict[str, Place]) -> Iterator[Page]:
        waits: datetime | None = None
        try:
            for channel_id in chosen(known, self.request.now):
                yield from self._channel(channel_id, known[channel_id])
        except _Stop as stop:
            waits = self._pause_ends(stop.method)
        try:
            stretch = self.look_back if self.restricted else self.stretch
            for key in due_threads(self.threads, stretch, self.request.now):
                if key[0] in known:
                    yield from self._thread(*key, self.threads[key])
        except _Stop as stop:
            waits = waits or self._pause_ends(stop.method)
        yield Page(cursors=self._forgotten_threads())
        if waits is not None and not self.calls:
            raise Wait(waits, ONE_A_MINUTE, self.api.scope(HISTORY))

    def _channel(self, channel_id: str, place: Place) -> Iterator[Page]:
        """What is new in a channel, what changed lately, and which threads went on."""
        try:
            if place.at:
                yield from self._close_gap(channel_id, place)
            yield from self._newest(channel_id, place)
            yield from self._deeper(channel_id, place)
            place.trouble = ""
        except SaidNo as no:
            yield self._trouble(channel_id, place, no)
        place.polled = ts_of(self.request.now)
        yield Page(cursors={channel_id: write_state(place)})

    def _close_gap(self, channel_id: str, place: Place) -> Iterator[Page]:
        """Finish a stretch that a limit or a kill left open."""
        floor = place.done or self.before
        for answer, low, high in self._history(channel_id, place.at, floor):
            place.at = answer.stamps[-1] if answer.stamps else place.at
            if answer.is_last:
                place.done, place.top, place.at = later(place.done, place.top), "", ""
            gone = self._compare(channel_id, place, answer, low, high)
            yield self._page(channel_id, place, answer, gone)

    def _newest(self, channel_id: str, place: Place) -> Iterator[Page]:
        """What came since `done`; the same call shows what changed in the last stretch, and once
        an hour in the whole look-back, as far as one answer reaches."""
        now = self.request.now
        is_deep = not (self.restricted or place.below) and not is_after(
            place.deep, ts_of(now - REREAD_EVERY)
        )
        horizon = ts_of(now - (self.look_back if is_deep else self.stretch))
        floor = place.done or self.before
        oldest = floor if is_after(horizon, floor) else horizon
        top = ""
        for answer, low, high in self._history(channel_id, self.until, oldest):
            top = later(top, answer.stamps[0] if answer.stamps else "")
            lowest = answer.stamps[-1] if answer.stamps else place.at or self.until
            is_through = answer.is_last or not is_after(lowest, floor)
            if is_through:
                place.done, place.top, place.at = later(place.done, top), "", ""
                if is_deep:
                    place.deep, place.below = ts_of(now), "" if answer.is_last else lowest
            else:
                place.top, place.at = top, lowest
            yield self._page(
                channel_id, place, answer, self._compare(channel_id, place, answer, low, high)
            )
            if is_through:
                return

    def _deeper(self, channel_id: str, place: Place) -> Iterator[Page]:
        """The rest of the look-back, some pages at each pull."""
        horizon = ts_of(self.request.now - self.look_back)
        if not is_after(place.below, horizon):
            place.below = ""
            return
        stretches = self._history(channel_id, place.below, horizon)
        for answer, low, high in itertools.islice(stretches, DEEPER_PAGES):
            lowest = answer.stamps[-1] if answer.stamps else ""
            place.below = "" if answer.is_last else lowest
            yield self._page(
                channel_id, place, answer, self._compare(channel_id, place, answer, low, high)
            )

    def _thread(self, channel_id: str, root: str, thread: Thread) -> Iterator[Page]:
        """What is new in a thread, and once an hour what changed in its last stretch."""
        stream, now = f"{channel_id}:{root}", self.request.now
        oldest = thread.done or self.before
        if not is_after(thread.again, ts_of(now - REREAD_EVERY)):
            thread.again = ts_of(now)
            # A restricted app has no calls to spare for what it has read.
            if self.window is None and not self.restricted:
                horizon = ts_of(now - self.stretch)
                oldest = horizon if is_after(oldest, horizon) else oldest
        try:
            for answer, low, high in self._replies(channel_id, root, oldest):
                thread.done = later(thread.done, answer.stamps[-1] if answer.stamps else "")
                thread.polled = ts_of(now)
                if answer.is_last:
                    thread.told, thread.heard = "", later(thread.heard, thread.told)
                gone = self._compare(channel_id, thread, answer, low, high, root)
                records = [*self._records(channel_id, answer, all_of=True), *gone]
                yield Page(records, {stream: write_state(thread), **self._paced()})
        except SaidNo as no:
            if no.code in ("thread_not_found", "message_not_found"):
                # A deleted parent leaves a tombstone as long as it has replies: those went, too.
                is_over = not self.restricted and self._is_gone(channel_id, root, "")
                held = thread.held if is_over and self.window is None else []
                self.threads.pop((channel_id, root), None)
                yield Page([self._deletion(channel_id, ts, root) for ts in held], {stream: ""})
                return
            thread.told, thread.heard = "", later(thread.heard, thread.told)
            thread.polled = ts_of(now)
            yield Page(
                cursors={stream: write_state(thread)},
                notices=[f"{self._called(channel_id)}, replies in a thread: {no}"],
            )

    def _forgotten_threads(self) -> dict[str, str]:
        """Threads in which nothing has happened for the length of the look-back: if one goes on,
        its parent, or an event, tells of it."""
        horizon = ts_of(self.request.now - self.look_back)
        old = [
            key
            for key, thread in self.threads.items()
            if not thread.told and not is_after(thread.done, horizon)
        ]
        return {f"{channel_id}:{root}": "" for channel_id, root in old}

    # --- a window of history

    def _window(self, known: dict[str, Place]) -> Iterator[Page]:
        """Everything that was sent in it, replies on parents that are older included as far as
        the look-back goes."""
        try:
            for channel_id, place in known.items():
                if not place.over:
                    yield from self._window_of(channel_id, place)
                    yield Page(done=0.9 * sum(p.over for p in known.values()) / len(known))
            for key, thread in list(self.threads.items()):
                if thread.told:
                    yield from self._thread(*key, thread)
        except _Stop as stop:
            ends = self._pause_ends(stop.method)
            raise Wait(ends, ONE_A_MINUTE, self.api.scope(stop.method)) from None

    def _window_of(self, channel_id: str, place: Place) -> Iterator[Page]:
        assert self.window is not None
        begin = self.window.first
        if not self.restricted:
            begin -= self.look_back
        oldest = ts_of(begin - timedelta(microseconds=1))
        try:
            for answer, _, _ in self._history(channel_id, place.at or self.until, oldest):
                place.at = answer.stamps[-1] if answer.stamps else place.at
                place.over = answer.is_last
                yield self._page(channel_id, place, answer)
            place.over = True
        except SaidNo as no:
            place.over = True
            yield self._trouble(channel_id, place, no)

    # --- asking

    def _history(
        self, channel_id: str, latest: str, oldest: str
    ) -> Iterator[tuple[_Answer, int, int]]:
        """Answers, newest first, with the stretch (microseconds, ends not included) of which each
        has everything. `latest` is always given: without it, Slack pages from the oldest end."""
        cursor, high = "", micros(latest)
        while True:
            answer = self._ask(
                HISTORY,
                channel=channel_id,
                oldest=oldest,
                latest=latest,
                limit=self.limits.page,
                inclusive=False,
                **({"cursor": cursor} if cursor else {}),
            )
            answer.stamps.sort(key=micros, reverse=True)
            low = micros(oldest) if answer.is_last else _lowest(answer, high) - 1
            yield answer, low, high
            if answer.is_last:
                return
            cursor = answer.cursor
            if not cursor:
                if low + 1 >= high:
                    raise SaidNo("no way on through its history")
                latest = answer.stamps[-1]
            high = low + 1

    def _replies(
        self, channel_id: str, root: str, oldest: str
    ) -> Iterator[tuple[_Answer, int, int]]:
        """Answers, oldest first, with the stretch of which each has everything."""
        cursor, low = "", micros(oldest)
        is_first = True
        while True:
            answer = self._ask(
                REPLIES,
                channel=channel_id,
                ts=root,
                oldest=oldest,
                latest=self.until,
                limit=self.limits.page,
                inclusive=False,
                **({"cursor": cursor} if cursor else {}),
            )
            if not is_first:  # the parent stands on every page
                answer.messages[:] = [m for m in answer.messages if _ts(m) != root]
            answer.stamps[:] = sorted({ts for ts in answer.stamps if ts != root}, key=micros)
            high = micros(self.until) if answer.is_last else _highest(answer, low) + 1
            yield answer, low, high
            if answer.is_last:
                return
            if not answer.cursor:
                raise SaidNo("no way on through its thread")
            cursor, low, is_first = answer.cursor, high - 1, False

    def _ask(self, method: str, **arguments: str | int | bool) -> _Answer:
        made = self.calls.get(method, 0)
        is_paced = self.window is None or self.restricted
        is_early = made >= self.limits.calls or self._pause_ends(method) > datetime.now(UTC)
        if is_paced and is_early:
            raise _Stop(method)
        self.calls[method] = made + 1
        if self.restricted:
            setattr(self.pace, method.split(".")[1], ts_of(datetime.now(UTC)))
        answer = self.api.read(method, **arguments)
        messages = answer.get("messages")
        if not isinstance(messages, list):
            raise SaidNo("no list of messages")
        metadata = answer.get("response_metadata")
        cursor = metadata.get("next_cursor") if isinstance(metadata, dict) else None
        cursor = cursor if isinstance(cursor, str) else ""
        stamps = [ts for message in messages if (ts := _ts(message))]
        is_last = not (answer.get("has_more") or cursor) or not messages
        return _Answer(messages, stamps, cursor, is_last)

    def _pause_ends(self, method: str) -> datetime:
        """When a method may be asked again, as far as we pace ourselves."""
        asked = str(getattr(self.pace, method.split(".")[1]))
        if not self.restricted or not asked:
            return datetime.min.replace(tzinfo=UTC)
        return datetime.fromtimestamp(micros(asked) / 1e6, UTC) + self.limits.pause

    def _paced(self) -> dict[str, str]:
        return {PACE: write_state(self.pace)} if self.restricted else {}

    def _compare(
        self,
        channel_id: str,
        known: Place | Thread,
        answer: _Answer,
        low: int,
        high: int,
        root: str = "",
    ) -> list[Record]:
        """Word of what stood in the stretch of an answer and is gone, each confirmed by a question
        of its own; and what to compare with the next time."""
        if self.window is not None:
            return []
        gone: dict[str, Record] = {}
        if not self.restricted:
            for ts in missing(known.held, answer.stamps, low, high)[:CONFIRMED]:
                if self._is_gone(channel_id, ts, root):
                    gone[ts] = self._deletion(channel_id, ts, root)
        since = later(ts_of(self.request.now - self.stretch), self.since)
        known.held = still_held(known.held, answer.stamps, gone, since)
        return list(gone.values())

    def _is_gone(self, channel_id: str, ts: str, root: str) -> bool:
        alone: dict[str, str | int | bool] = {"oldest": ts, "latest": ts, "inclusive": True}
        try:
            if root:
                look = self._ask(REPLIES, channel=channel_id, ts=root, **alone)
            else:
                look = self._ask(HISTORY, channel=channel_id, limit=1, **alone)
        except (_Stop, SaidNo):
            return False  # there is a next time
        return not [message for message in look.messages if not root or _ts(message) != root]

    def _deletion(self, channel_id: str, ts: str, root: str) -> Record:
        item = {
            "type": "message",
            "subtype": "message_deleted",
            "deleted_ts": ts,
            "ts": ts_of(self.request.now),
            "communicator": {"seen": "it is no longer in the conversation"},
        }
        if root:
            item["previous_message"] = {"thread_ts": root, "ts": ts}
        return record(item, channel_id, self.kinds[channel_id], STAGE, HISTORY)

    # --- what an answer holds

    def _page(
        self, channel_id: str, place: Place, answer: _Answer, gone: list[Record] | None = None
    ) -> Page:
        place.polled = ts_of(self.request.now)
        moved = {channel_id: write_state(place), **self._paced(), **self._told(channel_id, answer)}
        return Page([*self._records(channel_id, answer), *(gone or ())], moved)

    def _records(self, channel_id: str, answer: _Answer, all_of: bool = False) -> list[Record]:
        """The messages since the beginning (of the account, or of the window); with `all_of`, a
        parent that is older too: replies cannot be understood without it."""
        records: list[Record] = []
        kind = self.kinds.get(channel_id, "channel")
        for message in answer.messages:
            entry = record(message, channel_id, kind, STAGE, HISTORY)
            if isinstance(entry, Envelope) and not all_of:
                ts = entry.message_id.rsplit(":", 1)[1]
                if not micros(self.since) <= micros(ts) < micros(self.until):
                    continue
            records.append(entry)
            if isinstance(message, dict):
                self._note_people(message)
        return records

    def _told(self, channel_id: str, answer: _Answer) -> dict[str, str]:
        """Threads that have replies which have not come in, as their parents tell."""
        moved: dict[str, str] = {}
        for message in answer.messages:
            root = _ts(message)
            if not root or message.get("thread_ts", root) != root or not message.get("reply_count"):
                continue
            latest = message.get("latest_reply")
            latest = latest if is_ts(latest) else self.until
            thread = self.threads.get((channel_id, root), Thread())
            if is_after(latest, later(later(thread.done, thread.heard), self.before)):
                thread.told = latest
                self.threads[channel_id, root] = thread
                moved[f"{channel_id}:{root}"] = write_state(thread)
        return moved

    def _trouble(self, channel_id: str, place: Place, no: SaidNo) -> Page:
        """A channel that cannot be read is no failure, and its cursor stays where it is."""
        place.trouble = str(no)
        if no.code == "missing_scope" and no.needed:
            place.trouble = f"add the scope {no.needed} to the app and install it again"
        return Page(cursors={channel_id: write_state(place)})

    def _called(self, channel_id: str) -> str:
        place = self.places.get(channel_id)
        return f"{place.title} ({channel_id})" if place and place.title else channel_id

    # --- conversations and people

    def _conversations(self) -> Iterator[tuple[list[Any], list[str]]]:
        """Those that the account is a member of, page by page, with notices."""
        types = [a.conversations for a in ABILITIES if a.conversations]
        notices: list[str] = []
        cursor = ""
        while True:
            arguments: dict[str, str | int | bool] = {
                "types": ",".join(types),
                "limit": LIST_PAGE,
                "exclude_archived": self.window is None,
            }
            try:
                answer = self.api.read(
                    "users.conversations", **arguments, **({"cursor": cursor} if cursor else {})
                )
            except SaidNo as no:
                left = self._allowed(types, no)
                if len(left) == len(types) or cursor:
                    raise
                types = left
                if not types:
                    yield [], self._notices_on_scopes()
                    return
                continue
            channels = answer.get("channels")
            if not cursor:
                notices = self._notices_on_scopes()
            yield (channels if isinstance(channels, list) else []), notices
            notices = []
            metadata = answer.get("response_metadata")
            following = metadata.get("next_cursor") if isinstance(metadata, dict) else ""
            if not isinstance(following, str) or following in ("", cursor):
                return
            cursor = following

    def _allowed(self, types: list[str], no: SaidNo) -> list[str]:
        """The types that are left when one of them lacks its scope."""
        if no.code != "missing_scope":
            return types
        needed = {a.conversations: a.scopes[0] for a in ABILITIES if a.conversations}
        if scopes := split_scopes(no.provided):
            return [kind for kind in types if needed[kind] in scopes]
        missed = split_scopes(no.needed) or frozenset()
        return [kind for kind in types if needed[kind] not in missed]

    def _notices_on_scopes(self) -> list[str]:
        notices = unreadable(split_scopes(self.api.scopes))
        if self.restricted:
            notices.append(
                f"{ONE_A_MINUTE}: a round through all chats takes long; let Slack push events"
            )
        return notices

    def _directory(self, listed: list[dict[str, Any]]) -> Iterator[Page]:
        """Names: the workspace's list once a day, the people who spoke and are not in it, and
        what channels are called."""
        try:
            yield from self._list_people()
            yield from self._look_up_people(listed)
        except SaidNo as no:
            why = "add the scope users:read to the app and install it again"
            why = why if no.code == "missing_scope" else str(no)
            yield Page(notices=[f"people's names are not known: {why}"])
        yield from self._name_channels(listed)

    def _list_people(self) -> Iterator[Page]:
        now, people = self.request.now, self.people
        if not people.next:
            if is_after(people.at, ts_of(now - DIRECTORY_EVERY)):
                return
            people.known = []
        for _ in range(MOST_LISTED // LIST_PAGE + 1):
            try:
                answer = self.api.read(
                    "users.list",
                    limit=LIST_PAGE,
                    **({"cursor": people.next} if people.next else {}),
                )
            except SaidNo as no:
                if no.code != "invalid_cursor" or not people.next:
                    raise
                people.next = ""
                continue
            members = answer.get("members")
            records = self._persons(members if isinstance(members, list) else [], "users.list")
            metadata = answer.get("response_metadata")
            following = metadata.get("next_cursor") if isinstance(metadata, dict) else ""
            people.next = following if isinstance(following, str) else ""
            if len(people.known) >= MOST_LISTED:
                people.next = ""
            if not people.next:
                people.at = ts_of(now)
            yield Page(records, {PEOPLE: write_state(people)})
            if not people.next:
                return

    def _look_up_people(self, listed: list[dict[str, Any]]) -> Iterator[Page]:
        known = set(self.people.known)
        if self.people.next:
            return  # the list is under way: whoever is missing comes with it
        for entry in listed:
            other = entry.get("user")
            if entry.get("is_im") and isinstance(other, str):
                self.unknown.setdefault(other)
        wanted = [p for p in self.unknown if p not in known and _PERSON.fullmatch(p)]
        for person_id in wanted if self.window else wanted[:LOOKED_UP]:
            records: list[Record] = []
            try:
                answer = self.api.read("users.info", user=person_id)
                records = self._persons([answer.get("user")], "users.info")
            except SaidNo as no:
                if no.code not in ("user_not_found", "user_not_visible"):
                    raise
            self.people.known = [*self.people.known, person_id]
            yield Page(records, {PEOPLE: write_state(self.people)})

    def _persons(self, users: list[Any], source: str) -> list[Record]:
        records: list[Record] = []
        for user in users:
            try:
                found = person(user, self.request.now)
            except BROKEN as error:
                letter = DeadLetter(STAGE, source, reason(error, "user"), shown(user))
                records.append(letter)
                continue
            self.names[found.person_id] = self.names["@" + found.handle] = found.name
            self.people.known.append(found.person_id)
            records.append(found)
        return records

    def _name_channels(self, listed: list[dict[str, Any]]) -> Iterator[Page]:
        records: list[Record] = []
        moved: dict[str, str] = {}
        for entry in listed:
            place = self.places.setdefault(entry["id"], Place())
            found = channel(entry, self.names, self.request.now)
            if found.name == place.title or (place.title and not self._can_name(entry)):
                continue
            place.title = found.name
            records.append(found)
            moved[entry["id"]] = write_state(place)
        yield Page(records, moved)

    def _can_name(self, entry: dict[str, Any]) -> bool:
        """Whether this pull learned how the people in a conversation are called."""
        if entry.get("is_im"):
            return entry.get("user") in self.names
        return all("@" + handle in self.names for handle in handles(entry))

    def _note_people(self, message: dict[str, Any]) -> None:
        author, text = message.get("user"), message.get("text")
        if isinstance(author, str):
            self.unknown.setdefault(author)
        if isinstance(text, str) and "<@" in text:
            for mentioned in _MENTION.findall(text):
                self.unknown.setdefault(mentioned)


ONE_A_MINUTE = "Slack lets this app read one page of 15 messages a minute"


def _number(connection: Connection, name: str, otherwise: int, most: int) -> int:
    """A setting that is a whole number; the default for one that is none, or too large: it may
    have been changed since the login looked at it."""
    given = connection.setting(name)
    is_good = given.isascii() and given.isdecimal() and len(given) < 5 and int(given) <= most
    return int(given) if is_good else otherwise


def _ts(message: Any) -> str:
    """A message's ts, "" if it has none that is one."""
    ts = message.get("ts") if isinstance(message, dict) else None
    return ts if isinstance(ts, str) and is_ts(ts) else ""


def _lowest(answer: _Answer, otherwise: int) -> int:
    return micros(answer.stamps[-1]) if answer.stamps else otherwise


def _highest(answer: _Answer, otherwise: int) -> int:
    return micros(answer.stamps[-1]) if answer.stamps else otherwise
