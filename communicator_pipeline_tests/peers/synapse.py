"""A real Synapse on SQLite in a temporary folder, and two people who talk on it.

Belongs here: starting it, registering people, speaking as one of them. Does not belong here: what
is promised (`test_matrix_synapse.py`). Ben speaks through `matrix-nio`, a client that others wrote,
so that neither end of a conversation is of our making.

Where this differs from a homeserver in service: one process without federation, no reverse proxy
in front of it (which is what limits /sync and /messages where anything does), limits that are
generous for all but the one who is to meet them.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import nio

from communicator_pipeline.platforms.protocol import Push
from communicator_pipeline_tests.peers.node import BIN, free_port, program

SERVER_NAME = "here.example"
_LIMITS = "rc_message rc_registration rc_admin_redaction rc_room_creation".split()
_NESTED = {
    "rc_login": ("address", "account", "failed_attempts"),
    "rc_joins": ("local", "remote"),
    "rc_invites": ("per_room", "per_user", "per_issuer"),
}


class Person:
    """Somebody who is registered, with a token and an HTTP client of their own."""

    def __init__(self, url: str, user_id: str, token: str, device: str, password: str) -> None:
        self.user_id, self.token, self.device, self.password = user_id, token, device, password
        self.http = httpx.Client(
            base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=30
        )

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.http.request(method, path, json={} if body is None else body)
        assert answer.is_success, (method, path, answer.status_code, answer.text)
        return answer.json()


class Synapse:
    """A running homeserver."""

    def __init__(self, url: str, shared_secret: str) -> None:
        self.url = url
        self._secret = shared_secret
        self._numbers = itertools.count(1)
        self.admin = self.register("admin", is_admin=True)

    def register(self, name: str, is_admin: bool = False) -> Person:
        """https://element-hq.github.io/synapse/latest/admin_api/register_api.html (read 2026-11)"""
        path = self.url + "/_synapse/admin/v1/register"
        nonce = httpx.get(path).json()["nonce"]
        user, password = f"{name}{next(self._numbers)}", secrets.token_urlsafe(16)
        parts = (nonce, user, password, "admin" if is_admin else "notadmin")
        mac = hmac.new(self._secret.encode(), "\0".join(parts).encode(), hashlib.sha1)
        made = httpx.post(
            path,
            json={
                "nonce": nonce,
                "username": user,
                "password": password,
                "admin": is_admin,
                "displayname": name.title(),
                "mac": mac.hexdigest(),
            },
            timeout=30,
        ).json()
        return Person(self.url, made["user_id"], made["access_token"], made["device_id"], password)

    def limit_sending(self, person: Person, per_second: float, burst: int) -> None:
        """https://element-hq.github.io/synapse/latest/admin_api/user_admin_api.html (2026-11)"""
        path = f"/_synapse/admin/v1/users/{quote(person.user_id)}/override_ratelimit"
        # The API takes whole numbers only: one message a second is the tightest it can be.
        body = {"messages_per_second": int(per_second), "burst_count": burst}
        self.admin.call("POST", path, body)

    def free_sending(self, person: Person) -> None:
        path = f"/_synapse/admin/v1/users/{quote(person.user_id)}/override_ratelimit"
        self.admin.call("DELETE", path)


@contextmanager
def synapse() -> Iterator[Synapse]:
    """Start one; it is gone, with all that was said, when the `with` ends."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, secret = Path(scratch), secrets.token_urlsafe(24)
        configuration = folder / "homeserver.yaml"
        configuration.write_text(_configuration(folder, 0, secret))
        (folder / "log.yaml").write_text(
            "version: 1\nroot: {level: ERROR, handlers: [out]}\n"
            "handlers: {out: {class: logging.StreamHandler}}\n"
        )
        command = [str(BIN / "synapse_homeserver"), "-c", str(configuration)]
        subprocess.run(
            [*command, "--generate-keys"], check=True, cwd=folder, capture_output=True, timeout=60
        )
        # Only now: what is free may be taken in the seconds that making keys takes.
        port = free_port()
        configuration.write_text(_configuration(folder, port, secret))
        with program(command, folder) as answers:
            url = f"http://127.0.0.1:{port}"
            answers(f"{url}/_matrix/client/versions")
            yield Synapse(url, secret)


def _configuration(folder: Path, port: int, secret: str) -> str:
    generous = "{per_second: 1000, burst_count: 10000}"
    lines = [f"{name}: {generous}" for name in _LIMITS]
    for name, inner in _NESTED.items():
        lines += [f"{name}:", *(f"  {key}: {generous}" for key in inner)]
    return "\n".join(
        [
            f"server_name: {SERVER_NAME}",
            "report_stats: false",
            f"signing_key_path: {folder}/signing.key",
            f"media_store_path: {folder}/media",
            f"log_config: {folder}/log.yaml",
            f"registration_shared_secret: {secret}",
            "macaroon_secret_key: tests",
            "form_secret: tests",
            "bcrypt_rounds: 4",  # passwords that protect nothing should be quick
            "trusted_key_servers: []",
            "listeners:",
            f"  - {{port: {port}, type: http, bind_addresses: ['127.0.0.1'],",
            "     resources: [{names: [client], compress: false}]}",
            f"database: {{name: sqlite3, args: {{database: {folder}/homeserver.db}}}}",
            *lines,
            "",
        ]
    )


class SynapsePeer:
    """Ana's account is the one that is read; Ben speaks. Both are new, in a room of their own."""

    def __init__(self, server: Synapse) -> None:
        self.server = server
        self.ana, self.ben = server.register("ana"), server.register("ben")
        self._runner = asyncio.Runner()
        self._nio = nio.AsyncClient(
            server.url, self.ben.user_id, config=nio.AsyncClientConfig(max_limit_exceeded=0)
        )
        self._nio.access_token = self.ben.token
        self._nio.user_id = self.ben.user_id
        self.channel_id = self.room("boats")

    def close(self) -> None:
        self._runner.run(self._nio.close())
        self._runner.close()

    @property
    def values(self) -> Mapping[str, str]:
        return {
            "homeserver": self.server.url,
            "user_id": self.ana.user_id,
            "access_token": self.ana.token,
        }

    def room(self, name: str, **more: Any) -> str:
        body = {"name": name, "preset": "private_chat", "invite": [self.ana.user_id], **more}
        room_id: str = self.ben.call("POST", "/_matrix/client/v3/createRoom", body)["room_id"]
        self.ana.call("POST", f"/_matrix/client/v3/join/{quote(room_id)}")
        return room_id

    def say(self, text: str, thread: str | None = None) -> str:
        content: dict[str, Any] = {"msgtype": "m.text", "body": text}
        if thread is not None:
            root = self.native(thread)
            content["m.relates_to"] = {
                "rel_type": "m.thread",
                "event_id": root,
                "is_falling_back": True,
                "m.in_reply_to": {"event_id": root},
            }
        return self.put(content)

    def put(self, content: dict[str, Any], kind: str = "m.room.message", room: str = "") -> str:
        room_id = room or self.channel_id
        answer = self._speak(lambda: self._nio.room_send(room_id, kind, content))
        return f"{room_id}:{answer.event_id}"

    def edit(self, message_id: str, text: str) -> str:
        new = {"msgtype": "m.text", "body": text}
        relation = {"rel_type": "m.replace", "event_id": self.native(message_id)}
        return self.put(
            {**new, "body": f"* {text}", "m.new_content": new, "m.relates_to": relation}
        )

    def delete(self, message_id: str) -> None:
        native = self.native(message_id)
        self._speak(lambda: self._nio.room_redact(self.channel_id, native))

    def limit(self, seconds: float) -> None:
        """Only sending is limited by Synapse itself."""
        if not seconds:
            self.server.free_sending(self.ana)
            return
        self.server.limit_sending(self.ana, 1, 1)
        until = time.monotonic() + 30
        path = f"/_matrix/client/v3/rooms/{quote(self.channel_id)}/send/m.room.message/"
        while time.monotonic() < until:
            text = {"msgtype": "m.text", "body": "on and on"}
            answer = self.ana.http.put(path + secrets.token_hex(8), json=text)
            if answer.status_code == 429:
                return
        raise AssertionError("Synapse never answered 429")

    def revoke(self) -> None:
        self.ana.call("POST", "/_matrix/client/v3/logout")

    def spoil(self, message_id: str) -> None:
        raise NotImplementedError("Synapse cannot be made to tell something broken")

    def pushes(self) -> Sequence[Push]:
        return ()

    @staticmethod
    def native(message_id: str) -> str:
        return message_id[message_id.index("$") :]

    def _speak(self, ask: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        answer = self._runner.run(ask())
        assert not isinstance(answer, nio.ErrorResponse), answer
        return answer
