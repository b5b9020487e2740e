"""A model's server on a socket: OpenAI's chat completions and Workers AI's `/ai/run`.

The shapes are those of `@cloudflare/workers-types` (`AiTextGenerationOutput`: `response`,
`usage`; the chat models' `choices`) inside the REST envelope `{"result", "success", "errors",
"messages"}`, and of OpenAI's API description. What it does not do as the services do: it checks
no schema by itself, counts tokens by characters, and is as clever as the test makes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

Json = dict[str, Any]


@dataclass
class Answered:
    """What the server answers to one call."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0  # seconds
    raw: bytes | None = None  # instead of a body
    cut: bool = False  # close the connection in the middle


@dataclass
class Call:
    path: str
    body: Json
    headers: dict[str, str]
    at: float  # time.time()

    @property
    def data(self) -> Json:
        """The JSON that the model is given as data."""
        found: Json = orjson.loads(self.body["messages"][-1]["content"])
        return found

    @property
    def schema(self) -> Json:
        given = self.body["response_format"]["json_schema"]
        found: Json = given.get("schema", given)
        return found


@dataclass
class ModelServer:
    url: str
    calls: list[Call] = field(default_factory=list)
    most_at_once: int = 0
    under_way: int = 0
    answer: Callable[[Call], Answered | Json] = lambda call: Answered(500)

    @property
    def bodies(self) -> list[Json]:
        return [call.body for call in self.calls]


def chat_completion(value: Any, tokens: tuple[int, int] = (100, 20)) -> Json:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "double",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
            }
        ],
        "usage": {
            "prompt_tokens": tokens[0],
            "completion_tokens": tokens[1],
            "total_tokens": sum(tokens),
        },
    }


def workers_result(value: Any, tokens: tuple[int, int] = (100, 20)) -> Json:
    """The older models' shape: the object itself under `response`."""
    usage = {
        "prompt_tokens": tokens[0],
        "completion_tokens": tokens[1],
        "total_tokens": sum(tokens),
    }
    result = {"response": value, "usage": usage, "tool_calls": []}
    return {"result": result, "success": True, "errors": [], "messages": []}


def workers_error(status: int, code: int, message: str, **headers: str) -> Answered:
    body = {
        "result": None,
        "success": False,
        "errors": [{"code": code, "message": message}],
        "messages": [],
    }
    return Answered(status, body, {k.replace("_", "-"): v for k, v in headers.items()})


def analysis_of(data: Json, **changes: Any) -> Json:
    """A valid analysis of what the model was shown: the last question of somebody else waits."""
    messages = data["messages"]
    waiting = [m["n"] for m in messages if not m["me"] and "?" in m["text"]]
    answer = {
        "language": "en",
        "category": "question",
        "category_reason": "the double says so",
        "priority": 61,
        "priority_reasons": ["the double says so"],
        "needs_reply": bool(waiting),
        "needs_reply_score": 0.9 if waiting else 0.1,
        "needs_reply_reason": "a question is open" if waiting else "nothing is open",
        "waiting_for": waiting[-1] if waiting else None,
        "summary": f"Summary of {len(messages)} messages.",
        "summary_rests_on": [messages[-1]["n"]],
        "sentiment": 0.0,
        "confidence": 0.8,
    }
    return answer | changes


def reply_of(data: Json, **changes: Any) -> Json:
    """A valid reply to what the model was shown."""
    last = data["messages"][-1]
    answer = {
        "outcome": "ready",
        "text": f"Thanks {last['from']}, noted.",
        "language": "en",
        "rests_on": [last["n"]],
        "used_memories": [],
        "reason": "the double says so",
        "confidence": 0.7,
    }
    return answer | changes


def sensible(call: Call) -> Json:
    """The right kind of answer to each of our questions, in OpenAI's shape."""
    wanted = call.schema.get("properties", {})
    if "category" in wanted:
        return chat_completion(analysis_of(call.data))
    if "used_memories" in wanted:
        return chat_completion(reply_of(call.data))
    held = call.data.get("messages") or call.data.get("earlier")
    return chat_completion({"summary": f"{len(held or [])} older parts."})


@contextmanager
def model_server(
    answer: Callable[[Call], Answered | Json] = sensible,
) -> Iterator[ModelServer]:
    """A server on a free port of the loopback."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            began = time.time()
            body = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            call = Call(self.path, body, headers, began)
            with lock:
                server.calls.append(call)
                server.under_way += 1
                server.most_at_once = max(server.most_at_once, server.under_way)
            try:
                found = server.answer(call)
                answered = found if isinstance(found, Answered) else Answered(200, found)
                time.sleep(answered.delay)
                content = answered.raw if answered.raw is not None else orjson.dumps(answered.body)
            finally:
                with lock:
                    server.under_way -= 1
            self.send_response(answered.status)
            for name, value in answered.headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content) + 10 * answered.cut))
            self.end_headers()
            try:
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):  # whoever asked has given up
                return
            if answered.cut:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server = ModelServer(f"http://127.0.0.1:{httpd.server_address[1]}", answer=answer)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
