"""X: every request that we make, held against X's own API descriptions by Prism.

One description is from before the fields' renaming (2.157), one from after it (2.167). Prism
refuses with 422 what the description does not allow. It answers with made-up examples and keeps no
state, so nothing is said here about what comes back: that is `platforms/test_x_live.py`'s. It does
not look at parameters that the description does not know: those are looked at here. It does not
know OAuth 1.0a (the HTTP scheme `OAuth`) either, and would refuse it: it is given a copy that
takes any `Authorization`. Signatures are checked by the server of `platforms/x_server.py`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from communicator_pipeline.platforms.protocol import (
    Chats,
    Connection,
    Part,
    PlatformError,
    PullRequest,
    Target,
    Window,
)
from communicator_pipeline.platforms.x.live import XLive
from communicator_pipeline_tests.peers.node import needs_peers, node_program
from communicator_pipeline_tests.platforms.x_server import KEYS

pytestmark = pytest.mark.peers

DESCRIPTIONS = Path(__file__).parents[3] / "shared"
ME = "2244994945"
TALK = "123123123-456456456"
POST = "1346889436626259968"


class Prism:
    def __init__(self, url: str, description: dict[str, Any], spelling: str) -> None:
        self.url, self.description, self.spelling = url, description, spelling
        self.answers: list[tuple[httpx.Request, httpx.Response]] = []

    def parameters(self, path: str) -> set[str]:
        """The names of the parameters that the description knows for a GET."""
        known = self.description["components"]["parameters"]
        listed = self.description["paths"][path]["get"]["parameters"]
        return {(known[p["$ref"].rsplit("/", 1)[1]] if "$ref" in p else p)["name"] for p in listed}


@pytest.fixture(scope="module", params=[("2.157", "tweet"), ("2.167", "post")], ids=str)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prism]:
    needs_peers()
    version, spelling = request.param
    file = DESCRIPTIONS / f"x-openapi-{version}.json"
    if not file.exists():
        pytest.skip(f"X's API description is not there: {file.name}, beside the checkout in shared")
    program = "node_modules/@stoplight/prism-cli/dist/index.js"
    description = json.loads(file.read_bytes())
    any_header = {"type": "apiKey", "in": "header", "name": "Authorization"}
    description["components"]["securitySchemes"]["UserToken"] = any_header
    copied = tmp_path_factory.mktemp("x") / file.name
    copied.write_text(json.dumps(description))
    command = [program, "mock", "-h", "127.0.0.1", "-p", "{port}", str(copied)]
    with node_program(command, ready="/2/users/me") as url:
        yield Prism(url, description, spelling)


@pytest.fixture
def prism(running: Prism, monkeypatch: pytest.MonkeyPatch) -> Prism:
    running.answers.clear()
    send = httpx.Client.send

    def noted(self: httpx.Client, request: httpx.Request, **more: Any) -> httpx.Response:
        answer = send(self, request, **more)
        running.answers.append((request, answer))
        return answer

    monkeypatch.setattr(httpx.Client, "send", noted)
    return running


def pull(prism: Prism, cursors: dict[str, str], window: Window | None = None) -> None:
    now = datetime.now(UTC)
    cursors = {"fields": prism.spelling, **cursors}
    asked = PullRequest(now, now - timedelta(days=3), window, cursors, Chats(), {}, None)
    # The examples name the same next page for ever, or none.
    with XLive().connect(connection(prism)) as client, suppress(PlatformError):
        for _ in itertools.islice(client.pull(asked), 60):
            pass


def connection(prism: Prism) -> Connection:
    settings = {"base_url": prism.url, "search": "ferry -is:retweet"}
    return Connection("ana-x", frozenset([ME]), settings, KEYS)


def hold(prism: Prism, *paths: str) -> None:
    """Everything asked was allowed, and these were among it."""
    for request, answer in prism.answers:
        assert answer.status_code in (200, 201), (str(request.url), answer.text[:2_000])
    asked = {request.url.path for request, _ in prism.answers}
    assert set(paths) <= asked
    for request, _ in prism.answers:
        if request.method == "GET":
            template = request.url.path.replace(f"/users/{ME}/", "/users/{id}/")
            assert set(request.url.params) <= prism.parameters(template)


STREAMS = (
    f"/2/users/{ME}/mentions",
    f"/2/users/{ME}/tweets",
    "/2/dm_events",
    "/2/tweets/search/recent",
)


def test_the_login_asks_what_x_allows(prism: Prism) -> None:
    # In one of the examples the owner's id is the word "string", which ours does not believe.
    with XLive().connect(connection(prism)) as client, suppress(PlatformError):
        client.identity()
    hold(prism, "/2/users/me")


def test_a_first_pull_asks_what_x_allows(prism: Prism) -> None:
    pull(prism, {})
    hold(prism, *STREAMS)


def test_a_later_pull_and_its_pages_ask_what_x_allows(prism: Prism) -> None:
    left = json.dumps(["7140dibdnow9c7btw423x78bc9zj2", POST, POST, 0])
    names = ("mentions", "posts", "dms", "search")
    pull(prism, {**dict.fromkeys(names, POST), **{f"{name}:pages": left for name in names}})
    hold(prism, *STREAMS)
    queries = [request.url.params for request, _ in prism.answers]
    assert any("since_id" in query for query in queries)
    assert any("pagination_token" in query for query in queries)


def test_a_window_of_history_asks_what_x_allows(prism: Prism) -> None:
    now = datetime.now(UTC)
    pull(prism, {}, Window(now - timedelta(days=6), now - timedelta(days=2)))
    hold(prism, *STREAMS)
    assert any("end_time" in request.url.params for request, _ in prism.answers)


def test_sends_and_looks_for_them_ask_what_x_allows(prism: Prism) -> None:
    began = datetime.now(UTC)
    with XLive().connect(connection(prism)) as client:
        for target in (Target("feed"), Target("feed", reply_to=f"feed:{POST}"), Target(TALK)):
            client.send(target, Part("Thanks, see https://example.com"), "token-1")
    hold(prism, "/2/tweets", f"/2/dm_conversations/{TALK}/messages")
    prism.answers.clear()
    with XLive().connect(connection(prism)) as client:
        for target in (Target("feed"), Target(TALK)):
            client.find_sent(target, Part("Thanks"), "token-1", began)
    # It begins with the newer spelling, and what X refuses is asked in the older one.
    if prism.spelling == "tweet":
        prism.answers = [
            answer for answer in prism.answers if "post.fields" not in str(answer[0].url)
        ]
    hold(prism)


def test_prism_refuses_what_x_would(prism: Prism) -> None:
    """Else the tests above hold nothing."""
    pull(prism, {})
    request = next(r for r, _ in prism.answers if r.url.path.endswith("/mentions"))
    for wrong in ({"max_results": "4"}, {"expansions": "referenced_things"}, {"since_id": "x"}):
        answer = httpx.get(request.url.copy_merge_params(wrong), headers=request.headers)
        assert answer.status_code == 422, wrong
