"""Nobody gets in, or changes anything, who should not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.gateway.identity import Limiter
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.audit import audit_log
from communicator_pipeline.storage.inbox import Inbox
from communicator_pipeline.storage.outbox import Outbox
from communicator_pipeline.storage.sign_in import (
    IDLE_AFTER,
    SESSION_LASTS,
    make_key,
    make_link,
    open_session,
    revoke_key,
    set_password,
)
from communicator_pipeline_tests.delivery.world import ACCOUNT
from communicator_pipeline_tests.gateway.conftest import PASSWORD, SignIn, csrf_of

DONE = f"/inbox/done?of={ACCOUNT}&conversation=c1"


def is_open(stores: Stores) -> bool:
    return Inbox(stores.database, "ana").conversation("c1", ACCOUNT)["hidden_why"] == ""


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("ana", "wrong words altogether"),
        ("ana", ""),
        ("ana", PASSWORD + "x"),
        ("ana", PASSWORD.upper()),
        ("nobody", PASSWORD),
        ("", PASSWORD),
        ("ana' OR '1'='1", PASSWORD),
        ("ana", "x" * 900),
        ("ANA", PASSWORD),
        ("ana\x00", PASSWORD),
    ],
)
def test_a_wrong_name_or_password_opens_nothing(
    browser: TestClient, user: str, password: str
) -> None:
    answer = browser.post("/login", data={"user": user, "password": password})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "the name or the password is not right" in answer.text
    assert browser.get("/inbox").headers["location"] == "/login"


def test_the_right_ones_do_and_the_cookie_is_for_the_server_alone(browser: TestClient) -> None:
    answer = browser.post("/login", data={"user": " ana ", "password": PASSWORD})
    assert answer.headers["location"] == "/inbox"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("communicator=")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Can you come at five?" in browser.get("/inbox?q=come").text


def test_over_https_the_cookie_is_bound_to_the_host(box: Stores) -> None:
    with TestClient(
        create_app(box), base_url="https://inbox.example", follow_redirects=False
    ) as browser:
        answer = browser.post("/login", data={"user": "ana", "password": PASSWORD})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-communicator=")
        assert "Secure" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie
        # The name of plain HTTP, which another host of the domain could plant, opens nothing.
        secret = open_session(box.database, "ana", datetime.now(UTC))
        browser.cookies.clear()
        browser.cookies.set("communicator", secret)
        assert browser.get("/inbox").headers["location"] == "/login"


@pytest.mark.parametrize("path", ["/login", "/welcome/{link}"])
def test_passwords_are_not_taken_over_plain_http_from_elsewhere(box: Stores, path: str) -> None:
    link = make_link(box.database, "ana", datetime.now(UTC))
    with TestClient(
        create_app(box), base_url="http://inbox.example", follow_redirects=False
    ) as browser:
        where = path.format(link=link)
        data = {"user": "ana", "password": PASSWORD}
        answer = browser.post(where, data=data)
        assert answer.status_code == 401
        assert "HTTPS" in answer.text
        assert "HTTPS" in browser.get(where).text


def test_a_session_that_was_there_before_does_not_become_the_new_one(
    box: Stores, browser: TestClient
) -> None:
    planted = open_session(box.database, "bo", datetime.now(UTC))
    browser.cookies.set("communicator", planted)
    answer = browser.post("/login", data={"user": "ana", "password": PASSWORD})
    assert planted not in answer.headers["set-cookie"]
    browser.cookies.clear()
    browser.cookies.set("communicator", planted)
    assert browser.get("/inbox").headers["location"] == "/login"


@pytest.mark.parametrize(
    ("age", "idle"),
    [(SESSION_LASTS + timedelta(seconds=1), timedelta()), (IDLE_AFTER * 2, IDLE_AFTER * 1.01)],
)
def test_a_session_ends(box: Stores, browser: TestClient, age: timedelta, idle: timedelta) -> None:
    secret = open_session(box.database, "ana", datetime.now(UTC) - age)
    browser.cookies.set("communicator", secret)
    if idle == timedelta():
        box.database.execute("UPDATE sessions SET seen_at = '9'")
    assert browser.get("/inbox").headers["location"] == "/login"


@pytest.mark.parametrize("cookie", ["", "x", "a" * 5_000, "é", "'; DROP TABLE sessions; --"])
def test_no_made_up_cookie_opens_anything(browser: TestClient, cookie: str) -> None:
    headers = {"cookie": f"communicator={cookie}".encode()}
    answer = browser.get("/inbox", headers=headers)  # type: ignore[arg-type]
    assert answer.headers.get("location") == "/login"


def test_signing_out_ends_the_session_itself(box: Stores, sign_in: SignIn) -> None:
    ana = sign_in("ana")
    secret = ana.cookies["communicator"]
    assert ana.post("/logout").headers["hx-redirect"] == "/login"
    ana.cookies.set("communicator", secret)
    assert ana.get("/inbox").headers["location"] == "/login"


def test_a_new_password_ends_every_session(box: Stores, sign_in: SignIn) -> None:
    ana = sign_in("ana")
    set_password(box.database, "ana", "other words, just as plain", datetime.now(UTC))
    assert ana.get("/inbox").headers["location"] == "/login"


@pytest.mark.parametrize(
    "headers",
    [
        {"x-csrf-token": ""},
        {"x-csrf-token": "x" * 43},
        {"x-csrf-token": "bo's"},
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"origin": "http://testserver.elsewhere.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_what_another_site_sends_changes_nothing(
    box: Stores, sign_in: SignIn, headers: dict[str, str]
) -> None:
    ana = sign_in("ana")
    if headers.get("x-csrf-token") == "bo's":
        sign_in("bo")
        headers = {"x-csrf-token": csrf_of(box, "bo")}
    answer = ana.post(DONE, headers=headers | {"hx-request": "true"})
    assert answer.status_code == 403
    assert is_open(box)
    assert ana.post(DONE).status_code == 200
    assert not is_open(box)


def test_a_form_of_another_site_cannot_sign_somebody_in(browser: TestClient) -> None:
    data = {"user": "ana", "password": PASSWORD}
    answer = browser.post("/login", data=data, headers={"origin": "https://elsewhere.example"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_guessing_is_slowed_down_even_with_the_right_password_at_last(
    browser: TestClient,
) -> None:
    for _ in range(5):
        browser.post("/login", data={"user": "ana", "password": "a guess, and another"})
    answer = browser.post("/login", data={"user": "ana", "password": PASSWORD})
    assert answer.status_code == 401
    assert "too many tries" in answer.text
    assert "set-cookie" not in answer.headers
    # bo is not locked out by who guesses ana's.
    assert browser.post("/login", data={"user": "bo", "password": PASSWORD}).status_code == 303


def test_a_link_signs_in_once_and_looking_at_it_does_not_use_it_up(
    box: Stores, browser: TestClient
) -> None:
    link = make_link(box.database, "ana", datetime.now(UTC))
    for _ in range(3):
        assert browser.get(f"/welcome/{link}").status_code == 200
    weak = browser.post(f"/welcome/{link}", data={"password": "short"})
    assert (weak.status_code, "12 to 256" in weak.text) == (422, True)
    assert browser.post(f"/welcome/{link}", data={"password": PASSWORD}).status_code == 303
    again = browser.post(f"/welcome/{link}", data={"password": "other words, just as plain"})
    assert again.status_code == 401
    assert browser.post("/login", data={"user": "ana", "password": PASSWORD}).status_code == 303


def test_a_key_reads_or_writes_as_it_may_until_it_is_revoked(
    box: Stores, browser: TestClient
) -> None:
    now = datetime.now(UTC)
    reading = {"authorization": f"Bearer {make_key(box.database, 'ana', 'r', 'read', now)}"}
    text = make_key(box.database, "ana", "w", "write", now)
    writing = {"authorization": f"Bearer {text}"}
    assert browser.get("/inbox/list", headers=reading).status_code == 200
    assert browser.post(DONE, headers=reading).status_code == 403
    assert is_open(box)
    # A key is not sent by a browser of its own accord: no CSRF token.
    assert browser.post(DONE, headers=writing).status_code == 200
    revoke_key(box.database, "ana", text.split("_")[1], now)
    assert browser.post(DONE, headers=writing | {"hx-request": "1"}).status_code == 401


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "Basic", "", "Token"])
@pytest.mark.parametrize("key", ["", "x", "ck_", "ck_a_b", "ck_{id}_", "ck_{id}_wrong", "ck_{id}"])
def test_no_made_up_key_opens_anything(
    box: Stores, browser: TestClient, kind: str, key: str
) -> None:
    good = make_key(box.database, "ana", "good", "write", datetime.now(UTC))
    value = f"{kind} {key.format(id=good.split('_')[1])}"
    answer = browser.get("/inbox/list", headers={"authorization": value, "hx-request": "1"})
    assert answer.status_code == 401


def test_a_bad_key_is_not_made_good_by_a_cookie(sign_in: SignIn) -> None:
    ana = sign_in("ana")
    answer = ana.get("/inbox/list", headers={"authorization": "Bearer ck_a_b", "hx-request": "1"})
    assert answer.status_code == 401


def test_too_many_requests_are_put_off(
    box: Stores, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    from limits import parse

    from communicator_pipeline.gateway import identity

    monkeypatch.setattr(identity, "REQUESTS", parse("3/minute"))
    ana, bo = sign_in("ana"), sign_in("bo")
    app: Any = ana.app
    app.state.limiter = Limiter()
    answers = [ana.get("/inbox/list", headers={"hx-request": "1"}).status_code for _ in range(5)]
    assert answers == [200, 200, 200, 429, 429]
    assert bo.get("/inbox/list").status_code == 200


def test_who_did_what_is_noted(box: Stores, sign_in: SignIn, browser: TestClient) -> None:
    ana = sign_in("ana")
    ana.post(DONE)
    browser.post("/login", data={"user": "ana", "password": "a guess, and another"})
    told = [
        (row["user_id"], row["action"], row["target"])
        for row in audit_log(box.database, "ana", None, 10)
    ]
    assert told == [("", "sign-in failed", "ana"), ("ana", "done", "c1"), ("ana", "signed in", "")]


def test_another_users_things_are_not_there(box: Stores, sign_in: SignIn) -> None:
    bo = sign_in("bo")
    assert "five" not in bo.get("/inbox?view=all").text
    assert "No message contains that" in bo.get("/inbox?view=all&q=come").text
    there = f"of={ACCOUNT}&conversation=c1"
    assert bo.get(f"/inbox?{there}").status_code == 404
    assert bo.get(f"/inbox/conversation?{there}").status_code == 404
    for action in ("approve", "edit", "reject", "done", "snooze", "reopen", "assign"):
        data = {"text": "mine now", "until": "later", "to": "bo"}
        assert bo.post(f"/inbox/{action}?{there}", data=data).status_code == 404, action
    sent = bo.post("/inbox/approve-all", data={"chosen": f"{ACCOUNT}\nc1\nx"})
    assert "Approved: 0 of 1" in sent.text
    assert is_open(box)
    assert Outbox(box.database, "ana").deliveries() == []
