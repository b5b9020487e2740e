"""The language model's seam: what it asks, how much of a limit it uses, what a call costs.

The model is the tests' double, a real HTTP server in this process: it answers at once, or after
the latency that is asked for, and counts a token for four characters. So tokens and calls are what
a real model would be asked; money and the model's own speed are not measured.

The naive way beside ours asks about the whole conversation every time, summarises nothing and
keeps no answers: the same prompts, a context without end, and nothing kept before it begins.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openai
import orjson

from benchmarks.chain import STAGES
from benchmarks.generate import CHANNELS
from benchmarks.measure import machine, table
from benchmarks.rerun import materialise_days
from benchmarks.workspace import ACCOUNT, USER, export_of, import_into, prepare
from communicator_pipeline.chain import analyses, conversations, drafted_replies
from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.chain.variants import LIVE, Variant
from communicator_pipeline.ingestion.exports import import_export, open_export
from communicator_pipeline.language_model import LanguageModel, Prompt, Request
from communicator_pipeline.language_model.asking import sent_schema
from communicator_pipeline.language_model.configuration import (
    ModelConfig,
    ModelsConfig,
    keep_configuration,
)
from communicator_pipeline.language_model.conversations import Summary
from communicator_pipeline.language_model.endpoints import connect
from communicator_pipeline.language_model.model import ConfiguredModel
from communicator_pipeline.storage import Stores, open_local
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.work import WorkQueue
from communicator_pipeline.wanted_runs import whole_runs
from communicator_pipeline_tests.language_model.model_server import (
    Answered,
    Call,
    Json,
    ModelServer,
    chat_completion,
    model_server,
    sensible,
)

CHARACTERS_PER_TOKEN = 4
LIMIT = 300  # requests a minute: Workers AI's for text generation
LATENCY = 0.5  # seconds
ENDLESS = 10_000_000  # characters
THREAD = "thread"  # the long conversation's channel


def counting(call: Call) -> Json | Answered:
    """The double's sensible answers, with tokens by characters."""
    answer = sensible(call)
    asked = sum(len(message["content"]) for message in call.body["messages"])
    said = len(answer["choices"][0]["message"]["content"])
    answer["usage"] = {
        "prompt_tokens": asked // CHARACTERS_PER_TOKEN,
        "completion_tokens": said // CHARACTERS_PER_TOKEN,
        "total_tokens": (asked + said) // CHARACTERS_PER_TOKEN,
    }
    return answer


def config_of(server: ModelServer, **changes: Any) -> ModelConfig:
    given: dict[str, Any] = {
        "kind": "openai",
        "model": "double",
        "base_url": f"{server.url}/v1",
        "requests_per_minute": 100_000,
        "at_once": 16,
    }
    return ModelConfig(**(given | changes))


@dataclass
class Asked:
    calls: int
    tokens: int


@contextmanager
def asked(server: ModelServer) -> Iterator[Asked]:
    """What the model is asked within the `with`."""
    server.calls.clear()
    found = Asked(0, 0)
    yield found
    found.calls = len(server.calls)
    found.tokens = sum(
        sum(len(m["content"]) for m in call.body["messages"]) // CHARACTERS_PER_TOKEN
        for call in server.calls
    )


# --- tokens ----------------------------------------------------------------------------------


def naively(stores: Stores, server: ModelServer, number: int) -> Asked:
    """Everything anew, whole conversations, nothing kept."""
    stores.database.execute("DELETE FROM model_answers")
    models = ModelsConfig(first=config_of(server, context_characters=ENDLESS))
    variant = Variant(f"naive-{number}", models=models)
    with asked(server) as found:
        for account in (row["account"] for row in stores.database.execute(_WITH_ROWS)):
            for month in stores.lake.months(conversations.ASSET, account):
                partition = AccountMonth(account, month)
                for stage in (analyses, drafted_replies):
                    stage.materialise(stores, partition, Scope((partition,), frozenset()), variant)
    return found


_WITH_ROWS = "SELECT DISTINCT account FROM messages"


def bring_up_to_date(home: str) -> None:
    """Do what is touched until nothing is."""
    stores = open_local(Path(home))
    work = WorkQueue(stores.database)
    while runs := whole_runs(work.dirty(ACCOUNT)):
        for run in runs:
            by_month: dict[str, list[str]] = defaultdict(list)
            for day in run.days:
                by_month[day.day[:7]].append(day.day)
            for month, days in by_month.items():
                work.claim("bench", ACCOUNT, month, days)
            materialise_days(stores, [day.day for day in run.days])
            for month in by_month:
                work.finish("bench", ACCOUNT, month)


def one_more_each(home: str) -> int:
    """Import an export with one more message in every conversation; how many there were."""
    stores = open_local(Path(home))
    newest: dict[str, dict[str, Any]] = {}
    files = [address for address, _ in stores.lake.day_files("raw_messages", ACCOUNT)]
    members = [address for address, _ in stores.lake.day_files(conversations.ASSET, ACCOUNT)]
    rows = stores.lake.query(
        "SELECT m.conversation_id, r.channel_id, r.message_id, r.sent_at, r.thread_id "
        "FROM members AS m JOIN raw AS r USING (message_id) WHERE r.kind = 'message' "
        "ORDER BY r.sent_at",
        {"members": members, "raw": files},
    ).to_pylist()
    for row in rows:
        newest[row["conversation_id"]] = row
    folders = {channel: (folder, listed) for channel, folder, listed in CHANNELS}
    said: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for number, row in enumerate(newest.values()):
        at = row["sent_at"] + timedelta(seconds=1)
        root = (row["thread_id"] or row["message_id"]).split(":")[1]
        said[row["channel_id"], at.date().isoformat()].append(
            {
                "type": "message",
                "user": "U0BENCH0001",
                "text": "could you tell us one more thing about it, please?",
                "ts": f"{int(at.timestamp())}.{900_000 + number % 99_000:06}",
                "thread_ts": root,
            }
        )
    path = Path(home) / "one-more.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("users.json", b"[]")
        listings: dict[str, list[dict[str, str]]] = defaultdict(list)
        for channel in sorted({channel for channel, _ in said}):
            folder, listed = folders[channel]
            listings[listed].append({"id": channel, "name": folder})
        for listed, listing in listings.items():
            archive.writestr(listed, orjson.dumps(listing))
        for (channel, day), items in said.items():
            archive.writestr(f"{folders[channel][0]}/{day}.json", orjson.dumps(items))
    import_into(home, str(path))
    return len(newest)


def tokens(folder: Path, messages: int) -> list[list[str]]:
    """Calls and tokens per 1,000 messages of the workspace."""
    home = str(folder / "home")
    rows = []
    with model_server(counting) as server:
        stores = prepare(Path(home))
        keep_configuration(stores, ModelsConfig(first=config_of(server)))
        import_into(home, str(export_of(folder, messages)))

        def row(name: str, ours: Asked, naive: Asked, per: int) -> None:
            rows.append(
                [
                    name,
                    f"{ours.calls * 1_000 / per:,.0f}",
                    f"{ours.tokens * 1_000 / per:,.0f}",
                    f"{naive.calls * 1_000 / per:,.0f}",
                    f"{naive.tokens * 1_000 / per:,.0f}",
                    f"{ours.tokens / naive.tokens:.2f}",
                ]
            )

        with asked(server) as first:
            bring_up_to_date(home)
        kept = stores.database.execute("SELECT * FROM model_answers")
        naive_first = naively(stores, server, 1)
        _put_back(stores, kept)
        row("first run", first, naive_first, messages)
        with asked(server) as unchanged:
            _again(stores)
        row("nothing changed", unchanged, naive_first, messages)
        count = one_more_each(home)
        with asked(server) as more:
            bring_up_to_date(home)
        row(f"one more in each of {count:,}", more, naively(stores, server, 2), messages)
    return rows


def _put_back(stores: Stores, kept: Sequence[dict[str, Any]]) -> None:
    stores.database.execute("DELETE FROM model_answers")
    for row in kept:
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        stores.database.execute(
            f"INSERT INTO model_answers ({names}) VALUES ({marks})", list(row.values())
        )


def _again(stores: Stores, account: str = ACCOUNT) -> None:
    for month in stores.lake.months(conversations.ASSET, account):
        partition = AccountMonth(account, month)
        for stage in (analyses, drafted_replies):
            stage.materialise(stores, partition, Scope((partition,), frozenset()), LIVE)


def long_thread(folder: Path, length: int, more: int) -> list[list[str]]:
    """A conversation of `length` messages that grows, a run for each new message."""
    home = folder / "thread"
    account = "bench-thread"
    with model_server(counting) as server:
        stores = prepare(home, account, "generic")
        keep_configuration(stores, ModelsConfig(first=config_of(server)))
        began = datetime(2026, 11, 3, 6, tzinfo=UTC)

        def say(first: int, last: int) -> None:
            path = home / f"{first}.jsonl"
            path.write_bytes(
                b"".join(
                    orjson.dumps(
                        {
                            "id": f"m{n}",
                            "channel": THREAD,
                            "sent_at": (began + timedelta(seconds=30 * n)).isoformat(),
                            "author": f"p{n % 3}",
                            "text": f"about point {n}: can you look at it? " + "and so on " * 12,
                            **({"reply_to": f"m{n - 1}"} if n else {}),
                        }
                    )
                    + b"\n"
                    for n in range(first, last)
                )
            )
            import_export(open_export(path), account, stores.database, stores.lake)

        def run() -> Asked:
            partition = AccountMonth(account, "2026-11")
            with asked(server) as found:
                for stage in STAGES.values():
                    stage.materialise(stores, partition, Scope((partition,), frozenset()))
            return found

        say(0, length)
        first = run()
        grown = []
        for number in range(more):
            say(length + number, length + number + 1)
            grown.append(run())
        naive = naively(stores, server, 3)
    mean = statistics.fmean
    return [
        [f"first run, {length:,}", str(first.calls), f"{first.tokens:,}", str(naive.calls),
         f"{naive.tokens:,}", f"{first.tokens / naive.tokens:.2f}"],
        [f"one more, mean of {more}", f"{mean(g.calls for g in grown):.1f}",
         f"{mean(g.tokens for g in grown):,.0f}", str(naive.calls), f"{naive.tokens:,}",
         f"{mean(g.tokens for g in grown) / naive.tokens:.2f}"],
    ]  # fmt: skip


# --- limits ----------------------------------------------------------------------------------


def question(number: int) -> Request[Summary]:
    data = orjson.dumps({"about": f"tomatoes {number} {time.time_ns()}"}).decode()
    return Request(Prompt("bench/1", "Summarise.", data), Summary, ACCOUNT, USER, "compact")


def model_of(stores: Stores, config: ModelConfig) -> LanguageModel:
    return LanguageModel(stores.database, [ConfiguredModel(config, connect(config, "k"))])


def plain(delay: float) -> Callable[[Call], Answered]:
    body = chat_completion({"summary": "tomatoes"})
    return lambda call: Answered(200, body, delay=delay)


def share_of_the_limit(folder: Path, questions: int) -> tuple[float, int, float]:
    """(share of the limit used, most at once, seconds), from the first call to the last."""
    stores = prepare(folder / "limits")
    with model_server(plain(LATENCY)) as server:
        model = model_of(stores, config_of(server, requests_per_minute=LIMIT, at_once=8))
        began = time.perf_counter()
        model.complete_all([question(n) for n in range(questions)])
        took = time.perf_counter() - began
        begun = sorted(call.at for call in server.calls)
        rate = (len(begun) - 1) / (begun[-1] - begun[0])
        return rate * 60 / LIMIT, server.most_at_once, took


def overhead(folder: Path, times: int) -> dict[str, float]:
    """Milliseconds a call takes, the bare client and ours, one after the other."""
    stores = prepare(folder / "overhead")
    with model_server(plain(0)) as server:
        bare = openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", max_retries=0)
        model = model_of(stores, config_of(server))
        shape: Any = {
            "type": "json_schema",
            "json_schema": {"name": "Summary", "strict": True, "schema": sent_schema(Summary)},
        }

        def by_client(number: int) -> None:
            messages: Any = question(number).prompt.messages()
            bare.chat.completions.create(
                model="double",
                messages=messages,
                response_format=shape,
            )

        def median(one: Callable[[int], Any]) -> float:
            took = []
            for number in range(times + 5):
                began = time.perf_counter()
                one(number)
                took.append((time.perf_counter() - began) * 1e3)
            return statistics.median(took[5:])

        found = {
            "bare client": median(by_client),
            "ours, one by one": median(lambda number: model.complete(question(number))),
        }
        began = time.perf_counter()
        model.complete_all([question(number) for number in range(times)])
        found["ours, all at once"] = (time.perf_counter() - began) * 1e3 / times
        same = question(0)
        model.complete(same)
        found["ours, kept"] = median(lambda number: model.complete(same))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.model", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000)
    parser.add_argument("--thread", type=int, default=1_000, help="messages of the long thread")
    parser.add_argument("--more", type=int, default=20, help="messages by which it grows")
    parser.add_argument("--questions", type=int, default=150, help="at the limit")
    parser.add_argument("--times", type=int, default=300, help="calls, for what one costs")
    options = parser.parse_args()
    print(machine())
    headings = ["", "calls", "tokens", "naive calls", "naive tokens", "tokens, share"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print(f"\nworkspace of {options.messages:,} messages, for 1,000 messages")
        table(headings, tokens(folder, options.messages))
        print("\none long conversation: per run")
        table(headings, long_thread(folder, options.thread, options.more))
        share, most, took = share_of_the_limit(folder, options.questions)
        print(
            f"\n{options.questions} questions, {LATENCY * 1e3:.0f} ms each, {LIMIT} a minute: "
            f"{took:.1f} s, {share:.1%} of the limit, {most} at once at most"
        )
        print("\nmilliseconds per call")
        for name, value in overhead(folder, options.times).items():
            print(f"  {name:20} {value:7.2f}")


if __name__ == "__main__":
    main()
