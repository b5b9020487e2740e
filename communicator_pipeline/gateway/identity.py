"""Who asks: a browser with a session, or a program with a key.

Belongs here: cookies, headers, the check that a change was meant (CSRF), requests per minute. Does
not belong here: what is kept of secrets (`storage/sign_in.py`), what a user may see (the storage's
readers, which cannot be built without a user).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime
from hmac import compare_digest
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from communicator_pipeline.gateway.access import HEADER, Access
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import user_of_email
from communicator_pipeline.storage.sign_in import (
    SESSION_LASTS,
    NotSignedIn,
    key_of,
    session_of,
)

REQUESTS = parse("600/minute")
"""Per key or person, in each process of the gateway."""

READING = ("GET", "HEAD", "OPTIONS")


class TooManyRequests(Exception):
    """The key, or the person, asks more often than `REQUESTS`."""


class NotMeant(PermissionError):
    """A change that did not come from our own page."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks."""

    user_id: str
    is_admin: bool
    may_write: bool
    via: str  # 'inbox', or 'key:<key_id>'
    csrf: str = ""  # of a session
    name: str = ""


class Limiter:
    """Counts requests, in this process."""

    def __init__(self) -> None:
        self._window = MovingWindowRateLimiter(MemoryStorage())

    def count(self, who: str) -> None:
        if not self._window.hit(REQUESTS, who):
            raise TooManyRequests


def stores_of(request: Request) -> Stores:
    stores: Stores = request.app.state.stores
    return stores


def reader(request: Request) -> Identity:
    """Who asks; raises `NotSignedIn`, `TooManyRequests`."""
    found = identify(request)
    if found is None:
        raise NotSignedIn(
            "sign in, or send an API key as `Authorization: Bearer ck_…` (make one with "
            "`communicator keys add NAME`)"
        )
    limiter: Limiter = request.app.state.limiter
    limiter.count(f"{found.user_id} {found.via}")
    return found


def writer(request: Request) -> Identity:
    """Who wants to change something; raises `PermissionError` for a key that may only read, and
    `NotMeant` for what another site made a browser send."""
    found = reader(request)
    if not found.may_write:
        raise PermissionError("this API key may only read: make one with `--scope write`")
    if found.via == "inbox":
        check_origin(request)
        sent = request.headers.get("x-csrf-token", "")
        if not compare_digest(sent.encode(), found.csrf.encode()):
            raise NotMeant("the page is out of date: load it again, then do it once more")
    return found


Reader = Annotated[Identity, Depends(reader)]
Writer = Annotated[Identity, Depends(writer)]
Opened = Annotated[Stores, Depends(stores_of)]


def identify(request: Request, is_use: bool = True) -> Identity | None:
    """Who asks; None if nobody that we know. A key goes before a cookie. `is_use`: a session that
    is not used ends after a while."""
    database, now = stores_of(request).database, datetime.now(UTC)
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.casefold() == "bearer":
        key = key_of(database, text.strip(), now)
        if key is None:
            return None
        return Identity(key.user_id, key.is_admin, key.scope == "write", f"key:{key.key_id}")
    secret = request.cookies.get(cookie_name(request))
    session = session_of(database, secret, now, is_use) if secret else None
    if session is None:
        return None
    if access_of(request) is not None and verified_user(request) != session.user_id:
        return None
    return Identity(session.user_id, session.is_admin, True, "inbox", session.csrf, session.name)


def access_of(request: Request) -> Access | None:
    found: Access | None = request.app.state.access
    return found


def verified_user(request: Request) -> str | None:
    """The user whom Cloudflare Access has verified; None if it is nobody that we know."""
    access, assertion = access_of(request), request.headers.get(HEADER)
    if access is None or not assertion:
        return None
    email = access.email_of(assertion)
    return None if email is None else user_of_email(stores_of(request).database, email)


def check_origin(request: Request) -> None:
    """Raise `NotMeant` if the browser says that another site sent this."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        raise NotMeant("another site sent this: open Communicator itself")
    if origin is not None and urlsplit(origin).netloc != request.url.netloc:
        raise NotMeant("another site sent this: open Communicator itself")


# --- the cookie ------------------------------------------------------------------------------


def cookie_name(request: Request) -> str:
    """`__Host-…` binds it to this host and to HTTPS; browsers refuse that over plain HTTP, where
    only this machine's own address is let in."""
    return "__Host-communicator" if request.url.scheme == "https" else "communicator"


def may_sign_in(request: Request) -> bool:
    """Over HTTPS, or on this machine."""
    if request.url.scheme == "https":
        return True
    host = request.url.hostname or ""
    if host in ("localhost", "testserver"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def give_cookie(request: Request, response: Response, secret: str) -> None:
    response.set_cookie(
        cookie_name(request),
        secret,
        max_age=int(SESSION_LASTS.total_seconds()),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )


def take_cookie(request: Request, response: Response) -> None:
    response.delete_cookie(
        cookie_name(request),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )


def address_of(request: Request) -> str:
    """Where the request came from, as the server (or the proxy that it trusts) says."""
    return request.client.host if request.client else "unknown"
