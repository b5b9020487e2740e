"""`communicator notify`, `settings unset` and `export`, with the command alone."""

from __future__ import annotations

import stat
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from communicator_pipeline.cli import app
from communicator_pipeline.storage import Stores, home, open_local
from communicator_pipeline.storage.audit import audit_log
from communicator_pipeline_tests.delivery.world import add_box, say
from communicator_pipeline_tests.notifying.ear import listening

SECRET = "sesame-open"


def command(*words: str, user: str = "ana", typed: str = "") -> Result:
    return CliRunner().invoke(app, list(words), env={"COMMUNICATOR_USER": user}, input=typed)


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Stores:
    monkeypatch.setenv("COMMUNICATOR_PRIVATE_TARGETS", "yes")
    stores = open_local(home())
    add_box(stores)
    say(stores, "Can you come at five?", draft="Yes, I can.")
    return stores


def test_a_target_is_added_from_standard_input_tried_listed_and_removed(box: Stores) -> None:
    with listening() as ear:
        added = command("notify", "add", "phone", typed=ear.url + "\n")
        assert added.exit_code == 0, added.stderr
        assert command("notify", "test", "phone").exit_code == 0
        assert len(ear.heard) == 1
        ear.status = 503
        failed = command("notify", "test", "phone")
    assert failed.exit_code == 1
    assert "503" in failed.stderr
    listed = command("notify", "list")
    assert "json: JSON" in listed.stdout
    told = added.output + failed.output + listed.output + command("notify", "list", "--json").output
    assert SECRET not in told
    assert command("notify", "remove", "phone", user="bo").exit_code == 1
    assert command("notify", "remove", "phone").exit_code == 0
    assert "notify add" in command("notify", "list").stdout
    assert SECRET not in str(audit_log(box.database, "ana", None, 20))


def test_a_refused_address_is_not_quoted(box: Stores) -> None:
    refused = command("notify", "add", "phone", typed=f"dbus://{SECRET}\n")
    assert refused.exit_code == 1
    assert SECRET not in refused.output
    operators = command("notify", "add", "x", "--operators", user="bo", typed="json://example.org")
    assert operators.exit_code == 1
    assert "administrators" in operators.stderr


def test_a_setting_is_unset(box: Stores) -> None:
    assert command("settings", "set", "tone", '"dry"').exit_code == 0
    assert command("settings", "show", "tone").stdout == '"dry"\n'
    unset = command("settings", "unset", "tone")
    assert "communicator materialize --user ana" in unset.stdout
    assert command("settings", "show", "tone").stdout == '""\n'
    assert command("settings", "unset", "nothing").exit_code == 2


def test_what_holds_for_everybody_is_set_with_the_shell(box: Stores) -> None:
    words = ("settings", "set", "public_url", '"https://inbox.example.org"')
    assert command(*words).exit_code == 2
    assert command(*words, "--installation").exit_code == 0
    shown = command("settings", "show", "public_url", "--installation")
    assert shown.stdout == '"https://inbox.example.org"\n'
    assert command("settings", "unset", "public_url", "--installation").exit_code == 0


def test_an_export_is_a_file_that_only_its_owner_reads(box: Stores, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    done = command("export", str(file))
    assert done.exit_code == 0, done.stderr
    lines = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    assert lines[-1] == {"what": "end", "lines": len(lines) - 1}
    assert f"{len(lines) - 1} things" in done.stdout.replace("\n", " ")
    assert any(line.get("text") == "Can you come at five?" for line in lines)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".jsonl"] == ["mine.jsonl"]
    assert command("export", str(tmp_path / "no" / "where.jsonl")).exit_code == 1
