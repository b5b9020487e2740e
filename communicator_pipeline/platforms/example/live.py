"""Example, live.

The API, all JSON, `authorization: Bearer <token>`:

    GET  /me                                  who the token is
    GET  /events?after=N&limit=M              what happened since event N, in order
    GET  /messages?first=T&last=T&page=P      history by time, as it is now
    GET  /files/F                             the content of a message's file
    POST /messages                            send; `key` makes repeats harmless

401 is a dead token, 429 has `retry-after` in seconds. A push is one event, with
`x-example-signature`: HMAC-SHA256 over the body, in hexadecimal.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import xxhash

from communicator_pipeline.platforms.certificates import trusted
from communicator_pipeline.platforms.instants import day_of, iso_micros, moment
from communicator_pipeline.platforms.protocol import (
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
from communicator_pipeline.storage.accounts import Channel, Person
from communicator_pipeline.storage.landing import Envelope

TIMEOUT = httpx.Timeout(10.0)
PAGE = 100
EVENTS = "events"  # the one stream of what is new


class ExampleLive:
    fields = (
        Field("token", "the API token, from Settings > Developers", secret=True),
        Field("signing_secret", "the webhook's secret (empty: no push)", secret=True, default=""),
        Field("base_url", "the API's address", default="https://api.example.com", fixed=True),
    )
    cadence = timedelta(seconds=30)

    def promise(self, connection: Connection) -> Sending:
        return Sending(repeats=True, looks_up=False, longest=4_000)

    def login(self, values: Mapping[str, str], ask: Ask) -> Mapping[str, str]:
        return values

    @contextmanager
    def connect(self, connection: Connection) -> Iterator[Client]:
        headers = {"authorization": f"Bearer {connection.secrets['token']}"}
        with httpx.Client(
            base_url=connection.setting("base_url"),
            headers=headers,
            timeout=TIMEOUT,
            verify=trusted(),
        ) as http:
            yield ExampleClient(http)

    def receive(self, push: Push, connection: Connection, now: datetime) -> Accepted | Answer:
        secret = connection.secrets["signing_secret"].encode()
        signature = hmac.new(secret, push.body, hashlib.sha256).hexdigest()
        if not secret or not hmac.compare_digest(signature, push.headers["x-example-signature"]):
            raise ValueError("the signature is not Example's")
        return Accepted(str(orjson.loads(push.body)["number"]))

    def events(self, body: bytes, connection: Connection) -> Iterator[Record]:
        yield from read_event(body, "push")


class ExampleClient:
    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def identity(self) -> Identity:
        me = self._get("/me", {})
        return Identity((me["id"],), me["name"], me["server"], ("read and send messages",))

    def pull(self, request: PullRequest) -> Iterator[Page]:
        return self._window(request) if request.window else self._new(request)

    def _new(self, request: PullRequest) -> Iterator[Page]:
        after = request.cursors.get(EVENTS) or f"t{request.since.timestamp():.0f}"
        while True:
            answer = self._get("/events", {"after": after, "limit": str(PAGE)})
            events = answer["events"]
            if not events:
                return
            after = str(events[-1]["number"])
            yield Page(list(_records(events, request)), {EVENTS: after})

    def _window(self, request: PullRequest) -> Iterator[Page]:
        assert request.window is not None
        page = int(request.cursors.get("page", "0"))
        while True:
            between = {
                "first": request.window.first.isoformat(),
                "last": request.window.last.isoformat(),
            }
            answer = self._get("/messages", {**between, "page": str(page)})
            page += 1
            records = list(_records(answer["messages"], request))
            yield Page(records, {"page": str(page)}, done=page / max(page, answer["pages"]))
            if page >= answer["pages"]:
                return

    def download(self, url: str, most: int) -> bytes:
        try:
            with self._http.stream("GET", url) as answer:
                if answer.status_code in (404, 410):
                    raise FileNotFoundError(url)
                if not answer.is_success:
                    raise Unreachable(f"Example answered {answer.status_code} to {url}")
                content = bytearray()
                for part in answer.iter_bytes():
                    content += part
                    if len(content) > most:
                        raise ValueError(f"{url} has more than {most} bytes")
        except httpx.HTTPError as error:
            raise Unreachable(f"Example did not answer: {type(error).__name__}") from None
        return bytes(content)

    def send(self, target: Target, part: Part, token: str) -> SendResult:
        body = {
            "channel": target.channel_id,
            "thread": (target.thread_id or "").removeprefix(f"{target.channel_id}:") or None,
            "text": part.text,
            "key": token,
        }
        try:
            answer = self._http.post("/messages", json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            later = datetime.now(UTC) + timedelta(minutes=1)
            return Refused("Example could not be reached", later)
        except httpx.HTTPError as error:
            return Unknown(f"Example did not answer: {type(error).__name__}")
        if answer.is_success:
            sent = answer.json()
            sent_at = moment(iso_micros(sent["sent_at"]))
            return Sent(f"{target.channel_id}:{sent['id']}", sent_at)
        if answer.status_code == 429:
            return Refused("Example's limit", _retry_at(answer))
        if answer.status_code == 401:
            return Refused("the token is dead: log in again")
        if answer.status_code < 500:
            return Refused(f"Example refused it ({answer.status_code})")
        return Unknown(f"Example answered {answer.status_code}")

    def find_sent(self, target: Target, part: Part, token: str, since: datetime) -> FindResult:
        return CannotTell("sending again with the same key is safe, and tells")

    def _get(self, path: str, query: Mapping[str, str]) -> Any:
        try:
            answer = self._http.get(path, params=query)
        except httpx.HTTPError as error:
            raise Unreachable(f"Example did not answer: {type(error).__name__}") from None
        if answer.status_code == 401:
            raise LoginNeeded("Example does not know the token (any more)")
        if answer.status_code == 429:
            raise Wait(_retry_at(answer), "Example's limit")
        if not answer.is_success:
            raise Unreachable(f"Example answered {answer.status_code} to {path}")
        return answer.json()


def read_event(body: bytes, stage: str) -> Iterator[Record]:
    """What an event says: who, where, and the message; a DeadLetter if it is broken."""
    try:
        event = orjson.loads(body)
        records = list(_read(event))
    except Exception as error:  # whatever a stranger's record does to a parser
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
    channel, kind = str(event["channel"]), event["kind"]
    deleted = kind == "deletion"
    version = iso_micros(event.get("edited_at") or event["sent_at"])
    if not deleted and not isinstance(event["text"], str):
        raise TypeError(f"text should be a text, it is {type(event['text']).__name__}")
    # What makes a version: not the number of the event that tells of it.
    said = ("id", "kind", "text", "edited_at", "thread", "files")
    lasting = [event.get(name) for name in said]
    yield Person(str(event["author"]), str(event.get("author_name") or ""), moment(version))
    yield Channel(channel, str(event.get("channel_name") or channel), "channel", moment(version))
    yield Envelope(
        day_of(sent),
        f"{channel}:{event['id']}",
        channel,
        "channel",
        "deletion" if deleted else "message",
        version,
        xxhash.xxh3_64_intdigest(orjson.dumps(lasting)),
        orjson.dumps({key: value for key, value in event.items() if key != "number"}),
        None,
        "Example",
    )


def _retry_at(answer: httpx.Response) -> datetime:
    seconds = float(answer.headers.get("retry-after", "60"))
    return datetime.now(UTC) + timedelta(seconds=seconds)
