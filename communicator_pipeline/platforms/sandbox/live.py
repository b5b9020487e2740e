"""The sandbox, live. The API is described in `server.py`.

How a send can be made good again is the account's `mode`, so that each kind of platform has its
double: `key` (the service knows a repeated send), `lookup` (it can be asked for what it has) and
`neither` (a person has to decide).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import xxhash

from communicator_pipeline.platforms.certificates import trusted
from communicator_pipeline.platforms.instants import day_of, iso_micros, moment
from communicator_pipeline.platforms.protocol import (
    Absent,
    Accepted,
    Answer,
    Ask,
    CannotTell,
    Client,
    Connection,
    Field,
    FindResult,
    Identity,
    LoginNeeded,
    NotSupported,
    Page,
    Part,
    PullRequest,
    Push,
    Record,
    Refused,
    Sending,
    SendResult,
    Sent,
    Target,
    Unknown,
    Unreachable,
    Wait,
)
from communicator_pipeline.platforms.rejected import dead_letter
from communicator_pipeline.platforms.sandbox.chat import FILE, LONGEST, Chat, person_id
from communicator_pipeline.storage import home
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.landing import Envelope

BASE_URL = "http://127.0.0.1:8701"
TIMEOUT = httpx.Timeout(10.0)
SOON = timedelta(seconds=1)  # it is on this machine: when it is back, it is back at once
EVENTS = "events"  # the one stream of what is new
MODES = ("key", "lookup", "neither")
HERE = ("127.0.0.1", "localhost")
START = "start it with communicator sandbox serve"


class SandboxLive:
    fields = (
        Field("name", "who you are in the chat", default="you"),
        Field("mode", "what sending is like: key, lookup or neither", default="key"),
        Field("base_url", "the server's address", default=BASE_URL),
        Field("token", "its token (empty: the one of this home)", secret=True, default=""),
    )
    cadence = timedelta(seconds=1)

    def promise(self, connection: Connection) -> Sending:
        mode = connection.setting("mode")
        return Sending(repeats=mode == "key", looks_up=mode == "lookup", longest=LONGEST)

    def login(self, values: Mapping[str, str], ask: Ask) -> Mapping[str, str]:
        if values["mode"] not in MODES:
            raise ValueError(f"mode should be one of {', '.join(MODES)}, not {values['mode']!r}")
        person_id(values["name"])
        address = _address(values["base_url"])
        if values["token"]:
            return values
        if address.host not in HERE:
            raise ValueError("token is missing: only the sandbox of this home is known without")
        return {**values, "token": Chat(home() / FILE).token()}

    @contextmanager
    def connect(self, connection: Connection) -> Iterator[Client]:
        name = connection.setting("name", "you")
        headers = {
            "authorization": f"Bearer {connection.secrets['token']}",
            "x-sandbox-name": quote(name),
        }
        try:
            address = _address(connection.setting("base_url"))
        except ValueError as error:
            raise Unreachable(str(error)) from None
        # trust_env: a proxy cannot reach this machine's 127.0.0.1.
        with httpx.Client(
            base_url=address, headers=headers, timeout=TIMEOUT, verify=trusted(), trust_env=False
        ) as http:
            yield SandboxClient(http, connection.setting("mode"))

    def receive(self, push: Push, connection: Connection, now: datetime) -> Accepted | Answer:
        raise NotSupported("the sandbox does not push: it is pulled every second")

    def events(self, body: bytes, connection: Connection) -> Iterator[Record]:
        yield from read_event(body, "push")


class SandboxClient:
    def __init__(self, http: httpx.Client, mode: str) -> None:
        self._http = http
        self._mode = mode

    def identity(self) -> Identity:
        me = self._get("/me", {})
        told = [str(me.get(name) or "") for name in ("id", "name", "server")]
        if not all(told):
            raise _stranger("/me")
        person, name, server = told
        return Identity((person,), name, server, ("read and send messages",))

    def pull(self, request: PullRequest) -> Iterator[Page]:
        return self._window(request) if request.window else self._new(request)

    def _new(self, request: PullRequest) -> Iterator[Page]:
        after = request.cursors.get(EVENTS)
        query = {"after": after} if after else {"since": request.since.isoformat()}
        while True:
            events, after = self._list("/events", "events", query)
            if not events:
                return
            yield Page(list(_records(events, request)), {EVENTS: after})
            query = {"after": after}

    def _window(self, request: PullRequest) -> Iterator[Page]:
        assert request.window is not None
        first, last = (when.isoformat() for when in request.window)
        after = request.cursors.get("after", "0")
        while True:
            query = {"first": first, "last": last, "after": after}
            messages, after = self._list("/messages", "messages", query)
            if not messages:
                return
            yield Page(list(_records(messages, request)), {"after": after})

    def download(self, url: str, most: int) -> bytes:
        raise FileNotFoundError("the sandbox has no files")

    def send(self, target: Target, part: Part, token: str) -> SendResult:
        mark = _mark(part, token)
        body = {
            "channel": target.channel_id,
            "thread": _native(target.thread_id, target.channel_id),
            "reply_to": _native(target.reply_to, target.channel_id),
            "text": part.text,
            "key": mark if self._mode == "key" else None,
            "metadata": mark if self._mode == "lookup" else None,
        }
        headers = {"content-type": "application/json", "x-sandbox-delivery": quote(mark)}
        try:
            content = orjson.dumps(body)
        except orjson.JSONEncodeError:
            return Refused("the text has half a character (a lone surrogate): edit it")
        try:
            answer = self._http.post("/messages", content=content, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return Refused(f"the sandbox does not answer: {START}", datetime.now(UTC) + SOON)
        except httpx.HTTPError as error:
            return Unknown(f"the sandbox did not answer: {type(error).__name__}")
        return _result(answer, target)

    def find_sent(self, target: Target, part: Part, token: str, since: datetime) -> FindResult:
        if self._mode != "lookup":
            return CannotTell(f"an account in the mode {self._mode} has no look-up")
        query = {"metadata": _mark(part, token)}
        messages, _ = self._list("/messages", "messages", query)
        if not messages:
            return Absent()
        sent = _sent(messages[0], target)
        return sent or CannotTell("the sandbox found something that is no message")

    def _list(self, path: str, name: str, query: Mapping[str, str]) -> tuple[list[Any], str]:
        answer = self._get(path, query)
        found, after = answer.get(name), answer.get("next")
        if not isinstance(found, list) or not isinstance(after, str):
            raise _stranger(path)
        return found, after

    def _get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        try:
            answer = self._http.get(path, params=query)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise Unreachable(f"the sandbox does not answer: {START}") from None
        except httpx.HTTPError as error:
            raise Unreachable(f"the sandbox did not answer: {type(error).__name__}") from None
        if answer.status_code == 401:
            raise LoginNeeded("the sandbox does not know the token (any more)")
        if answer.status_code == 429:
            raise Wait(_retry_at(answer), "the sandbox's limit")
        if not answer.is_success:
            raise Unreachable(f"the sandbox answered {answer.status_code} to {path}")
        told = _parsed(answer)
        if not isinstance(told, dict):
            raise _stranger(path)
        return told


def read_event(body: bytes, stage: str) -> Iterator[Record]:
    """What an event says: who, where, and the message; a DeadLetter if it is broken."""
    try:
        records = list(_read(orjson.loads(body)))
    except Exception as error:  # whatever a broken record does to a parser
        yield dead_letter(error, f"{stage} of an event", body, stage=stage)
        return
    yield from records


def _records(events: list[Any], request: PullRequest) -> Iterator[Record]:
    for event in events:
        channel = event.get("channel") if isinstance(event, dict) else None
        if channel is None or request.chats.wants(str(channel)):
            yield from read_event(orjson.dumps(event), "pull")


def _read(event: Any) -> Iterator[Record]:
    sent = iso_micros(event["sent_at"])
    version = iso_micros(event.get("edited_at") or event["sent_at"])
    channel, kind = str(event["channel"]), str(event["channel_kind"])
    deleted = event["kind"] == "deletion"
    if not deleted and not isinstance(event["text"], str):
        raise TypeError(f"text should be a text, it is {type(event['text']).__name__}")
    lasting = [event["id"], event["kind"], event.get("text"), event.get("edited_at")]
    yield Person(str(event["author"]), str(event.get("author_name") or ""), moment(version))
    yield Channel(channel, str(event.get("channel_name") or channel), kind, moment(version))
    yield Envelope(
        day_of(sent),
        f"{channel}:{event['id']}",
        channel,
        kind,
        "deletion" if deleted else "message",
        version,
        xxhash.xxh3_64_intdigest(orjson.dumps(lasting)),
        orjson.dumps(event),
        None,
        "the sandbox",
    )


def _result(answer: httpx.Response, target: Target) -> SendResult:
    status = answer.status_code
    if answer.is_success:
        return _sent(_parsed(answer), target) or Unknown("the sandbox's answer cannot be read")
    if status == 429:
        return Refused("the sandbox's limit", _retry_at(answer))
    if status == 401:
        return Refused("the sandbox does not know the token (any more): log in again")
    if 400 <= status < 500 and status != 408:
        told = _parsed(answer)
        why = told.get("error") if isinstance(told, dict) else None
        return Refused(f"the sandbox refused it: {why or status}")
    return Unknown(f"the sandbox answered {status}")


def _sent(told: Any, target: Target) -> Sent | None:
    try:
        return Sent(f"{target.channel_id}:{told['id']}", moment(iso_micros(told["sent_at"])))
    except (KeyError, TypeError, ValueError):
        return None


def _parsed(answer: httpx.Response) -> Any:
    try:
        return orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return None


def _mark(part: Part, token: str) -> str:
    return token if part.of == 1 else f"{token}.{part.number}"


def _native(message_id: str | None, channel_id: str) -> str | None:
    return message_id.removeprefix(f"{channel_id}:") if message_id else None


def _address(text: str) -> httpx.URL:
    try:
        address = httpx.URL(text)
    except httpx.InvalidURL:
        address = httpx.URL("")
    if address.scheme not in ("http", "https") or not address.host:
        raise ValueError(f"base_url should be an address such as http://127.0.0.1:8701: {text!r}")
    return address


def _stranger(path: str) -> Unreachable:
    return Unreachable(f"what answers {path} is not the sandbox: look at base_url")


def _retry_at(answer: httpx.Response) -> datetime:
    try:
        seconds = float(answer.headers.get("retry-after", ""))
        return datetime.now(UTC) + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        return datetime.now(UTC) + timedelta(minutes=1)
