"""Conversations on their way into a prompt: what is shortened, what is withheld, what is asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from communicator_pipeline.language_model import LanguageModel, NoAnswer, Trouble
from communicator_pipeline.language_model.configuration import ModelConfig
from communicator_pipeline.language_model.conversations import (
    MOST_SUMMARIES,
    STRETCH,
    ConversationAsker,
    Shown,
)
from communicator_pipeline.language_model.endpoints import connect
from communicator_pipeline.language_model.model import ConfiguredModel
from communicator_pipeline.language_model.withholding import OwnPattern, Withholding
from communicator_pipeline.messages import Transcript, Turn
from communicator_pipeline.prompts import load
from communicator_pipeline.storage import Stores
from communicator_pipeline_tests.language_model.model_server import (
    Answered,
    Call,
    Json,
    ModelServer,
    chat_completion,
    model_server,
)

START = datetime(2026, 11, 3, 9, tzinfo=UTC)


def told(call: Call) -> Json:
    """A summary that names every message that it was made of, and those of other summaries."""
    data = call.data
    parts = [m["text"].split()[0] for m in data.get("messages", ())]
    parts += [word for summary in data.get("earlier", ()) for word in summary.split()]
    return chat_completion({"summary": " ".join(parts)})


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server(told) as running:
        yield running


def turn(number: int, text: str = "", **more: Any) -> Turn:
    given: dict[str, Any] = {
        "message_id": f"c1:m{number}",
        "sent_at": START + timedelta(minutes=number),
        "author_id": "kim",
        "author_name": "Kim",
        "from_me": False,
        "text": text or f"#{number}. " + "word " * 20,
    }
    return Turn(**(given | more))


def transcript(turns: Sequence[Turn], **more: Any) -> Transcript:
    given: dict[str, Any] = {
        "conversation_id": "c1:m1",
        "channel_id": "c1",
        "channel_name": "general",
        "channel_kind": "channel",
        "as_of": START + timedelta(days=1),
        "turns": tuple(turns),
        "my_names": ("Ana",),
    }
    return Transcript(**(given | more))


def reader(
    stores: Stores, server: ModelServer, rules: Withholding | None = None, characters: int = 4_000
) -> ConversationAsker:
    config = ModelConfig(
        kind="openai",
        model="double",
        base_url=f"{server.url}/v1",
        requests_per_minute=100_000,
        context_characters=characters,
    )
    model = LanguageModel(stores.database, [ConfiguredModel(config, connect(config, "k"))])
    return ConversationAsker(
        model, load("analyse", "1"), load("compact", "1"), rules or Withholding(), "ana-chat", "ana"
    )


def shown(found: Shown | NoAnswer) -> Shown:
    assert isinstance(found, Shown), found
    return found


def accounted(one: Shown) -> tuple[list[str], list[str]]:
    """The messages that are summarised, and those that are shown as they are."""
    words = " ".join(one.data.get("earlier", ())).split()
    return words, [m["text"].split()[0] for m in one.data["messages"]]


# --- compaction ------------------------------------------------------------------------------


def test_what_fits_is_shown_whole_and_asks_nothing(stores: Stores, server: ModelServer) -> None:
    one = shown(reader(stores, server).read([transcript([turn(1), turn(2)])])[0])
    assert accounted(one) == ([], ["#1.", "#2."])
    assert "earlier" not in one.data
    assert "not_shown" not in one.data
    assert server.calls == []


@pytest.mark.parametrize("count", [25, 40, 41, 99, 100, 101, 313])
def test_every_message_is_shown_or_summarised_once_and_in_order(
    stores: Stores, server: ModelServer, count: int
) -> None:
    said = transcript([turn(n) for n in range(1, count + 1)])
    one = shown(reader(stores, server).read([said])[0])
    summarised, verbatim = accounted(one)
    assert summarised + verbatim == [f"#{n}." for n in range(1, count + 1)]
    assert len(verbatim) >= 7  # half of what there is room for
    assert sum(len(m["text"]) for m in one.data["messages"]) <= 4_000
    assert one.message_ids == {n: f"c1:m{n}" for n in range(1, count + 1)}


@pytest.mark.parametrize(
    ("characters", "words", "most"),
    [
        (24_000, 20, 40 // STRETCH),  # each new stretch once
        (4_000, 20, 40 // STRETCH + 40 // 5),  # where 20 leave little of the newest as they are
        (4_000, 190, 40 // STRETCH + 40 // 5 + 40),  # where no five fit
    ],
)
def test_a_new_message_asks_for_no_summary_again(
    stores: Stores, server: ModelServer, characters: int, words: int, most: int
) -> None:
    turns = [turn(n, f"#{n}. " + "word " * words) for n in range(1, 202)]
    reads = reader(stores, server, characters=characters)
    reads.read([transcript(turns)])
    first = len(server.calls)
    assert first > 0
    for n in range(202, 242):
        turns.append(turn(n, f"#{n}. " + "word " * words))
        summarised, verbatim = accounted(shown(reads.read([transcript(turns)])[0]))
        assert summarised + verbatim == [f"#{k}." for k in range(1, n + 1)]
    assert 0 < len(server.calls) - first <= most
    asked = [orjson.dumps(call.data) for call in server.calls]
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("length", [50, 160, 600, 3_000, 50_000])
def test_no_question_holds_more_than_the_limit(
    stores: Stores, server: ModelServer, length: int
) -> None:
    turns = [turn(n, f"#{n}. " + "y" * length) for n in range(1, 101)]
    one = shown(reader(stores, server).read([transcript(turns)])[0])
    summarised, verbatim = accounted(one)
    assert summarised + verbatim == [f"#{n}." for n in range(1, 101)]
    for call in server.calls:
        texts = [m["text"] for m in call.data.get("messages", ())]
        assert sum(map(len, texts)) <= 4_000


def test_messages_that_are_left_out_are_counted(stores: Stores, server: ModelServer) -> None:
    turns = [turn(1), *(turn(n) for n in range(502, 560))]
    one = shown(reader(stores, server).read([transcript(turns, left_out=500)])[0])
    summarised, verbatim = accounted(one)
    assert one.data["not_shown"] == 500
    assert summarised + verbatim == ["#1.", *(f"#{n}." for n in range(502, 560))]
    assert one.message_ids[502] == "c1:m502"


def test_many_summaries_are_summarised_in_turn(stores: Stores, server: ModelServer) -> None:
    count = STRETCH * (MOST_SUMMARIES + 12)
    turns = [turn(n) for n in range(1, count + 1)]
    reads = reader(stores, server)
    one = shown(reads.read([transcript(turns)])[0])
    summarised, verbatim = accounted(one)
    assert summarised + verbatim == [f"#{n}." for n in range(1, count + 1)]
    assert len(one.data["earlier"]) <= MOST_SUMMARIES
    assert any("earlier" in call.data for call in server.calls)
    assert one.usage.calls == len(server.calls)
    before = len(server.calls)
    reads.read([transcript([*turns, turn(count + 1)])])
    assert len(server.calls) - before <= 2


def test_one_huge_message_says_how_much_of_it_is_missing(
    stores: Stores, server: ModelServer
) -> None:
    huge = "begin " + "x" * 50_000 + " end"
    one = shown(reader(stores, server).read([transcript([turn(1, huge)])])[0])
    text = one.data["messages"][0]["text"]
    assert text.startswith("begin ")
    assert text.endswith(" end")
    assert len(text) < 1_100
    gone = len(huge) - 1_000
    assert f"[… {gone} characters are not shown …]" in text
    assert server.calls == []


def test_many_huge_messages_stay_within_the_limit(stores: Stores, server: ModelServer) -> None:
    turns = [turn(n, f"#{n}. " + "y" * 50_000) for n in range(1, 61)]
    one = shown(reader(stores, server).read([transcript(turns)])[0])
    summarised, verbatim = accounted(one)
    assert summarised + verbatim == [f"#{n}." for n in range(1, 61)]
    assert len(orjson.dumps(one.data["messages"])) < 5_000


def test_a_conversation_whose_summary_fails_says_why(stores: Stores) -> None:
    with model_server(lambda call: Answered(400, {"error": {"message": "no"}})) as server:
        found = reader(stores, server).read([transcript([turn(n) for n in range(1, 102)])])[0]
    assert isinstance(found, NoAnswer)
    assert found.trouble is Trouble.REJECTED


def test_one_that_fails_spoils_no_other(stores: Stores, server: ModelServer) -> None:
    def answer(call: Call) -> Answered | Json:
        return Answered(400, {"error": {}}) if "bad" in str(call.data) else told(call)

    server.answer = answer
    bad = transcript([turn(n, f"bad {n} " + "word " * 20) for n in range(1, 102)])
    good = transcript([turn(n) for n in range(1, 102)])
    found = reader(stores, server).read([bad, good, bad])
    assert [isinstance(one, Shown) for one in found] == [False, True, False]


def test_half_of_a_conversation_says_what_is_missing(stores: Stores, server: ModelServer) -> None:
    one = shown(reader(stores, server).read([transcript([turn(n) for n in range(1, 11)])])[0])
    half = one.half()
    assert half is not None
    assert [m["n"] for m in half.data["messages"]] == [6, 7, 8, 9, 10]
    assert half.data["not_shown"] == 5
    quarter = half.half()
    assert quarter is not None
    assert quarter.data["not_shown"] + len(quarter.data["messages"]) == 10
    single = shown(reader(stores, server).read([transcript([turn(1)])])[0])
    assert single.half() is None


def test_deleted_messages_and_what_the_platform_says_are_not_shown(
    stores: Stores, server: ModelServer
) -> None:
    turns = [turn(1), turn(2, deleted=True), turn(3, kind="system"), turn(4)]
    one = shown(reader(stores, server).read([transcript(turns)])[0])
    assert [m["n"] for m in one.data["messages"]] == [1, 4]
    assert one.message_ids == {1: "c1:m1", 4: "c1:m4"}


# --- withholding -----------------------------------------------------------------------------

HIDDEN = (
    "4111 1111 1111 1111",
    "DE89370400440532013000",
    "kim@private.example",
    "+49 170 1234567",
    "sk_live_0123456789abcdefghij",
    "PRJ-4711",
)
STRICT = Withholding(personal="redact", patterns=(OwnPattern(name="project", match="PRJ-####"),))


def test_what_is_withheld_never_reaches_the_socket(stores: Stores, server: ModelServer) -> None:
    """Not in texts, names, files or channels; not in what is summarised either."""
    each = [f"#{n}. it is {secret}, ok " + "word " * 20 for n, secret in enumerate(HIDDEN, 1)]
    turns = [turn(n, text) for n, text in enumerate(each * 12, 1)]
    turns[3] = replace(turns[3], author_name=f"Kim {HIDDEN[2]}")
    turns[-1] = replace(turns[-1], attachments=tuple(f"{secret} .pdf" for secret in HIDDEN))
    said = transcript(turns, channel_name=f"chat of {HIDDEN[3]}")
    one = shown(reader(stores, server, STRICT).read([said])[0])
    sent = [orjson.dumps(call.body).decode() for call in server.calls]
    assert sent
    for secret in HIDDEN:
        assert not any(secret in body for body in sent), secret
        assert secret not in orjson.dumps(one.data).decode()
    assert {words.partition(" × ")[2] for words in one.withheld} == {
        "bank account",
        "card number",
        "e-mail address",
        "password or key",
        "project",
        "telephone number",
    }


def test_a_secret_in_the_middle_of_a_huge_message_is_not_cut_into_the_open(
    stores: Stores, server: ModelServer
) -> None:
    """What is withheld is taken out before anything is cut: half a key is no key any more."""
    key = "sk_live_0123456789abcdefghij"
    for before in range(470, 530, 3):
        text = "a" * (before - 1) + " " + key + " " + "b" * 5_000
        one = shown(reader(stores, server).read([transcript([turn(1, text)])])[0])
        assert "0123456789" not in one.data["messages"][0]["text"]


def test_a_blocked_conversation_makes_no_call(stores: Stores, server: ModelServer) -> None:
    rules = Withholding(cards="block")
    turns = [turn(n) for n in range(1, 102)]
    turns[50] = turn(51, "it is 4111 1111 1111 1111")
    blocked = transcript(turns)
    found = reader(stores, server, rules).read([blocked])[0]
    assert isinstance(found, NoAnswer)
    assert found.trouble is Trouble.WITHHELD
    assert "card number" in str(found)
    assert "4111" not in str(found)
    assert server.calls == []


def test_the_fingerprint_changes_with_the_rules_alone(stores: Stores, server: ModelServer) -> None:
    assert (
        reader(stores, server).fingerprint()
        == reader(stores, server, characters=9_000).fingerprint()
    )
    assert reader(stores, server, STRICT).fingerprint() != reader(stores, server).fingerprint()


def test_two_readers_at_once_read_the_same(stores: Stores, server: ModelServer) -> None:
    said = [transcript([turn(n) for n in range(1, 102)])]
    results: list[Any] = []

    def read() -> None:
        results.append(shown(reader(stores, server).read(said)[0]).data)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] == results[2]
