"""Cloudflare Access in front: who it says is there, if it says so with its own signature.

Belongs here: checking the header's signature, issuer, audience and time. Does not belong here:
which user an address is (`storage/accounts.py`), sessions (`identity.py`).

Where `COMMUNICATOR_ACCESS_TEAM` (such as `https://acme.cloudflareaccess.com`) and
`COMMUNICATOR_ACCESS_AUDIENCE` (the application's AUD tag) are set, a browser needs the header with
every request, and no password is taken: whoever reaches the gateway past Access gets nowhere.
Source of the rules: https://developers.cloudflare.com/cloudflare-one/access-controls/applications/
http-apps/authorization-cookie/validating-json/ (read 2026-11).
"""

from __future__ import annotations

import os
import threading
import time

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

HEADER = "cf-access-jwt-assertion"
KEYS_KEPT = 3600.0  # seconds; Cloudflare rotates its keys every six weeks
ASKED_AGAIN_AFTER = 30.0  # seconds, for a key that is not known: somebody may make them up
CLOCKS_DIFFER = 30  # seconds


class Access:
    """Checks what Access signs for one application."""

    def __init__(self, team: str, audience: str) -> None:
        self.issuer = team.rstrip("/")
        self._claims = jwt.JWTClaimsRegistry(
            leeway=CLOCKS_DIFFER,
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            email={"essential": True},
        )
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._asked_at = -KEYS_KEPT

    def email_of(self, assertion: str) -> str | None:
        """The address that Access has verified; None if the assertion is not good."""
        for again in (False, True):
            keys = self._current_keys(again)
            if keys is None:
                return None
            try:
                token = jwt.decode(assertion, keys, algorithms=["RS256"])
                self._claims.validate(token.claims)
            except (JoseError, ValueError, TypeError, KeyError):
                continue  # signed with a key that is newer than ours, perhaps
            return str(token.claims["email"]).casefold()
        return None

    def _current_keys(self, again: bool) -> KeySet | None:
        with self._lock:
            age = time.monotonic() - self._asked_at
            if age > KEYS_KEPT or (age > ASKED_AGAIN_AFTER and (again or self._keys is None)):
                self._asked_at = time.monotonic()
                try:
                    answer = httpx.get(f"{self.issuer}/cdn-cgi/access/certs", timeout=5.0)
                    self._keys = KeySet.import_key_set(answer.raise_for_status().json())
                except (httpx.HTTPError, ValueError, KeyError, JoseError):
                    pass  # the keys that we have are good for as long as Access uses them
            return self._keys


def access_of_environment() -> Access | None:
    """What the environment asks for; raises `ValueError` if it asks for half of it."""
    team = os.environ.get("COMMUNICATOR_ACCESS_TEAM", "")
    audience = os.environ.get("COMMUNICATOR_ACCESS_AUDIENCE", "")
    if bool(team) != bool(audience):
        raise ValueError(
            "set both COMMUNICATOR_ACCESS_TEAM (https://TEAM.cloudflareaccess.com) and "
            "COMMUNICATOR_ACCESS_AUDIENCE (the application's AUD tag), or neither"
        )
    if team and not team.startswith("https://") and "//127.0.0.1" not in team:
        raise ValueError("COMMUNICATOR_ACCESS_TEAM is https://TEAM.cloudflareaccess.com")
    return Access(team, audience) if team else None
