"""A small Slack: a workspace with state, behind a socket, that speaks the Web API and signs events.

Answers are shaped as in https://docs.slack.dev/reference/methods (conversations.history, .replies,
users.conversations, users.list, users.info, auth.test, chat.postMessage, chat.update,
chat.delete), https://docs.slack.dev/reference/events/message and
https://docs.slack.dev/apis/web-api/rate-limits, read 2026-11.

Where it differs from the real service: it has no tiers, and limits only when it is told to; scopes
are checked for conversations, people and posting only; there is one workspace; search, reactions,
Slack Connect, canvases and administration are missing; cursors are readable, and never expire.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from communicator_pipeline.platforms.protocol import Push

TEAM = "T0HARBOUR"
ANA, BEA, CARL, BOT = "U0ANA", "U0BEA", "U0CARL", "U0BOT"
BOT_ID = "B0BOT"
GENERAL, SECRET, DIRECT, GROUP = "C0GENERAL", "C0SECRET", "D0BEA", "C0GROUP"
TOKEN = "xoxp-2345-ana-9876"
SIGNING_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
ALL_SCOPES = (
    "channels:read,channels:history,groups:read,groups:history,im:read,im:history,mpim:read,"
    "mpim:history,users:read,files:read,chat:write"
)
_SCOPE = {"im": "im", "mpim": "mpim", "private_channel": "groups", "public_channel": "channels"}

Message = dict[str, Any]


class SlackServer:
    """The workspace; as a context manager it listens. It is the contract's `Peer`, too."""

    channel_id = GENERAL

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {}
        self.channels: dict[str, dict[str, Any]] = {}
        self.messages: dict[str, list[Message]] = {}
        self.files: dict[str, tuple[bytes, str]] = {}  # path → content, content type
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.scopes: str | None = ALL_SCOPES
        self.me = ANA
        self.bot_id = ""
        self.page = 999  # messages in an answer at most: 15 for restricted apps
        self.revoked = False
        self.before: Callable[[str, dict[str, str]], Any] = lambda method, arguments: None
        """Looks at each request first; an answer that it returns is given instead."""
        self.lost: Counter[str] = Counter()  # method → answers to lose after the act
        self.limited_until = 0.0
        self.limits: dict[str, float] = {}  # method → until when it is limited
        self.broken: set[tuple[str, str]] = set()
        self.events: list[dict[str, Any]] = []
        self._last = 0
        self._lock = threading.RLock()
        self._server = _Listener(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        for user_id, name in ((ANA, "Ana"), (BEA, "Bea"), (CARL, "Carl"), (BOT, "Helper")):
            self.add_user(user_id, name)
        self.add_channel(GENERAL, "general")
        self.values = {
            "token": TOKEN,
            "signing_secret": SIGNING_SECRET,
            "base_url": f"{self.url}/api/",
        }

    def __enter__(self) -> SlackServer:
        # A short poll: the server's end is waited for after each test.
        serve = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        serve.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    # --- what the workspace holds

    def add_user(self, user_id: str, name: str, **more: Any) -> None:
        profile = {"display_name": name, "real_name": name}
        self.users[user_id] = {
            "id": user_id,
            "team_id": TEAM,
            "name": name.lower(),
            "profile": profile,
            "is_bot": user_id == BOT,
            "updated": int(time.time()) - 1000,
        } | more

    def add_channel(self, channel_id: str, name: str, kind: str = "public_channel") -> None:
        self.channels[channel_id] = {
            "id": channel_id,
            "name": name,
            "is_channel": kind == "public_channel",
            "is_group": kind == "private_channel",
            "is_im": kind == "im",
            "is_mpim": kind == "mpim",
            "is_private": kind != "public_channel",
            "is_archived": False,
            "is_member": True,
            "updated": 1_449_252_889_000,
        }
        if kind == "im":
            self.channels[channel_id] |= {"user": name, "name": None}
        self.messages[channel_id] = []

    def add_message(
        self,
        text: str,
        channel_id: str = GENERAL,
        user: str = BEA,
        ts: str | None = None,
        thread_ts: str | None = None,
        **more: Any,
    ) -> str:
        """Somebody writes; returns the ts. Pushed as an event, too."""
        with self._lock:
            ts = ts or self._next_ts()
            message: Message = {
                "type": "message",
                "user": user,
                "text": text,
                "ts": ts,
                "team": TEAM,
                "client_msg_id": f"00000000-{ts}",
                "blocks": [{"type": "rich_text", "block_id": "b1", "elements": []}],
            }
            if thread_ts:
                message["thread_ts"] = thread_ts
                message["parent_user_id"] = BEA
            message |= more
            self.messages[channel_id].append(message)
            self._happen(channel_id, {**message})
            return ts

    def add_file(self, name: str, content: bytes, mime: str = "application/pdf") -> dict[str, Any]:
        path = f"/files-pri/{TEAM}-F{len(self.files)}/{name}"
        self.files[path] = content, mime
        return {
            "id": f"F{len(self.files)}",
            "name": name,
            "mimetype": mime,
            "size": len(content),
            "url_private": self.url + path,
        }

    def find(self, channel_id: str, ts: str) -> Message:
        return next(m for m in self.messages[channel_id] if m["ts"] == ts)

    def asked(self, method: str) -> list[dict[str, str]]:
        """The arguments of every request for a method, in order."""
        return [arguments for name, arguments in self.calls if name == method]

    def _next_ts(self) -> str:
        self._last = max(self._last + 1, int(time.time() * 1e6))
        return f"{self._last // 1_000_000}.{self._last % 1_000_000:06d}"

    # --- the contract's peer

    def say(self, text: str, thread: str | None = None) -> str:
        thread_ts = thread.split(":")[1] if thread else None
        return f"{GENERAL}:{self.add_message(text, thread_ts=thread_ts)}"

    def edit(self, message_id: str, text: str) -> None:
        channel_id, ts = message_id.split(":")
        with self._lock:
            message = self.find(channel_id, ts)
            before = {**message}
            message |= {"text": text, "edited": {"user": message["user"], "ts": self._next_ts()}}
            self._change(channel_id, message, before)

    def change(self, channel_id: str, ts: str, **fields: Any) -> None:
        """A change that is no edit: a link's preview, a file that is finished."""
        message = self.find(channel_id, ts)
        before = {**message}
        message |= fields
        self._change(channel_id, message, before)

    def _change(self, channel_id: str, message: Message, before: Message) -> None:
        event = {"subtype": "message_changed", "hidden": True, "ts": self._next_ts()}
        told = {"message": {**message}, "previous_message": before}
        self._happen(channel_id, {"type": "message", **event, **told})

    def delete(self, message_id: str) -> None:
        channel_id, ts = message_id.split(":")
        with self._lock:
            message = self.find(channel_id, ts)
            before = {**message}
            if self._replies(channel_id, ts):
                gone = {"subtype": "tombstone", "user": "USLACKBOT", "hidden": True, "blocks": []}
                message |= {"text": "This message was deleted.", **gone}
                self._change(channel_id, message, before)
                return
            self.messages[channel_id].remove(message)
            event = {"subtype": "message_deleted", "hidden": True, "ts": self._next_ts()}
            told = {"deleted_ts": ts, "previous_message": before}
            self._happen(channel_id, {"type": "message", **event, **told})

    def limit(self, seconds: float) -> None:
        self.limited_until = time.monotonic() + seconds if seconds else 0.0

    def revoke(self) -> None:
        self.revoked = True

    def spoil(self, message_id: str) -> None:
        channel_id, ts = message_id.split(":")
        self.broken.add((channel_id, ts))

    def pushes(self) -> Sequence[Push]:
        with self._lock:
            events, self.events = self.events, []
        return [self.signed(event) for event in events]

    # --- events

    def _happen(self, channel_id: str, event: Message) -> None:
        channel = self.channels[channel_id]
        types = {"is_im": "im", "is_mpim": "mpim", "is_group": "group", "is_channel": "channel"}
        kind = next(name for flag, name in types.items() if channel[flag])
        extra = {"channel": channel_id, "channel_type": kind, "event_ts": event["ts"]}
        self.events.append(self.wrapped({**event, **extra}))

    def wrapped(self, event: Message, event_id: str | None = None) -> Message:
        self._last += 1
        return {
            "token": "a-verification-token",
            "team_id": TEAM,
            "context_team_id": TEAM,
            "api_app_id": "A0APP",
            "event": event,
            "type": "event_callback",
            "event_id": event_id or f"Ev{self._last}",
            "event_time": int(time.time()),
            "authorizations": [
                {"team_id": TEAM, "user_id": self.me, "is_bot": bool(self.bot_id)},
            ],
        }

    def signed(self, body: Any, at: float | None = None, secret: str = SIGNING_SECRET) -> Push:
        """A push as Slack makes it; `body` is an event, or bytes."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        timestamp = str(int(time.time() if at is None else at))
        base = b"v0:" + timestamp.encode() + b":" + raw
        signature = "v0=" + hmac.new(secret.encode(), base, hashlib.sha256).hexdigest()
        headers = {
            "content-type": "application/json",
            "x-slack-request-timestamp": timestamp,
            "x-slack-signature": signature,
        }
        return Push("POST", headers, {}, raw)

    # --- the Web API

    def answer(self, method: str, token: str, arguments: dict[str, str]) -> tuple[int, Any]:
        """Status and body; a body that is a number is a limit of so many seconds."""
        with self._lock:
            self.calls.append((method, arguments))
            limited = max(self.limited_until, self.limits.get(method, 0.0)) - time.monotonic()
            if limited > 0:
                return 429, max(1, round(limited))
            if self.revoked:
                return 200, _no("token_revoked")
            if token != TOKEN:
                return 200, _no("invalid_auth" if token else "not_authed")
            instead = self.before(method, arguments)
            if instead is not None:
                return instead if isinstance(instead, tuple) else (200, instead)
            handler = getattr(self, "_" + method.replace(".", "_"), None)
            return 200, handler(arguments) if handler else _no("unknown_method")

    def _auth_test(self, _: dict[str, str]) -> Any:
        said = {"url": "https://harbour.slack.com/", "team": "Harbour", "user": "ana"}
        bot = {"bot_id": self.bot_id} if self.bot_id else {}
        return {"ok": True, **said, "team_id": TEAM, "user_id": self.me, **bot}

    def _users_conversations(self, arguments: dict[str, str]) -> Any:
        types = arguments.get("types", "public_channel").split(",")
        needed = [f"{_SCOPE[kind]}:read" for kind in types]
        if any(not self._has(scope) for scope in needed):
            return _no("missing_scope", needed=",".join(needed), provided=self.scopes)
        without = arguments.get("exclude_archived") in ("1", "true")
        entries = [
            channel
            for _, channel in sorted(self.channels.items())
            if self._type(channel) in types
            and channel["is_member"]
            and not (without and channel["is_archived"])
        ]
        return self._paged("channels", entries, arguments)

    _conversations_list = _users_conversations

    def _users_list(self, arguments: dict[str, str]) -> Any:
        if not self._has("users:read"):
            return _no("missing_scope", needed="users:read", provided=self.scopes)
        inside = [user for user in self.users.values() if user["team_id"] == TEAM]
        return self._paged("members", inside, arguments)

    def _users_info(self, arguments: dict[str, str]) -> Any:
        if not self._has("users:read"):
            return _no("missing_scope", needed="users:read", provided=self.scopes)
        user = self.users.get(arguments.get("user", ""))
        return {"ok": True, "user": user} if user else _no("user_not_found")

    def _conversations_history(self, arguments: dict[str, str]) -> Any:
        refused = self._closed(arguments)
        if refused:
            return refused
        channel_id = arguments["channel"]
        entries = [
            message
            for message in self.messages[channel_id]
            if message.get("thread_ts", message["ts"]) == message["ts"]
            or message.get("subtype") == "thread_broadcast"
        ]
        newest_first = sorted(_between(entries, arguments), key=lambda m: m["ts"], reverse=True)
        return self._timeline(channel_id, newest_first, arguments)

    def _conversations_replies(self, arguments: dict[str, str]) -> Any:
        refused = self._closed(arguments)
        if refused:
            return refused
        channel_id, root = arguments["channel"], arguments.get("ts", "")
        parent = [m for m in self.messages[channel_id] if m["ts"] == root]
        if not parent:
            return _no("thread_not_found")
        replies = sorted(
            _between(self._replies(channel_id, root), arguments), key=lambda m: m["ts"]
        )
        answer = self._timeline(channel_id, replies, arguments)
        answer["messages"] = [self._shown(channel_id, parent[0], arguments), *answer["messages"]]
        return answer

    def _chat_postMessage(self, arguments: dict[str, str]) -> Any:
        if not self._has("chat:write"):
            return _no("missing_scope", needed="chat:write", provided=self.scopes)
        channel_id = arguments.get("channel", "")
        channel = self.channels.get(channel_id)
        if channel is None:
            return _no("channel_not_found")
        if channel["is_archived"]:
            return _no("is_archived")
        if not channel["is_member"]:
            return _no("not_in_channel")
        text = arguments.get("text", "")
        if not text:
            return _no("no_text")
        if len(text) > 40_000:
            return _no("msg_too_long")
        metadata = arguments.get("metadata")
        more: dict[str, Any] = {"app_id": "A0APP", "bot_id": self.bot_id or BOT_ID}
        if metadata:
            more["metadata"] = metadata if isinstance(metadata, dict) else json.loads(metadata)
        thread = arguments.get("thread_ts")
        ts = self.add_message(text, channel_id, self.me, thread_ts=thread, **more)
        message = self._shown(channel_id, self.find(channel_id, ts), arguments)
        return {"ok": True, "channel": channel_id, "ts": ts, "message": message}

    def _chat_update(self, arguments: dict[str, str]) -> Any:
        channel_id, ts = arguments["channel"], arguments["ts"]
        self.edit(f"{channel_id}:{ts}", arguments["text"])
        return {"ok": True, "channel": channel_id, "ts": ts, "text": arguments["text"]}

    def _chat_delete(self, arguments: dict[str, str]) -> Any:
        channel_id, ts = arguments["channel"], arguments["ts"]
        self.delete(f"{channel_id}:{ts}")
        return {"ok": True, "channel": channel_id, "ts": ts}

    # --- what the answers are made of

    def _has(self, scope: str) -> bool:
        return self.scopes is None or scope in self.scopes.split(",")

    @staticmethod
    def _type(channel: dict[str, Any]) -> str:
        for flag, name in (("is_im", "im"), ("is_mpim", "mpim"), ("is_group", "private_channel")):
            if channel[flag]:
                return name
        return "public_channel"

    def _closed(self, arguments: dict[str, str]) -> Any:
        channel = self.channels.get(arguments.get("channel", ""))
        if channel is None:
            return _no("channel_not_found")
        scope = f"{_SCOPE[self._type(channel)]}:history"
        if not self._has(scope):
            return _no("missing_scope", needed=scope, provided=self.scopes)
        return None if channel["is_member"] else _no("not_in_channel")

    def _replies(self, channel_id: str, root: str) -> list[Message]:
        return [
            m for m in self.messages[channel_id] if m.get("thread_ts") == root and m["ts"] != root
        ]

    def _shown(self, channel_id: str, message: Message, arguments: dict[str, str]) -> Message:
        shown = {**message}
        if arguments.get("include_all_metadata") not in ("1", "true"):
            shown.pop("metadata", None)
        replies = self._replies(channel_id, message["ts"])
        if replies:
            shown |= {
                "thread_ts": message["ts"],
                "reply_count": len(replies),
                "reply_users": sorted({reply["user"] for reply in replies}),
                "latest_reply": max(reply["ts"] for reply in replies),
            }
        if (channel_id, message["ts"]) in self.broken:
            shown["ts"] = float(message["ts"])
        return shown

    def _timeline(
        self, channel_id: str, entries: list[Message], arguments: dict[str, str]
    ) -> dict[str, Any]:
        limit = min(int(arguments.get("limit", 100)), self.page)
        if arguments.get("oldest") and not arguments.get("latest") and not arguments.get("cursor"):
            # Slack then pages from the oldest end: "those closest to oldest".
            entries = entries[-limit:] if len(entries) > limit else entries
        start = _start(arguments)
        some = entries[start : start + limit]
        more = start + limit < len(entries)
        answer: dict[str, Any] = {
            "ok": True,
            "messages": [self._shown(channel_id, message, arguments) for message in some],
            "has_more": more,
        }
        if more:
            answer["response_metadata"] = {"next_cursor": _cursor(start + limit)}
        return answer

    @staticmethod
    def _paged(name: str, entries: list[Any], arguments: dict[str, str]) -> dict[str, Any]:
        start, limit = _start(arguments), int(arguments.get("limit", 100))
        following = _cursor(start + limit) if start + limit < len(entries) else ""
        some = entries[start : start + limit]
        return {"ok": True, name: some, "response_metadata": {"next_cursor": following}}


def _no(code: str, **more: Any) -> dict[str, Any]:
    return {"ok": False, "error": code, **more}


def _between(entries: list[Message], arguments: dict[str, str]) -> list[Message]:
    oldest, latest = arguments.get("oldest", "0"), arguments.get("latest", "9999999999.999999")
    inclusive = arguments.get("inclusive") in ("1", "true")
    return [
        message
        for message in entries
        if oldest < message["ts"] < latest or (inclusive and message["ts"] in (oldest, latest))
    ]


def _cursor(start: int) -> str:
    return base64.b64encode(f"at:{start}".encode()).decode()


def _start(arguments: dict[str, str]) -> int:
    cursor = arguments.get("cursor")
    return int(base64.b64decode(cursor).split(b":")[1]) if cursor else 0


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, workspace: SlackServer) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.workspace = workspace


class _Request(BaseHTTPRequestHandler):
    server: _Listener

    def do_POST(self) -> None:
        workspace = self.server.workspace
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("content-type", "").startswith("application/json"):
            arguments = json.loads(raw)
        else:
            arguments = {name: values[-1] for name, values in parse_qs(raw.decode()).items()}
        method = urlsplit(self.path).path.removeprefix("/api/")
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        status, body = workspace.answer(method, token, arguments)
        if workspace.lost[method] > 0:
            workspace.lost[method] -= 1
            self.send_response(200)
            self.send_header("content-length", "1000")
            self.end_headers()
            self.close_connection = True
            return
        headers = {"x-oauth-scopes": workspace.scopes} if workspace.scopes is not None else {}
        if status == 429:
            headers["retry-after"] = str(body)
            body = _no("ratelimited")
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._give(status, content, "application/json; charset=utf-8", headers)

    def do_GET(self) -> None:
        workspace = self.server.workspace
        path = urlsplit(self.path).path
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        workspace.calls.append(("GET " + path, {"token": token}))
        instead = workspace.before("GET " + path, {"token": token})
        if instead is not None:
            self._give(*instead)
        elif path not in workspace.files:
            self._give(404, b"not found", "text/plain", {})
        elif token != TOKEN or not workspace._has("files:read"):
            self._give(200, b"<!DOCTYPE html><title>Sign in</title>", "text/html", {})
        else:
            content, mime = workspace.files[path]
            self._give(200, content, mime, {})

    def _give(self, status: int, content: bytes, mime: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"content-type": mime, **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: the calls are kept in `SlackServer.calls`."""
