"""Matrix, live: logging in, and the client that the rest is asked of.

Belongs here: fields, the login, finding the homeserver, files. Does not belong here: reading rooms
(`pulling.py`), sending (`sending.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx

from communicator_pipeline.platforms.certificates import trusted
from communicator_pipeline.platforms.matrix import sending
from communicator_pipeline.platforms.matrix.homeserver import (
    TIMEOUT,
    Declined,
    Homeserver,
    segment,
)
from communicator_pipeline.platforms.matrix.pulling import Puller
from communicator_pipeline.platforms.matrix.rooms import sayable
from communicator_pipeline.platforms.protocol import (
    Accepted,
    Answer,
    Ask,
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
    Sending,
    SendResult,
    Target,
    Unreachable,
)

FIELDS = (
    Field("homeserver", "your homeserver: matrix.org, or https://matrix.example.org", fixed=True),
    Field("user_id", "your Matrix id, @ana:example.org (empty: whose the token is)", default=""),
    Field(
        "access_token",
        "an access token (in Element: Settings, Help & About, Advanced), or empty for a password",
        secret=True,
        default="",
    ),
    Field(
        "password",
        "your password: used once to get a token, and not kept (empty if you gave a token)",
        secret=True,
        default="",
    ),
)
CADENCE = timedelta(seconds=30)

_USER_ID = re.compile(r"@[^:\s]+:[^\s/]+")
_MXC = re.compile(r"mxc://(?P<server>[A-Za-z0-9.:\[\]-]+)/(?P<media>[A-Za-z0-9_-]+)")


class MatrixLive:
    """Pulls and sends. A homeserver pushes only to phones and to application services."""

    fields = FIELDS
    cadence = CADENCE

    def promise(self, connection: Connection) -> Sending:
        return sending.SENDING

    def login(self, values: Mapping[str, str], ask: Ask) -> Mapping[str, str]:
        user_id = values.get("user_id", "")
        if user_id and not _USER_ID.fullmatch(user_id):
            raise ValueError("user_id should look like @ana:example.org")
        token, password = values.get("access_token", ""), values.get("password", "")
        with _http() as http:
            base = find_homeserver(http, values["homeserver"])
            if not token:
                if not user_id:
                    raise ValueError("user_id is missing: a password alone does not say whose")
                password = password or ask(next(f for f in FIELDS if f.name == "password"))
                server = Homeserver(http, base, secrets=[password])
                return _log_in(server, user_id, password)
            whose, device = _whose(Homeserver(http, base, token))
            if user_id and user_id != whose:
                raise ValueError(f"the access token is {whose}'s, not {user_id}'s")
        return {
            "homeserver": base,
            "user_id": whose,
            "access_token": token,
            "device_id": device,
        }

    @contextmanager
    def connect(self, connection: Connection) -> Iterator[Client]:
        with _http() as http:
            yield MatrixClient(connection, http)

    def receive(self, push: Push, connection: Connection, now: datetime) -> Accepted | Answer:
        raise NotSupported("Matrix is pulled: a homeserver does not push to an account's programs")

    def events(self, body: bytes, connection: Connection) -> Iterator[Record]:
        return iter(())


class MatrixClient:
    """A logged-in connection to a homeserver."""

    def __init__(self, connection: Connection, http: httpx.Client) -> None:
        token = connection.secrets.get("access_token", "")
        self._me = connection.setting("user_id")
        self._server = Homeserver(http, connection.setting("homeserver"), token)

    def identity(self) -> Identity:
        whose, _ = _whose(self._server)
        try:
            rooms = self._server.get("/_matrix/client/v3/joined_rooms").get("joined_rooms")
        except Declined as declined:
            raise Unreachable(str(declined)) from None
        count = len(rooms) if isinstance(rooms, list) else 0
        return Identity(
            (whose,),
            self._display_name(whose) or whose,
            whose.partition(":")[2] or self._server.host,
            can=(
                f"read the rooms that you have joined ({count} now), with threads, edits and "
                "deletions, and their history as far as the homeserver shows it to you",
                "send messages and answers in threads, as you",
            ),
            cannot=(
                "read or write in encrypted rooms: talk in a room without encryption, and what "
                "is said there comes in",
                "join rooms: accept invitations in your Matrix client",
                "be pushed to: it asks the homeserver every "
                f"{int(CADENCE.total_seconds())} seconds",
            ),
        )

    def _display_name(self, user_id: str) -> str:
        try:
            found = self._server.get(f"/_matrix/client/v3/profile/{segment(user_id)}")
        except Declined:
            return ""
        name = found.get("displayname")
        return sayable(name.strip()) if isinstance(name, str) else ""

    def pull(self, request: PullRequest) -> Iterator[Page]:
        return Puller(self._server, request).pages()

    def download(self, url: str, most: int) -> bytes:
        """https://spec.matrix.org/v1.16/client-server-api/#content-repository (read 2026-11)"""
        match = _MXC.fullmatch(url)
        if match is None:
            raise FileNotFoundError(f"{url[:200]!r} is no file of a homeserver")
        place = f"{segment(match['server'])}/{match['media']}"
        try:
            return self._server.media(f"/_matrix/client/v1/media/download/{place}", most)
        except Declined as declined:
            # A homeserver older than version 1.11 of the specification has another path.
            if declined.code != "M_UNRECOGNIZED":
                raise FileNotFoundError(str(declined)) from None
        try:
            return self._server.media(f"/_matrix/media/v3/download/{place}", most)
        except Declined as declined:
            raise FileNotFoundError(str(declined)) from None

    def send(self, target: Target, part: Part, token: str) -> SendResult:
        return sending.send(self._server, target, part, token)

    def find_sent(self, target: Target, part: Part, token: str, since: datetime) -> FindResult:
        return sending.find_sent(self._server, self._me, target, part, token, since)


@contextmanager
def _http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=TIMEOUT, verify=trusted(), follow_redirects=False) as http:
        yield http


def find_homeserver(http: httpx.Client, given: str) -> str:
    """The address of the API, from a server's name or an address; raises `ValueError` or
    `Unreachable`.

    A server's name leads to it by https://spec.matrix.org/v1.16/client-server-api/#well-known-uris
    (read 2026-11).
    """
    address = given if "://" in given else f"https://{given}"
    parts = urlsplit(address)
    is_here = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.username or parts.password or not parts.hostname:
        raise ValueError("homeserver should be a name or an address, without a user in it")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_here):
        raise ValueError("homeserver should begin with https:// (or be on this machine)")
    base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    told: Any = None
    with suppress(Declined, Unreachable):  # none is needed where the address is the API's own
        told = Homeserver(http, base).get("/.well-known/matrix/client").get("m.homeserver")
    found = told.get("base_url") if isinstance(told, dict) else None
    if isinstance(found, str) and (found.startswith("https://") or is_here):
        base = found.rstrip("/")
    try:
        versions = Homeserver(http, base).get("/_matrix/client/versions").get("versions")
    except Declined:
        versions = None
    if not isinstance(versions, list):
        raise ValueError(f"{base} is no Matrix homeserver: give its address, with https://")
    return base


def _log_in(server: Homeserver, user_id: str, password: str) -> dict[str, str]:
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user_id},
        "password": password,
        "initial_device_display_name": "Communicator",
    }
    try:
        found = server.post("/_matrix/client/v3/login", body)
    except Declined as declined:
        words = (
            "the homeserver does not accept this id and password"
            if declined.code == "M_FORBIDDEN"
            else f"{declined}: give an access token instead"
        )
        raise LoginNeeded(words) from None
    token, device, whose = (found.get(key) for key in ("access_token", "device_id", "user_id"))
    if not isinstance(token, str) or not isinstance(whose, str):
        raise Unreachable(f"{server.host} did not answer the login with a token")
    return {
        "homeserver": server.base,
        "user_id": whose,
        "access_token": token,
        "device_id": device if isinstance(device, str) else "",
    }


def _whose(server: Homeserver) -> tuple[str, str]:
    """Whose the token is, and of which device."""
    try:
        found = server.get("/_matrix/client/v3/account/whoami")
    except Declined as declined:
        raise LoginNeeded(str(declined)) from None
    user_id, device = found.get("user_id"), found.get("device_id")
    if not isinstance(user_id, str) or not user_id:
        raise Unreachable(f"{server.host} does not say whose the token is")
    return user_id, device if isinstance(device, str) else ""
