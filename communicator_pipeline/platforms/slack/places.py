"""How far a channel or a thread has been read: what the cursors say.

Belongs here: the cursors' texts, and the decisions that follow from them alone; pure. Does not
belong here: asking Slack (`reading.py`).

Streams: a channel's id; `<channel>:<root ts>` for a thread; `people` for the directory; `pace` for
when a restricted app asked last. A text that cannot be read is as good as none: it is read anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import orjson

from communicator_pipeline.platforms.slack.moments import is_ts, micros, time_of, ts_of

PEOPLE, PACE = "people", "pace"
_CHANNEL = re.compile(r"[A-Z][A-Z0-9]+")
_THREAD = re.compile(r"([A-Z][A-Z0-9]+):(\d{9,11}\.\d{6})")

MOST_HELD = 1_000  # ts that are remembered of one channel, to notice a deletion
QUIET = 20  # a channel that was silent for so many minutes is asked after one
ALWAYS = 30  # so many channels are asked at each pull, whatever they said lately
REREAD_EVERY = timedelta(hours=1)


class Limits(NamedTuple):
    """What Slack lets an app ask for: https://docs.slack.dev/apis/web-api/rate-limits
    (read 2026-11)."""

    calls: int  # of one method in one pull, and so about a minute
    page: int  # messages in one answer
    pause: timedelta  # between two calls of one method


INTERNAL = Limits(45, 400, timedelta(0))  # 50+ a minute, 999 messages at most
RESTRICTED = Limits(1, 15, timedelta(seconds=61))  # distributed outside of Slack's marketplace


@dataclass
class Place:
    """How far a channel is read. Every time in it is a ts."""

    done: str = ""  # everything up to here has come in
    top: str = ""  # a stretch under way, newest first: from here …
    at: str = ""  # … down to here it is read; it ends at `done`
    polled: str = ""  # when it was asked last
    deep: str = ""  # when the whole look-back was last begun to be read
    below: str = ""  # down to here; "" if it is read
    held: list[str] = field(default_factory=list)  # what stood in the stretch that is read again
    title: str = ""
    trouble: str = ""  # why it could not be read, in words
    over: bool = False  # of a window: everything is read


@dataclass
class Thread:
    """How far a thread is read."""

    done: str = ""  # the newest reply that has come in
    told: str = ""  # the newest reply that there is said to be, if it has not come in
    heard: str = ""  # what was told before, and looked for: a deleted reply may be told for ever
    polled: str = ""
    again: str = ""  # when its last stretch was read again
    held: list[str] = field(default_factory=list)


@dataclass
class People:
    """Who has been looked up."""

    at: str = ""  # when the list was last read to its end
    next: str = ""  # Slack's cursor in a list under way
    known: list[str] = field(default_factory=list)


@dataclass
class Pace:
    """When a restricted app last asked."""

    history: str = ""
    replies: str = ""


State = TypeVar("State", Place, Thread, People, Pace)


def read_state(text: str | None, kind: type[State]) -> State:
    """A cursor's state; an empty one if there is none, or none that can be read."""
    try:
        stored = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return kind()
    if not isinstance(stored, dict):
        return kind()
    empty = kind()
    values: dict[str, Any] = {}
    for entry in fields(kind):
        value = stored.get(entry.name)
        if type(value) is type(getattr(empty, entry.name)) and _sound(entry.name, value):
            values[entry.name] = value
    return kind(**values)


def write_state(state: Place | Thread | People | Pace) -> str:
    """The state as a cursor's text; what is empty is left out."""
    return orjson.dumps({k: v for k, v in asdict(state).items() if v}).decode()


def _sound(name: str, value: Any) -> bool:
    if name in ("title", "trouble", "next", "over"):
        return True
    if name == "known":
        return all(isinstance(entry, str) for entry in value)
    if name == "held":
        return all(is_ts(entry) for entry in value)
    return value == "" or is_ts(value)


def places(cursors: Mapping[str, str]) -> dict[str, Place]:
    """Channel → place."""
    return {
        stream: read_state(text, Place)
        for stream, text in cursors.items()
        if _CHANNEL.fullmatch(stream)
    }


def threads(cursors: Mapping[str, str]) -> dict[tuple[str, str], Thread]:
    """(channel, ts of the root) → thread."""
    return {
        (match[1], match[2]): read_state(text, Thread)
        for stream, text in cursors.items()
        if (match := _THREAD.fullmatch(stream))
    }


def later(one: str, other: str) -> str:
    """The later of two ts; "" is before all."""
    return max(one, other, key=_order)


def _order(ts: str) -> int:
    return micros(ts) if ts else -1


def is_after(one: str, other: str) -> bool:
    return _order(one) > _order(other)


def missing(held: Iterable[str], seen: Iterable[str], low: int, high: int) -> list[str]:
    """What stood between two instants (microseconds; `low` and `high` not included) and does not
    any more."""
    there = set(seen)
    return [ts for ts in held if low < micros(ts) < high and ts not in there]


def still_held(
    held: Iterable[str], seen: Iterable[str], gone: Iterable[str], since: str
) -> list[str]:
    """What is to be looked for at the next look, in order."""
    every = {*held, *seen} - set(gone)
    kept = sorted((ts for ts in every if is_after(ts, since)), key=micros)
    return kept[-MOST_HELD:]


def chosen(known: Mapping[str, Place], now: datetime) -> list[str]:
    """Which channels to ask now, the one that waits longest first.

    No list of Slack's says where something is new (`updated` is about a channel's settings), so
    each channel has to be asked. Those in which something happened lately come at every pull, the
    silent ones in turn.
    """

    def by_turn(channel: str) -> tuple[int, str]:
        return _order(known[channel].polled), channel

    lively = [c for c, place in known.items() if _is_lively(place, now)]
    silent = sorted((c for c in known if c not in set(lively)), key=by_turn)
    return sorted([*lively, *silent[: max(0, ALWAYS - len(lively))]], key=by_turn)


def _is_lively(place: Place, now: datetime) -> bool:
    if place.trouble:
        return False
    if place.at or place.below or not place.polled:
        return True
    if not place.done:
        return False
    silence = now - time_of(place.done)
    return now - time_of(place.polled) >= max(timedelta(0), silence / QUIET)


def due_threads(
    known: Mapping[tuple[str, str], Thread], stretch: timedelta, now: datetime
) -> list[tuple[str, str]]:
    """Which threads to read: those with replies that have not come in, then, once an hour, those
    with a reply in the last `stretch`; the one that waits longest first."""
    news = [key for key, thread in known.items() if thread.told]
    hour_ago, horizon = ts_of(now - REREAD_EVERY), ts_of(now - stretch)
    again = [
        key
        for key, thread in known.items()
        if not thread.told
        and is_after(thread.done, horizon)
        and not is_after(thread.again, hour_ago)
    ]

    def by_turn(key: tuple[str, str]) -> tuple[int, tuple[str, str]]:
        return _order(known[key].polled), key

    return [*sorted(news, key=by_turn), *sorted(again, key=by_turn)]
