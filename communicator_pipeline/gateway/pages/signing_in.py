"""Signing in and out: `/login`, `/logout`, `/welcome/{secret}`.

Belongs here: the forms and what they answer. Does not belong here: checking secrets
(`storage/sign_in.py`), cookies (`gateway/identity.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from communicator_pipeline.gateway.identity import (
    Opened,
    Writer,
    access_of,
    address_of,
    check_origin,
    cookie_name,
    give_cookie,
    identify,
    may_sign_in,
    take_cookie,
    verified_user,
)
from communicator_pipeline.gateway.pages.rendering import page
from communicator_pipeline.storage import audit
from communicator_pipeline.storage.sign_in import (
    NotSignedIn,
    check_new,
    check_password,
    close_session,
    has_password,
    open_session,
    set_password,
    use_link,
)

INSECURE = (
    "passwords are taken over HTTPS only, or on this machine itself: put Communicator behind a "
    "reverse proxy (docs/serving.md)"
)

BY_ACCESS = (
    "Cloudflare Access signs people in here, and has not named anybody whom this installation "
    "knows: an operator can say whose address it is with `communicator users email NAME ADDRESS`"
)

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Form(max_length=1_000)]


@router.get("/login")
def login_page(request: Request, opened: Opened) -> Response:
    if identify(request) is not None:
        return RedirectResponse("/inbox", 303)
    if access_of(request) is not None:
        verified = verified_user(request)
        if verified is not None:
            return _signed_in(request, opened, verified, "signed in by Access")
        return page(request, "error.html", status=403, words=BY_ACCESS)
    return page(
        request,
        "login.html",
        error=None if may_sign_in(request) else INSECURE,
        user="",
        is_new=not has_password(opened.database),
    )


@router.post("/login")
def login(request: Request, opened: Opened, user: Text = "", password: Text = "") -> Response:
    check_origin(request)
    database, now = opened.database, datetime.now(UTC)
    try:
        if access_of(request) is not None:
            raise NotSignedIn(BY_ACCESS)
        if not may_sign_in(request):
            raise NotSignedIn(INSECURE)
        name = check_password(database, user.strip(), password, address_of(request), now)
    except NotSignedIn as error:
        audit.note(database, "", "sign-in failed", now, target=user, detail=address_of(request))
        return page(
            request, "login.html", status=401, error=str(error), user=user,
            is_new=not has_password(database),
        )  # fmt: skip
    return _signed_in(request, opened, name, "signed in")


@router.post("/logout")
def logout(request: Request, opened: Opened, identity: Writer) -> Response:
    secret = request.cookies.get(cookie_name(request), "")
    close_session(opened.database, secret)
    audit.note(opened.database, identity.user_id, "signed out", datetime.now(UTC))
    response = Response(status_code=204, headers={"HX-Redirect": "/login"})
    take_cookie(request, response)
    return response


@router.get("/welcome/{secret}")
def welcome_page(request: Request, secret: str) -> Response:
    """The form alone: a chat program that looks at a link must not use it up."""
    return page(
        request, "welcome.html", error=None if may_sign_in(request) else INSECURE, secret=secret
    )


@router.post("/welcome/{secret}")
def welcome(request: Request, opened: Opened, secret: str, password: Text = "") -> Response:
    check_origin(request)
    database, now = opened.database, datetime.now(UTC)
    try:
        if access_of(request) is not None:
            raise NotSignedIn(BY_ACCESS)
        if not may_sign_in(request):
            raise NotSignedIn(INSECURE)
        check_new(password)
        name = use_link(database, secret, now)
        set_password(database, name, password, now)
    except ValueError as error:
        status = 401 if isinstance(error, NotSignedIn) else 422
        return page(request, "welcome.html", status=status, error=str(error), secret=secret)
    return _signed_in(request, opened, name, "set a password")


def _signed_in(request: Request, opened: Opened, name: str, what: str) -> Response:
    now = datetime.now(UTC)
    audit.note(opened.database, name, what, now, detail=address_of(request))
    response = RedirectResponse("/inbox", 303)
    old = request.cookies.get(cookie_name(request))
    if old:  # whoever planted it must not hold the session that begins now
        close_session(opened.database, old)
    give_cookie(request, response, open_session(opened.database, name, now))
    return response
