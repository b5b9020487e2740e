"""Telegram, live: a user's own account or a bot, by the account's `kind`.

Belongs here: the fields, and which of the two is meant. Does not belong here: the two themselves
(`mtproto.py`, `bot_api.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

from communicator_pipeline.platforms.protocol import (
    Accepted,
    Answer,
    Ask,
    Client,
    Connection,
    Field,
    NotSupported,
    Push,
    Record,
    Sending,
)
from communicator_pipeline.platforms.telegram import bot_api

USER, BOT = "user", "bot"

FIELDS = (
    Field("kind", "user (your own account) or bot", default=USER),
    Field("api_id", "of a user: the app's api_id, from https://my.telegram.org/apps", default=""),
    Field("api_hash", "of a user: the app's api_hash", secret=True, default=""),
    Field("phone", "of a user: the phone number, such as +351912345678", default=""),
    Field(
        "session",
        "of a user: a string session of an earlier login (empty: log in with a code)",
        secret=True,
        default="",
    ),
    Field(
        "takeout",
        "of a user: yes to read history as an export, which Telegram limits less and asks you to "
        "confirm",
        default="no",
    ),
    Field("bot_token", "of a bot: the token that @BotFather gave", secret=True, default=""),
    Field(
        "webhook_url",
        "of a bot: https://YOUR-HOST/push/telegram/ACCOUNT (empty: Telegram is asked instead)",
        default="",
    ),
    Field(
        "webhook_secret",
        "of a bot: the secret that Telegram pushes with (empty: one is made)",
        secret=True,
        default="",
    ),
    Field("base_url", "of a bot: the Bot API's address", default=bot_api.BASE_URL),
)


class TelegramLive:
    """Both ways into Telegram.

    Telethon takes half a second to import, and most commands need nothing of it: it is imported
    where a user's account is meant.
    """

    fields = FIELDS
    cadence = timedelta(seconds=30)

    def promise(self, connection: Connection) -> Sending:
        if _kind(connection.settings) == BOT:
            return bot_api.SENDING
        from communicator_pipeline.platforms.telegram import mtproto

        return mtproto.SENDING

    def login(self, values: Mapping[str, str], ask: Ask) -> Mapping[str, str]:
        if values.get("takeout", "no") not in ("yes", "no"):
            raise ValueError("takeout should be yes or no")
        bot_api.checked_base_url(values.get("base_url") or bot_api.BASE_URL)
        if _kind(values) == BOT:
            return {**values, **bot_api.login(values)}
        from communicator_pipeline.platforms.telegram import mtproto

        return {**values, **mtproto.login(values, ask)}

    def connect(self, connection: Connection) -> AbstractContextManager[Client]:
        if _kind(connection.settings) == BOT:
            return bot_api.connect(connection)
        from communicator_pipeline.platforms.telegram import mtproto

        return mtproto.connect(connection)

    def receive(self, push: Push, connection: Connection, now: datetime) -> Accepted | Answer:
        if _kind(connection.settings) != BOT:
            raise NotSupported("Telegram pushes to bots only: a user's account is pulled")
        return bot_api.receive(push, connection)

    def events(self, body: bytes, connection: Connection) -> Iterator[Record]:
        return bot_api.events(body, datetime.now(UTC))


def _kind(values: Mapping[str, str]) -> str:
    kind = values.get("kind") or USER
    if kind not in (USER, BOT):
        raise ValueError(f"kind should be user or bot, it is {kind!r}")
    return kind
