"""The inbox on a full database: the list, search, a long thread, and what the first load weighs.

The database is filled day by day as the chain fills it (`publish`): four accounts, texts in seven
languages. The gateway is served by uvicorn in a process of its own; pages are asked for with a
session, the API with a key. The bare route beside it is FastAPI as well and reads one row of the
same file. One client at a time measures latency; 8 connections measure requests per second. The
limit of requests per minute is lifted for the measurement.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlencode

import httpx
import uvicorn
from fastapi import FastAPI
from limits import parse

from benchmarks.measure import machine, table
from benchmarks.push import percentile
from communicator_pipeline.gateway import identity
from communicator_pipeline.gateway.app import create_app
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.accounts import Accounts, add_user
from communicator_pipeline.storage.database import utc_text
from communicator_pipeline.storage.inbox import PublishedDay, publish
from communicator_pipeline.storage.sign_in import make_key, open_session

USER, ME = "bench", "me"
ACCOUNTS = ("bench-slack", "bench-discord", "bench-telegram", "bench-generic")
PLATFORMS = ("slack", "discord", "telegram", "generic")
CATEGORIES = ("question", "scheduling", "support", "sales", "billing", "smalltalk")
LANGUAGES = ("en", "de", "fr", "es", "pt", "ja", "zh")
SENTENCES = {
    "en": "could you send me the signed contract before the meeting tomorrow please",
    "de": "kannst du mir bitte den Vertrag vor dem Termin am Dienstag schicken danke",
    "fr": "est-ce que tu peux me renvoyer la facture du mois dernier avant jeudi merci",
    "es": "me puedes enviar el informe antes de la reunión de mañana por favor gracias",
    "pt": "você pode mandar o relatório antes da reunião de amanhã por favor obrigado",
    "ja": "明日の会議の前に契約書を送っていただけますか よろしくお願いします",
    "zh": "明天开会之前 请把合同发给我 谢谢 我们下周再讨论价格",
}
COMMON, RARE, CHINESE = "contract", "zanzibar", "合同"
LAST_DAY = date(2026, 11, 20)
DAYS = 60
THREAD = 500  # messages
LONG = "long"  # its conversation_id
CONNECTIONS = 8
VIEW = "needs_reply"


# --- the database ----------------------------------------------------------------------------


def fill(stores: Stores, messages: int, conversations: int) -> None:
    """Bring in that many messages, spread over accounts, days and languages."""
    random = Random(7)
    accounts = Accounts(stores.database, USER)
    for account, platform in zip(ACCOUNTS, PLATFORMS, strict=True):
        accounts.add(account, platform, account.title())
        accounts.set_me(account, [ME])
    number = 0
    share = conversations / (DAYS * len(ACCOUNTS))
    each = messages // conversations
    for day in range(DAYS):
        on = LAST_DAY - timedelta(days=DAYS - 1 - day)
        for place, account in enumerate(ACCOUNTS):
            count = round(share * (day * len(ACCOUNTS) + place + 1)) - number
            of_day = [
                _conversation(random, f"c{number + n}", on, each, number + n) for n in range(count)
            ]
            number += count
            if place == 0 and day == DAYS - 1:
                of_day.append(_conversation(random, LONG, on, THREAD, 0))
            publish(stores.database, _published(account, on, of_day))


def _published(account: str, on: date, of_day: Sequence[tuple[Any, Any, Any]]) -> PublishedDay:
    return PublishedDay(
        account,
        on.isoformat(),
        1,
        "digest",
        [message for said, _, _ in of_day for message in said],
        [analysis for _, analysis, _ in of_day],
        [draft for _, _, draft in of_day if draft is not None],
    )


def _conversation(
    random: Random, key: str, on: date, count: int, number: int
) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any] | None]:
    language = LANGUAGES[number % len(LANGUAGES)]
    words = SENTENCES[language].split()
    began = datetime(on.year, on.month, on.day, 7, tzinfo=UTC) + timedelta(
        seconds=random.randrange(36_000)
    )
    said = []
    for n in range(count):
        text = " ".join(random.sample(words, min(len(words), 10)))
        if n == 0 and number % 5_000 == 0:
            text = f"{text} {RARE}"
        author = ME if n % 4 == 3 else f"p{random.randrange(300)}"
        said.append(_message(key, n, text, author, utc_text(began + timedelta(seconds=7 * n))))
    last = said[-1]
    needs = key == LONG or (last["author_id"] != ME and random.random() < 0.25)
    analysis = _analysis(key, said, language, needs, random)
    if not needs:
        return said, analysis, None
    draft = {
        "conversation_id": key,
        "version": 1,
        "outcome": "ready",
        "text": SENTENCES[language],
        "language": language,
        "gaps": [],
        "rests_on": [last["message_id"]],
        "reason": "They asked for a document, and it is there.",
        "flags": [],
        "confidence": 0.8,
        "model": "rules",
        "prompt": "",
        "stood_in": "",
        "withheld": [],
    }
    return said, analysis, draft


def _message(key: str, n: int, text: str, author: str, at: str) -> dict[str, Any]:
    return {
        "message_id": f"{key}:{n}",
        "channel_id": f"room-{hash_of(key) % 40}",
        "sent_at": at,
        "author_id": author,
        "author_name": author.title(),
        "author_is_bot": False,
        "kind": "message",
        "text": text,
        "thread_id": None,
        "reply_to": None,
        "attachments": [],
        "reactions": [],
        "edited_at": None,
        "deleted": False,
        "version": 1,
        "conversation_id": key,
        "parent_message_id": f"{key}:{n - 1}" if n else None,
        "link_reason": "flow",
        "link_score": 0.9,
        "link_why": "the same people, seven seconds later",
    }


def hash_of(key: str) -> int:
    return sum(key.encode())


def _analysis(
    key: str, said: Sequence[dict[str, Any]], language: str, needs: bool, random: Random
) -> dict[str, Any]:
    last = said[-1]
    return {
        "conversation_id": key,
        "as_of": last["sent_at"],
        "channel_id": last["channel_id"],
        "started_at": said[0]["sent_at"],
        "last_message_at": last["sent_at"],
        "last_author": last["author_name"],
        "message_count": len(said),
        "people": sorted({m["author_name"] for m in said})[:5],
        "language": language,
        "category": random.choice(CATEGORIES),
        "category_reason": "it asks for something",
        "priority": 95 if key == LONG else random.randrange(10, 95),
        "priority_reasons": ["a question to you", "a date is named"],
        "needs_reply": needs,
        "needs_reply_score": 0.8 if needs else 0.2,
        "needs_reply_reason": "a question to you stands open" if needs else "nothing is asked",
        "waiting_since": last["sent_at"] if needs else None,
        "summary": said[0]["text"],
        "summary_message_ids": [said[0]["message_id"]],
        "sentiment": 0.1,
        "confidence": 0.7,
        "flags": [],
        "model": "rules",
        "prompt": "",
        "stood_in": "",
        "withheld": [],
    }


# --- the servers -----------------------------------------------------------------------------


class Counting:
    """A database that counts its calls: each is a round trip where the database is elsewhere."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.calls = 0

    def execute(self, sql: str, params: Any = ()) -> Any:
        self.calls += 1
        return self._database.execute(sql, params)

    def batch(self, statements: Any) -> Any:
        self.calls += 1
        return self._database.batch(statements)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


def serve_ours(folder: str, port: int) -> None:
    identity.REQUESTS = parse("1000000/second")
    opened = open_local(Path(folder))
    counting = Counting(opened.database)
    app = create_app(Stores(opened.lake, counting, opened.keys))

    @app.get("/calls")
    def calls() -> int:
        """How many calls of the database there were since the last time."""
        found, counting.calls = counting.calls, 0
        return found

    uvicorn.run(app, port=port, log_level="critical", access_log=False)


def serve_bare(folder: str, port: int) -> None:
    database = open_local(Path(folder)).database
    app = FastAPI()

    @app.get("/row")
    def row() -> dict[str, Any]:
        return database.execute("SELECT * FROM conversations LIMIT 1")[0]

    uvicorn.run(app, port=port, log_level="critical", access_log=False)


def started(what: str, folder: str) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.inbox", "--serve", what, "--folder", folder,
         "--port", str(port)],
    )  # fmt: skip
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except OSError:
            time.sleep(0.05)


# --- measuring -------------------------------------------------------------------------------


def questions() -> Iterator[tuple[str, str, bool]]:
    """(name, address, whether with the session)."""
    of = {"of": ACCOUNTS[0], "conversation": LONG}
    key = {"conversation_id": LONG}
    yield f"page, {VIEW}", f"/inbox?view={VIEW}", True
    yield "page, all", "/inbox?view=all", True
    yield "page with the long thread", f"/inbox?{urlencode(of)}", True
    yield "long thread alone", f"/inbox/conversation?{urlencode(of)}", True
    for kind, word in (("common", COMMON), ("rare", RARE), ("Chinese", CHINESE)):
        yield f"page, search, {kind} word", f"/inbox?{urlencode({'q': word})}", True
    yield "API, list", f"/api/v1/conversations?view={VIEW}", False
    yield "API, list, all", "/api/v1/conversations?view=all", False
    for kind, word in (("common", COMMON), ("rare", RARE), ("Chinese", CHINESE)):
        yield f"API, search, {kind} word", f"/api/v1/search?{urlencode({'q': word})}", False
    yield (
        "API, search, one account",
        f"/api/v1/search?{urlencode({'q': COMMON, 'account': ACCOUNTS[1]})}",
        False,
    )
    yield (
        "API, long thread",
        f"/api/v1/conversations/{ACCOUNTS[0]}/messages?{urlencode(key)}",
        False,
    )


def latencies(client: httpx.Client, address: str, headers: Any, times: int) -> list[float]:
    """Milliseconds, without the first two."""
    took = []
    for n in range(times + 2):
        began = time.perf_counter()
        answer = client.get(address, headers=headers)
        if n >= 2:
            took.append((time.perf_counter() - began) * 1e3)
        assert answer.status_code == 200, (address, answer.status_code, answer.text[:300])
    return took


async def flat_out(base: str, address: str, headers: Any, seconds: float) -> float:
    """Requests per second that 8 connections get through."""
    done = 0
    end = time.perf_counter() + seconds

    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=30) as client:

        async def one() -> None:
            nonlocal done
            while time.perf_counter() < end:
                answer = await client.get(address)
                assert answer.status_code == 200, answer.text[:300]
                done += 1

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
        return done / (time.perf_counter() - began)


def first_load(client: httpx.Client, headers: Any) -> int:
    """Bytes of /inbox and of all the files that it names, as they came over the wire."""
    total = 0
    page = ""
    waiting, seen = ["/inbox"], set()
    while waiting:
        address = waiting.pop()
        seen.add(address)
        with client.stream("GET", address, headers=headers) as answer:
            body = b"".join(answer.iter_raw())
            assert answer.status_code == 200, address
            total += len(body)
            if address == "/inbox":
                plain = answer.headers.get("content-encoding") != "gzip"
                page = (body if plain else gzip.decompress(body)).decode()
                waiting += sorted(set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page)) - seen)
    assert len(seen) > 1, "the page names no files"
    return total


def measure(folder: str, times: int, seconds: float) -> None:
    stores = open_local(Path(folder))
    now = datetime.now(UTC)
    key = make_key(stores.database, USER, "bench", "read", now)
    secret = open_session(stores.database, USER, now)
    with_key = {"Authorization": f"Bearer {key}", "Accept-Encoding": "gzip"}
    with_session = {"Cookie": f"communicator={secret}", "Accept-Encoding": "gzip"}
    rows = []
    rates: dict[str, float] = {}
    process, port = started("ours", folder)
    base = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=base, timeout=120) as client:
            for name, address, is_page in questions():
                headers = with_session if is_page else with_key
                client.get("/calls")
                client.get(address, headers=headers)
                calls = client.get("/calls").json()
                took = latencies(client, address, headers, times)
                rows.append(
                    [
                        name,
                        f"{statistics.median(took):.1f}",
                        f"{percentile(took, 0.95):.1f}",
                        str(calls),
                    ]
                )
            weight = first_load(client, with_session)
        listed = f"/api/v1/conversations?view={VIEW}"
        rates["list"] = asyncio.run(flat_out(base, listed, with_key, seconds))
        rates["page"] = asyncio.run(flat_out(base, "/inbox", with_session, seconds))
    finally:
        process.kill()
        process.wait()
    process, port = started("bare", folder)
    try:
        rates["bare"] = asyncio.run(flat_out(f"http://127.0.0.1:{port}", "/row", {}, seconds))
    finally:
        process.kill()
        process.wait()
    table(["what", "median ms", "p95 ms", "calls"], rows)
    print(
        f"flat out: bare route {rates['bare']:,.0f}/s, list {rates['list']:,.0f}/s "
        f"({rates['list'] / rates['bare']:.2f} of it), page {rates['page']:,.0f}/s "
        f"({rates['page'] / rates['bare']:.2f})"
    )
    print(f"first load of /inbox with its files: {weight / 1e3:.1f} KB")
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--messages", type=int, default=200_000)
    options.add_argument("--conversations", type=int, default=20_000)
    options.add_argument("--times", type=int, default=40, help="how often each is asked for")
    options.add_argument("--seconds", type=float, default=5, help="flat out")
    options.add_argument("--folder", help="keep the database there, and use it again")
    options.add_argument("--serve", choices=["ours", "bare"], help=argparse.SUPPRESS)
    options.add_argument("--port", type=int, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.serve:
        {"ours": serve_ours, "bare": serve_bare}[asked.serve](asked.folder, asked.port)
        return
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or temporary
        stores = open_local(Path(folder))
        if not stores.database.execute("SELECT 1 FROM messages LIMIT 1"):
            began = time.perf_counter()
            add_user(stores.database, USER, "Bench")
            fill(stores, asked.messages, asked.conversations)
            print(f"filled in {time.perf_counter() - began:.0f} s")
        found = stores.database.execute(
            "SELECT (SELECT count(*) FROM messages) AS m, (SELECT count(*) FROM conversations) AS c"
        )[0]
        print(f"{found['m']:,} messages, {found['c']:,} conversations")
        measure(folder, asked.times, asked.seconds)


if __name__ == "__main__":
    main()
