"""The command as a person and as a program use it: a real process, its exit code, its words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from communicator_pipeline.demo import write_exports
from communicator_pipeline_tests.cli.processes import run_command
from communicator_pipeline_tests.conftest import line

TALK = [
    line(1, "2026-11-03T09:00:00Z", "ben", "ana: can you send me the invoice?", author_name="Ben"),
    line(2, "2026-11-03T09:05:00Z", "ana", "did the truck come?", channel="c2", author_name="Ana"),
    line(3, "2026-11-03T09:06:00Z", "cat", "yes, behind the hall", channel="c2", reply_to="m2"),
]


class Shell:
    """The command, in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *words: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER", "COMMUNICATOR"))
        }
        environment = {**kept, "COMMUNICATOR_HOME": str(self.home), "COLUMNS": "80", "CI": "1"}
        if user:
            environment["COMMUNICATOR_USER"] = user
        return run_command(words, environment)

    def json(self, *words: str, user: str | None = None) -> Any:
        """What a command prints with --json; nothing but JSON may be on standard output."""
        answer = self(*words, "--json", user=user)
        assert answer.returncode in (0, 3), answer.stderr
        return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """An installation with one user, whose chat has been imported and materialised."""
    folder = tmp_path_factory.mktemp("cli")
    shell = Shell(folder / "home")
    file = folder / "chat.jsonl"
    file.write_bytes(b"".join(orjson.dumps(entry) + b"\n" for entry in TALK))
    answer = shell("import", str(file), "--user", "ana", "--account", "ana-chat", "--me", "Ana")
    assert answer.returncode == 0, answer.stderr
    answer = shell("materialize")
    assert answer.returncode == 0, answer.stderr
    return shell


def _file(folder: Path, lines: Iterable[dict[str, object] | str], name: str = "c.jsonl") -> str:
    texts = [entry if isinstance(entry, str) else json.dumps(entry) for entry in lines]
    (folder / name).write_text("\n".join(texts) + "\n")
    return str(folder / name)


def test_the_inbox_shows_what_waits_first(filled: Shell) -> None:
    rows = filled.json("inbox")
    assert [row["conversation_id"] for row in rows] == ["c1:m1", "c2:m2"]
    assert rows[0]["needs_reply"] == 1
    shown = filled("inbox").stdout
    assert "draft" in shown
    assert all(len(row) <= 80 for row in shown.splitlines()[:3])


def test_show_tells_why_messages_belong_together(filled: Shell) -> None:
    shown = filled.json("show", "c2:m2")
    assert [message["link_reason"] for message in shown["messages"]] == ["root", "reply"]
    assert "replies" in filled("show", "c2:m2").stdout


def test_search_finds_a_word_and_says_where_it_stands(filled: Shell) -> None:
    assert [row["message_id"] for row in filled.json("search", "invoice")] == ["c1:m1"]
    assert "communicator show c1:m1" in filled("search", "invoice").stdout
    assert filled("search", "nothing-like-that").returncode == 0


def test_importing_the_same_file_again_changes_nothing(filled: Shell) -> None:
    file = filled.home.parent / "chat.jsonl"
    counts = filled.json("import", str(file), "--account", "ana-chat")
    assert (counts["kept"], counts["updated"], counts["skipped"]) == (0, 0, 3)
    assert filled("materialize").stdout.strip() == "Nothing was touched since the last time."


def test_a_range_of_days_can_be_done_again(filled: Shell) -> None:
    finished = filled.json("materialize", "--from", "2026-11-03", "--to", "2026-11-03")
    assert [(run["account"], run["first"]) for run in finished] == [("ana-chat", "2026-11")]


def test_status_and_doctor_are_readable_by_programs(filled: Shell) -> None:
    status = filled.json("status")["ana-chat"]
    assert [depth["depth"] for depth in status["waiting"]] == [0, 0, 0, 0]
    assert {row["stage"] for row in status["stages"]} >= {"raw_messages", "inbox"}
    assert {finding["state"] for finding in filled.json("doctor")} <= {"ok", "warning"}


def test_settings_are_checked_shown_and_have_everything_understood_anew(filled: Shell) -> None:
    assert filled("settings", "set", "taxonomy", "[]").returncode == 2
    assert filled("settings", "set", "nonsense", "1").returncode == 2
    answer = filled("settings", "set", "signature", '"Ana"')
    assert "1 days are to be understood anew" in answer.stdout
    assert filled.json("status")["ana-chat"]["waiting"][2]["depth"] == 1
    assert json.loads(filled("settings", "show", "signature").stdout) == "Ana"
    assert filled("materialize").returncode == 0


def test_the_digest_of_a_day_is_markdown(filled: Shell) -> None:
    digest = filled.json("digest", "2026-11-03")["ana-chat"]
    assert digest.startswith("# ana-chat, 2026-11-03")


def test_a_digest_of_a_day_long_past_is_made_too(filled: Shell) -> None:
    assert "Nothing came." in filled.json("digest", "2019-02-28")["ana-chat"]
    assert "Nothing came." in filled.json("digest", "2019-02-28")["ana-chat"]
    answer = filled("digest", "2999-01-01")
    assert answer.returncode == 2
    assert "digests are made of the days from 2006-03-01 to 20" in answer.stderr


def test_a_setting_that_dagster_cannot_load_with_is_told_in_words(filled: Shell) -> None:
    # A process of its own: those of `Shell` have loaded the definitions before they begin.
    answer = subprocess.run(
        [Path(sys.executable).with_name("communicator"), "materialize"],
        env=os.environ
        | {"COMMUNICATOR_HOME": str(filled.home), "COMMUNICATOR_DIGEST_MONTHS": "90 days"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: COMMUNICATOR_DIGEST_MONTHS is '90 days': it is a")


def test_the_owner_can_be_corrected_later(filled: Shell, tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home")
    file = _file(tmp_path, TALK)
    answer = shell("import", file, "--user", "ana", "--account", "ana-chat")
    assert answer.returncode == 0
    assert "communicator accounts me ana-chat NAME" in answer.stderr
    assert shell("accounts", "me", "ana-chat", "nobody").returncode == 1
    assert shell.json("accounts", "me", "ana-chat", "ben")["me"] == ["ben"]
    assert shell.json("accounts", "list")[0]["me"] == [{"id": "ben", "name": "Ben"}]


def test_broken_records_are_listed_shown_and_retried(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home")
    file = _file(tmp_path, [TALK[0], '{"id": 7, "channel": "c1"}', "{cut of"])
    answer = shell("import", file, "--user", "ana", "--account", "ana-chat", "--me", "ben")
    assert answer.returncode == 3
    assert "1 kept" in answer.stdout
    assert "2 dead-lettered" in answer.stdout
    letters = shell.json("dead-letters", "list")
    assert len(letters) == 2
    assert any('write "7"' in letter["reason"] for letter in letters)
    shown = shell.json("dead-letters", "show", letters[0]["dead_letter_id"])
    assert shown["payload"]
    assert shell("dead-letters", "retry", letters[0]["dead_letter_id"]).returncode == 0
    assert len(shell.json("dead-letters", "list")) == 1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["import", "no-such-file.zip"], 1, "does not exist"),
        (["import", "README.md"], 1, "is not an export that Communicator knows"),
        (["show", "nothing"], 1, "`communicator inbox` shows their ids"),
        (["materialize", "--from", "yesterday"], 2, "should be a day such as 2026-11-03"),
        (["materialize", "--from", "2026-11-04", "--to", "2026-11-03"], 2, "is later than"),
        (["materialize", "--account", "nope"], 1, "there is no account 'nope'"),
        (["inbox", "--user", "eve"], 1, "there is no user 'eve'"),
        (["dead-letters", "show", "nope"], 1, "dead-letters list"),
        (["search", "!!!"], 1, "no word to search for"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_an_error_says_what_is_wrong_and_what_to_do(
    filled: Shell, words: list[str], code: int, says: str
) -> None:
    answer = filled(*words)
    assert answer.returncode == code
    assert says in " ".join(answer.stderr.split())
    assert "Traceback" not in answer.stderr


def test_with_several_users_the_command_asks_whose_inbox_it_is(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home")
    for user in ("ana", "ben"):
        file = _file(tmp_path, TALK, f"{user}.jsonl")
        assert shell("import", file, "--user", user, "--me", "ana").returncode == 0
    answer = shell("inbox")
    assert answer.returncode == 2
    assert "--user (ana, ben)" in answer.stderr
    assert shell("inbox", user="ben").returncode == 0
    assert [row["account"] for row in shell.json("accounts", "list", user="ben")] == [
        "ben-generic-ben"
    ]


def test_group_prints_a_line_per_message_without_any_store(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home")
    answer = shell("group", _file(tmp_path, TALK))
    rows = [json.loads(row) for row in answer.stdout.splitlines()]
    assert {row["id"]: row["conversation_id"] for row in rows} == {
        "m1": "m1",
        "m2": "m2",
        "m3": "m2",
    }
    assert rows[2]["parent_id"] == "m2"
    assert rows[2]["link_reason"] == "reply"
    assert not (tmp_path / "home").exists()


def test_analyze_prints_a_line_per_conversation_without_any_store(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home")
    answer = shell("analyze", _file(tmp_path, TALK), "--me", "ana")
    rows = {row["conversation_id"]: row for row in map(json.loads, answer.stdout.splitlines())}
    assert rows["m1"]["needs_reply"] is True
    assert rows["m2"]["messages"] == ["m2", "m3"]
    assert not (tmp_path / "home").exists()


def test_lines_of_one_minute_are_grouped_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Ids sort as text, m10 before m9: within one minute the file's order is the only one."""
    lines = [line(n, "2026-11-03T09:00:00Z", "ben", f"part {n} of it") for n in range(8, 13)]
    answer = Shell(tmp_path / "home")("group", _file(tmp_path, lines))
    ids = [json.loads(row)["id"] for row in answer.stdout.splitlines()]
    assert ids == ["m8", "m9", "m10", "m11", "m12"]


def test_a_broken_line_does_not_stop_the_others_and_shows_in_the_exit_code(
    tmp_path: Path,
) -> None:
    answer = Shell(tmp_path / "home")("group", _file(tmp_path, ["{cut", TALK[0]]))
    assert answer.returncode == 3
    assert len(answer.stdout.splitlines()) == 1
    assert "line 1" in answer.stderr


def test_every_command_says_what_it_is_for() -> None:
    shell = Shell(Path("unused"))
    assert shell("--version").stdout.strip() == "0.1.0"
    for words in ([], ["import"], ["inbox"], ["accounts"], ["dead-letters"], ["materialize"]):
        answer = shell(*words, "--help")
        assert answer.returncode == 0
        assert "Usage" in answer.stdout


def test_the_demo_says_everything_in_eighty_columns(tmp_path: Path) -> None:
    answer = Shell(tmp_path / "home")("demo")
    assert answer.returncode == 0, answer.stderr
    shown = answer.stdout
    for words in (
        "The same four again: 0 changed",
        "the message has no ts",
        "the message has no id",
        "All asset checks passed",
        "Ana's inbox, the first eight",
        "#ops pulled apart",
        "injection",
        "make dev",
        "communicator import FILE",
    ):
        assert words in shown
    assert shown.count("waiting") >= 8
    long = [row for row in shown.splitlines() if len(row) > 80 and str(tmp_path) not in row]
    assert not long
    again = Shell(tmp_path / "home")("demo")
    assert again.returncode == 0


def test_each_demo_export_imports_with_the_command(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home")
    for export in write_exports(tmp_path / "exports"):
        answer = shell(
            "import", str(export.path), "--user", export.user, "--account", export.account
        )
        assert answer.returncode in (0, 3), answer.stderr
        known = shell.json("accounts", "list", user=export.user)
        found = next(row for row in known if row["account"] == export.account)
        if export.platform != "slack":  # a Slack export does not say whose it is
            assert [me["id"] for me in found["me"]] == [export.me]
