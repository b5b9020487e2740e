"""Prompt versions: schema files, examples, checking, promoting and going back."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from communicator_pipeline import prompts
from communicator_pipeline.cli import app
from communicator_pipeline.prompts import NoSuchPrompt, current, go_back, history, load, promote
from communicator_pipeline.prompts.checking import ANSWERS, problems, schema_file
from communicator_pipeline.storage import Stores, home
from communicator_pipeline.storage.accounts import add_user
from communicator_pipeline.storage.audit import audit_log
from communicator_pipeline_tests.chain.test_chain import TALK, run
from communicator_pipeline_tests.conftest import Fill

SHIPPED = [
    (purpose, version.name)
    for purpose in ANSWERS
    for version in (files(prompts) / purpose).iterdir()
    if version.is_dir()
]
REPLY: dict[str, Any] = {
    "outcome": "ready",
    "text": "Fine.",
    "language": "en",
    "rests_on": [1],
    "used_memories": [],
    "reason": "because",
    "confidence": 0.5,
}


def own_version(
    purpose: str, version: str, instructions: str, examples: list[Any] | None = None
) -> Path:
    """A version of one's own, in Communicator's home."""
    folder = home() / "prompts" / purpose / version
    folder.mkdir(parents=True)
    (folder / "instructions.md").write_text(instructions)
    if examples is not None:
        (folder / "examples.json").write_bytes(orjson.dumps(examples))
    return folder


def command(*words: str) -> Any:
    return CliRunner().invoke(app, ["prompts", *words])


@pytest.mark.parametrize(("purpose", "version"), SHIPPED)
def test_a_shipped_version_has_the_types_schema_and_valid_examples(
    purpose: str, version: str
) -> None:
    held = (files(prompts) / purpose / version / "schema.json").read_bytes()
    assert held == schema_file(purpose)
    found = load(purpose, version)
    assert found.examples
    assert problems(found) == []


def test_the_default_of_each_purpose_is_shipped() -> None:
    assert set(prompts.SHIPPED.items()) <= set(SHIPPED)
    assert set(prompts.SHIPPED) == set(ANSWERS)


def test_the_shipped_drafts_show_a_gap_and_resist_an_instruction() -> None:
    answers = [ANSWERS["draft"].model_validate_json(a) for _, a in load("draft", "1").examples]
    assert [one.outcome for one in answers] == ["needs_fill", "ready"]  # type: ignore[attr-defined]
    assert "[…:" in answers[0].text  # type: ignore[attr-defined]
    data, answer = load("draft", "1").examples[1]
    assert "Assistenten" in data
    text = orjson.loads(answer)["text"]
    assert "Rechnung" not in text
    assert "Passwort" not in text


def test_what_is_wrong_with_a_version_is_said_in_words(stores: Stores) -> None:
    data = {"messages": [{"n": 1}]}
    own_version("draft", "unknown", "Hello {{ who }}")
    own_version("draft", "broken", "{% if tone %}")
    own_version("draft", "divides", "{{ 1 // 0 }}")
    own_version("draft", "empty", "{# nothing #}")
    own_version("draft", "shape", "x", [{"data": data, "answer": REPLY | {"outcome": "maybe"}}])
    own_version("draft", "numbers", "x", [{"data": data, "answer": REPLY | {"rests_on": [2]}}])
    own_version("draft", "no-data", "x", [{"data": [1], "answer": REPLY}])
    own_version("draft", "fine", "{{ tone }}x", [{"data": data, "answer": REPLY}])
    assert "'who' is undefined" in problems(load("draft", "unknown"))[0]
    assert "cannot be filled in" in problems(load("draft", "broken"))[0]
    assert "ZeroDivisionError" in problems(load("draft", "divides"))[0]
    assert problems(load("draft", "empty")) == ["instructions.md says nothing"]
    assert problems(load("draft", "shape"))[0].startswith("example 1: answer: outcome:")
    assert problems(load("draft", "numbers")) == [
        "example 1: there are no messages with the numbers [2]"
    ]
    assert "should be a JSON object" in problems(load("draft", "no-data"))[0]
    assert problems(load("draft", "fine")) == []


def test_a_promoted_version_is_used_and_the_one_before_is_gone_back_to(stores: Stores) -> None:
    own_version("draft", "short", "Be short.")
    own_version("draft", "shorter", "Be shorter.")
    assert current(stores.database, "draft").version == "1"
    assert promote(stores.database, "draft", "short")
    assert not promote(stores.database, "draft", "short")  # twice is once
    assert promote(stores.database, "draft", "shorter")
    assert current(stores.database, "draft").instructions == "Be shorter."
    assert current(stores.database, "analyse").version == "1"
    assert history(stores.database, "draft") == ["1", "short", "shorter"]
    assert go_back(stores.database, "draft") == "short"
    assert go_back(stores.database, "draft") == "1"
    with pytest.raises(NoSuchPrompt, match="there is none before it"):
        go_back(stores.database, "draft")
    assert current(stores.database, "draft").version == "1"


def test_one_cannot_go_back_to_a_version_that_was_deleted(stores: Stores) -> None:
    folder = own_version("draft", "short", "Be short.")
    promote(stores.database, "draft", "short")
    promote(stores.database, "draft", "1")
    (folder / "instructions.md").unlink()
    with pytest.raises(NoSuchPrompt, match="there is no draft/short"):
        go_back(stores.database, "draft")
    assert current(stores.database, "draft").version == "1"


def test_promoting_says_what_it_would_take_and_is_noted(stores: Stores, fill: Fill) -> None:
    fill(*TALK)
    run(stores)
    own_version("analyse", "mine", "Read {{ categories | json }}.")
    promoted = command("promote", "analyse", "mine")
    assert promoted.exit_code == 0, promoted.output
    assert "1 days would be understood anew" in promoted.output
    assert "materialize --from 2026-11-03 --to 2026-11-03" in promoted.output
    assert "prompts back analyse" in promoted.output
    assert "in use already" in command("promote", "analyse", "mine").output
    assert command("back", "analyse").exit_code == 0
    noted = audit_log(stores.database, "ana", None, 10)
    assert [(row["user_id"], row["action"], row["target"], row["detail"]) for row in noted] == [
        ("ana", "went back to a prompt", "analyse/1", "before: mine"),
        ("ana", "promoted a prompt", "analyse/mine", "before: 1"),
    ]


def test_who_is_no_administrator_promotes_nothing(stores: Stores) -> None:
    add_user(stores.database, "ben", "Ben")
    own_version("draft", "short", "Be short.")
    refused = command("promote", "draft", "short", "--user", "ben")
    assert refused.exit_code == 2
    assert "no administrator" in refused.output
    assert current(stores.database, "draft").version == "1"
    assert command("promote", "draft", "short", "--user", "ana").exit_code == 0
    assert command("back", "draft", "--user", "ben").exit_code == 2
    assert current(stores.database, "draft").version == "short"


def test_a_version_that_cannot_be_used_is_not_promoted(stores: Stores) -> None:
    own_version("draft", "broken", "{{ who }}")
    refused = command("promote", "draft", "broken")
    assert refused.exit_code == 2
    assert "cannot be used" in refused.output
    assert current(stores.database, "draft").version == "1"
    assert command("check", "draft", "broken").exit_code == 1
    assert command("check", "draft", "1").exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("show", "nothing"), ("show", "draft", "nine"), ("check", "draft", "../1"),
        ("promote", "draft", "nine"), ("back", "nothing"), ("back", "draft"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_without_a_traceback(
    stores: Stores, words: tuple[str, ...]
) -> None:
    answer = command(*words)
    assert answer.exit_code == 2
    assert "error:" in answer.output


def test_versions_are_listed_and_shown(stores: Stores) -> None:
    own_version("draft", "short", "Be short.")
    command("promote", "draft", "short")
    rows = orjson.loads(command("list", "--json").stdout)
    states = {(r["purpose"], r["version"]): (r["used"], r["used_before"]) for r in rows}
    assert states["draft", "short"] == (True, False)
    assert states["draft", "1"] == (False, True)
    assert "in use" in command("list").output
    shown = orjson.loads(command("show", "draft", "--json").stdout)
    assert (shown["version"], shown["instructions"]) == ("short", "Be short.")
    assert shown["schema"]["additionalProperties"] is False
    assert "[…: date]" in command("show", "draft", "1").output
