"""One request over MTProto, and what Telegram's errors mean.

Belongs here: connecting, asking, and turning Telethon's exceptions into the project's. Does not
belong here: what is asked for (`mtproto_pull.py`, `mtproto.py`).

Telethon is asynchronous: each session has an event loop of its own, in which one request at a time
runs to its end. The library's own patience is off: no sleeping at limits, no repeated requests, no
reconnecting (https://docs.telethon.dev, `TelegramClient`, read 2026-11); what failed is asked for
again by the next pull. Limits: https://core.telegram.org/api/errors (read 2026-11).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from telethon import TelegramClient, errors  # type: ignore[import-untyped]
from telethon.sessions import StringSession  # type: ignore[import-untyped]

from communicator_pipeline.platforms.protocol import (
    LoginNeeded,
    PlatformError,
    Unreachable,
    Wait,
)

CONNECT_TIMEOUT = 15  # seconds
REQUEST_TIMEOUT = 60.0  # seconds until an answer counts as lost
GOODBYE_TIMEOUT = 5.0

T = TypeVar("T")

# Telethon's messages quote requests in some errors, and with them what is written.
_SILENT = logging.getLogger("communicator.telegram")
_SILENT.setLevel(logging.CRITICAL + 1)
_SILENT.propagate = False

_LOST = (OSError, EOFError, TimeoutError, errors.common.SecurityError)
_PASSING = (errors.ServerError, errors.TimedOutError, errors.InvalidDCError)
_DEAD = (errors.UnauthorizedError, errors.common.AuthKeyNotFound)
# Errors 500 that say something definite.
_DEFINITE = (errors.RandomIdDuplicateError, errors.PersistentTimestampOutdatedError)


class SaidNo(PlatformError):
    """Telegram's definite no to one request; `code` is its word for it."""

    def __init__(self, code: str) -> None:
        super().__init__(WORDS.get(code) or f"Telegram says {code}")
        self.code = code


class LeftOpen(PlatformError):
    """The answer was lost. Never leaves the package: sending makes `Unknown` of it."""


WORDS = {
    "CHANNEL_INVALID": "Telegram does not know the chat, or this account may not see it",
    "CHANNEL_PRIVATE": "this account is not in the chat any more",
    "CHAT_ADMIN_REQUIRED": "only the chat's administrators may do that",
    "CHAT_FORBIDDEN": "this account is not in the chat any more",
    "CHAT_GUEST_SEND_FORBIDDEN": "the group takes messages from its members only: join it",
    "CHAT_RESTRICTED": "the chat does not take messages now",
    "CHAT_SEND_PLAIN_FORBIDDEN": "the chat does not let this account write",
    "CHAT_WRITE_FORBIDDEN": "this account may not write in the chat",
    "INPUT_USER_DEACTIVATED": "the other one's account was deleted",
    "MESSAGE_EMPTY": "the text is empty",
    "MESSAGE_TOO_LONG": "the text is too long for Telegram: shorten it",
    "PEER_FLOOD": "Telegram has limited this account for writing to strangers: ask @SpamBot",
    "PEER_ID_INVALID": "Telegram does not know the chat, or this account may not see it",
    "PRIVACY_PREMIUM_REQUIRED": "the other one takes messages from Premium accounts only",
    "REPLY_MESSAGE_ID_INVALID": "the message to answer is gone",
    "REPLY_TO_INVALID": "the message to answer is gone",
    "TOPIC_CLOSED": "the topic is closed",
    "TOPIC_DELETED": "the topic was deleted",
    "USER_BANNED_IN_CHANNEL": "this account may not write in groups: ask @SpamBot",
    "USER_IS_BLOCKED": "the other one has blocked this account",
    "YOU_BLOCKED_USER": "this account has blocked the other one",
}


def new_client(session: str, api_id: int, api_hash: str, patient: bool = False) -> Any:
    """Telethon's client, unconnected; `patient` for a login, which moves between data centres and
    waits for a person. Tests put their own here."""
    return TelegramClient(
        StringSession(session or None),
        api_id,
        api_hash,
        timeout=CONNECT_TIMEOUT,
        request_retries=2 if patient else 0,
        connection_retries=1 if patient else 0,
        retry_delay=0,
        auto_reconnect=patient,
        flood_sleep_threshold=0,
        raise_last_call_error=True,
        receive_updates=False,
        device_model="Communicator",
        system_version="1",
        base_logger=_SILENT,
    )


class Session:
    """One client in an event loop of its own; connects with the first request.

    Everything that it lets out is a `PlatformError`.
    """

    def __init__(self, session: str, api_id: int, api_hash: str, patient: bool = False) -> None:
        self._arguments = (session, api_id, api_hash, patient)
        self._runner = asyncio.Runner()
        self.client: Any = None
        self._connected = False
        self._trouble: PlatformError | None = None

    def connect(self) -> None:
        """Connect, unless it is; raises `Unreachable`, `Wait` or `LoginNeeded`."""
        if self._connected:
            return
        if self._trouble is not None:  # one knock is enough for one `with`
            raise self._trouble
        try:
            self._run(self._knock(), CONNECT_TIMEOUT * 2)
        except LeftOpen as error:
            self._trouble = Unreachable(f"Telegram cannot be reached: {error}")
            raise self._trouble from None
        self._connected = True

    def ask(self, request: Any) -> Any:
        """Telegram's answer. Raises `Wait`, `LoginNeeded`, `Unreachable` and `SaidNo`."""
        self.connect()
        try:
            return self._run(self._call(request), REQUEST_TIMEOUT)
        except LeftOpen as error:
            raise Unreachable(f"Telegram did not answer: {error}") from None

    def change(self, request: Any) -> Any:
        """The same for a request that changes something: raises `LeftOpen` instead of
        `Unreachable` once it is on its way. Connect before."""
        return self._run(self._call(request), REQUEST_TIMEOUT)

    def run(self, steps: Coroutine[Any, Any, T]) -> T:
        """Something of the client's own; raises what `ask` does."""
        try:
            return self._run(steps, REQUEST_TIMEOUT)
        except LeftOpen as error:
            raise Unreachable(f"Telegram did not answer: {error}") from None

    def close(self) -> None:
        """Say goodbye. Raises nothing."""
        if self.client is not None:
            with contextlib.suppress(Exception, asyncio.CancelledError):
                self._runner.run(asyncio.wait_for(self._leave(), GOODBYE_TIMEOUT))
        self._runner.close()

    async def _knock(self) -> None:
        if self.client is None:
            session, api_id, api_hash, patient = self._arguments
            self.client = new_client(session, api_id, api_hash, patient)
        await self.client.connect()

    async def _call(self, request: Any) -> Any:
        return await self.client(request)

    async def _leave(self) -> None:
        await self.client.disconnect()

    def _run(self, steps: Coroutine[Any, Any, T], seconds: float) -> T:
        try:
            return self._runner.run(_within(steps, seconds))
        except PlatformError:
            raise
        except Exception as error:
            raise meaning(error) from None


async def _within(steps: Coroutine[Any, Any, T], seconds: float) -> T:
    try:
        return await asyncio.wait_for(steps, seconds)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Telethon cancels what waits for an answer when its connection ends.
        raise ConnectionError("the connection ended") from None


def meaning(error: Exception) -> PlatformError:
    """What an exception of Telethon's means. Its text quotes requests: it goes no further."""
    name = type(error).__name__
    code = getattr(error, "code", None)
    if isinstance(error, errors.common.InvalidBufferError):
        if code == 404:
            return LoginNeeded("Telegram does not know this login any more")
        return _wait(60) if code == 429 else LeftOpen(name)
    if isinstance(error, errors.AuthKeyDuplicatedError):
        return LoginNeeded(
            "the login was used from two places at once, and Telegram has ended it: give each "
            "installation a login of its own"
        )
    if isinstance(error, errors.SessionPasswordNeededError):
        return LoginNeeded("the login was not finished: the two-step password is missing")
    if isinstance(error, _DEAD):
        return LoginNeeded(f"Telegram has ended this login ({spelled(error)})")
    if isinstance(error, errors.FloodError) and isinstance(getattr(error, "seconds", None), int):
        return _wait(error.seconds)
    if isinstance(error, _DEFINITE):
        return SaidNo(spelled(error))
    if isinstance(error, _PASSING) or (isinstance(code, int) and code >= 500):
        return LeftOpen(f"it has trouble of its own ({spelled(error)})")
    if isinstance(error, errors.RPCError):
        return SaidNo(spelled(error))
    if isinstance(error, _LOST):
        return LeftOpen(name)
    return PlatformError(f"Telethon failed in a way that it should not: {name}")


def spelled(error: Exception) -> str:
    """Telegram's word for an error, such as CHAT_WRITE_FORBIDDEN."""
    if type(error).__module__ == errors.RPCError.__module__:  # one that Telethon does not know
        word = str(getattr(error, "message", ""))
        return word if word.isascii() and len(word) < 80 else "something that is no word"
    name = type(error).__name__.removesuffix("Error")
    return "".join(f"_{c}" if c.isupper() else c for c in name).lstrip("_").upper()


def _wait(seconds: int) -> Wait:
    seconds = max(1, seconds)
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    return Wait(until, f"Telegram's limit: it asks to wait {seconds} s")
