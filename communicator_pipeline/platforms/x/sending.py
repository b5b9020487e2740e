"""Sending to X, once: posts and direct messages.

Belongs here: what is sent, what X's answer means for a send, looking for one whose answer was lost.
Does not belong here: when to try again (the delivery job), how long a post may be (`counting.py`).

X knows no key for a send. It refuses a post that says the same as another of the last hours
("duplicate content"), which may be the lost attempt itself: a hint, so it is looked for. Since
2026-02-23 an app of the self-serve plans may only answer who mentioned or quoted its user
(https://docs.x.com/changelog, read 2026-11).
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from communicator_pipeline.platforms.instants import iso_micros, moment
from communicator_pipeline.platforms.protocol import (
    Absent,
    CannotTell,
    FindResult,
    LoginNeeded,
    OverBudget,
    Part,
    PlatformError,
    Refused,
    Sending,
    SendResult,
    Sent,
    Target,
    Unknown,
    Unreachable,
    Wait,
)
from communicator_pipeline.platforms.x.api import (
    DIRECT_MESSAGES,
    POSTS,
    Api,
    Declined,
    Spelling,
    answered,
)
from communicator_pipeline.platforms.x.counting import LINKS, LONGEST_POST
from communicator_pipeline.platforms.x.export import FEED
from communicator_pipeline.platforms.x.reading import references, snowflake_micros

SENDING = Sending(repeats=False, looks_up=True, longest=LONGEST_POST, unit="x_weighted")

TRY_AGAIN_IN = timedelta(minutes=1)
_CLOCKS_DIFFER = timedelta(minutes=2)
_MOST_PAGES = 10
_LEADING_MENTIONS = re.compile(r"^(?:@\w{1,20}\s+)+")


def send(api: Api, target: Target, part: Part) -> SendResult:
    """One POST, no retry."""
    path, body = request_for(target, part)
    try:
        answer = api.post(path, body)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        why = f"X could not be reached: {type(error).__name__}"
        return Refused(why, datetime.now(UTC) + TRY_AGAIN_IN)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Unknown(f"X did not answer: {type(error).__name__}")
    return outcome(api, answer, target)


def request_for(target: Target, part: Part) -> tuple[str, dict[str, Any]]:
    """The path and the body of a send."""
    if target.channel_id != FEED:
        return f"/2/dm_conversations/{target.channel_id}/messages", {"text": part.text}
    body: dict[str, Any] = {"text": part.text}
    if (answered_id := _answers(target)) is not None:
        body["reply"] = {"in_reply_to_tweet_id": answered_id}
    return "/2/tweets", body


def outcome(api: Api, answer: httpx.Response, target: Target) -> SendResult:
    """What the answer to a send means."""
    if answer.is_success:
        try:
            data = answered(answer).get("data")
        except Unreachable as error:
            return Unknown(str(error))
        key = "id" if target.channel_id == FEED else "dm_event_id"
        native = data.get(key) if isinstance(data, dict) else None
        if not isinstance(native, str) or not native:
            return Unknown("X took the message and did not say under which id")
        micros = snowflake_micros(native)
        return Sent(f"{target.channel_id}:{native}", None if micros is None else moment(micros))
    meant, words = api.failure(answer), api.words(answer)
    if answer.status_code == 403:
        if "duplicate" in words.lower():
            return Unknown(f"X says that the same was posted already: {words}")
        if target.channel_id == FEED and _answers(target) is not None:
            return Refused(
                f"X does not let this post be answered: {words}. An app may only answer posts "
                "that mention or quote you: answer it on X itself"
            )
        return Refused(f"X does not allow this: {words}. Does the app have write access?")
    if isinstance(meant, Wait):
        return Refused(str(meant), meant.until)
    if isinstance(meant, Unreachable) and answer.status_code >= 400:
        return Unknown(str(meant))
    return Refused(str(meant))


def find_sent(api: Api, me: str, target: Target, part: Part, since: datetime) -> FindResult:
    """Look through the owner's newest posts, or the conversation's messages, for the same words in
    answer to the same post. What is read is paid for."""
    earliest = since - _CLOCKS_DIFFER
    wanted = comparable(part.text)
    try:
        for item in _own(api, me, target, earliest):
            if comparable(str(item.get("text"))) != wanted:
                continue
            if target.channel_id == FEED and references(item).get("replied_to") != _answers(target):
                continue
            native = item.get("id")
            if isinstance(native, str):
                return Sent(f"{target.channel_id}:{native}", _when(item))
    except (Wait, LoginNeeded, OverBudget, Unreachable) as error:
        return CannotTell(str(error))
    except _TooMany:
        return CannotTell("there is too much that is newer to look through")
    except PlatformError as error:
        return CannotTell(f"X does not let the app look: {error}")
    return Absent()


class _TooMany(Exception):
    pass


def _own(api: Api, me: str, target: Target, earliest: datetime) -> Iterator[dict[str, Any]]:
    """What the owner has written there since, newest first; raises `_TooMany` for what is not to
    be read to its end."""
    is_post = target.channel_id == FEED
    path = f"/2/users/{me}/tweets" if is_post else "/2/dm_events"
    token = ""
    for _ in range(_MOST_PAGES):
        answer = _page(api, path, is_post, token, earliest)
        items = answer.get("data")
        for item in items if isinstance(items, list) else ():
            if not isinstance(item, dict):
                continue
            when = _when(item)
            if not is_post and when is not None and when < earliest:
                return
            author = item.get("author_id" if is_post else "sender_id")
            place = FEED if is_post else item.get("dm_conversation_id")
            if author == me and place == target.channel_id:
                yield item
        meta = answer.get("meta")
        following = meta.get("next_token") if isinstance(meta, dict) else None
        if not isinstance(following, str) or not following:
            return
        token = following
    raise _TooMany


def _page(api: Api, path: str, is_post: bool, token: str, earliest: datetime) -> dict[str, Any]:
    """One page in the spelling that the server takes."""
    fields = POSTS if is_post else DIRECT_MESSAGES
    more = {"max_results": "100" if is_post else "25"}
    if is_post:
        started = earliest.astimezone(UTC).isoformat(timespec="seconds")
        more["start_time"] = started.replace("+00:00", "Z")
    if token:
        more["pagination_token"] = token
    spellings: tuple[Spelling, Spelling] = ("post", "tweet")
    try:
        return api.get(path, {**fields[spellings[0]], **more})
    except Declined as declined:
        if declined.status not in (400, 422):
            raise
    return api.get(path, {**fields[spellings[1]], **more})


def comparable(text: str) -> str:
    """A text as it is the same before and after X took it: without links, which X replaces by its
    own, and without the names that it puts in front of a reply."""
    plain = unicodedata.normalize("NFC", html.unescape(text))
    plain = LINKS.sub("\x00", _LEADING_MENTIONS.sub("", plain))
    return " ".join(plain.split())


def _answers(target: Target) -> str | None:
    """The id of the post that is answered: the one named, else the thread's root."""
    message_id = target.reply_to or target.thread_id
    return None if message_id is None else message_id.removeprefix(f"{target.channel_id}:")


def _when(item: dict[str, Any]) -> datetime | None:
    created, native = item.get("created_at"), item.get("id")
    try:
        if isinstance(created, str):
            return moment(iso_micros(created))
        micros = snowflake_micros(native) if isinstance(native, str) else None
        return None if micros is None else moment(micros)
    except (ValueError, OverflowError):
        return None
