"""A Telegram user's own account, over MTProto: logging in, reading, sending.

Belongs here: the client. Does not belong here: how requests are asked (`mtproto_asking.py`), what
a pull asks for (`mtproto_pull.py`), bots (`bot_api.py`).

Sending once: Telegram knows a message by its `random_id` and stores it once, however often it is
sent (https://core.telegram.org/method/messages.sendMessage, read 2026-11); ours comes from the
delivery's token. How long it remembers is not documented; it is taken for a day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from telethon import errors  # type: ignore[import-untyped]
from telethon.sessions import StringSession  # type: ignore[import-untyped]
from telethon.tl import functions, types  # type: ignore[import-untyped]

from communicator_pipeline.platforms.protocol import (
    Absent,
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
    Refused,
    Sending,
    SendResult,
    Sent,
    Target,
    Unknown,
    Unreachable,
    Wait,
)
from communicator_pipeline.platforms.telegram.envelopes import native_id
from communicator_pipeline.platforms.telegram.mtproto_asking import SaidNo, Session
from communicator_pipeline.platforms.telegram.mtproto_messages import (
    Cast,
    bare,
    entity_name,
    handles,
)
from communicator_pipeline.platforms.telegram.mtproto_places import input_peer
from communicator_pipeline.platforms.telegram.mtproto_pull import (
    PAGE,
    Reader,
    access_hash,
    dialogs,
    get_messages,
)

LONGEST = 4_096  # UTF-16 units
SENDING = Sending(
    repeats=True,
    looks_up=True,
    longest=LONGEST,
    unit="utf16",
    repeats_for=timedelta(hours=24),
)
TRY_AGAIN_IN = timedelta(minutes=1)
MOST_LOOKED_THROUGH = 10  # pages of a chat, in search of a message that may have been sent
CLOCKS_DIFFER = timedelta(minutes=2)
MOST_CODES = 3
_CHUNK = 512 * 1024  # bytes: what Telegram gives of a file at once


class _Found(NamedTuple):
    key: str
    entity: Any

    @property
    def peer(self) -> Any:
        return input_peer(self.key, access_hash(self.entity))


# --- logging in


def login(values: Mapping[str, str], ask: Ask) -> dict[str, str]:
    """The session of a user account: the given one, or a new one for a code that Telegram sends.

    Raises `ValueError` for what a person typed wrong, `PlatformError` for the rest.
    """
    if not values.get("api_id", "").isdigit() or not values.get("api_hash"):
        raise ValueError(
            "api_id (a number) and api_hash are needed: make an app at https://my.telegram.org/apps"
        )
    if values.get("session"):
        return {"session": checked_session(values["session"])}
    phone = values.get("phone", "")
    if not phone.lstrip("+").replace(" ", "").isdigit():
        raise ValueError("phone is needed, in the form +351912345678")
    session = Session("", int(values["api_id"]), values["api_hash"], patient=True)
    try:
        session.connect()
        _sign_in(session, phone, ask)
        return {"session": str(session.client.session.save())}
    finally:
        session.close()


def checked_session(text: str) -> str:
    """Raises ValueError, without the text: whoever has it has the account."""
    try:
        StringSession(text)
    except Exception:
        raise ValueError("session should be a string session of Telethon, or empty") from None
    return text


def _sign_in(session: Session, phone: str, ask: Ask) -> None:
    client = session.client
    _typed(session, client.send_code_request(phone))
    for attempt in range(1, MOST_CODES + 1):
        again = "" if attempt == 1 else "that was not it; "
        code = ask(Field("code", f"{again}the code that Telegram has just sent you", secret=True))
        try:
            _typed(session, client.sign_in(phone, code.strip()))
            return
        except _WrongCode:
            continue
        except _PasswordNeeded:
            _give_password(session, ask)
            return
    raise ValueError(f"the code was wrong {MOST_CODES} times: begin again")


def _give_password(session: Session, ask: Ask) -> None:
    for attempt in range(1, MOST_CODES + 1):
        again = "" if attempt == 1 else "that was not it; "
        words = f"{again}the account's two-step password"
        password = ask(Field("password", words, secret=True))
        try:
            _typed(session, session.client.sign_in(password=password))
            return
        except _WrongCode:
            continue
    raise ValueError(f"the password was wrong {MOST_CODES} times: begin again")


class _WrongCode(PlatformError):
    """Asked again."""


class _PasswordNeeded(PlatformError):
    """Asked for."""


def _typed(session: Session, steps: Any) -> None:
    """Run a step of the login, in which a person may have mistyped something."""

    async def step() -> None:
        try:
            await steps
        except (errors.PhoneCodeInvalidError, errors.PhoneCodeEmptyError):
            raise _WrongCode("the code is wrong") from None
        except errors.PasswordHashInvalidError:
            raise _WrongCode("the password is wrong") from None
        except errors.SessionPasswordNeededError:
            raise _PasswordNeeded("the account has a two-step password") from None
        except errors.PhoneCodeExpiredError:
            raise LoginNeeded("the code has expired: begin again") from None
        except errors.PhoneNumberUnoccupiedError:
            raise LoginNeeded("there is no Telegram account with this phone number") from None
        except (errors.PhoneNumberInvalidError, errors.PhoneNumberBannedError):
            raise LoginNeeded("Telegram does not take this phone number") from None
        except errors.ApiIdInvalidError:
            raise LoginNeeded("api_id and api_hash do not belong together") from None

    session.run(step())


# --- the client


@contextmanager
def connect(connection: Connection) -> Iterator[Client]:
    """A client for a user's account; connects with the first request."""
    session = Session(
        connection.secrets.get("session", ""),
        int(connection.setting("api_id", "0")),
        connection.secrets.get("api_hash", ""),
    )
    try:
        yield UserClient(connection, session)
    finally:
        session.close()


class UserClient:
    """A user's account."""

    def __init__(self, connection: Connection, session: Session) -> None:
        self._connection = connection
        self._session = session
        self._me: Any = None
        self._known: dict[str, list[_Found]] = {}  # channel id → the chats with this number

    def identity(self) -> Identity:
        me = self._myself()
        handle = next(handles(me), "")
        phone = f"+…{me.phone[-4:]}" if me.phone else "a user"
        return Identity(
            (f"user{me.id}",),
            entity_name(me) or "Deleted Account",
            f"Telegram ({'@' + handle if handle else phone})",
            (
                "read private chats, groups and their topics",
                "read broadcast channels that are included by name",
                "see edits and deletions",
                "read history as far back as it goes",
                "send messages",
            ),
            ("read secret chats: they are on one device only",),
        )

    def pull(self, request: PullRequest) -> Iterator[Page]:
        reader = Reader(
            self._session.ask,
            self._myself().id,
            request,
            f"telegram:{self._connection.account}:history",
        )
        if request.window is None:
            yield from reader.news()
        else:
            yield from reader.window(self._connection.setting("takeout") == "yes")

    def download(self, url: str, most: int) -> bytes:
        key, _, native = url.removeprefix("telegram:").partition("/")
        if not url.startswith("telegram:") or not native.isdigit():
            raise FileNotFoundError(f"{url[:60]!r} is no file of Telegram's")
        hash_ = 0
        if key.startswith("channel"):
            found = [one for one in self._chats(bare(key)) if one.key == key]
            if not found:
                raise FileNotFoundError("the chat of the file is not among the account's any more")
            hash_ = access_hash(found[0].entity)
        try:
            answer = self._session.ask(
                get_messages(key, hash_, [types.InputMessageID(int(native))])
            )
        except SaidNo as no:
            raise FileNotFoundError(str(no)) from None
        media = getattr(answer.messages[0], "media", None) if answer.messages else None
        file = getattr(media, "document", None) or getattr(media, "photo", None)
        if not isinstance(file, types.Document | types.Photo):
            raise FileNotFoundError("the message has no file any more")
        if isinstance(file, types.Document) and file.size > most:
            raise ValueError(f"the file has {file.size} bytes, more than {most}")
        return self._fetched(file, most)

    def _fetched(self, file: Any, most: int) -> bytes:
        async def fetch() -> bytes:
            content = bytearray()
            async for chunk in self._session.client.iter_download(file, request_size=_CHUNK):
                content += chunk
                if len(content) > most:
                    raise _TooLarge(f"the file has more than {most} bytes")
            return bytes(content)

        try:
            return self._session.run(fetch())
        except _TooLarge as error:
            raise ValueError(str(error)) from None
        except SaidNo as no:
            raise FileNotFoundError(str(no)) from None

    def send(self, target: Target, part: Part, token: str) -> SendResult:
        if (length := len(part.text.encode("utf-16-le")) // 2) > LONGEST:
            return Refused(f"the text has {length} characters, Telegram takes {LONGEST}")
        try:
            chat = self._chat(target.channel_id)
        except Wait as wait:
            return Refused(str(wait), wait.until)
        except Unreachable as error:
            return Refused(str(error), datetime.now(UTC) + TRY_AGAIN_IN)
        except PlatformError as error:
            return Refused(str(error))
        request = functions.messages.SendMessageRequest(
            peer=chat.peer,
            message=part.text,
            no_webpage=True,  # a preview would have Telegram open the links in the text
            reply_to=_answers(target, chat.entity),
            random_id=random_id(token, part),
        )
        try:
            answer = self._session.change(request)
        except Wait as wait:
            return Refused(str(wait), wait.until)
        except SaidNo as no:
            if no.code == "RANDOM_ID_DUPLICATE":
                return self._sent_before(chat, target, part)
            return Refused(str(no))
        except LoginNeeded as error:
            return Refused(str(error))
        except PlatformError as error:
            return Unknown(f"Telegram's answer was lost: {error}")
        return _outcome(answer, request.random_id, target.channel_id)

    def find_sent(self, target: Target, part: Part, token: str, since: datetime) -> FindResult:
        try:
            return self._look(self._chat(target.channel_id), target, part, since)
        except PlatformError as error:
            return CannotTell(str(error))

    def _sent_before(self, chat: _Found, target: Target, part: Part) -> SendResult:
        """Telegram says that it has this one already; which one it is has to be looked up."""
        try:
            found = self._look(chat, target, part, datetime.now(UTC) - timedelta(days=2))
        except PlatformError:
            found = CannotTell("it could not be looked up")
        if isinstance(found, Sent):
            return found
        return Unknown("Telegram says that it was sent before, and it is not among the newest")

    def _look(self, chat: _Found, target: Target, part: Part, since: datetime) -> FindResult:
        """Look through the chat, newest first, for the text among the account's own messages."""
        began = since - CLOCKS_DIFFER
        below = 0
        for _ in range(MOST_LOOKED_THROUGH):
            answer = self._session.ask(
                functions.messages.GetHistoryRequest(
                    peer=chat.peer,
                    offset_id=below,
                    offset_date=None,
                    add_offset=0,
                    limit=PAGE,
                    max_id=0,
                    min_id=0,
                    hash=0,
                )
            )
            for message in answer.messages:
                if not isinstance(message, types.Message):
                    continue
                if message.date < began:
                    return Absent()
                # Telegram takes the white space off the ends.
                if message.out and (message.message or "").strip() == part.text.strip():
                    return Sent(f"{target.channel_id}:{message.id}", message.date)
            if len(answer.messages) < PAGE:
                return Absent()
            below = min(message.id for message in answer.messages)
        return CannotTell("more was written in the chat since than was looked through")

    def _myself(self) -> Any:
        if self._me is None:
            found = self._session.ask(functions.users.GetUsersRequest([types.InputUserSelf()]))
            if not found or not isinstance(found[0], types.User):
                raise LoginNeeded("Telegram does not say whose login this is")
            self._me = found[0]
        return self._me

    def _chat(self, channel_id: str) -> _Found:
        """The chat of this number; raises `SaidNo` if there is none, or more than one."""
        self._session.connect()
        found = self._chats(channel_id)
        if not found:
            raise SaidNo("PEER_ID_INVALID")
        if len(found) > 1:
            names = " and ".join(entity_name(one.entity) or one.key for one in found)
            raise PlatformError(f"{names} have the same number: answer in Telegram itself")
        return found[0]

    def _chats(self, channel_id: str) -> list[_Found]:
        """The account's chats with this number, among the most recent ones: whoever is answered
        has written lately. The list ends with the page that has it."""
        if channel_id not in self._known:
            listed: dict[str, list[_Found]] = {}
            for page in dialogs(self._session.ask, Cast(0)):
                for dialog in page:
                    if not dialog.became:
                        found = _Found(dialog.key, dialog.entity)
                        listed.setdefault(bare(dialog.key), []).append(found)
                if channel_id in listed:
                    break
            self._known |= listed
        return self._known.get(channel_id, [])


class _TooLarge(PlatformError):
    """A file that is larger than its message said."""


def random_id(token: str, part: Part) -> int:
    """Telegram's key for a message: the same for the same piece of the same delivery."""
    digest = hashlib.sha256(f"{token}\0{part.number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # 63 bits: it is a signed number


def _answers(target: Target, entity: Any) -> Any:
    """What is answered. Topics are those of forums; elsewhere, a thread's root is answered."""
    root = native_id(target.thread_id, target.channel_id)
    answered = native_id(target.reply_to, target.channel_id)
    if getattr(entity, "forum", False):
        topic = root if root != 1 else None  # General is written to without naming it
        if answered or topic:
            return types.InputReplyToMessage(answered or topic, top_msg_id=topic)
        return None
    answered = answered or root
    return types.InputReplyToMessage(answered) if answered else None


def _outcome(answer: Any, random: int, channel_id: str) -> SendResult:
    if isinstance(answer, types.UpdateShortSentMessage):
        return Sent(f"{channel_id}:{answer.id}", answer.date)
    updates = getattr(answer, "updates", None) or ()
    native = next(
        (u.id for u in updates if isinstance(u, types.UpdateMessageID) and u.random_id == random),
        None,
    )
    for update in updates:
        message: Any = getattr(update, "message", None)
        if native is None and getattr(message, "out", False):
            native = message.id
        if native is not None and getattr(message, "id", None) == native:
            return Sent(f"{channel_id}:{native}", message.date)
    if native is not None:
        return Sent(f"{channel_id}:{native}")
    return Unknown("Telegram did not say which message it became")
