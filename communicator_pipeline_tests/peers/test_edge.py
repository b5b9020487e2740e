"""The edge Worker in workerd, over HTTP: the push vectors, the queue, and D1's request shape.

What differs from Cloudflare: see `workerd.py`. The queue is looked at by a consumer that
`edge_with_consumer.ts` adds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloudflare import BadRequestError, Cloudflare, PermissionDeniedError
from cloudflare.types.d1.database_query_params import MultipleQueriesBatch
from cryptography.fernet import Fernet

from communicator_pipeline.storage import open_local
from communicator_pipeline.storage.credentials import KEYS_VARIABLE
from communicator_pipeline.storage.database import (
    DatabaseFailed,
    Row,
    Statement,
    Value,
    from_utc_text,
    migrate,
)
from communicator_pipeline_tests.peers.node import FOLDER, NODE, needs_peers
from communicator_pipeline_tests.peers.workerd import EDGE, KEYS, MODULES, TOKEN, Workerd, workerd
from communicator_pipeline_tests.platforms.push_vectors import (
    OTHER,
    REFUSED,
    Vector,
    account_of,
    add_accounts,
    connections,
    path_of,
    request_of,
    vectors,
)

pytestmark = pytest.mark.peers

ENTRY = FOLDER / "edge_with_consumer.ts"
CONSUMED = {
    "queues": {
        "producers": [{"binding": "INGESTION", "queue": "communicator-ingestion"}],
        "consumers": [
            {"queue": "communicator-ingestion", "max_batch_size": 100, "max_batch_timeout": 0}
        ],
    }
}
PUSH_KEY = "a-made-up-push-key-of-the-tests"
BEARER = {"authorization": f"Bearer {PUSH_KEY}"}


class Edge:
    """A running Worker; for `migrate`, a database as well."""

    def __init__(self, peer: Workerd, http: httpx.Client) -> None:
        self.peer = peer
        self.http = http

    def ask(self, shape: str, body: Any, token: str = TOKEN) -> httpx.Response:
        """Put statements to the database."""
        headers = {"authorization": f"Bearer {token}"}
        return self.http.post(f"{self.peer.d1_url}/{shape}", json=body, headers=headers)

    def execute(self, sql: str, params: Sequence[Value] = ()) -> list[Row]:
        return self.batch([(sql, params)])[0]

    def batch(self, statements: Sequence[Statement]) -> list[list[Row]]:
        answer = self.ask("query", {"batch": [{"sql": s, "params": [*p]} for s, p in statements]})
        if answer.status_code != 200:
            raise DatabaseFailed(answer.text)
        return [one["results"] for one in answer.json()["result"]]

    def push(
        self, body: bytes, account: str = OTHER, headers: Mapping[str, str] = BEARER
    ) -> httpx.Response:
        """Push to an account of the platform `generic`."""
        return self.http.post(f"/push/generic/{account}", content=body, headers=headers)

    def consumed(self, accounts: Sequence[str], most: int) -> list[dict[str, Any]]:
        """What was queued for these accounts, as soon as it is so much."""
        until = time.monotonic() + 30
        while True:
            found = [m for m in self.http.get("/consumed").json() if m["account"] in accounts]
            if len(found) >= most or time.monotonic() > until:
                return found
            time.sleep(0.1)


@contextmanager
def running(folder: Path, **how: Any) -> Iterator[Edge]:
    """A Worker of its own, with the consumer."""
    changed = {**CONSUMED, **how.pop("changed", {})}
    with (
        workerd(folder, ENTRY, changed, **how) as peer,
        httpx.Client(base_url=peer.url, timeout=30) as http,
    ):
        yield Edge(peer, http)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """A Worker with the schema, and the accounts of the vectors."""
    needs_peers()
    folder = tmp_path_factory.mktemp("edge")
    with running(folder / "workerd") as found:
        fill(found, folder)
        yield found


def fill(edge: Edge, folder: Path) -> None:
    """Migrate, and copy accounts over that the project's own code made."""
    local = open_local(folder / "home")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(KEYS_VARIABLE, ",".join(KEYS))
        add_accounts(local)
    migrate(edge)
    for table in ("users", "accounts", "account_members", "connections"):
        rows = local.database.execute(f"SELECT * FROM {table}")
        names = list(rows[0])
        carried = ", ".join(f"value ->> '{name}'" for name in names)
        insert = f"INSERT INTO {table} ({', '.join(names)}) SELECT {carried} FROM json_each(?1)"
        edge.execute(insert, [json.dumps(rows)])


# --- pushes


def test_every_vector_is_answered_as_the_gateway_answers_it(edge: Edge) -> None:
    wrong, queued = [], Counter[tuple[str, ...]]()
    for vector in vectors():
        answer, account = _put(edge, vector), account_of(vector["connection"])
        expected = vector["expected"]
        if "key" in expected:
            body = request_of(vector, 0).body.decode()
            platform = connections()[vector["connection"]]["platform"]
            queued[account, platform, expected["key"], body] += 1
        status, said = expected.get("status", 200), expected.get("body", "{}")
        if status == 401:
            said = REFUSED
        if (answer.status_code, answer.text) != (status, said):
            wrong.append((vector["name"], answer.status_code, answer.text[:80]))
    assert wrong == []
    accounts = [account_of(name) for name in connections()]
    messages = edge.consumed(accounts, queued.total())
    assert Counter(map(_told, (_whole(edge, message) for message in messages))) == queued
    output = edge.peer.output.read_text()
    assert "POST /push/slack/ana-slack" in output
    for connection in connections().values():
        assert not any(secret and secret in output for secret in connection["secrets"].values())
    assert "2244994945" not in output
    assert "Ev1" not in output
    assert PUSH_KEY not in output


def _put(edge: Edge, vector: Vector) -> httpx.Response:
    request = request_of(vector, time.time())
    return edge.http.request(
        request.method,
        path_of(vector),
        params=httpx.QueryParams(request.query),
        headers=[(name.encode(), value) for name, value in request.headers.items()],
        content=request.body or None,
    )


def _whole(edge: Edge, message: dict[str, Any]) -> dict[str, Any]:
    """The message with its body, wherever that lies."""
    if "parked" not in message:
        return message
    assert "body" not in message
    return {**message, "body": edge.http.get("/" + message["parked"]).content.decode()}


def _told(message: Mapping[str, Any]) -> tuple[str, ...]:
    return message["account"], message["platform"], message["key"], message["body"]


def test_what_is_queued_is_what_was_pushed(edge: Edge) -> None:
    body = '{"text": "what is queued \u0000 ü👋"}\r\n'.encode()
    before = datetime.now(UTC) - timedelta(seconds=1)

    assert edge.push(body).json() == {}

    key = hashlib.sha256(body).hexdigest()
    found = [m for m in _until(edge, key) if m["key"] == key]
    assert len(found) == 1
    assert set(found[0]) == {"account", "platform", "key", "body", "received_at"}
    assert _told(found[0]) == (OTHER, "generic", key, body.decode())
    assert before < from_utc_text(found[0]["received_at"]) < datetime.now(UTC)


def _until(edge: Edge, key: str) -> list[dict[str, Any]]:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found = edge.consumed([OTHER], 1)
        if any(message["key"] == key for message in found):
            return found
    raise AssertionError("it did not come out of the queue")


@pytest.mark.parametrize(
    ("text", "is_parked"),
    [("x" * 99_000, False), ("x" * 100_001, True), ("\n" * 60_000, True), ("ü" * 51_000, True)],
    ids=["fits", "too long", "too long once escaped", "too many bytes"],
)
def test_what_the_queue_does_not_take_is_parked(edge: Edge, text: str, is_parked: bool) -> None:
    assert edge.push(text.encode()).status_code == 200

    key = hashlib.sha256(text.encode()).hexdigest()
    message = next(m for m in _until(edge, key) if m["key"] == key)
    assert ("parked" in message) == is_parked
    assert _whole(edge, message)["body"] == text
    if is_parked:
        day = f"{datetime.now(UTC):%Y-%m-%d}"
        assert re.fullmatch(rf"parked/{day}/[0-9a-f-]{{36}}", message["parked"])


def through_the_proxy(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """The Worker's own answer: wrangler's proxy says 500 now and then if the Worker answers before
    it has read a large body."""
    for _ in range(10):
        answer = ask()
        if answer.status_code != 500:
            break
    return answer


def test_no_more_than_a_megabyte_is_taken(edge: Edge) -> None:
    largest = 2**20

    def in_pieces() -> Iterator[bytes]:
        for _ in range(largest // 2**16 + 1):
            yield b"x" * 2**16

    def in_one_piece(account: str = OTHER) -> httpx.Response:
        return edge.push(b"x" * (largest + 1), account)

    def streamed() -> httpx.Response:
        return edge.http.post(f"/push/generic/{OTHER}", content=in_pieces(), headers=BEARER)

    assert through_the_proxy(in_one_piece).status_code == 413
    assert through_the_proxy(streamed).status_code == 413
    assert through_the_proxy(lambda: in_one_piece("nobody")).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/push/generic/nobody",
        "/push/generic/ana-not-connected",
        "/push/slack/ana-other",  # an account of another platform
        "/push/generic/ana-matrix",  # so is this, though it has the key
        "/push/nothing/ana-other",
        "/push/text_log/ana-other",
        "/push/constructor/ana-other",
        "/push/generic/ANA-OTHER",
        "/push/generic/ana-other%00",
        "/push/generic/ana-other%0A",
        "/push/generic/..%2Fana-other",
        "/push/generic/%FF",
        "/push/generic/'%20OR%201=1--",
        "/push/generic/" + "a" * 64,
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_whoever_is_not_known_learns_nothing(edge: Edge, method: str, path: str) -> None:
    answer = edge.http.request(method, path, headers=BEARER)

    assert (answer.status_code, answer.text) == (401, REFUSED)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_only_get_and_post_are_taken(edge: Edge, method: str) -> None:
    answer = edge.http.request(method, f"/push/generic/{OTHER}", headers=BEARER)

    assert answer.status_code == 405


def test_many_at_once_are_all_queued(edge: Edge) -> None:
    bodies = [f"many at once {number}".encode() for number in range(300)]

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(edge.push, bodies))

    assert {answer.status_code for answer in answers} == {200}
    until = time.monotonic() + 30
    expected = {body.decode() for body in bodies}
    while time.monotonic() < until:
        found = Counter(m.get("body", "") for m in edge.consumed([OTHER], len(bodies)))
        if expected <= set(found):
            break
    assert {body: found[body] for body in expected} == dict.fromkeys(expected, 1)


def test_a_new_secret_counts_after_seconds(edge: Edge) -> None:
    account = account_of("telegram bot")
    header = {"x-telegram-bot-api-secret-token": "another-made-up-secret-0001"}
    body = b'{"update_id": 1}'

    def statuses(secret: Mapping[str, str]) -> int:
        url = f"/push/telegram/{account}"
        return edge.http.post(url, content=body, headers=secret).status_code

    old = {"x-telegram-bot-api-secret-token": "made-up_Secret-0123456789"}
    assert statuses(old) == 200
    before = edge.execute("SELECT secrets FROM connections WHERE account = ?1", [account])
    sealed = Fernet(KEYS[1]).encrypt(
        json.dumps({"webhook_secret": header["x-telegram-bot-api-secret-token"]}).encode()
    )
    update = "UPDATE connections SET secrets = ?1 WHERE account = ?2"
    edge.execute(update, [sealed.decode(), account])  # under the older key, which still opens
    try:
        until = time.monotonic() + 8
        while statuses(header) != 200:
            assert time.monotonic() < until
            time.sleep(0.2)
        assert statuses(old) == 401
    finally:
        edge.execute(update, [before[0]["secrets"], account])
        time.sleep(5.1)


def test_a_fault_of_ours_asks_for_the_push_again(tmp_path: Path) -> None:
    needs_peers()
    unavailable = (503, '{"error": "not now: push it again"}')

    def answer_of(edge: Edge) -> tuple[int, str]:
        answer = edge.push(b"x")
        return answer.status_code, answer.text

    with running(tmp_path / "workerd") as edge:
        assert answer_of(edge) == unavailable  # there are no tables
        fill(edge, tmp_path)
        assert answer_of(edge) == (200, "{}")
    for keys in ("", KEYS[1]):
        with running(tmp_path / "workerd", secrets={"COMMUNICATOR_KEYS": keys}) as edge:
            assert answer_of(edge) == unavailable
    with running(
        tmp_path / "workerd", secrets={"COMMUNICATOR_KEYS": f"{KEYS[1]}, {KEYS[0]}"}
    ) as edge:
        assert answer_of(edge) == (200, "{}")


def test_who_pushes_too_much_is_put_off(tmp_path: Path) -> None:
    needs_peers()
    limit = {"name": "PUSH_LIMIT", "namespace_id": "1", "simple": {"limit": 20, "period": 60}}
    with running(tmp_path / "workerd", changed={"ratelimits": [limit]}) as edge:
        fill(edge, tmp_path)

        # A minute may begin in between, once.
        answers = [edge.push(b"%d" % number) for number in range(45)]

        statuses = Counter(answer.status_code for answer in answers)
        assert statuses[429] >= 5
        assert statuses[200] >= 20
        assert statuses.total() == 45
        late = next(answer for answer in answers if answer.status_code == 429)
        assert late.headers["retry-after"] == "60"
        assert edge.push(b"x", account_of("generic")).status_code == 200
        elsewhere = {**BEARER, "cf-connecting-ip": "192.0.2.7"}
        assert edge.push(b"x", headers=elsewhere).status_code == 200
        taken = edge.consumed([OTHER], statuses[200] + 1)
        assert len(taken) == statuses[200] + 1


def test_what_was_acknowledged_outlives_the_process(tmp_path: Path) -> None:
    needs_peers()
    bodies = [b"small", b"large" * 30_000]
    with running(tmp_path / "workerd") as edge:
        fill(edge, tmp_path)
        assert [edge.push(body).status_code for body in bodies] == [200, 200]
        edge.consumed([OTHER], 2)
        os.killpg(edge.peer.pid, signal.SIGKILL)
    with running(tmp_path / "workerd") as edge:
        found = sorted(_whole(edge, m)["body"] for m in edge.consumed([OTHER], 2))
        assert found == sorted(body.decode() for body in bodies)
        assert edge.push(b"again").status_code == 200


# --- the database


@pytest.fixture
def table(edge: Edge) -> Iterator[str]:
    """An empty table of two columns, `a` unique."""
    edge.execute("CREATE TABLE tried (a TEXT PRIMARY KEY, b)")
    yield "tried"
    edge.execute("DROP TABLE tried")


def test_query_and_raw_have_the_shapes_of_the_rest_api(edge: Edge, table: str) -> None:
    sql = f"INSERT INTO {table} VALUES (?1, ?2), ('b', NULL), ('c', x'00ff'), ('d', 1.5)"
    wrote = edge.ask("query", {"sql": sql, "params": ["a'ü👋", "7"]}).json()
    assert wrote["success"] is True
    assert wrote["errors"] == []
    assert wrote["messages"] == []
    assert wrote["result"][0]["success"] is True
    assert wrote["result"][0]["results"] == []
    assert wrote["result"][0]["meta"]["rows_written"] >= 4
    assert wrote["result"][0]["meta"]["changes"] == 4

    select = {"sql": f"SELECT a, b FROM {table} ORDER BY a"}
    (queried,) = edge.ask("query", select).json()["result"]
    (raw,) = edge.ask("raw", select).json()["result"]

    values: list[list[Any]] = [["a'ü👋", "7"], ["b", None], ["c", [0, 255]], ["d", 1.5]]
    assert queried["results"] == [{"a": a, "b": b} for a, b in values]
    assert raw["results"] == {"columns": ["a", "b"], "rows": values}
    assert raw["success"] is True
    assert raw["meta"]["rows_read"] >= 4
    assert raw["meta"]["duration"] >= 0


def test_the_official_client_finds_what_it_expects(edge: Edge, table: str) -> None:
    client = Cloudflare(api_token=TOKEN, base_url=edge.peer.api_url, max_retries=0)
    stranger = client.with_options(api_token="not-it")
    database, account = edge.peer.database_id, edge.peer.account_id
    batch: list[MultipleQueriesBatch] = [
        {"sql": f"INSERT INTO {table} VALUES (?1, ?2)", "params": ["1", "2"]},
        {"sql": f"SELECT * FROM {table}"},
    ]

    wrote, read = client.d1.database.raw(database, account_id=account, batch=batch).result

    assert wrote.meta is not None
    assert wrote.meta.changes == 1
    assert read.results is not None
    assert (read.results.columns, read.results.rows) == (["a", "b"], [["1", "2"]])
    with pytest.raises(BadRequestError, match=r"UNIQUE constraint failed: tried\.a"):
        client.d1.database.query(database, account_id=account, batch=batch)
    with pytest.raises(PermissionDeniedError):
        stranger.d1.database.raw(database, account_id=account, sql="SELECT 1")


def test_a_batch_is_one_transaction(edge: Edge, table: str) -> None:
    insert = f"INSERT INTO {table} (a) VALUES (?1)"
    batch = [{"sql": insert, "params": [name]} for name in ("x", "y", "x", "z")]

    answer = edge.ask("query", {"batch": batch})

    assert answer.status_code == 400
    told = answer.json()
    assert told["success"] is False
    assert told["result"] is None
    assert told["errors"][0]["code"] == 7500
    assert told["errors"][0]["message"].startswith(
        "UNIQUE constraint failed: tried.a: SQLITE_CONSTRAINT"
    )
    assert edge.execute(f"SELECT * FROM {table}") == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELEC 1",
        "SELECT * FROM nowhere",
        "SELECT nothing",
        "BEGIN",
        "ATTACH 'x' AS y",
        "SELECT ?1",
        "SELECT ?1 -- " + "x" * 100_001,
        "",
        "-- nothing",
        "SELECT abs(-9223372036854775808)",
        "INSERT INTO users (user_id) VALUES (NULL)",
        "SELECT zeroblob(1) LIKE zeroblob(100)",
    ],
)
def test_a_wrong_statement_is_a_refusal(edge: Edge, sql: str) -> None:
    answer = edge.ask("raw", {"sql": sql})

    assert answer.status_code == 400, answer.text
    error = answer.json()["errors"][0]
    assert error["code"] == 7500
    assert error["message"]
    assert "D1_ERROR" not in error["message"]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("D1_ERROR: Network connection lost.", 500),
        ("D1_ERROR: Internal error in D1 DB storage caused object to be reset.", 500),
        ("D1_ERROR: D1 DB reset because its code was updated.", 500),
        (
            "D1_ERROR: D1 DB storage operation exceeded timeout which caused object to be reset.",
            500,
        ),
        ("D1_ERROR: database is locked: SQLITE_BUSY", 500),
        ("what nobody has heard of", 500),
        ("D1_ERROR: D1 DB is overloaded. Requests queued for too long.", 503),
        ("D1_ERROR: D1 DB is overloaded. Too many requests queued.", 503),
    ],
)
def test_a_fault_of_the_database_is_no_refusal(edge: Edge, words: str, status: int) -> None:
    headers = {"authorization": f"Bearer {TOKEN}", "x-d1-fails": words}
    asked = {"sql": "SELECT 1"}

    answer = edge.http.post(f"{edge.peer.d1_url}/raw", json=asked, headers=headers)

    assert answer.status_code == status
    error = answer.json()["errors"][0]
    assert error == {"code": 7500, "message": words.removeprefix("D1_ERROR: ")}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "should be an object"),
        (b"{}", "has no sql"),
        (b'{"sql": 1}', "has no sql"),
        (b'{"batch": []}', "list of statements"),
        (b'{"batch": {"sql": "SELECT 1"}}', "list of statements"),
        (b'{"batch": [{"sql": "SELECT 1"}, 2]}', "statement 2 has no sql"),
        (b'{"sql": "SELECT 1", "params": "1"}', "params of statement 1"),
    ],
)
def test_a_body_that_holds_no_statement_is_refused(edge: Edge, body: bytes, why: str) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    answer = edge.http.post(f"{edge.peer.d1_url}/query", content=body, headers=headers)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == 7400
    assert why in answer.json()["errors"][0]["message"]


def test_parameters_that_are_no_texts(edge: Edge) -> None:
    asked = {"sql": "SELECT ?1 AS a, ?2 AS b, ?3 AS c", "params": [1, None, "x"]}
    assert edge.ask("raw", asked).json()["result"][0]["results"]["rows"] == [[1, None, "x"]]
    nested = edge.ask("raw", {"sql": "SELECT ?1", "params": [{"a": 1}]})
    assert nested.status_code == 400
    assert nested.json()["errors"][0]["code"] == 7500


def test_twenty_four_megabytes_are_too_many(edge: Edge) -> None:
    too_large = {"sql": "SELECT length(?1) AS n", "params": ["x" * 24 * 2**20]}
    answer = through_the_proxy(lambda: edge.ask("query", too_large))
    assert (answer.status_code, answer.json()["success"]) == (413, False)
    fits = edge.ask("query", {"sql": "SELECT length(?1) AS n", "params": ["x" * 1_900_000]})
    assert fits.json()["result"][0]["results"] == [{"n": 1_900_000}]


@pytest.mark.parametrize("given", [None, "", TOKEN, "Basic " + TOKEN, "Bearer", "Bearer not-it"])
def test_nobody_asks_without_the_token(edge: Edge, given: str | None) -> None:
    headers = {} if given is None else {"authorization": given}
    answer = edge.http.post(f"{edge.peer.d1_url}/query", json={"sql": "SELECT 1"}, headers=headers)

    assert answer.status_code == 403
    assert answer.json()["success"] is False
    assert answer.json()["errors"] == [{"code": 10000, "message": "Authentication error"}]


def test_tokens_change_without_a_gap_and_none_opens_to_nobody(tmp_path: Path) -> None:
    needs_peers()
    secrets = {"D1_TOKEN": "the-new-token-of-the-tests", "D1_TOKEN_PREVIOUS": TOKEN}

    def statuses(edge: Edge, *tokens: str) -> list[int]:
        return [edge.ask("raw", {"sql": "SELECT 1"}, token).status_code for token in tokens]

    with running(tmp_path / "workerd", secrets=secrets) as edge:
        assert statuses(edge, TOKEN, "the-new-token-of-the-tests", "x") == [200, 200, 403]
    with running(tmp_path / "workerd", secrets={"D1_TOKEN": ""}) as edge:
        assert statuses(edge, TOKEN, "undefined", "x") == [403, 403, 403]


def test_only_its_own_database_is_served(edge: Edge) -> None:
    peer, headers = edge.peer, {"authorization": f"Bearer {TOKEN}"}
    for account, database in (("other", peer.database_id), (peer.account_id, "other")):
        url = f"{peer.api_url}/accounts/{account}/d1/database/{database}/raw"
        answer = edge.http.post(url, json={"sql": "SELECT 1"}, headers=headers)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, 7404)
        assert edge.http.post(url, json={"sql": "SELECT 1"}).status_code == 403
    exported = edge.http.post(f"{peer.d1_url}/export", json={}, headers=headers)
    assert exported.status_code == 404


# --- the code


def test_the_types_hold(tmp_path: Path) -> None:
    needs_peers()
    paths = {
        "hono": [str(MODULES / "hono" / "dist" / "types" / "index.d.ts")],
        "hono/*": [str(MODULES / "hono" / "dist" / "types" / "*")],
    }
    options = {"paths": paths, "typeRoots": [str(MODULES)]}
    told = {
        "extends": str(EDGE / "tsconfig.json"),
        "compilerOptions": options,
        "include": [str(EDGE / "src"), str(ENTRY)],
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps(told))

    checked = subprocess.run(
        [NODE, MODULES / "typescript" / "bin" / "tsc", "--noEmit", "-p", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout


def test_the_bundle_runs_on_its_own(tmp_path: Path) -> None:
    needs_peers()
    script: str = json.loads((EDGE / "package.json").read_text())["scripts"]["build"]
    bundle = tmp_path / "index.js"
    _, *arguments = script.replace("dist/index.js", str(bundle)).split()
    subprocess.run(
        [NODE, MODULES / "esbuild" / "bin" / "esbuild", *arguments],
        cwd=EDGE,
        env={**os.environ, "NODE_PATH": str(MODULES)},
        check=True,
        capture_output=True,
    )
    assert not re.search(r"^import\b", bundle.read_text(), re.MULTILINE)

    with workerd(tmp_path / "workerd", bundle) as peer, httpx.Client(timeout=30) as http:
        edge = Edge(peer, http)
        fill(edge, tmp_path)
        pushed = http.post(f"{peer.url}/push/generic/{OTHER}", content=b"x", headers=BEARER)
        assert (pushed.status_code, pushed.text) == (200, "{}")


def test_the_peers_have_the_packages_that_the_worker_pins() -> None:
    worker = json.loads((EDGE / "package.json").read_text())
    peers = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    pinned = {**worker["dependencies"], **worker["devDependencies"]}
    pinned.pop("esbuild")  # wrangler brings its own

    assert {name: peers.get(name) for name in pinned} == pinned
