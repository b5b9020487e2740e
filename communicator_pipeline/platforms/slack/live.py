"""Slack, live: logging in, and a client that pulls, fetches and sends.

Belongs here: what the rest of the project is offered, put together from this package's modules.
Does not belong here: how each of them works.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

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
    Page,
    Part,
    PullRequest,
    Push,
    Record,
    Sending,
    SendResult,
    Target,
)
from communicator_pipeline.platforms.slack import files, pushes, sending
from communicator_pipeline.platforms.slack.asking import BASE_URL, Api, checked_base_url
from communicator_pipeline.platforms.slack.places import RESTRICTED
from communicator_pipeline.platforms.slack.reading import Reader
from communicator_pipeline.platforms.slack.scopes import can, cannot, split_scopes

FIELDS = (
    Field(
        "token",
        "the app's token: a user token (xoxp-…) reads what you can read, a bot token (xoxb-…) what "
        "the bot was invited to (api.slack.com/apps → your app → OAuth & Permissions)",
        secret=True,
    ),
    Field(
        "signing_secret",
        "the app's signing secret, if Slack shall push events (Basic Information; empty: no push)",
        secret=True,
        default="",
    ),
    Field(
        "limits",
        "internal (an app of your own workspace, or one from Slack's marketplace) or restricted "
        "(an app that is distributed in another way: one page of 15 messages a minute)",
        default="internal",
    ),
    Field("look_back_days", "for how many days a thread is watched for late replies", default="7"),
    Field(
        "reread_hours",
        "for how many hours messages are read again, for edits and deletions",
        default="24",
    ),
    Field("base_url", "the address of Slack's Web API", default=BASE_URL, fixed=True),
)

_NOT_OURS = {
    "xapp-": "an app-level token: it reads no messages",
    "xoxc-": "a browser's session: Slack forbids to use it",
    "xoxd-": "a browser's session: Slack forbids to use it",
    "xoxs-": "a session: Slack forbids to use it",
    "xoxe-": "a token to get tokens with: give the one that it got",
}


class SlackLive:
    fields = FIELDS
    cadence = timedelta(minutes=1)

    def promise(self, connection: Connection) -> Sending:
        return sending.SENDING

    def login(self, values: Mapping[str, str], ask: Ask) -> Mapping[str, str]:
        """Check the values, and ask Slack whose token it is.

        `team` and `app` are kept with the secrets: Slack counts its limits by them.
        """
        kept = {name: value.strip() for name, value in values.items()}
        check(kept)
        said = Api(Connection("", frozenset(), kept, kept)).read("auth.test")
        app = said.get("app_id") or said.get("bot_id") or said.get("user_id")
        return {**kept, "team": str(said.get("team_id") or ""), "app": str(app or "")}

    @contextmanager
    def connect(self, connection: Connection) -> Iterator[Client]:
        yield SlackClient(connection)

    def receive(self, push: Push, connection: Connection, now: datetime) -> Accepted | Answer:
        return pushes.receive(push, connection, now)

    def events(self, body: bytes, connection: Connection) -> Iterator[Record]:
        return pushes.events(body, connection)


class SlackClient:
    """A token at work."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._api = Api(connection)

    def identity(self) -> Identity:
        said = self._api.read("auth.test")
        user_id, bot_id = _text(said, "user_id"), _text(said, "bot_id")
        if not user_id:
            raise LoginNeeded("Slack does not say whose token it is")
        scopes = split_scopes(self._api.scopes)
        limits = cannot(scopes)
        if bot_id:
            # What the bot posts carries its user's id; some messages only its own.
            limits = (*limits, "read chats that the bot is not in: invite it, or use a user token")
        name = _text(said, "user") or user_id
        place = _text(said, "team") or _text(said, "url") or _text(said, "team_id") or "Slack"
        return Identity(
            (user_id, bot_id) if bot_id else (user_id,), name, place, can(scopes), limits
        )

    def pull(self, request: PullRequest) -> Iterator[Page]:
        return Reader(self._api, self._connection, request).pages()

    def download(self, url: str, most: int) -> bytes:
        return files.download(self._api, url, most)

    def send(self, target: Target, part: Part, token: str) -> SendResult:
        return sending.send(self._api, target, part, token)

    def find_sent(self, target: Target, part: Part, token: str, since: datetime) -> FindResult:
        restricted = self._connection.setting("limits") == "restricted"
        page = RESTRICTED.page if restricted else sending.LOOK_PAGE
        return sending.find_sent(self._api, target, part, token, since, page)


def check(values: Mapping[str, str]) -> None:
    """Raises `ValueError`, with a sentence, for a value that cannot be right."""
    token = values.get("token", "")
    for beginning, what in _NOT_OURS.items():
        if token.startswith(beginning) and not token.startswith("xoxe.xox"):
            raise ValueError(f"this is {what} (give a token that begins with xoxp- or xoxb-)")
    if not token or not token.isascii() or any(sign.isspace() for sign in token):
        raise ValueError("the token is missing, or has signs that no token has")
    if values.get("limits", "internal") not in ("internal", "restricted"):
        raise ValueError(f"limits should be internal or restricted, it is {values['limits']!r}")
    for name, most in (("look_back_days", 90), ("reread_hours", 168)):
        given = values.get(name) or "1"
        if not given.isdecimal() or int(given) > most:
            raise ValueError(f"{name} should be a whole number up to {most}, it is {given!r}")
    checked_base_url(values.get("base_url") or BASE_URL)


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""
