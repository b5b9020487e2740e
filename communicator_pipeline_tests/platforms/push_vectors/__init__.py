"""Pushes, good and hostile, that the gateway and the edge Worker must answer alike.

Belongs here: reading `vectors.json`, making the request that a vector describes, and the accounts
to which it goes. Does not belong here: who is asked (`test_push_vectors.py`, `peers/test_edge.py`).

A vector has

- `connection`: the name of one of the file's connections, which say platform, settings, secrets;
- `method` (POST unless it says GET), `query` as pairs, and `body`: a text, pairs of a text and how
  often it stands there, or `body_base64`;
- `sign`: the headers are made when the request is, with the connection's own secret over the body
  that is sent, now. `secret`, `body`, `age` (seconds ago) and `timestamp` (a text) put others in
  their place; `spelling` spoils the signature: `upper`, `bare` (without what stands before "=") or
  `short`;
- `headers`: sent as they are, UTF-8; null takes away what `sign` made;
- `expected`: the `key` of what is queued, or the `status` and `body` of the answer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.accounts import Accounts, add_user
from communicator_pipeline.storage.connections import Connections
from communicator_pipeline.storage.database import from_utc_text

FILE = Path(__file__).with_name("vectors.json")
REFUSED = '{"error": "not verified"}'
OTHER = "ana-other"
"""One more account of the connection `generic`: for what is no vector."""

Vector = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VectorRequest:
    """A request as it goes over the wire; names of headers in lower case."""

    method: str
    headers: Mapping[str, bytes]
    query: tuple[tuple[str, str], ...]
    body: bytes


def connections() -> dict[str, Vector]:
    """The made-up connections by name: `platform`, `settings`, `secrets`."""
    found: dict[str, Vector] = json.loads(FILE.read_bytes())["connections"]
    return found


def vectors() -> list[Vector]:
    found: list[Vector] = json.loads(FILE.read_bytes())["vectors"]
    return found


def account_of(connection: str) -> str:
    """The key of the account that has this connection."""
    return "ana-" + re.sub(r"[^a-z0-9]+", "-", connection.lower())


def path_of(vector: Vector) -> str:
    """Where a vector is sent to."""
    connection = vector["connection"]
    return f"/push/{connections()[connection]['platform']}/{account_of(connection)}"


def add_accounts(stores: Stores) -> None:
    """The user ana, an account for each connection, `OTHER`, and one that is not connected."""
    add_user(stores.database, "ana", "Ana")
    accounts, kept = Accounts(stores.database, "ana"), Connections(stores)
    since = from_utc_text("2026-11-01T00:00:00.000000Z")
    told = {account_of(name): connection for name, connection in connections().items()}
    for account, connection in {**told, OTHER: connections()["generic"]}.items():
        accounts.add(account, connection["platform"], account)
        settings, secrets = connection["settings"], connection["secrets"]
        kept.save(account, settings, secrets, timedelta(minutes=1), since)
    accounts.add("ana-not-connected", "generic", "Without a connection")


def request_of(vector: Vector, now: float) -> VectorRequest:
    """The request that a vector describes, signed at `now`, in seconds since 1970 (UTC)."""
    connection = connections()[vector["connection"]]
    body = _body(vector)
    headers: dict[str, str | None] = {}
    if (recipe := vector.get("sign")) is not None:
        headers |= _SIGNERS[connection["platform"]](recipe, connection["secrets"], body, now)
    headers |= vector.get("headers", {})
    return VectorRequest(
        vector.get("method", "POST"),
        {name: value.encode() for name, value in headers.items() if value is not None},
        tuple((name, value) for name, value in vector.get("query", ())),
        body,
    )


def _body(vector: Vector) -> bytes:
    if "body_base64" in vector:
        return base64.b64decode(vector["body_base64"])
    told = vector.get("body", "")
    pieces: list[tuple[str, int]] = [(told, 1)] if isinstance(told, str) else told
    return "".join(text * times for text, times in pieces).encode()


def _slack(
    recipe: Vector, secrets: Mapping[str, str], body: bytes, now: float
) -> dict[str, str | None]:
    timestamp = recipe.get("timestamp", str(int(now) - recipe.get("age", 0)))
    secret = recipe["secret"] if "secret" in recipe else secrets["signing_secret"]
    signed = b"v0:" + timestamp.encode() + b":" + _signed_body(recipe, body)
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return {
        "x-slack-request-timestamp": timestamp,
        "x-slack-signature": _spelled(recipe, "v0", digest),
    }


def _x(
    recipe: Vector, secrets: Mapping[str, str], body: bytes, now: float
) -> dict[str, str | None]:
    secret = recipe["secret"] if "secret" in recipe else secrets["consumer_secret"]
    digest = hmac.new(secret.encode(), _signed_body(recipe, body), hashlib.sha256).digest()
    signature = _spelled(recipe, "sha256", base64.b64encode(digest).decode())
    return {"x-twitter-webhooks-signature": signature}


_SIGNERS: Mapping[
    str, Callable[[Vector, Mapping[str, str], bytes, float], dict[str, str | None]]
] = {"slack": _slack, "x": _x}


def _signed_body(recipe: Vector, body: bytes) -> bytes:
    return recipe["body"].encode() if "body" in recipe else body


def _spelled(recipe: Vector, scheme: str, digest: str) -> str:
    spelling = recipe.get("spelling")
    if spelling == "upper":
        return f"{scheme}={digest.upper()}"
    if spelling == "bare":
        return digest
    return f"{scheme}={digest[:-1] if spelling == 'short' else digest}"
