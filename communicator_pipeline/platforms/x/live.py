"""X, live: the keys, the client that the rest is asked of, and pushes.

Belongs here: fields and the login. Does not belong here: reading (`pulling.py`, `pushed.py`),
sending (`sending.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import httpx

from communicator_pipeline.platforms.certificates import trusted
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
    PlatformError,
    PullRequest,
    Push,
    Record,
    Sending,
    SendResult,
    Target,
    Unreachable,
)
from communicator_pipeline.platforms.x import pushed, sending
from communicator_pipeline.platforms.x.api import BASE, TIMEOUT, Api, Declined
from communicator_pipeline.platforms.x.pulling import Puller

FIELDS = (
    Field("consumer_key", "the app's API key (console.x.com, Keys and tokens)", secret=True),
    Field("consumer_secret", "the app's API key secret", secret=True),
    Field("access_token", "the access token of your user, made with read and write", secret=True),
    Field("access_token_secret", "the access token's secret", secret=True),
    Field("base_url", "the address of X's API", default=BASE, fixed=True),
    Field(
        "cap_usd",
        "how many US dollars reading may cost in a month: X bills each post and message",
        default="5",
    ),
    Field("search", "a search whose posts are read too, at 0.005 each (empty: none)", default=""),
)
CADENCE = timedelta(minutes=5)
"""Direct messages may be asked for 15 times in 15 minutes, and a look must not eat that up."""

_SECRETS = [field.name for field in FIELDS if field.secret]


class XLive:
    """Pulls, is pushed to, and sends."""

    fields = FIELDS
    cadence = CADENCE

    def promise(self, connection: Connection) -> Sending:
        return sending.SENDING

    def login(self, values: Mapping[str, str], ask: Ask) -> Mapping[str, str]:
        missing = [name for name in _SECRETS if not values.get(name)]
        if missing:
            raise ValueError(f"{', '.join(missing)}: missing; the app's page on X shows them")
        self.check(values)
        base = (values.get("base_url") or BASE).rstrip("/")
        parts = urlsplit(base)
        is_here = parts.hostname in ("127.0.0.1", "localhost", "::1")
        if parts.scheme != "https" and not (parts.scheme == "http" and is_here):
            raise ValueError("base_url should begin with https:// (or be on this machine)")
        return {
            **{name: values[name] for name in _SECRETS},
            "base_url": base,
            "cap_usd": values.get("cap_usd") or "5",
            "search": values.get("search") or "",
        }

    def check(self, settings: Mapping[str, str]) -> None:
        """Raises `ValueError` for a cap that is no amount."""
        cap = settings.get("cap_usd") or "5"
        try:
            is_amount = 0 <= float(cap) < 1e6
        except ValueError:
            is_amount = False
        if not is_amount:
            raise ValueError(f"cap_usd should be an amount in US dollars such as 5, it is {cap!r}")

    @contextmanager
    def connect(self, connection: Connection) -> Iterator[Client]:
        with httpx.Client(timeout=TIMEOUT, verify=trusted(), follow_redirects=False) as http:
            yield XClient(Api(http, connection), connection)

    def receive(self, push: Push, connection: Connection, now: datetime) -> Accepted | Answer:
        return pushed.verify(push, connection.secrets["consumer_secret"])

    def events(self, body: bytes, connection: Connection) -> Iterator[Record]:
        return pushed.read(body, connection.me)


class XClient:
    """A connection as one user of X."""

    def __init__(self, api: Api, connection: Connection) -> None:
        self._api = api
        self._connection = connection

    def identity(self) -> Identity:
        user_id, name, handle = self._me()
        level = self._api.access_level
        can = [f"read the posts of @{handle}, and those that mention @{handle}"]
        cannot = []
        if not level or "write" in level:
            can.append("post, and answer posts that mention or quote you")
        else:
            cannot.append("post: give the app write access, and make the access token anew")
        if not level or "message" in level:
            can.append("read and answer the older, unencrypted direct messages")
        else:
            cannot.append(
                "read direct messages: give the app access to them, and make the access token anew"
            )
        cannot.append("read X Chat: it is encrypted from end to end; answer there")
        cannot.append("see when others delete a post, unless X pushes it")
        return Identity((user_id,), name or handle, "X", tuple(can), tuple(cannot))

    def pull(self, request: PullRequest) -> Iterator[Page]:
        me = self._known_me() or request.cursors.get("me", "")
        if not me:
            me = self._me()[0]
            yield Page(cursors={"me": me})
        yield from Puller(self._api, me, self._connection.setting("search"), request).pages()

    def download(self, url: str, most: int) -> bytes:
        return self._api.media(url, most)

    def send(self, target: Target, part: Part, token: str) -> SendResult:
        return sending.send(self._api, target, part)

    def find_sent(self, target: Target, part: Part, token: str, since: datetime) -> FindResult:
        try:
            me = self._known_me() or self._me()[0]
        except PlatformError as error:
            return CannotTell(str(error))
        return sending.find_sent(self._api, me, target, part, since)

    def _known_me(self) -> str:
        """The owner's id, if the account knows exactly one."""
        me = self._connection.me
        return next(iter(me)) if len(me) == 1 else ""

    def _me(self) -> tuple[str, str, str]:
        """The owner's id, name and handle."""
        try:
            data = self._api.get("/2/users/me", {"user.fields": "id,name,username"}).get("data")
        except Declined as declined:
            raise LoginNeeded(str(declined)) from None
        told = data if isinstance(data, dict) else {}
        user_id, name, handle = (told.get(key) for key in ("id", "name", "username"))
        if not isinstance(user_id, str) or not user_id.isdecimal():
            raise Unreachable("X does not say whose the access token is")
        texts = [part if isinstance(part, str) else "" for part in (name, handle)]
        name, handle = (text.encode(errors="replace").decode() for text in texts)
        return user_id, name, handle
