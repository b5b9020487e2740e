"""`communicator accounts` as a person and as a program use it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from communicator_pipeline.platforms.matrix.live import FIELDS
from communicator_pipeline_tests.cli.test_commands import Shell
from communicator_pipeline_tests.ingestion.test_push import KEY

VALUES = {"me": "ana", "name": "crm", "push_key": KEY}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path / "home")
    file = tmp_path / "values.json"
    file.write_text(json.dumps(VALUES))
    added = shell("accounts", "add", "generic", "--values", str(file), "--user", "ana")
    assert added.returncode == 0, added.stderr
    assert "ana-generic-crm is connected: ana on crm" in added.stdout
    return shell


def test_an_account_is_added_listed_tested_paused_and_removed(shell: Shell) -> None:
    listed = shell.json("accounts", "list")
    assert [(a["account"], a["connection"]["state"]) for a in listed] == [
        ("ana-generic-crm", "active")
    ]
    tested = shell("accounts", "test", "ana-generic-crm")
    assert "can    take the messages that are pushed" in tested.stdout
    assert "cannot send: give it a reply_url" in tested.stdout
    assert shell("accounts", "pause", "ana-generic-crm").returncode == 0
    assert "paused" in shell("accounts", "list").stdout
    assert shell("accounts", "resume", "ana-generic-crm").returncode == 0
    unasked = shell("accounts", "remove", "ana-generic-crm")
    assert unasked.returncode == 2
    assert "add --yes" in unasked.stderr
    assert shell("accounts", "remove", "ana-generic-crm", "--yes").returncode == 0
    assert shell.json("accounts", "list", user="ana") == []


def test_secrets_are_nowhere_to_be_seen(shell: Shell) -> None:
    said = "".join(
        answer.stdout + answer.stderr
        for answer in (
            shell("accounts", "list", "--json"),
            shell("accounts", "test", "ana-generic-crm", "--json"),
            shell("status", "--json"),
            shell("doctor", "--json"),
        )
    )
    assert KEY not in said
    for path in shell.home.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_a_secret_on_the_command_line_is_refused(shell: Shell) -> None:
    answer = shell("accounts", "add", "generic", "--set", f"push_key={KEY}", "--user", "ana")
    assert answer.returncode == 1
    assert "push_key is a secret: leave it out and be asked, or use --values" in answer.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "nonsense"), "there is no platform 'nonsense' (accounts can be added on: "),
        (("add", "text_log"), "text_log has no live side"),
        (("add", "slack"), "token is missing: the app's token"),
        (("login", "nope"), "there is no account 'nope'"),
        (("test", "nope"), "there is no account 'nope'"),
        (("set", "ana-generic-crm", "nonsense", "1"), "nonsense is not a setting"),
        (("set", "ana-generic-crm", "every_seconds", "x"), "a whole number of seconds"),
        (("set", "ana-generic-crm", "push_key", "x"), "is part of the login: log in again"),
        (("chats", "nope"), "there is no account 'nope'"),
    ],
)
def test_an_error_says_what_is_wrong_and_what_to_do(
    shell: Shell, words: tuple[str, ...], said: str
) -> None:
    answer = shell("accounts", *words, "--user", "ana")
    assert answer.returncode in (1, 2)
    assert said in answer.stderr.replace("\n", " "), answer.stderr
    assert "Traceback" not in answer.stderr


def test_rules_for_chats_are_set_by_id_or_name(shell: Shell) -> None:
    assert shell("accounts", "chats", "ana-generic-crm", "--mute", "c1").returncode == 0
    listed = shell.json("accounts", "chats", "ana-generic-crm", "--exclude", "c2")
    assert {row["id"]: row["rule"] for row in listed} == {"c1": "mute", "c2": "exclude"}
    listed = shell.json("accounts", "chats", "ana-generic-crm", "--reset", "c1")
    assert {row["id"]: row["rule"] for row in listed} == {"c2": "exclude"}


def test_keys_are_rotated(shell: Shell) -> None:
    before = (shell.home / "credentials.key").read_text()
    answer = shell("accounts", "rotate-keys")
    assert "1 credentials are encrypted anew; 1 old keys are gone" in answer.stdout
    assert (shell.home / "credentials.key").read_text() != before
    assert shell("accounts", "test", "ana-generic-crm").returncode == 0


def test_an_imported_account_is_not_connected_and_the_message_says_how(
    shell: Shell, tmp_path: Path
) -> None:
    file = tmp_path / "chat.jsonl"
    file.write_text(
        '{"id": "1", "channel": "c", "sent_at": "2026-11-03T09:00:00Z", "author": "b", '
        '"text": "hi"}'
    )
    shell("import", str(file), "--account", "ana-file", "--user", "ana")
    answer = shell("accounts", "test", "ana-file")
    assert answer.returncode == 1
    assert "communicator accounts login ana-file" in answer.stderr.replace("\n", " ")
    assert "imported" in shell("accounts", "list").stdout
    answer = shell("backfill", "ana-file", "--from", "2026-01-01")
    assert "communicator accounts login ana-file" in answer.stderr.replace("\n", " ")


def test_a_person_is_asked_for_what_is_missing_and_secrets_do_not_show(tmp_path: Path) -> None:
    """At a real terminal."""
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "COMMUNICATOR_USER")}
    environment |= {"COMMUNICATOR_HOME": str(tmp_path / "home"), "COLUMNS": "200"}
    terminal, inside = pty.openpty()
    command = [sys.executable, "-m", "communicator_pipeline.cli", "accounts", "add", "generic"]
    process = subprocess.Popen(
        [*command, "--user", "ana"], stdin=inside, stdout=inside, stderr=inside, env=environment
    )
    os.close(inside)
    answers = {
        "your author id": "ana",
        "what the system is called": "crm",
        "will push with": KEY,
        "posted to": "",
        "signed with": "",
        "note it now": "",
    }
    hidden = ("will push with", "signed with")
    seen = ""
    while True:
        try:
            seen += os.read(terminal, 4096).decode(errors="replace")
        except OSError:  # the process has ended
            break
        asked = next((words for words in answers if words in seen), None)
        if asked and seen.rstrip().endswith(":"):
            while asked in hidden and termios.tcgetattr(terminal)[3] & termios.ECHO:
                time.sleep(0.01)  # what is typed before the echo goes off is thrown away
            os.write(terminal, f"{answers.pop(asked)}\n".encode())
    assert process.wait(60) == 0, seen
    assert "ana-generic-crm is connected" in seen
    assert KEY not in seen


def test_every_field_says_where_to_find_it() -> None:
    assert all(len(field.words) > 15 for field in FIELDS)
