"""A small Bot API server on a real socket: a bot, its chats, updates, webhooks, limits.

Its answers follow https://core.telegram.org/bots/api (getUpdates, setWebhook, getWebhookInfo,
getMe, getChat, sendMessage, getFile) and the errors that it shows in practice (read 2026-11). It
differs from the service: `pushes` hands out what a webhook would be sent, whether one is set or
not; updates do not expire; it has no channels of its own; texts are not parsed; every chat exists
from the start; another program's getUpdates is played by `other_poller`.
"""

from __future__ import annotations

import itertools
import json
import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from communicator_pipeline.platforms.protocol import Push
from communicator_pipeline.platforms.telegram.bot_api import HEADER

TOKEN = "424242:AAE-the_bots_very-secret_token"
SECRET = "the-webhooks_secret-1234"
BOT, MAYA, GROUP, FORUM = 424242, 7, -55, -1000000000888

JsonObject = dict[str, Any]


class Refusal(Exception):
    def __init__(self, status: int, words: str, **parameters: Any) -> None:
        self.status = status
        said: JsonObject = {"ok": False, "error_code": status, "description": words}
        if parameters:
            said["parameters"] = parameters
        self.answer = JSONResponse(said, status)


class BotApiServer:
    """The service; as a context manager it listens. It is the contract's `Peer`, too: Maya
    writes to the bot."""

    channel_id = str(MAYA)

    def __init__(self) -> None:
        self.tokens = {TOKEN}
        self.reads_groups = False
        self.updates: list[JsonObject] = []
        self.messages: dict[tuple[int, int], JsonObject] = {}
        self.sent: list[JsonObject] = []  # what the bot wrote: its requests
        self.chats: dict[int, JsonObject] = {
            MAYA: {"id": MAYA, "type": "private", "first_name": "Maya", "last_name": "Ito"},
            GROUP: {"id": GROUP, "type": "group", "title": "Harbour"},
            FORUM: {"id": FORUM, "type": "supergroup", "title": "Forum", "is_forum": True},
        }
        self.blocked: set[int] = set()
        self.webhook: JsonObject = {"url": "", "pending_update_count": 0}
        self.other_poller = False
        self.files: dict[str, bytes] = {}
        self.calls: list[tuple[str, JsonObject]] = []
        self.answers_once: list[Response] = []  # instead of the true one
        self.limited_until = 0.0
        self._numbers = itertools.count(1)
        self._update_numbers = itertools.count(9001)
        self._clock = int(time.time()) - 60
        self.url = ""

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
        self._server.should_exit = True  # it ends by itself within a tenth of a second

    # --- Peer

    @property
    def values(self) -> Mapping[str, str]:
        return {
            "kind": "bot",
            "bot_token": TOKEN,
            "webhook_secret": SECRET,
            "base_url": self.url,
        }

    def say(self, text: str, thread: str | None = None, chat: int = MAYA, **more: Any) -> str:
        if thread is not None:
            more["reply_to_message"] = self.messages[chat, int(thread.split(":")[1])]
        message = self._message(chat, text=text, **more)
        self._tell("message", message)
        return f"{abs(chat)}:{message['message_id']}"

    def edit(self, message_id: str, text: str) -> None:
        message = self.messages[MAYA, int(message_id.split(":")[1])]
        message |= {"text": text, "edit_date": self._tick()}
        self._tell("edited_message", message)

    def delete(self, message_id: str) -> None:
        del self.messages[MAYA, int(message_id.split(":")[1])]

    def limit(self, seconds: float) -> None:
        self.limited_until = time.monotonic() + seconds

    def revoke(self) -> None:
        self.tokens.clear()

    def spoil(self, message_id: str) -> None:
        native = int(message_id.split(":")[1])
        for update in self.updates:
            if update["message"]["message_id"] == native:
                update["message"]["date"] = "yesterday"

    def pushes(self) -> Sequence[Push]:
        bodies = [json.dumps(update, ensure_ascii=False).encode() for update in self.updates]
        self.updates.clear()
        headers = {"content-type": "application/json", HEADER: SECRET}
        return [Push("POST", headers, {}, body) for body in bodies]

    # --- what happens

    def _tick(self) -> int:
        self._clock += 1
        return self._clock

    def _message(self, chat: int, **fields: Any) -> JsonObject:
        message = {
            "message_id": next(self._numbers),
            "from": {"id": MAYA, "is_bot": False, "first_name": "Maya", "last_name": "Ito"},
            "chat": self.chats[chat],
            "date": self._tick(),
            **fields,
        }
        self.messages[chat, message["message_id"]] = message
        return message

    def _tell(self, kind: str, content: JsonObject) -> None:
        told = json.loads(json.dumps(content))
        self.updates.append({"update_id": next(self._update_numbers), kind: told})

    # --- answering

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/bot{token}/{method}", self._answer, methods=["GET", "POST"]),
                Route("/file/bot{token}/{path:path}", self._file),
            ]
        )

    async def _answer(self, request: Request) -> Response:
        token, method = request.path_params["token"], request.path_params["method"]
        body = await request.body()
        given = json.loads(body) if body else {}
        self.calls.append((method, given))
        try:
            if token not in self.tokens:
                raise Refusal(401, "Unauthorized")
            if (left := self.limited_until - time.monotonic()) > 0:
                seconds = math.ceil(left)
                words = f"Too Many Requests: retry after {seconds}"
                raise Refusal(429, words, retry_after=seconds)
            if self.answers_once:
                return self.answers_once.pop(0)
            handler = getattr(self, "_" + method, None)
            if handler is None:
                raise Refusal(404, "Not Found")
            return JSONResponse({"ok": True, "result": handler(given)})
        except Refusal as refusal:
            return refusal.answer

    async def _file(self, request: Request) -> Response:
        path = request.path_params["path"]
        if request.path_params["token"] not in self.tokens or path not in self.files:
            return JSONResponse({"ok": False, "error_code": 404, "description": "Not Found"}, 404)
        return Response(self.files[path])

    def _getMe(self, given: JsonObject) -> JsonObject:
        return {
            "id": BOT,
            "is_bot": True,
            "first_name": "Helper",
            "username": "helper_bot",
            "can_read_all_group_messages": self.reads_groups,
        }

    def _getUpdates(self, given: JsonObject) -> list[JsonObject]:
        if self.webhook["url"]:
            raise Refusal(
                409,
                "Conflict: can't use getUpdates method while webhook is active; "
                "use deleteWebhook to delete the webhook first",
            )
        if self.other_poller:
            raise Refusal(
                409,
                "Conflict: terminated by other getUpdates request; make sure that only one bot "
                "instance is running",
            )
        offset = given.get("offset", 0)
        self.updates = [u for u in self.updates if u["update_id"] >= offset]
        return self.updates[: given.get("limit", 100)]

    def _setWebhook(self, given: JsonObject) -> bool:
        self.webhook = {**given, "pending_update_count": 0}
        return True

    def _getWebhookInfo(self, given: JsonObject) -> JsonObject:
        return {key: value for key, value in self.webhook.items() if key != "secret_token"}

    def _getChat(self, given: JsonObject) -> JsonObject:
        if given["chat_id"] not in self.chats:
            raise Refusal(400, "Bad Request: chat not found")
        return self.chats[given["chat_id"]]

    def _sendMessage(self, given: JsonObject) -> JsonObject:
        chat = given["chat_id"]
        if chat in self.blocked:
            raise Refusal(403, "Forbidden: bot was blocked by the user")
        if not given["text"].strip():
            raise Refusal(400, "Bad Request: message text is empty")
        answered = (given.get("reply_parameters") or {}).get("message_id")
        if answered is not None and (chat, answered) not in self.messages:
            raise Refusal(400, "Bad Request: message to be replied not found")
        self.sent.append(given)
        return self._message(
            chat,
            text=given["text"],
            **{"from": {"id": BOT, "is_bot": True, "first_name": "Helper"}},
        ) | {"date": int(time.time())}

    def _getFile(self, given: JsonObject) -> JsonObject:
        name = given["file_id"]
        if name == "huge":
            raise Refusal(400, "Bad Request: file is too big")
        path = f"documents/{name}"
        if path not in self.files:
            raise Refusal(400, "Bad Request: invalid file_id")
        return {"file_id": name, "file_size": len(self.files[path]), "file_path": path}
