"""One request to Slack's Web API, and what its answers mean.

Belongs here: asking, and turning Slack's ways of saying no into the project's. Does not belong
here: what is asked for (`reading.py`, `sending.py`).

Slack says most of its errors in an HTTP 200 with `ok: false`
(https://docs.slack.dev/apis/web-api, read 2026-11). The library's retries are off: it repeats a
post whose connection broke, and a read can be asked for again at the next pull.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from communicator_pipeline.platforms.certificates import trusted
from communicator_pipeline.platforms.protocol import (
    Connection,
    LoginNeeded,
    PlatformError,
    Unreachable,
    Wait,
)

BASE_URL = "https://slack.com/api/"
TIMEOUT = 30  # seconds for a request, connecting included
NO_DEADLINE = timedelta(seconds=30)  # to wait at a limit that came without Retry-After
LONGEST_WAIT = timedelta(hours=1)  # whatever Retry-After says: a mistake must not stop an account

DEAD_TOKEN = frozenset(
    "invalid_auth not_authed account_inactive token_revoked token_expired no_authentication "
    "invalid_token user_removed_from_team team_disabled".split()
)
LIMITED = frozenset("ratelimited rate_limited".split())
SERVICE = frozenset(
    "internal_error fatal_error service_unavailable request_timeout team_added_to_org".split()
)
"""Slack's own trouble: a read may be tried again; of a post "some aspect" may have succeeded."""

# The library logs requests, texts and all, at level DEBUG.
_SILENT = logging.getLogger("communicator.slack")
_SILENT.setLevel(logging.CRITICAL + 1)
_SILENT.propagate = False


class SaidNo(PlatformError):
    """Slack's definite no to one request; `code` is its word for it."""

    def __init__(self, code: str, needed: str = "", provided: str | None = None) -> None:
        super().__init__(WORDS.get(code) or f"Slack says {code or 'no'}")
        self.code = code
        self.needed = needed  # the scope that is missing
        self.provided = provided  # the scopes that there are, if Slack tells


WORDS = {
    "channel_not_found": "Slack does not know the channel, or this login may not see it",
    "not_in_channel": "this login is not in the channel: invite it there (/invite in Slack)",
    "is_archived": "the channel is archived",
    "missing_scope": "a scope is missing: add it to the app and install the app again",
    "msg_too_long": "the text is too long for Slack: shorten it",
    "no_text": "the text is empty",
    "restricted_action": "the workspace's rules do not let this login post there",
    "restricted_action_read_only_channel": "the channel is read-only",
    "restricted_action_thread_only_channel": "the channel takes answers in threads only",
    "restricted_action_thread_locked": "the thread is locked",
    "restricted_action_non_threadable_channel": "the channel has no threads",
    "cannot_reply_to_message": "Slack takes no answers to this message",
    "thread_not_found": "the thread is gone",
    "message_not_found": "the message is gone",
    "user_not_found": "Slack does not know this person",
    "user_not_visible": "this login may not see this person",
    "access_denied": "this login may not do that",
    "ekm_access_denied": "the workspace's administrators have suspended access to its messages",
    "org_login_required": "the workspace is moving to an organisation: log in again when it has",
    "not_allowed_token_type": "this kind of token may not ask for that: use a user token (xoxp-)",
    "message_limit_exceeded": "the workspace has reached Slack's limit of messages",
    "slack_connect_file_link_sharing_blocked": "an administrator has blocked this",
}


class Api:
    """A token's requests. Everything that it lets out is a `PlatformError`."""

    def __init__(self, connection: Connection) -> None:
        try:
            self.base_url = checked_base_url(connection.setting("base_url", BASE_URL))
        except ValueError as error:
            raise LoginNeeded(str(error)) from None
        self.token = connection.secrets.get("token", "")
        if not self.token:
            raise LoginNeeded("there is no token")
        self.team = connection.secrets.get("team", "")
        self._counted_by = f"slack:{self.team}:{connection.secrets.get('app', '')}"
        self.waits: Mapping[str, datetime] = {}
        self.scopes: str | None = None  # as the last answer named them
        self._client = WebClient(
            token=self.token,
            base_url=self.base_url,
            timeout=TIMEOUT,
            ssl=trusted(),
            logger=_SILENT,
            retry_handlers=[],
        )

    def scope(self, method: str) -> str:
        """What Slack counts by: the method, per workspace and app."""
        return f"{self._counted_by}:{method}"

    def read(self, method: str, **arguments: str | int | bool) -> dict[str, Any]:
        """Ask for something. Raises `Wait`, `LoginNeeded`, `Unreachable` and `SaidNo`."""
        until = self.waits.get(self.scope(method))
        if until is not None and until > datetime.now(UTC):
            raise Wait(until, f"Slack's limit on {method}", self.scope(method))
        try:
            return self._call(method, arguments)
        except SlackApiError as error:
            raise self._meaning(method, error) from None
        except Exception as error:  # urllib, http.client, json: whatever a bad answer does
            raise Unreachable(f"Slack did not answer {method}: {type(error).__name__}") from None

    def post(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Change something, once. Raises what `read` does, and `LeftOpen` where it may have
        happened. What it says no to with any other error did not happen."""
        try:
            return self._call(method, arguments, as_json=True)
        except SlackApiError as error:
            meaning = self._meaning(method, error)
            if isinstance(meaning, Unreachable):
                raise LeftOpen(str(meaning)) from None
            raise meaning from None
        except Exception as error:
            if never_left(error):
                raise Unreachable(f"Slack cannot be reached: {type(error).__name__}") from None
            raise LeftOpen(f"Slack's answer was lost: {type(error).__name__}") from None

    def _call(
        self, method: str, arguments: Mapping[str, Any], as_json: bool = False
    ) -> dict[str, Any]:
        how: dict[str, Any] = {"json": arguments} if as_json else {"params": arguments}
        response = self._client.api_call(method, **how)
        self._note_scopes(response.headers)
        if not isinstance(response.data, dict):
            raise ValueError("not a JSON object")
        return response.data

    def _note_scopes(self, headers: Any) -> None:
        scopes = _header(headers, "x-oauth-scopes")
        if scopes is not None:
            self.scopes = scopes

    def _meaning(self, method: str, error: SlackApiError) -> PlatformError:
        response = error.response
        data = response.data if isinstance(response.data, dict) else {}
        self._note_scopes(response.headers)
        code = data.get("error")
        code = code if isinstance(code, str) and code.isascii() and len(code) < 80 else ""
        status = response.status_code
        if status == 429 or code in LIMITED:
            wait = retry_after(_header(response.headers, "retry-after"))
            why = f"Slack's limit on {method}: it asks to wait {wait.total_seconds():.0f} s"
            return Wait(datetime.now(UTC) + wait, why, self.scope(method))
        if code in DEAD_TOKEN:
            return LoginNeeded(f"Slack does not take the token any more ({code})")
        if code in SERVICE or status >= 500 or status == 408:
            return Unreachable(f"Slack has trouble of its own ({code or status})")
        if " " in code or not code:  # the library's words for what is no JSON
            if 400 <= status < 500:
                return SaidNo(f"HTTP {status}")
            return Unreachable(f"Slack's answer to {method} was not one (HTTP {status})")
        needed, provided = data.get("needed"), data.get("provided")
        return SaidNo(
            code,
            needed if isinstance(needed, str) else "",
            provided if isinstance(provided, str) else self.scopes,
        )


class LeftOpen(PlatformError):
    """It may have happened or not. Never leaves the package: `sending.py` makes `Unknown` of it."""


def never_left(error: Exception) -> bool:
    """Whether a failed request provably did not reach Slack: no address, no connection, no TLS."""
    if not isinstance(error, URLError):
        return False
    reason = error.reason
    return isinstance(
        reason, ConnectionRefusedError | socket.gaierror | ssl.SSLCertVerificationError
    )


def checked_base_url(base_url: str) -> str:
    """The address of the Web API, with a slash at its end; raises `ValueError` for one over which
    the token would travel in the clear."""
    address = urlsplit(base_url)
    local = address.hostname in ("127.0.0.1", "localhost", "::1")
    if not address.hostname or not (
        address.scheme == "https" or (address.scheme == "http" and local)
    ):
        raise ValueError(f"base_url should begin with https://, it is {base_url!r}")
    return base_url if base_url.endswith("/") else base_url + "/"


def _header(headers: Any, name: str) -> str | None:
    """A header, in whatever case and form the library has it."""
    for key, value in dict(headers or {}).items():
        if str(key).lower() == name:
            return str(value[0] if isinstance(value, list) and value else value)
    return None


def retry_after(header: str | None) -> timedelta:
    """How long a Retry-After header asks to wait; a sensible time if there is none."""
    try:
        seconds = float(header or "")
    except ValueError:
        return NO_DEADLINE
    if not 0 <= seconds < LONGEST_WAIT.total_seconds():
        return NO_DEADLINE if not seconds >= 0 else LONGEST_WAIT
    return timedelta(seconds=max(1.0, seconds))
