"""Any other system, live: it pushes JSONL, and replies leave as signed webhooks.

Belongs here: the push key, reading a push, sending. Does not belong here: the format of a line
(`export.py`).

Replies follow Standard Webhooks (https://www.standardwebhooks.com, read 2026-11): the header
`webhook-id` carries the delivery's id, the same at every attempt, and receivers take it as the key
by which they know a repeat.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx
import orjson
from standardwebhooks import Webhook

from communicator_pipeline.platforms.archive import BrokenFile
from communicator_pipeline.platforms.certificates import trusted
from communicator_pipeline.platforms.generic.export import read_messages
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
)
from communicator_pipeline.storage.dead_letters import DeadLetter

TIMEOUT = httpx.Timeout(10.0)
TRY_AGAIN_IN = timedelta(minutes=1)
_SHORTEST_KEY = 20  # characters

FIELDS = (
    Field("me", "your author id in the messages that will be pushed"),
    Field("name", "what the system is called", default="another system"),
    Field(
        "push_key",
        "the key that the system will push with, 20 characters or more (empty: one is made)",
        secret=True,
        default="",
    ),
    Field("reply_url", "the address that replies are posted to (empty: none)", default=""),
    Field(
        "reply_secret",
        "the secret that replies are signed with, whsec_… (empty: one is made)",
        secret=True,
        default="",
    ),
)


class GenericLive:
    """Pushed to and sending; nothing can be pulled."""

    fields = FIELDS
    cadence = timedelta(days=1)

    def promise(self, connection: Connection) -> Sending:
        return Sending(repeats=True, looks_up=False, longest=100_000)

    def login(self, values: Mapping[str, str], ask: Ask) -> Mapping[str, str]:
        key, secret = values["push_key"], values["reply_secret"]
        if key and len(key) < _SHORTEST_KEY:
            raise ValueError(f"push_key should have {_SHORTEST_KEY} characters or more")
        if not key.isascii():
            raise ValueError("push_key should have letters, digits and signs of ASCII alone")
        self.check(values)
        if not key:
            key = secrets.token_urlsafe(32)
            _tell(ask, "push_key", f"The push key is {key}")
        if not secret:  # without a reply_url too: one can be set later
            secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
            _tell(ask, "reply_secret", f"Replies are signed with {secret}")
        _webhook(secret)
        return {
            "me": values["me"],
            "name": values["name"],
            "push_key": "sha256:" + hashlib.sha256(key.encode()).hexdigest(),
            "reply_url": values["reply_url"],
            "reply_secret": secret,
        }

    def check(self, settings: Mapping[str, str]) -> None:
        """Raises `ValueError` for a reply_url to which nothing should be sent."""
        url = settings.get("reply_url") or ""
        try:
            parts = urlsplit(url)
            host = parts.hostname
        except ValueError:
            host = None
        is_here = host in ("127.0.0.1", "localhost", "::1")
        is_safe = host and (parts.scheme == "https" or (parts.scheme == "http" and is_here))
        if url and not is_safe:
            raise ValueError("reply_url should begin with https:// (or be on this machine)")

    @contextmanager
    def connect(self, connection: Connection) -> Iterator[Client]:
        with httpx.Client(timeout=TIMEOUT, verify=trusted()) as http:  # httpx tries once
            yield GenericClient(connection, http)

    def receive(self, push: Push, connection: Connection, now: datetime) -> Accepted | Answer:
        scheme, _, given = push.headers["authorization"].partition(" ")
        known = connection.secrets["push_key"].removeprefix("sha256:")
        digest = hashlib.sha256(given.strip().encode()).hexdigest()
        if scheme.lower() != "bearer" or not hmac.compare_digest(digest, known):
            raise ValueError("the key is not the account's")
        return Accepted(hashlib.sha256(push.body).hexdigest())

    def events(self, body: bytes, connection: Connection) -> Iterator[Record]:
        lines = enumerate(body.splitlines(), start=1)
        source = f"push {hashlib.sha256(body).hexdigest()[:12]}"
        try:
            yield from read_messages(lines, source, stage="push")
        except BrokenFile as broken:
            yield DeadLetter("push", source, str(broken), body[:2_000].decode(errors="replace"))


class GenericClient:
    def __init__(self, connection: Connection, http: httpx.Client) -> None:
        self._connection = connection
        self._http = http

    def identity(self) -> Identity:
        connection = self._connection
        can = ["take the messages that are pushed"]
        cannot = ["be asked for messages: what is not pushed does not come"]
        if url := connection.setting("reply_url"):
            can.append(f"send replies to {url}")
        else:
            cannot.append("send: give it a reply_url")
        me = connection.setting("me")
        return Identity((me,), me, connection.setting("name"), tuple(can), tuple(cannot))

    def pull(self, request: PullRequest) -> Iterator[Page]:
        raise NotSupported("messages are pushed to a generic account; it cannot be asked for any")

    def download(self, url: str, most: int) -> bytes:
        raise FileNotFoundError("the files of a generic account stay where they are")

    def send(self, target: Target, part: Part, token: str) -> SendResult:
        url = self._connection.setting("reply_url")
        if not url:
            return Refused(
                f"the account has no reply_url: communicator accounts set "
                f"{self._connection.account} reply_url ADDRESS"
            )
        secret = self._connection.secrets.get("reply_secret")
        if not secret:
            return Refused(
                "the account has no reply_secret: communicator accounts login "
                f"{self._connection.account} makes one"
            )
        channel = target.channel_id
        body = orjson.dumps(
            {
                "type": "reply",
                "delivery_id": token,
                "account": self._connection.account,
                "channel": channel,
                "thread_id": _native(target.thread_id, channel),
                "reply_to": _native(target.reply_to, channel),
                "text": part.text,
                "part": part.number,
                "parts": part.of,
            }
        ).decode()
        now = datetime.now(UTC)
        webhook = _webhook(secret)
        headers = {
            "content-type": "application/json",
            "webhook-id": token,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": webhook.sign(token, now, body),
        }
        try:
            answer = self._http.post(url, content=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            why = f"{url} could not be reached: {type(error).__name__}"
            return Refused(why, datetime.now(UTC) + TRY_AGAIN_IN)
        except httpx.HTTPError as error:
            return Unknown(f"{url} did not answer: {type(error).__name__}")
        return _outcome(answer, url, channel, token)

    def find_sent(self, target: Target, part: Part, token: str, since: datetime) -> FindResult:
        return CannotTell("a webhook cannot be asked; it is sent again under the same webhook-id")


def _outcome(answer: httpx.Response, url: str, channel: str, token: str) -> SendResult:
    status = answer.status_code
    if answer.is_success:
        try:
            native = answer.json().get("id")
        except (ValueError, AttributeError):
            native = None
        return Sent(f"{channel}:{native if isinstance(native, str) and native else token}")
    if status in (408, 409) or status >= 500:
        return Unknown(f"{url} answered {status}")
    if status == 429:
        return Refused(f"{url} answered 429: too many", _retry_after(answer))
    return Refused(f"{url} answered {status}: mend the receiver, or the reply_url")


def _retry_after(answer: httpx.Response) -> datetime:
    given = answer.headers.get("retry-after", "")
    now = datetime.now(UTC)
    if given.isdigit():
        return now + timedelta(seconds=min(int(given), 86_400))
    try:
        return max(now, parsedate_to_datetime(given).astimezone(UTC))
    except ValueError:
        return now + TRY_AGAIN_IN


def _native(message_id: str | None, channel: str) -> str | None:
    return None if message_id is None else message_id.removeprefix(f"{channel}:")


def _webhook(secret: str) -> Webhook:
    try:
        return Webhook(secret)
    except Exception:
        raise ValueError("reply_secret should be whsec_ and 24 to 64 bytes in base64") from None


def _tell(ask: Ask, name: str, words: str) -> None:
    """Show a secret that was just made: the only time that it is shown."""
    ask(Field(f"{name}_noted", f"{words}: note it now, it is not shown again. Enter", default=""))
