"""A comparison all the way: drafts of a model, people who answer, another version of the prompt,
and what is live before and after."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
import pytest
from dagster import DagsterInstance

from communicator_pipeline import runs, shadow_runs
from communicator_pipeline.chain import analyses, comparison, drafted_replies, shadows
from communicator_pipeline.chain.scope import Scope
from communicator_pipeline.chain.transcripts import Transcripts
from communicator_pipeline.comparing.figures import Comparison
from communicator_pipeline.comparing.holding_out import is_held_out
from communicator_pipeline.definitions import build_definitions
from communicator_pipeline.delivery import approving
from communicator_pipeline.language_model.configuration import (
    BadConfiguration,
    ModelsConfig,
    configured,
    keep_configuration,
)
from communicator_pipeline.language_model.keeping import usage_since
from communicator_pipeline.language_model.model import BUDGET_SETTING
from communicator_pipeline.prompts import NoSuchPrompt, promote
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.storage import Stores, home
from communicator_pipeline.storage.accounts import Accounts, add_user
from communicator_pipeline.storage.comparisons import SALT, held_out_salt
from communicator_pipeline.storage.corrections import Corrections
from communicator_pipeline.storage.feedback import feedback_of_account
from communicator_pipeline.storage.lake import AccountMonth
from communicator_pipeline.storage.memories import Memories, active_memories
from communicator_pipeline.storage.settings import Settings
from communicator_pipeline_tests.cli.processes import run_command
from communicator_pipeline_tests.comparing.test_prompts import own_version
from communicator_pipeline_tests.conftest import Fill, Line
from communicator_pipeline_tests.language_model.model_server import (
    Answered,
    Call,
    Json,
    ModelServer,
    analysis_of,
    chat_completion,
    model_server,
    reply_of,
)

ACCOUNT = "ana-chat"
KEY = "sk-test-0123456789abcdef"
COUNT = 12
SENT = "Noted, thanks a lot."
"""What the person always sends; the version `draft/good` drafts it."""


def answering(call: Call) -> Answered | Json:
    """Two versions of each prompt that answer differently."""
    instructions = call.body["messages"][0]["content"]
    wanted = call.schema["properties"]
    if "category" in wanted:
        if "VARIANT" in instructions:
            return chat_completion(analysis_of(call.data, category="incident", priority=90))
        return chat_completion(analysis_of(call.data, category="support"))
    return chat_completion(
        reply_of(call.data, **({"text": SENT} if "GOOD" in instructions else {}))
    )


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server(answering) as running:
        yield running


class World:
    """An account with a model, its chain, and the person who answers."""

    def __init__(
        self, stores: Stores, fill: Fill, instance: DagsterInstance, server: ModelServer
    ) -> None:
        self.stores, self.fill, self.instance, self.server = stores, fill, instance, server
        self.definitions = build_definitions({"stores": StoresResource(folder=str(home()))})
        self.now = datetime.now(UTC)
        config = configured(
            {
                "kind": "openai",
                "model": "double",
                "base_url": f"{server.url}/v1",
                "requests_per_minute": 60_000,
            },
            KEY,
            stores,
        )
        keep_configuration(stores, ModelsConfig(first=config))

    def come(self, lines: Sequence[Line], name: str = "chat.jsonl") -> None:
        self.fill(*lines, name=name)
        self.materialise()

    def materialise(self) -> None:
        job = runs.chain_job(self.definitions)
        runs.materialise_touched(self.stores, self.instance, job, lambda run: None)

    def ids(self) -> list[str]:
        rows = self.stores.database.execute(
            "SELECT DISTINCT conversation_id FROM messages ORDER BY 1"
        )
        return [row["conversation_id"] for row in rows]

    def approve(self, conversation_id: str, text: str = SENT) -> None:
        approving.approve(self.stores.database, "ana", ACCOUNT, conversation_id, None, text=text)

    def shadow(self, *prompts: str, **more: Any) -> shadows.Shadow:
        return shadows.shadow_of(self.stores, prompts, **more)

    def compare(self, shadow: shadows.Shadow, days: int = 30) -> Comparison:
        shadows.begin(self.stores, ACCOUNT, shadow, "ana")
        shadow_runs.run_comparison(
            self.stores,
            self.instance,
            shadow_runs.compare_job(self.definitions),
            [ACCOUNT],
            shadow,
            shadow_runs.days_back(self.now.date(), days),
            lambda run: None,
        )
        return comparison.comparison_of(self.stores, [ACCOUNT], shadow.name)


def message(number: int, now: datetime, days_ago: int = 1, text: str = "") -> Line:
    sent_at = (now - timedelta(days=days_ago)).replace(hour=9, minute=number, second=0)
    return {
        "id": f"m{number}",
        "channel": f"dm{number}",
        "channel_kind": "dm",
        "sent_at": sent_at.isoformat(),
        "author": f"tom{number}",
        "author_name": "Tom Roe",
        "text": text or f"Could you look at shelf number {number} for me, please?",
    }


@pytest.fixture
def world(stores: Stores, fill: Fill, server: ModelServer) -> Iterator[World]:
    """Twelve conversations, all of which were drafted for by draft/1."""
    own_version("draft", "good", "GOOD")
    own_version("analyse", "other", "VARIANT {{ categories | json }}")
    with runs.open_instance() as instance:
        made = World(stores, fill, instance, server)
        made.come([message(number, made.now) for number in range(COUNT)])
        assert len(made.ids()) == COUNT
        yield made


WRITTEN_BY_THE_SEAM = {
    "model_answers", "model_usage", "model_endpoints", "model_shares", "stage_timings",
}  # fmt: skip


def everything_live(stores: Stores) -> dict[str, Any]:
    """Every row of the database, and every object that is no side partition."""
    tables = stores.database.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
        "AND name NOT LIKE 'messages|_fts%' ESCAPE '|' ORDER BY name"
    )
    found: dict[str, Any] = {}
    for (name,) in [tuple(row.values()) for row in tables]:
        if name not in WRITTEN_BY_THE_SEAM:
            rows = stores.database.execute(f"SELECT * FROM {name}")
            found[name] = sorted(orjson.dumps(dict(row)) for row in rows if row.get("key") != SALT)
    for info in stores.lake.objects.list("l"):
        if "@" not in info.key:
            found[info.key] = hashlib.sha256(stores.lake.objects.get(info.key)[0]).hexdigest()
    return found


def side(comparison: Comparison, what: str) -> int:
    return sum(int(getattr(s.answers, what)) for s in (comparison.held_out, comparison.rest))


def test_the_variant_that_drafts_what_people_send_is_nearer(world: World) -> None:
    for one in world.ids():
        world.approve(one)
    found = world.compare(world.shadow("draft/good", "analyse/other"))
    salt = held_out_salt(world.stores.database)
    held = [one for one in world.ids() if is_held_out(one, salt)]
    assert found.held_out.answers.live.distance.of == len(held)
    assert found.rest.answers.live.distance.of == COUNT - len(held)
    rest = found.rest.answers
    assert rest.variant.distance.value == 0.0
    assert rest.variant.unedited.hits == COUNT - len(held)
    assert rest.live.unedited.hits == 0
    assert rest.live.distance.value is not None
    assert rest.live.distance.value > 0.3
    assert rest.difference.high is not None
    assert rest.difference.high < 0
    flip = found.rest.changes.category_flips[0]
    assert (flip.was, flip.now, flip.count) == ("support", "incident", COUNT - len(held))
    assert found.rest.changes.priority.value == 29.0
    assert found.rest.changes.draft_distance.value == rest.live.distance.value


def test_nothing_that_is_live_changes(world: World) -> None:
    world.approve(world.ids()[0])
    before = everything_live(world.stores)
    assert before["drafts"]
    assert before["approvals"]
    assert any(key.endswith("manifest.json") for key in before)
    world.compare(world.shadow("draft/good", "analyse/other"))
    assert world.stores.lake.months("analyses@analyse-other-draft-good", ACCOUNT)
    assert everything_live(world.stores) == before


def test_the_run_is_dagsters_and_says_what_came_of_it(world: World) -> None:
    world.approve(world.ids()[0])
    shadow = world.shadow("draft/good")
    world.compare(shadow)
    run = world.instance.get_run_records(limit=1)[0].dagster_run
    assert run.job_name == "compare"
    config = run.run_config["ops"]["comparison"]["config"]
    assert config["prompts"] == {"analyse": "1", "compact": "1", "draft": "good"}
    for asset in ("shadow_analyses", "shadow_drafts", "comparison"):
        key = dg.AssetKey(asset)
        assert world.instance.get_materialized_partitions(key), asset
    record = world.instance.fetch_materializations(dg.AssetKey("comparison"), limit=5).records
    found = [r.asset_materialization.metadata for r in record if r.asset_materialization]
    told = next(m for m in found if m["answers drafted again"].value)
    assert told["distance to what was sent, variant"].value == 0.0
    assert "data:image/svg" in str(told["rows by day"].value)
    report = shadows.report(world.stores, ACCOUNT, shadow.name)
    assert f"# Comparison {shadow.name}" in report
    assert SENT not in report
    assert "shelf" not in report


def test_the_answer_is_not_seen_nor_what_came_after_it(world: World) -> None:
    one = world.ids()[0]
    world.approve(one, "The secret word is heron.")
    later = world.now + timedelta(minutes=2)
    world.come(
        [
            {
                **message(0, world.now),
                "id": "m100",
                "sent_at": later.isoformat(),
                "author": "ana",
                "author_name": "Ana",
                "text": "The secret word is heron.",
            },
        ],
        "later.jsonl",
    )
    world.server.calls.clear()
    found = world.compare(world.shadow("draft/good"))
    drafting = [c for c in world.server.calls if "GOOD" in c.body["messages"][0]["content"]]
    of_it = [c for c in drafting if "number 0 " in str(c.data["messages"])]
    assert len(of_it) == 1
    assert not any("heron" in orjson.dumps(call.body).decode() for call in of_it)
    assert side(found, "not_drafted") == 0
    rows = answers(world, "draft-good")
    assert [(row["conversation_id"], row["text"]) for row in rows] == [(one, SENT)]


def answers(world: World, name: str) -> list[dict[str, Any]]:
    files = [f for f, _ in world.stores.lake.day_files(f"{shadows.ANSWERS}@{name}", ACCOUNT)]
    rows: list[dict[str, Any]] = world.stores.lake.query("FROM t", {"t": files}).to_pylist()
    return rows


def test_a_conversation_is_cut_just_before_a_moment(world: World) -> None:
    one = world.ids()[0]
    found = Transcripts.of_conversations(world.stores, ACCOUNT, [one])
    first = found.before(one, world.now + timedelta(days=1))
    assert first is not None
    sent_at = first.turns[0].sent_at
    assert found.before(one, sent_at) is None
    just_after = found.before(one, sent_at + timedelta(microseconds=1))
    assert just_after is not None
    assert len(just_after.turns) == 1
    assert found.before(one, world.now, without={first.turns[0].message_id}) is None
    assert found.before("nobody", world.now) is None


def test_what_was_held_out_does_not_teach_the_drafts_that_it_is_compared_with(
    world: World,
) -> None:
    for one in world.ids():
        world.approve(one, f"Hi Tom, {SENT.lower()}")
    runs.learn_what_is_new(world.stores, world.instance, runs.learning_job(world.definitions))
    # Of random salts one in seven holds out nobody of twelve: this one holds out some.
    Settings(world.stores.database, None).set(SALT, "fixed")
    salt = held_out_salt(world.stores.database)
    events = feedback_of_account(world.stores.database, ACCOUNT)
    held_out = {e.feedback_id for e in events if is_held_out(e.conversation_id, salt)}
    assert 0 < len(held_out) < COUNT
    live = active_memories(world.stores.database, ACCOUNT)
    assert any(held_out & set(memory.sources) for memory in live)
    taught = comparison._taught_by_the_rest(world.stores, ACCOUNT, events, salt)
    assert taught
    assert not any(held_out & set(memory.sources) for memory in taught)

    world.server.calls.clear()
    month = AccountMonth(ACCOUNT, f"{datetime.now(UTC):%Y-%m}")
    shadow = world.shadow("draft/1")
    comparison.materialise(world.stores, month, Scope((month,)), shadow)
    asked = [str(call.body["messages"][0]["content"]) for call in world.server.calls]
    told = set(re.findall(r'"id":"([^"]+)"', " ".join(asked)))
    assert told
    assert told <= {memory.memory_id for memory in taught}


def test_without_memories_no_draft_follows_any(world: World) -> None:
    Memories(world.stores.database, "ana").add(
        ACCOUNT, "sign", "Yours, A.", "everyone", "", world.now
    )
    world.server.calls.clear()
    world.compare(world.shadow(memories=False))
    assert not [c for c in world.server.calls if "Yours, A." in str(c.body)]
    world.compare(world.shadow("draft/good", name="with"))
    own_version("draft", "taught", "{{ memories | json }}")
    world.server.calls.clear()
    world.compare(world.shadow("draft/taught"))
    assert [c for c in world.server.calls if "Yours, A." in str(c.body)]


def test_what_people_set_is_the_truth_for_categories(world: World) -> None:
    one = world.ids()[0]
    Corrections(world.stores.database, "ana").relabel(
        ACCOUNT,
        one,
        analyses.categories_of(world.stores.database, ACCOUNT),
        datetime.now(UTC),
        category="incident",
    )
    world.materialise()
    found = world.compare(world.shadow("analyse/other"))
    live = [side.labels.live for side in (found.held_out, found.rest)]
    variant = [side.labels.variant for side in (found.held_out, found.rest)]
    assert (sum(s.hits for s in live), sum(s.of for s in live)) == (0, 1)
    assert (sum(s.hits for s in variant), sum(s.of for s in variant)) == (1, 1)


def test_what_the_budget_does_not_pay_for_is_left_out_and_counted(world: World) -> None:
    Settings(world.stores.database, "ana").set(BUDGET_SETTING, 0.0)
    file = home() / "paid.json"
    file.write_bytes(
        orjson.dumps(
            {
                "kind": "openai",
                "model": "paid",
                "base_url": f"{world.server.url}/v1",
                "input_price": 10,
                "output_price": 10,
            }
        )
    )
    before = everything_live(world.stores)
    world.server.calls.clear()
    found = world.compare(world.shadow(model=str(file), name="paid"))
    assert world.server.calls == []
    changes = (found.held_out.changes, found.rest.changes)
    assert sum(c.analyses_stood_in for c in changes) == COUNT
    assert sum(c.conversations for c in changes) == 0
    assert everything_live(world.stores) == before  # no day is to be tried again either


def test_what_is_asked_is_counted_as_what_is_live(world: World) -> None:
    def calls() -> int:
        return sum(row["calls"] for row in usage_since(world.stores.database, "2000-01-01", "day"))

    before = calls()
    world.compare(world.shadow("draft/good"))
    assert calls() == before + COUNT
    world.compare(world.shadow("draft/good"))
    assert calls() == before + COUNT  # kept answers cost nothing


def test_another_models_key_is_the_live_ones_at_the_same_server_only(
    world: World, tmp_path: Path
) -> None:
    world.compare(world.shadow(model="other"))
    assert {call.headers.get("authorization") for call in world.server.calls[-COUNT:]} == {
        f"Bearer {KEY}"
    }
    assert world.server.calls[-1].body["model"] == "other"
    with model_server(answering) as elsewhere:
        file = tmp_path / "model.json"
        given = {"kind": "openai", "model": "far", "base_url": f"{elsewhere.url}/v1"}
        file.write_bytes(orjson.dumps(given))
        world.compare(world.shadow(model=str(file)))
        assert elsewhere.calls
        assert not any(KEY in str(call.headers) for call in elsewhere.calls)
    recorded = [
        *(str(r.dagster_run.run_config) for r in world.instance.get_run_records()),
        *(
            world.stores.lake.objects.get(info.key)[0].decode(errors="replace")
            for info in world.stores.lake.objects.list("lake/")
            if info.key.endswith((".json", ".md"))
        ),
    ]
    assert not any(KEY in text for text in recorded)
    assert all(text.count("sealed_key") == text.count("'sealed_key': ''") + text.count(
        '"sealed_key": ""') for text in recorded)  # fmt: skip


def test_a_models_address_with_a_key_in_it_is_refused(world: World, tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    for url in ("https://user:hunter2@models.example/v1", "https://models.example/v1?key=hunter2"):
        file.write_bytes(orjson.dumps({"kind": "openai", "model": "m", "base_url": url}))
        with pytest.raises(BadConfiguration, match="COMMUNICATOR_MODEL_KEY") as refused:
            world.shadow(model=str(file))
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not JSON"),
        (b"[]", "should hold a JSON object"),
        (b'{"kind": "openai", "model": "m"}', "needs its base_url"),
        (b'{"first": null}', "names no model"),
        (b'{"first": {}, "third": {}}', "no more"),
        (b'{"kind": "openai", "model": "m", "base_url": "http://x", "key": "s"}', "key: "),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_in_words(
    stores: Stores, tmp_path: Path, content: bytes, words: str
) -> None:
    file = tmp_path / "model.json"
    file.write_bytes(content)
    with pytest.raises(BadConfiguration, match=words):
        shadows.shadow_of(stores, model=str(file))


def test_what_cannot_be_compared_is_refused_in_words(stores: Stores) -> None:
    with pytest.raises(ValueError, match="say what is to differ"):
        shadows.shadow_of(stores)
    with pytest.raises(ValueError, match="such as draft/2"):
        shadows.shadow_of(stores, ["draft"])
    with pytest.raises(ValueError, match="named twice"):
        shadows.shadow_of(stores, ["draft/1", "draft/1"])
    with pytest.raises(NoSuchPrompt, match="there is no draft/nine"):
        shadows.shadow_of(stores, ["draft/nine"])
    with pytest.raises(BadConfiguration, match="no model is set"):
        shadows.shadow_of(stores, model="other")
    for name in ("../x", "A", "a b", "-a", "a" * 61):
        with pytest.raises(ValueError, match="a comparison's name"):
            shadows.shadow_of(stores, ["draft/1"], name=name)


def test_a_name_stands_for_one_comparison(world: World) -> None:
    shadow = world.shadow("draft/good", name="mine")
    first = shadows.begin(world.stores, ACCOUNT, shadow, "ana")
    assert shadows.begin(world.stores, ACCOUNT, shadow, "ben") == first
    with pytest.raises(ValueError, match="of something else"):
        shadows.begin(world.stores, ACCOUNT, world.shadow("draft/1", name="mine"), "ana")
    shadows.forget(world.stores, ACCOUNT, "mine")
    shadows.begin(world.stores, ACCOUNT, world.shadow("draft/1", name="mine"), "ana")


def test_what_is_not_named_stays_as_it_was_when_the_comparison_began(world: World) -> None:
    shadow = world.shadow("analyse/other")
    promote(world.stores.database, "draft", "good")
    assert dict(shadow.variant(world.stores).prompts)["draft"] == "1"


def test_forgetting_takes_all_of_one_and_nothing_else(world: World) -> None:
    world.approve(world.ids()[0])
    before = everything_live(world.stores)
    world.compare(world.shadow("draft/good"))
    kept = world.compare(world.shadow("analyse/other"))
    assert set(shadows.comparisons(world.stores, [ACCOUNT])) == {"draft-good", "analyse-other"}
    assert shadows.comparisons(world.stores, ["other-account"]) == {}
    assert shadows.forget(world.stores, ACCOUNT, "draft-good") > 4
    left = {i.key.split("/")[1] for i in world.stores.lake.objects.list("lake/") if "@" in i.key}
    assert {one.partition("@")[2] for one in left} == {"analyse-other"}
    assert comparison.comparison_of(world.stores, [ACCOUNT], "analyse-other") == kept
    assert shadows.forget(world.stores, ACCOUNT, "draft-good") == 0
    assert everything_live(world.stores) == before


def test_the_split_stays_whoever_asks_first(stores: Stores) -> None:
    salt = held_out_salt(stores.database)
    assert len(salt) == 32
    assert held_out_salt(stores.database) == salt


def test_made_twice_the_rows_are_the_same_files(world: World) -> None:
    world.approve(world.ids()[0])
    shadow = world.shadow("draft/good")
    first = world.compare(shadow)

    def files() -> dict[str, str]:
        assets = (analyses.ASSET, drafted_replies.ASSET, shadows.PAIRS, shadows.ANSWERS)
        return {
            info.key: hashlib.sha256(world.stores.lake.objects.get(info.key)[0]).hexdigest()
            for asset in assets
            for info in world.stores.lake.objects.list(f"lake/{asset}@{shadow.name}/")
        }

    before = files()
    assert world.compare(shadow) == first
    assert files() == before


def test_days_that_were_not_asked_for_are_left_as_they_are(world: World) -> None:
    month = AccountMonth(ACCOUNT, f"{world.now - timedelta(days=1):%Y-%m}")
    shadow = world.shadow("draft/good")
    for make in (comparison.shadow_analyses, comparison.shadow_drafts, comparison.materialise):
        report = make(world.stores, month, Scope((month,), frozenset({"2001-01-01"})), shadow)
        assert report.processed == []


def test_promotion_changes_what_is_live_and_going_back_changes_it_back(world: World) -> None:
    one = world.ids()[0]

    def draft() -> str:
        day = f"{world.now - timedelta(days=1):%Y-%m-%d}"
        runs.materialise_range(
            world.stores, world.instance, runs.chain_job(world.definitions), [ACCOUNT], day, day,
            lambda run: None,
        )  # fmt: skip
        return approving.propose(world.stores.database, "ana", ACCOUNT, one).text

    before = draft()
    assert before != SENT
    assert command(world, "prompts", "promote", "draft", "good").returncode == 0
    assert draft() == SENT
    assert command(world, "prompts", "back", "draft").returncode == 0
    assert draft() == before


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER", "COMMUNICATOR"))}
    return {**kept, "COMMUNICATOR_HOME": str(home()), "COLUMNS": "100", "CI": "1"}


def command(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    return run_command(words, environment())


def test_the_command_compares_lists_shows_and_forgets(world: World) -> None:
    for one in world.ids():
        world.approve(one)
    done = command(world, "compare", "--prompt", "draft/good", "--days", "7", "--name", "good")
    assert done.returncode == 0, done.stderr
    assert "distance to what was sent, variant" in done.stdout
    assert "held out" in done.stdout
    assert SENT not in done.stdout
    listed = orjson.loads(command(world, "compare", "--list", "--json").stdout)
    assert [(row["name"], row["changes"], row["begun_by"]) for row in listed] == [
        ("good", "draft/good", "ana")
    ]
    shown = orjson.loads(command(world, "compare", "--show", "good", "--json").stdout)
    assert shown["rest"]["answers"]["variant"]["distance"]["value"] == 0.0
    assert shown["accounts"] == [ACCOUNT]
    other = command(world, "compare", "--prompt", "draft/1", "--name", "good")
    assert other.returncode == 1
    assert "of something else" in other.stderr
    assert command(world, "compare", "--forget", "good").returncode == 0
    gone = command(world, "compare", "--show", "good")
    assert gone.returncode == 2
    assert "none yet" in gone.stderr
    assert command(world, "compare").returncode == 1
    assert command(world, "compare", "--list", "--show", "x").returncode == 2


def test_one_user_sees_and_forgets_nothing_of_another(world: World) -> None:
    add_user(world.stores.database, "ben", "Ben")
    Accounts(world.stores.database, "ben").add("ben-chat", "generic", "Chat")
    shadow = world.shadow("draft/good")
    shadows.begin(world.stores, ACCOUNT, shadow, "ana")
    for words in (("--show", shadow.name), ("--forget", shadow.name), ("--account", ACCOUNT)):
        answer = command(world, "compare", *words, "--user", "ben")
        assert answer.returncode != 0
        assert "error:" in answer.stderr
    assert command(world, "compare", "--list", "--json", "--user", "ben").stdout.strip() == "[]"
    assert shadows.definition(world.stores, ACCOUNT, shadow.name)


@pytest.mark.faults
def test_killed_in_the_middle_it_goes_on_and_asks_nothing_twice(world: World) -> None:
    for one in world.ids():
        world.approve(one)
    before = everything_live(world.stores)
    world.server.calls.clear()
    answer = world.server.answer

    def slow(call: Call) -> Answered:
        return Answered(200, answer(call), delay=0.4)

    world.server.answer = slow
    words = ("compare", "--prompt", "draft/good", "--prompt", "analyse/other", "--json")
    running = subprocess.Popen(
        [sys.executable, "-m", "communicator_pipeline.cli", *words],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 90
    while len(world.server.calls) < COUNT + 9 and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert COUNT + 9 <= len(world.server.calls) < 2 * COUNT + 2
    world.server.answer = answer
    time.sleep(0.6)  # what was under way at the server
    kept = world.stores.database.execute(
        "SELECT count(*) AS n FROM model_answers WHERE answer LIKE ? OR answer LIKE ?",
        ('%"incident"%', f"%{SENT}%"),
    )[0]["n"]
    assert kept >= COUNT
    world.server.calls.clear()
    again = command(world, *words)
    assert again.returncode == 0, again.stderr
    assert len(world.server.calls) == 2 * COUNT - kept
    found = orjson.loads(again.stdout)
    name = found["name"]
    told = comparison.comparison_of(world.stores, [ACCOUNT], name)
    assert side(told, "stood_in") == 0
    of = [s.answers.variant.distance for s in (told.held_out, told.rest)]
    assert sum(one.of for one in of) == COUNT
    assert replace(told.rest.answers.variant.unedited).hits == told.rest.answers.live.unedited.of
    assert everything_live(world.stores) == before
