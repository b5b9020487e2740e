"""X's API v2, request by request: signing, limits, errors, and its two spellings of fields.

Belongs here: HTTP. Does not belong here: which requests make up a pull (`pulling.py`), what an
answer says (`reading.py`).

https://docs.x.com/x-api (read 2026-11). Plain `httpx` with authlib's OAuth 1.0a signature: X's own
client `xdk` is younger than 1.0 and does nothing about 429, `tweepy` cannot be pointed at another
host. authlib's `OAuth1Auth` is not used, for it belongs to another HTTP library by now and sends a
JSON body away empty; its signature is.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import orjson
from authlib.oauth1 import ClientAuth  # type: ignore[import-untyped]

from communicator_pipeline.platforms.protocol import (
    Connection,
    LoginNeeded,
    OverBudget,
    PlatformError,
    Unreachable,
    Wait,
)

BASE = "https://api.x.com"
TIMEOUT = httpx.Timeout(30.0, connect=10.0, pool=10.0)
LIMIT_UNASKED = timedelta(minutes=15)
"""A 429 that names no time: X counts in windows of 15 minutes
(https://docs.x.com/x-api/fundamentals/rate-limits, read 2026-11)."""

_LONGEST_WAIT = timedelta(days=1)
_LONGEST_WORDS = 300  # characters of X's own words
_SIGNED_MEDIA = ("ton.twitter.com", "ton.x.com")
_OPEN_MEDIA = ("pbs.twimg.com", "video.twimg.com")

Spelling = Literal["post", "tweet"]
"""X renamed its fields in July 2026 (`tweet.fields` → `post.fields`), and servers differ."""

_MEDIA_FIELDS = "media_key,preview_image_url,type,url,variants"
_USER_FIELDS = "id,name,username"

POSTS: Mapping[Spelling, Mapping[str, str]] = {
    "post": {
        "post.fields": "attachments,conversation_id,created_at,entities,id,note_post,"
        "public_metrics,text",
        "expansions": "attachments.media_keys,author_id,edit_history_post_ids,"
        "in_reply_to_user_id,referenced_posts",
        "user.fields": _USER_FIELDS,
        "media.fields": _MEDIA_FIELDS,
    },
    "tweet": {
        "tweet.fields": "attachments,author_id,conversation_id,created_at,edit_history_tweet_ids,"
        "entities,id,in_reply_to_user_id,note_tweet,public_metrics,referenced_tweets,text",
        "expansions": "attachments.media_keys,author_id,in_reply_to_user_id",
        "user.fields": _USER_FIELDS,
        "media.fields": _MEDIA_FIELDS,
    },
}
DIRECT_MESSAGES: Mapping[Spelling, Mapping[str, str]] = {
    "post": {
        "dm_event.fields": "attachments,created_at,dm_conversation_id,entities,event_type,id,text",
        "expansions": "attachments.media_keys,sender_id",
        "user.fields": _USER_FIELDS,
        "media.fields": _MEDIA_FIELDS,
        "event_types": "MessageCreate",
    },
    "tweet": {
        "dm_event.fields": "attachments,created_at,dm_conversation_id,entities,event_type,id,"
        "sender_id,text",
        "expansions": "attachments.media_keys,sender_id",
        "user.fields": _USER_FIELDS,
        "media.fields": _MEDIA_FIELDS,
        "event_types": "MessageCreate",
    },
}


class Declined(PlatformError):
    """X said no to one request (400, 403, 404, another 4xx); others may still work."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"X answered {status}: {words}".rstrip(": "))
        self.status = status
        self.words = words


class Signed(httpx.Auth):
    """OAuth 1.0a, as the user whose access token it is."""

    def __init__(self, connection: Connection) -> None:
        secrets = connection.secrets
        self._client = ClientAuth(
            secrets.get("consumer_key", ""),
            client_secret=secrets.get("consumer_secret", ""),
            token=secrets.get("access_token", ""),
            token_secret=secrets.get("access_token_secret", ""),
        )

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        # A JSON body is no part of an OAuth 1.0a signature, the query is.
        _, headers, _ = self._client.sign(request.method, str(request.url), {}, b"")
        request.headers["authorization"] = headers["Authorization"]
        yield request


class Api:
    """The API as one user. Nothing is repeated and no redirect is followed."""

    def __init__(self, http: httpx.Client, connection: Connection) -> None:
        self.http = http
        self.base = connection.setting("base_url", BASE).rstrip("/")
        self.access_level = ""  # as the last answer told it
        self._auth = Signed(connection)
        self._secrets = [secret for secret in connection.secrets.values() if len(secret) > 5]

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What the path answers; raises the protocol's errors, or `Declined`."""
        try:
            answer = self.http.get(
                self.base + path,
                params=parameters,
                auth=self._auth,
                timeout=TIMEOUT,
                follow_redirects=False,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"X did not answer: {type(error).__name__}") from None
        self.access_level = answer.headers.get("x-access-level", self.access_level)
        if not answer.is_success:
            raise self.failure(answer)
        return answered(answer)

    def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """The bare answer to a POST; raises httpx's errors, for the sender to judge."""
        return self.http.post(
            self.base + path,
            content=orjson.dumps(body),
            headers={"content-type": "application/json"},
            auth=self._auth,
            timeout=TIMEOUT,
            follow_redirects=False,
        )

    def media(self, url: str, most: int) -> bytes:
        """A picture or film. Only X's own hosts are asked, and only those that need it signed."""
        parts = urlsplit(url)
        is_ours = f"{parts.scheme}://{parts.netloc}" == self.base
        signed = is_ours or parts.netloc in _SIGNED_MEDIA
        if not is_ours and not (
            parts.scheme == "https" and parts.netloc in (*_SIGNED_MEDIA, *_OPEN_MEDIA)
        ):
            raise FileNotFoundError("the file is not one of X's")
        try:
            with self.http.stream(
                "GET",
                url,
                auth=self._auth if signed else None,
                timeout=TIMEOUT,
                follow_redirects=False,
            ) as answer:
                if answer.is_success:
                    return b"".join(_at_most(answer.iter_bytes(), most))
                answer.read()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"X did not answer: {type(error).__name__}") from None
        if answer.status_code in (403, 404, 410):
            raise FileNotFoundError(f"X answered {answer.status_code} for the file")
        raise self.failure(answer)

    def failure(self, answer: httpx.Response) -> PlatformError:
        """What a bad answer means for a read."""
        status, words = answer.status_code, self.words(answer)
        if status == 429:
            until = not_before(answer, datetime.now(UTC))
            return Wait(until, f"X limits requests until {until:%H:%M:%S} UTC")
        if status == 401:
            return LoginNeeded(f"X does not accept the keys and tokens: {words}".rstrip(": "))
        if status == 402:
            return OverBudget(f"X wants credits to be bought first: {words}".rstrip(": "))
        if status in (408, 425) or status >= 500:
            return Unreachable(f"X answered {status}")
        if status < 400:
            return Unreachable(f"X answered {status}, a redirect: correct base_url")
        return Declined(status, words)

    def words(self, answer: httpx.Response) -> str:
        """What X says about an error, without the account's secrets.

        https://docs.x.com/x-api/fundamentals/response-codes-and-errors (read 2026-11)
        """
        try:
            found = orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            return ""
        if not isinstance(found, dict):
            return ""
        errors = found.get("errors")
        listed = errors if isinstance(errors, list) else []
        inner = [error for error in listed if isinstance(error, dict)]
        told = [found.get("detail"), *(error.get("message") for error in inner)]
        told = told if any(told) else [found.get("title")]
        text = "; ".join(dict.fromkeys(part for part in told if isinstance(part, str) and part))
        for secret in self._secrets:
            text = text.replace(secret, "•••")
        return text.encode(errors="replace").decode()[:_LONGEST_WORDS]


def answered(answer: httpx.Response) -> dict[str, Any]:
    """The object that a good answer holds; raises `Unreachable` for anything else."""
    try:
        found = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise Unreachable(
            f"X answered {answer.status_code} with something that is no JSON object: "
            "is base_url right?"
        )
    return found


def not_before(answer: httpx.Response, now: datetime) -> datetime:
    """When a limit ends, by the headers of a 429: the day's if that is used up, else the window's.

    https://docs.x.com/x-api/fundamentals/rate-limits (read 2026-11): seconds since 1970 UTC.
    """
    names = ["x-rate-limit-reset"]
    for span in ("user-limit-24hour", "app-limit-24hour"):
        if answer.headers.get(f"x-{span}-remaining") == "0":
            names.append(f"x-{span}-reset")
    times = []
    for name in names:
        given = answer.headers.get(name, "")
        if given.isascii() and given.isdigit() and len(given) < 12:
            times.append(datetime.fromtimestamp(int(given), UTC))
    until = max(times, default=now + LIMIT_UNASKED)
    return min(max(until, now + timedelta(seconds=1)), now + _LONGEST_WAIT)


def _at_most(chunks: Iterator[bytes], most: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise ValueError(f"the file has more than {most} bytes")
        yield chunk
