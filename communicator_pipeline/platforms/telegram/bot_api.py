"""A Telegram bot, over the Bot API: asking, sending, webhooks.

Belongs here: the client and its requests (https://core.telegram.org/bots/api, read 2026-11). Does
not belong here: what a message says (`bot_api_messages.py`), a person's own account (`mtproto.py`).

What shapes it:

- Updates are kept for a day at most, and forgotten as soon as a later one is asked for. So a pull
  asks once: what it brings must be durable before it is forgotten.
- A webhook excludes asking (409).
- There is no history, no deletion is told, and a bot does not see what it wrote itself.
- There is no key for sending and no way to look: a lost answer stays unknown.
- The token is part of every address. No address goes into an error, a log or a message.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

from communicator_pipeline.platforms.certificates import trusted
from communicator_pipeline.platforms.protocol import (
    Accepted,
    CannotTell,
    Client,
    Connection,
    FindResult,
    Identity,
    LoginNeeded,
    NotSupported,
    Page,
    Part,
    PlatformError,
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
from communicator_pipeline.platforms.telegram.bot_api_messages import (
    FILE_SCHEME,
    KINDS,
    bare,
    candidates,
    chat_id,
    records,
)
from communicator_pipeline.platforms.telegram.envelopes import native_id
from communicator_pipeline.storage.dead_letters import DeadLetter

BASE_URL = "https://api.telegram.org"
SENDING = Sending(repeats=False, looks_up=False, longest=4_096, unit="utf16")
TIMEOUT = httpx.Timeout(20.0, connect=10.0)
TRY_AGAIN_IN = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=24)  # whatever it asks for: a mistake must not stop an account
PAGE = 100  # updates in one answer: the most that there are
UPDATES = "updates"
HEADER = "x-telegram-bot-api-secret-token"

_TOKEN = re.compile(r"\d{1,20}:[A-Za-z0-9_-]{8,100}")
_IN_ADDRESS = re.compile(r"/bot[^/\s\"']+")
_SECRET = re.compile(r"[A-Za-z0-9_-]{16,256}")


class _WithoutTokens(logging.Filter):
    """httpx writes the address of every request to its log, and the token is part of it."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "/bot" in text:
            record.msg, record.args = _IN_ADDRESS.sub("/bot•••", text), ()
        return True


for _name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2"):
    logging.getLogger(_name).addFilter(_WithoutTokens())


class SaidNo(PlatformError):
    """The Bot API's definite no to one request."""

    def __init__(self, status: int, words: str, moved_to: int | None = None) -> None:
        super().__init__(f"Telegram says: {words}")
        self.status = status
        self.words = words
        self.moved_to = moved_to  # the supergroup that the group has become


class LeftOpen(PlatformError):
    """It may have happened. Never leaves the package: sending makes `Unknown` of it."""


class NeverLeft(PlatformError):
    """No connection: nothing reached Telegram."""


class BotApi:
    """A bot's requests. Everything that it lets out is a `PlatformError`."""

    def __init__(self, http: httpx.Client, base_url: str, token: str) -> None:
        self._http = http
        self._base_url = checked_base_url(base_url)
        self._token = token

    def read(self, method: str, **arguments: Any) -> Any:
        """Ask for something. Raises `Wait`, `LoginNeeded`, `Unreachable` and `SaidNo`."""
        try:
            return self.change(method, **arguments)
        except (LeftOpen, NeverLeft) as error:
            raise Unreachable(str(error)) from None

    def change(self, method: str, **arguments: Any) -> Any:
        """Change something, once: raises `NeverLeft` and `LeftOpen` instead of `Unreachable`."""
        given = {key: value for key, value in arguments.items() if value is not None}
        try:
            answer = self._http.post(f"{self._base_url}/bot{self._token}/{method}", json=given)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            name = type(error).__name__
            raise NeverLeft(f"Telegram cannot be reached: {name}") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            name = type(error).__name__
            raise LeftOpen(f"Telegram's answer to {method} was lost: {name}") from None
        return _understood(method, answer)

    def file(self, path: str, most: int) -> bytes:
        """A file's content; raises ValueError if it is larger, and FileNotFoundError."""
        address = f"{self._base_url}/file/bot{self._token}/{path}"
        content = bytearray()
        try:
            with self._http.stream("GET", address) as answer:
                if answer.status_code in (400, 404):
                    raise FileNotFoundError("Telegram does not have the file any more")
                if answer.status_code != 200:
                    raise Unreachable(f"Telegram answered {answer.status_code} for a file")
                for chunk in answer.iter_bytes():
                    content += chunk
                    if len(content) > most:
                        raise ValueError(f"the file has more than {most} bytes")
        except httpx.HTTPError as error:
            name = type(error).__name__
            raise Unreachable(f"Telegram did not give the file: {name}") from None
        return bytes(content)


def checked_base_url(base_url: str) -> str:
    """The Bot API's address without a slash at its end; raises `ValueError` for one over which the
    token would travel in the clear."""
    address = urlsplit(base_url)
    local = address.hostname in ("127.0.0.1", "localhost", "::1")
    if not address.hostname or not (
        address.scheme == "https" or (address.scheme == "http" and local)
    ):
        raise ValueError(f"base_url should begin with https://, it is {base_url!r}")
    return base_url.rstrip("/")


def _understood(method: str, answer: httpx.Response) -> Any:
    try:
        said = orjson.loads(answer.content)
        ok, status = said["ok"], answer.status_code
        if ok is True:
            return said["result"]
        words = str(said.get("description") or f"HTTP {status}")[:300]
        parameters = said.get("parameters") or {}
        status = int(said.get("error_code") or status)
        seconds, moved = parameters.get("retry_after"), parameters.get("migrate_to_chat_id")
    except (ValueError, TypeError, KeyError, AttributeError):
        if answer.status_code in (401, 404):
            raise LoginNeeded("Telegram does not take the bot's token") from None
        raise LeftOpen(f"Telegram's answer to {method} is none ({answer.status_code})") from None
    if status == 429:
        raise _wait(seconds)
    if status in (401, 404):
        raise LoginNeeded("Telegram does not take the bot's token: ask @BotFather for a new one")
    if status == 408 or status >= 500:
        raise LeftOpen(f"Telegram has trouble of its own ({status})")
    raise SaidNo(status, words, moved if type(moved) is int else None)


def _wait(seconds: Any) -> Wait:
    given = seconds if type(seconds) is int and seconds > 0 else 30
    asked = min(timedelta(seconds=given), LONGEST_WAIT)
    why = f"Telegram's limit: it asks to wait {asked.total_seconds():.0f} s"
    return Wait(datetime.now(UTC) + asked, why)


# --- logging in


def login(values: Mapping[str, str]) -> dict[str, str]:
    """The token checked, the webhook's secret made, and the webhook set if an address is given.

    Raises `ValueError` for what was typed wrong, `PlatformError` if Telegram refuses.
    """
    token = values.get("bot_token", "")
    if not _TOKEN.fullmatch(token):
        raise ValueError(
            "bot_token should look like 123456:ABC-DEF…, as @BotFather gives it (write /newbot)"
        )
    secret = values.get("webhook_secret") or secrets.token_urlsafe(32)
    if not _SECRET.fullmatch(secret):
        raise ValueError("webhook_secret should have 16 to 256 characters of A-Z a-z 0-9 _ -")
    url = values.get("webhook_url", "")
    if url and not url.startswith("https://"):
        raise ValueError("webhook_url should begin with https://")
    with _http() as http:
        api = BotApi(http, values.get("base_url") or BASE_URL, token)
        api.read("getMe")
        if url:
            api.read("setWebhook", url=url, secret_token=secret, allowed_updates=list(KINDS))
    return {"webhook_secret": secret}


@contextmanager
def connect(connection: Connection) -> Iterator[Client]:
    """A client for a bot."""
    with _http() as http:
        base_url = connection.setting("base_url", BASE_URL)
        api = BotApi(http, base_url, connection.secrets.get("bot_token", ""))
        yield BotClient(connection, api)


def _http() -> httpx.Client:
    # A redirect could lead the token elsewhere.
    return httpx.Client(timeout=TIMEOUT, verify=trusted(), follow_redirects=False)


class BotClient:
    """A bot."""

    def __init__(self, connection: Connection, api: BotApi) -> None:
        self._connection = connection
        self._api = api

    def identity(self) -> Identity:
        me = self._api.read("getMe")
        try:
            number, name, handle = int(me["id"]), str(me["first_name"]), str(me["username"])
        except (KeyError, TypeError, ValueError):
            raise PlatformError("Telegram does not say which bot this is") from None
        can = ["receive what is written to the bot", "see edits", "send messages"]
        cannot = [
            "read history: what was written before, and more than a day without a pull, is lost; "
            "an export, or a user account, has it",
            "see deletions, or what the bot itself wrote elsewhere: Telegram does not tell bots",
        ]
        if me.get("can_read_all_group_messages"):
            can.append("read everything in its groups")
        else:
            cannot.append(
                "read everything in groups, but commands and answers to it only: write /setprivacy "
                "to @BotFather, choose the bot and Disable, then take the bot out of each group "
                "and add it again"
            )
        place = f"Telegram (@{handle})"
        return Identity((f"user{number}",), name, place, tuple(can), tuple(cannot))

    def pull(self, request: PullRequest) -> Iterator[Page]:
        if request.window is not None:
            raise NotSupported(
                "Telegram gives bots no history: import an export of Telegram Desktop, or connect "
                "a user account (kind: user)"
            )
        offset = int(request.cursors.get(UPDATES) or 0)
        try:
            updates = self._api.read(
                "getUpdates",
                offset=offset or None,
                limit=PAGE,
                timeout=0,
                allowed_updates=list(KINDS),
            )
        except SaidNo as no:
            if no.status != 409:
                raise
            yield Page(notices=self._about_webhook(no))
            return
        if not isinstance(updates, list):
            raise Unreachable("Telegram's answer to getUpdates is no list")
        found: list[Record] = []
        for update in updates:
            channel_id = chat_id(update)
            if channel_id is None or request.chats.wants(channel_id):
                found += records(update, request.now, "pull")
        numbers = [u["update_id"] for u in updates if _is_numbered(u)]
        # The next pull forgets these at Telegram: by then they have landed.
        yield Page(found, {UPDATES: str(max(numbers) + 1)} if numbers else {})

    def _about_webhook(self, no: SaidNo) -> list[str]:
        """Why there is nothing to ask for, and whether the webhook works."""
        if "webhook" not in no.words.lower():
            raise Unreachable(
                "another program asks for this bot's messages with the same token: end it, or give "
                "it a bot of its own"
            )
        found = self._api.read("getWebhookInfo")
        url = str(found.get("url") or "") if isinstance(found, dict) else ""
        account = self._connection.account
        notices = []
        if not url.endswith(f"/push/telegram/{account}"):
            notices.append(
                "this bot's messages are pushed to another address, and none come here: log in "
                f"again with webhook_url https://YOUR-HOST/push/telegram/{account}, or take the "
                "webhook away (deleteWebhook) to have them pulled"
            )
        elif trouble := found.get("last_error_message"):
            waiting = found.get("pending_update_count")
            notices.append(
                f"Telegram cannot push to this machine: {str(trouble)[:200]} ({waiting} messages "
                "wait there, for a day at most)"
            )
        return notices

    def download(self, url: str, most: int) -> bytes:
        if not url.startswith(FILE_SCHEME):
            raise FileNotFoundError(f"{url[:60]!r} is no file of a bot's")
        try:
            found = self._api.read("getFile", file_id=url.removeprefix(FILE_SCHEME))
        except SaidNo as no:
            if "too big" in no.words.lower():
                raise ValueError("Telegram gives bots files of 20 MB at most") from None
            raise FileNotFoundError(str(no)) from None
        path = found.get("file_path") if isinstance(found, dict) else None
        if not isinstance(path, str) or not re.fullmatch(r"[\w./-]+", path) or ".." in path:
            raise FileNotFoundError("Telegram does not say where the file is")
        size = found.get("file_size")
        if type(size) is int and size > most:
            raise ValueError(f"the file has {size} bytes, more than {most}")
        return self._api.file(path, most)

    def send(self, target: Target, part: Part, token: str) -> SendResult:
        if (length := len(part.text.encode("utf-16-le")) // 2) > SENDING.longest:
            return Refused(f"the text has {length} characters, Telegram takes {SENDING.longest}")
        try:
            chat = self._chat(target.channel_id)
        except Wait as wait:
            return Refused(str(wait), wait.until)
        except Unreachable as error:
            return Refused(str(error), datetime.now(UTC) + TRY_AGAIN_IN)
        except PlatformError as error:
            return Refused(str(error))
        thread = native_id(target.thread_id, target.channel_id)
        answered = native_id(target.reply_to, target.channel_id)
        topic = thread if chat.get("is_forum") and thread != 1 else None
        if answered is None and not chat.get("is_forum"):
            answered = thread
        try:
            sent = self._api.change(
                "sendMessage",
                chat_id=chat["id"],
                text=part.text,
                message_thread_id=topic,
                reply_parameters={"message_id": answered} if answered else None,
                link_preview_options={"is_disabled": True},
            )
        except Wait as wait:
            return Refused(str(wait), wait.until)
        except NeverLeft as error:
            return Refused(str(error), datetime.now(UTC) + TRY_AGAIN_IN)
        except SaidNo as no:
            if no.moved_to is not None:
                return Refused(f"the group has become the supergroup {bare(no.moved_to)}")
            return Refused(str(no))
        except LoginNeeded as error:
            return Refused(str(error))
        except PlatformError as error:
            return Unknown(str(error))
        return _outcome(sent, target.channel_id)

    def find_sent(self, target: Target, part: Part, token: str, since: datetime) -> FindResult:
        return CannotTell("Telegram does not show a bot what it has written: look into the chat")

    def _chat(self, channel_id: str) -> dict[str, Any]:
        """The chat of this number, among the three that may have it; raises `PlatformError`.

        All three are asked for, so that nobody gets what was meant for another.
        """
        if not channel_id.isascii() or not channel_id.isdigit():
            raise PlatformError(f"{channel_id!r} is no chat of Telegram's")
        found = []
        for number in candidates(channel_id):
            try:
                chat = self._api.read("getChat", chat_id=number)
            except SaidNo:
                continue
            if isinstance(chat, dict) and chat.get("id") == number:
                found.append(chat)
        if not found:
            raise PlatformError("the bot cannot see the chat: has it been taken out of it?")
        if len(found) > 1:
            raise PlatformError("two chats of the bot have the same number: answer in Telegram")
        return found[0]


def _outcome(sent: Any, channel_id: str) -> SendResult:
    native = sent.get("message_id") if isinstance(sent, dict) else None
    if type(native) is not int:
        return Unknown("Telegram did not say which message it became")
    now = datetime.now(UTC)
    # Telegram shows a bot no echo of what it writes: the answer is the only place that has it.
    said = [
        record
        for record in records({"update_id": 0, "message": sent}, now, "push")
        if not isinstance(record, DeadLetter)
    ]
    try:
        when = datetime.fromtimestamp(sent["date"], UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return Sent(f"{channel_id}:{native}")
    return Sent(f"{channel_id}:{native}", when, tuple(said))


# --- being pushed to


def receive(push: Push, connection: Connection) -> Accepted:
    """Verify a push: the secret that was given to Telegram with the webhook's address."""
    known = connection.secrets["webhook_secret"]
    if not known or not hmac.compare_digest(push.headers[HEADER].encode(), known.encode()):
        raise ValueError("the secret is not the account's")
    number = orjson.loads(push.body)["update_id"]
    if type(number) is not int:
        raise ValueError("the update has no number")
    return Accepted(f"update {number}")


def events(body: bytes, now: datetime) -> Iterator[Record]:
    """What a push holds."""
    try:
        update = orjson.loads(body)
    except ValueError as error:
        yield dead_letter(error, "telegram bot: push", body, stage="push")
        return
    yield from records(update, now, "push")


def _is_numbered(update: Any) -> bool:
    return isinstance(update, dict) and type(update.get("update_id")) is int
