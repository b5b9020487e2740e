"""A small X in this process, on a real socket: posts, direct messages, pages, limits, pushes.

Its answers follow X's API descriptions (versions 2.157 and 2.167, before and after the fields'
renaming) and https://docs.x.com (read 2026-11). It checks each OAuth 1.0a signature with its own
hand-written reading of RFC 5849. It differs from X: search finds by substring, nothing is cached or
late, limits hold for all or for one path, page tokens are plain offsets, ids have no machine part.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from communicator_pipeline.platforms.protocol import Push
from communicator_pipeline_tests.platforms.matrix_server import Served

ANA, BEN = "1401", "2002"
EPOCH_MS = 1_288_834_974_657
KEYS = {
    "consumer_key": "consumer-key-1",
    "consumer_secret": "consumer-secret-1",
    "access_token": "1401-access-token",
    "access_token_secret": "access-secret-1",
}
Item = dict[str, Any]


class Problem(Exception):
    def __init__(self, status: int, title: str, detail: str = "", **more: Any) -> None:
        headers = more.pop("headers", None)
        body = {"title": title, "detail": detail or title, "status": status, **more}
        self.answer = JSONResponse(body, status, headers)


class XServer(Served):
    """X, and the peer: Ben mentions Ana in posts. With `speaks="dm"` he writes to her instead."""

    def __init__(self, spelling: str = "post", speaks: str = "feed") -> None:
        self.spelling = spelling  # the only one that it takes
        self.speaks = speaks
        self.channel_id = "feed" if speaks == "feed" else f"{ANA}-{BEN}"
        self.posts: list[Item] = []
        self.messages: list[Item] = []
        self.users = {
            ANA: {"id": ANA, "name": "Ana D.", "username": "ana"},
            BEN: {"id": BEN, "name": "Ben", "username": "ben"},
        }
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.media: dict[str, bytes] = {}
        self.refused: dict[str, Problem] = {}  # path's end → what it answers
        self.next_send = 0  # the status with which the next send is answered, once it is there
        self.access_level = "read-write-directmessages"
        self.limited_until = 0.0
        self.limited_path = ""
        self.is_revoked = False
        self.duplicates_are_refused = False
        self.self_serve = False
        self._happened: list[Item] = []
        self._spoilt: dict[str, Callable[[Item], Item]] = {}
        self._numbers = itertools.count(1)
        self._last = 0
        self._lock = threading.RLock()

    # --- the peer

    @property
    def values(self) -> Mapping[str, str]:
        return {**KEYS, "base_url": self.url, "cap_usd": "50"}

    def say(self, text: str, thread: str | None = None) -> str:
        if self.speaks == "dm":
            return self.write(text)
        root = None if thread is None else self.native(thread)
        return self.put(text, answers=root)

    def edit(self, message_id: str, text: str) -> None:
        """Each version has an id of its own; see the tests."""
        self.put(text, edits=self.native(message_id))

    def delete(self, message_id: str) -> None:
        native = self.native(message_id)
        post = next(post for post in self.posts if post["id"] == native)
        self.posts.remove(post)
        payload = {"id": native, "author_id": post["author_id"]}
        self._happened.append(self._activity("post.delete", payload))

    def limit(self, seconds: float) -> None:
        self.limited_until = time.time() + seconds

    def revoke(self) -> None:
        self.is_revoked = True

    def spoil(
        self,
        message_id: str,
        how: Callable[[Item], Item] = lambda item: item | {"created_at": "yesterday"},
    ) -> None:
        self._spoilt[self.native(message_id)] = how

    def pushes(self) -> Sequence[Push]:
        bodies = [json.dumps(event).encode() for event in self._happened]
        self._happened.clear()
        return [signed_push(body) for body in bodies]

    # --- what happens in it

    def put(
        self,
        text: str,
        author: str = BEN,
        answers: str | None = None,
        edits: str | None = None,
        at: datetime | None = None,
        **more: Any,
    ) -> str:
        with self._lock:
            native = self._new_id(at)
            refers = [{"type": "replied_to", "id": answers}] if answers else []
            before = self._post(edits) if edits else None
            root = self._post(answers) if answers else None
            post = {
                "id": native,
                "text": text,
                "author_id": author,
                "created_at": self._time(native),
                "conversation_id": root["conversation_id"] if root else native,
                "edit_history_ids": [*(before["edit_history_ids"] if before else ()), native],
                "references": refers,
                "mentions_ana": author != ANA,
                **more,
            }
            self.posts.append(post)
            kind = "post.create" if author == ANA else "post.mention.create"
            payload = self._shown_post(post, "tweet")
            self._happened.append(self._activity(kind, payload))
            return f"feed:{native}"

    def write(
        self, text: str, sender: str = BEN, talk: str = "", at: datetime | None = None
    ) -> str:
        with self._lock:
            native = self._new_id(at)
            talk = talk or f"{ANA}-{BEN}"
            message = {
                "id": native,
                "event_type": "MessageCreate",
                "text": text,
                "sender_id": sender,
                "dm_conversation_id": talk,
                "created_at": self._time(native),
            }
            self.messages.append(message)
            pushed = {
                "type": "message_create",
                "id": native,
                "created_timestamp": str((int(native) >> 22) + EPOCH_MS),
                "message_create": {
                    "sender_id": sender,
                    "target": {"recipient_id": BEN if sender == ANA else ANA},
                    "message_data": {"text": text, "entities": {"urls": []}},
                },
            }
            users = {key: {"data": user} for key, user in self.users.items()}
            payload = {"direct_message_events": [pushed], "users": users}
            kind = "dm.sent" if sender == ANA else "dm.received"
            self._happened.append(self._activity(kind, payload))
            return f"{talk}:{native}"

    def _activity(self, kind: str, payload: Item) -> Item:
        uuid = str(next(self._numbers))
        data = {"event_uuid": uuid, "filter": {"user_id": ANA}, "event_type": kind}
        includes = {"users": list(self.users.values())}
        return {"data": {**data, "payload": payload, "includes": includes}}

    def _new_id(self, at: datetime | None) -> str:
        when = int((at.timestamp() if at else time.time()) * 1_000) - EPOCH_MS
        native = when << 22
        if at is None:
            native = self._last = max(native, self._last + 1)
        return str(native)

    @staticmethod
    def _time(native: str) -> str:
        seconds = ((int(native) >> 22) + EPOCH_MS) / 1_000
        moment = datetime.fromtimestamp(seconds, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _post(self, native: str) -> Item:
        return next(post for post in self.posts if post["id"] == native)

    @staticmethod
    def native(message_id: str) -> str:
        return message_id.rsplit(":", 1)[1]

    # --- HTTP

    def application(self) -> Starlette:
        routes = [
            ("GET", "/2/users/me", self._me),
            ("GET", "/2/users/{user}/mentions", self._mentions),
            ("GET", "/2/users/{user}/tweets", self._tweets),
            ("GET", "/2/tweets/search/recent", self._search),
            ("GET", "/2/dm_events", self._dm_events),
            ("POST", "/2/tweets", self._create),
            ("POST", "/2/dm_conversations/{talk}/messages", self._send_dm),
            ("GET", "/media/{name}", self._file),
        ]
        return Starlette(
            routes=[Route(path, self._guarded(e), methods=[m]) for m, path, e in routes]
        )

    def _guarded(self, endpoint: Callable[[Request, Any], Any]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            body = await request.body()
            with self._lock:
                self.requests.append((request.url.path, dict(request.query_params)))
                try:
                    if self.is_revoked:
                        given = request.headers["authorization"]
                        raise Problem(401, "Unauthorized", f"not good: {unquote(given)}")
                    self._check_signature(request)
                    if time.time() < self.limited_until and self.limited_path in request.url.path:
                        reset = {"x-rate-limit-reset": str(int(self.limited_until) + 1)}
                        raise Problem(429, "Too Many Requests", headers=reset)
                    for end, problem in self.refused.items():
                        if request.url.path.endswith(end):
                            raise problem
                    found = endpoint(request, json.loads(body) if body else {})
                except Problem as problem:
                    return problem.answer
            if isinstance(found, Response):
                return found
            headers = {"x-access-level": self.access_level}
            return JSONResponse(found, 201 if request.method == "POST" else 200, headers)

        return answer

    def _check_signature(self, request: Request) -> None:
        """RFC 5849, section 3.4, for a request whose body is no form."""
        header = request.headers.get("authorization", "")
        given = {
            unquote(name): unquote(value.strip('"'))
            for name, _, value in (
                part.strip().partition("=") for part in header.removeprefix("OAuth ").split(",")
            )
        }
        signature = given.pop("oauth_signature", "")
        known = (given.get("oauth_consumer_key"), given.get("oauth_token"))
        query = parse_qsl(request.url.query, keep_blank_values=True)
        pairs = sorted((quote(n, "~"), quote(v, "~")) for n, v in [*given.items(), *query])
        text = "&".join(f"{name}={value}" for name, value in pairs)
        url = f"http://{request.url.netloc}{request.url.path}"
        base = "&".join(quote(part, "~") for part in (request.method, url, text))
        key = f"{KEYS['consumer_secret']}&{KEYS['access_token_secret']}".encode()
        expected = base64.b64encode(hmac.new(key, base.encode(), hashlib.sha1).digest()).decode()
        if known != (KEYS["consumer_key"], KEYS["access_token"]) or signature != expected:
            raise Problem(401, "Unauthorized", "Could not authenticate you")

    def _me(self, request: Request, body: Any) -> Any:
        return {"data": self.users[ANA]}

    def _mentions(self, request: Request, body: Any) -> Any:
        return self._timeline(request, [p for p in self.posts if p["mentions_ana"]], 5)

    def _tweets(self, request: Request, body: Any) -> Any:
        own = [p for p in self.posts if p["author_id"] == request.path_params["user"]]
        return self._timeline(request, own, 5)

    def _search(self, request: Request, body: Any) -> Any:
        words = request.query_params["query"]
        return self._timeline(request, [p for p in self.posts if words in p["text"]], 10)

    def _timeline(self, request: Request, posts: list[Item], least: int) -> Any:
        query = request.query_params
        self._check_fields(query)
        posts = sorted(posts, key=lambda post: int(post["id"]), reverse=True)
        posts = [
            post
            for post in posts
            if int(post["id"]) > int(query.get("since_id", "0"))
            and post["created_at"] >= query.get("start_time", "")
            and post["created_at"] < query.get("end_time", "9")
        ]
        return self._page(posts, query, least, lambda post: self._shown_post(post, self.spelling))

    def _dm_events(self, request: Request, body: Any) -> Any:
        query = request.query_params
        self._check_fields(query)
        events = sorted(self.messages, key=lambda event: int(event["id"]), reverse=True)
        return self._page(events, query, 1, dict)

    def _page(self, items: list[Item], query: Any, least: int, show: Callable[[Item], Item]) -> Any:
        most = int(query["max_results"])
        if not least <= most <= 100:
            raise Problem(400, "Invalid Request", "The `max_results` query parameter is not valid")
        token = query.get("pagination_token", "page-000000000000")
        if not token.startswith("page-"):
            raise Problem(400, "Invalid Request", "The pagination_token is not valid")
        first = int(token.removeprefix("page-"))
        shown = items[first : first + most]
        answer: Item = {"meta": {"result_count": len(shown)}}
        if shown:
            told = [show(item) for item in shown]
            answer["data"] = [self._spoilt.get(i["id"], lambda given: given)(i) for i in told]
            people = {item.get("author_id") or item.get("sender_id") for item in shown}
            answer["includes"] = {"users": [self.users[p] for p in people if p in self.users]}
            media = [m for item in shown for m in item.get("media", ())]
            if media:
                answer["includes"]["media"] = media
        if first + most < len(items):
            answer["meta"]["next_token"] = f"page-{first + most:012d}"
        return answer

    def _check_fields(self, query: Any) -> None:
        other = "tweet" if self.spelling == "post" else "post"
        expansions = query.get("expansions", "")
        if f"{other}.fields" in query or f"referenced_{other}s" in expansions:
            told = f"The query parameter [{other}.fields] is not one of the known ones"
            errors = [{"parameters": {f"{other}.fields": []}, "message": told}]
            detail = "One or more parameters to your request was invalid."
            raise Problem(400, "Invalid Request", detail, errors=errors)

    def _shown_post(self, post: Item, spelling: str) -> Item:
        kept = ("id", "text", "author_id", "created_at", "conversation_id", "entities")
        shown = {name: post[name] for name in kept if name in post}
        shown[f"edit_history_{spelling}_ids"] = post["edit_history_ids"]
        if post["references"]:
            shown[f"referenced_{spelling}s"] = post["references"]
        if "note" in post:
            shown[f"note_{spelling}"] = post["note"]
        if "media" in post:
            shown["attachments"] = {"media_keys": [m["media_key"] for m in post["media"]]}
        shown["public_metrics"] = {"like_count": 3, "retweet_count": 0}
        return shown

    def _create(self, request: Request, body: Any) -> Any:
        answers = (body.get("reply") or {}).get("in_reply_to_tweet_id")
        if self.self_serve and answers and not self._post(answers)["mentions_ana"]:
            raise Problem(403, "Forbidden", "You are not permitted to reply to this conversation")
        if self.duplicates_are_refused and any(p["text"] == body["text"] for p in self.posts):
            detail = "You are not allowed to create a Tweet with duplicate content."
            raise Problem(403, "Forbidden", detail)
        text = body["text"].replace("&", "&amp;").replace("<", "&lt;")
        if answers:
            author = self._post(answers)["author_id"]
            text = f"@{self.users[author]['username']} {text}"
        message_id = self.put(text, author=ANA, answers=answers)
        return self._sent({"id": self.native(message_id), "text": text})

    def _send_dm(self, request: Request, body: Any) -> Any:
        talk = request.path_params["talk"]
        message_id = self.write(body["text"], sender=ANA, talk=talk)
        return self._sent({"dm_conversation_id": talk, "dm_event_id": self.native(message_id)})

    def _sent(self, data: Item) -> Any:
        status, self.next_send = self.next_send, 0
        if status:
            return JSONResponse({"title": "Service Unavailable", "status": status}, status)
        return {"data": data}

    def _file(self, request: Request, body: Any) -> Any:
        name = request.path_params["name"]
        if name not in self.media:
            raise Problem(404, "Not Found")
        return Response(self.media[name])


def signed_push(body: bytes, secret: str = KEYS["consumer_secret"]) -> Push:
    """A push as X signs it."""
    digest = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    return Push("POST", {"x-twitter-webhooks-signature": f"sha256={digest}"}, {}, body)
