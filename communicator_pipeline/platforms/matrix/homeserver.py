"""A homeserver's client-server API, request by request: what it answers and what its errors mean.

Belongs here: HTTP, limits, errors. Does not belong here: which requests make up a pull
(`pulling.py`) or a send (`sending.py`).

https://spec.matrix.org/v1.16/client-server-api/ (read 2026-11). Plain `httpx` and not `matrix-nio`:
that client sleeps and repeats by itself on 429 and time-outs unless each limit is set, takes a
whole `/sync` for an error if one field in it breaks its schema, does not know
`timestamp_to_event`, and is asynchronous, while every request here stands alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import orjson

from communicator_pipeline.platforms.protocol import LoginNeeded, PlatformError, Unreachable, Wait

TIMEOUT = httpx.Timeout(60.0, connect=10.0, pool=10.0)
FIRST_SYNC_TIMEOUT = httpx.Timeout(300.0, connect=10.0, pool=10.0)
"""A first /sync of an account with thousands of rooms takes Synapse some minutes."""

LONGEST_WAIT = timedelta(days=1)
WAIT_UNASKED = timedelta(seconds=10)  # a 429 that names no time
_LONGEST_WORDS = 300  # characters of a server's own words
_MOST_REDIRECTS = 3

# https://spec.matrix.org/v1.16/client-server-api/#standard-error-response (read 2026-11)
_DEAD_TOKEN = frozenset({"M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_USER_LOCKED"})
_DEAD_ACCOUNT = frozenset({"M_USER_DEACTIVATED", "M_USER_SUSPENDED", "M_CONSENT_NOT_GIVEN"})


class Declined(PlatformError):
    """The homeserver said no to one request (403, 404, another 4xx); others may still work."""

    def __init__(self, status: int, code: str, words: str) -> None:
        super().__init__(f"the homeserver answered {status} {code}: {words}".rstrip(": "))
        self.status = status
        self.code = code


class Homeserver:
    """A homeserver as one user. Nothing is repeated, and no redirect is followed with the token.

    `secrets` are left out of what is told of its errors, should it quote one.
    """

    def __init__(
        self, http: httpx.Client, base: str, token: str = "", secrets: Sequence[str] = ()
    ) -> None:
        self.http = http
        self.base = base.rstrip("/")
        self.host = urlsplit(self.base).netloc
        self._secrets = [secret for secret in (token, *secrets) if secret]
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    def get(
        self,
        path: str,
        parameters: Mapping[str, str] | None = None,
        timeout: httpx.Timeout = TIMEOUT,
    ) -> dict[str, Any]:
        """What the path answers; raises the protocol's errors, or `Declined`."""
        return self._read("GET", path, parameters, None, timeout)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """As `get`; only for what changes nothing for others (logging in)."""
        return self._read("POST", path, None, body, TIMEOUT)

    def put(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """The bare answer to a PUT; raises httpx's errors, for the sender to judge."""
        return self.http.put(
            self.base + path,
            content=orjson.dumps(body),
            headers={**self._headers, "content-type": "application/json"},
            timeout=TIMEOUT,
            follow_redirects=False,
        )

    def _read(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        timeout: httpx.Timeout,
    ) -> dict[str, Any]:
        try:
            answer = self.http.request(
                method,
                self.base + path,
                params=parameters,
                content=None if body is None else orjson.dumps(body),
                headers={**self._headers, "content-type": "application/json"},
                timeout=timeout,
                follow_redirects=False,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"{self.host} did not answer: {type(error).__name__}") from None
        if answer.is_success:
            return answered(answer, self.host)
        raise self.failure(answer)

    def failure(self, answer: httpx.Response) -> PlatformError:
        """What a bad answer means for a read."""
        status = answer.status_code
        code, words = self.error_words(answer)
        if status == 429:
            until = not_before(answer, datetime.now(UTC))
            return Wait(until, f"{self.host} limits requests until {until:%H:%M:%S} UTC")
        if status == 401 or code in _DEAD_TOKEN or code in _DEAD_ACCOUNT:
            what = f"{self.host} does not accept the login ({code or status})"
            return LoginNeeded(f"{what}: {words}".rstrip(": "))
        if status in (408, 425) or status >= 500:
            return Unreachable(f"{self.host} answered {status} {code}".rstrip())
        if status < 400:
            return Unreachable(f"{self.host} answered {status}: give the address that it leads to")
        return Declined(status, code, words)

    def error_words(self, answer: httpx.Response) -> tuple[str, str]:
        """An error's code (`M_FORBIDDEN`) and what the server says about it."""
        found = _parsed(answer.content)
        if not isinstance(found, dict):
            return "", ""
        code, words = (self._told(found.get(key)) for key in ("errcode", "error"))
        return code[:60], words[:_LONGEST_WORDS]

    def _told(self, value: Any) -> str:
        text = value if isinstance(value, str) else ""
        for secret in self._secrets:
            text = text.replace(secret, "•••")
        return text

    def media(self, path: str, most: int) -> bytes:
        """The content behind a media path. Raises `Declined` as `get`, `ValueError` above `most`
        bytes."""
        url, headers = self.base + path, self._headers
        for _ in range(_MOST_REDIRECTS + 1):
            try:
                with self.http.stream(
                    "GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=False
                ) as answer:
                    if answer.is_success:
                        return b"".join(_at_most(answer.iter_bytes(), most))
                    if not answer.has_redirect_location:
                        answer.read()
                        raise self.failure(answer)
                    # A server may keep its media elsewhere; the token stays with the server.
                    url, headers = str(httpx.URL(url).join(answer.headers["location"])), {}
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise Unreachable(f"{self.host} did not answer: {type(error).__name__}") from None
        raise Unreachable(f"{self.host} sends from one place to the next for a file")


def segment(text: str) -> str:
    """An id as one segment of a path."""
    return quote(text, safe="")


def room_path(room_id: str, rest: str) -> str:
    return f"/_matrix/client/v3/rooms/{segment(room_id)}/{rest}"


def answered(answer: httpx.Response, host: str) -> dict[str, Any]:
    """The object that a good answer holds; raises `Unreachable` for anything else."""
    found = _parsed(answer.content)
    if not isinstance(found, dict):
        raise Unreachable(
            f"{host} answered {answer.status_code} with something that is no JSON object: "
            "is it a Matrix homeserver?"
        )
    return found


def not_before(answer: httpx.Response, now: datetime) -> datetime:
    """When a limit ends: `Retry-After`, or the older `retry_after_ms`; the later of the two.

    https://spec.matrix.org/v1.16/client-server-api/#rate-limiting (read 2026-11)
    """
    found = _parsed(answer.content)
    millis = found.get("retry_after_ms") if isinstance(found, dict) else None
    waits = []
    if isinstance(millis, int | float) and not isinstance(millis, bool) and 0 <= millis < 1e12:
        waits.append(timedelta(milliseconds=millis))
    header = answer.headers.get("retry-after", "")
    if header.isascii() and header.isdigit():
        waits.append(timedelta(seconds=min(int(header[:9]), 10**8)))
    elif header:
        with suppress(ValueError, OverflowError):
            waits.append(parsedate_to_datetime(header).astimezone(UTC) - now)
    return now + min(max(waits, default=WAIT_UNASKED), LONGEST_WAIT)


def _parsed(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    try:
        # Half a character in one event is that event's fault, not the whole answer's.
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _at_most(chunks: Iterator[bytes], most: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise ValueError(f"the file has more than {most} bytes")
        yield chunk
