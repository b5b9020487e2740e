"""Pulling from X: four streams, each paid for by what it brings.

Belongs here: streams, cursors, what may be spent. Does not belong here: HTTP (`api.py`), what an
answer says (`reading.py`), prices (`prices.py`).

X answers newest first. A stream's cursor (`mentions`) is the newest id below which all was read; it
moves only when all pages down to the last cursor were. Until then `mentions:pages` says how far the
reading has come, so that a kill, a limit or a used-up budget puts off the rest and loses nothing.
`fields` is the spelling of fields that the server takes; `billed` are the ids that were paid for
today. A window of history has cursors of its own, and `mentions:done`.

A limit on one stream does not stop the others; it is raised behind them. While it stands, that
stream is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from communicator_pipeline.platforms.instants import iso_micros, moment
from communicator_pipeline.platforms.protocol import (
    OverBudget,
    Page,
    PullRequest,
    Record,
    Wait,
)
from communicator_pipeline.platforms.x.api import DIRECT_MESSAGES, POSTS, Api, Declined, Spelling
from communicator_pipeline.platforms.x.export import FEED
from communicator_pipeline.platforms.x.prices import (
    DIRECT_MESSAGE_READ,
    OWNED_READ,
    POST_READ,
    affordable,
    cost,
)
from communicator_pipeline.platforms.x.reading import (
    Around,
    read_direct_message,
    read_post,
    snowflake_micros,
)
from communicator_pipeline.storage.accounts import Channel
from communicator_pipeline.storage.landing import Envelope

FIRST_DIRECT_MESSAGES = 5
"""So many are read at first, for the API cannot be asked for those since the last look: those that
were known already are paid for again each day. Doubled from page to page."""

SEARCHED_BACK = timedelta(days=7) - timedelta(minutes=1)
"""https://docs.x.com/x-api/posts/search/introduction (read 2026-11): recent search has 7 days."""

_NEWEST_ALLOWED = timedelta(seconds=15)  # `end_time` must lie 10 seconds back
_MOST_BILLED = 2_000
_STAGE = "pull"


@dataclass(frozen=True, slots=True)
class Stream:
    """A list that X offers."""

    name: str
    path: str
    words: str  # for people
    each: float  # US dollars for an object in it
    least: int  # objects that must be asked for
    fields: Mapping[Spelling, Mapping[str, str]]
    more: Mapping[str, str]
    takes_times: bool = True  # since_id, start_time and end_time


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the reading of a stream has come, while it is not through."""

    token: str = ""  # of the next page
    newest: str = ""  # id that the stream's cursor becomes at the end
    known: str = ""  # id down to which it is read
    asked: int = 0  # objects on the last page

    @classmethod
    def load(cls, position: str) -> Progress | None:
        try:
            token, newest, known, asked = orjson.loads(position)
            return cls(str(token), str(newest), str(known), int(asked))
        except (ValueError, TypeError):
            return None

    def dump(self) -> str:
        return orjson.dumps([self.token, self.newest, self.known, self.asked]).decode()


class Puller:
    """One pull."""

    def __init__(self, api: Api, me: str, search: str, request: PullRequest) -> None:
        self._api = api
        self._me = me
        self._request = request
        self._streams = _streams(me, search)
        self._spent = 0.0
        spelling = request.cursors.get("fields")
        self._spelling: Spelling = "tweet" if spelling == "tweet" else "post"
        self._is_sure = spelling in ("post", "tweet")
        self._today = datetime.now(UTC).date().isoformat()
        self._billed = _billed(request.cursors.get("billed", ""), self._today)

    def pages(self) -> Iterator[Page]:
        waits: list[tuple[Stream, Wait]] = []
        held = 0
        wanted = [s for s in self._streams if self._wants(s)]
        for number, stream in enumerate(wanted):
            if self._request.waits.get(self._scope(stream), datetime.min.replace(tzinfo=UTC)) > (
                datetime.now(UTC)
            ):
                held += 1
                yield Page(notices=[f"X limits how often {stream.words} may be read: later"])
                continue
            try:
                for page in self._read(stream):
                    done = None if self._request.window is None else number / len(wanted)
                    yield page if done is None else replace(page, done=done)
            except Wait as wait:
                waits.append((stream, wait))
            except Declined as declined:
                if declined.status not in (403, 404):
                    raise
                yield Page(notices=[f"{stream.words} cannot be read: {declined}"])
        if waits:
            last = max(waits, key=lambda found: found[1].until)
            if len(waits) + held == len(wanted):
                first = min(waits, key=lambda found: found[1].until)[1]
                raise Wait(first.until, str(first))
            raise Wait(last[1].until, str(last[1]), self._scope(last[0]))
        if self._request.window is not None:
            gone = [name for name in self._request.cursors if name not in ("fields", "billed")]
            names = [name for s in wanted for name in _cursor_names(s)]
            yield Page(cursors=dict.fromkeys([*gone, *names], ""), done=1.0)

    def _wants(self, stream: Stream) -> bool:
        window = self._request.window
        if window is not None and f"{stream.name}:done" in self._request.cursors:
            return False
        if stream.name == "search" and window is not None:
            return window.last > datetime.now(UTC) - SEARCHED_BACK
        return stream.name == "dms" or self._request.chats.wants(FEED)

    def _scope(self, stream: Stream) -> str:
        return f"x:{self._me}:{stream.name}"

    def _read(self, stream: Stream) -> Iterator[Page]:
        """All that is new in a stream: what an earlier pull left, then what has come since."""
        known = self._request.cursors.get(stream.name, "")
        left = Progress.load(self._request.cursors.get(f"{stream.name}:pages", ""))
        if left is not None:
            known = left.newest
            yield from self._pages_of(stream, left)
            if self._request.window is not None:
                return
        yield from self._pages_of(stream, Progress(known=known))

    def _pages_of(self, stream: Stream, progress: Progress) -> Iterator[Page]:
        has_lost_its_place = False
        while True:
            most = self._affordable(stream, progress)
            try:
                answer = self._ask(stream, progress, most)
            except Declined as declined:
                if declined.status == 400 and progress.token and not has_lost_its_place:
                    # A page's token does not live for ever: begin at the newest again.
                    has_lost_its_place = True
                    progress = replace(progress, token="", asked=0)
                    continue
                raise
            items = _list(answer.get("data"))
            around = Around.of(answer.get("includes"))
            records, over = self._records(stream, items, around, progress)
            reads, price = self._pay(stream, items, answer)
            token = _object(answer.get("meta")).get("next_token")
            over = over or not isinstance(token, str) or token in ("", progress.token)
            newest = _newest([progress.newest, *(_id(item) for item in items)])
            progress = Progress(str(token), newest, progress.known, most)
            cursors = {f"{stream.name}:pages": "" if over else progress.dump()}
            if over and self._request.window is None:
                cursors[stream.name] = _newest([newest, progress.known])
            elif over:
                cursors[f"{stream.name}:done"] = "1"
            cursors["fields"] = self._spelling
            if reads:
                cursors["billed"] = orjson.dumps([self._today, self._billed]).decode()
            notices = _partial(answer, stream)
            yield Page(records, cursors, notices=notices, reads=reads, cost_usd=price)
            if over:
                return

    def _affordable(self, stream: Stream, progress: Progress) -> int:
        """How many objects to ask for: what fits the budget, if each of them is new and answers
        another one that comes along."""
        most = 100
        if stream.name == "dms" and progress.known:
            most = min(100, 2 * progress.asked or FIRST_DIRECT_MESSAGES)
        brings_others = stream.fields is POSTS and self._spelling == "post"
        each = stream.each + (POST_READ if brings_others else 0)
        count = affordable(self._request.budget_usd, self._spent, each, most)
        if count < stream.least:
            raise OverBudget(
                f"reading {stream.words} may cost {each * stream.least:.3f} US dollars, and less "
                "is left of this month's cap_usd"
            )
        return count

    def _ask(self, stream: Stream, progress: Progress, most: int) -> dict[str, Any]:
        """One page, in the spelling that the server takes."""
        try:
            answer = self._api.get(stream.path, self._parameters(stream, progress, most))
        except Declined as declined:
            if self._is_sure or not _is_about_fields(declined):
                raise
            self._spelling = "tweet" if self._spelling == "post" else "post"
            self._is_sure = True
            answer = self._api.get(stream.path, self._parameters(stream, progress, most))
        self._is_sure = True
        return answer

    def _parameters(self, stream: Stream, progress: Progress, most: int) -> dict[str, str]:
        asked = {**stream.fields[self._spelling], **stream.more, "max_results": str(most)}
        if progress.token:
            asked["pagination_token"] = progress.token
        if not stream.takes_times:
            return asked
        window, now = self._request.window, datetime.now(UTC)
        if window is not None:
            asked["start_time"] = _time(window.first)
            if window.last < now - _NEWEST_ALLOWED:
                asked["end_time"] = _time(window.last + timedelta(seconds=1))
        elif progress.known:
            asked["since_id"] = progress.known
        else:
            asked["start_time"] = _time(self._request.since)
        if stream.name == "search" and "start_time" in asked:
            earliest = now - SEARCHED_BACK
            asked["start_time"] = max(asked["start_time"], _time(earliest))
        return asked

    def _records(
        self, stream: Stream, items: list[Any], around: Around, progress: Progress
    ) -> tuple[list[Record], bool]:
        """What a page holds, and whether what is known begins in it."""
        now = datetime.now(UTC)
        records: list[Record] = list(around.people(now))
        source = f"X, {stream.words}"
        first, last = self._bounds(stream)
        if stream.name != "dms":
            if items:
                records.append(Channel(FEED, "Posts", "feed", now))
            for item in items:
                sent = _sent(item)
                if sent is None or first <= sent < last:
                    records.append(read_post(item, around, _STAGE, source))
            return records, False
        over = False
        wants = self._request.chats.wants
        for item in items:
            native, sent = _id(item), _sent(item)
            if progress.known and native and int(native) <= int(progress.known):
                over = True
                continue
            if sent is not None and sent < first:
                over = True
                continue
            if sent is not None and sent >= last:
                continue
            found = list(read_direct_message(item, around, self._me, now, _STAGE, source))
            records += [r for r in found if not isinstance(r, Envelope) or wants(r.channel_id)]
        return records, over

    def _bounds(self, stream: Stream) -> tuple[datetime, datetime]:
        window = self._request.window
        if window is not None:
            return window.first, window.last
        is_first = stream.name not in self._request.cursors
        beginning = self._request.since if is_first else datetime(1970, 1, 1, tzinfo=UTC)
        return beginning, datetime.max.replace(tzinfo=UTC)

    def _pay(
        self, stream: Stream, items: list[Any], answer: Mapping[str, Any]
    ) -> tuple[int, float]:
        """Objects that are billed, and their price; those of today are free."""
        includes = _object(answer.get("includes"))
        besides = [_id(post) for name in ("posts", "tweets") for post in _list(includes.get(name))]
        letter = "d" if stream.name == "dms" else "p"
        own = [f"{letter}{_id(item)}" for item in items if _id(item)]
        others = [f"p{native}" for native in besides if native and f"p{native}" not in own]
        price = cost(own, self._billed, stream.each) + cost(others, self._billed, POST_READ)
        new = [key for key in dict.fromkeys([*own, *others]) if key not in set(self._billed)]
        self._billed = [*self._billed, *new][-_MOST_BILLED:]
        self._spent += price
        return len(new), price


def _streams(me: str, search: str) -> list[Stream]:
    found = [
        Stream(
            "mentions",
            f"/2/users/{me}/mentions",
            "posts that mention you",
            OWNED_READ,
            5,
            POSTS,
            {},
        ),
        Stream("posts", f"/2/users/{me}/tweets", "your own posts", OWNED_READ, 5, POSTS, {}),
        Stream(
            "dms",
            "/2/dm_events",
            "direct messages",
            DIRECT_MESSAGE_READ,
            1,
            DIRECT_MESSAGES,
            {},
            takes_times=False,
        ),
    ]
    if search:
        found.append(
            Stream(
                "search",
                "/2/tweets/search/recent",
                "posts that the search finds",
                POST_READ,
                10,
                POSTS,
                {"query": search},
            )
        )
    return found


def _cursor_names(stream: Stream) -> Iterator[str]:
    yield from (stream.name, f"{stream.name}:pages", f"{stream.name}:done")


def _is_about_fields(declined: Declined) -> bool:
    words = declined.words.lower()
    return declined.status in (400, 422) and any(
        name in words for name in (".fields", "expansions", "parameter")
    )


def _partial(answer: Mapping[str, Any], stream: Stream) -> list[str]:
    """X answers with what it has and says what is missing: of posts that nobody may see, that is
    no news."""
    for error in _list(answer.get("errors")):
        kind = _object(error).get("type")
        if isinstance(kind, str) and kind.endswith(("client-forbidden", "usage-capped")):
            detail = str(_object(error).get("detail") or kind)[:200]
            return [f"{stream.words}: {detail}".encode(errors="replace").decode()]
    return []


def _billed(position: str, today: str) -> list[str]:
    try:
        day, ids = orjson.loads(position) if position else ("", [])
    except (ValueError, TypeError):
        return []
    return [i for i in _list(ids) if isinstance(i, str)] if day == today else []


def _newest(ids: list[str]) -> str:
    return max((i for i in ids if i), key=int, default="")


def _id(item: Any) -> str:
    """An object's id if it is a number, as all of X's are; "" otherwise."""
    native = _object(item).get("id")
    is_number = isinstance(native, str) and native.isascii() and native.isdigit()
    return str(native) if is_number and len(str(native)) < 25 else ""


def _sent(item: Any) -> datetime | None:
    created = _object(item).get("created_at")
    try:
        told = iso_micros(created) if isinstance(created, str) else snowflake_micros(_id(item))
        return None if told is None else moment(told)
    except (ValueError, OverflowError):
        return None


def _time(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
