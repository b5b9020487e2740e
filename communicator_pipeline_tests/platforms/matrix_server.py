"""A small homeserver in this process, on a real socket: rooms, /sync, history, sends, limits.

Its answers follow https://spec.matrix.org/v1.16/client-server-api/ (read 2026-11). It differs from
Synapse, against which the same promises are tested (`peers/test_matrix_synapse.py`): no
federation, no authorisation rules, no encryption; room state is the newest state event of each
kind; lazy loading always brings the senders' memberships; tokens are positions (`s7`, `t7`) in one
list of all events. It can do what Synapse cannot be made to: break an event, cut an answer off,
lose its tokens, date an event in the future.
"""

from __future__ import annotations

import copy
import itertools
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from communicator_pipeline.platforms.protocol import Push

ANA, BEN = "@ana:here.example", "@ben:here.example"
Event = dict[str, Any]


class Refusal(Exception):
    def __init__(self, status: int, code: str, words: str = "", **more: Any) -> None:
        self.answer = JSONResponse({"errcode": code, "error": words, **more}, status)


class Served:
    """An ASGI application on a free port of 127.0.0.1, for the length of a `with`."""

    url = ""

    def application(self) -> Starlette:
        raise NotImplementedError

    def __enter__(self) -> Self:
        config = uvicorn.Config(
            self.application(), host="127.0.0.1", port=0, log_level="critical", lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)


class MatrixServer(Served):
    """The homeserver, and the peer: Ben speaks in it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.tokens = {"ana-token-1": (ANA, "ANADEVICE"), "ben-token-1": (BEN, "BENDEVICE")}
        self.passwords = {ANA: "ana's password", BEN: "ben's password"}
        self.names = {ANA: "Ana", BEN: "Ben"}
        self.direct: dict[str, list[str]] = {}
        self.invitations: dict[str, Event] = {}
        self.media: dict[str, bytes] = {}
        self.transactions: dict[tuple[str, str], str] = {}
        self.requests: list[str] = []
        self.forbidden: set[str] = set()  # rooms whose history may not be read
        self.limited_until = 0.0
        self.limited_paths: str = ""
        self.next_send: int = 0  # the status with which the next send is answered, once stored
        self.first_valid_token = 0
        self.media_elsewhere = False
        self._spoilt: dict[str, Callable[[Event], Event]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self.channel_id = self.create_room("boats", [ANA, BEN])

    # --- the peer

    @property
    def values(self) -> Mapping[str, str]:
        return {"homeserver": self.url, "user_id": ANA, "access_token": "ana-token-1"}

    def say(self, text: str, thread: str | None = None) -> str:
        content: Event = {"msgtype": "m.text", "body": text}
        if thread is not None:
            root = self.native(thread)
            content["m.relates_to"] = {
                "rel_type": "m.thread",
                "event_id": root,
                "is_falling_back": True,
                "m.in_reply_to": {"event_id": root},
            }
        return self.put(content)

    def edit(self, message_id: str, text: str, sender: str = BEN) -> str:
        new = {"msgtype": "m.text", "body": text}
        relation = {"rel_type": "m.replace", "event_id": self.native(message_id)}
        content = {**new, "body": f"* {text}", "m.new_content": new, "m.relates_to": relation}
        return self.put(content, sender)

    def delete(self, message_id: str, in_content: bool = False) -> None:
        target = self.native(message_id)
        content = {"reason": "a mistake"} | ({"redacts": target} if in_content else {})
        more = {} if in_content else {"redacts": target}
        event = self.add(self.room_of(target), "m.room.redaction", content, BEN, **more)
        self.event(target)["redacted"] = event["event_id"]

    def limit(self, seconds: float) -> None:
        self.limited_until = time.monotonic() + seconds

    def revoke(self) -> None:
        del self.tokens["ana-token-1"]

    def spoil(
        self,
        message_id: str,
        how: Callable[[Event], Event] = lambda event: event | {"origin_server_ts": "yesterday"},
    ) -> None:
        self._spoilt[self.native(message_id)] = how

    def pushes(self) -> Sequence[Push]:
        return ()

    # --- what happens in it

    def create_room(
        self, name: str, members: Sequence[str], direct: bool = False, **state: Any
    ) -> str:
        room_id = f"!room{next(self._numbers)}:here.example"
        self.add(room_id, "m.room.create", {}, members[0], state_key="")
        for who in members:
            content = {"membership": "join", "displayname": self.names.get(who)}
            self.add(room_id, "m.room.member", content, who, state_key=who)
        if name:
            self.add(room_id, "m.room.name", {"name": name}, members[0], state_key="")
        for kind, content in state.items():
            self.add(room_id, f"m.room.{kind}", content, members[0], state_key="")
        if direct:
            self.direct.setdefault(members[-1], []).append(room_id)
        return room_id

    def put(
        self,
        content: Event,
        sender: str = BEN,
        room: str = "",
        kind: str = "m.room.message",
        **more: Any,
    ) -> str:
        room_id = room or self.channel_id
        return f"{room_id}:{self.add(room_id, kind, content, sender, **more)['event_id']}"

    def add(self, room_id: str, kind: str, content: Event, sender: str, **more: Any) -> Event:
        with self._lock:
            event = {
                "event_id": f"$event{next(self._numbers)}",
                "type": kind,
                "room_id": room_id,
                "sender": sender,
                "origin_server_ts": int(time.time() * 1_000),
                "content": content,
                **more,
            }
            self.events.append(event)
            return event

    def event(self, event_id: str) -> Event:
        return next(event for event in self.events if event["event_id"] == event_id)

    def room_of(self, event_id: str) -> str:
        return str(self.event(event_id)["room_id"])

    @staticmethod
    def native(message_id: str) -> str:
        return message_id[message_id.index("$") :]

    # --- HTTP

    def application(self) -> Starlette:
        client, v1 = "/_matrix/client/v3", "/_matrix/client/v1"
        room = client + "/rooms/{room}"
        routes = [
            ("GET", "/_matrix/client/versions", self._versions, False),
            ("POST", client + "/login", self._login, False),
            ("GET", client + "/account/whoami", self._whoami, True),
            ("GET", client + "/joined_rooms", self._joined_rooms, True),
            ("GET", client + "/profile/{user}", self._profile, True),
            ("GET", client + "/sync", self._sync, True),
            ("GET", room + "/messages", self._messages, True),
            ("GET", room + "/event/{event}", self._event, True),
            ("GET", room + "/context/{event}", self._context, True),
            ("GET", room + "/state/m.room.encryption", self._encryption, True),
            ("PUT", room + "/send/m.room.message/{transaction}", self._send, True),
            ("GET", v1 + "/rooms/{room}/timestamp_to_event", self._timestamp, True),
            ("GET", v1 + "/media/download/{server}/{media}", self._media, True),
            ("GET", "/elsewhere/{media}", self._elsewhere, False),
        ]
        return Starlette(
            routes=[
                Route(path, self._guarded(endpoint, needs_token), methods=[method])
                for method, path, endpoint, needs_token in routes
            ]
        )

    def _guarded(self, endpoint: Callable[..., Any], needs_token: bool) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            body = await request.body()
            with self._lock:
                self.requests.append(f"{request.method} {request.url.path}")
                try:
                    left = self.limited_until - time.monotonic()
                    if left > 0 and self.limited_paths in request.url.path:
                        raise Refusal(429, "M_LIMIT_EXCEEDED", "", retry_after_ms=int(left * 1e3))
                    who = ("", "")
                    if needs_token:
                        given = request.headers.get("authorization", "")
                        who = self.tokens.get(given.removeprefix("Bearer "), who)
                        if not who[0]:
                            raise Refusal(401, "M_UNKNOWN_TOKEN", f"{given} is not known")
                    found = endpoint(request, who, json.loads(body) if body else {})
                except Refusal as refusal:
                    return refusal.answer
            return found if isinstance(found, Response) else JSONResponse(found)

        return answer

    def _versions(self, request: Request, who: Any, body: Any) -> Any:
        return {"versions": ["v1.11"]}

    def _login(self, request: Request, who: Any, body: Any) -> Any:
        user = body["identifier"]["user"]
        if self.passwords.get(user) != body["password"]:
            raise Refusal(403, "M_FORBIDDEN", "Invalid username or password")
        token = f"made-token-{next(self._numbers)}"
        self.tokens[token] = (user, f"DEVICE{next(self._numbers)}")
        return {"user_id": user, "access_token": token, "device_id": self.tokens[token][1]}

    def _whoami(self, request: Request, who: Any, body: Any) -> Any:
        return {"user_id": who[0], "device_id": who[1]}

    def _joined_rooms(self, request: Request, who: Any, body: Any) -> Any:
        return {"joined_rooms": self._rooms_of(who[0])}

    def _profile(self, request: Request, who: Any, body: Any) -> Any:
        return {"displayname": self.names[request.path_params["user"]]}

    def _encryption(self, request: Request, who: Any, body: Any) -> Any:
        state = self._state(self._joined(request, who))
        if ("m.room.encryption", "") not in state:
            raise Refusal(404, "M_NOT_FOUND", "Event not found.")
        return state["m.room.encryption", ""]["content"]

    def _sync(self, request: Request, who: Any, body: Any) -> Any:
        query = request.query_params
        wanted = json.loads(query["filter"])
        most = wanted["room"]["timeline"]["limit"]
        since = self._position(query["since"]) if "since" in query else 0
        if "since" in query and since < self.first_valid_token:
            raise Refusal(400, "M_UNKNOWN", "Invalid stream token")
        joined = {}
        for room_id in self._rooms_of(who[0]):
            all_events = [(n, e) for n, e in self._numbered(room_id) if n > since]
            if not all_events:
                continue
            # A room that was joined since is new to the client as a whole.
            joined_at = max(
                n
                for n, e in self._numbered(room_id)
                if e["type"] == "m.room.member" and e["state_key"] == who[0]
            )
            is_new = joined_at > since
            events = self._numbered(room_id) if is_new else all_events
            timeline = events[-most:]
            senders = {e["sender"] for _, e in timeline}
            before = [e for n, e in self._numbered(room_id) if n < timeline[0][0]]
            state = [
                e
                for (kind, key), e in self._state(room_id, before).items()
                if (is_new and kind != "m.room.member") or key in senders
            ]
            members = [k for (kind, k) in self._state(room_id) if kind == "m.room.member"]
            joined[room_id] = {
                "timeline": {
                    "events": [self._shown(e, who) for _, e in timeline],
                    "limited": len(timeline) < len(events),
                    "prev_batch": f"t{timeline[0][0] - 1}",
                },
                "state": {"events": [self._shown(e, who) for e in state]},
                "summary": {
                    "m.heroes": [m for m in members if m != who[0]][:5],
                    "m.joined_member_count": len(members),
                    "m.invited_member_count": 0,
                },
            }
        invited = {r: {"invite_state": {"events": [e]}} for r, e in self.invitations.items()}
        account_data = [{"type": "m.direct", "content": self.direct}] if self.direct else []
        return {
            "next_batch": f"s{len(self.events)}",
            "account_data": {"events": account_data},
            "rooms": {"join": joined, "invite": invited, "leave": {}},
        }

    def _messages(self, request: Request, who: Any, body: Any) -> Any:
        room_id = self._joined(request, who)
        query = request.query_params
        assert query["dir"] == "b"
        position = self._position(query["from"]) if "from" in query else len(self.events)
        events = [(n, e) for n, e in self._numbered(room_id) if n <= position]
        events = events[::-1][: int(query["limit"])]
        senders = {e["sender"] for _, e in events}
        state = [
            e for (k, s), e in self._state(room_id).items() if k == "m.room.member" and s in senders
        ]
        answer: Event = {
            "start": f"t{position}",
            "chunk": [self._shown(e, who) for _, e in events],
            "state": state,
        }
        if events and events[-1][1]["type"] != "m.room.create":
            answer["end"] = f"t{events[-1][0] - 1}"
        return answer

    def _event(self, request: Request, who: Any, body: Any) -> Any:
        self._joined(request, who)
        try:
            return self._shown(self.event(request.path_params["event"]), who)
        except StopIteration:
            raise Refusal(404, "M_NOT_FOUND", "Event not found.") from None

    def _context(self, request: Request, who: Any, body: Any) -> Any:
        room_id = self._joined(request, who)
        number = next(
            n for n, e in self._numbered(room_id) if e["event_id"] == request.path_params["event"]
        )
        return {"start": f"t{number - 1}", "end": f"t{number}"}

    def _timestamp(self, request: Request, who: Any, body: Any) -> Any:
        ts = int(request.query_params["ts"])
        assert request.query_params["dir"] == "b"
        events = [
            e for _, e in self._numbered(self._joined(request, who)) if e["origin_server_ts"] <= ts
        ]
        if not events:
            raise Refusal(404, "M_NOT_FOUND", "Unable to find event")
        return {"event_id": events[-1]["event_id"], "origin_server_ts": ts}

    def _send(self, request: Request, who: Any, body: Any) -> Any:
        room_id = self._joined(request, who)
        key = (who[1], request.path_params["transaction"])
        if key not in self.transactions:
            event = self.add(room_id, "m.room.message", body, who[0], transaction=key)
            self.transactions[key] = event["event_id"]
        status, self.next_send = self.next_send, 0
        if status:
            return JSONResponse({"errcode": "M_UNKNOWN", "error": "Internal server error"}, status)
        return {"event_id": self.transactions[key]}

    def _media(self, request: Request, who: Any, body: Any) -> Any:
        media = request.path_params["media"]
        if media not in self.media:
            raise Refusal(404, "M_NOT_FOUND", "Not found")
        if self.media_elsewhere:
            return RedirectResponse(f"{self.url}/elsewhere/{media}", 307)
        return Response(self.media[media], media_type="application/octet-stream")

    def _elsewhere(self, request: Request, who: Any, body: Any) -> Any:
        assert "authorization" not in request.headers
        return Response(self.media[request.path_params["media"]])

    # --- its state

    def _joined(self, request: Request, who: Any) -> str:
        room_id = str(request.path_params["room"])
        if room_id not in self._rooms_of(who[0]) or room_id in self.forbidden:
            raise Refusal(403, "M_FORBIDDEN", f"User {who[0]} not in room {room_id}")
        return room_id

    def _rooms_of(self, user: str) -> list[str]:
        rooms = dict.fromkeys(e["room_id"] for e in self.events)
        return [r for r in rooms if ("m.room.member", user) in self._state(r)]

    def _numbered(self, room_id: str) -> list[tuple[int, Event]]:
        return [(n, e) for n, e in enumerate(self.events, start=1) if e["room_id"] == room_id]

    def _state(
        self, room_id: str, events: Sequence[Event] | None = None
    ) -> dict[tuple[str, str], Event]:
        if events is None:
            events = [e for _, e in self._numbered(room_id)]
        return {(e["type"], e["state_key"]): e for e in events if "state_key" in e}

    @staticmethod
    def _position(token: str) -> int:
        return int(token[1:])

    def _shown(self, event: Event, who: tuple[str, str]) -> Event:
        """The event as this login is told it: bundled, or redacted."""
        shown = copy.deepcopy({k: v for k, v in event.items() if k != "transaction"})
        age = int(time.time() * 1_000) - event["origin_server_ts"]
        unsigned: Event = {"age": age}
        if event.get("transaction", ("", ""))[0] == who[1]:
            unsigned["transaction_id"] = event["transaction"][1]
        if redaction := shown.pop("redacted", None):
            shown["content"] = {}
            unsigned["redacted_because"] = self.event(redaction)
        elif edit := self._last_edit(event):
            unsigned["m.relations"] = {"m.replace": copy.deepcopy(edit)}
        shown["unsigned"] = unsigned
        return self._spoilt.get(event["event_id"], lambda given: given)(shown)

    def _last_edit(self, event: Event) -> Event | None:
        edits = [
            e
            for e in self.events
            if (e["content"].get("m.relates_to") or {}).get("rel_type") == "m.replace"
            and e["content"]["m.relates_to"]["event_id"] == event["event_id"]
            and e["sender"] == event["sender"]
            and "redacted" not in e
        ]
        return edits[-1] if edits else None
