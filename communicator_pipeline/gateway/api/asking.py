"""What the routes of the API take, and what they do with who asks.

Belongs here: bounded texts and times, cursors, the note of a change. Does not belong here: what is
answered (`answers.py`), who asks (`gateway/identity.py`).
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import Annotated

import orjson
from fastapi import Path, Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from communicator_pipeline.gateway.identity import Identity
from communicator_pipeline.storage import Stores, audit
from communicator_pipeline.storage.accounts import Accounts
from communicator_pipeline.storage.database import LARGEST_INTEGER
from communicator_pipeline.storage.inbox import LONGEST_TEXT, Place


def _plain(text: str | None) -> str | None:
    """SQLite and the platforms end a text at a NUL, and half a character is no UTF-8."""
    if text is None:
        return None
    if "\0" in text:
        raise ValueError("it holds a NUL character, which no text may")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half a character (a lone surrogate)") from None
    return text


def _is_spelled_out(value: object) -> object:
    """Seconds since 1970, which pydantic takes as well, are no time that the description allows."""
    if not isinstance(value, str) or not _DATE_AND_TIME.match(value):
        raise ValueError("give a time as 2026-11-03T09:00:00+01:00")
    return value


_DATE_AND_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]", re.ASCII)


def _in_utc(moment: datetime) -> datetime:
    # Near the calendar's ends a time has no neighbours: in UTC, or two days later.
    if not 1000 < moment.year < 9000:
        raise ValueError("give a time between the years 1000 and 9000")
    return moment.astimezone(UTC)


Plain = AfterValidator(_plain)
Moment = Annotated[AwareDatetime, BeforeValidator(_is_spelled_out), AfterValidator(_in_utc)]
"""A time with its zone, in UTC from here on."""

Short = Annotated[str, Field(max_length=1_000), Plain]
Text = Annotated[str, Field(max_length=LONGEST_TEXT), Plain]
Seen = Annotated[
    str | None,
    Field(max_length=200, description="The `source_version` of the proposal that was looked at."),
    Plain,
]

AccountPath = Annotated[str, Path(max_length=63, description="The account's key."), Plain]
ConversationId = Annotated[
    str, Query(min_length=1, max_length=1_000, description="The conversation's id."), Plain
]
"""In the query, not in the path: platforms name what it is made of, and a path loses `.`, `//` and
an encoded `/` on its way through clients and proxies."""

ApprovalId = Annotated[str, Path(max_length=200, description="The approval's id."), Plain]
DeliveryId = Annotated[str, Path(max_length=200, description="The delivery's id."), Plain]
DeadLetterId = Annotated[str, Path(max_length=200, description="The dead letter's id."), Plain]
UserId = Annotated[
    str, Query(min_length=1, max_length=63, description="A user of the installation."), Plain
]
KeyId = Annotated[str, Path(max_length=200, description="The key's id, not the key."), Plain]
MessageId = Annotated[
    str, Query(min_length=1, max_length=1_000, description="The message's id."), Plain
]
CategoryName = Annotated[
    str, Query(min_length=1, max_length=60, description="A category of the taxonomy."), Plain
]
OnlyAccount = Annotated[str | None, Query(max_length=63, description="Only this account's."), Plain]
OnlyCategory = Annotated[str | None, Query(max_length=60, description="Only this category."), Plain]
OnlyContact = Annotated[
    str | None,
    Query(max_length=200, description="Only those in which this contact wrote."),
    Plain,
]
OnlyPlatform = Annotated[str | None, Query(max_length=63, description="Only this platform."), Plain]
Words = Annotated[
    str, Query(min_length=1, max_length=500, description="Words that a message contains."), Plain
]
Limit = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
Cursor = Annotated[
    str | None,
    Query(max_length=4_000, description="`next` of the page before; without it, the first page."),
]


class Asked(BaseModel):
    """A body. What it does not know it refuses: a slip of the pen must not mean the default."""

    model_config = ConfigDict(extra="forbid")


# --- cursors ---------------------------------------------------------------------------------


def cursor_of(place: Place) -> str:
    """Where a page ended, for whoever asks for the next one."""
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def place_at(cursor: str) -> Place:
    """Where a cursor points to; raises `ValueError` for one that is none of ours."""
    try:
        found = orjson.loads(
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        )
        needs, priority, at, conversation_id, account = found
    except (ValueError, TypeError):
        raise ValueError(BAD_CURSOR) from None
    numbers = all(type(n) is int and abs(n) <= LARGEST_INTEGER for n in (needs, priority))
    if not numbers or not all(isinstance(text, str) for text in (at, conversation_id, account)):
        raise ValueError(BAD_CURSOR)
    return needs, priority, at, conversation_id, account


def pair_cursor(first: str, second: str) -> str:
    """The same of a list in the order of two texts."""
    return base64.urlsafe_b64encode(orjson.dumps([first, second])).decode().rstrip("=")


def pair_at(cursor: str) -> tuple[str, str]:
    """The two texts that such a cursor points to; raises `ValueError` for one that is none of
    ours."""
    try:
        first, second = orjson.loads(
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        )
        if not (isinstance(first, str) and isinstance(second, str)):
            raise ValueError
        _plain(first + second)
    except (ValueError, TypeError):
        raise ValueError(BAD_CURSOR) from None
    return first, second


BAD_CURSOR = "the cursor is not one that this list gave: begin with its first page"


# --- who asks --------------------------------------------------------------------------------


def must_see(opened: Stores, identity: Identity, account: str | None) -> None:
    """Raise `NotFound` for an account that is named and is not the user's."""
    if account is not None:
        Accounts(opened.database, identity.user_id).get(account)


def note(
    opened: Stores,
    identity: Identity,
    action: str,
    account: str | None = None,
    target: str = "",
    detail: str = "",
) -> None:
    """Note a change that has been made."""
    audit.note(
        opened.database,
        identity.user_id,
        action,
        datetime.now(UTC),
        account=account,
        target=target,
        detail=detail,
        via=identity.via,
    )
