"""What the delivery tests share: a platform in memory, a clock that can be set, conversations.

The platform counts what arrived, and its requests may be lost, late or half-answered as the test
says. The database is the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from communicator_pipeline.delivery.clock import Instant
from communicator_pipeline.delivery.senders import Sender
from communicator_pipeline.platforms.protocol import (
    Absent,
    CannotTell,
    Client,
    FindResult,
    Identity,
    Page,
    Part,
    PullRequest,
    Refused,
    Sending,
    SendResult,
    Sent,
    Target,
    Unknown,
)
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, add_user
from communicator_pipeline.storage.database import utc_text
from communicator_pipeline.storage.inbox import PublishedDay, publish

ACCOUNT = "ana-box"
START = datetime(2026, 11, 2, 9, tzinfo=UTC)  # a Monday
QUIET = timedelta(seconds=120)

PROMISES: Mapping[str, Sending] = {
    "key": Sending(repeats=True, looks_up=False, longest=4_000),
    "short key": Sending(
        repeats=True, looks_up=False, longest=4_000, repeats_for=timedelta(minutes=30)
    ),
    "key and look-up": Sending(
        repeats=True, looks_up=True, longest=4_000, repeats_for=timedelta(minutes=30)
    ),
    "look-up": Sending(repeats=False, looks_up=True, longest=4_000),
    "neither": Sending(repeats=False, looks_up=False, longest=4_000),
}


class FakeClock:
    """Time that passes when the test says so. `jump` sets the wall clock alone."""

    def __init__(self) -> None:
        self.steady = 1_000.0
        self.offset = 0.0
        self.boot = "boot-1"

    def __call__(self) -> Instant:
        wall = START + timedelta(seconds=self.steady - 1_000.0 + self.offset)
        return Instant(wall, self.boot, self.steady)

    def pass_by(self, seconds: float) -> None:
        self.steady += seconds

    def jump(self, seconds: float) -> None:
        self.offset += seconds


@dataclass
class Arrival:
    token: str
    message_id: str
    target: Target
    text: str
    at: float  # the steady clock


Behaviour = str
"""What happens to a request: `ok`; `lost answer` (it arrives, nobody hears of it); `lost` (it does
not arrive, nobody hears of it); `late` (it arrives later, the client has given up); `no` (refused);
`wait` (429); `raises` (it arrives, and the client breaks)."""


class Platform:
    """A chat service in memory: what arrived, and what it remembers of it."""

    def __init__(self, promise: Sending, clock: FakeClock) -> None:
        self.promise = promise
        self.clock = clock
        self.arrivals: list[Arrival] = []
        self.requests: list[tuple[str, str]] = []  # token, text of each request that left
        self.looks = 0
        self.behave: Callable[[], Behaviour] = lambda: "ok"
        self.under_way: list[tuple[float, Target, Part, str]] = []
        self.can_look = True
        self.sinces: list[datetime] = []

    # what the network does

    def arrive(self, target: Target, part: Part, token: str, moment: float | None = None) -> str:
        """A request has come in, now or at a moment that has gone by; under a key that is known,
        nothing new is made of it."""
        at = self.clock.steady if moment is None else moment
        if self.promise.repeats:
            remembered = self.promise.repeats_for
            for old in self.arrivals:
                age = at - old.at
                if old.token == token and (remembered is None or age < remembered.total_seconds()):
                    return old.message_id
        message_id = f"{target.channel_id}:sent-{len(self.arrivals) + 1}"
        self.arrivals.append(Arrival(token, message_id, target, part.text, at))
        return message_id

    def settle(self) -> None:
        """Whatever was under way and whose time has come has arrived."""
        due = [request for request in self.under_way if request[0] <= self.clock.steady]
        self.under_way = [r for r in self.under_way if r[0] > self.clock.steady]
        for moment, target, part, token in due:
            self.arrive(target, part, token, moment)

    def counts(self) -> dict[str, int]:
        """token → how often it arrived."""
        found: dict[str, int] = {}
        for arrival in self.arrivals:
            found[arrival.token] = found.get(arrival.token, 0) + 1
        return found

    # the client

    def send(self, target: Target, part: Part, token: str) -> SendResult:
        self.settle()
        self.requests.append((token, part.text))
        match self.behave():
            case "ok":
                return Sent(self.arrive(target, part, token), None)
            case "lost answer":
                self.arrive(target, part, token)
                return Unknown("the connection was reset")
            case "lost":
                return Unknown("the connection was reset")
            case "late":
                delay = QUIET.total_seconds() - 5
                self.under_way.append((self.clock.steady + delay, target, part, token))
                return Unknown("timed out")
            case "no":
                return Refused("you may not write here")
            case "wait":
                return Refused("slow down", self.clock().wall + timedelta(seconds=30))
            case "raises":
                self.arrive(target, part, token)
                raise RuntimeError("the answer could not be read")
            case other:
                raise AssertionError(other)

    def find_sent(self, target: Target, part: Part, token: str, since: datetime) -> FindResult:
        self.settle()
        self.looks += 1
        self.sinces.append(since)
        if not self.promise.looks_up:
            return CannotTell("there is no way to look")
        if not self.can_look:
            raise ConnectionError("no connection")
        for arrival in self.arrivals:
            if arrival.token == token:
                return Sent(arrival.message_id, None)
        return Absent()

    def identity(self) -> Identity:
        return Identity(("ana",), "Ana", "here")

    def pull(self, request: PullRequest) -> Iterator[Page]:
        return iter(())

    def download(self, url: str, most: int) -> bytes:
        raise FileNotFoundError(url)


@dataclass
class Network:
    """Platforms by account, as `Senders`."""

    platforms: dict[str, Platform] = field(default_factory=dict)

    @contextmanager
    def open(self, account: str) -> Iterator[Sender]:
        platform = self.platforms[account]
        client: Client = platform
        yield Sender(client, platform.promise, lambda text: text.replace("hush", "•••"))


def add_box(stores: Stores, account: str = ACCOUNT, platform: str = "sandbox") -> None:
    """An account of the one platform that is open by itself, of ana; bo reviews, vi reads."""
    for name in ("ana", "bo", "vi"):
        add_user(stores.database, name, name.title())
    accounts = Accounts(stores.database, "ana")
    accounts.add(account, platform, "Box")
    accounts.set_me(account, ["ana"])
    for name, role in (("bo", "reviewer"), ("vi", "viewer")):
        stores.database.execute(
            "INSERT OR IGNORE INTO account_members (account, user_id, role) VALUES (?, ?, ?)",
            (account, name, role),
        )


def say(
    stores: Stores,
    text: str,
    *,
    at: datetime = START - timedelta(minutes=5),
    author: str = "kim",
    number: str = "1",
    conversation: str = "c1",
    channel: str = "general",
    account: str = ACCOUNT,
    version: int = 1,
    deleted: bool = False,
    thread: str | None = None,
    reactions: list[dict[str, Any]] | None = None,
    draft: str | None = None,
    **of_draft: Any,
) -> str:
    """A message in a conversation, as the chain brings it into the database; with a draft if one
    is given. Returns its message_id."""
    moment = utc_text(at)
    message_id = f"{channel}:{number}"
    category = of_draft.pop("category", "question")
    flags = of_draft.pop("conversation_flags", [])
    message = {
        "message_id": message_id,
        "channel_id": channel,
        "sent_at": moment,
        "author_id": author,
        "author_name": author.title(),
        "author_is_bot": False,
        "kind": "message",
        "text": "" if deleted else text,
        "thread_id": thread,
        "reply_to": None,
        "attachments": [],
        "reactions": reactions or [],
        "edited_at": moment if version > 1 else None,
        "deleted": deleted,
        "version": version,
        "conversation_id": conversation,
        "parent_message_id": None,
        "link_reason": "flow",
        "link_score": 1.0,
        "link_why": "",
    }
    if draft is None:
        sql, params = _plain_insert(account, moment[:10], message)
        stores.database.execute(sql, params)
        return message_id
    analysis = {
        "conversation_id": conversation,
        "as_of": moment,
        "channel_id": channel,
        "started_at": moment,
        "last_message_at": moment,
        "last_author": author,
        "message_count": 1,
        "people": [author],
        "language": "en",
        "category": category,
        "category_reason": "",
        "priority": 50,
        "priority_reasons": [],
        "needs_reply": True,
        "needs_reply_score": 0.9,
        "needs_reply_reason": "",
        "waiting_since": moment,
        "summary": "",
        "summary_message_ids": [],
        "sentiment": 0.0,
        "confidence": 0.9,
        "flags": flags,
        "model": "test",
        "prompt": "",
        "stood_in": "",
        "withheld": [],
    }
    drafted = {
        "conversation_id": conversation,
        "version": 1,
        "outcome": "ready" if draft else "no_reply",
        "text": draft,
        "language": "en",
        "gaps": [],
        "rests_on": [message_id],
        "reason": "",
        "flags": [],
        "confidence": 0.9,
        "model": "test",
        "prompt": "",
        "stood_in": "",
        "withheld": [],
        **of_draft,
    }
    day = PublishedDay(account, moment[:10], 1, "d", [message], [analysis], [drafted])
    assert publish(stores.database, day)
    return message_id


def _plain_insert(account: str, day: str, message: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """A newer message or version, without touching the day's analyses and drafts."""
    columns = {"account": account, "day": day, **message, "search_text": None}
    columns["attachments"], columns["reactions"] = "[]", str(message["reactions"])
    columns["deleted"], columns["author_is_bot"] = int(message["deleted"]), 0
    names = ", ".join(columns)
    marks = ", ".join("?" * len(columns))
    news = ", ".join(f"{n} = excluded.{n}" for n in columns if n not in ("account", "message_id"))
    sql = (
        f"INSERT INTO messages ({names}) VALUES ({marks}) "
        f"ON CONFLICT (account, message_id) DO UPDATE SET {news}"
    )
    return sql, list(columns.values())
