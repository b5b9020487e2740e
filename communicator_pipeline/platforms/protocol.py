"""What a platform is to the rest of the project: the one contract that every package here keeps.

Belongs here: the protocol, the types that go through it, and the errors that a client may raise.
Does not belong here: finding the platforms (`__init__.py`), what calls them (`ingestion/`,
`gateway/`), anything that only one of them needs (its own package).

A platform has up to three sides. *Exports*: it reads the files that the platform gives its users.
*Understanding*: `normalise` says what a payload means; pure. *Live*: it logs in, pulls, is pushed
to and sends. A side that it does not have is `None` (`live`) or never recognises anything.

All calls are synchronous; a client whose library is asynchronous runs it in a loop of its own.
All times are UTC with a zone. All ids are text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from communicator_pipeline.messages import Message
from communicator_pipeline.platforms.archive import Archive
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.connections import Chats as Chats
from communicator_pipeline.storage.connections import Connection as Connection
from communicator_pipeline.storage.connections import Window as Window
from communicator_pipeline.storage.dead_letters import DeadLetter
from communicator_pipeline.storage.landing import Envelope

Record = Envelope | DeadLetter | Person | Channel
"""What a platform yields. One broken record is a DeadLetter in its place; the rest goes on."""

T = TypeVar("T")


class Arrived(NamedTuple):
    """An envelope with its payload parsed: what `normalise` is given."""

    message_id: str
    channel_id: str
    channel_kind: str
    kind: str
    payload: Any
    files: dict[str, str]  # path in the export → SHA-256 of the stored content


class Export(Protocol):
    """An export file that is open for reading."""

    title: str
    """A few words for the progress bar and for the account's name."""

    account_hint: str
    """What the account could be called, a slug: `acme` gives `ana-slack-acme`."""

    me: frozenset[str]
    """The owner's person ids, if the export says who that is."""

    def parts(self) -> Sequence[str]:
        """The pieces in which it is read, in an order that is always the same.

        A kill costs at most the piece that was under way: finished pieces are not read again.
        """

    def records(self, part: str) -> Iterator[Record]:
        """Everything in one piece, streaming. Raises `BrokenFile` for a file that cannot be
        read (on), after all that could be read of it."""


# --- logging in ------------------------------------------------------------------------------


class Field(NamedTuple):
    """Something that an account needs to log in, or that says how it behaves."""

    name: str
    words: str  # what a person is asked for, and where to find it
    secret: bool = False  # kept encrypted, never shown
    default: str | None = None  # None: it must be given
    fixed: bool = False  # part of the login: a token must not follow a change to another host


Ask = Callable[[Field], str]
"""Asks the person who logs in for one more thing (a code that was just sent, a password)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose account it is and what the login may do: what `accounts test` says."""

    person_ids: tuple[str, ...]  # the owner's, the one that posts first
    name: str
    place: str  # the workspace, server or service, for people
    can: tuple[str, ...] = ()  # sentences: "read public channels"
    cannot: tuple[str, ...] = ()  # sentences that say what to do: "read direct messages: add …"


# --- pulling ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What a pull is asked for.

    Without a `window`: everything new since the cursors; a stream that has none yet begins at
    `since`. With one: the messages sent in it, and the cursors are that window's own, so that a
    killed pull goes on where it was.
    """

    now: datetime
    since: datetime
    window: Window | None = None
    cursors: Mapping[str, str] = field(default_factory=dict)  # stream → position; any text
    chats: Chats = field(default_factory=Chats)
    waits: Mapping[str, datetime] = field(default_factory=dict)  # scope → not before, as persisted
    budget_usd: float | None = None  # what may still be spent; None: no cap


@dataclass(frozen=True, slots=True)
class Page:
    """Some of what a pull brings. Its records are landed durably before its cursors are kept;
    a page without records may move cursors too. A cursor of "" is forgotten."""

    records: Sequence[Record] = ()
    cursors: Mapping[str, str] = field(default_factory=dict)
    done: float | None = None  # 0…1: how much of the window is through, if that is known
    notices: Sequence[str] = ()  # what could not be read and what to do; said, never raised
    reads: int = 0  # billed objects
    cost_usd: float = 0.0


# --- sending ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """Where a reply goes: ids as messages have them (`message_id` whole, with its channel)."""

    channel_id: str
    thread_id: str | None = None  # message_id of the thread's root
    reply_to: str | None = None  # message_id that is answered


@dataclass(frozen=True, slots=True)
class Part:
    """One message on its way out: a reply, or a piece of one that was too long."""

    text: str
    number: int = 1  # 1…of
    of: int = 1


@dataclass(frozen=True, slots=True)
class Sent:
    """The platform has it. Its echo will come back under this id."""

    message_id: str
    sent_at: datetime | None = None  # as the platform says
    # The message itself, where the platform shows no echo of it: it is landed by whoever sent it.
    records: tuple[Record, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """It did not leave: the platform said no, or nothing reached it. With `not_before`: that
    was for now (a limit, no connection), and the same may be tried then."""

    reason: str  # what was wrong and what to do; no secrets
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have been sent or not: a time-out, a lost connection, a server's error."""

    reason: str


SendResult = Sent | Refused | Unknown


@dataclass(frozen=True, slots=True)
class Absent:
    """A complete look shows that it was not sent."""


@dataclass(frozen=True, slots=True)
class CannotTell:
    """The platform offers no look, or it was incomplete."""

    reason: str


FindResult = Sent | Absent | CannotTell

Unit = Literal["characters", "utf16", "bytes", "x_weighted"]


@dataclass(frozen=True, slots=True)
class Sending:
    """What a platform promises about sending: the delivery job decides by it."""

    repeats: bool  # the same token again sends nothing twice
    looks_up: bool  # `find_sent` can prove absence
    longest: int  # of one message, in `unit`
    unit: Unit = "characters"
    repeats_for: timedelta | None = None  # how long the platform remembers a token; None: for good


# --- being pushed to -------------------------------------------------------------------------


class Push(NamedTuple):
    """A request to the push endpoint, as it came."""

    method: str  # "GET" or "POST"
    headers: Mapping[str, str]  # names in lower case
    query: Mapping[str, str]
    body: bytes


class Accepted(NamedTuple):
    """Verified: to be queued under a key that is the same when it is pushed again."""

    key: str


class Answer(NamedTuple):
    """A question of the platform's to the endpoint itself; nothing is queued."""

    body: bytes
    content_type: str = "text/plain"
    status: int = 200


# --- errors ----------------------------------------------------------------------------------


class PlatformError(Exception):
    """Something that a client met; the message is for people and holds no secrets."""


class Wait(PlatformError):
    """The platform's limit: not before `until`. No failure; it is kept across processes.

    `scope` names what has to wait, by whatever the platform counts (`slack:T1:A1:history`);
    "" is the account.
    """

    def __init__(self, until: datetime, why: str, scope: str = "") -> None:
        super().__init__(why)
        self.until = until
        self.scope = scope


class LoginNeeded(PlatformError):
    """The token is dead, or was never good: nothing works until somebody logs in again."""


class Unreachable(PlatformError):
    """It did not answer, or not in a way that says anything: tried again later."""


class OverBudget(PlatformError):
    """The next call would cost more than may still be spent."""


class NotSupported(PlatformError):
    """The platform does not offer this; the message says what does."""


# --- the contract ----------------------------------------------------------------------------


class Client(Protocol):
    """A logged-in connection. Its library's own retries are off for sends; it never waits
    longer than a request takes, but raises `Wait`.

    Every method may raise the errors above, and nothing else.
    """

    def identity(self) -> Identity:
        """Who this is, and what the login can and cannot do."""

    def pull(self, request: PullRequest) -> Iterator[Page]:
        """What is asked for, page by page, each small enough for memory. A chat that cannot be
        read is a notice, and the others go on. Pages that were yielded before an error count."""

    def download(self, url: str, most: int) -> bytes:
        """The content of an attachment's `url`, as `normalise` gave it. Raises `FileNotFoundError`
        if it is gone and `ValueError` if it has more than `most` bytes."""

    def send(self, target: Target, part: Part, token: str) -> SendResult:
        """One request, no retry. `token` is the delivery's own and the same at every attempt."""

    def find_sent(self, target: Target, part: Part, token: str, since: datetime) -> FindResult:
        """Whether a send whose answer was lost did happen, at or after `since`."""


class Live(Protocol):
    """A platform's live side."""

    @property
    def fields(self) -> Sequence[Field]:
        """What `accounts add` asks for, in order."""

    @property
    def cadence(self) -> timedelta:
        """How often an account is pulled, unless it says otherwise."""

    def promise(self, connection: Connection) -> Sending:
        """What holds when this account sends: a bot may be promised less than its owner."""

    def login(self, values: Mapping[str, str], ask: Ask) -> Mapping[str, str]:
        """Turn the fields' values into what is kept, asking for more where it must (a code).

        Keys that are not among `fields` are kept as secrets. Raises `ValueError` or
        `PlatformError` in words."""

    def connect(self, connection: Connection) -> AbstractContextManager[Client]:
        """A client for the length of a `with`; nothing is sent before its first method."""

    def receive(self, push: Push, connection: Connection, now: datetime) -> Accepted | Answer:
        """Verify a push over its raw bytes. Any exception means that it is refused (401).
        Reads nothing and writes nothing. Raises `NotSupported` where there is no push."""

    def events(self, body: bytes, connection: Connection) -> Iterator[Record]:
        """What a verified body holds; no exception for a broken record, but a DeadLetter.
        An event that is of no interest yields nothing."""


class Platform(Protocol):
    """What a platform's package offers, as `PLATFORM` in its `__init__`."""

    @property
    def name(self) -> str:
        """A slug: in account keys, entry points and push addresses."""

    @property
    def live(self) -> Live | None:
        """Its live side, if it has one."""

    def recognises(self, archive: Archive) -> bool:
        """Whether this looks like one of the platform's exports: a quick look at the names."""

    def open_export(self, archive: Archive) -> Export:
        """Open it; raises `BrokenFile` with what is missing."""

    def normalise(self, arrived: Arrived) -> Message:
        """The message that the payload is; any exception makes a dead letter of it."""
