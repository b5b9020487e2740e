"""Cloudflare Access signs people in, and nobody else does where it stands in front."""

from __future__ import annotations

import hmac
import json
import threading
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from fastapi.testclient import TestClient
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from communicator_pipeline.gateway import access
from communicator_pipeline.gateway.access import HEADER, Access, access_of_environment
from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import set_email
from communicator_pipeline_tests.gateway.conftest import PASSWORD

AUDIENCE = "4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2"


class Team:
    """What a Zero Trust team serves: its public keys, over a socket."""

    def __init__(self) -> None:
        self.keys = [RSAKey.generate_key(2048, {"kid": "first"})]
        self.asked = 0
        team = self

        class Certs(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                team.asked += 1
                body = json.dumps(KeySet(team.keys).as_dict(private=False)).encode()
                self.send_response(200 if self.path == "/cdn-cgi/access/certs" else 404)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Certs)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def sign(self, key: Any = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        now = int(time.time())
        key = key or self.keys[-1]
        told = {
            "iss": self.address,
            "aud": [AUDIENCE],
            "exp": now + 60,
            "iat": now,
            "email": "Ana@Example.org",
            "type": "app",
        } | claims
        said = {"alg": "RS256", "kid": key.kid} | (header or {})
        kept = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(said, kept, key, algorithms=["RS256", "HS256", "none"])


@pytest.fixture
def team() -> Iterator[Team]:
    found = Team()
    yield found
    found.server.shutdown()


@pytest.fixture
def behind(box: Stores, team: Team, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A browser that reaches a gateway behind Access."""
    monkeypatch.setenv("COMMUNICATOR_ACCESS_TEAM", team.address)
    monkeypatch.setenv("COMMUNICATOR_ACCESS_AUDIENCE", AUDIENCE)
    set_email(box.database, "ana", "ana@example.org")
    with TestClient(
        create_app(box), base_url="https://inbox.example", follow_redirects=False
    ) as client:
        yield client


def test_whom_access_names_is_signed_in(behind: TestClient, team: Team) -> None:
    headers = {HEADER: team.sign()}
    assert behind.get("/login", headers=headers).headers["location"] == "/inbox"
    assert behind.get("/inbox", headers=headers).status_code == 200
    assert team.asked == 1


def test_the_cookie_alone_opens_nothing(behind: TestClient, team: Team) -> None:
    behind.get("/login", headers={HEADER: team.sign()})
    assert behind.get("/inbox").headers["location"] == "/login"
    assert behind.get("/inbox", headers={HEADER: team.sign(exp=1)}).status_code == 303


def test_somebody_elses_cookie_opens_nothing(behind: TestClient, team: Team, box: Stores) -> None:
    behind.get("/login", headers={HEADER: team.sign()})
    set_email(box.database, "bo", "bo@example.org")
    other = {HEADER: team.sign(email="bo@example.org")}
    assert behind.get("/inbox", headers=other).headers["location"] == "/login"


def test_passwords_are_not_taken_behind_access(behind: TestClient) -> None:
    answer = behind.post("/login", data={"user": "ana", "password": PASSWORD})
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    assert "Cloudflare Access" in answer.text


FORGED = {
    "another audience": {"aud": ["0" * 64]},
    "no audience": {"aud": None},
    "another issuer": {"iss": "https://elsewhere.cloudflareaccess.com"},
    "no issuer": {"iss": None},
    "over": {"exp": 1_000_000_000},
    "without an end": {"exp": None},
    "not yet": {"nbf": 4_000_000_000},
    "no address": {"email": None},
    "an unknown address": {"email": "stranger@example.org"},
    "an empty address": {"email": ""},
}


@pytest.mark.parametrize("why", sorted(FORGED))
def test_what_is_not_for_us_opens_nothing(behind: TestClient, team: Team, why: str) -> None:
    headers = {HEADER: team.sign(**FORGED[why])}  # type: ignore[arg-type]
    answer = behind.get("/login", headers=headers)
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


def signed_with_the_public_key(body: str, public: bytes) -> str:
    """What a checker takes that lets the header choose the algorithm."""
    head = b64encode(b'{"alg":"HS256","kid":"first"}').rstrip(b"=").decode()
    mac = hmac.digest(public, f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def test_what_access_did_not_sign_opens_nothing(behind: TestClient, team: Team) -> None:
    stranger = RSAKey.generate_key(2048, {"kid": "first"})  # under the name of the real one
    public = team.keys[0].as_pem(private=False)
    good = team.sign()
    head, body, signature = good.split(".")
    forged = [
        team.sign(stranger),
        team.sign(RSAKey.generate_key(2048, {"kid": "unknown"})),
        signed_with_the_public_key(body, public),
        team.sign(header={"alg": "none"}),
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body[:-2]}AA.{signature}",
        "",
        "a.b.c",
        "x" * 4_000,
    ]
    for text in forged:
        answer = behind.get("/login", headers={HEADER: text})
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False), text
    assert behind.get("/login", headers={HEADER: good}).status_code == 303


def test_a_new_key_is_asked_for_and_made_up_ones_do_not_ask_each_time(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = Access(team.address, AUDIENCE)
    assert checks.email_of(team.sign()) == "ana@example.org"
    unknown = RSAKey.generate_key(2048, {"kid": "made up"})
    for _ in range(5):
        assert checks.email_of(team.sign(unknown)) is None
    assert team.asked == 1
    monkeypatch.setattr(access, "ASKED_AGAIN_AFTER", 0.0)
    team.keys.append(RSAKey.generate_key(2048, {"kid": "second"}))
    assert checks.email_of(team.sign()) == "ana@example.org"


def test_a_team_that_does_not_answer_lets_nobody_in(team: Team) -> None:
    checks = Access("http://127.0.0.1:9", AUDIENCE)
    assert checks.email_of(team.sign(iss="http://127.0.0.1:9")) is None


def test_half_of_the_settings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMMUNICATOR_ACCESS_TEAM", "https://acme.cloudflareaccess.com")
    with pytest.raises(ValueError, match="set both"):
        access_of_environment()
    monkeypatch.setenv("COMMUNICATOR_ACCESS_AUDIENCE", AUDIENCE)
    assert access_of_environment() is not None
    monkeypatch.setenv("COMMUNICATOR_ACCESS_TEAM", "http://acme.example")
    with pytest.raises(ValueError, match="https"):
        access_of_environment()


def test_an_address_is_one_persons(box: Stores) -> None:
    set_email(box.database, "ana", "ana@example.org")
    with pytest.raises(ValueError, match="somebody else's"):
        set_email(box.database, "bo", "ANA@example.org")
    for text in ("ana", "@", "a@", "@b"):
        with pytest.raises(ValueError, match="not an e-mail"):
            set_email(box.database, "ana", text)
